//! Who is told that a file or a directory changed: those who subscribed to it, in either generation of the protocol.
//!
//! Only what may be read may be watched, at most [`MOST`] at a time by one session or subscription. A session has one task
//! while it has subscriptions; it ends with the last of them, with its client, or with the input. A subscription of
//! 2026-07-28 is watched by its own request.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rmcp::{
    Peer, RoleServer,
    model::ResourceUpdatedNotificationParam,
    service::{RequestContext, SubscriptionContext},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::workspace::watch::{Target, Watch};

/// Resources that one session or subscription watches.
pub(super) const MOST: usize = 256;
/// How often it is seen whether a client that hears nothing is still there.
const LOOKED_AFTER: Duration = Duration::from_secs(60);
/// Subscriptions between acknowledgement and listening.
const WAITING: usize = 64;

/// A resource that is watched.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) uri: String,
    pub(super) target: Target,
}

/// The subscriptions of one server. The locks are held for a map operation; nobody awaits under them.
#[derive(Default)]
pub(in crate::frontend::mcp) struct Watching {
    /// What each session watches. Its task has the other end.
    sessions: Mutex<HashMap<String, watch::Sender<Vec<Watched>>>>,
    /// What was accepted and is not listened to yet, so that nothing that changes meanwhile is missed.
    accepted: Mutex<Vec<Vec<Watched>>>,
}

impl Watching {
    /// A client of a session wants to hear of `wanted` too.
    ///
    /// # Errors
    /// It has as many as there may be.
    pub(super) fn subscribe(
        &self,
        wanted: Watched,
        call: &RequestContext<RoleServer>,
        eof: &CancellationToken,
    ) -> Result<(), String> {
        let mut sessions = locked(&self.sessions);
        let session = session(call);
        let all = sessions.get(&session).filter(|all| !all.is_closed());
        if let Some(all) = all {
            let mut fits = true;
            all.send_modify(|all| {
                all.retain(|known| known.uri != wanted.uri);
                fits = all.len() < MOST;
                all.extend(fits.then_some(wanted));
            });
            return match fits {
                true => Ok(()),
                false => Err(format!(
                    "a session can subscribe to {MOST} resources; unsubscribe from some"
                )),
            };
        }
        let (all, of_task) = watch::channel(vec![wanted]);
        sessions.insert(session, all);
        tokio::spawn(tell_session(of_task, call.peer.clone(), eof.clone()));
        Ok(())
    }

    /// It does not want to any more.
    pub(in crate::frontend::mcp) fn unsubscribe(
        &self,
        uri: &str,
        call: &RequestContext<RoleServer>,
    ) {
        let mut sessions = locked(&self.sessions);
        let session = session(call);
        let Some(all) = sessions.get(&session) else {
            return;
        };
        all.send_modify(|all| all.retain(|known| known.uri != uri));
        if all.borrow().is_empty() {
            // With this its task ends.
            sessions.remove(&session);
        }
    }

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

/// Ended by the last unsubscription, by the end of the client, or by the end of the input.
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
                () = tokio::time::sleep(LOOKED_AFTER) => {
                    if peer.is_transport_closed() {
                        return;
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

/// Standard input has one session; over HTTP each has a name in its headers.
fn session(call: &RequestContext<RoleServer>) -> String {
    let parts = call.extensions.get::<http::request::Parts>();
    let name = parts.and_then(|parts| parts.headers.get("mcp-session-id"));
    name.and_then(|name| name.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
