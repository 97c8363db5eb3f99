//! The log of every call to an external server: one JSON line each, for the owner to look at.

use std::{
    io::Write,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::SystemTime,
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

/// One call.
#[derive(Serialize)]
pub(super) struct Entry<'a> {
    pub(super) server: &'a str,
    /// The tool, as the server calls it.
    pub(super) what: &'a str,
    pub(super) call_id: &'a str,
    /// Kept as a digest: what was sent is in the rollout, under the call's id.
    #[serde(rename = "arguments_sha256", serialize_with = "as_digest")]
    pub(super) arguments: &'a str,
    pub(super) outcome: &'a str,
    pub(super) bytes: usize,
    pub(super) seconds: f64,
}

fn as_digest<S: serde::Serializer>(text: &&str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&super::digest(&[text]))
}

impl Audit {
    pub(super) fn new(place: Option<PathBuf>) -> Self {
        Self {
            place: Mutex::new(place),
        }
    }

    /// Adds a line. A disk that is full must not cost the answer, so it is only said.
    pub(super) fn note(&self, entry: &Entry<'_>) {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &*place else { return };
        if let Err(error) = append(path, entry) {
            tracing::warn!("the log of external calls cannot be written: {error}");
        }
    }
}

fn append(path: &PathBuf, entry: &Entry<'_>) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    #[derive(Serialize)]
    struct Line<'a> {
        at: String,
        #[serde(flatten)]
        entry: &'a Entry<'a>,
    }
    let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let line = serde_json::to_string(&Line { at, entry })? + "\n";
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
