//! What of a conversation survives without a model's help: what was asked, the plan, the files that were changed.
//!
//! It is kept as the conversation grows, so that a compaction costs nothing but its one request. All of it is bounded.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::conversation::{CallId, Item, OutputStatus, ToolCall, ToolOutput, shortened};

const COMPACTED: &str = include_str!("../../prompts/compacted.md");

/// Characters of the message that is worked on.
const NEWEST_MESSAGE: usize = 32_000;
/// Characters of each message before it.
const OLDER_MESSAGE: usize = 2_000;
/// Messages besides the first, which mostly is the task.
const MESSAGES: usize = 12;
const FILES: usize = 200;
const PLAN: usize = 4_000;

/// See the top of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Gist {
    /// What the user said, oldest first.
    asked: Vec<String>,
    plan: String,
    files: BTreeSet<String>,
    /// Calls that change a file and have no output yet.
    edits: HashMap<CallId, String>,
}

impl Gist {
    /// Takes in the next item.
    pub(super) fn note(&mut self, item: &Item) {
        match item {
            Item::UserMessage { text } => self.hear(text),
            Item::ToolCall(call) => self.see(call),
            Item::ToolOutput(output) => self.settle(output),
            Item::Picture(_)
            | Item::AgentMessage { .. }
            | Item::Reasoning { .. }
            | Item::Compaction { .. } => {}
        }
    }

    fn hear(&mut self, text: &str) {
        if let Some(last) = self.asked.last_mut() {
            *last = shortened(last, OLDER_MESSAGE);
        }
        if self.asked.len() > MESSAGES {
            self.asked.remove(1);
        }
        self.asked.push(shortened(text, NEWEST_MESSAGE));
    }

    fn see(&mut self, call: &ToolCall) {
        let Ok(arguments) = serde_json::from_str::<Value>(&call.arguments) else {
            return;
        };
        if let Some(steps) = arguments["steps"].as_array() {
            let lines: Vec<String> = steps.iter().map(plan_line).collect();
            self.plan = shortened(&lines.join("\n"), PLAN);
        }
        if let (Some(path), "edit_file" | "write_file") =
            (arguments["path"].as_str(), call.name.as_str())
        {
            self.edits.insert(call.call_id.clone(), path.to_owned());
        }
    }

    fn settle(&mut self, output: &ToolOutput) {
        let edited = self.edits.remove(&output.call_id);
        if let Some(path) = edited.filter(|_| output.status == OutputStatus::Done)
            && self.files.len() < FILES
        {
            self.files.insert(path);
        }
    }

    /// The message that stands for all that came before, with the model's own `notes`.
    pub(super) fn message(&self, notes: &str) -> String {
        let or_none = |text: String| match text.trim() {
            "" => "(none)".to_owned(),
            _ => text,
        };
        let asked: Vec<String> = self
            .asked
            .iter()
            .map(|text| format!("> {}", text.trim().replace('\n', "\n> ")))
            .collect();
        let files: Vec<String> = self.files.iter().map(|path| format!("- {path}")).collect();
        // One pass each: what is put in may hold the marks of others.
        let parts = [
            ("{asked}", asked.join("\n\n")),
            ("{plan}", self.plan.clone()),
            ("{files}", files.join("\n")),
            ("{notes}", notes.trim().to_owned()),
        ];
        let mut rest = COMPACTED;
        let mut message = String::new();
        for (mark, text) in parts {
            let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
            message += before;
            message += &or_none(text);
            rest = after;
        }
        message + rest
    }
}

fn plan_line(step: &Value) -> String {
    let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
    format!("- [{}] {}", text("status"), text("step"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(id: &str, name: &str, arguments: Value) -> Item {
        Item::ToolCall(ToolCall {
            call_id: CallId(id.to_owned()),
            name: name.to_owned(),
            arguments: arguments.to_string(),
            wire: None,
        })
    }

    fn output(id: &str, status: OutputStatus) -> Item {
        Item::ToolOutput(ToolOutput {
            call_id: CallId(id.to_owned()),
            status,
            content: String::new(),
            command: None,
        })
    }

    #[test]
    fn what_was_asked_planned_and_changed_survives() {
        let user = |text: &str| Item::UserMessage { text: text.into() };
        let mut gist = Gist::default();
        for item in [
            user("do {plan}\nwell"),
            call("a", "edit_file", json!({"path": "a.rs"})),
            call("b", "write_file", json!({"path": "b.rs"})),
            call("c", "read_file", json!({"path": "c.rs"})),
            call(
                "p",
                "update_plan",
                json!({"steps": [{"step": "one", "status": "completed"}]}),
            ),
            output("a", OutputStatus::Done),
            output("b", OutputStatus::Denied),
            output("c", OutputStatus::Done),
            user("and then"),
        ] {
            gist.note(&item);
        }
        let message = gist.message("  half way  ");
        for part in [
            "> do {plan}\n> well\n\n> and then\n",
            "- [completed] one\n",
            "# Files changed so far\n- a.rs\n\n",
            "# Your notes\nhalf way\n",
        ] {
            assert!(message.contains(part), "{part:?} is not in {message}");
        }
    }

    #[test]
    fn however_long_the_conversation_it_stays_small() {
        let mut gist = Gist::default();
        for n in 0..500 {
            gist.note(&Item::UserMessage {
                text: format!("message {n} {}", "x".repeat(100_000)),
            });
            gist.note(&call(
                &n.to_string(),
                "edit_file",
                json!({"path": format!("f{n}")}),
            ));
            gist.note(&output(&n.to_string(), OutputStatus::Done));
        }
        let message = gist.message("");
        assert!(message.len() < 80_000, "{}", message.len());
        assert!(message.contains("> message 0 ") && message.contains("> message 499 "));
    }
}
