//! What was in a directory before a turn, and so what the turn changed: by edits and by commands, with or without git.
//!
//! The file tools report each write before they do it, and their changes are known from that alone. For commands the
//! whole directory is looked at, once before the first of them (begun beside the first request to the model, so that
//! it is done when the command comes) and once at the end of the turn. What a file held before comes from what its
//! tool kept, from the objects of a git repository whose index says that the file was as git knows it, or from a copy
//! of our own; see [`git`] and [`kept`]. Ignored files are not looked at; the rules are those of the first look.
//!
//! A command waits for the first look, and for what is kept of it at most [`PATIENCE`]; all of it ends after its [`Budget`].
//! Without it, or beyond what can be kept, the outcome says that the changes are partial.

mod before;
mod contents;
mod conversion;
mod everything;
pub(super) mod git;
mod held;
mod journal;
mod kept;
mod manifest;
mod measure;
pub(super) mod objects;
mod origin;
mod plumbing;
mod scan;
mod tree;
mod undo;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::OnceCell;
use uuid::Uuid;

use super::Workspace;
use crate::conversation::ThreadId;
use before::Before;
pub(in crate::workspace) use contents::private_directory;
pub use contents::{ContentId, Contents};
pub(super) use everything::{Everything, One};
use journal::{Journal, Ran};
use kept::{Limit, nanoseconds};
use manifest::Touched;
pub use manifest::{Entry, Folder, Keeping, Manifest, State};
pub use measure::Measured;
pub(super) use plumbing::hex;
pub use undo::{Undo, UndoError};

/// What it may cost to know what commands change.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// For the first look with keeping what it finds, and for the last.
    time: Duration,
    /// Bytes of one directory that are kept.
    room: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(5),
            room: 512 * 1024 * 1024,
        }
    }
}

/// How long a command waits for what is kept. It is begun long before, so a command hardly ever does; where there is
/// more to keep, the rest is kept beside the command.
const PATIENCE: Duration = Duration::from_secs(1);

/// Nanoseconds that the clock of the file system may be behind ours: it ticks more coarsely, and is never ahead.
const SLACK: i64 = 20_000_000;

/// Commands whose times are remembered, to tell our own changes from those of others.
const REMEMBERED_RUNS: usize = 1000;

/// A turn that was begun, to measure it against.
#[derive(Clone, Debug)]
pub struct Begun(Arc<Turn>);

/// The checkpoint of one workspace. It is empty between turns.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Where directories are kept; without it, in a temporary one for the time of a turn.
    state: Option<PathBuf>,
    turn: Mutex<Arc<Turn>>,
    /// When commands of this workspace ran, in this turn and in earlier ones.
    runs: Arc<Mutex<Vec<Run>>>,
    budget: Budget,
}

/// What is known of a turn while it runs. The lock is held for the time of a map operation; nobody awaits under it.
#[derive(Debug, Default)]
struct Turn {
    keeping: Option<Keeping>,
    folder: Option<Folder>,
    journal: Option<Journal>,
    began: i64,
    /// What it had changed when it was let go of.
    earlier: Option<Manifest>,
    before: OnceCell<Arc<Before>>,
    deeds: Mutex<Deeds>,
}

#[derive(Debug, Default)]
struct Deeds {
    /// What the file tools wrote, by path.
    wrote: BTreeMap<PathBuf, Wrote>,
    /// Directories that they had to make.
    made: BTreeSet<PathBuf>,
    /// A command ran.
    ran: bool,
}

#[derive(Clone, Debug)]
struct Wrote {
    before: Option<Vec<u8>>,
    mode: u32,
    /// What the tool left last.
    after: ContentId,
    /// A command had run before: the directory's look knows better what was there.
    late: bool,
}

/// When a command ran, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Run {
    id: Uuid,
    from: i64,
    to: i64,
}

/// Held while a command runs.
#[derive(Debug)]
pub struct Running {
    id: Uuid,
    runs: Arc<Mutex<Vec<Run>>>,
    journal: Option<Journal>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let at = now();
        let mut runs = locked(&self.runs);
        if let Some(run) = runs.iter_mut().rev().find(|run| run.id == self.id) {
            run.to = at;
        }
        if let Some(journal) = &self.journal {
            journal.ended(self.id, at);
        }
    }
}

impl Checkpoint {
    /// `state`: our own directory, which is never in a workspace.
    pub(super) fn new(state: Option<PathBuf>) -> Self {
        Self {
            state,
            ..Self::default()
        }
    }

    /// A turn begins, or one that was let go of goes on; what was known of the last is forgotten.
    pub fn begin(&self, keeping: Option<Keeping>) -> Begun {
        let state = self.state.as_deref();
        let thread = keeping.as_ref().map(|keeping| keeping.thread);
        let folder = keeping
            .as_ref()
            .and_then(|keeping| keeping.folder.as_deref())
            .map(Folder::of_thread);
        let earlier = keeping.as_ref().zip(folder.as_ref());
        let turn = Turn {
            // One that cannot be read is named by whatever takes the turn back.
            earlier: earlier.and_then(|(keeping, folder)| folder.written(keeping.turn).ok()?),
            journal: state.zip(thread).map(|(at, id)| Journal::new(at, id)),
            folder,
            keeping,
            began: now(),
            ..Turn::default()
        };
        turn.go_on();
        let turn = Arc::new(turn);
        *locked(&self.turn) = turn.clone();
        Begun(turn)
    }

    /// Looks at the directory in the background, so that the first command need not wait for it.
    pub fn look_ahead(workspace: &Arc<Workspace>) {
        let (workspace, turn) = (workspace.clone(), workspace.checkpoint().turn());
        // Ends with the look; nobody needs to wait for it here.
        tokio::spawn(async move { turn.look(&workspace).await });
    }

    /// Waits until what a command may change is known, and notes that one runs for as long as the answer lives.
    pub async fn command(workspace: &Arc<Workspace>) -> Running {
        let checkpoint = workspace.checkpoint();
        let turn = checkpoint.turn();
        let before = turn.look(workspace).await;
        // Ended by the deadline of the keeping, if not by this.
        let _ = tokio::time::timeout(PATIENCE, before.finished.cancelled()).await;
        turn.deeds().ran = true;
        let (id, from) = (Uuid::now_v7(), now());
        let mut runs = locked(&checkpoint.runs);
        if runs.len() >= REMEMBERED_RUNS {
            let ended = runs.iter().position(|run| run.to != i64::MAX);
            runs.remove(ended.unwrap_or(0));
        }
        let to = i64::MAX;
        runs.push(Run { id, from, to });
        if let Some(journal) = &turn.journal {
            let ran = Ran {
                from,
                to: None,
                process: rustix::process::getpid().as_raw_nonzero().get(),
                roots: workspace.writable_roots().to_vec(),
            };
            journal.began(id, ran);
        }
        Running {
            id,
            runs: checkpoint.runs.clone(),
            journal: turn.journal.clone(),
        }
    }

    /// A file tool is about to write `after` to `real`, which holds `before`.
    ///
    /// # Errors
    /// What is there cannot be kept; then it must not be written over.
    pub fn keep(
        &self,
        workspace: &Workspace,
        real: &Path,
        before: Option<&[u8]>,
        after: &[u8],
    ) -> io::Result<()> {
        let turn = self.turn();
        let mode = scan::Stat::at(real).map_or(0o644, |stat| stat.mode);
        let made: Vec<PathBuf> = real
            .ancestors()
            .skip(1)
            .take_while(|dir| !dir.exists())
            .map(Path::to_owned)
            .collect();
        let after = ContentId::of(after);
        turn.record(workspace.cwd(), real, (before, mode), &after, &made)?;
        let mut deeds = turn.deeds();
        let late = deeds.ran;
        deeds.made.extend(made);
        deeds
            .wrote
            .entry(real.to_owned())
            .and_modify(|wrote| wrote.after = after.clone())
            .or_insert_with(|| Wrote {
                before: before.map(<[u8]>::to_vec),
                mode,
                after,
                late,
            });
        Ok(())
    }

    /// True if `real` was last changed, or taken away, while a command of this workspace ran.
    pub fn is_by_own_command(&self, real: &Path) -> bool {
        let changed = match scan::Stat::at(real) {
            Some(stat) => stat.changed,
            None => measure::last_change_around(real).1,
        };
        ran_at(&locked(&self.runs), changed)
    }

    /// What differs from when the turn began; keeps with the thread what is needed to take it back. The turn may go on
    /// and be measured again. Blocks.
    pub fn measure(&self, workspace: &Workspace, begun: &Begun) -> Measured {
        let runs = locked(&self.runs).clone();
        measure::measure(workspace, &begun.0, &runs)
    }

    /// The turn has ended, or was let go of.
    pub fn forget(&self, begun: &Begun) {
        let mut turn = locked(&self.turn);
        if Arc::ptr_eq(&turn, &begun.0) {
            *turn = Arc::default();
        }
    }

    fn turn(&self) -> Arc<Turn> {
        locked(&self.turn).clone()
    }

    /// Where what is known of the directory is kept from turn to turn.
    fn place(&self, workspace: &Workspace) -> Option<PathBuf> {
        Some(directory_folder(self.state.as_deref()?, workspace.cwd()))
    }
}

/// Tells other threads, by the journal in `state`, that `thread` wrote what `manifest` says it left.
pub fn tell_others(state: &Path, thread: ThreadId, manifest: &Manifest) {
    let journal = Journal::new(state, thread);
    for entry in &manifest.entries {
        let content = entry.after.content().cloned();
        journal.wrote(now(), entry.path.clone(), content);
    }
}

/// The folder in `state` of what is known of `directory`, which is resolved.
pub fn directory_folder(state: &Path, directory: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let name = ContentId::of(directory.as_os_str().as_bytes()).to_string();
    state.join("directories").join(&name[..32])
}

impl Turn {
    async fn look(&self, workspace: &Arc<Workspace>) -> Arc<Before> {
        let look = || async {
            let budget = workspace.checkpoint().budget;
            let deadline = Instant::now() + budget.time;
            let place = workspace.checkpoint().place(workspace);
            let workspace = workspace.clone();
            let looked = tokio::task::spawn_blocking(move || Before::look(&workspace, deadline));
            // It does not panic; if it did, nothing would be known.
            let before = Arc::new(looked.await.unwrap_or_default());
            let kept = before.clone();
            let room = budget.room;
            let limit = Limit { deadline, room };
            tokio::task::spawn_blocking(move || kept.keep(place.as_deref(), limit));
            before
        };
        self.before.get_or_init(look).await.clone()
    }

    /// If this turn was begun by a process that died, what its file tools kept still counts.
    fn go_on(&self) {
        let (Some(folder), Some(keeping)) = (&self.folder, &self.keeping) else {
            return;
        };
        let mut deeds = self.deeds();
        for Touched { entry, made, .. } in folder.touched(keeping.turn) {
            deeds.made.extend(made);
            let (before, mode) = match &entry.before {
                State::File { mode, content } => {
                    let kept = content.as_ref().and_then(|id| folder.contents.get(id).ok());
                    (kept, *mode)
                }
                State::Absent | State::Link { .. } => (None, 0o644),
            };
            let Some(after) = entry.after.content().cloned() else {
                continue;
            };
            deeds
                .wrote
                .entry(entry.path)
                .and_modify(|wrote| wrote.after = after.clone())
                .or_insert(Wrote {
                    before,
                    mode,
                    after,
                    late: false,
                });
        }
    }

    /// On disk before the file is touched, so that a crash does not lose it.
    fn record(
        &self,
        root: &Path,
        real: &Path,
        (before, mode): (Option<&[u8]>, u32),
        after: &ContentId,
        made: &[PathBuf],
    ) -> io::Result<()> {
        if let Some(journal) = &self.journal {
            journal.wrote(now(), real.to_owned(), Some(after.clone()));
        }
        let (Some(folder), Some(keeping), Some(_)) = (&self.folder, &self.keeping, real.to_str())
        else {
            return Ok(());
        };
        let before = match before {
            None => State::Absent,
            Some(bytes) => State::File {
                mode,
                content: Some(folder.contents.put(bytes)?),
            },
        };
        let after = State::File {
            mode,
            content: Some(after.clone()),
        };
        let entry = Entry {
            path: real.to_owned(),
            before,
            after,
            from: None,
            by: None,
            only_copy: false,
        };
        let touched = Touched {
            root: root.to_owned(),
            entry,
            made: made.to_vec(),
        };
        folder.touch(keeping.turn, &touched)
    }

    fn deeds(&self) -> MutexGuard<'_, Deeds> {
        locked(&self.deeds)
    }
}

fn ran_at(runs: &[Run], moment: i64) -> bool {
    runs.iter()
        .any(|run| (run.from.saturating_sub(SLACK)..=run.to).contains(&moment))
}

fn now() -> i64 {
    nanoseconds(SystemTime::now())
}

/// A panic while one of these locks was held leaves data that is still whole.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{conversation::SandboxPolicy, workspace::Boundaries};

    /// A turn within `budget` in which a tool writes `tool`, and then a command `command`.
    async fn turn(dir: &Path, budget: Budget) -> Measured {
        let policy = SandboxPolicy::WorkspaceWrite;
        let mut workspace = Workspace::open(dir, policy, Boundaries::default()).unwrap();
        workspace.checkpoint.budget = budget;
        let workspace = Arc::new(workspace);
        let begun = workspace.checkpoint().begin(None);
        let tool = workspace.cwd().join("tool");
        let before = std::fs::read(&tool).unwrap();
        let checkpoint = workspace.checkpoint();
        checkpoint
            .keep(&workspace, &tool, Some(&before), b"2")
            .unwrap();
        std::fs::write(&tool, "2").unwrap();
        let running = Checkpoint::command(&workspace).await;
        std::fs::write(dir.join("command"), "2").unwrap();
        drop(running);
        workspace.checkpoint().measure(&workspace, &begun)
    }

    #[tokio::test]
    async fn what_a_file_tool_does_beside_the_look_is_known_from_the_tool() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tool"), "1").unwrap();
        let policy = SandboxPolicy::WorkspaceWrite;
        let workspace = Workspace::open(dir.path(), policy, Boundaries::default()).unwrap();
        let workspace = Arc::new(workspace);
        let checkpoint = workspace.checkpoint();
        let begun = checkpoint.begin(None);
        let (tool, soon) = (
            workspace.cwd().join("tool"),
            Instant::now() + Duration::from_secs(60),
        );
        let on_its_way = workspace
            .cwd()
            .join(format!(".openoxide-{}.tmp", Uuid::now_v7()));
        std::fs::write(&on_its_way, "2").unwrap();
        let before = Before::look(&workspace, soon);
        checkpoint
            .keep(&workspace, &tool, Some(b"1"), b"2")
            .unwrap();
        std::fs::rename(&on_its_way, &tool).unwrap();
        let (deadline, room) = (soon, checkpoint.budget.room);
        before.keep(None, Limit { deadline, room });
        begun.0.before.set(Arc::new(before)).unwrap();
        drop(Checkpoint::command(&workspace).await);
        let measured = checkpoint.measure(&workspace, &begun);
        let changed: Vec<&str> = measured.changes.iter().map(|c| &*c.path).collect();
        assert_eq!((&*changed, measured.partial), (&["tool"][..], None));
    }

    #[tokio::test]
    async fn beyond_its_budget_a_turn_says_what_it_does_not_know() {
        let dir = tempfile::tempdir().unwrap();
        let plenty = Budget::default();
        let little_room = Budget {
            room: 100,
            ..plenty
        };
        let no_time = Budget {
            time: Duration::ZERO,
            ..plenty
        };
        let not_kept = "the contents of 1 files were not kept (the budget is 5 s and 0 MB)";
        let not_seen = "takes too long, so only what the file tools changed is known";
        for (budget, paths, diffs, why) in [
            (plenty, &["command", "tool"][..], 2, None),
            (little_room, &["command", "tool"], 1, Some(not_kept)),
            (no_time, &["tool"], 1, Some(not_seen)),
        ] {
            std::fs::write(dir.path().join("tool"), "1").unwrap();
            std::fs::write(dir.path().join("command"), "1".repeat(200)).unwrap();
            let measured = turn(dir.path(), budget).await;
            let changed: Vec<&str> = measured.changes.iter().map(|c| &*c.path).collect();
            assert_eq!(changed, paths, "{measured:?}");
            let shown = measured.changes.iter().filter(|c| !c.diff.is_empty());
            assert_eq!(shown.count(), diffs, "{measured:?}");
            let partial = measured.partial.unwrap_or_default();
            assert!(partial.contains(why.unwrap_or_default()), "{partial}");
            assert_eq!(partial.is_empty(), why.is_none());
        }
    }
}
