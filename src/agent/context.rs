//! What the model is sent besides the conversation, fixed for a thread's life, and the conversation in wire form.

use std::{fmt::Write, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    conversation::{ApprovalPolicy, Item, SandboxPolicy, ThreadId},
    model::{Head, Model, ToolSpec},
    tools::mcp::{Chosen, Outside},
};

const SYSTEM: &str = include_str!("../../prompts/system.md");
const QUERY: &str = include_str!("../../prompts/query.md");
const ENVIRONMENT: &str = include_str!("../../prompts/environment.md");

/// The context of a thread exactly as it is sent; kept in the rollout so that a resumed thread sends the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The system prompt.
    pub instructions: String,
    /// A first message: where the agent is, and what the repository tells agents.
    pub preamble: String,
    /// The tools as the model sees them.
    pub tools: Vec<ToolSpec>,
    /// `minimal` to `high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// Which of the tools stand for those of external servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<Outside>,
}

/// What a context is made from.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The working directory, resolved.
    pub cwd: &'a Path,
    /// What calls may do.
    pub sandbox: SandboxPolicy,
    /// When somebody is asked.
    pub approval_policy: ApprovalPolicy,
    /// True for a thread that only answers questions about the code.
    pub query: bool,
    /// Added to our own instructions by whoever starts the thread.
    pub instructions: Option<&'a str>,
    /// The `AGENTS.md` chain.
    pub agents_md: &'a str,
}

impl Context {
    /// The context of a new thread.
    pub fn new(
        around: Surroundings<'_>,
        tools: Vec<ToolSpec>,
        reasoning_effort: Option<String>,
    ) -> Self {
        let mut instructions = SYSTEM.to_owned();
        if around.query {
            instructions.push_str(QUERY);
        }
        if let Some(more) = around.instructions.filter(|more| !more.trim().is_empty()) {
            instructions.push('\n');
            instructions.push_str(more.trim());
            instructions.push('\n');
        }
        Self {
            instructions,
            preamble: preamble(around),
            tools,
            reasoning_effort,
            outside: Vec::new(),
        }
    }

    /// The same with tools of external servers behind our own.
    pub fn with(mut self, chosen: Chosen) -> Self {
        self.tools.extend(chosen.specs);
        self.outside = chosen.outside;
        self
    }

    /// The head of every request of the thread.
    pub fn head(&self, thread_id: ThreadId) -> Head {
        Head {
            thread_id,
            instructions: self.instructions.clone(),
            tools: self.tools.clone(),
            reasoning_effort: self.reasoning_effort.clone(),
        }
    }
}

fn preamble(around: Surroundings<'_>) -> String {
    let git = if around.cwd.ancestors().any(|dir| dir.join(".git").exists()) {
        "yes"
    } else {
        "no"
    };
    let mut text = ENVIRONMENT
        .replace("{cwd}", &around.cwd.to_string_lossy())
        .replace("{platform}", std::env::consts::OS)
        .replace("{git}", git)
        .replace("{sandbox}", around.sandbox.as_str())
        .replace("{approval}", around.approval_policy.as_str());
    if !around.agents_md.is_empty() {
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "\n# What this repository tells agents\n\n{}",
            around.agents_md
        );
    }
    text
}

/// The conversation as one model sees it. It only grows, so each item is turned into bytes once.
#[derive(Clone)]
pub struct History {
    model: Arc<dyn Model>,
    encoded: Vec<Arc<RawValue>>,
}

impl History {
    /// The history of a thread for `model`: its preamble, then its items.
    pub fn new(model: Arc<dyn Model>, context: &Context, items: &[Item]) -> Self {
        let preamble = Item::UserMessage {
            text: context.preamble.clone(),
        };
        let mut encoded = model.encode(&[preamble]);
        encoded.extend(model.encode(items));
        Self { model, encoded }
    }

    /// Adds items that belong together: one message, one sample, or the outputs of its calls.
    pub fn extend(&mut self, items: &[Item]) {
        self.encoded.extend(self.model.encode(items));
    }

    /// All of it.
    pub fn encoded(&self) -> Vec<Arc<RawValue>> {
        self.encoded.clone()
    }

    /// Where its sampled items came from.
    pub fn model(&self) -> &Arc<dyn Model> {
        &self.model
    }
}
