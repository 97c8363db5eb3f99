//! A lease: a front-end can carry questions to somebody while it lives.

use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

/// Keeps questions of a thread waiting while it lives. Ends when it is dropped.
#[derive(Debug)]
pub struct Lease {
    /// Only its life matters.
    _alive: DropGuard,
}

impl Lease {
    /// A lease, and what is cancelled when it ends.
    pub(super) fn new() -> (Self, CancellationToken) {
        let ended = CancellationToken::new();
        let _alive = ended.clone().drop_guard();
        (Self { _alive }, ended)
    }

    /// Leaves it behind for whoever was invited to come back. Ended by the time alone; what somebody decides meanwhile
    /// does not wait for it.
    pub fn linger(self, time: Duration) {
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            drop(self);
        });
    }
}
