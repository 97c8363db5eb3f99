//! A model that plays a recording: for the demo without a key, for tests, for trying out a front-end.
//!
//! It keeps no state. Which sample comes next is read from the request: every item that was sampled carries the number of
//! its sample in its wire form. So a resumed thread goes on where it was, and many threads can play one recording.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use serde::Deserialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{Model, ModelError, ModelErrorKind, ModelEvent, Request, responses::encode};
use crate::conversation::{CallId, Item, ToolCall, Usage, Wire};

/// A recording, ready to play.
#[derive(Debug)]
pub struct Recorded {
    origin: String,
    recording: Arc<Recording>,
}

/// Why a recording cannot be played. A person reads it.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file could not be read; the path is in the cause.
    #[error("no recording: {0}")]
    Unreadable(#[from] std::io::Error),
    /// Nothing was recorded: the session that made it ended before the model had answered.
    #[error("recording `{0}` is empty: its session ended before the model had answered")]
    Empty(String),
    /// It is not JSON, or not of this shape; line and column are in the cause.
    #[error("recording `{file}` is malformed: {source}")]
    Malformed {
        /// What was read.
        file: String,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recording {
    model: String,
    samples: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Sample {
    reasoning: String,
    text: String,
    calls: Vec<Call>,
    usage: Tokens,
    delay_ms: u64,
    error: Option<Failure>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    name: String,
    /// An object is sent as text; text is sent as it is, nonsense included.
    arguments: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tokens {
    input_tokens: u64,
    cached_input_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    kind: FailureKind,
    message: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FailureKind {
    Unreachable,
    Busy,
    Auth,
    Quota,
    ContextLength,
    Rejected,
}

impl Recorded {
    /// Reads the recording at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no recording.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Self::parse(&path.display().to_string(), &fs_err::read_to_string(path)?)
    }

    /// A recording from its JSON `text`; `file` is named in errors.
    ///
    /// # Errors
    ///
    /// It is no recording.
    pub fn parse(file: &str, text: &str) -> Result<Self, RecordingError> {
        if text.trim().is_empty() {
            return Err(RecordingError::Empty(file.to_owned()));
        }
        let recording: Recording =
            serde_json::from_str(text).map_err(|source| RecordingError::Malformed {
                file: file.to_owned(),
                source,
            })?;
        Ok(Self {
            origin: format!("recorded:{}", recording.model),
            recording: Arc::new(recording),
        })
    }
}

impl Model for Recorded {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn name(&self) -> &str {
        &self.recording.model
    }

    fn encode(&self, items: &[Item]) -> Vec<Arc<RawValue>> {
        items
            .iter()
            .flat_map(|item| self.encode_one(item))
            .collect()
    }

    fn stream(&self, request: Request) -> BoxStream<'static, Result<ModelEvent, ModelError>> {
        let number = samples_held(&request.input);
        let (delay, events) = match self.recording.samples.get(number) {
            Some(sample) => (sample.delay_ms, sample.events(&self.origin, number)),
            None => (0, vec![Err(self.ended(number))]),
        };
        let wait = tokio::time::sleep(Duration::from_millis(delay));
        let played = async move {
            wait.await;
            stream::iter(events)
        };
        stream::once(played).flatten().boxed()
    }
}

impl Recorded {
    /// What a compaction stands for is gone from the request, so it carries the number of its sample too.
    fn encode_one(&self, item: &Item) -> Vec<Arc<RawValue>> {
        match item {
            Item::Compaction {
                text,
                wire: Some(wire),
            } if wire.origin == self.origin => {
                let json = json!({"type": "message", "role": "user", "content": text, "sample": wire.json["sample"]});
                vec![Arc::from(to_raw_value(&json).expect("JSON can be written"))]
            }
            _ => encode(&self.origin, std::slice::from_ref(item)),
        }
    }

    /// Samples are counted from 1 for people.
    fn ended(&self, number: usize) -> ModelError {
        ModelError {
            kind: ModelErrorKind::Rejected,
            message: format!(
                "the recording has no sample {}: it ends after {}; record a longer session, or begin a new thread",
                number + 1,
                self.recording.samples.len()
            ),
            retry_after: None,
        }
    }
}

/// One more than the number of the last sample in `input`. Looked for from the end, so that a step costs the same
/// however long the conversation is.
fn samples_held(input: &[Arc<RawValue>]) -> usize {
    #[derive(Deserialize)]
    struct Sampled {
        sample: Option<usize>,
    }
    let sample = |item: &Arc<RawValue>| serde_json::from_str::<Sampled>(item.get()).ok()?.sample;
    input
        .iter()
        .rev()
        .find_map(sample)
        .map_or(0, |sample| sample + 1)
}

impl Sample {
    /// What it tells, in order: reasoning, text, calls, and how it ends.
    fn events(&self, origin: &str, number: usize) -> Vec<Result<ModelEvent, ModelError>> {
        let wire = |mut json: Value| {
            json["sample"] = json!(number);
            let origin = origin.to_owned();
            Some(Wire { origin, json })
        };
        let mut events = Vec::new();
        if !self.reasoning.is_empty() {
            events.extend(words(&self.reasoning).map(ModelEvent::ReasoningDelta));
            events.push(ModelEvent::Item(Item::Reasoning {
                summary: self.reasoning.clone(),
                wire: wire(json!({"type": "reasoning", "content": [{"type": "reasoning_text", "text": self.reasoning}]})),
            }));
        }
        if !self.text.is_empty() {
            events.extend(words(&self.text).map(ModelEvent::TextDelta));
            events.push(ModelEvent::Item(Item::AgentMessage {
                text: self.text.clone(),
                wire: wire(json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": self.text}]})),
            }));
        }
        for (n, call) in self.calls.iter().enumerate() {
            events.push(ModelEvent::Item(Item::ToolCall(
                call.item(format!("call_{number}_{n}"), wire),
            )));
        }
        events.into_iter().map(Ok).chain([self.end()]).collect()
    }

    fn end(&self) -> Result<ModelEvent, ModelError> {
        match &self.error {
            None => Ok(ModelEvent::Done(self.usage.counted())),
            Some(failure) => Err(ModelError {
                kind: failure.kind.into(),
                message: failure.message.clone(),
                retry_after: None,
            }),
        }
    }
}

impl Call {
    fn item(&self, call_id: String, wire: impl Fn(Value) -> Option<Wire>) -> ToolCall {
        let arguments = match &self.arguments {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let json = json!({"type": "function_call", "call_id": call_id, "name": self.name, "arguments": arguments});
        ToolCall {
            call_id: CallId(call_id),
            name: self.name.clone(),
            arguments,
            wire: wire(json),
        }
    }
}

impl Tokens {
    fn counted(&self) -> Usage {
        Usage {
            input_tokens: self.input_tokens,
            cached_input_tokens: self.cached_input_tokens,
            output_tokens: self.output_tokens,
            reasoning_tokens: self.reasoning_tokens,
            requests: 1,
            cost: None,
        }
    }
}

impl From<FailureKind> for ModelErrorKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Unreachable => Self::Unreachable,
            FailureKind::Busy => Self::Busy,
            FailureKind::Auth => Self::Auth,
            FailureKind::Quota => Self::Quota,
            FailureKind::ContextLength => Self::ContextLength,
            FailureKind::Rejected => Self::Rejected,
        }
    }
}

/// Pieces as a model streams them: words, each with the blank after it.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_inclusive(char::is_whitespace).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conversation::{OutputStatus, ThreadId, ToolOutput},
        model::Head,
    };

    fn request(input: Vec<Arc<RawValue>>) -> Request {
        Request {
            head: Arc::new(Head {
                thread_id: ThreadId::generate(),
                instructions: String::new(),
                tools: Vec::new(),
                reasoning_effort: None,
            }),
            input: Arc::new(input),
        }
    }

    /// Plays a whole turn and tells what was said, a line for each event.
    async fn played(text: &str) -> String {
        let model = Recorded::parse("test.json", text).unwrap();
        let mut items = vec![Item::UserMessage {
            text: r#"{"sample":7}"#.into(),
        }];
        let mut lines = Vec::new();
        for _ in 0..9 {
            let mut stream = model.stream(request(model.encode(&items)));
            while let Some(event) = stream.next().await {
                match event {
                    Ok(ModelEvent::Item(item)) => {
                        items.push(item.clone());
                        if let Item::ToolCall(call) = item {
                            lines
                                .push(format!("{} {} {}", call.call_id, call.name, call.arguments));
                            items.push(output(call.call_id));
                        }
                    }
                    Ok(ModelEvent::TextDelta(delta)) => lines.push(format!("text {delta:?}")),
                    Ok(ModelEvent::ReasoningDelta(delta)) => {
                        lines.push(format!("thought {delta:?}"))
                    }
                    Ok(ModelEvent::Done(usage)) => {
                        lines.push(format!("done {}", usage.input_tokens))
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => {
                        lines.push(format!("{:?}: {error}", error.kind));
                        return lines.join("\n");
                    }
                }
            }
        }
        panic!("no end: {lines:?}");
    }

    fn output(call_id: CallId) -> Item {
        Item::ToolOutput(ToolOutput {
            call_id,
            status: OutputStatus::Done,
            content: "ok".into(),
            command: None,
        })
    }

    #[tokio::test]
    async fn a_recording_is_played_sample_by_sample() {
        let text = r#"{"model":"recorded-demo","samples":[
            {"reasoning":"first look","text":"I look.\nThen ","calls":[
                {"name":"read_file","arguments":{"path":"a.txt"}},
                {"name":"shell","arguments":"{\"command\": tru"}],
             "usage":{"input_tokens":10,"output_tokens":2}},
            {"text":"Done.","delay_ms":1}]}"#;
        let expect = r#"thought "first "
thought "look"
text "I "
text "look.\n"
text "Then "
call_0_0 read_file {"path":"a.txt"}
call_0_1 shell {"command": tru
done 10
text "Done."
done 0
Rejected: the recording has no sample 3: it ends after 2; record a longer session, or begin a new thread"#;
        assert_eq!(played(text).await, expect);
    }

    #[tokio::test]
    async fn a_recorded_error_comes_after_what_was_said() {
        let text = r#"{"model":"m","samples":[{"text":"half","error":{"kind":"context_length","message":"full"}}]}"#;
        assert_eq!(played(text).await, "text \"half\"\nContextLength: full");
    }

    #[test]
    fn what_is_no_recording_is_named_with_its_place() {
        let table = [
            (
                "\n",
                "recording `x.json` is empty: its session ended before the model had answered",
            ),
            (
                "{\n \"model\": }",
                "recording `x.json` is malformed: expected value at line 2 column 11",
            ),
            (
                r#"{"model":"m","samples":[{"txt":"a"}]}"#,
                "recording `x.json` is malformed: unknown field `txt`, expected one of `reasoning`, `text`, `calls`, \
                 `usage`, `delay_ms`, `error` at line 1 column 30",
            ),
        ];
        for (text, expect) in table {
            assert_eq!(
                Recorded::parse("x.json", text).unwrap_err().to_string(),
                expect
            );
        }
        let error = Recorded::open(Path::new("/nowhere/x.json"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("`/nowhere/x.json`"), "{error}");
    }
}
