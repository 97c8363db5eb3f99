//! Streamable HTTP: each message a POST, each answer JSON or a stream of events, all of it bounded.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use super::{
    connection::Trouble,
    heard::{self, Heard},
};
use crate::{conversation::shortened, model};

/// Bytes of one answer or event.
const LARGEST: usize = 8 << 20;
/// Of a body that explains a failure.
const EXPLANATION: usize = 300;

/// Where a server is, and what to show it.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) token: Option<String>,
}

impl std::fmt::Debug for Address {
    /// Without what nobody may see.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({})", self.url)
    }
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    url: String,
    headers: HeaderMap,
    /// What the server called the session, and the version that was agreed. Locked for a moment; nobody awaits under it.
    session: Mutex<(Option<HeaderValue>, Option<HeaderValue>)>,
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
            session: Mutex::default(),
        })
    }

    /// From now on this version is said with each request.
    pub(super) fn agreed(&self, version: &str) {
        self.session().1 = HeaderValue::from_str(version).ok();
    }

    /// Sends `message` and takes in all that comes back for it. Dropping the future closes the stream.
    pub(super) async fn exchange(
        &self,
        message: &Value,
        heard: &Arc<Heard>,
    ) -> Result<(), Trouble> {
        let request = self
            .request(Method::POST, message)
            .body(message.to_string());
        let response = request.send().await.map_err(|_| Trouble::Gone)?;
        if let Some(session) = response.headers().get("mcp-session-id") {
            self.session().0 = Some(session.clone());
        }
        let status = response.status();
        let is_stream = response.headers().get(CONTENT_TYPE).is_some_and(|kind| {
            kind.as_bytes()
                .to_ascii_lowercase()
                .starts_with(b"text/event-stream")
        });
        if status == StatusCode::NOT_FOUND && self.session().0.is_some() {
            // The session is over; a new one begins with a new connection.
            heard.close();
            return Err(Trouble::Gone);
        }
        if is_stream {
            return self.events(response, heard).await;
        }
        let body = bounded(response).await?;
        match heard::message(&body) {
            Some(message) => self.take(&message, heard),
            None if status.is_success() => {}
            None => {
                let said = shortened(&String::from_utf8_lossy(&body), EXPLANATION);
                return Err(Trouble::Refused(format!("HTTP {status} {said}")));
            }
        }
        Ok(())
    }

    /// Tells the server that the session is over; a server that keeps none does not mind.
    pub(super) async fn close(&self) {
        if self.session().0.is_some() {
            // It may be gone.
            let _ = self.request(Method::DELETE, &Value::Null).send().await;
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
            ("mcp-name", name.and_then(header)),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request
    }

    /// Takes in a stream of events until it ends.
    async fn events(&self, mut response: Response, heard: &Arc<Heard>) -> Result<(), Trouble> {
        let mut pending: Vec<u8> = Vec::new();
        let mut data: Vec<u8> = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| Trouble::Gone)? {
            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let line = line.trim_ascii_end();
                if let Some(more) = line.strip_prefix(b"data:") {
                    data.extend_from_slice(more.trim_ascii_start());
                } else if line.is_empty() {
                    if let Some(message) = heard::message(&data) {
                        self.take(&message, heard);
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

    fn take(&self, message: &Value, heard: &Arc<Heard>) {
        if let Some(reply) = heard.take(message) {
            let request = self.request(Method::POST, &reply).body(reply.to_string());
            // Not waited for; a server that asks may not care.
            tokio::spawn(async move { request.send().await });
        }
    }

    fn session(&self) -> std::sync::MutexGuard<'_, (Option<HeaderValue>, Option<HeaderValue>)> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
