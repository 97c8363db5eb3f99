//! Threads in memory: those that nobody uses leave it and are the same when they come back, and no more than so many
//! work at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use openoxide::{
    conversation::{ApprovalPolicy, Decision, Event, ResolvedBy, Status, WhenUnattended},
    thread::{NoStore, Started, ThreadHandle, Threads},
};
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast};

use crate::support::{
    client::{Client, NEWEST_SESSION, outcome},
    harness::{Harness, Lab, act_on},
    home::{Home, eventually, run},
    model_server::{ModelServer, Reply},
};

/// Not long, and long against what the sweep takes.
const IDLE: Duration = Duration::from_millis(40);

/// Anything here comes to pass sooner.
const SOON: Duration = Duration::from_secs(10);

/// A time in which what may not happen would have.
const A_WHILE: Duration = Duration::from_millis(400);

fn call(name: &str, arguments: Value) -> Value {
    json!({"calls": [{"name": name, "arguments": arguments}]})
}

impl Lab {
    /// Lets go of the thread until it has left memory, and gets it again.
    async fn rest(mut self) -> Self {
        let id = self.handle.id();
        // Something else to hold meanwhile.
        let other = self
            .threads
            .create(self.harness.header())
            .expect("a thread");
        drop(std::mem::replace(&mut self.handle, other));
        let began = Instant::now();
        while self.threads.in_memory(id).is_some() {
            assert!(began.elapsed() < SOON, "it never leaves");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.handle = self.threads.find(id).expect("it is on disk");
        self
    }
}

#[tokio::test]
async fn a_thread_that_nobody_uses_leaves_memory_and_goes_on_as_it_was() {
    let lab = Harness::new()
        .idle(IDLE)
        .model(json!([{"text": "one"}, {"text": "two"}]))
        .thread();
    lab.run("first").await;
    let before = lab.items().await;
    let lab = lab.rest().await;
    assert_eq!(lab.items().await, before);
    // The book of the harness sees that the request begins with the same bytes.
    let (outcome, log) = lab.run("second").await;
    assert_eq!(outcome.content, "two", "{log}");
    assert_eq!(lab.requests().len(), 2);
}

#[tokio::test]
async fn a_thread_that_came_back_knows_what_it_saw_and_what_was_approved_for_the_session() {
    let edit = json!({"path": "a.txt", "edits": [{"search": "one", "replace": "two"}]});
    let lab = Harness::new()
        .idle(IDLE)
        .file("a.txt", "one\n")
        .asks(ApprovalPolicy::Untrusted)
        .answer(Decision::ApproveForSession)
        .model(json!([
            call("read_file", json!({"path": "a.txt"})),
            call("shell", json!({"command": "sleep 0"})),
            {"text": "done"},
            call("shell", json!({"command": "sleep 0"})),
            call("edit_file", edit),
            {"text": "done"},
        ]))
        .thread();
    let (_, log) = lab.run("look").await;
    assert!(log.contains("asked call_1_0"), "{log}");
    let lab = lab.rest().await;
    std::fs::write(lab.harness.work().join("a.txt"), "one\nmore\n").unwrap();
    // What changes in the tick of the clock in which a command begins may be its work.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (_, log) = lab.run("edit").await;
    assert!(!log.contains("asked call_3_0"), "{log}");
    assert!(
        log.contains("changed by somebody else since you last saw it"),
        "{log}"
    );
    // It was believed once.
    assert!(!lab.rollout().with_file_name("remembered.json").exists());
}

/// True if it is still there after a while in which it would have left.
async fn stays<T>(harness: &Harness, used: impl AsyncFnOnce(&ThreadHandle) -> T) -> bool {
    !leaves(harness, A_WHILE, used).await
}

/// Makes a thread, lets `used` begin something with it, lets go of it, and says whether it leaves within this time while
/// what `used` gave lives.
async fn leaves<T>(
    harness: &Harness,
    within: Duration,
    used: impl AsyncFnOnce(&ThreadHandle) -> T,
) -> bool {
    let threads = harness.threads();
    let thread = threads.create(harness.header()).expect("a thread");
    let id = thread.id();
    let begun = used(&thread).await;
    drop(thread);
    let until = Instant::now() + within;
    while threads.in_memory(id).is_some() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = threads.in_memory(id).is_none();
    drop(begun);
    left
}

#[tokio::test]
async fn what_somebody_uses_or_something_goes_on_in_stays_in_memory() {
    let harness = Harness::new().idle(IDLE);
    assert!(leaves(&harness, SOON, async |_| {}).await);
    assert!(stays(&harness, async |thread| thread.attend().await).await);
    assert!(stays(&harness, async |thread| thread.subscribe().await).await);
    assert!(stays(&harness.clone().kept_in(Arc::new(NoStore)), async |_| {}).await);
    let turn = async |thread: &ThreadHandle| {
        let started = thread.start("go".to_owned()).await.expect("a turn");
        started.outcome.await.expect("an outcome")
    };
    let script = json!([call("shell", json!({"command": "sleep 0"}))]);
    let asks = harness
        .clone()
        .asks(ApprovalPolicy::Untrusted)
        .unattended(WhenUnattended::ReturnToCaller)
        .model(script);
    assert!(stays(&asks, turn).await, "its turn waits");
    let runs = |line: &str| {
        let arguments = json!({"command": line, "wait_seconds": 0.05});
        let script = json!([call("shell", arguments), {"text": "it runs"}]);
        harness.clone().model(script)
    };
    assert!(stays(&runs("sleep 60"), turn).await, "a command runs");
    let ended = runs("sleep 0.1");
    assert!(leaves(&ended, SOON, turn).await, "it has ended");
}

// So many at once.

/// A thread beside others, and all that happens in it.
struct One {
    thread: ThreadHandle,
    events: broadcast::Receiver<Arc<Event>>,
    turn: Started,
}

impl One {
    async fn start(threads: &Threads, harness: &Harness) -> Self {
        let thread = threads.create(harness.header()).expect("a thread");
        let events = thread.subscribe().await.expect("a snapshot").events;
        let turn = thread.start("go".to_owned()).await.expect("a turn");
        Self {
            thread,
            events,
            turn,
        }
    }

    /// Reads on until an event is as wished.
    async fn until(&mut self, wished: impl Fn(&Event) -> bool) {
        let wanted = async { while !wished(&self.events.recv().await.expect("an event")) {} };
        tokio::time::timeout(SOON, wanted)
            .await
            .expect("it happens");
    }

    async fn until_it_works(&mut self) {
        self.until(|event| matches!(event, Event::CallStarted { .. }))
            .await;
    }

    async fn until_it_waits(&mut self) {
        let waits = "waiting for one of 1 turns to end (`limits.turns_at_once`)";
        self.until(|event| matches!(event, Event::Warning { message } if message == waits))
            .await;
    }

    async fn end(self) -> Status {
        let ended = tokio::time::timeout(SOON, self.turn.outcome).await;
        ended.expect("in time").expect("an outcome").status
    }
}

/// A place for one turn, and a tool that works until it is told.
fn one_place() -> (Harness, Arc<Notify>) {
    let word = Arc::new(Notify::new());
    let harness = Harness::new()
        .limits(|limits| limits.turns_at_once = 1)
        .tool(act_on(&word))
        .model(json!([call("act", json!({})), {"text": "done"}]));
    (harness, word)
}

#[tokio::test]
async fn a_turn_beyond_the_last_place_waits_and_says_so_and_runs_when_one_ends() {
    let (harness, word) = one_place();
    let threads = harness.threads();
    let mut first = One::start(&threads, &harness).await;
    first.until_it_works().await;
    let mut second = One::start(&threads, &harness).await;
    second.until_it_waits().await;
    let mut third = One::start(&threads, &harness).await;
    third.until_it_waits().await;
    word.notify_one();
    assert_eq!(first.end().await, Status::Completed);
    // First come, first served.
    second.until_it_works().await;
    let told = std::iter::from_fn(|| third.events.try_recv().ok());
    let works = |event: &Arc<Event>| matches!(**event, Event::CallStarted { .. });
    assert_eq!(told.filter(works).count(), 0);
    word.notify_one();
    assert_eq!(second.end().await, Status::Completed);
    word.notify_one();
    assert_eq!(third.end().await, Status::Completed);
}

#[tokio::test]
async fn a_turn_that_waits_for_a_place_can_be_interrupted_and_takes_none() {
    let (harness, word) = one_place();
    let threads = harness.threads();
    let mut first = One::start(&threads, &harness).await;
    first.until_it_works().await;
    let mut second = One::start(&threads, &harness).await;
    second.until_it_waits().await;
    second.thread.interrupt(None).await.unwrap();
    assert_eq!(second.end().await, Status::Interrupted);
    let mut third = One::start(&threads, &harness).await;
    third.until_it_waits().await;
    word.notify_one();
    assert_eq!(first.end().await, Status::Completed);
    third.until_it_works().await;
    word.notify_one();
    assert_eq!(third.end().await, Status::Completed);
}

#[tokio::test]
async fn a_turn_that_waits_for_an_answer_keeps_nobody_from_working() {
    let script = json!([call("shell", json!({"command": "sleep 0"})), {"text": "done"}]);
    let works = Harness::new()
        .limits(|limits| limits.turns_at_once = 1)
        .model(script);
    let asks = works.clone().asks(ApprovalPolicy::Untrusted);
    let threads = works.threads();
    let mut asking = One::start(&threads, &asks).await;
    let lease = asking.thread.attend().await.unwrap();
    let mut asked = None;
    while asked.is_none() {
        if let Event::ApprovalRequested { approval } = &*asking.events.recv().await.unwrap() {
            asked = Some(approval.id);
        }
    }
    let other = One::start(&threads, &works).await;
    assert_eq!(other.end().await, Status::Completed);
    let yes = Decision::Approve.into();
    let answered = asking
        .thread
        .answer(asked.unwrap(), yes, ResolvedBy::Terminal);
    assert!(answered.await.unwrap());
    assert_eq!(asking.end().await, Status::Completed);
    drop(lease);
}

// Over MCP.

#[test]
fn a_server_with_one_place_lets_a_call_wait_and_says_so() {
    let home = Home::new();
    let slow = Reply::text("Slow.").delayed(Duration::from_millis(1500));
    let model = ModelServer::start(vec![slow]);
    let arguments = ["mcp-server", "-c", "limits.turns_at_once=1"];
    let mut client = Client::start(home.openoxide_with(&model, &arguments), NEWEST_SESSION);
    let first = client.begin("openoxide", json!({"prompt": "first"}));
    eventually("the first turn runs", || model.requests().len() == 1);
    let question = json!({"query": "second", "wait_seconds": 0.3});
    let waits = client.call("openoxide-query", question);
    let waits = outcome(&waits);
    assert_eq!(waits["status"], "running", "{waits}");
    assert_eq!(
        waits["content"],
        "waiting for one of 1 turns to end (`limits.turns_at_once`)"
    );
    let again = client.call("openoxide-query", json!({"thread_id": waits["thread_id"]}));
    assert_eq!(outcome(&again)["status"], "completed", "{again}");
    assert_eq!(outcome(&client.result(first))["status"], "completed");
    client.close();
}

#[test]
fn a_server_gives_back_the_memory_of_threads_that_nobody_uses() {
    let home = Home::new();
    let model = ModelServer::start_by_outputs(vec![Reply::text("Here.")]);
    let arguments = ["mcp-server", "-c", "threads.idle_minutes=0.002"];
    let mut client = Client::start(home.openoxide_with(&model, &arguments), NEWEST_SESSION);
    let first = client.call("openoxide", json!({"prompt": "first"}));
    let thread = outcome(&first)["thread_id"].clone();
    let folder = home.rollout_file(thread.as_str().expect("an id"));
    let rests = || folder.with_file_name("remembered.json").exists();
    eventually("it leaves memory", rests);
    let again = client.call(
        "openoxide-reply",
        json!({"thread_id": thread, "prompt": "again"}),
    );
    assert_eq!(outcome(&again)["status"], "completed", "{again}");
    assert!(model.violations().is_empty(), "{:?}", model.violations());
    client.close();
}

#[test]
fn a_place_for_no_turn_and_a_time_of_none_are_refused() {
    let home = Home::new();
    for (set, said) in [
        (
            "limits.turns_at_once=0",
            "expected a number of turns above 0",
        ),
        ("threads.idle_minutes=0", "expected a number above 0"),
    ] {
        let ran = run(home.openoxide(&["-m", "x", "-c", set])).expect(2);
        ran.assert_says(said);
    }
}

/// The figures of a release build are those of `cargo bench --bench threads`.
#[cfg(target_os = "linux")]
#[test]
fn a_thread_in_memory_is_small_and_holds_no_file_open() {
    let home = Home::new();
    let work = Reply::call("c1", "shell", json!({"command": "true"}));
    let model = ModelServer::start_by_outputs(vec![work, Reply::text("Done.")]);
    let mut client = Client::start(home.openoxide_with(&model, &["mcp-server"]), NEWEST_SESSION);
    let mut work = |count: usize| {
        for number in 0..count {
            let prompt = format!("task {number}, {count} in all");
            let done = client.call("openoxide", json!({"prompt": prompt}));
            assert_eq!(outcome(&done)["status"], "completed", "{done}");
        }
        let place = format!("/proc/{}", client.process_id());
        let open = std::fs::read_dir(format!("{place}/fd"))
            .expect("it runs")
            .count();
        let status = std::fs::read_to_string(format!("{place}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.expect("a size").trim().trim_end_matches(" kB");
        (open, kilobytes.parse::<usize>().expect("a number"))
    };
    let (open, kilobytes) = work(40);
    let (open_then, kilobytes_then) = work(80);
    let each = kilobytes_then.saturating_sub(kilobytes) / 80;
    // A thousand are to fit into 200 MB, with all that is there without them.
    assert!(each < 150, "{each} kB a thread");
    assert!(open_then < open + 20, "{open} files, then {open_then}");
    client.close();
}
