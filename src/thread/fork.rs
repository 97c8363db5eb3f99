//! A new thread that begins with what another one said, up to the end of one of its turns.

use super::{
    rollout::{Header, Loaded, Record, now},
    store::{StoreError, ThreadStore},
    threads::whole,
};
use crate::conversation::{Item, ThreadId};

/// Forks `loaded` after the turn at `turn`, or after the last, and gives the new thread's name. The directory is not
/// forked: it is as it is.
pub fn fork(
    store: &dyn ThreadStore,
    loaded: &Loaded,
    turn: Option<usize>,
) -> Result<ThreadId, StoreError> {
    let header = Header {
        thread_id: ThreadId::generate(),
        created_at: now(),
        parent: Some(loaded.header.thread_id),
        ..loaded.header.clone()
    };
    let mut journal = store.create(&header)?;
    for item in whole(up_to(loaded, turn)) {
        journal.append(&Record::Item(item.clone()))?;
    }
    journal.release();
    Ok(header.thread_id)
}

fn up_to(loaded: &Loaded, turn: Option<usize>) -> &[Item] {
    let next = turn.and_then(|turn| loaded.turns.get(turn + 1));
    &loaded.items[..next.map_or(loaded.items.len(), |next| next.first_item)]
}
