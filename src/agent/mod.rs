//! One turn: the loop between a model and the gate, and the context it starts from. It knows no protocols.

mod compact;
pub mod context;
mod gist;
pub mod instructions;
pub mod sample;
pub mod turn;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::conversation::{CommandRun, Denied, Event, Item, Outcome, Usage};

/// What a turn needs from above. The thread implements it.
pub trait Report: Send + Sync {
    /// Returns when the item is persisted; an error means that nothing may be done that relies on it.
    fn record(&self, item: Item) -> BoxFuture<'_, Result<(), String>>;

    /// Returns when it is known what the turn has come to so far: `more` is what is new since this was last told.
    fn so_far(&self, more: Tally) -> BoxFuture<'_, ()>;

    /// Tells what happens meanwhile. Lossy, never waits.
    fn publish(&self, event: Event);
}

/// What a turn has come to so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// The last thing the model said.
    pub content: String,
    /// Commands that ran.
    pub commands: Vec<CommandRun>,
    /// What was refused.
    pub denied: Vec<Denied>,
    /// Tokens and requests.
    pub usage: Usage,
    /// Tokens for the budget: the provider's count, an estimate where it does not count.
    pub spent: u64,
}

impl Tally {
    /// The same without the first `commands` and `denied`, which are known: a turn may have thousands.
    fn since(&self, commands: usize, denied: usize) -> Self {
        Self {
            content: self.content.clone(),
            commands: self.commands[commands..].to_vec(),
            denied: self.denied[denied..].to_vec(),
            usage: self.usage,
            spent: self.spent,
        }
    }

    /// Puts what is new to it.
    pub fn take(&mut self, more: Self) {
        self.commands.extend(more.commands);
        self.denied.extend(more.denied);
        (self.content, self.usage, self.spent) = (more.content, more.usage, more.spent);
    }
}

impl From<&Outcome> for Tally {
    fn from(outcome: &Outcome) -> Self {
        Self {
            content: outcome.content.clone(),
            commands: outcome.commands.clone(),
            denied: outcome.denied.clone(),
            usage: outcome.usage,
            spent: outcome.usage.total(),
        }
    }
}

/// What ends a turn that does not end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests to the model in one turn.
    pub max_steps: u64,
    /// Wall time of one turn, in seconds.
    #[serde(with = "endless")]
    pub max_seconds: f64,
    /// Input and output tokens of one turn together.
    pub max_tokens: u64,
    /// How long a question waits for an answer, in seconds.
    #[serde(with = "endless")]
    pub approval_seconds: f64,
    /// How long a turn goes on, or waits for an answer, when nobody follows it any more, in seconds.
    #[serde(with = "endless")]
    pub park_seconds: f64,
    /// How long an MCP call waits before it returns `running`, in seconds; without it, as long as the turn takes.
    pub wait_seconds: Option<f64>,
    /// Turns that run at once in one process; those beyond wait their turn. No part of a thread.
    #[serde(skip_serializing, deserialize_with = "one_at_least")]
    pub turns_at_once: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_steps: 200,
            max_seconds: 3600.0,
            max_tokens: 5_000_000,
            approval_seconds: 600.0,
            park_seconds: 600.0,
            wait_seconds: None,
            turns_at_once: 32,
        }
    }
}

impl Limits {
    /// The lower of both, each by itself.
    pub fn within(self, ceiling: Self) -> Self {
        Self {
            max_steps: self.max_steps.min(ceiling.max_steps),
            max_seconds: self.max_seconds.min(ceiling.max_seconds),
            max_tokens: self.max_tokens.min(ceiling.max_tokens),
            ..ceiling
        }
    }
}

fn one_at_least<'de, D: serde::Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    match usize::deserialize(from)? {
        0 => Err(serde::de::Error::custom(
            "expected a number of turns above 0",
        )),
        turns => Ok(turns),
    }
}

/// Seconds that may be infinite: JSON has no such number, so it is written as `null`.
mod endless {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(seconds: &f64, to: S) -> Result<S::Ok, S::Error> {
        seconds.is_finite().then_some(*seconds).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        let seconds = Option::deserialize(from)?.unwrap_or(f64::INFINITY);
        if seconds >= 0.0 {
            Ok(seconds)
        } else {
            Err(serde::de::Error::custom(
                "expected a number of seconds, 0 or more",
            ))
        }
    }
}
