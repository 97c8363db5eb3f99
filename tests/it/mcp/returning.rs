//! `return-to-caller`: a question that nobody can answer goes back to the caller, who comes back with the answer, to
//! this server or to the next.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{assert_well_asked, has_record};
use crate::support::{
    client::{Client, DIALECTS, Dialect, NEWEST_SESSION, outcome, text, word},
    home::{Home, run},
    model_server::{ModelServer, Reply},
};

/// A command that can be counted and is asked about, and a last word.
fn asks() -> Vec<Reply> {
    let arguments =
        json!({"command": "echo ran >>log.txt", "escalate": true, "reason": "to be free"});
    vec![
        Reply::call("e1", "shell", arguments),
        Reply::text("That is that."),
    ]
}

fn returning(home: &Home, model: &ModelServer, dialect: Dialect) -> Client {
    let flags = ["mcp-server", "--when-unattended", "return-to-caller"];
    Client::start(home.openoxide_with(model, &flags), dialect)
}

fn runs(home: &Home) -> usize {
    match home.has("log.txt") {
        true => home.read("log.txt").lines().count(),
        false => 0,
    }
}

/// The arguments that answer the question of `result`.
fn decide(result: &Value, decision: &str) -> Value {
    let id = outcome(result)["approvals"][0]["id"].clone();
    json!({
        "thread_id": word(result, "thread_id"),
        "decision": {"approval_id": id, "decision": decision},
    })
}

#[test]
fn a_caller_is_told_what_is_asked_and_approves_it_once() {
    for dialect in DIALECTS {
        let (home, model) = (Home::new(), ModelServer::start(asks()));
        let mut client = returning(&home, &model, dialect);
        let waits = client.call("openoxide", json!({"prompt": "x"}));
        let told = outcome(&waits);
        assert_eq!(told["status"], "approval_required", "{waits}");
        assert_ne!(waits["isError"], true);
        let approval = &told["approvals"][0];
        assert_eq!(approval["kind"], "command", "{waits}");
        assert_eq!(approval["summary"], "run `echo ran >>log.txt`");
        assert_eq!(approval["detail"]["reason"], "to be free");
        assert!(
            approval["detail"]["place"]
                .to_string()
                .contains("outside the sandbox")
        );
        let next = word(&waits, "next");
        let id = approval["id"].as_str().expect("an id");
        for said in [
            "status: approval_required",
            id,
            "echo ran >>log.txt",
            "openoxide-reply",
        ] {
            assert!(text(&waits).contains(said), "no {said:?} in {waits}");
        }
        assert!(
            next.contains("openoxide-reply") && next.contains("approve"),
            "{next}"
        );
        assert_eq!(runs(&home), 0);
        let done = client.call("openoxide-reply", decide(&waits, "approve"));
        assert_eq!(outcome(&done)["status"], "completed", "{done}");
        assert_eq!(outcome(&done)["turn_id"], told["turn_id"]);
        assert!(outcome(&done).get("approvals").is_none(), "{done}");
        assert_eq!(runs(&home), 1);
        // A second time it is no answer to anything.
        let refusal = client.refusal("openoxide-reply", decide(&waits, "approve"));
        assert!(refusal.contains("not open"), "{refusal}");
        assert_eq!((runs(&home), model.requests().len()), (1, 2));
        assert_well_asked(&model);
        client.close();
    }
}

#[test]
fn every_decision_of_a_caller_means_what_it_says() {
    for (decision, status, expected) in [
        (json!({"decision": "approve"}), Some("completed"), 1),
        (
            json!({"decision": "deny", "note": "use tea"}),
            Some("completed"),
            0,
        ),
        (json!({"decision": "abort"}), Some("interrupted"), 0),
        (json!({"decision": "approve_for_session"}), None, 0),
        (json!({"decision": "perhaps"}), None, 0),
    ] {
        let (home, model) = (Home::new(), ModelServer::start(asks()));
        let mut client = returning(&home, &model, NEWEST_SESSION);
        client.call("openoxide", json!({"prompt": "x"}));
        let arguments = json!({"thread_id": "last", "decision": decision});
        match status {
            Some(status) => {
                let done = client.call("openoxide-reply", arguments);
                assert_eq!(outcome(&done)["status"], status, "{decision}: {done}");
            }
            None => {
                let refusal = client.refusal("openoxide-reply", arguments);
                assert!(refusal.contains("decision"), "{refusal}");
                let again = client.call("openoxide-reply", json!({"thread_id": "last"}));
                assert_eq!(outcome(&again)["status"], "approval_required", "{again}");
            }
        }
        if decision["note"].is_string() {
            let input = model.requests()[1].body["input"].to_string();
            assert!(
                input.contains("denied: the caller said no: use tea"),
                "{input}"
            );
        }
        assert_eq!(runs(&home), expected, "{decision}");
        assert_well_asked(&model);
        client.close();
    }
}

#[test]
fn an_answer_reaches_the_turn_also_when_its_server_is_gone() {
    for killed in [false, true] {
        for decision in ["approve", "deny", "abort"] {
            let (home, model) = (Home::new(), ModelServer::start(asks()));
            let mut client = returning(&home, &model, NEWEST_SESSION);
            let waits = client.call("openoxide", json!({"prompt": "x"}));
            if killed {
                client.signal(Signal::KILL);
                client.ends_within(Duration::from_secs(2));
            } else {
                client.close();
            }
            let shown = run(home.openoxide(&["threads", "list"])).expect(0);
            assert!(
                shown.stdout.contains("approval_required"),
                "{}",
                shown.stdout
            );
            let shown = run(home.openoxide(&["threads", "show", &home.threads()[0]])).expect(0);
            let took = shown.stdout.contains("usage: 1 requests");
            assert!(took || killed, "{}", shown.stdout);
            let mut next = returning(&home, &model, Dialect::Inline);
            let done = next.call("openoxide-reply", decide(&waits, decision));
            let status = match decision {
                "abort" => "interrupted",
                _ => "completed",
            };
            assert_eq!(outcome(&done)["status"], status, "{decision}: {done}");
            assert_eq!(outcome(&done)["turn_id"], outcome(&waits)["turn_id"]);
            assert_eq!(runs(&home), usize::from(decision == "approve"));
            assert_well_asked(&model);
            next.close();
        }
    }
}

#[test]
fn only_the_owner_lets_callers_approve() {
    for flags in [
        &["mcp-server"][..],
        &["mcp-server", "--when-unattended", "deny"],
    ] {
        let (home, model) = (Home::new(), ModelServer::start(asks()));
        let mut client = returning(&home, &model, NEWEST_SESSION);
        let waits = client.call("openoxide", json!({"prompt": "x"}));
        client.close();
        let mut other = Client::start(home.openoxide_with(&model, flags), NEWEST_SESSION);
        let refusal = other.refusal("openoxide-reply", decide(&waits, "approve"));
        assert!(refusal.contains("a person"), "{refusal}");
        let done = other.call("openoxide-reply", decide(&waits, "deny"));
        assert_eq!(outcome(&done)["status"], "completed", "{done}");
        assert_eq!(runs(&home), 0);
        other.close();
    }
}

#[test]
fn a_turn_that_nobody_comes_back_to_is_kept_and_goes_on() {
    let home = Home::new().config("[limits]\npark_seconds = 0.3\n");
    let model = ModelServer::start(asks());
    let mut client = returning(&home, &model, NEWEST_SESSION);
    let waits = client.call("openoxide", json!({"prompt": "x"}));
    let thread = word(&waits, "thread_id");
    crate::support::home::eventually("it is let go of", || {
        has_record(&home, &thread, "turn_suspended")
    });
    // Without an answer it is asked again, with one it goes on.
    let again = client.call("openoxide-reply", json!({"thread_id": thread}));
    assert_eq!(outcome(&again)["approvals"], outcome(&waits)["approvals"]);
    let done = client.call("openoxide-reply", decide(&waits, "approve"));
    assert_eq!(outcome(&done)["status"], "completed", "{done}");
    assert_eq!((runs(&home), model.requests().len()), (1, 2));
    assert_well_asked(&model);
    client.close();
}

#[test]
fn a_person_who_is_asked_is_not_overtaken_by_the_caller() {
    let (home, model) = (Home::new(), ModelServer::start(asks()));
    let flags = ["mcp-server", "--when-unattended", "return-to-caller"];
    let server = home.openoxide_with(&model, &flags);
    let mut client = Client::able(server, NEWEST_SESSION, json!({"elicitation": {}}));
    let call = client.begin("openoxide", json!({"prompt": "x"}));
    let question = client.asked("elicitation/create");
    let approve = json!({"thread_id": "last", "decision": {"decision": "approve"}});
    let refusal = client.refusal("openoxide-reply", approve.clone());
    assert!(refusal.contains("a person is being asked"), "{refusal}");
    // They leave it; then it is the caller's.
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "cancel"}}));
    let waits = client.result(call);
    assert_eq!(outcome(&waits)["status"], "approval_required", "{waits}");
    let done = client.call("openoxide-reply", approve);
    assert_eq!(outcome(&done)["status"], "completed", "{done}");
    assert_eq!(runs(&home), 1);
    client.close();
}

#[test]
fn a_command_line_that_may_not_decide_ends_with_4_and_goes_on_when_resumed() {
    let (home, model) = (Home::new(), ModelServer::start(asks()));
    let keeps = "policy.when_unattended=return-to-caller";
    let flags = ["-m", "x", "-c", keeps, "--output", "json"];
    let ran = run(home.openoxide_with(&model, &flags)).expect(4);
    let told = ran.json();
    assert_eq!(told["status"], "approval_required", "{told}");
    assert_eq!(told["approvals"][0]["summary"], "run `echo ran >>log.txt`");
    let thread = told["thread_id"].as_str().expect("an id").to_owned();
    assert!(told["next"].as_str().expect("a way on").contains(&thread));
    // Nobody to ask: as before. With another strategy it goes on without the command.
    let again = run(home.openoxide_with(&model, &["--resume", &thread, "-c", keeps])).expect(4);
    again.assert_says("echo ran");
    let done = run(home.openoxide_with(&model, &["--resume", &thread])).expect(0);
    assert_eq!(done.stdout, "That is that.\n");
    assert_eq!((runs(&home), model.requests().len()), (0, 2));
    assert_well_asked(&model);
}
