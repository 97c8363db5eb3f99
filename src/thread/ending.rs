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

/// How the name of what is being removed begins; that of no thread does.
const GOING: &str = ".going-";

/// Removes a thread with all that belongs to it.
pub fn delete(store: &DirectoryStore, id: ThreadId) -> Result<(), StoreError> {
    let (loaded, mut journal) = store.open(id)?;
    journal.hold()?;
    remove(store, id)?;
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

/// Under another name first: whoever dies in between leaves no half of a thread.
fn remove(store: &DirectoryStore, id: ThreadId) -> io::Result<()> {
    let folder = store.folder(id);
    let going = folder.with_file_name(format!("{GOING}{id}"));
    fs_err::rename(&folder, &going)?;
    remove_all(&going)
}

/// Somebody else may have removed it, or be at it.
fn remove_all(directory: &Path) -> io::Result<()> {
    match fs_err::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// What somebody began to remove and did not live to end.
fn remove_the_rest(store: &DirectoryStore) {
    let entries = fs::read_dir(store.root()).into_iter().flatten();
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(GOING) {
            // Somebody else may be at it.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
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
    remove_all(&header.cwd)
}

/// Removes the threads that were not used for `age`, and gives how many.
pub fn expire(store: &DirectoryStore, age: Duration) -> Result<usize, StoreError> {
    let mut removed = 0;
    remove_the_rest(store);
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
    Ok(remove_all(&directory_folder(state, cwd))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_died_over_removing_is_removed_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(dir.path().join("threads"));
        let half = store
            .root()
            .join(format!("{GOING}{}", ThreadId::generate()));
        fs_err::create_dir_all(&half).unwrap();
        fs_err::write(half.join("lock"), "").unwrap();
        assert_eq!(store.ids().unwrap(), []);
        assert_eq!(expire(&store, Duration::from_secs(60)).unwrap(), 0);
        assert!(!half.exists());
    }
}
