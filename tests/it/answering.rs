//! One question, two doors: an approval asked over MCP is seen and answered from a terminal, while the server holds the
//! thread.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    client::{Client, NEWEST_SESSION, outcome},
    home::{Home, KEY, Ran, eventually, run},
    model_server::{ModelServer, Reply},
};

const FORMS: &str = "elicitation/create";

/// A server whose client was asked about an edit and says nothing; with the call's id and the thread's.
fn asked() -> (Home, ModelServer, Client, u64, String) {
    asked_in(Home::new())
}

fn asked_in(home: Home) -> (Home, ModelServer, Client, u64, String) {
    let write = json!({"path": "new.txt", "content": "hello\n"});
    let model = ModelServer::start(vec![
        Reply::call("w1", "write_file", write),
        Reply::text("That is that."),
    ]);
    let server = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::able(server, NEWEST_SESSION, json!({"elicitation": {}}));
    let task = json!({"prompt": "Write new.txt.", "sandbox": "read-only"});
    let call = client.begin("openoxide", task);
    client.asked(FORMS);
    let thread = home.threads().pop().expect("one thread");
    (home, model, client, call, thread)
}

fn threads(home: &Home, arguments: &[&str]) -> Ran {
    run(home.openoxide(&[&["threads"], arguments].concat()))
}

fn socket(home: &Home, thread: &str) -> PathBuf {
    home.rollout_file(thread).with_file_name("holder.sock")
}

fn resolution(home: &Home, thread: &str) -> Value {
    let records = home.rollout(thread);
    let resolved = records
        .into_iter()
        .find(|record| record["type"] == "approval_resolved");
    resolved.expect("it is settled")
}

#[test]
fn a_question_over_mcp_is_answered_from_a_terminal_and_the_client_is_told() {
    let (home, model, mut client, call, thread) = asked();
    let shown = threads(&home, &["show", &thread]).expect(0).stdout;
    assert!(shown.contains("? waits for an answer"), "{shown}");
    let said = threads(&home, &["answer", &thread, "--approve"]).expect(0);
    assert_eq!(said.stdout, "answered: edit `new.txt`\n");
    client.told("cancelled");
    let result = client.result(call);
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    assert_eq!(home.read("new.txt"), "hello\n");
    let resolution = &resolution(&home, &thread)["resolution"];
    assert_eq!(resolution["by"], "terminal");
    assert_eq!(model.violations(), [""; 0]);
    client.close();
}

#[test]
fn a_note_goes_to_the_model_and_the_first_answer_counts() {
    let (home, model, mut client, call, thread) = asked();
    let deny = ["answer", &thread, "--deny", "--note", "use old.txt"];
    threads(&home, &deny).expect(0);
    let late = threads(&home, &["answer", &thread, "--approve"]).expect(2);
    assert!(late.stderr.starts_with("error: "), "{}", late.stderr);
    let result = client.result(call);
    assert_eq!(outcome(&result)["denied"][0]["summary"], "edit `new.txt`");
    assert_eq!(home.names(), [""; 0]);
    let told = model.requests()[1].body.to_string();
    assert!(told.contains("a person said no: use old.txt"), "{told}");
    client.close();
}

#[test]
fn what_cannot_be_answered_says_why() {
    let (home, _model, mut client, call, thread) = asked();
    for (arguments, why) in [
        (vec!["answer", &thread], "no terminal"),
        (vec!["answer", &thread, "--note", "x"], "--approve"),
        (
            vec!["answer", &thread, "--approve", "--deny"],
            "cannot be used with",
        ),
        (
            vec![
                "answer",
                &thread,
                "--approve",
                "--approval",
                "0198c0de-0000-7000-8000-000000000000",
            ],
            "is not open",
        ),
        (vec!["answer", "ffff", "--approve"], "there is no thread"),
    ] {
        let refused = threads(&home, &arguments).expect(2);
        assert!(
            refused.stderr.contains(why),
            "{arguments:?}: {}",
            refused.stderr
        );
    }
    assert_eq!(home.names(), [""; 0]);
    threads(&home, &["answer", &thread, "--abort"]).expect(0);
    assert_eq!(outcome(&client.result(call))["status"], "interrupted");
    let over = threads(&home, &["answer", &thread, "--approve"]).expect(2);
    over.assert_says("no question is open in this thread");
    client.close();
}

#[test]
fn the_socket_is_private_and_goes_with_the_turn() {
    let (home, _model, mut client, call, thread) = asked();
    let socket = socket(&home, &thread);
    let mode = socket.metadata().expect("it listens").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    threads(&home, &["answer", &thread, "--deny"]).expect(0);
    client.result(call);
    assert!(!socket.exists());
    client.close();
}

#[test]
fn an_answer_that_no_process_takes_is_kept_and_its_turn_goes_on_with_it() {
    let (home, model, mut client, _, thread) = asked();
    client.signal(rustix::process::Signal::KILL);
    client.ends_within(Duration::from_secs(10));
    assert!(
        socket(&home, &thread).exists(),
        "nothing was left to be wrong about"
    );
    let said = threads(&home, &["answer", &thread, "--approve", "--note", KEY]).expect(0);
    assert!(
        said.stdout.starts_with("answered: edit `new.txt`\n")
            && said
                .stdout
                .contains(&format!("openoxide --resume {thread}")),
        "{}",
        said.stdout
    );
    assert_eq!(home.names(), [""; 0], "nothing was started");
    let again = threads(&home, &["answer", &thread, "--deny"]).expect(2);
    again.assert_says("openoxide --resume");
    let kept = std::fs::read_to_string(home.rollout_file(&thread)).expect("a rollout");
    assert!(!kept.contains(KEY), "{kept}");
    let mut client = Client::start(home.openoxide_with(&model, &["mcp-server"]), NEWEST_SESSION);
    let result = client.call("openoxide-reply", json!({"thread_id": thread}));
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    assert_eq!(home.read("new.txt"), "hello\n");
    assert_eq!(resolution(&home, &thread)["resolution"]["by"], "terminal");
    client.close();
}

#[test]
fn a_visitor_that_talks_nonsense_or_nothing_disturbs_nobody() {
    let (home, _model, mut client, call, thread) = asked();
    let visit = || UnixStream::connect(socket(&home, &thread)).expect("it listens");
    let mut nonsense = visit();
    nonsense
        .write_all(b"{\"errand\": 7, \"what\": {\"fly\": {}}}\nwhat?\n")
        .expect("it reads");
    let mut said = BufReader::new(nonsense).lines();
    for errand in [7, 0] {
        let line = said.next().expect("it answers").expect("a line");
        let told: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(told["errand"], errand, "{line}");
        assert!(told["what"]["refused"].is_string(), "{line}");
    }
    // Longer than any request, and without an end.
    let mut endless = visit();
    let _ = endless.write_all(&vec![b'x'; 2_000_000]);
    let silent: Vec<UnixStream> = (0..8).map(|_| visit()).collect();
    threads(&home, &["answer", &thread, "--deny"]).expect(0);
    client.result(call);
    drop(silent);
    client.close();
}

#[test]
fn a_holder_of_another_version_is_told_of_and_not_waited_for() {
    let home = Home::new();
    let model = ModelServer::start(vec![Reply::text("Done.")]);
    run(home.openoxide_with(&model, &["-m", "x"])).expect(0);
    let thread = home.threads().pop().expect("one thread");
    for (answer, why) in [
        (
            r#"{"errand": 1, "what": {"refused": "it speaks protocol 7"}}"#,
            "protocol 7",
        ),
        (
            r#"{"errand": 1, "what": {"welcome": {}}}"#,
            "another version of openoxide",
        ),
        // No holder says this; nobody is there.
        ("hello", "no question is open"),
    ] {
        let listener = UnixListener::bind(socket(&home, &thread)).expect("a socket");
        let holder = std::thread::spawn(move || {
            let (mut visitor, _) = listener.accept().expect("a visitor");
            let mut asked = String::new();
            let mut from = BufReader::new(visitor.try_clone().expect("a descriptor"));
            from.read_line(&mut asked).expect("a line");
            // It may have seen enough.
            let _ = writeln!(visitor, "{answer}");
            let _ = from.read_line(&mut asked);
            asked
        });
        let refused = threads(&home, &["answer", &thread, "--deny"]).expect(2);
        assert!(refused.stderr.contains(why), "{answer}: {}", refused.stderr);
        assert!(holder.join().expect("a holder").contains("greet"));
        std::fs::remove_file(socket(&home, &thread)).expect("it was there");
    }
}

#[test]
fn a_state_directory_far_down_the_tree_has_a_socket_all_the_same() {
    let home = Home::new();
    let deep = home.state().join("d".repeat(120));
    std::fs::create_dir(&deep).expect("a directory");
    let write = json!({"path": "new.txt", "content": "hello\n"});
    let model = ModelServer::start(vec![
        Reply::call("w1", "write_file", write),
        Reply::text("Done."),
    ]);
    let mut server = home.openoxide_with(&model, &["mcp-server"]);
    server.env("OPENOXIDE_HOME", &deep);
    let mut client = Client::able(server, NEWEST_SESSION, json!({"elicitation": {}}));
    let call = client.begin(
        "openoxide",
        json!({"prompt": "Write.", "sandbox": "read-only"}),
    );
    client.asked(FORMS);
    let thread = || {
        let mut threads = std::fs::read_dir(deep.join("threads")).ok()?;
        threads.next()?.ok()?.file_name().into_string().ok()
    };
    eventually("the thread is there", || thread().is_some());
    let mut answer = home.openoxide(&["threads", "answer", &thread().expect("there"), "--approve"]);
    answer.env("OPENOXIDE_HOME", &deep);
    run(answer).expect(0);
    assert_eq!(outcome(&client.result(call))["status"], "completed");
    client.close();
}
