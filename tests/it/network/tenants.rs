//! Several tenants on one server: what is another's is as if it were not there.

use std::io::Write;

use serde_json::{Value, json};

use super::{a_file, of_two};
use crate::support::{
    client::{NEWEST_SESSION, outcome, word},
    home::{Home, eventually, run},
    model_server::{ModelServer, Reply},
    web::{ANA, BOB, Exchange},
};

/// What a caller is told, without the id that they named themselves.
fn told(mut exchange: Exchange, id: &str) -> String {
    let mut answer = exchange.event().expect("an answer");
    answer["id"] = Value::Null;
    answer.to_string().replace(id, "ID")
}

#[test]
fn a_thread_of_another_is_one_that_is_not_there() {
    let script = vec![Reply::text("A secret.")];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let service = of_two(&home, &model, &[]);
    let (ana, bob) = (service.caller(ANA), service.caller(BOB));
    let made = ana.call("openoxide", json!({"prompt": "Tell."})).result();
    let thread = word(&made, "thread_id");
    let nowhere = "0198c0de-0000-7000-8000-000000000000".to_owned();
    let uri = |id: &str| format!("openoxide://threads/{id}");
    let tries: [&dyn Fn(&str) -> Exchange; 4] = [
        &|id| bob.call("openoxide-reply", json!({"thread_id": id})),
        &|id| {
            bob.call(
                "openoxide-reply",
                json!({"thread_id": id, "prompt": "Go on."}),
            )
        },
        &|id| {
            bob.call(
                "openoxide-query",
                json!({"thread_id": id, "query": "What?"}),
            )
        },
        &|id| bob.begin("resources/read", json!({"uri": uri(id), "name": uri(id)})),
    ];
    for (at, attempt) in tries.iter().enumerate() {
        let (foreign, unknown) = (
            told(attempt(&thread), &thread),
            told(attempt(&nowhere), &nowhere),
        );
        assert!(
            !foreign.is_empty() && !foreign.contains("secret"),
            "{at}: {foreign}"
        );
        assert_eq!(foreign, unknown, "{at}");
    }
    let listed = |client: &crate::support::web::Visitor<'_>| {
        client
            .begin("resources/list", json!({}))
            .result()
            .to_string()
    };
    assert!(listed(&ana).contains(&thread));
    assert!(!listed(&bob).contains(&thread));
    // The same words of somebody else are another call.
    let his = bob.call("openoxide", json!({"prompt": "Tell."})).result();
    assert_ne!(word(&his, "thread_id"), thread);
    let owners: Vec<Value> = home
        .threads()
        .iter()
        .map(|id| home.rollout(id)[0]["owner"].clone())
        .collect();
    assert_eq!(owners, [json!("ana"), json!("bob")]);
    service.stop();
}

#[test]
fn a_session_of_another_is_one_that_is_not_there() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let service = of_two(&home, &model, &[]);
    let ana = service.visitor(ANA, NEWEST_SESSION, json!({}));
    let session = format!("Mcp-Session-Id: {}", ana.session.as_deref().expect("one"));
    let ping = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(service.post(BOB, &[&session], ping).status, 404);
    assert_eq!(service.post(ANA, &[&session], ping).status, 200);
    service.stop();
}

#[test]
fn a_call_without_a_directory_gets_one_that_lives_as_long_as_its_thread() {
    let (home, model) = (Home::new(), ModelServer::start_by_outputs(a_file()));
    let service = of_two(&home, &model, &[]);
    let ana = service.caller(ANA);
    let made = ana
        .call("openoxide", json!({"prompt": "Make it."}))
        .result();
    let thread = word(&made, "thread_id");
    let own = home.home().join("places/ana").join(&thread);
    assert_eq!(
        std::fs::read_to_string(own.join("made.txt")).expect("made there"),
        "hello\n"
    );
    assert_eq!(home.names(), [""; 0]);
    // It may be named again, unlike anything that is not ours.
    let named = ana
        .call("openoxide", json!({"prompt": "Once more.", "cwd": own}))
        .result();
    assert_eq!(outcome(&named)["status"], "completed", "{named}");
    let bobs = service.caller(BOB);
    for elsewhere in [own.clone(), home.project(), "/".into(), home.home()] {
        let refused = bobs
            .call("openoxide", json!({"prompt": "Look.", "cwd": elsewhere}))
            .result();
        assert_eq!(refused["isError"], true, "{refused}");
    }
    let listed = run(home.openoxide(&["threads", "list"])).expect(0).stdout;
    assert!(listed.contains(&*own.to_string_lossy()), "{listed}");
    service.stop();
    run(home.openoxide(&["threads", "delete", &thread])).expect(0);
    assert!(own.exists(), "another thread works there");
    run(home.openoxide(&["threads", "delete", &word(&named, "thread_id")])).expect(0);
    assert!(own.exists(), "the last thread in it did not have it made");
}

#[test]
fn what_the_owner_did_on_a_thread_meanwhile_is_in_what_its_tenant_is_told() {
    let script = vec![Reply::text("First."), Reply::text("Second.")];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let service = of_two(&home, &model, &[]);
    let ana = service.caller(ANA);
    let made = ana.call("openoxide", json!({"prompt": "Go."})).result();
    let thread = word(&made, "thread_id");
    let more = ["--resume", &thread, "-m", "More."];
    run(home.openoxide_with(&model, &more)).expect(0);
    // It is in the memory of the server all the while.
    let told = ana
        .call("openoxide-reply", json!({"thread_id": thread}))
        .result();
    assert_eq!(word(&told, "content"), "Second.", "{told}");
    service.stop();
}

#[test]
fn messages_of_one_tenant_take_up_so_much_memory_and_no_more() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let service = of_two(&home, &model, &[]);
    let size = 4 << 20;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {BOB}\r\nContent-Length: {size}\r\n\r\n",
        service.address
    );
    // All but the end of each.
    let begin = || {
        let mut stream = service.connect();
        // The server may refuse it in the middle.
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&vec![b' '; size - 1]);
        stream
    };
    let mut held: Vec<_> = (0..15).map(|_| begin()).collect();
    let works = |token: &str| service.caller(token).begin("tools/list", json!({})).status;
    assert_eq!(works(BOB), 200);
    // Some of them are refused, and what they took meanwhile is free again.
    eventually("there is no room for more", || {
        held.push(begin());
        works(BOB) == 503
    });
    assert_eq!(works(ANA), 200);
    drop(held);
    eventually("there is room again", || works(BOB) == 200);
    service.stop();
}
