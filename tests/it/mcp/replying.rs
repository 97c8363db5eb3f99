//! `openoxide-reply`: going on with a thread.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{assert_well_asked, serve, shell};
use crate::support::{
    client::{Client, DIALECTS, NEWEST_SESSION, outcome, text, word},
    home::{Home, run},
    model_server::{ModelServer, Reply, Seen},
};

fn three_words() -> Vec<Reply> {
    ["one", "two", "three"].map(Reply::text).into()
}

/// What people said in a request, in order.
fn prompts(request: &Seen) -> Vec<String> {
    let input = request.body["input"].as_array().expect("input");
    let messages = input.iter().filter(|item| item["role"] == "user");
    messages.map(|item| item["content"].to_string()).collect()
}

#[test]
fn a_thread_goes_on_by_its_id_or_as_the_last_one() {
    for dialect in DIALECTS {
        let (home, model) = (Home::new(), ModelServer::start(three_words()));
        let mut client = serve(&home, &model, dialect);
        let first = client.call("openoxide", json!({"prompt": "Say one."}));
        let thread_id = word(&first, "thread_id");
        let second = client.call(
            "openoxide-reply",
            json!({"thread_id": thread_id, "prompt": "Say two."}),
        );
        assert_eq!(outcome(&second)["content"], "two");
        let third = client.call(
            "openoxide-reply",
            json!({"thread_id": "last", "prompt": "Say three."}),
        );
        assert_eq!(outcome(&third)["content"], "three");
        for result in [&second, &third] {
            assert_eq!(word(result, "thread_id"), thread_id);
            assert_ne!(word(result, "turn_id"), word(&first, "turn_id"));
        }
        let requests = model.requests();
        let said = prompts(requests.last().expect("requests"));
        for (prompt, word) in said.iter().rev().take(3).rev().zip(["one", "two", "three"]) {
            assert!(prompt.contains(&format!("Say {word}.")), "{said:?}");
        }
        assert_well_asked(&model);
        client.close();
    }
}

/// The owner may make a thread as wide as they like; a caller goes on with it under the server's ceiling.
#[test]
fn a_wide_thread_of_the_owner_is_not_wide_for_a_caller() {
    let (home, outside) = (Home::new(), tempfile::tempdir().expect("a directory"));
    let proof = outside.path().join("proof.txt");
    let write =
        |id: &str| Reply::call(id, "write_file", json!({"path": proof, "content": "out\n"}));
    let script = vec![Reply::text("one"), write("c1"), Reply::text("two")];
    let model = ModelServer::start(script);
    let wide = ["-m", "x", "--sandbox", "danger-full-access"];
    run(home.openoxide_with(&model, &wide)).expect(0);
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let thread_id = home.threads().remove(0);
    let again = client.call(
        "openoxide-reply",
        json!({"thread_id": thread_id, "prompt": "write"}),
    );
    assert_eq!(outcome(&again)["sandbox"]["policy"], "workspace-write");
    assert!(!proof.exists());
    client.close();
}

#[test]
fn a_thread_outlives_its_server() {
    let (home, model) = (Home::new(), ModelServer::start(three_words()));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let thread_id = word(
        &client.call("openoxide", json!({"prompt": "Say one."})),
        "thread_id",
    );
    client.close();
    for (name, expected) in [(thread_id.as_str(), "two"), ("last", "three")] {
        let mut client = serve(&home, &model, NEWEST_SESSION);
        let result = client.call(
            "openoxide-reply",
            json!({"thread_id": name, "prompt": "More."}),
        );
        assert_eq!(outcome(&result)["content"], expected, "{result}");
        assert_eq!(word(&result, "thread_id"), thread_id);
        client.close();
    }
    // Also that each request begins with the bytes of the one before, across servers.
    assert_well_asked(&model);
    assert_eq!(model.requests().len(), 3);
}

#[test]
fn an_unknown_thread_is_named() {
    let (home, model) = (Home::new(), ModelServer::start(three_words()));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    for id in [
        "last",
        "nonsense",
        "../../etc/passwd",
        "019a0000-0000-7000-8000-000000000000",
    ] {
        let refusal = client.refusal("openoxide-reply", json!({"thread_id": id, "prompt": "x"}));
        assert!(refusal.contains(&format!("no thread `{id}`")), "{refusal}");
    }
    assert_eq!(model.requests().len(), 0);
    assert_eq!(home.threads(), [""; 0]);
    client.close();
}

#[test]
fn two_replies_at_once_are_answered_one_after_the_other_and_each_by_itself() {
    let late = Duration::from_millis(400);
    let script = vec![
        Reply::text("one"),
        Reply::text("two").delayed(late),
        Reply::text("three").delayed(late),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let thread_id = word(
        &client.call("openoxide", json!({"prompt": "x"})),
        "thread_id",
    );
    let ids = ["apples", "pears"].map(|prompt| {
        let arguments = json!({"thread_id": thread_id, "prompt": prompt});
        (prompt, client.begin("openoxide-reply", arguments))
    });
    let contents = ids.map(|(prompt, id)| {
        let result = client.result(id);
        assert_eq!(outcome(&result)["status"], "completed", "{result}");
        (prompt, word(&result, "content"))
    });
    // Whichever was first got `two`, and the model saw nothing but its prompt.
    let second = prompts(&model.requests()[1]);
    let first_prompt = if second.last().expect("a prompt").contains("apples") {
        "apples"
    } else {
        "pears"
    };
    for (prompt, content) in &contents {
        let expected = if *prompt == first_prompt {
            "two"
        } else {
            "three"
        };
        assert_eq!(content, expected, "{contents:?}");
    }
    assert_eq!(model.requests().len(), 3);
    assert_well_asked(&model);
    client.close();
}

#[test]
fn a_wait_beyond_all_measure_is_a_long_one() {
    let (home, model) = (Home::new(), ModelServer::start(vec![Reply::text("one"); 2]));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    for endless in [json!(1e9), json!(1e19)] {
        let result = client.call("openoxide", json!({"prompt": "x", "wait_seconds": endless}));
        assert_eq!(outcome(&result)["status"], "completed", "{result}");
    }
    client.close();
}

#[test]
fn who_does_not_wait_is_told_that_it_runs_and_can_wait_later() {
    for dialect in DIALECTS {
        let script = vec![
            shell("c1", "until [ -e enough ]; do sleep 0.05; done"),
            Reply::text("It is done."),
        ];
        let (home, model) = (Home::new(), ModelServer::start(script));
        let mut client = serve(&home, &model, dialect);
        let result = client.call("openoxide", json!({"prompt": "x", "wait_seconds": 0}));
        assert_eq!(outcome(&result)["status"], "running", "{result}");
        assert_ne!(result["isError"], true);
        assert!(result.to_string().len() < 600, "{result}");
        let thread_id = word(&result, "thread_id");
        for half in [text(&result).to_owned(), outcome(&result).to_string()] {
            assert!(
                half.contains(&thread_id) && half.contains("openoxide-reply"),
                "{half}"
            );
        }
        let began = Instant::now();
        let still = client.call(
            "openoxide-reply",
            json!({"thread_id": thread_id, "wait_seconds": 0.3}),
        );
        assert_eq!(outcome(&still)["status"], "running", "{still}");
        assert!(began.elapsed() >= Duration::from_millis(300));
        let waiting = client.begin("openoxide-reply", json!({"thread_id": thread_id}));
        client.lives();
        let home = home.file("enough", "");
        let done = client.result(waiting);
        assert_eq!(outcome(&done)["status"], "completed", "{done}");
        assert_eq!(outcome(&done)["content"], "It is done.");
        let again = client.call("openoxide-reply", json!({"thread_id": thread_id}));
        assert_eq!(outcome(&again)["content"], "It is done.", "{again}");
        assert_eq!(model.requests().len(), 2);
        assert_well_asked(&model);
        client.close();
        drop(home);
    }
}

#[test]
fn a_reply_can_stop_the_running_turn_first() {
    let script = vec![
        shell("c1", "sleep 300"),
        Reply::text("Something else, then."),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let running = client.begin("openoxide", json!({"prompt": "x"}));
    if !home.until_running("sleep 300") {
        return;
    }
    let thread_id = home.threads().remove(0);
    let result = client.call(
        "openoxide-reply",
        json!({"thread_id": thread_id, "interrupt": true, "prompt": "No, y."}),
    );
    assert_eq!(outcome(&result)["content"], "Something else, then.");
    let stopped = client.result(running);
    assert_eq!(outcome(&stopped)["status"], "interrupted", "{stopped}");
    assert!(word(&stopped, "next").contains("openoxide-reply"));
    home.assert_deserted(&["mcp-server"]);
    assert_well_asked(&model);
    client.close();
}

#[test]
fn a_turn_that_the_end_of_input_cut_short_is_resumed_by_the_next_server() {
    let script = vec![
        shell("c1", "touch began; sleep 300"),
        Reply::text("Resumed and done."),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    client.begin("openoxide", json!({"prompt": "Take your time."}));
    home.until_it_has("began");
    client.close();
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let result = client.call("openoxide-reply", json!({"thread_id": "last"}));
    assert_eq!(outcome(&result)["content"], "Resumed and done.", "{result}");
    assert_eq!(word(&result, "thread_id"), home.threads()[0]);
    assert!(text(&result).contains("resumed"), "{result}");
    let requests = model.requests();
    let input = requests[1].body["input"].as_array().expect("input");
    let output = input
        .iter()
        .find(|item| item["type"] == "function_call_output")
        .expect("the call has an output");
    assert!(
        output["output"].to_string().contains("interrupted"),
        "{output}"
    );
    assert_well_asked(&model);
    client.close();
}

#[test]
fn the_owner_sets_how_long_calls_wait_and_a_caller_may_say_otherwise() {
    let slow = vec![Reply::text("done").delayed(Duration::from_millis(800))];
    for flags in [
        &["mcp-server", "--wait", "0.1"][..],
        &["mcp-server", "-c", "limits.wait_seconds=0.1"],
    ] {
        let (home, model) = (Home::new(), ModelServer::start(slow.clone()));
        let mut client = Client::start(home.openoxide_with(&model, flags), NEWEST_SESSION);
        let result = client.call("openoxide", json!({"prompt": "x"}));
        assert_eq!(outcome(&result)["status"], "running", "{flags:?}");
        let result = client.call("openoxide", json!({"prompt": "y", "wait_seconds": 60}));
        assert_eq!(outcome(&result)["status"], "completed", "{flags:?}");
        client.close();
    }
}

#[test]
fn an_outcome_that_is_asked_for_again_comes_in_the_detail_that_was_asked_for() {
    let write = json!({"path": "new.txt", "content": "one\n"});
    let script = vec![Reply::call("c1", "write_file", write), Reply::text("done")];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    client.call("openoxide", json!({"prompt": "x"}));
    let again = json!({"thread_id": "last", "detail": "full"});
    let result = client.call("openoxide-reply", again);
    let diff = &outcome(&result)["changes"][0]["diff"];
    assert!(
        diff.as_str().is_some_and(|diff| diff.contains("+one")),
        "{result}"
    );
    client.close();
}
