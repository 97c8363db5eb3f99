//! What a person sees on standard error while a turn runs: steps, diffs, warnings. Colour only where it is a terminal.

use std::io::Write;

use anstyle::{AnsiColor, Style};

use crate::conversation::{
    Event, Item, Outcome, OutputStatus, Status, shortened, shown_line, shown_text,
};

const STEP: Style = AnsiColor::Cyan.on_default();
const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();
const QUIET: Style = Style::new().dimmed();
const ALARM: Style = AnsiColor::Yellow.on_default().bold();

/// Lines of a diff that are shown; the rest is in the outcome.
const DIFF_LINES: usize = 60;

/// Shows events. Anything that cannot be written is not missed: standard error is for people.
#[derive(Debug, Default)]
pub(super) struct Report {
    quiet: bool,
}

impl Report {
    /// Says nothing: whoever reads JSON reads the events there.
    pub(super) fn silent() -> Self {
        Self { quiet: true }
    }

    pub(super) fn show(&self, event: &Event) {
        if self.quiet {
            return;
        }
        match event {
            Event::CallStarted { title, .. } => line(STEP, &format!("• {}", shortened(title, 160))),
            Event::FileChanged {
                path,
                added,
                removed,
                diff,
                ..
            } => {
                line(QUIET, &format!("  {path}: +{added} −{removed}"));
                show_diff(diff);
            }
            Event::ItemCompleted {
                item: Item::ToolOutput(output),
            } => self.output(
                output.status,
                &output.content,
                output
                    .command
                    .as_ref()
                    .and_then(|command| command.exit_code),
            ),
            Event::Warning { message } => line(ALARM, &format!("! {}", shown_line(message))),
            Event::TurnStarted { .. }
            | Event::TextDelta { .. }
            | Event::TextWithdrawn
            | Event::ItemCompleted { .. }
            | Event::CallOutput { .. }
            | Event::ApprovalRequested { .. }
            | Event::ApprovalResolved { .. }
            | Event::TurnCompleted { .. } => {}
        }
    }

    fn output(&self, status: OutputStatus, content: &str, exit_code: Option<i32>) {
        let first = shortened(&shown_line(content.lines().next().unwrap_or_default()), 160);
        match (status, exit_code) {
            (OutputStatus::Done, None) => {}
            (OutputStatus::Done, Some(0)) => line(QUIET, "  exit code 0"),
            (OutputStatus::Done, Some(code)) => line(ALARM, &format!("  exit code {code}")),
            (OutputStatus::Failed, _) => line(ALARM, &format!("  failed: {first}")),
            (OutputStatus::Denied, _) => line(ALARM, &format!("  {first}")),
            (OutputStatus::Interrupted, _) => line(ALARM, &format!("  {first}")),
        }
    }

    /// The last lines: how it ended, what was refused, and how to go on.
    pub(super) fn end(&self, outcome: &Outcome) {
        if self.quiet {
            return;
        }
        for denied in &outcome.denied {
            line(
                ALARM,
                &format!(
                    "denied: {} ({})",
                    shown_line(&denied.summary),
                    shown_line(&denied.reason)
                ),
            );
        }
        if outcome.status != Status::Completed {
            let why = outcome
                .error
                .as_ref()
                .map(|error| format!(": {}", shown_line(&error.message)));
            line(
                ALARM,
                &format!("{}{}", outcome.status.as_str(), why.unwrap_or_default()),
            );
        }
        if !outcome.sandbox.missing.is_empty() && !outcome.commands.is_empty() {
            line(
                QUIET,
                &format!(
                    "commands ran without a kernel sandbox (not enforced: {})",
                    outcome.sandbox.missing.join(", ")
                ),
            );
        }
        let usage = outcome.usage;
        let tokens = format!(
            "{} tokens in ({} cached), {} out",
            usage.input_tokens, usage.cached_input_tokens, usage.output_tokens
        );
        let files: Vec<String> = outcome
            .changes
            .iter()
            .map(|change| format!("{} +{} −{}", change.path, change.added, change.removed))
            .collect();
        let files = if files.is_empty() {
            String::new()
        } else {
            format!(" · {}", files.join(", "))
        };
        line(
            QUIET,
            &format!(
                "thread {} · {:.1} s · {tokens}{files}",
                outcome.thread_id, outcome.seconds
            ),
        );
    }
}

/// One line in a style.
pub(super) fn line(style: Style, text: &str) {
    // Standard error may be closed; then nobody reads it.
    let _ = writeln!(anstream::stderr().lock(), "{style}{text}{style:#}");
}

/// A unified diff in colours, without its file names.
pub(super) fn show_diff(diff: &str) {
    let lines: Vec<&str> = diff
        .lines()
        .filter(|line| !line.starts_with("--- ") && !line.starts_with("+++ "))
        .collect();
    for text in lines.iter().take(DIFF_LINES) {
        let style = match text.as_bytes().first() {
            Some(b'+') => ADDED,
            Some(b'-') => REMOVED,
            _ => QUIET,
        };
        line(style, &format!("  {}", shown_text(text)));
    }
    if lines.len() > DIFF_LINES {
        line(
            QUIET,
            &format!("  … {} more lines", lines.len() - DIFF_LINES),
        );
    }
}
