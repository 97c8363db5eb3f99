//! What threads of any process did to a directory and when: how each tells its own work from that of the others.
//!
//! Lines of JSON in one file a directory, each appended in one write. It is a witness and not a guard: a line that is
//! missing or damaged makes a change less certain and nothing more.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::contents::{ContentId, private_directory};
use crate::conversation::ThreadId;

/// Beyond so many bytes the file becomes the old one, and the one before is forgotten.
const LARGEST: u64 = 1024 * 1024;

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
    Began { at: i64, run: Uuid, process: i32 },
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
    ran: Vec<(i64, i64)>,
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
        self.file.with_extension("old.jsonl")
    }

    /// What other threads did since `began`.
    pub(super) fn others(&self, began: i64) -> Others {
        let mut others = Others::default();
        let mut open: Vec<(Uuid, i64, i32)> = Vec::new();
        let texts = [self.old(), self.file.clone()].map(|file| fs::read(file).unwrap_or_default());
        let lines = texts
            .iter()
            .flat_map(|text| text.split(|byte| *byte == b'\n'));
        for line in lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok()) {
            if line.thread == self.thread {
                continue;
            }
            match line.deed {
                Deed::Wrote { at, path, content } => others.wrote.push((at, path, content)),
                Deed::Began { at, run, process } => open.push((run, at, process)),
                Deed::Ended { at, run } => {
                    if let Some(found) = open.iter().position(|(began, ..)| *began == run) {
                        others.ran.push((open.swap_remove(found).1, at));
                    }
                }
            }
        }
        let still = open.into_iter().filter(|(.., process)| is_alive(*process));
        others.ran.extend(still.map(|(_, at, _)| (at, i64::MAX)));
        others.wrote.retain(|(at, ..)| *at >= began);
        others.ran.retain(|(_, end)| *end >= began);
        others
    }
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

    /// True if a command of another thread ran at `moment`.
    pub(super) fn ran_at(&self, moment: i64) -> bool {
        let ran = self.ran.iter();
        ran.map(|(from, to)| from.saturating_sub(super::SLACK)..=*to)
            .any(|ran| ran.contains(&moment))
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

    #[test]
    fn others_are_those_who_are_not_this_thread() {
        let dir = tempfile::tempdir().unwrap();
        let [own, other] = [(); 2].map(|()| Journal::new(dir.path(), ThreadId::generate()));
        let content = ContentId::of(b"theirs");
        let path = dir.path().join("a");
        let run = Uuid::now_v7();
        own.add(Deed::Began {
            at: 1,
            run: Uuid::now_v7(),
            process: 1,
        });
        other.add(Deed::Began {
            at: 2_000_000_000,
            run,
            process: 1,
        });
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
            .open(dir.path().join("journal.jsonl"))
            .unwrap()
            .write_all(b"{damage\n")
            .unwrap();
        let others = own.others(1_500_000_000);
        assert!(others.ran_at(2_500_000_000) && !others.ran_at(9_000_000_000));
        assert!(others.left(&path, Some(&content)) && !others.left(&path, None));
        assert!(own.others(5_000_000_000).wrote.is_empty());
        assert!(!other.others(0).touched(&path));
    }
}
