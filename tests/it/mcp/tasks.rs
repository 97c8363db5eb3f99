//! The tasks extension: a turn that runs on is a task, for as long as its thread is kept.

use serde_json::{Value, json};

use super::{assert_well_asked, shell};
use crate::support::{
    client::{Client, Dialect, outcome},
    home::Home,
    model_server::{ModelServer, Reply},
};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";

fn able(home: &Home, model: &ModelServer) -> Client {
    let server = home.openoxide_with(model, &["mcp-server"]);
    let capabilities = json!({"extensions": {EXTENSION: {}}, "elicitation": {}});
    Client::able(server, Dialect::Discovered, capabilities)
}

fn task(client: &mut Client, method: &str, id: &Value, mut params: Value) -> Value {
    params["taskId"] = id.clone();
    client.ask(method, params)
}

/// Asks until the task is as wished.
fn until(client: &mut Client, id: &Value, status: &str) -> Value {
    for _ in 0..300 {
        let found = task(client, "tasks/get", id, json!({}));
        if found["status"] == status {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the task does not become {status}");
}

#[test]
fn a_turn_that_runs_on_is_a_task_and_outlives_its_server() {
    let script = vec![
        shell("c1", "until [ -e enough ]; do sleep 0.05; done"),
        Reply::text("It is done."),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = able(&home, &model);
    assert!(client.greeting["capabilities"]["extensions"][EXTENSION].is_object());
    let created = client.call("openoxide", json!({"prompt": "x", "wait_seconds": 0}));
    assert_eq!(created["resultType"], "task", "{created}");
    let id = created["taskId"].clone();
    let working = task(&mut client, "tasks/get", &id, json!({}));
    assert_eq!(working["status"], "working", "{working}");
    // A turn begins once, however often it is asked about.
    assert_eq!(working["createdAt"], created["createdAt"]);
    let home = home.file("enough", "");
    let done = until(&mut client, &id, "completed");
    assert_eq!(outcome(&done["result"])["content"], "It is done.");
    assert_eq!(outcome(&done["result"])["turn_id"], id);
    assert_well_asked(&model);
    client.close();
    let mut client = able(&home, &model);
    let kept = task(&mut client, "tasks/get", &id, json!({}));
    assert_eq!(outcome(&kept["result"])["content"], "It is done.", "{kept}");
    for time in ["createdAt", "lastUpdatedAt"] {
        assert_eq!(kept[time], done[time], "{time}");
    }
    assert_eq!(kept["createdAt"], created["createdAt"]);
    client.close();
}

#[test]
fn a_task_asks_and_takes_the_answer() {
    let write = json!({"path": "new.txt", "content": "hello\n"});
    let script = vec![
        Reply::call("w1", "write_file", write).delayed(std::time::Duration::from_millis(300)),
        Reply::text("That is that."),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = able(&home, &model);
    let arguments = json!({"prompt": "x", "sandbox": "read-only", "wait_seconds": 0});
    let created = client.call("openoxide", arguments);
    let id = created["taskId"].clone();
    let asks = until(&mut client, &id, "input_required");
    let requests = asks["inputRequests"].as_object().expect("requests");
    let key = requests.keys().next().expect("one").clone();
    let yes = json!({key: {"action": "accept", "content": {"decision": "approve"}}});
    task(
        &mut client,
        "tasks/update",
        &id,
        json!({"inputResponses": yes}),
    );
    let done = until(&mut client, &id, "completed");
    assert_eq!(outcome(&done["result"])["status"], "completed", "{done}");
    assert_eq!(home.read("new.txt"), "hello\n");
    assert_well_asked(&model);
    client.close();
}

#[test]
fn a_task_can_be_cancelled_and_an_unknown_one_is_an_error() {
    let script = vec![shell("c1", "touch began; sleep 300")];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = able(&home, &model);
    let created = client.call("openoxide", json!({"prompt": "x", "wait_seconds": 0}));
    let id = created["taskId"].clone();
    home.until_it_has("began");
    task(&mut client, "tasks/cancel", &id, json!({}));
    until(&mut client, &id, "cancelled");
    for unknown in ["nonsense", "01a1f9ad-d96b-77a2-b041-5be5ec3df319"] {
        let id = client.request("tasks/get", json!({"taskId": unknown}));
        assert_eq!(client.answer(id)["error"]["code"], -32602);
    }
    home.assert_deserted(&["mcp-server"]);
    client.close();
}

#[test]
fn who_did_not_declare_tasks_gets_none() {
    let script = vec![shell("c1", "sleep 300")];
    for dialect in [Dialect::Inline, Dialect::Session("2025-11-25")] {
        let (home, model) = (Home::new(), ModelServer::start(script.clone()));
        let capabilities = match dialect {
            // Declared where it means nothing.
            Dialect::Session(_) => json!({"extensions": {EXTENSION: {}}}),
            _ => json!({}),
        };
        let server = home.openoxide_with(&model, &["mcp-server"]);
        let mut client = Client::able(server, dialect, capabilities);
        let running = client.call("openoxide", json!({"prompt": "x", "wait_seconds": 0}));
        assert_eq!(outcome(&running)["status"], "running", "{running}");
        client.close();
    }
}
