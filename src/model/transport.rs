//! What lies under async-openai: one HTTP client of ours that sees status and headers before the crate does.
//!
//! The crate builds requests and takes event streams apart; its own retries (unbounded waits that nobody sees), its
//! reading of errors (the status is lost where the body is unusual) and its environment variables have no part here.
//! The key never reaches it: the service puts our headers on each request.

use std::{
    error::Error,
    fmt,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_openai::{
    Client, config::OpenAIConfig, error::OpenAIError, middleware::HttpRequestFactory,
};
use reqwest::{
    Request, Response, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION},
};

use super::{
    ModelError, Prices, WireApi, body,
    failure::{Failure, Peer},
    providers::{self, Auth, Provider},
};
use crate::{conversation::Redactor, workspace::shell::is_secret_name};

/// A model is given this long between two events before it counts as gone; Codex waits as long.
const IDLE: Duration = Duration::from_secs(300);
/// How Azure wants the key.
const API_KEY: HeaderName = HeaderName::from_static("api-key");
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Of a body that explains a failure.
const ERROR_BODY_LIMIT: usize = 64 * 1024;
/// Of what a server tells of itself; OpenRouter's list of models has half a megabyte.
const ABOUT_ITSELF_LIMIT: usize = 8 << 20;
const ERROR_BODY_TIME: Duration = Duration::from_secs(10);

/// Which model to ask, where, and as whom.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `https://api.openai.com/v1`; a query (`?api-version=…`) goes with every request, credentials are refused.
    pub base_url: String,
    /// Sent as a bearer token; blanks around it are dropped, and without one there is no `Authorization`.
    pub key: Option<Secret>,
    /// Where the key comes from or should come from, for messages: `OPENAI_API_KEY`.
    pub key_variable: String,
    /// The name that goes into requests.
    pub model: String,
    /// The API to speak; without it, what the server is known to speak.
    pub wire_api: Option<WireApi>,
    /// Tokens that the model takes; without it, what is known of the model.
    pub context_window: Option<u64>,
    /// What its tokens cost.
    pub prices: Option<Prices>,
    /// False where the server takes no tools; it is found out where it is true and should not be.
    pub takes_tools: bool,
    /// Added to each request; they win over our own, `Authorization` included.
    pub headers: Vec<(String, Secret)>,
    /// Longest silence between two events, the wait for the first one included.
    pub idle: Duration,
    /// What requests go over.
    pub http: Http,
}

/// HTTP clients that a process makes once, as each is needed: a client for each thread would be connections, buffers
/// and a hundred certificates for each. A clone is the same ones.
#[derive(Clone, Debug, Default)]
pub struct Http {
    clients: Arc<[OnceLock<reqwest::Client>; 3]>,
    /// Since then there may be a connection that is used again.
    has_answered: Arc<AtomicBool>,
}

impl Endpoint {
    /// Without key and headers, 300 s of patience.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            key: None,
            key_variable: "OPENAI_API_KEY".to_owned(),
            model: model.into(),
            wire_api: None,
            context_window: None,
            prices: None,
            takes_tools: true,
            headers: Vec::new(),
            idle: IDLE,
            http: Http::default(),
        }
    }

    /// The API that is spoken there. Chat Completions for what is not a URL.
    pub fn spoken(&self) -> WireApi {
        let known = Url::parse(&self.base_url).ok();
        let known = known.map(|url| providers::at(&url, is_loopback(&url)).wire_api);
        self.wire_api.or(known).unwrap_or(WireApi::Chat)
    }

    /// Whether nobody is served there without a key. True for what is not a URL.
    pub fn needs_key(&self) -> bool {
        Url::parse(&self.base_url)
            .map_or(true, |url| providers::at(&url, is_loopback(&url)).needs_key)
    }
}

/// A value that nothing prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for whoever must send or redact it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why an [`Endpoint`] cannot be used at all. A person reads it; no key is in it.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Not an address that requests can go to.
    #[error("the base URL `{url}` cannot be used: {reason}")]
    BaseUrl {
        /// As given, or what can be shown of it.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key would break the request.
    #[error("the key in `{variable}` holds a line end or another character that cannot be sent")]
    Key {
        /// Where the key comes from.
        variable: String,
    },
    /// A header would break the request.
    #[error(
        "the header `{name}` cannot be sent: its name or value holds a character that is not allowed"
    )]
    Header {
        /// Its name.
        name: String,
    },
    /// There is no HTTP client, mostly for want of root certificates.
    #[error("cannot set up HTTP: {reason}")]
    Http {
        /// The cause.
        reason: String,
    },
}

/// A client of async-openai over our service, and whom it speaks with.
pub(super) fn connect(
    endpoint: &Endpoint,
) -> Result<(Client<OpenAIConfig>, Arc<Peer>, Provider), EndpointError> {
    let url = base_url(&endpoint.base_url)?;
    let provider = providers::at(&url, is_loopback(&url));
    let headers = headers(endpoint, provider.auth)?;
    let http = endpoint.http.client(&url)?;
    let peer = Arc::new(Peer {
        base: shown_base(&url),
        model: endpoint.model.clone(),
        key_variable: endpoint.key_variable.clone(),
        path: match endpoint.spoken() {
            WireApi::Responses => "/responses",
            WireApi::Chat => "/chat/completions",
        },
        has_key: headers.contains_key(AUTHORIZATION) || headers.contains_key(API_KEY),
        is_loopback: is_loopback(&url),
        redactor: Redactor::new(endpoint.secrets()),
    });
    // All four are set, or the crate takes them from the environment and sends them to whatever server this is.
    let config = OpenAIConfig::new()
        .with_api_base(&peer.base)
        .with_api_key("")
        .with_org_id("")
        .with_project_id("");
    let sender = Sender {
        http: http.clone(),
        headers,
        query: url.query().map(str::to_owned),
        peer: peer.clone(),
        has_answered: endpoint.http.has_answered.clone(),
    };
    let service = tower::service_fn(move |request: HttpRequestFactory| {
        let sender = sender.clone();
        async move { sender.send(request).await }
    });
    let client = Client::build(http, config).with_http_service(service);
    Ok((client, peer, provider))
}

/// Asks a server about itself, with the key and the headers of an endpoint.
pub(super) struct Reader {
    http: reqwest::Client,
    headers: HeaderMap,
    base: Url,
    /// It is nobody's service, so it may be a server that tells of itself elsewhere too.
    is_unknown: bool,
}

impl Reader {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, EndpointError> {
        let url = base_url(&endpoint.base_url)?;
        let provider = providers::at(&url, is_loopback(&url));
        let mut headers = headers(endpoint, provider.auth)?;
        headers.remove(ACCEPT);
        let mut base = url.clone();
        base.set_path(&format!("{}/", url.path().trim_end_matches('/')));
        Ok(Self {
            http: http_client(url.as_str())?,
            headers,
            base,
            is_unknown: !provider.is_service(),
        })
    }

    /// The JSON at `place`, as seen from the base URL; nothing where there is none. Key, headers and query only go to
    /// what is below the base URL.
    pub(super) async fn get(&self, place: &str) -> Option<serde_json::Value> {
        let mut url = self.base.join(place).ok()?;
        let mut request = self.http.get(url.clone());
        if url.path().starts_with(self.base.path()) {
            url.set_query(self.base.query());
            request = self.http.get(url).headers(self.headers.clone());
        } else if !self.is_unknown {
            return None;
        }
        let mut response = request.send().await.ok()?.error_for_status().ok()?;
        let body = beginning(&mut response, ABOUT_ITSELF_LIMIT).await;
        serde_json::from_slice(&body).ok()
    }
}

/// What the error that came through async-openai means.
pub(super) fn model_error(error: OpenAIError, peer: &Peer) -> ModelError {
    match error {
        OpenAIError::Boxed(error) => match error.downcast::<ModelError>() {
            Ok(error) => *error,
            Err(other) => peer.unreachable(&deepest(&*other)),
        },
        OpenAIError::StreamError(_) => peer.broken(format!(
            "the connection to `{}` broke in mid-answer",
            peer.base
        )),
        // Its text is the model's, so it stays out of the message.
        OpenAIError::JSONDeserialize(..) => {
            peer.broken(format!("`{}` sent an event that is not JSON", peer.base))
        }
        other => peer.unfit(format!("the request could not be made: {other}")),
    }
}

#[derive(Clone)]
struct Sender {
    http: reqwest::Client,
    headers: HeaderMap,
    query: Option<String>,
    peer: Arc<Peer>,
    /// Of all that go over the same connections.
    has_answered: Arc<AtomicBool>,
}

impl Sender {
    async fn send(&self, request: HttpRequestFactory) -> Result<Response, OpenAIError> {
        let mut sent = self.http.execute(self.prepared(&request).await?).await;
        // A server may give up an idle connection just when it is used again. That says nothing about the server, so
        // it is no failed try: the client does not use that connection again, and nobody has to hear of it.
        if sent.as_ref().is_err_and(is_stale) && self.has_answered.swap(false, Ordering::Relaxed) {
            sent = self.http.execute(self.prepared(&request).await?).await;
        }
        let response = sent.map_err(|error| boxed(self.unsent(&error)))?;
        self.has_answered.store(true, Ordering::Relaxed);
        if response.status().is_success() && is_event_stream(&response) {
            return Ok(body::read_to_the_end(response));
        }
        Err(boxed(self.refusal(response).await))
    }

    async fn prepared(&self, request: &HttpRequestFactory) -> Result<Request, OpenAIError> {
        let mut request = request.build().await?;
        request.headers_mut().remove(AUTHORIZATION);
        request.headers_mut().extend(self.headers.clone());
        request.url_mut().set_query(self.query.as_deref());
        Ok(request)
    }

    fn unsent(&self, error: &reqwest::Error) -> ModelError {
        let cause = deepest(error);
        match (error.is_connect(), error.is_timeout()) {
            (true, true) => {
                let limit = CONNECT_LIMIT.as_secs();
                self.peer
                    .unreachable(&format!("no connection within {limit} s"))
            }
            (true, false) => self.peer.unreachable(&cause),
            (false, _) => self
                .peer
                .broken(format!("`{}` did not answer: {cause}", self.peer.base)),
        }
    }

    async fn refusal(&self, mut response: Response) -> ModelError {
        let status = response.status();
        let body =
            tokio::time::timeout(ERROR_BODY_TIME, beginning(&mut response, ERROR_BODY_LIMIT)).await;
        let failure = Failure::from_answer(
            status.as_u16(),
            response.headers(),
            &body.unwrap_or_default(),
        );
        let base = &self.peer.base;
        match response.headers().get(LOCATION).map(HeaderValue::to_str) {
            // Followed blindly, a POST becomes a GET and headers with keys go to another host.
            Some(Ok(to)) if status.is_redirection() => self.peer.unfit(format!(
                "`{base}` redirects to `{}`, set that as base URL",
                super::failure::one_line(to)
            )),
            // An error in a 200 has no status worth telling; only its code can make it another kind.
            _ if status.is_success() => self.no_stream(failure),
            _ => self.peer.error(failure),
        }
    }

    fn no_stream(&self, failure: Failure) -> ModelError {
        let kind = failure.kind();
        let message = format!(
            "`{}` answered {} without an event stream: {}",
            self.peer.base,
            failure.status.unwrap_or_default(),
            failure.words
        );
        ModelError {
            kind,
            ..self.peer.unfit(message)
        }
    }
}

/// Whether the connection was there, and broke before anything of an answer came.
fn is_stale(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

fn boxed(error: ModelError) -> OpenAIError {
    OpenAIError::Boxed(Box::new(error))
}

/// As much of a body as an explanation needs; what came before the connection broke counts.
async fn beginning(response: &mut Response, limit: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= limit {
            body.truncate(limit);
            break;
        }
    }
    body
}

/// No content type at all passes: what follows is seen not to be events soon enough.
fn is_event_stream(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).is_none_or(|value| {
        let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
        value.starts_with("text/event-stream")
    })
}

/// The last of the causes: the outer ones say "error sending request" and the whole URL.
fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

fn base_url(text: &str) -> Result<Url, EndpointError> {
    let refused = |shown: &str, reason: String| EndpointError::BaseUrl {
        url: shown.to_owned(),
        reason,
    };
    let url = Url::parse(text.trim()).map_err(|error| {
        // What cannot be parsed may still hold a password.
        refused(
            text.rsplit('@').next().unwrap_or_default(),
            error.to_string(),
        )
    })?;
    let shown = shown_base(&url);
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused(&shown, "only http and https are spoken".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let reason = "it holds credentials; give the key in its variable instead";
        return Err(refused(&shown, reason.to_owned()));
    }
    Ok(url)
}

/// What may be shown and stored: no credentials, query or fragment, and no slash at the end, since paths are appended.
fn shown_base(url: &Url) -> String {
    let mut url = url.clone();
    // Both only fail for URLs without a host, which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.as_str().trim_end_matches('/').to_owned()
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn headers(endpoint: &Endpoint, auth: Auth) -> Result<HeaderMap, EndpointError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    if let Some(key) = key(endpoint) {
        let (name, value) = match auth {
            Auth::Bearer => (
                AUTHORIZATION,
                HeaderValue::from_str(&format!("Bearer {key}")),
            ),
            Auth::ApiKey => (API_KEY, HeaderValue::from_str(key)),
        };
        let value = value.map_err(|_| EndpointError::Key {
            variable: endpoint.key_variable.clone(),
        })?;
        headers.insert(name, value);
    }
    for (name, value) in &endpoint.headers {
        let parsed = (
            HeaderName::try_from(name),
            HeaderValue::from_str(value.expose().trim()),
        );
        let (Ok(name), Ok(value)) = parsed else {
            return Err(EndpointError::Header { name: name.clone() });
        };
        headers.insert(name, value);
    }
    headers
        .values_mut()
        .for_each(|value| value.set_sensitive(true));
    Ok(headers)
}

fn key(endpoint: &Endpoint) -> Option<&str> {
    let key = endpoint.key.as_ref()?.expose().trim();
    (!key.is_empty()).then_some(key)
}

impl Endpoint {
    /// What of it nobody may see: the key, the values of headers, of one with a scheme (`Bearer …`) also what is behind
    /// it, and what looks like a key in the base URL.
    pub fn secrets(&self) -> Vec<String> {
        let headers = self.headers.iter().map(|(_, value)| value.expose().trim());
        let bare = headers.clone().filter_map(|value| value.split_once(' '));
        let bare = bare.map(|(_, rest)| rest.trim());
        let shown = key(self).into_iter().chain(headers).chain(bare);
        let mut secrets: Vec<String> = shown.map(str::to_owned).collect();
        if let Ok(url) = Url::parse(&self.base_url) {
            let secret = url.query_pairs().filter(|(name, _)| is_secret_name(name));
            secrets.extend(secret.map(|(_, value)| value.into_owned()));
        }
        secrets
    }
}

impl Http {
    fn client(&self, url: &Url) -> Result<reqwest::Client, EndpointError> {
        let kind = match (is_loopback(url), url.scheme()) {
            (false, _) => 0,
            (true, "http") => 1,
            (true, _) => 2,
        };
        let known = &self.clients[kind];
        if let Some(client) = known.get() {
            return Ok(client.clone());
        }
        let made = client_for(url)?;
        // Two at once: one of them is dropped.
        Ok(known.get_or_init(|| made).clone())
    }
}

/// A client for `url` and others like it: our root certificates and provider, no redirects, no proxy to this machine.
pub fn http_client(url: &str) -> Result<reqwest::Client, EndpointError> {
    client_for(&base_url(url)?)
}

fn client_for(url: &Url) -> Result<reqwest::Client, EndpointError> {
    // Fails where somebody was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("openoxide/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_LIMIT)
        .tcp_keepalive(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" && is_loopback(url) {
        // Nothing is encrypted and nobody redirects us: reading the system's certificates would only cost time, and
        // fails in a container that has none.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| EndpointError::Http {
        reason: deepest(&error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(endpoint: Endpoint) -> String {
        connect(&endpoint).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_sent_is_an_error_and_no_panic() {
        let table = [
            ("not a url", "relative URL without a base"),
            (
                "ftp://h/v1",
                "`ftp://h/v1` cannot be used: only http and https",
            ),
            (
                "https://ana:hunter2@h/v1",
                "`https://h/v1` cannot be used: it holds credentials",
            ),
        ];
        for (url, expect) in table {
            let error = refused(Endpoint::new(url, "m"));
            assert!(
                error.contains(expect) && !error.contains("hunter2"),
                "{error}"
            );
        }
        let mut endpoint = Endpoint::new("http://localhost/v1", "m");
        endpoint.key = Some(Secret::new("sk-12\n34"));
        assert!(!format!("{endpoint:?}").contains("sk-12"));
        assert!(
            refused(endpoint.clone()).starts_with("the key in `OPENAI_API_KEY` holds a line end")
        );
        endpoint.key = None;
        endpoint.headers = vec![("bad name".into(), Secret::new("x"))];
        assert!(refused(endpoint).starts_with("the header `bad name` cannot be sent"));
    }

    #[test]
    fn what_nobody_may_see_is_known_in_every_form() {
        let mut endpoint = Endpoint::new(
            "https://h/v1?api-version=2024-10-21&api-key=in-the-url",
            "m",
        );
        endpoint.key = Some(Secret::new(" the-key\n"));
        endpoint.headers = vec![
            ("Authorization".into(), Secret::new("Bearer behind-it")),
            ("X-Team".into(), Secret::new("red")),
        ];
        let expect = [
            "the-key",
            "Bearer behind-it",
            "red",
            "behind-it",
            "in-the-url",
        ];
        assert_eq!(endpoint.secrets(), expect);
    }

    #[test]
    fn a_key_goes_into_the_header_that_the_server_wants() {
        let sent = |url: &str| {
            let mut endpoint = Endpoint::new(url, "m");
            endpoint.key = Some(Secret::new(" k1 \n"));
            let auth = providers::at(&Url::parse(url).unwrap(), false).auth;
            let headers = headers(&endpoint, auth).unwrap();
            let header = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
            (header("authorization"), header("api-key"))
        };
        let key = |text: &str| Some(text.to_owned());
        let azure = "https://me.openai.azure.com/openai/v1";
        assert_eq!(sent(azure), (None, key("k1")));
        assert_eq!(sent("https://h.example/v1"), (key("Bearer k1"), None));
    }

    #[test]
    fn a_base_url_is_known_by_one_spelling() {
        let table = [
            (
                "http://127.0.0.1:8123/v1/",
                "http://127.0.0.1:8123/v1",
                true,
            ),
            ("http://[::1]:8123/v1", "http://[::1]:8123/v1", true),
            ("HTTP://LocalHost/v1", "http://localhost/v1", true),
            (
                " https://h.example/v1?api-version=1#x ",
                "https://h.example/v1",
                false,
            ),
        ];
        for (given, shown, loopback) in table {
            let url = base_url(given).unwrap();
            assert_eq!(
                (shown_base(&url).as_str(), is_loopback(&url)),
                (shown, loopback)
            );
        }
    }
}
