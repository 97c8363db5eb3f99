//! What goes wrong outside of openoxide: each gets the error that says what to do, nothing hangs, nothing is left running.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    client::{Client, Dialect, NEWEST_SESSION, outcome, text, word},
    home::{Home, KEY, Ran, run},
    model_server::{ModelServer, Reply},
};

fn serve(home: &Home, model: &ModelServer, flags: &[&str]) -> Client {
    let command = home.openoxide_with(model, &[&["mcp-server"], flags].concat());
    Client::start(command, NEWEST_SESSION)
}

fn says_done() -> ModelServer {
    ModelServer::start(vec![Reply::text("done"), Reply::text("done again")])
}

/// An error for a person: one line that holds these words, and nothing on standard output.
fn assert_explained(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.stdout, "", "{ran:?}");
    for word in words {
        assert!(ran.stderr.contains(word), "no {word:?} in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains(KEY), "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

/// A port where nobody listens.
fn nobody_there() -> String {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    format!("http://{}/v1", listener.local_addr().expect("bound"))
}

/// A turn that failed, as a client sees it.
fn assert_failed(result: &Value, kind: &str, words: &[&str]) {
    assert_eq!(result["isError"], true, "{result}");
    assert_eq!(outcome(result)["status"], "failed", "{result}");
    assert_eq!(outcome(result)["error"]["kind"], kind, "{result}");
    for word in words {
        assert!(text(result).contains(word), "no {word:?} in {result}");
        let message = outcome(result)["error"]["message"].to_string();
        assert!(message.contains(word), "no {word:?} in {message}");
    }
    assert!(text(result).contains(&word(result, "thread_id")));
    assert!(!result.to_string().contains(KEY), "{result}");
}

// The model.

#[test]
fn a_wrong_key_is_told_without_showing_it() {
    // Some providers repeat what they were sent.
    let words = format!("Incorrect API key provided: {KEY}. You can find yours elsewhere.");
    let body = json!({"error": {"message": words, "code": "invalid_api_key"}}).to_string();
    let script = vec![Reply::http(401, &body), Reply::http(401, &body)];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let ran = run(home.openoxide_with(&model, &["-m", "x"])).expect(3);
    assert_explained(&ran, &["OPENAI_API_KEY", "refuses the key"]);
    assert_eq!(model.requests().len(), 1, "a wrong key is not tried again");
    let mut client = serve(&home, &model, &[]);
    let result = client.call("openoxide", json!({"prompt": "x"}));
    assert_failed(
        &result,
        "model_auth",
        &["OPENAI_API_KEY", "refuses the key"],
    );
    client.close();
    for thread_id in home.threads() {
        let rollout = home.rollout(&thread_id);
        assert!(!json!(rollout).to_string().contains(KEY), "{rollout:?}");
    }
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_told_soon() {
    let home = Home::new();
    let mut command = home.openoxide(&["-m", "x"]);
    let nowhere = nobody_there();
    command.env("OPENAI_BASE_URL", &nowhere);
    let began = Instant::now();
    let ran = run(command).expect(3);
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_explained(&ran, &["cannot reach", nowhere.as_str()]);
    let mut command = home.openoxide(&["mcp-server"]);
    command.env("OPENAI_BASE_URL", &nowhere);
    let mut client = Client::start(command, NEWEST_SESSION);
    let result = client.call("openoxide", json!({"prompt": "x"}));
    assert_failed(&result, "model_unreachable", &["cannot reach", &nowhere]);
    client.lives();
    client.close();
}

#[test]
fn a_model_that_does_not_exist_is_named() {
    let body = r#"{"error":{"message":"The model `gpt-9` does not exist","type":"invalid_request_error","code":"model_not_found"}}"#;
    let model = ModelServer::start(vec![Reply::http(404, body)]);
    let home = Home::new();
    let ran = run(home.openoxide_with(&model, &["-m", "x", "--model", "gpt-9"])).expect(1);
    assert_explained(&ran, &["has no model `gpt-9`"]);
    let mut client = serve(&home, &model, &[]);
    let result = client.call("openoxide", json!({"prompt": "x", "model": "gpt-9"}));
    assert_failed(&result, "model_rejected", &["has no model `gpt-9`"]);
    client.close();
}

#[test]
fn a_missing_key_is_told_before_anything_is_sent() {
    let home = Home::new();
    let without_key = |arguments: &[&str]| {
        let mut command = home.openoxide(arguments);
        command
            .env_remove("OPENAI_API_KEY")
            .env("OPENAI_BASE_URL", "https://model.invalid/v1");
        command
    };
    let began = Instant::now();
    let ran = run(without_key(&["-m", "x"]));
    assert!(matches!(ran.code, Some(2 | 3)), "{ran:?}");
    assert_explained(&ran, &["OPENAI_API_KEY"]);
    let mut client = Client::start(without_key(&["mcp-server"]), NEWEST_SESSION);
    client.lives();
    let result = client.call("openoxide", json!({"prompt": "x"}));
    assert_eq!(result["isError"], true, "{result}");
    assert!(text(&result).contains("OPENAI_API_KEY"), "{result}");
    assert!(began.elapsed() < Duration::from_secs(5), "tried in vain");
    client.close();
}

#[test]
fn this_machine_needs_no_key() {
    let (home, model) = (Home::new(), says_done());
    let mut command = home.openoxide_with(&model, &["-m", "x"]);
    command.env_remove("OPENAI_API_KEY");
    run(command).expect(0);
    assert!(!model.requests()[0].headers.contains_key("authorization"));
}

#[test]
fn a_model_that_calls_nonsense_is_told_and_goes_on() {
    let script = vec![
        Reply::call("c1", "no_such_tool", json!({"x": 1}))
            .and_call("c2", "read_file", json!("{\"path\": \"a.tx"))
            .and_call("c3", "read_file", json!({"path": 5}))
            .and_call("c4", "read_file", json!({"file": "a.txt"}))
            .and_call("c5", "shell", json!({"command": ""}))
            .and_call("c6", "read_file", json!({"path": "../../etc/passwd"}))
            .and_call("c7", "edit_file", json!("")),
        Reply::text("I give up."),
    ];
    let home = Home::new().file("a.txt", "one\n");
    let model = ModelServer::start(script);
    let mut client = serve(&home, &model, &[]);
    let result = client.call("openoxide", json!({"prompt": "x"}));
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    assert_eq!(outcome(&result)["content"], "I give up.");
    let requests = model.requests();
    let input = requests[1].body["input"].as_array().expect("input");
    let told = |call_id: &str| -> String {
        let output = input
            .iter()
            .find(|item| item["type"] == "function_call_output" && item["call_id"] == call_id);
        output.unwrap_or_else(|| panic!("{call_id} has no output"))["output"].to_string()
    };
    for (call_id, words) in [
        (
            "c1",
            &["no tool `no_such_tool`", "read_file", "edit_file"][..],
        ),
        ("c2", &["could not be read"]),
        ("c3", &["path"]),
        ("c4", &["`file`"]),
        ("c5", &["`command`"]),
        ("c6", &["outside the workspace"]),
        ("c7", &["could not be read"]),
    ] {
        for word in words {
            assert!(
                told(call_id).contains(word),
                "{call_id}: no {word:?} in {}",
                told(call_id)
            );
        }
    }
    assert_eq!(model.violations(), [""; 0]);
    client.close();
}

// The command line and the configuration.

#[test]
fn wrong_usage_names_what_is_wrong_and_ends_with_two() {
    let home = Home::new();
    for (arguments, words) in [
        (&["--nonsense"][..], &["--nonsense"][..]),
        (
            &["-m", "x", "--sandboxx", "read-only"],
            &["--sandboxx", "--sandbox"],
        ),
        (&["-m", "x", "--sandbox", "open"], &["open", "read-only"]),
        (
            &["-m", "x", "--max-steps", "many"],
            &["--max-steps", "many"],
        ),
        (&["-m", "x", "--output", "xml"], &["xml", "stream-json"]),
        (&["-m", ""], &["the task is empty"]),
        (&["-m", "  \n "], &["the task is empty"]),
        (&["-m", "-"], &["the task is empty"]),
        (&["-m", "x", "--cwd", "no/such/place"], &["no/such/place"]),
        (
            &["mcp-server", "--cwd", "no/such/place"],
            &["no/such/place"],
        ),
        (
            &["-m", "x", "--profile", "nosuch"],
            &["unknown profile `nosuch`"],
        ),
        (&["-m", "x", "--env-file", "no.env"], &["no.env"]),
        (&["-m", "x", "-c", "nonsense"], &["nonsense", "key=value"]),
        (
            &["-m", "x", "-c", "limits.max_stepz=1"],
            &["`max_stepz`", "did you mean `max_steps`?"],
        ),
        (
            &["-m", "x", "-c", "limits.max_steps=many"],
            &["limits.max_steps"],
        ),
        (&["mcp-server", "--wait", "soon"], &["--wait soon"]),
        (
            &["mcp-server", "--when-unattended", "guess"],
            &["guess", "auto-within-policy"],
        ),
        (&["nosuchcommand"], &["nosuchcommand"]),
        (&["threads"], &["list"]),
    ] {
        let ran = run(home.openoxide(arguments)).expect(2);
        assert_explained(&ran, words);
    }
    assert_eq!(home.threads(), [""; 0], "a thread was made all the same");
}

#[test]
fn a_task_that_cannot_begin_leaves_no_thread_behind() {
    let (home, model) = (Home::new(), says_done());
    let arguments = ["-m", "x", "--file", "no-such.txt"];
    let ran = run(home.openoxide_with(&model, &arguments)).expect(2);
    assert_explained(&ran, &["`no-such.txt`"]);
    assert_eq!(model.requests().len(), 0);
    // An empty one would be what `--continue` finds next.
    assert_eq!(home.threads(), [""; 0]);
}

#[test]
fn an_unknown_configuration_key_is_named_with_its_file_line_and_the_nearest_known_one() {
    let home = Home::new().config("[policy]\nsandbox = \"read-only\"\nsandboxx = 1\n");
    let file = home.config_file();
    for arguments in [&["-m", "x"][..], &["mcp-server"]] {
        let ran = run(home.openoxide(arguments)).expect(2);
        let file = file.to_str().expect("UTF-8");
        let words = [file, "`sandboxx`", "line 3", "did you mean `sandbox`?"];
        assert_explained(&ran, &words);
    }
    let home = Home::new().config("[model\n");
    let ran = run(home.openoxide(&["-m", "x"])).expect(2);
    assert_explained(&ran, &["config.toml", "line 1"]);
}

#[test]
fn a_project_cannot_point_the_key_elsewhere() {
    let model = says_done();
    let home = Home::new().file(
        ".openoxide/config.toml",
        "\n[model]\nbase_url = \"http://evil.invalid\"\n",
    );
    let ran = run(home.openoxide_with(&model, &["-m", "x"])).expect(2);
    let words = [
        ".openoxide/config.toml",
        "`base_url`",
        "line 3",
        "your own configuration file",
    ];
    assert_explained(&ran, &words);
    assert_eq!(model.requests().len(), 0);
}

// Places.

#[test]
fn some_places_are_never_worked_in() {
    let (home, model) = (Home::new(), says_done());
    let own_home = home.home();
    let own_home = own_home.to_str().expect("UTF-8");
    let state = home.state();
    let state = state.to_str().expect("UTF-8");
    let mut client = serve(&home, &model, &[]);
    for (cwd, words) in [
        ("/", "never a writable workspace"),
        ("/etc", "never a writable workspace"),
        ("/usr/bin", "never a writable workspace"),
        (own_home, "never a writable workspace"),
        (state, "never a writable workspace"),
        ("no/such/place", "no/such/place"),
    ] {
        let refusal = client.refusal("openoxide", json!({"prompt": "x", "cwd": cwd}));
        assert!(refusal.contains(words), "{cwd}: {refusal}");
    }
    assert_eq!(model.requests().len(), 0);
    client.lives();
    client.close();
    for cwd in ["/", own_home] {
        let mut command = home.openoxide_with(&model, &["-m", "x"]);
        command.current_dir(cwd);
        let ran = run(command).expect(2);
        assert_explained(&ran, &["never a writable workspace", cwd]);
    }
    let ran = run(home.openoxide_with(&model, &["-m", "x", "--cwd", "/"])).expect(2);
    assert_explained(&ran, &["never a writable workspace"]);
    assert_eq!(home.threads(), [""; 0]);
    // A home directory that the owner names, and reading, are fine.
    run(home.openoxide_with(&model, &["-m", "x", "--cwd", own_home])).expect(0);
    run(home.openoxide_with(&model, &["-m", "x", "--cwd", "/", "--sandbox", "read-only"]))
        .expect(0);
}

#[test]
fn the_owners_roots_hold_callers() {
    let (home, model) = (
        Home::new().file("in/a.txt", "").file("out/b.txt", ""),
        says_done(),
    );
    let mut client = serve(&home, &model, &["--root", "in"]);
    let refusal = client.refusal("openoxide", json!({"prompt": "x", "cwd": "out"}));
    assert!(refusal.contains("outside this server's roots"), "{refusal}");
    std::os::unix::fs::symlink("../out", home.project().join("in/link")).expect("a link");
    let refusal = client.refusal("openoxide", json!({"prompt": "x", "cwd": "in/link"}));
    assert!(refusal.contains("outside this server's roots"), "{refusal}");
    let result = client.call("openoxide", json!({"prompt": "x", "cwd": "in"}));
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    client.close();
}

#[test]
fn a_thread_whose_directory_became_a_link_is_refused_and_does_not_stay_behind_it() {
    let home = Home::new()
        .file("in/sub/notes.txt", "INSIDE")
        .file("out/notes.txt", "OUTSIDE");
    let looks = json!({"path": "notes.txt"});
    let model = ModelServer::start(vec![
        Reply::text("done"),
        Reply::call("c1", "read_file", looks),
        Reply::text("done"),
    ]);
    let mut client = serve(&home, &model, &["--root", "in"]);
    let began = client.call("openoxide", json!({"prompt": "x", "cwd": "in/sub"}));
    let id = word(&began, "thread_id");
    client.close();
    let at = |name: &str| home.project().join(name);
    std::fs::rename(at("in/sub"), at("in/before")).expect("moved");
    std::os::unix::fs::symlink("../out", at("in/sub")).expect("a link");
    let mut client = serve(&home, &model, &["--root", "in"]);
    let go_on = json!({"thread_id": id, "prompt": "x", "files": ["notes.txt"]});
    let refusal = client.refusal("openoxide-reply", go_on.clone());
    assert!(refusal.contains("is another one now"), "{refusal}");
    std::fs::remove_file(at("in/sub")).expect("removed");
    std::fs::rename(at("in/before"), at("in/sub")).expect("moved back");
    let result = client.call("openoxide-reply", go_on);
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    let said = format!("{:?}", model.requests());
    assert!(said.contains("INSIDE") && !said.contains("OUTSIDE"));
    client.close();
}

#[test]
fn files_that_a_caller_names_are_read_only_inside() {
    let home = Home::new().file("a.txt", "alpha").file(".env", "SECRET=1");
    let model = says_done();
    std::os::unix::fs::symlink("/etc/passwd", home.project().join("link")).expect("a link");
    let mut client = serve(&home, &model, &[]);
    for name in [
        "../state/config.toml",
        "/etc/passwd",
        "link",
        ".env",
        "no-such.txt",
    ] {
        let arguments = json!({"prompt": "x", "files": ["a.txt", name]});
        let refusal = client.refusal("openoxide", arguments);
        assert!(refusal.contains(name), "{refusal}");
        assert!(!refusal.contains("SECRET=1"), "{refusal}");
    }
    assert_eq!(model.requests().len(), 0);
    let result = client.call("openoxide", json!({"prompt": "x", "files": ["a.txt"]}));
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    assert!(model.requests()[0].body.to_string().contains("alpha"));
    client.close();
}

// Callers.

#[test]
fn arguments_that_do_not_parse_are_named() {
    for dialect in [
        Dialect::Session("2024-11-05"),
        NEWEST_SESSION,
        Dialect::Inline,
    ] {
        let (home, model) = (Home::new(), says_done());
        let mut client = Client::start(home.openoxide_with(&model, &["mcp-server"]), dialect);
        for (tool, arguments, words) in [
            ("openoxide", json!({}), &["`prompt`"][..]),
            ("openoxide", json!({"prompt": 5}), &["`prompt`"]),
            ("openoxide", json!({"prompt": ""}), &["`prompt`", "empty"]),
            (
                "openoxide",
                json!({"prompt": " \n"}),
                &["`prompt`", "empty"],
            ),
            (
                "openoxide",
                json!({"prompt": "x", "nonsense": 1}),
                &["`nonsense`"],
            ),
            (
                "openoxide",
                json!({"prompt": "x", "sandbox": "open"}),
                &["`sandbox`", "open"],
            ),
            (
                "openoxide",
                json!({"prompt": "x", "approval_policy": 1}),
                &["`approval_policy`"],
            ),
            (
                "openoxide",
                json!({"prompt": "x", "wait_seconds": "soon"}),
                &["wait_seconds"],
            ),
            (
                "openoxide",
                json!({"prompt": "x", "detail": "some"}),
                &["detail"],
            ),
            (
                "openoxide",
                json!({"prompt": "x", "files": "a.txt"}),
                &["`files`"],
            ),
            (
                "openoxide",
                json!({"prompt": "x", "isolation": "moon"}),
                &["`isolation`"],
            ),
            (
                "openoxide",
                json!({"prompt": "x", "config": {"server": {}}}),
                &["`config", "server"],
            ),
            ("openoxide-reply", json!({"prompt": "x"}), &["`thread_id`"]),
            ("openoxide-reply", json!({"thread_id": 5}), &["`thread_id`"]),
            (
                "openoxide-reply",
                json!({"thread_id": "last", "prompt": ""}),
                &["`prompt`", "empty"],
            ),
            ("openoxide-query", json!({}), &["`query`"]),
            (
                "openoxide-query",
                json!({"query": ""}),
                &["`query`", "empty"],
            ),
            (
                "openoxide-query",
                json!({"query": "x", "prompt": "x"}),
                &["`prompt`"],
            ),
        ] {
            let refusal = client.refusal(tool, arguments.clone());
            for word in words {
                assert!(
                    refusal.contains(word),
                    "{tool} {arguments}: no {word:?} in {refusal}"
                );
            }
        }
        assert_eq!(
            model.requests().len(),
            0,
            "something was begun all the same"
        );
        assert_eq!(home.threads(), [""; 0], "a thread was made all the same");
        client.lives();
        client.close();
    }
}

#[test]
fn a_wait_that_is_no_time_begins_nothing() {
    for wait in [json!(-1), json!(-0.5), json!(1e300)] {
        let (home, model) = (Home::new(), says_done());
        let mut client = serve(&home, &model, &[]);
        let arguments = json!({"prompt": "x", "wait_seconds": wait});
        let refusal = client.refusal("openoxide", arguments);
        assert!(refusal.contains("`wait_seconds`"), "{refusal}");
        assert_eq!(model.requests().len(), 0);
        assert_eq!(home.threads(), [""; 0], "a thread was made all the same");
        client.close();
    }
}

#[test]
fn no_caller_goes_beyond_the_servers_sandbox() {
    for (flags, wished, allowed) in [
        (&[][..], "danger-full-access", false),
        (&["--allow-full-access"], "danger-full-access", true),
        (&["--sandbox", "read-only"], "workspace-write", false),
        (&["--sandbox", "read-only"], "danger-full-access", false),
        (
            &["--sandbox", "read-only", "--allow-full-access"],
            "danger-full-access",
            false,
        ),
        (
            &["--sandbox", "workspace-write"],
            "danger-full-access",
            false,
        ),
        (&["--sandbox", "workspace-write"], "read-only", true),
    ] {
        let (home, model) = (Home::new(), says_done());
        let mut client = serve(&home, &model, flags);
        let arguments = json!({"prompt": "x", "sandbox": wished});
        if allowed {
            let result = client.call("openoxide", arguments);
            assert_eq!(
                outcome(&result)["status"],
                "completed",
                "{flags:?}: {result}"
            );
            assert_eq!(outcome(&result)["sandbox"]["policy"], wished);
        } else {
            let refusal = client.refusal("openoxide", arguments);
            assert!(
                refusal.contains(wished) && refusal.contains("wider"),
                "{flags:?}: {refusal}"
            );
            assert_eq!(model.requests().len(), 0);
        }
        client.close();
    }
}

#[test]
fn no_caller_loosens_a_careful_server() {
    let (home, model) = (Home::new(), says_done());
    let mut client = serve(&home, &model, &["--approval-policy", "untrusted"]);
    for wished in ["on-request", "never"] {
        let arguments = json!({"prompt": "x", "approval_policy": wished});
        let refusal = client.refusal("openoxide", arguments);
        assert!(
            refusal.contains(wished) && refusal.contains("untrusted"),
            "{refusal}"
        );
    }
    let arguments = json!({"prompt": "x", "config": {"limits": {"max_steps": 9999}}});
    let refusal = client.refusal("openoxide", arguments);
    assert!(
        refusal.contains("200") && refusal.contains("only the owner"),
        "{refusal}"
    );
    assert!(home.threads().is_empty());
    client.close();
}

// The wire.

fn code(answer: &Value) -> i64 {
    answer["error"]["code"]
        .as_i64()
        .unwrap_or_else(|| panic!("no error: {answer}"))
}

#[test]
fn lines_that_are_no_messages_are_answered_and_survived() {
    let (home, model) = (Home::new(), says_done());
    let mut client = serve(&home, &model, &[]);
    for (line, expected) in [
        (&b"{\"jsonrpc\": \"2.0\", \"id\": 1, \n"[..], -32700),
        (b"hello\n", -32700),
        (b"\xff\xfe{}\n", -32700),
        (b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"\xc3\x28\"}\n", -32700),
        (b"[]\n", -32600),
        (b"[{\"jsonrpc\":\"2.0\",\"id\":70,\"method\":\"ping\"}]\n", -32600),
        (b"{}\n", -32600),
        (b"5\n", -32600),
        (b"{\"jsonrpc\":\"1.0\",\"id\":71,\"method\":\"ping\"}\n", -32600),
        (b"{\"jsonrpc\":\"2.0\",\"id\":72,\"method\":\"no/such\"}\n", -32601),
        (b"{\"jsonrpc\":\"2.0\",\"id\":73,\"method\":\"tools/call\"}\n", -32602),
        (b"{\"jsonrpc\":\"2.0\",\"id\":74,\"method\":\"tools/call\",\"params\":{\"name\":5}}\n", -32602),
        (b"{\"jsonrpc\":\"2.0\",\"id\":75,\"method\":\"tools/call\",\"params\":{\"name\":\"nosuch\"}}\n", -32602),
    ] {
        client.raw(line);
        let shown = String::from_utf8_lossy(line).into_owned();
        let answer = client.until(&format!("an answer to {shown}"), |message| {
            message.get("error").is_some()
        });
        assert_eq!(code(&answer), expected, "{shown}: {answer}");
        if expected == -32700 {
            assert!(answer["id"].is_null(), "{answer}");
        }
    }
    // Nothing is said to these.
    client.raw(b"\n\r\n  \n");
    client.raw(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/nonsense\"}\n");
    client.raw(b"{\"jsonrpc\":\"2.0\",\"id\":999,\"result\":{}}\n");
    client.lives();
    assert!(client.heard.is_empty(), "{:?}", client.heard);
    let result = client.call("openoxide", json!({"prompt": "x"}));
    assert_eq!(outcome(&result)["content"], "done");
    client.close();
}

#[test]
fn requests_before_initialize_are_refused_and_do_not_end_the_server() {
    let home = Home::new();
    let mut client = Client::silent(home.openoxide(&["mcp-server"]));
    client.notify("notifications/initialized", json!({}));
    client.notify("notifications/cancelled", json!({"requestId": 1}));
    for (method, params) in [
        ("tools/list", json!({})),
        (
            "tools/call",
            json!({"name": "openoxide", "arguments": {"prompt": "x"}}),
        ),
        ("no/such", json!({})),
    ] {
        let id = client.request(method, params);
        let answer = client.answer(id);
        let expected = if method == "no/such" { -32601 } else { -32600 };
        assert_eq!(code(&answer), expected, "{answer}");
    }
    assert_eq!(client.ask("ping", json!({})), json!({}));
    assert_eq!(
        home.threads(),
        [""; 0],
        "a call before the session was served"
    );
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "it", "version": "1"}});
    let greeting = client.ask("initialize", hello);
    assert_eq!(greeting["protocolVersion"], "2025-06-18");
    client.notify("notifications/initialized", json!({}));
    client.lives();
    client.close();
}

#[test]
fn a_version_that_nobody_knows_is_negotiated_or_refused_with_the_known_ones() {
    let home = Home::new();
    let mut client = Client::silent(home.openoxide(&["mcp-server"]));
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2031-01-01",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let id = client.request("tools/list", json!({"_meta": meta}));
    let answer = client.answer(id);
    assert_eq!(code(&answer), -32022, "{answer}");
    let supported = answer["error"]["data"]["supported"].to_string();
    assert!(supported.contains("2026-07-28"), "{answer}");
    let hello = json!({"protocolVersion": "2031-01-01", "capabilities": {}, "clientInfo": {"name": "it", "version": "1"}});
    let greeting = client.ask("initialize", hello);
    assert_eq!(greeting["protocolVersion"], "2025-11-25");
    client.notify("notifications/initialized", json!({}));
    client.lives();
    client.close();
}
