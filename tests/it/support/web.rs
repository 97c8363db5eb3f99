//! A server of the network service, and clients of it that know as little as possible: sockets, lines and frames.
//!
//! [`Service`] is the real binary; [`Visitor`] calls its tools over Streamable HTTP in either generation, [`Exchange`]
//! is one request with its answer as it comes, [`Wire`] a WebSocket.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    client::Dialect,
    home::{Home, PATIENCE, ends_within, eventually},
    model_server::ModelServer,
};

/// The token of the tenant `ana`.
pub(crate) const ANA: &str = "ana-token-0123456789abcdef";
/// The token of the tenant `bob`.
pub(crate) const BOB: &str = "bob-token-0123456789abcdef";

/// A running server. Dropping it kills it.
pub(crate) struct Service {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    errors: Arc<Mutex<String>>,
}

impl Service {
    /// For `ana` alone, with a model to talk to.
    pub(crate) fn start(home: &Home, model: &ModelServer, flags: &[&str]) -> Self {
        let flags = [&["mcp-server", "--http", "127.0.0.1:0"], flags].concat();
        let mut command = home.openoxide_with(model, &flags);
        command.env("OPENOXIDE_TOKENS", format!("ana:{ANA}"));
        Self::run(command)
    }

    /// Starts `command` and waits until it listens.
    pub(crate) fn run(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut stderr = child.stderr.take().expect("piped");
        let errors = Arc::new(Mutex::new(String::new()));
        let kept = errors.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..count]).into_owned();
                kept.lock().expect("nobody panics with it").push_str(&text);
            }
        });
        let mut service = Self {
            child,
            address: String::new(),
            errors,
        };
        let listens = |text: &str| {
            let (_, after) = text.split_once("at http://")?;
            Some(after.split_once("/mcp")?.0.to_owned())
        };
        eventually("the server listens", || {
            listens(&service.errors()).is_some()
        });
        service.address = listens(&service.errors()).expect("it does");
        service
    }

    /// What it said on standard error so far.
    pub(crate) fn errors(&self) -> String {
        self.errors.lock().expect("nobody panics with it").clone()
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Sends these lines of a head, and `body` with its length where there is one.
    pub(crate) fn exchange(&self, lines: &[&str], body: Option<&[u8]>) -> Exchange {
        let mut head: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        if let Some(body) = body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut stream = self.connect();
        let bytes = [head.as_bytes(), b"\r\n", body.unwrap_or_default()].concat();
        // It may be refused before all of it is out.
        let _ = stream.write_all(&bytes);
        Exchange::begin(stream)
    }

    /// A request of `path` for our own host, with these headers.
    pub(crate) fn get(&self, path: &str, headers: &[&str]) -> Exchange {
        let (line, host) = (
            format!("GET {path} HTTP/1.1"),
            format!("Host: {}", self.address),
        );
        self.exchange(&[&[&*line, &*host], headers].concat(), None)
    }

    /// A message to `/mcp` with a token and these headers besides.
    pub(crate) fn post(&self, token: &str, headers: &[&str], body: &[u8]) -> Exchange {
        let (host, token) = (
            format!("Host: {}", self.address),
            format!("Authorization: Bearer {token}"),
        );
        let own = [
            "POST /mcp HTTP/1.1",
            &host,
            &token,
            "Accept: application/json, text/event-stream",
            "Content-Type: application/json",
        ];
        self.exchange(&[&own[..], headers].concat(), Some(body))
    }

    /// A client that has said hello, where its generation does.
    pub(crate) fn visitor(
        &self,
        token: &str,
        dialect: Dialect,
        capabilities: Value,
    ) -> Visitor<'_> {
        Visitor::new(self, token, dialect, capabilities)
    }

    /// A client that can be asked nothing.
    pub(crate) fn caller(&self, token: &str) -> Visitor<'_> {
        self.visitor(token, Dialect::Inline, json!({}))
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    pub(crate) fn ends_within(&mut self, patience: Duration) -> ExitStatus {
        ends_within(&mut self.child, patience)
    }

    /// Stops it as an operator does, and sees to it that it ends well.
    pub(crate) fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.ends_within(PATIENCE);
        assert!(status.success(), "{status}: {}", self.errors());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Only if a test failed before its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request, and its answer as it comes. Dropping it hangs up.
pub(crate) struct Exchange {
    reader: BufReader<TcpStream>,
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// Bytes left of the current piece, where the answer comes in pieces.
    piece: Option<usize>,
    over: bool,
}

impl Exchange {
    /// Reads the head of an answer. Status 0 where the server hung up instead.
    fn begin(stream: TcpStream) -> Self {
        let mut exchange = Self {
            reader: BufReader::new(stream),
            status: 0,
            headers: Vec::new(),
            piece: None,
            over: false,
        };
        let line = exchange.head_line();
        exchange.status = line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        loop {
            let line = exchange.head_line();
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            exchange
                .headers
                .push((name.to_lowercase(), value.to_owned()));
        }
        let in_pieces = exchange.header("transfer-encoding") == Some("chunked");
        exchange.piece = in_pieces.then_some(0);
        exchange
    }

    fn head_line(&mut self) -> String {
        let mut line = String::new();
        // An end is an empty line.
        let _ = self.reader.read_line(&mut line);
        line.trim_end().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The next line of the body; none at its end.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while let Some(byte) = self.byte() {
            if byte == b'\n' {
                return Some(
                    String::from_utf8_lossy(&line)
                        .trim_end_matches('\r')
                        .to_owned(),
                );
            }
            line.push(byte);
        }
        (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned())
    }

    fn byte(&mut self) -> Option<u8> {
        if self.over {
            return None;
        }
        if self.piece == Some(0) {
            let mut size = self.head_line();
            if size.is_empty() {
                size = self.head_line();
            }
            let size = usize::from_str_radix(&size, 16).unwrap_or(0);
            self.piece = Some(size);
            self.over = size == 0;
            return self.byte();
        }
        let mut byte = [0];
        if self.reader.read_exact(&mut byte).is_err() {
            self.over = true;
            return None;
        }
        self.piece = self.piece.map(|left| left - 1);
        Some(byte[0])
    }

    /// The whole body, where it has a length.
    pub(crate) fn body(mut self) -> String {
        let length = self
            .header("content-length")
            .and_then(|length| length.parse().ok());
        if let (Some(length), None) = (length, self.piece) {
            let mut body = vec![0; length];
            self.reader.read_exact(&mut body).expect("a body");
            return String::from_utf8(body).expect("text");
        }
        let mut body = String::new();
        while let Some(line) = self.line() {
            body.push_str(&line);
            body.push('\n');
        }
        body
    }

    /// The next message of an event stream; none at its end.
    pub(crate) fn event(&mut self) -> Option<Value> {
        loop {
            let line = self.line()?;
            if let Some(data) = line
                .strip_prefix("data: ")
                .filter(|data| !data.trim().is_empty())
            {
                return Some(
                    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")),
                );
            }
        }
    }

    /// The first message that fits.
    pub(crate) fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        let mut heard = Vec::new();
        while let Some(message) = self.event() {
            if fits(&message) {
                return message;
            }
            heard.push(message);
        }
        panic!("it did not come: {heard:?}");
    }

    /// The answer to the request, which was not an error.
    pub(crate) fn result(mut self) -> Value {
        let answer = self.until(|message| message.get("method").is_none());
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    /// How long a read may take from here on.
    pub(crate) fn patience(&self, patience: Duration) {
        let stream = self.reader.get_ref();
        stream.set_read_timeout(Some(patience)).expect("a timeout");
    }

    pub(crate) fn hang_up(self) {
        // It may be gone.
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }
}

/// A client over Streamable HTTP.
pub(crate) struct Visitor<'a> {
    service: &'a Service,
    token: String,
    dialect: Dialect,
    capabilities: Value,
    pub(crate) session: Option<String>,
    next_id: AtomicU64,
}

impl<'a> Visitor<'a> {
    fn new(service: &'a Service, token: &str, dialect: Dialect, capabilities: Value) -> Self {
        let mut visitor = Self {
            service,
            token: token.to_owned(),
            dialect,
            capabilities: capabilities.clone(),
            session: None,
            next_id: AtomicU64::new(1),
        };
        if let Dialect::Session(version) = dialect {
            let hello = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "it", "version": "1"}});
            let greeted = visitor.begin("initialize", hello);
            visitor.session = greeted.header("mcp-session-id").map(str::to_owned);
            assert_eq!(greeted.result()["protocolVersion"], version);
            visitor.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        }
        visitor
    }

    /// Begins a request, with the headers that its generation asks for.
    pub(crate) fn begin(&self, method: &str, mut params: Value) -> Exchange {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        if self.dialect.is_modern() {
            let meta = &mut params["_meta"];
            meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
            meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "it", "version": "1"});
            meta["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
        }
        let name = params["name"]
            .as_str()
            .map(|name| format!("Mcp-Name: {name}"));
        self.post(
            &json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}),
            name.as_deref(),
        )
    }

    fn post(&self, message: &Value, name: Option<&str>) -> Exchange {
        let session = self
            .session
            .as_ref()
            .map(|id| format!("Mcp-Session-Id: {id}"));
        let method = message["method"]
            .as_str()
            .map(|method| format!("Mcp-Method: {method}"));
        let version = match self.dialect {
            Dialect::Session(version) => version,
            Dialect::Inline | Dialect::Discovered => "2026-07-28",
        };
        let version = format!("MCP-Protocol-Version: {version}");
        let mut headers: Vec<&str> = session.iter().map(String::as_str).collect();
        if self.dialect.is_modern() || self.session.is_some() {
            headers.push(&version);
        }
        if self.dialect.is_modern() {
            headers.extend(method.as_deref());
            headers.extend(name);
        }
        self.service
            .post(&self.token, &headers, message.to_string().as_bytes())
    }

    /// Sends what gets no answer.
    pub(crate) fn send(&self, message: &Value) {
        assert_eq!(self.post(message, None).status, 202, "{message}");
    }

    /// Begins a call of a tool.
    pub(crate) fn call(&self, tool: &str, arguments: Value) -> Exchange {
        self.begin("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// The same, and wants to hear of its progress.
    pub(crate) fn call_told(&self, tool: &str, arguments: Value) -> Exchange {
        let meta = json!({"progressToken": "p"});
        self.begin(
            "tools/call",
            json!({"name": tool, "arguments": arguments, "_meta": meta}),
        )
    }

    /// Ends its session; says with which status.
    pub(crate) fn leave(&self) -> u16 {
        let host = format!("Host: {}", self.service.address);
        let token = format!("Authorization: Bearer {}", self.token);
        let session = format!(
            "Mcp-Session-Id: {}",
            self.session.as_deref().unwrap_or_default()
        );
        let lines = ["DELETE /mcp HTTP/1.1", &host, &token, &session];
        self.service.exchange(&lines, None).status
    }

    /// The stream of what comes by itself.
    pub(crate) fn listen(&self) -> Exchange {
        let token = format!("Authorization: Bearer {}", self.token);
        let session = format!(
            "Mcp-Session-Id: {}",
            self.session.as_deref().unwrap_or_default()
        );
        self.service
            .get("/mcp", &[&token, &session, "Accept: text/event-stream"])
    }
}

/// A WebSocket.
pub(crate) struct Wire {
    stream: TcpStream,
}

/// What comes over a WebSocket.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    Text(Value),
    Ping,
    Close,
    /// Without a word.
    Gone,
}

impl Wire {
    /// Shakes hands, as a client of `ana`.
    pub(crate) fn open(service: &Service) -> Self {
        let stream = service.connect();
        let (wire, status) =
            Self::shake(service, stream, &[&format!("Authorization: Bearer {ANA}")]);
        assert_eq!(status, 101);
        wire
    }

    /// Tries to shake hands with these headers besides.
    pub(crate) fn try_open(service: &Service, headers: &[&str]) -> u16 {
        Self::shake(service, service.connect(), headers).1
    }

    fn shake(service: &Service, mut stream: TcpStream, headers: &[&str]) -> (Self, u16) {
        let mut head = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mcp\r\n",
            service.address
        );
        headers
            .iter()
            .for_each(|line| head.push_str(&format!("{line}\r\n")));
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .expect("it reads");
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            answer.push(byte[0]);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        if status == 101 {
            assert!(
                answer
                    .to_lowercase()
                    .contains("sec-websocket-protocol: mcp"),
                "{answer}"
            );
        }
        (Self { stream }, status)
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.frame(1, message.to_string().as_bytes());
    }

    /// A frame of this kind; the mask is all zeros.
    pub(crate) fn frame(&mut self, kind: u8, payload: &[u8]) {
        let mut head = vec![0x80 | kind];
        match payload.len() {
            short @ 0..126 => head.push(0x80 | u8::try_from(short).expect("short")),
            longer @ 126..65536 => {
                head.push(0x80 | 126);
                head.extend(u16::try_from(longer).expect("it fits").to_be_bytes());
            }
            long => {
                head.push(0x80 | 127);
                head.extend((long as u64).to_be_bytes());
            }
        }
        head.extend([0; 4]);
        head.extend(payload);
        // The server may have closed.
        let _ = self.stream.write_all(&head);
    }

    pub(crate) fn next(&mut self) -> Frame {
        let mut head = [0; 2];
        if self.stream.read_exact(&mut head).is_err() {
            return Frame::Gone;
        }
        let length = match head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes(self.take())),
            127 => u64::from_be_bytes(self.take()),
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).expect("it fits")];
        self.stream.read_exact(&mut payload).expect("a payload");
        match head[0] & 0x0f {
            1 => Frame::Text(serde_json::from_slice(&payload).expect("JSON")),
            9 => Frame::Ping,
            8 => Frame::Close,
            other => panic!("a frame of kind {other}"),
        }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).expect("a length");
        bytes
    }

    /// The next message that fits.
    pub(crate) fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.next() {
                Frame::Text(message) if fits(&message) => return message,
                Frame::Text(_) | Frame::Ping => {}
                ended => panic!("it did not come: {ended:?}"),
            }
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, message: &Value) -> Value {
        self.send(message);
        self.until(|answer| answer["id"] == message["id"] && answer.get("method").is_none())
    }

    pub(crate) fn hang_up(self) {
        // It may be gone.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
