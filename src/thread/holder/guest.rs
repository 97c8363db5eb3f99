//! The side of a process that finds a thread held by another: a handle like any other, whose verbs go over a line.
//!
//! A task takes requests from the handle's mailbox and gives each to an errand, so that none waits for another. It ends
//! with the last handle, and its errands with it, but for a lease, which lasts as long as its holder wants. When the
//! process that holds the thread is gone, every request is told so; what to do about that is for whoever asked: the
//! thread can be had here then.

use std::{io, sync::Arc};

use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Ask, PROTOCOL, Say,
    line::{Errand, Line, PATIENCE},
};
use crate::{
    conversation::{Event, Item, Outcome, ThreadId, TurnId},
    thread::{
        actor::{EVENT_BACKLOG, Request},
        handle::{Abandoned, Follow, Snapshot, StartError, Started, ThreadHandle},
        lease::Lease,
        rollout::Header,
        store::{StoreError, ThreadStore},
    },
};

/// A handle to a thread that another process holds; `None` if no other does, or if it just gives it back.
pub async fn visit(
    store: Arc<dyn ThreadStore>,
    header: Header,
) -> io::Result<Option<ThreadHandle>> {
    let Some(socket) = store.socket(header.thread_id) else {
        return Ok(None);
    };
    let Some(line) = Line::to(&socket).await? else {
        return Ok(None);
    };
    match said(line.ask(Ask::Greet { protocol: PROTOCOL })).await? {
        Some(Say::Done) => {}
        Some(Say::Refused(why)) => return Err(not_understood(&why)),
        Some(_) => return Err(not_understood("it answers something else")),
        None => return Ok(None),
    }
    let (mailbox, requests) = mpsc::channel(64);
    let guest = Guest {
        line,
        store,
        id: header.thread_id,
        following: None,
        left: CancellationToken::new(),
    };
    tokio::spawn(guest.run(requests));
    Ok(Some(ThreadHandle::far(Arc::new(header), mailbox)))
}

fn not_understood(why: &str) -> io::Error {
    io::Error::other(format!(
        "the process that works on the thread does not understand this one, it may be another version of openoxide: {why}"
    ))
}

/// The one answer of an errand.
async fn said(mut errand: Errand) -> io::Result<Option<Say>> {
    let silent = "the process that works on the thread does not answer";
    let said = timeout(PATIENCE, errand.hear()).await;
    said.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, silent))
}

struct Guest {
    line: Line,
    store: Arc<dyn ThreadStore>,
    id: ThreadId,
    /// The errand that follows a turn, as long as somebody waits for it.
    following: Option<AbortOnDropHandle<()>>,
    /// Cancelled when nobody has the handle any more.
    left: CancellationToken,
}

impl Guest {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let _left = self.left.clone().drop_guard();
        while let Some(request) = requests.recv().await {
            self.serve(request);
        }
    }

    /// A reply that is dropped says that the holder is gone.
    fn serve(&mut self, request: Request) {
        match request {
            Request::Start { prompt, reply } => match prompt {
                // See the top of `holder`.
                Some(_) => drop(reply.send(Err(StartError::Elsewhere(self.id)))),
                None => self.join(reply),
            },
            Request::Follow(reply) => {
                let errand = self.line.ask(Ask::Follow);
                self.following = Some(owned(follow(errand, |found| drop(reply.send(found)))));
            }
            Request::Subscribe(reply) => {
                let errand = self.line.ask(Ask::Subscribe);
                let (store, id, left) = (self.store.clone(), self.id, self.left.clone());
                tokio::spawn(left.run_until_cancelled_owned(subscribe(errand, store, id, reply)));
            }
            Request::Attend(reply) => {
                tokio::spawn(attend(self.line.ask(Ask::Attend), reply));
            }
            Request::Answer {
                id,
                answer,
                by,
                reply,
            } => self.ask(Ask::Answer { id, answer, by }, |say| match say {
                Say::Answered(counted) => drop(reply.send(Some(counted))),
                other => unexpected(&other),
            }),
            Request::Decide { id, answer, reply } => {
                self.ask(Ask::Decide { id, answer }, |say| match say {
                    Say::Done => drop(reply.send(Ok(()))),
                    Say::NotDecided(why) => drop(reply.send(Err(why))),
                    other => unexpected(&other),
                });
            }
            Request::GiveUp { id, reply } => self.done(Ask::GiveUp { id }, reply),
            Request::Interrupt { turn_id, reply } => self.done(Ask::Interrupt { turn_id }, reply),
            Request::Standing(reply) => self.ask(Ask::Standing, |say| match say {
                Say::Standing(standing) => drop(reply.send(standing.map(|standing| *standing))),
                other => unexpected(&other),
            }),
            Request::OutcomeOf { turn_id, reply } => {
                self.ask(Ask::OutcomeOf { turn_id }, |say| match say {
                    Say::OutcomeOf(outcome) => drop(reply.send(outcome.map(|outcome| *outcome))),
                    other => unexpected(&other),
                });
            }
            Request::Has { turn_id, reply } => {
                self.ask(Ask::Has { turn_id }, |say| match say {
                    Say::Has(has) => drop(reply.send(has)),
                    other => unexpected(&other),
                });
            }
            Request::Abandon { turn_id, reply } => {
                let (line, following) = (self.line.clone(), self.following.take());
                tokio::spawn(abandon(line, following, turn_id, reply));
            }
            // The process that ends is this one; the turn is not its.
            Request::Leave(reply) | Request::EndSessions(reply) => drop(reply.send(())),
            Request::Refresh(reply) => drop(reply.send(true)),
            // It is in no map, so nobody puts it to rest.
            Request::Rest { reply, .. } => drop(reply.send(false)),
        }
    }

    /// An errand with one answer.
    fn ask(&self, ask: Ask, then: impl FnOnce(Say) + Send + 'static) {
        let errand = self.line.ask(ask);
        tokio::spawn(async move {
            match said(errand).await {
                Ok(Some(Say::Refused(why))) => tracing::warn!("{}", not_understood(&why)),
                Ok(Some(say)) => then(say),
                Ok(None) => {}
                Err(silent) => tracing::warn!("{silent}"),
            }
        });
    }

    fn done(&self, ask: Ask, reply: oneshot::Sender<()>) {
        self.ask(ask, |say| match say {
            Say::Done => drop(reply.send(())),
            other => unexpected(&other),
        });
    }

    /// Goes on with a turn, which here is to follow the one that runs.
    fn join(&mut self, reply: oneshot::Sender<Result<Started, StartError>>) {
        let id = self.id;
        let errand = self.line.ask(Ask::Follow);
        self.following = Some(owned(follow(errand, move |found| {
            let started = match found {
                Follow::Running(started) => Ok(started),
                Follow::Ended(_) | Follow::Nothing => Err(StartError::LetGo(id)),
            };
            drop(reply.send(started));
        })));
    }
}

fn owned(work: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    let task: JoinHandle<()> = tokio::spawn(work);
    AbortOnDropHandle::new(task)
}

fn unexpected(say: &Say) {
    tracing::warn!("the process that works on the thread answered something else: {say:?}");
}

/// Follows a turn for whoever has what `tell` was given. Ended by its end, or when they follow it no more.
async fn follow(mut errand: Errand, tell: impl FnOnce(Follow)) {
    let (mut waiter, outcome) = oneshot::channel();
    match errand.hear().await {
        Some(Say::Following(turn_id)) => tell(Follow::Running(Started {
            turn_id,
            outcome,
            queued: false,
        })),
        Some(Say::Ended(outcome)) => return tell(Follow::Ended(Arc::new(*outcome))),
        Some(Say::Nothing) => return tell(Follow::Nothing),
        _ => return,
    }
    tokio::select! {
        outcome = ending(&mut errand) => drop(outcome.map(|outcome| waiter.send(outcome))),
        () = waiter.closed() => {}
    }
}

async fn ending(errand: &mut Errand) -> Option<Arc<Outcome>> {
    match errand.hear().await {
        Some(Say::Outcome(outcome)) => Some(Arc::new(*outcome)),
        _ => None,
    }
}

/// Wants a turn no more. Whoever followed it does not any longer, which the holder must know first.
async fn abandon(
    line: Line,
    following: Option<AbortOnDropHandle<()>>,
    turn_id: TurnId,
    reply: oneshot::Sender<Abandoned>,
) {
    if let Some(following) = following {
        following.abort();
        let _ = following.await;
    }
    let mut errand = line.ask(Ask::Abandon { turn_id });
    let abandoned = match errand.hear().await {
        Some(Say::LeftToOthers) => Abandoned::ToOthers,
        Some(Say::Done) => Abandoned::Over,
        Some(Say::Stopped) => {
            let (waiter, ended) = oneshot::channel();
            // Whoever asked may not wait for the end.
            let _ = reply.send(Abandoned::Stopped(ended));
            return drop(ending(&mut errand).await.map(|end| waiter.send(end)));
        }
        _ => return,
    };
    let _ = reply.send(abandoned);
}

/// Keeps a lease at the holder as long as there is one here.
async fn attend(mut errand: Errand, reply: oneshot::Sender<Lease>) {
    let Some(Say::Done) = errand.hear().await else {
        return;
    };
    let (lease, ended) = Lease::new();
    // If nobody takes it, it ends with this.
    let _ = reply.send(lease);
    tokio::select! {
        () = ended.cancelled() => {}
        // The holder is gone, and with it what was held there.
        _ = errand.hear() => {}
    }
}

/// Everything up to now, and everything after for as long as it is told.
async fn subscribe(
    mut errand: Errand,
    store: Arc<dyn ThreadStore>,
    id: ThreadId,
    reply: oneshot::Sender<Snapshot>,
) {
    let Some(Say::Subscribed { items, pending }) = errand.hear().await else {
        return;
    };
    let Ok(items) = kept(store, id, items).await else {
        return;
    };
    let (tell, events) = broadcast::channel(EVENT_BACKLOG);
    let _ = reply.send(Snapshot {
        items,
        pending,
        events,
    });
    // As in the actor: nobody listens, then nobody misses it.
    while let Some(say) = errand.hear().await {
        match say {
            Say::Event(event) => drop(tell.send(Arc::new(event))),
            Say::Missed { pending } => pending.into_iter().for_each(|approval| {
                drop(tell.send(Arc::new(Event::ApprovalRequested { approval })));
            }),
            other => unexpected(&other),
        }
    }
    // The channel stays open as long as the handle: what became of the turn is told by its outcome alone.
    std::future::pending().await
}

/// The first `count` items of the thread, from where it is kept.
async fn kept(
    store: Arc<dyn ThreadStore>,
    id: ThreadId,
    count: usize,
) -> Result<Vec<Item>, StoreError> {
    let read = tokio::task::spawn_blocking(move || store.read(id)).await;
    let mut items = read.map_err(io::Error::other)??.items;
    items.truncate(count);
    Ok(items)
}
