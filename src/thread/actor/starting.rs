//! From a wish for a turn to a turn that is open: under the lock, with what another process left open taken up or ended.

use std::{io, sync::Arc, time::Instant};

use tokio::sync::oneshot;

use super::{Actor, Waiter};
use crate::{
    agent::context::History,
    conversation::{Event, Prompt, Status, TurnErrorKind, TurnId},
    thread::{
        handle::{Follow, LEAVING, StartError, Started},
        holder::Door,
        rollout::Record,
        store::{Nowhere, StoreError},
    },
};

/// A turn that somebody wants and has no answer about yet.
pub(super) struct Wanted {
    turn_id: TurnId,
    prompt: Option<Prompt>,
    patience: Instant,
    reply: oneshot::Sender<Result<Started, StartError>>,
}

impl Wanted {
    pub(super) fn new(
        prompt: Option<Prompt>,
        reply: oneshot::Sender<Result<Started, StartError>>,
    ) -> Self {
        Self {
            turn_id: TurnId::generate(),
            prompt,
            patience: Instant::now() + LEAVING,
            reply,
        }
    }

    fn accept(self, turn_id: TurnId, queued: bool) -> Waiter {
        let (waiter, outcome) = oneshot::channel();
        // Whoever wanted it may be gone; the turn runs all the same.
        let _ = self.reply.send(Ok(Started {
            turn_id,
            outcome,
            queued,
        }));
        waiter
    }

    fn refuse(self, error: StartError) {
        // As above.
        let _ = self.reply.send(Err(error));
    }
}

pub(super) struct Queued {
    pub(super) turn_id: TurnId,
    pub(super) prompt: Prompt,
    pub(super) waiter: Waiter,
}

impl Actor {
    /// Starts what is wanted, or puts it behind what runs, or lets it wait for another process that is just leaving.
    pub(super) fn start(&mut self, wanted: Wanted) {
        if self.running.is_some() {
            return self.start_behind(wanted);
        }
        match self.hold() {
            Err(StoreError::Held(_)) if Instant::now() < wanted.patience => {
                self.waiting.push(wanted)
            }
            Err(error) => wanted.refuse(StartError::Storage(error.to_string())),
            Ok(()) => match self.begin(wanted.turn_id, wanted.prompt.clone()) {
                Err(error) => wanted.refuse(error),
                Ok(turn_id) => {
                    let waiter = wanted.accept(turn_id, false);
                    self.run_turn(vec![waiter]);
                }
            },
        }
    }

    fn start_behind(&mut self, wanted: Wanted) {
        match (wanted.prompt.clone(), &mut self.running) {
            (Some(prompt), Some(running)) => {
                // It waits for an answer that nobody is being asked for: going another way ends it.
                if self.approvals.all_left_open() {
                    running.stop.cancel();
                }
                let turn_id = wanted.turn_id;
                let waiter = wanted.accept(turn_id, true);
                self.queue.push_back(Queued {
                    turn_id,
                    prompt,
                    waiter,
                });
            }
            // Somebody resumed it a moment ago: one turn for both.
            (None, Some(running)) => {
                let turn_id = running.turn_id;
                running.waiters.push(wanted.accept(turn_id, false));
                running.deserted = None;
                self.park_if_left_open();
            }
            (_, None) => {}
        }
    }

    pub(super) fn follow(&mut self) -> Follow {
        if let Some(running) = &mut self.running {
            let (waiter, outcome) = oneshot::channel();
            let turn_id = running.turn_id;
            running.waiters.push(waiter);
            running.deserted = None;
            self.park_if_left_open();
            return Follow::Running(Started {
                turn_id,
                outcome,
                queued: false,
            });
        }
        match self.state.last_outcome() {
            Some(outcome) if self.state.open_turn().is_none() => {
                Follow::Ended(Arc::new(outcome.clone()))
            }
            _ => Follow::Nothing,
        }
    }

    pub(super) fn try_again(&mut self) {
        for wanted in std::mem::take(&mut self.waiting) {
            self.start(wanted);
        }
    }

    /// Takes the thread, and what another process added to it.
    pub(super) fn hold(&mut self) -> Result<(), StoreError> {
        match self.journal.hold() {
            Ok(Some(newer)) => {
                self.state = newer;
                self.history = None;
            }
            Ok(None) => {}
            Err(StoreError::Io(error)) if may_not_be_written(&error) => {
                self.journal = Box::new(Nowhere::because(&error));
            }
            Err(error) => return Err(error),
        }
        if self.door.is_none() {
            self.door = self.journal.socket().and_then(|socket| {
                // Without it the turn runs all the same; only other processes cannot reach it.
                Door::open(socket, self.own.clone())
                    .inspect_err(|error| {
                        tracing::warn!("other processes cannot reach the thread: {error}")
                    })
                    .ok()
            });
        }
        Ok(())
    }

    /// Takes up what other processes added to the thread, without holding it. True if a turn runs here.
    pub(super) fn refresh(&mut self) -> bool {
        // What cannot be read now is read, or refused, when the thread is held.
        if self.running.is_none()
            && let Ok(Some(newer)) = self.journal.newer()
        {
            self.state = newer;
            self.history = None;
        }
        self.running.is_some()
    }

    /// Gives the thread back.
    pub(super) fn release(&mut self) {
        self.door = None;
        self.journal.release();
    }

    /// Opens a turn under the lock, or gives the lock back.
    pub(super) fn begin(
        &mut self,
        turn_id: TurnId,
        prompt: Option<Prompt>,
    ) -> Result<TurnId, StartError> {
        let begun = match prompt {
            Some(prompt) => self.begin_with(turn_id, prompt),
            None => self.begin_again(turn_id),
        };
        if begun.is_err() {
            self.release();
        }
        begun
    }

    /// A new message first ends what was open.
    fn begin_with(&mut self, turn_id: TurnId, prompt: Prompt) -> Result<TurnId, StartError> {
        self.end_open_turn();
        self.open_turn(turn_id, None)?;
        let mut history = self.take_history();
        for item in prompt.items() {
            self.record(item.clone()).map_err(StartError::Storage)?;
            history.extend(&[item]);
        }
        self.history = Some(history);
        Ok(turn_id)
    }

    /// Without a message, what was open goes on; else the last turn, if it did not complete, in a new one.
    fn begin_again(&mut self, turn_id: TurnId) -> Result<TurnId, StartError> {
        if let Some(open) = self.state.open_turn() {
            let turn_id = open.turn_id;
            self.publish(Event::TurnStarted { turn_id });
            return Ok(turn_id);
        }
        let resumes = self.resumable().ok_or(StartError::NothingToResume)?;
        self.open_turn(turn_id, Some(resumes))?;
        Ok(turn_id)
    }

    fn open_turn(&mut self, turn_id: TurnId, resumes: Option<TurnId>) -> Result<(), StartError> {
        self.append(Record::TurnStarted { turn_id, resumes })
            .map_err(|error| StartError::Storage(error.to_string()))?;
        self.publish(Event::TurnStarted { turn_id });
        if let Some(message) = self.journal.not_kept() {
            self.publish(Event::Warning { message });
        }
        Ok(())
    }

    /// The last turn, if it ended and did not complete.
    fn resumable(&self) -> Option<TurnId> {
        let last = self.state.turns.last()?;
        let outcome = last.outcome.as_ref()?;
        (outcome.status != Status::Completed).then_some(last.turn_id)
    }

    pub(super) fn take_history(&mut self) -> History {
        self.history.take().unwrap_or_else(|| {
            History::new(
                self.parts.model.clone(),
                &self.state.header.context,
                &self.state.items,
                self.state.counted,
            )
        })
    }

    /// Starts what waits behind the turn that ended.
    pub(super) fn start_queued(&mut self) {
        while self.running.is_none()
            && let Some(Queued {
                turn_id,
                prompt,
                waiter,
            }) = self.queue.pop_front()
        {
            let begun = match self.hold() {
                Ok(()) => self.begin(turn_id, Some(prompt)),
                Err(error) => Err(StartError::Storage(error.to_string())),
            };
            match begun {
                Ok(_) => self.run_turn(vec![waiter]),
                Err(error) => {
                    let outcome = self.failed(turn_id, TurnErrorKind::Storage, &error.to_string());
                    // Whoever waited may be gone.
                    let _ = waiter.send(Arc::new(outcome));
                }
            }
        }
    }
}

/// True where it will stay so. On a full disk there may be room again, and the turn is better refused than forgotten.
fn may_not_be_written(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}
