//! One persisted piece of a thread.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CallId, CommandRun, Picture, Redactor};

/// What a thread is made of, in the order it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    /// What somebody asked.
    UserMessage {
        /// The whole message, files that came with it included.
        text: String,
    },
    /// A picture that belongs to the message after it.
    Picture(Picture),
    /// What the model said.
    AgentMessage {
        /// Its text, whole.
        text: String,
        /// The message as the provider streamed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wire: Option<Wire>,
    },
    /// What the model thought, as far as the provider shows it.
    Reasoning {
        /// The readable summary; often empty.
        summary: String,
        /// The reasoning as the provider streamed it, often encrypted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wire: Option<Wire>,
    },
    /// One use of a tool that the model asked for.
    ToolCall(ToolCall),
    /// The one answer to a call.
    ToolOutput(ToolOutput),
    /// The conversation before it was longer than the model takes: from here on the model sees this in its place.
    Compaction {
        /// What is kept, as the model reads it.
        text: String,
        /// The model's part of it as the provider streamed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wire: Option<Wire>,
    },
}

impl Item {
    /// The item for whoever reads along: without the provider's form, which only goes back to the provider,
    /// and without the bytes of pictures.
    pub fn without_wire(mut self) -> Self {
        match &mut self {
            Self::AgentMessage { wire, .. }
            | Self::Reasoning { wire, .. }
            | Self::Compaction { wire, .. } => *wire = None,
            Self::ToolCall(call) => call.wire = None,
            Self::Picture(picture) => picture.data.clear(),
            Self::UserMessage { .. } | Self::ToolOutput(_) => {}
        }
        self
    }
}

impl Item {
    /// The item without any secret that `redactor` knows, in the provider's form too: what is kept, shown, run and sent
    /// back stays one.
    pub fn cleaned(mut self, redactor: &Redactor) -> Self {
        let clean = |text: &mut String| *text = redactor.clean(std::mem::take(text));
        match &mut self {
            Self::AgentMessage { text, .. } => clean(text),
            Self::Reasoning { summary, .. } => clean(summary),
            Self::ToolCall(call) => clean(&mut call.arguments),
            // Cleaned where they come from.
            Self::UserMessage { .. }
            | Self::Picture(_)
            | Self::ToolOutput(_)
            | Self::Compaction { .. } => {}
        }
        let wire = match &mut self {
            Self::AgentMessage { wire, .. } | Self::Reasoning { wire, .. } => wire.as_mut(),
            Self::ToolCall(call) => call.wire.as_mut(),
            _ => None,
        };
        if let Some(wire) = wire {
            clean_values(&mut wire.json, redactor);
        }
        self
    }
}

fn clean_values(json: &mut Value, redactor: &Redactor) {
    match json {
        Value::String(text) => *text = redactor.clean(std::mem::take(text)),
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| clean_values(value, redactor)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| clean_values(value, redactor)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// One use of a tool. Its arguments are the model's text, not yet understood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's name for it.
    pub call_id: CallId,
    /// The tool.
    pub name: String,
    /// JSON text, as written by the model; may be nonsense.
    pub arguments: String,
    /// The call as the provider streamed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<Wire>,
}

impl ToolCall {
    /// What it is about, where one of its arguments says so: a command, a path, a pattern.
    pub fn about(&self) -> Option<String> {
        let arguments: Value = serde_json::from_str(&self.arguments).ok()?;
        let told = ["command", "path", "pattern"];
        let about = told.iter().find_map(|name| arguments[name].as_str());
        about.map(str::to_owned)
    }
}

/// The answer to a call, as the model sees it, with what others want to know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolOutput {
    /// Which call it answers.
    pub call_id: CallId,
    /// How it ended.
    pub status: OutputStatus,
    /// What the model reads.
    pub content: String,
    /// The command that ran, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandRun>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStatus {
    /// The tool did its work (a command may still have failed: see its exit code).
    Done,
    /// The tool could not do it; the content says why.
    Failed,
    /// Policy or a person said no.
    Denied,
    /// The turn ended first; what it did is unknown.
    Interrupted,
}

/// A sampled item exactly as its provider sent it, to be sent back unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    /// Which model at which endpoint it came from. Another one never gets to see it: encrypted reasoning and item
    /// ids mean nothing elsewhere.
    pub origin: String,
    /// The provider's JSON.
    pub json: Value,
}
