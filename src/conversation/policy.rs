//! What may be done, and when to ask: policies as data. Who decides with them is `tools::gate`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a call may do at all. Ordered from narrow to wide.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum SandboxPolicy {
    /// Read inside the roots, change nothing.
    ReadOnly,
    /// Change the working directory and the writable roots.
    #[default]
    WorkspaceWrite,
    /// No sandbox: for a machine that is itself one.
    DangerFullAccess,
}

impl SandboxPolicy {
    /// The spelling that the contract uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
            Self::DangerFullAccess => "danger-full-access",
        }
    }
}

/// When to ask. Ordered from careful to quiet.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum ApprovalPolicy {
    /// Ask before every edit and every command that is not certain only to read.
    Untrusted,
    /// Ask only for what would leave the sandbox.
    #[default]
    OnRequest,
    /// Never ask: what would need a question is refused.
    Never,
}

impl ApprovalPolicy {
    /// The spelling that the contract uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::OnRequest => "on-request",
            Self::Never => "never",
        }
    }
}

/// What becomes of a question that nobody can answer. Set by the owner only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenUnattended {
    /// What the sandbox permits runs without a question; what would be asked is denied at once and listed.
    #[default]
    AutoWithinPolicy,
    /// The question stays open, and the call that waits for the turn returns with it.
    ReturnToCaller,
    /// Every question is answered with no.
    Deny,
}

/// What a call would touch. A tool declares it from its parsed input, before anything runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing outside the conversation.
    Nothing,
    /// Read these paths, resolved.
    Read(Vec<PathBuf>),
    /// Write these paths, resolved.
    Write {
        /// Absolute, symlinks resolved.
        paths: Vec<PathBuf>,
        /// What would change, as a unified diff.
        diff: String,
    },
    /// Run a command.
    Run {
        /// The shell line.
        command: String,
        /// Where it starts, resolved.
        workdir: PathBuf,
        /// Outside the sandbox.
        escalate: bool,
        /// Why, in the model's words.
        reason: Option<String>,
    },
    /// Type into a command that runs, which is as powerful as that command.
    Type {
        /// The shell line of the command.
        command: String,
        /// Where it started, resolved.
        workdir: PathBuf,
        /// The keys.
        input: String,
        /// The command runs outside the sandbox.
        free: bool,
    },
    /// Ask an external server.
    Outside(Box<OutsideAccess>),
}

/// What would be asked of an external server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideAccess {
    /// As the owner calls it.
    pub server: String,
    /// As the server calls it.
    pub tool: String,
    /// All that goes there, long texts shortened.
    pub arguments: String,
    /// What the server says of the tool; nobody has checked it.
    pub about: String,
    /// Of what it says of the tool now; an approval holds for no other.
    pub identity: String,
    /// It says something else than when the thread began.
    pub changed: bool,
    /// The owner lets it run without a question.
    pub unasked: bool,
}
