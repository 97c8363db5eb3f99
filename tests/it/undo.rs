//! Taking turns back: all or nothing, whatever stands in the way, and whenever it is cut off.

use std::{
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    process::Command,
};

use rustix::process::Signal;

use crate::support::{
    home::{Home, eventually, run, start},
    model_server::{ModelServer, Reply},
    turns::{changes, home_is, id, project, sh, shell, threads, tree, turn, write},
};

#[test]
fn an_undo_is_all_or_nothing_and_leaves_what_others_changed_since() {
    let home = project();
    let outcome = turn(&home, &[shell("echo 2 > a.txt; echo 2 > b.txt")], &[]);
    std::fs::write(home.project().join("b.txt"), "mine\n").expect("a file");
    let refused = threads(&home, &["undo", &id(&outcome)]);
    assert_ne!(refused.code, Some(0));
    assert!(
        refused
            .stderr
            .contains("no longer as the turn left them: b.txt"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        (home.read("a.txt"), home.read("b.txt")),
        ("2\n".into(), "mine\n".into())
    );
}

#[test]
fn an_undo_does_not_go_through_a_link() {
    let home = project();
    let outcome = turn(&home, &[shell("echo 2 > sub/c.txt")], &[]);
    let elsewhere = home.home().join("sub");
    std::fs::rename(home.project().join("sub"), &elsewhere).expect("moved");
    symlink(&elsewhere, home.project().join("sub")).expect("a link");
    let refused = threads(&home, &["undo", &id(&outcome)]);
    assert_ne!(refused.code, Some(0), "{}", refused.stdout);
    assert_eq!(
        std::fs::read_to_string(elsewhere.join("c.txt")).expect("it is there"),
        "2\n"
    );
}

#[test]
fn an_undo_goes_back_over_several_turns() {
    let home = project();
    let before = tree(&home);
    let first = turn(&home, &[shell("echo 2 > a.txt")], &[]);
    let thread = id(&first);
    turn(
        &home,
        &[shell("echo 3 > a.txt; echo 3 > d.txt")],
        &["--resume", &thread],
    );
    turn(&home, &[write("d.txt", "4\n")], &["--resume", &thread]);
    threads(&home, &["undo", &thread, "--turn", "2"]).expect(0);
    assert_eq!(home.read("a.txt"), "2\n");
    assert!(!home.project().join("d.txt").exists());
    threads(&home, &["undo", &thread]).expect(0);
    home_is(&home, &before, "");
}

#[test]
fn what_is_too_large_to_keep_is_told_and_left() {
    let home = project();
    sh(&home.project(), "head -c 20000000 /dev/zero > large");
    let outcome = turn(&home, &[shell("echo x >> large; echo 2 > a.txt")], &[]);
    assert_eq!(changes(&outcome), ["modified a.txt", "modified large"]);
    let undone = threads(&home, &["undo", &id(&outcome)]).expect(0);
    assert!(
        undone.stdout.contains("left as it is: large"),
        "{}",
        undone.stdout
    );
    assert_eq!(home.read("a.txt"), "one\ntwo\n");
}

#[test]
fn what_a_turn_did_until_it_was_killed_can_be_taken_back() {
    let home = project();
    let model = ModelServer::start(vec![
        Reply::call("c1", "write_file", write("a.txt", "2\n")),
        Reply::call("c2", "write_file", write("made/new.txt", "new\n")),
        Reply::text("Never.").delayed(std::time::Duration::from_secs(60)),
    ]);
    let running = crate::support::home::start(home.openoxide_with(&model, &["-m", "x"]));
    crate::support::home::eventually("both edits", || model.requests().len() == 3);
    running.signal(rustix::process::Signal::KILL);
    running.ended();
    let thread = home.threads().remove(0);
    let undone = threads(&home, &["undo", &thread]).expect(0);
    assert!(
        undone
            .stdout
            .contains("perhaps not all: the turn was cut off"),
        "{}",
        undone.stdout
    );
    assert_eq!(home.read("a.txt"), "one\ntwo\n");
    assert!(!home.project().join("made").exists());
}

/// The same program with nothing larger than `blocks` of 512 bytes to be written, as on a disk that is full.
fn with_full_disk(program: &Command, blocks: u32) -> Command {
    let mut shell = Command::new("sh");
    let line = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    shell.args(["-c", &line]).arg(program.get_program());
    shell.args(program.get_args());
    shell.current_dir(program.get_current_dir().expect("a directory"));
    let set = program
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    shell.env_clear().envs(set);
    shell
}

#[test]
fn a_disk_that_is_full_halfway_leaves_all_as_it_was() {
    let home = project();
    sh(&home.project(), "seq 20000 > z.txt");
    let before = tree(&home);
    let outcome = turn(
        &home,
        &[shell(
            "echo 2 > a.txt; rm b.txt; mkdir n; echo n > n/n; echo 2 > sub/c.txt; echo 2 > z.txt",
        )],
        &[],
    );
    let after = tree(&home);
    let undo = home.openoxide(&["threads", "undo", &id(&outcome)]);
    let refused = run(with_full_disk(&undo, 64));
    assert_ne!(refused.code, Some(0));
    let told = &refused.stderr;
    assert!(told.contains("nothing was undone: `z.txt`"), "{told}");
    home_is(&home, &after, "");
    let undone = threads(&home, &["undo", &id(&outcome)]).expect(0);
    assert!(!undone.stdout.contains("cut off"), "{}", undone.stdout);
    home_is(&home, &before, "");
}

#[test]
fn an_undo_that_was_killed_halfway_is_finished_or_taken_back() {
    for finish in [true, false] {
        let home = project();
        let files =
            |word: &str| format!("mkdir -p m; for n in $(seq 300); do echo {word} > m/$n; done");
        sh(&home.project(), &files("1"));
        let before = tree(&home);
        let outcome = turn(&home, &[shell(&files("2"))], &[]);
        let (after, thread) = (tree(&home), id(&outcome));
        let running = start(home.openoxide(&["threads", "undo", &thread]));
        eventually("the first file", || home.read("m/1") == "1\n");
        running.signal(Signal::KILL);
        let killed = running.ended();
        assert_eq!(killed.code, None, "it was too fast for us");
        let halfway = tree(&home);
        assert!(halfway != before && halfway != after);

        let refused = threads(&home, &["undo", &thread, "--turn", "1"]);
        assert_ne!(refused.code, Some(0));
        refused.assert_says("cut off halfway");
        if finish {
            let undone = threads(&home, &["undo", &thread]).expect(0);
            assert!(undone.stdout.contains("finishes an undo that was cut off"));
            without_leavings(&home, &before);
        }
        threads(&home, &["undo", &thread, "--redo"]).expect(0);
        without_leavings(&home, &after);
        threads(&home, &["undo", &thread]).expect(0);
        without_leavings(&home, &before);
    }
}

/// A write that was cut off leaves its temporary file, which says by its name what it is.
fn without_leavings(home: &Home, expected: &[String]) {
    let files = tree(home).into_iter();
    let files: Vec<String> = files.filter(|line| !line.contains(".openoxide-")).collect();
    assert_eq!(files, expected);
}

#[test]
fn what_is_no_longer_a_file_is_not_replaced() {
    for (instead, path) in [
        ("rm a.txt; mkdir a.txt", "a.txt"),
        ("rm a.txt; mkfifo a.txt", "a.txt"),
        ("rm a.txt; ln -s sub/c.txt a.txt", "a.txt"),
        ("chmod 000 a.txt", "a.txt"),
        ("mkfifo b.txt", "b.txt"),
        ("mkdir b.txt; touch b.txt/in", "b.txt"),
        ("ln -s a.txt b.txt", "b.txt"),
        ("rm new; mkfifo new", "new"),
    ] {
        let home = project();
        let outcome = turn(
            &home,
            &[shell("echo 2 > a.txt; rm b.txt; echo n > new")],
            &[],
        );
        sh(&home.project(), instead);
        let list = "find . -printf '%p %y %m %l\\n' | sort > ../state/list";
        sh(&home.project(), list);
        let read = || std::fs::read_to_string(home.state().join("list")).expect("a list");
        let before = read();
        let refused = threads(&home, &["undo", &id(&outcome)]);
        assert_ne!(refused.code, Some(0), "{instead}: {}", refused.stdout);
        let told = format!("no longer as the turn left them: {path}");
        assert!(
            refused.stderr.contains(&told),
            "{instead}: {}",
            refused.stderr
        );
        sh(&home.project(), list);
        assert_eq!(read(), before, "{instead}");
    }
}

#[test]
fn names_come_back_whatever_they_are_made_of_and_those_that_cannot_are_told() {
    let home = project();
    let odd = ["line\nend", "quote\"'\\", "-rf", " ", "\u{202e}rtl", "*"];
    for name in odd {
        std::fs::write(home.project().join(name), "1\n").expect("a file");
    }
    let broken = home
        .project()
        .join(std::ffi::OsStr::from_bytes(b"br\xffken"));
    std::fs::write(&broken, "1\n").expect("a file");
    let before = tree(&home);
    let edit = "find . -type f -exec sh -c 'echo 2 > \"$1\"' sh {} ';'; rm -- ./-rf";
    let outcome = turn(&home, &[shell(edit)], &[]);
    let partial = outcome["partial_changes"].as_str().expect("a reason");
    assert!(
        partial.contains("1 of the changes cannot be undone"),
        "{partial}"
    );
    let undone = threads(&home, &["undo", &id(&outcome)]).expect(0);
    assert!(
        undone.stdout.contains("perhaps not all: 1 of the changes"),
        "{}",
        undone.stdout
    );
    assert_eq!(
        std::fs::read_to_string(&broken).expect("it is there"),
        "2\n"
    );
    std::fs::write(&broken, "1\n").expect("a file");
    home_is(&home, &before, "target/built");
}

#[test]
fn an_undo_brings_modes_and_links_back_and_keeps_other_names() {
    let home = project();
    sh(
        &home.project(),
        "echo s > script; chmod 4750 script; echo t > twice; ln twice twin; chmod 444 b.txt",
    );
    let before = tree(&home);
    let edit = "chmod 644 script; echo 2 > twice; rm link; echo 2 > link; chmod 600 b.txt; echo 2 > b.txt; rm sub/c.txt; rmdir sub";
    let outcome = turn(&home, &[shell(edit)], &[]);
    threads(&home, &["undo", &id(&outcome)]).expect(0);
    home_is(&home, &before, "");
    sh(&home.project(), "test twice -ef twin");
    let mode = home
        .project()
        .join("script")
        .metadata()
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o4750);
}

#[test]
fn an_undo_does_not_go_into_a_repository_that_appeared() {
    let home = project();
    let outcome = turn(
        &home,
        &[shell("echo 2 > a.txt; mkdir -p deep; echo x > deep/config")],
        &[],
    );
    assert_eq!(changes(&outcome), ["modified a.txt", "added deep/config"]);
    sh(
        &home.project(),
        "mkdir deep/refs deep/objects; echo 'ref: x' > deep/HEAD",
    );
    let undone = threads(&home, &["undo", &id(&outcome)]).expect(0);
    assert!(
        undone
            .stdout
            .contains("left as it is: deep/config (it is git's)"),
        "{}",
        undone.stdout
    );
    assert_eq!(
        (home.read("a.txt"), home.read("deep/config")),
        ("one\ntwo\n".into(), "x\n".into())
    );
}

#[test]
fn what_was_there_before_under_an_ignored_name_is_left_and_named() {
    let home = project();
    sh(
        &home.project(),
        "printf 'secret.key\\nbuilt/\\n' > .gitignore; echo only > secret.key; mkdir built; echo artefact > built/it; sleep 0.2",
    );
    let moves = "mv secret.key kept.key; mv built out; echo 2 > a.txt; echo new > new.txt";
    let outcome = turn(&home, &[shell(moves)], &[]);
    let undone = threads(&home, &["undo", &id(&outcome)]).expect(0);
    let left = "left as it is: kept.key (it was there before under another name";
    assert!(undone.stdout.contains(left), "{}", undone.stdout);
    assert_eq!(home.read("kept.key"), "only\n");
    assert_eq!(home.read("out/it"), "artefact\n");
    assert_eq!(home.read("a.txt"), "one\ntwo\n");
    assert!(!home.project().join("new.txt").exists());
}
