//! Chat Completions: what almost every server speaks, each in its own accent.
//!
//! This is what is sent: items that were sampled together go back as one message of the assistant. What comes back is
//! for the [`decoder`].

mod concessions;
mod decoder;
mod partial;

use std::{borrow::Cow, sync::Arc};

use serde::{Serialize, Serializer};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

use concessions::CONCESSIONS;
pub(super) use decoder::Decoder;

use super::{
    Effort, Request, ToolSpec,
    remote::{Field, Fields, UNSEEN, without_pictures},
};
use crate::conversation::{Item, ToolCall, Wire};

/// What is added to the instructions where there are no tools.
const NO_TOOLS: &str = include_str!("../../../prompts/no_tools.md");

/// What a server takes.
#[derive(Clone, Copy)]
pub(super) struct Server<'a> {
    /// Whose form sampled items keep.
    pub(super) origin: &'a str,
    /// Its own reasoning.
    pub(super) takes_reasoning_back: bool,
    /// Calls and their outputs; else both are text.
    pub(super) takes_tools: bool,
}

/// `items` as messages of a request to `server`.
pub(super) fn encode(server: Server<'_>, items: &[Item]) -> Vec<Arc<RawValue>> {
    let mut messages = Messages {
        server,
        whole: Vec::new(),
        open: Map::new(),
    };
    items.iter().for_each(|item| messages.add(item));
    messages.close();
    messages.whole.iter().map(raw).collect()
}

fn raw(message: &Value) -> Arc<RawValue> {
    Arc::from(to_raw_value(message).expect("JSON can be written"))
}

/// Messages on their way to being whole.
struct Messages<'a> {
    server: Server<'a>,
    whole: Vec<Value>,
    /// What the assistant has said of its present message; empty where it said nothing.
    open: Map<String, Value>,
}

impl Messages<'_> {
    fn add(&mut self, item: &Item) {
        match item {
            Item::UserMessage { text } | Item::Compaction { text, .. } => {
                self.push(json!({"role": "user", "content": text}));
            }
            Item::Picture(picture) => {
                let part = json!({"type": "image_url", "image_url": {"url": picture.data_url()}});
                self.push(json!({"role": "user", "content": [part]}));
            }
            Item::Reasoning { wire, .. } => self.think(wire),
            Item::AgentMessage { text, wire } => {
                let has_spoken = ["content", "tool_calls"].map(|key| self.open.contains_key(key));
                self.begin(wire, has_spoken.contains(&true));
                self.open.insert("content".to_owned(), json!(text));
            }
            // It stands in the text as a block.
            Item::ToolCall(_) if !self.server.takes_tools => {}
            Item::ToolCall(call) => {
                self.begin(&call.wire, false);
                let json = self.call(call);
                let calls = self.open.entry("tool_calls").or_insert_with(|| json!([]));
                calls.as_array_mut().expect("made here").push(json);
            }
            Item::ToolOutput(output) if !self.server.takes_tools => {
                self.push(json!({"role": "user", "content": output.content}));
            }
            Item::ToolOutput(output) => self.push(json!({
                "role": "tool",
                "tool_call_id": output.call_id,
                "content": output.content,
            })),
        }
    }

    fn push(&mut self, message: Value) {
        self.close();
        self.whole.push(message);
    }

    fn close(&mut self) {
        let mut said = std::mem::take(&mut self.open);
        // Reasoning alone is no message that a server would take.
        if !said.contains_key("content") && !said.contains_key("tool_calls") {
            return;
        }
        let content = said.shift_remove("content").unwrap_or_default();
        let calls = said.shift_remove("tool_calls");
        let mut message = json!({"role": "assistant", "content": content});
        let fields = message.as_object_mut().expect("made here");
        fields.extend(said);
        fields.extend(calls.map(|calls| ("tool_calls".to_owned(), calls)));
        self.whole.push(message);
    }

    /// A message ends where another sample begins, which its first item says, or where it cannot go on.
    fn begin(&mut self, wire: &Option<Wire>, cannot_go_on: bool) {
        let begins = wire
            .as_ref()
            .is_some_and(|wire| wire.json["role"].is_string());
        if begins || cannot_go_on {
            self.close();
        }
    }

    fn think(&mut self, wire: &Option<Wire>) {
        self.begin(wire, !self.open.is_empty());
        let own = wire
            .as_ref()
            .filter(|wire| wire.origin == self.server.origin);
        if let Some(Value::Object(fields)) = own.map(|wire| &wire.json)
            && self.server.takes_reasoning_back
        {
            let fields = fields.iter().filter(|(name, _)| *name != "role");
            self.open
                .extend(fields.map(|(name, value)| (name.clone(), value.clone())));
        }
    }

    /// A call. Servers read its arguments to fill their templates and fail at what is no object, so nonsense is wrapped.
    fn call(&self, call: &ToolCall) -> Value {
        let arguments = match serde_json::from_str::<Map<String, Value>>(&call.arguments) {
            Ok(_) => call.arguments.clone(),
            Err(_) if call.arguments.trim().is_empty() => "{}".to_owned(),
            Err(_) => json!({"malformed": call.arguments}).to_string(),
        };
        let mut json = json!({
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": arguments},
        });
        // What else came with it goes back too: Gemini wants its signatures.
        let own = call
            .wire
            .as_ref()
            .filter(|wire| wire.origin == self.server.origin);
        if let Some(Value::Object(fields)) = own.map(|wire| &wire.json) {
            let known = json.as_object_mut().expect("made here");
            for (name, value) in fields.iter().filter(|(name, _)| *name != "role") {
                known.entry(name).or_insert_with(|| value.clone());
            }
        }
        json
    }
}

/// What is sent. The conversation stands last, so that the body of the next step has this one as its beginning.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<Effort>,
    /// Refused where there are no tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(serialize_with = "one_list")]
    messages: (Arc<RawValue>, Cow<'a, [Arc<RawValue>]>),
}

/// The system message and the conversation, which is not copied for it.
fn one_list<S: Serializer>(
    (system, rest): &(Arc<RawValue>, Cow<'_, [Arc<RawValue>]>),
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_seq(std::iter::once(system).chain(rest.iter()))
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: &'a ToolSpec,
}

impl<'a> Body<'a> {
    pub(super) fn new(model: &'a str, request: &'a Request, fields: Fields) -> Self {
        let head = &request.head;
        let (tools, more) = match fields.has(Field::Tools) {
            true => (head.tools.as_slice(), ""),
            false => (&[][..], NO_TOOLS),
        };
        let instructions = head.instructions.clone() + more;
        let system = raw(&json!({"role": "system", "content": instructions}));
        let mut messages = Cow::Borrowed(request.input.as_slice());
        if !fields.has(Field::Pictures) {
            let unseen = raw(&json!({"role": "user", "content": UNSEEN}));
            messages = without_pictures(&messages, "image_url", unseen).into();
        }
        for (_, concede) in CONCESSIONS.iter().filter(|(field, _)| !fields.has(*field)) {
            messages = concede(&messages).into();
        }
        Self {
            model,
            stream: true,
            stream_options: fields
                .has(Field::StreamOptions)
                .then(|| json!({"include_usage": true})),
            prompt_cache_key: fields
                .has(Field::CacheKey)
                .then(|| head.thread_id.to_string()),
            reasoning_effort: head.reasoning_effort.filter(|_| fields.has(Field::Effort)),
            parallel_tool_calls: (fields.has(Field::ParallelCalls) && !tools.is_empty())
                .then_some(true),
            tools: tools
                .iter()
                .map(|function| Tool {
                    r#type: "function",
                    function,
                })
                .collect(),
            messages: (system, messages),
        }
    }
}
