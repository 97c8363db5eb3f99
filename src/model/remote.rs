//! A model behind HTTP, whichever API it speaks: one request, the stream of its answer, and what ends that.
//!
//! The decoders ([`super::responses`], [`super::chat`]) turn events into ours; everything that waits or counts is here.
//! Optional fields that a server refuses by name are left out from then on, since no table of servers is ever complete.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_openai::{Client, config::OpenAIConfig, types::stream::StreamResponse};
use futures_util::{
    FutureExt, StreamExt, TryFutureExt,
    stream::{self, BoxStream},
};
use serde_json::{Value, value::RawValue};
use tokio::time::timeout;

use super::{
    Endpoint, EndpointError, Model, ModelError, ModelErrorKind, ModelEvent, Request,
    body::DRAIN_TIME,
    chat,
    config::{Prices, WireApi},
    failure::Peer,
    providers::Provider,
    responses,
    transport::{connect, model_error},
    windows,
};
use crate::conversation::{Item, Usage};

/// All events of one sample, in bytes. The crate reads ahead without bound, so a flood must end here.
const SAMPLE_LIMIT: usize = 64 << 20;
/// The arguments of one call, in bytes. The longest answers of today, 128k tokens, are a quarter of it: more is a model
/// that repeats itself.
const ARGUMENTS_LIMIT: usize = 2 << 20;
/// A model behind an OpenAI-compatible server. Does not retry: see [`super::Retry`].
pub struct Remote {
    origin: String,
    connection: Arc<Connection>,
}

impl Remote {
    /// Connects nowhere yet.
    ///
    /// # Errors
    ///
    /// The endpoint's parts cannot be used in HTTP requests.
    pub fn new(endpoint: Endpoint) -> Result<Self, EndpointError> {
        let (client, peer, provider) = connect(&endpoint)?;
        let connection = Connection {
            api: endpoint.spoken(),
            window: endpoint
                .context_window
                .or_else(|| windows::known(&endpoint.model)),
            told_window: AtomicU64::new(0),
            prices: endpoint.prices,
            idle: endpoint.idle,
            refused: AtomicU16::new(match endpoint.takes_tools {
                true => 0,
                false => Field::Tools as u16,
            }),
            client,
            peer,
            provider,
        };
        // The two APIs have forms of their own for what was sampled. The plain name is that of older rollouts.
        let api = match connection.api {
            WireApi::Responses => "",
            WireApi::Chat => "/chat/completions",
        };
        Ok(Self {
            origin: format!("{}@{}{api}", connection.peer.model, connection.peer.base),
            connection: Arc::new(connection),
        })
    }
}

impl Model for Remote {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn name(&self) -> &str {
        &self.connection.peer.model
    }

    fn window(&self) -> Option<u64> {
        match self.connection.told_window.load(Ordering::Relaxed) {
            0 => self.connection.window,
            told => Some(told),
        }
    }

    fn encode(&self, items: &[Item]) -> Vec<Arc<RawValue>> {
        match self.connection.api {
            WireApi::Responses => responses::encode(&self.origin, items),
            WireApi::Chat => {
                let fields = self.connection.fields();
                let server = chat::Server {
                    origin: &self.origin,
                    takes_reasoning_back: fields.has(Field::Reasoning),
                    takes_tools: fields.has(Field::Tools),
                };
                chat::encode(server, items)
            }
        }
    }

    fn stream(&self, request: Request) -> BoxStream<'static, Result<ModelEvent, ModelError>> {
        let (connection, origin) = (self.connection.clone(), self.origin.clone());
        let sample = async move {
            let events = connection.open(&request).await?;
            // Whether there are tools is known only now.
            let decoder = connection.decoder(&origin);
            let sample = Sample {
                connection,
                events,
                decoder,
                told: VecDeque::new(),
                received: 0,
            };
            let step = |sample: Option<Sample>| async { Some(sample?.next().await) };
            Ok(stream::unfold(Some(sample), step))
        };
        sample.try_flatten_stream().boxed()
    }
}

/// What turns the events of one sample into ours.
pub(super) trait Decode: Send {
    /// Takes one event and tells what it means.
    fn decode(&mut self, event: Value, told: &mut VecDeque<ModelEvent>) -> Result<(), ModelError>;

    /// Whether the message has ended, so that only the count of tokens is waited for, and not long.
    fn has_ended(&self) -> bool {
        false
    }

    /// Nothing more comes. `clean`: the body ended as a whole one does. False if the sample is not whole.
    fn close(&mut self, clean: bool, told: &mut VecDeque<ModelEvent>) -> Result<bool, ModelError>;
}

/// A field that not every server takes, and the words by which one that does not names it.
const OPTIONAL: &[(Field, &str)] = &[
    (Field::StreamOptions, "stream_options"),
    (Field::CacheKey, "prompt_cache_key"),
    (Field::ParallelCalls, "parallel_tool_calls"),
    (Field::Effort, "reasoning_effort"),
    (Field::Effort, "reasoning.effort"),
    (Field::Summary, "reasoning.summary"),
    (Field::Encrypted, "reasoning.encrypted_content"),
    (Field::Encrypted, "ncrypted content is not supported"),
    (Field::Tools, "does not support tools"),
    (Field::Tools, "does not support function calling"),
    (Field::Tools, "support tool use"),
    (Field::Tools, "--enable-auto-tool-choice"),
    (Field::Tools, "tools param requires --jinja"),
    (Field::UserRuns, "roles must alternate"),
    (Field::UserAfterTool, "role 'user' after role 'tool'"),
    (Field::LongIds, "with a length of 9"),
    // Kimi and DeepSeek want it with every message, Groq and Mistral with none.
    (Field::NoReasoning, "reasoning_content is missing"),
    (Field::NoReasoning, "must be passed back"),
    (Field::Reasoning, "reasoning_content"),
    (Field::Reasoning, "reasoning_details"),
    (Field::Reasoning, "'reasoning' is unsupported"),
    (Field::Pictures, "image_url"),
    (Field::Pictures, "mage input"),
    (Field::Pictures, "support image"),
    (Field::Pictures, "not a multimodal model"),
];

/// See [`OPTIONAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    StreamOptions = 1,
    CacheKey = 2,
    ParallelCalls = 4,
    Effort = 8,
    Summary = 16,
    Encrypted = 32,
    Tools = 64,
    /// Messages of the user that follow each other, which the templates of some models refuse.
    UserRuns = 128,
    Pictures = 256,
    /// A server's own reasoning, sent back to it.
    Reasoning = 512,
    /// Ids of calls in another form than Mistral's.
    LongIds = 1024,
    /// A message of the user right behind the output of a call.
    UserAfterTool = 2048,
    /// Messages of the assistant without reasoning.
    NoReasoning = 4096,
}

/// The fields that go into a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields(u16);

impl Fields {
    /// Whether `field` is sent.
    pub(super) fn has(self, field: Field) -> bool {
        self.0 & field as u16 == 0
    }
}

type Events = StreamResponse<Box<RawValue>>;

struct Connection {
    client: Client<OpenAIConfig>,
    peer: Arc<Peer>,
    provider: Provider,
    api: WireApi,
    window: Option<u64>,
    /// What the server told of it when it refused a conversation as too long; 0 where it did not.
    told_window: AtomicU64,
    prices: Option<Prices>,
    idle: Duration,
    /// The bits of [`Field`]s that the server refused. Only grows.
    refused: AtomicU16,
}

impl Connection {
    fn decoder(&self, origin: &str) -> Box<dyn Decode> {
        let peer = self.peer.clone();
        match self.api {
            WireApi::Responses => Box::new(responses::Decoder::new(origin.to_owned(), peer)),
            WireApi::Chat => Box::new(chat::Decoder::new(
                origin.to_owned(),
                peer,
                self.provider.lenient_eof,
                self.fields().has(Field::Tools),
            )),
        }
    }

    /// Sends the request, again without a field that is refused by name. Ends since there are few fields.
    async fn open(&self, request: &Request) -> Result<Events, ModelError> {
        loop {
            let fields = self.fields();
            match self.send(request, fields).await {
                Err(error) if self.leave_out(&error, fields) => {}
                sent => return sent,
            }
        }
    }

    async fn send(&self, request: &Request, fields: Fields) -> Result<Events, ModelError> {
        let model = &self.peer.model;
        let sent = async {
            match self.api {
                WireApi::Responses => {
                    let body = responses::Body::new(model, request, fields);
                    self.client.responses().create_stream_byot(body).await
                }
                WireApi::Chat => {
                    let body = chat::Body::new(model, request, fields);
                    self.client.chat().create_stream_byot(body).await
                }
            }
        };
        timeout(self.idle, sent)
            .await
            .map_err(|_| self.silent())?
            .map_err(|error| self.learn(model_error(error, &self.peer)))
    }

    /// Takes from `error` what it tells of the window, so that the next conversation is summed up before it is refused.
    fn learn(&self, error: ModelError) -> ModelError {
        if error.kind == ModelErrorKind::ContextLength
            && let Some(tokens) = windows::told_in(&error.message)
        {
            self.told_window.store(tokens, Ordering::Relaxed);
        }
        error
    }

    fn fields(&self) -> Fields {
        let Provider {
            counts_in_stream,
            takes_cache_key,
            takes_reasoning_back,
            ..
        } = self.provider;
        let unknown = [
            (Field::StreamOptions, counts_in_stream),
            (Field::CacheKey, takes_cache_key),
            (Field::Reasoning, takes_reasoning_back),
        ];
        let unknown = unknown.iter().filter(|(_, takes)| !takes);
        let bits = unknown.fold(0, |bits, (field, _)| bits | *field as u16);
        Fields(bits | self.refused.load(Ordering::Relaxed))
    }

    /// Notes the field that `error` blames; false if it blames none that was sent.
    fn leave_out(&self, error: &ModelError, sent: Fields) -> bool {
        let blames = |words: &str| error.message.contains(words);
        // The first that fits, or what is wanted would be left out next.
        let blamed = OPTIONAL.iter().find(|(_, words)| blames(words));
        let blamed = blamed.filter(|(field, _)| sent.has(*field));
        // Where a template of a model fails, the status says that the server is broken.
        let can_be = [ModelErrorKind::Rejected, ModelErrorKind::Busy].contains(&error.kind);
        let Some((field, words)) = blamed.filter(|_| can_be) else {
            return false;
        };
        tracing::info!("`{}` does not take `{words}`", self.peer.base);
        self.refused.fetch_or(*field as u16, Ordering::Relaxed);
        true
    }

    fn silent(&self) -> ModelError {
        let idle = humantime::format_duration(self.idle);
        self.peer
            .broken(format!("`{}` said nothing for {idle}", self.peer.base))
    }

    fn priced(&self, usage: Usage) -> Usage {
        let cost = self.prices.map(|prices| prices.cost(&usage));
        Usage { cost, ..usage }
    }
}

impl Prices {
    fn cost(&self, usage: &Usage) -> f64 {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let cost = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
        cost(usage.input_tokens - cached, self.input)
            + cost(cached, self.cached_input.unwrap_or(self.input))
            + cost(usage.output_tokens, self.output)
    }
}

/// One answer on its way. Dropping it closes the connection, unless the answer is whole.
struct Sample {
    connection: Arc<Connection>,
    events: Events,
    decoder: Box<dyn Decode>,
    /// Understood and not yet told.
    told: VecDeque<ModelEvent>,
    /// Bytes of all events so far.
    received: usize,
}

impl Sample {
    /// The next thing to tell, and the rest of the sample unless that was the last.
    async fn next(mut self) -> (Result<ModelEvent, ModelError>, Option<Self>) {
        loop {
            match self.told.pop_front() {
                Some(ModelEvent::Done(usage)) => {
                    let usage = self.connection.priced(usage);
                    // Read to its end, so that the next request finds the connection open.
                    tokio::spawn(timeout(DRAIN_TIME, self.events.for_each(async |_| {})).map(drop));
                    return (Ok(ModelEvent::Done(usage)), None);
                }
                Some(event) => return (Ok(event), Some(self)),
                None => {}
            }
            if let Err(error) = self.read().await {
                return (Err(self.connection.learn(error)), None);
            }
        }
    }

    async fn read(&mut self) -> Result<(), ModelError> {
        let connection = &self.connection;
        let patience = match self.decoder.has_ended() {
            true => connection.idle.min(DRAIN_TIME),
            false => connection.idle,
        };
        let peer = &connection.peer;
        let event = match timeout(patience, self.events.next()).await {
            Ok(Some(Ok(raw))) => return self.decode(&raw),
            Ok(Some(Err(error))) => Err(model_error(error, peer)),
            Ok(None) => Ok(()),
            Err(_) => Err(connection.silent()),
        };
        if self.decoder.close(event.is_ok(), &mut self.told)? {
            return Ok(());
        }
        Err(event.err().unwrap_or_else(|| {
            peer.broken(format!(
                "`{}` ended the answer early: stream closed before completion",
                peer.base
            ))
        }))
    }

    fn decode(&mut self, raw: &RawValue) -> Result<(), ModelError> {
        self.received += raw.get().len();
        if self.received > SAMPLE_LIMIT {
            let peer = &self.connection.peer;
            return Err(too_much(peer, "an answer", SAMPLE_LIMIT));
        }
        // Only nesting beyond serde_json's limit can fail here, and no event that we know nests.
        let event = serde_json::from_str(raw.get()).unwrap_or_default();
        self.decoder.decode(event, &mut self.told)
    }
}

/// What stands for a picture that a model cannot see.
pub(super) const UNSEEN: &str = "[a picture that this model cannot see]";

/// `input` with `unseen` in the place of messages that are pictures, which hold a part of this `kind`.
pub(super) fn without_pictures(
    input: &[Arc<RawValue>],
    kind: &str,
    unseen: Arc<RawValue>,
) -> Vec<Arc<RawValue>> {
    // As we write it ourselves, near the beginning of such a message and escaped wherever somebody quotes it.
    let mark = format!("\"content\":[{{\"type\":\"{kind}\"");
    let is_picture = |message: &RawValue| {
        let text = message.get();
        text[..text.floor_char_boundary(100)].contains(&mark)
    };
    let seen = input.iter().map(|message| match is_picture(message) {
        true => unseen.clone(),
        false => message.clone(),
    });
    seen.collect()
}

/// The arguments of a call as text, whatever they came as.
pub(super) fn arguments(json: &Value, peer: &Peer) -> Result<String, ModelError> {
    let text = match json {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    check_arguments(&text, peer)?;
    Ok(text)
}

/// An error if `arguments` are longer than any model means them to be.
pub(super) fn check_arguments(arguments: &str, peer: &Peer) -> Result<(), ModelError> {
    if arguments.len() > ARGUMENTS_LIMIT {
        return Err(too_much(peer, "the arguments of a call", ARGUMENTS_LIMIT));
    }
    Ok(())
}

fn too_much(peer: &Peer, what: &str, limit: usize) -> ModelError {
    let limit = limit >> 20;
    peer.unfit(format!(
        "`{}` sent {what} of more than {limit} MiB",
        peer.model
    ))
}
