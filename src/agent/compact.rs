//! Compaction: one request that has the model write down what it needs, so that the conversation can begin anew.
//!
//! Near the window the request is the conversation as it stands with one more message, so that the provider's cache
//! holds. Where the provider has refused the conversation as too long, only its last steps are sent, fewer each time,
//! and in the end none: what was asked, the plan and the changed files are known without the model.

use std::sync::Arc;

use futures_util::StreamExt;

use super::{
    context::History,
    sample::{Means, trying_again},
};
use crate::{
    conversation::{Event, Item, Usage, Wire},
    model::{Head, ModelError, ModelErrorKind, ModelEvent, Request},
};

const COMPACT: &str = include_str!("../../prompts/compact.md");

/// Bytes of a model's notes.
const NOTES_LIMIT: usize = 32_000;

/// What is sent of the conversation: all of it, the half, and so on; less each time that it is too long.
const PARTS: &[usize] = &[1, 2, 4, 8];

/// How much of the conversation the model can still read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Readable {
    /// All of it.
    Whole,
    /// Not even that much: the provider said so.
    TooLong,
}

/// What came of it.
pub(super) enum Compacted {
    /// This stands for the conversation.
    To(Item),
    /// The model could not be asked.
    Failed(ModelError),
    /// The turn was stopped.
    Stopped,
}

/// What a model wrote down.
#[derive(Default)]
struct Notes {
    text: String,
    wire: Option<Wire>,
}

/// Has the model of `history` write down what it needs. What it costs goes to `usage`.
pub(super) async fn compact(
    history: &History,
    head: &Arc<Head>,
    readable: Readable,
    means: &Means,
    usage: &mut Usage,
) -> Compacted {
    let parts = match readable {
        Readable::Whole => PARTS,
        Readable::TooLong => &PARTS[1..],
    };
    for part in parts {
        let part = match part {
            1 => Some(history.encoded().to_vec()),
            part => history.tail(*part),
        };
        let Some(mut input) = part else { continue };
        input.extend(history.model().encode(&[Item::UserMessage {
            text: COMPACT.to_owned(),
        }]));
        let (head, input) = (head.clone(), Arc::new(input));
        match write_down(history, Request { head, input }, means, usage).await {
            Ok(Some(notes)) => return Compacted::To(history.compaction(&notes.text, notes.wire)),
            Ok(None) => return Compacted::Stopped,
            Err(error) if error.kind == ModelErrorKind::ContextLength => {}
            Err(error) => return Compacted::Failed(error),
        }
    }
    Compacted::To(history.compaction("", None))
}

/// One sample of which only the text counts. Nothing if the turn was stopped.
async fn write_down(
    history: &History,
    request: Request,
    means: &Means,
    usage: &mut Usage,
) -> Result<Option<Notes>, ModelError> {
    let mut stream = history.model().stream(request);
    let mut notes = Notes::default();
    usage.requests += 1;
    loop {
        let event = tokio::select! {
            biased;
            () = means.stop.cancelled() => return Ok(None),
            event = stream.next() => event,
        };
        let redactor = &means.gate.redactor;
        match event {
            Some(Ok(ModelEvent::Item(item @ Item::AgentMessage { .. }))) => {
                let Item::AgentMessage { text, wire } = item.cleaned(redactor) else {
                    continue;
                };
                let room = NOTES_LIMIT.saturating_sub(notes.text.len());
                notes.text += &text[..text.floor_char_boundary(room)];
                notes.wire = wire;
            }
            Some(Ok(ModelEvent::Retrying { after, error })) => {
                notes = Notes::default();
                usage.requests += 1;
                let message = trying_again(&error, after);
                means.report.publish(Event::Warning { message });
            }
            Some(Ok(ModelEvent::Done(used))) => {
                *usage += Usage {
                    requests: 0,
                    ..used
                };
                return Ok(Some(notes));
            }
            // It was asked not to call anything; what it calls all the same is not run.
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Ok(Some(notes)),
        }
    }
}
