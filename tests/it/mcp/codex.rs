//! `--codex-tools`: clients written for that peer find its tools, its arguments, its answers and its results.

use serde_json::{Value, json};

use super::{assert_well_asked, keys, mend_the_greeting, shell, with_a_greeting};
use crate::support::{
    client::{Client, DIALECTS, NEWEST_SESSION, outcome, text},
    home::Home,
    model_server::{ModelServer, Reply},
};

const SERVE: [&str; 2] = ["mcp-server", "--codex-tools"];

fn serve(home: &Home, model: &ModelServer, capabilities: Value) -> Client {
    Client::able(
        home.openoxide_with(model, &SERVE),
        NEWEST_SESSION,
        capabilities,
    )
}

/// The content of a result, which must have the peer's shape and say the same twice.
fn content(result: &Value) -> String {
    assert_eq!(keys(outcome(result)), ["threadId", "content"], "{result}");
    let content = outcome(result)["content"].as_str().expect("a text");
    assert_eq!(content, text(result));
    content.to_owned()
}

fn thread_id(result: &Value) -> String {
    outcome(result)["threadId"]
        .as_str()
        .expect("an id")
        .to_owned()
}

#[test]
fn every_client_is_shown_the_peers_tools() {
    for dialect in DIALECTS {
        let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
        let mut client = Client::start(home.openoxide_with(&model, &SERVE), dialect);
        let list = client.ask("tools/list", json!({}));
        assert_eq!(list, client.ask("tools/list", json!({})));
        let mut tools = list["tools"].as_array().expect("tools").clone();
        let names: Vec<&str> = tools
            .iter()
            .map(|tool| tool["name"].as_str().expect("a name"))
            .collect();
        assert_eq!(
            names,
            ["codex", "codex-reply", "openoxide-query"],
            "{dialect:?}"
        );
        for (tool, properties, required) in [
            (
                &tools[0],
                vec![
                    "approval-policy",
                    "base-instructions",
                    "compact-prompt",
                    "config",
                    "cwd",
                    "developer-instructions",
                    "model",
                    "prompt",
                    "sandbox",
                ],
                json!(["prompt"]),
            ),
            (
                &tools[1],
                vec!["conversationId", "prompt", "threadId"],
                json!(["prompt"]),
            ),
        ] {
            let mut listed = keys(&tool["inputSchema"]["properties"]);
            listed.sort_unstable();
            assert_eq!(listed, properties, "{tool}");
            assert_eq!(tool["inputSchema"]["required"], required, "{tool}");
            assert_eq!(
                tool["outputSchema"]["required"],
                json!(["threadId", "content"])
            );
            assert_eq!(
                keys(&tool["outputSchema"]["properties"]),
                ["threadId", "content"]
            );
        }
        for tool in &mut tools {
            tool.as_object_mut()
                .expect("an object")
                .remove("outputSchema");
        }
        let size = json!({"tools": tools}).to_string().len();
        assert!(size < 4000, "{size} bytes");
        if !client.greeting.is_null() {
            let instructions = client.greeting["instructions"]
                .as_str()
                .expect("instructions");
            assert!(
                (100..1200).contains(&instructions.chars().count()),
                "{instructions}"
            );
            assert!(!instructions.contains("openoxide-reply"), "{instructions}");
        }
        let id = client.begin("openoxide", json!({"prompt": "x"}));
        let unknown = client.answer(id)["error"]["message"].to_string();
        assert!(
            unknown.contains("there are codex, codex-reply"),
            "{unknown}"
        );
        client.close();
    }
}

#[test]
fn a_task_is_done_and_the_thread_goes_on() {
    for dialect in DIALECTS {
        let mut script = mend_the_greeting();
        script.extend(["You are welcome.", "Any time."].map(Reply::text));
        let (home, model) = (with_a_greeting(), ModelServer::start(script));
        let mut client = Client::start(home.openoxide_with(&model, &SERVE), dialect);
        let task = json!({"prompt": "Mend it.", "sandbox": "workspace-write", "approval-policy": "on-failure", "config": {"tui.theme": "dark"}});
        let result = client.call("codex", task);
        assert_eq!(home.read("greet.sh"), "echo hello\n", "{result}");
        let said = content(&result);
        for line in [
            "It says hello now; I ran it.",
            "changed: greet.sh (modified +1 −1)",
            "ignored: tui",
        ] {
            assert!(said.contains(line), "no {line:?} in {said}");
        }
        assert!(said.ends_with("\nstatus: completed"), "{said}");
        for named in ["threadId", "conversationId"] {
            let next = json!({"prompt": "Thanks.", named: thread_id(&result)});
            let reply = client.call("codex-reply", next);
            assert!(content(&reply).ends_with("status: completed"), "{reply}");
            assert_eq!(thread_id(&reply), thread_id(&result));
        }
        client.close();
    }
}

#[test]
fn without_a_sandbox_it_only_reads() {
    let write = json!({"path": "new.txt", "content": "x\n"});
    let script = vec![
        Reply::call("w1", "write_file", write),
        Reply::text("That is that."),
    ];
    for (arguments, written) in [
        (json!({"prompt": "x"}), false),
        (json!({"prompt": "x", "sandbox": "workspace-write"}), true),
        (
            json!({"prompt": "x", "config": {"sandbox_mode": "workspace-write"}}),
            true,
        ),
    ] {
        let (home, model) = (Home::new(), ModelServer::start(script.clone()));
        let mut client = serve(&home, &model, json!({}));
        let said = content(&client.call("codex", arguments));
        assert_eq!(home.has("new.txt"), written, "{said}");
        assert_eq!(said.contains("denied: edit `new.txt`"), !written, "{said}");
        client.close();
    }
}

#[test]
fn a_question_is_one_that_the_peers_clients_understand() {
    let write = json!({"path": "new.txt", "content": "x\n"});
    let run = json!({"command": "echo out >out.txt", "escalate": true, "reason": "to be free"});
    let script = vec![
        Reply::call("w1", "write_file", write),
        Reply::call("r1", "shell", run),
        Reply::text("That is that."),
    ];
    for (answer, done) in [
        (json!({"decision": "approved"}), true),
        (
            json!({"action": "accept", "content": {}, "decision": "approved"}),
            true,
        ),
        (json!({"action": "accept", "content": {}}), true),
        (json!({"decision": {"denied": {"rejection": "no"}}}), false),
        (json!({"action": "decline"}), false),
    ] {
        let (home, model) = (Home::new(), ModelServer::start(script.clone()));
        let mut client = serve(&home, &model, json!({"elicitation": {}}));
        let id = client.begin("codex", json!({"prompt": "x"}));
        for kind in ["patch-approval", "exec-approval"] {
            let question = client.asked("elicitation/create");
            let params = &question["params"];
            assert_eq!(params["codex_elicitation"], kind, "{params}");
            assert_eq!(params["threadId"], home.threads()[0].as_str(), "{params}");
            assert_eq!(params["codex_mcp_tool_call_id"], id.to_string(), "{params}");
            assert!(
                params["requestedSchema"]["properties"].is_object(),
                "{params}"
            );
            if kind == "patch-approval" {
                assert_eq!(keys(&params["codex_changes"]), ["new.txt"], "{params}");
            } else {
                assert_eq!(params["codex_command"][2], "echo out >out.txt", "{params}");
                assert_eq!(params["codex_cwd"], json!(home.project()), "{params}");
            }
            client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": answer}));
        }
        let said = content(&client.result(id));
        assert_eq!(
            home.names().len(),
            if done { 2 } else { 0 },
            "{answer}: {said}"
        );
        assert_eq!(said.contains("denied: "), !done, "{said}");
        assert_well_asked(&model);
        client.close();
    }
}

#[test]
fn what_goes_wrong_has_the_peers_shape_too() {
    let (home, model) = (Home::new(), ModelServer::start(vec![Reply::text("Done.")]));
    let mut client = serve(&home, &model, json!({}));
    for (tool, arguments, named) in [
        ("codex", json!({}), "`prompt`"),
        ("codex", json!({"prompt": " "}), "`prompt`"),
        (
            "codex",
            json!({"prompt": "x", "approval-policy": "maybe"}),
            "`approval-policy`",
        ),
        (
            "codex",
            json!({"prompt": "x", "sandbox": "danger-full-access"}),
            "wider",
        ),
        (
            "codex",
            json!({"prompt": "x", "config": {"sandbox_mode": "danger-full-access"}}),
            "wider",
        ),
        (
            "codex",
            json!({"prompt": "x", "config": {"mcp_servers": {"a": {"command": "b"}}}}),
            "`mcp_servers`",
        ),
        (
            "codex",
            json!({"prompt": "x", "config": {"limits": {"max_stepz": 1}}}),
            "max_stepz",
        ),
        (
            "codex",
            json!({"prompt": "x", "cwd": "/nowhere"}),
            "/nowhere",
        ),
        ("codex-reply", json!({"prompt": "x"}), "`threadId`"),
        (
            "codex-reply",
            json!({"prompt": "x", "threadId": "nobody"}),
            "no thread `nobody`; `codex` starts one",
        ),
        ("codex-reply", json!({"threadId": "nobody"}), "`prompt`"),
        (
            "openoxide-query",
            json!({"query": "x", "threadId": "nobody"}),
            "`codex` starts one",
        ),
    ] {
        let words = client.refusal(tool, arguments.clone());
        assert!(words.contains(named), "{arguments}: {words}");
    }
    assert_eq!(home.threads(), [""; 0]);
    client.close();

    let failing = ModelServer::start(vec![Reply::http(
        400,
        r#"{"error":{"message":"the model says no"}}"#,
    )]);
    let mut client = serve(&home, &failing, json!({}));
    let result = client.call("codex", json!({"prompt": "x"}));
    assert_eq!(result["isError"], true, "{result}");
    let said = content(&result);
    assert!(
        said.contains("the model says no") && said.ends_with("status: failed"),
        "{said}"
    );
    client.close();
}

#[test]
fn a_question_that_comes_back_is_answered_without_a_prompt() {
    for (decision, ran) in [("approve", true), ("deny", false)] {
        let line =
            json!({"command": "echo ran >log.txt", "escalate": true, "reason": "to be free"});
        let script = vec![
            Reply::call("e1", "shell", line),
            Reply::text("That is that."),
        ];
        let (home, model) = (Home::new(), ModelServer::start(script));
        let arguments = [&SERVE[..], &["--when-unattended", "return-to-caller"]].concat();
        let mut client = Client::start(home.openoxide_with(&model, &arguments), NEWEST_SESSION);
        let waits = client.call(
            "codex",
            json!({"prompt": "x", "sandbox": "workspace-write"}),
        );
        let said = content(&waits);
        let next = "next: call `codex-reply` with this threadId and decision {approval_id, decision: approve, deny or abort}";
        assert!(
            said.contains(next) && !said.contains("`openoxide"),
            "{said}"
        );
        let answer = json!({"threadId": thread_id(&waits), "decision": {"decision": decision}});
        let done = content(&client.call("codex-reply", answer));
        assert!(done.ends_with("status: completed"), "{done}");
        assert_eq!(home.has("log.txt"), ran, "{done}");
        assert_eq!(done.contains("the caller said no"), !ran, "{done}");
        client.close();
    }
}

#[test]
fn an_empty_prompt_waits_for_what_still_runs() {
    let script = vec![shell("c1", "sleep 1"), Reply::text("I slept.")];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let arguments = [&SERVE[..], &["--wait", "0.2"]].concat();
    let mut client = Client::start(home.openoxide_with(&model, &arguments), NEWEST_SESSION);
    let running = client.call(
        "codex",
        json!({"prompt": "Sleep.", "sandbox": "workspace-write"}),
    );
    let said = content(&running);
    assert!(
        said.ends_with("status: running") && said.contains("`codex-reply`"),
        "{said}"
    );
    let wait = json!({"prompt": "", "threadId": thread_id(&running)});
    let mut said = String::new();
    for _ in 0..100 {
        said = content(&client.call("codex-reply", wait.clone()));
        if !said.ends_with("status: running") {
            break;
        }
    }
    assert!(
        said.starts_with("I slept.") && said.ends_with("status: completed"),
        "{said}"
    );
    client.close();
}
