//! The threads of one owner: a store that does not know any others. What is foreign and what is not there are the same,
//! in words and in the work that it takes to say so.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    rollout::{Header, Loaded},
    store::{Journal, StoreError, ThreadStore, ThreadSummary},
};
use crate::conversation::ThreadId;

/// A store of which one owner sees what is theirs; `None` owns what no tenant of a server does.
pub struct Owned {
    all: Arc<dyn ThreadStore>,
    owner: Option<String>,
    /// Threads that may be kept.
    most: usize,
    /// Which of those that were looked at are theirs: a thread stays its owner's. Held for a look at the head of a
    /// rollout; nobody awaits under it.
    known: Mutex<HashMap<ThreadId, bool>>,
    /// Threads that may be made before those that are kept are counted again. Held while one is made, so that two at once
    /// are counted one after the other.
    uncounted: Mutex<usize>,
}

impl Owned {
    /// What `owner` has in `all`, which may be `most` threads.
    pub fn new(all: Arc<dyn ThreadStore>, owner: Option<String>, most: usize) -> Self {
        Self {
            all,
            owner,
            most,
            known: Mutex::default(),
            uncounted: Mutex::default(),
        }
    }

    /// Before anything else of a thread is read.
    fn own(&self, id: ThreadId) -> Result<(), StoreError> {
        match self.is_own(id)? {
            true => Ok(()),
            false => Err(StoreError::Unknown(id)),
        }
    }

    fn is_own(&self, id: ThreadId) -> Result<bool, StoreError> {
        if let Some(own) = self.known().get(&id) {
            return Ok(*own);
        }
        let own = match self.all.owner(id) {
            // Of a damaged one nobody can say whose it is: it is for the owner of the machine. One that is just being made
            // looks the same, so this is not remembered.
            Err(StoreError::Damaged { .. }) if self.owner.is_some() => return Ok(false),
            owner => owner? == self.owner,
        };
        self.known().insert(id, own);
        Ok(own)
    }

    /// Else what is known would grow with every thread that there ever was.
    fn forget_all_but(&self, kept: &[ThreadId]) {
        let mut known = self.known();
        *known = kept
            .iter()
            .filter_map(|id| known.remove_entry(id))
            .collect();
    }

    /// Counts those that are kept, unless there surely is room. Half of the room is used before the next count: the rest is
    /// for what other processes make meanwhile. So counting costs little however many there are.
    fn count(&self, uncounted: &mut usize) -> Result<(), StoreError> {
        if *uncounted == 0 && self.most < usize::MAX {
            let left = self.most.saturating_sub(self.ids()?.len());
            *uncounted = left.div_ceil(2);
        }
        match *uncounted > 0 || self.most == usize::MAX {
            true => Ok(()),
            false => Err(StoreError::Full(self.most)),
        }
    }

    fn uncounted(&self) -> MutexGuard<'_, usize> {
        self.uncounted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ThreadId, bool>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ThreadStore for Owned {
    fn create(&self, header: &Header) -> Result<Box<dyn Journal>, StoreError> {
        let mut uncounted = self.uncounted();
        self.count(&mut uncounted)?;
        let journal = self.all.create(header)?;
        *uncounted = uncounted.saturating_sub(1);
        Ok(journal)
    }

    fn room(&self) -> Result<(), StoreError> {
        self.count(&mut self.uncounted())
    }

    fn open(&self, id: ThreadId) -> Result<(Loaded, Box<dyn Journal>), StoreError> {
        self.own(id)?;
        self.all.open(id)
    }

    fn read(&self, id: ThreadId) -> Result<Loaded, StoreError> {
        self.own(id)?;
        self.all.read(id)
    }

    fn list(&self) -> Result<Vec<ThreadSummary>, StoreError> {
        let mut threads = self.all.list()?;
        threads.retain(|thread| thread.owner == self.owner);
        Ok(threads)
    }

    /// The owner of the machine gets those of all: to know whose one is costs a look at it, and there is nothing to
    /// hide from them.
    fn ids(&self) -> Result<Vec<ThreadId>, StoreError> {
        let mut ids = self.all.ids()?;
        if self.owner.is_some() {
            self.forget_all_but(&ids);
            ids.retain(|id| self.is_own(*id).unwrap_or(false));
        }
        Ok(ids)
    }

    fn glance(&self, id: ThreadId) -> Result<ThreadSummary, StoreError> {
        self.own(id)?;
        self.all.glance(id)
    }

    fn owner(&self, id: ThreadId) -> Result<Option<String>, StoreError> {
        self.own(id)?;
        Ok(self.owner.clone())
    }

    fn socket(&self, id: ThreadId) -> Option<PathBuf> {
        self.all.socket(id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::thread::{DirectoryStore, rollout};

    /// A directory that counts how often it was looked through.
    struct Looked {
        store: DirectoryStore,
        looks: AtomicUsize,
    }

    impl ThreadStore for Looked {
        fn create(&self, header: &Header) -> Result<Box<dyn Journal>, StoreError> {
            self.store.create(header)
        }

        fn open(&self, id: ThreadId) -> Result<(Loaded, Box<dyn Journal>), StoreError> {
            self.store.open(id)
        }

        fn read(&self, id: ThreadId) -> Result<Loaded, StoreError> {
            self.store.read(id)
        }

        fn list(&self) -> Result<Vec<ThreadSummary>, StoreError> {
            self.store.list()
        }

        fn ids(&self) -> Result<Vec<ThreadId>, StoreError> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            self.store.ids()
        }

        fn socket(&self, id: ThreadId) -> Option<PathBuf> {
            self.store.socket(id)
        }
    }

    struct Place {
        directory: tempfile::TempDir,
        looked: Arc<Looked>,
        header: Header,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let fixture = "/fixtures/rollouts/v1/completed.jsonl";
            let text = fs_err::read(env!("CARGO_MANIFEST_DIR").to_owned() + fixture).unwrap();
            let looked = Looked {
                store: DirectoryStore::new(directory.path().join("threads")),
                looks: AtomicUsize::new(0),
            };
            Self {
                directory,
                looked: Arc::new(looked),
                header: rollout::read(&text).unwrap().header,
            }
        }

        fn of(&self, owner: &str, most: usize) -> Owned {
            Owned::new(self.looked.clone(), Some(owner.to_owned()), most)
        }

        /// As a call does it: whether there is room, and then a thread.
        fn make(&self, own: &Owned) -> Result<ThreadId, StoreError> {
            own.room()?;
            let header = Header {
                thread_id: ThreadId::generate(),
                owner: own.owner.clone(),
                ..self.header.clone()
            };
            own.create(&header)?;
            Ok(header.thread_id)
        }
    }

    #[test]
    fn threads_are_not_counted_anew_for_each_that_is_made() {
        let place = Place::new();
        let own = place.of("ana", 1000);
        for _ in 0..200 {
            place.make(&own).unwrap();
        }
        assert_eq!(place.looked.looks.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_thread_that_is_seen_while_it_is_made_is_its_owners_all_the_same() {
        let place = Place::new();
        let own = place.of("ana", 9);
        let made = place.make(&own).unwrap();
        let folder = place
            .directory
            .path()
            .join("threads")
            .join(made.to_string());
        let rollout = folder.join("rollout.jsonl");
        let whole = fs_err::read(&rollout).unwrap();
        fs_err::write(&rollout, "").unwrap();
        assert!(own.read(made).is_err());
        fs_err::write(&rollout, whole).unwrap();
        assert!(own.read(made).is_ok());
    }

    #[test]
    fn two_processes_together_make_no_more_than_there_is_room_for() {
        let place = Place::new();
        let [one, two] = [place.of("ana", 9), place.of("ana", 9)];
        let other = place.of("bob", 1);
        place.make(&other).unwrap();
        let mut made = Vec::new();
        for _ in 0..9 {
            made.extend(place.make(&one));
            made.extend(place.make(&two));
        }
        assert_eq!(made.len(), 9);
        let full = place.make(&one).unwrap_err();
        assert!(matches!(full, StoreError::Full(9)), "{full}");
        assert!(matches!(place.make(&other), Err(StoreError::Full(1))));
        // What is removed, by whomever, makes room and is forgotten.
        let gone = place.directory.path().join("threads");
        fs_err::remove_dir_all(gone.join(made[0].to_string())).unwrap();
        place.make(&two).unwrap();
        assert_eq!(two.ids().unwrap().len(), 9);
        assert!(!two.known().contains_key(&made[0]));
        assert!(place.make(&one).is_err());
    }
}
