//! Takes back what turns changed: all of it or nothing, and only where the files still are as the turns left them.
//!
//! First everything is compared and read, then what stands there now is kept so that the undo can be undone, and only
//! then is anything written; each file is looked at once more right before. If one step fails, those before it are
//! taken back. What is about to be done is written down first, so that one that a crash cut off can be finished or taken
//! back. No step follows a symbolic link or touches what is git's, and only what a turn is known to have brought is
//! deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use super::{
    held::Held,
    manifest::{Entry, Folder, Manifest, State},
};
use crate::{
    conversation::{By, TurnId, shown_line},
    workspace::{
        edit::{self, Diff},
        file, is_git_directory,
    },
};

/// What an undo would do.
#[derive(Debug)]
pub struct Undo {
    root: PathBuf,
    steps: Vec<Step>,
    /// Directories to remove if they are empty then.
    made: Vec<PathBuf>,
    undoes: Vec<TurnId>,
    /// The one that was cut off and that this finishes, with what it meant to do.
    finishes: Option<(TurnId, Manifest)>,
    /// Paths that stay as they are, each with the reason.
    pub left: Vec<(String, String)>,
}

#[derive(Debug)]
struct Step {
    path: PathBuf,
    /// What stands there now, to go back to.
    now: Held,
    then: Held,
}

/// Why nothing was taken back.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// Somebody changed the files since.
    #[error("nothing was undone, since these are no longer as the turn left them: {}", .0.join(", "))]
    Changed(Vec<String>),
    /// The system said no; what was done until then was taken back.
    #[error("nothing was undone: `{path}`: {error}")]
    Failed {
        /// Where.
        path: String,
        /// From the system.
        error: io::Error,
    },
    /// The system said no, and again when the first steps were to be taken back.
    #[error("the undo failed at `{path}` ({error}), and these could not be put back: {}", stuck.join(", "))]
    Stuck {
        /// Where it failed.
        path: String,
        /// From the system.
        error: io::Error,
        /// What is now as it was before the turn.
        stuck: Vec<String>,
    },
    /// All of it was done, and that could not be written down.
    #[error("it was undone, but the note that it was begun could not be removed: {0}")]
    Unended(io::Error),
    /// What was kept cannot be read, or what is there cannot be kept.
    #[error("nothing was undone: {0}")]
    Storage(#[from] io::Error),
}

impl Undo {
    /// What it takes to take `manifests` back, which are in the order of time. `finishes`: an undo of the same that was
    /// cut off.
    ///
    /// # Errors
    /// A file is no longer as it was left.
    pub fn plan(
        folder: &Folder,
        manifests: &[(TurnId, Manifest)],
        finishes: Option<(TurnId, Manifest)>,
    ) -> Result<Self, UndoError> {
        let root = manifests.last().map(|(_, last)| last.root.clone());
        let mut undo = Self {
            root: root.unwrap_or_default(),
            steps: Vec::new(),
            made: manifests.iter().flat_map(|(_, m)| m.made.clone()).collect(),
            undoes: manifests.iter().map(|(turn, _)| *turn).collect(),
            finishes,
            left: Vec::new(),
        };
        let mut changed = Vec::new();
        for whole in merged(manifests) {
            match whole {
                Ok(entry) => undo.add(folder, entry, &mut changed),
                Err(path) => changed.push(undo.show(&path)),
            }
        }
        // What goes makes room for what comes back: a directory may stand where a file was.
        undo.steps.sort_by_key(|step| !step.deletes());
        match changed.is_empty() {
            true => Ok(undo),
            false => Err(UndoError::Changed(changed)),
        }
    }

    /// True if there is nothing that can be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.finishes.is_none()
    }

    /// Files that one that was cut off has taken back already, if there was one.
    pub fn finishes(&self) -> Option<usize> {
        self.finishes.as_ref().map(|_| self.done_before().count())
    }

    /// What one that was cut off has done, and what does not need to be done again.
    fn done_before(&self) -> impl Iterator<Item = &Entry> {
        let steps: BTreeSet<&Path> = self.steps.iter().map(|step| &*step.path).collect();
        let entries = self.finishes.iter().flat_map(|(_, cut)| &cut.entries);
        entries.filter(move |entry| {
            !steps.contains(&*entry.path)
                && Held::at(&entry.path).is_some_and(|now| now.state == entry.after)
        })
    }

    /// What would change, by path.
    pub fn diffs(&self) -> Vec<(String, Diff)> {
        let diff = |step: &Step| {
            let path = self.show(&step.path);
            let (now, then) = (step.now.bytes.as_deref(), step.then.bytes.as_deref());
            let diff = match (&step.now.state, &step.then.state) {
                (State::File { mode: was, .. }, State::File { mode, .. }) if now == then => {
                    edit::mode_diff(&path, *was, *mode)
                }
                _ => edit::unified_diff(&path, now, then),
            };
            (path, diff)
        };
        self.steps.iter().map(diff).collect()
    }

    fn add(&mut self, folder: &Folder, entry: Entry, changed: &mut Vec<String>) {
        if let Some(why) = untouchable(&entry) {
            return self.leave(&entry.path, why);
        }
        if entry.after != State::Absent && entry.after.content().is_none() {
            return self.leave(&entry.path, "it is too large to be compared");
        }
        // What is in one that the turn made goes first, and it too, if nothing else is in it; where nothing is to be, no
        // file is.
        let may_be = self.made.contains(&entry.path) || entry.before == State::Absent;
        let found = match may_be && is_directory(&entry.path) {
            true => Some(Held::absent()),
            false => Held::at(&entry.path),
        };
        let now = found.as_ref().map(|found| &found.state);
        if now == Some(&entry.before) || entry.before == entry.after {
            return;
        }
        let Some(now) = found.filter(|found| found.state == entry.after) else {
            return changed.push(self.show(&entry.path));
        };
        let bytes = match (&entry.before, entry.before.content()) {
            (State::Absent, _) => None,
            (_, None) => return self.leave(&entry.path, "its content from before was not kept"),
            (_, Some(id)) => match folder.contents.get(id) {
                Ok(bytes) => Some(bytes),
                Err(error) => return self.leave(&entry.path, &error.to_string()),
            },
        };
        self.steps.push(Step {
            path: entry.path,
            now,
            then: Held {
                state: entry.before,
                bytes,
            },
        });
    }

    fn leave(&mut self, path: &Path, why: &str) {
        self.left.push((self.show(path), why.to_owned()));
    }

    fn show(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.root).unwrap_or(path);
        shown_line(&inside.to_string_lossy())
    }

    /// Does it, keeps what it changed as the turn before this was kept, and gives that.
    pub fn apply(&self, folder: &Folder) -> Result<Manifest, UndoError> {
        for bytes in self.steps.iter().filter_map(|step| step.now.bytes.as_ref()) {
            folder.contents.put(bytes)?;
        }
        let manifest = self.manifest();
        let id = match &self.finishes {
            Some((id, _)) => *id,
            None => TurnId::generate(),
        };
        folder.begin_undo(id, &manifest)?;
        match self.walk() {
            Ok(()) => folder.end_undo(id).map_err(UndoError::Unended)?,
            Err(failed) => return Err(self.went_wrong(folder, id, failed)),
        }
        Ok(manifest)
    }

    /// What will have been done.
    fn manifest(&self) -> Manifest {
        let steps = self.steps.iter().map(|step| Entry {
            path: step.path.clone(),
            before: step.now.state.clone(),
            after: step.then.state.clone(),
            from: None,
            by: None,
            only_copy: false,
        });
        Manifest {
            entries: self.done_before().cloned().chain(steps).collect(),
            undoes: self.undoes.clone(),
            ..Manifest::new(&self.root)
        }
    }

    fn walk(&self) -> Result<(), (usize, io::Error)> {
        let gone = self.steps.iter().take_while(|step| step.deletes()).count();
        for (at, step) in self.steps.iter().enumerate() {
            if at == gone {
                self.clear_directories();
            }
            step.forth().map_err(|error| (at, error))?;
        }
        self.clear_directories();
        Ok(())
    }

    /// Takes back what was done until then. Only if that succeeds, there is nothing to be known of it later.
    fn went_wrong(
        &self,
        folder: &Folder,
        id: TurnId,
        (at, error): (usize, io::Error),
    ) -> UndoError {
        let failed = self.take_back(at, error);
        if matches!(failed, UndoError::Failed { .. }) {
            let noted = match &self.finishes {
                Some((id, cut_off)) => folder.begin_undo(*id, cut_off),
                None => folder.drop_undo(id),
            };
            if let Err(error) = noted {
                tracing::warn!("the note of an undo that was taken back stays: {error}");
            }
        }
        failed
    }

    /// Goes back from step `failed`, which may have been done in part.
    fn take_back(&self, failed: usize, error: io::Error) -> UndoError {
        let path = self.show(&self.steps[failed].path);
        let done = self.steps[..=failed].iter().rev();
        let stuck: Vec<String> = done
            .filter(|step| step.back().is_err())
            .map(|step| self.show(&step.path))
            .collect();
        match stuck.is_empty() {
            true => UndoError::Failed { path, error },
            false => UndoError::Stuck { path, error, stuck },
        }
    }

    /// Deepest first, so that a directory is empty when its turn comes. One that is not holds what is not ours.
    fn clear_directories(&self) {
        let mut made = self.made.clone();
        made.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for directory in made {
            let _ = file::remove_empty_directory(&directory);
        }
    }
}

impl Step {
    fn deletes(&self) -> bool {
        self.then.state == State::Absent
    }

    fn forth(&self) -> io::Result<()> {
        match Held::at(&self.path) {
            Some(found) if found.state == self.now.state => {}
            // It is another name of a file that has its turn behind it.
            Some(found) if found.state == self.then.state => return Ok(()),
            _ => return Err(io::Error::other("it was changed meanwhile")),
        }
        put(&self.path, &self.then)
    }

    /// Leaves alone what is neither as this step made it nor as it found it.
    fn back(&self) -> io::Result<()> {
        let found = Held::at(&self.path).map(|found| found.state);
        let is_ours = found.is_some_and(|found| {
            found != self.now.state && found.content() == self.then.state.content()
        });
        if !is_ours {
            return Ok(());
        }
        put(&self.path, &self.now)
    }
}

/// One entry a path over all of `manifests`; the path where one does not begin with what the one before left.
fn merged(manifests: &[(TurnId, Manifest)]) -> Vec<Result<Entry, PathBuf>> {
    let mut whole: BTreeMap<&Path, Result<Entry, PathBuf>> = BTreeMap::new();
    for entry in manifests.iter().flat_map(|(_, manifest)| &manifest.entries) {
        let next = match whole.remove(entry.path.as_path()) {
            None => Ok(entry.clone()),
            Some(Ok(known)) if known.after == entry.before => Ok(Entry {
                after: entry.after.clone(),
                by: known.by.or(entry.by),
                only_copy: known.only_copy || entry.only_copy,
                ..known
            }),
            Some(_) => Err(entry.path.clone()),
        };
        whole.insert(&entry.path, next);
    }
    whole.into_values().collect()
}

fn untouchable(entry: &Entry) -> Option<&'static str> {
    if entry
        .by
        .is_some_and(|by| matches!(by, By::Other | By::Unsure))
    {
        return Some("it is not certain that the turn changed it");
    }
    if entry.only_copy {
        return Some("it was there before under another name, and this is its only copy");
    }
    let git = |part: &Path| {
        part.file_name()
            .is_some_and(|name| name.eq_ignore_ascii_case(".git"))
            || is_git_directory(part)
    };
    entry.path.ancestors().any(git).then_some("it is git's")
}

fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())
}

fn put(path: &Path, held: &Held) -> io::Result<()> {
    let bytes = || {
        let bytes = held.bytes.as_deref();
        bytes.ok_or_else(|| io::Error::other("its content is missing"))
    };
    match &held.state {
        State::Absent => file::remove(path),
        State::Link { .. } => {
            file::remove(path)?;
            file::link(path, bytes()?)
        }
        State::File { mode, .. } => {
            if path.is_symlink() {
                file::remove(path)?;
            }
            file::write(path, bytes()?)?;
            file::set_mode(path, *mode)
        }
    }
}
