//! The threads of one owner: a store that does not know any others. What is foreign and what is not there are the same.

use std::{path::PathBuf, sync::Arc};

use super::{
    rollout::{Header, Loaded},
    store::{Journal, StoreError, ThreadStore, ThreadSummary},
};
use crate::conversation::ThreadId;

/// A store of which one owner sees what is theirs; `None` owns what no tenant of a server does.
pub struct Owned {
    all: Arc<dyn ThreadStore>,
    owner: Option<String>,
}

impl Owned {
    /// What `owner` has in `all`.
    pub fn new(all: Arc<dyn ThreadStore>, owner: Option<String>) -> Self {
        Self { all, owner }
    }

    fn own(&self, loaded: &Loaded) -> Result<(), StoreError> {
        match loaded.header.owner == self.owner {
            true => Ok(()),
            false => Err(StoreError::Unknown(loaded.header.thread_id)),
        }
    }
}

impl ThreadStore for Owned {
    fn create(&self, header: &Header) -> Result<Box<dyn Journal>, StoreError> {
        self.all.create(header)
    }

    fn open(&self, id: ThreadId) -> Result<(Loaded, Box<dyn Journal>), StoreError> {
        let (loaded, journal) = self.all.open(id)?;
        self.own(&loaded)?;
        Ok((loaded, journal))
    }

    fn read(&self, id: ThreadId) -> Result<Loaded, StoreError> {
        let loaded = self.all.read(id)?;
        self.own(&loaded)?;
        Ok(loaded)
    }

    fn list(&self) -> Result<Vec<ThreadSummary>, StoreError> {
        let mut threads = self.all.list()?;
        threads.retain(|thread| thread.owner == self.owner);
        Ok(threads)
    }

    /// Of all owners, since to know whose one is costs a look into it: only for those who then [`glance`](Self::glance)
    /// or [`read`](Self::read).
    fn ids(&self) -> Result<Vec<ThreadId>, StoreError> {
        self.all.ids()
    }

    fn glance(&self, id: ThreadId) -> Result<ThreadSummary, StoreError> {
        let thread = self.all.glance(id)?;
        match thread.owner == self.owner {
            true => Ok(thread),
            false => Err(StoreError::Unknown(id)),
        }
    }

    fn socket(&self, id: ThreadId) -> Option<PathBuf> {
        self.all.socket(id)
    }
}
