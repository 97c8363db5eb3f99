//! Tools for callers who want hands and not an agent: `--workspace-tools`.

use std::{
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::keys;
use crate::support::{
    client::{Client, DIALECTS, Dialect, NEWEST_SESSION, text},
    home::{Home, eventually},
};

const SOURCE: &str =
    "import os\n\n# TODO: more\ndef pick(a):\n    if a and os:\n        return 1\n    return 2\n";

fn serve(home: &Home, dialect: Dialect, flags: &[&str]) -> Client {
    able(home, dialect, json!({}), flags)
}

fn able(home: &Home, dialect: Dialect, capabilities: Value, flags: &[&str]) -> Client {
    let arguments = [&["mcp-server", "--workspace-tools"], flags].concat();
    Client::able(home.openoxide(&arguments), dialect, capabilities)
}

fn with_source() -> Home {
    Home::new()
        .file("src/pick.py", SOURCE)
        .file(".gitignore", "out\n")
        .file("out/x.py", "pick\n")
}

fn names(client: &mut Client) -> Vec<String> {
    let list = client.ask("tools/list", json!({}));
    let tools = list["tools"].as_array().expect("tools").iter();
    tools
        .map(|tool| tool["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// What a program reads; every answer must fit the schema that was listed.
fn structure(result: &Value) -> &Value {
    assert_eq!(result["isError"], false, "{result}");
    &result["structuredContent"]
}

#[test]
fn they_are_there_for_those_who_ask_and_say_what_they_are() {
    let home = Home::new();
    let mut plain = Client::start(home.openoxide(&["mcp-server"]), NEWEST_SESSION);
    assert_eq!(names(&mut plain).len(), 3);
    let id = plain.begin("run_command", json!({"command": "true"}));
    assert_eq!(plain.answer(id)["error"]["code"], -32602);
    plain.close();
    let hands = ["search_codebase", "run_command", "analyze_file"];
    for dialect in DIALECTS {
        let mut client = serve(&home, dialect, &[]);
        assert_eq!(names(&mut client)[3..], hands, "{dialect:?}");
        let list = client.ask("tools/list", json!({}));
        for (at, reads, required) in [
            (3, true, "pattern"),
            (4, false, "command"),
            (5, true, "path"),
        ] {
            let tool = &list["tools"][at];
            assert_eq!(tool["annotations"]["readOnlyHint"], reads, "{tool}");
            assert_eq!(tool["inputSchema"]["required"], json!([required]), "{tool}");
            assert_eq!(tool["outputSchema"]["type"], "object", "{tool}");
        }
        client.close();
    }
    let mut codex = serve(&home, NEWEST_SESSION, &["--codex-tools"]);
    assert_eq!(
        names(&mut codex),
        [&["codex", "codex-reply", "openoxide-query"][..], &hands].concat()
    );
}

#[test]
fn every_client_searches_analyzes_and_runs_without_a_model() {
    for dialect in DIALECTS {
        let home = with_source();
        let mut client = serve(&home, dialect, &[]);
        let found = client.call(
            "search_codebase",
            json!({"pattern": "PICK|todo", "ignore_case": true, "glob": "*.py"}),
        );
        let expected = json!([
            {"path": "src/pick.py", "line": 3, "text": "# TODO: more"},
            {"path": "src/pick.py", "line": 4, "text": "def pick(a):"},
        ]);
        assert_eq!(structure(&found)["matches"], expected, "{found}");
        assert!(text(&found).contains("def pick(a):"), "{found}");
        let few = client.call(
            "search_codebase",
            json!({"pattern": "a", "path": "src", "limit": 1, "context_lines": 1}),
        );
        assert_eq!(structure(&few)["truncated"], true, "{few}");
        assert_eq!(structure(&few)["matches"][0]["path"], "src/pick.py");

        let analyzed = client.call("analyze_file", json!({"path": "src/pick.py"}));
        let found = structure(&analyzed);
        assert_eq!(
            (&found["language"], &found["lines"]),
            (&json!("Python"), &json!(7)),
            "{found}"
        );
        let function =
            json!({"name": "pick", "line": 4, "end_line": 7, "length": 4, "complexity": 3});
        assert_eq!(found["functions"], json!([function]));
        assert_eq!(found["todos"], json!([{"line": 3, "text": "# TODO: more"}]));
        assert_eq!(found["imports"], json!([{"line": 1, "text": "import os"}]));

        let ran = client.call(
            "run_command",
            json!({"command": "pwd; echo no >&2; exit 3", "cwd": "src"}),
        );
        let place = home.project().canonicalize().expect("there").join("src");
        assert_eq!(structure(&ran)["exit_code"], 3, "{ran}");
        assert_eq!(
            structure(&ran)["output"],
            format!("{}\nno\n", place.display()),
            "{ran}"
        );
        assert!(
            structure(&ran)["seconds"]
                .as_f64()
                .is_some_and(|seconds| seconds < 60.0)
        );
        let late = client.call(
            "run_command",
            json!({"command": "echo a; sleep 60", "timeout_seconds": 0.5}),
        );
        assert_eq!(
            keys(structure(&late)),
            ["output", "seconds", "timed_out"],
            "{late}"
        );
        assert_eq!(names(&mut client).len(), 6);
        assert_eq!(home.threads(), [""; 0]);
        client.close();
    }
}

#[test]
fn they_reach_no_further_than_the_agent_does() {
    let outside = tempfile::tempdir().expect("a directory");
    std::fs::write(outside.path().join("secret.py"), "def secret(): pass\n").expect("written");
    let home = with_source();
    symlink(outside.path(), home.project().join("link")).expect("a link");
    let secret = outside
        .path()
        .join("secret.py")
        .to_string_lossy()
        .into_owned();
    let mut client = serve(&home, NEWEST_SESSION, &[]);
    for path in [secret.as_str(), "../", "link/secret.py", "/etc/passwd"] {
        for (tool, arguments) in [
            ("analyze_file", json!({"path": path})),
            (
                "search_codebase",
                json!({"pattern": "secret", "path": path}),
            ),
        ] {
            let refused = client.refusal(tool, arguments);
            assert!(
                refused.contains("outside the workspace"),
                "{tool} {path}: {refused}"
            );
        }
    }
    let state = home.state().to_string_lossy().into_owned();
    let refused = client.refusal("analyze_file", json!({"path": state}));
    assert!(refused.contains("is private"), "{refused}");
    for (tool, arguments, word) in [
        ("run_command", json!({"command": ""}), "empty"),
        (
            "run_command",
            json!({"command": "ls", "escalate": true}),
            "escalate",
        ),
        (
            "run_command",
            json!({"command": "ls", "cwd": "/nowhere"}),
            "nowhere",
        ),
        (
            "run_command",
            json!({"command": "ls", "cwd": "/"}),
            "never a writable workspace",
        ),
        ("search_codebase", json!({"pattern": "("}), "pattern"),
        ("search_codebase", json!({}), "pattern"),
        (
            "analyze_file",
            json!({"path": "src/pik.py"}),
            "did you mean `src/pick.py`",
        ),
        ("analyze_file", json!({"path": "src"}), "unreadable"),
    ] {
        let refused = client.refusal(tool, arguments.clone());
        assert!(refused.contains(word), "{tool} {arguments}: {refused}");
    }
    client.close();
    let roots = [
        outside.path().to_string_lossy().into_owned(),
        home.project().to_string_lossy().into_owned(),
    ];
    let mut client = serve(
        &home,
        NEWEST_SESSION,
        &["--root", &roots[0], "--root", &roots[1]],
    );
    let found = client.call(
        "search_codebase",
        json!({"pattern": "secret", "path": roots[0]}),
    );
    assert_eq!(
        structure(&found)["matches"][0]["path"],
        "secret.py",
        "{found}"
    );
    let refused = client.refusal("run_command", json!({"command": "ls", "cwd": "/tmp"}));
    assert!(refused.contains("outside this server's roots"), "{refused}");
}

#[test]
fn a_command_is_held_by_the_owners_ceiling_and_rules() {
    let home = Home::new().config("[policy]\ndeny = [\"rm\"]\n");
    let mut client = serve(&home, NEWEST_SESSION, &["--sandbox", "read-only"]);
    let ran = client.call("run_command", json!({"command": "touch made || true"}));
    assert_eq!(home.names(), [""; 0], "{ran}");
    let refused = client.refusal("run_command", json!({"command": "rm -rf x"}));
    assert!(
        refused.contains("denied") && refused.contains("policy.deny"),
        "{refused}"
    );
}

#[test]
fn under_untrusted_nobody_is_waited_for_and_a_person_is_asked() {
    let untrusted = ["--approval-policy", "untrusted"];
    let touch = json!({"command": "touch made"});
    let home = Home::new().file("a.txt", "x\n");
    let mut client = serve(&home, NEWEST_SESSION, &untrusted);
    let began = Instant::now();
    let refused = client.refusal("run_command", touch.clone());
    assert!(
        refused.contains("denied") && refused.contains("nobody could be asked"),
        "{refused}"
    );
    assert!(began.elapsed() < Duration::from_secs(20));
    // What is certain only to read runs.
    let read = client.call("run_command", json!({"command": "cat a.txt"}));
    assert_eq!(structure(&read)["output"], "x\n", "{read}");
    client.close();
    for (answer, made) in [
        (json!({"action": "decline"}), false),
        (json!({"action": "cancel"}), false),
        (
            json!({"action": "accept", "content": {"decision": "approve"}}),
            true,
        ),
    ] {
        let home = Home::new();
        let mut client = able(
            &home,
            NEWEST_SESSION,
            json!({"elicitation": {}}),
            &untrusted,
        );
        let id = client.begin("run_command", touch.clone());
        let asked = client.asked("elicitation/create");
        let message = asked["params"]["message"].as_str().expect("words");
        assert!(message.contains("run `touch made`"), "{message}");
        assert!(
            !asked.to_string().contains("approve_for_session"),
            "{asked}"
        );
        client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": answer}));
        let result = client.result(id);
        assert_eq!(result["isError"], !made, "{result}");
        assert_eq!(home.has("made"), made, "{answer}");
        client.close();
    }
}

#[test]
fn an_answer_that_comes_with_the_call_counts_once_and_for_its_question_only() {
    let home = Home::new();
    let elicits = json!({"elicitation": {"form": {}}});
    let mut client = able(
        &home,
        Dialect::Inline,
        elicits,
        &["--approval-policy", "untrusted"],
    );
    let arguments = json!({"command": "echo x >> made"});
    let id = client.begin("run_command", arguments.clone());
    let first = client.result(id);
    assert_eq!(first["resultType"], "input_required", "{first}");
    let question = keys(&first["inputRequests"])[0].to_owned();
    let mut again = |arguments: &Value, asked: &Value, question: &str, decision: &str| {
        let answer = json!({"action": "accept", "content": {"decision": decision}});
        let id = client.request(
            "tools/call",
            json!({
                "name": "run_command", "arguments": arguments,
                "requestState": asked["requestState"], "inputResponses": {question: answer},
            }),
        );
        client.answer(id)
    };
    let other = again(
        &json!({"command": "echo y >> made"}),
        &first,
        &question,
        "approve",
    );
    assert_eq!(other["error"]["code"], -32602, "{other}");
    let ran = again(&arguments, &first, &question, "approve");
    assert_eq!(ran["result"]["structuredContent"]["exit_code"], 0, "{ran}");
    let replayed = again(&arguments, &first, &question, "approve");
    assert_eq!(
        replayed["result"]["resultType"], "input_required",
        "{replayed}"
    );
    assert_eq!(home.read("made"), "x\n");
    let question = keys(&replayed["result"]["inputRequests"])[0].to_owned();
    let denied = again(&arguments, &replayed["result"], &question, "deny");
    assert_eq!(denied["result"]["isError"], true, "{denied}");
    assert_eq!(home.read("made"), "x\n");
}

#[test]
fn a_command_tells_how_it_goes_and_ends_with_its_call() {
    for dialect in [NEWEST_SESSION, Dialect::Inline] {
        let home = Home::new();
        let mut client = serve(&home, dialect, &[]);
        let line = "touch began; i=0; while :; do echo step $i; i=$((i+1)); sleep 0.1; done";
        let id = client.begin_told("run_command", json!({"command": line}), "t1");
        client.until("a line of it", |message| {
            message["method"] == "notifications/progress"
                && message["params"]["message"]
                    .as_str()
                    .is_some_and(|said| said.contains("step"))
        });
        client.cancel(id, None);
        assert_eq!(names(&mut client).len(), 6);
        eventually("its processes ended", || {
            home.processes()
                .is_none_or(|all| !all.iter().any(|(_, line)| line.contains("echo step")))
        });
        // The end of the input ends what runs, too.
        client.begin("run_command", json!({"command": "touch again; sleep 61.5"}));
        home.until_it_has("again");
        client.hang_up();
        client.ends_within(Duration::from_secs(20));
        eventually("its processes ended", || {
            home.processes()
                .is_none_or(|all| !all.iter().any(|(_, line)| line.contains("sleep 61.5")))
        });
    }
}
