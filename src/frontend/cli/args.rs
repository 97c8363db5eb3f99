//! What can be typed. The doc comments are the `--help`.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::{
    Args as ClapArgs, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::{
    Serialize,
    de::{DeserializeOwned, IntoDeserializer},
};
use toml::Table;

use super::setup::Client;
use crate::{
    app::{Asker, Setup},
    config::{ConfigError, Environment, assignment, of_file, of_flag},
    conversation::{Answer, ApprovalId, ApprovalPolicy, Decision, SandboxPolicy, WhenUnattended},
};

/// A coding agent in one program: run a task here, or serve it to others over MCP.
///
/// `openoxide -m "task"` works in the current directory until the task is done and prints the answer.
/// `openoxide mcp-server` does the same for an MCP client on standard input/output.
///
/// Needs OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own; `openoxide demo` needs neither.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,

    /// The task; `-` reads it from standard input.
    #[arg(short, long, value_name = "TASK")]
    pub(super) message: Option<String>,

    /// Go on with this thread, named by its id, enough of its end to know it, or `last`: the newest of this directory. Without -m, resume its interrupted turn, or follow the one that another process runs.
    #[arg(long, value_name = "ID", conflicts_with = "continue")]
    pub(super) resume: Option<String>,

    /// Go on with the newest thread of this directory.
    #[arg(long)]
    pub(super) r#continue: bool,

    /// What standard output carries: the answer, the whole outcome, or one event a line.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Output,

    /// A file to put into the context; can be given more than once.
    #[arg(short, long, value_name = "PATH")]
    pub(super) file: Vec<String>,

    /// Work in the directory itself, or in a git worktree of it, as it is now, on a branch of its own.
    #[arg(long, value_enum, default_value_t, value_name = "HOW", conflicts_with_all = ["resume", "continue"])]
    pub(super) isolation: Isolation,

    /// A picture to show; can be given more than once.
    #[arg(long, value_name = "PATH")]
    pub(super) image: Vec<String>,

    /// Keep what the model says in this file; `--model recorded:FILE` plays it again.
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,

    #[command(flatten)]
    pub(super) options: Options,
}

const EXAMPLES: &str = "\
Examples:
  openoxide -m \"make the failing test pass\"
  openoxide --continue -m \"now update the docs\"
  openoxide --sandbox read-only --approval-policy never -m \"how does the parser recover?\"
  openoxide --output json --max-steps 40 -m - < task.md
  openoxide demo";

/// What standard output carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    #[default]
    Text,
    Json,
    StreamJson,
}

/// Where a task works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Isolation {
    #[default]
    None,
    Worktree,
}

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve MCP on standard input/output, or with --http over the network.
    McpServer(Box<ServerArgs>),
    /// See the whole road on a small sample project: no key, no network.
    Demo {
        /// Do it through the MCP server, and show the messages that matter.
        #[arg(long)]
        mcp: bool,
    },
    /// See, undo, fork, export or delete what is kept of threads.
    #[command(subcommand)]
    Threads(ThreadsCommand),
    /// The external MCP servers that the agent may use.
    #[command(subcommand)]
    Mcp(ExternalCommand),
    /// Run a command exactly as the agent would, to see what it may do.
    Sandbox(SandboxArgs),
    /// Check configuration, key, model, sandbox, git and where threads are kept, and say what to do about each. Asks the
    /// model for one word.
    Doctor {
        /// One JSON array.
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        options: Box<Options>,
    },
    /// Print the configuration that makes an MCP client use this server.
    Setup {
        /// Which client; without one, all are listed.
        client: Option<Client>,
        /// Call the server and its tools as `codex mcp-server` did, so that old prompts and permission rules work.
        #[arg(long)]
        codex_tools: bool,
    },
    /// Print the completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ThreadsCommand {
    /// The threads that are kept, newest first.
    List {
        /// Only those of this directory.
        #[arg(long, value_name = "DIR")]
        cwd: Option<PathBuf>,
        /// One JSON array.
        #[arg(long)]
        json: bool,
    },
    /// One thread from its first message to its last.
    Show {
        /// Its id, or enough of its end to know it.
        id: String,
        /// Header, items and outcomes as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// What a turn changed, as a diff that `git apply` takes.
    Diff {
        /// Its id, or enough of its end to know it.
        id: String,
        /// The turn, by its number or id (default: the last one).
        #[arg(long, value_name = "TURN")]
        turn: Option<String>,
    },
    /// Take back what the last turn changed: all or nothing, and only files that are still as it left them.
    Undo {
        /// Its id, or enough of its end to know it.
        id: String,
        /// Go back to before this turn, by its number or id.
        #[arg(long, value_name = "TURN", conflicts_with = "redo")]
        turn: Option<String>,
        /// Take back the last undo.
        #[arg(long)]
        redo: bool,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask on a terminal.
        #[arg(short, long)]
        yes: bool,
    },
    /// Begin a new thread with what this one said, and print its id. Files stay as they are.
    Fork {
        /// Its id, or enough of its end to know it.
        id: String,
        /// The last turn to take along, by its number or id (default: all of them).
        #[arg(long, value_name = "TURN")]
        turn: Option<String>,
    },
    /// The whole thread for other eyes, on standard output.
    Export {
        /// Its id, or enough of its end to know it.
        id: String,
        /// How it is written.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        format: ExportFormat,
    },
    /// Remove threads with all that belongs to them; files of their directories stay as they are.
    Delete {
        /// Their ids, or enough of their ends to know them.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Answer a question of a thread: of one that another process works on, an MCP server say, or of one that none does.
    Answer(AnswerArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum ExternalCommand {
    /// What is configured, and what it offered last; starts nothing.
    List(ExternalArgs),
    /// Start them and see: state, tools, how long it takes, their last words, what to do.
    Test(ExternalArgs),
    /// Sign in at a server behind an address, in the browser; what is allowed there is kept for this user.
    Login {
        /// Which.
        name: String,
        /// What to allow besides what the server wants; may be given several times.
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<String>,
        /// Only print the address, for a browser elsewhere; what that shows at the end can be pasted.
        #[arg(long)]
        no_browser: bool,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Forget what was allowed at a server.
    Logout {
        /// Which.
        name: String,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Let a server start that the project's `.mcp.json` names.
    Trust {
        /// Which.
        name: String,
        #[command(flatten)]
        options: Box<Options>,
    },
}

/// Which external servers.
#[derive(Debug, ClapArgs)]
pub(super) struct ExternalArgs {
    /// Only this one.
    pub(super) name: Option<String>,

    /// One JSON array.
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) options: Box<Options>,
}

/// How a thread is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ExportFormat {
    #[default]
    Markdown,
    Json,
}

/// The answer; without one it is asked for on the terminal.
#[derive(Debug, ClapArgs)]
pub(super) struct AnswerArgs {
    /// The thread's id, or enough of its end to know it.
    pub(super) id: String,

    /// Which question, where several are open.
    #[arg(long, value_name = "ID")]
    pub(super) approval: Option<ApprovalId>,

    #[command(flatten)]
    decision: DecisionArgs,

    /// A word for the model.
    #[arg(long, value_name = "TEXT", requires = "decision")]
    pub(super) note: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[group(id = "decision", multiple = false)]
struct DecisionArgs {
    /// Approve this once.
    #[arg(long)]
    approve: bool,

    /// Approve, and for the session what the question says that covers.
    #[arg(long)]
    approve_for_session: bool,

    /// Deny, and let the agent go on.
    #[arg(long)]
    deny: bool,

    /// Deny, and end the turn.
    #[arg(long)]
    abort: bool,
}

impl AnswerArgs {
    /// What was decided, if anything was.
    pub(super) fn answer(&self) -> Option<Answer> {
        let given = &self.decision;
        let decisions = [
            (given.approve, Decision::Approve),
            (given.approve_for_session, Decision::ApproveForSession),
            (given.deny, Decision::Deny),
            (given.abort, Decision::Abort),
        ];
        let (_, decision) = decisions.into_iter().find(|(given, _)| *given)?;
        Some(Answer {
            note: self.note.clone(),
            ..Answer::from(decision)
        })
    }
}

/// One command, confined.
#[derive(Debug, ClapArgs)]
pub(super) struct SandboxArgs {
    /// What may be done at all.
    #[arg(value_parser = named::<SandboxPolicy>(["read-only", "workspace-write", "danger-full-access"]))]
    pub(super) policy: SandboxPolicy,

    /// Work in this directory.
    #[arg(long, value_name = "DIR")]
    pub(super) cwd: Option<PathBuf>,

    /// Let the command reach the network.
    #[arg(long)]
    pub(super) network: bool,

    /// The command and its arguments; one alone is a line for the shell.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<String>,
}

/// What the server adds.
#[derive(Debug, ClapArgs)]
pub(super) struct ServerArgs {
    /// Let callers choose `danger-full-access`: for a machine that is itself the sandbox.
    #[arg(long)]
    pub(super) allow_full_access: bool,

    /// A directory that callers may work in; can be given more than once (default: anywhere).
    #[arg(long, value_name = "DIR")]
    pub(super) root: Vec<PathBuf>,

    /// What becomes of a question that nobody can answer.
    #[arg(long, value_parser = named::<WhenUnattended>(["auto-within-policy", "return-to-caller", "deny"]), value_name = "STRATEGY")]
    pub(super) when_unattended: Option<WhenUnattended>,

    /// How long a call waits before it returns `running`, in seconds, or `none`.
    #[arg(long, value_name = "SECONDS")]
    pub(super) wait: Option<String>,

    /// Call the tools `codex` and `codex-reply`, with the arguments and results of that peer.
    #[arg(long)]
    pub(super) codex_tools: bool,

    /// Add `search_codebase`, `run_command` and `analyze_file`: for callers who want hands and not an agent.
    #[arg(long)]
    pub(super) workspace_tools: bool,

    /// Serve HTTP (`/mcp`) and WebSocket (`/ws`) on this address instead. Needs a token of each client: those in
    /// OPENOXIDE_TOKENS or --token-file, else one that is made and kept.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) http: Option<String>,

    /// Tokens of clients, one a line: `NAME:TOKEN` or a token alone. Read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,

    /// Let in whoever comes, without a token: on a loopback address only.
    #[arg(long, conflicts_with = "token_file")]
    pub(super) no_auth: bool,

    /// A name by which clients reach the service besides its address; can be given more than once.
    #[arg(long, value_name = "HOST")]
    pub(super) public_host: Vec<String>,

    /// Where a call without `cwd` gets a directory of its own, kept as long as its thread.
    #[arg(long, value_name = "DIR")]
    pub(super) workspaces: Option<PathBuf>,

    #[command(flatten)]
    pub(super) options: Options,
}

impl ServerArgs {
    pub(super) fn setup(&self) -> anyhow::Result<Setup> {
        let mut setup = Setup {
            asker: Asker::Caller,
            workspace_tools: self.workspace_tools,
            ..self.options.setup()?
        };
        if self.allow_full_access {
            setup
                .flags
                .push(assignment("server.allow_full_access=true")?);
        }
        // As every path that is typed: from where the shell is, whatever `--cwd` says.
        let here = std::env::current_dir()?;
        if let Some(root) = self.root.iter().find(|root| !here.join(root).is_dir()) {
            anyhow::bail!("`--root {}` is not a directory", root.display());
        }
        let place = |path: &PathBuf| quoted(&here.join(path).to_string_lossy());
        let set = [
            ("roots", list(self.root.iter().map(place))),
            (
                "public_hosts",
                list(self.public_host.iter().map(|host| quoted(host))),
            ),
            ("http", self.http.as_deref().map(quoted)),
            ("token_file", self.token_file.as_ref().map(place)),
            ("workspaces", self.workspaces.as_ref().map(place)),
        ];
        for (key, value) in set {
            if let Some(value) = value {
                setup
                    .flags
                    .push(assignment(&format!("server.{key}={value}"))?);
            }
        }
        if let Some(strategy) = self.when_unattended {
            setup
                .flags
                .push(chosen("policy.when_unattended", strategy)?);
        }
        Ok(setup)
    }

    /// The wait budget that the owner set; the outer `None` where they said nothing.
    pub(super) fn wait(&self) -> Result<Option<Option<Duration>>, ConfigError> {
        let Some(text) = &self.wait else {
            return Ok(None);
        };
        if text == "none" {
            return Ok(Some(None));
        }
        let seconds = text
            .parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        seconds.map(|wait| Some(Some(wait))).ok_or_else(|| {
            ConfigError::new(format!(
                "`--wait {text}` is neither a number of seconds nor `none`"
            ))
        })
    }
}

/// Defaults and ceilings; the same for a task and for the server.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Options {
    /// Work in this directory.
    #[arg(long, value_name = "DIR")]
    pub(super) cwd: Option<PathBuf>,

    /// The model; `recorded:FILE` plays a recording.
    #[arg(long, value_name = "NAME")]
    pub(super) model: Option<String>,

    /// What may be done at all.
    #[arg(long, value_parser = named::<SandboxPolicy>(["read-only", "workspace-write", "danger-full-access"]), value_name = "POLICY")]
    pub(super) sandbox: Option<SandboxPolicy>,

    /// When to ask: `untrusted` before every edit and every command not certain only to read, `on-request` before
    /// what would leave the sandbox.
    #[arg(long, value_parser = named::<ApprovalPolicy>(["untrusted", "on-request", "never"]), value_name = "POLICY")]
    pub(super) approval_policy: Option<ApprovalPolicy>,

    /// Let commands in the sandbox reach the network.
    #[arg(long)]
    pub(super) network: bool,

    /// Added to the agent's own instructions.
    #[arg(long, value_name = "TEXT")]
    pub(super) instructions: Option<String>,

    /// Requests to the model before a turn ends.
    #[arg(long, value_name = "N")]
    pub(super) max_steps: Option<u64>,

    /// Seconds before a turn ends.
    #[arg(long, value_name = "N")]
    pub(super) max_seconds: Option<f64>,

    /// Tokens, input and output together, before a turn ends.
    #[arg(long, value_name = "N")]
    pub(super) max_tokens: Option<u64>,

    /// Keep nothing on disk.
    #[arg(long)]
    pub(super) ephemeral: bool,

    /// A profile of your configuration file.
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,

    /// Any configuration key, for example `-c limits.max_steps=20`; can be given more than once.
    #[arg(short = 'c', long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,

    /// External MCP servers from a file of the usual shape, `{"mcpServers": {…}}`; can be given more than once.
    #[arg(long, value_name = "FILE")]
    pub(super) mcp_config: Vec<PathBuf>,

    /// One external MCP server, for example `time:stdio:"uvx mcp-server-time"`; can be given more than once.
    #[arg(long, value_name = "NAME:TRANSPORT:TARGET")]
    pub(super) mcp_server: Vec<String>,

    /// Read variables such as the key from this file.
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Option<PathBuf>,

    /// How logs on standard error look.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) log_format: LogFormat,
}

impl Options {
    /// The external servers of files, then those of flags.
    fn external(&self) -> Result<Vec<Table>, ConfigError> {
        let environment = Environment::read(self.env_file.as_deref())?;
        let mut tables = Vec::new();
        for file in &self.mcp_config {
            let named = of_file(file, |name| environment.get(name))?;
            tables.push(named.servers);
            for warning in named.warnings {
                self.warn(&warning);
            }
        }
        for server in &self.mcp_server {
            tables.push(of_flag(server)?);
        }
        Ok(tables)
    }

    /// Says it as the log would, which is opened only once it is known what the flags set.
    fn warn(&self, warning: &str) {
        let line = match self.log_format {
            LogFormat::Text => format!("warning: {warning}"),
            LogFormat::Json => {
                serde_json::json!({"level": "WARN", "fields": {"message": warning}}).to_string()
            }
        };
        // Nobody reads it: then nobody wants to know.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// What the flags set, as configuration; named flags win over `--set`.
    pub(super) fn flags(&self) -> Result<Vec<Table>, ConfigError> {
        let mut flags: Vec<Table> = self
            .set
            .iter()
            .map(|set| assignment(set))
            .collect::<Result<_, _>>()?;
        if let Some(model) = &self.model {
            flags.push(assignment(&format!("model.name={}", quoted(model)))?);
        }
        flags.extend(self.external()?);
        flags.extend(
            self.sandbox
                .map(|policy| chosen("policy.sandbox", policy))
                .transpose()?,
        );
        flags.extend(
            self.approval_policy
                .map(|policy| chosen("policy.approval_policy", policy))
                .transpose()?,
        );
        if self.network {
            flags.push(assignment("policy.network=true")?);
        }
        let limits = [
            ("max_steps", self.max_steps.map(|n| n.to_string())),
            ("max_seconds", self.max_seconds.map(|n| format!("{n:?}"))),
            ("max_tokens", self.max_tokens.map(|n| n.to_string())),
        ];
        for (key, value) in limits {
            flags.extend(
                value
                    .map(|value| assignment(&format!("limits.{key}={value}")))
                    .transpose()?,
            );
        }
        Ok(flags)
    }
}

fn chosen(key: &str, value: impl Serialize) -> Result<Table, ConfigError> {
    let value =
        toml::Value::try_from(value).map_err(|error| ConfigError::new(error.to_string()))?;
    assignment(&format!("{key}={value}"))
}

/// One of `names`, which the configuration knows too.
fn named<T>(names: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| {
        T::deserialize(name.into_deserializer()).map_err(|error: serde::de::value::Error| error)
    })
}

/// None where there is nothing in it.
fn list(values: impl Iterator<Item = String>) -> Option<String> {
    let values: Vec<String> = values.collect();
    (!values.is_empty()).then(|| format!("[{}]", values.join(",")))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}
