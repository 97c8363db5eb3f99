//! Nothing survives: fifty trees of processes that try to get away, and what is left of them after each kind of end.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use openoxide::workspace::shell::{Command, Exit, Input, Patience, Running};
use rustix::process::Signal;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{
    client::{Client, NEWEST_SESSION},
    commands::{Place, Way, watch, workers},
    home::{Home, PATIENCE, eventually},
    model_server::{ModelServer, Reply},
};

/// Each starts what would live for long, writes `@.on`, and goes on at once.
const NASTY: [(&str, &str); 13] = [
    ("background", "sh -c 'echo >@.on; exec sleep 300' &"),
    (
        "nohup",
        "nohup sh -c 'echo >@.on; exec sleep 300' >/dev/null 2>&1 &",
    ),
    (
        "setsid",
        "setsid sh -c 'echo >@.on; exec sleep 300' >/dev/null 2>&1 &",
    ),
    (
        "double fork",
        "(setsid sh -c '(sh -c \"echo >@.on; exec sleep 300\" >/dev/null 2>&1 &) & exit' &)",
    ),
    (
        "ignores signals",
        "sh -c 'trap \"\" TERM HUP INT QUIT TSTP; echo >@.on; while :; do sleep 1; done' &",
    ),
    (
        "daemon",
        "(setsid sh -c 'trap \"\" TERM HUP INT; (trap \"\" HUP; echo >@.on; exec sleep 300) & exit' </dev/null >/dev/null 2>&1 &)",
    ),
    (
        "own group",
        "set -m; sh -c 'echo >@.on; exec sleep 300' >/dev/null 2>&1 & set +m",
    ),
    (
        "holds the output",
        "(setsid sh -c 'echo >@.on; while :; do sleep 1; done' &)",
    ),
    (
        "without an environment",
        "env -i setsid sh -c 'echo >@.on; exec sleep 300' &",
    ),
    (
        "stopped",
        "sh -c 'echo >@.on; kill -STOP $$; exec sleep 300' &",
    ),
    (
        "starts more",
        "(while :; do setsid sleep 300 >/dev/null 2>&1 & sleep 0.2; echo >@.on; done) &",
    ),
    (
        "pipeline",
        "(echo >@.on; yes) | (trap '' PIPE; setsid sleep 300) | sleep 300 &",
    ),
    (
        "busy",
        "nice -n 19 setsid sh -c 'echo >@.on; while :; do :; done' >/dev/null 2>&1 &",
    ),
];

/// Nothing tells whose it is: only a keeper or a namespace holds it.
const NAMELESS: (&str, &str) = (
    "nameless",
    "env -i setsid sh -c 'setsid sh -c \"echo >@.on; exec sleep 300\" >/dev/null 2>&1 &' >/dev/null 2>&1",
);

/// What is allowed after the end of a command or a thread, and after a kill of the server; a machine that does other
/// things at the same time gets some more.
const AT_ONCE: Duration = Duration::from_millis(100 + 400);
const AFTER_A_KILL: Duration = Duration::from_millis(1000 + 500);

/// What stands in front of commands on this system. Where nothing does, there are tests beside the code.
fn held_ways() -> (Place, Vec<Way>) {
    let (place, mut ways) = Place::new();
    ways.retain(|way| *way != Way::Bare);
    (place, ways)
}

/// The file that says that it is there, and the command.
type Tree = (String, Command);

/// More than fifty commands, each with the name of the file that says that it is there.
fn trees(place: &Place, ways: &[Way], rest: &str) -> Vec<Tree> {
    let mut all = Vec::new();
    for way in ways {
        for (_, script) in NASTY.into_iter().chain([NAMELESS]) {
            for input in [Input::None, Input::Terminal] {
                let name = format!("{}.on", all.len());
                let line = format!("{script}\n{rest}").replace("@.on", &name);
                all.push((name, place.command(*way, input, &line)));
            }
        }
    }
    all
}

/// Starts them, waits until all are there, and gives them with the number of processes.
async fn started(place: &Place, trees: &[Tree]) -> Vec<Running> {
    let start = |(_, command): &Tree| Running::start(command).expect("it starts");
    let running: Vec<Running> = trees.iter().map(start).collect();
    for (name, _) in trees {
        place.until_written(name).await;
    }
    assert!(
        place.workers().len() >= 2 * trees.len(),
        "{:?}",
        place.workers()
    );
    running
}

#[tokio::test]
async fn nothing_is_left_after_a_time_out_a_cancellation_or_an_owner_that_went_away() {
    let (place, ways) = held_ways();
    for end in ["time-out", "cancel", "drop"] {
        let mut trees = trees(&place, &ways, "while :; do sleep 1; done");
        assert!(trees.len() >= 28 * ways.len());
        for (_, command) in &mut trees {
            command.timeout = match end {
                "time-out" => Duration::from_secs(6),
                _ => PATIENCE,
            };
        }
        let mut running = started(&place, &trees).await;
        let cancel = CancellationToken::new();
        if end == "cancel" {
            cancel.cancel();
        }
        if end == "drop" {
            drop(running);
        } else {
            let watched = running
                .iter_mut()
                .map(|one| one.watch(Patience::End, &cancel, |_| ()));
            futures_util::future::join_all(watched).await;
            let exit = if end == "cancel" {
                Exit::Cancelled
            } else {
                Exit::TimedOut
            };
            assert!(
                running.iter_mut().all(|one| one.look().exit == Some(exit)),
                "{end}"
            );
        }
        place.assert_deserted(AT_ONCE, end).await;
        for (name, _) in trees {
            std::fs::remove_file(place.path().join(name)).unwrap();
        }
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_command_that_ended_by_itself() {
    let (place, ways) = held_ways();
    for (name, command) in trees(
        &place,
        &ways,
        "until [ -s @.on ]; do sleep 0.01; done; exit 4",
    ) {
        let mut running = Running::start(&command).unwrap();
        let seen = watch(&mut running, Patience::End).await;
        assert_eq!(seen.exit, Some(Exit::Code(4)), "{name} {command:?}");
        place.assert_deserted(AT_ONCE, &command.line).await;
    }
}

/// A server with thirteen sessions in each of four threads, in and out of the sandbox, on pipes and in terminals.
fn server_with_trees(home: &Home) -> (ModelServer, Client) {
    let line = |at: usize, script: &str| {
        let name = format!("$PPID-{at}.on");
        format!("N={name}; export N; {script}\nwhile :; do sleep 1; done").replace("@.on", "$N")
    };
    let mut scripts = NASTY.map(|(_, script)| script);
    scripts[0] = NAMELESS.1;
    let replies = scripts.iter().enumerate().map(|(at, script)| {
        let terminal = at % 2 == 0;
        // In what has no environment the name is known only to the shell.
        let line = line(at, script).replace("env -i", "env -i N=$N");
        let arguments = json!({"command": line, "terminal": terminal, "wait_seconds": 0});
        Reply::call(&format!("c{at}"), "shell", arguments)
    });
    let model = ModelServer::start(replies.chain([Reply::text("All are there.")]).collect());
    let command = home.openoxide_with(&model, &["mcp-server", "--allow-full-access"]);
    let mut client = Client::start(command, NEWEST_SESSION);
    let calls: Vec<u64> = ["danger-full-access", "workspace-write"]
        .into_iter()
        .cycle()
        .take(4)
        .enumerate()
        .map(|(at, sandbox)| {
            let prompt = format!("Start them ({at}).");
            let arguments = json!({"prompt": prompt, "sandbox": sandbox});
            client.begin("openoxide", arguments)
        })
        .collect();
    for call in calls {
        let result = client.result(call);
        assert_eq!(
            result["structuredContent"]["status"], "completed",
            "{result}"
        );
    }
    let on = || {
        home.names()
            .iter()
            .filter(|name| name.ends_with(".on"))
            .count()
    };
    eventually("all trees are there", || {
        on() >= 39 && workers(&home.project()).len() > 104
    });
    (model, client)
}

fn assert_deserted(directory: &Path, soon: Duration, what: &str) {
    let deadline = Instant::now() + soon;
    while !workers(directory).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let left = workers(directory);
    assert!(
        left.is_empty(),
        "{what}: {} after {soon:?}: {:.1000}",
        left.len(),
        left.join("; ")
    );
}

#[test]
fn nothing_is_left_after_the_end_of_a_server_however_it_came_about() {
    if !Path::new("/proc/self").exists() {
        return;
    }
    for end in ["end of input", "SIGTERM", "SIGKILL"] {
        let home = Home::new();
        let (_model, mut client) = server_with_trees(&home);
        match end {
            "end of input" => client.hang_up(),
            "SIGTERM" => client.signal(Signal::TERM),
            _ => client.signal(Signal::KILL),
        }
        client.ends_within(Duration::from_secs(4));
        let soon = if end == "SIGKILL" {
            AFTER_A_KILL
        } else {
            AT_ONCE
        };
        assert_deserted(&home.project(), soon, end);
    }
}
