//! What a turn that was left open still needs to be whole: an output for each call, an end for each question, its own
//! end. Records only; whoever holds the thread writes them.

use super::rollout::{Loaded, LoadedTurn, Record};
use crate::{
    agent::sample::{EFFECTS_UNKNOWN, Left},
    conversation::{
        Answer, Decision, Item, Outcome, OutputStatus, Resolution, ResolvedBy, SandboxReport,
        Status, ToolOutput, TurnError, TurnErrorKind, Usage,
    },
    tools::gate::NOT_RUN,
};

/// The output of a call that does not run any more.
pub(super) fn output(left: Left) -> ToolOutput {
    let content = match left.started {
        true => EFFECTS_UNKNOWN,
        false => NOT_RUN,
    };
    ToolOutput {
        call_id: left.call.call_id,
        status: OutputStatus::Interrupted,
        content: content.to_owned(),
        command: None,
    }
}

/// Ends the open turn of a thread, where there is one; `why` is one sentence for a person.
pub(super) fn records(loaded: &Loaded, why: &str) -> Vec<Record> {
    let Some(open) = loaded.open_turn().cloned() else {
        return Vec::new();
    };
    let end = Record::TurnEnded {
        outcome: Box::new(outcome(loaded, &open, why)),
        tokens: None,
    };
    let outputs = open.open_calls.into_iter().map(output);
    let answers = open.open_approvals.iter().map(|approval| {
        let answer = Answer::from(Decision::Deny);
        let by = ResolvedBy::Interrupt;
        Record::ApprovalResolved {
            approval_id: approval.id,
            resolution: Resolution { answer, by },
        }
    });
    outputs
        .map(|output| Record::Item(Item::ToolOutput(output)))
        .chain(answers)
        .chain([end])
        .collect()
}

/// What it had come to as far as that is known, and that it goes no further.
fn outcome(loaded: &Loaded, open: &LoadedTurn, why: &str) -> Outcome {
    let so_far = open.suspended.clone();
    Outcome {
        status: Status::Interrupted,
        error: Some(TurnError {
            kind: TurnErrorKind::Interrupted,
            message: why.to_owned(),
        }),
        approvals: Vec::new(),
        ..so_far.unwrap_or_else(|| unknown(loaded, open))
    }
}

/// The process that ran the turn left nothing of what it came to.
fn unknown(loaded: &Loaded, open: &LoadedTurn) -> Outcome {
    let header = &loaded.header;
    Outcome {
        thread_id: header.thread_id,
        turn_id: open.turn_id,
        status: Status::Interrupted,
        content: String::new(),
        changes: Vec::new(),
        partial_changes: Some("the process that ran the turn was killed".to_owned()),
        not_kept: None,
        commands: Vec::new(),
        approvals: Vec::new(),
        beside: Vec::new(),
        denied: Vec::new(),
        usage: Usage::default(),
        sandbox: SandboxReport {
            policy: header.policy.sandbox,
            network: false,
            by: "unknown".to_owned(),
            missing: Vec::new(),
        },
        worktree: header
            .isolated
            .as_ref()
            .map(|isolated| isolated.worktree.clone()),
        model: header.model.clone(),
        seconds: 0.0,
        error: None,
        next: None,
    }
}
