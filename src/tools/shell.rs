//! `shell`: one command, to its end.

use std::{ffi::OsString, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Call, Output, Planned, Progress, Tool, ToolError, input};
use crate::{
    conversation::{Access, CommandRun},
    workspace::{
        Workspace,
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
        let finished = shell::run(command, call.cancel.clone(), show)
            .await
            .map_err(ToolError::new)?;
        Ok(output(line, timeout, finished))
    }
}

fn output(command: String, timeout: Duration, finished: Finished) -> Output {
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
        content: format!("{}{gap}[{ending}]", finished.output),
        interrupted: finished.exit == Exit::Cancelled,
        command: Some(CommandRun {
            command,
            exit_code,
            seconds: finished.seconds,
        }),
    }
}
