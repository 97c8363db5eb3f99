//! The tasks extension (SEP-2663): a task is a turn under the protocol's name, served from its thread.
//!
//! Nothing is remembered here: the id of a task is that of its turn, and its thread is found by it for as long as it is
//! kept. Asking for a task counts as following the turn.

use std::time::{Duration, SystemTime};

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CreateTaskResult, DetailedTask, GetTaskResult, InputResponses, JsonObject, Task,
        TaskPayload, TaskStatus,
    },
    service::RequestContext,
};
use serde_json::Value;

use super::{
    arguments::Detail,
    questions::{self, Way},
    result, rounds,
};
use crate::{
    app::App,
    conversation::{Outcome, Status, ThreadId, TurnId},
    thread::{Follow, Standing, ThreadHandle, ThreadsError, rollout::written},
};

/// How often a client should ask, in milliseconds.
const POLL: u64 = 1000;

/// True if a turn that runs on can be told of as a task.
pub(super) fn are_understood(call: &RequestContext<RoleServer>) -> bool {
    let declared = call
        .client_capabilities()
        .is_some_and(|capabilities| capabilities.supports_tasks());
    declared && questions::is_modern(call)
}

/// A turn that runs on.
pub(super) fn created(turn_id: TurnId) -> CreateTaskResult {
    CreateTaskResult::new(task(turn_id, SystemTime::now()))
}

/// A turn as it was at `updated`.
fn task(turn_id: TurnId, updated: SystemTime) -> Task {
    let (made, updated) = (written(turn_id.made_at()), written(updated));
    let status = TaskStatus::Working;
    Task::new(turn_id.to_string(), status, made, updated).with_poll_interval_ms(POLL)
}

/// How the turn stands.
pub(super) async fn get(
    app: &App,
    id: &str,
    park: Duration,
    call: &RequestContext<RoleServer>,
) -> Result<GetTaskResult, ErrorData> {
    let (thread, turn_id) = find(app, id).await?;
    let way = questions::way(call);
    if way != Way::None {
        // It can be asked by what this returns.
        thread.attend().await.map_err(gone)?.linger(park);
    }
    // To ask is to follow: the turn is not given up while somebody does. Another one is none of this task's.
    let standing = thread.standing().await.map_err(gone)?;
    if standing.is_some_and(|open| open.outcome.turn_id == turn_id)
        && let Follow::Nothing = thread.follow().await.map_err(gone)?
    {
        thread.resume().await.map_err(gone)?;
    }
    let (payload, updated) = match thread.outcome_of(turn_id).await.map_err(gone)? {
        Some(outcome) => (ended(&outcome), ended_at(&outcome)),
        None => {
            let standing = thread.standing().await.map_err(gone)?;
            let standing = standing.filter(|open| open.outcome.turn_id == turn_id);
            (open(standing, way), SystemTime::now())
        }
    };
    let task = task(turn_id, updated);
    Ok(GetTaskResult::new(DetailedTask::new(task, payload)))
}

fn ended_at(outcome: &Outcome) -> SystemTime {
    let took = Duration::try_from_secs_f64(outcome.seconds).unwrap_or_default();
    outcome.turn_id.made_at() + took
}

fn ended(outcome: &Outcome) -> TaskPayload {
    if outcome.status == Status::Interrupted {
        return TaskPayload::Cancelled;
    }
    let result = result::outcome(outcome, Detail::Brief, &[], false);
    match serde_json::to_value(result) {
        Ok(Value::Object(result)) => TaskPayload::Completed { result },
        // A result is an object.
        _ => TaskPayload::Failed {
            error: JsonObject::new(),
        },
    }
}

/// A question that only the caller may answer is a result; `openoxide-reply` goes on.
fn open(standing: Option<Standing>, way: Way) -> TaskPayload {
    let Some(Standing {
        outcome, left_open, ..
    }) = standing
    else {
        return TaskPayload::Working;
    };
    match outcome.status {
        Status::ApprovalRequired if left_open => ended(&outcome),
        Status::ApprovalRequired if way != Way::None => TaskPayload::InputRequired {
            input_requests: questions::requests(&outcome.approvals),
        },
        _ => TaskPayload::Working,
    }
}

/// Takes answers to what a task asked.
pub(super) async fn update(
    app: &App,
    id: &str,
    responses: &InputResponses,
) -> Result<(), ErrorData> {
    let (thread, _) = find(app, id).await?;
    let asked: Vec<_> = responses.keys().filter_map(|id| id.parse().ok()).collect();
    rounds::answer(&thread, &asked, responses)
        .await
        .map_err(|error| ErrorData::internal_error(error, None))
}

/// Interrupts the turn.
pub(super) async fn cancel(app: &App, id: &str) -> Result<(), ErrorData> {
    let (thread, turn_id) = find(app, id).await?;
    thread.interrupt(Some(turn_id)).await.map_err(gone)
}

/// The thread of a turn: one of this process, or any that is kept.
async fn find(app: &App, id: &str) -> Result<(ThreadHandle, TurnId), ErrorData> {
    let unknown = || ErrorData::invalid_params(format!("there is no task `{id}`"), None);
    let turn_id: TurnId = id.parse().map_err(|_| unknown())?;
    let thread: ThreadId = app.threads().of_turn(turn_id).await.ok_or_else(unknown)?;
    let thread = app.threads().reach(thread).await;
    let thread = thread.map_err(|error| match error {
        ThreadsError::Judged(_) => unknown(),
        error => gone(error),
    })?;
    app.within_roots(thread.header().directory())
        .map_err(|_| unknown())?;
    Ok((thread, turn_id))
}

fn gone(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}
