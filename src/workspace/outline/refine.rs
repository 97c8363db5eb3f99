//! Parsers for a whole survey: the best-ranked files while somebody waits, the rest by one thread in the background.
//!
//! Somebody waits only for what is new: [`AT_FIRST`] at a root of which nothing was parsed yet, [`FOR_CHANGES`] where
//! files are not as they were. So no call does again, or waits for, what the background is at. Surveys go on while it
//! works: what it found goes, by content, into what is kept by then. The processes of one state directory take turns at
//! it, since it is nobody's hurry.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{Mutex, PoisonError, atomic::AtomicUsize},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    grammar::{NAMES, Parsers},
    kept,
    language::Language,
    rank,
    reading::{self, Digest},
    survey::{File, Jobs, Spot, Survey, spots, workers},
};

/// For the best-ranked files of a root that nobody knows, while somebody waits.
const AT_FIRST: Duration = Duration::from_secs(2);
/// For those that changed, while somebody waits.
const FOR_CHANGES: Duration = Duration::from_millis(100);
/// For the rest of them.
const BACKGROUND: Duration = Duration::from_secs(180);
/// After which what the background found is kept, so that a process that ends has not worked for nothing.
const ROUND: Duration = Duration::from_secs(10);
/// How often it is seen whose turn it is.
const TURN: Duration = Duration::from_millis(200);

/// Parses files of `survey` that are new, the best-ranked first, as many as there is time for.
pub(super) fn at_once(survey: &mut Survey, cancel: &CancellationToken) {
    let is_known = survey.files.iter().any(|file| file.parsed);
    let mut wanted = unparsed(&survey.files);
    let patience = match is_known {
        true => {
            wanted.retain(|at| survey.changed.binary_search(at).is_ok());
            FOR_CHANGES
        }
        false => {
            rank::rank(&mut survey.files);
            AT_FIRST
        }
    };
    let until = Instant::now() + patience;
    best_first(&mut wanted, &survey.files);
    let in_time = || Instant::now() < until && !cancel.is_cancelled();
    for (at, spots) in parse(&survey.root, &survey.files, &wanted, workers(), in_time) {
        survey.files[at].spots = spots;
        survey.files[at].parsed = true;
    }
}

/// Files that are not parsed although there may be a grammar. One that failed is not tried again while it is the same.
fn unparsed(files: &[File]) -> Vec<usize> {
    let could = |file: &File| {
        let language = Language::of(Path::new(&file.name), b"");
        language.is_some_and(|language| NAMES.contains(&language.name))
    };
    let open = |file: &File| !file.parsed && file.skipped.is_none() && could(file);
    (0..files.len()).filter(|at| open(&files[*at])).collect()
}

fn best_first(wanted: &mut [usize], files: &[File]) {
    wanted.sort_by(|a, b| files[*b].rank.total_cmp(&files[*a].rank));
}

/// Definitions of the `wanted` files, in any order, as far as `go_on` lets it come.
fn parse(
    root: &Path,
    files: &[File],
    wanted: &[usize],
    workers: usize,
    go_on: impl Fn() -> bool + Sync,
) -> Vec<(usize, Vec<Spot>)> {
    let jobs = Jobs {
        next: AtomicUsize::new(0),
        done: Mutex::default(),
    };
    thread::scope(|threads| {
        for _ in 0..workers.min(wanted.len()) {
            threads.spawn(|| {
                let parsers = std::cell::RefCell::new(Parsers::default());
                jobs.work(wanted.len(), |at| {
                    let found = go_on().then(|| one(root, &files[wanted[at]], &parsers));
                    Some((wanted[at], found??))
                });
            });
        }
    });
    let done = jobs
        .done
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    done.into_iter().map(|(_, found)| found).collect()
}

/// The definitions of a file; those that it has if its parser fails. What changed meanwhile is for the next survey.
fn one(root: &Path, file: &File, parsers: &std::cell::RefCell<Parsers>) -> Option<Vec<Spot>> {
    let path = root.join(&file.name);
    let text = reading::bytes(&path).ok()?;
    let language = Language::of(&path, b"").filter(|_| reading::digest_of(&text) == file.digest)?;
    let parsed = parsers.borrow_mut().parse(language, &path, &text);
    Some(match parsed {
        Some(parsed) => spots(&parsed.definitions, &text, language),
        None => file.spots.clone(),
    })
}

/// The thread that parses what is left. Dropping this ends it after the file that it is at.
#[derive(Debug, Default)]
pub(super) struct Background {
    stop: CancellationToken,
    /// Held for a look; nobody waits under it.
    at_work: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Parses what `survey`, which is kept in `state`, has left, unless that is being done.
    pub(super) fn finish(&self, survey: &Survey, state: &Path) {
        if self.is_busy() || unparsed(&survey.files).is_empty() {
            return;
        }
        let (root, state) = (survey.root.clone(), state.to_owned());
        let stop = self.stop.clone();
        let work = thread::spawn(move || {
            let until = Instant::now() + BACKGROUND;
            let go_on = || Instant::now() < until && !stop.is_cancelled();
            if let Some(_turn) = turn(&state, go_on) {
                finish(&root, &state, go_on);
            }
        });
        *self.at_work.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
    }

    /// Until its thread has ended.
    pub(super) fn is_busy(&self) -> bool {
        let at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits until no other workspace of this state directory is at it. Ended by its turn, or by `go_on`.
fn turn(state: &Path, go_on: impl Fn() -> bool) -> Option<fs::File> {
    // Who has the folder locked parses; nobody else locks it.
    let folder = fs::File::open(kept::folder(state)).ok()?;
    while go_on() {
        match folder.try_lock() {
            Err(fs::TryLockError::WouldBlock) => thread::sleep(TURN),
            // Where there are no locks, several at once do no harm.
            Ok(()) | Err(fs::TryLockError::Error(_)) => return Some(folder),
        }
    }
    None
}

/// Parses what is left at `root`, round after round, until nothing is or `go_on` ends it.
fn finish(root: &Path, state: &Path, go_on: impl Fn() -> bool + Sync) {
    let mut files = kept::load(state, root);
    while go_on() {
        let mut wanted = unparsed(&files);
        best_first(&mut wanted, &files);
        let until = Instant::now() + ROUND;
        let in_round = || Instant::now() < until && go_on();
        let done = parse(root, &files, &wanted, 1, in_round);
        if done.is_empty() {
            return;
        }
        let found = done.into_iter();
        let found = found.map(|(at, spots)| (content(&files[at]), spots));
        let found: HashMap<_, _> = found.collect();
        files = kept::load(state, root);
        put(&mut files, &found);
        if let Err(error) = kept::keep(state, root, &files) {
            tracing::debug!("the outline is not kept: {error}");
            return;
        }
    }
}

/// What the definitions of a file depend on.
type Content = (Digest, Option<&'static str>);

fn content(file: &File) -> Content {
    let language = Language::of(Path::new(&file.name), b"");
    (file.digest, language.map(|language| language.name))
}

fn put(files: &mut [File], found: &HashMap<Content, Vec<Spot>>) {
    for file in files.iter_mut().filter(|file| !file.parsed) {
        if let Some(spots) = found.get(&content(file)) {
            file.spots.clone_from(spots);
            file.parsed = true;
        }
    }
    rank::rank(files);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::outline::{Outlines, reading::Skipped};

    /// Two files of which one was parsed, as after a process that ended early.
    fn half_done(dir: &Path, state: &Path) -> Vec<File> {
        fs::write(dir.join("a.rs"), "pub fn one_thing() {}\n").unwrap();
        fs::write(dir.join("b.rs"), "pub fn other_thing() {}\n").unwrap();
        // What was written in the last moments is not believed by its looks.
        thread::sleep(Duration::from_millis(80));
        let survey = Outlines::new(Some(state.to_owned()))
            .survey(dir, &[], &CancellationToken::new())
            .unwrap();
        let mut files = survey.files;
        assert!(files.iter().all(|file| file.parsed));
        files[1].parsed = false;
        kept::keep(state, dir, &files).unwrap();
        files
    }

    fn until_idle(outlines: &Outlines) {
        let began = Instant::now();
        while outlines.is_busy() {
            assert!(began.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn what_the_background_has_left_is_never_parsed_while_somebody_waits() {
        let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        half_done(dir.path(), state.path());
        let outlines = Outlines::new(Some(state.path().to_owned()));
        let survey = outlines
            .survey(dir.path(), &[], &CancellationToken::new())
            .unwrap();
        let parsed = |files: &[File]| files.iter().filter(|file| file.parsed).count();
        assert_eq!((parsed(&survey.files), survey.fresh), (1, false));
        until_idle(&outlines);
        assert_eq!(parsed(&kept::load(state.path(), dir.path())), 2);
    }

    #[test]
    fn what_was_kept_while_it_parsed_is_not_lost() {
        let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut newer = half_done(dir.path(), state.path());
        let spots = newer[1].spots.clone();
        let found = HashMap::from([(content(&newer[1]), spots)]);
        newer.push(File {
            name: "c".to_owned(),
            skipped: Some(Skipped::Binary),
            ..File::default()
        });
        newer[0].lines = 77;
        put(&mut newer, &found);
        assert_eq!((newer.len(), newer[0].lines), (3, 77));
        assert!(newer[1].parsed);
    }

    #[test]
    fn one_workspace_of_a_state_directory_parses_at_a_time() {
        let state = tempfile::tempdir().unwrap();
        kept::keep(state.path(), Path::new("/w"), &[]).unwrap();
        let first = turn(state.path(), || true).unwrap();
        let until = Instant::now() + Duration::from_millis(500);
        assert!(turn(state.path(), || Instant::now() < until).is_none());
        drop(first);
        assert!(turn(state.path(), || true).is_some());
    }
}
