//! The key: given to the program, sent to the model's endpoint, and never seen again.
//!
//! What the model writes itself is kept as it wrote it. It does not know the key, so what the scripted one writes here
//! never holds it.

use serde_json::json;

use crate::support::{
    client::{Client, NEWEST_SESSION, outcome, word},
    home::{Home, KEY, run, skipped},
    model_server::{ModelServer, Reply},
};

fn shell(call_id: &str, command: &str) -> Reply {
    Reply::call(call_id, "shell", json!({"command": command}))
}

/// Looks for the key wherever it could be found.
fn curious() -> Vec<Reply> {
    vec![
        shell("c1", "env"),
        shell(
            "c2",
            "echo the key is ${OPENAI_API_KEY:-nowhere}; tr '\\0' '\\n' </proc/$PPID/environ | grep OPENAI_API",
        ),
        Reply::call("c3", "read_file", json!({"path": "secret.txt"})),
        shell("c4", "cat secret.txt; cat secret.txt >&2"),
        Reply::call("c5", "search", json!({"pattern": "key"})),
        Reply::text("done"),
    ]
}

fn with_a_secret() -> Home {
    Home::new().file("secret.txt", &format!("key = {KEY}\n"))
}

fn assert_clean(place: &str, text: &str) {
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(KEY)).collect();
    assert!(lines.is_empty(), "the key is in {place}: {lines:#?}");
}

/// All rollouts together.
fn rollouts(home: &Home) -> String {
    let files = home.threads();
    let texts = files
        .iter()
        .map(|id| std::fs::read_to_string(home.rollout_file(id)).expect("a rollout"));
    texts.collect()
}

fn bodies(model: &ModelServer) -> String {
    let requests = model.requests();
    let bodies = requests.iter().map(|seen| seen.body.to_string() + "\n");
    bodies.collect()
}

#[test]
fn neither_the_model_nor_the_disk_learns_the_key() {
    let (home, model) = (with_a_secret(), ModelServer::start(curious()));
    let prompt = format!("My key is {KEY}.");
    let mut command = home.openoxide_with(&model, &["-m", &prompt]);
    command.env("SOME_TOKEN", "tok-5b1e93");
    let ran = run(command).expect(0);
    let requests = model.requests();
    assert_eq!(requests.len(), 6);
    for seen in &requests {
        assert_eq!(seen.headers["authorization"], format!("Bearer {KEY}"));
    }
    assert_clean("the requests", &bodies(&model));
    assert_clean("the rollout", &rollouts(&home));
    assert_clean("standard output", &ran.stdout);
    // The commands ran, and without what only we should have.
    let rollout = rollouts(&home);
    assert!(rollout.contains("OPENOXIDE_DEPTH=1"), "{rollout}");
    assert!(rollout.contains("the key is nowhere"), "{rollout}");
    assert!(!rollout.contains("tok-5b1e93"), "{rollout}");
    assert_eq!(model.violations(), [""; 0]);
}

#[test]
fn files_that_hold_the_key_are_attached_without_it() {
    let (home, model) = (
        with_a_secret(),
        ModelServer::start(vec![Reply::text("done")]),
    );
    run(home.openoxide_with(&model, &["-m", "x", "-f", "secret.txt"])).expect(0);
    assert!(bodies(&model).contains("key = [redacted]"));
    assert_clean("the requests", &bodies(&model));
    assert_clean("the rollout", &rollouts(&home));
}

#[test]
fn who_watches_does_not_see_the_key() {
    let (home, model) = (with_a_secret(), ModelServer::start(curious()));
    let arguments = ["-m", "x", "--output", "stream-json"];
    let ran = run(home.openoxide_with(&model, &arguments)).expect(0);
    assert_clean("the events", &ran.stdout);
}

#[test]
fn progress_does_not_show_the_key() {
    let script = vec![
        shell("c1", "cat secret.txt; sleep 0.6"),
        Reply::text("done"),
    ];
    let (home, model) = (with_a_secret(), ModelServer::start(script));
    let command = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::start(command, NEWEST_SESSION);
    let id = client.begin_told("openoxide", json!({"prompt": "x"}), "tok");
    client.result(id);
    let heard: String = client
        .heard
        .iter()
        .map(|(_, message)| message.to_string() + "\n")
        .collect();
    assert!(heard.contains("key = "), "the line was never told: {heard}");
    assert_clean("progress", &heard);
    client.close();
}

/// An edit whose diff would have the key in its lines.
fn edits_beside_the_key() -> Vec<Reply> {
    let edits = json!([{"search": "key = ", "replace": "api key = "}]);
    let edit = json!({"path": "secret.txt", "edits": edits});
    vec![Reply::call("c1", "edit_file", edit), Reply::text("done")]
}

#[test]
fn a_diff_does_not_show_the_key() {
    let (home, model) = (with_a_secret(), ModelServer::start(edits_beside_the_key()));
    let command = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::start(command, NEWEST_SESSION);
    let result = client.call("openoxide", json!({"prompt": "x", "detail": "full"}));
    assert_eq!(home.read("secret.txt"), format!("api key = {KEY}\n"));
    let diff = outcome(&result)["changes"][0]["diff"].to_string();
    assert!(diff.contains("+api key = "), "{diff}");
    assert_clean("the diff", &diff);
    assert_clean("the rollout", &rollouts(&home));
    client.close();
}

#[test]
fn a_question_does_not_show_the_key() {
    let (home, model) = (with_a_secret(), ModelServer::start(edits_beside_the_key()));
    let command = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::able(command, NEWEST_SESSION, json!({"elicitation": {}}));
    let id = client.begin("openoxide", json!({"prompt": "x", "sandbox": "read-only"}));
    let question = client.asked("elicitation/create");
    assert!(question.to_string().contains("+api key = "), "{question}");
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}));
    client.result(id);
    assert_clean("the question", &question.to_string());
    assert_clean("the rollout", &rollouts(&home));
    client.close();
}

#[test]
fn logs_do_not_show_the_key_however_much_they_say() {
    let (home, model) = (Home::new(), ModelServer::start(vec![Reply::text("done")]));
    let mut command = home.openoxide_with(&model, &["-m", "x"]);
    command.env("OPENOXIDE_LOG", "trace");
    let ran = run(command).expect(0);
    assert!(
        ran.stderr.contains("TRACE"),
        "nothing was logged: {}",
        ran.stderr
    );
    assert_clean("the log", &ran.stderr);
}

#[test]
fn a_key_from_a_file_is_as_secret_as_one_from_the_environment() {
    let home = with_a_secret().file("keys.env", &format!("export OPENAI_API_KEY='{KEY}'\n"));
    let model = ModelServer::start(curious());
    let arguments = ["-m", "x", "--env-file", "keys.env"];
    let mut command = home.openoxide_with(&model, &arguments);
    command.env_remove("OPENAI_API_KEY");
    run(command).expect(0);
    let sent = model.requests()[0].headers["authorization"].clone();
    assert_eq!(sent, format!("Bearer {KEY}"));
    assert_clean("the requests", &bodies(&model));
    assert_clean("the rollout", &rollouts(&home));
}

#[test]
fn a_command_cannot_read_what_openoxide_keeps() {
    let home = Home::new();
    let state = home.state();
    let inside = state.join("threads");
    let script = vec![
        Reply::call(
            "c1",
            "read_file",
            json!({"path": state.join("config.toml")}),
        )
        .and_call("c2", "list_files", json!({"path": inside}))
        .and_call(
            "c3",
            "write_file",
            json!({"path": inside.join("x"), "content": "x"}),
        ),
        Reply::text("done"),
    ];
    let home = home.config("[model]\nname = \"only-the-owner-knows\"\n");
    let model = ModelServer::start(script);
    // Without a sandbox every other path would be open.
    let command = home.openoxide_with(&model, &["mcp-server", "--allow-full-access"]);
    let mut client = Client::start(command, NEWEST_SESSION);
    let arguments = json!({"prompt": "x", "sandbox": "danger-full-access"});
    let result = client.call("openoxide", arguments);
    let thread_id = word(&result, "thread_id");
    let outputs: Vec<String> = home
        .rollout(&thread_id)
        .iter()
        .filter(|record| record["type"] == "tool_output")
        .map(|record| record["content"].to_string())
        .collect();
    assert_eq!(outputs.len(), 3, "{outputs:?}");
    for output in outputs {
        assert!(output.contains("private"), "{output}");
    }
    assert_eq!(home.threads(), [thread_id]);
    client.close();
}

/// Redaction knows the key as it is written; a command could pass it on in another form.
#[test]
fn a_sandboxed_command_cannot_read_our_environment() {
    let look = "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c '^OPENAI_API_KEY='";
    let script = vec![shell("c1", look), Reply::text("done")];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let outcome = run(home.openoxide_with(&model, &["-m", "x", "--output", "json"]))
        .expect(0)
        .json();
    let missing = outcome["sandbox"]["missing"].to_string();
    if missing.contains("processes") {
        skipped("commands see other processes (the sandbox does not enforce `processes`)");
        return;
    }
    let told = model.requests()[1].body["input"].to_string();
    assert!(told.contains("0\\n[exit code 1]"), "{told}");
}
