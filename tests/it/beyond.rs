//! Edits that the sandbox forbids: asked about, refused and listed, or written exactly where somebody said yes to.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use openoxide::conversation::{ApprovalPolicy, Decision, SandboxPolicy, Status};
use serde_json::{Value, json};

use crate::support::{
    client::{Client, NEWEST_SESSION, outcome, word},
    harness::{Harness, Ran},
    home::Home,
    model_server::{ModelServer, Reply},
    turns::threads,
};

/// A directory beside every workspace, with a file in it.
struct Beside(tempfile::TempDir);

impl Beside {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("notes.txt"), "one\n").expect("a file");
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0
            .path()
            .canonicalize()
            .expect("it is there")
            .join(name)
    }

    fn content(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

fn write(path: &Path) -> Value {
    json!({"name": "write_file", "arguments": {"path": path, "content": "two\n"}})
}

fn edit(path: &Path) -> Value {
    let edits = json!([{"search": "one", "replace": "two"}]);
    json!({"name": "edit_file", "arguments": {"path": path, "edits": edits}})
}

async fn tried(call: Value, policy: ApprovalPolicy, answer: Option<Decision>) -> Ran {
    let harness = Harness::new()
        .asks(policy)
        .model(json!([{"calls": [call]}, {"text": "That is that."}]));
    let harness = match answer {
        Some(answer) => harness.answer(answer),
        None => harness,
    };
    harness.run("go").await
}

#[tokio::test]
async fn an_edit_outside_is_asked_about_unless_the_policy_is_never() {
    use ApprovalPolicy::{Never, OnRequest, Untrusted};
    use Decision::{Approve, Deny};
    for (policy, answer, written) in [
        (OnRequest, Some(Approve), true),
        (Untrusted, Some(Approve), true),
        (OnRequest, Some(Deny), false),
        (OnRequest, None, false),
        (Never, Some(Approve), false),
    ] {
        for call in [write as fn(&Path) -> Value, edit] {
            let beside = Beside::new();
            let path = beside.path("notes.txt");
            let ran = tried(call(&path), policy, answer).await;
            let about = format!("{policy:?} {answer:?}: {}", ran.log);
            assert_eq!(ran.outcome.status, Status::Completed, "{about}");
            let expected = if written { "two\n" } else { "one\n" };
            assert_eq!(beside.content("notes.txt"), expected, "{about}");
            let summary = format!("edit `{}`", path.display());
            let asked = ran.log.contains(&format!("asked call_0_0: {summary}"));
            assert_eq!(asked, policy != Never, "{about}");
            let denied: Vec<&str> = ran
                .outcome
                .denied
                .iter()
                .map(|denied| &*denied.summary)
                .collect();
            let listed: &[&str] = if written { &[] } else { &[&summary] };
            assert_eq!(denied, listed, "{about}");
            let changed: Vec<&str> = ran
                .outcome
                .changes
                .iter()
                .map(|change| &*change.path)
                .collect();
            let path = path.to_string_lossy();
            let changes: &[&str] = if written { &[&path] } else { &[] };
            assert_eq!(changed, changes, "{about}");
        }
    }
}

#[tokio::test]
async fn what_stands_outside_is_told_to_nobody_who_was_not_asked() {
    let beside = Beside::new();
    let path = beside.path("notes.txt");
    std::fs::write(&path, "the one secret\n").expect("a file");
    let misses = json!([{"search": "the two secret", "replace": "x"}]);
    let call = json!({"name": "edit_file", "arguments": {"path": path, "edits": misses}});
    let ran = tried(call, ApprovalPolicy::OnRequest, Some(Decision::Approve)).await;
    assert!(
        ran.log.contains("do not fit what stands there"),
        "{}",
        ran.log
    );
    assert!(!ran.log.contains("the one secret"), "{}", ran.log);
    // Under `never` a file that is there and one that is not are the same.
    for name in ["notes.txt", "absent.txt"] {
        let ran = tried(edit(&beside.path(name)), ApprovalPolicy::Never, None).await;
        let [denied] = &*ran.outcome.denied else {
            panic!("{}", ran.log)
        };
        assert!(denied.reason.contains("outside the writable"), "{denied:?}");
    }
}

#[tokio::test]
async fn a_read_only_sandbox_that_never_asks_refuses_edits_and_lists_them() {
    let ran = Harness::new()
        .file("a.txt", "one\n")
        .sandbox(SandboxPolicy::ReadOnly)
        .asks(ApprovalPolicy::Never)
        .model(json!([{"calls": [edit(Path::new("a.txt"))]}, {"text": "That is that."}]))
        .run("go")
        .await;
    let [denied] = &*ran.outcome.denied else {
        panic!("{}", ran.log)
    };
    assert_eq!(denied.summary, "edit `a.txt`");
    assert!(denied.reason.contains("`read-only`"), "{denied:?}");
    assert_eq!(ran.lab.content("a.txt"), "one\n");
}

/// A turn that writes to `path`, with a person who says yes after `meanwhile`.
fn approved(home: &Home, path: &Path, meanwhile: impl FnOnce()) -> (Value, Value) {
    let arguments = json!({"path": path, "content": "two\n"});
    let model = ModelServer::start(vec![
        Reply::call("w1", "write_file", arguments),
        Reply::text("That is that."),
    ]);
    let command = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::able(command, NEWEST_SESSION, json!({"elicitation": {}}));
    let id = client.begin("openoxide", json!({"prompt": "x"}));
    let question = client.asked("elicitation/create");
    meanwhile();
    let approve = json!({"action": "accept", "content": {"decision": "approve"}});
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": approve}));
    let result = client.result(id);
    client.close();
    (question, result)
}

#[test]
fn a_person_sees_where_it_goes_and_can_take_it_back() {
    let (home, beside) = (Home::new(), Beside::new());
    let link = home.project().join("link");
    symlink(beside.path(""), &link).expect("a link");
    let (question, result) = approved(&home, Path::new("link/notes.txt"), || {});
    let asked = question["params"]["message"].to_string();
    let path = beside.path("notes.txt");
    for said in [
        &*path.to_string_lossy(),
        "outside the writable",
        "-one",
        "+two",
    ] {
        assert!(asked.contains(said), "no {said:?} in {asked}");
    }
    assert_eq!(beside.content("notes.txt"), "two\n", "{result}");
    assert_eq!(outcome(&result)["changes"][0]["path"], json!(path));
    threads(&home, &["undo", &word(&result, "thread_id")]).expect(0);
    assert_eq!(beside.content("notes.txt"), "one\n");
}

#[test]
fn a_link_that_was_laid_after_the_question_is_not_followed() {
    let (home, beside, far) = (Home::new(), Beside::new(), Beside::new());
    let made = beside.path("made");
    std::fs::create_dir(&made).expect("a directory");
    let (_, result) = approved(&home, &made.join("notes.txt"), || {
        std::fs::remove_dir(&made).expect("it is empty");
        symlink(far.path(""), &made).expect("a link");
    });
    assert_eq!(outcome(&result)["status"], "completed", "{result}");
    assert_eq!(far.content("notes.txt"), "one\n");
}

#[test]
fn private_places_are_refused_unasked_and_listed() {
    let home = Home::new();
    let key = home.home().join(".ssh/config");
    let arguments = json!({"path": key, "content": "Host *\n"});
    let model = ModelServer::start(vec![
        Reply::call("w1", "write_file", arguments),
        Reply::text("That is that."),
    ]);
    let command = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::able(command, NEWEST_SESSION, json!({"elicitation": {}}));
    let result = client.call("openoxide", json!({"prompt": "x"}));
    client.assert_never_heard("elicitation/create");
    let denied = &outcome(&result)["denied"][0];
    assert!(denied["reason"].to_string().contains("private"), "{result}");
    assert!(
        denied["summary"].to_string().contains(".ssh/config"),
        "{result}"
    );
    assert!(!key.exists());
    client.close();
}
