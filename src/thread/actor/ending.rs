//! The end of a turn, and what is less than one: a turn that is let go of with its question, to be taken up later.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{Actor, running::measured};
use crate::{
    agent::context::History,
    conversation::{
        Decision, Event, Item, Outcome, ResolvedBy, Status, TurnError, TurnErrorKind, TurnId,
        WhenUnattended,
    },
    thread::{closing, handle::Abandoned, rollout::Record},
    workspace::checkpoint::Measured,
};

/// How long measuring may hold up the end of the process.
const MEASURED: Duration = Duration::from_millis(500);

impl Actor {
    pub(super) async fn end(&mut self, outcome: Outcome) {
        let Some(running) = self.running.take() else {
            return;
        };
        self.messages = None;
        self.forgone.clear();
        // Nothing of the turn runs on, also when it broke down.
        running.stop.cancel();
        // A record may have failed in mid-turn.
        self.close_what_is_open();
        self.approvals.forget();
        let outcome = self.finish(outcome).await;
        for waiter in running.waiters {
            // A caller that went away is not told; the outcome is in the rollout.
            let _ = waiter.send(outcome.clone());
        }
        self.start_queued();
    }

    /// Records the outcome; if that fails, the outcome says so instead of claiming what is not kept.
    async fn finish(&mut self, outcome: Outcome) -> Arc<Outcome> {
        let mut outcome = outcome;
        let recorded = self.append(Record::TurnEnded {
            outcome: Box::new(outcome.clone()),
            tokens: self.history.as_ref().and_then(History::counted),
        });
        let synced = self.journal.sync().await;
        if let Err(error) = recorded.and(synced) {
            let message = format!("the end of the turn could not be recorded: {error}");
            outcome.status = Status::Failed;
            outcome.error = Some(TurnError {
                kind: TurnErrorKind::Storage,
                message,
            });
        }
        if self.queue.is_empty() {
            self.release();
        }
        self.publish(Event::TurnCompleted {
            outcome: Box::new(outcome.clone()),
        });
        Arc::new(outcome)
    }

    /// Gives every call of the open turn its output, so that each call has exactly one, and ends its questions.
    fn close_what_is_open(&mut self) {
        let Some(open) = self.state.open_turn().cloned() else {
            return;
        };
        if !open.open_calls.is_empty() {
            // What was encoded does not have the outputs that follow.
            self.history = None;
        }
        for left in open.open_calls {
            // If this cannot be written, nor can what follows, and that is reported.
            let _ = self.record(Item::ToolOutput(closing::output(left)));
        }
        for approval in open.open_approvals {
            self.resolve(approval.id, Decision::Deny.into(), ResolvedBy::Interrupt);
        }
    }

    /// Ends a turn that another process, or this one, left open.
    pub(super) fn end_open_turn(&mut self) {
        if self.state.open_turn().is_none() {
            return;
        }
        self.close_what_is_open();
        if let Some(outcome) = self.overtaken() {
            let outcome = Box::new(outcome);
            // As above.
            let _ = self.append(Record::TurnEnded {
                outcome: outcome.clone(),
                tokens: None,
            });
            self.publish(Event::TurnCompleted { outcome });
        }
    }

    // Letting go.

    /// Nobody has followed the turn for `limits.park_seconds`.
    pub(super) async fn nobody_came_back(&mut self) {
        if self.may_suspend() {
            self.suspend().await;
        } else if let Some(running) = &self.running {
            running.stop.cancel();
        }
    }

    /// True if the turn waits for an answer that may come later.
    pub(super) fn may_suspend(&self) -> bool {
        let waiting = self.approvals.waiting();
        // A call that an external server has begun cannot be taken up again.
        let begun = waiting.iter().any(|id| self.approvals.is_for_a_person(*id));
        !waiting.is_empty()
            && !begun
            && !self.is_stopping()
            && self.queue.is_empty()
            && self.parts.when_unattended != WhenUnattended::Deny
    }

    /// The turn was told to stop, and will say that it has: whoever did that wants no question left open.
    fn is_stopping(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.stop.is_cancelled())
    }

    /// Lets go of a turn and leaves it as it is: its call stays open, and so does its question.
    pub(super) async fn suspend(&mut self) {
        let Some(begun) = self.running.as_ref().map(|running| running.begun.clone()) else {
            return;
        };
        let workspace = self.parts.gate.workspace.clone();
        let measured = measured(workspace.clone(), begun.clone());
        let measured = tokio::time::timeout(MEASURED, measured).await;
        let so_far = self.so_far(measured.unwrap_or_else(|_| in_no_time()));
        workspace.checkpoint().forget(&begun);
        let Some(running) = self.running.take() else {
            return;
        };
        // From here on the turn reaches nobody: it records nothing, and so it runs nothing.
        self.messages = None;
        running.stop.cancel();
        self.approvals.forget();
        self.forgone.clear();
        self.history = None;
        // Without this record the turn is open all the same, and only forgets what it had come to.
        let _ = self.append(Record::TurnSuspended {
            outcome: Box::new(so_far.clone()),
            spent: running.tally.spent,
        });
        let _ = self.journal.sync().await;
        self.release();
        let outcome = Arc::new(so_far);
        for waiter in running.waiters {
            // As in `end`.
            let _ = waiter.send(outcome.clone());
        }
    }

    /// The process ends: a turn that waits for an answer keeps its question, any other is interrupted.
    pub(super) async fn leave(&mut self) {
        if self.approvals.waiting().is_empty()
            || self.parts.when_unattended == WhenUnattended::Deny
            || self.is_stopping()
        {
            return self.interrupt(None);
        }
        for queued in std::mem::take(&mut self.queue) {
            let outcome = self.withdrawn(queued.turn_id);
            let _ = queued.waiter.send(Arc::new(outcome));
        }
        self.suspend().await;
    }

    /// What the turn came to is told to those who follow it: it waits for the caller.
    pub(super) fn parked(&mut self, measured: Measured) {
        if !self.approvals.all_left_open() {
            return;
        }
        let outcome = Arc::new(self.so_far(measured));
        // One that was told to stop has an end for them soon.
        if let Some(running) = &mut self.running
            && !running.stop.is_cancelled()
        {
            for waiter in std::mem::take(&mut running.waiters) {
                // As in `end`.
                let _ = waiter.send(outcome.clone());
            }
        }
    }

    // Stopping.

    pub(super) fn interrupt(&mut self, turn_id: Option<TurnId>) {
        let queued = self
            .queue
            .iter()
            .position(|queued| Some(queued.turn_id) == turn_id);
        if let Some(queued) = queued.and_then(|at| self.queue.remove(at)) {
            let outcome = self.withdrawn(queued.turn_id);
            // Whoever withdrew the prompt may not wait for its end.
            let _ = queued.waiter.send(Arc::new(outcome));
            return;
        }
        if let Some(running) = &self.running
            && turn_id.is_none_or(|turn_id| turn_id == running.turn_id)
        {
            running.stop.cancel();
        }
    }

    /// One who followed the turn wants it no more: stops it, unless others follow it too.
    pub(super) fn abandon(&mut self, turn_id: TurnId) -> Abandoned {
        match &mut self.running {
            Some(running) if running.turn_id == turn_id && running.is_deserted() => {
                let (waiter, outcome) = oneshot::channel();
                running.waiters.push(waiter);
                running.stop.cancel();
                Abandoned::Stopped(outcome)
            }
            Some(running) if running.turn_id == turn_id => Abandoned::ToOthers,
            _ => {
                self.interrupt(Some(turn_id));
                Abandoned::Over
            }
        }
    }
}

fn in_no_time() -> Measured {
    Measured {
        partial: Some(
            "what was changed could not be found out before the turn was let go of".to_owned(),
        ),
        ..Measured::default()
    }
}
