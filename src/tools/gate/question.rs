//! What a person reads before deciding about a call.

use std::path::Path;

use super::{Gate, Passing};
use crate::{
    conversation::{Access, ApprovalKind, OutsideAccess, shown_line, shown_text},
    tools::{Question, command::Named},
};

impl Gate {
    pub(super) fn question(&self, passing: &Passing<'_>, why: &str, named: &Named) -> Question {
        let place = |at: &Path| format!("in `{}`: {why}", shown_line(&at.to_string_lossy()));
        let common = Question {
            call_id: passing.call.call_id.clone(),
            kind: ApprovalKind::Edit,
            summary: passing.summary(),
            place: place(self.workspace.cwd()),
            detail: String::new(),
            reason: None,
            stands_on: named.digest(),
            covers: None,
            form: None,
        };
        match &passing.access {
            Access::Run {
                command,
                workdir,
                escalate,
                reason,
            } => Question {
                kind: ApprovalKind::Command,
                place: place(workdir),
                detail: named.shown(&self.workspace),
                reason: reason.clone(),
                covers: self
                    .rules
                    .covers(command, &self.workspace, workdir, *escalate, named),
                ..common
            },
            // Never for the session: what the same keys do is up to what reads them.
            Access::Type { workdir, .. } => Question {
                kind: ApprovalKind::Command,
                place: place(workdir),
                ..common
            },
            Access::Write { paths, diff } => Question {
                detail: diff.clone(),
                covers: paths
                    .first()
                    .map(|path| format!("edits of `{}`", self.workspace.show(path))),
                ..common
            },
            Access::Outside(outside) => Question {
                kind: ApprovalKind::Tool,
                place: format!(
                    "at the external server `{}`: {why}",
                    shown_line(&outside.server)
                ),
                detail: outside_detail(outside),
                covers: Some(outside_covers(outside)),
                ..common
            },
            Access::Nothing | Access::Read(_) => common,
        }
    }
}

impl Passing<'_> {
    /// The call in one line.
    pub(super) fn summary(&self) -> String {
        let title = shown_line(&self.title);
        match &self.access {
            Access::Run { command, .. } => format!("run `{}`", shown_line(command)),
            Access::Type { command, input, .. } => format!(
                "type `{}` into the running `{}`",
                shown_line(input),
                shown_line(command)
            ),
            Access::Write { .. } => format!("edit `{title}`"),
            Access::Outside(outside) => format!(
                "ask `{}` of the external server `{}`: {title}",
                shown_line(&outside.tool),
                shown_line(&outside.server)
            ),
            Access::Nothing | Access::Read(_) => title,
        }
    }
}

/// What a person should see before it goes out: all of what goes there, then the server's own words.
fn outside_detail(outside: &OutsideAccess) -> String {
    let arguments = shown_text(&outside.arguments);
    match outside.about.as_str() {
        "" => arguments,
        about => format!(
            "{arguments}\n\nThe server says of the tool: {}",
            shown_text(about)
        ),
    }
}

/// The key of an approval for the session. With what the server says of the tool, it is another key; all of the digest
/// is in it, since a server could make two tools agree in a part of it.
fn outside_covers(outside: &OutsideAccess) -> String {
    format!(
        "calls of `{}` of the external server `{}`, as it describes it now ({})",
        shown_line(&outside.tool),
        shown_line(&outside.server),
        outside.identity
    )
}
