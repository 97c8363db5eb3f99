//! A server where a person signs in: once, in a browser, and without them from then on.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::{Value, json};

use super::{calling, outputs, run, task};
use crate::support::{
    home::{Home, Ran},
    outside,
};

/// A server with what gives tokens for it, both at one address; one request a connection.
#[derive(Clone)]
struct Provider {
    base: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What is taken now; the number is that of the last one given.
    good: Option<String>,
    given: usize,
    scopes: String,
    refresh: String,
    /// What came to each of its pages, in order: the path and what was sent.
    seen: Vec<(String, String)>,
    /// Another issuer than its own is named when the browser is sent back.
    lies: bool,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let provider = Self {
            base,
            state: Arc::default(),
        };
        let serving = provider.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let provider = serving.clone();
                // A client that goes away in the middle is its own affair.
                std::thread::spawn(move || drop(provider.answer(stream)));
            }
        });
        provider
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// What was sent to `path`, in order.
    fn sent(&self, path: &str) -> Vec<String> {
        let state = self.state();
        let to = state.seen.iter().filter(|(page, _)| page == path);
        to.map(|(_, sent)| sent.clone()).collect()
    }

    fn home(&self, more: &str) -> Home {
        let base = &self.base;
        Home::new().config(&format!(
            "[mcp_servers.net]\nurl = '{base}/mcp'\nauto = ['*']\n{more}\n"
        ))
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let field = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
            values.next().map(|(_, value)| value.to_owned())
        };
        let length = field("content-length").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8(body).expect("text");
        let target = head.split(' ').nth(1).expect("a target").to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let sent = if query.is_empty() { &*body } else { query };
        self.state().seen.push((path.to_owned(), sent.to_owned()));
        let (status, more, answer) = self.page(path, sent, field("authorization"));
        let length = answer.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{more}content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
        )
    }

    fn page(&self, path: &str, sent: &str, shown: Option<String>) -> (&str, String, String) {
        let base = &self.base;
        let found = |answer: Value| ("200 OK", String::new(), answer.to_string());
        match path {
            "/.well-known/oauth-protected-resource/mcp" => {
                found(json!({"resource": format!("{base}/mcp"), "authorization_servers": [base]}))
            }
            "/.well-known/oauth-authorization-server" => found(json!({
                "issuer": base, "authorization_endpoint": format!("{base}/authorize"),
                "token_endpoint": format!("{base}/token"), "registration_endpoint": format!("{base}/register"),
                "code_challenge_methods_supported": ["S256"], "token_endpoint_auth_methods_supported": ["none"],
                "authorization_response_iss_parameter_supported": true,
            })),
            "/register" => found(json!({"client_id": "c-1"})),
            "/authorize" => {
                let mut state = self.state();
                state.scopes = parameter(sent, "scope").unwrap_or_default();
                let issuer = if state.lies { "http://evil" } else { base };
                let back = parameter(sent, "redirect_uri").expect("where to go back to");
                let known = parameter(sent, "state").expect("a state");
                let back = format!("location: {back}?code=c0de&state={known}&iss={issuer}\r\n");
                ("302 Found", back, String::new())
            }
            "/token" => self.token(sent),
            "/mcp" => self.served(sent, shown),
            _ => ("404 Not Found", String::new(), String::new()),
        }
    }

    fn token(&self, sent: &str) -> (&str, String, String) {
        let mut state = self.state();
        let proof = parameter(sent, "refresh_token");
        if proof.is_some_and(|proof| proof != state.refresh) {
            let error = json!({"error": "invalid_grant", "error_description": "it is used up"});
            return ("400 Bad Request", String::new(), error.to_string());
        }
        state.given += 1;
        let token = format!("token-{}-0123456789", state.given);
        state.refresh = format!("refresh-{}-0123456789", state.given);
        state.good = Some(token.clone());
        let answer = json!({
            "access_token": token, "token_type": "bearer", "expires_in": 3600,
            "refresh_token": state.refresh, "scope": state.scopes,
        });
        ("200 OK", String::new(), answer.to_string())
    }

    fn served(&self, sent: &str, shown: Option<String>) -> (&str, String, String) {
        let state = self.state();
        let good = state.good.as_ref().map(|token| format!("Bearer {token}"));
        if good.is_none() || shown != good {
            let wanted = "www-authenticate: Bearer scope=\"read\"\r\n".to_owned();
            return ("401 Unauthorized", wanted, String::new());
        }
        let message: Value = serde_json::from_str(sent).unwrap_or_default();
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "net", "version": "1"},
            }),
            Some("tools/list") => {
                json!({"tools": [outside::tool("echo", "Echoes."), outside::tool("change", "Writes.")]})
            }
            Some("tools/call")
                if message["params"]["name"] == "change" && !state.scopes.contains("write") =>
            {
                let wanted =
                    "www-authenticate: Bearer error=\"insufficient_scope\", scope=\"write\"\r\n";
                return ("403 Forbidden", wanted.to_owned(), String::new());
            }
            Some("tools/call") => {
                let text = format!("done with {}", shown.unwrap_or_default());
                json!({"content": [{"type": "text", "text": text}]})
            }
            Some(_) => return ("202 Accepted", String::new(), String::new()),
            None => return ("405 No", String::new(), String::new()),
        };
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        ("200 OK", String::new(), answer.to_string())
    }
}

/// What `form` says under `name`.
fn parameter(form: &str, name: &str) -> Option<String> {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    let value = value.replace('+', " ").replace("%20", " ");
    Some(value.replace("%3A", ":").replace("%2F", "/"))
}

/// The head of the answer to a browser that goes to `address`.
fn visited(address: &str) -> String {
    let (host, path) = address
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .expect("an address");
    let mut stream = TcpStream::connect(host).expect("somebody listens");
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\n\r\n").expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Signs in as a person would; `first` is tried at our page before the browser comes back.
fn sign_in(home: &Home, first: Option<&str>) -> Ran {
    let mut command = home.openoxide(&["mcp", "login", "net"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    let address = loop {
        let mut line = String::new();
        if stderr.read_line(&mut line).expect("text") == 0 {
            break None;
        }
        said.push_str(&line);
        if line.starts_with("http://") {
            break Some(line.trim().to_owned());
        }
    };
    if let Some(address) = address {
        if let Some(first) = first {
            let page = parameter(address.split_once('?').expect("a query").1, "redirect_uri");
            let answer = visited(&format!("{}?{first}", page.expect("a page")));
            assert!(answer.contains("not the answer"), "{answer}");
        }
        let sent_back = visited(&address);
        let back = sent_back
            .lines()
            .find_map(|line| line.strip_prefix("location: "));
        visited(back.expect("sent back"));
    }
    stderr.read_to_string(&mut said).expect("text");
    let ended = child.wait_with_output().expect("it ends");
    Ran {
        code: ended.status.code(),
        stdout: String::from_utf8(ended.stdout).expect("text"),
        stderr: said,
    }
}

#[test]
fn a_person_signs_in_once_and_the_token_is_renewed_without_them() {
    let provider = Provider::start();
    let home = provider.home("");
    let before = run(task(&home, &calling(&[]), &[])).expect(0);
    assert!(
        before.stderr.contains("`openoxide mcp login net`"),
        "{}",
        before.stderr
    );
    let done = sign_in(&home, Some("code=stolen&state=guessed")).expect(0);
    assert!(done.stdout.contains("net__echo"), "{}", done.stdout);
    let exchanged = provider.sent("/token").remove(0);
    for part in [
        "grant_type=authorization_code",
        "code=c0de",
        "code_verifier=",
        "client_id=c-1",
    ] {
        assert!(exchanged.contains(part), "{exchanged}");
    }
    let resource = format!("{}/mcp", provider.base);
    assert_eq!(parameter(&exchanged, "resource").as_ref(), Some(&resource));
    let asked = provider.sent("/authorize").remove(0);
    assert_eq!(parameter(&asked, "scope").as_deref(), Some("read"));
    assert_eq!(
        parameter(&asked, "code_challenge_method").as_deref(),
        Some("S256")
    );
    // Used from now on, and where it is refused it is renewed, once for all.
    for (given, refused) in [(1, false), (2, true), (2, false)] {
        if refused {
            provider.state().good = None;
        }
        let model = calling(&[("net__echo", json!({}))]);
        let ran = run(task(&home, &model, &[])).expect(0);
        assert!(
            outputs(&model)[0].contains("done with"),
            "{:?} {}",
            outputs(&model),
            ran.stderr
        );
        assert_eq!(provider.state().given, given);
        // The server says what it was shown: only a token that was renewed in this very process is not known as one.
        let shown = outputs(&model)[0].contains("0123456789");
        assert!(!shown || refused, "{:?}", outputs(&model));
    }
    provider.state().good = None;
    provider.state().refresh.clear();
    let model = calling(&[("net__echo", json!({}))]);
    let over = run(task(&home, &model, &[])).expect(0);
    let output = &outputs(&model)[0];
    assert!(output.contains("`openoxide mcp login net`"), "{output}");
    assert!(over.stderr.contains("it is used up"), "{}", over.stderr);
}

#[test]
fn a_grant_is_for_its_user_alone_and_is_forgotten_when_they_say_so() {
    let provider = Provider::start();
    let home = provider.home("");
    sign_in(&home, None).expect(0);
    let grants = home.state().join("mcp/grants");
    let kept: Vec<_> = std::fs::read_dir(&grants)
        .expect("a directory")
        .flatten()
        .collect();
    assert!(!kept.is_empty());
    for file in kept {
        let mode = file.metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file:?}");
    }
    let out = ["mcp", "logout", "net"];
    let said = run(home.openoxide(&out)).expect(0).stderr;
    assert!(said.contains("forgotten"), "{said}");
    assert!(
        run(home.openoxide(&out))
            .expect(0)
            .stderr
            .contains("nothing was allowed")
    );
    let model = calling(&[("net__echo", json!({}))]);
    run(task(&home, &model, &[])).expect(0);
    let output = &outputs(&model)[0];
    assert!(output.contains("`openoxide mcp login net`"), "{output}");
}

#[test]
fn a_call_that_needs_more_says_so_and_the_next_sign_in_asks_for_it_too() {
    let provider = Provider::start();
    let home = provider.home("");
    sign_in(&home, None).expect(0);
    let model = calling(&[("net__change", json!({}))]);
    run(task(&home, &model, &[])).expect(0);
    let output = &outputs(&model)[0];
    assert!(
        output.contains("`write`") && output.contains("mcp login net"),
        "{output}"
    );
    sign_in(&home, None).expect(0);
    let asked = provider.sent("/authorize").remove(1);
    let scopes = parameter(&asked, "scope").expect("scopes");
    assert!(
        scopes.contains("read") && scopes.contains("write"),
        "{scopes}"
    );
    let model = calling(&[("net__change", json!({}))]);
    run(task(&home, &model, &[])).expect(0);
    assert!(
        outputs(&model)[0].contains("done with"),
        "{:?}",
        outputs(&model)
    );
}

#[test]
fn an_answer_from_somebody_else_is_not_used() {
    let provider = Provider::start();
    provider.state().lies = true;
    let refused = sign_in(&provider.home(""), None).expect(2);
    assert!(
        refused.stderr.contains("`http://evil`"),
        "{}",
        refused.stderr
    );
    assert!(provider.sent("/token").is_empty());
}

#[test]
fn who_has_a_token_already_is_not_asked_to_sign_in() {
    let provider = Provider::start();
    let home = provider.home("bearer_token_env = 'NET_TOKEN'");
    let refused = sign_in(&home, None).expect(2);
    assert!(
        refused.stderr.contains("`bearer_token_env`"),
        "{}",
        refused.stderr
    );
    assert_eq!(provider.sent("/mcp").len(), 0);
}
