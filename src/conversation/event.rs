//! What happens in a thread while somebody looks. Only items and approvals are persisted; the rest may be lost.

use serde::{Deserialize, Serialize};

use super::{Approval, ApprovalId, CallId, Item, Outcome, Resolution, TurnId};

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// A turn began.
    #[serde(rename = "turn.started")]
    TurnStarted {
        /// Which.
        turn_id: TurnId,
    },
    /// A piece of the model's message. Lossy: the whole comes as an item.
    #[serde(rename = "text.delta")]
    TextDelta {
        /// The piece.
        text: String,
    },
    /// The pieces since the last item belong to a sample that failed; what follows is a new try.
    #[serde(rename = "text.withdrawn")]
    TextWithdrawn,
    /// An item was persisted.
    #[serde(rename = "item.completed")]
    ItemCompleted {
        /// The item.
        item: Item,
    },
    /// A call passed the gate and runs.
    #[serde(rename = "call.started")]
    CallStarted {
        /// Which.
        call_id: CallId,
        /// What it does in one line: `shell: cargo test`.
        title: String,
    },
    /// The newest line that a running command printed. Lossy.
    #[serde(rename = "call.output")]
    CallOutput {
        /// Which call.
        call_id: CallId,
        /// The line.
        line: String,
    },
    /// A file was changed by one of our tools.
    #[serde(rename = "file.changed")]
    FileChanged {
        /// The call that changed it.
        call_id: CallId,
        /// Relative to the working directory.
        path: String,
        /// Lines added.
        added: usize,
        /// Lines removed.
        removed: usize,
        /// Unified diff against the bytes that were on disk.
        diff: String,
    },
    /// Somebody is asked.
    #[serde(rename = "approval.requested")]
    ApprovalRequested {
        /// The question.
        approval: Approval,
    },
    /// A question was answered, or decided for want of an answer.
    #[serde(rename = "approval.resolved")]
    ApprovalResolved {
        /// Which.
        approval_id: ApprovalId,
        /// How and by whom.
        resolution: Resolution,
    },
    /// Something is not as it should be; the turn goes on.
    #[serde(rename = "warning")]
    Warning {
        /// One sentence for a person.
        message: String,
    },
    /// The turn ended.
    #[serde(rename = "turn.completed")]
    TurnCompleted {
        /// With this.
        outcome: Box<Outcome>,
    },
}
