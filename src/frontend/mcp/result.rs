//! From an outcome to a tool result: cut to size, and said twice, since some clients show only the text and some only
//! the structure. Both halves stand alone.

use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

use super::{
    arguments::{Detail, REPLY},
    resources::turn_diff,
};
use crate::conversation::{
    Approval, ApprovalKind, CommandRun, Outcome, Status, ThreadId, TurnId, shortened, shown_line,
    shown_text,
};

/// Characters of the agent's message; only beyond are head and tail kept.
const CONTENT: usize = 30_000;
/// Characters of everything else.
const BRIEF: usize = 4_000;
const FULL: usize = 40_000;
/// Changed files in a brief outcome.
const CHANGES: usize = 50;
/// Commands in a brief outcome, besides those that failed.
const COMMANDS: usize = 5;
/// Characters of what would change, in a question that a caller may answer.
const QUESTION: usize = 1_000;
/// Characters of what would go to an external server, of which nothing is kept from whoever may answer.
const OUTSIDE: usize = 5_500;
/// Bytes of a result that says no more than that the turn goes on; the transport adds a few.
const RUNNING: usize = 570;
/// Characters of an error's text; clients cut it at about 10,000.
const ERROR: usize = 8_000;

/// What a turn came to.
pub(super) fn outcome(
    outcome: &Outcome,
    detail: Detail,
    remarks: &[String],
    may_approve: bool,
) -> CallToolResult {
    let next = next(outcome, may_approve);
    let outcome = Outcome {
        next: next.clone(),
        ..outcome.clone()
    };
    let failed = outcome.status == Status::Failed;
    let structured = structured(&outcome, detail);
    let mut text = text(&outcome, remarks, structured["left_out"].as_str());
    if failed {
        text = head_and_tail(&text, ERROR);
    }
    let mut result = CallToolResult::structured(structured);
    result.content = vec![ContentBlock::text(text)];
    result.is_error = Some(failed);
    result
}

/// A turn goes on while its caller does not wait any longer. Small, since it may come often: both halves together.
pub(super) fn running(thread_id: ThreadId, turn_id: TurnId, news: &str) -> CallToolResult {
    let bytes =
        |result: &CallToolResult| serde_json::to_string(result).map_or(0, |text| text.len());
    let mut room = RUNNING;
    loop {
        let result = told_in(room, thread_id, turn_id, news);
        if bytes(&result) <= RUNNING || room < 20 {
            return result;
        }
        room -= 10;
    }
}

/// With at most `room` characters of `news`.
fn told_in(room: usize, thread_id: ThreadId, turn_id: TurnId, news: &str) -> CallToolResult {
    let next = format!("call `{REPLY}` without prompt to wait");
    let content = shortened(news, room);
    let mut result = CallToolResult::structured(json!({
        "thread_id": thread_id, "turn_id": turn_id, "status": "running", "content": content, "next": next,
    }));
    result.content = vec![ContentBlock::text(format!(
        "{content}\nthread_id: {thread_id}\nstatus: running\nnext: {next}"
    ))];
    result
}

/// A call that came to nothing: its arguments, its thread or its directory are not as they should be.
pub(super) fn refused(message: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(head_and_tail(
        &message.into(),
        ERROR,
    ))])
}

fn next(outcome: &Outcome, may_approve: bool) -> Option<String> {
    match outcome.status {
        Status::ApprovalRequired if may_approve => Some(format!(
            "call `{REPLY}` with this thread_id and decision {{approval_id, decision: approve, deny or abort}}"
        )),
        Status::ApprovalRequired => Some(format!(
            "call `{REPLY}` with this thread_id and no prompt to have a person asked again, or with decision {{approval_id, decision: deny or abort}}"
        )),
        Status::Interrupted => Some(format!(
            "call `{REPLY}` with this thread_id and no prompt to resume"
        )),
        Status::LimitReached => Some(format!(
            "call `{REPLY}` with this thread_id and a prompt to go on"
        )),
        Status::Failed => Some(format!(
            "call `{REPLY}` with this thread_id and a prompt to try again or go on"
        )),
        Status::Completed | Status::Running => None,
    }
}

fn text(outcome: &Outcome, remarks: &[String], left_out: Option<&str>) -> String {
    let mut lines = Vec::new();
    if let Some(error) = &outcome.error {
        lines.push(shown_line(&error.message));
    }
    if !outcome.content.is_empty() {
        lines.push(head_and_tail(&outcome.content, CONTENT));
    }
    lines.push(format!(
        "\nthread_id: {}\nstatus: {}",
        outcome.thread_id,
        outcome.status.as_str()
    ));
    lines.extend(remarks.iter().cloned());
    lines.extend(beside(outcome));
    if !outcome.changes.is_empty() {
        let files = outcome.changes.iter().take(CHANGES);
        let files: Vec<String> = files
            .map(|change| {
                let from = change.from.as_ref();
                let by = change.by.map(|by| format!(", by {}", by.as_str()));
                format!(
                    "{} ({}{} +{} −{}{})",
                    change.path,
                    change.kind.as_str(),
                    from.map(|from| format!(" from {from}")).unwrap_or_default(),
                    change.added,
                    change.removed,
                    by.unwrap_or_default()
                )
            })
            .collect();
        let more = outcome.changes.len().saturating_sub(CHANGES);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        lines.push(format!("changed: {}{more}", files.join(", ")));
    }
    lines.extend(left_out.map(str::to_owned));
    if let Some(why) = &outcome.partial_changes {
        lines.push(format!("perhaps not all changes: {}", shown_line(why)));
    }
    if let Some(why) = &outcome.not_kept {
        lines.push(shown_line(why));
    }
    if let Some(worktree) = &outcome.worktree {
        let path = worktree.path.to_string_lossy();
        let branch = &worktree.branch;
        lines.push(format!("worktree: {} (branch {branch})", shown_line(&path)));
    }
    lines.extend(failed_commands(outcome));
    for denied in outcome.denied.iter().take(10) {
        lines.push(format!(
            "denied: {} ({})",
            shortened(&denied.summary, 200),
            shortened(&denied.reason, 200)
        ));
    }
    for approval in &outcome.approvals {
        lines.push(question(approval));
    }
    lines.extend(outcome.next.as_ref().map(|next| format!("next: {next}")));
    lines.join("\n").trim_start().to_owned()
}

/// What a caller decides by, in a few lines.
fn question(approval: &Approval) -> String {
    let mut text = format!(
        "waits for approval {}: {} {}",
        approval.id,
        shortened(&shown_line(&approval.summary), 400),
        shortened(&shown_line(&approval.place), 200)
    );
    if let Some(reason) = &approval.reason {
        text.push_str(&format!(
            " (the agent says: {})",
            shortened(&shown_line(reason), 200)
        ));
    }
    if !approval.detail.is_empty() {
        text.push('\n');
        text.push_str(&shortened(&shown_text(&approval.detail), most_of(approval)));
    }
    text
}

/// Who else may have changed files of the directory.
fn beside(outcome: &Outcome) -> Option<String> {
    let others: Vec<String> = outcome.beside.iter().map(ToString::to_string).collect();
    (!others.is_empty()).then(|| {
        format!(
            "also at work in this directory when the turn began: {}",
            others.join(", ")
        )
    })
}

fn failed_commands(outcome: &Outcome) -> Vec<String> {
    let failed = outcome
        .commands
        .iter()
        .filter(|command| command.exit_code != Some(0));
    let line = |command: &CommandRun| {
        let code = command
            .exit_code
            .map_or("ended early".to_owned(), |code| format!("exit code {code}"));
        format!(
            "failed: `{}` ({code})",
            shortened(&shown_line(&command.command), 200)
        )
    };
    let mut lines: Vec<String> = failed.map(line).collect();
    lines.split_off(lines.len().saturating_sub(COMMANDS))
}

fn most_of(approval: &Approval) -> usize {
    match approval.kind {
        ApprovalKind::Tool => OUTSIDE,
        _ => QUESTION,
    }
}

pub(super) fn structured(outcome: &Outcome, detail: Detail) -> Value {
    let mut outcome = outcome.clone();
    outcome.content = head_and_tail(&outcome.content, CONTENT);
    let totals = (outcome.changes.len(), outcome.commands.len());
    let diffs = with_diffs(&outcome);
    let bound = match detail {
        Detail::Full => FULL,
        Detail::Brief => {
            brief(&mut outcome);
            BRIEF
        }
    };
    let outside = outcome.approvals.iter();
    let outside = outside.filter(|approval| approval.kind == ApprovalKind::Tool);
    let outside: usize = outside.map(|approval| approval.detail.len()).sum();
    fit(&mut outcome, bound + outside);
    let cut = (
        totals.0 - outcome.changes.len(),
        totals.1 - outcome.commands.len(),
    );
    let mut value = outcome.shown();
    if detail == Detail::Full && with_diffs(&outcome) < diffs {
        value["left_out"] = left_out(&outcome, diffs - with_diffs(&outcome)).into();
    }
    if cut.0 > 0 {
        value["changes_total"] = totals.0.into();
    }
    if cut.1 > 0 {
        value["commands_total"] = totals.1.into();
    }
    value
}

/// Changes whose difference is shown.
fn with_diffs(outcome: &Outcome) -> usize {
    let changes = outcome.changes.iter();
    changes.filter(|change| !change.diff.is_empty()).count()
}

/// That `count` diffs are not here, and where they are.
fn left_out(outcome: &Outcome, count: usize) -> String {
    let whole = turn_diff(outcome.thread_id, outcome.turn_id);
    format!(
        "the diffs of {count} changed files are left out, since they are too long; all of them are at `{whole}`"
    )
}

/// Changes without their diffs, the commands that failed and the last few.
fn brief(outcome: &mut Outcome) {
    outcome
        .changes
        .iter_mut()
        .for_each(|change| change.diff.clear());
    outcome.changes.truncate(CHANGES);
    let recent = outcome.commands.len().saturating_sub(COMMANDS);
    let mut at = 0;
    outcome.commands.retain(|command| {
        at += 1;
        at > recent || command.exit_code != Some(0)
    });
    for command in &mut outcome.commands {
        command.command = shortened(&command.command, 200);
    }
    for approval in &mut outcome.approvals {
        approval.detail = shortened(&approval.detail, most_of(approval));
    }
}

/// Cuts until all but the message fits: diffs, then details, then commands, then changes; never ids, status or `next`.
fn fit(outcome: &mut Outcome, bound: usize) {
    while size(outcome) > bound && with_diffs(outcome) > 0 {
        let longest = outcome
            .changes
            .iter_mut()
            .max_by_key(|change| change.diff.len());
        longest.into_iter().for_each(|change| change.diff.clear());
    }
    for approval in &mut outcome.approvals {
        let most = most_of(approval).max(bound / 4);
        approval.detail = shortened(&approval.detail, most);
        approval.place = shortened(&approval.place, 400);
        approval.reason = approval.reason.take().map(|reason| shortened(&reason, 400));
        approval.summary = shortened(&approval.summary, 400);
    }
    if let Some(error) = &mut outcome.error {
        error.message = shortened(&error.message, bound / 4);
    }
    for denied in &mut outcome.denied {
        denied.summary = shortened(&denied.summary, 200);
        denied.reason = shortened(&denied.reason, 200);
    }
    while size(outcome) > bound && outcome.commands.len() > 1 {
        outcome.commands.remove(0);
    }
    while size(outcome) > bound && outcome.denied.len() > 1 {
        outcome.denied.pop();
    }
    while size(outcome) > bound && !outcome.changes.is_empty() {
        outcome.changes.pop();
    }
}

/// Characters of everything but the message.
fn size(outcome: &Outcome) -> usize {
    let bare = Outcome {
        content: String::new(),
        ..outcome.clone()
    };
    serde_json::to_string(&bare).map_or(0, |text| text.chars().count())
}

pub(super) fn head_and_tail(text: &str, limit: usize) -> String {
    let count = text.chars().count();
    if count <= limit {
        return text.to_owned();
    }
    let half = (limit - 60) / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(count - half).collect();
    format!(
        "{head}\n[… {} characters left out …]\n{tail}",
        count - 2 * half
    )
}
