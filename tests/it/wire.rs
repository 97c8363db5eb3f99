//! The program and its model: which API is spoken, with whose key, what is kept of it and what it costs.

use serde_json::{Value, json};

use crate::support::{
    home::{Home, KEY},
    model_server::{ModelServer, Reply},
};

fn writes_a_file() -> Vec<Reply> {
    let file = json!({"path": "new.txt", "content": "hi\n"});
    vec![
        Reply::reasoning("hm")
            .and_call("a", "write_file", file)
            .usage(1000, 0, 100),
        Reply::text("it is there").usage(2000, 1500, 10),
    ]
}

fn run(mut command: std::process::Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_server_of_ones_own_is_spoken_with_over_chat_completions() {
    let (home, model) = (Home::new(), ModelServer::start(writes_a_file()));
    let arguments = ["-m", "make it", "--output", "json"];
    let (code, out, err) = run(home.openoxide_by_default(&model, &arguments));
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(home.read("new.txt"), "hi\n");
    assert_eq!(model.violations(), [""; 0]);
    let seen = model.requests();
    assert!(
        seen.iter()
            .all(|seen| seen.target == "/v1/chat/completions")
    );
    let outcome: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(seen[0].body["prompt_cache_key"], outcome["thread_id"]);
    assert_eq!(outcome["usage"]["cached_input_tokens"], 1500);
    assert!(outcome["usage"]["cost"].is_null());
}

#[test]
fn a_connection_that_the_server_has_just_left_is_none_of_a_persons_business() {
    let (home, mut script) = (Home::new(), writes_a_file());
    script[0] = script[0].clone().then_leaves();
    let model = ModelServer::start(script);
    let (code, out, err) = run(home.openoxide_by_default(&model, &["-m", "make it"]));
    assert_eq!((code, out.trim()), (Some(0), "it is there"), "{err}");
    assert!(!err.contains("trying again"), "{err}");
    assert!(model.answered() > 0, "the first answer was whole");
    assert_eq!((model.requests().len(), model.connections().0), (2, 2));
}

#[test]
fn the_first_request_is_small() {
    let home = Home::new();
    for api in ["chat", "responses"] {
        let model = ModelServer::start(vec![Reply::text("hello")]);
        let set = format!("model.wire_api={api}");
        run(home.openoxide_by_default(&model, &["-m", "hi", "-c", &set]));
        let bytes = model.requests()[0].body.to_string().len();
        assert!((2_000..12_000).contains(&bytes), "{api}: {bytes} bytes");
    }
}

#[test]
fn prices_that_the_owner_tells_make_a_cost() {
    let home = Home::new().config(
        "[model]\nname = \"m\"\nprices = { input = 2.0, cached_input = 0.5, output = 10.0 }\n",
    );
    let mut script = writes_a_file();
    script.push(Reply::text("yes").usage(5, 0, 1));
    let model = ModelServer::start(script);
    let arguments = ["-m", "make it", "--output", "json"];
    let (_, out, err) = run(home.openoxide_by_default(&model, &arguments));
    let outcome: Value = serde_json::from_str(&out).expect(&err);
    let cost = outcome["usage"]["cost"].as_f64().unwrap();
    let expect = (1000.0 * 2.0 + 100.0 * 10.0 + 500.0 * 2.0 + 1500.0 * 0.5 + 10.0 * 10.0) / 1e6;
    assert!((cost - expect).abs() < 1e-12, "{cost}, not {expect}");
    // And for the thread as a whole.
    run(home.openoxide_by_default(&model, &["--continue", "-m", "again"]));
    let (_, shown, _) = run(home.openoxide(&["threads", "show", &home.threads()[0]]));
    let usage = "usage: 3 requests · 3005 input tokens, 1500 of them cached · 111 output tokens · cost 0.0049\n";
    assert!(shown.contains(usage), "{shown}");
}

#[test]
fn a_recording_plays_without_a_model_and_holds_no_key() {
    let home = Home::new();
    let mut script = writes_a_file();
    script[1] = Reply::text(&format!("the key is {KEY}"));
    let model = ModelServer::start(script);
    let tape = home.state().with_file_name("tape.json");
    let tape = tape.to_str().unwrap();
    let (code, _, err) =
        run(home.openoxide_by_default(&model, &["-m", "make it", "--record", tape]));
    assert_eq!(code, Some(0), "{err}");
    let kept = std::fs::read_to_string(tape).unwrap();
    assert!(kept.contains("write_file") && !kept.contains(KEY), "{kept}");
    std::fs::remove_file(home.project().join("new.txt")).unwrap();
    let played = format!("recorded:{tape}");
    let (code, out, err) = run(home.openoxide(&["-m", "make it", "--model", &played]));
    assert_eq!(
        (code, out.trim()),
        (Some(0), "the key is [redacted]"),
        "{err}"
    );
    assert_eq!(home.read("new.txt"), "hi\n");
}

#[test]
fn a_key_comes_from_a_command_and_is_told_to_nobody_else() {
    let key = "sk-from-a-command-0123456789";
    let script = vec![
        Reply::call("a", "shell", json!({"command": "cat note.txt; env"})),
        Reply::text("done"),
    ];
    let home = Home::new().file("note.txt", key).config(&format!(
        "[model]\napi_key_command = [\"sh\", \"-c\", \"echo {key}\"]\n"
    ));
    let model = ModelServer::start(script);
    let mut command = home.openoxide_by_default(&model, &["-m", "hi", "--output", "json"]);
    command.env_remove("OPENAI_API_KEY");
    let (code, out, err) = run(command);
    assert_eq!(code, Some(0), "{err}");
    let seen = model.requests();
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {key}"));
    let outputs: Vec<&Value> = seen[1].body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["role"] == "tool")
        .collect();
    let output = outputs[0]["content"].as_str().unwrap();
    assert!(
        output.contains("[redacted]") && !output.contains(key),
        "{output}"
    );
    let rollout = std::fs::read_to_string(home.rollout_file(&home.threads()[0])).unwrap();
    for text in [out, err, rollout] {
        assert!(!text.contains(key), "{text}");
    }
}

#[test]
fn a_key_in_the_words_of_a_model_goes_nowhere() {
    let command = format!("echo {KEY} >seen.txt; wc -c <seen.txt");
    let script = vec![
        Reply::reasoning(&format!("I think of {KEY}"))
            .and_text(&format!("the key is {KEY}"))
            .and_call("a", "shell", json!({"command": command})),
        Reply::text("done"),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let arguments = ["-m", "hi", "--output", "stream-json"];
    let (code, out, err) = run(home.openoxide_by_default(&model, &arguments));
    assert_eq!(code, Some(0), "{err}");
    let rollout = std::fs::read_to_string(home.rollout_file(&home.threads()[0])).unwrap();
    let sent = model.requests()[1].body.to_string();
    for text in [out, err, rollout, sent, home.read("seen.txt")] {
        assert!(!text.contains(KEY), "{text}");
    }
    assert_eq!(home.read("seen.txt"), "[redacted]\n");
}

#[test]
fn a_command_that_gives_no_key_is_named() {
    let home = Home::new()
        .config("[model]\napi_key_command = [\"sh\", \"-c\", \"echo sk-0123456789; exit 2\"]\n");
    let model = ModelServer::start(Vec::new());
    let mut command = home.openoxide_by_default(&model, &["-m", "hi"]);
    command.env_remove("OPENAI_API_KEY");
    let (code, _, err) = run(command);
    assert_ne!(code, Some(0));
    assert!(
        err.contains("no key from `model.api_key_command`: `sh` failed"),
        "{err}"
    );
    assert!(!err.contains("sk-0123456789"), "{err}");
    assert_eq!(model.requests().len(), 0);
}

#[test]
fn our_key_goes_to_no_server_that_a_named_file_asks_for() {
    let (home, model) = (
        Home::new(),
        ModelServer::start(vec![Reply::text("hello"), Reply::text("hello")]),
    );
    let file = home.project().join("their.env");
    let lines = format!("OPENAI_BASE_URL={}\n", model.base_url());
    for (lines, sent) in [
        (lines.clone(), None),
        (
            lines + "OPENAI_API_KEY=sk-theirs-0123456789\n",
            Some("Bearer sk-theirs-0123456789"),
        ),
    ] {
        std::fs::write(&file, lines).unwrap();
        let mut command = home.openoxide(&["-m", "hi", "--env-file", "their.env"]);
        command.env_remove("OPENAI_BASE_URL");
        if sent.is_some() {
            command.env_remove("OPENAI_API_KEY");
        }
        let (code, _, err) = run(command);
        assert_eq!(code, Some(0), "{err}");
        let headers = &model.requests().last().unwrap().headers.clone();
        assert_eq!(headers.get("authorization").map(String::as_str), sent);
    }
}

#[test]
fn a_model_without_tools_edits_by_blocks_in_its_text() {
    let refusal = r#"{"error":{"message":"registry.ollama.ai/library/m does not support tools"}}"#;
    let block = |from: &str| {
        format!(
            "I change it.\n\na.txt\n```\n<<<<<<< SEARCH\n{from}\n=======\ntwo\n>>>>>>> REPLACE\n```\n"
        )
    };
    let model = ModelServer::start(vec![
        Reply::http(400, refusal),
        Reply::text(&block("none")),
        Reply::text(&block("one")),
        Reply::text("It is done."),
    ]);
    let home = Home::new().file("a.txt", "one\n");
    let (code, out, err) = run(home.openoxide_by_default(&model, &["-m", "make it two"]));
    assert_eq!((code, out.trim()), (Some(0), "It is done."), "{err}");
    assert_eq!(home.read("a.txt"), "two\n");
    let seen = model.requests();
    assert!(seen[1..].iter().all(|seen| seen.body["tools"].is_null()));
    let said = seen[3].body["messages"].to_string();
    assert!(
        said.contains("SEARCH") && !said.contains("tool_calls"),
        "{said}"
    );
    assert!(!said.contains("\"tool\""), "{said}");
}

#[test]
fn blocks_in_the_text_of_a_model_with_tools_are_text() {
    let quoted = "a.txt\n<<<<<<< SEARCH\none\n=======\ntwo\n>>>>>>> REPLACE\n";
    let model = ModelServer::start(vec![Reply::text(quoted)]);
    let home = Home::new().file("a.txt", "one\n");
    let (code, out, _) = run(home.openoxide_by_default(&model, &["-m", "quote it"]));
    assert_eq!((code, out.trim()), (Some(0), quoted.trim()));
    assert_eq!(home.read("a.txt"), "one\n");
}

#[test]
fn messages_of_the_user_are_put_together_where_a_template_wants_turns() {
    let refusal = r#"{"error":{"message":"Conversation roles must alternate user/assistant/user/assistant/..."}}"#;
    let (home, model) = (
        Home::new(),
        ModelServer::start(vec![Reply::http(500, refusal), Reply::text("hello")]),
    );
    let (code, _, err) = run(home.openoxide_by_default(&model, &["-m", "hi there"]));
    assert_eq!(code, Some(0), "{err}");
    let messages = &model.requests()[1].body["messages"];
    let roles: Vec<&str> = messages
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|message| message["role"].as_str())
        .collect();
    assert_eq!(roles, ["system", "user"]);
    assert!(
        messages[1]["content"]
            .as_str()
            .unwrap()
            .ends_with("\n\nhi there")
    );
}

/// The smallest thing that begins as a picture does.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";

#[test]
fn a_picture_is_shown_before_the_task_over_both_apis() {
    let url = "data:image/png;base64,iVBORw0KGgpyZXN0";
    let table = [
        (
            "chat",
            "messages",
            json!([{"type": "image_url", "image_url": {"url": url}}]),
        ),
        (
            "responses",
            "input",
            json!([{"type": "input_image", "image_url": url}]),
        ),
    ];
    for (api, conversation, expect) in table {
        let (home, model) = (Home::new(), ModelServer::start(vec![Reply::text("a cat")]));
        std::fs::write(home.project().join("cat.png"), PNG).unwrap();
        let set = format!("model.wire_api={api}");
        let arguments = [
            "-m",
            "what is it?",
            "--image",
            "cat.png",
            "-c",
            &set,
            "--output",
            "stream-json",
        ];
        let (code, out, err) = run(home.openoxide_by_default(&model, &arguments));
        assert_eq!(code, Some(0), "{err}");
        assert!(
            out.contains("cat.png") && !out.contains("iVBORw0KGgp"),
            "{out}"
        );
        let sent = &model.requests()[0].body[conversation];
        let at = sent.as_array().unwrap().len() - 2;
        assert_eq!(sent[at]["content"], expect, "{sent}");
        // It is there again when the thread goes on.
        let rollout = home.rollout(&home.threads()[0]);
        assert!(rollout.iter().any(|record| record["type"] == "picture"));
    }
}

#[test]
fn a_model_that_sees_no_pictures_is_told_of_them() {
    let refusal = r#"{"error":{"message":"this model does not support image input"}}"#;
    for (api, conversation) in [("chat", "messages"), ("responses", "input")] {
        let model = ModelServer::start(vec![
            Reply::http(400, refusal),
            Reply::text("what picture?"),
        ]);
        let home = Home::new();
        std::fs::write(home.project().join("cat.png"), PNG).unwrap();
        let set = format!("model.wire_api={api}");
        let arguments = ["-m", "what is it?", "-f", "cat.png", "-c", &set];
        let (code, _, err) = run(home.openoxide_by_default(&model, &arguments));
        assert_eq!(code, Some(0), "{err}");
        let sent = model.requests()[1].body[conversation].to_string();
        assert!(
            sent.contains("[a picture that this model cannot see]"),
            "{sent}"
        );
        assert!(!sent.contains("base64"), "{sent}");
    }
}

#[test]
fn what_is_too_large_or_no_picture_is_named() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let large = [PNG, &vec![0; 5 << 20]].concat();
    std::fs::write(home.project().join("large.png"), large).unwrap();
    std::fs::write(home.project().join("noise"), [0xff, 0xfe, 0xfd]).unwrap();
    let table = [
        (
            "large.png",
            "picture `large.png` has 5242892 bytes and may have 4194304",
        ),
        ("noise", "file `noise` is neither UTF-8 text nor a picture"),
        ("gone.png", "`gone.png`"),
    ];
    for (file, expect) in table {
        let (code, _, err) = run(home.openoxide_by_default(&model, &["-m", "hi", "--image", file]));
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(expect), "{err}");
    }
    assert_eq!(model.requests().len(), 0);
}
