//! Many threads, and long ones: the memory of a thousand in one process with 32 of them in a turn, the time of a step
//! beside them, and what it takes to open a thread of 5,000 items and to go on with it.
//!
//! All is real but the model, which answers at once, or never.

use std::{
    collections::HashMap,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use openoxide::{
    agent::{
        Limits,
        context::{Context, Surroundings},
    },
    conversation::{
        ApprovalPolicy, CallId, Item, OutputStatus, Redactor, SandboxPolicy, Status, ThreadId,
        ToolCall, ToolOutput, TurnId, Usage, WhenUnattended, Wire,
    },
    model::{Model, ModelError, ModelEvent, Recorded, Request},
    thread::{
        Assemble, DirectoryStore, Header, Parts, Places, Policy, Record, ThreadHandle, ThreadStore,
        Threads,
        rollout::{VERSION, now},
    },
    tools::{
        command::Rules,
        gate::Gate,
        registry::{Registry, Settings},
    },
    workspace::{
        Boundaries, Workspace,
        sandbox::{Confinement, Sandbox},
    },
};
use serde_json::{json, value::RawValue};

const THREADS: usize = 1000;
const AT_WORK: usize = 32;
const ITEMS: usize = 5000;
/// Of a turn whose steps are timed.
const STEPS: usize = 60;
/// Of each figure the median is told.
const ROUNDS: usize = 9;
/// In a prompt: the model says nothing, and never ends.
const HANG: &str = "think for ever";
/// In a prompt: the model looks at a file so often before it answers.
const LOOK: &str = "look around";

/// Looks at one file again and again, and notes when it was asked.
struct Looker {
    encoder: Recorded,
    asked: Mutex<HashMap<ThreadId, Vec<Instant>>>,
}

impl Model for Looker {
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
        let at = Instant::now();
        let last = request.input.last().map_or("", |last| last.get());
        if last.contains(HANG) {
            return stream::pending().boxed();
        }
        let mut asked = self.asked.lock().expect("nobody panics with it");
        let times = asked.entry(request.head.thread_id).or_default();
        if last.contains(LOOK) {
            times.clear();
        }
        times.push(at);
        let looks = times.len() <= STEPS && !last.contains("no more");
        let item = match looks {
            true => Item::ToolCall(call(request.input.len())),
            false => Item::AgentMessage {
                text: "done".into(),
                wire: None,
            },
        };
        let done = ModelEvent::Done(Usage::default());
        stream::iter([Ok(ModelEvent::Item(item)), Ok(done)]).boxed()
    }
}

fn call(number: usize) -> ToolCall {
    let call_id = format!("call_{number}");
    let arguments = json!({"path": "a.txt"}).to_string();
    let json = json!({"type": "function_call", "call_id": call_id, "name": "read_file", "arguments": arguments});
    ToolCall {
        call_id: CallId(call_id),
        name: "read_file".into(),
        arguments,
        wire: Some(Wire {
            origin: "looker".into(),
            json,
        }),
    }
}

/// One directory, one model, and threads made as `app` makes them.
#[derive(Clone)]
struct Bench {
    work: Arc<Path>,
    model: Arc<Looker>,
    sandbox: Arc<Sandbox>,
    store: DirectoryStore,
}

impl Assemble for Bench {
    fn judge(&self, _: &Header) -> Result<(), String> {
        Ok(())
    }

    fn assemble(&self, header: &Header) -> Result<Parts, String> {
        let policy = &header.policy;
        let workspace = Workspace::open(&header.cwd, policy.sandbox, Boundaries::default())
            .map_err(|error| error.to_string())?;
        let redactor = Redactor::new(Vec::<String>::new());
        let gate = Gate {
            tools: registry(),
            workspace: Arc::new(workspace),
            confinement: Arc::new(Confinement::new(self.sandbox.clone(), false)),
            accept_partial: true,
            approval_policy: policy.approval_policy,
            rules: Rules::new(&[], &[], &[])?,
            redactor: redactor.clone(),
            measures: true,
        };
        Ok(Parts {
            model: self.model.clone(),
            gate: Arc::new(gate),
            limits: header.limits,
            when_unattended: WhenUnattended::Deny,
            redactor,
            places: Places::new(AT_WORK + 1),
        })
    }
}

fn registry() -> Registry {
    let settings = Settings {
        environment: Vec::new(),
        commands_are_held: true,
        keeper: None,
    };
    Registry::built_in(
        SandboxPolicy::WorkspaceWrite,
        ApprovalPolicy::OnRequest,
        &settings,
    )
}

impl Bench {
    fn threads(&self) -> Threads {
        let store = Arc::new(self.store.clone());
        Threads::new(store, Box::new(self.clone()), Duration::MAX)
    }

    fn header(&self) -> Header {
        let (sandbox, approval_policy) = (SandboxPolicy::WorkspaceWrite, ApprovalPolicy::OnRequest);
        let around = Surroundings {
            cwd: &self.work,
            sandbox,
            approval_policy,
            query: false,
            instructions: None,
            agents_md: "",
        };
        Header {
            version: VERSION,
            thread_id: ThreadId::generate(),
            cwd: self.work.to_path_buf(),
            created_at: now(),
            owner: None,
            parent: None,
            isolated: None,
            own_directory: false,
            policy: Policy {
                sandbox,
                approval_policy,
                ..Policy::default()
            },
            model: "looker".into(),
            query: false,
            limits: Limits {
                max_tokens: u64::MAX,
                ..Limits::default()
            },
            context: Arc::new(Context::new(around, registry().specs(), None)),
        }
    }

    /// A thread on disk with so many items.
    fn long(&self, items: usize) -> Result<ThreadId> {
        let header = self.header();
        let mut journal = self.store.create(&header)?;
        let (turn_id, text) = (TurnId::generate(), "find it".to_owned());
        journal.append(&Record::TurnStarted {
            turn_id,
            resumes: None,
        })?;
        journal.append(&Record::Item(Item::UserMessage { text }))?;
        for number in 0..items / 2 {
            let call = call(number);
            let output = ToolOutput {
                call_id: call.call_id.clone(),
                status: OutputStatus::Done,
                content: "a line of what was found there\n".repeat(30),
                command: None,
            };
            journal.append(&Record::Item(Item::ToolCall(call)))?;
            journal.append(&Record::Item(Item::ToolOutput(output)))?;
        }
        journal.release();
        Ok(header.thread_id)
    }

    async fn turn(&self, thread: &ThreadHandle, prompt: &str) -> Result<()> {
        let outcome = thread.start(prompt.to_owned()).await?.outcome.await?;
        ensure!(outcome.status == Status::Completed, "{outcome:?}");
        Ok(())
    }

    /// The median step of a turn, and how long its first request took.
    async fn steps(&self, thread: &ThreadHandle) -> Result<(Duration, Duration)> {
        let began = Instant::now();
        self.turn(thread, LOOK).await?;
        let asked = self.model.asked.lock().expect("nobody panics with it");
        let times = &asked[&thread.id()];
        ensure!(times.len() == STEPS + 1, "{} steps", times.len());
        let mut took: Vec<Duration> = times.windows(2).map(|two| two[1] - two[0]).collect();
        took.sort();
        Ok((took[STEPS / 2], times[0] - began))
    }
}

/// Bytes that are in memory.
fn resident() -> Result<usize> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(kilobytes.parse::<usize>()? * 1024)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    let work = place.path().canonicalize()?.join("work");
    fs_err::create_dir(&work)?;
    fs_err::write(work.join("a.txt"), "what there is\n".repeat(20))?;
    let recording = r#"{"model": "looker", "samples": []}"#;
    let bench = Bench {
        work: work.into(),
        model: Arc::new(Looker {
            encoder: Recorded::parse("none", recording)?,
            asked: Mutex::default(),
        }),
        sandbox: Arc::new(Sandbox::new(Some(env!("CARGO_BIN_EXE_openoxide").into()))),
        store: DirectoryStore::new(place.path().join("state/threads")),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut out = io::stdout().lock();
    runtime.block_on(many(&bench, &mut out))?;
    runtime.block_on(long(&bench, &mut out))
}

async fn many(bench: &Bench, out: &mut impl Write) -> Result<()> {
    let threads = bench.threads();
    let alone = async || bench.steps(&threads.create(bench.header())?).await;
    alone().await.context("warming up")?;
    let mut before = Vec::new();
    for _ in 0..ROUNDS {
        before.push(alone().await?.0);
    }
    let empty = resident()?;
    let mut all = Vec::new();
    for _ in 0..THREADS {
        let thread = threads.create(bench.header())?;
        bench.turn(&thread, "no more").await?;
        all.push(thread);
    }
    for thread in &all[..AT_WORK - 1] {
        thread.start(HANG.to_owned()).await?;
    }
    let mut beside = Vec::new();
    for _ in 0..ROUNDS {
        beside.push(alone().await?.0);
    }
    let full = resident()?;
    let megabytes = |bytes: usize| bytes as f64 / 1e6;
    writeln!(
        out,
        "{THREADS} threads, {AT_WORK} in a turn: {:.0} MB, {:.0} kB a thread",
        megabytes(full),
        megabytes(full.saturating_sub(empty)) * 1e3 / THREADS as f64
    )?;
    writeln!(
        out,
        "a step alone {:?}, beside them {:?}",
        median(before),
        median(beside)
    )?;
    threads.shut_down(Duration::from_secs(5)).await;
    Ok(())
}

async fn long(bench: &Bench, out: &mut impl Write) -> Result<()> {
    for items in [50, ITEMS] {
        let (mut opened, mut first, mut step) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let id = bench.long(items)?;
            let threads = bench.threads();
            let began = Instant::now();
            let thread = threads.find(id)?;
            opened.push(began.elapsed());
            let (one, begun) = bench.steps(&thread).await?;
            first.push(begun);
            step.push(one);
        }
        writeln!(
            out,
            "{items} items: opened in {:?}, first request after {:?} more, a step {:?}",
            median(opened),
            median(first),
            median(step)
        )?;
    }
    Ok(())
}
