//! An MCP client that knows as little as possible: JSON lines over the pipes of a child, and a deadline for every wait.
//!
//! It speaks both generations of the protocol as its [`Dialect`] says. What comes while it waits for something else is
//! kept in [`Client::heard`], in order.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::home::{PATIENCE, ends_within};

/// A server that has nothing to do ends in a fraction of this, also on a busy machine.
const SOON: Duration = Duration::from_secs(8);

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `initialize` first, with this version.
    Session(&'static str),
    /// 2026-07-28: every request says what it needs.
    Inline,
    /// The same after `server/discover`.
    Discovered,
}

/// The newest version that opens with `initialize`.
pub(crate) const NEWEST_SESSION: Dialect = Dialect::Session("2025-11-25");

/// All of them.
pub(crate) const DIALECTS: [Dialect; 6] = [
    Dialect::Session("2024-11-05"),
    Dialect::Session("2025-03-26"),
    Dialect::Session("2025-06-18"),
    NEWEST_SESSION,
    Dialect::Inline,
    Dialect::Discovered,
];

impl Dialect {
    pub(crate) fn is_modern(self) -> bool {
        !matches!(self, Self::Session(_))
    }
}

/// A client and the server that it started. Dropping it kills the server.
pub(crate) struct Client {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    dialect: Dialect,
    capabilities: Value,
    next_id: u64,
    /// What `initialize` or `server/discover` gave.
    pub(crate) greeting: Value,
    /// What came and was not waited for: when, and what.
    pub(crate) heard: Vec<(Instant, Value)>,
    errors: Arc<Mutex<String>>,
}

impl Client {
    /// Starts `command` and says hello, as a client that can be asked nothing.
    pub(crate) fn start(command: Command, dialect: Dialect) -> Self {
        Self::able(command, dialect, json!({}))
    }

    /// The same with these capabilities.
    pub(crate) fn able(command: Command, dialect: Dialect, capabilities: Value) -> Self {
        let mut client = Self::silent(command);
        client.dialect = dialect;
        client.capabilities = capabilities.clone();
        match dialect {
            Dialect::Session(version) => {
                let hello = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "it", "version": "1"}});
                client.greeting = client.ask("initialize", hello);
                assert_eq!(client.greeting["protocolVersion"], version);
                client.notify("notifications/initialized", json!({}));
            }
            Dialect::Inline => {}
            Dialect::Discovered => client.greeting = client.ask("server/discover", json!({})),
        }
        client
    }

    /// Starts `command` and says nothing.
    pub(crate) fn silent(mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut stderr = child.stderr.take().expect("piped");
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { return };
                // A client that went away hears nothing more: its end of the pipe goes with this thread.
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let kept = errors.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..count]).into_owned();
                kept.lock().expect("nobody panics with it").push_str(&text);
            }
        });
        Self {
            input: child.stdin.take(),
            child,
            lines,
            dialect: NEWEST_SESSION,
            capabilities: json!({}),
            next_id: 1,
            greeting: Value::Null,
            heard: Vec::new(),
            errors,
        }
    }

    /// The server's.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// What the server said on standard error so far.
    pub(crate) fn errors(&self) -> String {
        self.errors.lock().expect("nobody panics with it").clone()
    }

    // Speaking.

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(bytes).expect("the server reads");
        input.flush().expect("the server reads");
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.raw(format!("{message}\n").as_bytes());
    }

    pub(crate) fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// Sends a request and gives its id.
    pub(crate) fn request(&mut self, method: &str, mut params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if self.dialect.is_modern() {
            let version = "2026-07-28";
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(version);
            params["_meta"]["io.modelcontextprotocol/clientInfo"] =
                json!({"name": "it", "version": "1"});
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
                self.capabilities.clone();
        }
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// Begins a call of a tool and gives its id.
    pub(crate) fn begin(&mut self, tool: &str, arguments: Value) -> u64 {
        self.request("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// The same, and wants to hear of its progress under the token `token`.
    pub(crate) fn begin_told(&mut self, tool: &str, arguments: Value, token: &str) -> u64 {
        let meta = json!({"progressToken": token});
        self.request(
            "tools/call",
            json!({"name": tool, "arguments": arguments, "_meta": meta}),
        )
    }

    pub(crate) fn cancel(&mut self, id: u64, reason: Option<&str>) {
        let mut params = json!({"requestId": id});
        if let Some(reason) = reason {
            params["reason"] = json!(reason);
        }
        self.notify("notifications/cancelled", params);
    }

    // Hearing.

    /// The next message, whatever it is; none when none comes in time.
    pub(crate) fn next_within(&mut self, patience: Duration) -> Option<Value> {
        let line = self.lines.recv_timeout(patience).ok()?;
        let message: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("not a line of JSON ({error}): {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{message}");
        Some(message)
    }

    /// Waits for the first message that fits and keeps the others.
    pub(crate) fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.heard.iter().position(|(_, message)| fits(message)) {
            return self.heard.remove(at).1;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(message) = self.next_within(left) else {
                panic!(
                    "{what} did not come; heard {:#?}; standard error: {}",
                    self.heard,
                    self.errors()
                );
            };
            if fits(&message) {
                return message;
            }
            self.heard.push((Instant::now(), message));
        }
    }

    /// The answer to a request, result or error.
    pub(crate) fn answer(&mut self, id: u64) -> Value {
        self.until(&format!("the answer to {id}"), |message| {
            message["id"] == id && message.get("method").is_none()
        })
    }

    /// The result of a request.
    pub(crate) fn result(&mut self, id: u64) -> Value {
        let answer = self.answer(id);
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    /// Whether the answer of request `id` was heard so far.
    pub(crate) fn is_answered(&self, id: u64) -> bool {
        self.heard.iter().any(|(_, message)| message["id"] == id)
    }

    /// Waits for a notification of this method.
    pub(crate) fn told(&mut self, method: &str) -> Value {
        let method = format!("notifications/{method}");
        self.until(&method, |message| message["method"] == *method)
    }

    /// A request from the server of this method.
    pub(crate) fn asked(&mut self, method: &str) -> Value {
        self.until(method, |message| {
            message["method"] == method && message.get("id").is_some()
        })
    }

    /// Sends a request and waits for its result.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params);
        self.result(id)
    }

    /// Calls a tool and waits for its result.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.begin(tool, arguments);
        self.result(id)
    }

    /// Calls a tool that is refused, and gives the words.
    pub(crate) fn refusal(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{result}");
        text(&result).to_owned()
    }

    /// Nothing with this method was heard so far, nor comes within a moment.
    pub(crate) fn assert_never_heard(&mut self, method: &str) {
        while let Some(message) = self.next_within(Duration::from_millis(100)) {
            self.heard.push((Instant::now(), message));
        }
        let heard: Vec<&Value> = self
            .heard
            .iter()
            .map(|(_, message)| message)
            .filter(|message| message["method"] == method)
            .collect();
        assert!(heard.is_empty(), "{heard:?}");
    }

    /// The server still answers.
    pub(crate) fn lives(&mut self) {
        let list = self.ask("tools/list", json!({}));
        assert_eq!(list["tools"].as_array().map(Vec::len), Some(3), "{list}");
    }

    // Ending.

    /// Ends the server's input.
    pub(crate) fn hang_up(&mut self) {
        self.input = None;
    }

    /// Goes away: neither writes nor reads any more.
    pub(crate) fn vanish(&mut self) {
        self.input = None;
        self.stop_reading();
    }

    /// Goes on writing and reads no more: the next line that comes closes this end of the pipe.
    pub(crate) fn stop_reading(&mut self) {
        let (_, nothing) = mpsc::channel();
        self.lines = nothing;
    }

    /// Sends a request, if the server still reads.
    pub(crate) fn try_request(&mut self, method: &str) -> bool {
        let line = format!(
            "{}\n",
            json!({"jsonrpc": "2.0", "id": "try", "method": method})
        );
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(line.as_bytes()).is_ok()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    pub(crate) fn ends_within(&mut self, patience: Duration) -> ExitStatus {
        ends_within(&mut self.child, patience)
    }

    /// Ends the input, and sees to it that the server ends well, soon, and having said nothing on standard error.
    pub(crate) fn close(mut self) {
        self.hang_up();
        let status = self.ends_within(SOON);
        assert!(status.success(), "{status}: {}", self.errors());
        assert_eq!(self.errors(), "");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Only if a test failed before its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text half of a result.
pub(crate) fn text(result: &Value) -> &str {
    let blocks = result["content"].as_array().map_or(0, Vec::len);
    assert_eq!(blocks, 1, "{result}");
    result["content"][0]["text"].as_str().expect("a text")
}

/// The structured half of a result.
pub(crate) fn outcome(result: &Value) -> &Value {
    let outcome = &result["structuredContent"];
    assert!(outcome.is_object(), "{result}");
    outcome
}

/// A field of the outcome that is text.
pub(crate) fn word(result: &Value, field: &str) -> String {
    let word = outcome(result)[field].as_str();
    word.unwrap_or_else(|| panic!("no `{field}` in {result}"))
        .to_owned()
}
