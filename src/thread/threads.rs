//! The threads of one process: made, found again, and told to stop at its end.
//!
//! A small map under a lock that nobody awaits under; the threads themselves are actors. One that rests is not in it
//! (`idle`).

use std::{
    sync::{Arc, MutexGuard},
    time::Duration,
};

use super::{
    actor::{Actor, Parts, blank_state},
    handle::ThreadHandle,
    holder,
    idle::{Memory, Open, Remembered},
    rollout::{Header, Loaded, Record},
    store::{Journal, Nowhere, StoreError, ThreadStore},
    writers::Writers,
};
use crate::{
    conversation::{Item, Status, ThreadId, TurnId, Worktree},
    thread::handle::Follow,
};

/// Builds what a thread works with from its header. `app` implements it.
pub trait Assemble: Send + Sync {
    /// The parts of a new or an old thread; the error is one line for a person.
    fn assemble(&self, header: &Header) -> Result<Parts, String>;

    /// Whether a kept thread is for this process at all; the error is one line for a person.
    fn judge(&self, header: &Header) -> Result<(), String>;
}

/// Why a thread cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ThreadsError {
    /// From the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be worked with here: its directory is gone, the policy is too wide.
    #[error("{0}")]
    Assemble(String),
    /// It is not for whoever asks.
    #[error("{0}")]
    Judged(String),
}

/// The threads of one process.
pub struct Threads {
    store: Arc<dyn ThreadStore>,
    assemble: Box<dyn Assemble>,
    memory: Arc<Memory>,
    writers: Writers,
    /// Held while all that is kept is searched: whoever guesses names of turns keeps nobody else from the disk.
    search: tokio::sync::Mutex<()>,
}

impl Threads {
    /// No threads yet. `idle`: how long one that nobody uses stays in memory.
    pub fn new(store: Arc<dyn ThreadStore>, assemble: Box<dyn Assemble>, idle: Duration) -> Self {
        Self {
            store,
            assemble,
            memory: Memory::new(idle),
            writers: Writers::default(),
            search: tokio::sync::Mutex::default(),
        }
    }

    /// Makes a thread and keeps its header.
    pub fn create(&self, header: Header) -> Result<ThreadHandle, ThreadsError> {
        let parts = self
            .assemble
            .assemble(&header)
            .map_err(ThreadsError::Assemble)?;
        let journal = self.place(&header)?;
        Ok(self.keep(blank_state(header), parts, journal))
    }

    /// Makes a thread that begins with `items` of another, as far as each call in them has its output.
    pub fn fork(&self, header: Header, items: &[Item]) -> Result<ThreadHandle, ThreadsError> {
        let parts = self
            .assemble
            .assemble(&header)
            .map_err(ThreadsError::Assemble)?;
        let mut journal = self.place(&header)?;
        let mut state = blank_state(header);
        for item in whole(items) {
            let record = Record::Item(item.clone());
            journal.append(&record).map_err(StoreError::Io)?;
            state.add(record);
        }
        journal.release();
        Ok(self.keep(state, parts, journal))
    }

    /// Where a new thread is kept: nowhere, and saying so, if it cannot be written.
    fn place(&self, header: &Header) -> Result<Box<dyn Journal>, StoreError> {
        match self.store.create(header) {
            Err(StoreError::Io(error)) => Ok(Box::new(Nowhere::because(&error))),
            placed => placed,
        }
    }

    fn keep(&self, state: Loaded, parts: Parts, journal: Box<dyn Journal>) -> ThreadHandle {
        let writers = self.writers.clone();
        let handle = Actor::spawn(state, parts, journal, writers, Remembered::default());
        self.memory.keep(&mut self.open(), &handle);
        handle
    }

    /// The thread of that name, from memory or from the store. Loading starts nothing.
    pub fn find(&self, id: ThreadId) -> Result<ThreadHandle, ThreadsError> {
        let mut open = self.open();
        if let Some(handle) = open.threads.get(&id) {
            return Ok(handle.clone());
        }
        let (loaded, journal) = self.store.open(id)?;
        // What is refused is not in memory for the next who asks.
        self.assemble
            .judge(&loaded.header)
            .map_err(ThreadsError::Judged)?;
        let parts = self
            .assemble
            .assemble(&loaded.header)
            .map_err(ThreadsError::Assemble)?;
        let remembered = open.wake(id, journal.folder().as_deref());
        let handle = Actor::spawn(loaded, parts, journal, self.writers.clone(), remembered);
        self.memory.keep(&mut open, &handle);
        Ok(handle)
    }

    /// The thread of that name with what other processes added to it, or as one that another process works on.
    ///
    /// # Errors
    /// Besides those of [`find`](Self::find), if that process does not answer or is of another version.
    pub async fn reach(&self, id: ThreadId) -> Result<ThreadHandle, ThreadsError> {
        let own = self.find(id)?;
        // The handle keeps its actor; without an answer the process is ending.
        if own.refresh().await.unwrap_or(true) {
            return Ok(own);
        }
        let visit = holder::visit(self.store.clone(), own.header().clone());
        if let Some(far) = visit.await.map_err(StoreError::Io)? {
            return Ok(far);
        }
        // It may have ended its turn just now.
        let _ = own.refresh().await;
        Ok(own)
    }

    /// The copies of directories that threads of this process have to themselves.
    pub fn worktrees(&self) -> Vec<Worktree> {
        self.open().worktrees()
    }

    /// The thread of that name if this process has it in memory. Loads nothing.
    pub fn in_memory(&self, id: ThreadId) -> Option<ThreadHandle> {
        self.open().threads.get(&id).cloned()
    }

    /// The thread that a turn belongs to, if it is known here or kept. Reads every thread that is kept, newest first.
    pub async fn of_turn(&self, turn: TurnId) -> Option<ThreadId> {
        let open: Vec<ThreadHandle> = self.open().threads.values().cloned().collect();
        for thread in open {
            if thread.has(turn).await.unwrap_or(false) {
                return Some(thread.id());
            }
        }
        // Ended by the ends of the searches before.
        let _alone = self.search.lock().await;
        let store = self.store.clone();
        let search = move || {
            let kept = store.ids().unwrap_or_default();
            // Names sort by time, and a thread is older than its turns.
            let older = |id: &ThreadId| id.to_string() < turn.to_string();
            kept.into_iter().filter(older).find(|id| {
                let read = store.read(*id);
                read.is_ok_and(|thread| thread.turns.iter().any(|known| known.turn_id == turn))
            })
        };
        tokio::task::spawn_blocking(search).await.ok().flatten()
    }

    /// How many are in memory.
    pub fn count(&self) -> usize {
        self.open().threads.len()
    }

    /// Where they are kept.
    pub fn store(&self) -> &Arc<dyn ThreadStore> {
        &self.store
    }

    /// Waits until no turn runs that runs now, nor any that was queued behind one. Whoever asked for a turn may never
    /// end it: who waits here sets the deadline.
    pub async fn settled(&self) {
        let handles: Vec<ThreadHandle> = self.open().threads.values().cloned().collect();
        let ended = |handle: ThreadHandle| async move {
            while let Ok(Follow::Running(started)) = handle.follow().await {
                match started.outcome.await {
                    // It waits for its caller, and would say so for ever.
                    Ok(outcome) if outcome.status == Status::ApprovalRequired => return,
                    // Else lost with its thread: then it does not run.
                    _ => {}
                }
            }
        };
        futures_util::future::join_all(handles.into_iter().map(ended)).await;
    }

    /// Lets go of every turn, as [`ThreadHandle::leave`] says, and waits until that is recorded and nothing runs in the
    /// background, at most `grace`.
    pub async fn shut_down(&self, grace: Duration) {
        let handles: Vec<ThreadHandle> = self.open().threads.values().cloned().collect();
        let stopped = futures_util::future::join_all(handles.iter().map(stop));
        // What does not stop in time is found open in the rollout and closed when the thread is next used.
        let _ = tokio::time::timeout(grace, stopped).await;
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.memory.open()
    }
}

/// The longest beginning in which every call has its output.
pub(super) fn whole(items: &[Item]) -> &[Item] {
    let mut open = 0usize;
    let mut end = 0;
    for (at, item) in items.iter().enumerate() {
        match item {
            Item::ToolCall(_) => open += 1,
            Item::ToolOutput(_) => open = open.saturating_sub(1),
            Item::UserMessage { .. }
            | Item::Picture(_)
            | Item::AgentMessage { .. }
            | Item::Reasoning { .. }
            | Item::Compaction { .. } => {}
        }
        // Reasoning goes with what follows it.
        if open == 0 && !matches!(item, Item::Reasoning { .. }) {
            end = at + 1;
        }
    }
    &items[..end]
}

async fn stop(handle: &ThreadHandle) {
    // An error means that there is nothing to end.
    let (_, ()) = tokio::join!(handle.end_sessions(), stop_turns(handle));
}

async fn stop_turns(handle: &ThreadHandle) {
    while let Ok(Follow::Running(started)) = handle.follow().await {
        if handle.leave().await.is_err() || started.outcome.await.is_err() {
            return;
        }
    }
}
