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

/// Shows events to a person, or to nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Report {
    /// Beside an answer that belongs to standard output.
    #[default]
    Stderr,
    /// Where it is all there is to see.
    Stdout,
    /// Whoever reads JSON reads the events there.
    Silent,
}

impl Report {
    /// One line in a style. What cannot be written is not missed: it is for people, and they are gone.
    pub(super) fn line(self, style: Style, text: &str) {
        let _ = match self {
            Self::Stderr => writeln!(anstream::stderr().lock(), "{style}{text}{style:#}"),
            Self::Stdout => writeln!(anstream::stdout().lock(), "{style}{text}{style:#}"),
            Self::Silent => Ok(()),
        };
    }

    /// A unified diff in colours, without its file names.
    pub(super) fn diff(self, diff: &str) {
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
            self.line(style, &format!("  {}", shown_text(text)));
        }
        if lines.len() > DIFF_LINES {
            self.line(
                QUIET,
                &format!("  … {} more lines", lines.len() - DIFF_LINES),
            );
        }
    }

    pub(super) fn show(self, event: &Event) {
        match event {
            Event::CallStarted { title, .. } => {
                self.line(STEP, &format!("• {}", shortened(title, 160)))
            }
            Event::FileChanged {
                path,
                added,
                removed,
                diff,
                ..
            } => {
                self.line(QUIET, &format!("  {path}: +{added} −{removed}"));
                self.diff(diff);
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
            Event::Warning { message } => self.line(ALARM, &format!("! {}", shown_line(message))),
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

    fn output(self, status: OutputStatus, content: &str, exit_code: Option<i32>) {
        let first = shortened(&shown_line(content.lines().next().unwrap_or_default()), 160);
        match (status, exit_code) {
            (OutputStatus::Done, None) => {}
            (OutputStatus::Done, Some(0)) => self.line(QUIET, "  exit code 0"),
            (OutputStatus::Done, Some(code)) => self.line(ALARM, &format!("  exit code {code}")),
            (OutputStatus::Failed, _) => self.line(ALARM, &format!("  failed: {first}")),
            (OutputStatus::Denied, _) => self.line(ALARM, &format!("  {first}")),
            (OutputStatus::Interrupted, _) => self.line(ALARM, &format!("  {first}")),
        }
    }

    /// The last lines: how it ended, what was refused, and how to go on.
    pub(super) fn end(self, outcome: &Outcome) {
        for denied in &outcome.denied {
            self.line(
                ALARM,
                &format!(
                    "denied: {} ({})",
                    shown_line(&denied.summary),
                    shown_line(&denied.reason)
                ),
            );
        }
        for approval in &outcome.approvals {
            let (summary, place) = (shown_line(&approval.summary), shown_line(&approval.place));
            self.line(ALARM, &format!("waits for an answer: {summary} {place}"));
        }
        if outcome.status != Status::Completed {
            let why = outcome
                .error
                .as_ref()
                .map(|error| format!(": {}", shown_line(&error.message)));
            self.line(
                ALARM,
                &format!("{}{}", outcome.status.as_str(), why.unwrap_or_default()),
            );
        }
        if !outcome.sandbox.missing.is_empty() && !outcome.commands.is_empty() {
            self.line(
                QUIET,
                &format!(
                    "not enforced on the commands: {}",
                    outcome.sandbox.missing.join(", ")
                ),
            );
        }
        if let Some(why) = &outcome.partial_changes {
            self.line(
                ALARM,
                &format!("perhaps not all changes: {}", shown_line(why)),
            );
        }
        if let Some(worktree) = &outcome.worktree
            && worktree.path.exists()
        {
            let path = shown_line(&worktree.path.to_string_lossy());
            self.line(
                QUIET,
                &format!("the work is in {path}, branch {}", worktree.branch),
            );
        }
        if let Some(next) = &outcome.next {
            self.line(QUIET, &format!("to go on: {next}"));
        }
        let usage = outcome.usage;
        let tokens = format!(
            "{} tokens in ({} cached), {} out",
            usage.input_tokens, usage.cached_input_tokens, usage.output_tokens
        );
        let files: Vec<String> = outcome
            .changes
            .iter()
            .map(|change| {
                let by = change.by.map(|by| format!(" (by {})", by.as_str()));
                let by = by.unwrap_or_default();
                format!("{} +{} −{}{by}", change.path, change.added, change.removed)
            })
            .collect();
        let files = if files.is_empty() {
            String::new()
        } else {
            format!(" · {}", files.join(", "))
        };
        self.line(
            QUIET,
            &format!(
                "thread {} · {:.1} s · {tokens}{files}",
                outcome.thread_id, outcome.seconds
            ),
        );
    }
}
