//! Commands on pipes: how they end, what they leave, what is said of them.

use super::*;
use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

/// How long what was killed may take to go: less than 100 ms, and more where others want the machine. What got away would
/// live for a minute.
const DYING: Duration = Duration::from_secs(3);

/// A directory of its own, in which the scripts leave the numbers of their processes.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        adopt_orphans();
        Self(tempfile::tempdir().unwrap())
    }

    fn command(&self, line: &str) -> Command {
        Command {
            line: line.to_owned(),
            workdir: self.0.path().to_owned(),
            env: for_commands(std::env::vars_os(), &[], 1),
            timeout: Duration::from_secs(30),
            behind: None,
            input: Input::None,
        }
    }

    async fn run(&self, line: &str) -> Seen {
        run(self.command(line), CancellationToken::new(), |_| ())
            .await
            .unwrap()
    }

    /// The processes that wrote their number into files called `*.pid`.
    fn pids(&self) -> Vec<i32> {
        let files = std::fs::read_dir(self.0.path()).unwrap().flatten();
        files
            .filter(|file| file.file_name().to_str().unwrap().ends_with(".pid"))
            .filter_map(|file| {
                std::fs::read_to_string(file.path())
                    .unwrap()
                    .trim()
                    .parse()
                    .ok()
            })
            .collect()
    }

    async fn until_pids(&self, count: usize) -> Vec<i32> {
        for _ in 0..1000 {
            if self.pids().len() == count {
                return self.pids();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("only {:?} of {count}", self.pids());
    }

    /// Nothing works here any more, or at least not for long.
    async fn assert_deserted(&self, name: &str) {
        let works_here = |process: &std::fs::DirEntry| {
            std::fs::read_link(process.path().join("cwd")).is_ok_and(|dir| dir == self.0.path())
        };
        let left = || -> Vec<_> {
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            let here = processes.filter(works_here);
            here.map(|process| process.path()).collect()
        };
        let deadline = Instant::now() + DYING;
        while !left().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(left(), [""; 0].map(PathBuf::from), "{name}");
    }

    /// Neither alive nor a zombie.
    async fn assert_gone(&self, pids: &[i32]) {
        let deadline = Instant::now() + DYING;
        let there = |pid: &&i32| std::fs::exists(format!("/proc/{pid}")).unwrap();
        while pids.iter().any(|pid| there(&pid)) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let left: Vec<_> = pids.iter().filter(there).collect();
        assert!(left.is_empty(), "still there: {left:?}");
    }
}

/// Each starts a process that would live for long, records it, and goes on at once.
const NASTY: &[(&str, &str)] = &[
    ("background", "sh -c 'echo $$ >a.pid; exec sleep 60' &"),
    (
        "nohup",
        "nohup sh -c 'echo $$ >a.pid; exec sleep 60' >/dev/null 2>&1 &",
    ),
    (
        "setsid",
        "setsid sh -c 'echo $$ >a.pid; exec sleep 60' >/dev/null 2>&1 &",
    ),
    (
        "double fork",
        "(setsid sh -c '(sh -c \"echo \\$\\$ >a.pid; exec sleep 60\" >/dev/null 2>&1 &) & exit' &)",
    ),
    (
        "ignores signals",
        "sh -c 'trap \"\" TERM HUP INT QUIT; echo $$ >a.pid; while :; do sleep 1; done' &",
    ),
    (
        "own group",
        "set -m; sh -c 'echo $$ >a.pid; exec sleep 60' >/dev/null 2>&1 & set +m",
    ),
    (
        "no mark but holds the pipe",
        "env -i /bin/sh -c 'setsid sh -c \"echo \\$\\$ >a.pid; exec sleep 60\" &'",
    ),
    (
        "no mark but has a parent",
        "setsid sh -c 'env -i setsid sh -c \"echo \\$\\$ >a.pid; exec sleep 60\" >/dev/null 2>&1; :' >/dev/null 2>&1 &",
    ),
];

#[tokio::test]
async fn output_and_errors_come_in_order_with_the_code() {
    let place = Place::new();
    let finished = place
        .run("echo one; echo two >&2; echo three; pwd; cat; exit 7")
        .await;
    let dir = place.0.path().display();
    assert_eq!(finished.output, format!("one\ntwo\nthree\n{dir}\n"));
    assert_eq!(finished.exit.unwrap(), Exit::Code(7));
    assert_eq!(finished.omitted_bytes, 0);
}

#[tokio::test]
async fn a_signal_is_told_from_a_code() {
    let place = Place::new();
    for (line, exit) in [
        ("kill -9 $$", Exit::Signal(9)),
        ("kill -TERM $$; sleep 5", Exit::Signal(15)),
        ("exit 137", Exit::Code(137)),
        ("sh -c 'kill -9 $$'; exit $?", Exit::Code(137)),
        ("nonesuch-command", Exit::Code(127)),
    ] {
        assert_eq!(place.run(line).await.exit, Some(exit), "{line}");
    }
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let place = Place::new();
    let file = place.0.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut nowhere = place.command("true");
    nowhere.workdir = place.0.path().join("nowhere");
    let mut not_a_dir = place.command("true");
    not_a_dir.workdir = file;
    for (command, words) in [
        (nowhere, &["nowhere", "No such file"][..]),
        (not_a_dir, &["file", "not a directory"]),
        (
            place.command(&format!("true {}", "x".repeat(1 << 20))),
            &["too long"],
        ),
        (place.command("true \0"), &["NUL"]),
    ] {
        let error = run(command, CancellationToken::new(), |_| ())
            .await
            .unwrap_err()
            .to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[tokio::test]
async fn the_environment_is_what_was_given() {
    let place = Place::new();
    let mut command = place.command("env");
    command.env = vec![("ONLY".into(), "this".into())];
    let output = run(command, CancellationToken::new(), |_| ())
        .await
        .unwrap()
        .output;
    assert!(
        output.contains("ONLY=this\n") && !output.contains("HOME="),
        "{output}"
    );
}

#[tokio::test]
async fn nothing_is_left_behind_when_a_command_ends_by_itself() {
    for (name, script) in NASTY {
        let place = Place::new();
        let finished = place
            .run(&format!(
                "{script}\nuntil [ -s a.pid ]; do sleep 0.01; done; echo done"
            ))
            .await;
        assert_eq!(finished.output, "done\n", "{name}");
        assert_eq!(place.pids().len(), 1, "{name}");
        place.assert_gone(&place.pids()).await;
    }
}

#[tokio::test]
async fn what_is_just_being_started_does_not_slip_away() {
    for (name, script) in NASTY {
        for milliseconds in 0..12 {
            let place = Place::new();
            place
                .run(&format!("{script}\nsleep 0.{milliseconds:03}"))
                .await;
            place.assert_deserted(name).await;
        }
    }
}

#[tokio::test]
async fn the_whole_tree_dies_at_the_time_out_at_cancellation_and_when_dropped() {
    for (name, script) in NASTY {
        for end in ["time-out", "cancel", "drop"] {
            let place = Place::new();
            let mut command = place.command(&format!(
                "echo $$ >shell.pid; {script}\nwhile :; do sleep 1; done"
            ));
            if end == "time-out" {
                command.timeout = Duration::from_secs(1);
            }
            let cancel = CancellationToken::new();
            let task = tokio::spawn(run(command, cancel.clone(), |_| ()));
            let pids = place.until_pids(2).await;
            match end {
                "cancel" => cancel.cancel(),
                "drop" => task.abort(),
                _ => {}
            }
            match (end, task.await) {
                ("time-out", Ok(finished)) => {
                    assert_eq!(finished.unwrap().exit.unwrap(), Exit::TimedOut)
                }
                ("cancel", Ok(finished)) => {
                    assert_eq!(finished.unwrap().exit.unwrap(), Exit::Cancelled)
                }
                ("drop", Err(e)) => assert!(e.is_cancelled()),
                (_, result) => panic!("{name}, {end}: {result:?}"),
            }
            place.assert_gone(&pids).await;
        }
    }
}

#[tokio::test]
async fn a_flood_of_forks_ends() {
    let place = Place::new();
    let mut command = place.command("f() { setsid sh -c 'sleep 0.01; exec sleep 60' & f; }; f");
    command.timeout = Duration::from_millis(200);
    let finished = run(command, CancellationToken::new(), |_| ())
        .await
        .unwrap();
    assert_eq!(finished.exit.unwrap(), Exit::TimedOut);
    assert!(finished.seconds < 2.0, "{}", finished.seconds);
    place.assert_deserted("a flood of forks").await;
}

#[tokio::test]
async fn a_holder_of_the_pipe_does_not_delay_the_answer() {
    let place = Place::new();
    for line in [
        "sleep 5 & echo started",
        "yes started & sleep 0.05; echo started",
    ] {
        let finished = place.run(line).await;
        assert!(finished.seconds < 3.0, "{line}: {}", finished.seconds);
        assert!(finished.output.contains("started"), "{line}");
    }
}

#[tokio::test]
async fn what_the_shell_did_not_wait_for_may_still_print() {
    let place = Place::new();
    let mut outputs = Vec::new();
    // On a busy machine it may come later than anybody listens.
    for _ in 0..20 {
        outputs.push(place.run("(sleep 0.02; echo late) &").await.output);
        if outputs.last().is_some_and(|output| output == "late\n") {
            return;
        }
    }
    panic!("{outputs:?}");
}

#[tokio::test]
async fn two_commands_at_once_leave_each_other_alone() {
    let place = Place::new();
    let long = "setsid sh -c 'echo $$ >long.pid; sleep 0.6; echo survived >proof' >/dev/null 2>&1 & wait; sleep 0.8; cat proof";
    let (long, ()) = tokio::join!(place.run(long), async {
        place.until_pids(1).await;
        for _ in 0..3 {
            place
                .run("setsid sleep 60 >/dev/null 2>&1 & sleep 0.01")
                .await;
        }
        let mut command = place.command("sleep 60");
        command.timeout = Duration::from_millis(20);
        run(command, CancellationToken::new(), |_| ())
            .await
            .unwrap();
    });
    assert_eq!(long.output, "survived\n");
}

#[tokio::test]
async fn children_of_others_keep_their_lives_and_their_status() {
    let place = Place::new();
    let mut living = tokio::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let mut ended = tokio::process::Command::new("setsid")
        .args(["sh", "-c", "exit 5"])
        .spawn()
        .unwrap();
    for (_, script) in NASTY {
        place.run(script).await;
    }
    place.assert_deserted("beside others").await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    place.run("true").await;
    assert_eq!(ended.wait().await.unwrap().code(), Some(5));
    assert!(living.try_wait().unwrap().is_none());
    living.kill().await.unwrap();
}

#[tokio::test]
async fn orphans_that_end_by_themselves_do_not_stay_as_zombies() {
    let place = Place::new();
    place
        .run("(setsid sh -c 'echo $$ >a.pid' &) ; set -m; (sh -c 'echo $$ >b.pid' &); sleep 0.1")
        .await;
    assert_eq!(place.pids().len(), 2);
    place.run("true").await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    place.run("true").await;
    place.assert_gone(&place.pids()).await;
}

#[tokio::test]
async fn a_flood_is_kept_in_bounded_memory() {
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    let place = Place::new();
    let highest = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&highest);
    let before = resident();
    let flood =
        place.command("echo first; head -c 100000000 /dev/zero | tr '\\0' 'x'; echo; echo last");
    let finished = run(flood, CancellationToken::new(), move |_| {
        let mut highest = seen.lock().unwrap();
        *highest = resident().max(*highest);
    });
    let finished = finished.await.unwrap();
    assert!(finished.output.starts_with("first\nxxx") && finished.output.ends_with("xxx\nlast\n"));
    assert_eq!(finished.omitted_bytes, 100_000_000 + 12 - (128 << 10));
    let growth = highest.lock().unwrap().saturating_sub(before);
    // Other tests grow at the same time, but not by what a flood would add.
    assert!(growth < 30_000, "{growth} KiB");
}

#[tokio::test]
async fn a_flood_does_not_put_off_the_time_out() {
    let place = Place::new();
    let mut command = place.command("yes");
    command.timeout = Duration::from_millis(200);
    let finished = run(command, CancellationToken::new(), |_| ())
        .await
        .unwrap();
    assert_eq!(finished.exit.unwrap(), Exit::TimedOut);
    assert!(
        finished.seconds < 1.0 && finished.omitted_bytes > 0,
        "{}",
        finished.seconds
    );
}

#[tokio::test]
async fn progress_is_told_while_it_runs_and_what_came_too_soon_is_told_later() {
    let place = Place::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let command =
        place.command("printf '10%%\\r'; sleep 0.02; printf '50%%\\r'; sleep 0.3; echo; echo end");
    let finished = run(command, CancellationToken::new(), move |line| {
        sink.lock().unwrap().push(line.to_owned())
    });
    assert_eq!(finished.await.unwrap().output, "50%\nend\n");
    let told = told.lock().unwrap();
    assert_eq!(told[..2], ["10%", "50%"], "{told:?}");
}

#[tokio::test]
async fn a_command_cancelled_before_it_starts_does_nothing() {
    let place = Place::new();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let finished = run(place.command("touch here"), cancel, |_| ())
        .await
        .unwrap();
    assert_eq!(finished.exit.unwrap(), Exit::Cancelled);
    assert!(!place.0.path().join("here").exists());
}
