//! A question to a person or a caller about one access, and its one answer. Data only: the thread keeps the reply.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ApprovalId, CallId, TurnId};

/// A question. Its facts are ours; only `reason` is the model's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Names it, also after a restart.
    pub id: ApprovalId,
    /// The turn that waits for it.
    pub turn_id: TurnId,
    /// The call that waits for it.
    pub call_id: CallId,
    /// What sort of thing is asked.
    pub kind: ApprovalKind,
    /// One line: the command, or the files.
    pub summary: String,
    /// Where it would happen, and what it would leave.
    pub place: String,
    /// The whole of it, where that is more than the summary: a diff.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What the model says it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A digest of the files that it stands on besides what is shown: with other content it is another question.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stands_on: String,
    /// What an approval for the session would cover; none where that is not offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_covers: Option<String>,
}

impl Approval {
    /// The question for whoever may answer it: its name and what it is about, without what is only ours.
    pub fn shown(&self) -> Value {
        let mut detail = json!({"place": self.place});
        if !self.detail.is_empty() {
            detail["diff"] = json!(self.detail);
        }
        if let Some(reason) = &self.reason {
            detail["reason"] = json!(reason);
        }
        if let Some(covers) = &self.session_covers {
            detail["session_covers"] = json!(covers);
        }
        json!({"id": self.id, "kind": self.kind, "summary": self.summary, "detail": detail})
    }
}

/// What sort of thing is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalKind {
    /// Run a command.
    Command,
    /// Change files.
    Edit,
    /// Ask an external server.
    Tool,
}

/// The four answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// This once.
    Approve,
    /// This, and whatever the question said an approval for the session would cover.
    ApproveForSession,
    /// No; the turn goes on.
    Deny,
    /// No; the turn ends.
    Abort,
}

/// An answer as somebody gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The decision.
    pub decision: Decision,
    /// A word for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl From<Decision> for Answer {
    fn from(decision: Decision) -> Self {
        Self {
            decision,
            note: None,
        }
    }
}

/// How a question ended, and through whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolution {
    /// What was decided.
    #[serde(flatten)]
    pub answer: Answer,
    /// Who decided it.
    pub by: ResolvedBy,
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedBy {
    /// A person at the terminal.
    Terminal,
    /// A person behind an MCP client.
    Elicitation,
    /// The model that called our tool; it says yes only where the owner lets it.
    Caller,
    /// Nobody could answer in time, so the owner's strategy did.
    Unattended,
    /// The turn ended first.
    Interrupt,
}
