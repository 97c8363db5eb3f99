//! What a turn came to: the record at its end and the answer to whoever asked.
//!
//! Always whole here. What a client gets to see of it is cut to size in `frontend/`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Approval, SandboxPolicy, ThreadId, TurnId};

/// What a turn came to. Fields with nothing to say are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The thread, to go on with.
    pub thread_id: ThreadId,
    /// The turn.
    pub turn_id: TurnId,
    /// How it stands.
    pub status: Status,
    /// The agent's last message.
    #[serde(default)]
    pub content: String,
    /// Files that differ from what they were when the turn began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Why `changes` may not be all; one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_changes: Option<String>,
    /// Commands that ran, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandRun>,
    /// Questions that are open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// Other threads that were at work in the same directory when the turn began, and may change its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<ThreadId>,
    /// What was refused, by policy or by somebody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denied>,
    /// Tokens and requests of this turn.
    #[serde(default)]
    pub usage: Usage,
    /// What stood between commands and the machine.
    pub sandbox: SandboxReport,
    /// Why nothing of the thread is kept and it ends with its process, where nobody chose that; one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
    /// Where the work is, if the thread has a copy of the directory to itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree: Option<Worktree>,
    /// The model that did it.
    pub model: String,
    /// Wall time of the turn.
    pub seconds: f64,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TurnError>,
    /// What to call to go on, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How a turn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The agent said its last word.
    Completed,
    /// Still at work; only seen by callers who do not wait.
    Running,
    /// Could not go on without an answer.
    ApprovalRequired,
    /// Stopped by somebody, or by the end of the process; can be resumed.
    Interrupted,
    /// Ended with an error.
    Failed,
    /// Ran into a limit on steps, seconds or tokens.
    LimitReached,
}

impl Outcome {
    /// The outcome as JSON for whoever asked for the turn.
    pub fn shown(&self) -> Value {
        // Every part of an outcome has a JSON form.
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if !self.approvals.is_empty() {
            value["approvals"] = self.approvals.iter().map(Approval::shown).collect();
        }
        value
    }
}

impl Status {
    /// The spelling that the contract uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Running => "running",
            Self::ApprovalRequired => "approval_required",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::LimitReached => "limit_reached",
        }
    }
}

/// One file that differs from what it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Relative to the working directory, with `/`; absolute outside it.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Where a renamed file was before, written as `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whose it was, where it was not certainly this turn's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// Lines added.
    pub added: usize,
    /// Lines removed.
    pub removed: usize,
    /// Unified diff; empty for files that are not text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff: String,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// Its content differs.
    Modified,
    /// It is gone.
    Deleted,
    /// It has another name.
    Renamed,
}

/// Whose change it was, if not the turn's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Another thread, or somebody else.
    Other,
    /// This turn, somebody else, or both.
    Unsure,
}

impl By {
    /// The spelling that the contract uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Unsure => "unsure",
        }
    }
}

/// Where a thread works that has a copy of the directory to itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worktree {
    /// Its directory.
    pub path: PathBuf,
    /// Its branch.
    pub branch: String,
}

impl ChangeKind {
    /// The spelling that the contract uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
        }
    }
}

/// One command that ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandRun {
    /// The shell line.
    pub command: String,
    /// Its exit code; 128 + n when signal n ended it; none when it was ended by us.
    pub exit_code: Option<i32>,
    /// Wall time.
    pub seconds: f64,
}

/// One thing that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Denied {
    /// The command, or the files.
    pub summary: String,
    /// Why, and who may change that.
    pub reason: String,
}

/// Tokens, as the provider counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Sent, cached ones included.
    pub input_tokens: u64,
    /// Of these, served from the provider's cache.
    pub cached_input_tokens: u64,
    /// Received, reasoning included.
    pub output_tokens: u64,
    /// Of these, reasoning.
    pub reasoning_tokens: u64,
    /// Requests to the model, failed ones that were tried again included.
    pub requests: u64,
    /// What it cost, where the owner told the prices; in the currency of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

impl Usage {
    /// Input and output together.
    pub fn total(&self) -> u64 {
        self.input_tokens + self.output_tokens
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.cached_input_tokens += other.cached_input_tokens;
        self.output_tokens += other.output_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
        self.requests += other.requests;
        if let Some(cost) = other.cost {
            *self.cost.get_or_insert(0.0) += cost;
        }
    }
}

/// What stood between commands and the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxReport {
    /// The policy that was asked for.
    pub policy: SandboxPolicy,
    /// Whether commands could reach the network.
    pub network: bool,
    /// The kernel's layers in force, joined by `+`; `none` where there is none.
    pub by: String,
    /// What the policy forbids and nothing enforces on commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Why a turn did not complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnError {
    /// For programs.
    pub kind: TurnErrorKind,
    /// For people.
    pub message: String,
}

/// The sorts of trouble that end a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnErrorKind {
    /// The endpoint cannot be reached, or stops answering.
    ModelUnreachable,
    /// The endpoint refuses the key.
    ModelAuth,
    /// The account has nothing left.
    ModelQuota,
    /// The conversation does not fit the model's window.
    ContextLength,
    /// The endpoint refuses the request, the model's name included.
    ModelRejected,
    /// The limit on requests was reached.
    StepLimit,
    /// The limit on time was reached.
    TimeLimit,
    /// The limit on tokens was reached.
    TokenLimit,
    /// A record could not be written; nothing ran without one.
    Storage,
    /// Somebody stopped it.
    Interrupted,
    /// A mistake of ours.
    Internal,
}
