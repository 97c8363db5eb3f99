//! Calls whose result never reached their caller: when the same is asked again, the turn that is there is followed
//! instead of starting a second.
//!
//! A memory of this process, since the caller is: whoever starts another server is another caller. It is small; what is
//! forgotten costs a turn at most.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::conversation::{ThreadId, TurnId};

/// How long after its end a turn is still an answer.
pub(super) const FRESH: Duration = Duration::from_secs(600);
/// Calls that are remembered.
const MOST: usize = 256;

/// The calls. The lock is held for a look; nobody awaits under it.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<VecDeque<One>>);

/// One call and its turn.
#[derive(Clone, Debug)]
pub(super) struct One {
    /// The call, as it is recognized again.
    pub(super) call: String,
    pub(super) thread: ThreadId,
    pub(super) turn: TurnId,
    /// When the turn began.
    pub(super) began: Instant,
    /// The client gave up on the call.
    pub(super) given_up: bool,
}

impl Asked {
    /// Remembers a call.
    pub(super) fn note(&self, call: String, thread: ThreadId, turn: TurnId) {
        let mut all = self.all();
        all.push_back(One {
            call,
            thread,
            turn,
            began: Instant::now(),
            given_up: false,
        });
        if all.len() > MOST {
            all.pop_front();
        }
    }

    /// The newest call like this one whose result was not delivered.
    pub(super) fn like(&self, call: &str) -> Option<One> {
        let all = self.all();
        all.iter().rev().find(|one| one.call == call).cloned()
    }

    /// The client gave up on calls of this turn.
    pub(super) fn given_up(&self, turn: TurnId) {
        for one in self.all().iter_mut().filter(|one| one.turn == turn) {
            one.given_up = true;
        }
    }

    /// What the turn came to has reached its caller, or it has been stopped.
    pub(super) fn settled(&self, turn: TurnId) {
        self.all().retain(|one| one.turn != turn);
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<One>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
