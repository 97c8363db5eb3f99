//! OpenAI's Responses API: items become its input once, its event stream becomes ours.
//!
//! Nothing is kept by the provider (`store: false`), so what it sampled goes back exactly as it came, encrypted reasoning
//! included. The decoder believes little: it acts on whole items and on the event that ends a sample, shows deltas, and
//! passes over what it does not know, since many servers speak this API only roughly.

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use serde::Serialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    Effort, ModelError, ModelEvent, Request, ToolSpec,
    failure::{Failure, Peer, one_line},
    new_call_id,
    remote::{Decode, Field, Fields, UNSEEN, arguments, without_pictures},
};
use crate::conversation::{CallId, Item, ToolCall, Usage, Wire};

/// `items` as input of a request to `origin`.
pub(super) fn encode(origin: &str, items: &[Item]) -> Vec<Arc<RawValue>> {
    let encoded = items.iter().filter_map(|item| encode_item(origin, item));
    encoded
        .map(|json| to_raw_value(&json).expect("JSON can be written"))
        .map(Arc::from)
        .collect()
}

fn encode_item(origin: &str, item: &Item) -> Option<Value> {
    let verbatim = |wire: &Option<Wire>| {
        let wire = wire.as_ref().filter(|wire| wire.origin == origin);
        wire.map(|wire| wire.json.clone())
    };
    Some(match item {
        Item::UserMessage { text } | Item::Compaction { text, .. } => {
            message("user", "input_text", text)
        }
        Item::Picture(picture) => json!({
            "type": "message",
            "role": "user",
            "content": [{"type": "input_image", "image_url": picture.data_url()}],
        }),
        Item::AgentMessage { text, wire } => {
            verbatim(wire).unwrap_or_else(|| message("assistant", "output_text", text))
        }
        Item::Reasoning { wire, .. } => verbatim(wire).filter(can_return)?,
        Item::ToolCall(call) => match verbatim(&call.wire) {
            // An id that the model had used before was replaced.
            Some(mut json) => {
                json["call_id"] = json!(call.call_id);
                json
            }
            None => json!({
                "type": "function_call",
                "call_id": call.call_id,
                "name": call.name,
                "arguments": call.arguments,
            }),
        },
        Item::ToolOutput(output) => json!({
            "type": "function_call_output",
            "call_id": output.call_id,
            "output": output.content,
        }),
    })
}

fn message(role: &str, part: &str, text: &str) -> Value {
    json!({"type": "message", "role": role, "content": [{"type": part, "text": text}]})
}

/// Reasoning that is only an id and a summary is looked up by the id, and with `store: false` nothing is found: "Item
/// with id 'rs_…' not found" (vercel/ai#7543).
fn can_return(reasoning: &Value) -> bool {
    let has_content = reasoning["content"]
        .as_array()
        .is_some_and(|parts| !parts.is_empty());
    reasoning["encrypted_content"].is_string() || has_content
}

/// What is sent. The conversation stands last, so that the body of the next step has this one as its beginning.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    stream: bool,
    store: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Value>,
    instructions: &'a str,
    tools: Vec<Tool<'a>>,
    input: Cow<'a, [Arc<RawValue>]>,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    spec: &'a ToolSpec,
    strict: bool,
}

impl<'a> Body<'a> {
    pub(super) fn new(model: &'a str, request: &'a Request, fields: Fields) -> Self {
        let head = &request.head;
        let tools = head.tools.iter().map(|spec| Tool {
            r#type: "function",
            spec,
            strict: false,
        });
        Self {
            model,
            // The crate does not set it for requests that are not its own, and reads a plain answer as no events.
            stream: true,
            store: false,
            prompt_cache_key: fields
                .has(Field::CacheKey)
                .then(|| head.thread_id.to_string()),
            parallel_tool_calls: fields.has(Field::ParallelCalls).then_some(true),
            include: (may_reason(model) && fields.has(Field::Encrypted))
                .then_some(["reasoning.encrypted_content"]),
            reasoning: reasoning(head.reasoning_effort, fields),
            instructions: &head.instructions,
            tools: tools.collect(),
            input: seen(&request.input, fields),
        }
    }
}

/// `input` as the server can see it.
fn seen(input: &[Arc<RawValue>], fields: Fields) -> Cow<'_, [Arc<RawValue>]> {
    if fields.has(Field::Pictures) {
        return Cow::Borrowed(input);
    }
    let unseen = to_raw_value(&message("user", "input_text", UNSEEN)).expect("JSON can be written");
    Cow::Owned(without_pictures(input, "input_image", Arc::from(unseen)))
}

fn reasoning(effort: Option<Effort>, fields: Fields) -> Option<Value> {
    let effort = effort.filter(|_| fields.has(Field::Effort))?;
    Some(match fields.has(Field::Summary) {
        true => json!({"effort": effort, "summary": "auto"}),
        false => json!({"effort": effort}),
    })
}

/// OpenAI's older families answer 400 to being asked for encrypted reasoning. Every other name may reason.
fn may_reason(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    !["gpt-3", "gpt-4", "chatgpt-4"]
        .iter()
        .any(|family| name.starts_with(family))
}

/// Understands the events of one sample.
pub(super) struct Decoder {
    origin: String,
    peer: Arc<Peer>,
    /// Whether there was an item.
    has_item: bool,
}

impl Decode for Decoder {
    fn decode(
        &mut self,
        mut event: Value,
        told: &mut VecDeque<ModelEvent>,
    ) -> Result<(), ModelError> {
        told.extend(self.late(&mut event)?);
        told.extend(self.meaning(event)?);
        Ok(())
    }

    /// A sample is whole with its last event and with nothing else.
    fn close(&mut self, _: bool, _: &mut VecDeque<ModelEvent>) -> Result<bool, ModelError> {
        Ok(false)
    }
}

impl Decoder {
    pub(super) fn new(origin: String, peer: Arc<Peer>) -> Self {
        Self {
            origin,
            peer,
            has_item: false,
        }
    }

    /// The items in the event that ends a sample, where no event before it had any: not every server sends them singly.
    fn late(&mut self, event: &mut Value) -> Result<Vec<ModelEvent>, ModelError> {
        let ends = ["response.completed", "response.incomplete"];
        if self.has_item || !ends.iter().any(|name| event["type"] == *name) {
            return Ok(Vec::new());
        }
        let output = event.pointer_mut("/response/output").map(Value::take);
        let Some(Value::Array(items)) = output else {
            return Ok(Vec::new());
        };
        let told = items.into_iter().map(|item| self.item(item));
        told.filter_map(Result::transpose).collect()
    }

    /// What an event tells, if it tells anything.
    fn meaning(&mut self, mut event: Value) -> Result<Option<ModelEvent>, ModelError> {
        let delta = || event["delta"].as_str().map(str::to_owned);
        match event["type"].as_str().unwrap_or_default() {
            "response.output_text.delta" | "response.refusal.delta" => {
                Ok(delta().map(ModelEvent::TextDelta))
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                Ok(delta().map(ModelEvent::ReasoningDelta))
            }
            // The parts of a summary are paragraphs.
            "response.reasoning_summary_part.added"
                if event["summary_index"].as_u64() > Some(0) =>
            {
                Ok(Some(ModelEvent::ReasoningDelta("\n\n".to_owned())))
            }
            "response.output_item.done" => self.item(event["item"].take()),
            "response.completed" => Ok(Some(ModelEvent::Done(usage(&event["response"]["usage"])))),
            "response.incomplete" => self.incomplete(&event["response"]),
            "response.failed" | "error" => Err(self.peer.error(Failure::from_json(&event))),
            "" if !event["error"].is_null() => Err(self.peer.error(Failure::from_json(&event))),
            _ => Ok(None),
        }
    }

    /// A whole item. Kinds that we never asked for are passed over.
    fn item(&mut self, json: Value) -> Result<Option<ModelEvent>, ModelError> {
        let item = match json["type"].as_str().unwrap_or_default() {
            "message" => Item::AgentMessage {
                text: spoken(&json["content"]),
                wire: self.wire(json),
            },
            "reasoning" => Item::Reasoning {
                summary: thought(&json),
                wire: self.wire(json),
            },
            "function_call" => Item::ToolCall(self.call(json)?),
            _ => return Ok(None),
        };
        self.has_item = true;
        Ok(Some(ModelEvent::Item(item)))
    }

    /// A call; what it lacks is put into its wire form too, since the output must name the same id.
    fn call(&self, mut json: Value) -> Result<ToolCall, ModelError> {
        let call_id = ["call_id", "id"]
            .iter()
            .find_map(|key| json[*key].as_str().filter(|id| !id.is_empty()))
            .map_or_else(new_call_id, |id| CallId(id.to_owned()));
        let arguments = arguments(&json["arguments"], &self.peer)?;
        json["call_id"] = json!(call_id);
        json["arguments"] = json!(arguments);
        Ok(ToolCall {
            call_id,
            name: json["name"].as_str().unwrap_or_default().to_owned(),
            arguments,
            wire: self.wire(json),
        })
    }

    fn wire(&self, json: Value) -> Option<Wire> {
        Some(Wire {
            origin: self.origin.clone(),
            json,
        })
    }

    /// A sample that was cut by the provider is whole for us if there is something in it: text is an answer, and a call
    /// with half its arguments is told to the model.
    fn incomplete(&self, response: &Value) -> Result<Option<ModelEvent>, ModelError> {
        if self.has_item {
            return Ok(Some(ModelEvent::Done(usage(&response["usage"]))));
        }
        let reason = response["incomplete_details"]["reason"].as_str();
        Err(self.peer.unfit(format!(
            "`{}` stopped before it said anything: {}",
            self.peer.model,
            one_line(reason.unwrap_or("no reason given"))
        )))
    }
}

/// The text of a message: parts, or a plain string at some servers.
fn spoken(content: &Value) -> String {
    let part = |part: &Value| {
        let text = part["text"].as_str().or(part["refusal"].as_str());
        text.unwrap_or_default().to_owned()
    };
    match content.as_array() {
        Some(parts) => parts.iter().map(part).collect(),
        None => content.as_str().unwrap_or_default().to_owned(),
    }
}

/// The summary of reasoning, or where there is none the reasoning itself, which open models show.
fn thought(reasoning: &Value) -> String {
    let paragraphs = |parts: &Value| {
        let parts = parts.as_array().map(Vec::as_slice).unwrap_or_default();
        let texts: Vec<&str> = parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect();
        texts.join("\n\n")
    };
    let summary = paragraphs(&reasoning["summary"]);
    if summary.is_empty() {
        paragraphs(&reasoning["content"])
    } else {
        summary
    }
}

fn usage(json: &Value) -> Usage {
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    Usage {
        input_tokens: count(&json["input_tokens"]),
        cached_input_tokens: count(&json["input_tokens_details"]["cached_tokens"]),
        output_tokens: count(&json["output_tokens"]),
        reasoning_tokens: count(&json["output_tokens_details"]["reasoning_tokens"]),
        requests: 1,
        cost: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_older_families_are_known_not_to_reason() {
        for model in ["gpt-5.5", "o4-mini", "openai/gpt-6", "llama-4"] {
            assert!(may_reason(model), "{model}");
        }
        for model in [
            "gpt-4o",
            "gpt-3.5-turbo",
            "openai/gpt-4.1",
            "chatgpt-4o-latest",
        ] {
            assert!(!may_reason(model), "{model}");
        }
    }
}
