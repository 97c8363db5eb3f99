//! A whole thread for other eyes: as one JSON object, or as Markdown that reads like a conversation.

use std::fmt::Write;

use serde_json::{Value, json};

use super::rollout::{Loaded, LoadedTurn};
use crate::conversation::{
    Change, Item, Outcome, OutputStatus, ToolOutput, shown_line, shown_text,
};

/// Header, items and outcomes.
pub fn json(loaded: &Loaded) -> Value {
    let outcomes: Vec<_> = loaded
        .turns
        .iter()
        .filter_map(|turn| turn.outcome.as_ref())
        .collect();
    let items: Vec<Item> = loaded
        .items
        .iter()
        .cloned()
        .map(Item::without_wire)
        .collect();
    let turns: Vec<Value> = loaded
        .turns
        .iter()
        .map(|turn| json!({"turn_id": turn.turn_id, "first_item": turn.first_item}))
        .collect();
    json!({
        "thread": loaded.header, "items": items, "turns": turns, "outcomes": outcomes,
        "damaged_lines": loaded.damaged,
    })
}

/// Everything that was said and done. What it quotes is shown with nothing invisible in it.
pub fn markdown(loaded: &Loaded) -> String {
    let header = &loaded.header;
    let mut text = format!(
        "# Thread {}\n\n- directory: `{}`\n- created: {}\n- model: {}\n- sandbox: {}, approval policy: {}\n",
        header.thread_id,
        shown_line(&header.cwd.to_string_lossy()),
        header.created_at,
        shown_line(&header.model),
        header.policy.sandbox.as_str(),
        header.policy.approval_policy.as_str(),
    );
    if let Some(parent) = header.parent {
        let _ = writeln!(text, "- forked from: {parent}");
    }
    let before = loaded.before_the_fork();
    if !before.is_empty() {
        text.push_str("\n## Before the fork\n");
        text.extend(before.iter().map(|one| item(one, before)));
    }
    for (at, turn) in loaded.turns.iter().enumerate() {
        let _ = writeln!(text, "\n## Turn {}", at + 1);
        let items = loaded.items_of(at);
        text.extend(items.iter().map(|one| item(one, items)));
        text.push_str(&end(turn));
    }
    text
}

/// One item; an output stands under its call.
fn item(item: &Item, beside: &[Item]) -> String {
    match item {
        Item::UserMessage { text } => {
            format!(
                "\n> {}\n",
                shown_text(text).trim_end().replace('\n', "\n> ")
            )
        }
        Item::Picture(picture) => format!("\n*picture {}*\n", shown_line(&picture.name)),
        Item::AgentMessage { text, .. } => format!("\n{}\n", shown_text(text).trim_end()),
        Item::Compaction { .. } => "\n*What came before was summed up for the model.*\n".to_owned(),
        Item::Reasoning { .. } | Item::ToolOutput(_) => String::new(),
        Item::ToolCall(call) => {
            let answer = beside.iter().find_map(|item| match item {
                Item::ToolOutput(output) if output.call_id == call.call_id => Some(output),
                _ => None,
            });
            format!(
                "\n**{}**\n{}{}",
                shown_line(&call.name),
                fenced("json", &call.arguments),
                answer.map(output).unwrap_or_default()
            )
        }
    }
}

fn output(output: &ToolOutput) -> String {
    let word = match output.status {
        OutputStatus::Done => "",
        OutputStatus::Failed => "\nIt failed:\n",
        OutputStatus::Denied => "\nIt was denied:\n",
        OutputStatus::Interrupted => "\nIt was interrupted:\n",
    };
    format!("{word}{}", fenced("", &output.content))
}

fn end(turn: &LoadedTurn) -> String {
    let Some(outcome) = &turn.outcome else {
        return "\n*Cut short.*\n".to_owned();
    };
    let mut text = format!("\n*{}{}*\n", outcome.status.as_str(), why(outcome));
    for change in &outcome.changes {
        let _ = writeln!(text, "\n{}", change_line(change));
        if !change.diff.is_empty() {
            text.push_str(&fenced("diff", &change.diff));
        }
    }
    text
}

fn why(outcome: &Outcome) -> String {
    let error = outcome.error.as_ref();
    error.map_or_else(String::new, |error| {
        format!(": {}", shown_line(&error.message))
    })
}

/// A change in one line: `renamed a.rs → b.rs +1 −0 (by: unsure)`.
pub fn change_line(change: &Change) -> String {
    let from = change.from.as_ref();
    let from = from.map_or_else(String::new, |from| format!("{} → ", shown_line(from)));
    let by = change
        .by
        .map_or_else(String::new, |by| format!(" (by: {})", by.as_str()));
    format!(
        "{} {from}{} +{} −{}{by}",
        change.kind.as_str(),
        shown_line(&change.path),
        change.added,
        change.removed
    )
}

/// Between fences that are longer than any in it.
fn fenced(language: &str, text: &str) -> String {
    let text = shown_text(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!(
        "\n{fence}{language}\n{}\n{fence}\n",
        text.trim_end_matches('\n')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_those_it_holds() {
        assert_eq!(fenced("", "a\n"), "\n```\na\n```\n");
        assert_eq!(fenced("", "````x````"), "\n`````\n````x````\n`````\n");
    }
}
