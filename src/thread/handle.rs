//! What others hold of a thread: verbs, and a way to follow what happens. Dropping it changes nothing.

use std::{convert::Infallible, sync::Arc};

use tokio::sync::{broadcast, mpsc, oneshot};

use super::{actor::Request, rollout::Header};
use crate::conversation::{
    Answer, Approval, ApprovalId, Event, Item, Outcome, Prompt, ResolvedBy, ThreadId, TurnId,
};

/// A thread in this process.
#[derive(Clone)]
pub struct ThreadHandle {
    header: Arc<Header>,
    mailbox: mpsc::Sender<Request>,
}

/// A handle that does not keep its thread in memory.
#[derive(Clone)]
pub(super) struct WeakHandle {
    header: Arc<Header>,
    mailbox: mpsc::WeakSender<Request>,
}

impl WeakHandle {
    pub(super) fn upgrade(&self) -> Option<ThreadHandle> {
        let mailbox = self.mailbox.upgrade()?;
        Some(ThreadHandle::new(self.header.clone(), mailbox))
    }
}

/// Keeps questions of the thread waiting while it lives: whoever holds it can carry them to somebody.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Only its life matters; nothing is ever sent.
    _alive: mpsc::Sender<Infallible>,
}

/// A turn that was accepted.
#[derive(Debug)]
pub struct Started {
    /// Its name.
    pub turn_id: TurnId,
    /// Its end. Comes once; an error means that the thread was lost, which is a mistake of ours.
    pub outcome: oneshot::Receiver<Arc<Outcome>>,
    /// True if another turn has to end first.
    pub queued: bool,
}

/// What a follower starts from: everything up to now, and everything after.
#[derive(Debug)]
pub struct Snapshot {
    /// The conversation so far.
    pub items: Vec<Item>,
    /// Questions that are open.
    pub pending: Vec<Approval>,
    /// What happens from here on. A reader that lags loses the oldest; it may subscribe anew.
    pub events: broadcast::Receiver<Arc<Event>>,
}

/// What there is to wait for.
#[derive(Debug)]
pub enum Follow {
    /// A turn runs.
    Running(Started),
    /// None does; this is what the last one came to.
    Ended(Arc<Outcome>),
    /// There was none yet.
    Nothing,
}

/// Why a turn did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The thread cannot be taken or recorded.
    #[error("{0}")]
    Storage(String),
    /// Nothing was interrupted, so there is nothing to resume.
    #[error("nothing to resume: the last turn of the thread is complete")]
    NothingToResume,
    /// See [`HandleError::Gone`].
    #[error(transparent)]
    Gone(#[from] HandleError),
}

/// Why a thread does not answer.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// Its actor ended; only at the end of the process.
    #[error("the thread is closed")]
    Gone,
}

impl ThreadHandle {
    pub(super) fn new(header: Arc<Header>, mailbox: mpsc::Sender<Request>) -> Self {
        Self { header, mailbox }
    }

    pub(super) fn downgrade(&self) -> WeakHandle {
        WeakHandle {
            header: self.header.clone(),
            mailbox: self.mailbox.downgrade(),
        }
    }

    /// The thread's name.
    pub fn id(&self) -> ThreadId {
        self.header.thread_id
    }

    /// What the thread was made with.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Starts a turn with `prompt`, or queues it behind the one that runs.
    pub async fn start(&self, prompt: impl Into<Prompt>) -> Result<Started, StartError> {
        let prompt = Some(prompt.into());
        self.request(|reply| Request::Start { prompt, reply })
            .await?
    }

    /// Goes on with a turn that was interrupted.
    pub async fn resume(&self) -> Result<Started, StartError> {
        self.request(|reply| Request::Start {
            prompt: None,
            reply,
        })
        .await?
    }

    /// The running turn to wait for, or the last outcome.
    pub async fn follow(&self) -> Result<Follow, HandleError> {
        self.request(Request::Follow).await
    }

    /// Everything up to now and everything after, in one step: no gap and no overlap.
    pub async fn subscribe(&self) -> Result<Snapshot, HandleError> {
        self.request(Request::Subscribe).await
    }

    /// A lease: questions wait for an answer while it lives.
    pub async fn attend(&self) -> Result<Lease, HandleError> {
        Ok(Lease {
            _alive: self.request(Request::Attend).await?,
        })
    }

    /// Answers a question. False if it is not open: somebody was first, or its turn ended.
    pub async fn answer(
        &self,
        id: ApprovalId,
        answer: Answer,
        by: ResolvedBy,
    ) -> Result<bool, HandleError> {
        self.request(|reply| Request::Answer {
            id,
            answer,
            by,
            reply,
        })
        .await
    }

    /// Stops a turn, or takes it out of the queue. Without a name: the one that runs. Returns when it was told, not
    /// when it ended.
    pub async fn interrupt(&self, turn_id: Option<TurnId>) -> Result<(), HandleError> {
        self.request(|reply| Request::Interrupt { turn_id, reply })
            .await
    }

    /// Ends what runs in the background of the thread, and lets nothing else stay there: for the end of the process.
    pub(super) async fn end_sessions(&self) -> Result<(), HandleError> {
        self.request(Request::EndSessions).await
    }

    async fn request<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, HandleError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox
            .send(request(reply))
            .await
            .map_err(|_| HandleError::Gone)?;
        answer.await.map_err(|_| HandleError::Gone)
    }
}
