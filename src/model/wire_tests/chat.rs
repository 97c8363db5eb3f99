//! Chat Completions over a real socket: every accent that is known, and every fault.

use super::*;

fn chat(server: &ModelServer) -> Retry<Remote> {
    let mut endpoint = endpoint(server);
    endpoint.wire_api = None;
    model(endpoint)
}

async fn check(script: Vec<Reply>, expect: &str) {
    let server = ModelServer::start(script);
    let mut endpoint = endpoint(&server);
    (endpoint.wire_api, endpoint.idle) = (None, SILENCE);
    let lines = sampled(&server, &model(endpoint)).await;
    assert_eq!(lines, expect);
    assert_eq!(server.violations(), [""; 0], "{expect}");
}

/// These events, an end as servers write it, and nothing more.
fn stream(events: &[Value]) -> Reply {
    let lines: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    Reply::raw(&(lines + "data: [DONE]\n\n"))
}

/// An event with this delta.
fn delta(delta: Value) -> Value {
    json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(reason: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn calls(calls: Value) -> Value {
    delta(json!({"tool_calls": calls}))
}

/// One call whose arguments come in two pieces, its events changed by `accent`.
fn call_in_pieces() -> [Value; 3] {
    [
        calls(
            json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]),
        ),
        calls(json!([{"index": 0, "function": {"arguments": "{\"x\""}}])),
        calls(json!([{"index": 0, "function": {"arguments": ":1}"}}])),
    ]
}

#[tokio::test]
async fn a_chat_comes_through_with_its_calls_and_its_count() {
    check(
        vec![Reply::text("it works").usage(100, 64, 20)],
        "+\"it \"\n+\"works\"\nsays \"it works\"\ndone 100/64/20 in 1",
    )
    .await;
    check(
        vec![
            Reply::reasoning("let me see")
                .and_text("so")
                .and_call("a", "read_file", json!({"path": "x"}))
                .and_call("b", "shell", json!("{\"command\": tru")),
        ],
        "~\"let \"\n~\"me \"\n~\"see\"\n+\"so\"\nthinks \"let me see\"\nsays \"so\"\na read_file({\"path\":\"x\"})\n\
         b shell({\"command\": tru)\ndone 0/0/0 in 1",
    )
    .await;
}

#[tokio::test]
async fn every_accent_of_a_message_is_understood() {
    let hi = "+\"hi\"\nsays \"hi\"\ndone 0/0/0 in 1";
    let [say, stop] = [delta(json!({"content": "hi"})), finish(json!("stop"))];
    let table: Vec<(&str, Vec<Value>, &str)> = vec![
        (
            "no id, created or model",
            vec![
                json!({"choices": [{"delta": {"content": "hi"}}]}),
                stop.clone(),
            ],
            hi,
        ),
        (
            "float created",
            vec![
                json!({"created": 1.5e9, "choices": [{"delta": {"content": "hi"}}]}),
                stop.clone(),
            ],
            hi,
        ),
        (
            "an odd role",
            vec![delta(json!({"role": "", "content": "hi"})), stop.clone()],
            hi,
        ),
        ("an odd reason", vec![say.clone(), finish(json!("eos"))], hi),
        ("an empty reason", vec![say.clone(), finish(json!(""))], hi),
        (
            "an empty reason with every piece",
            vec![
                json!({"choices": [{"delta": {"content": "h"}, "finish_reason": ""}]}),
                json!({"choices": [{"delta": {"content": "i"}, "finish_reason": ""}]}),
            ],
            "+\"h\"\n+\"i\"\nsays \"hi\"\ndone 0/0/0 in 1",
        ),
        (
            "reason and text in one",
            vec![json!({"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]})],
            hi,
        ),
        (
            "no choices",
            vec![
                json!({"choices": null}),
                json!({"choices": []}),
                say.clone(),
                stop.clone(),
            ],
            hi,
        ),
        (
            "a whole message",
            vec![json!({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})],
            hi,
        ),
        (
            "unknown fields",
            vec![
                json!({"service_tier": "on_demand", "obfuscation": "x", "choices": [{"delta": {"content": "hi", "annotations": []}, "logprobs": null}]}),
                stop.clone(),
            ],
            hi,
        ),
        (
            "null content",
            vec![delta(json!({"content": null})), say.clone(), stop.clone()],
            hi,
        ),
        (
            "parts",
            vec![
                delta(json!({"content": [{"type": "text", "text": "hi"}]})),
                stop.clone(),
            ],
            hi,
        ),
        (
            "a refusal",
            vec![delta(json!({"refusal": "hi"})), stop.clone()],
            hi,
        ),
        (
            "a count with the last piece",
            vec![
                say.clone(),
                json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}),
            ],
            "+\"hi\"\nsays \"hi\"\ndone 5/0/2 in 1",
        ),
        (
            "a count with every piece",
            vec![
                json!({"choices": [{"delta": {"content": "hi"}}], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}),
                json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}),
            ],
            "+\"hi\"\nsays \"hi\"\ndone 5/0/2 in 1",
        ),
        (
            "Azure's verdicts before, within and after",
            vec![
                json!({"choices": [], "id": "", "created": 0, "model": "", "prompt_filter_results": [{"prompt_index": 0}]}),
                json!({"choices": [{"index": 0, "content_filter_results": {}, "delta": {"content": "hi"}, "finish_reason": null}]}),
                json!({"choices": [{"index": 0, "finish_reason": null, "content_filter_offsets": {"check_offset": 1}}]}),
                stop.clone(),
            ],
            hi,
        ),
        (
            "stopped by Azure in mid-answer",
            vec![say.clone(), finish(json!("content_filter"))],
            hi,
        ),
        (
            "Groq's count",
            vec![
                say.clone(),
                json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": {"prompt_tokens": 5}}}),
            ],
            "+\"hi\"\nsays \"hi\"\ndone 5/0/0 in 1",
        ),
        (
            "DeepSeek's count",
            vec![
                say.clone(),
                stop.clone(),
                json!({"choices": [], "usage": {"prompt_tokens": 5, "prompt_cache_hit_tokens": 4}}),
            ],
            "+\"hi\"\nsays \"hi\"\ndone 5/4/0 in 1",
        ),
        (
            "a count of nulls",
            vec![
                say.clone(),
                stop.clone(),
                json!({"choices": [], "usage": {"prompt_tokens": 5.0, "prompt_tokens_details": null}}),
            ],
            "+\"hi\"\nsays \"hi\"\ndone 5/0/0 in 1",
        ),
        (
            "nothing said",
            vec![delta(json!({"content": ""})), stop.clone()],
            "done 0/0/0 in 1",
        ),
        (
            "cut at its length",
            vec![say.clone(), finish(json!("length"))],
            hi,
        ),
        (
            "stopped before it spoke",
            vec![finish(json!("content_filter"))],
            "Rejected: `gpt-test` stopped before it said anything: content_filter",
        ),
    ];
    for (what, events, expect) in table {
        let server = ModelServer::start(vec![stream(&events)]);
        assert_eq!(sampled(&server, &chat(&server)).await, expect, "{what}");
    }
}

#[tokio::test]
async fn every_spelling_of_reasoning_is_understood() {
    let stop = finish(json!("stop"));
    let thinks = "~\"hm\"\n+\"hi\"\nthinks \"hm\"\nsays \"hi\"\ndone 0/0/0 in 1";
    let hm = |name: &str| delta(json!({name: "hm"}));
    let both = delta(json!({"reasoning": "hm", "reasoning_content": "hm"}));
    let detail =
        delta(json!({"reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]}));
    let twice = delta(
        json!({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}),
    );
    let part = delta(
        json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
    );
    for first in [
        hm("reasoning_content"),
        hm("reasoning"),
        hm("reasoning_text"),
        both,
        detail,
        twice,
        part,
    ] {
        let events = [first.clone(), delta(json!({"content": "hi"})), stop.clone()];
        check(vec![stream(&events)], thinks).await;
    }
    let inline = ["<th", "ink>hm</thi", "nk>\n\nhi"].map(|text| delta(json!({"content": text})));
    let events = [&inline[..], std::slice::from_ref(&stop)].concat();
    check(vec![stream(&events)], thinks).await;
    let only = [hm("reasoning"), stop];
    check(
        vec![stream(&only)],
        "~\"hm\"\nthinks \"hm\"\ndone 0/0/0 in 1",
    )
    .await;
}

#[tokio::test]
async fn every_accent_of_a_call_is_understood() {
    let stop = || finish(json!("tool_calls"));
    let one = "a f({\"x\":1})\ndone 0/0/0 in 1";
    let two = "a f({\"x\":1})\nb g({})\ndone 0/0/0 in 1";
    let whole = |index: Value, id: &str, name: &str, arguments: Value| {
        let mut call =
            json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}});
        call.as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null() && *value != json!(""));
        call
    };
    let without_index = call_in_pieces().map(|mut event| {
        let call = &mut event["choices"][0]["delta"]["tool_calls"][0];
        call.as_object_mut().unwrap().remove("index");
        event
    });
    let named_again = call_in_pieces().map(|mut event| {
        let call = &mut event["choices"][0]["delta"]["tool_calls"][0];
        call["id"] = json!("a");
        call["function"]["name"] = json!("f");
        event
    });
    let text = json!("{\"x\":1}");
    let side_by_side = json!([
        whole(json!(0), "a", "f", text.clone()),
        whole(json!(1), "b", "g", json!("{}"))
    ]);
    let interleaved = [
        calls(
            json!([{"index": 0, "id": "a", "function": {"name": "f"}}, {"index": 1, "id": "b", "function": {"name": "g"}}]),
        ),
        calls(json!([{"index": 1, "function": {"arguments": "{"}}])),
        calls(json!([{"index": 0, "function": {"arguments": "{\"x\":1}"}}])),
        calls(json!([{"index": 1, "function": {"arguments": "}"}}])),
    ];
    let table: Vec<(&str, Vec<Value>, &str)> = vec![
        ("in pieces", call_in_pieces().to_vec(), one),
        ("without an index", without_index.to_vec(), one),
        ("named with every piece", named_again.to_vec(), one),
        (
            "an object",
            vec![calls(json!([whole(json!(0), "a", "f", json!({"x": 1}))]))],
            one,
        ),
        (
            "no arguments",
            vec![calls(json!([whole(json!(0), "a", "f", Value::Null)]))],
            "a f()\ndone 0/0/0 in 1",
        ),
        ("two", vec![calls(side_by_side)], two),
        ("two, interleaved", interleaved.to_vec(), two),
        (
            "two, both counted as 0",
            vec![
                calls(json!([whole(json!(0), "a", "f", text.clone())])),
                calls(json!([whole(json!(0), "b", "g", json!("{}"))])),
            ],
            two,
        ),
        (
            "two in pieces, both counted as 0",
            vec![
                calls(json!([whole(json!(0), "a", "f", Value::Null)])),
                calls(json!([{"index": 0, "function": {"arguments": "{\"x\":1}"}}])),
                calls(json!([whole(json!(0), "b", "g", Value::Null)])),
                calls(json!([{"index": 0, "function": {"arguments": "{}"}}])),
            ],
            two,
        ),
        (
            "two without an index",
            vec![
                calls(json!([whole(Value::Null, "a", "f", text.clone())])),
                calls(json!([whole(Value::Null, "b", "g", json!("{}"))])),
            ],
            two,
        ),
        (
            "another id with every piece",
            vec![
                calls(json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}])),
                calls(
                    json!([{"index": 0, "id": "b", "function": {"name": "", "arguments": "{\"x\""}}]),
                ),
                calls(
                    json!([{"index": 0, "id": "c", "function": {"name": "", "arguments": ":1}"}}]),
                ),
            ],
            one,
        ),
        (
            "an empty id, and no name with the rest",
            vec![
                calls(
                    json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]),
                ),
                calls(
                    json!([{"index": 0, "id": "", "type": "", "function": {"name": null, "arguments": "{\"x\":1}"}}]),
                ),
            ],
            one,
        ),
        (
            "a null for calls",
            vec![
                delta(json!({"tool_calls": null})),
                calls(json!([whole(json!(0), "a", "f", text.clone())])),
            ],
            one,
        ),
        (
            "a reason of stop",
            vec![
                calls(json!([whole(json!(0), "a", "f", text.clone())])),
                finish(json!("stop")),
            ],
            one,
        ),
    ];
    for (what, mut events, expect) in table {
        events.push(stop());
        let server = ModelServer::start(vec![stream(&events)]);
        assert_eq!(sampled(&server, &chat(&server)).await, expect, "{what}");
    }
    for (index, what) in [
        (json!(0), "whole calls that all count as 0"),
        (Value::Null, "with nothing to tell them apart"),
    ] {
        let twice = calls(json!([
            whole(index.clone(), "", "f", text.clone()),
            whole(index, "", "g", json!("{}"))
        ]));
        let server = ModelServer::start(vec![stream(&[twice, stop()])]);
        let lines = sampled(&server, &chat(&server)).await;
        let [first, second, _] = lines.lines().collect::<Vec<_>>()[..] else {
            panic!("{what}: {lines}");
        };
        // The only form of an id that every server takes, Mistral too.
        let is_ours = |line: &str, call: &str| {
            let id = line.strip_suffix(call).unwrap_or_default();
            id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        assert!(is_ours(first, " f({\"x\":1})"), "{what}: {first}");
        assert!(is_ours(second, " g({})"), "{what}: {second}");
        assert_ne!(first.split(' ').next(), second.split(' ').next());
    }
}

#[tokio::test]
async fn lines_that_are_no_events_are_passed_over() {
    let hi = "+\"hi\"\nsays \"hi\"\ndone 0/0/0 in 1";
    let (say, stop) = (delta(json!({"content": "hi"})), finish(json!("stop")));
    let bodies = [
        format!(
            ": keep-alive\n\n: OPENROUTER PROCESSING\n\ndata: {say}\n\n: x\n\ndata: {stop}\n\ndata: [DONE]\n\n"
        ),
        format!(
            "event: ping\ndata: {{\"type\":\"ping\"}}\n\ndata: {say}\n\ndata: {stop}\n\ndata: [DONE]\n\n"
        ),
        format!("data:{say}\r\n\r\ndata:{stop}\r\n\r\ndata:[DONE]\r\n\r\n"),
        format!("\u{feff}data: {say}\n\nid: 1\nretry: 5\ndata: {stop}\n\n"),
        format!("data: {say}\n\ndata: {stop}\n\ndata: []\n\ndata: 7\n\ndata: [DONE]\n\n"),
    ];
    for body in bodies {
        check(vec![Reply::raw(&body)], hi).await;
    }
}

#[tokio::test]
async fn a_chat_that_is_cut_is_asked_for_again() {
    let whole = || Reply::text("it works");
    let again = |first: &str, why: &str| {
        format!("{first}retrying: {why}\n+\"it \"\n+\"works\"\nsays \"it works\"\ndone 0/0/0 in 2")
    };
    let said = "+\"it \"\n+\"works\"\n";
    let early = "`BASE` ended the answer early: stream closed before completion";
    let table = [
        (whole().reset(), said, "the connection to `BASE` broke in mid-answer"),
        (whole().truncated(), said, early),
        (whole().stalled(), said, "`BASE` said nothing for 1s"),
        (whole().garbage("data: {\"choices\n\n"), said, "`BASE` sent an event that is not JSON"),
        (whole().failed("server_error", "sorry"), said, "`BASE` cannot answer now: sorry"),
        (whole().last_event(json!({"error": "busy"})), said, "`BASE` cannot answer now: busy"),
        (
            whole().last_event(json!({"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 502, "message": "upstream"}}]})),
            said,
            "`BASE` cannot answer now: upstream",
        ),
        (Reply::raw(""), "", early),
        (Reply::raw("data: [DONE]\n\n"), "", early),
        (stream(&[json!({"choices": null})]), "", early),
        (stream(&[delta(json!({"reasoning": "hm"}))]), "~\"hm\"\n", early),
        (
            Reply::call("a", "f", json!({})).truncated(),
            "",
            early,
        ),
    ];
    for (cut, first, why) in table {
        check(vec![cut, whole()], &again(first, why)).await;
    }
}

#[tokio::test]
async fn a_message_that_ended_is_whole_whatever_comes_of_its_connection() {
    let body = format!(
        "data: {}\n\ndata: {}\n\n",
        delta(json!({"content": "hi"})),
        finish(json!("stop"))
    );
    let hi = "+\"hi\"\nsays \"hi\"\ndone 0/0/0 in 1";
    check(vec![Reply::raw(&body)], hi).await;
    check(vec![Reply::raw(&body).then_reset()], hi).await;
    // The count of tokens never comes, and the connection stays open.
    check(vec![Reply::raw(&body).then_silent()], hi).await;
}

#[tokio::test]
async fn a_refusal_of_a_chat_says_what_to_do() {
    let table = [
        (
            404,
            error("no route", "x"),
            "Rejected: `BASE/chat/completions` does not exist, check the base URL and `model.wire_api` (404): no route",
        ),
        (
            422,
            r#"{"detail":[{"msg":"bad"}]}"#.into(),
            "Rejected: `BASE` rejects the request (422): [{\"msg\":\"bad\"}]",
        ),
        (
            400,
            error(
                "the request exceeds the available context size",
                "exceed_context_size_error",
            ),
            "ContextLength: the conversation is longer than `gpt-test` takes (400): the request exceeds the available context size",
        ),
        (
            200,
            r#"{"error":"model is loading"}"#.into(),
            "Rejected: `BASE` answered 200 without an event stream: model is loading",
        ),
    ];
    for (status, body, expect) in table {
        let server = ModelServer::start(vec![Reply::http(status, &body); 5]);
        let lines = sampled(&server, &chat(&server)).await;
        let last = lines.lines().last().unwrap();
        assert_eq!(last.trim_end_matches("; gave up after 5 tries"), expect);
    }
}

#[tokio::test]
async fn a_field_that_a_server_refuses_is_left_out_from_then_on() {
    let unknown = |field: &str| {
        Reply::http(
            400,
            &error(
                &format!("Unknown parameter: '{field}'."),
                "unknown_parameter",
            ),
        )
    };
    let server = ModelServer::start(vec![
        unknown("stream_options"),
        unknown("prompt_cache_key"),
        unknown("reasoning_effort"),
        Reply::text("ok"),
    ]);
    let model = chat(&server);
    let lines = sampled(&server, &model).await;
    // Without a key the server takes the last two for another thread, and gives it the script from its beginning.
    assert!(lines.starts_with("Rejected: "), "{lines}");
    let seen = server.requests();
    let fields: Vec<Vec<&str>> = seen
        .iter()
        .map(|seen| {
            let known = [
                "stream_options",
                "prompt_cache_key",
                "reasoning_effort",
                "parallel_tool_calls",
            ];
            known
                .into_iter()
                .filter(|field| !seen.body[*field].is_null())
                .collect()
        })
        .collect();
    assert_eq!(
        fields,
        [
            vec![
                "stream_options",
                "prompt_cache_key",
                "reasoning_effort",
                "parallel_tool_calls"
            ],
            vec![
                "prompt_cache_key",
                "reasoning_effort",
                "parallel_tool_calls"
            ],
            vec!["reasoning_effort", "parallel_tool_calls"],
        ]
    );
}

/// What the second request of a thread looks like to a server that refused it once, and why.
async fn conceded(items: &[Item], refusal: &str) -> Vec<Value> {
    let server = ModelServer::start(vec![
        Reply::http(400, &error(refusal, "")),
        Reply::text("ok").begins_anew(),
        Reply::text("again"),
    ]);
    let (model, head) = (chat(&server), head());
    for expect in ["done 0/0/0 in 1"; 2] {
        let request = Request {
            head: head.clone(),
            input: Arc::new(model.encode(items)),
        };
        let events: Vec<_> = model.stream(request).collect().await;
        assert_eq!(told(events.last().unwrap().as_ref().unwrap()), expect);
    }
    let seen = server.requests();
    // What was refused once is not tried again.
    assert_eq!(seen[1].body["messages"], seen[2].body["messages"]);
    let messages = seen[1].body["messages"].as_array().unwrap();
    messages[1..].to_vec()
}

#[tokio::test]
async fn what_a_server_does_not_take_in_a_conversation_is_told_otherwise() {
    let call = |id: &str, wire: Option<Wire>| {
        Item::ToolCall(ToolCall {
            call_id: CallId(id.to_owned()),
            name: "f".to_owned(),
            arguments: "{}".to_owned(),
            wire,
        })
    };
    let output = |id: &str| {
        Item::ToolOutput(ToolOutput {
            call_id: CallId(id.to_owned()),
            status: OutputStatus::Done,
            content: "ok".into(),
            command: None,
        })
    };
    // Mistral's ids have one form; those of another provider get it, the call and its output the same.
    let foreign = [
        user("hi"),
        call("toolu_1", None),
        output("toolu_1"),
        call("123456abc", None),
        output("123456abc"),
    ];
    let refusal = "Tool call id was toolu_1 but must be a-z, A-Z, 0-9, with a length of 9.";
    let messages = conceded(&foreign, refusal).await;
    let id = messages[2]["tool_call_id"].as_str().unwrap();
    assert!(
        id.len() == 9 && messages[1]["tool_calls"][0]["id"] == id,
        "{messages:?}"
    );
    assert_eq!(messages[4]["tool_call_id"], "123456abc");

    // Nor does it take a message of the user right after an output.
    let interrupted = [user("hi"), call("a", None), output("a"), user("and?")];
    let messages = conceded(&interrupted, "Unexpected role 'user' after role 'tool'").await;
    let roles: Vec<&str> = messages
        .iter()
        .filter_map(|message| message["role"].as_str())
        .collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant", "user"]);

    // Some take no reasoning back, not even their own.
    let server = ModelServer::start(vec![
        Reply::reasoning("hm").and_call("a", "f", json!({})),
        Reply::http(
            400,
            &error("property 'reasoning_content' is unsupported", ""),
        ),
        Reply::text("ok").begins_anew(),
    ]);
    let (model, head) = (chat(&server), head());
    let mut items = vec![user("hi")];
    let mut input = model.encode(&items);
    for _ in 0..2 {
        step(&model, &head, &mut items, &mut input).await;
    }
    let sent: Vec<bool> = server
        .requests()
        .iter()
        .map(|seen| {
            seen.body["messages"]
                .to_string()
                .contains("reasoning_content")
        })
        .collect();
    assert_eq!(sent, [false, true, false]);
}

#[tokio::test]
async fn reasoning_that_a_server_misses_is_not_taken_for_reasoning_that_it_refuses() {
    let own = |model: &Retry<Remote>| Item::Reasoning {
        summary: "hm".into(),
        wire: Some(Wire {
            origin: model.origin().to_owned(),
            json: json!({"reasoning_content": "hm", "role": "assistant"}),
        }),
    };
    let says = |text: &str| Item::AgentMessage {
        text: text.to_owned(),
        wire: None,
    };
    for words in [
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2",
    ] {
        let server = ModelServer::start(vec![
            Reply::http(400, &error(words, "invalid_request_error")),
            Reply::text("ok").begins_anew(),
        ]);
        let model = chat(&server);
        let items = [
            user("hi"),
            says("one"),
            user("and?"),
            own(&model),
            says("two"),
            user("so?"),
        ];
        let request = Request {
            head: head(),
            input: Arc::new(model.encode(&items)),
        };
        let events: Vec<_> = model.stream(request).collect().await;
        assert_eq!(
            told(events.last().unwrap().as_ref().unwrap()),
            "done 0/0/0 in 1"
        );
        let seen = server.requests();
        let messages = seen[1].body["messages"].as_array().unwrap();
        assert_eq!(
            messages[2],
            json!({"role": "assistant", "content": "one", "reasoning_content": " "})
        );
        assert_eq!(
            messages[4],
            json!({"role": "assistant", "content": "two", "reasoning_content": "hm"})
        );
    }
}

#[tokio::test]
async fn a_server_that_would_need_a_flag_for_tools_is_asked_without() {
    for words in [
        "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set",
        "tools param requires --jinja flag",
        "registry.ollama.ai/library/gemma3:latest does not support tools",
    ] {
        let server =
            ModelServer::start(vec![Reply::http(400, &error(words, "")), Reply::text("ok")]);
        let lines = sampled(&server, &chat(&server)).await;
        assert_eq!(lines, "+\"ok\"\nsays \"ok\"\ndone 0/0/0 in 1");
        assert!(server.requests()[1].body["tools"].is_null());
    }
}

#[tokio::test]
async fn a_window_is_learned_from_a_refusal() {
    let words = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.";
    let at_once = Reply::http(400, &error(words, "context_length_exceeded"));
    let in_stream = Reply::default().failed("context_length_exceeded", words);
    for refusal in [at_once, in_stream] {
        let server = ModelServer::start(vec![refusal]);
        let model = chat(&server);
        assert_eq!(model.window(), None);
        sampled(&server, &model).await;
        assert_eq!(model.window(), Some(8192));
    }
}

#[tokio::test]
async fn a_call_that_the_server_could_not_read_is_sampled_again() {
    let groq = r#"{"error":{"message":"Failed to call a function.","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"<f>"}}"#;
    let lines = "retrying: `BASE` cannot answer now (400): Failed to call a function.\n+\"ok\"\nsays \"ok\"\ndone 0/0/0 in 2";
    check(vec![Reply::http(400, groq), Reply::text("ok")], lines).await;
}

#[tokio::test]
async fn an_error_that_is_an_event_by_name_is_told() {
    let body = "event: error\ndata: {\"error\":{\"message\":\"The model has crashed.\"},\"message\":\"The model has crashed.\"}\n\n";
    let lines = "retrying: `BASE` cannot answer now: The model has crashed.\n+\"ok\"\nsays \"ok\"\ndone 0/0/0 in 2";
    check(vec![Reply::raw(body), Reply::text("ok")], lines).await;
}

#[tokio::test]
async fn a_chat_request_is_what_servers_expect() {
    let server = ModelServer::start(vec![Reply::text("ok")]);
    sampled(&server, &chat(&server)).await;
    let seen = server.requests().remove(0);
    assert_eq!(seen.target, "/v1/chat/completions");
    assert_eq!(seen.headers["authorization"], "Bearer sk-0123456789");
    let mut body = seen.body;
    assert!(body["prompt_cache_key"].take().is_string());
    let expect = json!({
        "model": "gpt-test", "stream": true, "stream_options": {"include_usage": true}, "prompt_cache_key": null,
        "reasoning_effort": "high", "parallel_tool_calls": true,
        "tools": [{"type": "function", "function": {
            "name": "read_file", "description": "Reads.", "parameters": {"type": "object", "properties": {}},
        }}],
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
    });
    assert_eq!(body.to_string(), expect.to_string());
}

#[tokio::test]
async fn a_chat_grows_by_appending_and_reads_the_same_after_a_reload() {
    let details = |text: &str| json!({"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": text}]});
    let server = ModelServer::start(vec![
        Reply::reasoning("hm")
            .and_text("two")
            .and_call("a", "f", json!({}))
            .and_call("b", "f", json!("{no")),
        stream(&[
            delta(details("one ")),
            delta(details("thought")),
            calls(
                json!([{"index": 0, "id": "c", "function": {"name": "f"}, "extra_content": {"google": {"thought_signature": "s"}}}]),
            ),
            finish(json!("tool_calls")),
        ]),
        Reply::text("done é\u{2028}\0"),
        Reply::text("again"),
    ]);
    let (model, head) = (chat(&server), head());
    let mut items = vec![user("hi")];
    let mut input = model.encode(&items);
    for _ in 0..4 {
        step(&model, &head, &mut items, &mut input).await;
        settled(&server).await;
    }
    assert_eq!(server.violations(), [""; 0]);
    assert_eq!(server.connections(), (1, 0));
    let text = |input: &[Arc<RawValue>]| -> Vec<String> {
        input.iter().map(|raw| raw.get().to_owned()).collect()
    };
    let stored = serde_json::to_string(&items).unwrap();
    let reloaded: Vec<Item> = serde_json::from_str(&stored).unwrap();
    let all = text(&model.encode(&reloaded));
    assert_eq!(all, text(&input));
    assert_eq!(
        all[1..],
        [
            r#"{"role":"assistant","content":"two","reasoning_content":"hm","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{\"malformed\":\"{no\"}"}}]}"#,
            r#"{"role":"tool","tool_call_id":"a","content":"ok"}"#,
            r#"{"role":"tool","tool_call_id":"b","content":"ok"}"#,
            r#"{"role":"assistant","content":null,"reasoning_details":[{"type":"reasoning.text","index":0,"text":"one thought"}],"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"s"}}}]}"#,
            r#"{"role":"tool","tool_call_id":"c","content":"ok"}"#,
            "{\"role\":\"assistant\",\"content\":\"done é\u{2028}\\u0000\"}",
            r#"{"role":"assistant","content":"again"}"#,
        ]
    );
    // To another model it is told without reasoning and signatures, in as many messages.
    let mut elsewhere = endpoint(&server);
    (elsewhere.model, elsewhere.wire_api) = ("other".into(), None);
    let foreign = text(&Remote::new(elsewhere).unwrap().encode(&items));
    assert_eq!(foreign.len(), all.len());
    assert!(
        foreign
            .iter()
            .all(|line| !line.contains("reasoning") && !line.contains("extra")),
        "{foreign:?}"
    );
}
