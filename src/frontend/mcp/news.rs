//! What happened in a thread since its caller last looked, in a few words.

use crate::conversation::{Item, ToolCall, shortened, shown_line};

/// Characters of the last call.
const CALL: usize = 60;
/// Characters of what the model said last.
const SAID: usize = 70;

/// The last things that `items` say beyond the first `seen`, and `line`, at which the model is; under 160 characters.
pub(super) fn of(items: &[Item], seen: usize, line: Option<&str>) -> String {
    let new = &items[seen.min(items.len())..];
    let calls: Vec<&ToolCall> = calls(new).collect();
    let said = new.iter().rev().find_map(|item| match item {
        Item::AgentMessage { text, .. } => text.lines().rfind(|line| !line.trim().is_empty()),
        _ => None,
    });
    let mut parts = Vec::new();
    if let Some(last) = calls.last() {
        let count = match calls.len() {
            1 => "1 call".to_owned(),
            count => format!("{count} calls, last"),
        };
        parts.push(format!("{count} {}", title(last)));
    }
    match line {
        // First, since what comes last is cut.
        Some(line) => parts.insert(0, format!("the model writes: {}", end_of(line))),
        None => parts.extend(said.map(|line| shortened(&shown_line(line.trim()), SAID))),
    }
    if parts.is_empty() {
        parts.push(match unanswered(items) {
            Some(call) => format!("nothing new yet; {} still runs", title(call)),
            None => "nothing new yet; the model is at work".to_owned(),
        });
    }
    parts.join("; ")
}

fn calls(items: &[Item]) -> impl DoubleEndedIterator<Item = &ToolCall> {
    items.iter().filter_map(|item| match item {
        Item::ToolCall(call) => Some(call),
        _ => None,
    })
}

/// The newest call that has no output.
fn unanswered(items: &[Item]) -> Option<&ToolCall> {
    let has_output = |call: &ToolCall| {
        let mut items = items.iter().rev();
        items.any(|item| matches!(item, Item::ToolOutput(output) if output.call_id == call.call_id))
    };
    calls(items).rfind(|call| !has_output(call))
}

/// What was written last of a line that grows.
fn end_of(line: &str) -> String {
    let count = line.chars().count();
    match count.checked_sub(SAID) {
        None => line.to_owned(),
        Some(before) => format!("…{}", line.chars().skip(before).collect::<String>()),
    }
}

/// The tool, and what it is about.
fn title(call: &ToolCall) -> String {
    let title = match call.about() {
        Some(about) => format!("{}: {about}", call.name),
        None => call.name.clone(),
    };
    shortened(&shown_line(&title), CALL)
}
