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
    /// Who set how many there are.
    setting: &'static str,
    free: Arc<Semaphore>,
    /// Those of all, of which these are a share.
    all: Option<Arc<Places>>,
}

/// Held by a turn: of the share first, then of all.
type Held = Vec<OwnedSemaphorePermit>;

impl Places {
    /// `most`: turns at once, above 0.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            setting: "limits.turns_at_once",
            free: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            all: None,
        }
    }

    /// Of these no more than `most` for one tenant: its turns wait behind each other before they wait with the others.
    pub fn share(&self, most: usize) -> Self {
        Self {
            setting: "server.turns_at_once",
            all: Some(Arc::new(self.clone())),
            ..Self::new(most)
        }
    }

    async fn acquire(self) -> Held {
        let mut held = Held::new();
        let mut next = Some(&self);
        while let Some(places) = next {
            // The semaphore is never closed.
            held.extend(places.free.clone().acquire_owned().await.ok());
            next = places.all.as_deref();
        }
        held
    }

    /// Those that none is free of.
    fn short(&self) -> &Self {
        match &self.all {
            Some(all) if self.free.available_permits() > 0 => all.short(),
            _ => self,
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
    held: Mutex<Held>,
    /// The turn is in the row.
    waits: AtomicBool,
}

impl Place {
    /// Returns when the turn has a place. `tell` is told why it takes so long, if it does.
    pub(super) async fn take(&self, tell: impl Fn(String)) {
        if !self.held().is_empty() {
            return;
        }
        let place = self.places.clone().acquire();
        tokio::pin!(place);
        let mut say = interval(SAID_AGAIN);
        say.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                taken = &mut place => {
                    *self.held() = taken;
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
        self.held().clear();
    }

    fn reason(&self) -> String {
        let Places { most, setting, .. } = self.places.short();
        format!("waiting for one of {most} turns to end (`{setting}`)")
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_waits_behind_those_of_its_share_before_it_waits_with_all() {
        let all = Places::new(2);
        let [hers, his] = [all.share(1), all.share(5)];
        let take = async |places: &Places| {
            let place = places.place();
            let told = Mutex::new(String::new());
            let taken = place.take(|why| *told.lock().unwrap() = why);
            let taken = tokio::time::timeout(SAID_AGAIN, taken).await.is_ok();
            (place, taken, told.into_inner().unwrap())
        };
        let (first, taken, _) = take(&hers).await;
        assert!(taken);
        let (_, taken, why) = take(&hers).await;
        assert!(
            !taken && why.contains("one of 1 turns") && why.contains("`server.turns_at_once`"),
            "{why}"
        );
        // Whoever waits in their own row takes nobody's place.
        let (_second, taken, _) = take(&his).await;
        assert!(taken);
        let (_, taken, why) = take(&his).await;
        assert!(
            !taken && why.contains("one of 2 turns") && why.contains("`limits.turns_at_once`"),
            "{why}"
        );
        first.leave();
        assert!(take(&his).await.1);
    }
}
