//! `Retry<Remote>` over a real socket: what a provider may send, and what comes of it.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use serde_json::{Value, json, value::RawValue};

use super::{
    Effort, Endpoint, Head, Model, ModelEvent, Remote, Request, Retry, Secret, ToolSpec, WireApi,
};
use crate::conversation::{CallId, Item, OutputStatus, ThreadId, ToolCall, ToolOutput, Wire};

mod chat;

#[expect(dead_code, reason = "the tests of whole programs use more of it")]
#[path = "../../tests/it/support/model_server.rs"]
mod model_server;
use model_server::{ModelServer, Reply};

/// How long a server may say nothing where a test waits for just that; elsewhere a busy machine is no stall.
const SILENCE: Duration = Duration::from_secs(1);

fn endpoint(server: &ModelServer) -> Endpoint {
    let mut endpoint = Endpoint::new(server.base_url(), "gpt-test");
    endpoint.idle = Duration::from_secs(30);
    endpoint.key = Some(Secret::new(" sk-0123456789\n"));
    endpoint.wire_api = Some(WireApi::Responses);
    endpoint
}

fn model(endpoint: Endpoint) -> Retry<Remote> {
    Retry::new(Remote::new(endpoint).unwrap()).with_first_wait(Duration::from_millis(1))
}

fn head() -> Arc<Head> {
    Arc::new(Head {
        thread_id: ThreadId::generate(),
        instructions: "be brief".into(),
        tools: vec![ToolSpec {
            name: "read_file".into(),
            description: "Reads.".into(),
            parameters: json!({"type": "object", "properties": {}}),
        }],
        reasoning_effort: Some(Effort::High),
    })
}

fn user(text: &str) -> Item {
    Item::UserMessage { text: text.into() }
}

fn told(event: &ModelEvent) -> String {
    match event {
        ModelEvent::TextDelta(text) => format!("+{text:?}"),
        ModelEvent::ReasoningDelta(text) => format!("~{text:?}"),
        ModelEvent::Item(Item::AgentMessage { text, .. }) => format!("says {text:?}"),
        ModelEvent::Item(Item::Reasoning { summary, .. }) => format!("thinks {summary:?}"),
        ModelEvent::Item(Item::ToolCall(call)) => {
            format!("{} {}({})", call.call_id, call.name, call.arguments)
        }
        ModelEvent::Item(other) => format!("{other:?}"),
        ModelEvent::Retrying { error, .. } => format!("retrying: {error}"),
        ModelEvent::Done(usage) => format!(
            "done {}/{}/{} in {}",
            usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, usage.requests
        ),
    }
}

/// One sample, an event a line; the server's address is shown as BASE.
async fn sampled(server: &ModelServer, model: &impl Model) -> String {
    let input = model.encode(&[user("hi")]);
    let mut stream = model.stream(Request {
        head: head(),
        input: Arc::new(input),
    });
    let mut lines = Vec::new();
    while let Some(event) = stream.next().await {
        lines.push(match event {
            Ok(event) => told(&event),
            Err(error) => format!("{:?}: {error}", error.kind),
        });
    }
    lines.join("\n").replace(&server.base_url(), "BASE")
}

async fn check(script: Vec<Reply>, expect: &str) {
    check_within(Duration::from_secs(30), script, expect).await;
}

/// The same with a server that may say nothing for this long.
async fn check_within(idle: Duration, script: Vec<Reply>, expect: &str) {
    let server = ModelServer::start(script);
    let mut endpoint = endpoint(&server);
    endpoint.idle = idle;
    let lines = sampled(&server, &model(endpoint)).await;
    assert_eq!(lines, expect);
    assert_eq!(server.violations(), [""; 0], "{expect}");
}

/// A message cut short by `fault`, then the same one whole.
async fn check_cut(fault: impl Fn(Reply) -> Reply, why: &str) {
    let script = vec![fault(Reply::text("it works")), Reply::text("it works")];
    let expect = format!(
        "+\"it \"\n+\"works\"\nsays \"it works\"\nretrying: {why}\n+\"it \"\n+\"works\"\nsays \"it works\"\ndone 0/0/0 in 2"
    );
    check_within(SILENCE, script, &expect).await;
}

/// What an answer of this status and body is for a person.
async fn check_refusal(status: u16, body: &str, expect: &str) {
    check(vec![Reply::http(status, body)], expect).await;
}

fn error(message: &str, code: &str) -> String {
    json!({"error": {"message": message, "code": code}}).to_string()
}

#[tokio::test]
async fn what_a_model_says_comes_through() {
    check(
        vec![Reply::text("it works").usage(100, 64, 20)],
        "+\"it \"\n+\"works\"\nsays \"it works\"\ndone 100/64/20 in 1",
    )
    .await;
    check(
        vec![
            Reply::reasoning("let me see")
                .and_call("a", "read_file", json!({"path": "x"}))
                .and_call("b", "shell", json!("{\"command\": tru")),
        ],
        "~\"let \"\n~\"me \"\n~\"see\"\nthinks \"let me see\"\na read_file({\"path\":\"x\"})\nb shell({\"command\": tru)\ndone 0/0/0 in 1",
    )
    .await;
}

#[tokio::test]
async fn what_is_unusual_is_understood() {
    let call = |rest: Value| {
        let mut item = json!({"type": "function_call", "name": "f"});
        item.as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        Reply::item(item)
    };
    let table = [
        (call(json!({"call_id": "a", "arguments": {"x": 1}})), "a f({\"x\":1})\ndone 0/0/0 in 1"),
        (call(json!({"id": "fc_7", "arguments": "{}"})), "fc_7 f({})\ndone 0/0/0 in 1"),
        (call(json!({"call_id": "a"})), "a f()\ndone 0/0/0 in 1"),
        (Reply::item(json!({"type": "message", "content": "bare"})), "says \"bare\"\ndone 0/0/0 in 1"),
        (
            Reply::item(json!({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]})),
            "says \"no\"\ndone 0/0/0 in 1",
        ),
        (
            Reply::item(json!({"type": "reasoning", "content": [{"text": "hm"}]})),
            "thinks \"hm\"\ndone 0/0/0 in 1",
        ),
        (Reply::item(json!({"type": "web_search_call"})), "done 0/0/0 in 1"),
        (Reply::item(Value::Null), "done 0/0/0 in 1"),
        (
            Reply::default().garbage(": ping\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\ndata: []\n\ndata: {}\n\nid: 3\n\n"),
            "done 0/0/0 in 1",
        ),
        (
            Reply::text("hi").last_event(json!({"type": "response.completed"})),
            "+\"hi\"\nsays \"hi\"\ndone 0/0/0 in 1",
        ),
        (
            Reply::default().last_event(json!({
                "type": "response.completed",
                "response": {"output": [
                    {"type": "message", "content": "late"},
                    {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
                ]},
            })),
            "says \"late\"\na f({})\ndone 0/0/0 in 1",
        ),
        (
            Reply::text("once").last_event(json!({
                "type": "response.completed",
                "response": {"output": [{"type": "message", "content": "once"}]},
            })),
            "+\"once\"\nsays \"once\"\ndone 0/0/0 in 1",
        ),
        (
            Reply::text("half").last_event(json!({
                "type": "response.incomplete",
                "response": {"incomplete_details": {"reason": "max_output_tokens"}, "usage": {"input_tokens": 5}},
            })),
            "+\"half\"\nsays \"half\"\ndone 5/0/0 in 1",
        ),
        (
            Reply::default().last_event(json!({
                "type": "response.incomplete",
                "response": {"incomplete_details": {"reason": "content_filter"}},
            })),
            "Rejected: `gpt-test` stopped before it said anything: content_filter",
        ),
    ];
    for (reply, expect) in table {
        check(vec![reply], expect).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_asked_for_again() {
    check_cut(Reply::reset, "the connection to `BASE` broke in mid-answer").await;
    check_cut(
        Reply::truncated,
        "`BASE` ended the answer early: stream closed before completion",
    )
    .await;
    check_cut(Reply::stalled, "`BASE` said nothing for 1s").await;
    check_cut(
        |reply| reply.garbage("data: {\"type\n\n"),
        "`BASE` sent an event that is not JSON",
    )
    .await;
    check_cut(
        |reply| reply.failed("server_error", "sorry"),
        "`BASE` cannot answer now: sorry",
    )
    .await;
    let flat = json!({"type": "error", "code": "overloaded", "message": "full"});
    check_cut(
        |reply| reply.last_event(flat.clone()),
        "`BASE` cannot answer now: full",
    )
    .await;
    let nested = json!({"error": {"message": "full", "code": 503}});
    check_cut(
        |reply| reply.last_event(nested.clone()),
        "`BASE` cannot answer now: full",
    )
    .await;
    let slow = |reply: Reply| reply.delayed(Duration::from_millis(20));
    check(vec![slow(Reply::default())], "done 0/0/0 in 1").await;
}

#[tokio::test]
async fn a_connection_that_the_server_has_just_left_costs_no_try() {
    for api in [WireApi::Responses, WireApi::Chat] {
        let server = ModelServer::start(vec![
            Reply::text("one").then_leaves(),
            Reply::text("two"),
            Reply::text("three"),
        ]);
        let mut endpoint = endpoint(&server);
        endpoint.wire_api = Some(api);
        let (model, head) = (model(endpoint), head());
        let mut items = vec![user("hi")];
        let mut input = model.encode(&items);
        for expect in ["one", "two", "three"] {
            let lines = step(&model, &head, &mut items, &mut input).await;
            assert_eq!(lines.last().unwrap(), "done 0/0/0 in 1", "{lines:?}");
            assert!(lines.contains(&format!("says {expect:?}")), "{lines:?}");
            settled(&server).await;
        }
        assert_eq!((server.requests().len(), server.connections().0), (3, 2));
    }
}

#[tokio::test]
async fn a_busy_provider_is_asked_again() {
    let busy = |status| Reply::http(status, &error("later", "rate_limit_exceeded"));
    let ok = || Reply::text("ok");
    check(
        vec![busy(429).header("retry-after-ms", "20"), busy(503), busy(529), ok()],
        "retrying: `BASE` cannot answer now (429): later\nretrying: `BASE` cannot answer now (503): later\n\
         retrying: `BASE` cannot answer now (529): later\n+\"ok\"\nsays \"ok\"\ndone 0/0/0 in 4",
    )
    .await;
    check(
        vec![busy(429).header("retry-after", "3600")],
        "Busy: `BASE` cannot answer now (429): later; it asks to wait 1h",
    )
    .await;
    let page = Reply::http(502, "<html><title>502 Bad Gateway</title></html>")
        .header("content-type", "text/html");
    check(
        vec![page, ok()],
        "retrying: `BASE` cannot answer now (502): 502 Bad Gateway\n+\"ok\"\nsays \"ok\"\ndone 0/0/0 in 2",
    )
    .await;
    let forever = vec![Reply::http(500, ""); 5];
    let line = "retrying: `BASE` cannot answer now (500)\n".repeat(4);
    check(
        forever,
        &format!("{line}Busy: `BASE` cannot answer now (500); gave up after 5 tries"),
    )
    .await;
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let table = [
        (
            401,
            error("no such key", "invalid_api_key"),
            "Auth: `BASE` refuses the key in `OPENAI_API_KEY` (401): no such key",
        ),
        (
            404,
            error("it does not exist", "model_not_found"),
            "Rejected: `BASE` has no model `gpt-test` (404): it does not exist",
        ),
        (
            404,
            error("no route", "x"),
            "Rejected: `BASE/responses` does not exist, check the base URL and `model.wire_api` (404): no route",
        ),
        (
            429,
            error("pay", "insufficient_quota"),
            "Quota: the account at `BASE` has nothing left (429): pay",
        ),
        (
            400,
            r#"{"detail":"bad\nfield"}"#.into(),
            "Rejected: `BASE` rejects the request (400): bad field",
        ),
        (
            400,
            error("long", "context_length_exceeded"),
            "ContextLength: the conversation is longer than `gpt-test` takes (400): long",
        ),
        (
            200,
            error("quota exceeded", ""),
            "Rejected: `BASE` answered 200 without an event stream: quota exceeded",
        ),
    ];
    for (status, body, expect) in table {
        check_refusal(status, &body, expect).await;
    }
    let moved = Reply::http(308, "").header("location", "https://elsewhere/v1/responses");
    check(
        vec![moved],
        "Rejected: `BASE` redirects to `https://elsewhere/v1/responses`, set that as base URL",
    )
    .await;
    check(
        vec![Reply::default().failed("context_length_exceeded", "too long")],
        "ContextLength: the conversation is longer than `gpt-test` takes: too long",
    )
    .await;
}

#[tokio::test]
async fn arguments_without_end_are_refused() {
    let large = "x".repeat((2 << 20) + 1);
    let call = json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": large});
    let server = ModelServer::start(vec![Reply::item(call)]);
    let expect = "Rejected: `gpt-test` sent the arguments of a call of more than 2 MiB";
    assert_eq!(sampled(&server, &model(endpoint(&server))).await, expect);
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let base_url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    };
    let model = Remote::new(Endpoint::new(&base_url, "m")).unwrap();
    let request = Request {
        head: head(),
        input: Arc::default(),
    };
    let error = model.stream(request).next().await.unwrap().unwrap_err();
    let expect = format!(
        "cannot reach `{base_url}`: Connection refused (os error 111); is the server running?"
    );
    assert_eq!(error.message, expect);
}

#[tokio::test]
async fn a_request_is_what_the_contract_says() {
    let server = ModelServer::start(vec![Reply::text("ok"), Reply::text("ok")]);
    let mut with_key = endpoint(&server);
    with_key.headers = vec![("X-Team".into(), Secret::new("red"))];
    sampled(&server, &model(with_key)).await;
    let mut without = endpoint(&server);
    (without.key, without.model) = (None, "gpt-4o".into());
    without.base_url += "/?api-version=1";
    sampled(&server, &model(without)).await;

    let seen = server.requests();
    let [with_key, without] = &seen[..] else {
        panic!("{seen:?}")
    };
    let version = concat!("openoxide/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("authorization", "Bearer sk-0123456789"),
        ("user-agent", version),
        ("accept", "text/event-stream"),
        ("x-team", "red"),
    ] {
        assert_eq!(with_key.headers[name], value);
    }
    for name in ["authorization", "openai-organization", "openai-project"] {
        assert!(!without.headers.contains_key(name), "{name}");
    }
    let mut body = with_key.body.clone();
    assert!(body["prompt_cache_key"].take().is_string());
    let expect = json!({
        "model": "gpt-test", "stream": true, "store": false, "prompt_cache_key": null, "parallel_tool_calls": true,
        "include": ["reasoning.encrypted_content"], "reasoning": {"effort": "high", "summary": "auto"},
        "instructions": "be brief",
        "tools": [{
            "type": "function", "name": "read_file", "description": "Reads.",
            "parameters": {"type": "object", "properties": {}}, "strict": false,
        }],
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    });
    assert_eq!(body.to_string(), expect.to_string());
    assert!(without.body["include"].is_null());
    assert_eq!(without.target, "/v1/responses?api-version=1");
}

/// Waits until the last answer has been read to its end beside us, so that its connection can be used again. Ends since
/// every answer does.
async fn settled(server: &ModelServer) {
    while server.answered() < server.requests().len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // All of it is here now; it only has to be looked at, by tasks of this one thread.
    tokio::time::sleep(Duration::from_millis(10)).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Samples with `model`, answers each call, and adds all of it to `items` and `input`. Gives an event a line.
async fn step(
    model: &impl Model,
    head: &Arc<Head>,
    items: &mut Vec<Item>,
    input: &mut Vec<Arc<RawValue>>,
) -> Vec<String> {
    let request = Request {
        head: head.clone(),
        input: Arc::new(input.clone()),
    };
    let events: Vec<_> = model.stream(request).collect().await;
    let mut new: Vec<Item> = Vec::new();
    let mut lines = Vec::new();
    for event in events {
        let event = event.unwrap();
        lines.push(told(&event));
        if let ModelEvent::Item(item) = event {
            new.push(item);
        }
    }
    let calls: Vec<CallId> = new
        .iter()
        .filter_map(|item| match item {
            Item::ToolCall(call) => Some(call.call_id.clone()),
            _ => None,
        })
        .collect();
    new.extend(calls.into_iter().map(|call_id| {
        Item::ToolOutput(ToolOutput {
            call_id,
            status: OutputStatus::Done,
            content: "ok".into(),
            command: None,
        })
    }));
    input.extend(model.encode(&new));
    items.extend(new);
    lines
}

#[tokio::test]
async fn a_conversation_grows_by_appending_on_one_connection() {
    let odd =
        json!({"type": "function_call", "name": "f", "arguments": {"b": 1, "a": [1.5, 1e300]}});
    let server = ModelServer::start(vec![
        Reply::reasoning("hm")
            .and_call("a", "f", json!({}))
            .and_call("b", "f", json!("{no")),
        Reply::item(odd),
        Reply::text("done é\u{2028}\0"),
        Reply::text("again"),
    ]);
    let (model, head) = (model(endpoint(&server)), head());
    let mut items = vec![user("hi")];
    let mut input = model.encode(&items);
    for _ in 0..4 {
        step(&model, &head, &mut items, &mut input).await;
        settled(&server).await;
    }
    assert_eq!(server.violations(), [""; 0]);
    assert_eq!(server.connections(), (1, 0));

    let stored: Vec<String> = items
        .iter()
        .map(|item| serde_json::to_string(item).unwrap())
        .collect();
    let reloaded: Vec<Item> = stored
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let text = |input: &[Arc<RawValue>]| {
        input
            .iter()
            .map(|raw| raw.get().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(text(&model.encode(&reloaded)), text(&input));
    // What came from elsewhere is told in our words, its reasoning left out.
    let mut elsewhere = endpoint(&server);
    elsewhere.model = "other".into();
    let foreign = text(&Remote::new(elsewhere).unwrap().encode(&items));
    assert_eq!(foreign.len(), items.len() - 1);
    assert!(
        foreign.iter().all(|item| !item.contains("\"id\"")),
        "{foreign:?}"
    );
    assert!(
        text(&input)[1].contains("encrypted_content"),
        "{:?}",
        input[1]
    );
}

/// Not every server takes a body in chunks, and a cache only knows what it has seen to the byte.
#[tokio::test]
async fn a_long_conversation_is_sent_with_its_length_and_again_the_same() {
    for api in [WireApi::Responses, WireApi::Chat] {
        let server = ModelServer::start(vec![Reply::http(503, "busy"), Reply::text("it works")]);
        let mut endpoint = endpoint(&server);
        endpoint.wire_api = Some(api);
        let model = model(endpoint);
        let said: Vec<Item> = (0..500)
            .map(|n| user(&format!("{n} ").repeat(500)))
            .collect();
        let stream = model.stream(Request {
            head: head(),
            input: Arc::new(model.encode(&said)),
        });
        let events: Vec<_> = stream.collect().await;
        assert!(
            matches!(events.last(), Some(Ok(ModelEvent::Done(_)))),
            "{events:?}"
        );
        assert_eq!(server.violations(), [""; 0]);
        let seen = server.requests();
        let [first, again] = &seen[..] else {
            panic!("{} requests", seen.len());
        };
        assert_eq!(first.body, again.body);
        for seen in &seen {
            let length = seen.body.to_string().len();
            assert!(length > 900_000, "{length}");
            assert_eq!(seen.headers["content-length"], length.to_string());
            assert_eq!(seen.headers["content-type"], "application/json");
            assert!(!seen.headers.contains_key("transfer-encoding"));
        }
    }
}

#[test]
fn reasoning_that_nobody_could_look_up_is_left_out() {
    let server = ModelServer::start(Vec::new());
    let model = Remote::new(endpoint(&server)).unwrap();
    let table = [
        (json!({"type": "reasoning", "id": "rs_1", "summary": []}), 0),
        (
            json!({"type": "reasoning", "id": "rs_1", "encrypted_content": null, "content": []}),
            0,
        ),
        (json!({"type": "reasoning", "encrypted_content": "gAAA"}), 1),
        (
            json!({"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}),
            1,
        ),
    ];
    for (json, expect) in table {
        let wire = Some(Wire {
            origin: model.origin().to_owned(),
            json,
        });
        let item = Item::Reasoning {
            summary: String::new(),
            wire,
        };
        assert_eq!(
            model.encode(std::slice::from_ref(&item)).len(),
            expect,
            "{item:?}"
        );
    }
}

#[tokio::test]
async fn dropping_the_stream_hangs_up() {
    for replies in [
        vec![Reply::text("half").stalled()],
        vec![Reply::default().delayed(Duration::from_secs(60))],
    ] {
        let server = ModelServer::start(replies);
        let model = Remote::new(Endpoint::new(server.base_url(), "m")).unwrap();
        let mut stream = model.stream(Request {
            head: head(),
            input: Arc::default(),
        });
        let first = tokio::time::timeout(Duration::from_millis(100), stream.next()).await;
        drop((first, stream));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(server.connections(), (1, 1));
    }
}
