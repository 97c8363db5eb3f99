//! Sampling a model: one streaming method. Wire types end inside this folder.
//!
//! A conversation is sent as bytes that only grow. [`Model::encode`] turns new items into their wire form once;
//! [`Request`] carries all forms so far; so a step costs us what is new, and the provider's prompt cache sees the same
//! prefix every time. Retry is a `Model` around a `Model`; a recording is another `Model`.

mod blocks;
mod body;
mod chat;
mod config;
mod failure;
mod key;
mod providers;
mod record;
mod recorded;
mod remote;
mod responses;
mod retry;
mod think;
mod transport;
mod windows;
#[cfg(test)]
mod wire_tests;

use std::{sync::Arc, time::Duration};

use futures_util::stream::BoxStream;
use serde_json::value::RawValue;

pub use config::{Effort, ModelConfig, Prices, WireApi};
pub use record::Tape;
pub use recorded::{Recorded, RecordingError};
pub use remote::Remote;
pub use retry::Retry;
pub use transport::{Endpoint, EndpointError, Http, Secret, http_client};
pub use windows::served;

use crate::conversation::{CallId, Item, ThreadId, TurnErrorKind, Usage};

/// Calls in one sample. More is a model that repeats itself; what it called so far is run and shown to it.
pub const CALLS_LIMIT: usize = 1000;

/// A name for a call that came without one, or with one that is taken: nine letters and digits, the only form that
/// Mistral takes.
pub fn new_call_id() -> CallId {
    CallId(short_name(uuid::Uuid::now_v7().as_u128()))
}

/// Nine letters and digits made of a number.
fn short_name(mut number: u128) -> String {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digit = |_| {
        let digit = DIGITS[(number % 62) as usize];
        number /= 62;
        char::from(digit)
    };
    (0..9).map(digit).collect()
}

/// Something that continues a conversation.
pub trait Model: Send + Sync {
    /// Which model at which endpoint this is: `gpt-5.5@https://api.openai.com/v1`. Wire forms of sampled items go back
    /// only to the origin they came from.
    fn origin(&self) -> &str;

    /// The name that people know: `gpt-5.5`.
    fn name(&self) -> &str;

    /// Tokens that it takes, request and answer together, where that is known.
    fn window(&self) -> Option<u64> {
        None
    }

    /// How `items`, the newest of a conversation, stand in a request. Pure: the same items give the same bytes, also
    /// after a reload. Items of another origin lose their wire form; its reasoning is left out.
    fn encode(&self, items: &[Item]) -> Vec<Arc<RawValue>>;

    /// Streams one sample. Dropping the stream cancels the request. After an `Err` or [`ModelEvent::Done`] nothing
    /// more comes; a stream that ends with neither does not exist.
    fn stream(&self, request: Request) -> BoxStream<'static, Result<ModelEvent, ModelError>>;
}

/// What is sent: a head that never changes within a thread, and the conversation so far.
#[derive(Clone, Debug)]
pub struct Request {
    /// Instructions and tools.
    pub head: Arc<Head>,
    /// The conversation, encoded by the same model. Shared with whoever keeps it: it is long, and sent often.
    pub input: Arc<Vec<Arc<RawValue>>>,
}

/// The part of a request that stays the same from the first to the last step of a thread.
#[derive(Clone, Debug)]
pub struct Head {
    /// Also the provider's prompt cache key.
    pub thread_id: ThreadId,
    /// The system prompt.
    pub instructions: String,
    /// What the model may call, in a stable order.
    pub tools: Vec<ToolSpec>,
    /// How hard to think, where the owner or caller said so.
    pub reasoning_effort: Option<Effort>,
}

impl Head {
    /// Bytes that it has in a request, about.
    pub fn size(&self) -> usize {
        let tool = |tool: &ToolSpec| {
            tool.name.len() + tool.description.len() + tool.parameters.to_string().len()
        };
        self.instructions.len() + self.tools.iter().map(tool).sum::<usize>()
    }
}

/// A tool as the model sees it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ToolSpec {
    /// Letters, digits, `_` and `-`, at most 64.
    pub name: String,
    /// One or two sentences.
    pub description: String,
    /// JSON schema of the arguments: an object without `$ref`.
    pub parameters: serde_json::Value,
}

/// One thing a model streams.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelEvent {
    /// A piece of its message.
    TextDelta(String),
    /// A piece of its readable reasoning.
    ReasoningDelta(String),
    /// An item is complete: a message, reasoning or a call. Nothing is acted on before.
    Item(Item),
    /// The sample failed and is tried again after a wait: everything since the last `Retrying` (or the start) is void.
    /// The next event belongs to the new try.
    Retrying {
        /// How long until the next try.
        after: Duration,
        /// What went wrong.
        error: ModelError,
    },
    /// The sample is whole.
    Done(Usage),
}

/// Why a sample failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// What can be done about it.
    pub kind: ModelErrorKind,
    /// One line for a person, with the provider's own words where there are some; no key in it.
    pub message: String,
    /// How long the provider asks us to wait.
    pub retry_after: Option<Duration>,
}

/// What can be done about a failed sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelErrorKind {
    /// Nobody answers, or the connection broke: try again.
    Unreachable,
    /// The provider is busy or broken: try again.
    Busy,
    /// The key is missing or refused.
    Auth,
    /// The account has nothing left.
    Quota,
    /// The conversation is longer than the model's window.
    ContextLength,
    /// The provider does not take this request.
    Rejected,
}

impl ModelErrorKind {
    /// Whether the same request may succeed later.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::Busy)
    }
}

impl From<ModelErrorKind> for TurnErrorKind {
    fn from(kind: ModelErrorKind) -> Self {
        match kind {
            ModelErrorKind::Unreachable | ModelErrorKind::Busy => Self::ModelUnreachable,
            ModelErrorKind::Auth => Self::ModelAuth,
            ModelErrorKind::Quota => Self::ModelQuota,
            ModelErrorKind::ContextLength => Self::ContextLength,
            ModelErrorKind::Rejected => Self::ModelRejected,
        }
    }
}
