//! The owner of one thread: its records, its questions, its turn.
//!
//! A task with a mailbox. It alone appends to the rollout; what it holds in memory is what reading the rollout would
//! give, since both come from [`Loaded`]. *Persist, publish, then act*: a record is written before anyone hears of it,
//! and synced before a call runs. The turn is a task of its own with a copy of the conversation, and a channel of its
//! own to report on: what a turn still says after it was let go of reaches nobody. The actor ends when the last handle
//! is dropped and no turn runs; dropping handles never stops a turn, but one that nobody follows for
//! `limits.park_seconds` ends.

mod asking;
mod ending;
mod outcome;
mod running;
mod starting;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::Instrument;

use self::{
    running::Running,
    starting::{Queued, Wanted},
};
use super::{
    approvals::Approvals,
    handle::{
        ANOTHER_LOOK, Abandoned, DecideError, Follow, Snapshot, Standing, StartError, Started,
        ThreadHandle, WeakHandle,
    },
    holder::Door,
    idle::Remembered,
    lease::Lease,
    link::TurnMessage,
    places::Places,
    rollout::{Header, Loaded, Record},
    store::Journal,
    writers::Writers,
};
use crate::{
    agent::{Limits, context::History},
    conversation::{
        Answer, ApprovalId, CallId, Event, Item, Outcome, Prompt, Redactor, ResolvedBy,
        TurnErrorKind, TurnId, WhenUnattended,
    },
    model::Model,
    tools::gate::Gate,
};

/// Events that a slow follower may be behind before it loses the oldest. There is room for as many in every thread, 32
/// bytes each.
pub(super) const EVENT_BACKLOG: usize = 256;

/// What a thread works with; built by `app`.
#[derive(Clone)]
pub struct Parts {
    /// What is sampled.
    pub model: Arc<dyn Model>,
    /// What stands before the tools.
    pub gate: Arc<Gate>,
    /// What ends a turn early.
    pub limits: Limits,
    /// What becomes of a question that nobody can answer.
    pub when_unattended: WhenUnattended,
    /// Takes secrets out of what people write.
    pub redactor: Redactor,
    /// How many turns run at once, its own among them.
    pub places: Places,
}

/// What handles ask for.
pub(super) enum Request {
    Start {
        prompt: Option<Prompt>,
        reply: oneshot::Sender<Result<Started, StartError>>,
    },
    Follow(oneshot::Sender<Follow>),
    Subscribe(oneshot::Sender<Snapshot>),
    Attend(oneshot::Sender<Lease>),
    Answer {
        id: ApprovalId,
        answer: Answer,
        by: ResolvedBy,
        /// Nothing: another process has the thread.
        reply: oneshot::Sender<Option<bool>>,
    },
    Decide {
        id: Option<ApprovalId>,
        answer: Answer,
        reply: oneshot::Sender<Result<(), DecideError>>,
    },
    GiveUp {
        id: ApprovalId,
        reply: oneshot::Sender<()>,
    },
    Standing(oneshot::Sender<Option<Standing>>),
    OutcomeOf {
        turn_id: TurnId,
        reply: oneshot::Sender<Option<Outcome>>,
    },
    Has {
        turn_id: TurnId,
        reply: oneshot::Sender<bool>,
    },
    Abandon {
        turn_id: TurnId,
        reply: oneshot::Sender<Abandoned>,
    },
    Interrupt {
        turn_id: Option<TurnId>,
        reply: oneshot::Sender<()>,
    },
    Leave(oneshot::Sender<()>),
    Refresh(oneshot::Sender<bool>),
    EndSessions(oneshot::Sender<()>),
    Rest {
        idle: Duration,
        reply: oneshot::Sender<bool>,
    },
}

type Waiter = oneshot::Sender<Arc<Outcome>>;

pub(super) struct Actor {
    state: Loaded,
    parts: Parts,
    journal: Box<dyn Journal>,
    /// Open while the thread is held.
    door: Option<Door>,
    /// To give to visitors.
    own: WeakHandle,
    /// The conversation in wire form, kept from turn to turn so that only what is new is encoded.
    history: Option<History>,
    running: Option<Running>,
    /// What the running turn tells.
    messages: Option<mpsc::Receiver<TurnMessage>>,
    queue: VecDeque<Queued>,
    /// Turns that are wanted while another process has the thread.
    waiting: Vec<Wanted>,
    approvals: Approvals,
    /// Questions of a turn that is just being taken up which whoever was asked has left without an answer.
    forgone: HashSet<ApprovalId>,
    writers: Writers,
    events: broadcast::Sender<Arc<Event>>,
    /// When it last was asked for something, or did something.
    used: Instant,
}

impl Actor {
    /// Starts the actor of a thread that was created or read.
    pub(super) fn spawn(
        state: Loaded,
        parts: Parts,
        journal: Box<dyn Journal>,
        writers: Writers,
        remembered: Remembered,
    ) -> ThreadHandle {
        let (mailbox, requests) = mpsc::channel(64);
        let handle = ThreadHandle::new(Arc::new(state.header.clone()), mailbox);
        let patience =
            Duration::try_from_secs_f64(parts.limits.approval_seconds).unwrap_or(Duration::MAX);
        parts.gate.workspace.seen().recall(remembered.seen);
        let actor = Self {
            state,
            parts,
            journal,
            door: None,
            own: handle.downgrade(),
            history: None,
            running: None,
            messages: None,
            queue: VecDeque::new(),
            waiting: Vec::new(),
            approvals: Approvals::new(patience, remembered.granted),
            forgone: HashSet::new(),
            writers,
            events: broadcast::channel(EVENT_BACKLOG).0,
            used: Instant::now(),
        };
        let span = tracing::error_span!("thread", thread = %handle.id());
        tokio::spawn(actor.run(requests).instrument(span));
        handle
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut wanted = true;
        let park = Duration::try_from_secs_f64(self.parts.limits.park_seconds);
        let park = park.unwrap_or(Duration::MAX);
        while wanted || self.running.is_some() {
            tokio::select! {
                request = requests.recv(), if wanted => match request {
                    Some(request) => self.serve(request).await,
                    None => wanted = false,
                },
                Some(message) = heard(&mut self.messages) => self.hear(message).await,
                () = tokio::time::sleep(ANOTHER_LOOK), if !self.waiting.is_empty() => self.try_again(),
                unanswered = self.approvals.unanswered() => self.unanswered(unanswered).await,
                () = deserted(&mut self.running, park) => self.nobody_came_back().await,
            }
        }
    }

    /// Whoever asked may be gone by the time of the answer; then nobody needs it.
    async fn serve(&mut self, request: Request) {
        // To be asked whether it may rest does not keep it awake.
        if !matches!(request, Request::Rest { .. }) {
            self.used = Instant::now();
        }
        match request {
            Request::Start { prompt, reply } => {
                let prompt = prompt.map(|prompt| prompt.cleaned(&self.parts.redactor));
                self.start(Wanted::new(prompt, reply));
            }
            Request::Follow(reply) => drop(reply.send(self.follow())),
            Request::Subscribe(reply) => drop(reply.send(self.snapshot())),
            Request::Attend(reply) => drop(reply.send(self.approvals.attend())),
            Request::Answer {
                id,
                answer,
                by,
                reply,
            } => drop(reply.send(self.answer(id, answer, by))),
            Request::Decide { id, answer, reply } => drop(reply.send(self.decide(id, answer))),
            Request::GiveUp { id, reply } => {
                self.give_up(id);
                let _ = reply.send(());
            }
            Request::Standing(reply) => drop(reply.send(self.standing())),
            Request::OutcomeOf { turn_id, reply } => drop(reply.send(self.outcome_of(turn_id))),
            Request::Has { turn_id, reply } => drop(reply.send(self.has(turn_id))),
            Request::Abandon { turn_id, reply } => drop(reply.send(self.abandon(turn_id))),
            Request::Interrupt { turn_id, reply } => {
                self.interrupt(turn_id);
                let _ = reply.send(());
            }
            Request::Leave(reply) => {
                self.leave().await;
                let _ = reply.send(());
            }
            Request::Refresh(reply) => drop(reply.send(self.refresh())),
            Request::EndSessions(reply) => {
                let gate = self.parts.gate.clone();
                tokio::spawn(async move {
                    gate.end_sessions().await;
                    let _ = reply.send(());
                });
            }
            Request::Rest { idle, reply } => drop(reply.send(self.rests(idle))),
        }
    }

    async fn hear(&mut self, message: TurnMessage) {
        self.used = Instant::now();
        match message {
            TurnMessage::Record { item, reply } => drop(reply.send(self.record(item))),
            TurnMessage::Starting {
                call_id,
                title,
                reply,
            } => drop(reply.send(self.starting(call_id, title).await)),
            TurnMessage::SoFar { more, reply } => {
                if let Some(running) = &mut self.running {
                    running.tally.take(more);
                }
                let _ = reply.send(());
            }
            TurnMessage::Ask { question, reply } => self.ask(question, reply).await,
            TurnMessage::Measured { measured } => self.parked(measured),
            TurnMessage::Ended {
                turn_id,
                end,
                measured,
            } => {
                let outcome = self.outcome(turn_id, *end, measured);
                self.end(outcome).await;
            }
            TurnMessage::Broken { turn_id } => {
                let outcome = self.failed(
                    turn_id,
                    TurnErrorKind::Internal,
                    "the turn broke down inside openoxide",
                );
                self.end(outcome).await;
            }
        }
    }

    fn record(&mut self, item: Item) -> Result<(), String> {
        self.append(Record::Item(item.clone()))
            .map_err(|error| error.to_string())?;
        self.publish(Event::ItemCompleted { item });
        Ok(())
    }

    async fn starting(&mut self, call_id: CallId, title: String) -> Result<(), String> {
        self.append(Record::CallStarted {
            call_id: call_id.clone(),
        })
        .map_err(|error| error.to_string())?;
        self.journal
            .sync()
            .await
            .map_err(|error| error.to_string())?;
        self.publish(Event::CallStarted { call_id, title });
        Ok(())
    }

    /// See [`ThreadHandle::rest`]. A thread that is kept nowhere never does: it would be lost.
    fn rests(&self, idle: Duration) -> bool {
        let goes_on = self.running.is_some()
            || !self.queue.is_empty()
            || !self.waiting.is_empty()
            || self.approvals.is_attended()
            || self.events.receiver_count() > 0
            || self.parts.gate.is_running();
        let folder = self.journal.folder();
        let Some(folder) = folder.filter(|_| !goes_on && self.used.elapsed() >= idle) else {
            return false;
        };
        let remembered = Remembered {
            granted: self.approvals.granted().clone(),
            seen: self.parts.gate.workspace.seen().known(),
        };
        remembered.write(&folder).is_ok()
    }

    fn snapshot(&self) -> Snapshot {
        let open = self.state.open_turn();
        Snapshot {
            items: self.state.items.clone(),
            pending: open.map_or_else(Vec::new, |turn| turn.open_approvals.clone()),
            events: self.events.subscribe(),
        }
    }

    // The two things that everything comes down to.

    fn append(&mut self, record: Record) -> std::io::Result<()> {
        self.journal.append(&record)?;
        self.state.add(record);
        Ok(())
    }

    fn publish(&self, event: Event) {
        // Nobody listens: then nobody misses it.
        let _ = self.events.send(Arc::new(event));
    }
}

async fn heard(messages: &mut Option<mpsc::Receiver<TurnMessage>>) -> Option<TurnMessage> {
    match messages {
        Some(messages) => messages.recv().await,
        None => std::future::pending().await,
    }
}

async fn deserted(running: &mut Option<Running>, park: Duration) {
    match running {
        Some(running) => running.deserted(park).await,
        None => std::future::pending().await,
    }
}

/// The state of a thread that has no records yet.
pub(super) fn blank_state(header: Header) -> Loaded {
    Loaded::new(header)
}
