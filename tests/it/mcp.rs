//! The MCP server as its clients meet it: the real program over pipes, in both generations of the protocol.

mod asking;
mod budgets;
mod cancelling;
mod codex;
mod ending;
mod hands;
mod logging;
mod matrix;
mod narrowing;
mod own_hands;
mod patience;
mod querying;
mod replying;
mod resources;
mod returning;
mod rounds;
mod tasks;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    client::{Client, DIALECTS, Dialect, NEWEST_SESSION, outcome, text, word},
    home::Home,
    model_server::{ModelServer, Reply},
};

/// A server in the project, for this client.
fn serve(home: &Home, model: &ModelServer, dialect: Dialect) -> Client {
    Client::start(home.openoxide_with(model, &["mcp-server"]), dialect)
}

/// A command of the scripted model.
fn shell(call_id: &str, command: &str) -> Reply {
    Reply::call(call_id, "shell", json!({"command": command}))
}

/// Says that it began, works until the file `enough` is there, and then says `last`.
fn patient(last: &str) -> Vec<Reply> {
    let works = "touch began; until [ -e enough ]; do sleep 0.05; done";
    vec![shell("c1", works), Reply::text(last)]
}

/// Reads, edits, checks and says so.
fn mend_the_greeting() -> Vec<Reply> {
    let edits = json!([{"search": "helo", "replace": "hello"}]);
    vec![
        Reply::call("c1", "read_file", json!({"path": "greet.sh"})),
        Reply::call(
            "c2",
            "edit_file",
            json!({"path": "greet.sh", "edits": edits}),
        ),
        shell("c3", "sh greet.sh"),
        Reply::text("It says hello now; I ran it."),
    ]
}

fn with_a_greeting() -> Home {
    Home::new().file("greet.sh", "echo helo\n")
}

/// True if the thread has a record of this kind. Its last line may be on its way.
fn has_record(home: &Home, thread: &str, kind: &str) -> bool {
    let rollout = std::fs::read_to_string(home.rollout_file(thread));
    rollout.is_ok_and(|rollout| rollout.contains(&format!(r#""type":"{kind}""#)))
}

fn assert_well_asked(model: &ModelServer) {
    assert_eq!(model.violations(), [""; 0]);
}

/// The names of an object.
fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

#[test]
fn every_client_is_shown_the_same_three_tools() {
    for dialect in DIALECTS {
        let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
        let mut client = serve(&home, &model, dialect);
        let list = client.ask("tools/list", json!({}));
        let mut tools = list["tools"].as_array().expect("tools").clone();
        let shown: Vec<(&str, &str, bool)> = tools
            .iter()
            .map(|tool| {
                let annotations = &tool["annotations"];
                let read_only = annotations["readOnlyHint"].as_bool().expect("said");
                assert_eq!(annotations["destructiveHint"], !read_only, "{tool}");
                assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
                assert_eq!(
                    tool["outputSchema"]["required"],
                    json!(["thread_id", "status", "content"]),
                    "{tool}"
                );
                (
                    tool["name"].as_str().expect("a name"),
                    tool["title"].as_str().expect("a title"),
                    read_only,
                )
            })
            .collect();
        let expected = [
            ("openoxide", "Start a coding session", false),
            ("openoxide-reply", "Go on with a coding session", false),
            ("openoxide-query", "Ask about the code", true),
        ];
        assert_eq!(shown, expected, "{dialect:?}");
        assert_eq!(
            tools[0]["inputSchema"]["required"],
            json!(["prompt"]),
            "{dialect:?}"
        );
        assert_eq!(
            tools[1]["inputSchema"]["required"],
            json!(["thread_id"]),
            "{dialect:?}"
        );
        for tool in &mut tools {
            tool.as_object_mut()
                .expect("an object")
                .remove("outputSchema");
        }
        let size = json!({"tools": tools}).to_string().len();
        assert!(size < 4000, "{size} bytes");
        assert_eq!(
            list["resultType"].as_str(),
            dialect.is_modern().then_some("complete"),
            "{list}"
        );
        client.close();
    }
}

#[test]
fn a_greeting_names_the_server_and_says_how_to_use_it() {
    for dialect in [NEWEST_SESSION, Dialect::Discovered] {
        let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
        let client = serve(&home, &model, dialect);
        let greeting = client.greeting.clone();
        let server = match dialect {
            Dialect::Session(_) => &greeting["serverInfo"],
            _ => &greeting["_meta"]["io.modelcontextprotocol/serverInfo"],
        };
        assert_eq!(server["name"], "openoxide", "{greeting}");
        assert_eq!(server["version"], env!("CARGO_PKG_VERSION"), "{greeting}");
        let instructions = greeting["instructions"].as_str().expect("instructions");
        assert!(
            (100..1200).contains(&instructions.chars().count()),
            "{instructions}"
        );
        assert!(greeting["capabilities"]["tools"].is_object(), "{greeting}");
        if dialect == Dialect::Discovered {
            let versions = greeting["supportedVersions"].as_array().expect("versions");
            for version in ["2026-07-28", "2025-11-25", "2024-11-05"] {
                assert!(versions.contains(&json!(version)), "{greeting}");
            }
        }
        client.close();
    }
}

#[test]
fn a_task_is_done_and_both_halves_of_the_result_say_so() {
    for dialect in DIALECTS {
        let (home, model) = (with_a_greeting(), ModelServer::start(mend_the_greeting()));
        let mut client = serve(&home, &model, dialect);
        let result = client.call("openoxide", json!({"prompt": "Mend the greeting."}));
        assert_eq!(home.read("greet.sh"), "echo hello\n", "{dialect:?}");
        let done = outcome(&result);
        assert_eq!(done["status"], "completed", "{result}");
        assert_eq!(done["content"], "It says hello now; I ran it.");
        let change = json!({"path": "greet.sh", "kind": "modified", "added": 1, "removed": 1});
        assert_eq!(done["changes"], json!([change]));
        let command = &done["commands"][0];
        assert_eq!(
            (&command["command"], &command["exit_code"]),
            (&json!("sh greet.sh"), &json!(0))
        );
        assert!(command["seconds"].is_number());
        assert_eq!(done["usage"]["requests"], 4);
        assert_eq!(done["sandbox"]["policy"], "workspace-write");
        let thread_id = word(&result, "thread_id");
        assert_eq!(home.threads(), std::slice::from_ref(&thread_id));
        for absent in ["denied", "approvals", "error", "next"] {
            assert!(done.get(absent).is_none(), "{absent}: {result}");
        }
        assert_ne!(result["isError"], true);
        for said in [
            "It says hello now; I ran it.",
            thread_id.as_str(),
            "status: completed",
            "greet.sh (modified +1 −1)",
        ] {
            assert!(
                text(&result).contains(said),
                "no {said:?} in {}",
                text(&result)
            );
        }
        assert_eq!(
            result["resultType"].as_str(),
            dialect.is_modern().then_some("complete"),
            "{result}"
        );
        assert_well_asked(&model);
        client.close();
        home.assert_deserted(&[]);
    }
}

#[test]
fn the_outcome_keeps_to_the_schema_that_was_listed() {
    let (home, model) = (with_a_greeting(), ModelServer::start(mend_the_greeting()));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let list = client.ask("tools/list", json!({}));
    let schema = &list["tools"][0]["outputSchema"];
    let result = client.call("openoxide", json!({"prompt": "x"}));
    for required in schema["required"].as_array().expect("required keys") {
        let key = required.as_str().expect("a name");
        assert!(outcome(&result).get(key).is_some(), "no `{key}`: {result}");
    }
    for key in keys(outcome(&result)) {
        let declared = &schema["properties"][key]["type"];
        let fits = match declared.as_str() {
            Some("string") => outcome(&result)[key].is_string(),
            Some("array") => outcome(&result)[key].is_array(),
            Some("object") => outcome(&result)[key].is_object(),
            // The object is open.
            None => true,
            other => panic!("{other:?}"),
        };
        assert!(fits, "`{key}` is no {declared}: {result}");
    }
    client.close();
}

#[test]
fn full_detail_shows_the_diffs_and_every_command() {
    let mut script = vec![
        Reply::call(
            "c1",
            "write_file",
            json!({"path": "new.txt", "content": "one\n"}),
        ),
        shell("c2", "false"),
    ];
    script.extend((0..8).map(|n| shell(&format!("d{n}"), "true")));
    script.push(Reply::text("done"));
    for (detail, commands) in [("brief", 6), ("full", 9)] {
        let (home, model) = (Home::new(), ModelServer::start(script.clone()));
        let mut client = serve(&home, &model, NEWEST_SESSION);
        let result = client.call("openoxide", json!({"prompt": "x", "detail": detail}));
        let done = outcome(&result);
        let diff = done["changes"][0]["diff"].as_str();
        assert_eq!(
            diff.is_some_and(|diff| diff.contains("\n+one\n")),
            detail == "full",
            "{result}"
        );
        let shown = done["commands"].as_array().expect("commands");
        assert_eq!(shown.len(), commands, "{result}");
        assert_eq!(
            (&shown[0]["command"], &shown[0]["exit_code"]),
            (&json!("false"), &json!(1))
        );
        assert_well_asked(&model);
        client.close();
    }
}

#[test]
fn progress_begins_at_once_and_rises() {
    for dialect in [
        Dialect::Session("2024-11-05"),
        NEWEST_SESSION,
        Dialect::Inline,
    ] {
        let late = Duration::from_millis(1500);
        let long = "a line that is much too long to be shown whole ".repeat(20);
        let script = vec![
            shell("c1", "echo one; sleep 0.6; echo two; sleep 0.6").delayed(late),
            Reply::text(&long),
        ];
        let (home, model) = (Home::new(), ModelServer::start(script));
        let mut client = serve(&home, &model, dialect);
        let began = Instant::now();
        let id = client.begin_told("openoxide", json!({"prompt": "x"}), "tok");
        let result = client.result(id);
        let thread_id = word(&result, "thread_id");
        let steps: Vec<&(Instant, Value)> = client
            .heard
            .iter()
            .filter(|(_, message)| message["method"] == "notifications/progress")
            .collect();
        assert!(steps.len() >= 3, "{:?}", client.heard);
        let first = steps[0].0 - began;
        assert!(first < Duration::from_secs(1), "the first came {first:?}");
        let mut last = 0.0;
        for (_, step) in &steps {
            let params = &step["params"];
            assert_eq!(params["progressToken"], "tok", "{step}");
            let value = params["progress"].as_f64().expect("a number");
            assert!(value > last, "{value} does not rise above {last}");
            last = value;
            let message = params["message"].as_str().expect("a message");
            assert!(message.chars().count() < 200, "{message}");
            assert_eq!(params["_meta"]["requestId"], id, "{step}");
            assert_eq!(params["_meta"]["threadId"], thread_id.as_str(), "{step}");
        }
        let said =
            |what: &str| -> bool { steps.iter().any(|(_, s)| s["params"]["message"] == what) };
        assert!(said("shell: echo one; sleep 0.6; echo two; sleep 0.6") || said("one"));
        assert!(said("two"), "{steps:?}");
        client.close();
    }
}

#[test]
fn without_a_token_there_is_no_progress() {
    for dialect in [NEWEST_SESSION, Dialect::Inline] {
        let script = vec![shell("c1", "echo one; sleep 0.4"), Reply::text("done")];
        let (home, model) = (Home::new(), ModelServer::start(script));
        let mut client = serve(&home, &model, dialect);
        client.call("openoxide", json!({"prompt": "x"}));
        client.assert_never_heard("notifications/progress");
        client.close();
    }
}

/// Each waits for the others, so this ends only if all run at once.
#[test]
fn one_server_works_on_several_calls_at_once() {
    const CALLS: usize = 4;
    let meet = format!(
        "mktemp here.XXXXXX >/dev/null; until [ $(ls here.* | wc -l) -ge {CALLS} ]; do sleep 0.05; done"
    );
    let script = vec![shell("c1", &meet), Reply::text("we met")];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let ids: Vec<u64> = (0..CALLS)
        .map(|n| client.begin("openoxide", json!({"prompt": format!("Meet, {n}.")})))
        .collect();
    client.lives();
    let mut threads: Vec<String> = ids
        .iter()
        .map(|id| {
            let result = client.result(*id);
            assert_eq!(outcome(&result)["content"], "we met", "{result}");
            word(&result, "thread_id")
        })
        .collect();
    threads.sort();
    threads.dedup();
    assert_eq!(threads.len(), CALLS);
    assert_eq!(home.threads().len(), CALLS);
    assert_well_asked(&model);
    client.close();
}
