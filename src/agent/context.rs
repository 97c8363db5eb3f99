//! What the model is sent besides the conversation, fixed for a thread's life, and the conversation in wire form.

use std::{collections::HashSet, fmt::Write, path::Path, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::gist::Gist;
use crate::{
    conversation::{ApprovalPolicy, CallId, Item, SandboxPolicy, ThreadId, Wire},
    model::{Effort, Head, Model, ToolSpec},
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
    /// How hard the model thinks, where the owner or caller said so.
    #[serde(
        default,
        deserialize_with = "known_effort",
        skip_serializing_if = "Option::is_none"
    )]
    pub reasoning_effort: Option<Effort>,
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
        reasoning_effort: Option<Effort>,
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
            reasoning_effort: self.reasoning_effort,
        }
    }
}

/// Older files hold whatever was typed; what is no effort reads as none given.
fn known_effort<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Effort>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(Effort::deserialize(value).ok())
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

/// The conversation as one model sees it. It only grows, so each item is turned into bytes once; only a compaction lets
/// it begin anew.
#[derive(Clone)]
pub struct History {
    model: Arc<dyn Model>,
    /// Shared with the request on its way; by the time it grows, that is gone.
    encoded: Arc<Vec<Arc<RawValue>>>,
    /// How many of these are the preamble.
    preamble: usize,
    /// Where in `encoded` a message of the user or a sample begins.
    steps: Vec<usize>,
    calls: HashSet<CallId>,
    gist: Gist,
    /// Of `encoded`.
    bytes: usize,
    /// What the provider last counted, and how many bytes that were.
    counted: Option<(u64, usize)>,
}

/// Bytes of a token, as source code has them on the average (measured: 4.25).
const TOKEN: usize = 4;

/// Tokens of a picture, about: what OpenAI counts for a large one.
const PICTURE: usize = 1_500;

impl History {
    /// The history of a thread for `model`: its preamble, then its items from the last compaction on. Of how many items
    /// a provider counted the tokens is known from the end of the last turn: `(tokens, items)`.
    pub fn new(
        model: Arc<dyn Model>,
        context: &Context,
        items: &[Item],
        counted: Option<(u64, usize)>,
    ) -> Self {
        let preamble = Item::UserMessage {
            text: context.preamble.clone(),
        };
        let encoded = model.encode(&[preamble]);
        let mut history = Self {
            preamble: encoded.len(),
            bytes: size(&encoded),
            model,
            encoded: Arc::new(encoded),
            steps: Vec::new(),
            calls: HashSet::new(),
            gist: Gist::default(),
            counted: None,
        };
        let compacted = items
            .iter()
            .rposition(|item| matches!(item, Item::Compaction { .. }));
        let (before, since) = items.split_at(compacted.unwrap_or(0));
        before.iter().for_each(|item| history.note(item));
        let counted = counted.and_then(|(tokens, items)| {
            let (items, rest) = since.split_at_checked(items.checked_sub(before.len())?)?;
            Some((tokens, items, rest))
        });
        let mut rest = since;
        if let Some((tokens, items, uncounted)) = counted {
            together(items).for_each(|items| history.extend(items));
            history.count(tokens);
            rest = uncounted;
        }
        together(rest).for_each(|items| history.extend(items));
        history
    }

    /// Adds items that belong together: one message, one sample, or the outputs of its calls.
    pub fn extend(&mut self, items: &[Item]) {
        items.iter().for_each(|item| self.note(item));
        let encoded = self.model.encode(items);
        if !matches!(items.first(), None | Some(Item::ToolOutput(_))) {
            self.steps.push(self.encoded.len());
        }
        self.bytes += match items {
            // Its tokens have nothing to do with its bytes.
            [Item::Picture(_)] => PICTURE * TOKEN,
            _ => size(&encoded),
        };
        Arc::make_mut(&mut self.encoded).extend(encoded);
    }

    fn note(&mut self, item: &Item) {
        self.gist.note(item);
        if let Item::ToolCall(call) = item {
            self.calls.insert(call.call_id.clone());
        }
    }

    /// All of it.
    pub fn encoded(&self) -> Arc<Vec<Arc<RawValue>>> {
        self.encoded.clone()
    }

    /// Where its sampled items came from.
    pub fn model(&self) -> &Arc<dyn Model> {
        &self.model
    }

    /// Whether a call of this name stands in it, or did before a compaction.
    pub fn has_call(&self, id: &CallId) -> bool {
        self.calls.contains(id)
    }

    /// The provider counted `tokens` for what stands here now.
    pub fn count(&mut self, tokens: u64) {
        self.counted = Some((tokens, self.bytes));
    }

    /// Tokens that it has together with a head of `head` bytes: what the provider counted, and an estimate of the rest.
    pub fn tokens(&self, head: usize) -> u64 {
        let estimate = |bytes: usize| (bytes / TOKEN) as u64;
        match self.counted {
            Some((tokens, bytes)) => tokens + estimate(self.bytes.saturating_sub(bytes)),
            None => estimate(self.bytes + head),
        }
    }

    /// The same if the provider has counted any of it: then the head is in its count.
    pub fn counted(&self) -> Option<u64> {
        self.counted.map(|_| self.tokens(0))
    }

    /// True if there is more in it than a message, so that a compaction makes it shorter.
    pub(super) fn can_be_compacted(&self) -> bool {
        self.steps.len() > 1
    }

    /// As much of it as 1 / `part` of its bytes: the preamble, then the last steps, each whole. Nothing if the last step
    /// alone is longer.
    pub(super) fn tail(&self, part: usize) -> Option<Vec<Arc<RawValue>>> {
        let fits = |at: &&usize| size(&self.encoded[**at..]) <= self.bytes / part;
        let from = self.steps.iter().find(fits)?;
        Some([&self.encoded[..self.preamble], &self.encoded[*from..]].concat())
    }

    /// What stands for all of it, with the model's own `notes` and the form they came in.
    pub(super) fn compaction(&self, notes: &str, wire: Option<Wire>) -> Item {
        Item::Compaction {
            text: self.gist.message(notes),
            wire,
        }
    }

    /// Begins anew with `compaction`, which is recorded.
    pub(super) fn begin_anew(&mut self, compaction: &Item) {
        Arc::make_mut(&mut self.encoded).truncate(self.preamble);
        self.steps.clear();
        self.counted = None;
        self.bytes = size(&self.encoded);
        self.extend(std::slice::from_ref(compaction));
    }
}

fn size(encoded: &[Arc<RawValue>]) -> usize {
    encoded.iter().map(|raw| raw.get().len()).sum()
}

/// `items` in the pieces that [`History::extend`] took when they were new.
fn together(items: &[Item]) -> impl Iterator<Item = &[Item]> {
    items.chunk_by(|a, b| {
        let is_message = |item: &Item| {
            matches!(
                item,
                Item::UserMessage { .. } | Item::Picture(_) | Item::Compaction { .. }
            )
        };
        let is_output = |item: &Item| matches!(item, Item::ToolOutput(_));
        !is_message(a) && !is_message(b) && is_output(a) == is_output(b)
    })
}
