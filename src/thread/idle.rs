//! The threads that are in memory, and how they leave it: nobody holds one, nothing of it goes on, and it was not used
//! for long. Its next use reads it from disk.
//!
//! A task looks every now and then; it begins with the first thread and ends with the last. A thread is asked whether
//! it rests, and taken out only if nobody got hold of it or asked it for anything since: clones of a handle that only
//! this map has are made under its lock. A command in the background keeps its thread, for an hour at most, since it
//! ends by its own limit. What a rollout does not say, and a thread that rests must not forget, is written beside it.

use std::{
    collections::{HashMap, HashSet},
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::handle::ThreadHandle;
use crate::{
    conversation::{ThreadId, Worktree},
    workspace::seen::Known,
};

/// Between two looks, at most and at least.
const LOOKS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_millis(10));

/// See the top of the file.
pub(super) struct Memory {
    open: Mutex<Open>,
    idle: Duration,
}

/// Nobody awaits under its lock.
#[derive(Default)]
pub(super) struct Open {
    pub(super) threads: HashMap<ThreadId, ThreadHandle>,
    /// Those that this process put to rest, with the copy of a directory that one may have: only it believes what they
    /// remember. It grows as long as the process lives, by 24 bytes a thread, so the copies are behind pointers.
    resting: HashMap<ThreadId, Option<Box<Worktree>>>,
    /// The task runs.
    swept: bool,
}

/// What a thread remembers besides its records, for as long as its process lives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Remembered {
    /// What was approved for the session.
    pub(super) granted: HashSet<String>,
    /// The files that it has seen.
    pub(super) seen: Known,
}

impl Memory {
    /// `idle`: how long a thread that nobody uses stays.
    pub(super) fn new(idle: Duration) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            idle,
        })
    }

    pub(super) fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a thread here until it rests.
    pub(super) fn keep(self: &Arc<Self>, open: &mut Open, thread: &ThreadHandle) {
        open.threads.insert(thread.id(), thread.clone());
        if !std::mem::replace(&mut open.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self), self.idle));
        }
    }

    async fn put_to_rest(&self) {
        let alone: Vec<ThreadHandle> = {
            let open = self.open();
            let threads = open.threads.values();
            threads
                .filter(|thread| thread.holders() == 1)
                .cloned()
                .collect()
        };
        for thread in alone {
            let uses = thread.uses();
            // One that is gone stays in the map, and says so to whoever asks.
            if thread.rest(self.idle).await != Ok(true) {
                continue;
            }
            let mut open = self.open();
            // The map's and ours.
            if thread.holders() == 2 && thread.uses() == uses {
                tracing::debug!(thread = %thread.id(), "leaves memory");
                open.threads.remove(&thread.id());
                open.resting
                    .insert(thread.id(), worktree(&thread).map(Box::new));
            }
        }
    }
}

/// Ends when there are no threads, or the set of them is gone.
async fn sweep(memory: Weak<Memory>, idle: Duration) {
    let (most, least) = LOOKS;
    loop {
        tokio::time::sleep((idle / 4).clamp(least, most)).await;
        let Some(memory) = memory.upgrade() else {
            return;
        };
        memory.put_to_rest().await;
        let mut open = memory.open();
        if open.threads.is_empty() {
            open.swept = false;
            return;
        }
    }
}

fn worktree(thread: &ThreadHandle) -> Option<Worktree> {
    let isolated = thread.header().isolated.as_ref();
    isolated.map(|isolated| isolated.worktree.clone())
}

impl Open {
    /// The copies of directories of all threads, those at rest included.
    pub(super) fn worktrees(&self) -> Vec<Worktree> {
        let here = self.threads.values().filter_map(worktree);
        let resting = self.resting.values().flatten();
        here.chain(resting.map(|copy| Worktree::clone(copy)))
            .collect()
    }

    /// What a thread that is read again remembers.
    pub(super) fn wake(&mut self, id: ThreadId, folder: Option<&Path>) -> Remembered {
        let folder = folder.filter(|_| self.resting.remove(&id).is_some());
        folder.map(Remembered::read).unwrap_or_default()
    }
}

impl Remembered {
    const FILE: &str = "remembered.json";

    /// Puts it into the folder of its thread.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(folder.join(Self::FILE))?;
        file.write_all(&serde_json::to_vec(self)?)
    }

    /// Takes it from there. What cannot be read is forgotten, as with the process.
    fn read(folder: &Path) -> Self {
        let path = folder.join(Self::FILE);
        let read = fs_err::read(&path).ok();
        // It is only ever believed once.
        let _ = fs_err::remove_file(&path);
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }
}
