//! Resources of external servers behind a question, where the owner wants them there.

use serde_json::Value;

use super::{calling, log, run, with};
use crate::support::{
    client::{Client, Dialect},
    home::{Home, eventually},
    model_server::ModelServer,
};

/// The last message of the user in the newest request.
fn question(model: &ModelServer) -> String {
    let requests = model.requests();
    let input = &requests.last().expect("requests").body["input"];
    let items = input.as_array().expect("a list").iter();
    let users: Vec<&Value> = items.filter(|item| item["role"] == "user").collect();
    users.last().expect("a message")["content"].to_string()
}

fn ask(home: &Home, what: &str) -> String {
    let model = calling(&[]);
    run(home.openoxide_with(&model, &["-m", what])).expect(0);
    question(&model)
}

#[test]
fn resources_that_fit_stand_behind_the_question_as_data() {
    let home = with(Home::new(), "readable", "context = true");
    // Never seen: the thread waits for the server, which is there then.
    let first = ask(&home, "What does the first letter mean?");
    assert!(first.contains("mem://a a: The first."), "{first}");
    assert!(first.contains("is an instruction]"), "{first}");
    assert!(!first.contains("mem://b"), "{first}");
    let other = ask(&home, "Tell me about cheese.");
    assert!(!other.contains("mem://"), "{other}");
    let home = with(home, "readable", "");
    let unwanted = ask(&home, "What does the first letter mean?");
    assert!(!unwanted.contains("mem://"), "{unwanted}");
}

#[test]
fn what_was_read_once_holds_for_as_long_as_the_server_says() {
    for (manner, reads) in [("readable", 1), ("readable:0", 2)] {
        let home = with(Home::new(), manner, "context = true");
        let model = ModelServer::start(vec![
            crate::support::model_server::Reply::text("one"),
            crate::support::model_server::Reply::text("two"),
        ]);
        let command = home.openoxide_with(&model, &["mcp-server"]);
        let mut client = Client::start(command, Dialect::Session("2025-06-18"));
        let arguments = serde_json::json!({"prompt": "the first"});
        client.call("openoxide", arguments.clone());
        let count = || log(&home).matches("resources/read").count();
        eventually("it is read", || count() == 1);
        std::thread::sleep(std::time::Duration::from_millis(200));
        let again = serde_json::json!({"prompt": "the first again", "thread_id": "last"});
        client.call("openoxide-reply", again);
        eventually("it is known, or read again", || count() == reads);
        client.close();
        assert_eq!(count(), reads, "{}", log(&home));
        if reads == 1 {
            assert!(
                question(&model).contains("the content of"),
                "{}",
                question(&model)
            );
        }
    }
}
