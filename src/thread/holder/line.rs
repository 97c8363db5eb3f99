//! The visitor's end of a connection, shared by its errands.
//!
//! Two tasks carry it, one each way. Ended by the holder's leaving, which every open errand is told, or by the end of
//! all who can ask something.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::timeout,
};

use super::{Ask, Of, Say, read_line, short, written};

/// How long a holder may take to let a visitor in, and to read what it asks; it answers from memory.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of what a holder says at once: an outcome with all its diffs.
const LONGEST: u64 = 64 * 1024 * 1024;

/// What the holder said and an errand has not heard yet.
const BACKLOG: usize = 64;

/// The connection. A clone is the same one.
#[derive(Clone)]
pub(super) struct Line {
    /// Unbounded: a few lines a call, and an errand that is dropped cannot wait.
    asks: mpsc::UnboundedSender<(u64, Ask)>,
    open: Open,
}

/// Who hears what the holder says of which errand. The lock is held for a map operation; nobody awaits under it.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<Errands>>);

#[derive(Default)]
struct Errands {
    /// The holder has left.
    over: bool,
    last: u64,
    hear: HashMap<u64, mpsc::Sender<Say>>,
}

/// One request and what the holder says to it. Dropping it tells the holder to stop.
pub(super) struct Errand {
    number: u64,
    says: mpsc::Receiver<Say>,
    line: Line,
}

impl Line {
    /// Goes to whoever listens at `socket`. `None` if nobody does, or this process itself: no other holds the thread.
    pub(super) async fn to(socket: &Path) -> io::Result<Option<Self>> {
        let connected = async {
            let (_directory, address) = short(socket)?;
            UnixStream::connect(address).await
        };
        let stream = match timeout(PATIENCE, connected).await? {
            // A holder that was killed leaves its socket; nobody listens at it, or not any more. Where nothing can be kept
            // there is not even a place for one.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(None);
            }
            connected => connected?,
        };
        // A turn has begun here since somebody looked; whoever takes that for another process may not give it a prompt.
        if is_this_process(&stream) {
            return Ok(None);
        }
        let (from, to) = stream.into_split();
        let (asks, lines) = mpsc::unbounded_channel();
        let open = Open::default();
        tokio::spawn(hear(from, open.clone()));
        tokio::spawn(tell(to, lines));
        Ok(Some(Self { asks, open }))
    }

    /// Begins an errand.
    pub(super) fn ask(&self, ask: Ask) -> Errand {
        let (hear, says) = mpsc::channel(BACKLOG);
        let number = self.open.enter(hear);
        // If the holder has left, the errand hears of that.
        let _ = self.asks.send((number, ask));
        Errand {
            number,
            says,
            line: self.clone(),
        }
    }
}

fn is_this_process(holder: &UnixStream) -> bool {
    let own = i32::try_from(std::process::id()).ok();
    holder
        .peer_cred()
        .is_ok_and(|peer| peer.pid().is_some() && peer.pid() == own)
}

impl Open {
    /// A new number. Whoever comes too late hears of it at once: `hear` is dropped.
    fn enter(&self, hear: mpsc::Sender<Say>) -> u64 {
        let mut errands = self.lock();
        errands.last += 1;
        let number = errands.last;
        if !errands.over {
            errands.hear.insert(number, hear);
        }
        number
    }

    fn who(&self, errand: u64) -> Option<mpsc::Sender<Say>> {
        self.lock().hear.get(&errand).cloned()
    }

    fn leave(&self, errand: u64) {
        self.lock().hear.remove(&errand);
    }

    fn end(&self) {
        let mut errands = self.lock();
        errands.over = true;
        errands.hear.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Errands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Errand {
    /// What the holder says next; `None` when it has left. Dropped half-way, it loses nothing.
    pub(super) async fn hear(&mut self) -> Option<Say> {
        self.says.recv().await
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.line.open.leave(self.number);
        // If the holder has left, there is nothing to stop.
        let _ = self.line.asks.send((self.number, Ask::Stop));
    }
}

/// What the holder says, each to its errand. What we do not understand is as good as a refusal.
async fn hear(from: OwnedReadHalf, open: Open) {
    let mut from = BufReader::new(from);
    // Ended by the holder, or by what no holder says.
    while let Ok(Some(line)) = read_line(&mut from, LONGEST).await {
        let Ok(Of { errand, what }) = serde_json::from_str::<Of<serde_json::Value>>(&line) else {
            break;
        };
        let Some(hears) = open.who(errand) else {
            continue;
        };
        let understood = serde_json::from_value(what);
        let say = understood.unwrap_or_else(|error| Say::Refused(error.to_string()));
        // If the errand was dropped just now, nobody needs it.
        let _ = hears.send(say).await;
    }
    open.end();
}

/// Ended by the end of all who ask, or by a holder that does not read.
async fn tell(mut to: OwnedWriteHalf, mut lines: mpsc::UnboundedReceiver<(u64, Ask)>) {
    while let Some((errand, ask)) = lines.recv().await {
        let Ok(line) = written(errand, ask) else {
            return;
        };
        match timeout(PATIENCE, to.write_all(&line)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}
