//! What threads of any process did to files and when: how each tells its own work from that of the others.
//!
//! One journal for all directories, since one may be inside another: lines of JSON, each appended in one write and read
//! from the end, back to when a turn began. Commands that run have a file each beside it. So what it costs to look depends
//! on what goes on, and not on how many directories and threads are kept. It is a witness and not a guard: a line that is
//! missing or damaged makes a change less certain and nothing more.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::contents::{ContentId, private_directory};
use crate::conversation::ThreadId;

/// Beyond so many bytes the file becomes the old one, and the one before is forgotten.
const LARGEST: u64 = 4 << 20;

/// Bytes of a first look at the end of the journal; each further look is so many times as long.
const LOOK: (u64, u64) = (32 * 1024, 4);

/// Nanoseconds by which lines of several processes may stand in another order than that of their times.
const DISORDER: i64 = 1_000_000_000;

/// No command runs for so long: what says so was left by a process that was killed.
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
    /// A command ran, or runs.
    Ran(Ran),
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ran {
    pub(super) from: i64,
    /// None while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<i64>,
    pub(super) process: i32,
    /// What it may write.
    pub(super) roots: Vec<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    thread: ThreadId,
    #[serde(flatten)]
    deed: Deed,
}

/// The journal, as one thread writes it.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    thread: ThreadId,
}

/// What the other threads did.
#[derive(Debug, Default)]
pub(super) struct Others {
    wrote: Vec<(i64, PathBuf, Option<ContentId>)>,
    ran: Vec<Ran>,
}

impl Deed {
    /// When it was done.
    fn at(&self) -> i64 {
        match self {
            Self::Wrote { at, .. } => *at,
            Self::Ran(ran) => ran.to.unwrap_or(i64::MAX),
        }
    }
}

impl Journal {
    /// `state`: our own directory.
    pub(super) fn new(state: &Path, thread: ThreadId) -> Self {
        Self {
            folder: state.join("deeds"),
            thread,
        }
    }

    // See the top of the file: a line that cannot be written is one that is missing.

    /// A file tool of this thread did it.
    pub(super) fn wrote(&self, at: i64, path: PathBuf, content: Option<ContentId>) {
        let _ = self.append(&Deed::Wrote { at, path, content });
    }

    /// The command `run` of this thread begins.
    pub(super) fn began(&self, run: Uuid, ran: Ran) {
        let _ = self.note(run, ran);
    }

    /// It has ended.
    pub(super) fn ended(&self, run: Uuid, at: i64) {
        let file = self.running(run);
        if let Some(Deed::Ran(ran)) = line_in(&file).map(|line| line.deed) {
            let to = Some(at);
            let _ = self.append(&Deed::Ran(Ran { to, ..ran }));
        }
        let _ = fs::remove_file(file);
    }

    fn note(&self, run: Uuid, ran: Ran) -> io::Result<()> {
        private_directory(&self.folder.join("running"))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.running(run))?;
        file.write_all(self.line(&Deed::Ran(ran))?.as_bytes())
    }

    fn append(&self, deed: &Deed) -> io::Result<()> {
        private_directory(&self.folder)?;
        let file = self.file();
        if fs::metadata(&file).is_ok_and(|about| about.len() > LARGEST) {
            fs::rename(&file, self.old())?;
        }
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(file)?
            .write_all(self.line(deed)?.as_bytes())
    }

    fn line(&self, deed: &Deed) -> io::Result<String> {
        let (thread, deed) = (self.thread, deed.clone());
        Ok(serde_json::to_string(&Line { thread, deed })? + "\n")
    }

    fn file(&self) -> PathBuf {
        self.folder.join("journal.jsonl")
    }

    fn old(&self) -> PathBuf {
        self.folder.join("journal.old.jsonl")
    }

    fn running(&self, run: Uuid) -> PathBuf {
        self.folder.join("running").join(run.to_string())
    }

    /// What other threads did since `began`.
    pub(super) fn others(&self, began: i64) -> Others {
        // Before the journal: a command that ends meanwhile is then in both, and not in neither.
        let mut lines = self.at_work();
        lines.extend(self.since(began));
        let mut others = Others::default();
        for Line { thread, deed } in lines {
            match deed {
                _ if thread == self.thread || deed.at() < began => {}
                Deed::Wrote { at, path, content } => others.wrote.push((at, path, content)),
                Deed::Ran(ran) => others.ran.push(ran),
            }
        }
        others.wrote.sort_by_key(|(at, ..)| *at);
        others
    }

    /// The commands that run.
    fn at_work(&self) -> Vec<Line> {
        let entries = fs::read_dir(self.folder.join("running"));
        let files = entries.into_iter().flatten().flatten();
        files.filter_map(|file| still_runs(&file.path())).collect()
    }

    /// The lines from `began` on, and perhaps some from before.
    fn since(&self, began: i64) -> Vec<Line> {
        let (mut lines, reached) = end_of(&self.file(), began);
        if !reached {
            lines.extend(end_of(&self.old(), began).0);
        }
        lines
    }
}

/// The last lines of a journal, and whether they go back to before `began`.
fn end_of(path: &Path, began: i64) -> (Vec<Line>, bool) {
    let (mut look, more) = LOOK;
    loop {
        let Ok((bytes, all)) = last_bytes(path, look) else {
            return (Vec::new(), false);
        };
        let parts = bytes.split(|byte| *byte == b'\n');
        // The first may be the end of one.
        let parts = parts.skip(usize::from(!all));
        let lines = parts.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let lines: Vec<Line> = lines.collect();
        let first = lines.first().map_or(i64::MAX, |line| line.deed.at());
        let reached = first < began.saturating_sub(DISORDER);
        if reached || all {
            return (lines, reached);
        }
        look *= more;
    }
}

/// The last `most` bytes of a file, and whether that is all of it.
fn last_bytes(path: &Path, most: u64) -> io::Result<(Vec<u8>, bool)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(most);
    let mut bytes = vec![0; usize::try_from(length - from).unwrap_or_default()];
    file.read_exact_at(&mut bytes, from)?;
    Ok((bytes, from == 0))
}

fn line_in(path: &Path) -> Option<Line> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// What the file of a command says, if it runs.
fn still_runs(file: &Path) -> Option<Line> {
    let line = line_in(file);
    let runs = match line.as_ref().map(|line| &line.deed) {
        Some(Deed::Ran(ran)) => is_alive(ran.process),
        // It is being written, most likely.
        _ => true,
    };
    if !runs || is_old(file) {
        // Left by a process that was killed. If it stays, it is passed over again.
        let _ = fs::remove_file(file);
        return None;
    }
    line
}

fn is_old(path: &Path) -> bool {
    let written = fs::metadata(path).and_then(|about| about.modified());
    let age = written.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    age.is_ok_and(|age| age > LONGEST_COMMAND)
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
            let time = ran.from.saturating_sub(super::SLACK)..=ran.to.unwrap_or(i64::MAX);
            time.contains(&moment) && ran.roots.iter().any(|root| path.starts_with(root))
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

    const SECOND: i64 = 1_000_000_000;

    /// Of a command of this process.
    fn ran(from: i64, roots: &[&Path]) -> Ran {
        Ran {
            from,
            to: None,
            process: rustix::process::getpid().as_raw_nonzero().get(),
            roots: roots.iter().map(|root| root.to_path_buf()).collect(),
        }
    }

    fn two(state: &Path) -> [Journal; 2] {
        [(); 2].map(|()| Journal::new(state, ThreadId::generate()))
    }

    #[test]
    fn others_are_those_who_are_not_this_thread() {
        let dir = tempfile::tempdir().unwrap();
        let [own, other] = two(dir.path());
        let content = ContentId::of(b"theirs");
        let path = dir.path().join("a");
        let run = Uuid::now_v7();
        own.began(Uuid::now_v7(), ran(1, &[dir.path()]));
        other.began(run, ran(2 * SECOND, &[dir.path()]));
        other.ended(run, 3 * SECOND);
        other.wrote(4 * SECOND, path.clone(), Some(content.clone()));
        fs::OpenOptions::new()
            .append(true)
            .open(own.file())
            .unwrap()
            .write_all(b"{damage\n")
            .unwrap();
        let others = own.others(SECOND);
        assert!(others.ran_at(2 * SECOND + 1, &path) && !others.ran_at(9 * SECOND, &path));
        assert!(others.left(&path, Some(&content)) && !others.left(&path, None));
        assert!(own.others(5 * SECOND).wrote.is_empty());
        assert!(!other.others(0).touched(&path));
    }

    #[test]
    fn threads_of_directories_inside_each_other_hear_of_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let [outer, inner] = two(dir.path());
        let path = Path::new("/r/sub/a");
        inner.began(Uuid::now_v7(), ran(1, &[Path::new("/r/sub")]));
        outer.began(Uuid::now_v7(), ran(1, &[Path::new("/r")]));
        inner.wrote(2, path.to_owned(), None);
        let seen = outer.others(0);
        assert!(seen.left(path, None) && seen.ran_at(3, path));
        assert!(!seen.ran_at(3, Path::new("/r/b")), "out of its reach");
        assert!(inner.others(0).ran_at(3, path));
    }

    #[test]
    fn a_command_that_runs_is_heard_of_however_much_was_done_since() {
        let dir = tempfile::tempdir().unwrap();
        let [own, other] = two(dir.path());
        let (run, place) = (Uuid::now_v7(), dir.path());
        other.began(run, ran(1, &[place]));
        for at in 0..5_000 {
            other.wrote(at * SECOND, place.join("log"), None);
        }
        assert!(fs::metadata(own.file()).unwrap().len() > LOOK.0 * 4);
        let late = 4_990 * SECOND;
        let others = own.others(late);
        assert!(others.ran_at(late, place));
        assert_eq!(others.wrote.len(), 10);
        assert_eq!(own.others(0).wrote.len(), 5_000);
        other.ended(run, 5 * SECOND);
        assert!(!own.others(late).ran_at(late, place));
    }

    #[test]
    fn what_a_killed_process_left_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let [own, other] = two(dir.path());
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let process = i32::try_from(gone.id()).unwrap();
        let (run, place) = (Uuid::now_v7(), dir.path());
        let left = ran(1, &[place]);
        other.began(run, Ran { process, ..left });
        assert!(!own.others(0).ran_at(2, place));
        assert!(!own.running(run).exists());
    }

    #[test]
    fn what_is_read_does_not_grow_with_what_was_done_before() {
        let dir = tempfile::tempdir().unwrap();
        let [own, other] = two(dir.path());
        for at in 0..8_000 {
            other.wrote(at * SECOND, dir.path().join("a"), None);
        }
        let (lines, reached) = end_of(&own.file(), 7_999 * SECOND);
        assert!(reached && lines.len() < 1000, "{}", lines.len());
        // Also where the file has just become the old one.
        fs::rename(own.file(), own.old()).unwrap();
        other.wrote(8_000 * SECOND, dir.path().join("a"), None);
        assert_eq!(own.others(7_998 * SECOND).wrote.len(), 3);
    }
}
