//! OpenAI's Responses API: items become its input once, its event stream becomes ours.
//!
//! Nothing is kept by the provider (`store: false`), so what it sampled goes back exactly as it came, encrypted reasoning
//! included. The decoder believes little: it acts on whole items and on the event that ends a sample, shows deltas, and
//! passes over what it does not know, since many servers speak this API only roughly.

use std::sync::Arc;

use async_openai::{Client, config::OpenAIConfig, types::stream::StreamResponse};
use futures_util::{
    FutureExt, StreamExt, TryFutureExt,
    stream::{self, BoxStream},
};
use serde::Serialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use tokio::time::timeout;

use super::{
    Endpoint, EndpointError, Model, ModelError, ModelEvent, Request, ToolSpec,
    failure::{Failure, Peer},
    transport::{connect, model_error},
};
use crate::conversation::{CallId, Item, ToolCall, Usage, Wire};

/// All events of one sample, in bytes. The crate reads ahead without bound, so a flood must end here.
const SAMPLE_LIMIT: usize = 64 << 20;
/// The arguments of one call, in bytes. The longest answers of today, 128k tokens, are a quarter of it: more is a model
/// that repeats itself.
const ARGUMENTS_LIMIT: usize = 2 << 20;
/// After its last event a sample's body is read to the end, so that the next request finds the connection open.
const DRAIN_TIME: std::time::Duration = std::time::Duration::from_secs(2);

/// A model behind the Responses API. Does not retry: see [`super::Retry`].
pub struct Responses {
    origin: String,
    connection: Arc<Connection>,
}

impl Responses {
    /// Connects nowhere yet.
    ///
    /// # Errors
    ///
    /// The endpoint's parts cannot be used in HTTP requests.
    pub fn new(endpoint: Endpoint) -> Result<Self, EndpointError> {
        let (client, peer) = connect(&endpoint)?;
        let connection = Connection {
            client,
            peer,
            idle: endpoint.idle,
        };
        Ok(Self {
            origin: format!("{}@{}", connection.peer.model, connection.peer.base),
            connection: Arc::new(connection),
        })
    }
}

impl Model for Responses {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn name(&self) -> &str {
        &self.connection.peer.model
    }

    fn encode(&self, items: &[Item]) -> Vec<Arc<RawValue>> {
        encode(&self.origin, items)
    }

    fn stream(&self, request: Request) -> BoxStream<'static, Result<ModelEvent, ModelError>> {
        let connection = self.connection.clone();
        let decoder = Decoder::new(self.origin.clone(), connection.peer.clone());
        let sample = async move {
            let events = connection.open(&request).await?;
            let sample = Sample {
                connection,
                events,
                decoder,
            };
            let step = |sample: Option<Sample>| async { Some(sample?.next().await) };
            Ok(stream::unfold(Some(sample), step))
        };
        sample.try_flatten_stream().boxed()
    }
}

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
        Item::UserMessage { text } => message("user", "input_text", text),
        Item::AgentMessage { text, wire } => {
            verbatim(wire).unwrap_or_else(|| message("assistant", "output_text", text))
        }
        Item::Reasoning { wire, .. } => verbatim(wire).filter(can_return)?,
        Item::ToolCall(call) => verbatim(&call.wire).unwrap_or_else(|| {
            json!({
                "type": "function_call",
                "call_id": call.call_id,
                "name": call.name,
                "arguments": call.arguments,
            })
        }),
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
struct Body<'a> {
    model: &'a str,
    stream: bool,
    store: bool,
    prompt_cache_key: String,
    parallel_tool_calls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Value>,
    instructions: &'a str,
    tools: Vec<Tool<'a>>,
    input: &'a [Arc<RawValue>],
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    spec: &'a ToolSpec,
    strict: bool,
}

impl<'a> Body<'a> {
    fn new(model: &'a str, request: &'a Request) -> Self {
        let head = &request.head;
        let effort = head.reasoning_effort.as_ref();
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
            prompt_cache_key: head.thread_id.to_string(),
            parallel_tool_calls: true,
            include: may_reason(model).then_some(["reasoning.encrypted_content"]),
            reasoning: effort.map(|effort| json!({"effort": effort, "summary": "auto"})),
            instructions: &head.instructions,
            tools: tools.collect(),
            input: &request.input,
        }
    }
}

/// OpenAI's older families answer 400 to being asked for encrypted reasoning. Every other name may reason.
fn may_reason(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    !["gpt-3", "gpt-4", "chatgpt-4"]
        .iter()
        .any(|family| name.starts_with(family))
}

type Events = StreamResponse<Box<RawValue>>;

struct Connection {
    client: Client<OpenAIConfig>,
    peer: Arc<Peer>,
    idle: std::time::Duration,
}

impl Connection {
    async fn open(&self, request: &Request) -> Result<Events, ModelError> {
        let responses = self.client.responses();
        let body = Body::new(&self.peer.model, request);
        timeout(self.idle, responses.create_stream_byot(body))
            .await
            .map_err(|_| self.silent())?
            .map_err(|error| model_error(error, &self.peer))
    }

    fn silent(&self) -> ModelError {
        let idle = humantime::format_duration(self.idle);
        self.peer
            .broken(format!("`{}` said nothing for {idle}", self.peer.base))
    }
}

/// One answer on its way. Dropping it closes the connection, unless the answer is whole.
struct Sample {
    connection: Arc<Connection>,
    events: Events,
    decoder: Decoder,
}

impl Sample {
    /// The next thing to tell, and the rest of the sample unless that was the last.
    async fn next(mut self) -> (Result<ModelEvent, ModelError>, Option<Self>) {
        loop {
            match self.read().await {
                Ok(None) => {}
                Ok(Some(done @ ModelEvent::Done(_))) => {
                    tokio::spawn(timeout(DRAIN_TIME, self.events.for_each(async |_| {})).map(drop));
                    return (Ok(done), None);
                }
                Ok(Some(event)) => return (Ok(event), Some(self)),
                Err(error) => return (Err(error), None),
            }
        }
    }

    async fn read(&mut self) -> Result<Option<ModelEvent>, ModelError> {
        let peer = &self.connection.peer;
        let event = timeout(self.connection.idle, self.events.next())
            .await
            .map_err(|_| self.connection.silent())?;
        match event {
            None => Err(peer.broken(format!(
                "`{}` ended the answer early: stream closed before completion",
                peer.base
            ))),
            Some(Err(error)) => Err(model_error(error, peer)),
            Some(Ok(raw)) => self.decoder.decode(&raw),
        }
    }
}

struct Decoder {
    origin: String,
    peer: Arc<Peer>,
    /// Bytes of all events so far.
    received: usize,
    /// Whether there was an item.
    has_item: bool,
}

impl Decoder {
    fn new(origin: String, peer: Arc<Peer>) -> Self {
        Self {
            origin,
            peer,
            received: 0,
            has_item: false,
        }
    }

    /// What an event tells, if it tells anything.
    fn decode(&mut self, raw: &RawValue) -> Result<Option<ModelEvent>, ModelError> {
        self.received += raw.get().len();
        if self.received > SAMPLE_LIMIT {
            return Err(self.too_much("an answer", SAMPLE_LIMIT));
        }
        // Only nesting beyond serde_json's limit can fail here, and no event that we know nests.
        let mut event: Value = serde_json::from_str(raw.get()).unwrap_or_default();
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
            .map_or_else(
                || format!("call_{}", uuid::Uuid::now_v7().simple()),
                str::to_owned,
            );
        let arguments = match &json["arguments"] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        if arguments.len() > ARGUMENTS_LIMIT {
            return Err(self.too_much("the arguments of a call", ARGUMENTS_LIMIT));
        }
        json["call_id"] = json!(call_id);
        json["arguments"] = json!(arguments);
        Ok(ToolCall {
            call_id: CallId(call_id),
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
            super::failure::one_line(reason.unwrap_or("no reason given"))
        )))
    }

    fn too_much(&self, what: &str, limit: usize) -> ModelError {
        let limit = limit >> 20;
        self.peer.unfit(format!(
            "`{}` sent {what} of more than {limit} MiB",
            self.peer.model
        ))
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_ends_at_the_limit() {
        let model = Responses::new(Endpoint::new("http://localhost/v1", "m")).unwrap();
        let mut decoder = Decoder::new(model.origin.clone(), model.connection.peer.clone());
        let event =
            to_raw_value(&json!({"type": "unknown", "filling": "x".repeat(1 << 20)})).unwrap();
        for _ in 0..63 {
            assert_eq!(decoder.decode(&event), Ok(None));
        }
        let error = decoder.decode(&event).unwrap_err();
        assert_eq!(error.message, "`m` sent an answer of more than 64 MiB");
    }

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
