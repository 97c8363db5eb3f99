//! Why a request was cancelled. rmcp cancels a call's token and tells the reason by another road, a little later.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rmcp::model::RequestId;
use tokio::sync::oneshot;

/// The reason comes in the same message as the cancellation; this is for the way through rmcp's tasks.
const LATEST: Duration = Duration::from_millis(100);

/// Calls that are open, and whom to tell the reason. The lock is held for a map operation; nobody awaits under it.
#[derive(Debug, Default)]
pub(super) struct Cancellations {
    open: Mutex<HashMap<RequestId, oneshot::Sender<Option<String>>>>,
}

/// An open call. Dropping it forgets the call.
#[derive(Debug)]
pub(super) struct OpenCall<'a> {
    all: &'a Cancellations,
    id: RequestId,
    reason: Option<oneshot::Receiver<Option<String>>>,
}

impl Cancellations {
    pub(super) fn open(&self, id: RequestId) -> OpenCall<'_> {
        let (tell, reason) = oneshot::channel();
        self.map().insert(id.clone(), tell);
        OpenCall {
            all: self,
            id,
            reason: Some(reason),
        }
    }

    /// Late and unknown ids are nobody's.
    pub(super) fn tell(&self, id: &RequestId, reason: Option<String>) {
        if let Some(tell) = self.map().remove(id) {
            // The call ended meanwhile.
            let _ = tell.send(reason);
        }
    }

    fn map(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<RequestId, oneshot::Sender<Option<String>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenCall<'_> {
    /// The client's words. Ended by their arrival or by [`LATEST`].
    pub(super) async fn reason(&mut self) -> Option<String> {
        let reason = self.reason.take()?;
        tokio::time::timeout(LATEST, reason).await.ok()?.ok()?
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.all.map().remove(&self.id);
    }
}

/// True if the client only ran out of time, so that somebody may still want the turn.
pub(super) fn ran_out_of_time(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["timed out", "timeout", "time out", "deadline"]
        .iter()
        .any(|word| reason.contains(word))
}
