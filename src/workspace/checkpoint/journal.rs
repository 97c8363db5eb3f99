//! What threads of any process did to a directory and when: how each tells its own work from that of the others.
//!
//! Lines of JSON in one file a directory, each appended in one write. Threads write to the journal of the directory that
//! they work in and read those of all directories, since one may be inside another. It is a witness and not a guard: a
//! line that is missing or damaged makes a change less certain and nothing more.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::contents::{ContentId, private_directory};
use crate::conversation::ThreadId;

/// Beyond so many bytes the file becomes the old one, and the one before is forgotten.
const LARGEST: u64 = 1024 * 1024;

/// A journal to which nothing was added for so long is not read: its last command has ended.
const LONGEST_COMMAND: Duration = Duration::from_secs(7 * 24 * 3600);

/// One thing that a thread did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Deed {
    /// A file tool gave a file this content, or took it away.
    Wrote {
        at: i64,
        path: PathBuf,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<ContentId>,
    },
    /// A command began.
    Began {
        at: i64,
        run: Uuid,
        process: i32,
        /// What it may write; the directory of the journal, where that was not noted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        roots: Vec<PathBuf>,
    },
    /// It ended.
    Ended { at: i64, run: Uuid },
}

#[derive(Serialize, Deserialize)]
struct Line {
    thread: ThreadId,
    #[serde(flatten)]
    deed: Deed,
}

/// The journal of one directory, as one thread writes it.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    file: PathBuf,
    thread: ThreadId,
}

/// What the other threads did.
#[derive(Debug, Default)]
pub(super) struct Others {
    wrote: Vec<(i64, PathBuf, Option<ContentId>)>,
    ran: Vec<Ran>,
}

/// A command of another thread.
#[derive(Debug)]
struct Ran {
    from: i64,
    to: i64,
    /// Where it may have written; everywhere here, where that is not known.
    roots: Vec<PathBuf>,
}

impl Journal {
    pub(super) fn new(folder: &Path, thread: ThreadId) -> Self {
        Self {
            file: folder.join("journal.jsonl"),
            thread,
        }
    }

    pub(super) fn add(&self, deed: Deed) {
        let thread = self.thread;
        // See above: a line that cannot be written is one that is missing.
        let _ =
            serde_json::to_string(&Line { thread, deed }).map(|line| self.append(&(line + "\n")));
    }

    fn append(&self, line: &str) -> std::io::Result<()> {
        self.file.parent().map_or(Ok(()), private_directory)?;
        if fs::metadata(&self.file).is_ok_and(|about| about.len() > LARGEST) {
            fs::rename(&self.file, self.old())?;
        }
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.file)?
            .write_all(line.as_bytes())
    }

    fn old(&self) -> PathBuf {
        old(&self.file)
    }

    /// What other threads did since `began`, in this directory and in all others.
    pub(super) fn others(&self, began: i64) -> Others {
        let mut others = Others::default();
        self.read(&self.file, began, &mut others);
        for file in self.elsewhere() {
            let mut found = Others::default();
            self.read(&file, began, &mut found);
            // Those that did not note where they write did so before this was asked.
            found.ran.retain(|ran| !ran.roots.is_empty());
            others.wrote.extend(found.wrote);
            others.ran.extend(found.ran);
        }
        others.wrote.sort_by_key(|(at, ..)| *at);
        others
    }

    /// The journals of other directories that may tell of something new.
    fn elsewhere(&self) -> impl Iterator<Item = PathBuf> {
        let all = self.file.parent().and_then(Path::parent);
        let folders = all.and_then(|all| fs::read_dir(all).ok());
        let files = folders.into_iter().flatten().flatten();
        let files = files.map(|folder| folder.path().join("journal.jsonl"));
        files.filter(|file| {
            let modified = fs::metadata(file).and_then(|about| about.modified());
            let age = modified.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
            *file != self.file && age.is_ok_and(|age| age < LONGEST_COMMAND)
        })
    }

    fn read(&self, file: &Path, began: i64, others: &mut Others) {
        let mut open: Vec<(Uuid, i32, Ran)> = Vec::new();
        let texts = [old(file), file.to_owned()].map(|file| fs::read(file).unwrap_or_default());
        let lines = texts
            .iter()
            .flat_map(|text| text.split(|byte| *byte == b'\n'));
        for line in lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok()) {
            if line.thread == self.thread {
                continue;
            }
            match line.deed {
                Deed::Wrote { at, path, content } => others.wrote.push((at, path, content)),
                Deed::Began {
                    at: from,
                    run,
                    process,
                    roots,
                } => {
                    let to = i64::MAX;
                    open.push((run, process, Ran { from, to, roots }));
                }
                Deed::Ended { at: to, run } => {
                    if let Some(found) = open.iter().position(|(began, ..)| *began == run) {
                        let ran = open.swap_remove(found).2;
                        others.ran.push(Ran { to, ..ran });
                    }
                }
            }
        }
        let still = open
            .into_iter()
            .filter(|(_, process, _)| is_alive(*process));
        others.ran.extend(still.map(|(.., ran)| ran));
        others.wrote.retain(|(at, ..)| *at >= began);
        others.ran.retain(|ran| ran.to >= began);
    }
}

fn old(file: &Path) -> PathBuf {
    file.with_extension("old.jsonl")
}

impl Others {
    /// True if the last that another thread's file tool did to `path` is what is there.
    pub(super) fn left(&self, path: &Path, now: Option<&ContentId>) -> bool {
        let last = self.wrote.iter().rev().find(|(_, wrote, _)| wrote == path);
        last.is_some_and(|(.., content)| content.as_ref() == now)
    }

    /// True if another thread's file tool wrote `path`.
    pub(super) fn touched(&self, path: &Path) -> bool {
        self.wrote.iter().any(|(_, wrote, _)| wrote == path)
    }

    /// True if a command of another thread ran at `moment` that may have written `path`.
    pub(super) fn ran_at(&self, moment: i64, path: &Path) -> bool {
        self.ran.iter().any(|ran| {
            let time = ran.from.saturating_sub(super::SLACK)..=ran.to;
            let mut roots = ran.roots.iter();
            let reaches = ran.roots.is_empty() || roots.any(|root| path.starts_with(root));
            reaches && time.contains(&moment)
        })
    }
}

fn is_alive(process: i32) -> bool {
    rustix::process::Pid::from_raw(process).is_some_and(|pid| {
        // Not ours to signal is alive too.
        rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn began(at: i64, run: Uuid, roots: &[&str]) -> Deed {
        Deed::Began {
            at,
            run,
            process: 1,
            roots: roots.iter().map(PathBuf::from).collect(),
        }
    }

    #[test]
    fn others_are_those_who_are_not_this_thread() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("here");
        let [own, other] = [(); 2].map(|()| Journal::new(&folder, ThreadId::generate()));
        let content = ContentId::of(b"theirs");
        let path = dir.path().join("a");
        let run = Uuid::now_v7();
        own.add(began(1, Uuid::now_v7(), &[]));
        other.add(began(2_000_000_000, run, &[]));
        other.add(Deed::Ended {
            at: 3_000_000_000,
            run,
        });
        other.add(Deed::Wrote {
            at: 4_000_000_000,
            path: path.clone(),
            content: Some(content.clone()),
        });
        fs::OpenOptions::new()
            .append(true)
            .open(folder.join("journal.jsonl"))
            .unwrap()
            .write_all(b"{damage\n")
            .unwrap();
        let others = own.others(1_500_000_000);
        assert!(others.ran_at(2_500_000_000, &path) && !others.ran_at(9_000_000_000, &path));
        assert!(others.left(&path, Some(&content)) && !others.left(&path, None));
        assert!(own.others(5_000_000_000).wrote.is_empty());
        assert!(!other.others(0).touched(&path));
    }

    #[test]
    fn threads_of_directories_inside_each_other_hear_of_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let journal = |folder| Journal::new(&dir.path().join(folder), ThreadId::generate());
        let [outer, inner] = ["outer", "inner"].map(journal);
        inner.add(began(1, Uuid::now_v7(), &["/r/sub"]));
        outer.add(began(1, Uuid::now_v7(), &["/r"]));
        let path = Path::new("/r/sub/a");
        inner.add(Deed::Wrote {
            at: 2,
            path: path.to_owned(),
            content: None,
        });
        let seen = outer.others(0);
        assert!(seen.left(path, None) && seen.ran_at(3, path));
        assert!(!seen.ran_at(3, Path::new("/r/b")), "out of its reach");
        assert!(inner.others(0).ran_at(3, path));
        // One from before that noted no place tells nothing of other directories.
        let old = journal("old");
        old.add(began(1, Uuid::now_v7(), &[]));
        assert!(!outer.others(0).ran_at(3, Path::new("/r/b")));
    }
}
