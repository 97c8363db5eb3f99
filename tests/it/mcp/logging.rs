//! `notifications/message`: the events of a turn, for who asked and nobody else.

use serde_json::{Value, json};

use super::{assert_well_asked, shell};
use crate::support::{
    client::{Client, DIALECTS, Dialect, NEWEST_SESSION, outcome, word},
    home::Home,
    model_server::{ModelServer, Reply},
};

const LOG: &str = "notifications/message";

fn script() -> Vec<Reply> {
    vec![shell("c1", "echo one"), Reply::text("It is done.")]
}

/// A call that wants to hear from `level` on, as its generation says so, with progress.
fn begin(client: &mut Client, dialect: Dialect, level: Option<&str>) -> u64 {
    let mut params =
        json!({"name": "openoxide", "arguments": {"prompt": "x"}, "_meta": {"progressToken": "p"}});
    match (level, dialect.is_modern()) {
        (Some(level), true) => params["_meta"]["io.modelcontextprotocol/logLevel"] = json!(level),
        (Some(level), false) => {
            client.ask("logging/setLevel", json!({"level": level}));
        }
        (None, _) => {}
    }
    client.request("tools/call", params)
}

/// What was logged until now, in order.
fn logged(client: &Client) -> Vec<Value> {
    let heard = client.heard.iter().map(|(_, message)| message);
    let logged = heard.filter(|message| message["method"] == LOG);
    logged.map(|message| message["params"].clone()).collect()
}

fn kinds(logged: &[Value]) -> Vec<&str> {
    let kind = |params: &'_ Value| params["data"]["type"].as_str().map(str::len);
    assert!(
        logged.iter().all(|params| kind(params).is_some()),
        "{logged:?}"
    );
    let kinds = logged.iter().map(|params| &params["data"]["type"]);
    kinds.filter_map(Value::as_str).collect()
}

#[test]
fn who_asked_for_logging_hears_the_events_of_the_turn_and_nobody_else_does() {
    for dialect in DIALECTS {
        for level in [Some("info"), Some("debug"), Some("error"), None] {
            let (home, model) = (Home::new(), ModelServer::start(script()));
            let mut client = Client::start(home.openoxide_with(&model, &["mcp-server"]), dialect);
            if !client.greeting.is_null() {
                assert!(client.greeting["capabilities"]["logging"].is_object());
            }
            let id = begin(&mut client, dialect, level);
            let result = client.result(id);
            let logged = logged(&client);
            let about = format!("{dialect:?} {level:?}: {logged:?}");
            let kinds = kinds(&logged);
            if matches!(level, Some("error") | None) {
                assert!(kinds.is_empty(), "{about}");
                client.close();
                continue;
            }
            assert_eq!(kinds[..2], ["thread.started", "turn.started"], "{about}");
            assert_eq!(kinds.last(), Some(&"turn.completed"), "{about}");
            for kind in ["item.completed", "call.started"] {
                assert!(kinds.contains(&kind), "{about}");
            }
            assert_eq!(
                kinds.contains(&"text.delta"),
                level == Some("debug"),
                "{about}"
            );
            for params in &logged {
                assert_eq!(params["logger"], "openoxide");
                let expected = match params["data"]["type"].as_str() {
                    Some("text.delta" | "call.output") => "debug",
                    _ => "info",
                };
                assert_eq!(params["level"], expected, "{about}");
                assert_eq!(params["_meta"]["requestId"], id, "{about}");
                assert_eq!(params["_meta"]["threadId"], outcome(&result)["thread_id"]);
            }
            let last = &logged[logged.len() - 1]["data"]["outcome"];
            assert_eq!(last["turn_id"], word(&result, "turn_id"));
            assert_eq!(last["content"], "It is done.");
            assert_well_asked(&model);
            client.close();
        }
    }
}

#[test]
fn a_request_that_asked_is_told_and_the_next_that_did_not_is_not() {
    let script = [script(), script()].concat();
    let (home, model) = (Home::new(), ModelServer::start(script));
    let server = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::start(server, Dialect::Inline);
    let id = begin(&mut client, Dialect::Inline, Some("info"));
    client.result(id);
    let before = logged(&client).len();
    assert!(before > 0);
    let again = client.call("openoxide", json!({"prompt": "y"}));
    assert_eq!(outcome(&again)["status"], "completed", "{again}");
    assert_eq!(logged(&client).len(), before);
    client.close();
}

#[test]
fn a_level_that_there_is_not_is_refused_and_a_failed_turn_is_an_error() {
    let no = Reply::http(400, r#"{"error":{"message":"the model says no"}}"#);
    let (home, model) = (Home::new(), ModelServer::start(vec![no]));
    let server = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::start(server, NEWEST_SESSION);
    let id = client.request("logging/setLevel", json!({"level": "loud"}));
    assert_eq!(client.answer(id)["error"]["code"], -32602);
    let id = begin(&mut client, NEWEST_SESSION, Some("error"));
    client.result(id);
    let logged = logged(&client);
    assert_eq!(kinds(&logged), ["turn.completed"], "{logged:?}");
    assert_eq!(logged[0]["level"], "error");
    client.close();
}
