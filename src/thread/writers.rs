//! Which threads of this process are at work in which directory, so that each can be told of the others.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::conversation::ThreadId;

/// Who writes where. The lock is held for a map operation; nobody awaits under it.
#[derive(Clone, Debug, Default)]
pub(super) struct Writers(Arc<Mutex<BTreeMap<ThreadId, PathBuf>>>);

/// A thread at work. Dropping it ends that.
#[derive(Debug)]
pub(super) struct AtWork {
    all: Writers,
    thread: ThreadId,
}

impl Writers {
    /// Enters `thread` as at work in `cwd`, and gives those that are already.
    pub(super) fn enter(&self, thread: ThreadId, cwd: &Path) -> (AtWork, Vec<ThreadId>) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = map
            .iter()
            .filter(|(other, at)| **other != thread && *at == cwd)
            .map(|(other, _)| *other)
            .collect();
        map.insert(thread, cwd.to_owned());
        let all = self.clone();
        (AtWork { all, thread }, others)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut map = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.remove(&self.thread);
    }
}
