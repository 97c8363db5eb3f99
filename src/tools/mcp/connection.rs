//! One live connection to an external server: opened within a time, asked with one, and heard out with care.
//!
//! rmcp speaks the protocol. What it does not do by itself is here: every request has a time-out and can be cancelled
//! (the server is told), lists have a bound, progress is put in order, and what a server asks of us is refused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rmcp::{
    ClientHandler, ErrorData, RoleClient,
    model::{
        ClientCapabilities, ClientConfig, ClientRequest, ElicitRequestParams, ElicitResult,
        ElicitationAction, Implementation, PingRequest, ProgressNotificationParam, ProgressToken,
        ProtocolVersion,
    },
    service::{
        ClientInitializeError, ClientLifecycleMode, ClientServiceExt, NotificationContext, Peer,
        PeerRequestOptions, RequestContext, RunningService, ServiceError,
    },
};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{offer::Offer, settings::Protocol, way::Way};
use crate::conversation::{shortened, shown_line};

/// How long a server may take to hear that a request is cancelled.
const TO_HEAR: Duration = Duration::from_secs(1);
/// Characters of what a server says about an error.
const ERROR_CHARS: usize = 2_000;

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server says no.
    Refused(String),
    /// It took too long and was told to stop.
    TimedOut,
    /// The turn was interrupted, and the server was told.
    Cancelled,
    /// The connection is gone.
    Gone,
}

/// A connection that can be asked from several tasks.
#[derive(Debug)]
pub(super) struct Connection {
    peer: Peer<RoleClient>,
    heard: Arc<Heard>,
    /// What it said of itself, and how long that took.
    pub(super) about: About,
    offer: Mutex<Arc<Offer>>,
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct About {
    /// Name and version.
    pub name: String,
    /// The version of the protocol that is spoken.
    pub protocol: String,
    /// From the start to its list of tools, in milliseconds.
    pub start_ms: u64,
    /// It has resources.
    #[serde(skip)]
    pub(super) resources: bool,
    #[serde(skip)]
    pub(super) tools: bool,
}

/// The line to the server. Whoever has it decides when it ends.
pub(super) type Line = RunningService<RoleClient, Arc<Heard>>;

impl Connection {
    /// Shakes hands, and asks what there is. The caller bounds the time.
    pub(super) async fn open(way: Way, protocol: Protocol) -> Result<(Self, Line), String> {
        let started = Instant::now();
        let heard = Arc::new(Heard::default());
        let line = heard
            .clone()
            .serve_with_lifecycle(way, mode(protocol))
            .await
            .map_err(|error| said(&error))?;
        let info = line.peer().peer_info();
        let capabilities = info.as_ref().map(|info| info.capabilities.clone());
        let capabilities = capabilities.unwrap_or_default();
        let server = info.as_ref().and_then(|info| info.server_info.clone());
        let mut connection = Self {
            peer: line.peer().clone(),
            heard,
            about: About {
                name: server.map_or_else(String::new, |server| {
                    shortened(
                        &shown_line(&format!("{} {}", server.name, server.version)),
                        80,
                    )
                }),
                protocol: info.map_or_else(String::new, |info| info.protocol_version.to_string()),
                resources: capabilities.resources.is_some(),
                tools: capabilities.tools.is_some(),
                ..About::default()
            },
            offer: Mutex::default(),
        };
        connection.look_again().await?;
        connection.about.start_ms =
            u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok((connection, line))
    }

    /// Asks anew what the server offers.
    pub(super) async fn look_again(&self) -> Result<(), String> {
        let offer = Offer::read(self).await?;
        *self.offer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(offer);
        Ok(())
    }

    /// What it offers now.
    pub(super) fn offer(&self) -> Arc<Offer> {
        self.offer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns when the server says that its tools changed.
    pub(super) async fn changed(&self) {
        self.heard.changed.notified().await;
    }

    /// How long it takes to answer nothing.
    pub(super) async fn ping(&self, patience: Duration) -> Result<Duration, Trouble> {
        let started = Instant::now();
        let ping = ClientRequest::PingRequest(PingRequest::default());
        let cancel = CancellationToken::new();
        self.ask(ping, patience, &cancel, |_| {}).await?;
        Ok(started.elapsed())
    }

    /// Sends `request` and gives its result as JSON. Ends with the answer, after `patience`, or with `cancel`; in the
    /// last two cases the server is told.
    pub(super) async fn ask(
        &self,
        request: ClientRequest,
        patience: Duration,
        cancel: &CancellationToken,
        progress: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Value, Trouble> {
        let sent = self
            .peer
            .send_cancellable_request(request, PeerRequestOptions::no_options());
        let mut handle = tokio::select! {
            sent = sent => sent.map_err(trouble)?,
            () = cancel.cancelled() => return Err(Trouble::Cancelled),
            () = tokio::time::sleep(patience) => return Err(Trouble::TimedOut),
        };
        let _follows = self.heard.follow(handle.progress_token.clone(), progress);
        let (why, reason) = tokio::select! {
            biased;
            answer = &mut handle.rx => {
                let result = answer.map_err(|_| Trouble::Gone)?.map_err(trouble)?;
                return serde_json::to_value(result).map_err(|error| Trouble::Refused(error.to_string()));
            }
            () = cancel.cancelled() => (Trouble::Cancelled, "the turn was interrupted"),
            () = tokio::time::sleep(patience) => (Trouble::TimedOut, "it took too long"),
        };
        // One that does not read is not waited for; it has no more to lose than the request.
        let _ = tokio::time::timeout(TO_HEAR, handle.cancel(Some(reason.to_owned()))).await;
        Err(why)
    }
}

fn mode(protocol: Protocol) -> ClientLifecycleMode {
    match protocol {
        Protocol::Legacy => ClientLifecycleMode::Initialize,
        Protocol::Auto | Protocol::Modern => ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        },
    }
}

fn said(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::ConnectionClosed(_) => "it ended before it answered".to_owned(),
        ClientInitializeError::JsonRpcError(error) => {
            format!(
                "it says: {}",
                shortened(&shown_line(&error.message), ERROR_CHARS)
            )
        }
        other => shortened(&shown_line(&other.to_string()), 300),
    }
}

fn trouble(error: ServiceError) -> Trouble {
    match error {
        ServiceError::McpError(error) => Trouble::Refused(shortened(&error.message, ERROR_CHARS)),
        ServiceError::TransportClosed | ServiceError::TransportSend(_) => Trouble::Gone,
        ServiceError::Timeout { .. } => Trouble::TimedOut,
        ServiceError::Cancelled { .. } => Trouble::Refused("it gave the request up".to_owned()),
        other => Trouble::Refused(shortened(&shown_line(&other.to_string()), ERROR_CHARS)),
    }
}

type Listener = Box<dyn Fn(String) + Send + Sync>;

/// What the server sends without being asked.
#[derive(Default)]
pub(super) struct Heard {
    changed: Notify,
    /// By request. Locked for a moment; nobody awaits under it.
    followers: Mutex<HashMap<ProgressToken, (f64, Listener)>>,
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Heard")
    }
}

impl Heard {
    fn follow(
        self: &Arc<Self>,
        token: ProgressToken,
        progress: impl Fn(String) + Send + Sync + 'static,
    ) -> Follows {
        let listener: Listener = Box::new(progress);
        self.followers()
            .insert(token.clone(), (f64::NEG_INFINITY, listener));
        Follows {
            heard: self.clone(),
            token,
        }
    }

    fn followers(&self) -> std::sync::MutexGuard<'_, HashMap<ProgressToken, (f64, Listener)>> {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until it is dropped, progress of a request is heard.
struct Follows {
    heard: Arc<Heard>,
    token: ProgressToken,
}

impl Drop for Follows {
    fn drop(&mut self) {
        self.heard.followers().remove(&self.token);
    }
}

impl ClientHandler for Heard {
    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        // It was not declared, so a server that asks all the same gets to hear that nobody is there.
        Ok(ElicitResult::new(ElicitationAction::Cancel))
    }

    async fn on_progress(
        &self,
        said: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        let mut followers = self.followers();
        let Some((last, listener)) = followers.get_mut(&said.progress_token) else {
            return;
        };
        // Each notification is a task of its own in rmcp, so one may overtake another.
        if said.progress <= *last {
            return;
        }
        *last = said.progress;
        let of = said.total.map(|total| format!(" of {total}"));
        let count = || format!("{}{}", said.progress, of.unwrap_or_default());
        let text = said.message.filter(|text| !text.trim().is_empty());
        listener(shortened(&shown_line(&text.unwrap_or_else(count)), 200));
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("openoxide", env!("CARGO_PKG_VERSION")),
        )
        // For `initialize`; the newer protocol has its own way to agree.
        .with_protocol_version(ProtocolVersion::V_2025_11_25)
    }
}
