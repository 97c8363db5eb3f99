//! `openoxide setup CLIENT`: the configuration that makes an MCP client use this server, on standard output; where it
//! goes, and what else there is to know, on standard error. Nothing is written.
//!
//! The time-outs fit together: a client is told to wait as long as it can, and the server to return `running` a little
//! before the client gives up. Where the figures come from is in `docs/clients.md`.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::OK;

/// Seconds that a client waits where it can be told: as long as a turn may take by default.
const LONG: u64 = 3600;
/// Seconds before that at which the server returns.
const MARGIN: u64 = 60;

/// Clients that we know the configuration of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Client {
    /// Claude Code
    #[value(alias = "claude")]
    ClaudeCode,
    /// Claude Desktop
    ClaudeDesktop,
    /// Visual Studio Code, with Copilot
    #[value(name = "vscode", alias = "vs-code", alias = "code")]
    VsCode,
    /// Cursor
    Cursor,
    /// Zed
    Zed,
    /// Codex
    Codex,
    /// Gemini CLI
    #[value(name = "gemini", alias = "gemini-cli")]
    Gemini,
    /// opencode
    #[value(name = "opencode")]
    OpenCode,
    /// goose
    Goose,
    /// JetBrains IDEs, with AI Assistant
    #[value(name = "jetbrains")]
    JetBrains,
}

/// What to print.
struct Setup {
    text: String,
    /// The file, or the place in the settings.
    goes_to: &'static str,
    /// What else to know, a sentence a line.
    notes: Vec<&'static str>,
}

/// How the server is called, and by which command.
struct Server {
    name: &'static str,
    command: String,
    codex_tools: bool,
}

/// Prints the configuration for `client`, or which there are. With `codex_tools` the server takes the place of
/// `codex mcp-server`.
pub(super) fn run(client: Option<Client>, codex_tools: bool) -> anyhow::Result<u8> {
    let Some(client) = client else {
        std::io::stdout().write_all(list().as_bytes())?;
        return Ok(OK);
    };
    let server = Server {
        // Permission rules name server and tool: `mcp__codex__codex` is this server's tool of that name.
        name: if codex_tools { "codex" } else { "openoxide" },
        command: command(client)?,
        codex_tools,
    };
    let setup = server.setup(client);
    let mut stderr = anstream::stderr().lock();
    writeln!(stderr, "# goes to {}", setup.goes_to)?;
    for note in &setup.notes {
        writeln!(stderr, "# {note}")?;
    }
    if codex_tools {
        writeln!(
            stderr,
            "# in place of `codex mcp-server`: rules for `mcp__codex__codex` and `mcp__codex__codex-reply` keep working"
        )?;
    } else {
        writeln!(
            stderr,
            "# with rules and prompts for `codex mcp-server`: `openoxide setup --codex-tools …` keeps its names (`mcp__codex__codex`)"
        )?;
    }
    std::io::stdout().write_all(setup.text.as_bytes())?;
    Ok(OK)
}

fn list() -> String {
    let clients = Client::value_variants().iter();
    let lines = clients.filter_map(|client| {
        let named = client.to_possible_value()?;
        let product = named.get_help().map(ToString::to_string);
        Some(format!(
            "{:<16}{}\n",
            named.get_name(),
            product.unwrap_or_default()
        ))
    });
    lines.collect()
}

/// The bare name where a shell finds it; the whole path where not, and for programs that are not started by a shell.
fn command(client: Client) -> anyhow::Result<String> {
    let from_a_shell = !matches!(
        client,
        Client::ClaudeDesktop | Client::Zed | Client::JetBrains | Client::Cursor
    );
    if from_a_shell && is_in_path("openoxide") {
        return Ok("openoxide".to_owned());
    }
    let path: PathBuf = std::env::current_exe()?;
    Ok(path.to_string_lossy().into_owned())
}

fn is_in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|place| is_program(&place.join(name)))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

const KEY: &str = "it gives servers no environment of yours: put OPENAI_API_KEY into `env`, or add `\"--env-file\", \"/path\"` to the arguments";

impl Server {
    fn setup(&self, client: Client) -> Setup {
        match client {
            Client::ClaudeCode => Setup {
                text: self.claude_code(),
                goes_to: "`.mcp.json` in the project",
                notes: vec![
                    "a tool is `mcp__SERVER__TOOL` in permission rules; `mcp__SERVER` covers all of a server",
                    "`timeout` is a hard limit in milliseconds; progress does not extend it",
                ],
            },
            Client::ClaudeDesktop => Setup {
                text: self.servers(json!({}), &["--wait", "45"]),
                goes_to: "`claude_desktop_config.json` (Settings, Developer, Edit Config)",
                notes: vec![
                    "it ends a call after about 60 seconds and cannot be told otherwise",
                    KEY,
                ],
            },
            Client::VsCode => Setup {
                text: self.vscode(),
                goes_to: "`.vscode/mcp.json` in the project",
                notes: vec!["it has no time-out of its own"],
            },
            Client::Cursor => Setup {
                text: self.cursor(),
                goes_to: "`.cursor/mcp.json` in the project",
                notes: vec![
                    "it ends a call after about 60 seconds, and ignores a server's `cwd`: the workspace is in the arguments",
                ],
            },
            Client::Zed => Setup {
                text: self.zed(),
                goes_to: "Zed's `settings.json` (zed: open settings)",
                notes: vec![
                    "`context_server_timeout` is in seconds and holds for all servers",
                    KEY,
                ],
            },
            Client::Codex => Setup {
                text: self.codex(),
                goes_to: "`~/.codex/config.toml`",
                notes: vec!["`env_vars` are passed on from your own environment"],
            },
            Client::Gemini => Setup {
                text: self.gemini(),
                goes_to: "`~/.gemini/settings.json`, or `.gemini/settings.json` in the project",
                notes: vec!["`timeout` is in milliseconds; progress does not extend it"],
            },
            Client::OpenCode => Setup {
                text: self.opencode(),
                goes_to: "`opencode.json` in the project, or `~/.config/opencode/opencode.json`",
                notes: vec!["`timeout` is in milliseconds"],
            },
            Client::Goose => Setup {
                text: self.goose(),
                goes_to: "`~/.config/goose/config.yaml`",
                notes: vec![
                    "`timeout` is in seconds; `env_keys` are asked for once and kept in the keyring",
                ],
            },
            Client::JetBrains => Setup {
                text: self.servers(json!({}), &["--wait", "25"]),
                goes_to: "Settings, Tools, AI Assistant, Model Context Protocol, Add, As JSON",
                notes: vec![
                    "it ends a call after about 30 seconds and cannot be told otherwise",
                    "set the working directory of the server to the project in the same dialog",
                    KEY,
                ],
            },
        }
    }

    /// The arguments, these at the end.
    fn arguments(&self, more: &[&str]) -> Value {
        let mut arguments = vec!["mcp-server"];
        if self.codex_tools {
            arguments.push("--codex-tools");
        }
        arguments.extend(more);
        json!(arguments)
    }

    /// The form that most clients read, with `more` keys of the client's own.
    fn servers(&self, more: Value, arguments: &[&str]) -> String {
        let mut server = json!({"command": self.command, "args": self.arguments(arguments)});
        extend(&mut server, more);
        pretty(&json!({"mcpServers": {self.name: server}}))
    }

    fn claude_code(&self) -> String {
        // It starts servers in the project's directory, and gives them the whole environment.
        let more = json!({"env": {}, "timeout": LONG * 1000, "alwaysLoad": true});
        self.servers(more, &["--root", ".", "--wait", &wait()])
    }

    fn vscode(&self) -> String {
        let server = json!({
            "type": "stdio",
            "command": self.command,
            "args": self.arguments(&["--root", "${workspaceFolder}", "--wait", "none"]),
            "cwd": "${workspaceFolder}",
            "env": {"OPENAI_API_KEY": "${env:OPENAI_API_KEY}"},
        });
        pretty(&json!({"servers": {self.name: server}}))
    }

    fn cursor(&self) -> String {
        let more = json!({"env": {"OPENAI_API_KEY": "${env:OPENAI_API_KEY}"}});
        let place = "${workspaceFolder}";
        self.servers(more, &["--cwd", place, "--root", place, "--wait", "45"])
    }

    fn zed(&self) -> String {
        let wait = (600 - MARGIN).to_string();
        let server =
            json!({"command": self.command, "args": self.arguments(&["--wait", &wait]), "env": {}});
        pretty(&json!({"context_server_timeout": 600, "context_servers": {self.name: server}}))
    }

    fn codex(&self) -> String {
        // A TOML string with these escapes is a JSON string, and an array of them likewise.
        format!(
            "[mcp_servers.{}]\ncommand = {}\nargs = {}\nenv_vars = [\"OPENAI_API_KEY\", \"OPENAI_BASE_URL\"]\nstartup_timeout_sec = 10\ntool_timeout_sec = {LONG}\n",
            self.name,
            json!(self.command),
            self.arguments(&["--wait", &wait()]),
        )
    }

    fn gemini(&self) -> String {
        let more = json!({"env": {"OPENAI_API_KEY": "$OPENAI_API_KEY"}, "timeout": LONG * 1000});
        self.servers(more, &["--wait", &wait()])
    }

    fn opencode(&self) -> String {
        let mut command = vec![json!(self.command)];
        let arguments = self.arguments(&["--wait", &wait()]);
        command.extend(arguments.as_array().cloned().unwrap_or_default());
        let server =
            json!({"type": "local", "command": command, "enabled": true, "timeout": LONG * 1000});
        pretty(&json!({"$schema": "https://opencode.ai/config.json", "mcp": {self.name: server}}))
    }

    fn goose(&self) -> String {
        // A JSON string or array is also one of YAML.
        format!(
            "extensions:\n  {name}:\n    enabled: true\n    type: stdio\n    name: {name}\n    cmd: {}\n    args: {}\n    envs: {{}}\n    env_keys: [OPENAI_API_KEY]\n    timeout: {LONG}\n",
            json!(self.command),
            self.arguments(&["--wait", &wait()]),
            name = self.name,
        )
    }
}

fn wait() -> String {
    (LONG - MARGIN).to_string()
}

fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
