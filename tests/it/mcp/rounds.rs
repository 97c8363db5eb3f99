//! Questions as results (2026-07-28): the call ends with what is asked, and comes again with the answers.

use std::time::Duration;

use serde_json::{Value, json};

use super::assert_well_asked;
use crate::support::{
    client::{Client, Dialect, outcome, word},
    home::Home,
    model_server::{ModelServer, Reply},
};

fn writes(count: usize) -> Vec<Reply> {
    let mut script: Vec<Reply> = (0..count)
        .map(|n| {
            let path = format!("{n}.txt");
            Reply::call(
                &format!("w{n}"),
                "write_file",
                json!({"path": path, "content": "hello\n"}),
            )
        })
        .collect();
    script.push(Reply::text("That is that."));
    script
}

fn task() -> Value {
    json!({"prompt": "Write.", "sandbox": "read-only", "approval_policy": "on-request"})
}

fn able(home: &Home, model: &ModelServer, flags: &[&str]) -> Client {
    let server = home.openoxide_with(model, &[&["mcp-server"], flags].concat());
    Client::able(
        server,
        Dialect::Inline,
        json!({"elicitation": {"form": {}}}),
    )
}

/// The question that a result asks, by its key.
fn question(result: &Value) -> (String, Value) {
    assert_eq!(result["resultType"], "input_required", "{result}");
    let requests = result["inputRequests"].as_object().expect("requests");
    assert_eq!(requests.len(), 1, "{result}");
    let (key, request) = requests.iter().next().expect("one");
    (key.clone(), request.clone())
}

/// The call again, with what came and with these answers.
fn again(client: &mut Client, arguments: &Value, result: &Value, responses: Value) -> Value {
    let id = begin_again(client, arguments, result, responses);
    client.result(id)
}

fn begin_again(client: &mut Client, arguments: &Value, result: &Value, responses: Value) -> u64 {
    client.request(
        "tools/call",
        json!({
            "name": "openoxide", "arguments": arguments,
            "requestState": result["requestState"], "inputResponses": responses,
        }),
    )
}

fn accept(decision: &str) -> Value {
    json!({"action": "accept", "content": {"decision": decision}})
}

#[test]
fn a_call_ends_with_its_question_and_comes_again_with_the_answer() {
    for (response, written, status) in [
        (accept("approve"), true, "completed"),
        (accept("approve_for_session"), true, "completed"),
        (json!({"action": "accept"}), true, "completed"),
        (json!({"decision": "approved"}), true, "completed"),
        (accept("deny"), false, "completed"),
        (accept("abort"), false, "interrupted"),
        (json!({"action": "decline"}), false, "completed"),
        (json!({"action": "cancel"}), false, "completed"),
        (json!({}), false, "completed"),
        (json!(null), false, "completed"),
    ] {
        let (home, model) = (Home::new(), ModelServer::start(writes(1)));
        let mut client = able(&home, &model, &[]);
        let asked = client.call("openoxide", task());
        let (key, request) = question(&asked);
        assert_eq!(request["method"], "elicitation/create");
        assert_eq!(request["params"]["mode"], "form");
        let message = request["params"]["message"].as_str().expect("a message");
        assert!(
            message.contains("0.txt") && message.contains("+hello"),
            "{message}"
        );
        assert_eq!(home.names(), [""; 0]);
        // Answers to nothing that was asked are nobody's.
        let responses = json!({&key: response.clone(), "nonsense": accept("approve")});
        let done = again(&mut client, &task(), &asked, responses);
        assert_eq!(outcome(&done)["status"], status, "{response}: {done}");
        assert_eq!(home.names().is_empty(), !written, "{response}");
        assert_eq!(
            outcome(&done)["denied"].is_array(),
            !written,
            "{response}: {done}"
        );
        // The same turn: nothing was begun anew.
        assert_eq!(home.threads(), [word(&done, "thread_id")]);
        let last_word = usize::from(status == "completed");
        assert_eq!(model.requests().len(), 1 + last_word, "{response}");
        client.assert_never_heard("elicitation/create");
        assert_well_asked(&model);
        client.close();
    }
}

#[test]
fn the_answer_finds_its_turn_after_a_restart_of_the_server() {
    for response in [accept("approve"), json!({"action": "decline"})] {
        let (home, model) = (Home::new(), ModelServer::start(writes(1)));
        let mut client = able(&home, &model, &[]);
        let asked = client.call("openoxide", task());
        let (key, _) = question(&asked);
        client.close();
        let mut client = able(&home, &model, &[]);
        let done = again(&mut client, &task(), &asked, json!({key: response.clone()}));
        assert_eq!(outcome(&done)["status"], "completed", "{done}");
        let approved = response["content"].is_object();
        assert_eq!(home.names().is_empty(), !approved);
        assert_eq!((home.threads().len(), model.requests().len()), (1, 2));
        // Once more: what there is, and nothing again.
        let late = again(&mut client, &task(), &asked, json!({}));
        assert_eq!(outcome(&late)["status"], "completed", "{late}");
        assert_eq!(model.requests().len(), 2);
        assert_well_asked(&model);
        client.close();
    }
}

#[test]
fn a_state_that_is_not_ours_is_refused_and_starts_nothing() {
    let home = Home::new().config("[limits]\napproval_seconds = 1\npark_seconds = 1\n");
    let model = ModelServer::start(writes(1));
    let mut client = able(&home, &model, &[]);
    let asked = client.call("openoxide", task());
    let (key, _) = question(&asked);
    let yes = json!({key: accept("approve")});
    let sealed = asked["requestState"].as_str().expect("a state").to_owned();
    let mut forged = sealed.clone().into_bytes();
    forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("still text");
    let mut other = task();
    other["prompt"] = json!("Something else.");
    let refused = |client: &mut Client, arguments: &Value, state: &str| {
        let id = begin_again(
            client,
            arguments,
            &json!({"requestState": state}),
            yes.clone(),
        );
        let answer = client.answer(id);
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    };
    refused(&mut client, &task(), &forged);
    refused(&mut client, &task(), "");
    refused(&mut client, &task(), "rs1.nonsense.nonsense");
    refused(&mut client, &other, &sealed);
    std::thread::sleep(Duration::from_millis(1100));
    refused(&mut client, &task(), &sealed);
    assert_eq!(home.names(), [""; 0]);
    assert_eq!((home.threads().len(), model.requests().len()), (1, 1));
    client.close();
}

#[test]
fn a_question_without_an_answer_is_asked_again_and_not_for_ever() {
    for strategy in ["auto-within-policy", "return-to-caller"] {
        let (home, model) = (Home::new(), ModelServer::start(writes(1)));
        let mut client = able(&home, &model, &["--when-unattended", strategy]);
        let mut result = client.call("openoxide", task());
        let (first, _) = question(&result);
        let mut rounds = 1;
        while result["resultType"] == "input_required" {
            assert_eq!(question(&result).0, first);
            assert!(rounds < 20, "it goes on and on");
            result = again(&mut client, &task(), &result, json!({}));
            rounds += 1;
        }
        // Eight rounds, and a result.
        assert_eq!(rounds, 9, "{result}");
        assert_eq!(outcome(&result)["status"], "approval_required", "{result}");
        assert_eq!(outcome(&result)["approvals"][0]["id"], first);
        // It is not lost: a reply is asked anew.
        let reply = json!({"thread_id": word(&result, "thread_id")});
        let asked = client.call("openoxide-reply", reply.clone());
        assert_eq!(question(&asked).0, first);
        let id = client.request(
            "tools/call",
            json!({
                "name": "openoxide-reply", "arguments": reply,
                "requestState": asked["requestState"], "inputResponses": {&first: accept("approve")},
            }),
        );
        let done = client.result(id);
        assert_eq!(outcome(&done)["status"], "completed", "{done}");
        assert_eq!(home.names(), ["0.txt"]);
        assert_eq!(model.requests().len(), 2);
        client.close();
    }
}

#[test]
fn each_question_of_a_turn_has_its_round() {
    let (home, model) = (Home::new(), ModelServer::start(writes(3)));
    let mut client = able(&home, &model, &[]);
    let mut result = client.call("openoxide", task());
    for n in 0..3 {
        let (key, request) = question(&result);
        assert!(
            request["params"]["message"]
                .to_string()
                .contains(&format!("{n}.txt"))
        );
        result = again(
            &mut client,
            &task(),
            &result,
            json!({key: accept("approve")}),
        );
    }
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    assert_eq!(home.names(), ["0.txt", "1.txt", "2.txt"]);
    assert_well_asked(&model);
    client.close();
}

#[test]
fn who_leaves_the_question_hears_what_the_owner_wants() {
    for (strategy, status) in [
        ("auto-within-policy", "completed"),
        ("deny", "completed"),
        ("return-to-caller", "approval_required"),
    ] {
        let (home, model) = (Home::new(), ModelServer::start(writes(1)));
        let mut client = able(&home, &model, &["--when-unattended", strategy]);
        let asked = client.call("openoxide", task());
        let (key, _) = question(&asked);
        let cancel = json!({key: {"action": "cancel"}});
        let result = again(&mut client, &task(), &asked, cancel);
        assert_eq!(outcome(&result)["status"], status, "{strategy}: {result}");
        let listed = match status {
            "completed" => "denied",
            _ => "approvals",
        };
        assert!(outcome(&result)[listed].is_array(), "{strategy}: {result}");
        assert_eq!(home.names(), [""; 0]);
        client.close();
    }
}

#[test]
fn asking_anew_follows_the_question_that_is_open() {
    let (home, model) = (Home::new(), ModelServer::start(writes(1)));
    let mut client = able(&home, &model, &[]);
    let first = client.call("openoxide", task());
    let second = client.call("openoxide", task());
    assert_eq!(question(&first).0, question(&second).0);
    assert_eq!((home.threads().len(), model.requests().len()), (1, 1));
    client.close();
}
