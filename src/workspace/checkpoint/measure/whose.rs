//! Whose change a difference was: this thread's, or that of somebody else who works in the same directory.

use std::path::{Path, PathBuf};

use super::Measure;
use crate::{
    conversation::By,
    workspace::checkpoint::{
        contents::ContentId,
        ran_at,
        scan::{Stat, modified},
    },
};

impl Measure<'_> {
    /// None: this thread. A file is its own if its file tool left what is there, or if it changed while one of its
    /// commands ran and no other thread had a hand in it.
    pub(super) fn by(
        &self,
        path: &Path,
        stat: Option<&Stat>,
        content: Option<&ContentId>,
    ) -> Option<By> {
        if let Some(wrote) = self.deeds.wrote.get(path)
            && Some(&wrote.after) == content
        {
            return None;
        }
        let earlier = self.earlier.get(path);
        if let Some(entry) = earlier.filter(|entry| entry.after.content() == content) {
            return entry.by;
        }
        let wrote = self.deeds.wrote.contains_key(path) || earlier.is_some();
        let own_run = match stat {
            Some(stat) => ran_at(self.runs, stat.changed),
            None => self.may_have_taken(path),
        };
        let moment = stat.map_or_else(|| last_change_around(path).1, |stat| stat.changed);
        if self.others.left(path, content) {
            return Some(if wrote { By::Unsure } else { By::Other });
        }
        match (own_run, self.others.ran_at(moment, path)) {
            (true, false) if self.others.touched(path) => Some(By::Unsure),
            (true, false) => None,
            (true, true) => Some(By::Unsure),
            (false, _) if wrote => Some(By::Unsure),
            // Its directory was used again, so when it went is not known.
            (false, _) if stat.is_none() && self.ran => Some(By::Unsure),
            (false, _) => Some(By::Other),
        }
    }

    /// A directory tells only when the last thing was done in it; that may have been one of our own file tools, after
    /// a command took `path` away.
    fn may_have_taken(&self, path: &Path) -> bool {
        let (directory, moment) = last_change_around(path);
        let mut wrote = self.deeds.wrote.keys();
        let tool = wrote.any(|wrote| wrote.parent() == Some(&directory));
        ran_at(self.runs, moment) || (self.ran && tool)
    }
}

/// The directory that is left of those above `path`, and when an entry of it last came or went.
pub(in crate::workspace::checkpoint) fn last_change_around(path: &Path) -> (PathBuf, i64) {
    let existing = path.ancestors().skip(1).find_map(|directory| {
        let about = std::fs::symlink_metadata(directory).ok()?;
        Some((directory.to_owned(), modified(&about)))
    });
    existing.unwrap_or_default()
}
