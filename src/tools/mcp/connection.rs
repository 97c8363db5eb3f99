//! One live connection to an external server: opened, asked with a time-out, and told when a request is given up.
//!
//! The protocol is spoken here rather than by rmcp's client, whose types for all that a server may say cost 4 MB of the
//! binary, while what is needed of it is a handful of requests whose results are read as JSON anyway. Both generations
//! are spoken: `initialize` up to 2025-11-25, and 2026-07-28, where each request says what it needs.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    heard::{Expected, Follower, Heard, Nobody},
    offer::Offer,
    pipe::Input,
    settings::Protocol,
    socket::Socket,
    streamable::{Http, SLOWEST},
};
use crate::conversation::{shortened, shown_line};

/// The version that `initialize` asks for; a server answers with one that it knows.
const OLDER: &str = "2025-11-25";
/// The version of requests that say what they need.
const NEWER: &str = "2026-07-28";
/// How long a server may take to hear that a request is cancelled.
const TO_HEAR: Duration = Duration::from_secs(1);
/// For a server to answer that it will say something unasked.
const LISTENING: Duration = Duration::from_millis(500);
/// The first pause before it is listened to again; it doubles.
const AGAIN: Duration = Duration::from_secs(1);
/// Characters of what a server says about an error.
const ERROR_CHARS: usize = 2_000;
/// While a connection is opened its owner bounds the whole of it.
const OPENING: Duration = Duration::from_secs(3_600);

/// How long the content of a resource holds whose server says nothing about that.
const HOLDS: Duration = Duration::from_secs(60);
/// However long it says.
const LONGEST_HOLD: Duration = Duration::from_secs(3_600);
/// Contents that are kept, and bytes of one.
const MOST_CONTENTS: usize = 64;
const LARGEST_CONTENT: usize = 64 << 10;

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
    /// It wants a person to sign in, or to allow more; with what to do.
    Locked(String),
}

/// What messages go through.
#[derive(Debug)]
pub(super) enum Way {
    /// The standard input of a program; its output is read by a task of its own.
    Pipe(Input),
    /// Streamable HTTP.
    Http(Arc<Http>),
    /// A WebSocket.
    Socket(Socket),
}

/// A connection that can be asked from several tasks.
#[derive(Debug)]
pub(super) struct Connection {
    way: Way,
    heard: Arc<Heard>,
    next: AtomicU64,
    /// Requests say what they need.
    newer: bool,
    /// What it said of itself, and how long that took.
    pub(super) about: About,
    offer: Mutex<Arc<Offer>>,
    /// It was looked at again.
    looked: Notify,
    /// Contents of resources, and until when they hold. Locked for a moment; nobody awaits under it.
    contents: Mutex<HashMap<String, (Instant, String)>>,
    /// What a server says unasked over HTTP; ends with the connection.
    listening: Mutex<Option<AbortOnDropHandle<()>>>,
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
    #[serde(skip)]
    pub(super) resources: bool,
    #[serde(skip)]
    pub(super) tools: bool,
    /// It says so when what it offers changes.
    #[serde(skip)]
    pub(super) announces: bool,
}

impl Connection {
    /// Shakes hands, and asks what there is. The caller bounds the time.
    pub(super) async fn open(
        way: Way,
        heard: Arc<Heard>,
        protocol: Protocol,
    ) -> Result<Self, String> {
        let started = Instant::now();
        let mut connection = Self {
            way,
            heard,
            next: AtomicU64::new(1),
            newer: protocol != Protocol::Legacy,
            about: About::default(),
            offer: Mutex::default(),
            looked: Notify::new(),
            contents: Mutex::default(),
            listening: Mutex::default(),
        };
        connection.about = match connection.newer {
            true => connection.discover().await?,
            false => connection.initialize().await?,
        };
        connection.look_again().await?;
        connection.about.start_ms =
            u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(connection)
    }

    async fn initialize(&self) -> Result<About, String> {
        let params = json!({"protocolVersion": OLDER, "capabilities": capabilities(), "clientInfo": ourselves()});
        let result = self.opened("initialize", params).await?;
        let version = result["protocolVersion"].as_str().unwrap_or(OLDER);
        if let Way::Http(http) = &self.way {
            http.agreed(version);
        }
        self.tell("notifications/initialized", json!({})).await;
        if let Way::Http(http) = &self.way {
            // Before anything is asked: a server may put its questions there instead of beside the answer, and one that
            // nobody listens to yet is lost. Some answer only with their first word, so this ends by itself.
            let (http, heard) = (http.clone(), self.heard.clone());
            let (begins, begun) = oneshot::channel();
            let listening = tokio::spawn(async move { http.listen(&heard, begins).await });
            *self.listening() = Some(AbortOnDropHandle::new(listening));
            let _ = tokio::time::timeout(LISTENING, begun).await;
        }
        Ok(about(
            &result["serverInfo"],
            version,
            &result["capabilities"],
        ))
    }

    async fn discover(&self) -> Result<About, String> {
        if let Way::Http(http) = &self.way {
            http.agreed(NEWER);
        }
        let result = self.opened("server/discover", json!({})).await?;
        let versions = result["supportedVersions"].as_array();
        if !versions.is_some_and(|versions| versions.iter().any(|version| version == NEWER)) {
            return Err(format!("it does not speak {NEWER}"));
        }
        let server = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
        Ok(about(server, NEWER, &result["capabilities"]))
    }

    async fn opened(&self, method: &str, params: Value) -> Result<Value, String> {
        let cancel = CancellationToken::new();
        let asked = self
            .ask(method, params, OPENING, &cancel, Arc::new(Nobody))
            .await;
        asked.map_err(|trouble| match trouble {
            Trouble::Refused(why) => format!("it says: {}", shown_line(&why)),
            Trouble::Gone => match self.way {
                Way::Pipe(_) => "it ended before it answered".to_owned(),
                Way::Http(_) | Way::Socket(_) => "it cannot be reached".to_owned(),
            },
            Trouble::TimedOut | Trouble::Cancelled => "it did not answer".to_owned(),
            Trouble::Locked(why) => why,
        })
    }

    /// Asks anew what the server offers.
    pub(super) async fn look_again(&self) -> Result<(), String> {
        let offer = Offer::read(self).await?;
        if let Way::Http(http) = &self.way {
            let tools = offer.tools.iter();
            http.mirror(tools.filter_map(|tool| Some((tool.name.clone(), tool.mirrored.clone()?))));
        }
        *self.offer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(offer);
        self.contents().clear();
        self.looked.notify_waiters();
        Ok(())
    }

    /// What it offers now.
    pub(super) fn offer(&self) -> Arc<Offer> {
        self.offer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads a resource that the server has listed.
    pub(super) async fn read(&self, uri: &str, patience: Duration) -> Result<Value, Trouble> {
        let (cancel, params) = (CancellationToken::new(), json!({"uri": uri}));
        self.ask(
            "resources/read",
            params,
            patience,
            &cancel,
            Arc::new(Nobody),
        )
        .await
    }

    /// The content of a resource, while what the server said of it holds.
    pub(super) fn known(&self, uri: &str) -> Option<String> {
        let contents = self.contents();
        let (until, text) = contents.get(uri)?;
        (*until > Instant::now()).then(|| text.clone())
    }

    /// Keeps it for as long as the server says, in milliseconds, or for a while where it says nothing.
    pub(super) fn remember(&self, uri: &str, text: &str, ttl_ms: &Value) {
        let ttl = ttl_ms.as_u64().map_or(HOLDS, Duration::from_millis);
        let mut contents = self.contents();
        contents.retain(|_, (until, _)| *until > Instant::now());
        if contents.len() < MOST_CONTENTS && text.len() <= LARGEST_CONTENT {
            let until = Instant::now() + ttl.min(LONGEST_HOLD);
            contents.insert(uri.to_owned(), (until, text.to_owned()));
        }
    }

    fn listening(&self) -> MutexGuard<'_, Option<AbortOnDropHandle<()>>> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn contents(&self) -> MutexGuard<'_, HashMap<String, (Instant, String)>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parameters of tools go into headers where that is wanted.
    pub(super) fn mirrors(&self) -> bool {
        self.newer && matches!(self.way, Way::Http(_))
    }

    /// Returns when the server says that what it offers changed.
    pub(super) async fn changed(&self) {
        self.heard.changed.notified().await;
    }

    /// Hears what a server of the newer protocol says unasked, and listens again when that breaks off, since in between
    /// there may be something new. Never returns; ended by being dropped.
    pub(super) async fn listen(&self) {
        if !self.newer || !self.about.announces {
            return std::future::pending().await;
        }
        let mut pause = AGAIN;
        loop {
            let since = Instant::now();
            let wished = json!({"toolsListChanged": true, "resourcesListChanged": true});
            let params = json!({"notifications": wished});
            let cancel = CancellationToken::new();
            let listening = self.ask(
                "subscriptions/listen",
                params,
                Duration::MAX,
                &cancel,
                Arc::new(Nobody),
            );
            // Then what it offers is what it offered; it may think better of it.
            let is_refused = matches!(listening.await, Err(Trouble::Refused(_)));
            if is_refused {
                pause = SLOWEST;
            } else if since.elapsed() >= SLOWEST {
                pause = AGAIN;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SLOWEST);
            if !is_refused {
                self.heard.changed.notify_one();
            }
        }
    }

    /// Has the keeper look again at what it offers, and waits until it has, for a moment at most.
    pub(super) async fn refreshed(&self, within: Duration) {
        let looked = self.looked.notified();
        self.heard.changed.notify_one();
        // What it offered before is better than nothing.
        let _ = tokio::time::timeout(within, looked).await;
    }

    /// Returns when nothing more comes.
    pub(super) async fn ended(&self) {
        self.heard.closed.cancelled().await;
    }

    /// Lets the server know that this is the end.
    pub(super) async fn close(&self) {
        match &self.way {
            Way::Pipe(input) => input.close(),
            Way::Http(http) => drop(tokio::time::timeout(TO_HEAR, http.close()).await),
            Way::Socket(socket) => drop(tokio::time::timeout(TO_HEAR, socket.close()).await),
        }
        self.heard.close();
    }

    /// How long it takes to answer nothing; the newer protocol has no such question.
    pub(super) async fn ping(&self, patience: Duration) -> Option<Duration> {
        let started = Instant::now();
        let cancel = CancellationToken::new();
        let asked = self
            .ask("ping", json!({}), patience, &cancel, Arc::new(Nobody))
            .await;
        asked
            .ok()
            .filter(|_| !self.newer)
            .map(|_| started.elapsed())
    }

    /// Sends a request and gives its result. Ends with the answer, after `patience` (not counting the time for which a
    /// person is asked), with `cancel`, or with the
    /// connection; in the second and third case the server is told.
    pub(super) async fn ask(
        &self,
        method: &str,
        mut params: Value,
        patience: Duration,
        cancel: &CancellationToken,
        follower: Arc<dyn Follower>,
    ) -> Result<Value, Trouble> {
        if self.heard.closed.is_cancelled() {
            return Err(Trouble::Gone);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let Expected {
            answer,
            asking,
            waits,
        } = self.heard.expect(id, follower);
        params["_meta"] = self.meta(Some(id));
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let (why, reason) = tokio::select! {
            biased;
            answer = self.answered(&message, answer) => return answer,
            () = self.heard.closed.cancelled() => return Err(Trouble::Gone),
            () = cancel.cancelled() => (Trouble::Cancelled, "the turn was interrupted"),
            () = runs_out(patience, asking) => (Trouble::TimedOut, "it took too long"),
        };
        drop(waits);
        self.tell(
            "notifications/cancelled",
            json!({"requestId": id, "reason": reason}),
        )
        .await;
        Err(why)
    }

    async fn answered(
        &self,
        message: &Value,
        mut answer: oneshot::Receiver<super::heard::Answer>,
    ) -> Result<Value, Trouble> {
        let answer = match &self.way {
            Way::Pipe(input) => {
                if !input.send(message).await {
                    return Err(Trouble::Gone);
                }
                answer.await.map_err(|_| Trouble::Gone)?
            }
            Way::Socket(socket) => {
                if !socket.send(message).await {
                    return Err(Trouble::Gone);
                }
                answer.await.map_err(|_| Trouble::Gone)?
            }
            Way::Http(http) => tokio::select! {
                biased;
                answer = &mut answer => answer.map_err(|_| Trouble::Gone)?,
                exchanged = http.exchange(message, &self.heard) => {
                    exchanged?;
                    answer.try_recv().map_err(|_| Trouble::Gone)?
                }
            },
        };
        answer.map_err(|why| Trouble::Refused(shortened(&why, ERROR_CHARS)))
    }

    /// Sends a notification. One that does not listen is not waited for; it has no more to lose than that.
    async fn tell(&self, method: &str, mut params: Value) {
        if self.newer {
            params["_meta"] = self.meta(None);
        }
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        let told = async {
            match &self.way {
                Way::Pipe(input) => drop(input.send(&message).await),
                Way::Http(http) => drop(http.exchange(&message, &self.heard).await),
                Way::Socket(socket) => drop(socket.send(&message).await),
            }
        };
        let _ = tokio::time::timeout(TO_HEAR, told).await;
    }

    fn meta(&self, id: Option<u64>) -> Value {
        let mut meta = json!({});
        if let Some(id) = id {
            meta["progressToken"] = id.into();
        }
        if self.newer {
            meta["io.modelcontextprotocol/protocolVersion"] = NEWER.into();
            meta["io.modelcontextprotocol/clientInfo"] = ourselves();
            meta["io.modelcontextprotocol/clientCapabilities"] = capabilities();
        }
        meta
    }
}

/// Returns after `patience`, and whatever time a person was asked for.
async fn runs_out(patience: Duration, mut asking: watch::Receiver<bool>) {
    let mut left = patience;
    loop {
        // An error means that nobody can be asked any more.
        let _ = asking.wait_for(|asking| !asking).await;
        let began = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(left) => return,
            Ok(_) = asking.wait_for(|asking| *asking) => left = left.saturating_sub(began.elapsed()),
        }
    }
}

/// A person can be asked, by a form; `{}` says that to servers of before 2025-11-25 too.
fn capabilities() -> Value {
    json!({"elicitation": {}})
}

fn ourselves() -> Value {
    json!({"name": "openoxide", "version": env!("CARGO_PKG_VERSION")})
}

fn about(server: &Value, version: &str, capabilities: &Value) -> About {
    let word = |key: &str| server[key].as_str().unwrap_or_default();
    let name = format!("{} {}", word("name"), word("version"));
    About {
        name: shortened(&shown_line(name.trim()), 80),
        protocol: shortened(&shown_line(version), 40),
        start_ms: 0,
        resources: capabilities["resources"].is_object(),
        tools: capabilities["tools"].is_object(),
        announces: ["tools", "resources"]
            .iter()
            .any(|what| capabilities[*what]["listChanged"] == true),
    }
}
