//! The side of the process that holds the thread.
//!
//! A task accepts visitors while the thread is held and is stopped when the [`Door`] is dropped. Each visitor is a task
//! of its own, and so is each of its errands; they are ended by its leaving, by [`IDLE`], or with the thread. None of
//! them keeps the thread in memory: a visitor holds a weak handle.

use std::{
    collections::HashMap,
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Ask, Of, Say,
    errand::{Errand, Left},
    read_line, short,
};
use crate::thread::handle::WeakHandle;

/// Visitors at once; more wait to be let in.
const VISITORS: usize = 32;

/// Errands of one visitor at once.
const ERRANDS: usize = 32;

/// Bytes of a request.
const LONGEST: u64 = 1024 * 1024;

/// How long a visitor without an errand may say nothing, and how long any may take to read what it is told.
const IDLE: Duration = Duration::from_secs(60);

/// Lines that wait for a visitor to read them.
const BACKLOG: usize = 64;

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
    says: mpsc::Sender<(u64, Say)>,
    thread: WeakHandle,
    /// Dropping one ends it, and with it what it holds of the thread.
    errands: HashMap<u64, AbortOnDropHandle<Result<(), Left>>>,
}

impl Visitor {
    fn new(stream: UnixStream, thread: WeakHandle) -> Self {
        let (asks, to) = stream.into_split();
        let (says, lines) = mpsc::channel(BACKLOG);
        tokio::spawn(tell(to, lines));
        Self {
            asks: BufReader::new(asks),
            says,
            thread,
            errands: HashMap::new(),
        }
    }

    async fn serve(mut self) {
        while let Some(line) = self.line().await {
            let served = match serde_json::from_str(&line) {
                Ok(Of { errand, what }) => self.begin(errand, what).await,
                Err(error) => self.refuse(&line, error.to_string()).await,
            };
            if served.is_err() {
                break;
            }
        }
    }

    /// The next request. Ended by the visitor's leaving, and by its silence if it wants nothing at the moment.
    async fn line(&mut self) -> Option<String> {
        self.errands.retain(|_, errand| !errand.is_finished());
        let patience = match self.errands.is_empty() {
            true => IDLE,
            false => Duration::MAX,
        };
        tokio::select! {
            line = timeout(patience, read_line(&mut self.asks, LONGEST)) => line.ok()?.ok()?,
            // It does not read what it is told.
            () = self.says.closed() => None,
        }
    }

    async fn begin(&mut self, number: u64, ask: Ask) -> Result<(), Left> {
        if let Ask::Stop = ask {
            if let Some(errand) = self.errands.remove(&number) {
                errand.abort();
                // Whatever is asked next finds nothing of it.
                let _ = errand.await;
            }
            return Ok(());
        }
        let thread = self.thread.upgrade().ok_or(Left)?;
        let errand = Errand::new(number, self.says.clone());
        if self.errands.len() >= ERRANDS {
            return errand.refuse("too much at once".to_owned()).await;
        }
        let task = AbortOnDropHandle::new(tokio::spawn(errand.run(ask, thread)));
        self.errands.insert(number, task);
        Ok(())
    }

    async fn refuse(&self, line: &str, why: String) -> Result<(), Left> {
        // The number alone may be plain, so that whoever asked hears of it.
        let number = serde_json::from_str::<serde_json::Value>(line)
            .ok()
            .and_then(|asked| asked["errand"].as_u64());
        let errand = Errand::new(number.unwrap_or_default(), self.says.clone());
        errand.refuse(why).await
    }
}

/// Writes what there is to say. Ended by the end of all who say something, or by a visitor that does not read.
async fn tell(mut to: OwnedWriteHalf, mut lines: mpsc::Receiver<(u64, Say)>) {
    while let Some((errand, say)) = lines.recv().await {
        let Ok(line) = super::written(errand, say) else {
            return;
        };
        match timeout(IDLE, to.write_all(&line)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}
