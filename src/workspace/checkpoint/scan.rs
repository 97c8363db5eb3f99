//! What is in a directory at one moment: each file with what the file system says of it. Contents are not read.
//!
//! The walk is ours and not that of `search`, since its rules outlive it: what a directory's `.gitignore` said when the
//! turn began also holds for the look at its end. Hidden files count, `.git` never does, symbolic links are entries and
//! not roads. Several threads take directories from one queue; all end when it is empty, or at the deadline.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirEntry, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use serde::{Deserialize, Serialize};

/// More walk side by side only where there are as many processors.
const MOST_WALKERS: usize = 8;

const SECOND: i64 = 1_000_000_000;

/// What the file system says of a file. If two of them are equal, so were the contents in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// By absolute path.
    pub(super) files: HashMap<PathBuf, Stat>,
    /// Those that were entered.
    pub(super) directories: HashSet<PathBuf>,
    pub(super) rules: Rules,
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
    /// Paths that count although they are ignored: git has them in its index.
    pub(super) tracked: &'a [PathBuf],
}

impl Scope<'_> {
    /// Looks through all of it. `rules` are those of an earlier scan; without them they are read on the way.
    pub(super) fn scan(&self, rules: Option<&Rules>, deadline: Instant) -> Result<Scan, TooLong> {
        // Few are, and each would be compared with each path.
        let inside = |place: &&PathBuf| self.roots.iter().any(|root| place.starts_with(root));
        let walk = Walk {
            closed: self.closed.iter().filter(inside).collect(),
            rules,
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
        scan.files
            .reserve(parts.iter().map(|part| part.files.len()).sum());
        for part in parts {
            scan.files.extend(part.files);
            scan.directories.extend(part.directories);
            scan.rules.0.extend(part.rules.0);
        }
        for path in self.tracked {
            // Not behind a directory that became a link.
            let real = |path: &Path| {
                path.parent()
                    .is_some_and(|p| p.canonicalize().is_ok_and(|r| r == p))
            };
            if !scan.files.contains_key(path)
                && let Some(stat) = Stat::at(path)
                && real(path)
            {
                scan.files.insert(path.clone(), stat);
            }
        }
        Ok(scan)
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
    rules: Option<&'a Rules>,
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
            queue.waiting.extend(below);
            queue.busy -= 1;
            queue.given_up |= Instant::now() > self.deadline;
            self.more.notify_all();
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
        let chain = self.chain_in(&directory, chain, found);
        let mut below = Vec::new();
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            // What vanished meanwhile is not there.
            let _ = self.take(&entry, &chain, found, &mut below);
        }
        found.directories.insert(directory);
        below
    }

    fn take(
        &self,
        entry: &DirEntry,
        chain: &Chain,
        found: &mut Scan,
        below: &mut Vec<(PathBuf, Chain)>,
    ) -> io::Result<()> {
        let kind = entry.file_type()?;
        let path = entry.path();
        if entry.file_name() == ".git"
            || chain.ignores(&path, kind.is_dir())
            || self.closed.iter().any(|place| path.starts_with(place))
        {
            return Ok(());
        }
        if kind.is_dir() {
            below.push((path, chain.clone()));
        } else if let Some(stat) = Stat::of(&entry.metadata()?) {
            found.files.insert(path, stat);
        }
        Ok(())
    }

    /// What holds in `directory` besides what holds above it.
    fn chain_in(&self, directory: &Path, chain: Chain, found: &mut Scan) -> Chain {
        let rules = match self.rules {
            Some(known) => known.0.get(directory).cloned(),
            None => read_rules(directory, &directory.join(".gitignore")),
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
            None => read_rules(top, &exclude),
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
            chain = self.chain_in(directory, chain, scan);
        }
        chain
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rules in `file` for what is below `directory`. Lines that are no rules are passed over, as git does.
fn read_rules(directory: &Path, file: &Path) -> Option<Arc<Gitignore>> {
    let text = fs::read(file).ok()?;
    let mut builder = GitignoreBuilder::new(directory);
    for line in String::from_utf8_lossy(&text).lines() {
        let _ = builder.add_line(None, line);
    }
    builder.build().ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(scan: &Scan, root: &Path) -> Vec<String> {
        let below = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        let mut names: Vec<String> = scan.files.keys().map(below).collect();
        names.sort();
        names
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
        ] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "").unwrap();
        }
        fs::write(root.join(".gitignore"), "*.log\n").unwrap();
        fs::write(root.join("sub/.gitignore"), "!kept.log\n").unwrap();
        let (roots, closed) = ([root.clone(), root.join("sub")], [root.join("closed")]);
        let tracked = [root.join("sub/b.log"), root.join("gone")];
        let scope = |tracked| Scope {
            roots: &roots,
            closed: &closed,
            tracked,
        };
        let soon = Instant::now() + Duration::from_secs(60);
        let first = scope(&[]).scan(None, soon).unwrap();
        let found = [
            ".gitignore",
            ".hidden",
            "a",
            "sub/.gitignore",
            "sub/c",
            "sub/kept.log",
        ];
        assert_eq!(names(&first, &root), found);
        fs::write(root.join(".gitignore"), "*\n").unwrap();
        fs::write(root.join("new.log"), "").unwrap();
        let second = scope(&tracked).scan(Some(&first.rules), soon).unwrap();
        let mut found = found.to_vec();
        found.insert(4, "sub/b.log");
        assert_eq!(names(&second, &root), found, "and what git tracks counts");
        assert!(
            scope(&[])
                .scan(None, Instant::now() - Duration::from_secs(1))
                .is_err()
        );
    }
}
