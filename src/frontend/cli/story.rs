//! A thread as a person would like to read it: who said what, what was done, how each turn ended.

use crate::{
    conversation::{
        Decision, Item, Outcome, OutputStatus, ToolOutput, TurnId, Usage, shortened, shown_line,
        shown_text,
    },
    thread::{Loaded, export::change_line, rollout::Given},
};

/// Lines of an output that are shown.
const OUTPUT_LINES: usize = 6;

/// `undone`: turns whose changes were taken back. `at_work`: a process works on the turn that is open.
pub(super) fn tell(loaded: &Loaded, undone: &[TurnId], at_work: bool) -> String {
    let header = &loaded.header;
    let mut text = format!(
        "thread {}\ncreated {} · {} · model {} · sandbox {} · approval {}\n",
        header.thread_id,
        header.created_at,
        shown_line(&header.cwd.to_string_lossy()),
        shown_line(&header.model),
        header.policy.sandbox.as_str(),
        header.policy.approval_policy.as_str(),
    );
    if let Some(parent) = header.parent {
        text.push_str(&format!("forked from {parent}\n"));
    }
    let before = loaded.before_the_fork();
    if !before.is_empty() {
        text.push_str("\n── before the fork\n");
        text.extend(before.iter().map(|one| item(one, before)));
    }
    for (at, turn) in loaded.turns.iter().enumerate() {
        text.push_str(&format!("\n── turn {} · {}\n", at + 1, turn.turn_id));
        let items = loaded.items_of(at);
        text.extend(items.iter().map(|one| item(one, items)));
        for approval in &turn.open_approvals {
            text.push_str(&format!(
                "? waits for an answer (`openoxide threads answer {}`): {} {}\n",
                header.thread_id,
                shown_line(&approval.summary),
                shown_line(&approval.place),
            ));
        }
        for Given {
            approval, answer, ..
        } in &turn.given
        {
            text.push_str(&format!(
                "! answered, and not done yet: {}: {}\n",
                shown_line(&approval.summary),
                decided(answer.decision),
            ));
        }
        let id = header.thread_id;
        match &turn.outcome {
            None if at_work => text.push_str(&format!(
                "— a process works on it; `openoxide --resume {id}` follows\n"
            )),
            None => text.push_str(&format!("— cut short; `openoxide --resume {id}` goes on\n")),
            Some(outcome) => {
                text.push_str(&end(outcome));
                if undone.contains(&turn.turn_id) {
                    text.push_str(&format!(
                        "  taken back; `openoxide threads undo {id} --redo` takes the last undo back\n"
                    ));
                }
            }
        }
    }
    text.push_str(&usage(loaded));
    if loaded.damaged > 0 {
        text.push_str(&format!(
            "\n{} damaged lines of the rollout were passed over\n",
            loaded.damaged
        ));
    }
    text
}

fn decided(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "yes",
        Decision::ApproveForSession => "yes, for the session",
        Decision::Deny => "no",
        Decision::Abort => "no, and end the turn",
    }
}

fn end(outcome: &Outcome) -> String {
    let why = outcome.error.as_ref();
    let why = why.map(|error| format!(": {}", shown_line(&error.message)));
    let mut text = format!(
        "— {}{} · {:.1} s\n",
        outcome.status.as_str(),
        why.unwrap_or_default(),
        outcome.seconds
    );
    for change in &outcome.changes {
        text.push_str(&format!("  {}\n", change_line(change)));
    }
    if let Some(why) = &outcome.partial_changes {
        text.push_str(&format!("  perhaps not all: {}\n", shown_line(why)));
    }
    text
}

/// What all turns together took.
fn usage(loaded: &Loaded) -> String {
    let mut usage = Usage::default();
    let turns = loaded.turns.iter();
    let outcomes = turns.filter_map(|turn| turn.outcome.as_ref().or(turn.suspended.as_ref()));
    outcomes.for_each(|outcome| usage += outcome.usage);
    if usage.requests == 0 {
        return String::new();
    }
    let cost = usage.cost.map(|cost| format!(" · cost {cost:.4}"));
    format!(
        "\nusage: {} requests · {} input tokens, {} of them cached · {} output tokens{}\n",
        usage.requests,
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        cost.unwrap_or_default()
    )
}

/// One item; an output stands under its call.
fn item(item: &Item, beside: &[Item]) -> String {
    match item {
        Item::UserMessage { text } => format!("> {}\n", shown_text(text).replace('\n', "\n> ")),
        Item::Picture(picture) => format!("> (picture {})\n", shown_line(&picture.name)),
        Item::AgentMessage { text, .. } => format!("{}\n", shown_text(text)),
        Item::Reasoning { summary, .. } if summary.is_empty() => String::new(),
        Item::Reasoning { summary, .. } => {
            format!("(thinks: {})\n", shortened(&shown_line(summary), 300))
        }
        Item::ToolCall(call) => {
            let answer = beside.iter().find_map(|item| match item {
                Item::ToolOutput(output) if output.call_id == call.call_id => Some(output),
                _ => None,
            });
            let about = match call.about() {
                Some(about) => format!(": {about}"),
                None => format!(" {}", call.arguments),
            };
            format!(
                "• {}{}\n{}",
                shown_line(&call.name),
                shortened(&shown_line(&about), 200),
                answer.map(output).unwrap_or_default()
            )
        }
        Item::ToolOutput(_) => String::new(),
        Item::Compaction { .. } => "(what came before was summed up for the model)\n".to_owned(),
    }
}

fn output(output: &ToolOutput) -> String {
    let failed = if output.status == OutputStatus::Failed {
        "failed: "
    } else {
        ""
    };
    let lines: Vec<&str> = output.content.lines().take(OUTPUT_LINES).collect();
    let more = output.content.lines().count() - lines.len();
    let more = if more > 0 {
        format!("\n    … {more} more lines")
    } else {
        String::new()
    };
    format!("    {failed}{}{more}\n", shown_text(&lines.join("\n    ")))
}
