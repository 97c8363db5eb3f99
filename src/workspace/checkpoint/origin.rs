//! Whether a file that a turn brought was there before, where the checkpoint does not look: a command gave it another
//! name, and what stands there now is the only copy.
//!
//! A rename keeps the inode and its time of birth. What was born before the turn, and has an inode that no file of the
//! first look had, came from an ignored place; to take the turn back by deleting it would destroy what the turn did not
//! make.

use std::{cell::OnceCell, collections::HashSet, fs, os::unix::fs::MetadataExt, path::Path};

use super::{
    SLACK,
    kept::nanoseconds,
    scan::{Stat, modified},
    tree::Tree,
};

/// The files of the first look, by device and inode.
#[derive(Default)]
pub(super) struct Known(OnceCell<HashSet<(u64, u64)>>);

impl Known {
    /// True for the only name of a file that is older than `began` and that was not among `before`.
    pub(super) fn lacks(&self, path: &Path, before: &Tree<Stat>, began: i64) -> bool {
        let Ok(about) = fs::symlink_metadata(path) else {
            return false;
        };
        let born = about.created().map(nanoseconds);
        // Some file systems do not tell; then a copy that kept its time counts too, and stays.
        let born = born.unwrap_or_else(|_| modified(&about));
        let known = || {
            let all = before.files().map(|(_, stat)| (stat.device, stat.inode));
            all.collect()
        };
        // Of what has other names, another copy of its content is left; the clock of files is behind ours.
        about.nlink() == 1
            && born < began.saturating_sub(SLACK)
            && !self
                .0
                .get_or_init(known)
                .contains(&(about.dev(), about.ino()))
    }
}

#[cfg(test)]
mod tests {
    use std::{thread::sleep, time::Duration};

    use super::{super::now, *};

    #[test]
    fn what_was_moved_out_of_sight_is_told_from_what_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["secret", "seen", "linked"] {
            fs::write(at(name), name).unwrap();
        }
        let mut before = Tree::default();
        before.insert(&at("seen"), Stat::at(&at("seen")).unwrap());
        sleep(Duration::from_millis(100));
        let began = now();
        fs::rename(at("secret"), at("kept")).unwrap();
        fs::rename(at("seen"), at("moved")).unwrap();
        fs::hard_link(at("linked"), at("other")).unwrap();
        fs::copy(at("kept"), at("copy")).unwrap();
        let known = Known::default();
        for (name, expected) in [
            ("kept", true),
            ("moved", false),
            ("other", false),
            ("copy", false),
            ("nothing", false),
        ] {
            assert_eq!(known.lacks(&at(name), &before, began), expected, "{name}");
        }
    }
}
