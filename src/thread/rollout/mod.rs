//! The file of a thread: JSON lines, one header, then records, append only. This is its format; what it says is
//! [`Loaded`].

mod loaded;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::{
    agent::{Limits, context::Context},
    conversation::{
        Approval, ApprovalId, ApprovalPolicy, CallId, Item, Outcome, Resolution, SandboxPolicy,
        ThreadId, TurnId, Worktree,
    },
};
pub use loaded::{Given, Loaded, LoadedTurn, ReadError, read};

/// The version that we write. Every older one stays readable.
pub const VERSION: u32 = 1;

/// The first line: what restores a thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// See [`VERSION`].
    pub version: u32,
    /// Its name.
    pub thread_id: ThreadId,
    /// The working directory, resolved.
    pub cwd: PathBuf,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// The tenant of a server whose it is; none: whoever owns this machine's threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The thread it was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ThreadId>,
    /// A copy of a directory that it has to itself; then `cwd` is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolated: Option<Isolated>,
    /// The directory was made for it, and goes with the last thread in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_directory: bool,
    /// What its calls may do. A thread is never continued under a wider one.
    #[serde(default)]
    pub policy: Policy,
    /// The model's name, as asked for.
    pub model: String,
    /// True for a thread that only answers questions: read-only for its whole life.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub query: bool,
    /// What ends its turns early; never more than the process that continues it allows.
    #[serde(default)]
    pub limits: Limits,
    /// What is sent before the conversation, exactly.
    pub context: Arc<Context>,
}

/// A thread that works side by side with others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Isolated {
    /// The directory that it was asked to work in, resolved.
    pub from: PathBuf,
    /// Where it works instead.
    pub worktree: Worktree,
}

impl Header {
    /// The directory that it is about: that of a worktree is the one it was made from.
    pub fn directory(&self) -> &Path {
        self.isolated
            .as_ref()
            .map_or(&self.cwd, |isolated| &isolated.from)
    }
}

/// What the calls of a thread may do. A header without one reads as the narrowest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// What a call may do at all.
    pub sandbox: SandboxPolicy,
    /// When to ask.
    pub approval_policy: ApprovalPolicy,
    /// Directories besides the working directory that may be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writable_roots: Vec<PathBuf>,
    /// Beginnings of commands that never run, besides the owner's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// `false`: no network, whatever the owner sets. Absent: as the owner sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            sandbox: SandboxPolicy::ReadOnly,
            approval_policy: ApprovalPolicy::OnRequest,
            writable_roots: Vec::new(),
            deny: Vec::new(),
            network: None,
        }
    }
}

/// One line after the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// A turn began.
    TurnStarted {
        /// Which.
        turn_id: TurnId,
        /// The turn that it goes on with, where no new message came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumes: Option<TurnId>,
    },
    /// A call passed the gate. Synced before it runs.
    CallStarted {
        /// Which.
        call_id: CallId,
    },
    /// Somebody is asked.
    ApprovalRequested {
        /// The question.
        approval: Approval,
    },
    /// A question was answered, or decided for want of an answer.
    ApprovalResolved {
        /// Which.
        approval_id: ApprovalId,
        /// How and by whom.
        resolution: Resolution,
    },
    /// A process let go of a turn whose question is open. The turn is as open as before; this keeps what it had come to.
    TurnSuspended {
        /// So far.
        outcome: Box<Outcome>,
        /// Tokens that count for its budget, where the provider has not counted as many.
        #[serde(default, skip_serializing_if = "is_zero")]
        spent: u64,
    },
    /// A turn ended.
    TurnEnded {
        /// With this.
        outcome: Box<Outcome>,
        /// Tokens of the conversation as it stands then, if the provider counted them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens: Option<u64>,
    },
    /// A piece of the conversation; its own `type` tells which.
    #[serde(untagged)]
    Item(Item),
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A record with its time, as it stands in the file.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    at: String,
    #[serde(flatten)]
    record: T,
}

/// The header as its line.
pub fn header_line(header: &Header) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct First<'a> {
        r#type: &'a str,
        #[serde(flatten)]
        header: &'a Header,
    }
    Ok(serde_json::to_string(&First {
        r#type: "thread",
        header,
    })? + "\n")
}

/// A record as its line, stamped with the present time.
pub fn record_line(record: &Record) -> serde_json::Result<String> {
    Ok(serde_json::to_string(&Line { at: now(), record })? + "\n")
}

/// The present time as the rollout writes it.
pub fn now() -> String {
    written(SystemTime::now())
}

/// A time as records have it.
pub fn written(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// The number of lines by `type`: what a test of the format looks at.
pub fn census(bytes: &[u8]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let kind = serde_json::from_slice::<serde_json::Value>(line)
            .ok()
            .and_then(|value| value["type"].as_str().map(str::to_owned))
            .unwrap_or_else(|| "damaged".to_owned());
        *counts.entry(kind).or_default() += 1;
    }
    counts
}
