//! A question on its way: recorded, put to whoever attends, answered by somebody or decided for want of an answer.
//!
//! A question outlives its process. When its turn is taken up again the call comes back to the gate, and what it asks
//! is compared with what was asked before: the same question is the same record, an answer that was given to it counts,
//! and another one is asked anew.

use tokio::sync::oneshot;

use super::{Actor, running::measured};
use crate::{
    conversation::{
        Answer, Approval, ApprovalId, Decision, Event, Resolution, ResolvedBy, WhenUnattended,
    },
    thread::{
        handle::DecideError,
        link::TurnMessage,
        rollout::{Given, Record},
        store::StoreError,
    },
    tools::{Answered, Question},
};

/// What is known of a question that a call asks.
enum Known {
    /// It was answered, and nothing was done about it yet.
    Answered(Given),
    /// It was asked, and is open.
    Open(Approval),
    Nothing,
}

impl Actor {
    pub(super) async fn ask(&mut self, question: Question, reply: oneshot::Sender<Answered>) {
        let Some(turn_id) = self.running.as_ref().map(|running| running.turn_id) else {
            return;
        };
        if self.approvals.is_granted(question.covers.as_ref()) {
            // Only a person approves for the session, and a yes without a note says no more of them.
            return tell(reply, Decision::Approve.into(), ResolvedBy::Elicitation);
        }
        match self.known(&question) {
            Known::Answered(Given {
                approval,
                answer,
                by,
            }) => {
                self.approvals.grant(&approval, &answer);
                tell(reply, answer, by);
            }
            Known::Open(approval) => self.put(approval, reply),
            Known::Nothing => {
                let approval = question.into_approval(turn_id);
                let recorded = self.append(Record::ApprovalRequested {
                    approval: approval.clone(),
                });
                if recorded.is_err() || self.journal.sync().await.is_err() {
                    // A question that is not on record is not asked.
                    return tell(reply, Decision::Deny.into(), ResolvedBy::Unattended);
                }
                self.put(approval, reply);
            }
        }
    }

    /// Looks the question up in the record of the turn; what its call asked before and does not ask now is closed.
    fn known(&mut self, question: &Question) -> Known {
        if question.form.is_some() {
            // What was entered is not kept, and a server may ask the same twice.
            return Known::Nothing;
        }
        let Some(turn) = self.state.open_turn() else {
            return Known::Nothing;
        };
        let given = turn.given.iter().rev();
        if let Some(given) = given
            .into_iter()
            .find(|given| same(&given.approval, question))
        {
            return Known::Answered(given.clone());
        }
        let open = turn.open_approvals.iter();
        let (same, other): (Vec<Approval>, Vec<Approval>) = open
            .filter(|open| open.call_id == question.call_id)
            .cloned()
            .partition(|open| same(open, question));
        for outdated in other {
            self.resolve(outdated.id, Decision::Deny.into(), ResolvedBy::Interrupt);
        }
        same.into_iter().next().map_or(Known::Nothing, Known::Open)
    }

    /// Opens a question that is on record.
    fn put(&mut self, approval: Approval, reply: oneshot::Sender<Answered>) {
        let id = approval.id;
        self.approvals.open(approval.clone(), reply);
        self.publish(Event::ApprovalRequested { approval });
        if self.forgone.remove(&id) || !self.approvals.is_attended() {
            self.nobody_answers(&[id]);
        }
    }

    // Answers.

    /// An answer of a person, who may give any. False if the question is not open (any more), nothing if another process
    /// has the thread.
    pub(super) fn answer(
        &mut self,
        id: ApprovalId,
        answer: Answer,
        by: ResolvedBy,
    ) -> Option<bool> {
        let held_already = self.running.is_some();
        if !held_already {
            self.hold().ok()?;
        }
        let answered = self.is_open(id) && self.resolve(id, answer, by);
        if !held_already {
            self.take_up(answered);
        }
        Some(answered)
    }

    /// An answer of the caller, a model: it may always say no, and yes only where the owner lets it and nobody is being
    /// asked.
    pub(super) fn decide(
        &mut self,
        id: Option<ApprovalId>,
        answer: Answer,
    ) -> Result<(), DecideError> {
        let held_already = self.running.is_some();
        if !held_already {
            self.hold().map_err(|error| match error {
                StoreError::Held(_) => DecideError::Held(error.to_string()),
                error => DecideError::Storage(error.to_string()),
            })?;
        }
        let decided = self.decidable(id, answer.decision).map(|id| {
            self.resolve(id, answer, ResolvedBy::Caller);
        });
        if !held_already {
            self.take_up(decided.is_ok());
        }
        decided
    }

    fn decidable(
        &self,
        id: Option<ApprovalId>,
        decision: Decision,
    ) -> Result<ApprovalId, DecideError> {
        let open = self.state.open_turn();
        let open: Vec<ApprovalId> = open.map_or_else(Vec::new, |turn| {
            turn.open_approvals.iter().map(|open| open.id).collect()
        });
        let id = match (id, open.as_slice()) {
            (Some(id), open) if open.contains(&id) => id,
            (Some(id), _) => return Err(DecideError::NotOpen(id)),
            (None, [only]) => *only,
            (None, []) => return Err(DecideError::NothingOpen),
            (None, _) => return Err(DecideError::Several(open)),
        };
        match decision {
            Decision::Deny | Decision::Abort => Ok(id),
            _ if self.parts.when_unattended != WhenUnattended::ReturnToCaller
                || self.approvals.is_for_a_person(id) =>
            {
                Err(DecideError::ForAPerson)
            }
            Decision::ApproveForSession => Err(DecideError::OnlyOnce),
            Decision::Approve if self.approvals.is_being_asked(id) => Err(DecideError::BeingAsked),
            Decision::Approve => Ok(id),
        }
    }

    fn is_open(&self, id: ApprovalId) -> bool {
        let turn = self.state.open_turn();
        turn.is_some_and(|turn| turn.open_approvals.iter().any(|open| open.id == id))
    }

    /// Records an answer and gives it to the call that waits; if its turn is not running, the answer waits for the call.
    pub(super) fn resolve(&mut self, id: ApprovalId, answer: Answer, by: ResolvedBy) -> bool {
        let answer = Answer {
            note: answer.note.map(|note| self.parts.redactor.clean(note)),
            ..answer
        };
        let resolution = Resolution {
            answer: Answer {
                entered: None,
                ..answer.clone()
            },
            by,
        };
        // The answer counts also when it cannot be written; the next record fails and ends the turn.
        let recorded = self.append(Record::ApprovalResolved {
            approval_id: id,
            resolution: resolution.clone(),
        });
        let told = self.approvals.resolve(id, &answer, by);
        self.publish(Event::ApprovalResolved {
            approval_id: id,
            resolution,
        });
        told || recorded.is_ok()
    }

    /// Goes on with the turn that an answer was for, or gives the thread back.
    fn take_up(&mut self, goes_on: bool) {
        match self.state.open_turn().map(|turn| turn.turn_id) {
            Some(turn_id) if goes_on => {
                self.publish(Event::TurnStarted { turn_id });
                self.run_turn(Vec::new());
            }
            _ => self.release(),
        }
    }

    // Silence.

    /// Whoever was asked has left without an answer.
    pub(super) fn give_up(&mut self, id: ApprovalId) {
        if self.approvals.waiting().contains(&id) {
            self.nobody_answers(&[id]);
        } else if self.is_open(id) {
            self.forgone.insert(id);
        }
    }

    /// Questions whose time or whose last lease has ended. If nobody follows the turn any more, it is let go of, and
    /// whoever comes back later is asked again.
    pub(super) async fn unanswered(&mut self, ids: Vec<ApprovalId>) {
        let deserted = self
            .running
            .as_ref()
            .is_some_and(|running| running.is_deserted());
        if deserted && self.may_suspend() {
            self.suspend().await;
        } else {
            self.nobody_answers(&ids);
        }
    }

    fn nobody_answers(&mut self, ids: &[ApprovalId]) {
        match self.parts.when_unattended {
            WhenUnattended::AutoWithinPolicy | WhenUnattended::Deny => {
                for id in ids {
                    self.resolve(*id, Decision::Deny.into(), ResolvedBy::Unattended);
                }
            }
            WhenUnattended::ReturnToCaller => {
                let (persons, callers): (Vec<ApprovalId>, Vec<ApprovalId>) = ids
                    .iter()
                    .partition(|id| self.approvals.is_for_a_person(**id));
                for id in persons {
                    self.resolve(id, Decision::Deny.into(), ResolvedBy::Unattended);
                }
                self.approvals.leave_open(&callers);
                self.park_if_left_open();
            }
        }
    }

    /// If all that the turn waits for is the caller's to answer, those who follow it are told so. What it changed so far
    /// is measured first, beside everything else.
    pub(super) fn park_if_left_open(&mut self) {
        let Some(running) = &self.running else { return };
        if self.approvals.all_left_open() && !running.is_deserted() {
            let (actor, begun) = (running.messages.clone(), running.begun.clone());
            let workspace = self.parts.gate.workspace.clone();
            tokio::spawn(async move {
                let measured = measured(workspace, begun).await;
                // If the turn is gone, so are those who followed it.
                let _ = actor.send(TurnMessage::Measured { measured }).await;
            });
        }
    }
}

fn tell(reply: oneshot::Sender<Answered>, answer: Answer, by: ResolvedBy) {
    // The call that asked may be gone; then nobody needs the answer.
    let _ = reply.send(Answered { answer, by });
}

/// True if `question` is the one that was put on record: everything that a person would decide by is the same.
fn same(approval: &Approval, question: &Question) -> bool {
    approval.call_id == question.call_id
        && approval.kind == question.kind
        && approval.summary == question.summary
        && approval.place == question.place
        && approval.detail == question.detail
        && approval.stands_on == question.stands_on
}
