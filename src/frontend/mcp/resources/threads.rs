//! A thread as a resource: its turns with their whole outcomes, and what a turn changed as one diff.

use rmcp::model::ResourceContents;
use serde_json::{Value, json};

use super::uri;
use crate::{
    conversation::{Item, Outcome, Status, TurnId, shown_line},
    thread::{Loaded, ThreadSummary},
};

/// Bytes of a thread or a diff.
const LARGEST: usize = 1024 * 1024;

/// Many threads, one line each, newest first. `more` are kept than are shown.
pub(super) fn all(threads: &[ThreadSummary], more: bool) -> ResourceContents {
    let threads: Vec<Value> = threads.iter().map(summary).collect();
    let text = format!("{:#}", json!({"threads": threads, "more": more}));
    ResourceContents::text(text, uri::THREADS).with_mime_type("application/json")
}

fn summary(thread: &ThreadSummary) -> Value {
    json!({
        "thread_id": thread.thread_id,
        "uri": uri::thread(thread.thread_id),
        "cwd": shown_line(&thread.cwd.to_string_lossy()),
        "created_at": thread.created_at,
        "status": thread.status.map_or("new", Status::as_str),
        "title": thread.title,
        "query": thread.query,
    })
}

/// One thread. `running` is the turn that this process is at.
pub(super) fn whole(loaded: &Loaded, running: Option<TurnId>) -> ResourceContents {
    let header = &loaded.header;
    let mut thread = json!({
        "thread_id": header.thread_id,
        "cwd": shown_line(&header.cwd.to_string_lossy()),
        "created_at": header.created_at,
        "model": header.model,
        "sandbox": header.policy.sandbox,
        "approval_policy": header.policy.approval_policy,
        "query": header.query,
    });
    if let Some(parent) = header.parent {
        thread["parent"] = json!(uri::thread(parent));
    }
    let mut left = LARGEST;
    let mut turns: Vec<Value> = Vec::new();
    // The newest are what somebody comes for.
    for number in (0..loaded.turns.len()).rev() {
        let turn = turn(loaded, number, running);
        let size = turn.to_string().len();
        if size > left && !turns.is_empty() {
            thread["earlier_turns"] = (number + 1).into();
            break;
        }
        left = left.saturating_sub(size);
        turns.push(turn);
    }
    turns.reverse();
    thread["turns"] = turns.into();
    ResourceContents::text(format!("{thread:#}"), uri::thread(header.thread_id))
        .with_mime_type("application/json")
}

fn turn(loaded: &Loaded, number: usize, running: Option<TurnId>) -> Value {
    let turn = &loaded.turns[number];
    let next = loaded.turns.get(number + 1);
    let end = next.map_or(loaded.items.len(), |next| next.first_item);
    let prompt = loaded.items[turn.first_item..end]
        .iter()
        .find_map(|item| match item {
            Item::UserMessage { text } => Some(text.as_str()),
            _ => None,
        });
    let mut shown = json!({"turn_id": turn.turn_id});
    if let Some(prompt) = prompt {
        shown["prompt"] = cut(prompt).into();
    }
    match &turn.outcome {
        Some(outcome) => {
            shown["outcome"] = without_diffs(outcome);
            shown["diff"] = uri::diff(loaded.header.thread_id, turn.turn_id).into();
        }
        None if running == Some(turn.turn_id) => shown["status"] = Status::Running.as_str().into(),
        None => shown["status"] = Status::Interrupted.as_str().into(),
    }
    if !turn.open_approvals.is_empty() {
        shown["approvals"] = json!(turn.open_approvals);
    }
    shown
}

fn without_diffs(outcome: &Outcome) -> Value {
    let mut outcome = outcome.clone();
    outcome
        .changes
        .iter_mut()
        .for_each(|change| change.diff.clear());
    outcome.content = cut(&outcome.content);
    // Every part of an outcome has a JSON form.
    serde_json::to_value(outcome).unwrap_or_default()
}

/// What a turn changed, as one unified diff; empty where it changed nothing.
pub(super) fn diff(outcome: &Outcome, uri: &str) -> ResourceContents {
    let changes = outcome.changes.iter().map(|change| {
        if change.diff.is_empty() {
            format!("{} {}, no text\n", change.path, change.kind.as_str())
        } else {
            format!("{}\n", change.diff.trim_end_matches('\n'))
        }
    });
    let text: String = changes.collect();
    ResourceContents::text(cut(&text), uri).with_mime_type("text/x-diff")
}

fn cut(text: &str) -> String {
    if text.len() <= LARGEST {
        return text.to_owned();
    }
    let kept = &text[..text.floor_char_boundary(LARGEST)];
    format!("{kept}\n[… {} bytes left out …]\n", text.len() - kept.len())
}
