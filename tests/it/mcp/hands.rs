//! One thread under many hands, and clients that are slow, careless or greedy.

use std::{
    io::Write,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{assert_well_asked, has_record, patient, serve, shell};
use crate::support::{
    client::{DIALECTS, NEWEST_SESSION, outcome, text, word},
    home::{Home, PATIENCE, ends_within, eventually},
    model_server::{ModelServer, Reply},
};

#[test]
fn a_query_about_a_running_thread_is_answered_meanwhile_from_what_is_complete() {
    let late = Duration::from_secs(3);
    let script = vec![
        Reply::call("r1", "read_file", json!({"path": "a.txt"})).and_text("I look."),
        Reply::text("It says one.").delayed(late),
    ];
    let home = Home::new().file("a.txt", "one\n");
    let model = ModelServer::start(script);
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let running = client.begin("openoxide", json!({"prompt": "Look."}));
    eventually("it is in its second sample", || model.requests().len() == 2);
    let thread = home.threads().remove(0);
    let query = json!({"thread_id": thread, "query": "What did you find?"});
    let query = client.begin("openoxide-query", query);
    eventually("the query asks the model", || model.requests().len() >= 3);
    assert!(!client.is_answered(running), "the thread still runs");
    let seen = model.requests();
    let input = |at: usize| seen[at].body["input"].as_array().expect("input").clone();
    let (parent, fork) = (input(1), input(2));
    // All that the thread itself was sent, its completed sample with it, and then the question.
    assert_eq!(fork[..parent.len()], parent);
    assert_eq!(fork.len(), parent.len() + 1);
    assert!(
        fork[parent.len()]
            .to_string()
            .contains("What did you find?")
    );
    assert_eq!(seen[1].body["instructions"], seen[2].body["instructions"]);
    let answer = client.result(query);
    assert_ne!(word(&answer, "thread_id"), thread);
    assert_eq!(outcome(&client.result(running))["content"], "It says one.");
    client.close();
}

#[test]
fn one_of_two_who_follow_a_turn_leaves_it_to_the_other() {
    for dialect in DIALECTS {
        let script = patient("done");
        let (home, model) = (Home::new(), ModelServer::start(script));
        let mut client = serve(&home, &model, dialect);
        let first = client.begin("openoxide", json!({"prompt": "x"}));
        home.until_it_has("began");
        let second = client.begin("openoxide-reply", json!({"thread_id": "last"}));
        // The second has to follow before the first leaves.
        client.lives();
        std::thread::sleep(Duration::from_millis(300));
        client.cancel(first, None);
        client.lives();
        std::thread::sleep(Duration::from_millis(200));
        let home = home.file("enough", "");
        let done = client.result(second);
        assert_eq!(outcome(&done)["status"], "completed", "{done}");
        assert!(
            !client
                .heard
                .iter()
                .any(|(_, message)| message["id"] == first)
        );
        client.close();
        drop(home);
    }
}

#[test]
fn a_cancelled_query_ends_its_own_copy_and_not_the_thread() {
    let script = vec![
        Reply::call("r1", "read_file", json!({"path": "a.txt"})),
        Reply::text("It says one.").delayed(Duration::from_secs(3)),
    ];
    let home = Home::new().file("a.txt", "one\n");
    let model = ModelServer::start(script);
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let running = client.begin("openoxide", json!({"prompt": "Look."}));
    eventually("it is in its second sample", || model.requests().len() == 2);
    let thread = home.threads().remove(0);
    let query = json!({"thread_id": thread, "query": "What?"});
    let query = client.begin("openoxide-query", query);
    eventually("the query runs", || model.requests().len() >= 3);
    client.cancel(query, None);
    let fork = home.threads().remove(1);
    eventually("the query ends", || {
        let end = home
            .rollout(&fork)
            .into_iter()
            .find(|record| record["type"] == "turn_ended");
        end.is_some_and(|end| end["outcome"]["status"] == "interrupted")
    });
    assert_eq!(outcome(&client.result(running))["content"], "It says one.");
    client.close();
}

#[test]
fn thousands_of_deltas_become_few_notifications() {
    let script = vec![Reply::text(&"word ".repeat(8000))];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let id = client.begin_told("openoxide", json!({"prompt": "x"}), "tok");
    client.result(id);
    let told = client.heard.iter().map(|(_, message)| message);
    let told: Vec<&Value> = told
        .filter(|message| message["method"] == "notifications/progress")
        .collect();
    let bytes: usize = told.iter().map(|message| message.to_string().len()).sum();
    assert!((1..=200).contains(&told.len()), "{}", told.len());
    assert!(bytes <= 100_000, "{bytes}");
    client.close();
}

#[test]
fn an_id_that_is_in_use_is_refused_and_its_first_call_is_answered() {
    for dialect in [NEWEST_SESSION, DIALECTS[4]] {
        let script = patient("done");
        let (home, model) = (Home::new(), ModelServer::start(script));
        let mut client = serve(&home, &model, dialect);
        let id = client.begin("openoxide", json!({"prompt": "x"}));
        home.until_it_has("began");
        let mut again = json!({"name": "openoxide", "arguments": {"prompt": "y"}});
        if dialect.is_modern() {
            again["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        client.send(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": again}));
        assert_eq!(client.answer(id)["error"]["code"], -32600);
        let home = home.file("enough", "");
        assert_eq!(outcome(&client.result(id))["content"], "done");
        assert_eq!(home.threads().len(), 1);
        // Answered, it may be used again.
        client.send(&json!({"jsonrpc": "2.0", "id": id, "method": "ping"}));
        let answer = client.answer(id);
        assert!(!text_of(&answer).contains("belongs"), "{answer}");
        client.close();
    }
}

fn text_of(answer: &Value) -> String {
    answer["error"]["message"].to_string()
}

/// A client that writes and never reads: its turns end all the same, and the server stays small and hears it.
#[test]
fn a_client_that_never_reads_stops_no_turn_and_fills_no_memory() {
    let script = vec![
        shell("c1", "for i in $(seq 2000); do echo line $i; done; sleep 1"),
        Reply::text("done"),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut command = home.openoxide_with(&model, &["mcp-server"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("the server starts");
    let mut input = child.stdin.take().expect("piped");
    let mut say = |message: Value| {
        input
            .write_all(format!("{message}\n").as_bytes())
            .expect("the server reads");
    };
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "it", "version": "1"}});
    say(json!({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": hello}));
    say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    // The pipe is full after a few of these.
    for n in 0..64 {
        say(json!({"jsonrpc": "2.0", "id": n, "method": "tools/list"}));
    }
    let call =
        json!({"name": "openoxide", "arguments": {"prompt": "x"}, "_meta": {"progressToken": "t"}});
    say(json!({"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": call}));
    let began = Instant::now();
    for n in 100..20_000 {
        say(json!({"jsonrpc": "2.0", "id": n, "method": "tools/list"}));
    }
    assert!(began.elapsed() < PATIENCE, "it does not read any more");
    eventually("the turn ends", || {
        home.threads()
            .first()
            .is_some_and(|thread| has_record(&home, thread, "turn_ended"))
    });
    if let Some(kib) = resident(child.id()) {
        assert!(kib < 200 * 1024, "{kib} KiB");
    }
    drop(input);
    ends_within(&mut child, Duration::from_secs(8));
}

/// Resident memory in KiB, where it can be known.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn prompts_that_wait_in_line_get_each_their_own_answer() {
    let mut script = vec![Reply::text("first")];
    script.extend(
        (0..4).map(|n| Reply::text(&format!("answer {n}")).delayed(Duration::from_millis(100))),
    );
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let thread = word(
        &client.call("openoxide", json!({"prompt": "x"})),
        "thread_id",
    );
    let ids: Vec<u64> = (0..4)
        .map(|n| {
            let reply = json!({"thread_id": thread, "prompt": format!("prompt {n}")});
            client.begin("openoxide-reply", reply)
        })
        .collect();
    let mut answers: Vec<String> = ids
        .into_iter()
        .map(|id| {
            let result = client.result(id);
            text(&result).lines().next().unwrap_or_default().to_owned()
        })
        .collect();
    answers.sort();
    assert_eq!(answers, ["answer 0", "answer 1", "answer 2", "answer 3"]);
    assert_well_asked(&model);
    client.close();
}
