//! One thread, two processes: whoever holds the lock listens on a Unix socket beside the rollout, and others send their
//! verbs there instead of writing.
//!
//! A visitor has a [`ThreadHandle`](super::ThreadHandle) like any other ([`visit`]); behind it is a connection and not
//! an actor. One JSON value a line, both ways; many errands share one connection, each under a number of its own, so
//! that whoever was let in can finish although the thread is given back meanwhile. The directory of the thread is 0700
//! and the socket 0600, the peer's user is looked at besides, and sandboxed commands see neither. What a visitor can do
//! is what a person at this machine can do anyway: answer a question, interrupt a turn, follow it. It starts none: a
//! turn that runs here runs under what this process was told it may do, and the visitor was perhaps told less.

mod errand;
mod guest;
mod line;
mod listen;

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

pub use guest::visit;
pub(super) use listen::Door;

use super::handle::{DecideError, Standing};
use crate::conversation::{Answer, Approval, ApprovalId, Event, Outcome, ResolvedBy, TurnId};

/// The socket's name in the directory of its thread.
pub(super) const SOCKET: &str = "holder.sock";

/// What both sides must agree on, beyond the words below.
const PROTOCOL: u32 = 1;

/// What a visitor asks for. Each of them is a verb of the handle.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    /// The first.
    Greet {
        protocol: u32,
    },
    Answer {
        id: ApprovalId,
        answer: Answer,
        by: ResolvedBy,
    },
    Decide {
        id: Option<ApprovalId>,
        answer: Answer,
    },
    GiveUp {
        id: ApprovalId,
    },
    Interrupt {
        turn_id: Option<TurnId>,
    },
    Abandon {
        turn_id: TurnId,
    },
    Standing,
    OutcomeOf {
        turn_id: TurnId,
    },
    Has {
        turn_id: TurnId,
    },
    // What lasts until the visitor wants no more.
    Attend,
    Follow,
    Subscribe,
    /// No more of the errand of this number. Has no answer.
    Stop,
}

/// What the holder says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Say {
    /// As asked, and there is nothing to say about it.
    Done,
    /// Whether the answer was the one that counted.
    Answered(bool),
    NotDecided(DecideError),
    Standing(Option<Box<Standing>>),
    OutcomeOf(Option<Box<Outcome>>),
    Has(bool),
    /// Others follow the turn; it goes on.
    LeftToOthers,
    /// The turn was told to stop; its outcome follows.
    Stopped,
    /// A turn runs; its outcome follows.
    Following(TurnId),
    Outcome(Box<Outcome>),
    /// No turn runs; this is what the last one came to.
    Ended(Box<Outcome>),
    /// No turn runs, and none has ended.
    Nothing,
    /// So many items and these questions up to now; events follow. The items are read where they are kept.
    Subscribed {
        items: usize,
        pending: Vec<Approval>,
    },
    Event(Event),
    /// The visitor was too slow and lost events; these questions are open.
    Missed {
        pending: Vec<Approval>,
    },
    /// What was asked is not understood.
    Refused(String),
}

/// A line, either way: which errand it is about, and what of it.
#[derive(Debug, Serialize, Deserialize)]
struct Of<T> {
    errand: u64,
    what: T,
}

/// As JSON, with its end of line.
fn written<T: Serialize>(errand: u64, what: T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Of { errand, what })?;
    line.push(b'\n');
    Ok(line)
}

/// The next line; none at the end, and an error where it is longer than `longest` bytes.
async fn read_line(
    from: &mut (impl AsyncBufRead + Unpin),
    longest: u64,
) -> io::Result<Option<String>> {
    let mut line = String::new();
    match from.take(longest).read_line(&mut line).await? {
        0 => Ok(None),
        _ if line.ends_with('\n') => Ok(Some(line)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
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
