//! `shell`: one command, to its end or until it becomes a session.

use std::{ffi::OsString, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{Call, Confined, Output, Planned, Progress, Tool, ToolError, input};
use crate::{
    conversation::{Access, CommandRun, SandboxPolicy},
    workspace::{
        Workspace,
        sandbox::{Launcher, Protection},
        shell::{self, Command, Exit, Ousted, Patience, Running, Seen, Sessions},
    },
};

/// Where the model does not say.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Also of what may become a session, where it does not say.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long a terminal is watched where it does not say.
pub(super) const WATCHED: Duration = Duration::from_secs(10);

pub(super) struct Shell {
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) keeper: Option<Launcher>,
    pub(super) sessions: Arc<Sessions>,
}

/// Run a shell command and see its output. What it leaves running is ended with it. With `wait_seconds` or `terminal`, a
/// command that is still running then becomes a session for `shell_input`; otherwise it gets no input.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// The shell line.
    command: String,
    /// Directory relative to the working directory.
    workdir: Option<String>,
    /// Ended after so many seconds (default 120; 3600 with `wait_seconds` or `terminal`).
    #[serde(default, deserialize_with = "input::seconds")]
    timeout_seconds: Option<f64>,
    /// Go on without it after so many seconds: servers, programs that ask.
    #[serde(default, deserialize_with = "input::seconds")]
    wait_seconds: Option<f64>,
    /// Run in a terminal (120x40), for programs that need one.
    #[serde(default)]
    terminal: bool,
    /// Ask to run this command outside the sandbox; give a `reason`.
    #[serde(default)]
    escalate: bool,
    /// What it is for, in one sentence, for the person who is asked.
    reason: Option<String>,
}

/// A command and how long to wait for it.
pub(super) struct Plan {
    command: Command,
    patience: Patience,
}

impl Tool for Shell {
    type Input = Input;
    type Plan = Plan;
    const NAME: &'static str = "shell";
    const ONLY_READS: bool = false;

    fn plan(&self, input: Input, workspace: &Workspace) -> Result<Planned<Plan>, ToolError> {
        if input.command.trim().is_empty() {
            return Err(ToolError::new("`command` is empty"));
        }
        let workdir = workspace
            .resolve(input.workdir.as_deref().unwrap_or("."))
            .map_err(ToolError::new)?;
        let seconds =
            |asked: Option<f64>| asked.and_then(|asked| Duration::try_from_secs_f64(asked).ok());
        let (patience, timeout) = match (seconds(input.wait_seconds), input.terminal) {
            (Some(wait), _) => (Patience::For(wait), LONGEST),
            (None, true) => (Patience::Quiet(WATCHED), LONGEST),
            (None, false) => (Patience::End, TIMEOUT),
        };
        let reads = match (input.terminal, patience) {
            (true, _) => shell::Input::Terminal,
            (false, Patience::End) => shell::Input::None,
            (false, _) => shell::Input::Pipe,
        };
        let access = Access::Run {
            command: input.command.clone(),
            workdir: workdir.clone(),
            escalate: input.escalate,
            reason: input.reason,
        };
        let command = Command {
            line: input.command.clone(),
            workdir,
            env: self.environment.clone(),
            timeout: seconds(input.timeout_seconds)
                .unwrap_or(timeout)
                .min(LONGEST),
            behind: self.keeper.clone(),
            input: reads,
        };
        Ok(Planned {
            access,
            title: input.command,
            plan: Plan { command, patience },
        })
    }

    async fn run(&self, plan: Plan, call: Call) -> Result<Output, ToolError> {
        let Plan {
            mut command,
            patience,
        } = plan;
        if let Some(confined) = &call.confinement {
            let launcher = confined.by.launcher(&call.workspace, &command.workdir);
            command.behind = Some(launcher.map_err(|error| {
                ToolError(format!(
                    "not run, since its sandbox could not be made: {error}"
                ))
            })?);
        }
        let spare = Some(self.sessions.spare());
        let mut running = Running::start_with(&command, spare).map_err(ToolError::new)?;
        running.note(call.under_way.clone());
        self.get_ready(&command);
        let show = |line: &str| {
            call.host
                .progress(&call.id, Progress::Line(line.to_owned()))
        };
        running.watch(patience, &call.cancel, show).await;
        let seen = running.look();
        let Some(exit) = seen.exit else {
            let free = call.confinement.is_none();
            let (id, ousted) = self.sessions.keep(running, None, free);
            return Ok(still_running(&seen, id, ousted).into());
        };
        // The one from before is gone if this took long.
        self.get_ready(&command);
        let remarks = match &call.confinement {
            Some(confined) => remarks(&seen.output, exit, confined, call.workspace.sandbox()),
            None => String::new(),
        };
        Ok(ended(command.line, command.timeout, seen, exit, &remarks))
    }
}

impl Shell {
    /// For one more command like this one.
    fn get_ready(&self, command: &Command) {
        if let (Some(launcher), shell::Input::None) = (&command.behind, command.input) {
            self.sessions.spare().prepare(launcher);
        }
    }
}

/// What the model should know of the sandbox after this: what of it is missing, and whether it may be why a command
/// failed.
fn remarks(output: &str, exit: Exit, confined: &Confined, policy: SandboxPolicy) -> String {
    let mut lines = Vec::new();
    if let Protection::Partial(missing) = confined.by.sandbox().protection() {
        lines.push(format!(
            "sandbox: {} only; not enforced: {}",
            confined.by.sandbox().by(),
            missing.join(", ")
        ));
    }
    if exit != Exit::Code(0) {
        let says = |signs: &[&str]| signs.iter().any(|sign| output.contains(sign));
        let way_out = if confined.may_escalate {
            "if it must, call again with `escalate: true` and a `reason`"
        } else {
            "nobody can be asked to lift that here"
        };
        if says(&OF_FILES) {
            let writable = match policy {
                SandboxPolicy::ReadOnly => "nothing but `/tmp`",
                _ => "only the working directory and `/tmp`",
            };
            lines.push(format!(
                "this may be the sandbox: {writable} can be written, credentials cannot be read; {way_out}"
            ));
        }
        if !confined.by.network() && says(&OF_NETWORK) {
            lines.push(format!(
                "this looks like the network, which the sandbox does not have; {way_out}"
            ));
        }
    }
    lines.iter().map(|line| format!("\n[{line}]")).collect()
}

/// How programs put it when the kernel does not let them.
const OF_FILES: [&str; 7] = [
    "Read-only file system",
    "read-only file system",
    "EROFS",
    "Permission denied",
    "permission denied",
    "EACCES",
    "Operation not permitted",
];
/// How they put it when there is no network.
const OF_NETWORK: [&str; 12] = [
    "Could not resolve host",
    "could not resolve host",
    "Couldn't resolve host",
    "Temporary failure in name resolution",
    "Temporary failure resolving",
    "Name or service not known",
    "Network is unreachable",
    "network is unreachable",
    "failed to lookup address",
    "EAI_AGAIN",
    "ENOTFOUND",
    "ENETUNREACH",
];

/// What is said of a command that goes on.
pub(super) fn still_running(seen: &Seen, id: u64, ousted: Option<Ousted>) -> String {
    let mut notes = format!(
        "[still running after {:.1} s, session_id {id}: `shell_input` looks again, types, or presses keys]",
        seen.seconds
    );
    if seen.unread > 0 {
        notes += &format!(
            "\n[{} bytes of what was typed are not read yet]",
            seen.unread
        );
    }
    if let Some(ousted) = ousted {
        notes += &format!(
            "\n[session {} (`{}`) was ended, since there were too many]",
            ousted.id, ousted.line
        );
    }
    with_notes(&seen.output, &notes)
}

/// What is said of one that has ended.
pub(super) fn ended(
    command: String,
    timeout: Duration,
    seen: Seen,
    exit: Exit,
    remarks: &str,
) -> Output {
    let (exit_code, ending) = match exit {
        Exit::Code(0) => (Some(0), "exit code 0".to_owned()),
        Exit::Code(code) => (Some(code), format!("exit code {code}")),
        Exit::Signal(signal) => (Some(128 + signal), format!("ended by signal {signal}")),
        Exit::TimedOut => (
            None,
            format!(
                "ended after its {} s; give more `timeout_seconds` if it needs them",
                timeout.as_secs_f64()
            ),
        ),
        Exit::Cancelled => (None, "ended because the turn was interrupted".to_owned()),
    };
    let mut structured = json!({"output": seen.output, "seconds": seen.seconds});
    if let Some(code) = exit_code {
        structured["exit_code"] = code.into();
    }
    if exit == Exit::TimedOut {
        structured["timed_out"] = true.into();
    }
    Output {
        content: with_notes(&seen.output, &format!("[{ending}]{remarks}")),
        structured: Some(structured),
        interrupted: exit == Exit::Cancelled,
        command: Some(CommandRun {
            command,
            exit_code,
            seconds: seen.seconds,
        }),
    }
}

fn with_notes(output: &str, notes: &str) -> String {
    let gap = if output.is_empty() || output.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{output}{gap}{notes}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::sandbox::{Confinement, Sandbox};
    use std::sync::Arc;

    #[test]
    fn a_failure_that_looks_like_the_sandbox_names_the_way_out() {
        let said = |output: &str, exit, network, may_escalate| {
            // A program that is no openoxide offers nothing, which is not what is looked at here.
            let sandbox = Arc::new(Sandbox::new(Some("/bin/true".into())));
            let by = Arc::new(Confinement::new(sandbox, network));
            let confined = Confined { by, may_escalate };
            remarks(output, exit, &confined, SandboxPolicy::WorkspaceWrite)
        };
        let failed = Exit::Code(1);
        let files = "touch: cannot touch '/etc/x': Read-only file system\n";
        assert!(said(files, failed, false, true).contains("`escalate: true` and a `reason`"));
        assert!(said(files, failed, false, false).contains("nobody can be asked"));
        assert_eq!(said(files, Exit::Code(0), false, true), "");
        let network = "curl: (6) Could not resolve host: example.org\n";
        assert!(said(network, failed, false, true).contains("looks like the network"));
        assert_eq!(said(network, failed, true, true), "");
        assert_eq!(
            said("error[E0308]: mismatched types\n", failed, false, true),
            ""
        );
        assert_eq!(said(files, failed, false, true).lines().count(), 2);
    }
}
