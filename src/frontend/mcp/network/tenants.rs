//! Everybody that is served: for each tenant the program over its own threads, and a handler for each of its connections.
//!
//! A tenancy begins with the first request that brings its token, and ends when no token names it any more: then its
//! connections end, and its turns are left to themselves.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use rmcp::{
    ServerHandler,
    transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    door::bearer,
    early,
    sessions::Sessions,
    streamable::LARGEST,
    tokens::{LOCAL, Pass, Tokens},
};
use crate::{
    app::{App, Tenant},
    config::ConfigError,
    frontend::mcp::server::Server,
};

/// Requests and connections of one tenant at once.
const ROOM: usize = 1024;

/// Bytes of messages of one tenant that wait for their answers.
const UNANSWERED: usize = 64 << 20;

/// What goes around the handler of each connection; nothing, but in tests of conformance.
pub(super) type Wrap<H> = Arc<dyn Fn(Server) -> H + Send + Sync>;

/// How every handler of the server behaves.
pub(super) struct Manner<H> {
    pub(super) app: App,
    pub(super) wait: Option<Option<Duration>>,
    pub(super) codex: bool,
    pub(super) eof: CancellationToken,
    pub(super) draining: CancellationToken,
    pub(super) wrap: Wrap<H>,
}

/// Everybody. One whose tokens are gone stays, since its turns go on to their end, which the server waits for when it
/// stops; where it comes again, it finds them. The lock is held for a map operation; nobody awaits under it.
pub(super) struct Tenants<H: ServerHandler> {
    manner: Manner<H>,
    /// None where none is wanted.
    tokens: Option<Tokens>,
    /// There were several when the server began.
    several: bool,
    open: Mutex<HashMap<String, Arc<Tenancy<H>>>>,
}

/// One tenant at work.
pub(super) struct Tenancy<H: ServerHandler> {
    pub(super) app: Arc<App>,
    server: Server,
    wrap: Wrap<H>,
    pub(super) http: StreamableHttpService<H, Sessions>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) room: Arc<Semaphore>,
    /// In bytes.
    pub(super) memory: Arc<Semaphore>,
    /// Its connections end.
    ended: CancellationToken,
}

impl<H: ServerHandler> Tenants<H> {
    /// Those that `tokens` name; without tokens there is one.
    ///
    /// # Errors
    /// If one of them has no proper name, or if this machine cannot keep several apart.
    pub(super) fn new(manner: Manner<H>, tokens: Option<Tokens>) -> Result<Self, ConfigError> {
        let names = tokens.as_ref().map_or_else(BTreeSet::new, Tokens::names);
        let tenants = Self {
            several: names.len() > 1,
            manner,
            tokens,
            open: Mutex::default(),
        };
        for name in &names {
            tenants.tenant(name)?;
        }
        if tenants.several {
            let apart = tenants.manner.app.can_separate_tenants();
            apart.map_err(|why| {
                ConfigError::new(why).hint("serve each from a process of its own")
            })?;
        }
        Ok(tenants)
    }

    /// The tenant that a request comes from, and what ends that it may come with its token.
    pub(super) fn of(&self, headers: &HeaderMap) -> Option<(Arc<Tenancy<H>>, CancellationToken)> {
        let Pass { name, expired } = match &self.tokens {
            None => Pass::lasting(LOCAL),
            Some(tokens) => {
                self.refresh();
                tokens.open(bearer(headers)?)?
            }
        };
        Some((self.named(name)?, expired))
    }

    fn named(&self, name: String) -> Option<Arc<Tenancy<H>>> {
        let mut open = self.open();
        let known = open.get(&name).cloned();
        if let Some(tenancy) = known.as_ref().filter(|known| known.is_open()) {
            return Some(tenancy.clone());
        }
        let is_alone = open.values().all(|other| !other.is_open());
        if !self.several && !is_alone {
            tracing::error!(
                "`{name}` would be a second tenant; restart the server to serve several"
            );
            return None;
        }
        let app = match known {
            Some(known) => known.app.clone(),
            None => {
                let tenant = self.tenant(&name);
                let tenant = tenant.inspect_err(|error| tracing::error!("{error}"));
                Arc::new(self.manner.app.of(tenant.ok()?))
            }
        };
        let tenancy = Arc::new(Tenancy::new(&self.manner, app));
        open.insert(name, tenancy.clone());
        Some(tenancy)
    }

    /// Ends tenancies whose last token is gone.
    pub(super) fn refresh(&self) {
        let Some(tokens) = self.tokens.as_ref().filter(|tokens| tokens.refresh()) else {
            return;
        };
        let names = tokens.names();
        for (name, tenancy) in self.open().iter() {
            if !names.contains(name) {
                tenancy.ended.cancel();
            }
        }
    }

    /// Those that came so far.
    pub(super) fn at_work(&self) -> Vec<Arc<Tenancy<H>>> {
        self.open().values().cloned().collect()
    }

    fn tenant(&self, name: &str) -> Result<Tenant, ConfigError> {
        Tenant::new(name, &self.manner.app.config().server, self.several)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<Tenancy<H>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: ServerHandler> Tenancy<H> {
    fn new(manner: &Manner<H>, app: Arc<App>) -> Self {
        let ended = manner.eof.child_token();
        let server = Server::new(
            app.clone(),
            manner.wait,
            manner.codex,
            manner.eof.clone(),
            manner.draining.clone(),
        );
        let sessions = Arc::new(Sessions::new());
        // Whoever is asked for and by which page is judged at the door.
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .with_sse_keep_alive(Some(early::HEARTBEAT))
            .with_max_request_body_bytes(LARGEST)
            .with_cancellation_token(ended.clone());
        let factory = {
            let (server, wrap, eof) = (server.clone(), manner.wrap.clone(), manner.eof.clone());
            move || Ok(wrap(server.connected(eof.clone())))
        };
        Self {
            app,
            server,
            wrap: manner.wrap.clone(),
            http: StreamableHttpService::new(factory, sessions.clone(), config),
            sessions,
            room: Arc::new(Semaphore::new(ROOM)),
            memory: Arc::new(Semaphore::new(UNANSWERED)),
            ended,
        }
    }

    /// There is a token for it.
    fn is_open(&self) -> bool {
        !self.ended.is_cancelled()
    }

    /// The owner of the server lets it see the numbers of all.
    pub(super) fn sees_all(&self) -> bool {
        let tenants = &self.app.config().server.tenants;
        let own = self.app.tenant().and_then(|own| tenants.get(&own.name));
        own.is_some_and(|own| own.all_metrics)
    }

    /// A handler for a connection, and what ends that.
    pub(super) fn connection(&self) -> (H, CancellationToken) {
        let gone = self.ended.child_token();
        ((self.wrap)(self.server.connected(gone.clone())), gone)
    }
}
