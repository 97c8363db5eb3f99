//! Who is told that a file changed, where several clients have one server: each hears what it subscribed to itself.

use serde_json::{Value, json};

use crate::support::{
    client::NEWEST_SESSION,
    home::Home,
    model_server::ModelServer,
    web::{ANA, Exchange, Service, Visitor, Wire},
};

const UPDATED: &str = "notifications/resources/updated";

fn uri(message: &Value) -> &str {
    message["params"]["uri"].as_str().expect("a uri")
}

/// The address of the next resource that a session is told of.
fn heard(stream: &mut Exchange) -> String {
    uri(&stream.until(|message| message["method"] == UPDATED)).to_owned()
}

/// The same over a WebSocket.
fn heard_on(wire: &mut Wire) -> String {
    uri(&wire.until(|message| message["method"] == UPDATED)).to_owned()
}

fn subscribe(client: &Visitor<'_>, uri: &str) {
    let params = json!({"uri": uri});
    client.begin("resources/subscribe", params).result();
}

/// A session over a WebSocket that subscribed to `uri`.
fn wired(service: &Service, uri: &str) -> Wire {
    let mut wire = Wire::open(service);
    wire.ask(&json!({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "it", "version": "1"}}}));
    wire.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let subscribed = wire.ask(
        &json!({"jsonrpc": "2.0", "id": "s", "method": "resources/subscribe", "params": {"uri": uri}}),
    );
    assert!(subscribed.get("result").is_some(), "{subscribed}");
    wire
}

/// How many watches the server has open.
#[cfg(target_os = "linux")]
fn watches(service: &Service) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", service.process_id())).expect("it runs");
    // One may be closed while it is looked at.
    open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().contains("inotify"))
        .count()
}

#[test]
fn a_change_is_told_to_who_subscribed_and_to_no_other_session_or_socket() {
    let home = Home::new().file("a.txt", "one").file("b.txt", "one");
    let model = ModelServer::start(Vec::new());
    let service = Service::start(&home, &model, &[]);
    let (of_a, of_b, of_none) = (
        service.visitor(ANA, NEWEST_SESSION, json!({})),
        service.visitor(ANA, NEWEST_SESSION, json!({})),
        service.visitor(ANA, NEWEST_SESSION, json!({})),
    );
    let (mut a, mut b, mut none) = (of_a.listen(), of_b.listen(), of_none.listen());
    subscribe(&of_a, "file://a.txt");
    subscribe(&of_b, "file://b.txt");
    let mut a_wire = wired(&service, "file://a.txt");
    let mut b_wire = wired(&service, "file://b.txt");

    let home = home.file("a.txt", "two");
    assert_eq!(
        [heard(&mut a), heard_on(&mut a_wire)],
        ["file://a.txt"; 2].map(str::to_owned)
    );
    // The first that the others hear is their own file, so they never heard of this one.
    let home = home.file("b.txt", "two");
    assert_eq!(
        [heard(&mut b), heard_on(&mut b_wire)],
        ["file://b.txt"; 2].map(str::to_owned)
    );
    // And the next that these hear is theirs again.
    let home = home.file("a.txt", "three");
    assert_eq!(
        [heard(&mut a), heard_on(&mut a_wire)],
        ["file://a.txt"; 2].map(str::to_owned)
    );
    subscribe(&of_none, "file://c.txt");
    let home = home.file("c.txt", "new");
    assert_eq!(heard(&mut none), "file://c.txt");
    assert_eq!(home.read("a.txt"), "three");
    service.stop();
}

#[test]
#[cfg(target_os = "linux")]
fn a_subscription_ends_with_its_session_and_with_no_other() {
    use crate::support::home::eventually;

    let home = Home::new().file("a.txt", "one");
    let model = ModelServer::start(Vec::new());
    let service = Service::start(&home, &model, &[]);
    let (leaving, staying) = (
        service.visitor(ANA, NEWEST_SESSION, json!({})),
        service.visitor(ANA, NEWEST_SESSION, json!({})),
    );
    let mut stays = staying.listen();
    subscribe(&leaving, "file://a.txt");
    subscribe(&staying, "file://a.txt");
    let wire = wired(&service, "file://a.txt");
    assert_eq!(watches(&service), 3);
    assert_eq!(leaving.leave(), 204);
    eventually("the watch of the session ends", || watches(&service) == 2);
    wire.hang_up();
    eventually("the watch of the socket ends", || watches(&service) == 1);
    let home = home.file("a.txt", "two");
    assert_eq!(heard(&mut stays), "file://a.txt");
    let params = json!({"uri": "file://a.txt"});
    staying.begin("resources/unsubscribe", params).result();
    eventually("the last watch ends", || watches(&service) == 0);
    assert_eq!(home.read("a.txt"), "two");
    service.stop();
}
