//! What a turn came to, or has come to so far, in the words of an outcome.

use super::Actor;
use crate::{
    agent::{Tally, turn::TurnEnd},
    conversation::{Change, Outcome, Status, ThreadId, TurnError, TurnErrorKind, TurnId, Usage},
    thread::handle::Standing,
    workspace::checkpoint::Measured,
};

impl Actor {
    pub(super) fn outcome(&mut self, turn_id: TurnId, end: TurnEnd, measured: Measured) -> Outcome {
        self.history = Some(end.history);
        Outcome {
            status: end.status,
            error: end.error,
            seconds: end.took.as_secs_f64(),
            ..self.told(end.tally, measured, turn_id)
        }
    }

    /// How the open turn stands: it waits for an answer, or it runs.
    pub(super) fn so_far(&self, measured: Measured) -> Outcome {
        let Some(open) = self.state.open_turn() else {
            return self.blank(TurnId::generate());
        };
        let suspended = open.suspended.as_ref().map(Tally::from);
        let tally = self.running.as_ref().map(|running| running.tally.clone());
        let status = match open.open_approvals.is_empty() {
            true if self.running.is_some() => Status::Running,
            true => Status::Interrupted,
            false => Status::ApprovalRequired,
        };
        Outcome {
            status,
            approvals: open.open_approvals.clone(),
            ..self.told(
                tally.or(suspended).unwrap_or_default(),
                measured,
                open.turn_id,
            )
        }
    }

    /// How the open turn stands, if there is one.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.state.open_turn().map(|_| Standing {
            outcome: self.so_far(Measured::default()),
            left_open: self.approvals.all_left_open(),
            waits: self
                .running
                .as_ref()
                .and_then(|running| running.place.wait()),
        })
    }

    /// What a turn came to.
    pub(super) fn outcome_of(&self, turn_id: TurnId) -> Option<Outcome> {
        let turns = self.state.turns.iter();
        let mut named = turns.filter(|turn| turn.turn_id == turn_id);
        named.find_map(|turn| turn.outcome.clone())
    }

    pub(super) fn has(&self, turn_id: TurnId) -> bool {
        self.state.turns.iter().any(|turn| turn.turn_id == turn_id)
            || self.queue.iter().any(|queued| queued.turn_id == turn_id)
    }

    fn told(&self, tally: Tally, measured: Measured, turn_id: TurnId) -> Outcome {
        let clean = |text| self.parts.redactor.clean(text);
        let mut all = self.changed_before(&measured);
        let before = self.running.as_ref();
        let before = before.and_then(|running| running.partial_before.clone());
        all.extend(measured.changes.into_iter().map(|change| Change {
            diff: clean(change.diff),
            ..change
        }));
        Outcome {
            content: tally.content,
            changes: all,
            partial_changes: measured.partial.or(before),
            commands: tally.commands,
            denied: tally.denied,
            usage: tally.usage,
            ..self.blank(turn_id)
        }
    }

    /// What the turn had changed before it was taken up, but for the files of which more is known now.
    fn changed_before(&self, measured: &Measured) -> Vec<Change> {
        let before = self.running.as_ref().map(|running| &running.changed_before);
        let mut before = before.cloned().unwrap_or_default();
        let again = |path: &String| measured.changes.iter().any(|other| other.path == *path);
        before.retain(|change| !again(&change.path) && !measured.restored.contains(&change.path));
        before
    }

    pub(super) fn failed(&self, turn_id: TurnId, kind: TurnErrorKind, message: &str) -> Outcome {
        self.stopped(turn_id, Status::Failed, kind, message)
    }

    pub(super) fn withdrawn(&self, turn_id: TurnId) -> Outcome {
        let message = "the prompt was withdrawn before its turn began";
        self.stopped(
            turn_id,
            Status::Interrupted,
            TurnErrorKind::Interrupted,
            message,
        )
    }

    /// The open turn, ended by a message that came instead of its answer.
    pub(super) fn overtaken(&self) -> Option<Outcome> {
        let open = self.state.open_turn()?;
        let so_far = open.suspended.clone();
        let message = "the turn was left open, and a new message came";
        let ended = self.stopped(
            open.turn_id,
            Status::Interrupted,
            TurnErrorKind::Interrupted,
            message,
        );
        Some(match so_far {
            Some(so_far) => Outcome {
                status: ended.status,
                error: ended.error,
                approvals: Vec::new(),
                ..so_far
            },
            None => ended,
        })
    }

    fn stopped(
        &self,
        turn_id: TurnId,
        status: Status,
        kind: TurnErrorKind,
        message: &str,
    ) -> Outcome {
        let error = Some(TurnError {
            kind,
            message: message.to_owned(),
        });
        Outcome {
            status,
            error,
            ..self.blank(turn_id)
        }
    }

    fn blank(&self, turn_id: TurnId) -> Outcome {
        let running = self.running.as_ref();
        let seconds = running.map_or(0.0, |running| running.started.elapsed().as_secs_f64());
        let beside = running.map_or_else(Vec::new, |running| {
            let elsewhere = running.elsewhere.get().into_iter().flatten();
            let mut all: Vec<ThreadId> = running.beside.iter().chain(elsewhere).copied().collect();
            all.sort_unstable();
            all.dedup();
            all
        });
        Outcome {
            thread_id: self.state.header.thread_id,
            turn_id,
            status: Status::Completed,
            content: String::new(),
            changes: Vec::new(),
            partial_changes: None,
            not_kept: self.journal.not_kept(),
            commands: Vec::new(),
            approvals: Vec::new(),
            beside,
            denied: Vec::new(),
            usage: Usage::default(),
            sandbox: self.parts.gate.sandbox_report(),
            worktree: self
                .state
                .header
                .isolated
                .as_ref()
                .map(|isolated| isolated.worktree.clone()),
            model: self.parts.model.name().to_owned(),
            seconds,
            error: None,
            next: None,
        }
    }
}
