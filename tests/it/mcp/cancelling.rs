//! A client that does not want an answer any more.

use std::time::Duration;

use serde_json::json;

use super::{assert_well_asked, patient, serve, shell};
use crate::support::{
    client::{Client, DIALECTS, Dialect, NEWEST_SESSION, outcome, text, word},
    home::{Home, eventually},
    model_server::{ModelServer, Reply},
};

/// A command that would outlast any test, with a child of its own.
const LONG: &str = "sh -c 'sleep 300 & wait'; true";

/// Begins a turn that runs [`LONG`], and waits until it does. Nothing where processes cannot be seen.
fn at_work(home: &Home, client: &mut Client) -> Option<u64> {
    let id = client.begin("openoxide", json!({"prompt": "Take your time."}));
    home.until_running("sleep 300").then_some(id)
}

#[test]
fn a_cancelled_call_is_interrupted_unanswered_and_can_be_gone_on_with() {
    for dialect in DIALECTS {
        for reason in [None, Some("the user pressed escape")] {
            let script = vec![shell("c1", LONG), Reply::text("I went on.")];
            let (home, model) = (Home::new(), ModelServer::start(script));
            let mut client = serve(&home, &model, dialect);
            let Some(id) = at_work(&home, &mut client) else {
                return;
            };
            client.cancel(id, reason);
            eventually("its processes are gone", || {
                home.processes()
                    .is_none_or(|all| !all.iter().any(|(_, line)| line.contains("sleep")))
            });
            let thread_id = home.threads().remove(0);
            eventually("the end is recorded", || {
                home.rollout(&thread_id)
                    .iter()
                    .any(|record| record["type"] == "turn_ended")
            });
            client.lives();
            assert!(!client.is_answered(id), "{:?}", client.heard);
            let result = client.call(
                "openoxide-reply",
                json!({"thread_id": thread_id, "prompt": "Go on."}),
            );
            assert_eq!(outcome(&result)["status"], "completed", "{result}");
            assert_eq!(outcome(&result)["content"], "I went on.");
            assert!(!client.is_answered(id));
            assert_well_asked(&model);
            client.close();
        }
    }
}

#[test]
fn a_call_whose_client_ran_out_of_time_goes_on_without_it() {
    for reason in [
        "request timed out",
        "MCP error -32001: Request timeout",
        "timed out after 5s",
    ] {
        let script = patient("It took a while.");
        let (home, model) = (Home::new(), ModelServer::start(script));
        let mut client = serve(&home, &model, NEWEST_SESSION);
        let id = client.begin("openoxide", json!({"prompt": "Take your time."}));
        home.until_it_has("began");
        client.cancel(id, Some(reason));
        client.lives();
        let home = home.file("enough", "");
        let result = client.call("openoxide-reply", json!({"thread_id": "last"}));
        assert_eq!(outcome(&result)["status"], "completed", "{result}");
        assert_eq!(outcome(&result)["content"], "It took a while.");
        assert_eq!(home.threads(), [word(&result, "thread_id")]);
        assert!(!client.is_answered(id));
        assert_well_asked(&model);
        client.close();
    }
}

#[test]
fn the_owner_decides_what_a_cancellation_does() {
    for (on_cancel, reason, expected) in [
        ("detach", None, "completed"),
        ("interrupt", Some("request timed out"), "interrupted"),
    ] {
        let script = patient("done");
        let home = Home::new().config(&format!("[server]\non_cancel = \"{on_cancel}\"\n"));
        let model = ModelServer::start(script);
        let mut client = serve(&home, &model, NEWEST_SESSION);
        let id = client.begin("openoxide", json!({"prompt": "x"}));
        home.until_it_has("began");
        client.cancel(id, reason);
        client.lives();
        let thread_id = home.threads().remove(0);
        let ended = |home: &Home| {
            let records = home.rollout(&thread_id);
            let end = records
                .into_iter()
                .find(|record| record["type"] == "turn_ended");
            end.map(|end| {
                end["outcome"]["status"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
        };
        let home = match expected {
            "completed" => home.file("enough", ""),
            _ => home,
        };
        eventually("it ended", || ended(&home).is_some());
        assert_eq!(ended(&home).as_deref(), Some(expected));
        client.close();
    }
}

#[test]
fn late_and_unknown_cancellations_are_ignored() {
    for dialect in [NEWEST_SESSION, Dialect::Inline] {
        let (home, model) = (
            Home::new(),
            ModelServer::start(vec![Reply::text("one"), Reply::text("two")]),
        );
        let mut client = serve(&home, &model, dialect);
        let id = client.begin("openoxide", json!({"prompt": "x"}));
        let result = client.result(id);
        client.cancel(id, None);
        client.cancel(4711, Some("who knows"));
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "none"}}));
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {}}));
        let result = client.call(
            "openoxide-reply",
            json!({"thread_id": word(&result, "thread_id"), "prompt": "y"}),
        );
        assert!(text(&result).starts_with("two"), "{result}");
        client.close();
    }
}

#[test]
fn a_cancelled_call_that_waits_in_the_queue_takes_its_prompt_back() {
    let script = vec![
        Reply::text("one"),
        shell(
            "c1",
            "touch began; until [ -e enough ]; do sleep 0.05; done",
        ),
        Reply::text("two"),
        Reply::text("three"),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let thread_id = word(
        &client.call("openoxide", json!({"prompt": "first"})),
        "thread_id",
    );
    let reply = |prompt: &str| json!({"thread_id": thread_id, "prompt": prompt});
    let running = client.begin("openoxide-reply", reply("second"));
    home.until_it_has("began");
    let queued = client.begin("openoxide-reply", reply("withdrawn"));
    // The prompt has to be in the queue before it can be taken back.
    client.lives();
    std::thread::sleep(Duration::from_millis(200));
    client.cancel(queued, None);
    client.lives();
    std::thread::sleep(Duration::from_millis(200));
    let home = home.file("enough", "");
    assert!(text(&client.result(running)).starts_with("two"));
    let result = client.call("openoxide-reply", reply("third"));
    assert_eq!(outcome(&result)["content"], "three", "{result}");
    let seen = model.requests();
    let last = seen.last().expect("requests").body.to_string();
    assert!(
        last.contains("third") && !last.contains("withdrawn"),
        "{last}"
    );
    assert!(
        !client
            .heard
            .iter()
            .any(|(_, message)| message["id"] == queued)
    );
    assert_well_asked(&model);
    client.close();
    drop(home);
}
