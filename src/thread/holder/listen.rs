//! The side of the process that holds the thread.
//!
//! A task accepts visitors while the thread is held and is stopped when the [`Door`] is dropped. Each visitor is a task
//! of its own, ended by its leaving, by [`IDLE`], or with the thread. None of them keeps the thread in memory: they hold
//! a weak handle.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, broadcast::error::RecvError},
    task::AbortHandle,
    time::timeout,
};

use super::{Ask, Say, short};
use crate::{
    conversation::{Event, Item},
    thread::handle::WeakHandle,
};

/// Visitors at once; more wait to be let in.
const VISITORS: usize = 16;

/// Bytes of a request, and as many again for its end of line.
const LONGEST: u64 = 64 * 1024;

/// How long a visitor may say nothing, or take to read what it is told.
const IDLE: Duration = Duration::from_secs(60);

/// Open while the thread is held.
pub(in crate::thread) struct Door {
    accepting: AbortHandle,
    socket: PathBuf,
}

impl Door {
    /// Listens at `socket`. Must be called under the thread's lock: a socket that is there is what a dead holder left.
    pub(in crate::thread) fn open(socket: PathBuf, thread: WeakHandle) -> io::Result<Self> {
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = bind(&socket)?;
        let accepting = tokio::spawn(accept(listener, thread)).abort_handle();
        Ok(Self { accepting, socket })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.abort();
        // What stays is removed by the next holder.
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn bind(socket: &Path) -> io::Result<UnixListener> {
    let (_directory, address) = short(socket)?;
    let listener = UnixListener::bind(address)?;
    std::fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, thread: WeakHandle) {
    let places = Arc::new(Semaphore::new(VISITORS));
    // Ended by the door: the task is stopped.
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors left, most likely; a visitor tries again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if is_ours(&stream) {
            let visitor = Visitor::new(stream, thread.clone());
            tokio::spawn(async move {
                visitor.serve().await;
                drop(place);
            });
        }
    }
}

fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

struct Visitor {
    asks: BufReader<OwnedReadHalf>,
    says: OwnedWriteHalf,
    thread: WeakHandle,
}

/// The visitor left, or is stuck; either way there is nobody to say it to.
struct Left;

impl Visitor {
    fn new(stream: UnixStream, thread: WeakHandle) -> Self {
        let (asks, says) = stream.into_split();
        Self {
            asks: BufReader::new(asks),
            says,
            thread,
        }
    }

    async fn serve(mut self) {
        while let Ok(line) = self.line().await {
            let served = match serde_json::from_str(&line) {
                Ok(ask) => self.grant(ask).await,
                Err(error) => self.say(&Say::Refused(error.to_string())).await,
            };
            if served.is_err() {
                break;
            }
        }
    }

    async fn line(&mut self) -> Result<String, Left> {
        let mut line = String::new();
        let mut bounded = (&mut self.asks).take(LONGEST);
        let read = timeout(IDLE, bounded.read_line(&mut line)).await;
        match read {
            Ok(Ok(length)) if length > 0 && line.ends_with('\n') => Ok(line),
            _ => Err(Left),
        }
    }

    async fn grant(&mut self, ask: Ask) -> Result<(), Left> {
        let thread = self.thread.upgrade().ok_or(Left)?;
        match ask {
            Ask::Answer { id, answer, by } => {
                let counted = thread.answer(id, answer, by).await.map_err(|_| Left)?;
                self.say(&Say::Answered(counted)).await
            }
            Ask::Interrupt { turn_id } => {
                thread.interrupt(turn_id).await.map_err(|_| Left)?;
                self.say(&Say::Interrupted).await
            }
            Ask::Subscribe => {
                let snapshot = thread.subscribe().await.map_err(|_| Left)?;
                drop(thread);
                let items = snapshot.items.into_iter().map(Item::without_wire).collect();
                let pending = snapshot.pending;
                self.say(&Say::Subscribed { items, pending }).await?;
                self.tell(snapshot.events).await
            }
        }
    }

    /// Passes on what happens, until the visitor has seen enough.
    async fn tell(
        &mut self,
        mut events: tokio::sync::broadcast::Receiver<Arc<Event>>,
    ) -> Result<(), Left> {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                // A watcher that says anything, or leaves, watches no more.
                _ = self.asks.fill_buf() => return Ok(()),
            };
            match event {
                Ok(event) => self.say(&Say::Event((*event).clone())).await?,
                Err(RecvError::Lagged(_)) => return self.say(&Say::Lagged).await,
                Err(RecvError::Closed) => return Err(Left),
            }
        }
    }

    async fn say(&mut self, say: &Say) -> Result<(), Left> {
        let mut line = serde_json::to_vec(say).map_err(|_| Left)?;
        line.push(b'\n');
        match timeout(IDLE, self.says.write_all(&line)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Left),
        }
    }
}
