//! Keeps what a model says, in the form that [`super::Recorded`] plays: a model around a model.
//!
//! A sample is written when it has ended; one that was interrupted is not. Known secrets are taken out of all text.

use std::{
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use serde_json::{Value, json, value::RawValue};

use super::{Model, ModelError, ModelErrorKind, ModelEvent, Request};
use crate::conversation::{Item, Redactor, Usage};

/// A recording on its way. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Tape {
    /// Nobody awaits under it.
    file: Arc<Mutex<Reel>>,
}

#[derive(Debug)]
struct Reel {
    file: fs_err::File,
    /// Where the next sample goes.
    end: u64,
}

impl Tape {
    /// A new recording at `path`, which only its owner can read. What was there is gone.
    ///
    /// # Errors
    ///
    /// It cannot be written; the path is in the cause.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut options = fs_err::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        options.options_mut().mode(0o600);
        let reel = Reel {
            file: options.open(path)?,
            end: 0,
        };
        Ok(Self {
            file: Arc::new(Mutex::new(reel)),
        })
    }

    /// `model`, with what it says kept and `redactor`'s secrets taken out.
    pub fn around(&self, model: Arc<dyn Model>, redactor: Redactor) -> Arc<dyn Model> {
        Arc::new(Recorder {
            model,
            redactor,
            tape: self.clone(),
        })
    }

    /// After each sample the file is a whole recording.
    fn add(&self, model: &str, sample: &Value) -> io::Result<()> {
        let mut reel = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match reel.end {
            0 => format!("{{\"model\":{},\"samples\":[\n", json!(model)),
            _ => ",\n".to_owned(),
        };
        let end = reel.end;
        reel.file.seek(SeekFrom::Start(end))?;
        let text = before + &sample.to_string();
        reel.file.write_all((text.clone() + "\n]}\n").as_bytes())?;
        reel.end += text.len() as u64;
        Ok(())
    }
}

struct Recorder {
    model: Arc<dyn Model>,
    redactor: Redactor,
    tape: Tape,
}

impl Model for Recorder {
    fn origin(&self) -> &str {
        self.model.origin()
    }

    fn name(&self) -> &str {
        self.model.name()
    }

    fn window(&self) -> Option<u64> {
        self.model.window()
    }

    fn encode(&self, items: &[Item]) -> Vec<Arc<RawValue>> {
        self.model.encode(items)
    }

    fn stream(&self, request: Request) -> BoxStream<'static, Result<ModelEvent, ModelError>> {
        let take = Take {
            stream: self.model.stream(request),
            name: self.model.name().to_owned(),
            redactor: self.redactor.clone(),
            tape: self.tape.clone(),
            sample: json!({}),
        };
        let step = |mut take: Take| async {
            let event = take.stream.next().await?;
            take.hear(&event);
            Some((event, take))
        };
        stream::unfold(take, step).boxed()
    }
}

/// One sample.
struct Take {
    stream: BoxStream<'static, Result<ModelEvent, ModelError>>,
    name: String,
    redactor: Redactor,
    tape: Tape,
    sample: Value,
}

impl Take {
    fn hear(&mut self, event: &Result<ModelEvent, ModelError>) {
        match event {
            Ok(ModelEvent::Item(item)) => self.keep(item),
            Ok(ModelEvent::Retrying { .. }) => self.sample = json!({}),
            Ok(ModelEvent::Done(usage)) => {
                self.sample["usage"] = tokens(usage);
                self.write();
            }
            Err(error) => {
                let message = self.redactor.clean(error.message.clone());
                self.sample["error"] = json!({"kind": kind(error.kind), "message": message});
                self.write();
            }
            Ok(ModelEvent::TextDelta(_) | ModelEvent::ReasoningDelta(_)) => {}
        }
    }

    fn keep(&mut self, item: &Item) {
        match item {
            Item::AgentMessage { text, .. } => self.add("text", text),
            Item::Reasoning { summary, .. } => self.add("reasoning", summary),
            Item::ToolCall(call) => {
                let arguments = self.redactor.clean(call.arguments.clone());
                let call = json!({"name": call.name, "arguments": arguments});
                match &mut self.sample["calls"] {
                    Value::Array(calls) => calls.push(call),
                    none => *none = json!([call]),
                }
            }
            Item::UserMessage { .. }
            | Item::Picture(_)
            | Item::ToolOutput(_)
            | Item::Compaction { .. } => {}
        }
    }

    fn add(&mut self, key: &str, text: &str) {
        let before = self.sample[key].as_str().unwrap_or_default();
        let text = self.redactor.clean(before.to_owned() + text);
        if !text.is_empty() {
            self.sample[key] = json!(text);
        }
    }

    fn write(&self) {
        if let Err(error) = self.tape.add(&self.name, &self.sample) {
            tracing::warn!("the recording is not whole: {error}");
        }
    }
}

fn tokens(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    })
}

fn kind(kind: ModelErrorKind) -> &'static str {
    match kind {
        ModelErrorKind::Unreachable => "unreachable",
        ModelErrorKind::Busy => "busy",
        ModelErrorKind::Auth => "auth",
        ModelErrorKind::Quota => "quota",
        ModelErrorKind::ContextLength => "context_length",
        ModelErrorKind::Rejected => "rejected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conversation::ThreadId,
        model::{Head, Recorded},
    };

    /// What `model` says sample after sample, deltas left out, until it fails.
    async fn said(model: &dyn Model) -> Vec<String> {
        let mut items = Vec::new();
        let mut said = Vec::new();
        loop {
            let head = Head {
                thread_id: ThreadId::generate(),
                instructions: String::new(),
                tools: Vec::new(),
                reasoning_effort: None,
            };
            let mut stream = model.stream(Request {
                head: Arc::new(head),
                input: Arc::new(model.encode(&items)),
            });
            while let Some(event) = stream.next().await {
                match event {
                    Ok(ModelEvent::Item(item)) => {
                        said.push(format!("{:?}", item.clone().without_wire()));
                        items.push(item);
                    }
                    Ok(ModelEvent::Done(usage)) => said.push(format!("{usage:?}")),
                    Ok(_) => {}
                    Err(error) => {
                        said.push(format!("{:?}: {error}", error.kind));
                        return said;
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn a_recording_of_a_recording_plays_the_same_without_its_secrets() {
        let text = r#"{"model":"m","samples":[
            {"reasoning":"hm","text":"I look.","calls":[{"name":"a","arguments":"{no"},{"name":"b","arguments":"{}"}],
             "usage":{"input_tokens":10,"cached_input_tokens":4,"output_tokens":2,"reasoning_tokens":1}},
            {"text":"the key is sk-0123456789"},
            {"text":"half","error":{"kind":"busy","message":"sk-0123456789 is busy"}}]}"#;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("take.json");
        let tape = Tape::create(&path).unwrap();
        let original: Arc<dyn Model> = Arc::new(Recorded::parse("x", text).unwrap());
        let redactor = Redactor::new(["sk-0123456789".to_owned()]);
        let heard = said(&*tape.around(original, redactor)).await;
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(!kept.contains("sk-0123456789"), "{kept}");
        let played = said(&Recorded::open(&path).unwrap()).await;
        let expect: Vec<String> = heard
            .iter()
            .map(|line| line.replace("sk-0123456789", "[redacted]"))
            .collect();
        assert_eq!(played, expect);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&path).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
