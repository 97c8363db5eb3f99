//! `notifications/message`: the events of a turn as data, for the caller that asked for logging and nobody else.
//!
//! A session asks with `logging/setLevel`, and a request of 2026-07-28 in its `_meta`. Events come as `stream-json` has
//! them, each in a size that a client can take; what is only text or a line of output is merged between two ticks. A
//! client that does not read keeps one of them waiting, and is told how many it has missed.
#![expect(
    deprecated,
    reason = "the protocol is about to drop logging, and clients of today use it"
)]

use rmcp::{
    RoleServer,
    model::{
        JsonObject, LoggingMessageNotificationParam, NotificationMetaObject, ServerCapabilities,
    },
    service::RequestContext,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{arguments::Detail, questions::is_modern, result};
use crate::{
    conversation::{Event, Outcome, Status, TurnId},
    thread::Header,
};

/// How grave something is, in the protocol's words.
pub(super) type Level = rmcp::model::LoggingLevel;
/// How a session says from where on it wants to hear.
pub(super) type SetLevel = rmcp::model::SetLevelRequestParams;

/// Bytes of one event; in a larger one, texts are cut.
const LARGEST: usize = 50_000;
/// Characters of a text in it then.
const CUT: usize = 2_000;

/// The events of one turn on their way to the caller that follows it.
pub(super) struct Log {
    /// None where nobody asked.
    to: Option<(RequestContext<RoleServer>, Level)>,
    turn_id: TurnId,
    /// The turn has begun; before, what happens belongs to another.
    began: bool,
    /// What may be merged with what comes next.
    waiting: Option<Event>,
    thread_id: Value,
}

/// With the word that there is logging.
pub(super) fn announced(capabilities: ServerCapabilities) -> ServerCapabilities {
    let mut capabilities = capabilities;
    capabilities.logging = Some(JsonObject::new());
    capabilities
}

/// From where on a session wants to hear.
pub(super) fn level(asked: &SetLevel) -> Level {
    asked.level
}

/// What a request of 2026-07-28, or the session of another, wants to hear.
pub(super) fn wanted(call: &RequestContext<RoleServer>, session: Option<Level>) -> Option<Level> {
    match is_modern(call) {
        true => call.meta.log_level(),
        false => session,
    }
}

impl Log {
    /// `began`: the turn runs already.
    pub(super) fn new(
        call: &RequestContext<RoleServer>,
        wanted: Option<Level>,
        header: &Header,
        turn_id: TurnId,
        began: bool,
    ) -> Self {
        Self {
            to: wanted.map(|level| (call.clone(), level)),
            turn_id,
            began,
            waiting: None,
            thread_id: json!(header.thread_id),
        }
    }

    /// The caller follows this thread.
    pub(super) async fn thread(&self, header: &Header, eof: &CancellationToken) {
        let started = json!({
            "type": "thread.started", "thread_id": header.thread_id, "cwd": header.cwd, "model": header.model,
        });
        self.send(Level::Info, started, eof).await;
    }

    /// Tells of `event`, now or merged with the next.
    pub(super) async fn event(&mut self, event: &Event, eof: &CancellationToken) {
        if self.to.is_none() {
            return;
        }
        self.began |= matches!(event, Event::TurnStarted { turn_id } if *turn_id == self.turn_id);
        // The outcome comes by itself.
        if !self.began || matches!(event, Event::TurnCompleted { .. }) {
            return;
        }
        if let Some(waiting) = &mut self.waiting
            && merged(waiting, event)
        {
            return;
        }
        self.flush(eof).await;
        match event {
            Event::TextDelta { .. } | Event::CallOutput { .. } => {
                self.waiting = Some(event.clone());
            }
            event => self.tell(event.clone(), eof).await,
        }
    }

    /// Tells what waits to be merged.
    pub(super) async fn flush(&mut self, eof: &CancellationToken) {
        if let Some(event) = self.waiting.take() {
            self.tell(event, eof).await;
        }
    }

    /// So many events came faster than they were read.
    pub(super) async fn missed(&mut self, count: u64, eof: &CancellationToken) {
        self.flush(eof).await;
        let message =
            format!("{count} events were left out, since they came faster than they were read");
        self.tell(Event::Warning { message }, eof).await;
    }

    /// The last of them.
    pub(super) async fn end(&mut self, outcome: &Outcome, eof: &CancellationToken) {
        self.flush(eof).await;
        let level = match outcome.status {
            Status::Failed => Level::Error,
            _ => Level::Info,
        };
        let outcome = result::structured(outcome, Detail::Full);
        let completed = json!({"type": "turn.completed", "outcome": outcome});
        self.send(level, completed, eof).await;
    }

    async fn tell(&self, event: Event, eof: &CancellationToken) {
        let level = match &event {
            Event::TextDelta { .. } | Event::TextWithdrawn | Event::CallOutput { .. } => {
                Level::Debug
            }
            Event::Warning { .. } => Level::Warning,
            _ => Level::Info,
        };
        let event = match event {
            Event::ItemCompleted { item } => Event::ItemCompleted {
                item: item.without_wire(),
            },
            event => event,
        };
        // Every event has a JSON form.
        let data = serde_json::to_value(event).unwrap_or_default();
        self.send(level, data, eof).await;
    }

    /// Ended by the client's reading, or by the end of the call or of the connection.
    async fn send(&self, level: Level, data: Value, eof: &CancellationToken) {
        let Some((call, _)) = self
            .to
            .as_ref()
            .filter(|(_, from)| rank(level) >= rank(*from))
        else {
            return;
        };
        let mut meta = NotificationMetaObject::new();
        meta.insert("requestId".to_owned(), call.id.clone().into_json_value());
        meta.insert("threadId".to_owned(), self.thread_id.clone());
        let mut message =
            LoggingMessageNotificationParam::new(level, sized(data)).with_logger("openoxide");
        message.meta = Some(meta);
        tokio::select! {
            // A client that is gone is noticed by the reader.
            _ = call.peer.notify_logging_message(message) => {}
            () = call.ct.cancelled() => {}
            () = eof.cancelled() => {}
        }
    }
}

/// Puts `event` into the one that `waiting` is, where they tell of the same.
fn merged(waiting: &mut Event, event: &Event) -> bool {
    match (waiting, event) {
        (Event::TextDelta { text }, Event::TextDelta { text: more })
            if text.len() < LARGEST / 2 =>
        {
            text.push_str(more);
            true
        }
        (
            Event::CallOutput { call_id, line },
            Event::CallOutput {
                call_id: same,
                line: newer,
            },
        ) if call_id == same => {
            line.clone_from(newer);
            true
        }
        _ => false,
    }
}

/// An event in a size that a client can take.
fn sized(data: Value) -> Value {
    let size = |data: &Value| data.to_string().len();
    if size(&data) <= LARGEST {
        return data;
    }
    let kind = data["type"].clone();
    let data = cut(data);
    match size(&data) {
        ..=LARGEST => data,
        bytes => {
            json!({"type": kind, "left_out": format!("{bytes} bytes; the thread's resource has them")})
        }
    }
}

fn cut(data: Value) -> Value {
    match data {
        Value::String(text) => result::head_and_tail(&text, CUT).into(),
        Value::Array(values) => values.into_iter().map(cut).collect(),
        Value::Object(entries) => {
            let entries = entries.into_iter();
            entries.map(|(name, value)| (name, cut(value))).collect()
        }
        plain => plain,
    }
}

/// How grave a level is; the protocol's words stand in this order.
fn rank(level: Level) -> u8 {
    match level {
        Level::Debug => 0,
        Level::Info => 1,
        Level::Notice => 2,
        Level::Warning => 3,
        Level::Error => 4,
        Level::Critical => 5,
        Level::Alert => 6,
        Level::Emergency => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::CallId;

    #[test]
    fn what_is_only_text_is_merged_and_what_is_too_large_is_cut() {
        let delta = |text: &str| Event::TextDelta { text: text.into() };
        let mut waiting = delta("a");
        assert!(merged(&mut waiting, &delta("b")));
        assert!(matches!(&waiting, Event::TextDelta { text } if text == "ab"));
        assert!(!merged(&mut waiting, &Event::TextWithdrawn));
        let line = |call: &str, line: &str| Event::CallOutput {
            call_id: CallId(call.into()),
            line: line.into(),
        };
        let mut waiting = line("1", "a");
        assert!(merged(&mut waiting, &line("1", "b")));
        assert!(!merged(&mut waiting, &line("2", "c")));
        let large = sized(json!({"type": "file.changed", "diff": "x".repeat(LARGEST)}));
        assert!(large.to_string().len() < 3_000, "{large}");
        assert_eq!(large["type"], "file.changed");
        let many = sized(json!({"type": "item.completed", "item": vec!["x".repeat(100); 1000]}));
        assert_eq!(many["type"], "item.completed");
        assert!(many.to_string().len() < LARGEST, "{many}");
    }
}
