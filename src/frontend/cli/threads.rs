//! `openoxide threads`: what is kept, as a person would like to read it. Needs no lock and starts nothing.

use std::{io::Write, path::PathBuf};

use anyhow::{Context, bail};

use super::{OK, args::ThreadsCommand};
use crate::{
    app::kept_threads,
    conversation::{
        Item, OutputStatus, Status, ToolOutput, Usage, shortened, shown_line, shown_text,
    },
    thread::{DirectoryStore, Loaded, ThreadStore, ThreadSummary},
};

/// Lines of an output that are shown.
const OUTPUT_LINES: usize = 6;

/// What looks and does nothing.
pub(super) fn run(command: ThreadsCommand) -> anyhow::Result<u8> {
    let store = kept_threads()?;
    let text = match command {
        ThreadsCommand::List { cwd, json } => list(&store, cwd, json)?,
        ThreadsCommand::Show { id, json } => show(&store, &id, json)?,
        ThreadsCommand::Answer(_) => bail!("an answer goes to the process that asks"),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(OK)
}

fn list(store: &DirectoryStore, cwd: Option<PathBuf>, json: bool) -> anyhow::Result<String> {
    let mut threads = store.list()?;
    if let Some(cwd) = cwd {
        let cwd = cwd
            .canonicalize()
            .with_context(|| format!("`{}`", cwd.display()))?;
        threads.retain(|thread| thread.cwd == cwd);
    }
    if json {
        return Ok(serde_json::to_string_pretty(&threads)? + "\n");
    }
    if threads.is_empty() {
        return Ok("no threads yet; `openoxide -m \"task\"` makes one\n".to_owned());
    }
    Ok(threads.iter().map(summary).collect())
}

fn summary(thread: &ThreadSummary) -> String {
    let status = thread.status.map_or("new", Status::as_str);
    let cwd = shown_line(&thread.cwd.to_string_lossy());
    format!(
        "{}  {}  {status:<13}  {cwd}\n    {}\n",
        thread.thread_id,
        &thread.created_at[..16.min(thread.created_at.len())],
        thread.title
    )
}

fn show(store: &DirectoryStore, id: &str, json: bool) -> anyhow::Result<String> {
    let loaded = store.read(find(store, id)?)?;
    if json {
        let outcomes: Vec<_> = loaded
            .turns
            .iter()
            .filter_map(|turn| turn.outcome.as_ref())
            .collect();
        let items: Vec<Item> = loaded.items.into_iter().map(Item::without_wire).collect();
        let whole = serde_json::json!({"thread": loaded.header, "items": items, "outcomes": outcomes, "damaged_lines": loaded.damaged});
        return Ok(serde_json::to_string_pretty(&whole)? + "\n");
    }
    Ok(story(&loaded))
}

/// The thread whose name is `id`, or ends in it.
pub(super) fn find(
    store: &DirectoryStore,
    id: &str,
) -> anyhow::Result<crate::conversation::ThreadId> {
    if let Ok(id) = id.parse() {
        return Ok(id);
    }
    let found: Vec<_> = store
        .list()?
        .into_iter()
        .filter(|thread| thread.thread_id.to_string().ends_with(id))
        .collect();
    match found.as_slice() {
        [only] => Ok(only.thread_id),
        [] => bail!(
            "there is no thread `{}`; `openoxide threads list` shows them",
            shown_line(id)
        ),
        _ => bail!(
            "`{}` fits {} threads; give more of its end",
            shown_line(id),
            found.len()
        ),
    }
}

fn story(loaded: &Loaded) -> String {
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
    for (number, turn) in loaded.turns.iter().enumerate() {
        let end = loaded
            .turns
            .get(number + 1)
            .map_or(loaded.items.len(), |next| next.first_item);
        text.push_str(&format!("\n── turn {} · {}\n", number + 1, turn.turn_id));
        let items = &loaded.items[turn.first_item..end];
        text.extend(items.iter().map(|one| item(one, items)));
        for approval in &turn.open_approvals {
            text.push_str(&format!(
                "? waits for an answer (`openoxide threads answer {}`): {} {}\n",
                header.thread_id,
                shown_line(&approval.summary),
                shown_line(&approval.place),
            ));
        }
        match &turn.outcome {
            None => text.push_str(&format!(
                "— cut short; `openoxide --resume {}` goes on\n",
                header.thread_id
            )),
            Some(outcome) => {
                let why = outcome
                    .error
                    .as_ref()
                    .map(|error| format!(": {}", shown_line(&error.message)));
                text.push_str(&format!(
                    "— {}{} · {:.1} s",
                    outcome.status.as_str(),
                    why.unwrap_or_default(),
                    outcome.seconds
                ));
                for change in &outcome.changes {
                    text.push_str(&format!(
                        " · {} +{} −{}",
                        shown_line(&change.path),
                        change.added,
                        change.removed
                    ));
                }
                text.push('\n');
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

/// What all turns together took.
fn usage(loaded: &Loaded) -> String {
    let mut usage = Usage::default();
    let turns = loaded.turns.iter();
    let outcomes = turns.filter_map(|turn| turn.outcome.as_ref().or(turn.suspended.as_ref()));
    outcomes.for_each(|outcome| usage += outcome.usage);
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
            let arguments = shortened(&shown_line(&call.arguments), 200);
            format!(
                "• {} {arguments}\n{}",
                shown_line(&call.name),
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
