//! Turns that outlast their callers: how long a call waits, and what becomes of the same call made again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{assert_well_asked, has_record, patient, serve, shell};
use crate::support::{
    client::{Client, DIALECTS, NEWEST_SESSION, outcome, text, word},
    home::{Home, eventually},
    model_server::{ModelServer, Reply},
};

#[test]
fn the_same_call_made_again_follows_the_turn_that_is_there() {
    for dialect in DIALECTS {
        let (home, model) = (Home::new(), ModelServer::start(patient("It took a while.")));
        let mut client = serve(&home, &model, dialect);
        let task = json!({"prompt": "Take your time.", "detail": "brief"});
        let first = client.begin("openoxide", task.clone());
        home.until_it_has("began");
        client.cancel(first, Some("Request timed out"));
        client.lives();
        // Equal arguments, in another order.
        let second = client.begin(
            "openoxide",
            json!({"detail": "brief", "prompt": "Take your time."}),
        );
        client.lives();
        let home = home.file("enough", "");
        let done = client.result(second);
        assert_eq!(outcome(&done)["content"], "It took a while.", "{done}");
        assert!(text(&done).contains("asked before"), "{done}");
        assert_eq!(home.threads().len(), 1);
        assert_eq!(model.requests().len(), 2);
        // It was delivered: the next one is a task of its own.
        let third = client.call("openoxide", task);
        assert_ne!(word(&third, "thread_id"), word(&done, "thread_id"));
        assert_well_asked(&model);
        client.close();
    }
}

#[test]
fn a_result_that_never_arrived_is_there_when_the_call_is_made_again() {
    let (home, model) = (Home::new(), ModelServer::start(patient("It took a while.")));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let task = json!({"prompt": "Take your time."});
    let first = client.begin("openoxide", task.clone());
    home.until_it_has("began");
    client.cancel(first, Some("timed out after 5s"));
    client.lives();
    let home = home.file("enough", "");
    let thread = home.threads().remove(0);
    eventually("it ended", || has_record(&home, &thread, "turn_ended"));
    let done = client.call("openoxide", task.clone());
    assert_eq!(word(&done, "thread_id"), thread);
    assert_eq!(outcome(&done)["content"], "It took a while.");
    assert_eq!(model.requests().len(), 2);
    // Now it has arrived.
    let anew = client.call("openoxide", task.clone());
    assert_ne!(word(&anew, "thread_id"), thread);
    // So it has when it was waited for by a reply, also one that found it ended.
    let mut soon = task;
    soon["wait_seconds"] = json!(0);
    let running = client.call("openoxide", soon.clone());
    let thread = word(&running, "thread_id");
    eventually("it ended", || has_record(&home, &thread, "turn_ended"));
    let late = client.call("openoxide-reply", json!({"thread_id": thread}));
    assert_eq!(outcome(&late)["status"], "completed", "{late}");
    assert_ne!(word(&client.call("openoxide", soon), "thread_id"), thread);
    client.close();
}

#[test]
fn a_call_that_the_user_stopped_is_made_anew() {
    let (home, model) = (Home::new(), ModelServer::start(patient("It took a while.")));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let task = json!({"prompt": "Take your time."});
    let first = client.begin("openoxide", task.clone());
    home.until_it_has("began");
    client.cancel(first, Some("the user pressed escape"));
    let thread = home.threads().remove(0);
    eventually("it ended", || has_record(&home, &thread, "turn_ended"));
    client.lives();
    let home = home.file("enough", "");
    let done = client.call("openoxide", task);
    assert_ne!(word(&done, "thread_id"), thread);
    client.close();
    drop(home);
}

#[test]
fn a_prompt_that_was_given_up_is_not_queued_twice() {
    let mut script = vec![Reply::text("one")];
    script.extend(patient("It took a while."));
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let thread = word(
        &client.call("openoxide", json!({"prompt": "x"})),
        "thread_id",
    );
    let reply = json!({"thread_id": thread, "prompt": "Now slowly."});
    let first = client.begin("openoxide-reply", reply.clone());
    home.until_it_has("began");
    client.cancel(first, Some("Request timed out"));
    client.lives();
    let second = client.begin("openoxide-reply", reply);
    client.lives();
    let home = home.file("enough", "");
    let done = client.result(second);
    assert_eq!(outcome(&done)["content"], "It took a while.", "{done}");
    assert_eq!(model.requests().len(), 3);
    client.close();
    drop(home);
}

#[test]
fn a_question_pauses_the_wait_budget() {
    let write = json!({"path": "new.txt", "content": "hello\n"});
    let script = vec![
        Reply::call("w1", "write_file", write),
        Reply::text("That is that."),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let server = home.openoxide_with(&model, &["mcp-server", "--wait", "10"]);
    let mut client = Client::able(server, NEWEST_SESSION, json!({"elicitation": {}}));
    let task = json!({"prompt": "x", "sandbox": "read-only", "wait_seconds": 3});
    let call = client.begin("openoxide", task);
    let question = client.asked("elicitation/create");
    // Longer than the whole budget.
    std::thread::sleep(Duration::from_millis(3500));
    let heard = |client: &Client| {
        client
            .heard
            .iter()
            .any(|(_, message)| message["id"] == call)
    };
    client.lives();
    assert!(!heard(&client), "{:?}", client.heard);
    let yes = json!({"action": "accept", "content": {"decision": "approve"}});
    client.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": yes}));
    let done = client.result(call);
    assert_eq!(outcome(&done)["status"], "completed", "{done}");
    client.close();
}

#[test]
fn who_looks_again_is_told_what_is_new() {
    let long = "x".repeat(3000);
    let script = vec![
        shell("c0", &format!("true {long}")).and_text(&format!("I look around.\n{long}")),
        shell("c1", "touch began; until [ -e more ]; do sleep 0.05; done"),
        shell(
            "c2",
            "touch again; until [ -e enough ]; do sleep 0.05; done",
        ),
        Reply::text("done"),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let id = client.begin("openoxide", json!({"prompt": "x", "wait_seconds": 3}));
    home.until_it_has("began");
    let first = client.result(id);
    let content = |result: &Value| {
        assert_eq!(outcome(result)["status"], "running", "{result}");
        // Both halves together.
        assert!(result.to_string().len() < 600, "{result}");
        word(result, "content")
    };
    assert!(content(&first).contains("touch began"), "{first}");
    let look = json!({"thread_id": "last", "wait_seconds": 0});
    let nothing = client.call("openoxide-reply", look.clone());
    assert!(
        content(&nothing).contains("nothing new yet; shell: touch began"),
        "{nothing}"
    );
    let home = home.file("more", "");
    home.until_it_has("again");
    let second = client.call("openoxide-reply", look);
    let news = content(&second);
    assert!(
        news.contains("touch again") && !news.contains("touch began"),
        "{news}"
    );
    let home = home.file("enough", "");
    let done = client.call("openoxide-reply", json!({"thread_id": "last"}));
    assert_eq!(outcome(&done)["content"], "done");
    client.close();
    drop(home);
}

#[test]
fn who_asks_while_the_model_writes_is_told_what() {
    let text = "It is a long story.\nOnce there was";
    let delta = json!({
        "type": "response.output_text.delta", "item_id": "m1", "output_index": 0, "content_index": 0,
        "sequence_number": 1, "delta": text,
    });
    let reply = Reply::raw(&format!("data: {delta}\n\n")).then_silent();
    let (home, model) = (Home::new(), ModelServer::start(vec![reply]));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let result = client.call("openoxide", json!({"prompt": "x", "wait_seconds": 2}));
    assert_eq!(outcome(&result)["status"], "running", "{result}");
    let said = word(&result, "content");
    assert_eq!(said, "the model writes: Once there was");
    let look = json!({"thread_id": "last", "wait_seconds": 0});
    let later = client.call("openoxide-reply", look);
    let said = word(&later, "content");
    assert_eq!(said, "nothing new yet; the model is at work");
    client.close();
}

#[test]
fn a_second_turn_in_a_directory_is_started_and_names_the_first() {
    let (home, model) = (Home::new(), ModelServer::start(patient("It took a while.")));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let first = client.begin("openoxide", json!({"prompt": "one"}));
    home.until_it_has("began");
    let one = home.threads().remove(0);
    // It only reads, and so is beside nobody.
    client.call(
        "openoxide-query",
        json!({"query": "who?", "wait_seconds": 0}),
    );
    let second = client.begin("openoxide", json!({"prompt": "two"}));
    eventually("all run", || home.threads().len() == 3);
    std::thread::sleep(Duration::from_millis(300));
    let home = home.file("enough", "");
    let [first, second] = [first, second].map(|id| client.result(id));
    assert_eq!(outcome(&second)["beside"], json!([one]), "{second}");
    assert!(text(&second).contains(&one), "{second}");
    assert!(outcome(&first).get("beside").is_none(), "{first}");
    client.close();
    drop(home);
}

#[test]
fn nobody_waits_longer_than_they_said() {
    for dialect in DIALECTS {
        let (home, model) = (Home::new(), ModelServer::start(patient("It took a while.")));
        let mut client = serve(&home, &model, dialect);
        let began = Instant::now();
        let result = client.call("openoxide", json!({"prompt": "x", "wait_seconds": 0.5}));
        assert_eq!(outcome(&result)["status"], "running", "{result}");
        assert!(began.elapsed() >= Duration::from_millis(500));
        client.close();
    }
}
