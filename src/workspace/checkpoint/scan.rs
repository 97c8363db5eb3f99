//! What is in a directory at one moment: each file with what the file system says of it. Contents are not read.
//!
//! The walk is ours and not that of `search`, since its rules outlive it: what a directory's `.gitignore` said when the
//! turn began also holds for the look at its end. Hidden files count, `.git` never does, symbolic links are entries and
//! not roads. Several threads take directories from one queue; all end when it is empty, or at the deadline. Each file
//! costs one `stat` by its name in the open directory, and no path is put together for it.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use ignore::gitignore::Gitignore;
use rustix::fs::{AtFlags, CWD, Dir, DirEntry, FileType, Mode, OFlags, openat, statat};

use super::{git::Index, tree::Tree};
use crate::workspace::{file::is_on_its_way, given::Links, search::Room};

/// More walk side by side only where there are as many processors.
const MOST_WALKERS: usize = 8;

const SECOND: i64 = 1_000_000_000;

/// What the file system says of a file. If two of them are equal, so were the contents in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) link: bool,
    /// Permissions only.
    pub(super) mode: u32,
    /// Bytes.
    pub(super) size: u64,
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i64,
    /// Nanoseconds since 1970; no program can set it.
    pub(super) changed: i64,
}

impl Stat {
    /// None for what is neither a regular file nor a symbolic link.
    pub(super) fn of(about: &Metadata) -> Option<Self> {
        let kind = about.file_type();
        (kind.is_file() || kind.is_symlink()).then(|| Self {
            link: kind.is_symlink(),
            mode: about.mode() & 0o7777,
            size: about.size(),
            device: about.dev(),
            inode: about.ino(),
            modified: modified(about),
            changed: about.ctime().saturating_mul(SECOND) + about.ctime_nsec(),
        })
    }

    /// The same from a system call.
    fn of_raw(about: &rustix::fs::Stat) -> Option<Self> {
        let kind = FileType::from_raw_mode(about.st_mode);
        let time = |seconds: i64, rest: i64| seconds.saturating_mul(SECOND) + rest;
        (kind.is_file() || kind.is_symlink()).then(|| Self {
            link: kind.is_symlink(),
            mode: about.st_mode & 0o7777,
            size: about.st_size.cast_unsigned(),
            device: about.st_dev,
            inode: about.st_ino,
            modified: time(about.st_mtime, about.st_mtime_nsec.cast_signed()),
            changed: time(about.st_ctime, about.st_ctime_nsec.cast_signed()),
        })
    }

    /// To be written down.
    pub(super) fn numbers(&self) -> [i64; 7] {
        [
            self.link.into(),
            self.mode.into(),
            self.size.cast_signed(),
            self.device.cast_signed(),
            self.inode.cast_signed(),
            self.modified,
            self.changed,
        ]
    }

    /// From what was written down.
    pub(super) fn from_numbers(numbers: [i64; 7]) -> Self {
        let [link, mode, size, device, inode, modified, changed] = numbers;
        Self {
            link: link != 0,
            // What does not fit was not written by us, and is no file's.
            mode: u32::try_from(mode).unwrap_or(u32::MAX),
            size: size.cast_unsigned(),
            device: device.cast_unsigned(),
            inode: inode.cast_unsigned(),
            modified,
            changed,
        }
    }

    /// What is at `path` now; none if that is no file.
    pub(super) fn at(path: &Path) -> Option<Self> {
        Self::of(&fs::symlink_metadata(path).ok()?)
    }
}

/// When its content, or an entry of a directory, last changed, in nanoseconds since 1970.
pub(super) fn modified(about: &Metadata) -> i64 {
    about.mtime().saturating_mul(SECOND) + about.mtime_nsec()
}

/// What `.gitignore` files said when they were read, by their directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(HashMap<PathBuf, Arc<Gitignore>>);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// By absolute path, with each directory that was entered.
    pub(super) files: Tree<Stat>,
    pub(super) rules: Rules,
    /// Where git is told to treat files in ways of its own.
    pub(super) attributes: Vec<PathBuf>,
}

/// Why there is no scan.
#[derive(Debug, thiserror::Error)]
#[error("looking through the directory takes too long")]
pub(super) struct TooLong;

/// What a scan looks at.
pub(super) struct Scope<'a> {
    /// Absolute, resolved.
    pub(super) roots: &'a [PathBuf],
    /// Absolute; neither they nor what is in them.
    pub(super) closed: &'a [PathBuf],
    /// What is in it counts even where rules ignore it.
    pub(super) tracked: &'a Index,
}

impl Scope<'_> {
    /// Looks through all of it. `rules` are those of an earlier scan; without them they are read on the way.
    pub(super) fn scan(&self, rules: Option<&Rules>, deadline: Instant) -> Result<Scan, TooLong> {
        // Few are, and each would be compared with each path.
        let inside = |place: &&PathBuf| self.roots.iter().any(|root| place.starts_with(root));
        let walk = Walk {
            closed: self.closed.iter().filter(inside).collect(),
            tracked: self.tracked,
            rules,
            room: Room::default(),
            deadline,
            queue: Mutex::default(),
            more: Condvar::new(),
        };
        let mut scan = Scan::default();
        for root in self.outermost() {
            let above = walk.above(root, &mut scan);
            walk.queue().waiting.push((root.clone(), above));
        }
        let walkers = std::thread::available_parallelism().map_or(1, usize::from);
        let parts: Vec<Scan> = std::thread::scope(|scope| {
            let walkers: Vec<_> = (0..walkers.min(MOST_WALKERS))
                .map(|_| scope.spawn(|| walk.work()))
                .collect();
            walkers.into_iter().filter_map(|w| w.join().ok()).collect()
        });
        if walk.queue().given_up {
            return Err(TooLong);
        }
        for part in parts {
            scan.files.extend(part.files);
            scan.rules.0.extend(part.rules.0);
            scan.attributes.extend(part.attributes);
        }
        self.add_tracked(&mut scan);
        Ok(scan)
    }

    /// What git tracks in directories that the walk did not enter.
    fn add_tracked(&self, scan: &mut Scan) {
        for (directory, names) in self.tracked.directories() {
            let within =
                |places: &[PathBuf]| places.iter().any(|place| directory.starts_with(place));
            if scan.files.has_directory(&directory)
                || !within(self.roots)
                || within(self.closed)
                // Not behind a directory that became a link.
                || directory.canonicalize().ok().as_ref() != Some(&directory)
            {
                continue;
            }
            let stat = |name: &OsStr| Some((name.to_owned(), Stat::at(&directory.join(name))?));
            let found: Vec<_> = names.filter_map(stat).collect();
            if !found.is_empty() {
                scan.files.add(directory, found);
            }
        }
    }

    /// The roots that are in no other.
    fn outermost(&self) -> impl Iterator<Item = &PathBuf> {
        let roots = self.roots.iter().enumerate();
        roots
            .filter(|(at, root)| {
                let others = self.roots.iter().enumerate();
                !others
                    .filter(|(other, _)| other != at)
                    .any(|(other, of)| root.starts_with(of) && (of != *root || other < *at))
            })
            .map(|(_, root)| root)
    }
}

/// The rules that hold in a directory, the nearest first.
#[derive(Clone, Default)]
struct Chain(Option<Arc<(Arc<Gitignore>, Chain)>>);

impl Chain {
    fn with(&self, rules: Arc<Gitignore>) -> Self {
        Self(Some(Arc::new((rules, self.clone()))))
    }

    fn ignores(&self, path: &Path, is_dir: bool) -> bool {
        let mut next = self;
        while let Some(level) = &next.0 {
            let found = level.0.matched(path, is_dir);
            if !found.is_none() {
                return found.is_ignore();
            }
            next = &level.1;
        }
        false
    }
}

struct Walk<'a> {
    closed: Vec<&'a PathBuf>,
    tracked: &'a Index,
    rules: Option<&'a Rules>,
    room: Room,
    deadline: Instant,
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(PathBuf, Chain)>,
    /// Walkers that may still add to it.
    busy: usize,
    given_up: bool,
}

impl Walk<'_> {
    /// Takes directories until none is left and nobody can add one, or the deadline passes.
    fn work(&self) -> Scan {
        let mut found = Scan::default();
        while let Some((directory, chain)) = self.next() {
            let below = self.enter(directory, chain, &mut found);
            let mut queue = self.queue();
            queue.busy -= 1;
            queue.given_up |= Instant::now() > self.deadline;
            // To wake nobody is a system call too.
            if !below.is_empty() || queue.busy == 0 || queue.given_up {
                self.more.notify_all();
            }
            queue.waiting.extend(below);
        }
        found
    }

    fn next(&self) -> Option<(PathBuf, Chain)> {
        let mut queue = self.queue();
        loop {
            if queue.given_up {
                return None;
            }
            if let Some(next) = queue.waiting.pop() {
                queue.busy += 1;
                return Some(next);
            }
            if queue.busy == 0 {
                return None;
            }
            // Ended by a walker that adds something or is done, and if one breaks down, by the deadline.
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                queue.given_up = true;
            }
            queue = self
                .more
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// One directory: its files go to `found`, its directories are given back. What cannot be read is as if it were
    /// not there.
    fn enter(&self, directory: PathBuf, chain: Chain, found: &mut Scan) -> Vec<(PathBuf, Chain)> {
        let mut inside = Inside {
            tracked: self.tracked.inside(&directory),
            walk: self,
            path: directory,
            chain,
            files: Vec::new(),
            below: Vec::new(),
        };
        // What was read until an error is there.
        let _ = inside.read(found);
        if inside
            .files
            .iter()
            .any(|(name, _)| name == ".gitattributes")
        {
            found.attributes.push(inside.path.join(".gitattributes"));
        }
        found.files.add(inside.path, inside.files);
        inside.below
    }

    /// What holds in `directory`, which is open as `at`, besides what holds above it.
    fn chain_in(&self, directory: &Path, at: impl AsFd, chain: Chain, found: &mut Scan) -> Chain {
        let rules = match self.rules {
            Some(known) => known.0.get(directory).cloned(),
            None => self.read_rules(directory, at, ".gitignore".as_ref()),
        };
        match rules {
            Some(rules) => {
                found.rules.0.insert(directory.to_owned(), rules.clone());
                chain.with(rules)
            }
            None => chain,
        }
    }

    /// What holds above `root`, where it is inside a repository: outside of one, a `.gitignore` further up (dotfiles
    /// kept in a home directory) means other files.
    fn above(&self, root: &Path, scan: &mut Scan) -> Chain {
        let Some(top) = root.ancestors().find(|dir| dir.join(".git").exists()) else {
            return Chain::default();
        };
        let exclude = top.join(".git/info/exclude");
        let rules = match self.rules {
            Some(known) => known.0.get(&exclude).cloned(),
            None => self.read_rules(top, CWD, &exclude),
        };
        let mut chain = Chain::default();
        if let Some(rules) = rules {
            scan.rules.0.insert(exclude, rules.clone());
            chain = chain.with(rules);
        }
        let between: Vec<&Path> = root
            .ancestors()
            .skip(1)
            .take_while(|dir| dir.starts_with(top))
            .collect();
        for directory in between.into_iter().rev() {
            if let Ok(opened) = open(directory) {
                chain = self.chain_in(directory, opened, chain, scan);
            }
        }
        chain
    }

    /// A link at `.gitignore` says nothing to git either.
    fn read_rules(&self, directory: &Path, at: impl AsFd, file: &Path) -> Option<Arc<Gitignore>> {
        let rules = self.room.rules(directory, at, file, Links::Refused);
        rules.map(Arc::new)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One directory while it is read.
struct Inside<'a> {
    walk: &'a Walk<'a>,
    path: PathBuf,
    chain: Chain,
    tracked: super::git::Inside<'a>,
    files: Vec<(OsString, Stat)>,
    below: Vec<(PathBuf, Chain)>,
}

impl Inside<'_> {
    fn read(&mut self, found: &mut Scan) -> io::Result<()> {
        let mut directory = Dir::new(open(&self.path)?)?;
        let above = std::mem::take(&mut self.chain);
        self.chain = self
            .walk
            .chain_in(&self.path, directory.fd()?, above, found);
        while let Some(entry) = directory.read() {
            // What vanished meanwhile is not there.
            let _ = self.take(&directory, &entry?);
        }
        Ok(())
    }

    fn take(&mut self, directory: &Dir, entry: &DirEntry) -> io::Result<()> {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        // A file tool may write beside the look; what it put in place is known from it.
        if matches!(name.as_bytes(), b"." | b".." | b".git") || is_on_its_way(name) {
            return Ok(());
        }
        let look = || {
            statat(
                directory.fd()?,
                entry.file_name(),
                AtFlags::SYMLINK_NOFOLLOW,
            )
        };
        let kind = match entry.file_type() {
            // Some file systems do not tell.
            FileType::Unknown => FileType::from_raw_mode(look()?.st_mode),
            kind => kind,
        };
        if kind.is_dir() {
            let path = self.path.join(name);
            if !self.is_closed(&path) && !self.chain.ignores(&path, true) {
                self.below.push((path, self.chain.clone()));
            }
        } else if (kind.is_file() || kind.is_symlink())
            && self.counts(name)
            && let Some(stat) = Stat::of_raw(&look()?)
        {
            self.files.push((name.to_owned(), stat));
        }
        Ok(())
    }

    /// For most files without putting a path together.
    fn counts(&self, name: &OsStr) -> bool {
        let is_free = self.chain.0.is_none() || self.tracked.has(name);
        if is_free && self.walk.closed.is_empty() {
            return true;
        }
        let path = self.path.join(name);
        !self.is_closed(&path) && (is_free || !self.chain.ignores(&path, false))
    }

    fn is_closed(&self, path: &Path) -> bool {
        let mut closed = self.walk.closed.iter();
        closed.any(|place| path.starts_with(place))
    }
}

fn open(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, directory, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(scan: &Scan, root: &Path) -> Vec<String> {
        let below = |path: PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        let mut names: Vec<String> = scan.files.files().map(|(path, _)| below(path)).collect();
        names.sort();
        names
    }

    #[test]
    fn what_has_no_end_under_the_name_of_rules_holds_up_no_look() {
        use rustix::fs::{FileType, mknodat};
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["pipe", "link"] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("a"), "").unwrap();
        }
        let pipe = root.join("pipe/.gitignore");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        symlink("/dev/zero", root.join("link/.gitignore")).unwrap();
        let scope = Scope {
            roots: std::slice::from_ref(&root),
            closed: &[],
            tracked: &Index::default(),
        };
        let scan = scope.scan(None, Instant::now() + Duration::from_secs(60));
        let found = ["link/.gitignore", "link/a", "pipe/a"];
        assert_eq!(names(&scan.unwrap(), &root), found);
    }

    #[test]
    fn the_rules_of_the_first_look_hold_for_the_second() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in [
            "a",
            "sub/b.log",
            "sub/c",
            "sub/kept.log",
            "closed/d",
            ".git/e",
            ".hidden",
            // Which a file tool of another thread is about to put in place of something.
            ".openoxide-01a1fb06-1918-728f-a8d2-c0806d979055.tmp",
        ] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "").unwrap();
        }
        fs::write(root.join(".gitignore"), "*.log\nbuilt/\n").unwrap();
        fs::write(root.join("sub/.gitignore"), "!kept.log\n").unwrap();
        let (roots, closed) = ([root.clone(), root.join("sub")], [root.join("closed")]);
        for name in ["built/t.log", "built/u", "built/a", "built/b/c", "link/v"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "").unwrap();
        }
        fs::rename(root.join("link"), root.join("elsewhere.log")).unwrap();
        std::os::unix::fs::symlink("elsewhere.log", root.join("link")).unwrap();
        let none = Index::default();
        let tracked = [
            "sub/b.log",
            "gone",
            "built/t.log",
            // Between two that are in one directory.
            "built/b/c",
            "built/a",
            "link/v",
            "closed/d",
            "nowhere/at/all",
        ];
        let tracked = Index::of(&root, &tracked);
        let scope = |tracked| Scope {
            roots: &roots,
            closed: &closed,
            tracked,
        };
        let soon = Instant::now() + Duration::from_secs(60);
        let first = scope(&none).scan(None, soon).unwrap();
        let found = [
            ".gitignore",
            ".hidden",
            "a",
            "link",
            "sub/.gitignore",
            "sub/c",
            "sub/kept.log",
        ];
        assert_eq!(names(&first, &root), found);
        fs::write(root.join(".gitignore"), "*\n").unwrap();
        fs::write(root.join("new.log"), "").unwrap();
        let second = scope(&tracked).scan(Some(&first.rules), soon).unwrap();
        let mut found = found.to_vec();
        found.splice(3..3, ["built/a", "built/b/c", "built/t.log"]);
        found.insert(8, "sub/b.log");
        assert_eq!(names(&second, &root), found, "and what git tracks counts");
        assert!(
            scope(&none)
                .scan(None, Instant::now() - Duration::from_secs(1))
                .is_err()
        );
    }
}
