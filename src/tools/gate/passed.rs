//! What has become of a call, once it ran or was stopped: its one output, clean and bounded.

use serde_json::Value;

use super::{Gate, Passing, Ran};
use crate::{
    conversation::{Denied, OutputStatus, ToolCall, ToolOutput},
    tools::{
        ToolError,
        output::{OUTPUT_BYTES, bounded},
    },
};

/// What the model reads of a call that never ran since its turn was stopped.
pub const NOT_RUN: &str = "not run: the turn was interrupted first";

/// What became of a call.
#[derive(Debug)]
pub struct Passed {
    /// Its one output.
    pub output: ToolOutput,
    /// The same for a program, where there is more to it than text.
    pub structured: Option<Value>,
    /// What was refused, where something was.
    pub denied: Option<Denied>,
    /// Somebody asked for the turn to end.
    pub abort: bool,
}

/// Why a call did not run.
pub(super) enum Stopped {
    Failed(String),
    Refused { denied: Denied, abort: bool },
    Interrupted,
}

impl Passed {
    /// A call of which there is nothing but what the model reads.
    pub fn with(call: &ToolCall, status: OutputStatus, content: String) -> Self {
        let output = ToolOutput {
            call_id: call.call_id.clone(),
            status,
            content,
            command: None,
        };
        Self {
            output,
            structured: None,
            denied: None,
            abort: false,
        }
    }

    /// A call that did not run because its turn was stopped.
    pub fn interrupted(call: &ToolCall) -> Self {
        Self::with(call, OutputStatus::Interrupted, NOT_RUN.to_owned())
    }
}

impl Gate {
    pub(super) fn ran(&self, call: &ToolCall, ran: Ran) -> Passed {
        let Ran { status, output } = ran;
        let mut passed = Passed::with(call, status, self.fit(output.content));
        passed.output.command = output.command;
        passed.structured = output.structured.map(|value| self.cleaned(value));
        passed
    }

    pub(super) fn stopped(&self, call: &ToolCall, stopped: Stopped) -> Passed {
        match stopped {
            Stopped::Failed(why) => Passed::with(call, OutputStatus::Failed, self.fit(why)),
            Stopped::Refused { denied, abort } => self.refused(call, denied, abort),
            Stopped::Interrupted => Passed::interrupted(call),
        }
    }

    fn refused(&self, call: &ToolCall, denied: Denied, abort: bool) -> Passed {
        let content = format!(
            "denied: {}. Nothing was done; go on without it, or say what is needed.",
            denied.reason
        );
        Passed {
            denied: Some(Denied {
                summary: self.redactor.clean(denied.summary),
                reason: self.redactor.clean(denied.reason),
            }),
            abort,
            ..Passed::with(call, OutputStatus::Denied, self.fit(content))
        }
    }

    /// As it may enter the conversation.
    fn fit(&self, content: String) -> String {
        bounded(self.redactor.clean(content), OUTPUT_BYTES)
    }

    /// Without what tools must not bring in, wherever in it that stands.
    fn cleaned(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.redactor.clean(text).into(),
            Value::Array(values) => values
                .into_iter()
                .map(|value| self.cleaned(value))
                .collect(),
            Value::Object(entries) => {
                let entries = entries.into_iter();
                let cleaned = entries.map(|(key, value)| (key, self.cleaned(value)));
                Value::Object(cleaned.collect())
            }
            plain => plain,
        }
    }
}

impl Stopped {
    pub(super) fn refused(summary: String, reason: String) -> Self {
        let denied = Denied { summary, reason };
        Self::Refused {
            denied,
            abort: false,
        }
    }
}

impl Passing<'_> {
    pub(super) fn denied(&self, reason: String) -> Denied {
        Denied {
            summary: self.summary(),
            reason,
        }
    }

    pub(super) fn refused(&self, reason: String) -> Stopped {
        Stopped::refused(self.summary(), reason)
    }
}

impl From<ToolError> for Stopped {
    fn from(error: ToolError) -> Self {
        Self::Failed(error.0)
    }
}
