//! The owner of one thread: its records, its questions, its turn.
//!
//! A task with a mailbox. It alone appends to the rollout; what it holds in memory is what reading the rollout would
//! give, since both come from [`Loaded`]. *Persist, publish, then act*: a record is written before anyone hears of it,
//! and synced before a call runs. The turn is a task of its own with a copy of the conversation. The actor ends when
//! the last handle is dropped and no turn runs; dropping handles never stops a turn.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    approvals::Approvals,
    handle::{Follow, Snapshot, StartError, Started, ThreadHandle, WeakHandle},
    holder::Door,
    link::{Link, TurnMessage},
    rollout::{Header, Loaded, Record},
    store::{Journal, StoreError},
};
use crate::{
    agent::{
        Limits,
        context::History,
        turn::{Turn, TurnEnd},
    },
    conversation::{
        Answer, Approval, ApprovalId, CallId, Change, Decision, Event, Item, Outcome, OutputStatus,
        Prompt, Redactor, ResolvedBy, Status, ToolOutput, TurnError, TurnErrorKind, TurnId, Usage,
    },
    model::{Head, Model},
    tools::{Answered, Question, gate::Gate},
};

/// Events that a slow follower may be behind before it loses the oldest.
const EVENT_BACKLOG: usize = 1024;

/// How long to wait for another process that is just leaving the thread.
const LEAVING: Duration = Duration::from_secs(3);

/// Until it is asked again whether it left.
const ANOTHER_LOOK: Duration = Duration::from_millis(50);

/// What a thread works with; built by `app`.
#[derive(Clone)]
pub struct Parts {
    /// What is sampled.
    pub model: Arc<dyn Model>,
    /// What stands before the tools.
    pub gate: Arc<Gate>,
    /// What ends a turn early.
    pub limits: Limits,
    /// Takes secrets out of what people write.
    pub redactor: Redactor,
}

/// What handles ask for.
pub(super) enum Request {
    Start {
        prompt: Option<Prompt>,
        reply: oneshot::Sender<Result<Started, StartError>>,
    },
    Follow(oneshot::Sender<Follow>),
    Subscribe(oneshot::Sender<Snapshot>),
    Attend(oneshot::Sender<mpsc::Sender<std::convert::Infallible>>),
    Answer {
        id: ApprovalId,
        answer: Answer,
        by: ResolvedBy,
        reply: oneshot::Sender<bool>,
    },
    Interrupt {
        turn_id: Option<TurnId>,
        reply: oneshot::Sender<()>,
    },
    EndSessions(oneshot::Sender<()>),
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
    queue: VecDeque<Queued>,
    /// Turns that are wanted while another process has the thread.
    waiting: Vec<Wanted>,
    approvals: Approvals,
    events: broadcast::Sender<Arc<Event>>,
    to_self: mpsc::Sender<TurnMessage>,
}

struct Running {
    turn_id: TurnId,
    stop: CancellationToken,
    started: Instant,
    waiters: Vec<Waiter>,
}

/// A turn that somebody wants and has no answer about yet.
struct Wanted {
    turn_id: TurnId,
    prompt: Option<Prompt>,
    patience: Instant,
    reply: oneshot::Sender<Result<Started, StartError>>,
}

impl Wanted {
    fn new(prompt: Option<Prompt>, reply: oneshot::Sender<Result<Started, StartError>>) -> Self {
        Self {
            turn_id: TurnId::generate(),
            prompt,
            patience: Instant::now() + LEAVING,
            reply,
        }
    }

    fn accept(self, queued: bool) -> Waiter {
        let (waiter, outcome) = oneshot::channel();
        // Whoever wanted it may be gone; the turn runs all the same.
        let _ = self.reply.send(Ok(Started {
            turn_id: self.turn_id,
            outcome,
            queued,
        }));
        waiter
    }

    fn refuse(self, error: StartError) {
        // As above.
        let _ = self.reply.send(Err(error));
    }
}

struct Queued {
    turn_id: TurnId,
    prompt: Prompt,
    waiter: Waiter,
}

impl Actor {
    /// Starts the actor of a thread that was created or read.
    pub(super) fn spawn(state: Loaded, parts: Parts, journal: Box<dyn Journal>) -> ThreadHandle {
        let (mailbox, requests) = mpsc::channel(64);
        let (to_self, messages) = mpsc::channel(64);
        let handle = ThreadHandle::new(Arc::new(state.header.clone()), mailbox);
        let patience =
            Duration::try_from_secs_f64(parts.limits.approval_seconds).unwrap_or(Duration::MAX);
        let actor = Self {
            state,
            parts,
            journal,
            door: None,
            own: handle.downgrade(),
            history: None,
            running: None,
            queue: VecDeque::new(),
            waiting: Vec::new(),
            approvals: Approvals::new(patience),
            events: broadcast::channel(EVENT_BACKLOG).0,
            to_self,
        };
        tokio::spawn(actor.run(requests, messages));
        handle
    }

    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut messages: mpsc::Receiver<TurnMessage>,
    ) {
        let mut wanted = true;
        while wanted || self.running.is_some() {
            tokio::select! {
                request = requests.recv(), if wanted => match request {
                    Some(request) => self.serve(request),
                    None => wanted = false,
                },
                Some(message) = messages.recv() => self.hear(message).await,
                () = tokio::time::sleep(ANOTHER_LOOK), if !self.waiting.is_empty() => self.try_again(),
                unanswered = self.approvals.unanswered() => {
                    for id in unanswered {
                        self.resolve(id, Answer::from(Decision::Deny), ResolvedBy::Unattended);
                    }
                }
            }
        }
    }

    /// Whoever asked may be gone by the time of the answer; then nobody needs it.
    fn serve(&mut self, request: Request) {
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
            } => drop(reply.send(self.resolve(id, answer, by))),
            Request::Interrupt { turn_id, reply } => {
                self.interrupt(turn_id);
                let _ = reply.send(());
            }
            Request::EndSessions(reply) => {
                let gate = self.parts.gate.clone();
                tokio::spawn(async move {
                    gate.end_sessions().await;
                    let _ = reply.send(());
                });
            }
        }
    }

    async fn hear(&mut self, message: TurnMessage) {
        match message {
            TurnMessage::Record { item, reply } => drop(reply.send(self.record(item))),
            TurnMessage::Starting {
                call_id,
                title,
                reply,
            } => drop(reply.send(self.starting(call_id, title).await)),
            TurnMessage::Ask { question, reply } => self.ask(question, reply).await,
            TurnMessage::Ended {
                turn_id,
                end,
                changes,
            } => {
                let outcome = self.outcome(turn_id, *end, changes);
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

    // Starting a turn.

    /// Starts what is wanted, or puts it behind what runs, or lets it wait for another process that is just leaving.
    fn start(&mut self, wanted: Wanted) {
        if self.running.is_some() {
            return self.start_behind(wanted);
        }
        match self.hold() {
            Err(StoreError::Held(_)) if Instant::now() < wanted.patience => {
                self.waiting.push(wanted)
            }
            Err(error) => wanted.refuse(StartError::Storage(error.to_string())),
            Ok(()) => match self.begin(wanted.turn_id, wanted.prompt.clone()) {
                Err(error) => wanted.refuse(error),
                Ok(()) => {
                    let waiter = wanted.accept(false);
                    self.run_turn(vec![waiter]);
                }
            },
        }
    }

    fn start_behind(&mut self, wanted: Wanted) {
        let turn_id = wanted.turn_id;
        match (wanted.prompt.clone(), &mut self.running) {
            (Some(prompt), _) => {
                let waiter = wanted.accept(true);
                self.queue.push_back(Queued {
                    turn_id,
                    prompt,
                    waiter,
                });
            }
            // Somebody resumed it a moment ago: one turn for both.
            (None, Some(running)) => {
                let turn_id = running.turn_id;
                running
                    .waiters
                    .push(Wanted { turn_id, ..wanted }.accept(false));
            }
            (None, None) => {}
        }
    }

    fn try_again(&mut self) {
        for wanted in std::mem::take(&mut self.waiting) {
            self.start(wanted);
        }
    }

    /// Takes the thread, and what another process added to it.
    fn hold(&mut self) -> Result<(), StoreError> {
        if let Some(newer) = self.journal.hold()? {
            self.state = newer;
            self.history = None;
        }
        if self.door.is_none() {
            self.door = self.journal.socket().and_then(|socket| {
                // Without it the turn runs all the same; only other processes cannot reach it.
                Door::open(socket, self.own.clone())
                    .inspect_err(|error| {
                        tracing::warn!("other processes cannot reach the thread: {error}")
                    })
                    .ok()
            });
        }
        Ok(())
    }

    /// Gives the thread back.
    fn release(&mut self) {
        self.door = None;
        self.journal.release();
    }

    /// Opens a turn under the lock, or gives the lock back.
    fn begin(&mut self, turn_id: TurnId, prompt: Option<Prompt>) -> Result<(), StartError> {
        let begun = self.open_turn(turn_id, prompt);
        if begun.is_err() {
            self.release();
        }
        begun
    }

    fn open_turn(&mut self, turn_id: TurnId, prompt: Option<Prompt>) -> Result<(), StartError> {
        let resumes = self.resumable();
        if prompt.is_none() && resumes.is_none() {
            return Err(StartError::NothingToResume);
        }
        self.close_open_turn();
        let resumes = if prompt.is_none() { resumes } else { None };
        let storage = |error: std::io::Error| StartError::Storage(error.to_string());
        self.append(Record::TurnStarted { turn_id, resumes })
            .map_err(storage)?;
        self.publish(Event::TurnStarted { turn_id });
        let mut history = self.history.take().unwrap_or_else(|| {
            History::new(
                self.parts.model.clone(),
                &self.state.header.context,
                &self.state.items,
            )
        });
        for item in prompt.map(Prompt::items).unwrap_or_default() {
            self.record(item.clone()).map_err(StartError::Storage)?;
            history.extend(&[item]);
        }
        self.history = Some(history);
        Ok(())
    }

    /// The last turn, if it can be gone on with.
    fn resumable(&self) -> Option<TurnId> {
        let last = self.state.turns.last()?;
        let unfinished = last
            .outcome
            .as_ref()
            .is_none_or(|outcome| outcome.status != Status::Completed);
        unfinished.then_some(last.turn_id)
    }

    /// Gives every call of a turn that was cut short its output, so that each call has exactly one.
    fn close_open_turn(&mut self) {
        let Some(open) = self.state.open_turn().cloned() else {
            return;
        };
        if !open.open_calls.is_empty() {
            // What was encoded does not have the outputs that follow.
            self.history = None;
        }
        let outputs = open.open_calls.into_iter().map(|open| ToolOutput {
            call_id: open.call.call_id,
            status: OutputStatus::Interrupted,
            content: if open.started {
                "interrupted while it ran; its effects are unknown, so look before repeating it"
                    .to_owned()
            } else {
                "not run: the turn was interrupted first".to_owned()
            },
            command: None,
        });
        for output in outputs {
            // If this cannot be written, nor can what follows, and that is reported.
            let _ = self.record(Item::ToolOutput(output));
        }
        for approval in open.open_approvals {
            self.resolve(
                approval.id,
                Answer::from(Decision::Deny),
                ResolvedBy::Interrupt,
            );
        }
    }

    /// Runs the turn that was opened.
    fn run_turn(&mut self, waiters: Vec<Waiter>) {
        let Some(turn_id) = self.state.open_turn().map(|turn| turn.turn_id) else {
            return;
        };
        let stop = CancellationToken::new();
        let link = Arc::new(Link {
            messages: self.to_self.clone(),
            events: self.events.clone(),
            redactor: self.parts.redactor.clone(),
        });
        let history = self.history.take().unwrap_or_else(|| {
            History::new(
                self.parts.model.clone(),
                &self.state.header.context,
                &self.state.items,
            )
        });
        let head: Head = self.state.header.context.head(self.state.header.thread_id);
        let turn = Turn {
            head: Arc::new(head),
            history,
            gate: self.parts.gate.clone(),
            limits: self.parts.limits,
            host: link.clone(),
            report: link,
            stop: stop.clone(),
        };
        self.running = Some(Running {
            turn_id,
            stop,
            started: Instant::now(),
            waiters,
        });
        tokio::spawn(run_and_tell(turn, turn_id, self.to_self.clone()));
    }

    // What the running turn asks for.

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

    async fn ask(&mut self, question: Question, reply: oneshot::Sender<Answered>) {
        let Some(running) = &self.running else { return };
        if self.approvals.is_granted(question.covers.as_ref()) {
            // The call that asked may be gone; then nobody needs the answer.
            let _ = reply.send(Answered {
                answer: Answer::from(Decision::Approve),
                by_nobody: false,
            });
            return;
        }
        let approval = approval(running.turn_id, question);
        let id = approval.id;
        let recorded = self.append(Record::ApprovalRequested {
            approval: approval.clone(),
        });
        if recorded.is_err() || self.journal.sync().await.is_err() {
            // A question that is not on record is not asked.
            let _ = reply.send(Answered {
                answer: Answer::from(Decision::Deny),
                by_nobody: true,
            });
            return;
        }
        self.approvals.open(approval.clone(), reply);
        self.publish(Event::ApprovalRequested { approval });
        if !self.approvals.is_attended() {
            self.resolve(id, Answer::from(Decision::Deny), ResolvedBy::Unattended);
        }
    }

    // What handles ask for.

    fn resolve(&mut self, id: ApprovalId, answer: Answer, by: ResolvedBy) -> bool {
        let answer = Answer {
            note: answer.note.map(|note| self.parts.redactor.clean(note)),
            ..answer
        };
        let resolution = match self.approvals.resolve(id, answer.clone(), by) {
            Some(resolution) => resolution,
            // A question of a process that died: closing its turn answers it.
            None if by == ResolvedBy::Interrupt => crate::conversation::Resolution { answer, by },
            None => return false,
        };
        // The answer counts also when it cannot be written; the next record fails and ends the turn.
        let _ = self.append(Record::ApprovalResolved {
            approval_id: id,
            resolution: resolution.clone(),
        });
        self.publish(Event::ApprovalResolved {
            approval_id: id,
            resolution,
        });
        true
    }

    fn follow(&mut self) -> Follow {
        if let Some(running) = &mut self.running {
            let (waiter, outcome) = oneshot::channel();
            running.waiters.push(waiter);
            return Follow::Running(Started {
                turn_id: running.turn_id,
                outcome,
                queued: false,
            });
        }
        match self.state.last_outcome() {
            Some(outcome) if self.state.open_turn().is_none() => {
                Follow::Ended(Arc::new(outcome.clone()))
            }
            _ => Follow::Nothing,
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            items: self.state.items.clone(),
            pending: self.approvals.pending(),
            events: self.events.subscribe(),
        }
    }

    fn interrupt(&mut self, turn_id: Option<TurnId>) {
        let queued = self
            .queue
            .iter()
            .position(|queued| Some(queued.turn_id) == turn_id);
        if let Some(queued) = queued.and_then(|at| self.queue.remove(at)) {
            let outcome = self.withdrawn(queued.turn_id);
            // Whoever withdrew the prompt may not wait for its end.
            let _ = queued.waiter.send(Arc::new(outcome));
            return;
        }
        if let Some(running) = &self.running
            && turn_id.is_none_or(|turn_id| turn_id == running.turn_id)
        {
            running.stop.cancel();
        }
    }

    // Ending a turn.

    async fn end(&mut self, outcome: Outcome) {
        let Some(running) = self.running.take() else {
            return;
        };
        // Nothing of the turn runs on, also when it broke down.
        running.stop.cancel();
        for approval in self.approvals.pending() {
            self.resolve(
                approval.id,
                Answer::from(Decision::Deny),
                ResolvedBy::Interrupt,
            );
        }
        // A record may have failed in mid-turn.
        self.close_open_turn();
        let outcome = self.finish(outcome).await;
        for waiter in running.waiters {
            // A caller that went away is not told; the outcome is in the rollout.
            let _ = waiter.send(outcome.clone());
        }
        self.start_queued();
    }

    /// Records the outcome; if that fails, the outcome says so instead of claiming what is not kept.
    async fn finish(&mut self, outcome: Outcome) -> Arc<Outcome> {
        let mut outcome = outcome;
        let recorded = self.append(Record::TurnEnded {
            outcome: Box::new(outcome.clone()),
        });
        let synced = self.journal.sync().await;
        if let Err(error) = recorded.and(synced) {
            let message = format!("the end of the turn could not be recorded: {error}");
            outcome.status = Status::Failed;
            outcome.error = Some(TurnError {
                kind: TurnErrorKind::Storage,
                message,
            });
        }
        if self.queue.is_empty() {
            self.release();
        }
        self.publish(Event::TurnCompleted {
            outcome: Box::new(outcome.clone()),
        });
        Arc::new(outcome)
    }

    fn start_queued(&mut self) {
        while self.running.is_none()
            && let Some(Queued {
                turn_id,
                prompt,
                waiter,
            }) = self.queue.pop_front()
        {
            let begun = match self.hold() {
                Ok(()) => self.begin(turn_id, Some(prompt)),
                Err(error) => Err(StartError::Storage(error.to_string())),
            };
            match begun {
                Ok(()) => self.run_turn(vec![waiter]),
                Err(error) => {
                    let outcome = self.failed(turn_id, TurnErrorKind::Storage, &error.to_string());
                    // As in `end`.
                    let _ = waiter.send(Arc::new(outcome));
                }
            }
        }
    }

    fn outcome(&mut self, turn_id: TurnId, end: TurnEnd, mut changes: Vec<Change>) -> Outcome {
        self.history = Some(end.history);
        for change in &mut changes {
            change.diff = self.parts.redactor.clean(std::mem::take(&mut change.diff));
        }
        Outcome {
            status: end.status,
            content: end.content,
            changes,
            commands: end.commands,
            denied: end.denied,
            usage: end.usage,
            error: end.error,
            seconds: end.took.as_secs_f64(),
            ..self.blank(turn_id)
        }
    }

    fn failed(&self, turn_id: TurnId, kind: TurnErrorKind, message: &str) -> Outcome {
        let error = Some(TurnError {
            kind,
            message: message.to_owned(),
        });
        Outcome {
            status: Status::Failed,
            error,
            ..self.blank(turn_id)
        }
    }

    fn withdrawn(&self, turn_id: TurnId) -> Outcome {
        let message = "the prompt was withdrawn before its turn began".to_owned();
        let error = Some(TurnError {
            kind: TurnErrorKind::Interrupted,
            message,
        });
        Outcome {
            status: Status::Interrupted,
            error,
            ..self.blank(turn_id)
        }
    }

    fn blank(&self, turn_id: TurnId) -> Outcome {
        let seconds = self
            .running
            .as_ref()
            .map_or(0.0, |running| running.started.elapsed().as_secs_f64());
        Outcome {
            thread_id: self.state.header.thread_id,
            turn_id,
            status: Status::Completed,
            content: String::new(),
            changes: Vec::new(),
            commands: Vec::new(),
            approvals: Vec::new(),
            denied: Vec::new(),
            usage: Usage::default(),
            sandbox: self.parts.gate.sandbox_report(),
            model: self.parts.model.name().to_owned(),
            seconds,
            error: None,
            next: None,
        }
    }

    // The two things that everything above comes down to.

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

/// Runs a turn and reports its end, also when it panics.
async fn run_and_tell(turn: Turn, turn_id: TurnId, actor: mpsc::Sender<TurnMessage>) {
    let workspace = turn.gate.workspace.clone();
    workspace.checkpoint().begin();
    let message = match tokio::spawn(turn.run()).await {
        Ok(end) => {
            let measured =
                tokio::task::spawn_blocking(move || workspace.checkpoint().changes(&workspace))
                    .await;
            TurnMessage::Ended {
                turn_id,
                end: Box::new(end),
                changes: measured.unwrap_or_default(),
            }
        }
        Err(_) => TurnMessage::Broken { turn_id },
    };
    // The actor lives while a turn runs.
    let _ = actor.send(message).await;
}

fn approval(turn_id: TurnId, question: Question) -> Approval {
    Approval {
        id: ApprovalId::generate(),
        turn_id,
        call_id: question.call_id,
        kind: question.kind,
        summary: question.summary,
        place: question.place,
        detail: question.detail,
        reason: question.reason,
        session_covers: question.covers,
    }
}

/// The state of a thread that has no records yet.
pub(super) fn blank_state(header: Header) -> Loaded {
    Loaded {
        header,
        items: Vec::new(),
        turns: Vec::new(),
        damaged: 0,
    }
}
