//! From what a call wants of a thread to a turn that it can follow, or to an outcome that is there already.

use std::sync::Arc;

use rmcp::model::CallToolResult;

use super::{
    arguments::{Detail, GivenDecision},
    result,
};
use crate::{
    conversation::{Answer, Outcome, Prompt, Status, TurnId},
    thread::{Follow, Started, ThreadHandle},
};

/// What came of understanding a call: a turn to follow, or a result at once.
pub(super) enum Found {
    Turn {
        started: Started,
        remark: Option<&'static str>,
    },
    Result {
        turn_id: TurnId,
        result: Box<CallToolResult>,
    },
}

impl Found {
    fn turn(started: Started) -> Self {
        Self::Turn {
            started,
            remark: None,
        }
    }

    fn outcome(outcome: &Outcome, detail: Detail) -> Self {
        Self::result(outcome, detail, "this turn had ended before")
    }

    fn result(outcome: &Outcome, detail: Detail, remark: &str) -> Self {
        let remarks = [remark.to_owned()];
        Self::Result {
            turn_id: outcome.turn_id,
            result: Box::new(result::outcome(outcome, detail, &remarks, false)),
        }
    }
}

/// Starts a turn with `message`, or goes on without one.
pub(super) async fn begin_or_go_on(
    thread: &ThreadHandle,
    message: Option<Prompt>,
    detail: Detail,
) -> Result<Found, String> {
    match message {
        Some(message) => thread
            .start(message)
            .await
            .map(Found::turn)
            .map_err(|error| error.to_string()),
        None => go_on(thread, detail).await,
    }
}

/// Waits for the running turn, goes on with one that was left open or interrupted, or gives the last outcome again.
async fn go_on(thread: &ThreadHandle, detail: Detail) -> Result<Found, String> {
    match thread.follow().await.map_err(said)? {
        Follow::Running(started) => return Ok(Found::turn(started)),
        Follow::Ended(outcome) if outcome.status != Status::Interrupted => {
            return Ok(Found::outcome(&outcome, detail));
        }
        Follow::Ended(_) | Follow::Nothing => {}
    }
    Ok(Found::Turn {
        started: thread.resume().await.map_err(said)?,
        remark: Some("resumed: the turn before was cut short"),
    })
}

/// The turn of that name: running, left open, or ended. `None` if the thread does not know it.
pub(super) async fn named(
    thread: &ThreadHandle,
    turn_id: TurnId,
    detail: Detail,
) -> Result<Option<Found>, String> {
    match thread.follow().await.map_err(said)? {
        Follow::Running(started) if started.turn_id == turn_id => {
            return Ok(Some(Found::turn(started)));
        }
        Follow::Running(_) | Follow::Ended(_) | Follow::Nothing => {}
    }
    if let Some(outcome) = thread.outcome_of(turn_id).await.map_err(said)? {
        return Ok(Some(Found::outcome(&outcome, detail)));
    }
    let standing = thread.standing().await.map_err(said)?;
    if standing.is_none_or(|standing| standing.outcome.turn_id != turn_id) {
        return Ok(None);
    }
    let started = thread.resume().await.map_err(said)?;
    Ok((started.turn_id == turn_id).then(|| Found::turn(started)))
}

/// Interrupts the running turn and waits for its end; `None` if no turn runs.
pub(super) async fn stop(thread: &ThreadHandle) -> Result<Option<Arc<Outcome>>, String> {
    let Follow::Running(started) = thread.follow().await.map_err(said)? else {
        return Ok(None);
    };
    let turn_id = started.turn_id;
    thread.interrupt(Some(turn_id)).await.map_err(said)?;
    // If the thread is lost, what comes next says so.
    Ok(started.outcome.await.ok())
}

/// What a call that only stops a turn is told.
pub(super) fn stopped(outcome: &Outcome, detail: Detail) -> Found {
    Found::result(outcome, detail, "stopped as this call asked")
}

/// The turn that the caller has just told to end, while it does, or its outcome: it was not cut short, so it is not
/// resumed.
pub(super) async fn aborted(thread: &ThreadHandle, detail: Detail) -> Result<Found, String> {
    match thread.follow().await.map_err(said)? {
        Follow::Running(started) => Ok(Found::turn(started)),
        Follow::Ended(outcome) => Ok(stopped(&outcome, detail)),
        Follow::Nothing => go_on(thread, detail).await,
    }
}

/// What the calling model decides.
pub(super) async fn decide(thread: &ThreadHandle, given: GivenDecision) -> Result<(), String> {
    let answer = Answer {
        note: given.note,
        ..Answer::from(given.decision)
    };
    let decided = thread.decide(given.approval_id, answer).await;
    decided.map_err(|error| format!("argument `decision`: {error}"))
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
