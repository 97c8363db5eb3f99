//! The log of every call to an external server: a JSON line before each and one after, for the owner to look at.

use std::{
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use serde::Serialize;

/// Bytes; a log that is longer is begun anew, and the old one kept beside it.
const LARGEST: u64 = 8 << 20;

/// Where it goes; nowhere in a process that keeps nothing.
#[derive(Debug)]
pub(super) struct Audit {
    /// Locked while one line is written; nobody awaits under it.
    place: Mutex<Option<PathBuf>>,
}

/// Whose calls they are.
#[derive(Clone, Debug, Serialize)]
pub struct Whose {
    /// The thread that they are made for.
    pub thread_id: String,
    /// The tenant whose thread it is, on a server that has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// The log as one thread writes in it.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    audit: Arc<Audit>,
    whose: Whose,
}

/// What is about to be sent.
#[derive(Clone, Serialize)]
pub(super) struct Sending {
    pub(super) server: String,
    /// The tool, as the server calls it.
    pub(super) what: String,
    pub(super) call_id: String,
    /// The arguments as JSON, as they are sent. Kept as their SHA-256: what they were is in the rollout, under the
    /// call's id.
    #[serde(rename = "arguments_sha256", serialize_with = "as_digest")]
    pub(super) arguments: String,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    #[serde(flatten)]
    whose: &'a Whose,
    #[serde(flatten)]
    sending: &'a Sending,
    outcome: &'a str,
    /// Of what came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

/// A call that is on its way. One that nobody waits for to its end is in the log as given up.
pub(super) struct Sent {
    journal: Journal,
    sending: Sending,
    since: Instant,
    is_ended: bool,
}

fn as_digest<S: serde::Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    to.serialize_str(&super::digits(&digest))
}

impl Journal {
    pub(super) fn new(audit: Arc<Audit>, whose: Whose) -> Self {
        Self { audit, whose }
    }

    /// Says that this is sent now; what becomes of it is another line.
    pub(super) fn sends(&self, sending: Sending) -> Sent {
        let sent = Sent {
            journal: self.clone(),
            sending,
            since: Instant::now(),
            is_ended: false,
        };
        sent.note("sent", None);
        sent
    }
}

impl Sent {
    pub(super) fn ended(mut self, outcome: &str, bytes: usize) {
        self.note(outcome, Some(bytes));
        self.is_ended = true;
    }

    fn note(&self, outcome: &str, bytes: Option<usize>) {
        self.journal.audit.note(&Line {
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            whose: &self.journal.whose,
            sending: &self.sending,
            outcome,
            bytes,
            seconds: bytes.map(|_| self.since.elapsed().as_secs_f64()),
        });
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if !self.is_ended {
            self.note("given up", Some(0));
        }
    }
}

impl Audit {
    pub(super) fn new(place: Option<PathBuf>) -> Self {
        Self {
            place: Mutex::new(place),
        }
    }

    /// Adds a line. A disk that is full must not cost the answer, so it is only said.
    fn note(&self, line: &Line<'_>) {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &*place else { return };
        if let Err(error) = append(path, line) {
            tracing::warn!("the log of external calls cannot be written: {error}");
        }
    }
}

fn append(path: &PathBuf, line: &Line<'_>) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let line = serde_json::to_string(line)? + "\n";
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    if std::fs::metadata(path).is_ok_and(|log| log.len() > LARGEST) {
        std::fs::rename(path, path.with_extension("old.jsonl"))?;
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())
}
