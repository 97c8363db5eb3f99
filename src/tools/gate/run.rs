//! A call that may run: what it gets, the moment it starts, and what its tool gave.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::{Gate, Passing, Stopped};
use crate::{
    conversation::{Access, ApprovalPolicy, OutputStatus, SandboxPolicy, shown_line},
    tools::{Call, Confined, Output, registry::Run},
    workspace::{checkpoint::Running, sandbox::Protection},
};

/// What came of a call that ran.
pub(super) struct Ran {
    pub(super) status: OutputStatus,
    pub(super) output: Output,
}

impl Gate {
    /// What a command with this access runs behind. `approved`: somebody said yes to it.
    pub(super) fn confined(&self, access: &Access, approved: bool) -> Option<Confined> {
        let leaves = match access {
            Access::Run { escalate, .. } => *escalate && approved,
            _ => true,
        };
        let held = self.workspace.sandbox() != SandboxPolicy::DangerFullAccess && !leaves;
        // Where there is nothing to hold it, it comes here only with an approval.
        (held && self.confinement.sandbox().protection() != Protection::None).then(|| Confined {
            by: self.confinement.clone(),
            may_escalate: self.approval_policy != ApprovalPolicy::Never
                && !self.workspace.view().is_narrow(),
        })
    }

    /// What the tool may use.
    pub(super) fn means(
        &self,
        passing: &Passing<'_>,
        confinement: Option<Confined>,
        under_way: Option<Arc<Running>>,
    ) -> Call {
        Call {
            id: passing.call.call_id.clone(),
            workspace: self.workspace.clone(),
            cancel: passing.cancel.clone(),
            host: passing.host.clone(),
            confinement,
            under_way,
        }
    }
}

impl Passing<'_> {
    /// Returns when it is recorded that the call starts.
    pub(super) async fn start(&self) -> Result<(), Stopped> {
        let title = shown_line(&format!("{}: {}", self.call.name, self.title));
        let starting = self.host.starting(&self.call.call_id, title);
        starting.await.map_err(|error| {
            Stopped::Failed(format!("not run, since it could not be recorded: {error}"))
        })
    }
}

impl Ran {
    /// Runs it. Ended by the tool, which is told by `call.cancel`.
    pub(super) async fn of(run: Run, call: Call) -> Self {
        // A tool that panics must cost its call, not the turn; one that is given up must not act any more.
        let tool = AbortOnDropHandle::new(tokio::spawn(run(call)));
        let (status, output) = match tool.await {
            Ok(Ok(output)) if output.interrupted => (OutputStatus::Interrupted, output),
            Ok(Ok(output)) => (OutputStatus::Done, output),
            Ok(Err(error)) => (OutputStatus::Failed, Output::from(error.0)),
            Err(_) => (
                OutputStatus::Failed,
                Output::from("the tool broke down inside openoxide".to_owned()),
            ),
        };
        Self { status, output }
    }

    /// Lets the model read `more` below the output.
    pub(super) fn add(&mut self, more: String) {
        self.output.content += &more;
    }
}
