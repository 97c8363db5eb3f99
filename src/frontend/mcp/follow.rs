//! A call that follows a turn: shows progress, carries questions, and waits for the end.
//!
//! Ended by the turn, by a question that goes to the client as a result, by the wait budget, by a cancellation, or by
//! the end of the connection; the turn itself lives in its thread. Everything is awaited in the task of the call. A
//! question that is open pauses the wait budget. A result that invites the client back leaves the lease behind. If the
//! turn ran in another process and that one dies, the turn is taken up here.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rmcp::{
    RoleServer,
    model::{CallToolResponse, CallToolResult, JsonObject},
    service::RequestContext,
};
use tokio::{
    sync::{broadcast::error::RecvError, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::Detail,
    asked::Asked,
    cancel::{Cancellations, OpenCall, ran_out_of_time},
    codex, finding,
    finding::Found,
    log::{Level, Log},
    progress::{MERGED, Progress},
    questions::{self, Way},
    result,
    rounds::Rounds,
};
use crate::{
    app::App,
    config::OnCancel,
    conversation::{Answer, Approval, ApprovalId, Event, Outcome, ResolvedBy, Status, TurnId},
    thread::{Abandoned, Lease, Snapshot, Started, ThreadHandle},
};

/// For the end of a connection to be known everywhere.
const PARTING: Duration = Duration::from_millis(50);

/// What a call that follows needs to know.
pub(super) struct Manner {
    /// Has the thread also when the process that held it is gone.
    pub(super) app: Arc<App>,
    pub(super) wait: Option<Duration>,
    pub(super) detail: Detail,
    pub(super) on_cancel: OnCancel,
    /// Questions carry what clients of that peer look for.
    pub(super) codex: bool,
    /// How long somebody who was invited back is waited for.
    pub(super) park: Duration,
    /// The caller may approve where nobody else can.
    pub(super) may_approve: bool,
    /// The calls that may be made again.
    pub(super) asked: Arc<Asked>,
    /// How a question becomes a result.
    pub(super) rounds: Rounds,
    /// Said with the outcome.
    pub(super) remarks: Vec<String>,
    /// What the caller wants to hear of the turn besides its progress.
    pub(super) log: Option<Level>,
    /// The client is gone, or the server ends.
    pub(super) ended: CancellationToken,
    /// The server ends.
    pub(super) eof: CancellationToken,
}

/// One call and the turn it follows.
pub(super) struct Follower<'a> {
    thread: ThreadHandle,
    turn_id: TurnId,
    queued: bool,
    ended: oneshot::Receiver<Arc<Outcome>>,
    snapshot: Snapshot,
    call: &'a RequestContext<RoleServer>,
    open_call: OpenCall<'a>,
    manner: Manner,
    way: Way,
    progress: Progress,
    log: Log,
    questions: FuturesUnordered<BoxFuture<'a, (ApprovalId, Option<Answer>)>>,
    /// Cancelled when this call ends, so that the client takes its forms away.
    settled: Vec<(ApprovalId, CancellationToken)>,
    /// Something was asked that travels as a result.
    to_return: bool,
    /// Questions wait while this call can carry them.
    lease: Option<Lease>,
}

/// What a call comes to.
pub(super) enum Followed {
    /// The client gets this, and with it all there is to know of the turn.
    Whole(CallToolResponse),
    /// The turn goes on, or waits for the client's next round; so this does.
    Part(CallToolResponse),
    /// It runs on; `running` is the answer, or a task. With the line that the model is at, if it was heard to write.
    Running(Option<String>),
    /// Nobody is left to answer.
    Nobody(String),
}

/// Why the wait is over.
enum End {
    Turn(Arc<Outcome>),
    Asked,
    Lost,
    Waited,
    Cancelled,
    Gone,
}

impl<'a> Follower<'a> {
    /// Follows `started`, of which `snapshot` was taken before.
    pub(super) fn new(
        thread: ThreadHandle,
        started: Started,
        snapshot: Snapshot,
        lease: Option<Lease>,
        call: &'a RequestContext<RoleServer>,
        cancellations: &'a Cancellations,
        manner: Manner,
    ) -> Self {
        Self {
            progress: Progress::new(call, Some(thread.id())),
            log: Log::new(
                call,
                manner.log,
                thread.header(),
                started.turn_id,
                !started.queued,
            ),
            thread,
            turn_id: started.turn_id,
            queued: started.queued,
            ended: started.outcome,
            snapshot,
            call,
            open_call: cancellations.open(call.id.clone()),
            manner,
            way: questions::way(call),
            questions: FuturesUnordered::new(),
            settled: Vec::new(),
            to_return: false,
            lease,
        }
    }

    /// Waits, and says what the call comes to.
    pub(super) async fn drive(mut self) -> Followed {
        self.progress
            .say("the turn began", &self.manner.ended)
            .await;
        let header = self.thread.header();
        self.log.thread(header, &self.manner.ended).await;
        loop {
            for approval in std::mem::take(&mut self.snapshot.pending) {
                // What another turn left open is closed when this one begins.
                if self.queued || approval.turn_id == self.turn_id {
                    self.question(approval);
                }
            }
            let end = self.wait().await;
            if let End::Asked = end {
                match self.round().await {
                    Some(response) => return Followed::Part(response),
                    // It was answered meanwhile, or the client has left it already and hears of that.
                    None => continue,
                }
            }
            for (_, settled) in &self.settled {
                settled.cancel();
            }
            // What the client must be told of its forms is told before the result.
            while self.questions.next().await.is_some() {}
            if matches!(end, End::Lost) && self.thread.is_far() {
                match self.take_over().await {
                    Ok(None) => continue,
                    Ok(Some(result)) => return Followed::Whole(result.into()),
                    Err(why) => return Followed::Nobody(why),
                }
            }
            return self.followed(end).await;
        }
    }

    /// Goes on with the turn after the process that held it has died; or it had ended, and this is the result.
    async fn take_over(&mut self) -> Result<Option<CallToolResult>, String> {
        let gone = |error: &dyn std::fmt::Display| error.to_string();
        let threads = self.manner.app.threads();
        let thread = threads.reach(self.thread.id()).await;
        self.thread = thread.map_err(|error| gone(&error))?;
        if self.way != Way::None {
            let lease = self.thread.attend().await;
            self.lease = Some(lease.map_err(|error| gone(&error))?);
        }
        let snapshot = self.thread.subscribe().await;
        self.snapshot = snapshot.map_err(|error| gone(&error))?;
        // Forms that were taken away are shown anew.
        self.settled.clear();
        match finding::named(&self.thread, self.turn_id, self.manner.detail).await? {
            Some(Found::Turn { started, .. }) => {
                self.ended = started.outcome;
                let remark = "the process that worked on it is gone; the turn went on here";
                self.manner.remarks.push(remark.to_owned());
                Ok(None)
            }
            Some(Found::Result { result, .. }) => Ok(Some(*result)),
            None => Err("the process that worked on the turn is gone, and so is the turn".into()),
        }
    }

    async fn followed(mut self, end: End) -> Followed {
        match end {
            End::Turn(outcome) => {
                self.log_the_end(&outcome).await;
                let part = outcome.status == Status::ApprovalRequired;
                let response = self.result(&outcome).into();
                match part {
                    true => Followed::Part(response),
                    false => Followed::Whole(response),
                }
            }
            End::Waited => {
                self.log.flush(&self.manner.ended).await;
                self.linger();
                Followed::Running(self.progress.writes())
            }
            End::Cancelled => self.cancelled().await,
            End::Asked | End::Lost => {
                Followed::Nobody("the thread was lost inside openoxide".to_owned())
            }
            End::Gone if self.manner.eof.is_cancelled() => {
                // While the lease lives, so that a question is kept and not decided for want of an answer.
                let _ = self.thread.leave().await;
                Followed::Nobody("the connection ended; the turn can be resumed".to_owned())
            }
            End::Gone => self.detached("the connection ended; the turn goes on"),
        }
    }

    /// The end of a turn may be known before its last events were heard.
    async fn log_the_end(&mut self, outcome: &Outcome) {
        while let Ok(event) = self.snapshot.events.try_recv() {
            self.log.event(&event, &self.manner.ended).await;
        }
        self.log.end(outcome, &self.manner.ended).await;
    }

    fn result(&self, outcome: &Outcome) -> CallToolResult {
        let Manner {
            detail,
            may_approve,
            remarks,
            ..
        } = &self.manner;
        result::outcome(outcome, *detail, remarks, *may_approve)
    }

    async fn wait(&mut self) -> End {
        let mut budget = self.manner.wait;
        let mut since = Instant::now();
        let mut tick = interval(MERGED);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if std::mem::take(&mut self.to_return) {
                return End::Asked;
            }
            let left = budget.filter(|_| self.questions.is_empty());
            let waited = async {
                match left {
                    Some(left) => tokio::time::sleep_until(since + left).await,
                    None => std::future::pending().await,
                }
            };
            let asked = self.questions.len();
            tokio::select! {
                biased;
                // First, so that who still listens at the end of the server hears of a turn that has ended.
                outcome = &mut self.ended => {
                    // What is left is for who goes on with it.
                    self.manner.wait = left.map(|left| left.saturating_sub(since.elapsed())).or(budget);
                    return outcome.map_or(End::Lost, End::Turn);
                }
                () = self.manner.ended.cancelled() => return End::Gone,
                () = self.call.ct.cancelled() => return End::Cancelled,
                Some((id, answer)) = self.questions.next() => {
                    if answer.is_none() && is_over(&self.manner.ended).await {
                        return End::Gone;
                    }
                    self.answered(id, answer).await;
                }
                event = self.snapshot.events.recv() => match event {
                    Ok(event) => {
                        self.log.event(&event, &self.manner.ended).await;
                        self.event(&event);
                    }
                    // A reader this slow loses deltas; the questions it may have lost are asked again.
                    Err(RecvError::Lagged(missed)) => {
                        self.log.missed(missed, &self.manner.ended).await;
                        self.catch_up().await;
                    }
                    Err(RecvError::Closed) => return End::Lost,
                },
                () = waited => return End::Waited,
                _ = tick.tick() => {
                    self.log.flush(&self.manner.ended).await;
                    self.progress.send_what_is_due(&self.manner.ended).await;
                }
            }
            // A question pauses the budget: it goes on with what was left when the first one came.
            match (asked, self.questions.len()) {
                (0, 1..) => budget = budget.map(|budget| budget.saturating_sub(since.elapsed())),
                (1.., 0) => since = Instant::now(),
                _ => {}
            }
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::ApprovalRequested { approval } => self.question(approval.clone()),
            Event::ApprovalResolved { approval_id, .. } => {
                self.settled
                    .iter()
                    .filter(|(id, _)| id == approval_id)
                    .for_each(|(_, settled)| settled.cancel());
            }
            event => self.progress.note(event),
        }
    }

    async fn catch_up(&mut self) {
        if let Ok(snapshot) = self.thread.subscribe().await {
            self.snapshot.events = snapshot.events;
            snapshot
                .pending
                .into_iter()
                .for_each(|approval| self.question(approval));
        }
    }

    // Questions.

    fn question(&mut self, approval: Approval) {
        match self.way {
            Way::Forms => self.form(approval),
            Way::Rounds => self.to_return = true,
            Way::None => {}
        }
    }

    fn form(&mut self, approval: Approval) {
        if self.settled.iter().any(|(id, _)| *id == approval.id) {
            return;
        }
        let settled = CancellationToken::new();
        self.settled.push((approval.id, settled.clone()));
        let (call, eof) = (self.call, self.manner.ended.clone());
        let extra = match self.manner.codex {
            true => codex::question(
                &approval,
                self.thread.id(),
                &self.thread.header().cwd,
                &call.id,
            ),
            false => JsonObject::new(),
        };
        let ask = async move {
            (
                approval.id,
                questions::ask(call, &approval, extra, settled, &eof).await,
            )
        };
        self.questions.push(ask.boxed());
    }

    async fn answered(&mut self, id: ApprovalId, answer: Option<Answer>) {
        // If somebody else was first, this one has no effect; if the thread is lost, the wait ends.
        match answer {
            Some(answer) => {
                let _ = self
                    .thread
                    .answer(id, answer, ResolvedBy::Elicitation)
                    .await;
            }
            None => {
                let _ = self.thread.give_up(id).await;
            }
        }
    }

    /// All questions that are open, as a result; the client comes back with the answers.
    async fn round(&mut self) -> Option<CallToolResponse> {
        let standing = self.thread.standing().await.ok()??;
        if standing.outcome.approvals.is_empty() || standing.left_open {
            return None;
        }
        let response = match self.manner.rounds.next(&standing.outcome) {
            Some(round) => round.into(),
            None => self.result(&standing.outcome).into(),
        };
        self.linger();
        Some(response)
    }

    /// Questions wait for a client that was invited back.
    fn linger(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.linger(self.manner.park);
        }
    }

    // Ending.

    /// Nobody waits any more, and the turn goes on; whoever makes the call again follows it.
    fn detached(&mut self, why: &'static str) -> Followed {
        self.linger();
        self.manner.asked.given_up(self.turn_id);
        Followed::Nobody(why.to_owned())
    }

    /// The client does not want the answer any more. If it only ran out of time the turn goes on.
    async fn cancelled(mut self) -> Followed {
        let detach = match self.manner.on_cancel {
            OnCancel::Detach => true,
            OnCancel::Interrupt => false,
            OnCancel::Auto => self
                .open_call
                .reason()
                .await
                .is_some_and(|reason| ran_out_of_time(&reason)),
        };
        if detach {
            return self.detached("cancelled");
        }
        // Before the turn ends: whoever makes the call again means a new one.
        self.manner.asked.settled(self.turn_id);
        self.ended.close();
        if let Ok(Abandoned::Stopped(ended)) = self.thread.abandon(self.turn_id).await {
            // Its processes are gone when the turn has ended.
            let _ = ended.await;
        }
        Followed::Nobody("cancelled".to_owned())
    }
}

/// A question that comes back without an answer may be the first that is heard of the end of the connection.
async fn is_over(ended: &CancellationToken) -> bool {
    tokio::time::timeout(PARTING, ended.cancelled())
        .await
        .is_ok()
}
