//! What every client pays for before it asks anything: lists and instructions, their bytes, and that a cache may keep them.

use serde_json::{Value, json};

use super::serve;
use crate::support::{
    client::{Client, DIALECTS, NEWEST_SESSION, outcome, text},
    home::Home,
    model_server::{ModelServer, Reply},
};

/// As our own server, and in place of the peer.
const WAYS: [&[&str]; 2] = [&["mcp-server"], &["mcp-server", "--codex-tools"]];

/// What a client is shown at the beginning, in the bytes and the order in which it comes.
fn shown(home: &Home, way: &[&str], dialect: crate::support::client::Dialect) -> [Value; 3] {
    let mut client = Client::start(home.openoxide(way), dialect);
    let lists = ["tools/list", "resources/templates/list"];
    let [tools, templates] = lists.map(|method| client.ask(method, json!({})));
    let greeting = client.greeting.clone();
    client.close();
    [greeting, tools, templates]
}

#[test]
fn two_servers_say_the_same_to_the_byte() {
    let home = Home::new();
    for way in WAYS {
        for dialect in DIALECTS {
            let [first, second] = [(); 2].map(|()| shown(&home, way, dialect));
            for (first, second) in first.iter().zip(&second) {
                // As text: objects are equal in any order, bytes in a cache are not.
                assert_eq!(first.to_string(), second.to_string(), "{way:?} {dialect:?}");
            }
        }
    }
}

#[test]
fn lists_are_small_and_say_how_long_they_hold() {
    let home = Home::new();
    for way in WAYS {
        for dialect in DIALECTS {
            let [greeting, mut tools, templates] = shown(&home, way, dialect);
            let about = format!("{way:?} {dialect:?}");
            for list in [&tools, &templates] {
                assert_eq!(list["ttlMs"], 3_600_000, "{about}: {list}");
                assert_eq!(list["cacheScope"], "public", "{about}: {list}");
            }
            if dialect.is_modern() && !greeting.is_null() {
                assert_eq!(greeting["ttlMs"], 3_600_000, "{about}: {greeting}");
                assert_eq!(greeting["cacheScope"], "public", "{about}: {greeting}");
            }
            for tool in tools["tools"].as_array_mut().expect("tools") {
                tool.as_object_mut()
                    .expect("an object")
                    .remove("outputSchema");
                let words = tool["description"].as_str().expect("a description");
                let sentences = words.matches(". ").count() + 1;
                assert!(words.ends_with('.') && sentences == 1, "{about}: {words}");
            }
            let size = tools.to_string().len();
            assert!(size < 4000, "{about}: {size} bytes");
            assert!(templates.to_string().len() < 1500, "{about}: {templates}");
            if let Some(instructions) = greeting["instructions"].as_str() {
                assert!(
                    instructions.chars().count() < 1200,
                    "{about}: {instructions}"
                );
            } else {
                assert!(greeting.is_null(), "{about}: {greeting}");
            }
        }
    }
}

#[test]
fn a_diff_that_is_too_long_is_left_out_with_a_word_where_it_is() {
    let large = "a line of a large file\n".repeat(3000);
    let write = |id, path, content: &str| {
        Reply::call(id, "write_file", json!({"path": path, "content": content}))
    };
    let script = vec![
        write("w1", "large.txt", &large),
        write("w2", "small.txt", "one\n"),
        Reply::text("Written."),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let result = client.call("openoxide", json!({"prompt": "x", "detail": "full"}));
    let told = outcome(&result);
    let diffs: Vec<bool> = told["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|change| change["diff"].is_string())
        .collect();
    assert_eq!(diffs, [false, true], "{result}");
    let said = told["left_out"].as_str().expect("a word about it");
    assert!(said.starts_with("the diffs of 1 changed files"), "{said}");
    assert!(text(&result).contains(said), "{result}");
    let uri = said.split('`').nth(1).expect("an address");
    let read = client.ask("resources/read", json!({"uri": uri}));
    let whole = read["contents"][0]["text"].as_str().expect("a text");
    assert_eq!(whole.matches("+a line of").count(), 3000);
    // What is asked for in brief has no diffs, and says nothing of them.
    let brief = client.call("openoxide-reply", json!({"thread_id": "last"}));
    assert!(outcome(&brief).get("left_out").is_none(), "{brief}");
    client.close();
}
