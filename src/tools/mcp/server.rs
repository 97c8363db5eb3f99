//! One external server of this process: started in the background, started again when it dies, ended with us.
//!
//! A task owns the program and the line to it; a [`Server`] is the handle that threads share. What the handle tells is
//! always there at once: what the server offered last, in this run or an earlier one. Only a call waits for the server
//! itself, at most its start-up time. A server that fails is a warning; after [`TRIES`] failures in a row it stays
//! down until somebody calls it again. Nothing a server does can end us or hold us up at the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    connection::{About, Connection, Way},
    heard::Heard,
    known::Known,
    oauth::{Challenge, SignIn},
    offer::Offer,
    pipe::{self, Input, Tail},
    settings::{Protocol, Settings},
    socket::Socket,
    streamable::{self, Http},
};
use crate::{
    conversation::shown_line,
    workspace::shell::companion::{Companion, Program},
};

/// Starts in a row that may fail before it stays down.
const TRIES: u32 = 5;
/// Until a server starts whose tools are known and that nobody has called yet.
const AFTER_YOU: Duration = Duration::from_millis(300);
/// The first pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// One that ran so long has not failed at once.
const STEADY: Duration = Duration::from_secs(60);
/// Between two looks at what it offers, however often it says that this changed.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// For a server to say anew what it offers, where by its own word that holds no more, while a thread begins.
const AT_ONCE: Duration = Duration::from_millis(200);
/// For a program to end by itself once its input is closed.
const GRACE: Duration = Duration::from_millis(400);

/// How a server is reached, ready to be used.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Program(Box<Program>),
    Http(streamable::Address),
    Socket(streamable::Address),
}

/// Where a server stands.
#[derive(Clone, Debug)]
enum Status {
    Starting,
    Ready(Arc<Connection>),
    Down {
        why: String,
        /// It will be tried again without being asked.
        again: bool,
    },
}

/// An external server. Dropping the last handle ends it.
#[derive(Debug)]
pub struct Server {
    /// As the owner calls it.
    pub(super) name: String,
    pub(super) settings: Settings,
    status: watch::Receiver<Status>,
    wanted: Arc<Notify>,
    tail: Tail,
    known: Known,
    stop: CancellationToken,
}

impl Server {
    /// The handle, and what keeps the server running until `stop`.
    pub(super) fn new(
        name: &str,
        settings: Settings,
        target: Target,
        known: Known,
        stop: CancellationToken,
    ) -> (Arc<Self>, Keeper) {
        let (status, watching) = watch::channel(Status::Starting);
        let (wanted, tail) = (Arc::new(Notify::new()), Tail::default());
        let keeper = Keeper {
            name: name.to_owned(),
            settings: settings.clone(),
            target,
            known: known.clone(),
            status,
            wanted: wanted.clone(),
            tail: tail.clone(),
            stop: stop.clone(),
        };
        let server = Arc::new(Self {
            name: name.to_owned(),
            settings,
            status: watching,
            wanted,
            tail,
            known,
            stop,
        });
        (server, keeper)
    }

    /// What it offers, as far as is known now.
    pub(super) fn offer(&self) -> Option<Arc<Offer>> {
        match &*self.status.borrow() {
            Status::Ready(connection) => Some(connection.offer()),
            Status::Starting | Status::Down { .. } => self.known.offer(),
        }
    }

    /// What it offers; waited for only if it was never seen, until it is up, down, or late, and not again if it was late.
    pub(super) async fn first_offer(&self) -> Result<Arc<Offer>, String> {
        if let Some(connection) = self.live()
            && connection.offer().is_stale()
        {
            connection.refreshed(AT_ONCE).await;
        }
        if let Some(offer) = self.offer() {
            return Ok(offer);
        }
        if self.known.is_late() {
            return Err(format!(
                "{} the last time, and is not waited for again until it has been",
                self.late()
            ));
        }
        let mut status = self.status.clone();
        let settled = status.wait_for(|status| !matches!(status, Status::Starting));
        let settled = tokio::time::timeout(self.settings.startup(), settled).await;
        match settled.map(|settled| settled.map(|status| status.clone())) {
            Ok(Ok(Status::Down { why, .. })) => Err(why),
            Ok(Err(_)) => Err("it is being ended".to_owned()),
            Ok(Ok(_)) => self.offer().ok_or_else(|| "it offers nothing".to_owned()),
            Err(_) => {
                self.known.was_late();
                Err(self.late())
            }
        }
    }

    /// The live connection; waits while it starts, until `cancel` or the start-up time. One that is down gets a fresh
    /// try first, so that nobody is told why it failed some time ago.
    pub(super) async fn connection(
        &self,
        cancel: &CancellationToken,
    ) -> Result<Arc<Connection>, String> {
        self.wanted.notify_one();
        let mut status = self.status.clone();
        let settled = async {
            let mut fresh = false;
            loop {
                match &*status.borrow_and_update() {
                    Status::Ready(connection) => return Ok(connection.clone()),
                    Status::Down { why, again: false } if fresh => return Err(why.clone()),
                    Status::Starting | Status::Down { .. } => {}
                }
                if status.changed().await.is_err() {
                    return Err("it is being ended".to_owned());
                }
                fresh = true;
            }
        };
        tokio::select! {
            settled = settled => settled,
            () = cancel.cancelled() => Err("the turn was interrupted".to_owned()),
            () = tokio::time::sleep(self.settings.startup()) => Err(match &*self.status.borrow() {
                Status::Down { why, .. } => why.clone(),
                Status::Starting | Status::Ready(_) => self.late(),
            }),
        }
    }

    /// The connection, where there is one now.
    pub(super) fn live(&self) -> Option<Arc<Connection>> {
        match &*self.status.borrow() {
            Status::Ready(connection) => Some(connection.clone()),
            Status::Starting | Status::Down { .. } => None,
        }
    }

    /// Returns once nobody is given `connection` any more, which was found dead; that is a moment later.
    pub(super) async fn lost(&self, connection: &Arc<Connection>) {
        let mut status = self.status.clone();
        let other = |status: &Status| match status {
            Status::Ready(current) => !Arc::ptr_eq(current, connection),
            Status::Starting | Status::Down { .. } => true,
        };
        // An error means that the server is being ended.
        let _ = tokio::time::timeout(GRACE, status.wait_for(other)).await;
    }

    fn late(&self) -> String {
        let seconds = self.settings.startup_seconds;
        format!("it was not ready after {seconds} s (`startup_seconds`)")
    }

    /// What it last wrote to standard error.
    pub fn last_lines(&self) -> Vec<String> {
        self.tail.lines()
    }

    /// What it says of itself, while it runs.
    pub(super) fn about(&self) -> Option<About> {
        match &*self.status.borrow() {
            Status::Ready(connection) => Some(connection.about.clone()),
            Status::Starting | Status::Down { .. } => None,
        }
    }
}

impl Target {
    fn sign_in(&self) -> Option<&SignIn> {
        match self {
            Self::Program(_) => None,
            Self::Http(address) | Self::Socket(address) => address.sign_in.as_ref(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The owner of the program and the line.
pub(super) struct Keeper {
    name: String,
    settings: Settings,
    target: Target,
    known: Known,
    status: watch::Sender<Status>,
    wanted: Arc<Notify>,
    tail: Tail,
    stop: CancellationToken,
}

/// A connection with what stands behind it.
struct Live {
    connection: Arc<Connection>,
    behind: Option<Behind>,
}

/// The program behind a connection.
struct Behind {
    companion: Companion,
    /// Of its standard output.
    read: AbortOnDropHandle<()>,
    /// Of its standard error.
    drain: AbortOnDropHandle<()>,
}

impl Behind {
    /// Ends it, and lets what it wrote last be read; somebody else may still hold its standard error.
    async fn end(self) {
        self.companion.end(GRACE).await;
        let rest = futures_util::future::join(self.read, self.drain);
        let _ = tokio::time::timeout(GRACE, rest).await;
    }
}

/// Why a start failed, and whether another would.
struct Failed {
    why: String,
    for_good: bool,
}

impl Keeper {
    /// Runs until it is stopped, which is bounded: a server that does not end by itself is killed, and what it started
    /// with it.
    pub(super) async fn keep(self) {
        if !self.lets_pass().await {
            return;
        }
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let _ = self.status.send(Status::Starting);
            let began = Instant::now();
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = self.stop.cancelled() => return,
            };
            // Half of it is all that one of two protocols gets.
            if opened.is_err() && began.elapsed() >= self.settings.startup() / 2 {
                self.known.was_late();
            }
            let (why, for_good) = match opened {
                Ok(live) => {
                    let since = Instant::now();
                    self.serve(live).await;
                    if self.stop.is_cancelled() {
                        return;
                    }
                    if since.elapsed() >= STEADY {
                        failures = 0;
                    }
                    ("it ended".to_owned(), false)
                }
                Err(Failed { why, for_good }) => (why, for_good),
            };
            failures += 1;
            self.rest(failures, why, for_good).await;
            if failures >= TRIES {
                failures = 0;
            }
        }
    }

    /// Where it is known what the server offers, the first request to the model goes first: twenty programs that start
    /// at once would take the processors from it. False if nobody wants it any more.
    async fn lets_pass(&self) -> bool {
        if self.settings.context || self.known.offer().is_none() {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep(AFTER_YOU) => true,
            () = self.wanted.notified() => true,
            () = self.stop.cancelled() => false,
        }
    }

    /// Says that it is down and waits before the next try.
    async fn rest(&self, failures: u32, why: String, for_good: bool) {
        let last = self.tail.lines().pop();
        let last = last.map(|line| format!("; its last words: {line}"));
        let why = format!("{why}{}", last.unwrap_or_default());
        let again = failures < TRIES && !for_good;
        if failures == 1 || !again {
            tracing::warn!("external server `{}`: {why}", shown_line(&self.name));
        }
        // Forget who wanted it while it was starting.
        let _ = tokio::time::timeout(Duration::ZERO, self.wanted.notified()).await;
        let _ = self.status.send(Status::Down { why, again });
        let pause = FIRST_PAUSE * 2u32.saturating_pow(failures - 1);
        let enough = async {
            tokio::time::sleep(pause).await;
            if again {
                return;
            }
            tokio::select! {
                () = self.wanted.notified() => {}
                () = self.unlocked(), if for_good => {}
            }
        };
        tokio::select! {
            () = enough => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Returns when a person has signed in there, or out.
    async fn unlocked(&self) {
        match self.target.sign_in() {
            Some(sign_in) => sign_in.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Starts it within its time; one that might speak the newer protocol is started again for the older.
    async fn open(&self) -> Result<Live, Failed> {
        let protocols = self.settings.protocol.tried();
        let each = self.settings.startup() / u32::try_from(protocols.len()).unwrap_or(1);
        let mut failed = None;
        for protocol in protocols {
            match self.open_as(*protocol, each).await {
                Ok(live) => return Ok(live),
                Err(error) if error.for_good => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or(Failed {
            why: "it was not tried".to_owned(),
            for_good: true,
        }))
    }

    async fn open_as(&self, protocol: Protocol, within: Duration) -> Result<Live, Failed> {
        let late = || format!("it did not answer within {:.1} s", within.as_secs_f64());
        let fails = |why| Failed {
            why,
            for_good: false,
        };
        let for_good = |why| Failed {
            why,
            for_good: true,
        };
        let heard = Arc::new(Heard::default());
        let mut over_http = None;
        let (way, behind) = match &self.target {
            Target::Http(address) => {
                let http = Arc::new(Http::new(address).map_err(for_good)?);
                over_http = Some(http.clone());
                (Way::Http(http), None)
            }
            Target::Socket(address) => {
                let opened = Socket::open(address, heard.clone(), self.tail.clone());
                let socket = tokio::time::timeout(within, opened).await;
                (
                    Way::Socket(socket.unwrap_or_else(|_| Err(late())).map_err(fails)?),
                    None,
                )
            }
            Target::Program(program) => {
                let (companion, streams) = Companion::start(program).map_err(for_good)?;
                let input = Input::new(streams.input, heard.clone());
                let tail = self.tail.clone();
                let read = pipe::read(streams.output, input.clone(), heard.clone(), tail.clone());
                let behind = Behind {
                    companion,
                    read: AbortOnDropHandle::new(tokio::spawn(read)),
                    drain: AbortOnDropHandle::new(tokio::spawn(tail.drain(streams.errors))),
                };
                (Way::Pipe(input), Some(behind))
            }
        };
        let opened = Connection::open(way, heard, protocol);
        let opened = tokio::time::timeout(within, opened).await;
        match opened.unwrap_or_else(|_| Err(late())) {
            Ok(connection) => Ok(Live {
                connection: Arc::new(connection),
                behind,
            }),
            Err(why) => {
                if let Some(behind) = behind {
                    behind.end().await;
                }
                // To ask again without another token would only annoy it.
                let is_locked = over_http.is_some_and(|http| http.challenge().is_some());
                Err(if is_locked { for_good(why) } else { fails(why) })
            }
        }
    }

    /// Lets it be used until it ends or we do.
    async fn serve(&self, live: Live) {
        let Live { connection, behind } = live;
        self.offers(&connection);
        let _ = self.status.send(Status::Ready(connection.clone()));
        tokio::select! {
            () = connection.ended() => {}
            () = self.stop.cancelled() => {}
            () = connection.listen() => {}
            () = self.keep_looking(&connection) => {}
        }
        // At once, so that no call is given a line that is dead.
        let _ = self.status.send(Status::Starting);
        connection.close().await;
        if let Some(behind) = behind {
            behind.end().await;
        }
    }

    /// Asks anew whenever the server says that what it offers changed.
    async fn keep_looking(&self, connection: &Connection) {
        let mut said = false;
        loop {
            connection.changed().await;
            let looked = self.look_again(connection).await;
            // Once for each time that it stops answering.
            if let Err(why) = &looked
                && !said
            {
                tracing::warn!("external server `{}` {why}", shown_line(&self.name));
            }
            said = looked.is_err();
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    async fn look_again(&self, connection: &Connection) -> Result<(), String> {
        let looked = tokio::time::timeout(self.settings.startup(), connection.look_again()).await;
        match looked {
            Ok(Ok(())) => {
                self.offers(connection);
                Ok(())
            }
            Ok(Err(why)) => Err(format!("cannot be asked anew what it offers: {why}")),
            Err(_) => Err("changed its tools and does not say how".to_owned()),
        }
    }

    /// What is taken up at the next thread, in this run and the next.
    fn offers(&self, connection: &Connection) {
        self.known.offers(connection.offer());
    }
}

/// What the server at `address` says to a stranger who wants to see its tools; nothing if it shows them.
pub(super) async fn challenge(
    address: &streamable::Address,
    settings: &Settings,
) -> Result<Option<Challenge>, String> {
    for protocol in settings.protocol.tried() {
        let http = Arc::new(Http::new(address)?);
        let opened = Connection::open(Way::Http(http.clone()), Arc::default(), *protocol);
        // Whether it opens or not: it has said what it wants, or nothing.
        let opened = tokio::time::timeout(settings.startup(), opened).await;
        if let Some(challenge) = http.challenge() {
            return Ok(Some(challenge));
        }
        if let Ok(Ok(connection)) = opened {
            connection.close().await;
        }
    }
    Ok(None)
}
