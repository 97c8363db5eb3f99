//! Streamable HTTP: each message a POST, each answer JSON or a stream of events, all of it bounded. A stream that breaks
//! off is taken up where it was; beside the requests one stream is kept open for what a server says unasked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    connection::Trouble,
    heard::{self, Heard},
    mirrored::{self, Mirrored},
    oauth::{Challenge, SignIn},
};
use crate::{conversation::shortened, model};

/// Bytes of one answer or event.
const LARGEST: usize = 8 << 20;
/// Of a body that explains a failure.
const EXPLANATION: usize = 300;
/// Before a stream is taken up again, where the server does not say.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a server may want.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Times in a row that an answer may break off without a word.
const TRIES: u32 = 5;
/// The longest pause between two tries to hear what a server says unasked; they never end.
pub(super) const SLOWEST: Duration = Duration::from_secs(60);

/// Where a server is, and what to show it.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) token: Option<String>,
    /// Where it has no token from its owner, and a person may have signed in.
    pub(super) sign_in: Option<SignIn>,
}

impl std::fmt::Debug for Address {
    /// Without what nobody may see.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({})", self.url)
    }
}

impl Address {
    /// The same where a WebSocket is asked for, which begins as HTTP.
    pub(super) fn over_http(&self) -> Self {
        Self {
            url: self.url.replacen("ws", "http", 1),
            ..self.clone()
        }
    }
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    url: String,
    headers: HeaderMap,
    sign_in: Option<SignIn>,
    /// How it last refused us for want of a token. Locked for a moment; nobody awaits under it.
    challenge: Mutex<Option<Challenge>>,
    /// What the server called the session, and the version that was agreed. Locked for a moment; nobody awaits under it.
    session: Mutex<(Option<HeaderValue>, Option<HeaderValue>)>,
    /// Parameters that go into headers, for each tool. Locked for a moment; nobody awaits under it.
    mirrored: Mutex<HashMap<String, Mirrored>>,
}

/// What comes of asking for a stream of events.
enum Stream {
    Open(Response),
    /// Not now.
    Fails,
    /// The server has none.
    Missing,
}

/// Where a stream of events is.
#[derive(Default)]
struct Place {
    /// The last event that came.
    last: Option<HeaderValue>,
    /// What the server wants as a pause before it is taken up again.
    pause: Option<Duration>,
    /// Something came.
    moved: bool,
}

impl Http {
    /// Connects when it is used.
    pub(super) fn new(address: &Address) -> Result<Self, String> {
        let client = model::http_client(&address.url).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        let token = address
            .token
            .as_ref()
            .map(|token| format!("Bearer {}", token.trim()));
        let token = token.map(|token| ("authorization".to_owned(), token));
        for (name, value) in token.iter().chain(&address.headers) {
            let parsed = (
                HeaderName::try_from(name),
                HeaderValue::from_str(value.trim()),
            );
            let (Ok(key), Ok(mut value)) = parsed else {
                return Err(format!("the header `{name}` cannot be sent"));
            };
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(Self {
            client,
            url: address.url.clone(),
            headers,
            sign_in: address.sign_in.clone(),
            challenge: Mutex::default(),
            session: Mutex::default(),
            mirrored: Mutex::default(),
        })
    }

    /// Asks for a WebSocket, with our `key`.
    pub(super) async fn upgrade(&self, key: &str) -> Result<Response, Trouble> {
        self.send(|| self.upgrading(key)).await
    }

    fn upgrading(&self, key: &str) -> RequestBuilder {
        let request = self.client.get(&self.url).headers(self.headers.clone());
        let wished = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "mcp"),
            ("sec-websocket-key", key),
        ];
        wished.into_iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        })
    }

    /// From now on this version is said with each request.
    pub(super) fn agreed(&self, version: &str) {
        self.session().1 = HeaderValue::from_str(version).ok();
    }

    /// What of the arguments of each tool goes into headers.
    pub(super) fn mirror(&self, tools: impl Iterator<Item = (String, Mirrored)>) {
        *self.mirrored() = tools.collect();
    }

    fn mirrored(&self) -> MutexGuard<'_, HashMap<String, Mirrored>> {
        self.mirrored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `message` and takes in all that comes back for it. Dropping the future closes the stream.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        message: &Value,
        heard: &Arc<Heard>,
    ) -> Result<(), Trouble> {
        let id = message["id"].as_u64();
        let body = message.to_string();
        let request = || self.request(Method::POST, message).body(body.clone());
        let response = self.send(request).await?;
        if let Some(session) = response.headers().get("mcp-session-id") {
            self.session().0 = Some(session.clone());
        }
        let status = response.status();
        let is_stream = is_stream(&response);
        if status == StatusCode::NOT_FOUND && self.session().0.is_some() {
            // The session is over; a new one begins with a new connection.
            heard.close();
            return Err(Trouble::Gone);
        }
        if is_stream {
            return self.followed(response, heard, id).await;
        }
        let body = bounded(response).await?;
        let message = heard::message(&body);
        let said = || {
            let said = message.as_ref().and_then(explained);
            let said = said.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
            shortened(&said, EXPLANATION)
        };
        let is_answer = |message: &&Value| {
            let answered = message["id"].as_u64();
            answered.is_some_and(|answered| heard.expects(answered))
        };
        if let Some(message) = &message
            && (status.is_success() || is_answer(&message))
        {
            self.take(message, heard, id);
        } else if !status.is_success() {
            return Err(Trouble::Refused(format!("HTTP {status} {}", said())));
        }
        match id.is_some_and(|id| heard.expects(id)) {
            // It is there, and to start it again would not help.
            true => Err(Trouble::Refused(format!(
                "HTTP {status}, without an answer to what it was asked: {}",
                said()
            ))),
            false => Ok(()),
        }
    }

    /// Sends what `request` makes with the token of whoever signed in; once more with another, if that one is refused
    /// and there is another.
    async fn send(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, Trouble> {
        let send = async |token: Option<&String>| {
            let request = match token {
                Some(token) => request().bearer_auth(token),
                None => request(),
            };
            request.send().await.map_err(|_| Trouble::Gone)
        };
        let token = self.token().await;
        let mut response = send(token.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let (Some(sign_in), Some(refused)) = (&self.sign_in, &token)
            && let Some(other) = sign_in.instead_of(refused).await
        {
            response = send(Some(&other)).await?;
        }
        let challenge = Challenge::of(response.status(), response.headers());
        let Some(challenge) = challenge else {
            return Ok(response);
        };
        let kept = self.challenge.lock();
        *kept.unwrap_or_else(PoisonError::into_inner) = Some(challenge.clone());
        match &self.sign_in {
            Some(sign_in) => Err(Trouble::Locked(sign_in.refused(&challenge).await)),
            None => Ok(response),
        }
    }

    async fn token(&self) -> Option<String> {
        self.sign_in.as_ref()?.token().await
    }

    /// How it last refused us for want of a token, if it did.
    pub(super) fn challenge(&self) -> Option<Challenge> {
        let challenge = self.challenge.lock();
        challenge.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in a stream of events, and what follows it, until nobody waits for `id` any more.
    async fn followed(
        self: &Arc<Self>,
        response: Response,
        heard: &Arc<Heard>,
        id: Option<u64>,
    ) -> Result<(), Trouble> {
        let mut place = Place::default();
        let mut broken = self.events(response, heard, id, &mut place).await;
        for _ in 0..TRIES {
            if !id.is_some_and(|id| heard.expects(id)) || place.last.is_none() {
                break;
            }
            tokio::time::sleep(place.pause.unwrap_or(PAUSE)).await;
            broken = match self.stream(place.last.as_ref()).await {
                Stream::Open(response) => self.events(response, heard, id, &mut place).await,
                Stream::Fails | Stream::Missing => Err(Trouble::Gone),
            };
        }
        broken
    }

    /// Takes in what the server says unasked, for as long as the connection lives; ends where there is no such stream.
    /// After each break there may be something new that nobody heard of. `begins` is told, or dropped, once the server
    /// has answered.
    pub(super) async fn listen(self: &Arc<Self>, heard: &Arc<Heard>, begins: oneshot::Sender<()>) {
        let mut place = Place::default();
        let mut begins = Some(begins);
        let mut pause = PAUSE;
        loop {
            let since = Instant::now();
            match self.stream(place.last.as_ref()).await {
                Stream::Missing => return,
                Stream::Fails => drop(begins.take()),
                Stream::Open(response) => {
                    // Nobody waits for it any more where that took long.
                    let _ = begins.take().map(|begins| begins.send(()));
                    place.moved = false;
                    // However it broke off, it is taken up again.
                    let _ = self.events(response, heard, None, &mut place).await;
                    heard.changed.notify_one();
                    if place.moved || since.elapsed() >= SLOWEST {
                        pause = PAUSE;
                    }
                }
            }
            let wished = place.pause.unwrap_or(PAUSE);
            let quiet = pause > PAUSE;
            tokio::time::sleep(if quiet { wished.max(pause) } else { wished }).await;
            pause = (pause * 2).min(SLOWEST);
        }
    }

    /// A stream of events that belongs to no request, or the rest of one that broke off.
    async fn stream(&self, last: Option<&HeaderValue>) -> Stream {
        let request = || {
            let request = self.request(Method::GET, &Value::Null);
            match last {
                Some(last) => request.header("last-event-id", last),
                None => request,
            }
        };
        let Ok(response) = self.send(request).await else {
            return Stream::Fails;
        };
        match response.status() {
            status if status.is_success() && is_stream(&response) => Stream::Open(response),
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS => Stream::Fails,
            StatusCode::NOT_IMPLEMENTED => Stream::Missing,
            status if status.is_server_error() => Stream::Fails,
            _ => Stream::Missing,
        }
    }

    /// Tells the server that the session is over; a server that keeps none does not mind.
    pub(super) async fn close(&self) {
        if self.session().0.is_some() {
            // It may be gone.
            let _ = self
                .send(|| self.request(Method::DELETE, &Value::Null))
                .await;
        }
    }

    fn request(&self, method: Method, message: &Value) -> RequestBuilder {
        let mut request = self
            .client
            .request(method, &self.url)
            .headers(self.headers.clone())
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json");
        let (session, version) = self.session().clone();
        let params = &message["params"];
        let name = params["name"].as_str().or(params["uri"].as_str());
        // The last two are what 2026-07-28 wants to know without reading the body.
        let known = [
            ("mcp-session-id", session),
            ("mcp-protocol-version", version),
            ("mcp-method", message["method"].as_str().and_then(header)),
            (
                "mcp-name",
                name.and_then(|name| header(&mirrored::safe(name))),
            ),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let mirrored = self.mirrored();
        let wanted = name
            .and_then(|name| mirrored.get(name))
            .into_iter()
            .flatten();
        for (header, parameter) in wanted {
            if let Some(value) = mirrored::value(&params["arguments"][parameter]) {
                request = request.header(header, value);
            }
        }
        request
    }

    /// Takes in a stream of events until it ends.
    async fn events(
        self: &Arc<Self>,
        mut response: Response,
        heard: &Arc<Heard>,
        id: Option<u64>,
        place: &mut Place,
    ) -> Result<(), Trouble> {
        let mut pending: Vec<u8> = Vec::new();
        let mut data: Vec<u8> = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| Trouble::Gone)? {
            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let line = line.trim_ascii_end();
                if let Some(more) = line.strip_prefix(b"data:") {
                    data.extend_from_slice(more.trim_ascii_start());
                } else if let Some(last) = line.strip_prefix(b"id:") {
                    place.last = HeaderValue::from_bytes(last.trim_ascii()).ok();
                } else if let Some(pause) = line.strip_prefix(b"retry:") {
                    let pause = str::from_utf8(pause.trim_ascii()).ok();
                    let pause = pause.and_then(|pause| pause.parse().ok());
                    place.pause = pause.map(|ms| Duration::from_millis(ms).min(LONGEST_PAUSE));
                } else if line.is_empty() {
                    place.moved = true;
                    if let Some(message) = heard::message(&data) {
                        self.take(&message, heard, id);
                    }
                    data.clear();
                }
            }
            if pending.len() + data.len() > LARGEST {
                return Err(too_large());
            }
        }
        Ok(())
    }

    fn take(self: &Arc<Self>, message: &Value, heard: &Arc<Heard>, within: Option<u64>) {
        if let Some(reply) = heard.take(message, within) {
            let own = self.clone();
            // Not waited for; a server that asks may not care.
            heard.reply(reply, async move |reply| {
                let body = reply.to_string();
                let request = || own.request(Method::POST, &reply).body(body.clone());
                drop(own.send(request).await);
            });
        }
    }

    fn session(&self) -> MutexGuard<'_, (Option<HeaderValue>, Option<HeaderValue>)> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a body that is no answer says in words, in the shapes that services have for it.
fn explained(body: &Value) -> Option<String> {
    let error = &body["error"];
    let places = [
        &error["message"],
        &body["message"],
        &body["error_description"],
        &body["detail"],
        error,
    ];
    let said = places.into_iter().find_map(Value::as_str);
    said.map(str::to_owned)
}

fn is_stream(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes()
            .to_ascii_lowercase()
            .starts_with(b"text/event-stream")
    })
}

fn header(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

fn too_large() -> Trouble {
    Trouble::Refused("it sent more than 8 MiB at once".to_owned())
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, Trouble> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Trouble::Gone)? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST {
            return Err(too_large());
        }
    }
    Ok(body)
}
