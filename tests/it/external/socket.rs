//! An external server behind a WebSocket.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Message,
    handshake::server::{Request, Response},
};

use super::{calling, outputs, run, task};
use crate::support::{home::Home, outside};

/// Serves until the test program ends; the heads of what was asked, and where it is.
fn serve() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/ws", listener.local_addr().expect("an address"));
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            listener.set_nonblocking(true).expect("a listener");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, seen.clone()));
            }
        });
    });
    (url, heads)
}

#[expect(clippy::result_large_err, reason = "the callback's own type")]
async fn answer(stream: tokio::net::TcpStream, seen: Arc<Mutex<Vec<String>>>) {
    let note = |request: &Request, mut response: Response| {
        seen.lock()
            .expect("no panic")
            .push(format!("{:?}", request.headers()));
        let chosen = "mcp".parse().expect("a value");
        response
            .headers_mut()
            .insert("sec-websocket-protocol", chosen);
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, note)
        .await
        .expect("a client");
    while let Some(Ok(frame)) = socket.next().await {
        let Message::Text(text) = frame else { continue };
        let message: Value = serde_json::from_str(&text).expect("JSON");
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "sock", "version": "1"},
            }),
            Some("tools/list") => json!({"tools": [outside::tool("echo", "Echoes.")]}),
            Some("tools/call") if message["params"]["arguments"]["text"] == "end" => return,
            Some("tools/call") => {
                let text = message["params"]["arguments"].to_string();
                json!({"content": [{"type": "text", "text": text}]})
            }
            _ => continue,
        };
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        let _ = socket.send(Message::text(answer.to_string())).await;
    }
}

#[test]
fn a_server_behind_a_websocket_is_asked_and_taken_up_again() {
    let (url, heads) = serve();
    let home = Home::new().config(&format!(
        "[mcp_servers.out]\nurl = '{url}'\nheaders = {{ X-Team = 'blue' }}\nbearer_token_env = 'OUT_TOKEN'\nauto = ['*']\n"
    ));
    let model = calling(&[
        ("out__echo", json!({"text": "hello"})),
        ("out__echo", json!({"text": "end"})),
        ("out__echo", json!({"text": "again"})),
    ]);
    let mut command = task(&home, &model, &[]);
    command.env("OUT_TOKEN", "t0ken");
    run(command).expect(0);
    let outputs = outputs(&model);
    assert!(outputs[0].contains("\"hello\""), "{outputs:?}");
    assert!(outputs[1].contains("ended in the middle"), "{outputs:?}");
    assert!(outputs[2].contains("\"again\""), "{outputs:?}");
    let heads = heads.lock().expect("no panic");
    let head = &heads[0];
    assert!(
        heads.len() == 2 && head.contains("blue") && head.contains("Bearer t0ken"),
        "{heads:?}"
    );
}

#[test]
fn what_does_not_speak_websocket_is_named() {
    let http = outside::Http::start();
    let url = http.url.replacen("http", "ws", 1);
    let home = Home::new().config(&format!("[mcp_servers.out]\nurl = '{url}'\n"));
    let tested = run(home.openoxide(&["mcp", "test", "--json"]))
        .expect(1)
        .json();
    assert_eq!(tested[0]["transport"], "websocket");
    let error = tested[0]["error"].as_str().expect("an error");
    assert!(error.contains("HTTP 405"), "{error}");
}
