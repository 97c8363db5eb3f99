//! External servers that are taken away, late, stuck or gone while a thread goes on, and what is read of them unasked.

use std::{process::Command, time::Duration};

use openoxide::tools::mcp::{Settings, Trust};
use serde_json::{Value, json};

use super::{calling, denied, log, offered, outputs, run, task, with};
use crate::support::{
    client::{Client, Dialect},
    home::Home,
    model_server::{ModelServer, Reply},
    outside,
};

/// A model that calls `name` once in each turn.
fn calling_again(name: &str, turns: usize) -> ModelServer {
    let turn = |n| {
        [
            Reply::call(&format!("c{n}"), name, json!({})),
            Reply::text("done"),
        ]
    };
    ModelServer::start((0..turns).flat_map(turn).collect())
}

fn go_on(home: &Home, model: &ModelServer) -> Command {
    home.openoxide_with(model, &["--continue", "-m", "y", "--output", "json"])
}

#[test]
fn a_tool_that_is_taken_away_is_refused_to_threads_that_had_it() {
    let home = with(Home::new(), "", "auto = ['*']");
    let before = calling(&[]);
    run(task(&home, &before, &[])).expect(0);
    for narrowed in ["deny_tools = ['echo']", "tools = ['zeta']"] {
        let home = with_again(&home, &format!("auto = ['*']\n{narrowed}"));
        let model = calling(&[("out__echo", json!({})), ("out__zeta", json!({}))]);
        run(go_on(home, &model)).expect(0);
        let outputs = outputs(&model);
        let [echo, zeta] = &outputs[outputs.len() - 2..] else {
            panic!("two outputs")
        };
        assert!(
            echo.contains("taken away") && echo.contains("`deny_tools`"),
            "{echo}"
        );
        assert!(zeta.contains("\nzeta\n"), "{zeta}");
        // What was sent with each request stays, and with it the provider's cache.
        assert_eq!(offered(&before, 0), offered(&model, 0));
    }
    assert!(!log(&home).contains("tools/call echo"), "{}", log(&home));
}

fn with_again<'a>(home: &'a Home, more: &str) -> &'a Home {
    let table = super::table(home, "out", "", more);
    std::fs::write(home.config_file(), table).expect("a file");
    home
}

#[test]
fn a_server_that_was_late_is_not_waited_for_again() {
    let home = with(Home::new(), "mute", "startup_seconds = 2");
    for (thread, why) in [
        ("the first", "2 s"),
        ("the next", "is not waited for again"),
    ] {
        let model = calling(&[]);
        let ran = run(task(&home, &model, &[])).expect(0);
        assert!(ran.stderr.contains(why), "{thread}: {}", ran.stderr);
    }
}

#[test]
fn a_server_that_stops_reading_in_the_middle_of_a_message_is_started_again() {
    let home = with(Home::new(), "", "auto = ['*']\ncall_seconds = 3");
    // More than a pipe holds.
    let long = json!({"text": "x".repeat(400_000)});
    let model = calling(&[
        ("out__deaf", json!({})),
        ("out__echo", long),
        ("out__echo", json!({"text": "awake"})),
    ]);
    run(task(&home, &model, &[])).expect(0);
    let outputs = outputs(&model);
    assert!(outputs[1].contains("did not answer"), "{}", outputs[1]);
    assert!(outputs[2].contains("awake"), "{}", outputs[2]);
    home.assert_deserted(&[]);
}

#[test]
fn a_call_to_a_server_that_is_down_gets_a_fresh_try() {
    let home = Home::new();
    let words = outside::command();
    let program = home.state().join("program");
    let install = || std::os::unix::fs::symlink(&words[0], &program).expect("a link");
    install();
    let home = home.config(&format!(
        "[mcp_servers.out]\ncommand = {program:?}\nargs = {:?}\nauto = ['*']\n",
        &words[1..]
    ));
    run(task(&home, &calling(&[]), &[])).expect(0);
    std::fs::remove_file(&program).expect("no program");
    let model = calling_again("out__echo", 2);
    let command = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::start(command, Dialect::Session("2025-06-18"));
    client.call("openoxide", json!({"prompt": "x"}));
    assert!(
        outputs(&model)[0].contains("could not be started"),
        "{:?}",
        outputs(&model)
    );
    install();
    client.call(
        "openoxide-reply",
        json!({"prompt": "y", "thread_id": "last"}),
    );
    client.hang_up();
    client.ends_within(Duration::from_secs(10));
    assert!(
        outputs(&model)[1].starts_with("[data "),
        "{:?}",
        outputs(&model)
    );
}

#[test]
fn resources_are_read_unasked_only_where_the_owner_says_so() {
    for (more, unasked) in [
        ("", false),
        ("auto = ['echo']", false),
        ("auto = ['read_resource']", true),
        ("context = true", true),
    ] {
        let home = with(Home::new(), "readable", more);
        let read = json!({"server": "out", "uri": "mem://a"});
        let model = calling(&[("read_resource", read)]);
        let ran = run(task(&home, &model, &[])).expect(0);
        let output = &outputs(&model)[0];
        assert_eq!(
            output.contains("the content of"),
            unasked,
            "{more}: {output}"
        );
        assert_eq!(
            denied(&ran).contains("read_resource"),
            !unasked,
            "{}",
            denied(&ran)
        );
        let model = calling(&[]);
        let command = home.openoxide_with(&model, &["mcp-server"]);
        let mut client = Client::start(command, Dialect::Session("2025-06-18"));
        client.call("openoxide-query", json!({"query": "x"}));
        client.close();
        for tool in ["list_resources", "read_resource"] {
            assert_eq!(
                offered(&model, 0).contains(&tool.to_owned()),
                unasked,
                "{more}"
            );
        }
    }
}

#[test]
fn a_flag_for_a_server_leaves_what_its_owner_has_set_and_a_bad_entry_costs_only_itself() {
    let home = with(Home::new(), "", "auto = ['echo']\ndeny_tools = ['z*']");
    let words = outside::command();
    let flag: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let flag = format!("out:stdio:{}", flag.join(" "));
    let file = json!({"mcpServers": {"bad": {"type": "sse", "url": "http://h"}, "off": {"disabled": true}}});
    let home = home.file("servers.json", &file.to_string());
    let model = calling(&[("out__echo", json!({"text": "unasked"}))]);
    let more = ["--mcp-server", &flag, "--mcp-config", "servers.json"];
    let ran = run(task(&home, &model, &more)).expect(0);
    assert!(
        outputs(&model)[0].contains("unasked"),
        "{:?}",
        outputs(&model)
    );
    assert!(!offered(&model, 0).contains(&"out__zeta".to_owned()));
    for part in ["servers.json", "`bad`", "`sse` is not spoken"] {
        assert!(ran.stderr.contains(part), "no {part} in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("`off`"), "{}", ran.stderr);
}

#[test]
fn a_question_shows_every_argument_or_there_is_none() {
    let home = with(Home::new(), "", "");
    let many = |n: usize, long: usize| -> Value {
        (0..n)
            .map(|n| (format!("key_{n}"), Value::from("x".repeat(long))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let model = calling(&[("out__echo", many(45, 600)), ("out__echo", many(300, 10))]);
    let (questions, _) = super::asked_over_mcp(&home, &model, "deny");
    assert_eq!(questions.len(), 1, "{questions:?}");
    let shown = questions[0]["message"].as_str().expect("a message");
    for n in 0..45 {
        assert!(
            shown.contains(&format!("\"key_{n}\": ")),
            "no key_{n} in {shown}"
        );
    }
    let refused = &outputs(&model)[1];
    assert!(
        refused.contains("more than a question can show"),
        "{refused}"
    );
}

#[test]
fn an_approval_for_the_session_stands_on_the_whole_digest() {
    let home = with(Home::new(), "", "");
    let model = calling(&[("out__echo", json!({}))]);
    let (questions, _) = super::asked_over_mcp(&home, &model, "approve_for_session");
    let shown = questions[0]["message"].as_str().expect("a message");
    let digest = shown.rsplit_once("describes it now (").expect("a digest").1;
    let digest = digest.split(')').next().unwrap_or_default();
    assert!(
        digest.len() == 64 && digest.bytes().all(|c| c.is_ascii_hexdigit()),
        "{shown}"
    );
}

#[test]
fn a_server_that_a_project_names_is_there_for_a_thread_in_a_worktree_too() {
    let words = outside::command();
    let file = json!({"mcpServers": {"theirs": {"command": words[0], "args": words[1..]}}});
    let home = Home::new().file(".mcp.json", &file.to_string());
    let commit =
        "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one";
    let made = Command::new("sh")
        .args(["-c", commit])
        .current_dir(home.project())
        .status();
    assert!(made.expect("a shell").success());
    let settings = Settings {
        command: Some(words[0].clone()),
        args: words[1..].to_vec(),
        ..Settings::default()
    };
    let project = home.project().canonicalize().expect("a directory");
    let file = home.state().join("mcp/trusted.json");
    Trust::read(&file)
        .agree("theirs", &settings, &project)
        .expect("a file");
    let model = calling(&[("theirs__echo", json!({"text": "here"}))]);
    let able = json!({"elicitation": {}});
    let command = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::able(command, Dialect::Session("2025-06-18"), able);
    let id = client.begin("openoxide", json!({"prompt": "x", "isolation": "worktree"}));
    let question = client.asked("elicitation/create");
    let answer = json!({"action": "accept", "content": {"decision": "approve"}});
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": answer}));
    client.result(id);
    client.close();
    assert!(outputs(&model)[0].contains("here"), "{:?}", outputs(&model));
}

#[test]
fn what_a_list_says_of_its_time_holds_for_new_threads() {
    let home = with(Home::new(), "fleeting", "auto = ['*']");
    let model = ModelServer::start((0..5).map(|_| Reply::text("done")).collect());
    let command = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::start(command, Dialect::Session("2025-06-18"));
    client.call("openoxide", json!({"prompt": "x"}));
    std::fs::write(home.state().join("flag"), "").expect("a file");
    let told = |request: usize| model.requests()[request].body["tools"].to_string();
    assert!(!told(0).contains("to a friend"), "{}", told(0));
    // A thread waits for that no longer than a moment; then it is there for the one after.
    let heard_of = (1..5).any(|thread| {
        std::thread::sleep(Duration::from_millis(700));
        client.call("openoxide", json!({"prompt": "y"}));
        told(thread).contains("to a friend")
    });
    client.close();
    assert!(heard_of, "{}", told(4));
}

#[test]
fn what_changed_while_nobody_could_hear_of_it_is_looked_at_after_a_break() {
    let server = outside::Http::start();
    let home = Home::new().config(&format!(
        "[mcp_servers.net]\nurl = '{}?quiet'\nauto = ['*']\n",
        server.url
    ));
    let model = calling(&[("net__echo", json!({}))]);
    run(task(&home, &model, &[])).expect(0);
    let model = calling(&[]);
    run(task(&home, &model, &[])).expect(0);
    assert!(offered(&model, 0).contains(&"net__fresh".to_owned()));
}

#[test]
fn an_error_of_http_is_said_as_it_is_and_ends_no_connection() {
    let server = outside::Http::start();
    let home = Home::new().config(&format!(
        "[mcp_servers.net]\nurl = '{}?busy'\nauto = ['*']\n",
        server.url
    ));
    let model = calling(&[("net__echo", json!({}))]);
    run(task(&home, &model, &[])).expect(0);
    let output = &outputs(&model)[0];
    assert!(
        output.contains("HTTP 429") && output.contains("slow down"),
        "{output}"
    );
    assert!(!output.contains("started again"), "{output}");
}
