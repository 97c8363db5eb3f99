//! The commands of a thread that nobody waits for at the moment.
//!
//! Each is watched by a task of its own, so that its output is read and its time-out comes. Whoever looks takes it out
//! and, if it still runs, puts it back. Dropping the sessions ends them all. Their numbers count up and are not used
//! again.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    running::{Exit, Running},
    spare::Spare,
};

/// As many may run at once.
const MOST: usize = 16;

/// The sessions of one thread.
#[derive(Default)]
pub struct Sessions {
    /// Held for a look at a map; nobody awaits under it.
    state: Mutex<State>,
    spare: Spare,
}

#[derive(Default)]
struct State {
    last_id: u64,
    /// Counts uses, to know the oldest.
    uses: u64,
    live: BTreeMap<u64, Session>,
    /// Nothing is kept any more.
    closed: bool,
}

struct Session {
    about: About,
    used: u64,
    started: std::time::Instant,
    /// It was used since [`Sessions::unfinished`] was asked.
    in_use: bool,
    stop: CancellationToken,
    task: AbortOnDropHandle<Running>,
}

/// What is known of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The shell line.
    pub line: String,
    /// Where it started.
    pub workdir: PathBuf,
    /// Outside the sandbox.
    pub free: bool,
}

/// A session that was ended for a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ousted {
    /// Its number.
    pub id: u64,
    /// Its shell line.
    pub line: String,
}

impl Sessions {
    /// Keeps `running` and lets it go on: under the number that it had, or a new one. Where there are as many as there
    /// may be, the one that was not used for longest ends.
    pub fn keep(&self, running: Running, id: Option<u64>, free: bool) -> (u64, Option<Ousted>) {
        let mut state = self.state();
        let oldest = state.live.iter().min_by_key(|(_, session)| session.used);
        let oldest = oldest.map(|(id, _)| *id);
        let ousted = oldest
            .filter(|_| state.live.len() >= MOST)
            .and_then(|id| Some((id, state.live.remove(&id)?)));
        let id = id.unwrap_or(state.last_id + 1);
        state.last_id = state.last_id.max(id);
        state.uses += 1;
        if !state.closed {
            let session = Session::new(running, free, state.uses);
            state.live.insert(id, session);
        }
        let ousted = ousted.map(|(id, session)| Ousted {
            id,
            line: session.about.line,
        });
        (id, ousted)
    }

    /// What the next command may be started with.
    pub fn spare(&self) -> &Spare {
        &self.spare
    }

    /// What is known of a session.
    pub fn about(&self, id: u64) -> Option<About> {
        Some(self.state().live.get(&id)?.about.clone())
    }

    /// The numbers of all, with their shell lines.
    pub fn list(&self) -> Vec<(u64, String)> {
        let state = self.state();
        let live = state.live.iter();
        live.map(|(id, session)| (*id, session.about.line.clone()))
            .collect()
    }

    /// True if one of them has not ended.
    pub fn is_running(&self) -> bool {
        let state = self.state();
        state
            .live
            .values()
            .any(|session| !session.task.is_finished())
    }

    /// Takes one out. None if there is none; dropping the future ends it.
    pub async fn take(&self, id: u64) -> Option<Running> {
        let session = self.state().live.remove(&id)?;
        session.stop().await
    }

    /// Those that were used since this was last asked and have not ended: shell line and seconds so far.
    pub fn unfinished(&self) -> Vec<(String, f64)> {
        let mut state = self.state();
        let mut unfinished = Vec::new();
        for session in state.live.values_mut() {
            if std::mem::take(&mut session.in_use) && !session.task.is_finished() {
                let seconds = session.started.elapsed().as_secs_f64();
                unfinished.push((session.about.line.clone(), seconds));
            }
        }
        unfinished
    }

    /// Ends all, and keeps no others. Returns when nothing is left of them.
    pub async fn end(&self) {
        let all = {
            let mut state = self.state();
            state.closed = true;
            self.spare.dismiss();
            std::mem::take(&mut state.live)
        };
        let ended = all.into_values().map(|session| async {
            if let Some(mut running) = session.stop().await {
                running.end(Exit::Cancelled).await;
            }
        });
        futures_util::future::join_all(ended).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn new(mut running: Running, free: bool, used: u64) -> Self {
        let about = About {
            line: running.line().to_owned(),
            workdir: running.workdir().to_owned(),
            free,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        Self {
            about,
            used,
            started: running.started(),
            in_use: true,
            stop,
            // Ends with the command, when it is taken out, or when the sessions are dropped.
            task: AbortOnDropHandle::new(tokio::spawn(async move {
                running.watch_until(stopped).await;
                running
            })),
        }
    }

    async fn stop(self) -> Option<Running> {
        self.stop.cancel();
        // An error means that the runtime shuts down, which ends the command.
        self.task.await.ok()
    }
}
