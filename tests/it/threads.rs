//! Threads with a scripted model: what a turn does, what it never does, and what is left of it when something breaks.

use std::{
    collections::HashMap,
    io,
    path::Path,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use openoxide::{
    conversation::{
        Answer, ApprovalPolicy, CallId, Decision, Event, Item, OutputStatus, ResolvedBy,
        SandboxPolicy, Status, ThreadId, ToolOutput, TurnErrorKind, WhenUnattended, Wire,
    },
    model::{ModelErrorKind, ModelEvent},
    thread::{
        DirectoryStore, Follow, Header, Loaded, NoStore, Record, StartError, StoreError,
        ThreadStore, ThreadSummary,
        rollout::{self, now},
        store::Journal,
        visit,
    },
    tools::{Output, ToolError},
};
use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify};

use crate::support::harness::{
    Beat, Harness, Lab, act, act_on, calls, delta, done, look, model_error, retrying, says,
    scripted, unpaired,
};

/// A barrier that is not passed in this time is never passed.
const SOON: Duration = Duration::from_secs(5);

fn write(path: &str, content: &str) -> Value {
    json!({"name": "write_file", "arguments": {"path": path, "content": content}})
}

fn one_to_two() -> Value {
    json!({"name": "edit_file", "arguments": {"path": "a.txt", "edits": [{"search": "one", "replace": "two"}]}})
}

fn command(line: &str) -> Value {
    json!({"name": "shell", "arguments": {"command": line}})
}

fn acting(tag: &str) -> Value {
    json!({"name": "act", "arguments": {"tag": tag}})
}

fn looking(tag: &str) -> Value {
    json!({"name": "look", "arguments": {"tag": tag}})
}

fn said(text: &str) -> Result<Output, ToolError> {
    Ok(Output::from(text.to_owned()))
}

/// The outputs of a conversation by call; fails if a call has not exactly one.
fn outputs(items: &[Item]) -> HashMap<CallId, ToolOutput> {
    let mut outputs = HashMap::new();
    let mut open: Vec<&CallId> = Vec::new();
    for item in items {
        match item {
            Item::ToolCall(call) => open.push(&call.call_id),
            Item::ToolOutput(output) => {
                let at = open.iter().position(|call| **call == output.call_id);
                open.remove(at.unwrap_or_else(|| panic!("{output:?} answers no open call")));
                outputs.insert(output.call_id.clone(), output.clone());
            }
            Item::UserMessage { .. }
            | Item::Picture(_)
            | Item::AgentMessage { .. }
            | Item::Reasoning { .. }
            | Item::Compaction { .. } => {}
        }
    }
    assert!(open.is_empty(), "calls without an output: {open:?}");
    outputs
}

async fn only_output(lab: &Lab) -> ToolOutput {
    let outputs = outputs(&lab.items().await);
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    outputs.into_values().next().unwrap()
}

/// The thread is as good as new: it answers one more prompt.
async fn goes_on(lab: &Lab) {
    let (outcome, log) = lab.run("and now?").await;
    assert_eq!(outcome.status, Status::Completed, "{log}");
    assert_eq!(outcome.content, "still here", "{log}");
    outputs(&lab.items().await);
}

// What a turn does.

#[tokio::test]
async fn a_turn_searches_reads_edits_and_runs() {
    let ran = Harness::new()
        .file("a.txt", "one\n")
        .model(json!([
            {"reasoning": "where is it", "text": "I look.", "calls": [
                {"name": "search", "arguments": {"pattern": "one"}},
                {"name": "read_file", "arguments": {"path": "a.txt"}}]},
            {"calls": [one_to_two(), command("cat a.txt")]},
            {"text": "It says two now."},
        ]))
        .run("make it two")
        .await;
    insta::assert_snapshot!(ran.log, @r#"
    turn started
    user "make it two"
    text "I look."
    thought "where is it"
    agent "I look."
    call call_0_0: search {"pattern":"one"}
    call call_0_1: read_file {"path":"a.txt"}
    started call_0_0: search: one in .
    started call_0_1: read_file: a.txt
    output call_0_0 Done: "a.txt\n1: one\n"
    output call_0_1 Done: "1\tone\n"
    call call_1_0: edit_file {"path":"a.txt","edits":[{"search":"one","replace":"two"}]}
    call call_1_1: shell {"command":"cat a.txt"}
    started call_1_0: edit_file: a.txt
    changed call_1_0: a.txt +1 -1
    output call_1_0 Done: "a.txt: +1 −1"
    started call_1_1: shell: cat a.txt
    output call_1_1 Done: "two\n[exit code 0]"
    text "It says two now."
    agent "It says two now."
    turn completed
      modified a.txt +1 -1
      ran "cat a.txt" Some(0)
    "#);
    assert_eq!(ran.lab.content("a.txt"), "two\n");
    assert_eq!(ran.outcome.content, "It says two now.");
    assert_eq!(ran.outcome.usage.requests, 3);
}

#[tokio::test]
async fn reads_run_side_by_side() {
    let both = Arc::new(Barrier::new(2));
    let ran = Harness::new()
        .tool(look(move |_, _| {
            let both = both.clone();
            async move {
                let met = tokio::time::timeout(SOON, both.wait()).await;
                met.map_err(|_| ToolError::new("alone"))?;
                said("met")
            }
        }))
        .model(json!([{"calls": [looking("a"), looking("b")]}, {"text": "done"}]))
        .run("look")
        .await;
    let outputs = outputs(&ran.lab.items().await);
    assert!(
        outputs.values().all(|output| output.content == "met"),
        "{}",
        ran.log
    );
}

#[tokio::test]
async fn a_read_starts_while_the_model_still_streams() {
    let ran_already = Arc::new(Notify::new());
    let word = ran_already.clone();
    let ran = Harness::new()
        .tool(look(move |_, _| {
            word.notify_one();
            async { said("seen") }
        }))
        .sampled_by(scripted([
            vec![
                calls("c1", "look", json!({})),
                Beat::After(ran_already),
                says("I looked"),
                done(),
            ],
            vec![says("end"), done()],
        ]))
        .run("look")
        .await;
    assert_eq!(ran.outcome.status, Status::Completed, "{}", ran.log);
}

#[tokio::test]
async fn calls_that_act_run_one_by_one_and_reads_keep_their_place() {
    let deeds = Arc::new(Mutex::new(Vec::new()));
    let (acts, looks) = (deeds.clone(), deeds.clone());
    let ran = Harness::new()
        .tool(act(move |tag, _| {
            let acts = acts.clone();
            async move {
                acts.lock().unwrap().push(format!("{} begins", tag.tag));
                tokio::time::sleep(Duration::from_millis(20)).await;
                acts.lock().unwrap().push(format!("{} ends", tag.tag));
                said("done")
            }
        }))
        .tool(look(move |tag, _| {
            looks.lock().unwrap().push(format!("{} looks", tag.tag));
            async { said("seen") }
        }))
        .model(json!([
            {"calls": [acting("a"), looking("b"), acting("c"), acting("d"), looking("e")]},
            {"text": "done"},
        ]))
        .run("act")
        .await;
    let deeds = deeds.lock().unwrap().join(", ");
    assert_eq!(
        deeds, "a begins, a ends, b looks, c begins, c ends, d begins, d ends, e looks",
        "{}",
        ran.log
    );
}

#[tokio::test]
async fn a_call_runs_only_after_its_record_is_in_the_rollout() {
    let harness = Harness::new();
    let state = harness.state();
    let ran = harness
        .tool(act(move |_, call| {
            let thread = std::fs::read_dir(&state).unwrap().next().unwrap().unwrap();
            let text = std::fs::read_to_string(thread.path().join("rollout.jsonl")).unwrap();
            let is_on_record = |kind: &str| {
                text.lines().any(|line| {
                    let record: Value = serde_json::from_str(line).unwrap();
                    record["type"] == kind && record["call_id"] == call.id.0
                })
            };
            let on_record = is_on_record("tool_call") && is_on_record("call_started");
            async move {
                said(if on_record {
                    "on record"
                } else {
                    "not on record"
                })
            }
        }))
        .model(json!([{"calls": [acting("a")]}, {"text": "done"}]))
        .run("act")
        .await;
    assert_eq!(only_output(&ran.lab).await.content, "on record");
}

#[tokio::test]
async fn a_tool_that_panics_costs_its_call_only() {
    for tag in ["break in run", "break in plan"] {
        let ran = Harness::new()
            .tool(act(|_, _| async { panic!("as the test wants it") }))
            .model(json!([{"calls": [acting(tag)]}, {"text": "it broke"}]))
            .run("act")
            .await;
        assert_eq!(ran.outcome.status, Status::Completed, "{}", ran.log);
        assert_eq!(only_output(&ran.lab).await.status, OutputStatus::Failed);
    }
}

#[tokio::test]
async fn the_model_is_told_of_unknown_tools_and_broken_arguments() {
    let ran = Harness::new()
        .model(json!([
            {"calls": [
                {"name": "fly", "arguments": {}},
                {"name": "read_file", "arguments": "{\"path\":"},
                {"name": "read_file", "arguments": {"path": "a.txt", "start_line": "soon"}},
                {"name": "read_file", "arguments": {"path": "../outside"}}]},
            {"text": "sorry"},
        ]))
        .run("go")
        .await;
    insta::assert_snapshot!(ran.log, @r#"
    turn started
    user "go"
    call call_0_0: fly {}
    call call_0_1: read_file {"path":
    call call_0_2: read_file {"path":"a.txt","start_line":"soon"}
    call call_0_3: read_file {"path":"../outside"}
    output call_0_0 Failed: "there is no tool `fly`; the tools are read_file, list_files, search, outline, edit_file, write_file, shell, shell_input, update_plan"
    output call_0_1 Failed: "the arguments of `read_file` could not be read (at `path`): EOF while parsing a value at line 1 column 8. Nothing was done; send the call again with arguments that fit its schema."
    output call_0_2 Failed: "the arguments of `read_file` could not be read (at `start_line`): expected a whole number, 0 or more at line 1 column 36. Nothing was done; send the call again with arguments that fit its schema."
    output call_0_3 Failed: "`../outside` is outside the workspace `[work]`; only paths inside it can be used"
    text "sorry"
    agent "sorry"
    turn completed
    "#);
}

#[tokio::test]
async fn what_the_repository_tells_agents_reaches_the_model() {
    let ran = Harness::new()
        .file("AGENTS.md", "Use tabs, never blanks.\n")
        .model(json!([{"text": "I will"}]))
        .run("hello")
        .await;
    let preamble = &ran.lab.requests()[0][0];
    assert!(preamble.contains("Use tabs, never blanks."), "{preamble}");
    let stored = std::fs::read_to_string(ran.lab.rollout()).unwrap();
    assert!(
        stored
            .lines()
            .next()
            .unwrap()
            .contains("Use tabs, never blanks.")
    );
}

// Secrets.

const KEY: &str = "sk-0123456789abcdef";

#[tokio::test]
async fn a_known_key_reaches_neither_model_nor_rollout() {
    let ran = Harness::new()
        .secret(KEY)
        .file("config", &format!("key = {KEY}\n"))
        .model(json!([
            {"calls": [{"name": "read_file", "arguments": {"path": "config"}}, command("cat config")]},
            {"text": "done"},
        ]))
        .run(&format!("is {KEY} in there?"))
        .await;
    let outputs = outputs(&ran.lab.items().await);
    assert!(
        outputs
            .values()
            .all(|output| output.content.contains("key = [redacted]"))
    );
    let sent = ran.lab.requests().concat().join("\n");
    let stored = std::fs::read_to_string(ran.lab.rollout()).unwrap();
    assert!(
        !sent.contains(KEY) && !stored.contains(KEY) && !ran.log.contains(KEY),
        "{}",
        ran.log
    );
}

#[tokio::test]
async fn a_known_key_beside_an_edit_is_not_in_the_diff() {
    let ran = Harness::new()
        .secret(KEY)
        .file("a.txt", &format!("key = {KEY}\none\n"))
        .model(json!([{"calls": [one_to_two()]}, {"text": "done"}]))
        .run("edit")
        .await;
    assert_eq!(ran.outcome.changes.len(), 1);
    assert!(
        !ran.outcome.changes[0].diff.contains(KEY),
        "{}",
        ran.outcome.changes[0].diff
    );
    assert!(
        !std::fs::read_to_string(ran.lab.rollout())
            .unwrap()
            .contains(KEY)
    );
}

#[tokio::test]
async fn a_known_key_is_in_no_event() {
    let lab = Harness::new()
        .secret(KEY)
        .answer(Decision::Approve)
        .asks(ApprovalPolicy::Untrusted)
        .file("a.txt", &format!("key = {KEY}\none\n"))
        .model(
            json!([{"calls": [one_to_two(), command("grep key a.txt; sleep 0.3")]}, {"text": "done"}]),
        )
        .thread();
    let mut going = lab.start("edit").await;
    let mut leaks = Vec::new();
    going
        .until(|event| {
            let text = serde_json::to_string(event).unwrap();
            if text.contains(KEY) {
                leaks.push(text.chars().take(60).collect::<String>());
            }
            matches!(event, Event::TurnCompleted { .. }).then_some(())
        })
        .await;
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[tokio::test]
async fn a_known_key_does_not_escape_where_an_output_is_cut() {
    let ran = Harness::new()
        .secret(KEY)
        .tool(look(|_, _| async {
            // Outputs are cut after 20,000 bytes.
            said(&format!(
                "{}{KEY}{}",
                "a".repeat(19_990),
                "b".repeat(40_000)
            ))
        }))
        .model(json!([{"calls": [looking("a")]}, {"text": "done"}]))
        .run("look")
        .await;
    let content = only_output(&ran.lab).await.content;
    assert!(!content.contains(&KEY[..8]), "{}", &content[19_980..20_030]);
}

// Questions.

fn asked_for_an_edit() -> Harness {
    Harness::new()
        .file("a.txt", "one\n")
        .asks(ApprovalPolicy::Untrusted)
        .model(json!([{"calls": [one_to_two()]}, {"text": "still here"}, {"text": "still here"}]))
}

#[tokio::test]
async fn nobody_attending_never_hangs() {
    let ran = asked_for_an_edit().run("make it two").await;
    insta::assert_snapshot!(ran.log, @r#"
    turn started
    user "make it two"
    call call_0_0: edit_file {"path":"a.txt","edits":[{"search":"one","replace":"two"}]}
    asked call_0_0: edit `a.txt`
    answered Deny by Unattended
    output call_0_0 Denied: "denied: the policy asks before every edit, and nobody could be asked. Nothing was done; go on without it, or say what is needed."
    text "still here"
    agent "still here"
    turn completed
      denied edit `a.txt`: the policy asks before every edit, and nobody could be asked
    "#);
    assert_eq!(ran.lab.content("a.txt"), "one\n");
}

#[tokio::test]
async fn an_answer_lets_the_call_run() {
    let ran = asked_for_an_edit()
        .answer(Decision::Approve)
        .run("make it two")
        .await;
    insta::assert_snapshot!(ran.log, @r#"
    turn started
    user "make it two"
    call call_0_0: edit_file {"path":"a.txt","edits":[{"search":"one","replace":"two"}]}
    asked call_0_0: edit `a.txt`
    answered Approve by Terminal
    started call_0_0: edit_file: a.txt
    changed call_0_0: a.txt +1 -1
    output call_0_0 Done: "a.txt: +1 −1"
    text "still here"
    agent "still here"
    turn completed
      modified a.txt +1 -1
    "#);
    assert_eq!(ran.lab.content("a.txt"), "two\n");
}

#[tokio::test]
async fn the_first_answer_wins() {
    let lab = asked_for_an_edit().thread();
    let _lease = lab.handle.attend().await.unwrap();
    let mut going = lab.start("make it two").await;
    let id = going.until_asked().await;
    let pending = lab.handle.subscribe().await.unwrap().pending;
    assert_eq!(pending.iter().map(|open| open.id).collect::<Vec<_>>(), [id]);
    let answer = |decision, by| lab.handle.answer(id, Answer::from(decision), by);
    let (first, second) = tokio::join!(
        answer(Decision::Approve, ResolvedBy::Elicitation),
        answer(Decision::Deny, ResolvedBy::Terminal),
    );
    assert_eq!((first.unwrap(), second.unwrap()), (true, false));
    let (outcome, log) = going.end().await;
    assert!(outcome.denied.is_empty(), "{log}");
    assert!(log.contains("answered Approve by Elicitation"), "{log}");
    assert_eq!(lab.content("a.txt"), "two\n");
    let late = answer(Decision::Deny, ResolvedBy::Terminal).await;
    assert!(!late.unwrap());
}

#[tokio::test]
async fn an_approval_for_the_session_is_asked_once_for_each_thing() {
    let ran = Harness::new()
        .asks(ApprovalPolicy::Untrusted)
        .answer(Decision::ApproveForSession)
        .model(json!([
            {"calls": [write("a.txt", "1"), write("a.txt", "2"), command("sleep 0"), command("sleep 0")]},
            {"calls": [write("b.txt", "1"), write("a.txt", "3")]},
            {"text": "done"},
        ]))
        .run("write")
        .await;
    let asked: Vec<&str> = ran
        .log
        .lines()
        .filter(|line| line.starts_with("asked"))
        .collect();
    assert_eq!(
        asked,
        [
            "asked call_0_0: edit `a.txt`",
            "asked call_0_2: run `sleep 0`",
            "asked call_1_0: edit `b.txt`"
        ]
    );
    assert_eq!(ran.lab.content("a.txt"), "3");
}

#[tokio::test]
async fn a_no_goes_on_and_is_told_with_its_note() {
    let lab = asked_for_an_edit().thread();
    let _lease = lab.handle.attend().await.unwrap();
    let mut going = lab.start("make it two").await;
    let id = going.until_asked().await;
    let answer = Answer {
        note: Some("use three".to_owned()),
        ..Answer::from(Decision::Deny)
    };
    lab.handle
        .answer(id, answer, ResolvedBy::Terminal)
        .await
        .unwrap();
    let (outcome, _) = going.end().await;
    assert_eq!(outcome.status, Status::Completed);
    assert_eq!(outcome.denied.len(), 1);
    let output = only_output(&lab).await;
    assert_eq!(output.status, OutputStatus::Denied);
    assert!(output.content.contains("use three"), "{}", output.content);
    assert_eq!(lab.content("a.txt"), "one\n");
}

#[tokio::test]
async fn an_abort_ends_the_turn_and_nothing_behind_it_runs() {
    let ran = Harness::new()
        .asks(ApprovalPolicy::Untrusted)
        .answer(Decision::Abort)
        .model(
            json!([{"calls": [write("a.txt", "1"), write("b.txt", "1")]}, {"text": "still here"}]),
        )
        .run("write")
        .await;
    assert_eq!(ran.outcome.status, Status::Interrupted, "{}", ran.log);
    let outputs = outputs(&ran.lab.items().await);
    assert_eq!(
        outputs[&CallId("call_0_0".into())].status,
        OutputStatus::Denied
    );
    assert_eq!(
        outputs[&CallId("call_0_1".into())].status,
        OutputStatus::Interrupted
    );
    assert!(!ran.lab.harness.work().join("b.txt").exists());
    goes_on(&ran.lab).await;
}

#[tokio::test]
async fn a_question_ends_at_its_deadline() {
    let lab = asked_for_an_edit()
        .limits(|limits| limits.approval_seconds = 0.1)
        .thread();
    let _lease = lab.handle.attend().await.unwrap();
    let (outcome, log) = lab.run("make it two").await;
    assert_eq!(outcome.status, Status::Completed, "{log}");
    assert!(log.contains("answered Deny by Unattended"), "{log}");
    assert_eq!(outcome.denied.len(), 1);
}

#[tokio::test]
async fn a_question_may_wait_without_end() {
    for seconds in [f64::INFINITY, 1e19, -1.0] {
        let lab = asked_for_an_edit()
            .limits(|limits| limits.approval_seconds = seconds)
            .answer(Decision::Approve)
            .thread();
        let started = lab.handle.start("make it two".to_owned()).await.unwrap();
        let outcome = tokio::time::timeout(SOON, started.outcome).await;
        // Nobody attends, so it is denied at once.
        let outcome = outcome
            .expect("an end")
            .unwrap_or_else(|_| panic!("{seconds}: the thread is lost"));
        assert_eq!(outcome.status, Status::Completed);
    }
}

#[tokio::test]
async fn a_question_ends_with_the_last_lease() {
    let lab = asked_for_an_edit().thread();
    let lease = lab.handle.attend().await.unwrap();
    let other = lab.handle.attend().await.unwrap();
    let mut going = lab.start("make it two").await;
    going.until_asked().await;
    drop(lease);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        lab.handle.subscribe().await.unwrap().pending.len(),
        1,
        "one lease lives"
    );
    drop(other);
    let (outcome, log) = going.end().await;
    assert_eq!(outcome.status, Status::Completed);
    assert_eq!(outcome.denied.len(), 1);
    assert!(log.contains("answered Deny by Unattended"), "{log}");
}

// Interrupts.

async fn interrupted(lab: &Lab, going: crate::support::harness::Going) -> String {
    let told = Instant::now();
    lab.handle.interrupt(Some(going.turn_id())).await.unwrap();
    let (outcome, log) = going.end().await;
    assert!(told.elapsed() < SOON, "it took {:?}", told.elapsed());
    assert_eq!(outcome.status, Status::Interrupted, "{log}");
    assert_eq!(
        outcome.error.as_ref().unwrap().kind,
        TurnErrorKind::Interrupted
    );
    log
}

#[tokio::test]
async fn an_interrupt_while_the_model_streams() {
    let lab = Harness::new()
        .sampled_by(scripted([
            vec![delta("I am about to "), Beat::Hang],
            vec![delta("still here"), says("still here"), done()],
        ]))
        .thread();
    let mut going = lab.start("go").await;
    going
        .until(|event| matches!(event, Event::TextDelta { .. }).then_some(()))
        .await;
    interrupted(&lab, going).await;
    goes_on(&lab).await;
}

#[tokio::test]
async fn an_interrupt_while_a_command_runs() {
    let lab = Harness::new()
        .model(json!([{"calls": [command("echo begun; sleep 60"), write("b.txt", "1")]}, {"text": "still here"}]))
        .thread();
    let mut going = lab.start("go").await;
    going.until_call_runs().await;
    interrupted(&lab, going).await;
    let outputs = outputs(&lab.items().await);
    assert_eq!(outputs.len(), 2);
    assert!(
        outputs
            .values()
            .all(|output| output.status == OutputStatus::Interrupted),
        "{outputs:?}"
    );
    assert!(!lab.harness.work().join("b.txt").exists());
    goes_on(&lab).await;
}

#[tokio::test]
async fn an_interrupt_while_a_question_is_open() {
    let lab = asked_for_an_edit().thread();
    let _lease = lab.handle.attend().await.unwrap();
    let mut going = lab.start("make it two").await;
    let id = going.until_asked().await;
    let log = interrupted(&lab, going).await;
    assert!(log.contains("by Interrupt"), "{log}");
    assert_eq!(only_output(&lab).await.status, OutputStatus::Interrupted);
    let late = lab
        .handle
        .answer(id, Decision::Approve.into(), ResolvedBy::Terminal)
        .await;
    assert!(!late.unwrap());
    assert_eq!(lab.content("a.txt"), "one\n");
    goes_on(&lab).await;
}

#[tokio::test]
async fn a_turn_that_was_told_to_stop_is_not_kept_open_by_the_end_of_the_process() {
    let lab = asked_for_an_edit()
        .unattended(WhenUnattended::ReturnToCaller)
        .thread();
    let _lease = lab.handle.attend().await.unwrap();
    let mut going = lab.start("make it two").await;
    going.until_asked().await;
    let (stopped, left) = tokio::join!(lab.handle.interrupt(None), lab.handle.leave());
    stopped.unwrap();
    left.unwrap();
    let (outcome, _) = going.end().await;
    assert_eq!(outcome.status, Status::Interrupted);
}

#[tokio::test]
async fn a_tool_that_does_not_stop_is_left_behind() {
    let lab = Harness::new()
        .tool(act(|_, _| std::future::pending()))
        .model(json!([{"calls": [acting("a")]}, {"text": "still here"}]))
        .thread();
    let mut going = lab.start("go").await;
    going.until_call_runs().await;
    interrupted(&lab, going).await;
    goes_on(&lab).await;
}

#[tokio::test]
async fn an_interrupt_of_another_turn_is_none() {
    let lab = Harness::new()
        .model(json!([{"text": "still here"}, {"calls": [command("sleep 0.3")]}, {"text": "done"}]))
        .thread();
    let first = lab.start("one").await;
    let old = first.turn_id();
    first.end().await;
    let mut going = lab.start("two").await;
    going.until_call_runs().await;
    lab.handle.interrupt(Some(old)).await.unwrap();
    assert_eq!(going.end().await.0.status, Status::Completed);
}

// Limits.

#[tokio::test]
async fn the_limit_on_steps_ends_a_turn() {
    let ran = Harness::new()
        .limits(|limits| limits.max_steps = 2)
        .model(json!([{"calls": [command("true")]}, {"calls": [command("true")]}, {"text": "still here"}]))
        .run("go")
        .await;
    assert_eq!(ran.outcome.status, Status::LimitReached);
    assert_eq!(
        ran.outcome.error.as_ref().unwrap().kind,
        TurnErrorKind::StepLimit
    );
    assert_eq!(ran.outcome.usage.requests, 2);
    goes_on(&ran.lab).await;
}

#[tokio::test]
async fn the_limit_on_seconds_ends_a_turn() {
    let lab = Harness::new()
        .limits(|limits| limits.max_seconds = 0.5)
        .model(json!([{"calls": [command("sleep 60")]}, {"text": "still here"}]))
        .thread();
    let (outcome, log) = lab.run("go").await;
    assert_eq!(outcome.status, Status::LimitReached, "{log}");
    assert_eq!(
        outcome.error.as_ref().unwrap().kind,
        TurnErrorKind::TimeLimit
    );
    assert!(outcome.seconds < 5.0, "{}", outcome.seconds);
    assert_eq!(only_output(&lab).await.status, OutputStatus::Interrupted);
    goes_on(&lab).await;
}

#[tokio::test]
async fn the_limit_on_seconds_ends_a_turn_that_waits_for_an_answer() {
    let lab = asked_for_an_edit()
        .limits(|limits| limits.max_seconds = 0.3)
        .thread();
    let _lease = lab.handle.attend().await.unwrap();
    let (outcome, log) = lab.run("make it two").await;
    assert_eq!(outcome.status, Status::LimitReached, "{log}");
    assert!(log.contains("by Interrupt"), "{log}");
    assert!(lab.handle.subscribe().await.unwrap().pending.is_empty());
    assert_eq!(lab.content("a.txt"), "one\n");
    goes_on(&lab).await;
}

#[tokio::test]
async fn the_limit_on_tokens_holds_where_a_provider_does_not_count() {
    let step = |n: usize| vec![calls(&format!("c{n}"), "look", json!({"tag": "x"})), done()];
    let ran = Harness::new()
        .tool(look(async |_, _| said("seen")))
        .limits(|limits| limits.max_tokens = 20_000)
        .sampled_by(scripted((0..50).map(step)))
        .run("go")
        .await;
    let error = ran.outcome.error.as_ref().unwrap();
    assert_eq!(error.kind, TurnErrorKind::TokenLimit);
    let requests = ran.outcome.usage.requests;
    assert!((3..40).contains(&requests), "after {requests} requests");
}

#[tokio::test]
async fn a_request_that_would_pass_the_limit_on_tokens_is_not_made() {
    let ran = Harness::new()
        .limits(|limits| limits.max_tokens = 1000)
        .model(json!([
            {"calls": [command("true")], "usage": {"input_tokens": 600, "output_tokens": 10}},
            {"text": "never"},
        ]))
        .run("go")
        .await;
    assert_eq!(ran.outcome.status, Status::LimitReached, "{}", ran.log);
    assert_eq!(ran.outcome.usage.requests, 1);
}

#[tokio::test]
async fn the_limit_on_tokens_ends_a_turn() {
    let ran = Harness::new()
        .limits(|limits| limits.max_tokens = 100)
        .model(json!([
            {"calls": [command("true")], "usage": {"input_tokens": 90, "output_tokens": 10}},
            {"text": "still here"},
        ]))
        .run("go")
        .await;
    assert_eq!(ran.outcome.status, Status::LimitReached);
    assert_eq!(
        ran.outcome.error.as_ref().unwrap().kind,
        TurnErrorKind::TokenLimit
    );
    assert_eq!(
        (ran.outcome.usage.requests, ran.outcome.usage.total()),
        (1, 100)
    );
    goes_on(&ran.lab).await;
}

// A model that breaks.

#[tokio::test]
async fn a_model_error_in_mid_turn_leaves_a_thread_that_goes_on() {
    let ran = Harness::new()
        .sampled_by(scripted([
            vec![calls("c1", "shell", json!({"command": "true"})), done()],
            vec![
                delta("and "),
                Beat::Error(model_error(ModelErrorKind::Quota, "nothing left")),
            ],
            vec![says("still here"), done()],
        ]))
        .run("go")
        .await;
    assert_eq!(ran.outcome.status, Status::Failed);
    let error = ran.outcome.error.clone().unwrap();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (TurnErrorKind::ModelQuota, "nothing left")
    );
    goes_on(&ran.lab).await;
}

#[tokio::test]
async fn a_model_error_behind_a_read_that_runs_keeps_the_read_whole() {
    let ran = Harness::new()
        .tool(look(|_, _| async { said("seen") }))
        .tool(act(|_, _| async { panic!("its sample never was whole") }))
        .sampled_by(scripted([
            vec![
                calls("c1", "look", json!({})),
                calls("c2", "act", json!({})),
                Beat::Error(model_error(ModelErrorKind::Rejected, "no")),
            ],
            vec![says("still here"), done()],
        ]))
        .run("go")
        .await;
    assert_eq!(ran.outcome.status, Status::Failed, "{}", ran.log);
    assert_eq!(only_output(&ran.lab).await.content, "seen");
    goes_on(&ran.lab).await;
}

#[tokio::test]
async fn a_model_that_breaks_down_costs_its_turn_only() {
    let ran = Harness::new()
        .sampled_by(scripted([
            vec![calls("c1", "shell", json!({"command": "true"})), done()],
            vec![Beat::Panic],
            vec![says("still here"), done()],
        ]))
        .run("go")
        .await;
    assert_eq!(ran.outcome.status, Status::Failed, "{}", ran.log);
    assert_eq!(
        ran.outcome.error.as_ref().unwrap().kind,
        TurnErrorKind::Internal
    );
    goes_on(&ran.lab).await;
}

#[tokio::test]
async fn text_of_a_failed_try_is_withdrawn() {
    let ran = Harness::new()
        .sampled_by(scripted([vec![
            delta("It is "),
            retrying(),
            delta("It was"),
            says("It was"),
            done(),
        ]]))
        .run("go")
        .await;
    insta::assert_snapshot!(ran.log, @r#"
    turn started
    user "go"
    text "It is "
    withdrawn
    warning: overloaded; trying again in 0.0 s
    text "It was"
    agent "It was"
    turn completed
    "#);
    assert_eq!(ran.outcome.usage.requests, 2);
}

#[tokio::test]
async fn items_and_calls_of_a_failed_try_never_were() {
    let acted = Arc::new(AtomicUsize::new(0));
    let count = acted.clone();
    let ran = Harness::new()
        .tool(act(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            async { said("done") }
        }))
        .sampled_by(scripted([vec![
            says("It is"),
            calls("c1", "act", json!({})),
            retrying(),
            says("It was"),
            done(),
        ]]))
        .run("go")
        .await;
    assert_eq!(ran.outcome.status, Status::Completed, "{}", ran.log);
    assert_eq!(acted.load(Ordering::SeqCst), 0, "{}", ran.log);
    assert_eq!(ran.lab.items().await.len(), 2, "{}", ran.log);
}

/// A sample that is cut after a read ran: look, then an acting call and text that never were.
fn cut_after_a_look() -> (Harness, Arc<AtomicUsize>) {
    let looks = Arc::new(AtomicUsize::new(0));
    let (count, seen) = (looks.clone(), Arc::new(Notify::new()));
    let word = seen.clone();
    let harness = Harness::new()
        .tool(look(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            word.notify_one();
            async { said("seen") }
        }))
        .tool(act(|_, _| async { panic!("its sample never was whole") }))
        .sampled_by(scripted([
            vec![
                says("First I look."),
                calls("c1", "look", json!({})),
                Beat::After(seen),
                delta("Then I "),
                calls("c2", "act", json!({})),
                retrying(),
                // What a retry would stream; the turn asks anew instead.
                calls("c3", "look", json!({})),
                done(),
            ],
            vec![says("still here"), done()],
            vec![says("still here"), done()],
        ]));
    (harness, looks)
}

#[tokio::test]
async fn a_sample_that_is_cut_keeps_what_ran_and_runs_nothing_twice() {
    let (harness, looks) = cut_after_a_look();
    let ran = harness.run("go").await;
    assert_eq!(ran.outcome.status, Status::Completed, "{}", ran.log);
    assert_eq!(looks.load(Ordering::SeqCst), 1);
    assert_eq!(only_output(&ran.lab).await.call_id, CallId("c1".into()));
    let kinds: Vec<&str> = ran
        .log
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert!(ran.log.contains("agent \"First I look.\""), "{kinds:?}");
    goes_on(&ran.lab).await;
    goes_on_after_reload(&ran.lab).await;
}

async fn goes_on_after_reload(lab: &Lab) {
    let elsewhere = lab.elsewhere();
    assert_eq!(elsewhere.items().await, lab.items().await);
}

#[tokio::test]
async fn text_behind_the_cut_is_withdrawn_too() {
    let (harness, _) = cut_after_a_look();
    let ran = harness.run("go").await;
    let at = |what: &str| ran.log.find(what);
    assert!(at("text \"Then I \"").is_some(), "{}", ran.log);
    assert!(at("text \"Then I \"") < at("withdrawn"), "{}", ran.log);
}

#[tokio::test]
async fn a_stream_that_breaks_again_and_again_ends_the_turn() {
    let broken = (0..20).map(|n| vec![calls(&format!("c{n}"), "look", json!({})), retrying()]);
    let ran = Harness::new()
        .tool(look(|_, _| async { said("seen") }))
        .sampled_by(scripted(broken))
        .run("go")
        .await;
    assert_eq!(ran.outcome.status, Status::Failed, "{}", ran.log);
    assert_eq!(
        ran.outcome.error.as_ref().unwrap().kind,
        TurnErrorKind::ModelUnreachable
    );
    let requests = usize::try_from(ran.outcome.usage.requests).unwrap();
    assert!((3..10).contains(&requests), "{requests}");
    assert_eq!(outputs(&ran.lab.items().await).len(), requests);
}

// One thread, several that look and ask.

#[tokio::test]
async fn a_prompt_behind_a_running_turn_gets_a_turn_of_its_own() {
    let word = Arc::new(Notify::new());
    let lab = Harness::new()
        .tool(act_on(&word))
        .model(json!([{"calls": [acting("a")]}, {"text": "first"}, {"text": "second"}, {"text": "third"}]))
        .thread();
    let mut first = lab.start("one").await;
    first.until_call_runs().await;
    let second = lab.start("two").await;
    let withdrawn = lab.handle.start("withdrawn".to_owned()).await.unwrap();
    let third = lab.start("three").await;
    assert!(!first.is_queued() && second.is_queued() && withdrawn.queued && third.is_queued());
    lab.handle.interrupt(Some(withdrawn.turn_id)).await.unwrap();
    assert_eq!(withdrawn.outcome.await.unwrap().status, Status::Interrupted);
    word.notify_one();
    assert_eq!(first.end().await.0.content, "first");
    assert_eq!(second.end().await.0.content, "second");
    assert_eq!(third.end().await.0.content, "third");
    let prompts: Vec<String> = lab
        .items()
        .await
        .into_iter()
        .filter_map(|item| match item {
            Item::UserMessage { text } => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(prompts, ["one", "two", "three"]);
}

#[tokio::test]
async fn who_follows_a_running_turn_gets_its_outcome() {
    let lab = Harness::new()
        .model(json!([{"calls": [command("sleep 0.2")]}, {"text": "done"}]))
        .thread();
    assert!(matches!(
        lab.handle.follow().await.unwrap(),
        Follow::Nothing
    ));
    let mut going = lab.start("go").await;
    going.until_call_runs().await;
    let Follow::Running(again) = lab.handle.follow().await.unwrap() else {
        panic!("a turn runs");
    };
    let (outcome, _) = going.end().await;
    assert_eq!(again.outcome.await.unwrap(), outcome);
    let Follow::Ended(last) = lab.handle.follow().await.unwrap() else {
        panic!("it ended");
    };
    assert_eq!(last, outcome);
}

#[tokio::test]
async fn who_subscribes_in_the_midst_misses_nothing_and_gets_nothing_twice() {
    let samples: Vec<Value> = (0..8)
        .map(|_| json!({"text": "on", "calls": [command("true"), {"name": "list_files", "arguments": {}}]}))
        .chain([json!({"text": "done"})])
        .collect();
    let lab = Harness::new().model(Value::Array(samples)).thread();
    let going = lab.start("go").await;
    let turn_id = going.turn_id();
    let mut snapshots = Vec::new();
    let end = going.end();
    tokio::pin!(end);
    loop {
        tokio::select! {
            biased;
            _ = &mut end => break,
            snapshot = lab.handle.subscribe() => snapshots.push(snapshot.unwrap()),
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let all = lab.items().await;
    let mut lengths = Vec::new();
    for mut snapshot in snapshots {
        let mut seen = snapshot.items;
        lengths.push(seen.len());
        while let Ok(event) = snapshot.events.try_recv() {
            match &*event {
                Event::ItemCompleted { item } => seen.push(item.clone()),
                Event::TurnCompleted { outcome } => assert_eq!(outcome.turn_id, turn_id),
                _ => {}
            }
        }
        assert_eq!(seen, all);
    }
    lengths.dedup();
    assert!(lengths.len() > 5, "they all came at one time: {lengths:?}");
}

#[tokio::test]
async fn two_processes_take_turns() {
    let word = Arc::new(Notify::new());
    let here = Harness::new()
        .tool(act_on(&word))
        .model(json!([{"calls": [acting("a")]}, {"text": "from here"}, {"text": "from there"}, {"text": "still here"}]))
        .thread();
    let there = here.elsewhere();
    let mut going = here.start("one").await;
    going.until_call_runs().await;
    let refused = there.handle.start("two".to_owned()).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("another process works on thread"),
        "{refused}"
    );
    word.notify_one();
    going.end().await;
    let (outcome, _) = there.run("two").await;
    assert_eq!(outcome.content, "from there");
    goes_on(&here).await;
    // Each saw what the other did; that each request begins as the last is checked on the way.
    let last = here.requests().pop().unwrap().join("\n");
    for word in [
        "\"one\"",
        "from here",
        "\"two\"",
        "from there",
        "\"and now?\"",
    ] {
        assert!(last.contains(word), "{word} is missing: {last}");
    }
    let read = here.threads.store().read(here.handle.id()).unwrap();
    assert_eq!((read.damaged, read.turns.len()), (0, 3));
}

#[tokio::test]
async fn a_thread_that_waits_for_another_process_still_answers() {
    let here = Harness::new()
        .model(json!([{"calls": [command("sleep 5")]}, {"text": "still here"}]))
        .thread();
    let there = here.elsewhere();
    let mut going = here.start("one").await;
    going.until_call_runs().await;
    let waiting = tokio::spawn({
        let handle = there.handle.clone();
        async move { handle.start("two".to_owned()).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = Instant::now();
    there.handle.subscribe().await.unwrap();
    let took = asked.elapsed();
    waiting.abort();
    interrupted(&here, going).await;
    assert!(took < Duration::from_secs(1), "it took {took:?}");
}

/// Two prompts at once: the second must not take the turn of the first for another process's.
#[tokio::test]
async fn a_turn_of_this_process_is_not_visited_as_another_ones() {
    let lab = Harness::new()
        .model(json!([{"calls": [command("sleep 5")]}, {"text": "still here"}]))
        .thread();
    let mut going = lab.start("one").await;
    going.until_call_runs().await;
    let store = lab.threads.store().clone();
    let socket = store.socket(lab.handle.id()).expect("it is kept");
    assert!(socket.exists());
    let far = visit(store, lab.handle.header().clone()).await.unwrap();
    assert!(far.is_none());
    interrupted(&lab, going).await;
}

#[tokio::test]
async fn shutting_down_records_the_end_of_what_ran_and_of_what_waited() {
    let lab = Harness::new()
        .sampled_by(scripted([vec![Beat::Hang], vec![Beat::Hang]]))
        .thread();
    lab.start("one").await;
    assert!(lab.start("two").await.is_queued());
    lab.threads.shut_down(SOON).await;
    let read = lab.threads.store().read(lab.handle.id()).unwrap();
    let ends: Vec<Option<Status>> = read
        .turns
        .iter()
        .map(|turn| turn.outcome.as_ref().map(|outcome| outcome.status))
        .collect();
    assert_eq!(ends, [Some(Status::Interrupted); 2]);
}

#[tokio::test]
async fn a_thread_that_is_kept_nowhere_works_as_any_other() {
    let ran = Harness::new()
        .kept_in(Arc::new(NoStore))
        .file("a.txt", "one\n")
        .model(json!([{"calls": [one_to_two()]}, {"text": "done"}, {"text": "still here"}]))
        .run("make it two")
        .await;
    assert_eq!(ran.outcome.status, Status::Completed, "{}", ran.log);
    assert!(!ran.lab.harness.state().exists());
    goes_on(&ran.lab).await;
}

// A store that fails.

/// What a journal is about to do.
#[derive(PartialEq)]
enum Deed {
    Append,
    Sync,
}

type Fails = Arc<dyn Fn(Deed) -> bool + Send + Sync>;

/// A directory of rollouts on a disk that fails when told.
struct Faulty {
    sound: DirectoryStore,
    fails: Fails,
}

struct FaultyJournal {
    sound: Box<dyn Journal>,
    fails: Fails,
}

impl Faulty {
    fn journal(&self, sound: Box<dyn Journal>) -> Box<dyn Journal> {
        let fails = self.fails.clone();
        Box::new(FaultyJournal { sound, fails })
    }
}

impl ThreadStore for Faulty {
    fn create(&self, header: &Header) -> Result<Box<dyn Journal>, StoreError> {
        Ok(self.journal(self.sound.create(header)?))
    }

    fn open(&self, id: ThreadId) -> Result<(Loaded, Box<dyn Journal>), StoreError> {
        let (loaded, journal) = self.sound.open(id)?;
        Ok((loaded, self.journal(journal)))
    }

    fn read(&self, id: ThreadId) -> Result<Loaded, StoreError> {
        self.sound.read(id)
    }

    fn list(&self) -> Result<Vec<ThreadSummary>, StoreError> {
        self.sound.list()
    }

    fn socket(&self, id: ThreadId) -> Option<PathBuf> {
        self.sound.socket(id)
    }
}

impl Journal for FaultyJournal {
    fn hold(&mut self) -> Result<Option<Loaded>, StoreError> {
        self.sound.hold()
    }

    fn newer(&mut self) -> Result<Option<Loaded>, StoreError> {
        self.sound.newer()
    }

    fn not_kept(&self) -> Option<String> {
        self.sound.not_kept()
    }

    fn folder(&self) -> Option<PathBuf> {
        None
    }

    fn at_work_in(&self, cwd: &Path) -> BoxFuture<'static, Vec<ThreadId>> {
        self.sound.at_work_in(cwd)
    }

    fn release(&mut self) {
        self.sound.release();
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        match (self.fails)(Deed::Append) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => self.sound.append(record),
        }
    }

    fn socket(&self) -> Option<PathBuf> {
        self.sound.socket()
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        match (self.fails)(Deed::Sync) {
            true => async { Err(io::ErrorKind::StorageFull.into()) }.boxed(),
            false => self.sound.sync(),
        }
    }
}

/// Two acting calls beside each other and one after, on a disk that fails as told.
fn on_a_disk(fails: impl Fn(Deed) -> bool + Send + Sync + 'static) -> Harness {
    let harness = Harness::new();
    let sound = DirectoryStore::new(harness.state());
    harness
        .kept_in(Arc::new(Faulty {
            sound,
            fails: Arc::new(fails),
        }))
        .tool(act(|tag, call| async move {
            // What was done can be counted from outside.
            std::fs::write(call.workspace.cwd().join(tag.tag), "").unwrap();
            said("done")
        }))
        .sampled_by(scripted([
            vec![
                says("I act"),
                calls("c1", "act", json!({"tag": "deed-c1"})),
                calls("c2", "act", json!({"tag": "deed-c2"})),
                done(),
            ],
            vec![calls("c3", "act", json!({"tag": "deed-c3"})), done()],
            vec![says("still here"), done()],
            vec![says("still here"), done()],
            vec![says("still here"), done()],
        ]))
}

fn deeds(lab: &Lab) -> usize {
    std::fs::read_dir(lab.harness.work()).unwrap().count()
}

fn starts_on_record(rollout: &Path) -> usize {
    let census = rollout::census(&std::fs::read(rollout).unwrap());
    census.get("call_started").copied().unwrap_or(0)
}

/// The records of the turn above, its beginning and end included.
const RECORDS: usize = 14;

#[tokio::test]
async fn on_a_full_disk_nothing_runs_without_a_record() {
    for good in 0..=RECORDS {
        let left = AtomicUsize::new(good);
        let full = move |deed: Deed| {
            deed == Deed::Append
                && left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_err()
        };
        let lab = on_a_disk(full).thread();
        let failed = match lab.handle.start("go".to_owned()).await {
            Err(StartError::Storage(_)) => true,
            Err(error) => panic!("{error}"),
            Ok(started) => {
                let outcome = tokio::time::timeout(SOON, started.outcome)
                    .await
                    .unwrap()
                    .unwrap();
                let storage = outcome.error.as_ref().map(|error| error.kind);
                assert!(
                    outcome.status == Status::Completed || storage == Some(TurnErrorKind::Storage),
                    "after {good}: {outcome:?}"
                );
                outcome.status == Status::Failed
            }
        };
        assert_eq!(failed, good < RECORDS, "after {good} records");
        assert!(
            deeds(&lab) <= starts_on_record(&lab.rollout()),
            "after {good} records"
        );
        // What was written can be read and gone on with, once there is room.
        let mut mended = lab.harness.clone();
        mended = mended.kept_in(Arc::new(DirectoryStore::new(lab.harness.state())));
        let threads = mended.threads();
        let handle = threads.find(lab.handle.id()).unwrap();
        let lab = Lab {
            harness: mended,
            threads,
            handle,
        };
        let (outcome, log) = lab.run("again").await;
        assert!(
            matches!(outcome.status, Status::Completed),
            "after {good}: {log}"
        );
        outputs(&lab.items().await);
    }
}

#[tokio::test]
async fn a_disk_that_does_not_sync_runs_nothing() {
    let lab = on_a_disk(|deed| deed == Deed::Sync).thread();
    let (outcome, log) = lab.run("go").await;
    assert_eq!(deeds(&lab), 0, "{log}");
    assert_eq!(outcome.status, Status::Failed, "{log}");
    assert_eq!(outcome.error.as_ref().unwrap().kind, TurnErrorKind::Storage);
    outputs(&lab.items().await);
}

#[tokio::test]
async fn a_disk_that_fails_once_leaves_a_thread_that_goes_on() {
    // Without the first two there is no turn.
    for failing in 2..RECORDS {
        let count = AtomicUsize::new(0);
        let once = move |deed: Deed| {
            deed == Deed::Append && count.fetch_add(1, Ordering::SeqCst) == failing
        };
        let lab = on_a_disk(once).thread();
        lab.run("go").await;
        let (outcome, log) = lab.run("again").await;
        assert_eq!(
            outcome.status,
            Status::Completed,
            "record {failing} failed: {log}"
        );
        let last = lab.requests().pop().unwrap();
        assert_eq!(unpaired(&last), [""; 0], "record {failing} failed");
        outputs(&lab.items().await);
        goes_on_after_reload(&lab).await;
    }
}

// After a crash.

/// A turn with reads side by side, edits and commands, as its rollout.
async fn a_rich_turn() -> (Lab, Vec<u8>) {
    let ran = Harness::new()
        .file("a.txt", "one\n")
        .asks(ApprovalPolicy::Untrusted)
        .answer(Decision::Approve)
        .model(json!([
            {"reasoning": "hm", "text": "I look – först.", "calls": [
                {"name": "search", "arguments": {"pattern": "one"}},
                {"name": "read_file", "arguments": {"path": "a.txt"}}]},
            {"calls": [one_to_two(), write("b.txt", "neu\n"), command("cat a.txt")]},
            {"text": "done"},
        ]))
        .run("make it two")
        .await;
    assert_eq!(ran.outcome.status, Status::Completed, "{}", ran.log);
    let rollout = std::fs::read(ran.lab.rollout()).unwrap();
    (ran.lab, rollout)
}

/// Goes on with a rollout in a new process and gives the lab.
async fn carried_on(fresh: Harness, id: ThreadId, rollout: &[u8], what: &str) -> Lab {
    let fresh = fresh.sampled_by(scripted([
        vec![says("still here"), done()],
        vec![says("still here"), done()],
    ]));
    let directory = fresh.state().join(id.to_string());
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("rollout.jsonl"), rollout).unwrap();
    let threads = fresh.threads();
    let handle = threads
        .find(id)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let lab = Lab {
        harness: fresh,
        threads,
        handle,
    };
    let before = lab.items().await;
    assert_eq!(
        std::fs::read(lab.rollout()).unwrap(),
        rollout,
        "{what}: loading changes nothing"
    );
    let (outcome, log) = lab.run("and now?").await;
    assert_eq!(outcome.status, Status::Completed, "{what}: {log}");
    let items = lab.items().await;
    outputs(&items);
    assert!(items.starts_with(&before), "{what}");
    let request = lab.requests().pop().unwrap();
    assert_eq!(unpaired(&request), [""; 0], "{what}");
    // The file only grew, and reads as what is in memory.
    let grown = std::fs::read(lab.rollout()).unwrap();
    assert!(grown.starts_with(rollout), "{what}");
    let read = lab.threads.store().read(lab.handle.id()).unwrap();
    assert_eq!(read.items, items, "{what}");
    assert!(
        read.turns.iter().all(|turn| turn.open_calls.is_empty()),
        "{what}"
    );
    lab
}

#[tokio::test]
async fn a_rollout_that_was_cut_anywhere_goes_on() {
    let (whole, rollout) = a_rich_turn().await;
    let ends: Vec<usize> = (0..rollout.len())
        .filter(|at| rollout[*at] == b'\n')
        .map(|at| at + 1)
        .collect();
    assert!(ends.len() > 25, "a poor turn: {} lines", ends.len());
    for (line, end) in ends.iter().enumerate() {
        carried_on(
            Harness::new(),
            whole.handle.id(),
            &rollout[..*end],
            &format!("cut after line {}", line + 1),
        )
        .await;
        let Some(next) = ends.get(line + 1) else {
            break;
        };
        // In the midst of the next line; then whole but for its line end; then within a character of several bytes.
        let torn = |at: usize| format!("cut in line {} at byte {}", line + 2, at - end);
        for at in [(end + next) / 2, next - 1] {
            carried_on(Harness::new(), whole.handle.id(), &rollout[..at], &torn(at)).await;
        }
        if let Some(wide) = (*end..*next).find(|at| rollout[*at] >= 0x80) {
            carried_on(
                Harness::new(),
                whole.handle.id(),
                &rollout[..=wide],
                &torn(wide),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_call_that_was_cut_in_its_run_is_told_from_one_that_never_began() {
    let (whole, rollout) = a_rich_turn().await;
    let text = String::from_utf8(rollout).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = lines
        .iter()
        .rposition(|line| line.contains(r#""type":"call_started""#))
        .unwrap();
    for (kept, word) in [(at, "not run"), (at + 1, "effects are unknown")] {
        let lab = carried_on(
            Harness::new(),
            whole.handle.id(),
            lines[..kept].concat().as_bytes(),
            word,
        )
        .await;
        let items = lab.items().await;
        let last = items.iter().rev().find_map(|item| match item {
            Item::ToolOutput(output) => Some(output.clone()),
            _ => None,
        });
        let last = last.unwrap();
        assert_eq!(last.status, OutputStatus::Interrupted);
        assert!(last.content.contains(word), "{}", last.content);
    }
}

#[tokio::test]
async fn an_interrupted_turn_is_resumed_in_another_process() {
    let lab = Harness::new()
        .sampled_by(scripted([
            vec![calls("c1", "shell", json!({"command": "true"})), done()],
            vec![delta("I am "), Beat::Hang],
            vec![says("still here"), done()],
            vec![says("still here"), done()],
        ]))
        .thread();
    let mut going = lab.start("go").await;
    going
        .until(|event| matches!(event, Event::TextDelta { .. }).then_some(()))
        .await;
    interrupted(&lab, going).await;
    let elsewhere = lab.elsewhere();
    let (outcome, log) = elsewhere.resume().await;
    assert_eq!(
        (outcome.status, outcome.content.as_str()),
        (Status::Completed, "still here"),
        "{log}"
    );
    let prompts = elsewhere
        .items()
        .await
        .iter()
        .filter(|item| matches!(item, Item::UserMessage { .. }))
        .count();
    assert_eq!(prompts, 1);
    let nothing = elsewhere.handle.resume().await.unwrap_err();
    assert!(matches!(nothing, StartError::NothingToResume), "{nothing}");
    goes_on(&elsewhere).await;
}

#[tokio::test]
async fn the_request_prefix_is_the_same_after_a_reload() {
    let (lab, _) = a_rich_turn().await;
    let harness = lab
        .harness
        .clone()
        .sampled_by(scripted([vec![says("still here"), done()]]));
    let threads = harness.threads();
    let handle = threads.find(lab.handle.id()).unwrap();
    let reloaded = Lab {
        harness,
        threads,
        handle,
    };
    goes_on(&reloaded).await;
    let requests = reloaded.requests();
    let [.., before, after] = requests.as_slice() else {
        panic!("two requests");
    };
    assert!(after.starts_with(before) && after.len() > before.len());
}

/// Numbers of a provider's JSON that do not survive `serde_json`'s quick reading of floats would change the prefix.
#[tokio::test]
async fn the_wire_form_of_an_item_is_the_same_after_a_reload() {
    let wire: Value = serde_json::from_str(
        r#"{"type":"message","role":"assistant","z":1,"a":[-0.0,1e300,0.1,1.7976931348623157e308,2.2250738585072014e-308,
            -0.000012345678901234567,18446744073709551615,-9223372036854775808,123456.78901234567,5e-324],
            "content":[{"type":"output_text","text":"\u0000\u2028 \ud83d\ude00","logprobs":[-0.6931471805599453,-1.2039728043259361]}]}"#,
    )
    .unwrap();
    let message = Item::AgentMessage {
        text: "x".to_owned(),
        wire: Some(Wire {
            origin: "recorded:scripted".to_owned(),
            json: wire.clone(),
        }),
    };
    let lab = Harness::new()
        .sampled_by(scripted([
            vec![Beat::Event(ModelEvent::Item(message)), done()],
            vec![says("still here"), done()],
        ]))
        .thread();
    lab.run("go").await;
    let elsewhere = lab.elsewhere();
    goes_on(&elsewhere).await;
    assert!(
        elsewhere
            .requests()
            .pop()
            .unwrap()
            .contains(&wire.to_string())
    );
}

#[tokio::test]
async fn a_fork_has_the_conversation_and_a_life_of_its_own() {
    let (lab, _) = a_rich_turn().await;
    let items = lab.items().await;
    let harness = lab
        .harness
        .clone()
        .sampled_by(scripted(vec![vec![says("still here"), done()]; 64]));
    let header = || Header {
        thread_id: ThreadId::generate(),
        parent: Some(lab.handle.id()),
        created_at: now(),
        ..lab.handle.header().clone()
    };
    for kept in 0..=items.len() {
        let threads = harness.threads();
        let handle = threads.fork(header(), &items[..kept]).unwrap();
        let fork = Lab {
            harness: harness.clone(),
            threads,
            handle,
        };
        let copied = fork.items().await;
        assert!(items[..kept].starts_with(&copied), "{kept}");
        goes_on(&fork).await;
        goes_on_after_reload(&fork).await;
    }
    assert_eq!(lab.items().await, items);
}

#[tokio::test]
async fn nothing_acts_in_a_query_thread() {
    let ran = Harness::new()
        .sandbox(SandboxPolicy::ReadOnly)
        .asks(ApprovalPolicy::Never)
        .model(json!([{"calls": [write("a.txt", "1"), command("touch b.txt")]}, {"text": "still here"}]))
        .run("write")
        .await;
    let outputs = outputs(&ran.lab.items().await);
    for output in outputs.values() {
        // No tool that writes, and a command only where the kernel keeps it from writing.
        let held = output
            .command
            .as_ref()
            .is_some_and(|command| command.exit_code != Some(0));
        assert!(held || output.status == OutputStatus::Denied, "{output:?}");
    }
    assert_eq!(deeds(&ran.lab), 0);
    assert_eq!(ran.outcome.denied[0].summary, "edit `a.txt`");
}

#[tokio::test]
async fn an_edit_of_a_file_that_changed_meanwhile_says_so_first() {
    let read = json!({"name": "read_file", "arguments": {"path": "a.txt"}});
    let stale = json!({"name": "edit_file", "arguments": {"path": "a.txt", "edits": [{"search": "gone", "replace": "x"}]}});
    let ran = Harness::new()
        .file("a.txt", "one\nlast\n")
        .model(json!([
            {"calls": [read]},
            {"calls": [one_to_two()]},
            {"calls": [command("echo three > a.txt")]},
            {"calls": [stale.clone()]},
            {"calls": [stale]},
            {"calls": [command("echo one > a.txt")]},
            {"calls": [one_to_two()]},
            {"text": "done"},
        ]))
        .run("edit")
        .await;
    let outputs = outputs(&ran.lab.items().await);
    let told = |call: &str| {
        outputs[&CallId(call.to_owned())]
            .content
            .contains("changed since you last saw it")
    };
    assert!(!told("call_1_0"), "{outputs:?}");
    assert!(told("call_3_0"), "{outputs:?}");
    assert!(!told("call_4_0"), "it was told before: {outputs:?}");
    assert!(told("call_6_0"), "{outputs:?}");
    assert_eq!(ran.lab.content("a.txt"), "two\n");
}

// Old rollouts.

fn old_rollout(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/rollouts/v1")
        .join(name);
    std::fs::read(path).unwrap()
}
/// What a reader of a rollout works out of it, as text.
fn told(loaded: &Loaded) -> String {
    let mut text = format!(
        "{} {} {:?} {} lines damaged\n",
        loaded.header.thread_id,
        loaded.header.policy.sandbox.as_str(),
        loaded.header.parent.map(|parent| parent.to_string()),
        loaded.damaged
    );
    for item in &loaded.items {
        text += &match item {
            Item::UserMessage { text } => format!("user {text:?}\n"),
            Item::Picture(picture) => format!("picture {:?}\n", picture.name),
            Item::AgentMessage { text, .. } => format!("agent {text:?}\n"),
            Item::Reasoning { summary, .. } => format!("thought {summary:?}\n"),
            Item::ToolCall(call) => format!("call {} {}\n", call.call_id, call.arguments),
            Item::ToolOutput(output) => {
                format!(
                    "output {} {:?} {:?}\n",
                    output.call_id, output.status, output.content
                )
            }
            Item::Compaction { text, .. } => format!("compaction {text:?}\n"),
        };
    }
    for turn in &loaded.turns {
        let status = turn.outcome.as_ref().map(|outcome| outcome.status);
        text += &format!("turn from item {} {status:?}\n", turn.first_item);
        for open in &turn.open_calls {
            text += &format!("  open {} started: {}\n", open.call.call_id, open.started);
        }
    }
    text
}

#[test]
fn a_completed_rollout_of_version_1_is_readable() {
    let loaded = rollout::read(&old_rollout("completed.jsonl")).unwrap();
    insta::assert_snapshot!(told(&loaded), @r#"
    01990000-0000-7000-8000-000000000001 workspace-write None 0 lines damaged
    user "the greeting is misspelt – mend it"
    thought "Look first."
    call call_a {"path":"greet.sh"}
    output call_a Done "1\techo helo\n"
    call call_b {"path":"greet.sh","edits":[{"search":"helo","replace":"hello"}]}
    call call_c {"command":"sh greet.sh"}
    output call_b Done "greet.sh: +1 −1"
    output call_c Done "hello\n[exit code 0]"
    agent "It says hello now."
    turn from item 0 Some(Completed)
    "#);
    let outcome = loaded.last_outcome().unwrap();
    assert_eq!(
        (
            outcome.changes.len(),
            outcome.commands.len(),
            outcome.usage.requests
        ),
        (1, 1, 3)
    );
    assert_eq!(loaded.header.context.tools.len(), 1);
    assert_eq!(loaded.header.limits.max_steps, 200);
}

#[test]
fn a_rollout_of_version_1_that_was_cut_short_is_readable() {
    let loaded = rollout::read(&old_rollout("cut_short.jsonl")).unwrap();
    insta::assert_snapshot!(told(&loaded), @r#"
    01990000-0000-7000-8000-000000000002 workspace-write Some("01990000-0000-7000-8000-000000000001") 1 lines damaged
    user "the greeting is misspelt – mend it"
    agent "It says hello now."
    user "run it"
    call call_d {"command":"sh greet.sh; sleep 60"}
    call call_e {"path":"greet.sh","edits":[{"search":"hello","replace":"hullo"}]}
    turn from item 2 None
      open call_d started: true
      open call_e started: false
    "#);
}

#[test]
fn a_rollout_of_version_1_whose_question_is_open_is_readable() {
    let loaded = rollout::read(&old_rollout("suspended.jsonl")).unwrap();
    let open = loaded.open_turn().unwrap();
    assert_eq!((open.open_calls.len(), open.open_approvals.len()), (1, 1));
    let so_far = open.suspended.as_ref().unwrap();
    assert_eq!(so_far.status, Status::ApprovalRequired);
    assert_eq!(so_far.approvals, open.open_approvals);
    assert_eq!(loaded.damaged, 0);
}

#[test]
fn a_damaged_rollout_of_version_1_is_readable_and_runs_under_the_narrowest_policy() {
    let loaded = rollout::read(&old_rollout("damaged.jsonl")).unwrap();
    insta::assert_snapshot!(told(&loaded), @r#"
    01990000-0000-7000-8000-000000000003 read-only None 5 lines damaged
    user "what does greet.sh print?"
    call call_f {"path":"greet.sh"}
    output call_f Done "1\techo hello\n"
    agent "hello"
    turn from item 0 Some(Completed)
    turn from item 4 Some(Failed)
    "#);
}

#[test]
fn every_record_of_version_1_is_in_a_fixture() {
    let mut kinds = rollout::census(&old_rollout("completed.jsonl"));
    kinds.extend(rollout::census(&old_rollout("cut_short.jsonl")));
    kinds.extend(rollout::census(&old_rollout("suspended.jsonl")));
    let kinds: Vec<&str> = kinds
        .keys()
        .map(String::as_str)
        .filter(|kind| *kind != "damaged")
        .collect();
    assert_eq!(
        kinds,
        [
            "agent_message",
            "approval_requested",
            "approval_resolved",
            "call_started",
            "reasoning",
            "thread",
            "tool_call",
            "tool_output",
            "turn_ended",
            "turn_started",
            "turn_suspended",
            "user_message"
        ]
    );
}

#[tokio::test]
async fn rollouts_of_version_1_go_on() {
    for name in [
        "completed.jsonl",
        "cut_short.jsonl",
        "damaged.jsonl",
        "suspended.jsonl",
    ] {
        let fresh = Harness::new();
        let text = String::from_utf8(old_rollout(name)).unwrap();
        let text = text.replace("/home/ana/greet", &fresh.work().to_string_lossy());
        // A writable root has to be there.
        let text = text.replace(r#","writable_roots":["/home/ana/out"]"#, "");
        let id = rollout::read(text.as_bytes()).unwrap().header.thread_id;
        carried_on(fresh, id, text.as_bytes(), name).await;
    }
}

#[test]
fn a_rollout_of_a_later_version_is_refused_with_a_reason() {
    let text = String::from_utf8(old_rollout("completed.jsonl")).unwrap();
    let later = text.replacen(r#""version":1"#, r#""version":2"#, 1);
    let refused = rollout::read(later.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "it was written by a later version (format 2; this one reads up to 1)"
    );
    let headless = text.split_once('\n').unwrap().1;
    let refused = rollout::read(headless.as_bytes()).unwrap_err().to_string();
    assert!(
        refused.starts_with("its first line is not a thread header: "),
        "{refused}"
    );
}

#[tokio::test]
async fn a_rollout_with_any_one_line_damaged_goes_on() {
    let (whole, rollout) = a_rich_turn().await;
    let text = String::from_utf8(rollout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for bad in 1..lines.len() {
        let mut damaged: Vec<&str> = lines.clone();
        damaged[bad] = "{\"at\":\"\u{fffd}";
        let rollout = damaged.join("\n") + "\n";
        carried_on(
            Harness::new(),
            whole.handle.id(),
            rollout.as_bytes(),
            lines[bad],
        )
        .await;
    }
}

#[tokio::test]
async fn a_thread_without_a_limit_on_time_can_be_opened_again() {
    let ran = Harness::new()
        .limits(|limits| limits.max_seconds = f64::INFINITY)
        .model(json!([{"text": "still here"}, {"text": "still here"}]))
        .run("go")
        .await;
    assert_eq!(ran.outcome.status, Status::Completed, "{}", ran.log);
    goes_on(&ran.lab.elsewhere()).await;
}
