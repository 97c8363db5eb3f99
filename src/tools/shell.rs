//! `shell`: one command, to its end.

use std::{ffi::OsString, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Call, Confined, Output, Planned, Progress, Tool, ToolError, input};
use crate::{
    conversation::{Access, CommandRun, SandboxPolicy},
    workspace::{
        Workspace,
        sandbox::Protection,
        shell::{self, Command, Exit, Finished},
    },
};

/// Where the model does not say.
const TIMEOUT: Duration = Duration::from_secs(120);
const LONGEST: Duration = Duration::from_secs(3600);

pub(super) struct Shell {
    pub(super) environment: Vec<(OsString, OsString)>,
}

/// Run a shell command and see its output. It gets no input, and what it leaves running is ended with it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// The shell line.
    command: String,
    /// Directory relative to the working directory.
    workdir: Option<String>,
    /// Ended after so many seconds (default 120).
    #[serde(default, deserialize_with = "input::seconds")]
    timeout_seconds: Option<f64>,
    /// Ask to run this command outside the sandbox; give a `reason`.
    #[serde(default)]
    escalate: bool,
    /// What it is for, in one sentence, for the person who is asked.
    reason: Option<String>,
}

impl Tool for Shell {
    type Input = Input;
    type Plan = Command;
    const NAME: &'static str = "shell";
    const ONLY_READS: bool = false;

    fn plan(&self, input: Input, workspace: &Workspace) -> Result<Planned<Command>, ToolError> {
        if input.command.trim().is_empty() {
            return Err(ToolError::new("`command` is empty"));
        }
        let workdir = workspace
            .resolve(input.workdir.as_deref().unwrap_or("."))
            .map_err(ToolError::new)?;
        let asked = input
            .timeout_seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let access = Access::Run {
            command: input.command.clone(),
            workdir: workdir.clone(),
            escalate: input.escalate,
            reason: input.reason,
        };
        let plan = Command {
            line: input.command.clone(),
            workdir,
            env: self.environment.clone(),
            timeout: asked.unwrap_or(TIMEOUT).min(LONGEST),
        };
        Ok(Planned {
            access,
            title: input.command,
            plan,
        })
    }

    async fn run(&self, command: Command, call: Call) -> Result<Output, ToolError> {
        let (line, timeout) = (command.line.clone(), command.timeout);
        let show = |line: &str| {
            call.host
                .progress(&call.id, Progress::Line(line.to_owned()))
        };
        let launcher = match &call.confinement {
            Some(confined) => Some(
                confined
                    .by
                    .launcher(&call.workspace, &command.workdir)
                    .map_err(|error| {
                        ToolError(format!(
                            "not run, since its sandbox could not be made: {error}"
                        ))
                    })?,
            ),
            None => None,
        };
        let finished = shell::run_behind(command, launcher, call.cancel.clone(), show)
            .await
            .map_err(ToolError::new)?;
        let remarks = match &call.confinement {
            Some(confined) => remarks(&finished, confined, call.workspace.sandbox()),
            None => String::new(),
        };
        Ok(output(line, timeout, finished, &remarks))
    }
}

/// What the model should know of the sandbox after this: what of it is missing, and whether it may be why a command
/// failed.
fn remarks(finished: &Finished, confined: &Confined, policy: SandboxPolicy) -> String {
    let mut lines = Vec::new();
    if let Protection::Partial(missing) = confined.by.sandbox().protection() {
        lines.push(format!(
            "sandbox: {} only; not enforced: {}",
            confined.by.sandbox().by(),
            missing.join(", ")
        ));
    }
    if finished.exit != Exit::Code(0) {
        let says = |signs: &[&str]| signs.iter().any(|sign| finished.output.contains(sign));
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

fn output(command: String, timeout: Duration, finished: Finished, remarks: &str) -> Output {
    let (exit_code, ending) = match finished.exit {
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
    let gap = if finished.output.is_empty() || finished.output.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    Output {
        content: format!("{}{gap}[{ending}]{remarks}", finished.output),
        interrupted: finished.exit == Exit::Cancelled,
        command: Some(CommandRun {
            command,
            exit_code,
            seconds: finished.seconds,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::sandbox::{Confinement, Sandbox};
    use std::sync::Arc;

    #[test]
    fn a_failure_that_looks_like_the_sandbox_names_the_way_out() {
        let said = |output: &str, exit, network, may_escalate| {
            let finished = Finished {
                output: output.to_owned(),
                omitted_bytes: 0,
                exit,
                seconds: 0.0,
            };
            // A program that is no openoxide offers nothing, which is not what is looked at here.
            let sandbox = Arc::new(Sandbox::new(Some("/bin/true".into())));
            let by = Arc::new(Confinement::new(sandbox, network));
            let confined = Confined { by, may_escalate };
            remarks(&finished, &confined, SandboxPolicy::WorkspaceWrite)
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
