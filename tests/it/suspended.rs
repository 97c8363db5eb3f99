//! Turns that wait for an answer that may come late, from somebody else, or after the process is gone.

use std::time::{Duration, Instant};

use openoxide::{
    conversation::{
        Answer, ApprovalId, ApprovalPolicy, By, ChangeKind, Decision, Outcome, OutputStatus,
        ResolvedBy, Status, WhenUnattended,
    },
    thread::{
        Abandoned, DecideError, DirectoryStore, Follow, Record,
        undo::{self, Back},
    },
};
use serde_json::{Value, json};

use crate::support::harness::{Beat, Harness, Lab, calls, delta, done, says, scripted};

/// What does not come in this time does not come.
const SOON: Duration = Duration::from_secs(10);

fn one_to_two() -> Value {
    json!({"name": "edit_file", "arguments": {"path": "a.txt", "edits": [{"search": "one", "replace": "two"}]}})
}

/// Appends a line, so that each run of it can be counted.
fn counted() -> Value {
    json!({"name": "shell", "arguments": {"command": "echo ran >>log.txt"}})
}

/// Asks before a command that can be counted, then says its last word.
fn asks_for_a_command() -> Harness {
    Harness::new()
        .asks(ApprovalPolicy::Untrusted)
        .model(json!([{"text": "I run it.", "calls": [counted()]}, {"text": "done"}, {"text": "still here"}]))
}

fn asks_for_an_edit() -> Harness {
    Harness::new()
        .file("a.txt", "one\n")
        .asks(ApprovalPolicy::Untrusted)
        .model(json!([{"calls": [one_to_two()]}, {"text": "done"}, {"text": "still here"}]))
}

fn returning() -> Harness {
    asks_for_a_command().unattended(WhenUnattended::ReturnToCaller)
}

fn runs(lab: &Lab) -> usize {
    let log = std::fs::read_to_string(lab.harness.work().join("log.txt"));
    log.unwrap_or_default().lines().count()
}

/// Starts a turn and waits for what those who follow it are told.
async fn told(lab: &Lab) -> Outcome {
    let started = lab.handle.start("go".to_owned()).await.unwrap();
    let told = tokio::time::timeout(SOON, started.outcome).await;
    Outcome::clone(&told.expect("an answer in time").unwrap())
}

/// Waits for the end of the turn that runs or stands open.
async fn ended(lab: &Lab) -> Outcome {
    let started = match lab.handle.follow().await.unwrap() {
        Follow::Running(started) => started,
        Follow::Ended(outcome) => return Outcome::clone(&outcome),
        Follow::Nothing => lab.handle.resume().await.unwrap(),
    };
    let outcome = tokio::time::timeout(SOON, started.outcome).await;
    Outcome::clone(&outcome.expect("an end in time").unwrap())
}

/// Answers what stands open as the caller, and waits for the end.
async fn decided(lab: &Lab, decision: Decision) -> Outcome {
    lab.handle.decide(None, decision.into()).await.unwrap();
    ended(lab).await
}

/// Waits until the turn is let go of.
async fn until_let_go(lab: &Lab) {
    let deadline = Instant::now() + SOON;
    while !std::fs::read_to_string(lab.rollout())
        .unwrap()
        .contains("turn_suspended")
    {
        assert!(Instant::now() < deadline, "it is not let go of");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn question(lab: &Lab) -> ApprovalId {
    let pending = lab.handle.subscribe().await.unwrap().pending;
    assert_eq!(pending.len(), 1, "{pending:?}");
    pending[0].id
}

#[tokio::test]
async fn a_question_that_nobody_can_answer_goes_back_to_the_caller_with_what_was_done_so_far() {
    let lab = returning().thread();
    let waits = told(&lab).await;
    assert_eq!(waits.status, Status::ApprovalRequired);
    assert_eq!(waits.content, "I run it.");
    assert_eq!(waits.approvals.len(), 1);
    assert_eq!(waits.approvals[0].summary, "run `echo ran >>log.txt`");
    assert_eq!(waits.usage.requests, 1);
    // Who looks again is told the same at once.
    assert_eq!(ended(&lab).await.approvals, waits.approvals);
    assert_eq!(runs(&lab), 0);
    let done = decided(&lab, Decision::Approve).await;
    assert_eq!(
        (done.status, done.turn_id),
        (Status::Completed, waits.turn_id)
    );
    assert_eq!((done.usage.requests, done.commands.len()), (2, 1));
    assert_eq!(runs(&lab), 1);
    let late = lab
        .handle
        .decide(Some(waits.approvals[0].id), Decision::Deny.into());
    assert!(matches!(late.await, Err(DecideError::NotOpen(_))));
}

#[tokio::test]
async fn what_a_turn_had_spent_before_it_was_let_go_of_counts_against_its_budget() {
    // Counted by the provider, or estimated where it does not count.
    for usage in [json!({"input_tokens": 90, "output_tokens": 10}), json!({})] {
        let lab = returning()
            .limits(|limits| (limits.max_tokens, limits.park_seconds) = (100, 0.5))
            .model(json!([{"calls": [counted()], "usage": usage}, {"text": "done"}]))
            .thread();
        told(&lab).await;
        until_let_go(&lab).await;
        let ended = decided(&lab, Decision::Approve).await;
        assert_eq!(
            (ended.status, ended.usage.requests, runs(&lab)),
            (Status::LimitReached, 1, 1)
        );
    }
}

#[tokio::test]
async fn a_caller_says_no_always_and_yes_only_where_it_may() {
    use Decision::{Abort, Approve, ApproveForSession, Deny};
    for (strategy, decision, expected) in [
        (WhenUnattended::ReturnToCaller, Approve, Ok(1)),
        (
            WhenUnattended::ReturnToCaller,
            ApproveForSession,
            Err(DecideError::OnlyOnce),
        ),
        (WhenUnattended::ReturnToCaller, Deny, Ok(0)),
        (WhenUnattended::ReturnToCaller, Abort, Ok(0)),
        (
            WhenUnattended::AutoWithinPolicy,
            Approve,
            Err(DecideError::ForAPerson),
        ),
        (WhenUnattended::AutoWithinPolicy, Deny, Ok(0)),
        (WhenUnattended::Deny, Approve, Err(DecideError::ForAPerson)),
        (WhenUnattended::Deny, Abort, Ok(0)),
    ] {
        let lab = asks_for_a_command().unattended(strategy).thread();
        // Somebody attends until the question is open, so that it is open at all.
        let lease = lab.handle.attend().await.unwrap();
        let mut going = lab.start("go").await;
        going.until_asked().await;
        if strategy == WhenUnattended::ReturnToCaller {
            let being_asked = lab.handle.decide(None, Approve.into()).await;
            assert_eq!(being_asked, Err(DecideError::BeingAsked));
            // Whoever was asked went away without an answer.
            let id = question(&lab).await;
            lab.handle.give_up(id).await.unwrap();
        }
        let decided = lab.handle.decide(None, decision.into()).await;
        let about = format!("{strategy:?} {decision:?}");
        match expected {
            Ok(expected) => {
                decided.unwrap();
                ended(&lab).await;
                assert_eq!(runs(&lab), expected, "{about}");
            }
            Err(expected) => {
                assert_eq!(decided, Err(expected), "{about}");
                assert_eq!(runs(&lab), 0, "{about}");
            }
        }
        drop(lease);
    }
}

#[tokio::test]
async fn a_question_that_nobody_comes_back_to_is_kept_and_its_answer_goes_on_elsewhere() {
    for answered_in_the_same_process in [true, false] {
        let lab = returning()
            .limits(|limits| limits.park_seconds = 0.5)
            .thread();
        let waits = told(&lab).await;
        until_let_go(&lab).await;
        let lab = match answered_in_the_same_process {
            true => lab,
            false => lab.elsewhere(),
        };
        assert_eq!(question(&lab).await, waits.approvals[0].id);
        let done = decided(&lab, Decision::Approve).await;
        assert_eq!(done.status, Status::Completed, "{done:?}");
        assert_eq!(done.turn_id, waits.turn_id, "that very turn");
        assert_eq!(done.usage.requests, 2, "what it had used counts on");
        assert_eq!((runs(&lab), lab.requests().len()), (1, 2));
    }
}

#[tokio::test]
async fn what_a_turn_changed_before_it_was_let_go_of_is_in_its_outcome() {
    let lab = Harness::new()
        .file("a.txt", "one\n")
        .limits(|limits| limits.park_seconds = 0.5)
        .unattended(WhenUnattended::ReturnToCaller)
        .model(json!([
            {"calls": [one_to_two(), {"name": "shell", "arguments": {"command": "true", "escalate": true}}]},
            {"text": "done"},
        ]))
        .thread();
    let waits = told(&lab).await;
    assert_eq!(waits.changes.len(), 1, "{waits:?}");
    until_let_go(&lab).await;
    let lab = lab.elsewhere();
    let done = decided(&lab, Decision::Deny).await;
    assert_eq!(done.status, Status::Completed);
    assert_eq!(done.changes, waits.changes);
    assert_eq!(done.denied.len(), 1);
}

/// What the turn came to, and what is kept of it: one state before for each path, however often it was let go of.
#[tokio::test]
async fn a_turn_that_is_taken_up_elsewhere_is_measured_against_what_was_there_before_it() {
    let first = "sed -i s/one/two/ a.txt; rm b.txt; echo new >c.txt; echo made >d.txt";
    let later = "sed -i s/two/three/ a.txt; echo b >b.txt; rm c.txt; echo e >e.txt";
    let lab = Harness::new()
        .file("a.txt", "one\n")
        .file("b.txt", "b\n")
        .limits(|limits| limits.park_seconds = 0.5)
        .unattended(WhenUnattended::ReturnToCaller)
        .model(json!([
            {"calls": [
                {"name": "shell", "arguments": {"command": first}},
                {"name": "shell", "arguments": {"command": "true", "escalate": true}},
            ]},
            {"calls": [{"name": "shell", "arguments": {"command": later}}]},
            {"text": "done"},
        ]))
        .thread();
    let told_of = |outcome: &Outcome| -> Vec<(String, ChangeKind, Option<By>)> {
        let changes = outcome.changes.iter();
        changes
            .map(|change| (change.path.clone(), change.kind, change.by))
            .collect()
    };
    let own = |path: &str, kind| (path.to_owned(), kind, None);
    let waits = told(&lab).await;
    let (added, modified, deleted) = (ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted);
    assert_eq!(
        told_of(&waits),
        [
            own("a.txt", modified),
            own("b.txt", deleted),
            own("c.txt", added),
            own("d.txt", added),
        ]
    );
    until_let_go(&lab).await;
    let lab = lab.elsewhere();
    let done = decided(&lab, Decision::Deny).await;
    assert_eq!(done.status, Status::Completed);
    assert_eq!(done.partial_changes, None);
    assert_eq!(
        told_of(&done),
        [
            own("a.txt", modified),
            own("d.txt", added),
            own("e.txt", added),
        ]
    );
    let diff = &done.changes[0].diff;
    assert!(diff.contains("-one") && diff.contains("+three"), "{diff}");
    let store = DirectoryStore::new(lab.harness.state());
    let mut undo = undo::prepare(&store, lab.handle.id(), Back::LastTurn).unwrap();
    undo.apply().unwrap();
    let text = |path: &str| std::fs::read_to_string(lab.harness.work().join(path)).ok();
    assert_eq!(text("a.txt").as_deref(), Some("one\n"));
    assert_eq!(text("b.txt").as_deref(), Some("b\n"));
    assert_eq!(
        (text("c.txt"), text("d.txt"), text("e.txt")),
        (None, None, None)
    );
}

/// Cut after each record, the turn is taken up by somebody who approves: its command runs once in all, and a run that
/// was cut short is not repeated.
#[tokio::test]
async fn a_turn_that_was_cut_anywhere_is_taken_up_and_runs_nothing_twice() {
    let whole = asks_for_a_command()
        .answer(Decision::Approve)
        .run("go")
        .await;
    let rollout = std::fs::read_to_string(whole.lab.rollout()).unwrap();
    let id = whole.lab.handle.id();
    let lines: Vec<&str> = rollout.split_inclusive('\n').collect();
    let at = |kind: &str| {
        let named = format!(r#""type":"{kind}""#);
        lines.iter().position(|line| line.contains(&named)).unwrap()
    };
    let (begun, asked, answered) = (
        at("turn_started"),
        at("approval_requested"),
        at("approval_resolved"),
    );
    let (started, ended_at) = (at("call_started"), at("turn_ended"));
    for cut in begun + 2..ended_at {
        // Another process, which has seen nothing of the first.
        let fresh = Harness::new().answer(Decision::Approve);
        // The samples that the cut turn has not seen yet.
        let fresh = match cut <= at("tool_call") {
            true => fresh.sampled_by(scripted([
                vec![
                    calls("call_0_0", "shell", counted()["arguments"].clone()),
                    done(),
                ],
                vec![says("done"), done()],
            ])),
            false => fresh.sampled_by(scripted([vec![says("done"), done()]])),
        };
        let directory = fresh.state().join(id.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("rollout.jsonl"), lines[..cut].concat()).unwrap();
        let log = whole.lab.harness.work().join("log.txt");
        match cut > started {
            true => std::fs::write(&log, "ran\n").unwrap(),
            false => drop(std::fs::remove_file(&log)),
        }
        let threads = fresh.threads();
        let lab = Lab {
            handle: threads.find(id).unwrap(),
            harness: fresh,
            threads,
        };
        let (outcome, log) = lab.resume().await;
        assert_eq!(outcome.status, Status::Completed, "cut {cut}: {log}");
        assert_eq!(runs(&whole.lab), 1, "cut {cut}: {log}");
        assert_eq!(outcome.turn_id, whole.outcome.turn_id, "cut {cut}");
        // A question that is on record is not put there again, and an answer that is there is not asked for.
        let asks = log.lines().filter(|line| line.starts_with("asked")).count();
        assert_eq!(asks, usize::from(cut <= answered), "cut {cut}: {log}");
        let kept = std::fs::read_to_string(lab.rollout()).unwrap();
        let questions = kept.matches(r#""type":"approval_requested""#).count();
        assert_eq!(
            questions,
            usize::from(cut <= answered || cut > asked),
            "cut {cut}"
        );
        let unknown = kept.contains("effects are unknown");
        assert_eq!(unknown, cut == started + 1, "cut {cut}: {kept}");
    }
}

#[tokio::test]
async fn an_answer_is_for_the_question_that_was_asked() {
    let lab = asks_for_an_edit()
        .unattended(WhenUnattended::ReturnToCaller)
        .limits(|limits| limits.park_seconds = 0.5)
        .thread();
    let waits = told(&lab).await;
    until_let_go(&lab).await;
    // The file is another one by now, and so is the edit that was approved.
    std::fs::write(lab.harness.work().join("a.txt"), "zero\none\n").unwrap();
    let lab = lab.elsewhere();
    let again = decided(&lab, Decision::Approve).await;
    assert_eq!(again.status, Status::ApprovalRequired, "{again:?}");
    assert_ne!(again.approvals[0].id, waits.approvals[0].id);
    assert_eq!(lab.content("a.txt"), "zero\none\n");
    lab.handle
        .decide(None, Decision::Approve.into())
        .await
        .unwrap();
    assert_eq!(ended(&lab).await.status, Status::Completed);
    assert_eq!(lab.content("a.txt"), "zero\ntwo\n");
}

#[tokio::test]
async fn an_answer_is_for_the_files_that_the_command_named() {
    // One is run and shown, the other only named.
    for line in ["sh x.sh", "cp x.sh log.txt"] {
        let call = json!({"name": "shell", "arguments": {"command": line}});
        let lab = Harness::new()
            .file("x.sh", "echo ran >>log.txt\n")
            .asks(ApprovalPolicy::Untrusted)
            .unattended(WhenUnattended::ReturnToCaller)
            .limits(|limits| limits.park_seconds = 0.5)
            .model(json!([{"calls": [call]}, {"text": "done"}]))
            .thread();
        told(&lab).await;
        until_let_go(&lab).await;
        let script = lab.harness.work().join("x.sh");
        std::fs::write(script, "echo something else >>log.txt\n").unwrap();
        let lab = lab.elsewhere();
        let again = decided(&lab, Decision::Approve).await;
        assert_eq!(again.status, Status::ApprovalRequired, "{line}");
        assert_eq!(runs(&lab), 0, "{line}");
    }
}

#[tokio::test]
async fn the_end_of_the_process_keeps_a_question_unless_the_owner_wants_a_no() {
    for (strategy, kept) in [
        (WhenUnattended::AutoWithinPolicy, true),
        (WhenUnattended::ReturnToCaller, true),
        (WhenUnattended::Deny, false),
    ] {
        let lab = asks_for_a_command().unattended(strategy).thread();
        let lease = lab.handle.attend().await.unwrap();
        let mut going = lab.start("go").await;
        going.until_asked().await;
        lab.threads.shut_down(SOON).await;
        drop(lease);
        let read = lab.threads.store().read(lab.handle.id()).unwrap();
        let last = read.turns.last().unwrap();
        assert_eq!(last.open_approvals.len(), usize::from(kept), "{strategy:?}");
        assert_eq!(last.outcome.is_none(), kept, "{strategy:?}");
        let listed = lab.threads.store().list().unwrap();
        let status = match kept {
            true => Status::ApprovalRequired,
            false => Status::Interrupted,
        };
        assert_eq!(listed[0].status, Some(status));
        if kept {
            let lab = lab.elsewhere();
            let id = question(&lab).await;
            let answered = lab
                .handle
                .answer(id, Decision::Approve.into(), ResolvedBy::Terminal);
            assert!(answered.await.unwrap());
            assert_eq!(ended(&lab).await.status, Status::Completed);
            assert_eq!(runs(&lab), 1);
        }
    }
}

#[tokio::test]
async fn a_new_message_first_ends_what_was_open() {
    let lab = returning()
        .limits(|limits| limits.park_seconds = 0.5)
        .thread();
    let waits = told(&lab).await;
    until_let_go(&lab).await;
    let lab = lab.elsewhere();
    let (outcome, log) = lab.run("something else").await;
    assert_eq!(
        (outcome.status, runs(&lab)),
        (Status::Completed, 0),
        "{log}"
    );
    let read = lab.threads.store().read(lab.handle.id()).unwrap();
    let first = read.turns[0].outcome.as_ref().unwrap();
    assert_eq!(
        (first.turn_id, first.status),
        (waits.turn_id, Status::Interrupted)
    );
    assert_eq!(first.usage.requests, 1);
    let late = lab
        .handle
        .decide(Some(waits.approvals[0].id), Decision::Approve.into());
    assert!(late.await.is_err());
}

#[tokio::test]
async fn a_message_ends_a_turn_that_waits_for_its_caller() {
    let lab = returning().thread();
    let waits = told(&lab).await;
    let started = lab.handle.start("something else".to_owned()).await.unwrap();
    let outcome = tokio::time::timeout(SOON, started.outcome)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((outcome.status, runs(&lab)), (Status::Completed, 0));
    let first = lab.handle.outcome_of(waits.turn_id).await.unwrap().unwrap();
    assert_eq!(first.status, Status::Interrupted);
}

#[tokio::test]
async fn a_turn_that_nobody_follows_any_more_ends() {
    let lab = Harness::new()
        .limits(|limits| limits.park_seconds = 0.2)
        .sampled_by(scripted([vec![delta("I am "), Beat::Hang]]))
        .thread();
    let started = lab.handle.start("go".to_owned()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        lab.handle.standing().await.unwrap().is_some(),
        "somebody follows it"
    );
    let turn_id = started.turn_id;
    drop(started);
    let deadline = Instant::now() + SOON;
    let outcome = loop {
        if let Some(outcome) = lab.handle.outcome_of(turn_id).await.unwrap() {
            break outcome;
        }
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(outcome.status, Status::Interrupted);
}

#[tokio::test]
async fn who_gives_up_a_turn_that_others_follow_leaves_it_to_them() {
    let lab = Harness::new()
        .sampled_by(scripted([vec![Beat::Hang]]))
        .thread();
    let first = lab.handle.start("go".to_owned()).await.unwrap();
    let Follow::Running(second) = lab.handle.follow().await.unwrap() else {
        panic!("it runs");
    };
    let turn_id = first.turn_id;
    drop(first);
    let left = lab.handle.abandon(turn_id).await.unwrap();
    assert!(matches!(left, Abandoned::ToOthers), "{left:?}");
    drop(second);
    let left = lab.handle.abandon(turn_id).await.unwrap();
    let Abandoned::Stopped(end) = left else {
        panic!("{left:?}");
    };
    let outcome = tokio::time::timeout(SOON, end).await.unwrap().unwrap();
    assert_eq!(outcome.status, Status::Interrupted);
}

#[tokio::test]
async fn the_last_lease_of_a_turn_that_nobody_follows_keeps_the_question() {
    let lab = asks_for_a_command().thread();
    let lease = lab.handle.attend().await.unwrap();
    let mut going = lab.start("go").await;
    going.until_asked().await;
    drop(going);
    lease.linger(Duration::from_millis(100));
    until_let_go(&lab).await;
    let id = question(&lab).await;
    let answer = Answer::from(Decision::Approve);
    assert!(
        lab.handle
            .answer(id, answer, ResolvedBy::Elicitation)
            .await
            .unwrap()
    );
    assert_eq!(ended(&lab).await.status, Status::Completed);
    assert_eq!(runs(&lab), 1);
}

/// A call of a process that died between two calls of one sample: the first is done, the second runs.
#[tokio::test]
async fn calls_that_never_began_run_when_the_turn_is_taken_up() {
    let whole = Harness::new()
        .model(json!([{"calls": [counted(), counted()]}, {"text": "done"}]))
        .run("go")
        .await;
    let rollout = std::fs::read_to_string(whole.lab.rollout()).unwrap();
    let lines: Vec<&str> = rollout.split_inclusive('\n').collect();
    let first_output = lines
        .iter()
        .position(|line| line.contains("tool_output"))
        .unwrap();
    std::fs::write(whole.lab.rollout(), lines[..=first_output].concat()).unwrap();
    std::fs::write(whole.lab.harness.work().join("log.txt"), "ran\n").unwrap();
    let harness = whole.lab.harness.clone();
    let harness = harness.sampled_by(scripted([vec![says("done"), done()]]));
    let threads = harness.threads();
    let lab = Lab {
        handle: threads.find(whole.lab.handle.id()).unwrap(),
        harness,
        threads,
    };
    let (outcome, log) = lab.resume().await;
    assert_eq!(
        (outcome.status, runs(&lab)),
        (Status::Completed, 2),
        "{log}"
    );
    let outputs = lab.items().await;
    let interrupted = outputs.iter().any(|item| {
        matches!(item, openoxide::conversation::Item::ToolOutput(output) if output.status == OutputStatus::Interrupted)
    });
    assert!(!interrupted, "{log}");
    let records = std::fs::read_to_string(lab.rollout()).unwrap();
    assert_eq!(records.matches("\"turn_started\"").count(), 1, "{records}");
    let line: Value = serde_json::from_str(records.lines().last().unwrap()).unwrap();
    let last: Record = serde_json::from_value(line).unwrap();
    assert!(matches!(last, Record::TurnEnded { .. }));
}
