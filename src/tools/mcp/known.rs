//! What is remembered of an external server beyond one start: what it offered last, or that it was late.
//!
//! One that was late is not waited for again until it has been ready once: a server that says nothing must not hold up
//! every thread for its whole start-up time, in this process or in the next.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::offer::Offer;

/// Those of this process, where nothing is kept too. Locked for a moment; nobody awaits under it.
#[derive(Debug, Default)]
pub(super) struct Late(Mutex<HashSet<String>>);

/// Files of offers.
const MOST_KEPT: usize = 256;
/// How many of them are remembered; of one that is forgotten a thread finds out again.
const MOST_LATE: usize = 1_000;

impl Late {
    fn all(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the top of the file. Clones are about the same server.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// What makes it another server.
    key: String,
    /// The file of what it offered last; none in a process that keeps nothing.
    kept_in: Option<PathBuf>,
    /// Locked for a moment; nobody awaits under it.
    offer: Arc<Mutex<Option<Arc<Offer>>>>,
    late: Arc<Late>,
}

impl Known {
    pub(super) fn new(key: &str, kept_in: Option<PathBuf>, late: Arc<Late>) -> Self {
        let mut kept = kept_in.as_deref().and_then(Offer::kept);
        if kept.take_if(|kept| kept.late).is_some() {
            late.all().insert(key.to_owned());
        }
        Self {
            key: key.to_owned(),
            kept_in,
            offer: Arc::new(Mutex::new(kept.map(Arc::new))),
            late,
        }
    }

    /// What it offered last.
    pub(super) fn offer(&self) -> Option<Arc<Offer>> {
        self.locked().clone()
    }

    /// It was not ready in time, and has not been since.
    pub(super) fn is_late(&self) -> bool {
        self.late.all().contains(&self.key)
    }

    /// Remembers what it offers now, in this run and the next.
    pub(super) fn offers(&self, offer: Arc<Offer>) {
        self.late.all().remove(&self.key);
        let known = self.locked().replace(offer.clone());
        if known.as_ref() != Some(&offer) {
            self.keep(&offer);
        }
    }

    /// Remembers that it was not ready in time. Of one that was seen before that says nothing new.
    pub(super) fn was_late(&self) {
        if self.locked().is_some() {
            return;
        }
        let mut late = self.late.all();
        if late.len() >= MOST_LATE {
            late.clear();
        }
        if late.insert(self.key.clone()) {
            drop(late);
            self.keep(&Offer {
                late: true,
                ..Offer::default()
            });
        }
    }

    fn keep(&self, offer: &Offer) {
        let Some(path) = &self.kept_in else { return };
        if let Err(error) = offer.keep(path) {
            tracing::warn!("what external servers offer cannot be kept: {error}");
        }
        if let Some(place) = path.parent() {
            // What stays is only in the way.
            let _ = clear(place);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<Arc<Offer>>> {
        self.offer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what was written longest ago: each directory has its own, and those of worktrees come and go.
fn clear(place: &Path) -> io::Result<()> {
    let mut kept: Vec<(SystemTime, PathBuf)> = fs_err::read_dir(place)?
        .flatten()
        .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())))
        .collect();
    kept.sort();
    for (_, path) in kept.iter().take(kept.len().saturating_sub(MOST_KEPT)) {
        fs_err::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_servers_that_come_and_go_does_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..MOST_KEPT + 20 {
            let file = dir.path().join(format!("offers/{n}.json"));
            Known::new(&n.to_string(), Some(file), Arc::default()).offers(Arc::default());
        }
        let kept = std::fs::read_dir(dir.path().join("offers")).unwrap();
        assert_eq!(kept.count(), MOST_KEPT);
        assert!(
            dir.path()
                .join(format!("offers/{}.json", MOST_KEPT + 19))
                .exists()
        );
    }

    #[test]
    fn one_that_was_late_is_known_for_it_until_it_was_ready_once() {
        let dir = tempfile::tempdir().unwrap();
        let again = |late: &Arc<Late>| {
            let file = dir.path().join("offers/s.json");
            Known::new("s", Some(file), late.clone())
        };
        let late: Arc<Late> = Arc::default();
        let first = again(&late);
        assert!(!first.is_late());
        first.was_late();
        assert!(again(&late).is_late(), "in this process");
        let later: Arc<Late> = Arc::default();
        let next = again(&later);
        assert!(next.is_late() && next.offer().is_none(), "in the next");
        next.offers(Arc::default());
        assert!(!next.is_late() && next.offer().is_some());
        assert!(!again(&Arc::default()).is_late());
        next.was_late();
        assert!(!next.is_late(), "it was seen before");
    }
}
