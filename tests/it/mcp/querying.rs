//! `openoxide-query`: asking changes nothing, whoever tries.

use serde_json::{Value, json};

use super::{assert_well_asked, serve};
use crate::support::{
    client::{DIALECTS, NEWEST_SESSION, outcome, word},
    home::{Home, run},
    model_server::{ModelServer, Reply},
};

/// Three ways to change something, then an answer.
fn mischief() -> Vec<Reply> {
    let edits = json!([{"search": "one", "replace": "two"}]);
    vec![
        Reply::call("m1", "edit_file", json!({"path": "a.txt", "edits": edits}))
            .and_call(
                "m2",
                "write_file",
                json!({"path": "b.txt", "content": "new\n"}),
            )
            .and_call("m3", "shell", json!({"command": "echo new >c.txt"}))
            .and_call(
                "m4",
                "shell",
                json!({"command": "echo new >d.txt", "escalate": true, "reason": "please"}),
            ),
        Reply::text("a.txt says one."),
    ]
}

/// What the model was told of its calls in the last request, by call id.
fn outputs(model: &ModelServer) -> Vec<(String, String)> {
    let requests = model.requests();
    let last: &Value = &requests.last().expect("requests").body;
    let input = last["input"].as_array().expect("input").iter();
    input
        .filter(|item| item["type"] == "function_call_output")
        .map(|item| {
            (
                item["call_id"].as_str().unwrap_or_default().to_owned(),
                item["output"].to_string(),
            )
        })
        .collect()
}

fn assert_untouched(home: &Home) {
    assert_eq!(home.names(), ["a.txt"]);
    assert_eq!(home.read("a.txt"), "one\n");
}

#[test]
fn a_query_changes_nothing_whatever_the_model_tries() {
    for dialect in DIALECTS {
        let home = Home::new().file("a.txt", "one\n");
        let model = ModelServer::start(mischief());
        let mut client = serve(&home, &model, dialect);
        let result = client.call("openoxide-query", json!({"query": "What does a.txt say?"}));
        assert_eq!(outcome(&result)["status"], "completed", "{result}");
        assert_eq!(outcome(&result)["content"], "a.txt says one.");
        assert_eq!(outcome(&result)["sandbox"]["policy"], "read-only");
        assert!(outcome(&result).get("changes").is_none(), "{result}");
        // Where the kernel holds commands they are offered, and fail at writing.
        let ran = outcome(&result)["commands"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        assert!(
            ran.iter().all(|command| command["exit_code"] != 0),
            "{ran:?}"
        );
        assert_untouched(&home);
        // What is not offered in a query is refused, and on the list.
        let denied = outcome(&result)["denied"].as_array().expect("refusals");
        for name in ["edit `a.txt`", "edit `b.txt`"] {
            let of = denied
                .iter()
                .find(|denied| denied["summary"].to_string().contains(name));
            let reason =
                of.unwrap_or_else(|| panic!("no {name} in {denied:?}"))["reason"].to_string();
            assert!(reason.contains("`read-only`"), "{reason}");
        }
        // Each was answered with a no, and none was forgotten.
        let outputs = outputs(&model);
        assert_eq!(outputs.len(), 4, "{outputs:?}");
        assert_well_asked(&model);
        client.close();
        home.assert_deserted(&[]);
    }
}

#[test]
fn a_query_stays_read_only_whatever_the_caller_and_the_owner_say() {
    let home = Home::new().file("a.txt", "one\n");
    let model = ModelServer::start(mischief());
    let flags = [
        "mcp-server",
        "--allow-full-access",
        "--sandbox",
        "danger-full-access",
        "--approval-policy",
        "untrusted",
    ];
    let command = home.openoxide_with(&model, &flags);
    let mut client =
        crate::support::client::Client::able(command, NEWEST_SESSION, json!({"elicitation": {}}));
    for widening in ["sandbox", "approval_policy", "config"] {
        let value = match widening {
            "sandbox" => json!("danger-full-access"),
            "approval_policy" => json!("on-request"),
            _ => json!({"policy": {"sandbox": "danger-full-access"}}),
        };
        let refusal = client.refusal("openoxide-query", json!({"query": "x", widening: value}));
        assert!(refusal.contains(&format!("`{widening}`")), "{refusal}");
    }
    let result = client.call("openoxide-query", json!({"query": "x"}));
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    assert_untouched(&home);
    client.assert_never_heard("elicitation/create");
    // A query's thread stays what it is, also for a reply.
    let result = client.call(
        "openoxide-reply",
        json!({"thread_id": word(&result, "thread_id")}),
    );
    assert_eq!(outcome(&result)["sandbox"]["policy"], "read-only");
    client.close();
}

#[test]
fn a_reply_does_not_make_a_query_write() {
    let home = Home::new().file("a.txt", "one\n");
    let mut script = vec![Reply::text("It says one.")];
    script.extend(mischief());
    let model = ModelServer::start(script);
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let result = client.call("openoxide-query", json!({"query": "x"}));
    let result = client.call(
        "openoxide-reply",
        json!({"thread_id": word(&result, "thread_id"), "prompt": "Change it then."}),
    );
    assert_eq!(outcome(&result)["content"], "a.txt says one.", "{result}");
    assert_untouched(&home);
    assert_well_asked(&model);
    client.close();
}

#[test]
fn a_question_about_a_thread_is_answered_by_a_copy_of_it() {
    let home = Home::new().file("a.txt", "one\n");
    let first = ModelServer::start(vec![Reply::text("I chose one because of the moon.")]);
    run(home.openoxide_with(&first, &["-m", "Why one?"])).expect(0);
    let thread_id = home.threads().remove(0);
    let before = std::fs::read(home.rollout_file(&thread_id)).expect("a rollout");

    let second = ModelServer::start(mischief());
    let mut client = serve(&home, &second, NEWEST_SESSION);
    let result = client.call(
        "openoxide-query",
        json!({"query": "What moon?", "thread_id": thread_id}),
    );
    assert_eq!(outcome(&result)["content"], "a.txt says one.", "{result}");
    assert_ne!(word(&result, "thread_id"), thread_id);
    assert_untouched(&home);
    let asked = second.requests()[0].body.to_string();
    for known in ["Why one?", "because of the moon", "What moon?"] {
        assert!(asked.contains(known), "no {known:?} in {asked}");
    }
    let after = std::fs::read(home.rollout_file(&thread_id)).expect("a rollout");
    assert_eq!(before, after, "the thread that was asked about changed");
    assert_well_asked(&second);
    client.close();
}

#[test]
fn a_query_can_be_waited_for_later() {
    let home = Home::new();
    let late = std::time::Duration::from_millis(500);
    let model = ModelServer::start(vec![Reply::text("Late.").delayed(late)]);
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let result = client.call("openoxide-query", json!({"query": "x", "wait_seconds": 0}));
    assert_eq!(outcome(&result)["status"], "running", "{result}");
    let result = client.call(
        "openoxide-query",
        json!({"thread_id": word(&result, "thread_id")}),
    );
    assert_eq!(outcome(&result)["content"], "Late.", "{result}");
    assert_eq!(model.requests().len(), 1);
    client.close();
}
