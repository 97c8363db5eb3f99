//! All files below a root: walked, taken over from what is kept where they are as they were, read where not, ranked.

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use tokio_util::sync::CancellationToken;

use super::{
    Definition,
    language::{Kind, Language},
    reading::{self, Digest, Skipped},
    words,
};
use crate::workspace::search::{Scope, SearchError};

/// What is not read by then is counted and not read.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Files that are looked at; what comes after them is counted.
const MOST: usize = 100_000;
/// Files handed to a worker at a time.
const BATCH: usize = 32;
const MOST_WORKERS: usize = 8;
/// Bytes of a name in parts that says more than a word.
const SHORTEST: usize = 5;
/// A file that was changed so shortly before it was read may change again without looking different.
const SETTLED: Duration = Duration::from_millis(50);

/// What a definition is to a rank: where, and how it is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spot {
    pub(super) kind: Kind,
    pub(super) depth: u8,
    pub(super) line: u32,
    pub(super) end: u32,
    /// The number of its name; none where no other file can refer to it.
    pub(super) name: u32,
    /// How likely whoever writes this name means it.
    pub(super) form: Form,
    /// It is inside of a type or a function, and called on or through it.
    pub(super) member: bool,
    /// Only files of its folder can refer to it.
    pub(super) narrow: bool,
    /// How much it is referred to from elsewhere.
    pub(super) score: f32,
}

/// What `definitions` of a `text` are to a rank.
pub(super) fn spots(definitions: &[Definition], text: &[u8], language: &Language) -> Vec<Spot> {
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let mut around: Vec<(u8, Kind)> = Vec::new();
    let mut spot = |found: &Definition| {
        let line = lines
            .get((found.line as usize).saturating_sub(1))
            .copied()
            .unwrap_or_default();
        around.retain(|(depth, _)| *depth < found.depth);
        let inside = around.iter().any(|(_, kind)| *kind != Kind::Module);
        around.push((found.depth, found.kind));
        let named = !matches!(found.kind, Kind::Group | Kind::Section) && language.is_open(line);
        Spot {
            kind: found.kind,
            depth: found.depth,
            line: found.line,
            end: found.end,
            name: if named { words::number(&found.name) } else { 0 },
            form: Form::of(&found.name),
            member: inside || language.is_method(line, &found.name),
            narrow: language.is_narrow(line),
            score: 0.0,
        }
    };
    definitions.iter().map(&mut spot).collect()
}

/// How a name is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// `read`: also a method of the library, a local, a word.
    #[default]
    Plain,
    /// `Reader`: a type, perhaps that of another.
    Capital,
    /// `BlockReader`, `read_block`: hardly anything else.
    Parts,
}

impl Form {
    fn of(name: &str) -> Self {
        let inside = name.trim_start_matches('_');
        let bytes = inside.as_bytes();
        let hump = |two: &[u8]| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase();
        let in_parts = inside.contains('_') || bytes.windows(2).any(hump);
        let is_capital =
            inside.starts_with(char::is_uppercase) && inside.contains(char::is_lowercase);
        match () {
            () if name.starts_with('_') => Self::Plain,
            () if in_parts && name.len() >= SHORTEST => Self::Parts,
            () if is_capital => Self::Capital,
            () => Self::Plain,
        }
    }
}

/// How a file looks from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) modified: i64,
    pub(super) changed: i64,
    pub(super) inode: u64,
}

/// What is known of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct File {
    /// Relative to the root.
    pub(super) name: String,
    pub(super) stamp: Stamp,
    pub(super) digest: Digest,
    pub(super) skipped: Option<Skipped>,
    /// Its definitions come from a parser.
    pub(super) parsed: bool,
    pub(super) lines: u32,
    pub(super) spots: Vec<Spot>,
    /// Numbers of the names that it refers to, sorted.
    pub(super) names: Vec<u32>,
    /// Of all ranks together, which are 1.
    pub(super) rank: f32,
}

/// All that is known of the files below a root.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    pub(super) root: PathBuf,
    /// In the order of their names.
    pub(super) files: Vec<File>,
    /// Files that were not looked at: there was no time, or there were too many.
    pub(super) late: usize,
    /// Something is not as it was kept.
    pub(super) fresh: bool,
    /// The files that were read since they are not as they were kept; sorted.
    #[cfg(feature = "grammars")]
    pub(super) changed: Vec<usize>,
}

impl Survey {
    /// Looks at everything below `root` but what is `closed`. What `known` says of files that look as they did is
    /// taken over. Ranks are those that were kept. Blocks; ended by the walk, by [`PATIENCE`] or by `cancel`.
    pub(super) fn take(
        root: &Path,
        closed: &[PathBuf],
        known: Vec<File>,
        cancel: &CancellationToken,
    ) -> Result<Self, SearchError> {
        let until = Instant::now() + PATIENCE;
        let mut listed = Scope::open(root, None, closed)?.listed(cancel);
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let beyond = listed.len().saturating_sub(MOST);
        listed.truncate(MOST);
        let before = known.len();
        let known = Known::new(known);
        let jobs = Jobs {
            next: AtomicUsize::new(0),
            done: Mutex::new(Vec::with_capacity(listed.len())),
        };
        thread::scope(|threads| {
            for _ in 0..workers() {
                threads.spawn(|| {
                    jobs.work(listed.len(), |at| {
                        let in_time = Instant::now() < until && !cancel.is_cancelled();
                        in_time.then(|| known.look(&listed[at].path, &listed[at].name))
                    });
                });
            }
        });
        if cancel.is_cancelled() {
            return Err(SearchError::Cancelled);
        }
        let mut done = jobs
            .done
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(at, _)| *at);
        let mut known = known.files;
        let changed: Vec<usize> = (0..done.len())
            .filter(|at| matches!(done[*at].1, Look::New(_)))
            .collect();
        let files: Vec<File> = done
            .into_iter()
            .map(|(_, look)| match look {
                Look::Same(at) => std::mem::take(&mut known[at]),
                Look::New(file) => *file,
            })
            .collect();
        Ok(Self {
            root: root.to_owned(),
            late: listed.len() - files.len() + beyond,
            fresh: !changed.is_empty() || files.len() != before,
            files,
            #[cfg(feature = "grammars")]
            changed,
        })
    }
}

pub(super) fn workers() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get().min(MOST_WORKERS))
}

/// Work by number, taken in batches; each is done once, and its result is kept with its number.
pub(super) struct Jobs<T> {
    pub(super) next: AtomicUsize,
    /// Held for an append; nobody waits under it.
    pub(super) done: Mutex<Vec<(usize, T)>>,
}

impl<T> Jobs<T> {
    /// Ends when all of `count` are taken; what gives nothing is left undone.
    pub(super) fn work(&self, count: usize, one: impl Fn(usize) -> Option<T>) {
        loop {
            let from = self.next.fetch_add(BATCH, Ordering::Relaxed);
            if from >= count {
                return;
            }
            let batch = from..(from + BATCH).min(count);
            let done: Vec<_> = batch.filter_map(|at| Some((at, one(at)?))).collect();
            self.done
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(done);
        }
    }
}

/// What was kept, in the order of names.
struct Known {
    files: Vec<File>,
    /// By content; made when the first file is not as it was.
    by_digest: OnceLock<HashMap<Digest, usize>>,
}

enum Look {
    /// As it was: the file that is kept there.
    Same(usize),
    New(Box<File>),
}

impl Known {
    fn new(files: Vec<File>) -> Self {
        Self {
            files,
            by_digest: OnceLock::new(),
        }
    }

    fn named(&self, name: &str) -> Option<usize> {
        let found = self
            .files
            .binary_search_by(|file| file.name.as_str().cmp(name));
        found.ok()
    }

    fn by_digest(&self, digest: &Digest) -> Option<&File> {
        let all = || {
            let read = self.files.iter().enumerate();
            let read = read.filter(|(_, file)| file.skipped.is_none());
            read.map(|(at, file)| (file.digest, at)).collect()
        };
        let at = self.by_digest.get_or_init(all).get(digest)?;
        Some(&self.files[*at])
    }

    fn look(&self, path: &Path, name: &str) -> Look {
        let Ok(about) = path.symlink_metadata() else {
            return Look::New(Box::new(skipped(name, Skipped::Unreadable)));
        };
        let stamp = Stamp {
            size: about.size(),
            modified: nanoseconds(about.mtime(), about.mtime_nsec()),
            changed: nanoseconds(about.ctime(), about.ctime_nsec()),
            inode: about.ino(),
        };
        if let Some(at) = self.named(name)
            && self.files[at].stamp == stamp
        {
            return Look::Same(at);
        }
        let mut file = self
            .read(path, name)
            .unwrap_or_else(|why| skipped(name, why));
        if is_settled(&stamp) {
            file.stamp = stamp;
        }
        Look::New(Box::new(file))
    }

    fn read(&self, path: &Path, name: &str) -> Result<File, Skipped> {
        let text = reading::bytes(path)?;
        reading::judged(&text)?;
        let digest = reading::digest_of(&text);
        if let Some(known) = self.by_digest(&digest)
            && Path::new(&known.name).extension() == path.extension()
        {
            return Ok(File {
                name: name.to_owned(),
                ..known.clone()
            });
        }
        let read = reading::read(path, &text, false)?;
        Ok(File {
            name: name.to_owned(),
            digest,
            lines: read.lines,
            spots: spots(&read.definitions, &text, read.language),
            names: read.names,
            ..File::default()
        })
    }
}

fn skipped(name: &str, why: Skipped) -> File {
    File {
        name: name.to_owned(),
        skipped: Some(why),
        ..File::default()
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// Two changes within one tick of the file system's clock look the same.
fn is_settled(stamp: &Stamp) -> bool {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let before = now.saturating_sub(SETTLED).as_nanos();
    u128::try_from(stamp.changed.max(stamp.modified)).is_ok_and(|changed| changed < before)
}
