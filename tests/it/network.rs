//! The network service: the real binary over Streamable HTTP and WebSocket, looked at from outside.

mod calls;
mod door;
mod load;
mod stopping;
mod subscriptions;
mod tenants;
mod ws;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    home::{Home, eventually},
    model_server::{ModelServer, Reply},
    web::{ANA, BOB, Service},
};

/// For `ana` and `bob`, who get directories of their own.
fn of_two(home: &Home, model: &ModelServer, flags: &[&str]) -> Service {
    let place = home.home().join("places");
    let place = place.to_string_lossy();
    let own = [
        "mcp-server",
        "--http",
        "127.0.0.1:0",
        "--workspaces",
        &place,
    ];
    let mut command = home.openoxide_with(model, &[&own, flags].concat());
    command.env("OPENOXIDE_TOKENS", format!("ana:{ANA},bob:{BOB}"));
    Service::run(command)
}

/// Writes a file and says so.
fn a_file() -> Vec<Reply> {
    vec![writes("made.txt"), Reply::text("Made it.")]
}

fn writes(path: &str) -> Reply {
    let arguments = json!({"path": path, "content": "hello\n"});
    Reply::call("w", "write_file", arguments)
}

/// Sleeps for a long time, and says something if it is not stopped.
fn a_sleep(seconds: &str) -> Vec<Reply> {
    let command =
        json!({"command": format!("sleep {seconds}"), "timeout_seconds": 600, "wait_seconds": 600});
    vec![Reply::call("s", "shell", command), Reply::text("I slept.")]
}

/// The outcome with which the last turn of the only thread ended.
fn last_outcome(home: &Home) -> Option<Value> {
    let threads = home.threads();
    let [thread] = threads.as_slice() else {
        return None;
    };
    let records = home.rollout(thread).into_iter().rev();
    let mut ends = records.filter(|record| record["type"] == "turn_ended");
    ends.next().map(|record| record["outcome"].clone())
}

fn until_ended(home: &Home, status: &str) {
    eventually("the turn ends", || last_outcome(home).is_some());
    let outcome = last_outcome(home).expect("it does");
    assert_eq!(outcome["status"], status, "{outcome}");
}

/// What this machine shows of a turn that is on its way: a moment is enough for what must not happen.
const A_MOMENT: Duration = Duration::from_millis(300);
