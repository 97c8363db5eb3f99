//! What differs at the end of a turn.

mod keeping;
mod whose;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    Budget, Deeds, Run, Turn,
    before::{Before, Source},
    contents::ContentId,
    held::Held,
    journal::Others,
    manifest::{Entry, State},
    origin::Known,
    scan::{Scan, Scope, Stat},
};
use crate::{
    conversation::{By, Change, ChangeKind},
    workspace::{
        Workspace,
        edit::{self, Diff},
    },
};
pub(super) use whose::last_change_around;

/// Paths whose contents are in memory at a time.
const CHUNK: usize = 256;

/// Bytes of diffs in one outcome; beyond them, changes are counted and not shown.
const MOST_DIFF: usize = 8 * 1024 * 1024;

/// Bytes from before that one turn may add to its thread.
const MOST_KEPT: usize = 512 * 1024 * 1024;

/// What a turn changed.
#[derive(Debug, Default)]
pub struct Measured {
    /// By path.
    pub changes: Vec<Change>,
    /// Why this may not be all; one sentence.
    pub partial: Option<String>,
    /// Paths that the turn had changed when it was let go of, and that are again as they were before.
    pub restored: Vec<String>,
}

/// A difference on its way.
struct Found {
    entry: Entry,
    diff: Diff,
    /// It is told with the path that it went to.
    moved_away: bool,
}

struct Measure<'a> {
    workspace: &'a Workspace,
    turn: &'a Turn,
    deeds: &'a Deeds,
    /// What the turn had changed when it was let go of, by path.
    earlier: BTreeMap<&'a Path, &'a Entry>,
    /// A command of this thread ran in the turn: one of its own, or one from before that went on.
    ran: bool,
    before: Option<&'a Before>,
    known: Known,
    after: Option<Scan>,
    others: Others,
    runs: &'a [Run],
    reasons: Vec<String>,
    restored: Vec<String>,
    room_for_diffs: usize,
    room_to_keep: usize,
}

pub(super) fn measure(workspace: &Workspace, turn: &Turn, runs: &[Run]) -> Measured {
    let deeds = &*turn.deeds();
    let ran = deeds.ran || runs.iter().any(|run| run.to >= turn.began);
    let earlier = turn.earlier.as_ref();
    let entries = earlier.into_iter().flat_map(|manifest| &manifest.entries);
    let others = turn
        .journal
        .as_ref()
        .filter(|_| ran || earlier.is_some() || !deeds.wrote.is_empty());
    let mut measure = Measure {
        workspace,
        turn,
        deeds,
        earlier: entries.map(|entry| (&*entry.path, entry)).collect(),
        ran,
        before: turn.before.get().map(|before| &**before).filter(|_| ran),
        known: Known::default(),
        after: None,
        others: others
            .map(|journal| journal.others(turn.began))
            .unwrap_or_default(),
        runs,
        reasons: earlier
            .and_then(|manifest| manifest.partial.clone())
            .into_iter()
            .collect(),
        restored: Vec::new(),
        room_for_diffs: MOST_DIFF,
        room_to_keep: MOST_KEPT,
    };
    measure.look_again();
    let paths = measure.candidates();
    let mut found: Vec<Found> = Vec::new();
    for chunk in paths.chunks(CHUNK) {
        let differ = measure.compare(chunk);
        found.extend(differ);
    }
    measure.pair_renames(&mut found);
    measure.keep_manifest(&found);
    Measured {
        partial: measure.partial(),
        restored: measure.restored,
        changes: found
            .into_iter()
            .filter(|found| !found.moved_away)
            .map(|found| change(workspace, found))
            .collect(),
    }
}

impl Measure<'_> {
    /// The second look, by the rules of the first.
    fn look_again(&mut self) {
        let Some(before) = self.before else { return };
        if let Some(why) = &before.unknown {
            self.because(format!(
                "{why}, so only what the file tools changed is known"
            ));
            self.before = None;
            return;
        }
        let budget = self.workspace.checkpoint().budget;
        before.wait(budget);
        let left_out = before.left_out().iter();
        let left_out = left_out.filter(|path| !self.tools_know(path)).count();
        if left_out > 0 {
            let Budget { time, room } = budget;
            self.because(format!(
                "the contents of {left_out} files were not kept (the budget is {} s and {} MB), so their changes have no diff and cannot be undone",
                time.as_secs(),
                room >> 20,
            ));
        }
        let scope = Scope {
            roots: self.workspace.writable_roots(),
            closed: self.workspace.closed(),
            tracked: &before.index,
        };
        match scope.scan(Some(&before.scan.rules), Instant::now() + budget.time) {
            Ok(scan) => self.after = Some(scan),
            Err(error) => {
                self.because(format!(
                    "{error}, so only what the file tools changed is known"
                ));
                self.before = None;
            }
        }
    }

    /// Notes why the changes may not be all, once.
    fn because(&mut self, why: String) {
        if self.reasons.iter().all(|known| !known.contains(&why)) {
            self.reasons.push(why);
        }
    }

    fn partial(&self) -> Option<String> {
        (!self.reasons.is_empty()).then(|| self.reasons.join("; "))
    }

    /// Paths that may differ, in order.
    fn candidates(&self) -> Vec<PathBuf> {
        let mut paths: BTreeSet<PathBuf> = self.deeds.wrote.keys().cloned().collect();
        paths.extend(self.earlier.keys().map(|path| path.to_path_buf()));
        if let (Some(before), Some(after)) = (self.before, &self.after) {
            paths.extend(before.scan.files.differing(&after.files));
        }
        paths.into_iter().collect()
    }

    fn compare(&mut self, paths: &[PathBuf]) -> Vec<Found> {
        let sources: Vec<Option<Source>> = paths.iter().map(|path| self.source(path)).collect();
        let ids: Vec<_> = sources
            .iter()
            .filter_map(|source| match source {
                Some(Source::Object(id)) => Some(*id),
                _ => None,
            })
            .collect();
        let objects = self
            .before
            .map(|before| before.objects(self.workspace, &ids))
            .unwrap_or_default();
        let mut found = Vec::new();
        for (path, source) in paths.iter().zip(sources) {
            let bytes = match &source {
                Some(Source::Object(id)) => objects.get(id).cloned(),
                Some(Source::Kept(id)) => self
                    .before
                    .and_then(|before| before.contents()?.get(id).ok()),
                None => None,
            };
            let before = self.held_before(path, bytes);
            found.extend(self.difference(path, before));
        }
        found
    }

    /// Where the directory's look has what `path` held; none if it is known from before, or the file tools know better.
    fn source(&self, path: &Path) -> Option<Source> {
        if self.earlier.contains_key(path) {
            return None;
        }
        self.before.filter(|_| !self.tools_know(path))?.source(path)
    }

    /// True if a file tool wrote to `path` before any command ran: then it kept what was there, and the look may have come
    /// too late for it.
    fn tools_know(&self, path: &Path) -> bool {
        self.deeds.wrote.get(path).is_some_and(|wrote| !wrote.late)
    }

    fn held_before(&self, path: &Path, bytes: Option<Vec<u8>>) -> Held {
        if let Some(entry) = self.earlier.get(path) {
            let contents = self.turn.folder.as_ref().map(|folder| &folder.contents);
            let id = contents.zip(entry.before.content());
            return Held {
                state: entry.before.clone(),
                bytes: id.and_then(|(contents, id)| contents.get(id).ok()),
            };
        }
        let looked = self.before.and_then(|before| before.scan.files.get(path));
        let wrote = self.deeds.wrote.get(path);
        if let Some(wrote) = wrote.filter(|wrote| !wrote.late) {
            return Held::file(wrote.mode, wrote.before.clone());
        }
        let is_in_scope = self
            .after
            .as_ref()
            .is_some_and(|after| after.files.get(path).is_some());
        match (looked, wrote) {
            (Some(stat), _) => {
                // Another size is another content: something stood between the file and the repository.
                let bytes = bytes.filter(|bytes| bytes.len() as u64 == stat.size);
                Held::of(stat, bytes)
            }
            // A command made it before the file tool came.
            (None, Some(_)) if is_in_scope => Held::absent(),
            (None, Some(wrote)) => Held::file(wrote.mode, wrote.before.clone()),
            (None, None) => Held::absent(),
        }
    }

    fn difference(&mut self, path: &Path, before: Held) -> Option<Found> {
        let stat = Stat::at(path);
        let after = match &stat {
            None => Held::absent(),
            Some(stat) => Held::read(path, stat),
        };
        if before.state == after.state && !self.may_differ_unseen(path, &before, stat.as_ref()) {
            if self.earlier.contains_key(path) {
                self.restored.push(self.workspace.show(path));
            }
            return None;
        }
        let by = self.by(path, stat.as_ref(), after.state.content());
        let mut state = before.state.clone();
        if by != Some(By::Other) {
            self.keep(&mut state, before.bytes.as_deref());
        }
        let diff = self.diff(path, &before, &after);
        let entry = Entry {
            path: path.to_owned(),
            before: state,
            after: after.state,
            from: None,
            by,
            only_copy: self.is_only_copy(path),
        };
        Some(Found {
            entry,
            diff,
            moved_away: false,
        })
    }

    /// Of what is its own, for commands alone move files.
    fn is_only_copy(&self, path: &Path) -> bool {
        let moved = self.before.filter(|_| !self.deeds.wrote.contains_key(path));
        moved.is_some_and(|before| {
            let files = &before.scan.files;
            self.known.lacks(path, files, self.turn.began)
        })
    }

    /// Where neither content is known, the file system's word counts.
    fn may_differ_unseen(&self, path: &Path, before: &Held, now: Option<&Stat>) -> bool {
        let was = self.before.and_then(|before| before.scan.files.get(path));
        let unseen = before.bytes.is_none() && before.state != State::Absent;
        unseen
            && was
                .zip(now)
                .is_some_and(|(was, now)| (was.size, was.modified) != (now.size, now.modified))
    }

    fn diff(&mut self, path: &Path, before: &Held, after: &Held) -> Diff {
        if before.is_unknown() || after.is_unknown() {
            return Diff::default();
        }
        let shown = self.workspace.show(path);
        let (old, new) = (before.bytes.as_deref(), after.bytes.as_deref());
        let mut diff = match (&before.state, &after.state) {
            (State::File { mode: old_mode, .. }, State::File { mode, .. }) if old == new => {
                edit::mode_diff(&shown, *old_mode, *mode)
            }
            _ => edit::unified_diff(&shown, old, new),
        };
        match self.room_for_diffs.checked_sub(diff.text.len()) {
            Some(left) => self.room_for_diffs = left,
            None => diff.text.clear(),
        }
        diff
    }

    /// One entry for a file that left one place and came to another.
    fn pair_renames(&self, found: &mut [Found]) {
        let mut gone: HashMap<&ContentId, usize> = HashMap::new();
        let mut pairs: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, one) in found.iter().enumerate() {
            let own = one.entry.by.is_none() && one.entry.after == State::Absent;
            if let Some(content) = one.entry.before.content().filter(|_| own) {
                gone.insert(content, at);
            }
        }
        for (at, one) in found.iter().enumerate() {
            let own = one.entry.by.is_none() && one.entry.before == State::Absent;
            if let Some(content) = one.entry.after.content().filter(|_| own)
                && *content != ContentId::of(b"")
                && let Some(from) = gone.remove(content)
            {
                pairs.insert(at, from);
            }
        }
        for (to, from) in pairs {
            let old = found[from].entry.path.clone();
            let paths = [&old, &found[to].entry.path].map(|path| self.workspace.show(path));
            found[to].diff = edit::rename_diff(&paths[0], &paths[1]);
            found[to].entry.from = Some(old);
            // The manifest has both: each path has its own before and after.
            found[from].moved_away = true;
        }
    }
}

fn change(workspace: &Workspace, found: Found) -> Change {
    let entry = found.entry;
    let kind = match (&entry.before, &entry.after) {
        _ if entry.from.is_some() => ChangeKind::Renamed,
        (State::Absent, _) => ChangeKind::Added,
        (_, State::Absent) => ChangeKind::Deleted,
        _ => ChangeKind::Modified,
    };
    Change {
        path: workspace.show(&entry.path),
        kind,
        from: entry.from.map(|from| workspace.show(&from)),
        by: entry.by,
        added: found.diff.added,
        removed: found.diff.removed,
        diff: found.diff.text,
    }
}
