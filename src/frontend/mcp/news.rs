//! What happened in a thread since its caller last looked, in a few words.

use crate::conversation::{Item, ToolCall, shortened, shown_line};

/// Calls that are named.
const CALLS: usize = 2;
/// Characters of one.
const CALL: usize = 60;
/// Characters of what the model said last.
const SAID: usize = 100;

/// The last things that `items` say; under 260 characters.
pub(super) fn of(items: &[Item]) -> String {
    let calls: Vec<&ToolCall> = items
        .iter()
        .filter_map(|item| match item {
            Item::ToolCall(call) => Some(call),
            _ => None,
        })
        .collect();
    let said = items.iter().rev().find_map(|item| match item {
        Item::AgentMessage { text, .. } => text.lines().rfind(|line| !line.trim().is_empty()),
        _ => None,
    });
    let mut parts = Vec::new();
    if !calls.is_empty() {
        let newest: Vec<String> = calls[calls.len().saturating_sub(CALLS)..]
            .iter()
            .map(|call| title(call))
            .collect();
        parts.push(format!("{} calls, last {}", calls.len(), newest.join(", ")));
    }
    parts.extend(said.map(|line| shortened(&shown_line(line.trim()), SAID)));
    if parts.is_empty() {
        return "nothing new yet".to_owned();
    }
    parts.join("; ")
}

/// The tool, and what it is about.
fn title(call: &ToolCall) -> String {
    let title = match call.about() {
        Some(about) => format!("{}: {about}", call.name),
        None => call.name.clone(),
    };
    shortened(&shown_line(&title), CALL)
}
