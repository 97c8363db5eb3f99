//! Files of rules as `.gitignore` is one, and how many lines of them are taken in.
//!
//! A rule takes some hundred times its bytes of memory when it is ready to be matched, so what a directory brings along
//! is counted for a whole walk.

use std::{
    os::fd::AsFd,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::workspace::given::{self, LARGEST_RULES, Links};

/// Lines of rules in one walk; large repositories have some thousand. What comes after them holds nothing back.
const MOST_LINES: usize = 100_000;

/// What one walk may still take in.
pub(in crate::workspace) struct Room(AtomicUsize);

impl Default for Room {
    fn default() -> Self {
        Self(AtomicUsize::new(MOST_LINES))
    }
}

impl Room {
    /// The rules in `file`, seen from `at`, for what is below `directory`. Lines that are no rules are passed over, as
    /// git does. None where there is no regular file, or no room.
    pub(in crate::workspace) fn rules(
        &self,
        directory: &Path,
        at: impl AsFd,
        file: &Path,
        links: Links,
    ) -> Option<Gitignore> {
        let text = given::read(at, file, links, LARGEST_RULES).ok()?;
        let text = String::from_utf8_lossy(&text);
        let take = |left: usize| left.checked_sub(text.lines().count());
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .ok()?;
        let mut builder = GitignoreBuilder::new(directory);
        for line in text.lines() {
            let _ = builder.add_line(None, line);
        }
        builder.build().ok()
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn a_walk_takes_in_so_many_rules_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".gitignore");
        std::fs::write(&file, "a\n".repeat(10)).unwrap();
        let room = Room(AtomicUsize::new(25));
        let rules = || room.rules(dir.path(), CWD, &file, Links::Refused);
        assert!(rules().is_some() && rules().is_some());
        assert!(rules().is_none());
        std::fs::write(&file, "a\n".repeat(5)).unwrap();
        assert_eq!(rules().unwrap().len(), 5, "what still fits");
    }
}
