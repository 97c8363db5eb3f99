//! One thread, two processes: whoever holds the lock listens on a Unix socket beside the rollout, and others send their
//! verbs there instead of writing.
//!
//! One JSON value a line, both ways. The directory of the thread is 0700 and the socket 0600, the peer's user is looked
//! at besides, and sandboxed commands see neither. What a visitor can do is what a person at this machine can do anyway:
//! answer a question, interrupt a turn, watch.

mod listen;
mod visit;

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub(super) use listen::Door;
pub use visit::{Visit, Watch};

use crate::conversation::{Answer, Approval, ApprovalId, Event, Item, ResolvedBy, TurnId};

/// The socket's name in the directory of its thread.
pub(super) const SOCKET: &str = "holder.sock";

/// What a visitor asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    Answer {
        id: ApprovalId,
        answer: Answer,
        by: ResolvedBy,
    },
    Interrupt {
        turn_id: Option<TurnId>,
    },
    Subscribe,
}

/// What the holder says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Say {
    /// Whether the answer was the one that counted.
    Answered(bool),
    /// The turn was told to stop.
    Interrupted,
    /// Everything up to now; events follow, a line each, until the visitor leaves.
    Subscribed {
        items: Vec<Item>,
        pending: Vec<Approval>,
    },
    Event(Event),
    /// The visitor was too slow; it may subscribe anew.
    Lagged,
    /// What was asked is not understood.
    Refused(String),
}

/// `path` under a name that is short enough for a socket, whose addresses have 108 bytes (unix(7)), and that lasts as
/// long as the file beside it.
fn short(path: &Path) -> io::Result<(File, PathBuf)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = File::open(directory)?;
    let short = if cfg!(target_os = "linux") {
        Path::new("/proc/self/fd")
            .join(directory.as_raw_fd().to_string())
            .join(name)
    } else {
        path.to_owned()
    };
    Ok((directory, short))
}
