//! Who gets in: the right name, no web page, a token; and what the others see.

use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;

use super::A_MOMENT;
use crate::support::{
    client::{DIALECTS, Dialect, NEWEST_SESSION, outcome, word},
    home::{Home, PATIENCE, eventually, run},
    model_server::{ModelServer, Reply},
    web::{ANA, BOB, Frame, Service, Wire},
};

const PATHS: [&str; 5] = ["/mcp", "/ws", "/healthz", "/metrics", "/anything"];

#[test]
fn other_names_web_pages_and_strangers_get_nowhere_on_any_path() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let service = Service::start(&home, &model, &["--public-host", "agents.example"]);
    let (ours, token) = (
        format!("Host: {}", service.address),
        format!("Authorization: Bearer {ANA}"),
    );
    let port = service
        .address
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    for path in PATHS {
        for method in ["GET", "POST", "OPTIONS", "DELETE"] {
            let line = format!("{method} {path} HTTP/1.1");
            let with = |headers: &[&str]| service.exchange(&[&[&*line], headers].concat(), None);
            let rebound = format!("Host: evil.example:{port}");
            for foreign in [&*rebound, "Host: localhost", "Host: 127.0.0.1:1"] {
                let refused = with(&[foreign, &token]);
                assert_eq!(refused.status, 403, "{line} {foreign}");
                assert_eq!(refused.header("access-control-allow-origin"), None);
            }
            assert_eq!(with(&[&ours, &ours, &token]).status, 400, "{line}");
            let own_page = format!("Origin: http://{}", service.address);
            for page in ["Origin: http://evil.example", "Origin: null", &own_page] {
                let refused = with(&[&ours, &token, page]);
                assert_eq!(refused.status, 403, "{line} {page}");
                assert_eq!(refused.header("access-control-allow-origin"), None);
            }
        }
        let strangers: [&[&str]; 5] = [
            &[],
            &["Authorization: Bearer wrong"],
            &["Authorization: Basic YTpi"],
            &[&token, &token],
            &["Cookie: token=x"],
        ];
        for stranger in strangers.iter().filter(|_| path != "/healthz") {
            let refused = service.get(path, stranger);
            assert_eq!(refused.status, 401, "{path} {stranger:?}");
            let challenge = refused.header("www-authenticate").expect("a challenge");
            assert!(challenge.starts_with("Bearer"), "{challenge}");
        }
    }
    let in_query = format!("/mcp?access_token={ANA}&token={ANA}");
    assert_eq!(service.get(&in_query, &[]).status, 401);
    let public = service.exchange(&["GET /healthz HTTP/1.1", "Host: agents.example"], None);
    assert_eq!((public.status, public.body().as_str()), (200, "ok\n"));
    assert_eq!(service.get("/anything", &[&token]).status, 404);
    service.stop();
}

#[test]
fn a_refusal_waits_for_no_body() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let service = Service::start(&home, &model, &[]);
    let began = Instant::now();
    let (ours, length) = (
        format!("Host: {}", service.address),
        "Content-Length: 1000000",
    );
    for (lines, status) in [
        (["POST /mcp HTTP/1.1", "Host: evil.example", length], 403),
        (["POST /mcp HTTP/1.1", &ours, length], 401),
    ] {
        assert_eq!(service.exchange(&lines, None).status, status);
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    service.stop();
}

#[test]
fn a_server_without_tokens_makes_one_that_only_its_user_can_read() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let flags = ["mcp-server", "--http", "127.0.0.1:0"];
    let service = Service::run(home.openoxide_with(&model, &flags));
    let path = home.state().join("http.token");
    assert!(
        service.errors().contains(&*path.to_string_lossy()),
        "{}",
        service.errors()
    );
    let mode = std::fs::metadata(&path)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).expect("a token");
    // What `$(cat …/http.token)` gives.
    let token = text.trim_end_matches('\n').to_owned();
    assert!(token.len() >= 32 && !service.errors().contains(&token));
    for dialect in DIALECTS {
        let visitor = service.visitor(&token, dialect, json!({}));
        let tools = visitor.begin("tools/list", json!({})).result();
        assert_eq!(tools["tools"].as_array().map(Vec::len), Some(3));
    }
    assert_eq!(service.get("/mcp", &[]).status, 401);
    service.stop();
}

#[test]
fn only_a_loopback_address_does_without_tokens() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let open = ["mcp-server", "--no-auth", "--http"];
    let refused = run(home.openoxide_with(&model, &[&open[..], &["0.0.0.0:0"]].concat()));
    assert!(
        refused
            .expect(2)
            .stderr
            .contains("`--no-auth` is for a loopback address")
    );
    let service =
        Service::run(home.openoxide_with(&model, &[&open[..], &["127.0.0.1:0"]].concat()));
    assert!(
        service.errors().contains("warning: --no-auth"),
        "{}",
        service.errors()
    );
    let caller = service.caller("nobody-s-token");
    assert_eq!(caller.begin("tools/list", json!({})).status, 200);
    let host = "Host: evil.example";
    assert_eq!(
        service.exchange(&["GET /mcp HTTP/1.1", host], None).status,
        403
    );
    service.stop();
}

#[test]
fn a_changed_token_file_counts_for_the_next_request_and_for_open_connections() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let file = home.home().join("tokens");
    std::fs::write(&file, format!("# ours\nana:{ANA}\nbob:{BOB}\n")).expect("a file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let place = home.home().join("places");
    let flags = [
        "mcp-server",
        "--http",
        "127.0.0.1:0",
        "--token-file",
        &file.to_string_lossy(),
        "--workspaces",
        &place.to_string_lossy(),
    ];
    let service = Service::run(home.openoxide_with(&model, &flags));
    let listed = |token: &str| {
        // One that is refused has no event.
        service.caller(token).begin("tools/list", json!({})).status
    };
    assert_eq!((listed(ANA), listed(BOB)), (200, 200));
    let mut wire = Wire::open(&service);
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    assert_eq!(wire.ask(&hello)["id"], 1);
    std::fs::write(&file, format!("bob:{BOB}\n")).expect("a file");
    assert_eq!((listed(ANA), listed(BOB)), (401, 200));
    let closed = loop {
        match wire.next() {
            Frame::Text(_) | Frame::Ping => {}
            ended => break ended,
        }
    };
    assert!(matches!(closed, Frame::Close | Frame::Gone));
    service.stop();
}

#[test]
fn a_tenant_whose_token_came_back_finds_the_turn_that_runs() {
    let script = vec![
        Reply::call(
            "c1",
            "shell",
            json!({"command": "until [ -e enough ]; do sleep 0.05; done"}),
        ),
        Reply::text("It was enough."),
    ];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let file = home.home().join("tokens");
    let write = |tokens: &str| std::fs::write(&file, tokens).expect("a file");
    write(&format!("ana:{ANA}\n"));
    let named = file.to_string_lossy();
    let flags = [
        "mcp-server",
        "--http",
        "127.0.0.1:0",
        "--token-file",
        &*named,
    ];
    let service = Service::run(home.openoxide_with(&model, &flags));
    let client = service.caller(ANA);
    let begun = json!({"prompt": "x", "wait_seconds": 0});
    let thread = word(&client.call("openoxide", begun).result(), "thread_id");
    write(&format!("bob:{BOB}\n"));
    assert_eq!(client.begin("tools/list", json!({})).status, 401);
    write(&format!("ana:{ANA}\n"));
    std::fs::write(home.project().join("enough"), "").expect("a file");
    let waited = client
        .call("openoxide-reply", json!({"thread_id": thread}))
        .result();
    assert_eq!(word(&waited, "content"), "It was enough.", "{waited}");
    service.stop();
}

#[test]
fn what_was_opened_with_a_token_ends_with_it_though_its_tenant_has_another() {
    const NEXT: &str = "next-token-0123456789abcdef";
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let file = home.home().join("tokens");
    let write = |tokens: &[&str]| {
        let lines: String = tokens
            .iter()
            .map(|token| format!("ana:{token}\n"))
            .collect();
        std::fs::write(&file, lines).expect("a file");
    };
    write(&[ANA, NEXT]);
    let file_named = file.to_string_lossy();
    let flags = [
        "mcp-server",
        "--http",
        "127.0.0.1:0",
        "--token-file",
        &file_named,
    ];
    let service = Service::run(home.openoxide_with(&model, &flags));
    let mut wire = Wire::open(&service);
    let sessions = [ANA, NEXT].map(|token| service.visitor(token, NEWEST_SESSION, json!({})));
    let [mut stolen, mut kept] = sessions.each_ref().map(|session| session.listen());
    assert_eq!((stolen.status, kept.status), (200, 200));
    write(&[NEXT]);
    let began = Instant::now();
    // One that is not ended has a comment every now and then.
    while began.elapsed() < PATIENCE / 2 && stolen.line().is_some() {}
    let closed = loop {
        match wire.next() {
            Frame::Text(_) | Frame::Ping => {}
            ended => break ended,
        }
    };
    assert!(matches!(closed, Frame::Close | Frame::Gone));
    assert!(
        began.elapsed() < PATIENCE / 2,
        "they were ended, and not given up"
    );
    // Whoever holds the other token notices nothing.
    assert_eq!(sessions[1].begin("ping", json!({})).status, 200);
    kept.patience(A_MOMENT);
    let began = Instant::now();
    while kept.line().is_some() {}
    assert!(began.elapsed() >= A_MOMENT, "it has ended");
    service.stop();
}

#[test]
fn whoever_only_connects_leaves_files_for_the_work() {
    let (home, model) = (Home::new(), ModelServer::start(super::a_file()));
    let mut command = home.openoxide_with(&model, &["mcp-server", "--http", "127.0.0.1:0"]);
    command.env("OPENOXIDE_TOKENS", format!("ana:{ANA}"));
    let service = Service::run(with_files(160, &command));
    let mut wire = Wire::open(&service);
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "it", "version": "1"}});
    wire.ask(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}));
    wire.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let strangers: Vec<_> = (0..200).map(|_| service.connect()).collect();
    let params = json!({"name": "openoxide", "arguments": {"prompt": "Make it."}});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params});
    let done = wire.ask(&call);
    let came_to = outcome(&done["result"]);
    assert_eq!(came_to["status"], "completed", "{done}");
    assert!(came_to.get("not_kept").is_none(), "{done}");
    assert_eq!(home.read("made.txt"), "hello\n");
    drop(strangers);
    service.stop();
}

/// The same command where a process may have so many files open.
fn with_files(most: usize, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    limited
}

#[test]
fn the_numbers_of_a_tenant_are_for_its_token_and_count_what_it_did() {
    let (home, model) = (Home::new(), ModelServer::start(super::a_file()));
    let service = Service::start(
        &home,
        &model,
        &["-c", "server.tenants.ana.all_metrics=true"],
    );
    let token = format!("Authorization: Bearer {ANA}");
    let arguments = json!({"prompt": "Make it.", "approval_policy": "untrusted"});
    let able = json!({"elicitation": {}});
    let client = service.visitor(ANA, crate::support::client::NEWEST_SESSION, able);
    let mut call = client.call("openoxide", arguments);
    let asked = call.until(|message| message["method"] == "elicitation/create");
    let yes = json!({"action": "accept", "content": {"decision": "approve"}});
    client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": yes}));
    call.result();
    assert_eq!(service.get("/metrics", &[]).status, 401);
    let shown = service.get("/metrics", &[&token]);
    assert_eq!(
        shown.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let page = shown.body();
    for line in [
        "openoxide_threads{tenant=\"ana\"} 1",
        "openoxide_turns_running{tenant=\"ana\"} 0",
        "openoxide_turns_total{tenant=\"ana\",status=\"completed\"} 1",
        "openoxide_steps_total{tenant=\"ana\"} 2",
        "openoxide_tool_calls_total{tenant=\"ana\",tool=\"write_file\"} 1",
        "openoxide_approvals_asked_total{tenant=\"ana\"} 1",
        "openoxide_approvals_total{tenant=\"ana\",decision=\"approve\"} 1",
        "openoxide_approval_wait_seconds_count{tenant=\"ana\"} 1",
        "openoxide_model_seconds_count{tenant=\"ana\"} 2",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    service.stop();
}

#[test]
fn a_token_never_reaches_a_command_or_a_log() {
    use crate::support::model_server::Reply;
    let shows = json!({"command": "env; cat /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n'"});
    let script = vec![Reply::call("e", "shell", shows), Reply::text("Done.")];
    let (home, model) = (Home::new(), ModelServer::start(script));
    let service = Service::start(&home, &model, &[]);
    service
        .caller(ANA)
        .call("openoxide", json!({"prompt": "Show."}))
        .result();
    let told = model.requests().last().expect("a request").body.to_string();
    assert!(
        told.contains("OPENOXIDE_DEPTH") && !told.contains(ANA),
        "{told}"
    );
    assert!(!service.errors().contains(ANA), "{}", service.errors());
    service.stop();
}

#[test]
fn a_head_that_never_ends_is_not_waited_for_by_others() {
    let (home, model) = (Home::new(), ModelServer::start(Vec::new()));
    let service = Service::start(&home, &model, &[]);
    let held: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = service.connect();
            stream
                .write_all(b"POST /mcp HTTP/1.1\r\nHost: ")
                .expect("it reads");
            stream
        })
        .collect();
    let began = Instant::now();
    assert_eq!(
        service
            .visitor(ANA, Dialect::Inline, json!({}))
            .begin("tools/list", json!({}))
            .status,
        200
    );
    assert!(began.elapsed() < PATIENCE / 2);
    drop(held);
    let large = format!("X-Large: {}", "x".repeat(1_000_000));
    eventually("a head that is too large is refused", || {
        matches!(service.get("/healthz", &[&large]).status, 431 | 400 | 0)
    });
    service.stop();
}
