//! What lies in the writable roots that needs care: repositories at any depth, and sockets.
//!
//! The walk is bounded, shallow directories first, and says when it was cut. It follows no symlinks and does not go into
//! what it has found.

use std::{
    collections::VecDeque,
    fs::FileType,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Entries of directories in one root.
const MOST_ENTRIES: usize = 300_000;
/// For one root; most take a few milliseconds.
const LONGEST: Duration = Duration::from_millis(500);

/// Each costs a handful of mounts for every command.
const MOST_REPOSITORIES: usize = 200;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Directories with a `.git` in them, and bare repositories.
    pub(super) repositories: Vec<Found>,
    /// Sockets, whoever made them.
    pub(super) sockets: Vec<PathBuf>,
    /// There is more than was looked at.
    pub(super) cut: bool,
}

/// A repository as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) top: PathBuf,
    /// Of its `.git`: what stands at the same place may be another.
    inode: u64,
}

impl Found {
    fn at(top: PathBuf) -> Self {
        let dot_git = top.join(".git").symlink_metadata();
        let about = dot_git.or_else(|_| top.symlink_metadata());
        let inode = about.map_or(0, |about| about.ino());
        Self { top, inode }
    }

    /// As if it had been found below another directory.
    #[cfg(test)]
    pub(super) fn moved(self, from: &Path, to: &Path) -> Self {
        let top = to.join(self.top.strip_prefix(from).unwrap());
        Self { top, ..self }
    }
}

impl Survey {
    /// Looks through `roots`, except for what is `closed`.
    pub(super) fn of(roots: &[PathBuf], closed: &[PathBuf]) -> Self {
        let mut survey = Self::default();
        for root in roots {
            survey.walk(root, closed, Instant::now() + LONGEST);
        }
        // The deepest are the last.
        survey.cut |= survey.repositories.len() > MOST_REPOSITORIES;
        survey.repositories.truncate(MOST_REPOSITORIES);
        survey
    }

    fn walk(&mut self, root: &Path, closed: &[PathBuf], until: Instant) {
        let mut left = MOST_ENTRIES;
        let mut next = VecDeque::from([root.to_owned()]);
        while let Some(directory) = next.pop_front() {
            if left == 0 || Instant::now() > until {
                self.cut = true;
                return;
            }
            let mut seen = Seen::default();
            let entries = std::fs::read_dir(&directory).into_iter().flatten();
            for entry in entries.flatten().take(left) {
                left -= 1;
                let (Ok(kind), name) = (entry.file_type(), entry.file_name()) else {
                    continue;
                };
                seen.note(&name, kind);
                if kind.is_socket() {
                    self.sockets.push(entry.path());
                } else if kind.is_dir() && name != ".git" {
                    seen.directories.push(entry.path());
                }
            }
            if seen.git || seen.is_bare() {
                self.repositories.push(Found::at(directory));
            }
            if !seen.is_bare() {
                let inside = seen.directories.into_iter();
                next.extend(inside.filter(|inside| !closed.contains(inside)));
            }
        }
    }
}

/// What of a repository is in one directory.
#[derive(Default)]
struct Seen {
    git: bool,
    head: bool,
    objects: bool,
    refs: bool,
    directories: Vec<PathBuf>,
}

impl Seen {
    fn note(&mut self, name: &std::ffi::OsStr, kind: FileType) {
        match name.to_str() {
            Some(".git") => self.git = true,
            Some("HEAD") => self.head = !kind.is_dir(),
            Some("objects") => self.objects = !kind.is_file(),
            Some("refs") => self.refs = !kind.is_file(),
            _ => {}
        }
    }

    fn is_bare(&self) -> bool {
        self.head && self.objects && self.refs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_found_at_any_depth_and_nothing_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a/b/c/d/.git", "bare/objects", "bare/refs", "bare/x/.git"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        for name in ["bare/HEAD", "a/.git", "closed/.git", "objects"] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "").unwrap();
        }
        std::os::unix::fs::symlink("..", at("a/loop")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("a/b/s")).unwrap();
        let found = Survey::of(&[dir.path().to_owned()], &[at("closed")]);
        let mut tops: Vec<_> = found.repositories.iter().map(|found| &found.top).collect();
        tops.sort();
        assert_eq!(tops, [&at("a"), &at("a/b/c/d"), &at("bare")]);
        assert_eq!(found.sockets, [at("a/b/s")]);
        assert!(!found.cut);
    }

    #[test]
    fn a_walk_that_takes_too_long_says_that_it_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let mut survey = Survey::default();
        survey.walk(dir.path(), &[], Instant::now() - Duration::from_secs(1));
        assert!(survey.cut);
    }
}
