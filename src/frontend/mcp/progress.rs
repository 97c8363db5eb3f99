//! `notifications/progress` of one call: the first at once, then what is new, merged, with a heartbeat.
//!
//! However much happens, little is said: at most [`MERGED`] apart, and what is only text ever more rarely, so that a turn
//! of thousands of deltas stays under two hundred notifications. A client that does not read keeps one of them
//! waiting and no more; the turn does not wait for it.

use std::time::Duration;

use rmcp::{
    RoleServer,
    model::{NotificationMetaObject, ProgressNotificationParam, ProgressToken},
    service::RequestContext,
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::conversation::{Event, ThreadId, shortened, shown_line};

/// Between two notifications of progress.
pub(super) const MERGED: Duration = Duration::from_millis(250);
/// By this much longer for each notification that only told what a model or a command writes.
const SLOWER: Duration = Duration::from_millis(40);
/// Without anything new.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Characters and bytes of a message.
const MESSAGE: usize = 190;
const BYTES: usize = 240;

/// What there is to say to a caller that wants to hear it.
pub(super) struct Progress {
    call: Option<(RequestContext<RoleServer>, ProgressToken)>,
    /// None where there is no thread.
    thread_id: Option<ThreadId>,
    value: f64,
    /// The newest thing worth saying.
    news: String,
    fresh: Fresh,
    /// Notifications that only told what a model or a command writes.
    written: u32,
    /// The end of what the model is writing.
    line: String,
    last: Instant,
}

/// Whether there is something that was not said yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fresh {
    Nothing,
    Text,
    Deed,
}

impl Progress {
    pub(super) fn new(call: &RequestContext<RoleServer>, thread_id: Option<ThreadId>) -> Self {
        let token = call.meta.get_progress_token();
        Self::to(token.map(|token| (call.clone(), token)), thread_id)
    }

    fn to(
        call: Option<(RequestContext<RoleServer>, ProgressToken)>,
        thread_id: Option<ThreadId>,
    ) -> Self {
        Self {
            call,
            thread_id,
            value: 0.0,
            news: String::new(),
            fresh: Fresh::Nothing,
            written: 0,
            line: String::new(),
            last: Instant::now(),
        }
    }

    pub(super) fn note(&mut self, event: &Event) {
        let (news, fresh) = match event {
            Event::CallStarted { title, .. } => (title.clone(), Fresh::Deed),
            Event::FileChanged {
                path,
                added,
                removed,
                ..
            } => (format!("edit: {path} +{added} −{removed}"), Fresh::Deed),
            Event::CallOutput { line, .. } => (line.clone(), Fresh::Text),
            Event::Warning { message } => (message.clone(), Fresh::Deed),
            Event::TextDelta { text } => (self.written(text), Fresh::Text),
            // What was written is an item now, or nothing.
            Event::TextWithdrawn | Event::ItemCompleted { .. } => {
                self.line.clear();
                return;
            }
            Event::TurnStarted { .. }
            | Event::ApprovalRequested { .. }
            | Event::ApprovalResolved { .. }
            | Event::TurnCompleted { .. } => return,
        };
        if !news.trim().is_empty() {
            self.news = short(news.trim());
            self.fresh = match (self.fresh, fresh) {
                (Fresh::Deed, _) => Fresh::Deed,
                (_, fresh) => fresh,
            };
        }
    }

    /// The line that the model is at.
    fn written(&mut self, text: &str) -> String {
        self.line.push_str(text);
        let start = self.line.trim_end().rfind('\n').map_or(0, |at| at + 1);
        self.line.drain(..start);
        if self.line.len() > 4 * MESSAGE {
            let cut = self.line.ceil_char_boundary(self.line.len() - 2 * MESSAGE);
            self.line.drain(..cut);
        }
        self.line.clone()
    }

    /// The line that the model is at, while it writes one.
    pub(super) fn writes(&self) -> Option<String> {
        let line = self.line.trim();
        (!line.is_empty()).then(|| shown_line(line))
    }

    /// Says `message` at once.
    pub(super) async fn say(&mut self, message: &str, eof: &CancellationToken) {
        message.clone_into(&mut self.news);
        self.send(eof).await;
    }

    /// Says what is new, if it is time to.
    pub(super) async fn send_what_is_due(&mut self, eof: &CancellationToken) {
        if self.last.elapsed() >= self.pause() {
            self.send(eof).await;
        }
    }

    /// How long after the last notification the next one comes.
    fn pause(&self) -> Duration {
        match self.fresh {
            Fresh::Deed => MERGED,
            Fresh::Text => (MERGED + SLOWER * self.written).min(HEARTBEAT),
            Fresh::Nothing => HEARTBEAT,
        }
    }

    /// It is said.
    fn said(&mut self) {
        self.written += u32::from(self.fresh == Fresh::Text);
        self.fresh = Fresh::Nothing;
        self.last = Instant::now();
        self.value += 1.0;
    }

    async fn send(&mut self, eof: &CancellationToken) {
        self.said();
        let Some((call, token)) = &self.call else {
            return;
        };
        let mut meta = NotificationMetaObject::new();
        meta.insert("requestId".to_owned(), call.id.clone().into_json_value());
        if let Some(thread) = self.thread_id {
            meta.insert("threadId".to_owned(), json!(thread));
        }
        let mut step = ProgressNotificationParam::new(token.clone(), self.value)
            .with_message(self.news.clone());
        step.meta = Some(meta);
        tokio::select! {
            // A client that is gone is noticed by the reader.
            _ = call.peer.notify_progress(step) => {}
            () = call.ct.cancelled() => {}
            () = eof.cancelled() => {}
        }
    }
}

/// One line of what happens.
fn short(news: &str) -> String {
    let mut text = shortened(&shown_line(news), MESSAGE);
    if text.len() > BYTES {
        text.truncate(text.floor_char_boundary(BYTES));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_deltas_are_told_of_rarely_whatever_their_pace() {
        for deltas_a_second in [10_usize, 20, 80, 1000] {
            let mut progress = Progress::to(None, Some(ThreadId::generate()));
            let (mut since, mut bytes) = (Duration::ZERO, 0);
            let ticks = 8000 * 4 / deltas_a_second;
            for _ in 0..ticks {
                let text = "日本語のとても長い行です ".repeat(deltas_a_second.div_ceil(4));
                progress.note(&Event::TextDelta { text });
                since += MERGED;
                if since >= progress.pause() {
                    bytes += 200 + progress.news.len();
                    progress.said();
                    since = Duration::ZERO;
                }
            }
            assert!(
                progress.value <= 200.0,
                "{deltas_a_second}: {}",
                progress.value
            );
            assert!(bytes <= 100_000, "{deltas_a_second}: {bytes} bytes");
            assert!(progress.news.chars().count() <= MESSAGE);
        }
    }
}
