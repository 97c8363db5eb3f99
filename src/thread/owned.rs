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
    /// Held while a thread is made, so that two at once are counted one after the other.
    making: Mutex<()>,
}

impl Owned {
    /// What `owner` has in `all`, which may be `most` threads.
    pub fn new(all: Arc<dyn ThreadStore>, owner: Option<String>, most: usize) -> Self {
        Self {
            all,
            owner,
            most,
            known: Mutex::default(),
            making: Mutex::default(),
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
            // Of a damaged one nobody can say whose it is: it is for the owner of the machine.
            Err(StoreError::Damaged { .. }) if self.owner.is_some() => false,
            owner => owner? == self.owner,
        };
        self.known().insert(id, own);
        Ok(own)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ThreadId, bool>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ThreadStore for Owned {
    fn create(&self, header: &Header) -> Result<Box<dyn Journal>, StoreError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.room()?;
        self.all.create(header)
    }

    fn room(&self) -> Result<(), StoreError> {
        match self.most == usize::MAX || self.ids()?.len() < self.most {
            true => Ok(()),
            false => Err(StoreError::Full(self.most)),
        }
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
