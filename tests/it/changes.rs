//! What a turn changed, whose change it was, and taking it back: with the real program, with and without git.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    home::{Home, eventually, run, start},
    model_server::{ModelServer, Reply},
    turns::{
        COMMIT, changes, home_is, id, printing, project, sh, shell, threads, tree, turn, write,
    },
};

const MESS: &str = "sed -i s/two/2/ a.txt; rm b.txt; mv old.txt sub/new.txt; chmod +x run.sh; ln -sfn b.txt link; \
    mkdir -p made/deep; echo new > made/deep/n.txt; rm -f turned; mkdir turned; echo in > turned/in.txt; echo 1 > target/built; touch sub/c.txt";

fn mess_is_measured_and_taken_back(home: &Home) {
    let before = tree(home);
    let outcome = turn(
        home,
        &[
            write("w.txt", "w\n"),
            shell(MESS),
            write("a.txt", "one\n3\n"),
        ],
        &[],
    );
    assert_eq!(
        changes(&outcome),
        [
            "modified a.txt",
            "deleted b.txt",
            "modified link",
            "added made/deep/n.txt",
            "modified run.sh",
            "renamed sub/new.txt from old.txt",
            "deleted turned",
            "added turned/in.txt",
            "added w.txt",
        ]
    );
    assert_eq!(outcome.get("partial_changes"), None);
    let edited = &outcome["changes"][0];
    assert_eq!(
        (&edited["added"], &edited["removed"]),
        (&json!(1), &json!(1))
    );
    assert!(
        edited["diff"]
            .as_str()
            .expect("a diff")
            .contains("-two\n+3\n"),
        "{edited}"
    );
    let after = tree(home);
    let thread = id(&outcome);

    let dry = threads(home, &["undo", &thread, "--dry-run"]).expect(0);
    assert!(dry.stdout.contains("+two"), "{}", dry.stdout);
    assert_eq!(tree(home), after);
    threads(home, &["undo", &thread]).expect(0);
    // What is ignored is not the turn's.
    home_is(home, &before, "target/built");
    assert!(
        threads(home, &["show", &thread])
            .expect(0)
            .stdout
            .contains("taken back")
    );
    threads(home, &["undo", &thread, "--redo"]).expect(0);
    home_is(home, &after, "");
    threads(home, &["undo", &thread]).expect(0);
    home_is(home, &before, "target/built");
    let nothing = threads(home, &["undo", &thread]);
    assert_ne!(nothing.code, Some(0));
    nothing.assert_says("nothing to take back");
}

#[test]
fn edits_and_commands_are_measured_and_taken_back_without_git() {
    mess_is_measured_and_taken_back(&project());
}

#[test]
fn edits_and_commands_are_measured_and_taken_back_in_a_repository() {
    let home = project();
    sh(
        &home.project(),
        &format!("git init -q . && {COMMIT} && sleep 0.1 && git status -s && echo dirty >> b.txt"),
    );
    let index = std::fs::read(home.project().join(".git/index")).expect("an index");
    mess_is_measured_and_taken_back(&home);
    let now = std::fs::read(home.project().join(".git/index")).expect("an index");
    assert_eq!(now, index, "the user's index is only read");
}

#[test]
fn a_diff_is_what_git_applies() {
    let home = project();
    let before = tree(&home);
    let outcome = turn(
        &home,
        &[shell(
            "sed -i s/two/2/ a.txt; rm b.txt; mv old.txt moved.txt; chmod +x run.sh",
        )],
        &[],
    );
    let after = tree(&home);
    let diff = threads(&home, &["diff", &id(&outcome)]).expect(0).stdout;
    threads(&home, &["undo", &id(&outcome)]).expect(0);
    home_is(&home, &before, "");
    std::fs::write(home.state().join("diff"), diff).expect("a file");
    sh(&home.project(), "git apply ../state/diff");
    home_is(&home, &after, "");
}

#[test]
fn what_somebody_else_changed_meanwhile_is_not_the_turns() {
    let home = project();
    let theirs = home.project().join("b.txt");
    let model = ModelServer::start(vec![
        Reply::call("c1", "shell", shell("echo 2 > a.txt; sleep 0.2")),
        Reply::text("Done.").delayed(std::time::Duration::from_secs(3)),
    ]);
    let running = start(printing(&home, &model, &[]));
    eventually("the command", || model.requests().len() == 2);
    // The file system's clock ticks coarsely: what comes right behind a command looks like the command's.
    std::thread::sleep(std::time::Duration::from_millis(100));
    std::fs::write(&theirs, "theirs\n").expect("a file");
    let outcome = running.ended().expect(0).json();
    assert_eq!(
        changes(&outcome),
        ["modified a.txt", "modified b.txt by other"]
    );
    threads(&home, &["undo", &id(&outcome)]).expect(0);
    assert_eq!(
        (home.read("a.txt"), home.read("b.txt")),
        ("one\ntwo\n".into(), "theirs\n".into())
    );
}

#[test]
fn what_another_thread_wrote_during_a_command_is_the_other_threads() {
    let home = project();
    let model = ModelServer::start(vec![
        Reply::call(
            "c1",
            "shell",
            shell("echo 2 > a.txt; until [ -e go ]; do sleep 0.1; done"),
        ),
        Reply::text("Done."),
    ]);
    let running = start(printing(&home, &model, &[]));
    eventually("the command", || home.read("a.txt") == "2\n");
    let other = turn(&home, &[write("b.txt", "theirs\n")], &[]);
    assert_eq!(changes(&other), ["modified b.txt"]);
    std::fs::write(home.project().join("go"), "").expect("a file");
    let outcome = running.ended().expect(0).json();
    let told = changes(&outcome);
    assert!(told.contains(&"modified a.txt".to_owned()), "{told:?}");
    assert!(
        told.contains(&"modified b.txt by other".to_owned()),
        "{told:?}"
    );
}

/// Thread 1 works in `first` and waits in a command while thread 2 works in `second` and writes `sub/c.txt`.
fn the_other_is_told_apart(first: &str, second: &str, theirs: &str) {
    let home = project();
    let wait = shell("echo 1 > sub/b.txt || echo 1 > b.txt; until [ -e go ]; do sleep 0.1; done");
    let model = ModelServer::start(vec![Reply::call("c1", "shell", wait), Reply::text("Done.")]);
    let running = start(printing(&home, &model, &["--cwd", first]));
    let own = home.project().join("sub/b.txt");
    eventually("the command", || own.exists());
    let other = turn(&home, &[write(theirs, "theirs\n")], &["--cwd", second]);
    assert_eq!(changes(&other), [format!("modified {theirs}")]);
    std::fs::write(home.project().join(first).join("go"), "").expect("a file");
    let outcome = running.ended().expect(0).json();
    let told = changes(&outcome);
    let by: Vec<&String> = told
        .iter()
        .filter(|line| line.contains(" by other"))
        .collect();
    assert!(by.len() == 1 && by[0].contains("c.txt"), "{told:?}");
    assert!(told.iter().any(|line| line.ends_with("b.txt")), "{told:?}");
    threads(&home, &["undo", &id(&outcome)]).expect(0);
    assert_eq!(
        (home.read("sub/c.txt"), own.exists()),
        ("theirs\n".into(), false)
    );
}

#[test]
fn threads_in_directories_inside_each_other_are_told_apart() {
    the_other_is_told_apart(".", "sub", "c.txt");
    the_other_is_told_apart("sub", ".", "sub/c.txt");
}

#[test]
fn a_file_that_was_moved_and_edited_is_not_called_renamed() {
    let home = project();
    let outcome = turn(
        &home,
        &[shell(
            "mv old.txt new.txt; echo more >> new.txt; mv b.txt a.txt; mv run.sh go.sh",
        )],
        &[],
    );
    assert_eq!(
        changes(&outcome),
        [
            "modified a.txt",
            "deleted b.txt",
            "renamed go.sh from run.sh",
            "added new.txt",
            "deleted old.txt",
        ]
    );
}

#[test]
fn a_thread_in_a_worktree_leaves_the_directory_alone() {
    let home = project();
    let commit = format!(
        "git init -q . && {COMMIT} && sleep 0.1 && git status -s && echo dirty >> b.txt && echo u > untracked"
    );
    sh(&home.project(), &commit);
    let before = tree(&home);
    let calls = [
        shell("cat b.txt untracked && cat target/built || git status --short"),
        shell(
            "echo 2 > a.txt; git add a.txt && git -c user.name=a -c user.email=a@b commit -qm 'A step'",
        ),
    ];
    let outcome = turn(&home, &calls, &["--isolation", "worktree"]);
    assert_eq!(outcome["commands"][1]["exit_code"], 0, "{outcome}");
    home_is(&home, &before, "");
    let told = &outcome["worktree"];
    let (path, branch) = (
        told["path"].as_str().expect("a path"),
        told["branch"].as_str().expect("a branch"),
    );
    assert_eq!(branch, format!("openoxide/{}", &id(&outcome)[..8]));
    assert!(Path::new(path).starts_with(home.state()));
    assert_eq!(changes(&outcome), ["modified a.txt"]);
    // The branch holds what was there, and then what the thread did.
    let dir = home.project();
    sh(
        &dir,
        &format!("test \"$(git show {branch}:b.txt)\" = \"$(printf 'beta\\ndirty')\""),
    );
    sh(
        &dir,
        &format!(
            "test \"$(git show {branch}:untracked)\" = u && test \"$(git show {branch}:a.txt)\" = 2"
        ),
    );
    sh(
        &dir,
        &format!("test \"$(git rev-parse {branch}~2)\" = \"$(git rev-parse HEAD)\""),
    );
    sh(
        &dir,
        "git fsck --strict && git worktree list | grep -q openoxide/",
    );
    sh(Path::new(path), "test -z \"$(git status --short)\"");
    threads(&home, &["delete", &id(&outcome)]).expect(0);
    assert!(
        Path::new(path).join("a.txt").exists(),
        "what came of it stays"
    );
}

#[test]
fn a_worktree_that_nothing_came_of_goes_and_comes_again() {
    let home = project();
    sh(&home.project(), &format!("git init -q . && {COMMIT}"));
    let outcome = turn(&home, &[shell("cat a.txt")], &["--isolation", "worktree"]);
    assert!(outcome.get("worktree").is_none(), "{outcome}");
    let path = home.state().join("worktrees").join(id(&outcome));
    assert!(!path.exists());
    sh(
        &home.project(),
        "test -z \"$(git branch --list 'openoxide/*')\" && test $(git worktree list | wc -l) = 1",
    );
    let again = turn(
        &home,
        &[shell("echo 2 > a.txt")],
        &["--resume", &id(&outcome)],
    );
    assert_eq!(changes(&again), ["modified a.txt"]);
    assert_eq!(again["worktree"]["path"].as_str(), path.to_str());
    assert_eq!(
        (home.read("a.txt"), path.join("a.txt").exists()),
        ("one\ntwo\n".into(), true)
    );
}

#[test]
fn without_a_repository_a_worktree_is_refused_with_the_way_out() {
    let home = project();
    let ran = run(home.openoxide(&["-m", "x", "--isolation", "worktree"])).expect(2);
    ran.assert_says("not in a git repository");
}

#[test]
fn a_thread_is_forked_at_a_turn_exported_and_deleted() {
    let home = project();
    let first = turn(&home, &[shell("echo 2 > a.txt")], &[]);
    let thread = id(&first);
    turn(&home, &[write("d.txt", "```\n")], &["--resume", &thread]);
    let fork = threads(&home, &["fork", &thread, "--turn", "1"])
        .expect(0)
        .stdout;
    let fork = fork.trim();
    let markdown = threads(&home, &["export", &thread]).expect(0).stdout;
    for part in ["## Turn 2", "> x", "**shell**", "added d.txt", "````"] {
        assert!(markdown.contains(part), "no {part} in {markdown}");
    }
    let forked: Value = threads(&home, &["export", fork, "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(forked["thread"]["parent"], thread.as_str());
    assert!(!forked["items"].to_string().contains("d.txt"), "{forked}");
    let more = turn(&home, &[shell("cat a.txt")], &["--resume", fork]);
    assert_eq!(id(&more), fork);
    let list = threads(&home, &["list", "--json", "--cwd", "."])
        .expect(0)
        .json();
    assert_eq!(list[0]["thread_id"], fork);
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    threads(&home, &["delete", &thread, fork]).expect(0);
    assert_eq!(home.threads(), [""; 0]);
    let left = std::fs::read_dir(home.state().join("directories")).map(Iterator::count);
    assert_eq!(
        left.unwrap_or(0),
        0,
        "what was known of the directory goes with its last thread"
    );
}

#[test]
fn an_edit_of_what_somebody_else_changed_is_refused_with_what_changed() {
    let home = project();
    let edit = json!({"path": "a.txt", "edits": [{"search": "one", "replace": "1"}]});
    let model = ModelServer::start(vec![
        Reply::call("c1", "read_file", json!({"path": "a.txt"})),
        Reply::call("c2", "edit_file", edit.clone()).delayed(std::time::Duration::from_secs(2)),
        Reply::call("c3", "edit_file", edit),
        Reply::text("Done."),
    ]);
    let running = start(home.openoxide_with(&model, &["-m", "x"]));
    eventually("the reading", || model.requests().len() == 2);
    std::fs::write(home.project().join("a.txt"), "one\nzwei\n").expect("a file");
    running.ended().expect(0);
    let told = model.requests()[2].body["input"].to_string();
    assert!(
        told.contains("changed by somebody else since you last saw it"),
        "{told}"
    );
    assert!(told.contains("new from line 2:\\nzwei"), "{told}");
    assert_eq!(
        home.read("a.txt"),
        "1\nzwei\n",
        "the second call means the file as it is"
    );
}

#[test]
fn threads_that_nobody_used_for_long_leave_the_disk() {
    let home = project();
    let old = id(&turn(&home, &[write("a.txt", "2\n")], &[]));
    let recent = id(&turn(&home, &[], &[]));
    let days_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 86400);
    let file = std::fs::File::options()
        .append(true)
        .open(home.rollout_file(&old))
        .expect("a rollout");
    file.set_modified(days_ago).expect("its time");
    let mut left = vec![recent];
    // It goes beside a turn, and one may be over before: then with the next.
    eventually("the old thread to go", || {
        left.push(id(&turn(&home, &[], &["-c", "threads.keep_days=2"])));
        !home.threads().contains(&old)
    });
    left.sort();
    assert_eq!(home.threads(), left);
}

#[test]
fn a_command_that_hides_its_change_behind_a_new_rule_does_not() {
    let home = project();
    let outcome = turn(
        &home,
        &[shell(
            "echo 2 > a.txt; echo '*.txt' >> .gitignore; echo 3 > new.txt",
        )],
        &[],
    );
    assert_eq!(
        changes(&outcome),
        ["modified .gitignore", "modified a.txt", "added new.txt"]
    );
}

#[test]
fn callers_of_the_server_work_side_by_side() {
    use crate::support::client::{Client, NEWEST_SESSION, outcome};
    let home = project();
    sh(&home.project(), &format!("git init -q . && {COMMIT}"));
    let model = ModelServer::start(vec![
        Reply::call("c1", "write_file", write("a.txt", "2\n")),
        Reply::text("Done."),
    ]);
    let arguments = ["mcp-server", "--root", "."];
    let mut client = Client::start(home.openoxide_with(&model, &arguments), NEWEST_SESSION);
    let arguments = json!({"prompt": "x", "isolation": "worktree", "files": ["a.txt"]});
    let results = [(); 2].map(|()| client.call("openoxide", arguments.clone()));
    let worktrees = results
        .each_ref()
        .map(|result| outcome(result)["worktree"].clone());
    assert_ne!(
        worktrees[0]["branch"], worktrees[1]["branch"],
        "made in the same minute"
    );
    for worktree in &worktrees {
        let file = Path::new(worktree["path"].as_str().expect("a path")).join("a.txt");
        assert_eq!(std::fs::read_to_string(file).expect("it is there"), "2\n");
    }
    assert!(
        results[0].to_string().contains("worktree: "),
        "{}",
        results[0]
    );
    assert_eq!(home.read("a.txt"), "one\ntwo\n");
    let thread = outcome(&results[0])["thread_id"].clone();
    let again = client.call("openoxide-reply", json!({"thread_id": thread}));
    assert_eq!(
        outcome(&again)["worktree"],
        worktrees[0],
        "inside the server's roots"
    );
}
