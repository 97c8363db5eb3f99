//! The one builder for tests at the height of a thread: a temporary workspace, a scripted model, a store, an answerer.
//!
//! Everything is real but the model. What the model is sent is checked on the way (see [`Book`]): each call has exactly
//! one output, and the input of a thread only grows, byte for byte, also over a reload. A fault is told when the
//! [`Lab`] is dropped, so that no test has to ask.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write,
    marker::PhantomData,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use openoxide::{
    agent::{
        Limits,
        context::{Context, Surroundings},
        instructions,
    },
    conversation::{
        Access, Answer, ApprovalId, ApprovalPolicy, CallId, Decision, Event, Item, Outcome,
        Redactor, ResolvedBy, SandboxPolicy, ThreadId, ToolCall, TurnId, Usage, WhenUnattended,
    },
    model::{Model, ModelError, ModelErrorKind, ModelEvent, Recorded, Request},
    thread::{
        Assemble, DirectoryStore, Header, Lease, Parts, Places, Policy, Started, ThreadHandle,
        ThreadStore, Threads,
        rollout::{VERSION, now},
    },
    tools::{
        Call, Output, Planned, Tool, ToolError,
        command::Rules,
        gate::Gate,
        registry::{Registry, Settings},
    },
    workspace::{
        Boundaries, Workspace,
        sandbox::{Confinement, Sandbox},
        shell,
    },
};
use schemars::JsonSchema;
use serde_json::{Value, json, value::RawValue};
use tempfile::TempDir;
use tokio::sync::{Notify, broadcast};

/// Longer than anything here takes; what is slower hangs.
const PATIENCE: Duration = Duration::from_secs(20);

type AddTool = Arc<dyn Fn(&mut Registry) + Send + Sync>;

/// What a thread is made from, until [`Harness::thread`] makes it.
#[derive(Clone)]
pub(crate) struct Harness {
    dir: Arc<TempDir>,
    model: Arc<dyn Model>,
    window: Option<u64>,
    is_unchecked: bool,
    policy: Policy,
    limits: Limits,
    unattended: WhenUnattended,
    secrets: Vec<String>,
    tools: Vec<AddTool>,
    store: Arc<dyn ThreadStore>,
    answers: Vec<Decision>,
    idle: Duration,
    book: Book,
}

impl Harness {
    /// An empty workspace under `workspace-write` and `on-request`, and a model that has nothing to say.
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("work")).expect("a workspace");
        let store = DirectoryStore::new(dir.path().join("state/threads"));
        Self {
            dir: Arc::new(dir),
            model: recorded(&json!([])),
            window: None,
            is_unchecked: false,
            policy: Policy {
                sandbox: SandboxPolicy::WorkspaceWrite,
                approval_policy: ApprovalPolicy::OnRequest,
                ..Policy::default()
            },
            limits: Limits::default(),
            unattended: WhenUnattended::AutoWithinPolicy,
            secrets: Vec::new(),
            tools: Vec::new(),
            store: Arc::new(store),
            answers: Vec::new(),
            idle: Duration::MAX,
            book: Book::default(),
        }
    }

    /// A file of the workspace.
    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        let path = self.work().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
        std::fs::write(path, content).expect("a file");
        self
    }

    /// What the model says: the samples of a recording, one for each request (see `model::Recorded`).
    pub(crate) fn model(mut self, samples: Value) -> Self {
        self.model = recorded(&samples);
        self
    }

    /// A model with a mind of its own.
    pub(crate) fn sampled_by(mut self, model: impl Model + 'static) -> Self {
        self.model = Arc::new(model);
        self
    }

    /// What the model is sent is not checked, for a test that takes the time.
    pub(crate) fn unchecked(mut self) -> Self {
        self.is_unchecked = true;
        self
    }

    /// The model takes so many tokens.
    pub(crate) fn window(mut self, tokens: u64) -> Self {
        self.window = Some(tokens);
        self
    }

    pub(crate) fn sandbox(mut self, sandbox: SandboxPolicy) -> Self {
        self.policy.sandbox = sandbox;
        self
    }

    pub(crate) fn asks(mut self, when: ApprovalPolicy) -> Self {
        self.policy.approval_policy = when;
        self
    }

    /// A prefix of commands that the owner denies.
    pub(crate) fn denies(mut self, prefix: &str) -> Self {
        self.policy.deny.push(prefix.to_owned());
        self
    }

    pub(crate) fn limits(mut self, set: impl FnOnce(&mut Limits)) -> Self {
        set(&mut self.limits);
        self
    }

    /// What becomes of a question that nobody can answer.
    pub(crate) fn unattended(mut self, strategy: WhenUnattended) -> Self {
        self.unattended = strategy;
        self
    }

    /// A value that must not be seen.
    pub(crate) fn secret(mut self, value: &str) -> Self {
        self.secrets.push(value.to_owned());
        self
    }

    /// One more tool.
    pub(crate) fn tool<T: Tool + Clone>(mut self, tool: T) -> Self {
        self.tools
            .push(Arc::new(move |registry| registry.add(tool.clone())));
        self
    }

    pub(crate) fn kept_in(mut self, store: Arc<dyn ThreadStore>) -> Self {
        self.store = store;
        self
    }

    /// Somebody attends and answers the next question so; the last answer holds for all that follow.
    pub(crate) fn answer(mut self, decision: Decision) -> Self {
        self.answers.push(decision);
        self
    }

    /// A thread that nobody uses for so long leaves memory.
    pub(crate) fn idle(mut self, time: Duration) -> Self {
        self.idle = time;
        self
    }

    /// Makes the thread and runs its first turn.
    pub(crate) async fn run(self, prompt: &str) -> Ran {
        let lab = self.thread();
        let (outcome, log) = lab.run(prompt).await;
        Ran { lab, outcome, log }
    }

    /// Makes the thread.
    pub(crate) fn thread(self) -> Lab {
        let threads = self.threads();
        let handle = threads.create(self.header()).expect("a thread");
        Lab {
            harness: self,
            threads,
            handle,
        }
    }

    /// The set of threads of one more process.
    pub(crate) fn threads(&self) -> Threads {
        let places = Places::new(self.limits.turns_at_once);
        let assembly = Assembly(self.clone(), places);
        Threads::new(self.store.clone(), Box::new(assembly), self.idle)
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir
            .path()
            .canonicalize()
            .expect("its real path")
            .join("work")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state/threads")
    }

    /// As `app` makes it.
    pub(crate) fn header(&self) -> Header {
        let cwd = self.work();
        let agents_md = instructions::find(&cwd).text;
        let around = Surroundings {
            cwd: &cwd,
            sandbox: self.policy.sandbox,
            approval_policy: self.policy.approval_policy,
            query: false,
            instructions: None,
            agents_md: &agents_md,
        };
        let context = Context::new(around, self.registry().specs(), None);
        Header {
            version: VERSION,
            thread_id: ThreadId::generate(),
            cwd,
            created_at: now(),
            parent: None,
            owner: None,
            isolated: None,
            own_directory: false,
            policy: self.policy.clone(),
            model: self.model.name().to_owned(),
            query: false,
            limits: self.limits,
            context: Arc::new(context),
        }
    }

    fn registry(&self) -> Registry {
        let variables = ["PATH", "TMPDIR"]
            .iter()
            .filter_map(|name| Some(((*name).into(), std::env::var_os(name)?)));
        let settings = Settings {
            environment: shell::for_commands(variables, &[], 1),
            commands_are_held: true,
            keeper: held().keeper(),
        };
        let Policy {
            sandbox,
            approval_policy,
            ..
        } = self.policy;
        let mut registry = Registry::built_in(sandbox, approval_policy, &settings);
        self.tools.iter().for_each(|add| add(&mut registry));
        registry
    }
}

/// The sandbox of this machine; its helper is the real program, since a test is not one.
fn held() -> Arc<Sandbox> {
    Arc::new(Sandbox::new(Some(env!("CARGO_BIN_EXE_openoxide").into())))
}

/// Parts as `app` builds them, with the harness's model and tools.
struct Assembly(Harness, Places);

impl Assemble for Assembly {
    fn judge(&self, _: &Header) -> Result<(), String> {
        Ok(())
    }

    fn assemble(&self, header: &Header) -> Result<Parts, String> {
        let Self(harness, places) = self;
        let workspace = Workspace::open(&header.cwd, header.policy.sandbox, Boundaries::default())
            .map_err(|error| error.to_string())?;
        let redactor = Redactor::new(harness.secrets.clone());
        let gate = Gate {
            tools: harness.registry(),
            workspace: Arc::new(workspace),
            confinement: Arc::new(Confinement::new(held(), false)),
            // What this machine cannot enforce is for the tests of the sandbox.
            accept_partial: true,
            approval_policy: header.policy.approval_policy,
            rules: Rules::new(
                &[],
                &header.policy.deny,
                &[("PATH".into(), "/usr/bin:/bin".into())],
            )?,
            redactor: redactor.clone(),
            measures: true,
        };
        if harness.is_unchecked {
            return Ok(Parts {
                model: harness.model.clone(),
                gate: Arc::new(gate),
                limits: header.limits,
                when_unattended: harness.unattended,
                redactor,
                places: places.clone(),
            });
        }
        let model = Checked {
            inner: harness.model.clone(),
            window: harness.window,
            book: harness.book.clone(),
        };
        Ok(Parts {
            model: Arc::new(model),
            gate: Arc::new(gate),
            limits: header.limits,
            when_unattended: harness.unattended,
            redactor,
            places: places.clone(),
        })
    }
}

/// A thread under test. Dropping it fails the test if the model was ever sent what it must not be.
pub(crate) struct Lab {
    pub(crate) harness: Harness,
    pub(crate) threads: Threads,
    pub(crate) handle: ThreadHandle,
}

/// What came of [`Harness::run`].
pub(crate) struct Ran {
    pub(crate) lab: Lab,
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) log: String,
}

impl Lab {
    /// Runs a turn to its end and gives its outcome and log.
    pub(crate) async fn run(&self, prompt: &str) -> (Arc<Outcome>, String) {
        self.start(prompt).await.end().await
    }

    /// Goes on with an interrupted turn to its end.
    pub(crate) async fn resume(&self) -> (Arc<Outcome>, String) {
        let follower = self.follow().await;
        let started = self.handle.resume().await.expect("something to resume");
        follower.of(started).end().await
    }

    /// Starts a turn and follows it.
    pub(crate) async fn start(&self, prompt: &str) -> Going {
        let follower = self.follow().await;
        let started = self.handle.start(prompt.to_owned()).await;
        follower.of(started.expect("a turn"))
    }

    async fn follow(&self) -> Follower {
        let lease = match self.harness.answers.is_empty() {
            true => None,
            false => Some(self.handle.attend().await.expect("a lease")),
        };
        let snapshot = self.handle.subscribe().await.expect("a snapshot");
        Follower {
            handle: self.handle.clone(),
            events: snapshot.events,
            answers: self.harness.answers.clone().into(),
            places: [
                (self.harness.work(), "[work]"),
                (self.harness.state(), "[state]"),
            ],
            lease,
        }
    }

    pub(crate) async fn items(&self) -> Vec<Item> {
        self.handle.subscribe().await.expect("a snapshot").items
    }

    /// The file of the thread.
    pub(crate) fn rollout(&self) -> PathBuf {
        self.harness
            .state()
            .join(self.handle.id().to_string())
            .join("rollout.jsonl")
    }

    /// The content of a file of the workspace.
    pub(crate) fn content(&self, path: &str) -> String {
        std::fs::read_to_string(self.harness.work().join(path)).expect("a file of the workspace")
    }

    /// The same thread in another process: another set of threads over the same store.
    pub(crate) fn elsewhere(&self) -> Lab {
        let threads = self.harness.threads();
        let handle = threads.find(self.handle.id()).expect("the thread");
        Lab {
            harness: self.harness.clone(),
            threads,
            handle,
        }
    }

    /// What the model was sent for this thread: the input of each request.
    pub(crate) fn requests(&self) -> Vec<Vec<String>> {
        self.harness.book.requests(self.handle.id())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.harness.book.check();
        }
    }
}

/// Somebody who looked before the turn started, so that nothing is missed.
struct Follower {
    handle: ThreadHandle,
    events: broadcast::Receiver<Arc<Event>>,
    answers: VecDeque<Decision>,
    places: [(PathBuf, &'static str); 2],
    lease: Option<Lease>,
}

impl Follower {
    fn of(self, started: Started) -> Going {
        Going {
            follower: self,
            started,
            log: Log::default(),
        }
    }
}

/// A turn on its way.
pub(crate) struct Going {
    follower: Follower,
    started: Started,
    log: Log,
}

impl Going {
    pub(crate) fn turn_id(&self) -> TurnId {
        self.started.turn_id
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.started.queued
    }

    /// Reads events until one is as wished.
    pub(crate) async fn until<T>(&mut self, mut wished: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let event = self.next().await;
            if let Some(found) = wished(&event) {
                return found;
            }
        }
    }

    /// Waits until a call runs.
    pub(crate) async fn until_call_runs(&mut self) {
        self.until(|event| matches!(event, Event::CallStarted { .. }).then_some(()))
            .await;
    }

    /// Waits until somebody is asked.
    pub(crate) async fn until_asked(&mut self) -> ApprovalId {
        self.until(|event| match event {
            Event::ApprovalRequested { approval } => Some(approval.id),
            _ => None,
        })
        .await
    }

    async fn next(&mut self) -> Arc<Event> {
        let event = tokio::time::timeout(PATIENCE, self.follower.events.recv())
            .await
            .unwrap_or_else(|_| panic!("nothing happens any more; so far:\n{}", self.log.text))
            .expect("an event");
        self.log.note(&event);
        if let (Event::ApprovalRequested { approval }, Some(decision)) =
            (&*event, self.follower.answers.front().copied())
        {
            if self.follower.answers.len() > 1 {
                self.follower.answers.pop_front();
            }
            let answer = Answer::from(decision);
            let told = self
                .follower
                .handle
                .answer(approval.id, answer, ResolvedBy::Terminal);
            assert!(told.await.expect("a thread"), "the answer came too late");
        }
        event
    }

    /// Waits for the end; gives the outcome and the log.
    pub(crate) async fn end(mut self) -> (Arc<Outcome>, String) {
        let turn_id = self.started.turn_id;
        self.until(|event| match event {
            Event::TurnCompleted { outcome } if outcome.turn_id == turn_id => Some(()),
            _ => None,
        })
        .await;
        let outcome = tokio::time::timeout(PATIENCE, self.started.outcome)
            .await
            .expect("an outcome in time")
            .expect("an outcome");
        drop(self.follower.lease);
        let mut log = self.log.ended();
        for (place, name) in &self.follower.places {
            log = log.replace(&*place.to_string_lossy(), name);
        }
        (outcome, log)
    }
}

/// The events of a turn as text, without what differs from run to run.
#[derive(Default)]
struct Log {
    text: String,
    /// Pieces of the model's message that stand together.
    said: String,
}

impl Log {
    fn note(&mut self, event: &Event) {
        if let Event::TextDelta { text } = event {
            self.said.push_str(text);
            return;
        }
        self.flush();
        match event {
            // Paced by the clock.
            Event::TextDelta { .. } | Event::CallOutput { .. } => {}
            Event::TurnStarted { .. } => self.line(format_args!("turn started")),
            Event::TextWithdrawn => self.line(format_args!("withdrawn")),
            Event::ItemCompleted { item } => self.item(item),
            Event::CallStarted { call_id, title } => {
                self.line(format_args!("started {call_id}: {title}"));
            }
            Event::FileChanged {
                call_id,
                path,
                added,
                removed,
                ..
            } => self.line(format_args!(
                "changed {call_id}: {path} +{added} -{removed}"
            )),
            Event::ApprovalRequested { approval } => {
                self.line(format_args!(
                    "asked {}: {}",
                    approval.call_id, approval.summary
                ));
            }
            Event::ApprovalResolved { resolution, .. } => self.line(format_args!(
                "answered {:?} by {:?}",
                resolution.answer.decision, resolution.by
            )),
            Event::Warning { message } => self.line(format_args!("warning: {message}")),
            Event::TurnCompleted { outcome } => self.outcome(outcome),
        }
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::UserMessage { text } => self.line(format_args!("user {text:?}")),
            Item::Picture(picture) => self.line(format_args!("picture {:?}", picture.name)),
            Item::AgentMessage { text, .. } => self.line(format_args!("agent {text:?}")),
            Item::Reasoning { summary, .. } => self.line(format_args!("thought {summary:?}")),
            Item::ToolCall(call) => self.line(format_args!(
                "call {}: {} {}",
                call.call_id, call.name, call.arguments
            )),
            Item::ToolOutput(output) => self.line(format_args!(
                "output {} {:?}: {:?}",
                output.call_id, output.status, output.content
            )),
            Item::Compaction { text, .. } => self.line(format_args!("compaction {text:?}")),
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        self.line(format_args!("turn {}", outcome.status.as_str()));
        if let Some(error) = &outcome.error {
            self.line(format_args!("  {:?}: {}", error.kind, error.message));
        }
        for change in &outcome.changes {
            let kind = change.kind.as_str();
            self.line(format_args!(
                "  {kind} {} +{} -{}",
                change.path, change.added, change.removed
            ));
        }
        for run in &outcome.commands {
            self.line(format_args!("  ran {:?} {:?}", run.command, run.exit_code));
        }
        for denied in &outcome.denied {
            self.line(format_args!(
                "  denied {}: {}",
                denied.summary, denied.reason
            ));
        }
    }

    fn flush(&mut self) {
        if !self.said.is_empty() {
            let said = std::mem::take(&mut self.said);
            self.line(format_args!("text {said:?}"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a String takes all");
    }

    fn ended(mut self) -> String {
        self.flush();
        self.text
    }
}

/// Everything that the model was sent, by thread, and what was wrong with it.
#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    threads: HashMap<ThreadId, Vec<Sent>>,
    faults: Vec<String>,
}

struct Sent {
    head: String,
    input: Vec<String>,
}

impl Sent {
    /// It ends with the question of a compaction, which no request after it repeats.
    fn asks_for_notes(&self) -> bool {
        let question = "This conversation is near the end of what fits.";
        self.input
            .last()
            .is_some_and(|last| last.contains(question))
    }

    /// It is what a compaction makes of `last`: its end with the question, or what stands for all of it.
    fn is_shorter_than(&self, last: &Self) -> bool {
        let (Some((preamble, rest)), Some(before)) = (self.input.split_first(), last.input.first())
        else {
            return false;
        };
        // A turn may have ended right after it, so that others follow it already.
        let stands_for_all = rest.first().is_some_and(|first| {
            let is_new = rest.len() == 1 || last.input.get(1) != Some(first);
            first.contains("# What came before") && is_new
        });
        let tail = &rest[..rest.len().saturating_sub(1)];
        let asks = self.asks_for_notes() && last.input.ends_with(tail);
        preamble == before && (asks || stands_for_all)
    }
}

impl Book {
    fn enter(&self, request: &Request) {
        let sent = Sent {
            head: format!("{:?}", request.head),
            input: request
                .input
                .iter()
                .map(|raw| raw.get().to_owned())
                .collect(),
        };
        let mut pages = self.pages();
        let mut faults = unpaired(&sent.input);
        let before = pages.threads.entry(request.head.thread_id).or_default();
        if let Some(last) = before.iter().rev().find(|sent| !sent.asks_for_notes()) {
            if last.head != sent.head {
                faults.push("the head of the request changed".to_owned());
            }
            if !sent.input.starts_with(&last.input) && !sent.is_shorter_than(last) {
                faults.push(format!(
                    "the request does not begin as the one before:\n{}\nbut:\n{}",
                    last.input.join("\n"),
                    sent.input.join("\n")
                ));
            }
        }
        before.push(sent);
        pages.faults.extend(faults);
    }

    /// Fails if a request was not as it must be.
    pub(crate) fn check(&self) {
        let faults = self.pages().faults.join("\n");
        assert!(faults.is_empty(), "the model was sent nonsense: {faults}");
    }

    fn requests(&self, thread: ThreadId) -> Vec<Vec<String>> {
        let pages = self.pages();
        let sent = pages.threads.get(&thread);
        sent.map(|sent| sent.iter().map(|sent| sent.input.clone()).collect())
            .unwrap_or_default()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with the calls and outputs of `input`: each call has one output, after it, and no output stands alone.
pub(crate) fn unpaired(input: &[String]) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let mut faults = Vec::new();
    for item in input {
        let item: Value = serde_json::from_str(item).expect("an item is JSON");
        let id = item["call_id"].as_str().unwrap_or_default().to_owned();
        match item["type"].as_str() {
            Some("function_call") => open.push(id),
            Some("function_call_output") => match open.iter().position(|call| *call == id) {
                Some(at) => drop(open.remove(at)),
                None => faults.push(format!("`{id}` has an output but is no open call")),
            },
            _ => {}
        }
    }
    faults.extend(open.iter().map(|id| format!("call `{id}` has no output")));
    faults
}

/// A model that enters each request into the book.
struct Checked {
    inner: Arc<dyn Model>,
    window: Option<u64>,
    book: Book,
}

impl Model for Checked {
    fn origin(&self) -> &str {
        self.inner.origin()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn window(&self) -> Option<u64> {
        self.window.or(self.inner.window())
    }

    fn encode(&self, items: &[Item]) -> Vec<Arc<RawValue>> {
        self.inner.encode(items)
    }

    fn stream(&self, request: Request) -> BoxStream<'static, Result<ModelEvent, ModelError>> {
        self.book.enter(&request);
        self.inner.stream(request)
    }
}

fn recorded(samples: &Value) -> Arc<dyn Model> {
    let recording = json!({"model": "scripted", "samples": samples}).to_string();
    Arc::new(Recorded::parse("the script", &recording).expect("a recording"))
}

/// One thing that a [`scripted`] model does.
#[derive(Clone)]
pub(crate) enum Beat {
    Event(ModelEvent),
    Error(ModelError),
    /// Streams nothing more, and never ends.
    Hang,
    /// Streams the rest only when somebody says so.
    After(Arc<Notify>),
    Panic,
}

/// A model that streams what `sample` says of a request.
pub(crate) struct Sampling<F> {
    sample: F,
    /// Knows how items stand in a request.
    encoder: Arc<dyn Model>,
}

impl<F: Fn(Request) -> BoxStream<'static, Result<ModelEvent, ModelError>>> Sampling<F> {
    pub(crate) fn by(sample: F) -> Self {
        Self {
            sample,
            encoder: recorded(&json!([])),
        }
    }
}

impl<F> Model for Sampling<F>
where
    F: Fn(Request) -> BoxStream<'static, Result<ModelEvent, ModelError>> + Send + Sync,
{
    fn origin(&self) -> &str {
        self.encoder.origin()
    }

    fn name(&self) -> &str {
        self.encoder.name()
    }

    fn encode(&self, items: &[Item]) -> Vec<Arc<RawValue>> {
        self.encoder.encode(items)
    }

    fn stream(&self, request: Request) -> BoxStream<'static, Result<ModelEvent, ModelError>> {
        (self.sample)(request)
    }
}

/// A model that streams exactly what it is told, sample by sample, whatever it is sent.
pub(crate) fn scripted(samples: impl IntoIterator<Item = Vec<Beat>>) -> impl Model + 'static {
    let samples: VecDeque<Vec<Beat>> = samples.into_iter().collect();
    let samples = Mutex::new(samples);
    Sampling::by(move |_| {
        let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        let beats = samples.pop_front().unwrap_or_else(|| {
            vec![Beat::Error(model_error(
                ModelErrorKind::Rejected,
                "the script is at its end",
            ))]
        });
        stream::iter(beats)
            .filter_map(|beat| async {
                match beat {
                    Beat::Event(event) => Some(Ok(event)),
                    Beat::Error(error) => Some(Err(error)),
                    Beat::Hang => std::future::pending().await,
                    Beat::After(word) => {
                        word.notified().await;
                        None
                    }
                    Beat::Panic => panic!("a model that breaks down, as the test wants it"),
                }
            })
            .boxed()
    })
}

pub(crate) fn model_error(kind: ModelErrorKind, message: &str) -> ModelError {
    ModelError {
        kind,
        message: message.to_owned(),
        retry_after: None,
    }
}

/// A whole message.
pub(crate) fn says(text: &str) -> Beat {
    Beat::Event(ModelEvent::Item(Item::AgentMessage {
        text: text.to_owned(),
        wire: None,
    }))
}

/// A piece of a message.
pub(crate) fn delta(text: &str) -> Beat {
    Beat::Event(ModelEvent::TextDelta(text.to_owned()))
}

/// A whole call.
pub(crate) fn calls(id: &str, name: &str, arguments: Value) -> Beat {
    Beat::Event(ModelEvent::Item(Item::ToolCall(ToolCall {
        call_id: CallId(id.to_owned()),
        name: name.to_owned(),
        arguments: arguments.to_string(),
        wire: None,
    })))
}

/// The end of a sample.
pub(crate) fn done() -> Beat {
    Beat::Event(ModelEvent::Done(Usage::default()))
}

/// The sample broke and is tried again.
pub(crate) fn retrying() -> Beat {
    Beat::Event(ModelEvent::Retrying {
        after: Duration::ZERO,
        error: model_error(ModelErrorKind::Busy, "overloaded"),
    })
}

/// The arguments of the tools below.
#[derive(Debug, serde::Deserialize, JsonSchema)]
pub(crate) struct Tag {
    /// Tells calls apart.
    #[serde(default)]
    pub(crate) tag: String,
}

/// What a tool of a test does.
type Deed = Arc<dyn Fn(Tag, Call) -> BoxFuture<'static, Result<Output, ToolError>> + Send + Sync>;

/// A tool that does what a test wants.
pub(crate) struct Told<Kind> {
    deed: Deed,
    kind: PhantomData<fn() -> Kind>,
}

impl<Kind> Clone for Told<Kind> {
    fn clone(&self) -> Self {
        Self {
            deed: self.deed.clone(),
            kind: PhantomData,
        }
    }
}

/// A name, and whether the tool only reads.
pub(crate) trait Kind: 'static {
    const NAME: &'static str;
    const ONLY_READS: bool;
}

pub(crate) struct Look;
pub(crate) struct Act;

impl Kind for Look {
    const NAME: &'static str = "look";
    const ONLY_READS: bool = true;
}

impl Kind for Act {
    const NAME: &'static str = "act";
    const ONLY_READS: bool = false;
}

/// The tool `look`, which only reads.
pub(crate) fn look<F>(deed: impl Fn(Tag, Call) -> F + Send + Sync + 'static) -> Told<Look>
where
    F: Future<Output = Result<Output, ToolError>> + Send + 'static,
{
    told(deed)
}

/// The tool `act`, which acts, and may without being asked.
pub(crate) fn act<F>(deed: impl Fn(Tag, Call) -> F + Send + Sync + 'static) -> Told<Act>
where
    F: Future<Output = Result<Output, ToolError>> + Send + 'static,
{
    told(deed)
}

/// The tool `act`, which is done each time that somebody gives it the word.
pub(crate) fn act_on(word: &Arc<Notify>) -> Told<Act> {
    let word = word.clone();
    act(move |_, _| {
        let word = word.clone();
        async move {
            word.notified().await;
            Ok(Output::from("done".to_owned()))
        }
    })
}

fn told<K, F>(deed: impl Fn(Tag, Call) -> F + Send + Sync + 'static) -> Told<K>
where
    F: Future<Output = Result<Output, ToolError>> + Send + 'static,
{
    Told {
        deed: Arc::new(move |tag, call| Box::pin(deed(tag, call))),
        kind: PhantomData,
    }
}

impl<K: Kind> Tool for Told<K> {
    type Input = Tag;
    type Plan = Tag;
    const NAME: &'static str = K::NAME;
    const ONLY_READS: bool = K::ONLY_READS;

    fn plan(&self, tag: Tag, _: &Workspace) -> Result<Planned<Tag>, ToolError> {
        assert_ne!(tag.tag, "break in plan", "as the test wants it");
        Ok(Planned {
            access: Access::Nothing,
            title: tag.tag.clone(),
            plan: tag,
        })
    }

    fn run(&self, tag: Tag, call: Call) -> impl Future<Output = Result<Output, ToolError>> + Send {
        (self.deed)(tag, call)
    }
}
