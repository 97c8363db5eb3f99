//! A scripted model behind HTTP: speaks Responses and Chat Completions on a loopback port, fails as told, and checks
//! what it is asked.
//!
//! It runs on a thread with a runtime of its own, so that tests without one can use it; dropping it ends all. Each thread
//! (each `prompt_cache_key`) gets the script from its beginning, one reply a request, faults included. Each request must
//! answer every call once and must begin with the bytes of the one before: what does not is kept as a violation.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use serde_json::{Value, json, value::RawValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// One answer of the script.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    items: Vec<Value>,
    usage: [u64; 3],
    delay: Duration,
    fault: Option<Fault>,
    begins_anew: bool,
    leaves: bool,
}

/// What goes wrong with an answer. Those in mid-answer come after its items and before its last event.
#[derive(Clone, Debug)]
enum Fault {
    /// Another answer altogether.
    Http {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// The connection is reset.
    Reset,
    /// The body ends as if all were well.
    Truncate,
    /// Nothing more comes.
    Stall,
    /// These bytes come before the rest.
    Garbage(String),
    /// The last event is another one.
    LastEvent(Value),
    /// This is the whole body, and how it ends.
    Raw(String, End),
}

/// How a body ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Well,
    /// Not at all.
    Silent,
    /// With the connection.
    Reset,
}

/// Which API a request speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Api {
    Responses,
    Chat,
}

impl Api {
    fn at(target: &str) -> Option<Self> {
        match target.split('?').next()? {
            "/v1/responses" => Some(Self::Responses),
            "/v1/chat/completions" => Some(Self::Chat),
            _ => None,
        }
    }

    /// Where the conversation stands in a request.
    fn conversation(self) -> &'static str {
        match self {
            Self::Responses => "input",
            Self::Chat => "messages",
        }
    }
}

impl Reply {
    /// A message.
    pub(crate) fn text(text: &str) -> Self {
        Self::default().and_text(text)
    }

    /// One call; more with [`Reply::and_call`].
    pub(crate) fn call(call_id: &str, name: &str, arguments: Value) -> Self {
        Self::default().and_call(call_id, name, arguments)
    }

    /// Encrypted reasoning with a summary; say what follows it.
    pub(crate) fn reasoning(summary: &str) -> Self {
        Self::default().and_item(json!({
            "id": "rs_1", "type": "reasoning", "encrypted_content": "gAAAA…",
            "summary": [{"type": "summary_text", "text": summary}],
        }))
    }

    /// An item as it stands, whatever it is.
    pub(crate) fn item(item: Value) -> Self {
        Self::default().and_item(item)
    }

    /// Another status with this body and no stream.
    pub(crate) fn http(status: u16, body: &str) -> Self {
        let (headers, body) = (Vec::new(), body.to_owned());
        Self::default().fault(Fault::Http {
            status,
            headers,
            body,
        })
    }

    /// And a message.
    pub(crate) fn and_text(self, text: &str) -> Self {
        self.and_item(json!({
            "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }))
    }

    /// And a call. Arguments that are text are sent as they are.
    pub(crate) fn and_call(self, call_id: &str, name: &str, arguments: Value) -> Self {
        let arguments = match arguments {
            Value::String(text) => text,
            other => other.to_string(),
        };
        self.and_item(json!({
            "id": format!("fc_{call_id}"), "type": "function_call", "status": "completed",
            "call_id": call_id, "name": name, "arguments": arguments,
        }))
    }

    fn and_item(mut self, item: Value) -> Self {
        self.items.push(item);
        self
    }

    /// Counted as this many tokens: input, of these cached, output.
    pub(crate) fn usage(self, input: u64, cached: u64, output: u64) -> Self {
        let usage = [input, cached, output];
        Self { usage, ..self }
    }

    /// Begins after this time.
    pub(crate) fn delayed(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// A header of an answer made by [`Reply::http`].
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(Fault::Http { headers, .. }) = &mut self.fault {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The connection is reset after the items.
    pub(crate) fn reset(self) -> Self {
        self.fault(Fault::Reset)
    }

    /// The body ends after the items, without the last event.
    pub(crate) fn truncated(self) -> Self {
        self.fault(Fault::Truncate)
    }

    /// Nothing comes after the items, and the connection stays open.
    pub(crate) fn stalled(self) -> Self {
        self.fault(Fault::Stall)
    }

    /// These lines come after the items, then the rest. They end with an empty line of themselves.
    pub(crate) fn garbage(self, lines: &str) -> Self {
        self.fault(Fault::Garbage(lines.to_owned()))
    }

    /// The sample fails with this code and message after the items.
    pub(crate) fn failed(self, code: &str, message: &str) -> Self {
        let error = json!({"code": code, "message": message});
        self.last_event(
            json!({"type": "response.failed", "response": {"status": "failed", "error": error}}),
        )
    }

    /// This event comes in place of `response.completed`.
    pub(crate) fn last_event(self, event: Value) -> Self {
        self.fault(Fault::LastEvent(event))
    }

    /// The stream is this and nothing else.
    pub(crate) fn raw(body: &str) -> Self {
        Self::default().fault(Fault::Raw(body.to_owned(), End::Well))
    }

    /// The connection stays open after a body made by [`Reply::raw`].
    pub(crate) fn then_silent(self) -> Self {
        self.raw_end(End::Silent)
    }

    /// The connection breaks after a body made by [`Reply::raw`].
    pub(crate) fn then_reset(self) -> Self {
        self.raw_end(End::Reset)
    }

    fn raw_end(mut self, how: End) -> Self {
        if let Some(Fault::Raw(_, end)) = &mut self.fault {
            *end = how;
        }
        self
    }

    /// The request for this reply may begin otherwise than the one before: after a compaction.
    pub(crate) fn begins_anew(self) -> Self {
        let begins_anew = true;
        Self {
            begins_anew,
            ..self
        }
    }

    /// The connection stays open, and is closed when the next request comes on it: what a client sees of a server that
    /// just then gave up an idle connection.
    pub(crate) fn then_leaves(self) -> Self {
        let leaves = true;
        Self { leaves, ..self }
    }

    fn fault(self, fault: Fault) -> Self {
        let fault = Some(fault);
        Self { fault, ..self }
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    /// The whole of it.
    pub(crate) body: Value,
}

/// A running server.
pub(crate) struct ModelServer {
    address: std::net::SocketAddr,
    book: Arc<Mutex<Book>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl ModelServer {
    /// Serves `script` on a free port of loopback.
    pub(crate) fn start(script: Vec<Reply>) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("a bound socket");
        let book = Arc::new(Mutex::new(Book {
            script,
            ..Book::default()
        }));
        let (stop, stopped) = oneshot::channel();
        let server = serve(listener, book.clone(), stopped);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let thread = Some(thread::spawn(move || runtime.block_on(server)));
        Self {
            address,
            book,
            stop: Some(stop),
            thread,
        }
    }

    /// The same for programs that are killed: a reply is chosen by how many calls of the conversation have their output,
    /// so that a request that is made again gets the reply that was lost.
    pub(crate) fn start_by_outputs(script: Vec<Reply>) -> Self {
        let server = Self::start(script);
        server.book().by_outputs = true;
        server
    }

    /// Answers `target` with `json`: what a server tells of itself.
    pub(crate) fn tell(&self, target: &str, json: Value) {
        self.book().pages.insert(target.to_owned(), json);
    }

    /// What `OPENAI_BASE_URL` should be.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// All requests so far, in the order they came.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.book().seen.clone()
    }

    /// What was wrong with them, a sentence each. Tests assert that this is empty.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.book().violations.clone()
    }

    /// How many answers were sent to their last byte.
    pub(crate) fn answered(&self) -> usize {
        self.book().answered
    }

    /// How many connections were made, and on how many the client hung up in mid-answer.
    pub(crate) fn connections(&self) -> (usize, usize) {
        let book = self.book();
        (book.connections, book.hung_up)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nobody panics with it")
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the server knows. Held only between awaits.
#[derive(Default)]
struct Book {
    script: Vec<Reply>,
    by_outputs: bool,
    /// Per `prompt_cache_key`: replies given, and the last request.
    threads: HashMap<String, (usize, Option<Prefix>)>,
    seen: Vec<Seen>,
    pages: HashMap<String, Value>,
    violations: Vec<String>,
    answered: usize,
    connections: usize,
    hung_up: usize,
}

/// The part of a request that the next one must begin with, as bytes.
struct Prefix {
    head: [String; 2],
    input: Vec<String>,
}

impl Book {
    /// Notes a request and finds its reply.
    fn reply(
        &mut self,
        api: Api,
        target: String,
        headers: HashMap<String, String>,
        bytes: &[u8],
    ) -> Reply {
        let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let key = body["prompt_cache_key"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let (given, last) = self.threads.remove(&key).unwrap_or_default();
        let given = if self.by_outputs {
            outputs(&body)
        } else {
            given
        };
        let reply = self.script.get(given).cloned();
        let prefix = prefix(api, bytes);
        let last = last.filter(|_| !reply.as_ref().is_some_and(|reply| reply.begins_anew));
        let mut wrong = wrong_with(api, &body);
        wrong.extend(
            prefix
                .as_ref()
                .and_then(|prefix| changed(last.as_ref()?, prefix)),
        );
        if reply.is_none() {
            wrong.push(format!("the script has no reply {}", given + 1));
        }
        let place = format!("request {} of thread `{key}`", given + 1);
        self.violations
            .extend(wrong.into_iter().map(|wrong| format!("{place}: {wrong}")));
        self.seen.push(Seen {
            target,
            headers,
            body,
        });
        self.threads.insert(key, (given + 1, prefix));
        reply.unwrap_or_else(|| Reply::http(400, r#"{"error":{"message":"the script is over"}}"#))
    }
}

fn outputs(body: &Value) -> usize {
    let input = body["input"].as_array().into_iter().flatten();
    input
        .filter(|item| item["type"] == "function_call_output")
        .count()
}

fn prefix(api: Api, body: &[u8]) -> Option<Prefix> {
    let body: HashMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    let text = |key: &str| {
        body.get(key)
            .map_or_else(String::new, |raw| raw.get().to_owned())
    };
    let input: Vec<Box<RawValue>> =
        serde_json::from_str(body.get(api.conversation())?.get()).ok()?;
    Some(Prefix {
        head: [text("instructions"), text("tools")],
        input: input.iter().map(|raw| raw.get().to_owned()).collect(),
    })
}

fn changed(last: &Prefix, now: &Prefix) -> Option<String> {
    if last.head != now.head {
        return Some("instructions or tools are not those of the request before".to_owned());
    }
    let same = last
        .input
        .iter()
        .zip(&now.input)
        .take_while(|(a, b)| a == b)
        .count();
    (same < last.input.len())
        .then(|| format!("input[{same}] is not what it was in the request before"))
}

/// What is wrong with a request by itself.
fn wrong_with(api: Api, body: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let store = (api == Api::Responses).then_some(("store", false));
    for (key, expect) in [("stream", true)].into_iter().chain(store) {
        if body[key] != json!(expect) {
            wrong.push(format!("`{key}` is not {expect}"));
        }
    }
    let Some(input) = body[api.conversation()].as_array() else {
        wrong.push(format!("there is no {}", api.conversation()));
        return wrong;
    };
    let mut open: Vec<&Value> = Vec::new();
    let mut called: HashSet<&str> = HashSet::new();
    for part in input.iter().flat_map(parts) {
        match part {
            Part::Call(id) if !called.insert(id.as_str().unwrap_or_default()) => {
                wrong.push(format!("{id} is called twice"))
            }
            Part::Call(id) => open.push(id),
            Part::Output(id) => match open.iter().position(|open| *open == id) {
                Some(found) => drop(open.remove(found)),
                None => wrong.push(format!(
                    "an output for {id}, which no open call before it has"
                )),
            },
            Part::Words if api == Api::Chat && !open.is_empty() => {
                wrong.push("a message stands between a call and its output".to_owned());
            }
            Part::Words => {}
        }
    }
    wrong.extend(
        open.iter()
            .map(|call_id| format!("{call_id} has no output")),
    );
    wrong
}

/// What a piece of the conversation is for its check; calls and outputs by their ids.
enum Part<'a> {
    Call(&'a Value),
    Output(&'a Value),
    Words,
}

fn parts(item: &Value) -> Vec<Part<'_>> {
    match (item["type"].as_str(), item["role"].as_str()) {
        (Some("function_call"), _) => vec![Part::Call(&item["call_id"])],
        (Some("function_call_output"), _) => vec![Part::Output(&item["call_id"])],
        (_, Some("tool")) => vec![Part::Output(&item["tool_call_id"])],
        (_, Some("assistant")) => {
            let calls = item["tool_calls"].as_array().into_iter().flatten();
            std::iter::once(Part::Words)
                .chain(calls.map(|call| Part::Call(&call["id"])))
                .collect()
        }
        _ => vec![Part::Words],
    }
}

async fn serve(
    listener: std::net::TcpListener,
    book: Arc<Mutex<Book>>,
    stopped: oneshot::Receiver<()>,
) {
    let accept = async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            book.lock().expect("nobody panics with it").connections += 1;
            tokio::spawn(connection(stream, book.clone()));
        }
    };
    // Connections end with the runtime, which ends with this.
    tokio::select! {
        _ = stopped => {}
        error = accept => {
            let error: io::Result<()> = error;
            drop(error);
        }
    }
}

async fn connection(mut stream: TcpStream, book: Arc<Mutex<Book>>) {
    let mut buffer = Vec::new();
    while let Ok(Some((target, headers, body))) = request(&mut stream, &mut buffer).await {
        let api = Api::at(&target);
        let reply = match api {
            Some(api) => book
                .lock()
                .expect("nobody panics with it")
                .reply(api, target, headers, &body),
            None => match book
                .lock()
                .expect("nobody panics with it")
                .pages
                .get(&target)
            {
                Some(page) => Reply::http(200, &page.to_string()),
                None => Reply::http(404, r#"{"error":{"message":"no such route"}}"#),
            },
        };
        let leaves = reply.leaves;
        let sent = answer(&mut stream, api.unwrap_or(Api::Responses), reply).await;
        if let Ok(true) = sent {
            book.lock().expect("nobody panics with it").answered += 1;
        }
        match sent {
            Ok(true) if leaves => {
                // Read and not answered.
                let _ = request(&mut stream, &mut buffer).await;
                return;
            }
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => {
                book.lock().expect("nobody panics with it").hung_up += 1;
                return;
            }
        }
    }
}

/// Target, headers and body.
type Request = (String, HashMap<String, String>, Vec<u8>);

/// The next request of a connection, or nothing when the client is done.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.split("\r\n").map(str::to_owned);
    let target = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| {
            line.split_once(':')
                .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        })
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    while buffer.len() < end + 4 + length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = buffer[end + 4..end + 4 + length].to_vec();
    buffer.drain(..end + 4 + length);
    Ok(Some((target, headers, body)))
}

/// Sends a reply; true when the connection goes on. An error is a client that went away first.
async fn answer(stream: &mut TcpStream, api: Api, reply: Reply) -> io::Result<bool> {
    unless_hung_up(stream, tokio::time::sleep(reply.delay)).await?;
    if let Some(Fault::Http {
        status,
        headers,
        body,
    }) = &reply.fault
    {
        plain(stream, *status, headers, body).await?;
        return Ok(true);
    }
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    chunk(stream, &reply.beginning(api)).await?;
    let end = reply.end(api);
    match reply.fault {
        Some(Fault::Reset) => {
            stream.flush().await?;
            stream.set_zero_linger()?;
            return Ok(false);
        }
        Some(Fault::Stall) => {
            unless_hung_up(stream, std::future::pending::<()>()).await?;
        }
        Some(Fault::Truncate) => {}
        Some(Fault::LastEvent(event)) if api == Api::Chat && event["type"] == "response.failed" => {
            let error = json!({"error": event["response"]["error"]});
            chunk(stream, &sse(&error)).await?;
        }
        Some(Fault::LastEvent(event)) => chunk(stream, &sse(&event)).await?,
        Some(Fault::Garbage(lines)) => chunk(stream, &(lines + &end)).await?,
        Some(Fault::Raw(body, end)) => {
            chunk(stream, &body).await?;
            match end {
                End::Well => {}
                End::Silent => unless_hung_up(stream, std::future::pending::<()>()).await?,
                End::Reset => {
                    stream.flush().await?;
                    stream.set_zero_linger()?;
                    return Ok(false);
                }
            }
        }
        Some(Fault::Http { .. }) | None => chunk(stream, &end).await?,
    }
    // As in life: a client that leaves after the last event has not seen the end of the body.
    tokio::time::sleep(Duration::from_millis(2)).await;
    stream.write_all(b"0\r\n\r\n").await?;
    Ok(true)
}

/// Waits for `wait`, or fails when the client closes first: it sends nothing while it waits for an answer.
async fn unless_hung_up(stream: &mut TcpStream, wait: impl Future<Output = ()>) -> io::Result<()> {
    let mut byte = [0];
    tokio::select! {
        () = wait => Ok(()),
        _ = stream.peek(&mut byte) => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

async fn plain(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &str,
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        head += "content-type: application/json\r\n";
    }
    stream
        .write_all(format!("{head}\r\n{body}").as_bytes())
        .await
}

async fn chunk(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    stream
        .write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
        .await
}

fn sse(event: &Value) -> String {
    match event["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {event}\n\n"),
        None => format!("data: {event}\n\n"),
    }
}

impl Reply {
    /// All events but the last.
    fn beginning(&self, api: Api) -> String {
        let created = json!({"type": "response.created", "response": {"status": "in_progress"}});
        let events: Vec<Value> = match (api, &self.fault) {
            (_, Some(Fault::Raw(..))) => Vec::new(),
            (Api::Responses, _) => {
                let items = self.items.iter().flat_map(item_events);
                std::iter::once(created).chain(items).collect()
            }
            (Api::Chat, _) => {
                let calls = self.items.iter().scan(0, |calls, item| {
                    let index = *calls;
                    *calls += usize::from(item["type"] == "function_call");
                    Some(chat_chunks(item, index))
                });
                calls.flatten().collect()
            }
        };
        events.iter().map(sse).collect()
    }

    /// The end of an answer that ends well.
    fn end(&self, api: Api) -> String {
        match api {
            Api::Responses => sse(&json!({
                "type": "response.completed",
                "response": {"status": "completed", "usage": self.tokens()},
            })),
            Api::Chat => {
                let calls = self
                    .items
                    .iter()
                    .any(|item| item["type"] == "function_call");
                let reason = if calls { "tool_calls" } else { "stop" };
                let [input, cached, output] = self.usage;
                let usage = json!({
                    "prompt_tokens": input, "completion_tokens": output,
                    "prompt_tokens_details": {"cached_tokens": cached},
                });
                let finish =
                    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
                let counted = json!({"choices": [], "usage": usage});
                sse(&finish) + &sse(&counted) + "data: [DONE]\n\n"
            }
        }
    }

    fn tokens(&self) -> Value {
        let [input, cached, output] = self.usage;
        json!({
            "input_tokens": input, "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
        })
    }
}

fn item_events(item: &Value) -> Vec<Value> {
    let (event, text) = match item["type"].as_str() {
        Some("message") => ("response.output_text.delta", &item["content"][0]["text"]),
        Some("reasoning") => (
            "response.reasoning_summary_text.delta",
            &item["summary"][0]["text"],
        ),
        _ => ("response.function_call_arguments.delta", &item["arguments"]),
    };
    let words = text.as_str().unwrap_or_default().split_inclusive(' ');
    let mut events =
        vec![json!({"type": "response.output_item.added", "item": {"type": item["type"]}})];
    events.extend(words.map(|word| json!({"type": event, "delta": word})));
    events.push(json!({"type": "response.output_item.done", "item": item}));
    events
}

/// The pieces of an item as Chat Completions streams it.
fn chat_chunks(item: &Value, index: usize) -> Vec<Value> {
    let chunk =
        |delta: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
    let words = |text: &Value, name: &str| {
        let words = text.as_str().unwrap_or_default().split_inclusive(' ');
        words.map(|word| chunk(json!({name: word}))).collect()
    };
    match item["type"].as_str() {
        Some("message") => words(&item["content"][0]["text"], "content"),
        Some("reasoning") => words(&item["summary"][0]["text"], "reasoning_content"),
        Some("function_call") => {
            let call = |call: Value| chunk(json!({"tool_calls": [call]}));
            vec![
                call(json!({
                    "index": index, "id": item["call_id"], "type": "function",
                    "function": {"name": item["name"], "arguments": ""},
                })),
                call(json!({"index": index, "function": {"arguments": item["arguments"]}})),
            ]
        }
        _ => Vec::new(),
    }
}

/// The checker is checked: a harness that finds nothing would pass every test above it.
#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Instant;

    use super::*;

    /// Posts `body` on a connection of its own and gives all that comes back; an answer that stalls is left after 3 s.
    fn post(server: &ModelServer, body: &Value) -> String {
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        let body = body.to_string();
        let head = format!(
            "POST /v1/responses HTTP/1.1\r\nX-Test: yes\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        while !answer.ends_with(b"0\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn body(key: &str, instructions: &str, input: Value) -> Value {
        json!({"stream": true, "store": false, "prompt_cache_key": key, "instructions": instructions, "input": input})
    }

    fn user(text: &str) -> Value {
        json!({"type": "message", "role": "user", "content": text})
    }

    #[test]
    fn a_request_that_breaks_the_rules_is_noted() {
        let call = json!({"type": "function_call", "call_id": "a"});
        let output = json!({"type": "function_call_output", "call_id": "a"});
        let table = [
            (json!([user("one"), call, output]), vec![]),
            (json!([call]), vec![r#""a" has no output"#]),
            (
                json!([call, output, output]),
                vec![r#"an output for "a", which no open call before it has"#],
            ),
            (
                json!([output, call]),
                vec![
                    r#"an output for "a", which no open call before it has"#,
                    r#""a" has no output"#,
                ],
            ),
            (json!([call, output, call]), vec![r#""a" is called twice"#]),
        ];
        for (input, expect) in table {
            let expect: Vec<String> = expect.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(wrong_with(Api::Responses, &body("k", "", input)), expect);
        }
        let expect = [
            "`stream` is not true",
            "`store` is not false",
            "there is no input",
        ];
        assert_eq!(wrong_with(Api::Responses, &json!({"store": true})), expect);
    }

    #[test]
    fn a_prefix_that_changes_is_noted_per_thread() {
        let server = ModelServer::start(vec![
            Reply::text("1"),
            Reply::text("2"),
            Reply::text("3").begins_anew(),
        ]);
        post(&server, &body("k", "i", json!([user("one")])));
        post(&server, &body("other", "j", json!([user("uno")])));
        post(
            &server,
            &body("k", "i", json!([user("one, changed"), user("two")])),
        );
        post(&server, &body("k", "i", json!([user("summary")])));
        let refused = post(&server, &body("k", "changed", json!([user("summary")])));
        assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
        assert_eq!(
            server.violations(),
            [
                "request 2 of thread `k`: input[0] is not what it was in the request before",
                "request 4 of thread `k`: instructions or tools are not those of the request before",
                "request 4 of thread `k`: the script has no reply 4",
            ]
        );
        assert_eq!(server.requests()[1].body["instructions"], "j");
        assert_eq!(server.requests()[0].headers["x-test"], "yes");
        assert_eq!(server.requests()[0].target, "/v1/responses");
        assert!(server.base_url().ends_with("/v1"));
    }

    #[test]
    fn every_fault_can_be_had() {
        let table = [
            (
                Reply::reasoning("hm").and_text("yes").usage(3, 2, 1),
                "\"cached_tokens\":2",
            ),
            (
                Reply::call("c", "shell", json!({"a": 1})),
                r#""arguments":"{\"a\":1}""#,
            ),
            (
                Reply::call("c", "shell", json!("{no")).and_call("d", "x", json!({})),
                r#""arguments":"{no""#,
            ),
            (Reply::raw("data: [DONE]\n\n"), "\r\ndata: [DONE]\n\n"),
            (Reply::raw(": still here\n\n").then_silent(), "still here"),
            (Reply::raw(": gone\n\n").then_reset(), "HTTP/1.1 200"),
            (Reply::item(json!({"type": "odd"})), r#"{"type":"odd"}"#),
            (
                Reply::http(429, "{}").header("retry-after", "1"),
                "retry-after: 1\r\n",
            ),
            (
                Reply::text("a").failed("server_error", "no"),
                "response.failed",
            ),
            (
                Reply::text("a").last_event(json!({"type": "response.incomplete"})),
                "response.incomplete",
            ),
            (
                Reply::text("a").garbage("data: {oops\n\n"),
                "data: {oops\n\nevent: response.completed",
            ),
            (
                Reply::text("a").delayed(Duration::from_millis(20)),
                "response.completed",
            ),
        ];
        for (reply, expect) in table {
            let server = ModelServer::start(vec![reply]);
            let answer = post(&server, &body("k", "", json!([])));
            assert!(answer.contains(expect), "{expect} is not in {answer}");
        }
        for reply in [
            Reply::text("a").reset(),
            Reply::text("a").stalled(),
            Reply::text("a").truncated(),
        ] {
            let (cut, stalled) = (
                !matches!(reply.fault, Some(Fault::Truncate)),
                matches!(reply.fault, Some(Fault::Stall)),
            );
            let server = ModelServer::start(vec![reply]);
            let answer = post(&server, &body("k", "", json!([])));
            assert!(!answer.contains("response.completed"));
            assert_eq!(answer.ends_with("0\r\n\r\n"), !cut);
            if stalled {
                let patience = Instant::now() + Duration::from_secs(10);
                while server.connections() != (1, 1) {
                    assert!(Instant::now() < patience, "the client hung up");
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}
