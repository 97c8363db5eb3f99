//! Calls over Streamable HTTP, in both generations: results, progress, questions, cancellation, and clients that leave.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{A_MOMENT, a_file, a_sleep, last_outcome, until_ended};
use crate::support::{
    client::{DIALECTS, Dialect, NEWEST_SESSION, outcome, word},
    home::{Home, PATIENCE},
    model_server::{ModelServer, Reply},
    web::{ANA, Service},
};

const MODERN: Dialect = Dialect::Inline;

fn able() -> Value {
    json!({"elicitation": {"form": {}}})
}

#[test]
fn a_call_comes_to_the_same_in_every_generation() {
    for dialect in DIALECTS {
        let (home, model) = (Home::new(), ModelServer::start(a_file()));
        let service = Service::start(&home, &model, &[]);
        let client = service.visitor(ANA, dialect, json!({}));
        assert_eq!(client.session.is_some(), !dialect.is_modern());
        let mut call = client.call_told("openoxide", json!({"prompt": "Make it."}));
        assert_eq!(
            (call.status, call.header("content-type")),
            (200, Some("text/event-stream"))
        );
        let mut last = -1.0;
        let answer = loop {
            let message = call.event().expect("an answer");
            if message.get("method").is_none() {
                break message;
            }
            assert_eq!(message["method"], "notifications/progress", "{message}");
            let value = message["params"]["progress"].as_f64().expect("a number");
            assert!(value > last, "{message}");
            last = value;
        };
        assert!(last >= 0.0, "there was progress");
        let done = &answer["result"];
        assert_eq!(outcome(done)["status"], "completed", "{done}");
        assert_eq!(home.read("made.txt"), "hello\n");
        assert_eq!(call.event(), None, "the stream ends with the answer");
        let again = client
            .call("openoxide-reply", json!({"thread_id": "last"}))
            .result();
        assert_eq!(word(&again, "thread_id"), word(done, "thread_id"));
        service.stop();
    }
}

#[test]
fn a_question_goes_out_on_the_stream_of_its_call_and_its_answer_comes_by_another_request() {
    for (decision, written) in [("approve", true), ("deny", false)] {
        let (home, model) = (Home::new(), ModelServer::start(a_file()));
        let service = Service::start(&home, &model, &[]);
        let client = service.visitor(ANA, NEWEST_SESSION, able());
        let arguments = json!({"prompt": "Make it.", "approval_policy": "untrusted"});
        let mut call = client.call("openoxide", arguments);
        let asked = call.until(|message| message["method"] == "elicitation/create");
        assert!(
            asked["params"]["message"]
                .as_str()
                .is_some_and(|text| text.contains("made.txt")),
            "{asked}"
        );
        let content = json!({"action": "accept", "content": {"decision": decision}});
        client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": content}));
        assert_eq!(outcome(&call.result())["status"], "completed");
        assert_eq!(home.names().is_empty(), !written);
        service.stop();
    }
}

#[test]
fn a_question_is_a_result_since_2026_and_its_answer_finds_the_turn_over_another_connection() {
    for (decision, written) in [("approve", true), ("deny", false)] {
        let (home, model) = (Home::new(), ModelServer::start(a_file()));
        let service = Service::start(&home, &model, &[]);
        let client = service.visitor(ANA, MODERN, able());
        let arguments = json!({"prompt": "Make it.", "approval_policy": "untrusted"});
        let asked = client.call("openoxide", arguments.clone()).result();
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let (key, _) = asked["inputRequests"]
            .as_object()
            .expect("requests")
            .iter()
            .next()
            .expect("one");
        let responses = json!({key: {"action": "accept", "content": {"decision": decision}}});
        let round = json!({
            "name": "openoxide", "arguments": arguments,
            "requestState": asked["requestState"], "inputResponses": responses,
        });
        let done = client.begin("tools/call", round).result();
        assert_eq!(outcome(&done)["status"], "completed", "{done}");
        assert_eq!(home.names().is_empty(), !written);
        assert_eq!(home.threads().len(), 1);
        service.stop();
    }
}

#[test]
fn a_client_of_2026_that_hangs_up_interrupts_its_turn() {
    let (home, model) = (Home::new(), ModelServer::start(a_sleep("321.1")));
    let service = Service::start(&home, &model, &[]);
    let call = service
        .caller(ANA)
        .call_told("openoxide", json!({"prompt": "Sleep."}));
    assert_eq!(call.status, 200);
    home.until_running("sleep 321.1");
    let began = Instant::now();
    call.hang_up();
    until_ended(&home, "interrupted");
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    assert!(
        !home
            .processes()
            .unwrap_or_default()
            .iter()
            .any(|(_, line)| line == "sleep 321.1")
    );
    service.stop();
}

#[test]
fn a_client_that_hangs_up_before_anything_was_said_interrupts_too() {
    let (home, model) = (Home::new(), ModelServer::start(a_sleep("321.2")));
    let service = Service::start(&home, &model, &[]);
    // Without a progress token nothing is said for an hour; the headers come all the same.
    let call = service
        .caller(ANA)
        .call("openoxide", json!({"prompt": "Sleep."}));
    assert_eq!(
        (call.status, call.header("content-type")),
        (200, Some("text/event-stream"))
    );
    home.until_running("sleep 321.2");
    call.hang_up();
    until_ended(&home, "interrupted");
    service.stop();
}

#[test]
fn a_client_of_a_session_that_hangs_up_leaves_its_turn_at_work() {
    let (home, model) = (Home::new(), ModelServer::start(a_sleep("2.1")));
    let service = Service::start(&home, &model, &[]);
    let client = service.visitor(ANA, NEWEST_SESSION, json!({}));
    let call = client.call_told("openoxide", json!({"prompt": "Sleep."}));
    home.until_running("sleep 2.1");
    call.hang_up();
    let found = client
        .call("openoxide-reply", json!({"thread_id": "last"}))
        .result();
    assert_eq!(word(&found, "content"), "I slept.");
    service.stop();
}

#[test]
fn a_cancelled_call_of_a_session_interrupts_unless_it_only_ran_out_of_time() {
    for (reason, status) in [
        ("the user left", "interrupted"),
        ("request timed out", "completed"),
    ] {
        let (home, model) = (Home::new(), ModelServer::start(a_sleep("3.3")));
        let service = Service::start(&home, &model, &[]);
        let client = service.visitor(ANA, NEWEST_SESSION, json!({}));
        let mut call = client.call_told("openoxide", json!({"prompt": "Sleep."}));
        // The second request of this client, after `initialize`.
        home.until_running("sleep 3.3");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2, "reason": reason}}));
        while let Some(message) = call.event() {
            assert!(
                message.get("method").is_some(),
                "a cancelled call has no answer: {message}"
            );
        }
        until_ended(&home, status);
        service.stop();
    }
}

#[test]
fn clients_with_the_same_ids_are_not_mixed_up() {
    let script = vec![
        Reply::call("w", "shell", json!({"command": "sleep 2.5"})),
        Reply::text("Done."),
    ];
    let (home, model) = (Home::new(), ModelServer::start_by_outputs(script));
    let service = Service::start(&home, &model, &[]);
    let (one, other) = (
        service.visitor(ANA, NEWEST_SESSION, json!({})),
        service.visitor(ANA, NEWEST_SESSION, json!({})),
    );
    let first = one.call_told("openoxide", json!({"prompt": "One."}));
    let second = other.call_told("openoxide", json!({"prompt": "Other."}));
    // Both are the request 2 of their session.
    one.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2, "reason": "no"}}));
    drop(first);
    assert_eq!(outcome(&second.result())["status"], "completed");
    let statuses: Vec<Value> = home
        .threads()
        .iter()
        .filter_map(|thread| {
            home.rollout(thread)
                .into_iter()
                .rev()
                .find(|record| record["type"] == "turn_ended")
        })
        .map(|record| record["outcome"]["status"].clone())
        .collect();
    assert_eq!(statuses.len(), 2, "{statuses:?}");
    assert!(
        statuses.contains(&json!("interrupted")) && statuses.contains(&json!("completed")),
        "{statuses:?}"
    );
    service.stop();
}

#[test]
fn what_is_no_message_is_said_so_and_harms_nobody() {
    let (home, model) = (Home::new(), ModelServer::start(a_sleep("2.7")));
    let service = Service::start(&home, &model, &[]);
    let client = service.visitor(ANA, NEWEST_SESSION, json!({}));
    let session = format!(
        "Mcp-Session-Id: {}",
        client.session.as_deref().expect("one")
    );
    for (body, code) in [
        (&b"{bad"[..], -32700),
        (b"", -32700),
        (b"\xff\xfe", -32700),
        (b"[]", -32600),
        (br#"{"jsonrpc":"2.0","id":1}"#, -32600),
        (
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}"#,
            -32602,
        ),
    ] {
        let refused = service.post(ANA, &[&session], body);
        assert_eq!(refused.status, 400);
        let answer: Value = serde_json::from_str(&refused.body()).expect("JSON");
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert_eq!(answer["jsonrpc"], "2.0");
    }
    let large = vec![b' '; (4 << 20) + 1];
    assert_eq!(service.post(ANA, &[&session], &large).status, 413);
    assert_eq!(
        service
            .post(
                ANA,
                &["Mcp-Session-Id: nobody-s"],
                br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#
            )
            .status,
        404
    );
    // One id belongs to one request.
    let call = br#"{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"name":"openoxide","arguments":{"prompt":"Sleep."}}}"#;
    let first = service.post(ANA, &[&session], call);
    home.until_running("sleep 2.7");
    let twice = service.post(
        ANA,
        &[&session],
        br#"{"jsonrpc":"2.0","id":77,"method":"tools/list"}"#,
    );
    assert_eq!(twice.status, 400);
    assert_eq!(word(&first.result(), "content"), "I slept.");
    let after = service.post(
        ANA,
        &[&session],
        br#"{"jsonrpc":"2.0","id":77,"method":"tools/list"}"#,
    );
    assert_eq!(after.result()["tools"].as_array().map(Vec::len), Some(3));
    service.stop();
}

#[test]
fn the_id_of_a_request_that_was_refused_is_free_again() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let service = Service::start(&home, &model, &[]);
    let client = service.visitor(ANA, NEWEST_SESSION, json!({}));
    let session = client.session.as_deref().expect("one");
    let session = format!("Mcp-Session-Id: {session}");
    let (host, token) = (
        format!("Host: {}", service.address),
        format!("Authorization: Bearer {ANA}"),
    );
    let body = br#"{"jsonrpc":"2.0","id":77,"method":"tools/list"}"#;
    // It takes no stream, which rmcp refuses.
    let lines = [
        "POST /mcp HTTP/1.1",
        &host,
        &token,
        "Accept: application/json",
        "Content-Type: application/json",
        &session,
    ];
    assert_eq!(service.exchange(&lines, Some(body)).status, 406);
    let again = service.post(ANA, &[&session], body).result();
    assert_eq!(again["tools"].as_array().map(Vec::len), Some(3));
    service.stop();
}

#[test]
fn a_session_is_told_of_new_threads_on_its_own_stream() {
    let (home, model) = (Home::new(), ModelServer::start(a_file()));
    let service = Service::start(&home, &model, &[]);
    let client = service.visitor(ANA, NEWEST_SESSION, json!({}));
    let mut stream = client.listen();
    assert_eq!(stream.status, 200);
    client
        .call("openoxide", json!({"prompt": "Make it."}))
        .result();
    stream.until(|message| message["method"] == "notifications/resources/list_changed");
    service.stop();
}

#[test]
fn who_asks_again_follows_the_turn_that_is_there() {
    let (home, model) = (
        Home::new(),
        ModelServer::start(vec![Reply::text("Slow.").delayed(Duration::from_secs(4))]),
    );
    let service = Service::start(&home, &model, &[]);
    let arguments = json!({"prompt": "Think.", "wait_seconds": 0});
    let running = service.caller(ANA).call("openoxide", arguments).result();
    assert_eq!(outcome(&running)["status"], "running");
    let again = service
        .caller(ANA)
        .call("openoxide", json!({"prompt": "Think.", "wait_seconds": 0}))
        .result();
    assert_eq!(word(&again, "thread_id"), word(&running, "thread_id"));
    assert_eq!(home.threads().len(), 1);
    let done = service
        .caller(ANA)
        .call("openoxide-reply", json!({"thread_id": "last"}));
    done.patience(PATIENCE);
    assert_eq!(word(&done.result(), "content"), "Slow.");
    std::thread::sleep(A_MOMENT);
    assert_eq!(last_outcome(&home).expect("an end")["status"], "completed");
    service.stop();
}

const LOG: &str = "notifications/message";

#[test]
fn a_request_that_asks_for_logging_hears_it_on_its_own_stream() {
    let (home, model) = (Home::new(), ModelServer::start(a_file()));
    let service = Service::start(&home, &model, &[]);
    let client = service.visitor(ANA, MODERN, json!({}));
    let mut call = client.begin(
        "tools/call",
        json!({
            "name": "openoxide", "arguments": {"prompt": "Make it."},
            "_meta": {"io.modelcontextprotocol/logLevel": "info"},
        }),
    );
    let mut kinds = Vec::new();
    let answer = loop {
        let message = call.event().expect("an answer");
        if message.get("method").is_none() {
            break message;
        }
        assert_eq!(message["method"], LOG, "{message}");
        let kind = message["params"]["data"]["type"].as_str();
        kinds.push(kind.expect("a type").to_owned());
    };
    assert_eq!(outcome(&answer["result"])["status"], "completed");
    let ends = (kinds.first(), kinds.last());
    let [first, last] = ["thread.started", "turn.completed"].map(str::to_owned);
    assert_eq!(ends, (Some(&first), Some(&last)), "{kinds:?}");
    service.stop();
}

#[test]
fn a_session_that_asks_for_logging_hears_of_its_own_turns_only() {
    let script = [a_file(), a_file(), a_file()].concat();
    let (home, model) = (Home::new(), ModelServer::start(script));
    let service = Service::start(&home, &model, &[]);
    let [asks, does_not] = [(); 2].map(|()| service.visitor(ANA, NEWEST_SESSION, json!({})));
    asks.begin("logging/setLevel", json!({"level": "info"}))
        .result();
    let mut stream = asks.listen();
    let other = does_not.call("openoxide", json!({"prompt": "Make it."}));
    assert_eq!(outcome(&other.result())["status"], "completed");
    let own = asks.call("openoxide", json!({"prompt": "Make it here."}));
    let done = own.result();
    let first = stream.until(|message| message["method"] == LOG);
    let thread = word(&done, "thread_id");
    assert_eq!(first["params"]["_meta"]["threadId"], thread, "{first}");
    stream.until(|message| message["params"]["data"]["type"] == "turn.completed");
    stream.hang_up();
    // Nobody reads them now, and the call comes to its end all the same.
    let again = asks.call("openoxide", json!({"prompt": "Make it again."}));
    assert_eq!(outcome(&again.result())["status"], "completed");
    service.stop();
}
