//! Resources: threads, diffs, files and directories, for every client; who sees what, and who is told of changes.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::{mend_the_greeting, serve, shell, with_a_greeting};
use crate::support::{
    client::{Client, DIALECTS, Dialect, NEWEST_SESSION, word},
    home::Home,
    model_server::{ModelServer, Reply},
};

const CHANGED: &str = "notifications/resources/list_changed";

/// What one resource holds.
fn read(client: &mut Client, uri: &str) -> Value {
    let result = client.ask("resources/read", json!({"uri": uri}));
    let contents = result["contents"].as_array().expect("contents");
    assert_eq!(contents.len(), 1, "{result}");
    assert_eq!(contents[0]["uri"], uri, "{result}");
    contents[0].clone()
}

fn read_text(client: &mut Client, uri: &str) -> String {
    let content = read(client, uri);
    content["text"].as_str().expect("a text").to_owned()
}

fn read_json(client: &mut Client, uri: &str) -> Value {
    serde_json::from_str(&read_text(client, uri)).expect("JSON")
}

/// The words of a refusal, which must carry the code of the client's protocol version.
fn refused(client: &mut Client, dialect: Dialect, uri: &str) -> String {
    let id = client.request("resources/read", json!({"uri": uri}));
    let answer = client.answer(id);
    let code = if dialect.is_modern() { -32602 } else { -32002 };
    assert_eq!(answer["error"]["code"], code, "{uri}: {answer}");
    assert_eq!(answer["error"]["data"]["uri"], uri, "{answer}");
    let words = answer["error"]["message"].as_str().expect("words");
    words.to_owned()
}

/// The addresses that are listed.
fn listed(client: &mut Client) -> Vec<String> {
    let list = client.ask("resources/list", json!({}));
    let resources = list["resources"].as_array().expect("resources");
    let uris = resources
        .iter()
        .map(|one| one["uri"].as_str().expect("a uri"));
    uris.map(str::to_owned).collect()
}

fn says_done() -> ModelServer {
    ModelServer::start(vec![Reply::text("Done.")])
}

#[test]
fn every_client_finds_threads_and_what_they_changed() {
    for dialect in DIALECTS {
        let (home, model) = (with_a_greeting(), ModelServer::start(mend_the_greeting()));
        let mut client = serve(&home, &model, dialect);
        assert_eq!(listed(&mut client), ["openoxide://threads"], "{dialect:?}");
        let result = client.call("openoxide", json!({"prompt": "Mend the greeting."}));
        let (thread_id, turn_id) = (word(&result, "thread_id"), word(&result, "turn_id"));
        let uri = format!("openoxide://threads/{thread_id}");
        assert_eq!(listed(&mut client), ["openoxide://threads", uri.as_str()]);

        let all = read_json(&mut client, "openoxide://threads");
        assert_eq!(all["threads"][0]["title"], "Mend the greeting.", "{all}");
        assert_eq!(all["threads"][0]["status"], "completed", "{all}");
        assert_eq!(all["more"], false);

        let thread = read_json(&mut client, &uri);
        let turn = &thread["turns"][0];
        assert_eq!(turn["turn_id"], turn_id.as_str(), "{thread}");
        assert_eq!(turn["prompt"], "Mend the greeting.");
        assert_eq!(turn["outcome"]["content"], "It says hello now; I ran it.");
        assert_eq!(turn["outcome"]["changes"][0]["path"], "greet.sh");

        let diff = turn["diff"].as_str().expect("an address");
        assert_eq!(diff, format!("{uri}/turns/{turn_id}/diff"));
        for address in [diff.to_owned(), format!("{uri}/diff")] {
            let content = read(&mut client, &address);
            assert_eq!(content["mimeType"], "text/x-diff", "{content}");
            let text = content["text"].as_str().expect("a diff");
            assert!(text.contains("\n-echo helo\n+echo hello\n"), "{text}");
        }
        client.close();
    }
}

#[test]
fn lists_say_how_long_they_hold_and_do_not_vary() {
    for dialect in [NEWEST_SESSION, Dialect::Inline, Dialect::Discovered] {
        let (home, model) = (Home::new(), says_done());
        let mut client = serve(&home, &model, dialect);
        for _ in 0..3 {
            client.call("openoxide", json!({"prompt": "x"}));
        }
        for (method, scope) in [
            ("resources/list", "private"),
            ("resources/templates/list", "public"),
            ("tools/list", "public"),
        ] {
            let list = client.ask(method, json!({}));
            assert_eq!(list, client.ask(method, json!({})), "{method}");
            assert!(list["ttlMs"].is_u64(), "{method}: {list}");
            assert_eq!(list["cacheScope"], scope, "{method}");
        }
        let one = client.ask("resources/read", json!({"uri": "openoxide://threads"}));
        assert_eq!(
            (&one["ttlMs"], &one["cacheScope"]),
            (&json!(0), &json!("private"))
        );
        let mut ids = home.threads();
        ids.reverse();
        let newest_first: Vec<String> = ids
            .iter()
            .map(|id| format!("openoxide://threads/{id}"))
            .collect();
        assert_eq!(listed(&mut client)[1..], newest_first);
        let templates = client.ask("resources/templates/list", json!({}));
        let templates = templates["resourceTemplates"]
            .as_array()
            .expect("templates");
        let shapes: Vec<&str> = templates
            .iter()
            .map(|template| template["uriTemplate"].as_str().expect("a shape"))
            .collect();
        assert_eq!(
            shapes,
            [
                "openoxide://threads/{thread_id}",
                "openoxide://threads/{thread_id}/diff",
                "openoxide://threads/{thread_id}/turns/{turn_id}/diff",
                "file://{path}",
                "directory://{path}",
            ]
        );
        client.close();
    }
}

#[test]
fn files_are_read_inside_the_directory_and_nowhere_else() {
    for dialect in [
        Dialect::Session("2024-11-05"),
        NEWEST_SESSION,
        Dialect::Inline,
    ] {
        let home = Home::new()
            .file("src/a b.txt", "one\n")
            .file(".env", "A_KEY=1\n")
            .file(".env.local", "A_KEY=1\n")
            .file("sub/.env/x", "A_KEY=1\n")
            .file("image.png", "\u{0}");
        let outside = home.home().join("outside.txt");
        std::fs::write(&outside, "secret").expect("a file");
        std::fs::create_dir_all(home.home().join(".ssh")).expect("a directory");
        std::fs::write(home.home().join(".ssh/id"), "secret").expect("a file");
        std::fs::write(home.project().join("image.png"), [0x89, b'P', 0xff]).expect("a file");
        symlink("src/a b.txt", home.project().join("inside")).expect("a link");
        symlink(&outside, home.project().join("out")).expect("a link");
        symlink(".env", home.project().join("harmless")).expect("a link");
        let pipe = home.project().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
            .expect("a pipe");
        let model = says_done();
        let mut client = serve(&home, &model, dialect);
        let project = home.project().to_string_lossy().into_owned();
        for uri in [
            format!("file://{project}/src/a%20b.txt"),
            format!("file://localhost{project}/src/a b.txt"),
            format!("file://{project}/src/../inside"),
            "file://src/a%20b.txt".to_owned(),
        ] {
            assert_eq!(read_text(&mut client, &uri), "one\n", "{uri}");
        }
        let image = read(&mut client, "file://image.png");
        assert_eq!(
            (&image["mimeType"], &image["blob"]),
            (&json!("image/png"), &json!("iVD/"))
        );
        let state = home.state().join("threads");
        let refusals: Vec<String> = [
            format!("file://{}", outside.display()),
            format!("file://{project}/out"),
            format!("file://{project}/../home/outside.txt"),
            format!("file://{project}/nothing"),
            format!("file://{project}/.env"),
            format!("file://{project}/.env.local"),
            format!("file://{project}/sub/.env/x"),
            format!("file://{project}/harmless"),
            format!("file://{project}/src"),
            format!("file://{project}/pipe"),
            "file:///etc/passwd".to_owned(),
            "file:///proc/self/environ".to_owned(),
            format!("file://{}/.ssh/id", home.home().display()),
            format!("file://{}", state.display()),
            format!("directory://{}", state.display()),
            format!("directory://{project}/.."),
            format!("directory://{project}/src/a%20b.txt"),
        ]
        .iter()
        .map(|uri| {
            let words = refused(&mut client, dialect, uri);
            words.split_once("`: ").expect("a reason").1.to_owned()
        })
        .collect();
        // What is there and what is not cannot be told apart from outside.
        assert!(
            refusals.iter().all(|words| *words == refusals[0]),
            "{refusals:#?}"
        );
        client.close();
    }
}

#[test]
fn a_directory_shows_its_entries_with_nothing_hidden_in_their_names() {
    let home = Home::new()
        .file("b.txt", "12345")
        .file(".env", "A_KEY=1\n")
        .file("sub/x", "");
    std::fs::write(home.project().join("a\u{202e}\n.txt"), "").expect("a file");
    symlink("/etc", home.project().join("link")).expect("a link");
    let model = says_done();
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let list = read_json(&mut client, "directory://.");
    let entries = list["entries"].as_array().expect("entries");
    let shown: Vec<(&str, &str)> = entries
        .iter()
        .map(|entry| {
            (
                entry["name"].as_str().expect("a name"),
                entry["kind"].as_str().expect("a kind"),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("a\\u{202e}\\u{a}.txt", "file"),
            ("b.txt", "file"),
            ("link", "symlink"),
            ("sub", "directory")
        ]
    );
    assert_eq!(entries[1]["size"], 5);
    for entry in [&entries[0], &entries[1]] {
        let uri = entry["uri"].as_str().expect("an address");
        read_text(&mut client, uri);
    }
    client.close();
}

#[test]
fn a_file_that_is_too_long_is_refused_with_its_size() {
    let home = Home::new().file("long.txt", &"x".repeat(2_000_000));
    let model = says_done();
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let words = refused(&mut client, NEWEST_SESSION, "file://long.txt");
    assert!(words.contains("2000000 bytes"), "{words}");
    client.close();
}

#[test]
fn only_threads_of_the_servers_directories_are_listed_and_others_are_shown_by_name() {
    let home = Home::new().file("other/x", "").file("own/x", "");
    let model = says_done();
    let mut elsewhere = home.openoxide_with(&model, &["mcp-server"]);
    elsewhere.current_dir(home.project().join("other"));
    let mut other = Client::start(elsewhere, NEWEST_SESSION);
    let result = other.call("openoxide", json!({"prompt": "x"}));
    let uri = format!("openoxide://threads/{}", word(&result, "thread_id"));
    other.close();

    let own = home.project().join("own");
    let own = own.to_str().expect("UTF-8");
    for (arguments, by_name) in [
        (vec!["mcp-server", "--cwd", own], true),
        (vec!["mcp-server", "--cwd", own, "--root", own], false),
    ] {
        for dialect in [NEWEST_SESSION, Dialect::Inline] {
            let mut client = Client::start(home.openoxide_with(&model, &arguments), dialect);
            assert!(!listed(&mut client).contains(&uri), "{arguments:?}");
            if by_name {
                assert_eq!(read_json(&mut client, &uri)["turns"][0]["prompt"], "x");
                read(&mut client, &format!("{uri}/diff"));
                let there = home.project().join("other");
                client.call("openoxide", json!({"prompt": "y", "cwd": there}));
                assert!(
                    listed(&mut client).contains(&uri),
                    "it was called with that directory"
                );
            } else {
                let foreign = refused(&mut client, dialect, &uri);
                let absent = uri.replace(&uri[uri.len() - 6..], "ffffff");
                let absent_words = refused(&mut client, dialect, &absent);
                assert_eq!(foreign.replace(&uri, ""), absent_words.replace(&absent, ""));
                refused(&mut client, dialect, &format!("{uri}/diff"));
            }
            client.close();
        }
    }
}

#[test]
fn what_is_no_address_is_refused_in_the_clients_words() {
    for dialect in DIALECTS {
        let (home, model) = (Home::new(), says_done());
        let mut client = serve(&home, &model, dialect);
        for uri in [
            "",
            "nonsense",
            "https://example.com",
            "openoxide://threads/last",
            "openoxide://threads/01990000-0000-7000-8000-000000000001",
            "openoxide://threads/01990000-0000-7000-8000-000000000001/turns/x/diff",
            "file://a\u{202e}b",
        ] {
            let words = refused(&mut client, dialect, uri);
            assert!(!words.contains('\u{202e}'), "{words}");
        }
        let id = client.request("resources/list", json!({"cursor": "nonsense"}));
        assert_eq!(client.answer(id)["error"]["code"], -32602);
        client.close();
    }
}

#[test]
fn many_threads_come_a_page_at_a_time() {
    let (home, model) = (Home::new(), says_done());
    let mut client = serve(&home, &model, NEWEST_SESSION);
    client.call("openoxide", json!({"prompt": "x"}));
    let made = home.threads().remove(0);
    let text = std::fs::read_to_string(home.rollout_file(&made)).expect("a rollout");
    for number in 0..250 {
        let id = format!("01990000-0000-7000-8000-{number:012}");
        let file = home.rollout_file(&id);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, text.replace(&made, &id)).expect("a rollout");
    }
    let (mut uris, mut params) = (Vec::new(), json!({}));
    loop {
        let page = client.ask("resources/list", params);
        let resources = page["resources"].as_array().expect("resources");
        assert!(resources.len() <= 101, "{}", resources.len());
        uris.extend(resources.iter().map(|one| one["uri"].to_string()));
        let Some(cursor) = page["nextCursor"].as_str() else {
            break;
        };
        params = json!({"cursor": cursor});
    }
    assert_eq!(uris.len(), 252);
    let threads = &uris[1..];
    assert!(
        threads.is_sorted_by(|a, b| a > b),
        "newest first, each once"
    );
    assert_eq!(read_json(&mut client, "openoxide://threads")["more"], true);
    client.close();
}

#[test]
fn a_running_turn_is_shown_as_running() {
    let script = vec![shell("c1", "sleep 20"), Reply::text("done")];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let result = client.call("openoxide", json!({"prompt": "x", "wait_seconds": 0}));
    let uri = format!("openoxide://threads/{}", word(&result, "thread_id"));
    let thread = read_json(&mut client, &uri);
    assert_eq!(thread["turns"][0]["status"], "running", "{thread}");
    let all = read_json(&mut client, "openoxide://threads");
    assert_eq!(all["threads"][0]["status"], "running", "{all}");
    client.close();
    let mut again = serve(&home, &model, NEWEST_SESSION);
    let thread = read_json(&mut again, &uri);
    assert_eq!(
        thread["turns"][0]["outcome"]["status"], "interrupted",
        "{thread}"
    );
    again.close();
}

#[test]
fn a_new_thread_is_announced_to_every_session() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let (home, model) = (Home::new(), says_done());
        let mut client = serve(&home, &model, Dialect::Session(version));
        assert_eq!(
            client.greeting["capabilities"]["resources"]["listChanged"],
            true
        );
        client.assert_never_heard(CHANGED);
        client.call("openoxide", json!({"prompt": "x"}));
        client.until("the list changed", |message| message["method"] == CHANGED);
        client.call(
            "openoxide-reply",
            json!({"thread_id": "last", "prompt": "y"}),
        );
        client.assert_never_heard(CHANGED);
        client.call("openoxide-query", json!({"query": "z"}));
        client.until("the list changed", |message| message["method"] == CHANGED);
        client.close();
    }
}

#[test]
fn a_subscription_hears_of_new_threads_and_of_nothing_after_it_ends() {
    for dialect in [Dialect::Inline, Dialect::Discovered] {
        let (home, model) = (Home::new(), says_done());
        let mut client = serve(&home, &model, dialect);
        client.call("openoxide", json!({"prompt": "before"}));
        client.assert_never_heard(CHANGED);
        let wanted =
            json!({"notifications": {"resourcesListChanged": true, "toolsListChanged": true}});
        let id = client.request("subscriptions/listen", wanted);
        let accepted = client.until("the acknowledgement", |message| {
            message["method"] == "notifications/subscriptions/acknowledged"
        });
        let kinds = &accepted["params"]["notifications"];
        assert_eq!(*kinds, json!({"resourcesListChanged": true}), "{accepted}");
        client.call("openoxide", json!({"prompt": "x"}));
        let told = client.until("the list changed", |message| message["method"] == CHANGED);
        let subscription = &told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
        assert_eq!(*subscription, id, "{told}");
        client.cancel(id, None);
        client.lives();
        client.call("openoxide", json!({"prompt": "after"}));
        client.assert_never_heard(CHANGED);
        client.close();
    }
}

/// Watches `uris`, in the way of the client's generation; gives those that are accepted, and the id that ends it.
fn watch(client: &mut Client, dialect: Dialect, uris: &[&str]) -> (Vec<String>, u64) {
    if dialect.is_modern() {
        let filter = json!({"notifications": {"resourceSubscriptions": uris}});
        let id = client.request("subscriptions/listen", filter);
        let accepted = told(client, "notifications/subscriptions/acknowledged");
        let accepted = accepted["params"]["notifications"]["resourceSubscriptions"]
            .as_array()
            .cloned();
        let accepted = accepted.unwrap_or_default();
        return (
            accepted
                .iter()
                .map(|uri| uri.as_str().expect("a uri").to_owned())
                .collect(),
            id,
        );
    }
    let taken = uris.iter().filter(|uri| {
        let id = client.request("resources/subscribe", json!({"uri": uri}));
        client.answer(id).get("result").is_some()
    });
    (taken.map(|uri| (*uri).to_owned()).collect(), 0)
}

#[test]
fn a_thread_cannot_be_subscribed_to_and_the_refusal_says_why() {
    let (home, model) = (Home::new(), ModelServer::start(vec![Reply::text("Done.")]));
    let mut client = serve(&home, &model, NEWEST_SESSION);
    let result = client.call("openoxide", json!({"prompt": "x"}));
    let thread = format!("openoxide://threads/{}", word(&result, "thread_id"));
    for uri in ["openoxide://threads", &thread, &format!("{thread}/diff")] {
        client.ask("resources/read", json!({"uri": uri}));
        let id = client.request("resources/subscribe", json!({"uri": uri}));
        let error = client.answer(id)["error"].clone();
        assert_eq!(error["code"], -32602, "{error}");
        let why = error["message"].as_str().expect("a reason");
        assert!(why.contains("only files and directories"), "{why}");
    }
    client.close();
}

/// The next notification of this method.
fn told(client: &mut Client, method: &str) -> Value {
    client.until(method, |message| message["method"] == method)
}

const UPDATED: &str = "notifications/resources/updated";

/// The address of the next resource that is told to have changed.
fn updated(client: &mut Client) -> String {
    let told = told(client, UPDATED);
    told["params"]["uri"].as_str().expect("a uri").to_owned()
}

#[test]
fn who_watches_a_file_is_told_when_it_changes_and_nobody_else() {
    for dialect in [
        Dialect::Session("2024-11-05"),
        NEWEST_SESSION,
        Dialect::Inline,
        Dialect::Discovered,
    ] {
        let (home, model) = (
            Home::new()
                .file("a.txt", "one")
                .file("sub/b.txt", "two")
                .file(".env", "x"),
            says_done(),
        );
        let mut client = serve(&home, &model, dialect);
        let uris = [
            "file://a.txt",
            "directory://sub",
            "file://.env",
            "file:///etc/passwd",
            "openoxide://threads",
        ];
        let (accepted, subscription) = watch(&mut client, dialect, &uris);
        assert_eq!(accepted, uris[..2], "{dialect:?}");
        let home = home.file("a.txt", "other");
        assert_eq!(updated(&mut client), "file://a.txt", "{dialect:?}");
        let home = home.file("sub/c.txt", "");
        assert_eq!(updated(&mut client), "directory://sub", "{dialect:?}");
        match dialect.is_modern() {
            true => client.cancel(subscription, None),
            false => {
                for uri in accepted {
                    client.ask("resources/unsubscribe", json!({"uri": uri}));
                }
            }
        }
        let home = home.file("a.txt", "again").file("sub/d.txt", "");
        // Another one is watched meanwhile, so that silence is not only slowness.
        let (_, _) = watch(&mut client, dialect, &["file://sub/b.txt"]);
        let home = home.file("sub/b.txt", "last");
        assert_eq!(updated(&mut client), "file://sub/b.txt", "{dialect:?}");
        assert_eq!(home.read("a.txt"), "again");
        client.close();
    }
}

#[test]
fn a_session_watches_no_more_than_so_many() {
    let (home, model) = (Home::new(), says_done());
    let mut client = serve(&home, &model, NEWEST_SESSION);
    for n in 0..256 {
        client.ask(
            "resources/subscribe",
            json!({"uri": format!("file://{n}.txt")}),
        );
    }
    let id = client.request("resources/subscribe", json!({"uri": "file://more.txt"}));
    let refused = client.answer(id);
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    client.ask("resources/unsubscribe", json!({"uri": "file://3.txt"}));
    client.ask("resources/subscribe", json!({"uri": "file://more.txt"}));
    client.close();
}

#[test]
fn paths_are_completed_inside_the_directory_and_nowhere_else() {
    for dialect in [NEWEST_SESSION, Dialect::Inline] {
        let home = Home::new()
            .file("src/main.rs", "")
            .file("src/more/x.rs", "")
            .file("src/.env", "")
            .file("src/.hidden", "")
            .file("setup.py", "");
        let outside = tempfile::tempdir().expect("a directory");
        symlink(outside.path(), home.project().join("src/moved")).expect("a link");
        let model = says_done();
        let mut client = serve(&home, &model, dialect);
        let mut complete = |template: &str, value: &str| {
            let asked = json!({"ref": {"type": "ref/resource", "uri": template}, "argument": {"name": "path", "value": value}});
            client.ask("completion/complete", asked)["completion"]["values"].clone()
        };
        let file = "file://{path}";
        assert_eq!(
            complete(file, "s"),
            json!(["setup.py", "src/"]),
            "{dialect:?}"
        );
        assert_eq!(complete(file, "src/m"), json!(["src/main.rs", "src/more/"]));
        assert_eq!(complete("directory://{path}", "src/"), json!(["src/more/"]));
        assert_eq!(complete(file, "src/."), json!(["src/.hidden"]));
        let absolute = format!(
            "{}/se",
            home.project().canonicalize().expect("there").display()
        );
        assert_eq!(
            complete(file, &absolute),
            json!([format!("{absolute}tup.py")])
        );
        for elsewhere in ["/", "/etc/", "../", "src/moved/", "nowhere/x"] {
            assert_eq!(complete(file, elsewhere), json!([]), "{elsewhere}");
        }
        assert_eq!(complete("openoxide://threads/{thread_id}", "0"), json!([]));
        client.close();
    }
}
