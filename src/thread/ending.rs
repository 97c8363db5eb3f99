//! The end of threads on disk: deleted by hand, or because nobody went on with them for long.
//!
//! With the last thread of a directory goes what we knew of the directory. A thread that another process works on is
//! never removed: it is done under the thread's lock.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{
    rollout::Header,
    store::{DirectoryStore, StoreError, ThreadStore},
};
use crate::{
    conversation::ThreadId,
    workspace::{checkpoint::directory_folder, worktree},
};

/// Removes a thread with all that belongs to it.
pub fn delete(store: &DirectoryStore, id: ThreadId) -> Result<(), StoreError> {
    let (loaded, mut journal) = store.open(id)?;
    journal.hold()?;
    fs_err::remove_dir_all(store.folder(id))?;
    let mut others = store
        .ids()?
        .into_iter()
        .filter_map(|id| store.ends(id).ok());
    if others.any(|other| other.header.cwd == loaded.header.cwd) {
        return Ok(());
    }
    if let Some(isolated) = &loaded.header.isolated {
        // What came of it is the user's; a worktree that cannot be looked through stays.
        let _ = worktree::remove_if_unused(&isolated.worktree, &[]);
    }
    if loaded.header.own_directory {
        remove_own_directory(&loaded.header)?;
    }
    forget_directory(store, &loaded.header.cwd)
}

/// A directory that was made for a thread goes with it: it is named after the thread, or after the one it was forked
/// from, and nothing else is ever removed.
fn remove_own_directory(header: &Header) -> io::Result<()> {
    let name = header.cwd.file_name().and_then(|name| name.to_str());
    if name
        .and_then(|name| name.parse::<ThreadId>().ok())
        .is_none()
    {
        return Ok(());
    }
    match fs_err::remove_dir_all(&header.cwd) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the threads that were not used for `age`, and gives how many.
pub fn expire(store: &DirectoryStore, age: Duration) -> Result<usize, StoreError> {
    let mut removed = 0;
    for id in store.ids()? {
        // One that is in use, or cannot be read, stays.
        if unused_for(&store.folder(id), age) && delete(store, id).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

fn unused_for(folder: &Path, age: Duration) -> bool {
    let used = fs::metadata(folder.join("rollout.jsonl")).and_then(|about| about.modified());
    used.is_ok_and(|used| {
        SystemTime::now()
            .duration_since(used)
            .is_ok_and(|since| since > age)
    })
}

fn forget_directory(store: &DirectoryStore, cwd: &Path) -> Result<(), StoreError> {
    let Some(state) = store.state() else {
        return Ok(());
    };
    match fs_err::remove_dir_all(directory_folder(state, cwd)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
