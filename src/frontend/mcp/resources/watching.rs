//! Who is told that a file or a directory changed: those who subscribed to it, in either generation of the protocol.
//!
//! Only what may be read may be watched, at most [`MOST`] at a time by one session or subscription. A session has its
//! [`Subscriptions`] to itself, and one task while there are some; it ends with the last of them, with its session, or
//! with the input. A subscription of 2026-07-28 is watched by its own request.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rmcp::{
    Peer, RoleServer, model::ResourceUpdatedNotificationParam, service::SubscriptionContext,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::workspace::watch::{Target, Watch};

/// Resources that one session or subscription watches.
pub(super) const MOST: usize = 256;
/// Subscriptions between acknowledgement and listening.
const WAITING: usize = 64;

/// A resource that is watched.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) uri: String,
    pub(super) target: Target,
}

/// What a client of a session wants to hear of. Dropping it ends that, so it lives as long as its connection: neither a
/// header nor a peer says whose a subscription is where several connections have one server.
#[derive(Default)]
pub(in crate::frontend::mcp) struct Subscriptions {
    /// The task that tells the client has the other end; none while nothing is watched. Held for a change of the list;
    /// nobody awaits under it.
    all: Mutex<Option<watch::Sender<Vec<Watched>>>>,
}

impl Subscriptions {
    /// The client wants to hear of `wanted` too.
    ///
    /// # Errors
    /// It has as many as there may be.
    pub(super) fn add(
        &self,
        wanted: Watched,
        peer: &Peer<RoleServer>,
        eof: &CancellationToken,
    ) -> Result<(), String> {
        let mut all = locked(&self.all);
        let Some(open) = all.as_ref().filter(|all| !all.is_closed()) else {
            let (open, of_task) = watch::channel(vec![wanted]);
            *all = Some(open);
            tokio::spawn(tell_session(of_task, peer.clone(), eof.clone()));
            return Ok(());
        };
        let mut fits = true;
        open.send_modify(|all| {
            all.retain(|known| known.uri != wanted.uri);
            fits = all.len() < MOST;
            all.extend(fits.then_some(wanted));
        });
        match fits {
            true => Ok(()),
            false => Err(format!(
                "a session can subscribe to {MOST} resources; unsubscribe from some"
            )),
        }
    }

    /// It does not want to any more.
    pub(in crate::frontend::mcp) fn remove(&self, uri: &str) {
        let mut all = locked(&self.all);
        let Some(open) = all.as_ref() else {
            return;
        };
        open.send_modify(|all| all.retain(|known| known.uri != uri));
        if open.borrow().is_empty() {
            // With this its task ends.
            *all = None;
        }
    }
}

/// The subscriptions of 2026-07-28 of one server.
#[derive(Default)]
pub(in crate::frontend::mcp) struct Watching {
    /// What was accepted and is not listened to yet, so that nothing that changes meanwhile is missed. Held for a list
    /// operation; nobody awaits under it.
    accepted: Mutex<Vec<Vec<Watched>>>,
}

impl Watching {
    /// A subscription is about to be acknowledged.
    pub(super) fn accept(&self, watched: Vec<Watched>) {
        let mut accepted = locked(&self.accepted);
        if accepted.len() >= WAITING {
            accepted.remove(0);
        }
        accepted.push(watched);
    }

    /// Tells a subscription what changes. Ended by being dropped; never ends by itself.
    pub(in crate::frontend::mcp) async fn serve(&self, subscription: &SubscriptionContext) {
        let uris = subscription
            .accepted()
            .resource_subscriptions
            .as_deref()
            .unwrap_or_default();
        let found = {
            let mut accepted = locked(&self.accepted);
            let same = |watched: &Vec<Watched>| watched.iter().map(|one| &one.uri).eq(uris);
            accepted.iter().position(same).map(|at| accepted.remove(at))
        };
        let (uris, targets) = unzipped(found.unwrap_or_default());
        if !targets.is_empty() {
            let mut watch = Watch::new(targets);
            'told: loop {
                for at in watch.changed().await {
                    if subscription
                        .sink()
                        .notify_resource_updated(&uris[at])
                        .await
                        .is_err()
                    {
                        break 'told;
                    }
                }
            }
        }
        std::future::pending().await
    }
}

/// Ended by the last unsubscription, by the end of the session, by a client that cannot be told, or by the end of the input.
async fn tell_session(
    mut all: watch::Receiver<Vec<Watched>>,
    peer: Peer<RoleServer>,
    eof: CancellationToken,
) {
    let mut known: HashMap<String, Target> = HashMap::new();
    loop {
        // What was told already is not told again because something was added.
        let mut wanted = all.borrow_and_update().clone();
        for one in &mut wanted {
            if let Some(target) = known.remove(&one.uri) {
                one.target = target;
            }
        }
        let (uris, targets) = unzipped(wanted);
        let mut watch = Watch::new(targets);
        let goes_on = loop {
            tokio::select! {
                changed = watch.changed() => {
                    for at in changed {
                        if peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(&uris[at])).await.is_err() {
                            return;
                        }
                    }
                }
                others = all.changed() => break others.is_ok(),
                () = eof.cancelled() => return,
            }
        };
        if !goes_on {
            return;
        }
        known = uris.into_iter().zip(watch.into_targets()).collect();
    }
}

fn unzipped(watched: Vec<Watched>) -> (Vec<String>, Vec<Target>) {
    watched.into_iter().map(|one| (one.uri, one.target)).unzip()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
