//! A helper that was started in advance: the command that gets it is as any other, and it never outlives its use.

use std::time::{Duration, Instant};

use openoxide::workspace::shell::{Command, Exit, Input, Patience, Running, Seen, Spare};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{
    client::{Client, NEWEST_SESSION},
    commands::{Place, Way, watch},
    home::{Home, PATIENCE, eventually},
    model_server::{ModelServer, Reply},
};

/// The number of the process that waits, once it is there.
async fn waiting(spare: &Spare) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(id) = spare.id() {
            return id;
        }
        assert!(Instant::now() < deadline, "no spare was started");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn ready(command: &Command) -> (Spare, u32) {
    let spare = Spare::default();
    spare.prepare(command.behind.as_ref().expect("a launcher"));
    let id = waiting(&spare).await;
    (spare, id)
}

async fn run(command: &Command, spare: &Spare) -> Seen {
    let mut running = Running::start_with(command, Some(spare)).expect("it starts");
    watch(&mut running, Patience::End).await
}

fn exists(id: u32) -> bool {
    std::fs::exists(format!("/proc/{id}")).unwrap()
}

async fn assert_gone(id: u32, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while exists(id) {
        assert!(Instant::now() < deadline, "{what}: it is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Tells whether the helper of this command was started in advance. The pattern does not find itself.
const HELPER: &str = "tr '\\0' ' ' </proc/$PPID/cmdline | grep -o -e '--waitin[g]'";

fn held_ways() -> (Place, Vec<Way>) {
    let (place, mut ways) = Place::new();
    ways.retain(|way| *way != Way::Bare);
    (place, ways)
}

#[tokio::test]
async fn a_command_in_a_spare_is_as_any_other() {
    let (place, ways) = held_ways();
    for way in ways {
        let line = format!("{HELPER}; echo $GREETING; pwd; cat; env | sort; echo err >&2; exit 7");
        let mut command = place.command(way, Input::None, &line);
        command.env.push(("GREETING".into(), "hello".into()));
        let (spare, id) = ready(&command).await;
        let seen = run(&command, &spare).await;
        assert!(seen.output.starts_with("--waiting\nhello\n"), "{seen:?}");
        assert_eq!(seen.exit, Some(Exit::Code(7)));
        assert_eq!(spare.id(), None, "one spare is for one command");
        assert_gone(id, "its command has ended").await;
        let plain = run(&command, &spare).await;
        let without_mark = |seen: &Seen| -> Vec<String> {
            let lines = seen.output.lines().map(str::to_owned);
            lines
                .filter(|line| line != "--waiting" && !line.starts_with("OPENOXIDE_COMMAND="))
                .collect()
        };
        assert_eq!(without_mark(&seen), without_mark(&plain), "{way:?}");
        assert!(!plain.output.contains("--waiting"), "{plain:?}");
    }
}

#[tokio::test]
async fn a_command_in_a_spare_ends_as_any_other() {
    let (place, ways) = held_ways();
    for way in ways {
        let stubborn = "trap '' TERM INT; (setsid sleep 300 &) ; while :; do sleep 1; done";
        let mut slow = place.command(way, Input::None, stubborn);
        slow.timeout = Duration::from_secs(1);
        let (spare, id) = ready(&slow).await;
        assert_eq!(run(&slow, &spare).await.exit, Some(Exit::TimedOut));
        assert_gone(id, "the time was up").await;
        let soon = Duration::from_millis(500);
        place.assert_deserted(soon, "time-out").await;
        let killed = place.command(way, Input::None, "kill -SEGV $$");
        let (spare, _) = ready(&killed).await;
        assert_eq!(run(&killed, &spare).await.exit, Some(Exit::Signal(11)));
        let dropped = place.command(way, Input::None, stubborn);
        let (spare, id) = ready(&dropped).await;
        drop(Running::start_with(&dropped, Some(&spare)).unwrap());
        assert_gone(id, "its owner went away").await;
    }
}

#[tokio::test]
async fn what_waits_ends_when_nobody_wants_it_any_more() {
    let (place, ways) = held_ways();
    for way in ways {
        let command = place.command(way, Input::None, "true");
        let (spare, id) = ready(&command).await;
        drop(spare);
        assert_gone(id, "dropped").await;
        let (spare, id) = ready(&command).await;
        spare.dismiss();
        assert_gone(id, "dismissed").await;
        let spare = Spare::new(Duration::from_millis(200));
        spare.prepare(command.behind.as_ref().unwrap());
        let id = waiting(&spare).await;
        assert_gone(id, "idle").await;
        assert_eq!(spare.id(), None);
    }
}

#[tokio::test]
async fn one_that_was_killed_costs_no_command() {
    let (place, ways) = held_ways();
    for way in ways {
        let command = place.command(way, Input::None, "echo done");
        let (spare, id) = ready(&command).await;
        let process = Pid::from_raw(id.cast_signed()).unwrap();
        kill_process(process, Signal::KILL).unwrap();
        assert_gone_or_dead(id).await;
        let seen = run(&command, &spare).await;
        assert_eq!(
            (seen.exit, seen.output.as_str()),
            (Some(Exit::Code(0)), "done\n")
        );
    }
}

/// Nobody may have waited for it.
async fn assert_gone_or_dead(id: u32) {
    let deadline = Instant::now() + PATIENCE;
    let dead = || match std::fs::read_to_string(format!("/proc/{id}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    while !dead() {
        assert!(Instant::now() < deadline, "it lives");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The helper guards the file that was there when it was started; another stands there now.
#[tokio::test]
async fn a_spare_from_before_a_change_is_not_used() {
    let (place, ways) = held_ways();
    if !ways.contains(&Way::Held) {
        return;
    }
    let file = place.path().join(".mcp.json");
    let touch = format!("{HELPER}; echo bad >.mcp.json");
    std::fs::write(&file, "old").unwrap();
    let command = place.command(Way::Held, Input::None, &touch);
    let (spare, id) = ready(&command).await;
    // As `git config` does.
    let new = place.path().join("new");
    std::fs::write(&new, "new").unwrap();
    std::fs::rename(&new, &file).unwrap();
    let seen = run(&command, &spare).await;
    assert!(!seen.output.contains("--waiting"), "{seen:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
    assert_gone(id, "of no use").await;

    let (spare, _) = ready(&command).await;
    std::fs::create_dir(place.path().join(".openoxide")).unwrap();
    let other = place.command(Way::Held, Input::None, "echo bad >.openoxide/config.toml");
    assert_ne!(other.behind, command.behind);
    let seen = run(&other, &spare).await;
    assert_ne!(seen.exit, Some(Exit::Code(0)), "{seen:?}");
    assert!(!place.path().join(".openoxide/config.toml").exists());
}

/// Helpers of this server that wait.
fn spares_of(server: u32) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    let mark = format!(" {server} --waiting");
    lines
        .filter(|line| line.trim_end().ends_with(&mark))
        .collect()
}

fn until_spares(server: u32, there: bool, what: &str) {
    eventually(what, || spares_of(server).is_empty() != there);
}

#[test]
fn a_spare_lasts_for_a_turn_and_no_longer_than_the_server() {
    if !std::path::Path::new("/proc/self").exists() {
        return;
    }
    for sandbox in ["danger-full-access", "workspace-write"] {
        let home = Home::new();
        let model = ModelServer::start(vec![
            Reply::call("c1", "shell", json!({"command": "true"})),
            Reply::text("Done.").delayed(Duration::from_secs(2)),
            Reply::call("c2", "shell", json!({"command": "true"})),
            Reply::text("Never.").stalled(),
        ]);
        let command = home.openoxide_with(&model, &["mcp-server", "--allow-full-access"]);
        let mut client = Client::start(command, NEWEST_SESSION);
        let server = client.process_id();
        let task = json!({"prompt": "Do it.", "sandbox": sandbox});
        let call = client.begin("openoxide", task.clone());
        until_spares(server, true, "there is one while the model thinks");
        let result = client.result(call);
        assert_eq!(
            result["structuredContent"]["status"], "completed",
            "{result}"
        );
        until_spares(server, false, "there is none between turns");
        client.begin("openoxide", task);
        until_spares(server, true, "there is one again");
        client.signal(Signal::KILL);
        client.ends_within(Duration::from_secs(4));
        until_spares(server, false, "it ends with the server");
    }
}
