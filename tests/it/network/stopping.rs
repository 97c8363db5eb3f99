//! The end of the server: running turns get their grace, new ones are not begun, and everything is recorded.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{a_file, a_sleep, last_outcome};
use crate::support::{
    client::{Dialect, NEWEST_SESSION, text, word},
    home::{Home, PATIENCE, eventually},
    model_server::{ModelServer, Reply},
    web::{ANA, Service},
};

#[test]
fn a_server_that_is_told_to_stop_lets_turns_end_and_begins_none() {
    for dialect in [NEWEST_SESSION, Dialect::Inline] {
        let (home, model) = (Home::new(), ModelServer::start(a_sleep("3.7")));
        let mut service = Service::start(&home, &model, &[]);
        let client = service.visitor(ANA, dialect, json!({}));
        let call = client.call_told("openoxide", json!({"prompt": "Sleep."}));
        home.until_running("sleep 3.7");
        service.signal(Signal::TERM);
        eventually("it says that it stops", || {
            service.get("/healthz", &[]).status == 503
        });
        let refused = client
            .call("openoxide", json!({"prompt": "Another."}))
            .result();
        assert_eq!(refused["isError"], true, "{refused}");
        assert!(text(&refused).contains("about to stop"), "{refused}");
        let done = call.result();
        assert_eq!(word(&done, "content"), "I slept.");
        let _ = client;
        let status = service.ends_within(PATIENCE);
        assert!(status.success(), "{status}: {}", service.errors());
        assert_eq!(last_outcome(&home).expect("an end")["status"], "completed");
    }
}

#[test]
fn a_question_that_waits_for_its_caller_holds_up_no_end() {
    let script = vec![Reply::call(
        "w1",
        "write_file",
        json!({"path": "a", "content": "x"}),
    )];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let flags = [
        "--sandbox",
        "read-only",
        "--when-unattended",
        "return-to-caller",
    ];
    let mut service = Service::start(&home, &model, &flags);
    let client = service.caller(ANA);
    let asked = client.call("openoxide", json!({"prompt": "x"})).result();
    assert_eq!(word(&asked, "status"), "approval_required", "{asked}");
    let began = Instant::now();
    service.signal(Signal::TERM);
    let status = service.ends_within(PATIENCE);
    assert!(status.success(), "{status}: {}", service.errors());
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_turn_that_takes_longer_than_its_grace_is_recorded_and_can_be_resumed() {
    for (signals, grace) in [(1, "1.5"), (2, "600")] {
        let (home, model) = (Home::new(), ModelServer::start(a_sleep("333.3")));
        let mut service = Service::start(
            &home,
            &model,
            &["-c", &format!("server.drain_seconds={grace}")],
        );
        let client = service.visitor(ANA, NEWEST_SESSION, json!({}));
        let _call = client.call_told("openoxide", json!({"prompt": "Sleep."}));
        home.until_running("sleep 333.3");
        let began = Instant::now();
        for _ in 0..signals {
            service.signal(Signal::TERM);
            std::thread::sleep(Duration::from_millis(300));
        }
        let _ = client;
        let status = service.ends_within(PATIENCE);
        assert!(status.success(), "{status}: {}", service.errors());
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(
            last_outcome(&home).expect("an end")["status"],
            "interrupted"
        );
        home.assert_deserted(&[]);
    }
}

#[test]
fn an_idle_server_stops_at_once() {
    let (home, model) = (Home::new(), ModelServer::start(a_file()));
    let mut service = Service::start(&home, &model, &[]);
    let client = service.visitor(ANA, NEWEST_SESSION, json!({}));
    let _stream = client.listen();
    let began = Instant::now();
    service.signal(Signal::TERM);
    let _ = client;
    assert!(service.ends_within(PATIENCE).success());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}
