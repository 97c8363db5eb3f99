//! The questions of a thread that are open, what was approved for the session, and whether anybody attends.
//!
//! Plain state of the actor. What ends a question: an answer, its deadline, the end of the last lease, the end of the
//! turn. What becomes of one that nobody answered is the actor's to decide; it may leave the question open for the
//! caller, and then nobody is waited for any more.

use std::{collections::HashSet, time::Duration};

use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::lease::Lease;
use crate::{
    conversation::{Answer, Approval, ApprovalId, Decision, ResolvedBy},
    tools::Answered,
};

/// Questions and who attends.
pub(super) struct Approvals {
    pending: Vec<Pending>,
    granted: HashSet<String>,
    /// Cancelled when the lease ends.
    leases: Vec<CancellationToken>,
    patience: Duration,
}

struct Pending {
    approval: Approval,
    reply: oneshot::Sender<Answered>,
    /// None for a patience that has no end.
    deadline: Option<Instant>,
    /// Nobody answered, and the caller may.
    left_open: bool,
}

impl Approvals {
    pub(super) fn new(patience: Duration, granted: HashSet<String>) -> Self {
        Self {
            pending: Vec::new(),
            granted,
            leases: Vec::new(),
            patience,
        }
    }

    /// A new lease; questions wait while it lives, also those that nobody answered before.
    pub(super) fn attend(&mut self) -> Lease {
        let (lease, ended) = Lease::new();
        self.leases.retain(|lease| !lease.is_cancelled());
        self.leases.push(ended);
        let deadline = Instant::now().checked_add(self.patience);
        for pending in self.pending.iter_mut().filter(|pending| pending.left_open) {
            pending.left_open = false;
            pending.deadline = deadline;
        }
        lease
    }

    pub(super) fn is_attended(&self) -> bool {
        self.leases.iter().any(|lease| !lease.is_cancelled())
    }

    /// True if somebody may be reading the question right now.
    pub(super) fn is_being_asked(&self, id: ApprovalId) -> bool {
        let found = self.pending.iter().find(|open| open.approval.id == id);
        self.is_attended() && found.is_none_or(|open| !open.left_open)
    }

    /// What was approved for the session.
    pub(super) fn granted(&self) -> &HashSet<String> {
        &self.granted
    }

    /// True if it is about what only a person knows.
    pub(super) fn is_for_a_person(&self, id: ApprovalId) -> bool {
        let mut open = self.pending.iter().map(|pending| &pending.approval);
        open.any(|open| open.id == id && open.form.is_some())
    }

    /// True if an approval for the session covers `key`.
    pub(super) fn is_granted(&self, key: Option<&String>) -> bool {
        key.is_some_and(|key| self.granted.contains(key))
    }

    pub(super) fn open(&mut self, approval: Approval, reply: oneshot::Sender<Answered>) {
        let deadline = Instant::now().checked_add(self.patience);
        self.pending.push(Pending {
            approval,
            reply,
            deadline,
            left_open: false,
        });
    }

    /// The questions that calls wait for.
    pub(super) fn waiting(&self) -> Vec<ApprovalId> {
        let ids = self.pending.iter().map(|pending| pending.approval.id);
        ids.collect()
    }

    /// True if there are questions and none of them is with anybody.
    pub(super) fn all_left_open(&self) -> bool {
        !self.pending.is_empty() && self.pending.iter().all(|pending| pending.left_open)
    }

    pub(super) fn leave_open(&mut self, ids: &[ApprovalId]) {
        for pending in &mut self.pending {
            pending.left_open |= ids.contains(&pending.approval.id);
        }
    }

    /// Gives the answer to the call that waits for it. False if none does (any more).
    pub(super) fn resolve(&mut self, id: ApprovalId, answer: &Answer, by: ResolvedBy) -> bool {
        let Some(at) = self
            .pending
            .iter()
            .position(|pending| pending.approval.id == id)
        else {
            return false;
        };
        let Pending {
            approval, reply, ..
        } = self.pending.swap_remove(at);
        self.grant(&approval, answer);
        // The call that asked is gone when its turn was stopped; then nobody needs the answer.
        let _ = reply.send(Answered {
            answer: answer.clone(),
            by,
        });
        true
    }

    /// Keeps what an answer says about more than its question.
    pub(super) fn grant(&mut self, approval: &Approval, answer: &Answer) {
        if answer.decision == Decision::ApproveForSession {
            self.granted.extend(approval.session_covers.clone());
        }
    }

    /// Forgets the questions: the calls that wait for them are given up.
    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }

    /// Waits until questions have gone unanswered, and gives them: those past their deadline, or all when the last
    /// lease ended. Never returns while every question is left open.
    pub(super) async fn unanswered(&mut self) -> Vec<ApprovalId> {
        let asked = || self.pending.iter().filter(|pending| !pending.left_open);
        if asked().next().is_none() {
            return std::future::pending().await;
        }
        let first = asked().filter_map(|pending| pending.deadline).min();
        let deadline = async {
            match first {
                Some(first) => tokio::time::sleep_until(first).await,
                None => std::future::pending().await,
            }
        };
        let all_left = async {
            for lease in &self.leases {
                lease.cancelled().await;
            }
        };
        let ids = |late: &dyn Fn(&Pending) -> bool| {
            let late = asked().filter(|pending| late(pending));
            late.map(|pending| pending.approval.id).collect()
        };
        tokio::select! {
            () = all_left => ids(&|_| true),
            () = deadline => {
                let now = Instant::now();
                ids(&|pending| pending.deadline.is_some_and(|deadline| deadline <= now))
            }
        }
    }
}
