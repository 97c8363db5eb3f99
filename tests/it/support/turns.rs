//! Turns of the real program with scripted calls: what they changed, and what is left in the project.

use std::{os::unix::fs::symlink, path::Path, process::Command};

use serde_json::{Value, json};

use super::{
    home::{Home, Ran, run},
    model_server::{ModelServer, Reply},
};

/// A line for the shell, where git knows nobody and has no configuration but the repository's.
pub(crate) fn sh(dir: &Path, line: &str) {
    let ran = Command::new("sh")
        .args(["-ec", line])
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("a shell");
    assert!(ran.status.success(), "{line}: {ran:?}");
}

pub(crate) const COMMIT: &str = "git add . && git -c user.name=a -c user.email=a@b commit -qm x";

/// A turn that prints its outcome, also where the sandbox is only partial.
pub(crate) fn printing(home: &Home, model: &ModelServer, more: &[&str]) -> Command {
    let arguments = "-m x --output json -c policy.accept_partial=true";
    let arguments: Vec<&str> = arguments.split(' ').chain(more.iter().copied()).collect();
    home.openoxide_with(model, &arguments)
}

/// A turn that runs these commands and writes these files, in order.
pub(crate) fn turn(home: &Home, calls: &[Value], more: &[&str]) -> Value {
    turn_in(home, calls, more, |_| ())
}

/// The same with a program that somebody prepared.
pub(crate) fn turn_in(
    home: &Home,
    calls: &[Value],
    more: &[&str],
    prepare: impl FnOnce(&mut Command),
) -> Value {
    let mut replies: Vec<Reply> = Vec::new();
    for call in calls {
        let name = match call.get("command") {
            Some(_) => "shell",
            None => "write_file",
        };
        replies.push(Reply::call(
            &format!("c{}", uuid::Uuid::now_v7()),
            name,
            call.clone(),
        ));
    }
    replies.push(Reply::text("Done."));
    let model = ModelServer::start(replies);
    let mut program = printing(home, &model, more);
    prepare(&mut program);
    let ran = run(program).expect(0);
    assert_eq!(model.violations(), [""; 0]);
    ran.json()
}

pub(crate) fn shell(command: &str) -> Value {
    json!({ "command": command })
}

pub(crate) fn write(path: &str, content: &str) -> Value {
    json!({ "path": path, "content": content })
}

/// `kind path` of each change, with `from` and `by` where they are told.
pub(crate) fn changes(outcome: &Value) -> Vec<String> {
    let changes = outcome["changes"].as_array().cloned().unwrap_or_default();
    let told = changes.iter().map(|change| {
        let word = |key: &str| change[key].as_str();
        let mut line = format!(
            "{} {}",
            word("kind").expect("a kind"),
            word("path").expect("a path")
        );
        for key in ["from", "by"] {
            line.extend(word(key).map(|value| format!(" {key} {value}")));
        }
        line
    });
    told.collect()
}

pub(crate) fn id(outcome: &Value) -> String {
    outcome["thread_id"].as_str().expect("an id").to_owned()
}

pub(crate) fn threads(home: &Home, arguments: &[&str]) -> Ran {
    run(home.openoxide(&[&["threads"], arguments].concat()))
}

/// Files, modes and links below the project, `.git` left out.
pub(crate) fn tree(home: &Home) -> Vec<String> {
    let line = "find . -name .git -prune -o -not -type d -printf '%P %m %l ' -exec sha1sum {} ';' -o -type d -printf '%P/\\n' | sort";
    let ran = Command::new("sh")
        .args(["-c", line])
        .current_dir(home.project())
        .output();
    let text = ran.expect("a shell").stdout;
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::to_owned).collect()
}

pub(crate) fn project() -> Home {
    let home = Home::new()
        .file(".gitignore", "target/\n")
        .file("a.txt", "one\ntwo\n")
        .file("b.txt", "beta\n")
        .file("old.txt", "a name\nof its own\n")
        .file("sub/c.txt", "gamma\n")
        .file("turned", "a file that becomes a directory\n")
        .file("run.sh", "echo\n")
        .file("target/built", "0\n");
    symlink("a.txt", home.project().join("link")).expect("a link");
    home
}

pub(crate) fn home_is(home: &Home, expected: &[String], but: &str) {
    let rest = |tree: &[String]| -> Vec<String> {
        let other = |line: &&String| but.is_empty() || !line.starts_with(but);
        tree.iter().filter(other).cloned().collect()
    };
    assert_eq!(rest(&tree(home)), rest(expected));
}
