//! The network service: MCP over Streamable HTTP at `/mcp` and over WebSocket at `/ws`, for one or many tenants.
//!
//! One task accepts, and each connection has a task of its own. What a request must pass stands in [`House::answer`], in
//! this order: the door (`Host`, `Origin`), the token, room. Told to stop, the server drains: no turn begins any more,
//! those that run get their grace, then they are let go of and recorded as on standard input/output.

mod door;
mod early;
mod metrics;
mod sessions;
mod streamable;
mod tenants;
mod tokens;
mod ws;

use std::{
    convert::Infallible, io, net::SocketAddr, path::PathBuf, pin::pin, sync::Arc, time::Duration,
};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, ws::WebSocketUpgrade},
    response::{IntoResponse, Response},
};
use futures_util::future::join_all;
use http::{
    Method, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::ServerHandler;
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::WINDING_DOWN;
use crate::{app::App, config::ConfigError};
use door::{Door, Refusal, unauthorized};
use metrics::Account;
use tenants::{Manner, Tenancy, Tenants};
use tokens::Tokens;

pub use super::server::Server;

/// Connections at once, and no more than half of the files that the process may have open: whoever connects, without a
/// token even, must leave some for the work. More wait to be accepted.
const CONNECTIONS: usize = 4096;
/// How long the head of a request may take, and how long a connection waits for the next one.
const HEAD: Duration = Duration::from_secs(30);
/// Bytes of a head.
const HEAD_SIZE: usize = 64 << 10;
/// Headers of a request.
const HEADERS: usize = 100;
/// How long a client may leave what we sent without a sign that it arrived: it is gone, or reads nothing.
const UNREAD: Duration = Duration::from_secs(120);
/// How often a changed token file is looked for where nobody comes.
const LOOK: Duration = Duration::from_secs(1);
/// Where connections cannot be accepted for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// For what turns came to, to reach their callers before the connections end.
const PARTING: Duration = Duration::from_millis(200);
/// The longest that running turns get when the server is told to stop.
const LONGEST_GRACE: Duration = Duration::from_secs(3600);

/// How the owner wants it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `ADDR:PORT`; port 0 is any.
    pub address: String,
    /// Let in whoever comes: on a loopback address only.
    pub no_auth: bool,
    /// The owner's wait budget; the outer `None` where they said nothing.
    pub wait: Option<Option<Duration>>,
    /// Tools are called, and speak, as that peer's.
    pub codex: bool,
}

/// A server that listens and does not serve yet.
pub struct Network<H: ServerHandler> {
    listener: TcpListener,
    address: SocketAddr,
    house: Arc<House<H>>,
    /// Where the token is that was made for want of others.
    own_token: Option<PathBuf>,
    grace: Duration,
}

/// What all connections share.
struct House<H: ServerHandler> {
    door: Door,
    tenants: Tenants<H>,
    eof: CancellationToken,
    draining: CancellationToken,
}

/// What a request takes up until its answer is out, and what ends that.
struct Stay {
    room: OwnedSemaphorePermit,
    /// Its token is one no more.
    expired: CancellationToken,
}

impl Network<Server> {
    /// Listens, as `options` and the configuration of `app` say.
    ///
    /// # Errors
    /// If something of them cannot be had: the address, the tokens, a name.
    pub async fn bind(app: App, options: &Options) -> Result<Self, ConfigError> {
        Network::bind_around(app, options, |server| server).await
    }
}

impl<H: ServerHandler> Network<H> {
    /// The same with something around the handler of each connection: for tests of what carries it.
    ///
    /// # Errors
    /// See [`Network::bind`].
    pub async fn bind_around(
        app: App,
        options: &Options,
        wrap: impl Fn(Server) -> H + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        let asked = &options.address;
        let cannot =
            |error: io::Error| ConfigError::new(format!("cannot listen on `{asked}`: {error}"));
        let listener = TcpListener::bind(asked).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let settings = app.config().server.clone();
        let door = Door::new(asked, &settings.public_hosts, &settings.origins);
        let door = door.map_err(ConfigError::new)?;
        let (tokens, own_token) = tokens(&app, options.no_auth, address)?;
        let grace = Duration::try_from_secs_f64(settings.drain_seconds).unwrap_or(LONGEST_GRACE);
        let (eof, draining) = (CancellationToken::new(), CancellationToken::new());
        let manner = Manner {
            app,
            wait: options.wait,
            codex: options.codex,
            eof: eof.clone(),
            draining: draining.clone(),
            wrap: Arc::new(wrap),
        };
        let house = House {
            door,
            tenants: Tenants::new(manner, tokens)?,
            eof,
            draining,
        };
        Ok(Self {
            listener,
            address,
            house: Arc::new(house),
            own_token,
            grace: grace.min(LONGEST_GRACE),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the token is that was made for want of others.
    pub fn own_token(&self) -> Option<&PathBuf> {
        self.own_token.as_ref()
    }

    /// Serves until `told` is cancelled and all is recorded; `hurried` ends the grace.
    pub async fn serve(self, told: CancellationToken, hurried: CancellationToken) {
        let house = self.house;
        tokio::select! {
            () = accept(self.listener, house.clone()) => {}
            () = watch_tokens(&house.tenants) => {}
            () = drain(&house, self.grace, &told, &hurried) => {}
        }
    }
}

/// The tokens that hold, and the place of the one that was made for want of others.
fn tokens(
    app: &App,
    no_auth: bool,
    address: SocketAddr,
) -> Result<(Option<Tokens>, Option<PathBuf>), ConfigError> {
    let settings = &app.config().server;
    if no_auth {
        return match address.ip().to_canonical().is_loopback() {
            true => Ok((None, None)),
            false => Err(ConfigError::new(format!(
                "`--no-auth` is for a loopback address, which `{address}` is not"
            ))
            .hint("leave it out: without tokens of yours, one is made")),
        };
    }
    if !settings.tokens.is_empty() || settings.token_file.is_some() {
        let tokens = Tokens::new(&settings.tokens, settings.token_file.clone())?;
        return Ok((Some(tokens), None));
    }
    let state = app.state().ok_or_else(|| {
        ConfigError::new("with `--ephemeral` there is no place to keep a token in")
            .hint("give one in OPENOXIDE_TOKENS or with `--token-file`")
    })?;
    let (tokens, path) = Tokens::own(state)?;
    Ok((Some(tokens), Some(path)))
}

/// Never ends by itself.
async fn accept<H: ServerHandler>(listener: TcpListener, house: Arc<House<H>>) {
    let room = Arc::new(Semaphore::new(connections()));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, house.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

fn connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let half = usize::try_from(files / 2).unwrap_or(CONNECTIONS);
    if half < CONNECTIONS {
        tracing::info!(
            "at most {half} connections at once, since there are {files} files at most (`ulimit -n`)"
        );
    }
    half.min(CONNECTIONS)
}

/// Ended by the client, by its silence, or with the server.
async fn connection<H: ServerHandler>(
    stream: TcpStream,
    house: Arc<House<H>>,
    _place: OwnedSemaphorePermit,
) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    if let Err(error) = look_after(&stream) {
        tracing::debug!(%error, "a connection cannot be looked after");
    }
    let eof = house.eof.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let house = house.clone();
        async move { Ok::<_, Infallible>(house.answer(request.map(Body::new), local).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_SIZE)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = eof.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// A client that is gone without a word is noticed by what it does not take.
fn look_after(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    #[cfg(target_os = "linux")]
    {
        let unread = u32::try_from(UNREAD.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_keepidle(stream, UNREAD / 2)?;
        rustix::net::sockopt::set_tcp_user_timeout(stream, unread)?;
    }
    Ok(())
}

/// Connections of a tenant whose token was taken away end within [`LOOK`]. Never ends by itself.
async fn watch_tokens<H: ServerHandler>(tenants: &Tenants<H>) {
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        tenants.refresh();
    }
}

/// Waits until the server is `told` to stop, then for its turns: as long as they take, at most `grace`, or until it is
/// `hurried`. What still runs is then let go of and recorded.
async fn drain<H: ServerHandler>(
    house: &House<H>,
    grace: Duration,
    told: &CancellationToken,
    hurried: &CancellationToken,
) {
    told.cancelled().await;
    house.draining.cancel();
    tracing::info!(
        "stopping: no turn begins any more, those that run have {} s",
        grace.as_secs()
    );
    let apps = || {
        house
            .tenants
            .at_work()
            .into_iter()
            .map(|tenancy| tenancy.app.clone())
    };
    let settled =
        async { join_all(apps().map(|app| async move { app.threads().settled().await })).await };
    tokio::select! {
        _ = timeout(grace, settled) => {}
        () = hurried.cancelled() => {}
    }
    sleep(PARTING).await;
    house.eof.cancel();
    join_all(apps().map(|app| async move {
        app.threads().shut_down(WINDING_DOWN).await;
        // As long as it takes, or until the process is ended by who waits for it.
        let _ = tokio::task::spawn_blocking(move || app.clear_unused_worktrees()).await;
    }))
    .await;
}

impl<H: ServerHandler> House<H> {
    /// The whole way of a request. `local` is the address that it came to.
    async fn answer(self: Arc<Self>, request: Request, local: SocketAddr) -> Response {
        if let Err(refused) = self.door.judge(local, request.uri(), request.headers()) {
            return refused.into_response();
        }
        if request.uri().path() == "/healthz" {
            return self.health();
        }
        let Some((tenancy, expired)) = self.tenants.of(request.headers()) else {
            return unauthorized(request.headers().contains_key(http::header::AUTHORIZATION));
        };
        let room = match tenancy.room.clone().try_acquire_owned() {
            Ok(room) => room,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => return full(),
        };
        let stay = Stay { room, expired };
        match request.uri().path() {
            "/mcp" => streamable::answer(tenancy, request, stay).await,
            "/ws" => upgrade(tenancy, request, stay).await,
            "/metrics" => self.metrics(&tenancy),
            _ => Refusal(StatusCode::NOT_FOUND, "MCP is at `/mcp` and `/ws`").into_response(),
        }
    }

    /// The numbers of a tenant, or of all that came so far where it may see them.
    fn metrics(&self, tenancy: &Tenancy<H>) -> Response {
        let account = |app: &App| {
            Some(Account {
                tenant: app.tenant()?.name.clone(),
                counts: app.meter()?.read(),
                in_memory: app.threads().count(),
            })
        };
        let accounts: Vec<Account> = match tenancy.sees_all() {
            true => {
                let all = self.tenants.at_work();
                all.iter().filter_map(|one| account(&one.app)).collect()
            }
            false => account(&tenancy.app).into_iter().collect(),
        };
        let kind = [(CONTENT_TYPE, metrics::CONTENT_TYPE)];
        (kind, metrics::text(&accounts)).into_response()
    }

    /// Says nothing but that we live, and whether to send more.
    fn health(&self) -> Response {
        match self.draining.is_cancelled() {
            false => "ok\n".into_response(),
            true => Refusal(StatusCode::SERVICE_UNAVAILABLE, "stopping").into_response(),
        }
    }
}

fn full() -> Response {
    let mut response =
        Refusal(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once").into_response();
    response.headers_mut().insert(RETRY_AFTER, 1.into());
    response
}

/// From HTTP to WebSocket, for as long as the connection lives.
async fn upgrade<H: ServerHandler>(
    tenancy: Arc<Tenancy<H>>,
    request: Request,
    stay: Stay,
) -> Response {
    if request.method() != Method::GET {
        return ([(ALLOW, "GET")], StatusCode::METHOD_NOT_ALLOWED).into_response();
    }
    let (mut parts, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Err(refused) => refused.into_response(),
        Ok(upgrade) => upgrade
            .protocols(["mcp"])
            .max_message_size(streamable::LARGEST)
            .max_frame_size(streamable::LARGEST)
            .on_upgrade(move |socket| async move {
                let (handler, gone) = tenancy.connection();
                let mut served = pin!(ws::serve(handler, socket, gone.clone()));
                tokio::select! {
                    () = &mut served => {}
                    () = stay.expired.cancelled() => {
                        gone.cancel();
                        served.await;
                    }
                }
                drop(stay.room);
            }),
    }
}
