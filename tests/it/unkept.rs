//! A place for threads that cannot be written, or is full: work goes on where it can, and says what is not kept.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::support::{
    client::{Client, NEWEST_SESSION, outcome},
    home::{Home, Ran, run, skipped},
    model_server::{ModelServer, Reply},
};

fn task() -> Vec<Reply> {
    let edits = json!([{"search": "one", "replace": "two"}]);
    vec![
        Reply::call("c1", "edit_file", json!({"path": "a.txt", "edits": edits})),
        Reply::call("c2", "shell", json!({"command": "echo more >> a.txt"})),
        Reply::text("All done."),
        Reply::text("And again."),
    ]
}

/// A machine whose place for threads leads through a file: nobody can write there, root included.
fn nowhere() -> (Home, ModelServer) {
    let home = Home::new().file("a.txt", "one\n");
    std::fs::write(home.state().join("file"), "").expect("a file");
    (home, ModelServer::start(task()))
}

fn without_a_place(home: &Home, mut command: Command) -> Command {
    command.env("OPENOXIDE_HOME", home.state().join("file/state"));
    command
}

/// It works as it would with `--ephemeral`, and says why.
fn assert_told(outcome: &Value) {
    assert_eq!(outcome["status"], "completed", "{outcome}");
    let why = outcome["not_kept"].as_str().unwrap_or_default();
    let said = [
        "this thread is not kept",
        "file/state/threads/",
        "Not a directory",
    ];
    assert!(said.iter().all(|word| why.contains(word)), "{outcome}");
    let change = &outcome["changes"][0];
    assert_eq!(
        (&change["path"], &change["added"]),
        (&json!("a.txt"), &json!(2)),
        "{outcome}"
    );
    assert_eq!(outcome.get("partial_changes"), None, "{outcome}");
}

#[test]
fn a_task_whose_thread_cannot_be_kept_is_done_and_says_so() {
    let (home, model) = nowhere();
    let task = ["-m", "go", "--output", "json"];
    let ran = run(without_a_place(&home, home.openoxide_with(&model, &task))).expect(0);
    assert_told(&ran.json());
    assert_eq!(home.read("a.txt"), "two\nmore\n");
    let (home, model) = nowhere();
    let ran = run(without_a_place(
        &home,
        home.openoxide_with(&model, &["-m", "go"]),
    ))
    .expect(0);
    assert_eq!(ran.stdout, "All done.\n");
    assert_eq!(
        ran.stderr.matches("this thread is not kept").count(),
        1,
        "{}",
        ran.stderr
    );
    let list = run(without_a_place(&home, home.openoxide(&["threads", "list"]))).expect(0);
    assert!(list.stdout.starts_with("no threads yet"), "{list:?}");
}

#[test]
fn a_server_that_can_keep_nothing_works_says_so_and_goes_on_with_its_threads() {
    let (home, model) = nowhere();
    let server = home.openoxide_with(&model, &["mcp-server", "-c", "threads.idle_minutes=0.001"]);
    let mut client = Client::start(without_a_place(&home, server), NEWEST_SESSION);
    let first = client.call("openoxide", json!({"prompt": "go"}));
    assert_told(outcome(&first));
    let text = first["content"][0]["text"].as_str().expect("text");
    assert!(text.contains("this thread is not kept"), "{text}");
    // It is nowhere else, so it does not leave memory either.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let thread = &outcome(&first)["thread_id"];
    let again = client.call(
        "openoxide-reply",
        json!({"thread_id": thread, "prompt": "again"}),
    );
    assert_eq!(outcome(&again)["content"], "And again.", "{again}");
    client.close();
}

/// Runs `script` where `home`'s place for threads is a file system of `size`; none where this machine does not let us.
/// `$OPENOXIDE` is the program, with `model` to talk to.
fn on_a_disk_of(size: &str, home: &Home, model: &ModelServer, script: &str) -> Option<Ran> {
    let openoxide = home.openoxide_with(model, &[]);
    let mut command = Command::new("unshare");
    let mount =
        format!("mount -t tmpfs -o size={size},mode=700 none \"$OPENOXIDE_HOME\" || exit 125");
    command.args(["-rm", "sh", "-c", &format!("{mount}\n{script}")]);
    command.current_dir(home.project()).env_clear();
    for (name, value) in openoxide.get_envs() {
        value.map(|value| command.env(name, value));
    }
    command.env("OPENOXIDE", openoxide.get_program());
    let allowed = Path::new("/usr/bin/unshare").exists();
    let ran = allowed
        .then(|| run(command))
        .filter(|ran| ran.code != Some(125));
    if ran.is_none() {
        skipped("file systems cannot be mounted here (unshare -rm)");
    }
    ran
}

const RESPONSES: &str = "-c model.wire_api=responses";

#[test]
fn a_disk_that_fills_up_ends_the_turn_and_leaves_what_was_written_readable() {
    let home = Home::new().file("big.txt", &"a line of some length\n".repeat(1500));
    let read = |n: usize| Reply::call(&format!("c{n}"), "read_file", json!({"path": "big.txt"}));
    let script: Vec<Reply> = (0..40).map(read).chain([Reply::text("never")]).collect();
    let model = ModelServer::start(script);
    let Some(ran) = on_a_disk_of(
        "512k",
        &home,
        &model,
        &format!(
            "$OPENOXIDE -m go --output json {RESPONSES}; echo code $?
             $OPENOXIDE threads list --json | tr -d '\\n'; echo
             id=$(ls \"$OPENOXIDE_HOME/threads\")
             $OPENOXIDE threads show --json $id
             $OPENOXIDE -m more --resume $id {RESPONSES}; echo code $? >&2"
        ),
    ) else {
        return;
    };
    let mut lines = ran.stdout.lines();
    let first: Value = serde_json::from_str(lines.next().unwrap()).expect("an outcome");
    assert_eq!(
        (&first["status"], &first["error"]["kind"]),
        (&json!("failed"), &json!("storage")),
        "{first}"
    );
    let message = first["error"]["message"].as_str().unwrap();
    assert!(message.contains("No space left on device"), "{message}");
    assert_eq!(lines.next(), Some("code 1"));
    let list: Value = serde_json::from_str(lines.next().unwrap()).expect("a list");
    assert_eq!(
        (&list[0]["turns"], &list[0]["title"]),
        (&json!(1), &json!("go")),
        "{list}"
    );
    let shown: String = lines.collect();
    let shown: Value = serde_json::from_str(&shown).expect("a thread");
    assert!(shown["items"].as_array().unwrap().len() > 4, "{shown}");
    // The thread is kept, so a turn that cannot be is refused.
    ran.assert_says("No space left on device");
    assert!(ran.stderr.ends_with("code 2\n"), "{}", ran.stderr);
}

#[test]
fn a_thread_whose_disk_became_read_only_goes_on_in_memory_and_says_so() {
    let home = Home::new().file("a.txt", "one\n");
    let model = ModelServer::start(vec![Reply::text("First."), Reply::text("Second.")]);
    let Some(ran) = on_a_disk_of(
        "4m",
        &home,
        &model,
        &format!(
            "$OPENOXIDE -m go {RESPONSES} || exit 1
             mount -o remount,ro \"$OPENOXIDE_HOME\" || exit 125
             $OPENOXIDE --continue -m more --output json {RESPONSES}; echo code $?
             $OPENOXIDE -m new --output json {RESPONSES} >/dev/null; echo code $?
             $OPENOXIDE threads list --json"
        ),
    ) else {
        return;
    };
    let mut lines = ran.stdout.lines();
    assert_eq!(lines.next(), Some("First."));
    let second: Value = serde_json::from_str(lines.next().unwrap()).expect("an outcome");
    assert_eq!(second["content"], "Second.", "{second}");
    let why = second["not_kept"].as_str().unwrap_or_default();
    assert!(why.contains("Read-only file system"), "{second}");
    assert_eq!(lines.next(), Some("code 0"));
    lines.next();
    let list: Value = serde_json::from_str(&lines.collect::<String>()).expect("a list");
    assert_eq!(
        (list.as_array().unwrap().len(), &list[0]["turns"]),
        (1, &json!(1)),
        "{list}"
    );
}
