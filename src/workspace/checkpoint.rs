//! What was in the files before a turn changed them, and so what the turn changed.
//!
//! Only the file tools report here, each before its first write of a path; what commands change is not seen yet.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::{Workspace, edit, file};
use crate::conversation::{Change, ChangeKind};

/// The bytes of each touched file from before; `None` for one that was not there.
///
/// The lock is held for the time of a map operation; nobody awaits under it.
#[derive(Debug, Default)]
pub struct Checkpoint {
    before: Mutex<BTreeMap<PathBuf, Option<Vec<u8>>>>,
}

impl Checkpoint {
    /// Forgets everything: a new turn begins.
    pub fn begin(&self) {
        self.entries().clear();
    }

    /// Keeps `content` as what `real` held before the turn, unless an earlier one is kept already.
    pub fn keep(&self, real: &Path, content: Option<&[u8]>) {
        self.entries()
            .entry(real.to_owned())
            .or_insert_with(|| content.map(<[u8]>::to_vec));
    }

    /// The files that differ from what they were, by path. Reads the disk.
    pub fn changes(&self, workspace: &Workspace) -> Vec<Change> {
        let entries = self.entries().clone();
        entries
            .iter()
            .filter_map(|(real, before)| change(workspace, real, before.as_deref()))
            .collect()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Option<Vec<u8>>>> {
        // A panic while the lock was held leaves a map that is still whole.
        self.before
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn change(workspace: &Workspace, real: &Path, before: Option<&[u8]>) -> Option<Change> {
    // A file that can no longer be read as one (a directory took its place) counts as gone.
    let after = file::read(real).unwrap_or(None);
    let kind = match (before, &after) {
        (None, Some(_)) => ChangeKind::Added,
        (Some(_), None) => ChangeKind::Deleted,
        (Some(before), Some(after)) if before != after.as_slice() => ChangeKind::Modified,
        _ => return None,
    };
    let path = workspace.show(real);
    let diff = edit::unified_diff(&path, before, after.as_deref());
    Some(Change {
        path,
        kind,
        added: diff.added,
        removed: diff.removed,
        diff: diff.text,
    })
}
