//! The end of a server, from whichever side it comes, in the middle of its work.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{serve, shell};
use crate::support::{
    client::{Client, Dialect, NEWEST_SESSION},
    home::{Home, run},
    model_server::{ModelServer, Reply},
};

/// How long a server has to end: it takes a fraction of a second, and on a busy machine several.
const SOON: Duration = Duration::from_secs(8);

/// A command that ignores what it can, with a child outside its process group.
const STUBBORN: &str = "trap '' TERM INT HUP; (setsid sleep 300 || sleep 300) & touch began; while :; do sleep 1; done";

/// A server in the middle of [`STUBBORN`]. Nothing where processes cannot be seen.
fn at_work(dialect: Dialect) -> Option<(Home, ModelServer, Client)> {
    let script = vec![shell("c1", STUBBORN), Reply::text("I went on.")];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, dialect);
    client.begin("openoxide", json!({"prompt": "Take your time."}));
    home.until_running("sleep 300")
        .then_some((home, model, client))
}

/// The turn is on record as interrupted, and each of its calls has an output.
fn assert_recorded_as_interrupted(home: &Home) {
    let thread_id = home.threads().remove(0);
    let records = home.rollout(&thread_id);
    let last = records.last().expect("records");
    assert_eq!(last["type"], "turn_ended", "{records:#?}");
    assert_eq!(last["outcome"]["status"], "interrupted", "{last}");
    let count = |kind: &str| {
        records
            .iter()
            .filter(|record| record["type"] == kind)
            .count()
    };
    assert_eq!((count("tool_call"), count("tool_output")), (1, 1));
    let shown = run(home.openoxide(&["threads", "show", &thread_id])).expect(0);
    assert!(shown.stdout.contains("interrupted"), "{}", shown.stdout);
}

#[test]
fn the_end_of_input_ends_the_server_its_turn_and_its_processes() {
    for dialect in [
        Dialect::Session("2024-11-05"),
        NEWEST_SESSION,
        Dialect::Inline,
        Dialect::Discovered,
    ] {
        let Some((home, _model, mut client)) = at_work(dialect) else {
            return;
        };
        client.hang_up();
        assert!(client.ends_within(SOON).success());
        home.assert_deserted(&[]);
        assert_recorded_as_interrupted(&home);
    }
}

#[test]
fn a_signal_ends_the_server_as_the_end_of_input_does() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let Some((home, _model, client)) = at_work(NEWEST_SESSION) else {
            return;
        };
        let mut client = client;
        client.signal(signal);
        client.ends_within(SOON);
        home.assert_deserted(&[]);
        assert_recorded_as_interrupted(&home);
    }
}

#[test]
fn a_client_that_vanishes_in_the_middle_takes_everything_with_it() {
    let Some((home, _model, mut client)) = at_work(NEWEST_SESSION) else {
        return;
    };
    client.vanish();
    client.ends_within(SOON);
    home.assert_deserted(&[]);
    assert_recorded_as_interrupted(&home);
}

#[test]
fn a_client_that_stops_reading_for_good_is_noticed_by_the_next_answer() {
    let Some((home, _model, mut client)) = at_work(NEWEST_SESSION) else {
        return;
    };
    client.stop_reading();
    // The first answer lets go of the pipe, the next ones find it broken.
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline && client.try_request("tools/list") {
        std::thread::sleep(Duration::from_millis(50));
    }
    client.ends_within(SOON);
    home.assert_deserted(&[]);
    assert_recorded_as_interrupted(&home);
}

#[test]
fn a_server_that_was_killed_leaves_a_thread_that_can_be_resumed() {
    let script = vec![shell("c1", "sleep 300"), Reply::text("I went on.")];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    client.begin("openoxide", json!({"prompt": "x"}));
    if !home.until_running("sleep 300") {
        return;
    }
    client.signal(Signal::KILL);
    client.ends_within(SOON);
    let mut next = serve(&home, &model, NEWEST_SESSION);
    let result = next.call("openoxide-reply", json!({"thread_id": "last"}));
    assert_eq!(result["structuredContent"]["content"], "I went on.");
    assert_eq!(model.violations(), [""; 0]);
    next.close();
}

#[test]
fn a_client_that_only_looks_in_is_no_failure() {
    for dialect in [NEWEST_SESSION, Dialect::Discovered] {
        let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
        let began = Instant::now();
        let client = serve(&home, &model, dialect);
        client.close();
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(home.threads(), [""; 0]);
    }
    // Nor is one that says nothing at all.
    let home = Home::new();
    let mut client = Client::silent(home.openoxide(&["mcp-server"]));
    client.hang_up();
    assert!(client.ends_within(SOON).success());
}
