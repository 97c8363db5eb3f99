//! A flood of output costs no memory, on pipes, in a terminal and in the background.

use serde_json::json;

use crate::support::{
    client::{Client, NEWEST_SESSION},
    home::Home,
    model_server::{ModelServer, Reply},
};

/// What a flood may add, in KiB.
const MOST: u64 = 10 << 10;

/// Bytes of a flood.
const LENGTH: u32 = 300_000_000;

/// The most memory that a server used, in KiB, whose model makes one call of `shell` and waits a while.
fn most_memory(arguments: serde_json::Value) -> u64 {
    let home = Home::new();
    let script = vec![
        Reply::call("c1", "shell", arguments),
        Reply::call("c2", "shell", json!({"command": "sleep 3"})),
        Reply::text("That was it."),
    ];
    let model = ModelServer::start(script);
    let mut client = Client::start(home.openoxide_with(&model, &["mcp-server"]), NEWEST_SESSION);
    let result = client.call("openoxide", json!({"prompt": "go"}));
    assert_eq!(
        result["structuredContent"]["status"], "completed",
        "{result}"
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", client.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let most = line.unwrap().split_whitespace().nth(1).unwrap().parse();
    client.close();
    most.unwrap()
}

#[test]
fn a_flood_stays_under_ten_megabytes() {
    let flood = |bytes: u32| format!("head -c {bytes} /dev/zero | tr '\\0' x; echo; echo end");
    let quiet = most_memory(json!({"command": flood(10)}));
    for arguments in [
        json!({"command": flood(LENGTH)}),
        json!({"command": flood(32_000_000), "terminal": true, "wait_seconds": 60}),
        // Nobody looks at it while it comes.
        json!({"command": format!("{}; sleep 60", flood(LENGTH)), "wait_seconds": 0}),
    ] {
        let most = most_memory(arguments.clone());
        assert!(
            most < quiet + MOST,
            "{arguments}: {most} KiB, without it {quiet} KiB"
        );
    }
}
