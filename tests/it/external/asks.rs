//! What external servers want to know goes to a person, whoever carries it, and to nobody else.

use serde_json::{Value, json};

use super::{calling, outputs, run, task, with};
use crate::support::{
    client::{Client, Dialect, outcome, text},
    home::Home,
    model_server::ModelServer,
};

fn client(home: &Home, model: &ModelServer, dialect: Dialect, able: Value) -> Client {
    let command = home.openoxide_with(model, &["mcp-server"]);
    Client::able(command, dialect, able)
}

/// The question that came over the client, answered so; and the result.
fn asked(client: &mut Client, answer: Value) -> (Value, Value) {
    let id = client.begin("openoxide", json!({"prompt": "x"}));
    let question = client.asked("elicitation/create");
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": answer}));
    (question["params"].clone(), client.result(id))
}

#[test]
fn a_person_fills_in_the_form_of_a_server() {
    let home = with(Home::new(), "", "auto = ['*']");
    for (answer, heard) in [
        (
            json!({"action": "accept", "content": {"p": "told", "more": 1}}),
            "{\"action\":\"accept\",\"content\":{\"p\":\"told\"}}",
        ),
        (json!({"action": "decline"}), "{\"action\":\"decline\"}"),
        (json!({"action": "cancel"}), "{\"action\":\"cancel\"}"),
        // What does not fit is not passed on.
        (
            json!({"action": "accept", "content": {"p": 7}}),
            "{\"action\":\"cancel\"}",
        ),
    ] {
        let model = calling(&[("out__elicit", json!({}))]);
        let able = json!({"elicitation": {}});
        let mut client = client(&home, &model, Dialect::Session("2025-06-18"), able);
        let (question, result) = asked(&mut client, answer);
        client.close();
        let message = question["message"].as_str().expect("a message");
        assert!(
            message.contains("`out`") && message.contains("Your password?"),
            "{message}"
        );
        assert_eq!(
            question["requestedSchema"]["properties"],
            json!({"p": {"type": "string"}})
        );
        assert_eq!(outcome(&result)["status"], "completed", "{}", text(&result));
        assert!(outputs(&model)[0].contains(heard), "{:?}", outputs(&model));
        let thread = outcome(&result)["thread_id"].as_str().expect("an id");
        let records = home.rollout(thread);
        let answers: Vec<&Value> = records
            .iter()
            .filter(|record| record["type"] == "approval_resolved")
            .collect();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert!(!answers[0].to_string().contains("told"), "{answers:?}");
    }
}

#[test]
fn a_person_is_asked_in_rounds_by_a_server_of_either_generation() {
    for (manner, more, tool) in [
        ("", "auto = ['*']", "out__elicit"),
        ("modern", "auto = ['*']\nprotocol = 'modern'", "out__wants"),
    ] {
        let home = with(Home::new(), manner, more);
        let model = calling(&[(tool, json!({"text": "kept"}))]);
        let able = json!({"elicitation": {"form": {}}});
        let mut client = client(&home, &model, Dialect::Inline, able);
        let arguments = json!({"prompt": "x"});
        let first = client.call("openoxide", arguments.clone());
        assert_eq!(first["resultType"], "input_required", "{first}");
        let requests = first["inputRequests"].as_object().expect("requests");
        let (key, request) = requests.iter().next().expect("one");
        let form = &request["params"]["requestedSchema"]["properties"];
        assert_eq!(form, &json!({"p": {"type": "string"}}));
        let again = client.request(
            "tools/call",
            json!({
                "name": "openoxide", "arguments": arguments, "requestState": first["requestState"],
                "inputResponses": {key: {"action": "accept", "content": {"p": "told"}}},
            }),
        );
        let result = client.result(again);
        client.close();
        assert_eq!(outcome(&result)["status"], "completed", "{}", text(&result));
        let output = &outputs(&model)[0];
        assert!(output.contains("\"content\":{\"p\":\"told\"}"), "{output}");
        assert!(tool != "out__wants" || output.contains("\"kept\"") && output.contains("\"st\""));
    }
}

#[test]
fn what_a_server_wants_to_know_is_never_the_callers_to_answer() {
    let home = with(Home::new(), "", "auto = ['*']");
    let model = calling(&[("out__elicit", json!({}))]);
    let flags = ["mcp-server", "--when-unattended", "return-to-caller"];
    let command = home.openoxide_with(&model, &flags);
    let mut client = Client::start(command, Dialect::Session("2025-06-18"));
    let result = client.call("openoxide", json!({"prompt": "x"}));
    client.close();
    assert_eq!(outcome(&result)["status"], "completed", "{}", text(&result));
    assert_eq!(outcome(&result)["approvals"], Value::Null);
    assert!(
        outputs(&model)[0].contains("{\"action\":\"cancel\"}"),
        "{:?}",
        outputs(&model)
    );
}

#[test]
fn the_time_that_a_person_takes_does_not_count() {
    let home = with(Home::new(), "", "auto = ['*']\ncall_seconds = 1");
    let model = calling(&[("out__elicit", json!({}))]);
    let able = json!({"elicitation": {}});
    let mut client = client(&home, &model, Dialect::Session("2025-06-18"), able);
    let id = client.begin("openoxide", json!({"prompt": "x"}));
    let question = client.asked("elicitation/create");
    std::thread::sleep(std::time::Duration::from_millis(1_800));
    let answer = json!({"action": "decline"});
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": answer}));
    let result = client.result(id);
    client.close();
    assert_eq!(outcome(&result)["status"], "completed", "{}", text(&result));
    assert!(
        outputs(&model)[0].contains("decline"),
        "{:?}",
        outputs(&model)
    );
}

#[test]
fn a_server_that_never_stops_asking_is_not_asked_for_ever() {
    let home = with(Home::new(), "modern", "auto = ['*']\nprotocol = 'modern'\n");
    let model = calling(&[("out__insists", json!({}))]);
    let ran = run(task(&home, &model, &[])).expect(0);
    assert_eq!(ran.json()["status"], "completed");
    assert!(
        outputs(&model)[0].contains("10 times"),
        "{:?}",
        outputs(&model)
    );
}
