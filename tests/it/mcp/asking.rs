//! Approvals: who is asked, how an answer is understood, and that nobody is waited for in vain.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{assert_well_asked, serve};
use crate::support::{
    client::{Client, Dialect, NEWEST_SESSION, outcome, text, word},
    home::Home,
    model_server::{ModelServer, Reply},
};

const FORMS: &str = "elicitation/create";

/// An edit that a read-only sandbox does not let through unasked, and a last word.
fn wants_to_write() -> Vec<Reply> {
    vec![
        Reply::call(
            "w1",
            "write_file",
            json!({"path": "new.txt", "content": "hello\n"}),
        ),
        Reply::text("That is that."),
    ]
}

/// The task that goes with it.
fn carefully() -> Value {
    json!({"prompt": "Write new.txt.", "sandbox": "read-only", "approval_policy": "on-request"})
}

fn able(home: &Home, model: &ModelServer, dialect: Dialect, elicitation: Value) -> Client {
    let command = home.openoxide_with(model, &["mcp-server"]);
    Client::able(command, dialect, json!({"elicitation": elicitation}))
}

/// What should come of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Written,
    Denied,
    /// And the turn ends.
    Ended,
}

fn assert_came_to(then: Then, home: &Home, result: &Value, about: &str) {
    let done = outcome(result);
    let status = match then {
        Then::Ended => "interrupted",
        Then::Written | Then::Denied => "completed",
    };
    assert_eq!(done["status"], status, "{about}: {result}");
    let denied = &done["denied"];
    if then == Then::Written {
        assert_eq!(home.read("new.txt"), "hello\n", "{about}");
        assert!(denied.is_null(), "{about}: {result}");
    } else {
        assert_eq!(home.names(), [""; 0], "{about}");
        assert_eq!(denied[0]["summary"], "edit `new.txt`", "{about}: {result}");
        assert!(
            text(result).contains("denied: edit `new.txt`"),
            "{about}: {result}"
        );
    }
}

#[test]
fn every_session_client_that_declares_forms_is_asked() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        for elicitation in [
            json!({}),
            json!({"form": {}}),
            json!({"form": {}, "url": {}}),
        ] {
            let (home, model) = (Home::new(), ModelServer::start(wants_to_write()));
            let mut client = able(&home, &model, Dialect::Session(version), elicitation);
            let id = client.begin("openoxide", carefully());
            let question = client.asked(FORMS);
            let params = &question["params"];
            let message = params["message"].as_str().expect("a message");
            assert!(
                message.contains("new.txt") && message.contains("+hello"),
                "{message}"
            );
            let schema = &params["requestedSchema"];
            assert_eq!(schema["type"], "object");
            for property in schema["properties"].as_object().expect("flat").values() {
                assert_eq!(property["type"], "string", "{schema}");
            }
            assert_eq!(home.names(), [""; 0], "written before it was approved");
            let approve = json!({"action": "accept", "content": {"decision": "approve"}});
            client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": approve}));
            let result = client.result(id);
            assert_came_to(Then::Written, &home, &result, version);
            assert_well_asked(&model);
            client.close();
        }
    }
}

#[test]
fn every_answer_means_what_it_says() {
    let accept =
        |decision: &str| json!({"result": {"action": "accept", "content": {"decision": decision}}});
    let error = |code: i32| json!({"error": {"code": code, "message": "no"}});
    for (answer, then) in [
        (accept("approve"), Then::Written),
        (accept("approve_for_session"), Then::Written),
        (accept("deny"), Then::Denied),
        (accept("abort"), Then::Ended),
        (json!({"result": {"action": "accept"}}), Then::Written),
        (
            json!({"result": {"action": "accept", "content": {}}}),
            Then::Written,
        ),
        (json!({"result": {"action": "decline"}}), Then::Denied),
        (json!({"result": {"action": "cancel"}}), Then::Denied),
        (json!({"result": {"action": "whatever"}}), Then::Denied),
        (json!({"result": {}}), Then::Denied),
        // The peer that users come from.
        (json!({"result": {"decision": "approved"}}), Then::Written),
        (
            json!({"result": {"decision": "approved_for_session"}}),
            Then::Written,
        ),
        (json!({"result": {"decision": "denied"}}), Then::Denied),
        (json!({"result": {"decision": "abort"}}), Then::Ended),
        (
            json!({"result": {"decision": {"denied": {"rejection": "no"}}}}),
            Then::Denied,
        ),
        (json!({"result": {"decision": "allowed"}}), Then::Written),
        // Clients that cannot ask and say so in their own ways.
        (error(-32601), Then::Denied),
        (error(-32600), Then::Denied),
        (error(-32603), Then::Denied),
    ] {
        let (home, model) = (Home::new(), ModelServer::start(wants_to_write()));
        let mut client = able(&home, &model, NEWEST_SESSION, json!({}));
        let id = client.begin("openoxide", carefully());
        let question = client.asked(FORMS);
        let mut message = answer.clone();
        message["jsonrpc"] = json!("2.0");
        message["id"] = question["id"].clone();
        client.send(&message);
        let result = client.result(id);
        assert_came_to(then, &home, &result, &answer.to_string());
        assert_well_asked(&model);
        client.close();
    }
}

#[test]
fn a_word_that_comes_with_the_answer_reaches_the_model() {
    let (home, model) = (Home::new(), ModelServer::start(wants_to_write()));
    let mut client = able(&home, &model, NEWEST_SESSION, json!({}));
    let id = client.begin("openoxide", carefully());
    let question = client.asked(FORMS);
    let content = json!({"decision": "deny", "note": "use old.txt"});
    let decline = json!({"action": "accept", "content": content});
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": decline}));
    client.result(id);
    let told = model.requests()[1].body["input"].to_string();
    assert!(told.contains("use old.txt"), "{told}");
    client.close();
}

#[test]
fn silence_is_a_no_after_the_time_that_the_owner_set() {
    let home = Home::new().config("[limits]\napproval_seconds = 0.5\n");
    let mut script = wants_to_write();
    script[1] = script[1].clone().delayed(Duration::from_secs(1));
    let model = ModelServer::start(script);
    let mut client = able(&home, &model, NEWEST_SESSION, json!({}));
    let began = Instant::now();
    let id = client.begin("openoxide", carefully());
    let question = client.asked(FORMS);
    // The form is taken away as soon as it is of no use, not only when the turn ends.
    client.until("the form is taken away", |message| {
        message["method"] == "notifications/cancelled"
            && message["params"]["requestId"] == question["id"]
    });
    assert!(!client.is_answered(id), "{:?}", client.heard);
    let result = client.result(id);
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert_came_to(Then::Denied, &home, &result, "silence");
    let reason = outcome(&result)["denied"][0]["reason"].to_string();
    assert!(reason.contains("nobody"), "{reason}");
    // An answer that comes too late does no harm.
    let approve = json!({"action": "accept", "content": {"decision": "approve"}});
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": approve}));
    client.lives();
    assert_eq!(home.names(), [""; 0]);
    assert_well_asked(&model);
    client.close();
}

#[test]
fn who_cannot_be_asked_is_not_and_hears_at_once_what_was_denied() {
    for (dialect, capabilities) in [
        (Dialect::Session("2024-11-05"), json!({})),
        (Dialect::Session("2025-06-18"), json!({})),
        (NEWEST_SESSION, json!({})),
        (NEWEST_SESSION, json!({"elicitation": {"url": {}}})),
        (Dialect::Inline, json!({})),
        (Dialect::Discovered, json!({"elicitation": {"url": {}}})),
    ] {
        let (home, model) = (Home::new(), ModelServer::start(wants_to_write()));
        let command = home.openoxide_with(&model, &["mcp-server"]);
        let mut client = Client::able(command, dialect, capabilities.clone());
        let result = client.call("openoxide", carefully());
        assert_came_to(
            Then::Denied,
            &home,
            &result,
            &format!("{dialect:?} {capabilities}"),
        );
        client.assert_never_heard(FORMS);
        assert_well_asked(&model);
        client.close();
    }
}

#[test]
fn a_command_leaves_the_sandbox_only_when_somebody_says_so() {
    for (answer, runs) in [("approve", true), ("deny", false)] {
        let arguments =
            json!({"command": "echo out >out.txt", "escalate": true, "reason": "to be free"});
        let script = vec![
            Reply::call("e1", "shell", arguments),
            Reply::text("That is that."),
        ];
        let (home, model) = (Home::new(), ModelServer::start(script));
        let mut client = able(&home, &model, NEWEST_SESSION, json!({}));
        let id = client.begin("openoxide", json!({"prompt": "x"}));
        let question = client.asked(FORMS);
        let message = question["params"]["message"].as_str().expect("a message");
        for said in ["echo out >out.txt", "outside the sandbox", "to be free"] {
            assert!(message.contains(said), "no {said:?} in {message}");
        }
        let content = json!({"decision": answer});
        client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": content}}));
        let result = client.result(id);
        assert_eq!(outcome(&result)["status"], "completed", "{result}");
        assert_eq!(home.has("out.txt"), runs);
        assert_eq!(outcome(&result).get("denied").is_none(), runs, "{result}");
        assert_eq!(outcome(&result).get("commands").is_some(), runs, "{result}");
        assert_well_asked(&model);
        client.close();
    }
}

#[test]
fn an_approval_for_the_session_covers_the_same_thing_again() {
    let write = |call: &str, content: &str| {
        Reply::call(
            call,
            "write_file",
            json!({"path": "new.txt", "content": content}),
        )
    };
    let script = vec![
        write("w1", "one\n"),
        write("w2", "two\n"),
        Reply::text("That is that."),
    ];
    for (decision, questions) in [("approve_for_session", 1), ("approve", 2)] {
        let (home, model) = (Home::new(), ModelServer::start(script.clone()));
        let mut client = able(&home, &model, NEWEST_SESSION, json!({}));
        let id = client.begin("openoxide", carefully());
        for _ in 0..questions {
            let question = client.asked(FORMS);
            let content = json!({"decision": decision});
            client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": content}}));
        }
        let result = client.result(id);
        assert_eq!(home.read("new.txt"), "two\n", "{result}");
        client.assert_never_heard(FORMS);
        client.close();
    }
}

#[test]
fn a_call_that_is_cancelled_while_it_asks_takes_its_question_away() {
    let (home, model) = (Home::new(), ModelServer::start(wants_to_write()));
    let mut client = able(&home, &model, NEWEST_SESSION, json!({}));
    let id = client.begin("openoxide", carefully());
    let question = client.asked(FORMS);
    client.cancel(id, None);
    client.until("the form is taken away", |message| {
        message["method"] == "notifications/cancelled"
            && message["params"]["requestId"] == question["id"]
    });
    let approve = json!({"action": "accept", "content": {"decision": "approve"}});
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": approve}));
    let result = client.call(
        "openoxide-reply",
        json!({"thread_id": "last", "prompt": "Leave it."}),
    );
    assert_eq!(outcome(&result)["content"], "That is that.", "{result}");
    assert_eq!(home.names(), [""; 0]);
    assert_well_asked(&model);
    client.close();
}

#[test]
fn the_calling_model_cannot_approve_for_a_person() {
    let (home, model) = (Home::new(), ModelServer::start(wants_to_write()));
    let mut client = able(&home, &model, NEWEST_SESSION, json!({}));
    let id = client.begin("openoxide", carefully());
    let question = client.asked(FORMS);
    let thread_id = home.threads().remove(0);
    for decision in ["approve", "approve_for_session"] {
        let refusal = client.refusal(
            "openoxide-reply",
            json!({"thread_id": thread_id, "decision": {"decision": decision}}),
        );
        assert!(refusal.contains("`decision`"), "{refusal}");
    }
    assert_eq!(home.names(), [""; 0]);
    let result = client.call(
        "openoxide-reply",
        json!({"thread_id": thread_id, "decision": {"decision": "deny"}}),
    );
    assert_came_to(Then::Denied, &home, &result, "deny by the caller");
    assert_eq!(word(&client.result(id), "thread_id"), thread_id);
    drop(question);
    client.close();
}

#[test]
fn without_anybody_to_ask_the_same_server_serves_others_meanwhile() {
    let (home, model) = (Home::new(), ModelServer::start(wants_to_write()));
    let mut client = able(&home, &model, NEWEST_SESSION, json!({}));
    let id = client.begin("openoxide", carefully());
    let question = client.asked(FORMS);
    client.lives();
    let other = client.call("openoxide", json!({"prompt": "Write it here."}));
    assert_eq!(outcome(&other)["status"], "completed", "{other}");
    let decline = json!({"action": "decline"});
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": decline}));
    assert!(outcome(&client.result(id))["denied"].is_array());
    client.close();
    drop(serve(&home, &model, NEWEST_SESSION));
}
