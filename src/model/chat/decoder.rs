//! What comes of Chat Completions, event by event.
//!
//! A sample is collected and its items are told when the message has ended, since only then are all calls known to be
//! whole; text and reasoning are shown as they come. Little is believed: any field may be missing, of another type, or
//! called otherwise.

use std::{collections::VecDeque, sync::Arc};

use serde_json::{Map, Value, json};

use super::partial::{self, Partial};
use crate::{
    conversation::{CallId, Item, ToolCall, Usage, Wire},
    model::{
        CALLS_LIMIT, ModelError, ModelEvent, blocks,
        failure::{Failure, Peer, one_line},
        new_call_id,
        remote::{Decode, check_arguments},
        think::{Piece, Thinking},
    },
};

/// Understands the events of one sample.
pub(in crate::model) struct Decoder {
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
        // What comes behind a reason may have an empty one.
        if let Some(reason) = choice["finish_reason"].as_str()
            && !self.has_ended()
        {
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
    pub(in crate::model) fn new(
        origin: String,
        peer: Arc<Peer>,
        lenient_eof: bool,
        has_tools: bool,
    ) -> Self {
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
            partial::add_detail(details.or_insert_with(|| json!([])), detail);
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
        let part = Partial::of(json, &self.peer)?;
        let known = self.calls.iter().rposition(|call| call.goes_on_with(&part));
        let at = known.unwrap_or(self.calls.len());
        if known.is_none() {
            self.calls.push(Partial::default());
        }
        self.calls[at].take(part);
        check_arguments(&self.calls[at].arguments, &self.peer)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, transport::connect};

    /// Whether a body that ends like this is a whole sample.
    fn is_whole(lenient_eof: bool, clean: bool, events: &[Value]) -> bool {
        let (_, peer, _) = connect(&Endpoint::new("http://localhost/v1", "m")).unwrap();
        let mut decoder = Decoder::new("m".to_owned(), peer, lenient_eof, true);
        let mut told = VecDeque::new();
        for event in events {
            decoder.decode(event.clone(), &mut told).unwrap();
        }
        decoder.close(clean, &mut told).unwrap()
    }

    #[test]
    fn a_body_without_an_end_is_whole_only_where_nothing_can_have_cut_it() {
        let said = json!({"choices": [{"delta": {"content": "hi"}}]});
        let empty = json!({"choices": [{"delta": {}, "finish_reason": ""}]});
        let stop = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
        let table: &[(bool, bool, &[&Value], bool)] = &[
            (true, true, &[&said], true),
            (false, true, &[&said], false),
            (true, false, &[&said], false),
            (true, true, &[], false),
            (false, true, &[&said, &empty], true),
            (false, false, &[&said, &empty], false),
            (false, false, &[&said, &stop], true),
            (false, false, &[&said, &stop, &empty], true),
        ];
        for (lenient, clean, events, expect) in table {
            let events: Vec<Value> = events.iter().map(|event| (*event).clone()).collect();
            let whole = is_whole(*lenient, *clean, &events);
            assert_eq!(whole, *expect, "{lenient} {clean} {events:?}");
        }
    }
}
