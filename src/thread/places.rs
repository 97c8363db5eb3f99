//! How many turns run at once: each takes a place, and those beyond the last wait in a row, first come first served.
//!
//! What ends the wait of a turn: a place, its interrupt, or `limits.park_seconds` in which nobody followed it. A turn
//! whose question takes longer than [`PROMPT`] gives its place up until the answer is there, so thirty questions that
//! nobody answers keep nobody from working. What waits for another turn of this process in any other way (a command or
//! an external server that calls us back) keeps its place, and ends by its own time limit.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{MissedTickBehavior, interval},
};

/// An answer that comes in this time costs its turn no place: it came from a program, or from a strategy.
const PROMPT: Duration = Duration::from_millis(500);

/// How often a turn that waits says so, for those who came later.
const SAID_AGAIN: Duration = Duration::from_secs(10);

/// The places of a process, or of whoever shares it with others. A clone is the same places.
#[derive(Clone, Debug)]
pub struct Places {
    most: usize,
    free: Arc<Semaphore>,
}

impl Places {
    /// `most`: turns at once, above 0.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            free: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// For a turn that has none yet.
    pub(super) fn place(&self) -> Place {
        Place {
            places: self.clone(),
            held: Mutex::default(),
            waits: AtomicBool::new(false),
        }
    }
}

/// The place of one turn. It is free again when this is dropped.
pub(super) struct Place {
    places: Places,
    /// Held for an assignment; nobody awaits under it.
    held: Mutex<Option<OwnedSemaphorePermit>>,
    /// The turn is in the row.
    waits: AtomicBool,
}

impl Place {
    /// Returns when the turn has a place. `tell` is told why it takes so long, if it does.
    pub(super) async fn take(&self, tell: impl Fn(String)) {
        if self.held().is_some() {
            return;
        }
        let place = self.places.free.clone().acquire_owned();
        tokio::pin!(place);
        let mut say = interval(SAID_AGAIN);
        say.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                // The semaphore is never closed.
                taken = &mut place => {
                    *self.held() = taken.ok();
                    self.waits.store(false, Ordering::Relaxed);
                    return;
                }
                _ = say.tick() => {
                    self.waits.store(true, Ordering::Relaxed);
                    tell(self.reason());
                }
            }
        }
    }

    /// Why the turn does not go on, if it waits for a place.
    pub(super) fn wait(&self) -> Option<String> {
        self.waits.load(Ordering::Relaxed).then(|| self.reason())
    }

    /// Waits for `answer`, and gives the place up where that takes long.
    pub(super) async fn while_asking<T>(
        &self,
        answer: impl Future<Output = T>,
        tell: impl Fn(String),
    ) -> T {
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = tokio::time::sleep(PROMPT) => self.leave(),
        }
        let answer = answer.await;
        self.take(tell).await;
        answer
    }

    /// Lets the next one in.
    pub(super) fn leave(&self) {
        *self.held() = None;
    }

    fn reason(&self) -> String {
        let most = self.places.most;
        format!("waiting for one of {most} turns to end (`limits.turns_at_once`)")
    }

    fn held(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
