//! Chat Completions: what almost every server speaks, each in its own accent.
//!
//! Items that were sampled together go back as one message of the assistant. The decoder collects a sample and tells its
//! items when the message has ended, since only then are all calls known to be whole; text and reasoning are shown as
//! they come. It believes little: any field may be missing, of another type, or called otherwise.

use std::{collections::VecDeque, sync::Arc};

use serde::Serialize;
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    CALLS_LIMIT, Effort, ModelError, ModelEvent, Request, ToolSpec, blocks,
    failure::{Failure, Peer, one_line},
    new_call_id,
    remote::{Decode, Field, Fields, UNSEEN, arguments, check_arguments, without_pictures},
    think::{Piece, Thinking},
};
use crate::conversation::{CallId, Item, ToolCall, Usage, Wire};

/// What is added to the instructions where there are no tools.
const NO_TOOLS: &str = include_str!("../../prompts/no_tools.md");

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

/// `messages` with those of the user that follow each other put into one.
fn in_turns(messages: &[Arc<RawValue>]) -> Vec<Arc<RawValue>> {
    let user = |message: &RawValue| {
        let message: Value = serde_json::from_str(message.get()).unwrap_or_default();
        let text = message["content"]
            .as_str()
            .filter(|_| message["role"] == "user");
        text.map(str::to_owned)
    };
    let mut turns: Vec<Arc<RawValue>> = Vec::new();
    let mut open: Option<String> = None;
    for message in messages {
        match (user(message), open.take()) {
            (Some(text), Some(before)) => {
                turns.pop();
                let text = format!("{before}\n\n{text}");
                turns.push(raw(&json!({"role": "user", "content": text})));
                open = Some(text);
            }
            (text, _) => {
                turns.push(message.clone());
                open = text;
            }
        }
    }
    turns
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
    messages: Vec<Arc<RawValue>>,
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
        let mut messages = Vec::with_capacity(request.input.len() + 1);
        messages.push(system);
        messages.extend(request.input.iter().cloned());
        if !fields.has(Field::Pictures) {
            let unseen = raw(&json!({"role": "user", "content": UNSEEN}));
            messages = without_pictures(&messages, "image_url", unseen);
        }
        if !fields.has(Field::UserRuns) {
            messages = in_turns(&messages);
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
            messages,
        }
    }
}

/// Understands the events of one sample.
pub(super) struct Decoder {
    origin: String,
    peer: Arc<Peer>,
    lenient_eof: bool,
    has_tools: bool,
    thinking: Thinking,
    text: String,
    thought: String,
    /// The reasoning as it goes back, under the server's own names.
    reasoning: Map<String, Value>,
    calls: Vec<Partial>,
    usage: Usage,
    finish: Option<String>,
    is_told: bool,
}

/// A call on its way.
#[derive(Default)]
struct Partial {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    /// What else came with it.
    rest: Map<String, Value>,
}

impl Decode for Decoder {
    fn decode(
        &mut self,
        mut event: Value,
        told: &mut VecDeque<ModelEvent>,
    ) -> Result<(), ModelError> {
        let mut choice = taken(&mut event, "/choices/0");
        for found in [&event["error"], &choice["error"]] {
            if !found.is_null() {
                let failure = Failure::from_json(&json!({"error": found}));
                return Err(self.peer.error(failure));
            }
        }
        let counted = [&event["usage"], &event["x_groq"]["usage"], &choice["usage"]]
            .into_iter()
            .find(|usage| usage.is_object())
            .map(usage);
        self.usage = counted.unwrap_or(self.usage);
        let delta = match taken(&mut choice, "/delta") {
            Value::Object(delta) => Value::Object(delta),
            _ => taken(&mut choice, "/message"),
        };
        self.take_reasoning(&delta, told);
        self.take_content(&delta["content"], told);
        self.take_content(&delta["refusal"], told);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.take_call(call)?;
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish = Some(reason.to_owned());
        }
        let nothing_follows = self.has_ended() && choice.is_null() && counted.is_some();
        if nothing_follows || self.calls.len() >= CALLS_LIMIT {
            self.tell(told)?;
        }
        Ok(())
    }

    /// Some servers send an empty reason with every piece, so that one only counts at the end of the body.
    fn has_ended(&self) -> bool {
        self.finish
            .as_ref()
            .is_some_and(|reason| !reason.is_empty())
    }

    fn close(&mut self, clean: bool, told: &mut VecDeque<ModelEvent>) -> Result<bool, ModelError> {
        let said = !self.text.is_empty() || !self.calls.is_empty();
        let ended_by_itself = clean && (self.finish.is_some() || self.lenient_eof && said);
        if !self.has_ended() && !ended_by_itself {
            return Ok(false);
        }
        self.tell(told)?;
        Ok(true)
    }
}

impl Decoder {
    pub(super) fn new(origin: String, peer: Arc<Peer>, lenient_eof: bool, has_tools: bool) -> Self {
        Self {
            origin,
            peer,
            lenient_eof,
            has_tools,
            thinking: Thinking::default(),
            text: String::new(),
            thought: String::new(),
            reasoning: Map::new(),
            calls: Vec::new(),
            usage: Usage {
                requests: 1,
                ..Usage::default()
            },
            finish: None,
            is_told: false,
        }
    }

    /// Reasoning has three names. Where several carry the same, the first is shown and goes back.
    fn take_reasoning(&mut self, delta: &Value, told: &mut VecDeque<ModelEvent>) {
        let plain = ["reasoning_content", "reasoning", "reasoning_text"]
            .into_iter()
            .find_map(|name| Some((name, delta[name].as_str().filter(|text| !text.is_empty())?)));
        if let Some((name, text)) = plain {
            append(
                self.reasoning.entry(name).or_insert_with(|| json!("")),
                text,
            );
            self.think(text, told);
        }
        for detail in delta["reasoning_details"].as_array().into_iter().flatten() {
            let text = detail["text"].as_str().or(detail["summary"].as_str());
            if let (Some(text), None) = (text, plain) {
                self.think(text, told);
            }
            let details = self.reasoning.entry("reasoning_details");
            add_detail(details.or_insert_with(|| json!([])), detail);
        }
    }

    fn think(&mut self, text: &str, told: &mut VecDeque<ModelEvent>) {
        self.thought.push_str(text);
        told.push_back(ModelEvent::ReasoningDelta(text.to_owned()));
    }

    /// Text, or parts of it: Mistral's hold its reasoning too.
    fn take_content(&mut self, content: &Value, told: &mut VecDeque<ModelEvent>) {
        match content {
            Value::String(text) => {
                let pieces = self.thinking.split(text);
                self.take_pieces(pieces, told);
            }
            Value::Array(parts) => {
                for part in parts {
                    let thought = part["thinking"].as_array().into_iter().flatten();
                    for text in thought.filter_map(|part| part["text"].as_str()) {
                        self.think(text, told);
                    }
                    self.take_content(&part["text"], told);
                }
            }
            _ => {}
        }
    }

    fn take_pieces(&mut self, pieces: Vec<Piece>, told: &mut VecDeque<ModelEvent>) {
        for piece in pieces {
            match piece {
                Piece::Thought(text) => self.think(&text, told),
                Piece::Text(text) => {
                    self.text.push_str(&text);
                    told.push_back(ModelEvent::TextDelta(text));
                }
            }
        }
    }

    fn take_call(&mut self, json: &Value) -> Result<(), ModelError> {
        let function = &json["function"];
        let part = Partial {
            index: json["index"].as_u64(),
            id: json["id"].as_str().unwrap_or_default().to_owned(),
            name: function["name"].as_str().unwrap_or_default().to_owned(),
            arguments: arguments(&function["arguments"], &self.peer)?,
            rest: Map::new(),
        };
        let at = match self.calls.iter().rposition(|call| call.goes_on_with(&part)) {
            Some(at) => at,
            None => {
                self.calls.push(Partial::default());
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[at];
        call.index = call.index.or(part.index);
        if call.id.is_empty() {
            call.id = part.id;
        }
        if call.name.is_empty() {
            call.name = part.name;
        }
        call.arguments.push_str(&part.arguments);
        let known = ["index", "id", "type", "function"];
        let rest = json.as_object().into_iter().flatten();
        let rest = rest.filter(|(name, value)| !known.contains(&name.as_str()) && !value.is_null());
        call.rest
            .extend(rest.map(|(name, value)| (name.clone(), value.clone())));
        check_arguments(&call.arguments, &self.peer)
    }

    /// Tells the items and the end, once.
    fn tell(&mut self, told: &mut VecDeque<ModelEvent>) -> Result<(), ModelError> {
        if std::mem::replace(&mut self.is_told, true) {
            return Ok(());
        }
        let rest = self.thinking.end();
        self.take_pieces(rest, told);
        let mut items = self.items();
        if items.is_empty()
            && matches!(
                self.finish.as_deref(),
                Some("length" | "content_filter" | "error")
            )
        {
            return Err(self.peer.unfit(format!(
                "`{}` stopped before it said anything: {}",
                self.peer.model,
                one_line(self.finish.as_deref().unwrap_or_default())
            )));
        }
        if let Some(wire) = items.first_mut().and_then(wire_of) {
            wire.json["role"] = json!("assistant");
        }
        told.extend(items.into_iter().map(ModelEvent::Item));
        told.push_back(ModelEvent::Done(self.usage));
        Ok(())
    }

    fn items(&mut self) -> Vec<Item> {
        let origin = self.origin.clone();
        let wire = |json: Value| {
            let origin = origin.clone();
            Some(Wire { origin, json })
        };
        let mut items = Vec::new();
        if !self.has_tools {
            self.calls = blocks::calls(&self.text)
                .into_iter()
                .map(Partial::of_block)
                .collect();
        }
        if !self.thought.is_empty() || !self.reasoning.is_empty() {
            items.push(Item::Reasoning {
                summary: std::mem::take(&mut self.thought),
                wire: wire(Value::Object(std::mem::take(&mut self.reasoning))),
            });
        }
        if !self.text.is_empty() {
            items.push(Item::AgentMessage {
                text: std::mem::take(&mut self.text),
                wire: wire(json!({})),
            });
        }
        let calls = self.calls.drain(..).map(|call| {
            let call_id = match call.id.is_empty() {
                true => new_call_id(),
                false => CallId(call.id),
            };
            Item::ToolCall(ToolCall {
                call_id,
                name: call.name,
                arguments: call.arguments,
                wire: wire(Value::Object(call.rest)),
            })
        });
        items.extend(calls);
        items
    }
}

impl Partial {
    fn of_block((name, arguments): (&str, Value)) -> Self {
        Self {
            name: name.to_owned(),
            arguments: arguments.to_string(),
            ..Self::default()
        }
    }

    /// Whether `part` belongs to this call. An index or an id that differs is another call; without both, a part with a
    /// name is one, since only the first part has it. Some count every call as 0: there a second whole one is another.
    fn goes_on_with(&self, part: &Self) -> bool {
        let differs = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
        if differs(&self.id, &part.id) {
            return false;
        }
        match (self.index, part.index) {
            (Some(mine), Some(its)) if mine != its => return false,
            _ if !part.id.is_empty() && self.id == part.id => return true,
            (Some(_), Some(_)) => {}
            _ => return part.name.is_empty() || self.name.is_empty(),
        }
        let is_whole = serde_json::from_str::<Map<String, Value>>(&self.arguments).is_ok();
        part.name.is_empty() || part.arguments.is_empty() || !is_whole
    }
}

/// What stands at `pointer`; null where nothing does.
fn taken(json: &mut Value, pointer: &str) -> Value {
    json.pointer_mut(pointer)
        .map(Value::take)
        .unwrap_or_default()
}

fn wire_of(item: &mut Item) -> Option<&mut Wire> {
    match item {
        Item::AgentMessage { wire, .. } | Item::Reasoning { wire, .. } => wire.as_mut(),
        Item::ToolCall(call) => call.wire.as_mut(),
        Item::UserMessage { .. }
        | Item::Picture(_)
        | Item::ToolOutput(_)
        | Item::Compaction { .. } => None,
    }
}

fn append(to: &mut Value, text: &str) {
    if let Value::String(known) = to {
        known.push_str(text);
    }
}

/// A detail that goes on with the last one is put to it: they come in pieces and go back whole.
fn add_detail(details: &mut Value, detail: &Value) {
    let Some(details) = details.as_array_mut() else {
        return;
    };
    let goes_on = |last: &Value| {
        last["type"] == detail["type"]
            && last["index"] == detail["index"]
            && detail["index"].is_u64()
    };
    let (Some(last), Some(fields)) = (
        details.last_mut().filter(|last| goes_on(last)),
        detail.as_object(),
    ) else {
        details.push(detail.clone());
        return;
    };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match (&mut last[name.as_str()], value) {
            (Value::String(known), Value::String(more))
                if ["text", "summary", "data"].contains(&name.as_str()) =>
            {
                known.push_str(more);
            }
            (known, value) => *known = value.clone(),
        }
    }
}

fn usage(json: &Value) -> Usage {
    let count = |names: &[&Value]| {
        let found = names
            .iter()
            .find_map(|value| value.as_u64().or(value.as_f64().map(|count| count as u64)));
        found.unwrap_or_default()
    };
    Usage {
        input_tokens: count(&[&json["prompt_tokens"], &json["input_tokens"]]),
        cached_input_tokens: count(&[
            &json["prompt_tokens_details"]["cached_tokens"],
            &json["prompt_cache_hit_tokens"],
            &json["cached_tokens"],
        ]),
        output_tokens: count(&[&json["completion_tokens"], &json["output_tokens"]]),
        reasoning_tokens: count(&[&json["completion_tokens_details"]["reasoning_tokens"]]),
        requests: 1,
        cost: None,
    }
}
