//! Who is told that the list of resources changed: clients of a session always, others by subscription.

use std::sync::{Mutex, PoisonError};

use rmcp::{Peer, RoleServer, model::SubscriptionFilter, service::SubscriptionContext};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The changes of one server. Many at once are told as one.
#[derive(Default)]
pub(in crate::frontend::mcp) struct Changes {
    /// Counts them.
    count: watch::Sender<u64>,
    /// Where subscriptions that are being acknowledged count from, so that nothing that happens meanwhile is missed.
    /// Held for a push or a pop; nobody awaits under it.
    counting_from: Mutex<Vec<watch::Receiver<u64>>>,
}

impl Changes {
    /// There is one more.
    pub(super) fn tell(&self) {
        self.count.send_modify(|count| *count += 1);
    }

    /// Tells a client of a session when the list changes. Ended by the end of the input, or of the client.
    pub(in crate::frontend::mcp) async fn announce(
        &self,
        peer: Peer<RoleServer>,
        eof: CancellationToken,
    ) {
        let mut count = self.count.subscribe();
        while changed(&mut count, &eof).await && peer.notify_resource_list_changed().await.is_ok() {
        }
    }

    /// The part of a subscription that we can serve. It is acknowledged after this and heard after that.
    pub(in crate::frontend::mcp) fn accept(
        &self,
        requested: &SubscriptionFilter,
    ) -> SubscriptionFilter {
        if requested.resources_list_changed != Some(true) {
            return SubscriptionFilter::new();
        }
        let mut waiting = self
            .counting_from
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.push(self.count.subscribe());
        SubscriptionFilter::builder()
            .resources_list_changed()
            .build()
    }

    /// Tells a subscription when the list changes. Ended by its cancellation, or by the end of the input.
    pub(in crate::frontend::mcp) async fn serve(
        &self,
        subscription: &SubscriptionContext,
        eof: &CancellationToken,
    ) {
        let ended = async {
            tokio::select! {
                () = subscription.cancelled() => {}
                () = eof.cancelled() => {}
            }
        };
        let told = async {
            if subscription.accepted().resources_list_changed == Some(true) {
                let mut count = self.counted_from();
                while count.changed().await.is_ok()
                    && subscription
                        .sink()
                        .notify_resource_list_changed()
                        .await
                        .is_ok()
                {}
            }
            std::future::pending().await
        };
        tokio::select! {
            () = ended => {}
            () = told => {}
        }
    }

    /// Any one will do: the oldest counts from before all others.
    fn counted_from(&self) -> watch::Receiver<u64> {
        let mut waiting = self
            .counting_from
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            self.count.subscribe()
        } else {
            waiting.remove(0)
        }
    }
}

/// Waits for the next change; false at the end of the input.
async fn changed(count: &mut watch::Receiver<u64>, eof: &CancellationToken) -> bool {
    tokio::select! {
        changed = count.changed() => changed.is_ok(),
        () = eof.cancelled() => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_between_acknowledgement_and_listening_is_not_missed() {
        let changes = Changes::default();
        let wanted = SubscriptionFilter::builder()
            .resources_list_changed()
            .build();
        assert_eq!(changes.accept(&wanted), wanted);
        changes.tell();
        assert!(changes.counted_from().has_changed().unwrap());
        // The next one counts from where it begins.
        changes.accept(&wanted);
        assert!(!changes.counted_from().has_changed().unwrap());
    }

    #[test]
    fn what_is_not_served_is_not_accepted() {
        let wanted = SubscriptionFilter::builder().tools_list_changed().build();
        let changes = Changes::default();
        assert_eq!(changes.accept(&wanted), SubscriptionFilter::new());
        assert!(changes.counting_from.lock().unwrap().is_empty());
    }
}
