//! Calls over WebSocket: as on standard input/output, but that the end of a connection ends nobody's turn.

use serde_json::{Value, json};

use super::{a_file, a_sleep, until_ended};
use crate::support::{
    client::{outcome, word},
    home::Home,
    model_server::ModelServer,
    web::{ANA, Frame, Service, Wire},
};

fn hello(capabilities: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "it", "version": "1"}}})
}

fn initialized(wire: &mut Wire, capabilities: &Value) {
    assert_eq!(
        wire.ask(&hello(capabilities))["result"]["protocolVersion"],
        "2025-11-25"
    );
    wire.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
}

fn call(id: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "openoxide", "arguments": arguments}})
}

/// The same as a request of 2026-07-28, with these parameters besides.
fn modern(id: &str, arguments: &Value, more: &Value) -> Value {
    let mut call = call(id, arguments);
    if let (Value::Object(params), Value::Object(more)) = (&mut call["params"], more) {
        params.extend(more.clone());
    }
    call["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "it", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
    });
    call
}

#[test]
fn both_generations_are_asked_and_answered() {
    let arguments = json!({"prompt": "Make it.", "approval_policy": "untrusted"});
    let answer = json!({"action": "accept", "content": {"decision": "approve"}});
    for is_modern in [false, true] {
        let (home, model) = (Home::new(), ModelServer::start(a_file()));
        let service = Service::start(&home, &model, &[]);
        let mut wire = Wire::open(&service);
        let done = if is_modern {
            let asked = wire.ask(&modern("a", &arguments, &json!({})))["result"].clone();
            let key = asked["inputRequests"]
                .as_object()
                .expect("requests")
                .keys()
                .next()
                .expect("one")
                .clone();
            let round =
                json!({"requestState": asked["requestState"], "inputResponses": {key: answer}});
            wire.ask(&modern("b", &arguments, &round))
        } else {
            initialized(&mut wire, &json!({"elicitation": {}}));
            wire.send(&call("a", &arguments));
            let asked = wire.until(|message| message["method"] == "elicitation/create");
            wire.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": answer}));
            wire.until(|message| message["id"] == "a" && message.get("method").is_none())
        };
        assert_eq!(outcome(&done["result"])["status"], "completed", "{done}");
        assert_eq!(home.read("made.txt"), "hello\n");
        wire.hang_up();
        service.stop();
    }
}

#[test]
fn what_is_no_message_is_answered_and_the_connection_lives_on() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let service = Service::start(&home, &model, &[]);
    let mut wire = Wire::open(&service);
    for round in 0..2 {
        for (kind, payload, code) in [
            (1, &b"{bad"[..], -32700),
            (2, b"{}", -32700),
            (1, b"[]", -32600),
            (
                1,
                br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}"#,
                -32602,
            ),
        ] {
            wire.frame(kind, payload);
            let refused = wire.until(|message| message.get("error").is_some());
            assert_eq!(refused["error"]["code"], code, "round {round}: {refused}");
        }
        if round == 0 {
            initialized(&mut wire, &json!({}));
        }
    }
    let list = wire.ask(&json!({"jsonrpc": "2.0", "id": 9, "method": "tools/list"}));
    assert_eq!(list["result"]["tools"].as_array().map(Vec::len), Some(3));
    // Too large for one message: then there is no next one.
    wire.frame(1, &vec![b' '; (4 << 20) + 1]);
    let ended = loop {
        match wire.next() {
            Frame::Text(_) | Frame::Ping => {}
            ended => break ended,
        }
    };
    assert!(matches!(ended, Frame::Close | Frame::Gone));
    assert_eq!(
        Wire::try_open(&service, &[&format!("Authorization: Bearer {ANA}")]),
        101
    );
    service.stop();
}

#[test]
fn a_lost_connection_leaves_the_turn_at_work_and_a_cancelled_call_ends_it() {
    for (cancelled, status) in [(false, "completed"), (true, "interrupted")] {
        let (home, model) = (Home::new(), ModelServer::start(a_sleep("3.1")));
        let service = Service::start(&home, &model, &[]);
        let mut wire = Wire::open(&service);
        initialized(&mut wire, &json!({}));
        wire.send(&call("a", &json!({"prompt": "Sleep."})));
        home.until_running("sleep 3.1");
        if cancelled {
            wire.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "a"}}));
        } else {
            wire.hang_up();
        }
        until_ended(&home, status);
        let mut again = Wire::open(&service);
        initialized(&mut again, &json!({}));
        let reply = json!({"jsonrpc": "2.0", "id": "r", "method": "tools/call", "params": {"name": "openoxide-reply", "arguments": {"thread_id": "last", "wait_seconds": 20}}});
        if !cancelled {
            assert_eq!(word(&again.ask(&reply)["result"], "content"), "I slept.");
        }
        service.stop();
    }
}

#[test]
fn pages_and_strangers_get_no_socket() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let service = Service::start(&home, &model, &[]);
    let token = format!("Authorization: Bearer {ANA}");
    for (headers, status) in [
        (&[][..], 401),
        (&["Authorization: Bearer wrong"], 401),
        (&["Origin: http://evil.example"], 403),
        (&[&*token, "Origin: http://evil.example"], 403),
        (&[&*token], 101),
    ] {
        assert_eq!(Wire::try_open(&service, headers), status, "{headers:?}");
    }
    service.stop();
}
