//! `openoxide -m` and the commands around it, as somebody at a shell or in a script meets them.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    home::{Home, KEY, ends_within, eventually, run, start, start_with},
    model_server::{ModelServer, Reply},
};

const LAST_WORD: &str = "It says hello now.";

/// Edits, checks and says so.
fn mend_the_greeting() -> Vec<Reply> {
    let edits = json!([{"search": "helo", "replace": "hello"}]);
    vec![
        Reply::call(
            "c1",
            "edit_file",
            json!({"path": "greet.sh", "edits": edits}),
        ),
        Reply::call("c2", "shell", json!({"command": "sh greet.sh; false"})),
        Reply::text(LAST_WORD),
    ]
}

fn with_a_greeting() -> (Home, ModelServer) {
    let home = Home::new().file("greet.sh", "echo helo\n");
    (home, ModelServer::start(mend_the_greeting()))
}

/// What people said in the last request, in order.
fn said(model: &ModelServer) -> String {
    let requests = model.requests();
    let last = requests.last().expect("requests");
    assert_eq!(model.violations(), [""; 0]);
    last.body["input"].to_string()
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn a_task_prints_its_answer_and_nothing_else() {
    let (home, model) = with_a_greeting();
    let ran = run(home.openoxide_with(&model, &["-m", "Mend the greeting."])).expect(0);
    assert_eq!(ran.stdout, format!("{LAST_WORD}\n"));
    assert_eq!(home.read("greet.sh"), "echo hello\n");
    for shown in [
        "edit_file: greet.sh",
        "-echo helo",
        "+echo hello",
        "shell: sh greet.sh",
        "exit code 1",
    ] {
        assert!(ran.stderr.contains(shown), "no {shown:?} in {}", ran.stderr);
    }
    // Not a terminal, so no colours.
    assert!(!ran.stderr.contains('\x1b'), "{:?}", ran.stderr);
    assert_eq!(model.violations(), [""; 0]);
    home.assert_deserted(&[]);
}

#[test]
fn json_is_the_whole_outcome_as_one_object() {
    let (home, model) = with_a_greeting();
    let ran = run(home.openoxide_with(&model, &["-m", "x", "--output", "json"])).expect(0);
    let outcome = ran.json();
    assert_eq!(outcome["thread_id"], home.threads()[0].as_str());
    assert_eq!(
        (&outcome["status"], &outcome["content"]),
        (&json!("completed"), &json!(LAST_WORD))
    );
    let change = &outcome["changes"][0];
    assert_eq!(
        (&change["path"], &change["added"], &change["removed"]),
        (&json!("greet.sh"), &json!(1), &json!(1))
    );
    assert!(
        change["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+echo hello")),
        "{change}"
    );
    assert_eq!(outcome["commands"][0]["exit_code"], 1);
    assert_eq!(outcome["usage"]["requests"], 3);
    assert_eq!(ran.stderr, "");
}

#[test]
fn stream_json_is_one_event_a_line_with_the_outcome_as_the_last() {
    let (home, model) = with_a_greeting();
    let ran = run(home.openoxide_with(&model, &["-m", "x", "--output", "stream-json"])).expect(0);
    let events = lines(&ran.stdout);
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().expect("a type"))
        .collect();
    assert_eq!(kinds[..2], ["thread.started", "turn.started"]);
    assert_eq!(events[0]["thread_id"], home.threads()[0].as_str());
    let count = |kind: &str| kinds.iter().filter(|known| **known == kind).count();
    // The prompt, two calls, two outputs, the last word.
    assert_eq!(count("item.completed"), 6, "{kinds:?}");
    assert!(count("text.delta") > 0, "{kinds:?}");
    assert_eq!(count("turn.completed"), 1);
    let last = events.last().expect("events");
    assert_eq!(last["type"], "turn.completed");
    assert_eq!(last["outcome"]["status"], "completed");
    assert_eq!(last["outcome"]["content"], LAST_WORD);
    let known = [
        "thread.started",
        "turn.started",
        "item.completed",
        "text.delta",
        "approval.requested",
        "approval.resolved",
        "warning",
        "turn.completed",
        "call.started",
        "call.output",
        "file.changed",
        "text.withdrawn",
    ];
    assert!(kinds.iter().all(|kind| known.contains(kind)), "{kinds:?}");
}

#[test]
fn a_dash_reads_the_task_from_standard_input() {
    let (home, model) = (Home::new(), ModelServer::start(vec![Reply::text("one")]));
    let command = home.openoxide_with(&model, &["-m", "-"]);
    let ran = start_with(command, "Tell me\nabout ünïcode.".as_bytes())
        .ended()
        .expect(0);
    assert_eq!(ran.stdout, "one\n");
    assert!(said(&model).contains("Tell me\\nabout ünïcode."));
}

#[test]
fn files_come_with_the_task() {
    let home = Home::new()
        .file("notes/a.txt", "alpha\n")
        .file("b.txt", "beta\n");
    let model = ModelServer::start(vec![Reply::text("one")]);
    let arguments = ["-m", "Read.", "--file", "notes/a.txt", "-f", "b.txt"];
    run(home.openoxide_with(&model, &arguments)).expect(0);
    let said = said(&model);
    for known in ["notes/a.txt", "alpha", "b.txt", "beta"] {
        assert!(said.contains(known), "no {known:?} in {said}");
    }
}

#[test]
fn a_denial_on_the_way_is_told_and_is_no_failure() {
    let write = json!({"path": "new.txt", "content": "x"});
    let escalate = json!({"command": "touch free.txt", "escalate": true});
    let script = vec![
        Reply::call("w", "write_file", write).and_call("s", "shell", escalate),
        Reply::text("I could not."),
    ];
    for (arguments, denied) in [
        (["--sandbox", "read-only"], "denied: edit `new.txt`"),
        (
            ["--approval-policy", "never"],
            "denied: run `touch free.txt`",
        ),
        (
            ["--approval-policy", "on-request"],
            "denied: run `touch free.txt`",
        ),
    ] {
        let (home, model) = (Home::new(), ModelServer::start(script.clone()));
        let all = [&["-m", "x"], &arguments[..]].concat();
        let ran = run(home.openoxide_with(&model, &all)).expect(0);
        assert_eq!(ran.stdout, "I could not.\n");
        assert!(ran.stderr.contains(denied), "{arguments:?}: {}", ran.stderr);
        assert!(!home.has("free.txt"));
        assert_eq!(model.violations(), [""; 0]);
    }
}

#[test]
fn a_limit_ends_the_turn_with_its_own_code() {
    let script = vec![
        Reply::call("c1", "list_files", json!({})),
        Reply::call("c2", "list_files", json!({"path": "."})),
        Reply::text("done"),
    ];
    for limit in [
        &["--max-steps", "2"][..],
        &["--set", "limits.max_steps=2"],
        &["-c", "limits.max_steps = 2"],
        &["-c", "limits.max_steps=9", "--max-steps", "2"],
    ] {
        let (home, model) = (Home::new(), ModelServer::start(script.clone()));
        let ran = run(home.openoxide_with(&model, &[&["-m", "x"], limit].concat())).expect(5);
        ran.assert_says("limits.max_steps");
        assert_eq!((model.requests().len(), ran.stdout.as_str()), (2, ""));
    }
    let stalled = vec![Reply::text("x").delayed(Duration::from_secs(60))];
    let (home, model) = (Home::new(), ModelServer::start(stalled));
    let arguments = ["-m", "x", "--max-seconds", "0.5", "--output", "json"];
    let outcome = run(home.openoxide_with(&model, &arguments))
        .expect(5)
        .json();
    assert_eq!(
        (&outcome["status"], &outcome["error"]["kind"]),
        (&json!("limit_reached"), &json!("time_limit"))
    );
    let greedy = vec![
        Reply::call("c1", "list_files", json!({})).usage(900, 0, 200),
        Reply::text("done"),
    ];
    let (home, model) = (Home::new(), ModelServer::start(greedy));
    let arguments = ["-m", "x", "--max-tokens", "1000", "--output", "json"];
    let outcome = run(home.openoxide_with(&model, &arguments))
        .expect(5)
        .json();
    assert_eq!(outcome["error"]["kind"], "token_limit");
}

#[test]
fn a_signal_interrupts_the_turn_and_it_can_be_resumed() {
    for signal in [Signal::INT, Signal::TERM] {
        let script = vec![
            Reply::call("c1", "shell", json!({"command": "sleep 300"})),
            Reply::text("I went on."),
        ];
        let (home, model) = (Home::new(), ModelServer::start(script));
        let running = start(home.openoxide_with(&model, &["-m", "Take your time."]));
        if !home.until_running("sleep 300") {
            return;
        }
        running.signal(signal);
        let ran = running.ended().expect(130);
        assert_eq!(ran.stdout, "");
        ran.assert_says("interrupted");
        home.assert_deserted(&[]);
        let thread_id = home.threads().remove(0);
        let ran = run(home.openoxide_with(&model, &["--resume", &thread_id])).expect(0);
        assert_eq!(ran.stdout, "I went on.\n");
        assert_eq!(home.threads(), [thread_id]);
        assert_eq!(model.violations(), [""; 0]);
    }
}

#[test]
fn a_thread_is_gone_on_with_by_its_id_or_as_the_newest_here() {
    let words = ["one", "two", "three"].map(Reply::text);
    let (home, model) = (Home::new(), ModelServer::start(words.into()));
    run(home.openoxide_with(&model, &["-m", "Say one."])).expect(0);
    let thread_id = home.threads().remove(0);
    let arguments = ["--resume", &thread_id, "-m", "Say two."];
    let ran = run(home.openoxide_with(&model, &arguments)).expect(0);
    assert_eq!(ran.stdout, "two\n");
    let ran = run(home.openoxide_with(&model, &["--continue", "-m", "Say three."])).expect(0);
    assert_eq!(ran.stdout, "three\n");
    let said = said(&model);
    for known in ["Say one.", "one", "Say two.", "two", "Say three."] {
        assert!(said.contains(known), "no {known:?} in {said}");
    }
    assert_eq!(home.threads(), [thread_id]);
}

#[test]
fn nothing_to_go_on_with_is_said() {
    let home = Home::new();
    let unknown = "019a0000-0000-7000-8000-000000000000";
    for (arguments, said) in [
        (&["--continue", "-m", "x"][..], "no thread"),
        (&["--resume", unknown, "-m", "x"], unknown),
        (&["--resume", "nonsense", "-m", "x"], "nonsense"),
        (&["--resume", unknown, "--continue"], "--continue"),
        (&["threads", "show", unknown], unknown),
        (&["threads", "show", "nonsense"], "nonsense"),
    ] {
        let ran = run(home.openoxide(arguments)).expect(2);
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
    let (home, model) = (Home::new(), ModelServer::start(vec![Reply::text("done")]));
    run(home.openoxide_with(&model, &["-m", "x"])).expect(0);
    let ran = run(home.openoxide_with(&model, &["--continue"])).expect(2);
    ran.assert_says("nothing to resume");
}

#[test]
fn threads_are_listed_and_shown() {
    let (home, model) = with_a_greeting();
    assert!(
        run(home.openoxide(&["threads", "list"]))
            .expect(0)
            .stdout
            .contains("no threads yet")
    );
    assert_eq!(
        run(home.openoxide(&["threads", "list", "--json"])).json(),
        json!([])
    );
    run(home.openoxide_with(&model, &["-m", "Mend the greeting."])).expect(0);
    let thread_id = home.threads().remove(0);
    let list = run(home.openoxide(&["threads", "list"])).expect(0).stdout;
    for known in [thread_id.as_str(), "completed", "Mend the greeting."] {
        assert!(list.contains(known), "no {known:?} in {list}");
    }
    let list = run(home.openoxide(&["threads", "list", "--json"])).json();
    assert_eq!(list[0]["thread_id"], thread_id.as_str());
    assert_eq!(
        (
            &list[0]["status"],
            &list[0]["turns"],
            &list[0]["title"],
            &list[0]["cwd"]
        ),
        (
            &json!("completed"),
            &json!(1),
            &json!("Mend the greeting."),
            &json!(home.project())
        )
    );
    // The end of an id is enough.
    for id in [&thread_id, &thread_id[28..]] {
        let shown = run(home.openoxide(&["threads", "show", id]))
            .expect(0)
            .stdout;
        for known in ["> Mend the greeting.", "edit_file", LAST_WORD, "completed"] {
            assert!(shown.contains(known), "no {known:?} in {shown}");
        }
    }
    let shown = run(home.openoxide(&["threads", "show", &thread_id, "--json"])).json();
    assert_eq!(shown["thread"]["thread_id"], thread_id.as_str());
    assert_eq!(shown["items"].as_array().map(Vec::len), Some(6));
    assert_eq!(shown["outcomes"][0]["content"], LAST_WORD);
}

#[test]
fn a_rollout_belongs_to_its_owner_alone() {
    let (home, model) = with_a_greeting();
    run(home.openoxide_with(&model, &["-m", "x"])).expect(0);
    let file = home.rollout_file(&home.threads()[0]);
    let mode = |path: &std::path::Path| {
        let metadata = std::fs::metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    let directory = file.parent().expect("a directory");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(directory), 0o700);
    assert_eq!(mode(directory.parent().expect("a directory")), 0o700);
    for entry in std::fs::read_dir(directory).expect("the thread") {
        let entry = entry.expect("an entry").path();
        let expected = if entry.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&entry), expected, "{}", entry.display());
    }
    let records = home.rollout(&home.threads()[0]);
    assert_eq!(
        (&records[0]["type"], &records[0]["version"]),
        (&json!("thread"), &json!(1))
    );
    for record in &records[1..] {
        assert!(record["type"].is_string(), "{record}");
        let at = record["at"].as_str().expect("a time");
        assert!(humantime_like(at), "{at}");
    }
}

/// `2026-11-20T13:00:00.000Z`
fn humantime_like(at: &str) -> bool {
    at.ends_with('Z') && at.as_bytes().get(10) == Some(&b'T') && at.len() >= 20
}

#[test]
fn an_ephemeral_task_leaves_nothing() {
    let (home, model) = with_a_greeting();
    run(home.openoxide_with(&model, &["-m", "x", "--ephemeral"])).expect(0);
    assert_eq!(home.threads(), [""; 0]);
    assert_eq!(model.requests().len(), 3);
}

#[test]
fn the_first_request_is_small_and_says_who_asks_for_what() {
    let (home, model) = with_a_greeting();
    run(home.openoxide_with(&model, &["-m", "Mend it.", "--model", "some-model"])).expect(0);
    let requests = model.requests();
    let first = &requests[0];
    let size: usize = first.headers["content-length"].parse().expect("a length");
    assert!(size < 12 * 1024, "{size} bytes");
    assert_eq!(first.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(first.body["model"], "some-model");
    assert_eq!(first.body["prompt_cache_key"], home.threads()[0].as_str());
    let tools = first.body["tools"].as_array().expect("tools");
    let names: Vec<&str> = tools
        .iter()
        .map(|tool| tool["name"].as_str().expect("a name"))
        .collect();
    for name in [
        "read_file",
        "list_files",
        "search",
        "outline",
        "edit_file",
        "write_file",
        "shell",
        "update_plan",
    ] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    assert_eq!(model.violations(), [""; 0]);
}

#[test]
fn the_users_file_the_environment_and_flags_set_the_model_in_this_order() {
    let answer = || ModelServer::start(vec![Reply::text("one")]);
    let asked = |model: &ModelServer| model.requests()[0].body["model"].clone();
    let home = Home::new().config("[model]\nname = \"of-the-file\"\n");
    let model = answer();
    run(home.openoxide_with(&model, &["-m", "x"])).expect(0);
    assert_eq!(asked(&model), "of-the-file");
    let model = answer();
    let mut command = home.openoxide_with(&model, &["-m", "x"]);
    command.env("OPENOXIDE_MODEL", "of-the-environment");
    run(command).expect(0);
    assert_eq!(asked(&model), "of-the-environment");
    let model = answer();
    let mut command = home.openoxide_with(&model, &["-m", "x", "-c", "model.name=of-the-flag"]);
    command.env("OPENOXIDE_MODEL", "of-the-environment");
    run(command).expect(0);
    assert_eq!(asked(&model), "of-the-flag");
}

#[test]
fn help_version_and_completions_are_there() {
    let home = Home::new();
    let help = run(home.openoxide(&[])).expect(0).stdout;
    for known in ["mcp-server", "--message", "--sandbox", "threads"] {
        assert!(help.contains(known), "no {known:?} in {help}");
    }
    let help = run(home.openoxide(&["--help"])).expect(0).stdout;
    assert!(help.contains("OPENAI_API_KEY"), "{help}");
    let version = run(home.openoxide(&["--version"])).expect(0).stdout;
    assert_eq!(
        version,
        format!("openoxide {}\n", env!("CARGO_PKG_VERSION"))
    );
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(home.openoxide(&["completions", shell]))
            .expect(0)
            .stdout;
        for known in ["openoxide", "mcp-server", "approval-policy"] {
            assert!(script.contains(known), "no {known:?} for {shell}");
        }
    }
    run(home.openoxide(&["completions", "nosuch"])).expect(2);
    assert_eq!(home.threads(), [""; 0]);
}

#[test]
fn two_tasks_at_once_do_not_get_into_each_others_way() {
    let script = vec![
        Reply::call(
            "c1",
            "shell",
            json!({"command": "mktemp here.XXXXXX >/dev/null; until [ $(ls here.* | wc -l) -ge 2 ]; do sleep 0.05; done"}),
        ),
        Reply::text("we met"),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let both = [0, 1].map(|_| start(home.openoxide_with(&model, &["-m", "x"])));
    for one in both {
        assert_eq!(one.ended().expect(0).stdout, "we met\n");
    }
    assert_eq!(home.threads().len(), 2);
    eventually("all is quiet", || {
        home.processes().is_none_or(|all| all.is_empty())
    });
}

/// `openoxide … | head -1`
#[test]
fn a_reader_that_goes_away_ends_the_task_and_its_processes() {
    let command = "echo one; until test -e go; do sleep 0.1; done; echo two; sleep 300";
    let script = vec![
        Reply::call("c1", "shell", json!({"command": command})),
        Reply::text("done"),
    ];
    for _ in 0..4 {
        let (home, model) = (Home::new(), ModelServer::start(script.clone()));
        let mut task = home.openoxide_with(&model, &["-m", "x", "--output", "stream-json"]);
        let mut child = task
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        if home.until_running("sleep 0.1") {
            drop(child.stdout.take());
            std::fs::write(home.project().join("go"), "").expect("a file");
            let status = ends_within(&mut child, Duration::from_secs(10));
            assert!(!status.success(), "{status}");
            home.assert_deserted(&[]);
            let recorded = home.rollout(&home.threads()[0]);
            assert_eq!(recorded.last().expect("records")["type"], "turn_ended");
        } else {
            child.kill().expect("it runs");
            child.wait().expect("our child");
        }
    }
}

#[test]
fn every_configuration_that_the_documentation_shows_can_be_loaded() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(top.join("docs")).expect("docs").flatten();
    let pages = docs.map(|page| page.path()).chain([top.join("README.md")]);
    let mut blocks = 0;
    for page in pages.filter(|page| page.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(&page).expect("a page");
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().expect("an end");
            let home = Home::new().config(block);
            let ran = run(home.openoxide(&["mcp", "list", "--json"]));
            assert_eq!(
                ran.code,
                Some(0),
                "{}: {block}: {}",
                page.display(),
                ran.stderr
            );
            blocks += 1;
        }
    }
    assert!(blocks > 2, "{blocks}");
}

#[test]
fn a_thread_is_named_by_the_end_of_its_id_or_as_the_last() {
    let words = ["one", "two", "three"].map(Reply::text);
    let (home, model) = (Home::new(), ModelServer::start(words.into()));
    run(home.openoxide_with(&model, &["-m", "Say one."])).expect(0);
    let thread_id = home.threads().remove(0);
    for name in [&thread_id[thread_id.len() - 8..], "last"] {
        run(home.openoxide_with(&model, &["--resume", name, "-m", "Go on."])).expect(0);
    }
    assert_eq!((home.threads().len(), model.requests().len()), (1, 3));
    for arguments in [
        &["--resume", "", "-m", "x"][..],
        &["threads", "show", ""],
        &["threads", "answer", &thread_id, "--approval", "x", "--deny"],
    ] {
        let ran = run(home.openoxide(arguments)).expect(2);
        assert!(!ran.stderr.contains("UUID"), "{}", ran.stderr);
    }
}

#[test]
fn paths_that_are_typed_are_those_of_the_shell_whatever_the_working_directory() {
    let home = Home::new()
        .file("a.txt", "of the shell\n")
        .file("inner/a.txt", "of the directory\n");
    let model = ModelServer::start(vec![Reply::text("done")]);
    let task = ["--cwd", "inner", "-m", "x", "-f", "a.txt"];
    run(home.openoxide_with(&model, &task)).expect(0);
    assert!(said(&model).contains("of the shell"));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_begins() {
    let home = Home::new()
        .file("notes.md", "# Notes\n")
        .config("[mcp_servers.x]\ncommand = 'a'\nurl = 'https://a.example'\n");
    let ran = run(home.openoxide(&["-m", "x"])).expect(2);
    assert!(ran.stderr.contains("config.toml"), "{}", ran.stderr);
    let home = home.config("");
    for (arguments, word) in [
        (&["mcp-server", "--root", "nowhere"][..], "`--root nowhere`"),
        (&["mcp-server", "--no-auth"], "`--http`"),
        (&["--model", "", "-m", "x"], "`--model`"),
        (&["--image", "notes.md", "-m", "x"], "`--image notes.md`"),
    ] {
        let ran = run(home.openoxide(arguments)).expect(2);
        assert!(ran.stderr.contains(word), "{}", ran.stderr);
    }
    assert!(home.threads().is_empty());
}
