//! Takes back what turns of a kept thread changed, and takes that back again.
//!
//! What to take back is read from the folder of the thread, under its lock, so that no turn runs meanwhile. An undo is
//! kept as the turns are: it names what it took back.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    closing,
    rollout::{Loaded, Record},
    store::{DirectoryStore, Journal, StoreError, ThreadStore},
};
use crate::{
    conversation::{ThreadId, TurnId},
    workspace::checkpoint::{Folder, Manifest, Undo, UndoError, tell_others},
};

/// How far back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// The last turn that changed something and was not taken back.
    LastTurn,
    /// To before this turn: it and all that came after it.
    Before(TurnId),
    /// The last undo.
    LastUndo,
}

/// Why there is nothing to take back.
#[derive(Debug, thiserror::Error)]
pub enum BackError {
    /// The thread cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files stand in the way.
    #[error(transparent)]
    Undo(#[from] UndoError),
    /// Nothing was changed, or all of it was taken back.
    #[error("there is nothing to take back")]
    Nothing,
    /// The one before did not end, so the files are neither as a turn left them nor as they were.
    #[error(
        "an undo was cut off halfway: finish it with `threads undo`, or take it back with `--redo`, and then go on"
    )]
    CutOff,
}

/// An undo that is ready. The thread is held until it is dropped.
pub struct Ready {
    /// What it would do.
    pub undo: Undo,
    /// Why what the turns changed may be more than that.
    pub partial: Vec<String>,
    /// What ends a turn that was left open, so that it does not go on with what was taken back.
    ends: Vec<Record>,
    thread: ThreadId,
    /// Our own directory.
    state: Option<PathBuf>,
    folder: Folder,
    journal: Box<dyn Journal>,
}

/// Finds out what it takes, and changes nothing.
pub fn prepare(store: &DirectoryStore, id: ThreadId, back: Back) -> Result<Ready, BackError> {
    let (loaded, mut journal) = store.open(id)?;
    let loaded = journal.hold()?.unwrap_or(loaded);
    let folder = Folder::of_thread(&store.folder(id));
    let all = folder.all().map_err(StoreError::Io)?;
    let (chosen, finishes) = match all.last().filter(|(_, last)| last.cut_off) {
        Some(cut_off) => go_on(&all, cut_off, back)?,
        None => (choose(&all, back), None),
    };
    if chosen.is_empty() {
        return Err(BackError::Nothing);
    }
    let undo = Undo::plan(&folder, &chosen, finishes)?;
    let open = loaded.open_turn().map(|turn| turn.turn_id);
    let ends = match chosen.iter().any(|(turn, _)| Some(*turn) == open) {
        true => closing::records(
            &loaded,
            "the turn was left open, and its changes were taken back",
        ),
        false => Vec::new(),
    };
    Ok(Ready {
        undo,
        ends,
        partial: chosen.into_iter().filter_map(|(_, m)| m.partial).collect(),
        thread: id,
        state: store.state().map(Path::to_owned),
        folder,
        journal,
    })
}

impl Ready {
    /// True if a turn that was left open ends with it: nobody can go on with what it had done.
    pub fn ends_a_turn(&self) -> bool {
        !self.ends.is_empty()
    }

    /// Does it.
    pub fn apply(&mut self) -> Result<(), BackError> {
        let done = self.undo.apply(&self.folder)?;
        for record in self.ends.drain(..) {
            self.journal.append(&record).map_err(StoreError::Io)?;
        }
        if let Some(state) = &self.state {
            tell_others(state, self.thread, &done);
        }
        Ok(())
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.journal.release();
    }
}

/// What to take back, and the undo that this finishes.
type Course = (Vec<(TurnId, Manifest)>, Option<(TurnId, Manifest)>);

/// What to do after an undo that did not end: all of what it meant to do, or back to before it.
fn go_on(
    all: &[(TurnId, Manifest)],
    cut_off: &(TurnId, Manifest),
    back: Back,
) -> Result<Course, BackError> {
    let meant = |(turn, _): &&(TurnId, Manifest)| cut_off.1.undoes.contains(turn);
    let meant: Vec<_> = all.iter().filter(meant).cloned().collect();
    let was_redo = meant
        .iter()
        .any(|(_, manifest)| !manifest.undoes.is_empty());
    let is_same = match back {
        Back::LastTurn => !was_redo,
        Back::LastUndo => was_redo,
        Back::Before(_) => return Err(BackError::CutOff),
    };
    Ok(match is_same {
        true => (meant, Some(cut_off.clone())),
        false => (vec![cut_off.clone()], None),
    })
}

/// The manifests to take back, in the order of time.
fn choose(all: &[(TurnId, Manifest)], back: Back) -> Vec<(TurnId, Manifest)> {
    let standing = standing(all);
    let stands = |(turn, _): &&(TurnId, Manifest)| standing[turn];
    let is_undo = |manifest: &Manifest| !manifest.undoes.is_empty();
    let last = |undo: bool| {
        let mut found = all.iter().rev().filter(stands);
        found.find(|(_, manifest)| is_undo(manifest) == undo)
    };
    match back {
        Back::LastTurn => last(false).into_iter().cloned().collect(),
        // An undo that was followed by a turn is history.
        Back::LastUndo => {
            let newest = all.iter().rev().find(stands);
            let undo = last(true).filter(|(turn, _)| newest.is_some_and(|(n, _)| n == turn));
            undo.into_iter().cloned().collect()
        }
        Back::Before(first) => {
            let later = all.iter().filter(|(turn, _)| *turn >= first);
            let turns = later.filter(|(_, manifest)| !is_undo(manifest));
            turns.filter(stands).cloned().collect()
        }
    }
}

/// Which turns and undos are in force.
fn standing(all: &[(TurnId, Manifest)]) -> BTreeMap<TurnId, bool> {
    let mut standing: BTreeMap<TurnId, bool> = BTreeMap::new();
    let taken_by: BTreeMap<TurnId, &[TurnId]> = all
        .iter()
        .map(|(turn, manifest)| (*turn, manifest.undoes.as_slice()))
        .collect();
    for (turn, manifest) in all {
        // What takes back an undo is no undo itself: it puts its turns in force again.
        let redoes = manifest
            .undoes
            .iter()
            .any(|undone| taken_by.get(undone).is_some_and(|taken| !taken.is_empty()));
        standing.insert(*turn, !redoes);
        if manifest.cut_off {
            // What it did can be taken back, and what it meant to take back still can be.
            continue;
        }
        for undone in &manifest.undoes {
            standing.insert(*undone, false);
            for again in taken_by.get(undone).copied().unwrap_or_default() {
                standing.insert(*again, true);
            }
        }
    }
    standing
}

/// The turns of `loaded` whose changes were taken back.
pub fn taken_back(store: &DirectoryStore, loaded: &Loaded) -> Vec<TurnId> {
    let folder = Folder::of_thread(&store.folder(loaded.header.thread_id));
    let all = folder.all().unwrap_or_default();
    let gone = standing(&all).into_iter().filter(|(_, stands)| !stands);
    gone.map(|(turn, _)| turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undo_takes_the_last_turn_that_stands_and_can_be_taken_back() {
        let turns: Vec<TurnId> = (0..5).map(|_| TurnId::generate()).collect();
        let turn = |at: usize, undoes: &[usize]| {
            let undoes = undoes.iter().map(|at| turns[*at]).collect();
            let manifest = Manifest {
                undoes,
                ..Manifest::new(Path::new("/w"))
            };
            (turns[at], manifest)
        };
        let chosen = |all: &[(TurnId, Manifest)], back| -> Vec<usize> {
            let found = choose(all, back).into_iter().map(|(id, _)| id);
            found
                .map(|id| turns.iter().position(|turn| *turn == id).unwrap())
                .collect()
        };
        let two = [turn(0, &[]), turn(1, &[])];
        assert_eq!(chosen(&two, Back::LastTurn), [1]);
        assert_eq!(chosen(&two, Back::Before(turns[0])), [0, 1]);
        assert_eq!(chosen(&two, Back::LastUndo), [0; 0]);
        let undone = [turn(0, &[]), turn(1, &[]), turn(2, &[1])];
        assert_eq!(chosen(&undone, Back::LastTurn), [0]);
        assert_eq!(chosen(&undone, Back::LastUndo), [2]);
        let redone = [turn(0, &[]), turn(1, &[]), turn(2, &[1]), turn(3, &[2])];
        assert_eq!(chosen(&redone, Back::LastTurn), [1]);
        assert_eq!(chosen(&redone, Back::LastUndo), [0; 0]);
        let later = [turn(0, &[]), turn(1, &[0]), turn(2, &[])];
        assert_eq!(chosen(&later, Back::LastUndo), [0; 0]);
        assert_eq!(chosen(&later, Back::Before(turns[0])), [2]);
    }

    #[test]
    fn an_undo_that_was_cut_off_is_finished_or_taken_back() {
        let [first, second, undo, redo] = [(); 4].map(|()| TurnId::generate());
        let manifest = |turn, undoes: &[TurnId], cut_off| {
            let manifest = Manifest {
                undoes: undoes.to_vec(),
                cut_off,
                ..Manifest::new(Path::new("/w"))
            };
            (turn, manifest)
        };
        let turns = [manifest(first, &[], false), manifest(second, &[], false)];
        let course = |rest: &[(TurnId, Manifest)], back| {
            let all = [&turns, rest].concat();
            let (chosen, finishes) = go_on(&all, all.last().unwrap(), back).ok()?;
            let chosen: Vec<_> = chosen.into_iter().map(|(id, _)| id).collect();
            Some((chosen, finishes.map(|(id, _)| id)))
        };
        let cut = [manifest(undo, &[second], true)];
        assert_eq!(
            course(&cut, Back::LastTurn),
            Some((vec![second], Some(undo)))
        );
        assert_eq!(course(&cut, Back::LastUndo), Some((vec![undo], None)));
        assert_eq!(course(&cut, Back::Before(first)), None);
        let cut = [
            manifest(undo, &[second], false),
            manifest(redo, &[undo], true),
        ];
        assert_eq!(course(&cut, Back::LastUndo), Some((vec![undo], Some(redo))));
        assert_eq!(course(&cut, Back::LastTurn), Some((vec![redo], None)));
        // What went on from there took nothing for undone.
        let later = [
            &turns[..],
            &[manifest(undo, &[second], true)],
            &[manifest(redo, &[], false)],
        ];
        let standing = standing(&later.concat());
        assert!(standing[&second] && standing[&redo]);
    }
}
