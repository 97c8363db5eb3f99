//! What others hold of a thread: verbs, and a way to follow what happens. Dropping it changes nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{actor::Request, lease::Lease, rollout::Header};
use crate::conversation::{
    Answer, Approval, ApprovalId, Event, Item, Outcome, Prompt, ResolvedBy, ThreadId, TurnId,
};

/// How long to wait for another process that is just leaving the thread.
pub(super) const LEAVING: Duration = Duration::from_secs(3);

/// Until it is asked again whether it left.
pub(super) const ANOTHER_LOOK: Duration = Duration::from_millis(50);

/// A thread, of this process or of another that holds it.
#[derive(Clone)]
pub struct ThreadHandle {
    header: Arc<Header>,
    mailbox: mpsc::Sender<Request>,
    /// Requests so far, of all handles.
    uses: Arc<AtomicU64>,
    is_far: bool,
}

/// A handle that does not keep its thread in memory.
#[derive(Clone)]
pub(super) struct WeakHandle {
    header: Arc<Header>,
    mailbox: mpsc::WeakSender<Request>,
    uses: Arc<AtomicU64>,
}

impl WeakHandle {
    pub(super) fn upgrade(&self) -> Option<ThreadHandle> {
        Some(ThreadHandle {
            header: self.header.clone(),
            mailbox: self.mailbox.upgrade()?,
            uses: self.uses.clone(),
            is_far: false,
        })
    }
}

/// A turn that was accepted.
#[derive(Debug)]
pub struct Started {
    /// Its name.
    pub turn_id: TurnId,
    /// Its end, or where it stands when it waits for the caller. Comes once; an error means that the thread was lost,
    /// which is a mistake of ours. Dropping it is to follow no more.
    pub outcome: oneshot::Receiver<Arc<Outcome>>,
    /// True if another turn has to end first.
    pub queued: bool,
}

/// What a follower starts from: everything up to now, and everything after.
#[derive(Debug)]
pub struct Snapshot {
    /// The conversation so far.
    pub items: Vec<Item>,
    /// Questions that are open, also those of a turn that was let go of.
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
    /// There was none yet, or it was left open and nobody goes on with it.
    Nothing,
}

/// What became of a turn that one of those who followed it wants no more.
#[derive(Debug)]
pub enum Abandoned {
    /// Others follow it; it goes on.
    ToOthers,
    /// It was told to stop; this is its end.
    Stopped(oneshot::Receiver<Arc<Outcome>>),
    /// It does not run; if it was queued, it never will.
    Over,
}

/// How an open turn stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// What it has come to, with its open questions.
    pub outcome: Outcome,
    /// The questions are the caller's to answer: whoever was asked left them.
    pub left_open: bool,
    /// Why it does not go on, if it waits for other turns.
    pub waits: Option<String>,
}

/// Why the decision of a caller does not count.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum DecideError {
    /// The owner lets callers say no only.
    #[error(
        "a caller may deny or abort; approving is for a person, or for a server that its owner started with `--when-unattended return-to-caller`"
    )]
    ForAPerson,
    /// A caller approves one thing at a time.
    #[error("a caller may approve this once, not for the session")]
    OnlyOnce,
    /// The first answer is theirs.
    #[error("a person is being asked; wait for their answer, or deny")]
    BeingAsked,
    /// There is no such question (any more).
    #[error("question `{0}` is not open (any more)")]
    NotOpen(ApprovalId),
    /// There is no question.
    #[error("no question is open")]
    NothingOpen,
    /// There are several, and none was named.
    #[error("name one of the open questions in `approval_id`: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Several(Vec<ApprovalId>),
    /// Another process has the thread.
    #[error("{0}")]
    Held(String),
    /// The thread cannot be taken.
    #[error("{0}")]
    Storage(String),
    /// See [`HandleError::Gone`].
    #[error(transparent)]
    Gone(#[from] HandleError),
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
    /// It is the other process that works on the thread, and it takes no task from here.
    #[error(
        "another process works on thread `{0}`; wait for its turn to end, or interrupt it, before giving it a new task"
    )]
    Elsewhere(ThreadId),
    /// The other process had just ended its turn.
    #[error("another process has just let go of thread `{0}`; ask again")]
    LetGo(ThreadId),
    /// See [`HandleError::Gone`].
    #[error(transparent)]
    Gone(#[from] HandleError),
}

/// Why a thread does not answer.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum HandleError {
    /// Its actor ended; only at the end of the process.
    #[error("the thread is closed")]
    Gone,
    /// The process that held it is gone, or does not answer; the thread may be had here now.
    #[error("the process that worked on the thread is gone; ask again")]
    HolderGone,
}

impl ThreadHandle {
    pub(super) fn new(header: Arc<Header>, mailbox: mpsc::Sender<Request>) -> Self {
        Self {
            header,
            mailbox,
            uses: Arc::default(),
            is_far: false,
        }
    }

    /// To a thread that another process holds.
    pub(super) fn far(header: Arc<Header>, mailbox: mpsc::Sender<Request>) -> Self {
        Self {
            is_far: true,
            ..Self::new(header, mailbox)
        }
    }

    /// True if another process held the thread when this handle was made. Its turns can be followed, answered and
    /// stopped; they run there.
    pub fn is_far(&self) -> bool {
        self.is_far
    }

    pub(super) fn downgrade(&self) -> WeakHandle {
        WeakHandle {
            header: self.header.clone(),
            mailbox: self.mailbox.downgrade(),
            uses: self.uses.clone(),
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

    /// Goes on with a turn that was left open, or with one that was interrupted.
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
        self.request(Request::Attend).await
    }

    /// Answers a question for a person, and goes on with its turn if nobody does. False if it is not open: somebody was
    /// first, or its turn ended.
    pub async fn answer(
        &self,
        id: ApprovalId,
        answer: Answer,
        by: ResolvedBy,
    ) -> Result<bool, HandleError> {
        let patience = Instant::now() + LEAVING;
        loop {
            let answered = self.request(|reply| Request::Answer {
                id,
                answer: answer.clone(),
                by,
                reply,
            });
            match answered.await? {
                Some(counted) => return Ok(counted),
                None if Instant::now() < patience => tokio::time::sleep(ANOTHER_LOOK).await,
                None => return Ok(false),
            }
        }
    }

    /// Answers a question for the caller, which is a model: the only open one where none is named.
    pub async fn decide(&self, id: Option<ApprovalId>, answer: Answer) -> Result<(), DecideError> {
        let patience = Instant::now() + LEAVING;
        loop {
            let answer = answer.clone();
            let decided = self.request(|reply| Request::Decide { id, answer, reply });
            match decided.await? {
                Err(DecideError::Held(_)) if Instant::now() < patience => {
                    tokio::time::sleep(ANOTHER_LOOK).await;
                }
                decided => return decided,
            }
        }
    }

    /// Says that whoever was asked has left without an answer; the owner's strategy decides.
    pub async fn give_up(&self, id: ApprovalId) -> Result<(), HandleError> {
        self.request(|reply| Request::GiveUp { id, reply }).await
    }

    /// How the open turn stands, with its questions; `None` if there is none.
    pub async fn standing(&self) -> Result<Option<Standing>, HandleError> {
        self.request(Request::Standing).await
    }

    /// What a turn came to; `None` if it has not, or is not one of this thread.
    pub async fn outcome_of(&self, turn_id: TurnId) -> Result<Option<Outcome>, HandleError> {
        self.request(|reply| Request::OutcomeOf { turn_id, reply })
            .await
    }

    /// True if the turn is one of this thread, or is queued to be.
    pub async fn has(&self, turn_id: TurnId) -> Result<bool, HandleError> {
        self.request(|reply| Request::Has { turn_id, reply }).await
    }

    /// Says that one who followed a turn, and has dropped its [`Started`], wants it no more.
    pub async fn abandon(&self, turn_id: TurnId) -> Result<Abandoned, HandleError> {
        self.request(|reply| Request::Abandon { turn_id, reply })
            .await
    }

    /// Says that the process ends: a turn that waits for an answer keeps its question, any other is interrupted.
    pub async fn leave(&self) -> Result<(), HandleError> {
        self.request(Request::Leave).await
    }

    /// Stops a turn, or takes it out of the queue. Without a name: the one that runs. Returns when it was told, not
    /// when it ended.
    pub async fn interrupt(&self, turn_id: Option<TurnId>) -> Result<(), HandleError> {
        self.request(|reply| Request::Interrupt { turn_id, reply })
            .await
    }

    /// Takes up what another process added to the thread, unless a turn runs here: then it is true.
    pub(super) async fn refresh(&self) -> Result<bool, HandleError> {
        self.request(Request::Refresh).await
    }

    /// Ends what runs in the background of the thread, and lets nothing else stay there: for the end of the process.
    pub(super) async fn end_sessions(&self) -> Result<(), HandleError> {
        self.request(Request::EndSessions).await
    }

    /// How many handles there are, this one included.
    pub(super) fn holders(&self) -> usize {
        self.mailbox.strong_count()
    }

    /// How often the thread was asked for anything.
    pub(super) fn uses(&self) -> u64 {
        self.uses.load(Ordering::SeqCst)
    }

    /// Whether the thread was not used for `idle` and nothing of it goes on; then it has written down what it
    /// remembers. Is no use of it.
    pub(super) async fn rest(&self, idle: Duration) -> Result<bool, HandleError> {
        self.ask(|reply| Request::Rest { idle, reply }).await
    }

    async fn request<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, HandleError> {
        // Before it is sent: a request that its maker gave up may still be read.
        self.uses.fetch_add(1, Ordering::SeqCst);
        self.ask(request).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, HandleError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox
            .send(request(reply))
            .await
            .map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())
    }

    fn gone(&self) -> HandleError {
        match self.is_far {
            true => HandleError::HolderGone,
            false => HandleError::Gone,
        }
    }
}
