//! What a call's `config` and a project's file may do: make things narrower, and for the rest be told whose it is.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::{Value, json};

use super::{serve, shell};
use crate::support::{
    client::{Client, NEWEST_SESSION, outcome, word},
    home::{Home, run, skipped},
    model_server::{ModelServer, Reply},
};

/// Each turn of a thread has a word, which is done twice, by a command and by a tool, in the directory beside.
fn writes_beside(side: &Path, words: &[&str]) -> Vec<Reply> {
    let turn = |word: &&str| {
        let path = side.join(format!("{word}.tool"));
        let file = json!({"path": path, "content": "x\n"});
        let line = format!("echo x >../side/{word}.shell");
        let calls = shell(&format!("{word}-1"), &line);
        let calls = calls.and_call(&format!("{word}-2"), "write_file", file);
        [calls, Reply::text("done")]
    };
    words.iter().flat_map(turn).collect()
}

/// A project with a directory to work in and one beside it.
fn two_directories() -> Home {
    Home::new().file("work/a.txt", "").file("side/a.txt", "")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn policy(home: &Home, thread: &str) -> Value {
    home.rollout(thread)[0]["policy"].clone()
}

#[test]
fn a_call_adds_a_directory_of_the_roots_to_those_that_are_written() {
    let home = two_directories();
    let side = home.project().join("side");
    let model = ModelServer::start(writes_beside(&side, &["one", "two", "three"]));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let call = json!({"prompt": "x", "cwd": "work"});
    client.call("openoxide", call);
    assert_eq!(names(&side), ["a.txt"]);
    let config = json!({"policy": {"writable_roots": ["../side"]}});
    let call = json!({"prompt": "y", "cwd": "work", "config": config});
    let result = client.call("openoxide", call);
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    if network(&result).is_none() {
        return skipped("there is no sandbox here");
    }
    assert_eq!(names(&side), ["a.txt", "one.shell", "one.tool"], "{result}");
    let thread = word(&result, "thread_id");
    assert_eq!(policy(&home, &thread)["writable_roots"], json!([side]));
    // It holds for the thread's life, in whatever process.
    client.close();
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let reply = |prompt: &str| json!({"thread_id": thread, "prompt": prompt});
    client.call("openoxide-reply", reply("Again."));
    assert_eq!(names(&side).len(), 5);
    // What the agent puts in its place is not what was named.
    client.close();
    let elsewhere = home.home().join("elsewhere");
    fs::rename(&side, &elsewhere).expect("moved");
    symlink(&elsewhere, &side).expect("a link");
    let mut client = serve(&home, &model, NEWEST_SESSION);
    client.call("openoxide-reply", reply("Once more."));
    assert_eq!(names(&elsewhere).len(), 5);
    assert!(client.errors().contains("left out"), "{}", client.errors());
}

#[test]
fn a_call_adds_no_directory_that_it_could_not_work_in() {
    let home = two_directories().file("work/.git/hooks/a", "");
    let (state, own_home) = (home.state(), home.home());
    symlink(&own_home, home.project().join("side/link")).expect("a link");
    let model = ModelServer::start(Vec::new());
    let root = home.project();
    let root = root.to_str().expect("UTF-8");
    let side = format!("{root}/side");
    for (flags, directories) in [
        (&["mcp-server"][..], &["/"][..]),
        (&["mcp-server", "--root", root], &["/", "../.."]),
        (&["mcp-server", "--root", "/"], &[]),
        (&["mcp-server", "--root", "work"], &[&side]),
    ] {
        let command = home.openoxide_with(&model, flags);
        let mut client = Client::start(command, NEWEST_SESSION);
        let outside = [own_home.to_str().expect("UTF-8"), "../side/link", "missing"];
        let outside = match flags.last() {
            Some(&"/") => &outside[2..],
            _ => &outside[..],
        };
        let wide = [state.to_str().expect("UTF-8"), ".git", ".git/hooks", "/"];
        let wide = match flags.last() {
            Some(&"/") => &wide[..],
            _ => &wide[1..3],
        };
        let outside = outside.iter().chain(directories);
        let outside = outside.map(|place| (place, "outside this server's roots: `/"));
        let wide = wide
            .iter()
            .map(|place| (place, "never a writable workspace"));
        for (place, words) in outside.chain(wide) {
            let config = json!({"policy": {"writable_roots": [place]}});
            let call = json!({"prompt": "x", "cwd": "work", "config": config});
            let refusal = client.refusal("openoxide", call);
            assert!(refusal.contains(words), "{flags:?} {place}: {refusal}");
            assert!(refusal.contains("`policy.writable_roots`"), "{refusal}");
        }
        client.close();
    }
    assert!(home.threads().is_empty());
}

#[test]
fn what_would_widen_is_refused_with_who_sets_it() {
    let home = Home::new();
    let model = ModelServer::start(vec![Reply::text("done"), Reply::text("done")]);
    let mut client = serve(&home, &model, NEWEST_SESSION);
    for (config, word) in [
        (json!({"limits": {"max_steps": 201}}), "the 200 that hold"),
        (
            json!({"limits": {"max_seconds": 4000}}),
            "limits.max_seconds",
        ),
        (
            json!({"limits": {"max_tokens": 10_000_000}}),
            "limits.max_tokens",
        ),
        (json!({"policy": {"network": true}}), "policy.network"),
        (
            json!({"policy": {"sandbox": "danger-full-access"}}),
            "danger-full-access",
        ),
        (json!({"model": {"base_url": "x"}}), "`model.base_url`"),
        (json!({"model": {"name": "x"}}), "`model.name`"),
        (json!({"policy": {"allow": ["x"]}}), "`policy.allow`"),
        (json!({"server": {"roots": ["/"]}}), "`server`"),
        (
            json!({"mcp_servers": {"a": {"enabled": true}}}),
            "its owner can enable it",
        ),
    ] {
        let call = json!({"prompt": "x", "config": config});
        let refusal = client.refusal("openoxide", call);
        assert!(
            refusal.contains("`config`") || word.contains("full"),
            "{refusal}"
        );
        assert!(refusal.contains(word), "{refusal}");
        assert!(refusal.contains("owner"), "{refusal}");
    }
    let unknown = json!({"prompt": "x", "config": {"limits": {"max_step": 2}}});
    let refusal = client.refusal("openoxide", unknown);
    assert!(refusal.contains("did you mean `max_steps`?"), "{refusal}");
    assert_eq!(model.requests().len(), 0);
    // What is as it was is fine.
    let config = json!({
        "limits": {"max_steps": 200, "max_seconds": 3600},
        "policy": {"network": false, "sandbox": "workspace-write", "approval_policy": "on-request"},
    });
    let result = client.call("openoxide", json!({"prompt": "x", "config": config}));
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    // Sandbox and approval policy too are only made stricter here, also against an argument.
    let looser = json!({"prompt": "x", "sandbox": "read-only", "config": {"policy": {"sandbox": "workspace-write"}}});
    let refusal = client.refusal("openoxide", looser);
    assert!(refusal.contains("only be stricter"), "{refusal}");
    let looser = json!({"prompt": "x", "approval_policy": "untrusted", "config": {"policy": {"approval_policy": "never"}}});
    let refusal = client.refusal("openoxide", looser);
    assert!(refusal.contains("only be stricter"), "{refusal}");
    let stricter = json!({"prompt": "x", "sandbox": "workspace-write", "config": {"policy": {"sandbox": "read-only"}}});
    let result = client.call("openoxide", stricter);
    assert_eq!(outcome(&result)["sandbox"]["policy"], "read-only");
    client.close();
}

/// Whether commands of the thread's last turn had the network, as its outcome says.
fn network(result: &Value) -> Option<bool> {
    let sandbox = &outcome(result)["sandbox"];
    match sandbox["by"] == "none" {
        true => None,
        false => sandbox["network"].as_bool(),
    }
}

#[test]
fn a_network_that_a_call_or_a_project_takes_away_stays_away() {
    let open = || Home::new().config("[policy]\nnetwork = true\n");
    let shut = || open().file(".openoxide/config.toml", "policy.network = false\n");
    let taken = json!({"policy": {"network": false}});
    for (home, config, expect) in [
        (open(), json!({}), true),
        (open(), taken, false),
        (shut(), json!({}), false),
    ] {
        let model = ModelServer::start(vec![Reply::text("a"), Reply::text("b")]);
        let mut client = serve(&home, &model, NEWEST_SESSION);
        let result = client.call("openoxide", json!({"prompt": "x", "config": config}));
        let thread = word(&result, "thread_id");
        let kept = policy(&home, &thread)["network"].as_bool();
        assert_eq!(kept, (!expect).then_some(false));
        let Some(had) = network(&result) else {
            return skipped("there is no sandbox here");
        };
        assert_eq!(had, expect, "{result}");
        client.close();
        // Also where the project has forgotten it.
        let _ = fs::remove_file(home.project().join(".openoxide/config.toml"));
        let mut client = serve(&home, &model, NEWEST_SESSION);
        let again = json!({"thread_id": thread, "prompt": "y"});
        let result = client.call("openoxide-reply", again);
        assert_eq!(network(&result), Some(expect), "{result}");
        client.close();
    }
}

#[test]
fn a_question_about_a_thread_runs_nothing_that_the_thread_denies() {
    let looks = || [shell("c1", "ls -a"), Reply::text("done")];
    for project in [false, true] {
        let model = ModelServer::start([looks(), looks()].concat());
        let (home, config) = match project {
            true => (
                Home::new().file(".openoxide/config.toml", "policy.deny = ['ls']\n"),
                json!({}),
            ),
            false => (Home::new(), json!({"policy": {"deny": ["ls"]}})),
        };
        let mut client = serve(&home, &model, NEWEST_SESSION);
        let result = client.call("openoxide", json!({"prompt": "x", "config": config}));
        assert_eq!(outcome(&result)["denied"].as_array().map(Vec::len), Some(1));
        let _ = fs::remove_file(home.project().join(".openoxide/config.toml"));
        let asked = json!({"query": "y", "thread_id": word(&result, "thread_id")});
        let result = client.call("openoxide-query", asked);
        assert_eq!(
            outcome(&result)["denied"].as_array().map(Vec::len),
            Some(1),
            "{result}"
        );
        client.close();
    }
}

#[test]
fn a_broken_project_file_is_told_to_callers_with_the_way_out() {
    let home = Home::new().file(".openoxide/config.toml", "\n[limits]\nmax_step = 1\n");
    let model = ModelServer::start(Vec::new());
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let refusal = client.refusal("openoxide", json!({"prompt": "x"}));
    for word in ["config.toml", "`max_step`", "line 3", "`max_steps`"] {
        assert!(refusal.contains(word), "{refusal}");
    }
    client.close();
}

#[test]
fn the_limits_of_a_project_hold_for_its_owner_too() {
    let looks = |id: &str| Reply::call(id, "list_files", json!({}));
    for flags in [&[][..], &["--max-steps", "9"]] {
        let home = Home::new().file(".openoxide/config.toml", "limits.max_steps = 1\n");
        let script = vec![looks("c1"), looks("c2"), Reply::text("done")];
        let model = ModelServer::start(script);
        let task = [&["-m", "x"], flags].concat();
        run(home.openoxide_with(&model, &task)).expect(5);
        assert_eq!(model.requests().len(), 1);
        run(home.openoxide_with(&model, &[&["--continue"], &task[..]].concat())).expect(5);
        assert_eq!(model.requests().len(), 2);
    }
}

#[test]
fn what_is_wrong_with_an_argument_is_said_in_the_words_of_the_contract() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let decision = |decision: Value| json!({"thread_id": "x", "decision": decision});
    for (tool, arguments, expect) in [
        (
            "openoxide-reply",
            decision(json!("approve")),
            "expected an object",
        ),
        (
            "openoxide-reply",
            decision(json!({"decision": "deny", "approval_id": "x"})),
            "not an id",
        ),
        (
            "openoxide",
            json!({"prompt": "x", "config": "y"}),
            "expected an object",
        ),
        (
            "openoxide",
            json!({"prompt": "x", "wait_seconds": "y"}),
            "expected a number",
        ),
        (
            "openoxide",
            json!({"prompt": "x", "files": "y"}),
            "expected a list",
        ),
        (
            "openoxide",
            json!({"prompt": "x", "model": ""}),
            "`model` is empty",
        ),
        (
            "openoxide-query",
            json!({"query": "x", "model": " "}),
            "`model` is empty",
        ),
    ] {
        let refusal = client.refusal(tool, arguments);
        assert!(refusal.contains(expect), "{refusal}");
        for ours in ["struct", "f64", "UUID", "sequence"] {
            assert!(!refusal.contains(ours), "{refusal}");
        }
    }
    client.close();
}

#[test]
fn a_turn_that_failed_says_how_to_go_on() {
    let home = Home::new();
    let refused = Reply::http(
        400,
        r#"{"error": {"message": "no", "type": "invalid_request_error"}}"#,
    );
    let model = ModelServer::start(vec![refused, Reply::text("done")]);
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let result = client.call("openoxide", json!({"prompt": "x"}));
    assert_eq!(outcome(&result)["status"], "failed", "{result}");
    assert!(word(&result, "next").contains("`openoxide-reply`"));
    let again = json!({"thread_id": word(&result, "thread_id"), "prompt": "Try again."});
    let result = client.call("openoxide-reply", again);
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    client.close();
}
