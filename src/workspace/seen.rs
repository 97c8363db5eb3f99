//! What the agent has seen of files, to tell it when one is no longer what it was.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A fingerprint of each file's content as the agent last read or wrote it. Forgotten with the process: a resumed
/// thread is not told of what changed before.
///
/// The lock is held for the time of a map operation; nobody awaits under it.
#[derive(Debug, Default)]
pub struct Seen {
    files: Mutex<HashMap<PathBuf, u64>>,
}

impl Seen {
    /// The agent knows `real` as `content` from here on.
    pub fn note(&self, real: &Path, content: &[u8]) {
        self.files().insert(real.to_owned(), fingerprint(content));
    }

    /// True if the agent knew another content of `real`. It is told, so from here on it knows this one.
    pub fn has_changed(&self, real: &Path, content: Option<&[u8]>) -> bool {
        let mut files = self.files();
        let Some(known) = files.remove(real) else {
            return false;
        };
        let now = content.map(fingerprint);
        if let Some(now) = now {
            files.insert(real.to_owned(), now);
        }
        now != Some(known)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<PathBuf, u64>> {
        // A panic while the lock was held leaves a map that is still whole.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fingerprint(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
