//! The questions of a thread that are open, what was approved for the session, and whether anybody attends.
//!
//! Plain state of the actor. What ends a question: an answer, its deadline, the end of the last lease, the end of the
//! turn.

use std::{collections::HashSet, convert::Infallible, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    conversation::{Answer, Approval, ApprovalId, Decision, Resolution, ResolvedBy},
    tools::Answered,
};

/// Questions and who attends.
pub(super) struct Approvals {
    pending: Vec<Pending>,
    granted: HashSet<String>,
    leases: Option<Leases>,
    patience: Duration,
}

/// While a sender lives somewhere, somebody attends; the receiver tells when the last one is gone.
struct Leases {
    template: mpsc::WeakSender<Infallible>,
    ended: mpsc::Receiver<Infallible>,
}

struct Pending {
    approval: Approval,
    reply: oneshot::Sender<Answered>,
    /// None for a patience that has no end.
    deadline: Option<Instant>,
}

impl Approvals {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            pending: Vec::new(),
            granted: HashSet::new(),
            leases: None,
            patience,
        }
    }

    /// A new lease; questions wait while it lives.
    pub(super) fn attend(&mut self) -> mpsc::Sender<Infallible> {
        if let Some(sender) = self
            .leases
            .as_ref()
            .and_then(|leases| leases.template.upgrade())
        {
            return sender;
        }
        let (sender, ended) = mpsc::channel(1);
        self.leases = Some(Leases {
            template: sender.downgrade(),
            ended,
        });
        sender
    }

    pub(super) fn is_attended(&self) -> bool {
        self.leases
            .as_ref()
            .is_some_and(|leases| leases.template.upgrade().is_some())
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
        });
    }

    pub(super) fn pending(&self) -> Vec<Approval> {
        self.pending
            .iter()
            .map(|pending| pending.approval.clone())
            .collect()
    }

    /// Takes an answer; `None` if the question is not open (any more).
    pub(super) fn resolve(
        &mut self,
        id: ApprovalId,
        answer: Answer,
        by: ResolvedBy,
    ) -> Option<Resolution> {
        let at = self
            .pending
            .iter()
            .position(|pending| pending.approval.id == id)?;
        let Pending {
            approval, reply, ..
        } = self.pending.swap_remove(at);
        if answer.decision == Decision::ApproveForSession {
            self.granted.extend(approval.session_covers);
        }
        let by_nobody = by == ResolvedBy::Unattended;
        // The call that asked is gone when its turn was stopped; then nobody needs the answer.
        let _ = reply.send(Answered {
            answer: answer.clone(),
            by_nobody,
        });
        Some(Resolution { answer, by })
    }

    /// Waits until questions must be decided for want of an answer, and gives them: those past their deadline, or all
    /// when the last lease ended. Never returns while nothing is open.
    pub(super) async fn unanswered(&mut self) -> Vec<ApprovalId> {
        if self.pending.is_empty() {
            return std::future::pending().await;
        }
        let first = self
            .pending
            .iter()
            .filter_map(|pending| pending.deadline)
            .min();
        let deadline = async {
            match first {
                Some(first) => tokio::time::sleep_until(first).await,
                None => std::future::pending().await,
            }
        };
        let all_left = async {
            if let Some(leases) = &mut self.leases {
                let _ = leases.ended.recv().await;
            }
        };
        tokio::select! {
            () = all_left => self.pending.iter().map(|pending| pending.approval.id).collect(),
            () = deadline => {
                let now = Instant::now();
                self.pending.iter().filter(|pending| pending.deadline.is_some_and(|deadline| deadline <= now)).map(|p| p.approval.id).collect()
            }
        }
    }
}
