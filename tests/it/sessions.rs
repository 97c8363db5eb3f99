//! Commands that outlive the call that started them: looked at again, typed into, and ended with their thread.

use std::time::{Duration, Instant};

use openoxide::conversation::{
    ApprovalPolicy, By, Decision, Item, Outcome, OutputStatus, Status, ToolOutput,
};
use serde_json::{Value, json};

use crate::support::{
    commands::workers,
    harness::{Harness, Lab},
};

/// Longer than anything here takes to go.
const SOON: Duration = Duration::from_secs(2);

fn shell(arguments: Value) -> Value {
    json!({"name": "shell", "arguments": arguments})
}

fn input(id: u64, keys: &str, seconds: f64) -> Value {
    let arguments = json!({"session_id": id, "input": keys, "wait_seconds": seconds});
    json!({"name": "shell_input", "arguments": arguments})
}

/// A model that makes these calls one after the other.
fn calls(calls: &[Value]) -> Value {
    let each = calls.iter().map(|call| json!({"calls": [call]}));
    each.chain([json!({"text": "done"})]).collect()
}

async fn outputs(lab: &Lab) -> Vec<ToolOutput> {
    let items = lab.items().await.into_iter();
    items
        .filter_map(|item| match item {
            Item::ToolOutput(output) => Some(output),
            _ => None,
        })
        .collect()
}

async fn contents(lab: &Lab) -> Vec<String> {
    let outputs = outputs(lab).await.into_iter();
    outputs.map(|output| output.content).collect()
}

async fn assert_deserted(harness: &Harness, what: &str) {
    let deadline = Instant::now() + SOON;
    while !workers(&harness.work()).is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(workers(&harness.work()), [""; 0], "{what}");
}

#[tokio::test]
async fn a_command_that_goes_on_is_typed_into_and_looked_at_until_it_ends() {
    for terminal in [false, true] {
        let line = "echo begun; while read word; do echo \"got $word\"; done; exit 5";
        let script = [
            shell(json!({"command": line, "wait_seconds": 1.5, "terminal": terminal})),
            input(1, "one\n", 1.0),
            input(1, "", 0.1),
            input(1, "two\n\u{4}", 10.0),
            input(1, "", 0.1),
        ];
        let ran = Harness::new().model(calls(&script)).run("go").await;
        let said = contents(&ran.lab).await;
        assert!(
            said[0].starts_with("begun\n[still running after "),
            "{said:?}"
        );
        assert!(
            said[0].contains(", session_id 1: `shell_input` looks again"),
            "{said:?}"
        );
        let echo = if terminal { "one\n" } else { "" };
        assert!(
            said[1].starts_with(&format!("{echo}got one\n[still running")),
            "{said:?}"
        );
        assert!(said[2].starts_with("[still running"), "{said:?}");
        let echo = if terminal { "two\n" } else { "" };
        assert_eq!(
            said[3],
            format!("{echo}got two\n[exit code 5]\n[the session is over]")
        );
        assert_eq!(
            said[4],
            "there is no session 1; it may have ended; no session is running"
        );
        let commands = &ran.outcome.commands;
        assert_eq!(
            (commands.len(), commands[0].exit_code),
            (1, Some(5)),
            "{commands:?}"
        );
        assert!(commands[0].seconds > 1.0, "{commands:?}");
    }
}

#[tokio::test]
async fn without_a_time_to_wait_a_terminal_is_watched_until_it_is_quiet() {
    let script = [
        shell(
            json!({"command": "echo name?; read name; echo \"hello $name\"; sleep 60", "terminal": true}),
        ),
        json!({"name": "shell_input", "arguments": {"session_id": 1, "input": "Ana\n"}}),
        input(1, "<ctrl-c>", 10.0),
    ];
    let began = Instant::now();
    let ran = Harness::new().model(calls(&script)).run("go").await;
    let said = contents(&ran.lab).await;
    assert!(said[0].starts_with("name?\n[still running"), "{said:?}");
    assert!(
        said[1].starts_with("Ana\nhello Ana\n[still running"),
        "{said:?}"
    );
    assert!(
        said[2].ends_with("[ended by signal 2]\n[the session is over]"),
        "{said:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn what_still_runs_at_the_end_of_a_turn_is_in_its_outcome_and_goes_on() {
    let script = json!([
        {"calls": [shell(json!({"command": "sleep 0.6; echo late; sleep 60", "wait_seconds": 0}))]},
        {"text": "started"},
        {"calls": [input(1, "", 1.0)]},
        {"text": "looked"},
        {"text": "nothing"},
    ]);
    let lab = Harness::new().model(script).thread();
    let (outcome, _) = lab.run("start it").await;
    assert_eq!(outcome.commands.len(), 1);
    assert_eq!(outcome.commands[0].exit_code, None);
    let (outcome, log) = lab.run("look at it").await;
    assert!(log.contains("late"), "{log}");
    assert_eq!(outcome.commands.len(), 1);
    let (outcome, _) = lab.run("and now?").await;
    assert_eq!(outcome.commands.len(), 0, "it was not used");
}

#[tokio::test]
async fn what_a_session_changes_later_is_its_threads_own() {
    let script = json!([
        {"calls": [shell(json!({"command": "read line; echo $line >typed.txt; sleep 60", "wait_seconds": 0}))]},
        {"text": "started"},
        {"calls": [input(1, "hello\n", 1.0)]},
        {"text": "typed"},
        {"calls": [shell(json!({"command": "while [ ! -e late.txt ]; do sleep 0.05; done; sleep 60", "wait_seconds": 0}))]},
        {"calls": [shell(json!({"command": "sleep 1.5; echo late >late.txt", "wait_seconds": 0}))]},
        {"text": "started"},
        {"calls": [{"name": "read_file", "arguments": {"path": "typed.txt"}}, input(3, "", 5.0)]},
        {"text": "looked"},
    ]);
    let lab = Harness::new().model(script).thread();
    let told = |outcome: &Outcome| -> Vec<(String, Option<By>)> {
        let changes = outcome.changes.iter();
        changes
            .map(|change| (change.path.clone(), change.by))
            .collect()
    };
    let (outcome, _) = lab.run("start it").await;
    assert_eq!(told(&outcome), []);
    let (outcome, log) = lab.run("type").await;
    assert_eq!(told(&outcome), [("typed.txt".to_owned(), None)], "{log}");
    lab.run("start another").await;
    let (outcome, log) = lab.run("look").await;
    assert_eq!(told(&outcome), [("late.txt".to_owned(), None)], "{log}");
}

#[tokio::test]
async fn an_unknown_session_is_an_error_that_names_the_others() {
    let script = [
        shell(json!({"command": "sleep 60", "wait_seconds": 0})),
        shell(json!({"command": "sleep 61", "wait_seconds": 0})),
        input(7, "x", 0.0),
        json!({"name": "shell_input", "arguments": {"input": "x"}}),
    ];
    let ran = Harness::new().model(calls(&script)).run("go").await;
    let said = contents(&ran.lab).await;
    assert_eq!(
        said[2],
        "there is no session 7; it may have ended; these are: 1 (`sleep 60`), 2 (`sleep 61`)"
    );
    assert!(
        said[3].starts_with("`session_id` is missing; these are"),
        "{said:?}"
    );
}

#[tokio::test]
async fn the_session_that_was_idle_for_longest_ends_for_a_seventeenth() {
    let start = |number| shell(json!({"command": format!("sleep 6{number}"), "wait_seconds": 0}));
    let mut script: Vec<Value> = (10..26).map(start).collect();
    // The first is used again, so that the second is the oldest.
    script.push(input(1, "", 0.0));
    script.push(start(26));
    script.push(input(2, "", 0.0));
    let ran = Harness::new().model(calls(&script)).run("go").await;
    let said = contents(&ran.lab).await;
    assert!(said[16].contains("session_id 1:"), "{said:?}");
    let told = "\n[session 2 (`sleep 611`) was ended, since there were too many]";
    assert!(
        said[17].contains("session_id 17:") && said[17].ends_with(told),
        "{said:?}"
    );
    assert!(said[18].starts_with("there is no session 2;"), "{said:?}");
    let sleeping = || {
        let all = workers(&ran.lab.harness.work());
        all.iter().filter(|line| line.contains(": sleep ")).count()
    };
    let deadline = Instant::now() + SOON;
    while sleeping() != 16 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(sleeping(), 16);
}

#[tokio::test]
async fn an_interrupt_ends_what_is_waited_for_and_nothing_else() {
    let script = json!([
        {"calls": [shell(json!({"command": "sleep 61", "wait_seconds": 0}))]},
        {"calls": [shell(json!({"command": "sleep 62", "wait_seconds": 0}))]},
        {"calls": [input(2, "", 60.0)]},
        {"calls": [input(1, "", 0.0)]},
        {"text": "the first lives"},
    ]);
    let lab = Harness::new().model(script).thread();
    let mut going = lab.start("go").await;
    for _ in 0..3 {
        going.until_call_runs().await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    lab.handle.interrupt(None).await.unwrap();
    let (outcome, _) = going.end().await;
    assert_eq!(outcome.status, Status::Interrupted);
    let (_, log) = lab.run("look").await;
    assert!(log.contains("session_id 1:"), "{log}");
    let said = outputs(&lab).await;
    assert_eq!(said[2].status, OutputStatus::Interrupted);
    assert!(
        said[2]
            .content
            .contains("ended because the turn was interrupted")
    );
    let left = workers(&lab.harness.work());
    assert!(
        left.iter().any(|line| line.contains("sleep 61")),
        "{left:?}"
    );
    assert!(
        !left.iter().any(|line| line.contains("sleep 62")),
        "{left:?}"
    );
}

#[tokio::test]
async fn sessions_end_with_their_thread() {
    for end in ["dropped", "shut down"] {
        let script = [
            shell(json!({"command": "setsid sleep 61 & sleep 62", "wait_seconds": 0})),
            shell(
                json!({"command": "nohup sleep 63 & sleep 64", "terminal": true, "wait_seconds": 0.2}),
            ),
        ];
        let lab = Harness::new().model(calls(&script)).thread();
        lab.run("go").await;
        assert!(workers(&lab.harness.work()).len() >= 4);
        let harness = lab.harness.clone();
        match end {
            "shut down" => lab.threads.shut_down(SOON).await,
            _ => drop(lab),
        }
        assert_deserted(&harness, end).await;
    }
}

#[tokio::test]
async fn a_session_has_its_time_out_also_when_nobody_looks() {
    let script = [
        shell(
            json!({"command": "echo said; sleep 60", "wait_seconds": 0.1, "timeout_seconds": 0.6}),
        ),
        shell(json!({"command": "sleep 1.5"})),
        input(1, "", 0.0),
    ];
    let ran = Harness::new().model(calls(&script)).run("go").await;
    let said = contents(&ran.lab).await;
    // What it said may come with the first look or with the last.
    let last = said[2].strip_prefix("said\n").unwrap_or(&said[2]);
    assert!(last.starts_with("[ended after its 0.6 s"), "{said:?}");
}

#[tokio::test]
async fn a_flood_between_two_looks_is_bounded() {
    let line = "head -c 50000000 /dev/zero | tr '\\0' x; echo; echo end; sleep 60";
    let script = [
        shell(json!({"command": line, "wait_seconds": 0})),
        shell(json!({"command": "sleep 2"})),
        input(1, "", 3.0),
        input(1, "", 0.0),
    ];
    let ran = Harness::new().model(calls(&script)).run("go").await;
    let said = contents(&ran.lab).await;
    let flood = said[0].len() + said[2].len();
    assert!(
        said[2].contains("bytes omitted") && flood < 100_000,
        "{flood}"
    );
    assert!(
        said[2].contains("xxx\nend\n[still running"),
        "{}",
        said[2].len()
    );
    assert!(said[3].starts_with("[still running"), "{}", said[3].len());
}

#[tokio::test]
async fn typing_passes_the_gate_as_the_command_did() {
    let look = input(1, "", 0.0);
    let keys = input(1, "echo typed\n", 0.5);
    let free = shell(json!({"command": "sh", "wait_seconds": 0, "escalate": true, "reason": "x"}));
    let held = shell(json!({"command": "sh", "wait_seconds": 0}));
    let asked = |log: &str| {
        log.lines()
            .filter(|line| line.starts_with("asked "))
            .count()
    };
    for (policy, start, questions) in [
        (ApprovalPolicy::Untrusted, &held, 2),
        (ApprovalPolicy::OnRequest, &held, 0),
        (ApprovalPolicy::OnRequest, &free, 2),
    ] {
        let ran = Harness::new()
            .asks(policy)
            .answer(Decision::ApproveForSession)
            .model(calls(&[start.clone(), look.clone(), keys.clone()]))
            .run("go")
            .await;
        assert_eq!(asked(&ran.log), questions, "{policy:?} {}", ran.log);
        let said = contents(&ran.lab).await;
        assert!(said[2].starts_with("typed\n"), "{policy:?} {said:?}");
        if questions > 0 {
            let question = r"type `echo typed\u{a}` into the running `sh`";
            assert!(ran.log.contains(question), "{}", ran.log);
        }
    }
    let ran = Harness::new()
        .asks(ApprovalPolicy::OnRequest)
        .answer(Decision::Approve)
        .answer(Decision::Deny)
        .model(calls(&[free, keys.clone()]))
        .run("go")
        .await;
    assert_eq!(ran.outcome.denied.len(), 1, "{}", ran.log);
    assert_eq!(outputs(&ran.lab).await[1].status, OutputStatus::Denied);
}

#[tokio::test]
async fn what_the_owner_denies_is_not_typed_either() {
    let script = [
        shell(json!({"command": "bash", "wait_seconds": 0})),
        input(1, "rm -rf x\n", 0.0),
    ];
    let mut harness = Harness::new().model(calls(&script));
    harness = harness.denies("rm");
    let ran = harness.run("go").await;
    let said = contents(&ran.lab).await;
    assert!(said[1].contains("`policy.deny` holds `rm`"), "{said:?}");
}
