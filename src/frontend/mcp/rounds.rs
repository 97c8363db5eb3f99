//! Questions as results, for clients of 2026-07-28: the call ends with what is asked, and the client calls again with
//! the answers and with a sealed state that says of which turn.
//!
//! All questions that are open travel together. Clients give up after ten rounds, so a call has [`MOST`] and then
//! completes with what is open; a reply to the thread goes on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rmcp::{ErrorData, model::InputRequiredResult};
use serde_json::Value;

use super::{
    questions,
    seal::{Seal, State},
};
use crate::{
    conversation::{ApprovalId, Outcome, ResolvedBy},
    thread::ThreadHandle,
};

/// Rounds of one call. The SDKs of Python and TypeScript stop at ten, that of Rust at nine.
pub(super) const MOST: u32 = 8;

/// Where a call is in its rounds.
pub(super) struct Rounds {
    seal: Arc<Seal>,
    /// The call, as it is recognized again.
    call: String,
    /// How long a state opens.
    life: Duration,
    /// Those before.
    done: u32,
}

impl Rounds {
    /// `call` is the call as it is recognized again.
    pub(super) fn of(seal: Arc<Seal>, call: String, life: Duration) -> Self {
        Self {
            seal,
            call,
            life,
            done: 0,
        }
    }

    /// Opens the state of a call that comes again, and takes up the count.
    pub(super) fn again(&mut self, sealed: &str) -> Result<State, ErrorData> {
        let state: State = self.seal.open(sealed, &self.call)?;
        self.done = state.round;
        Ok(state)
    }

    /// The questions that are open, as a result; `None` if there were rounds enough.
    pub(super) fn next(&self, standing: &Outcome) -> Option<InputRequiredResult> {
        if self.done >= MOST {
            return None;
        }
        let state = State {
            thread: standing.thread_id,
            turn: standing.turn_id,
            approvals: standing.approvals.iter().map(|open| open.id).collect(),
            round: self.done + 1,
        };
        let requests = questions::requests(&standing.approvals);
        let sealed = self.seal.close(&state, &self.call, self.life);
        Some(InputRequiredResult::new(Some(requests), Some(sealed)))
    }
}

/// Gives the answers that came to the questions that were asked. Answers to anything else are nobody's; questions
/// without an answer stay open.
pub(super) async fn answer(
    thread: &ThreadHandle,
    asked: &[ApprovalId],
    responses: &BTreeMap<String, Value>,
) -> Result<(), String> {
    let open = thread.subscribe().await;
    let open = open.map_err(|error| error.to_string())?.pending;
    for id in asked {
        let Some(response) = responses.get(&id.to_string()) else {
            continue;
        };
        let form = open.iter().find(|open| open.id == *id);
        let form = form.and_then(|open| open.form.as_deref());
        let told = match questions::understand(response, form) {
            // If somebody else was first, this one has no effect.
            Some(answer) => thread
                .answer(*id, answer, ResolvedBy::Elicitation)
                .await
                .map(drop),
            None => thread.give_up(*id).await,
        };
        told.map_err(|error| error.to_string())?;
    }
    Ok(())
}
