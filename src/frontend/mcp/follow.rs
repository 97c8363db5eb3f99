//! A call that follows a turn: shows progress, carries questions, and waits for the end.
//!
//! Ended by the turn, by the wait budget, by a cancellation, or by the end of the connection; the turn itself lives in
//! its thread. Everything is awaited in the task of the call. A question that is open pauses the wait budget.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rmcp::{
    RoleServer,
    model::{CallToolResult, JsonObject, NotificationMetaObject, ProgressNotificationParam},
    service::RequestContext,
};
use serde_json::json;
use tokio::{
    sync::{broadcast::error::RecvError, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    arguments::Detail,
    cancel::{Cancellations, OpenCall, ran_out_of_time},
    codex, questions, result,
};
use crate::{
    config::OnCancel,
    conversation::{
        Answer, Approval, ApprovalId, Decision, Event, Outcome, ResolvedBy, TurnId, shortened,
        shown_line,
    },
    thread::{Lease, Snapshot, Started, ThreadHandle},
};

/// Between two notifications of progress.
const MERGED: Duration = Duration::from_millis(250);
/// Without anything new.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Characters of a message.
const MESSAGE: usize = 190;

/// What a call that follows needs to know.
pub(super) struct Manner {
    pub(super) wait: Option<Duration>,
    pub(super) detail: Detail,
    pub(super) on_cancel: OnCancel,
    /// Questions carry what clients of that peer look for.
    pub(super) codex: bool,
    /// Said with the outcome.
    pub(super) remark: Option<String>,
    pub(super) eof: CancellationToken,
}

/// One call and the turn it follows.
pub(super) struct Follower<'a> {
    thread: ThreadHandle,
    turn_id: TurnId,
    ended: oneshot::Receiver<Arc<Outcome>>,
    snapshot: Snapshot,
    call: &'a RequestContext<RoleServer>,
    open_call: OpenCall<'a>,
    manner: Manner,
    progress: Progress,
    questions: FuturesUnordered<BoxFuture<'a, (ApprovalId, Option<Answer>)>>,
    /// Cancelled when this call ends, so that the client takes its forms away.
    settled: Vec<(ApprovalId, CancellationToken)>,
    /// Questions wait while this call can carry them.
    _lease: Option<Lease>,
}

/// Why the wait is over.
enum End {
    Turn(Arc<Outcome>),
    Lost,
    Waited,
    Cancelled,
    Eof,
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
            progress: Progress::new(call, &thread),
            thread,
            turn_id: started.turn_id,
            ended: started.outcome,
            snapshot,
            call,
            open_call: cancellations.open(call.id.clone()),
            manner,
            questions: FuturesUnordered::new(),
            settled: Vec::new(),
            _lease: lease,
        }
    }

    /// Waits, and gives the result of the call.
    pub(super) async fn drive(mut self) -> CallToolResult {
        self.progress.say("the turn began").await;
        for approval in std::mem::take(&mut self.snapshot.pending) {
            self.question(approval);
        }
        let end = self.wait().await;
        for (_, settled) in &self.settled {
            settled.cancel();
        }
        // What the client must be told of its forms is told before the result.
        while self.questions.next().await.is_some() {}
        match end {
            End::Turn(outcome) => {
                result::outcome(&outcome, self.manner.detail, self.manner.remark.as_deref())
            }
            End::Waited => result::running(self.thread.id(), self.turn_id, &self.progress.news),
            End::Cancelled => {
                self.cancelled().await;
                result::refused("cancelled")
            }
            End::Lost => result::refused("the thread was lost inside openoxide"),
            End::Eof => {
                result::refused("the connection ended; the turn was interrupted and can be resumed")
            }
        }
    }

    async fn wait(&mut self) -> End {
        let mut budget = self.manner.wait;
        let mut since = Instant::now();
        let mut tick = interval(MERGED);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
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
                () = self.manner.eof.cancelled() => return End::Eof,
                () = self.call.ct.cancelled() => return End::Cancelled,
                outcome = &mut self.ended => return outcome.map_or(End::Lost, End::Turn),
                Some((id, answer)) = self.questions.next() => self.answered(id, answer).await,
                event = self.snapshot.events.recv() => match event {
                    Ok(event) => self.event(&event),
                    // A reader this slow loses deltas; the questions it may have lost are asked again.
                    Err(RecvError::Lagged(_)) => self.catch_up().await,
                    Err(RecvError::Closed) => return End::Lost,
                },
                () = waited => return End::Waited,
                _ = tick.tick() => self.progress.send_what_is_due(&self.manner.eof).await,
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

    fn question(&mut self, approval: Approval) {
        if !questions::can_be_asked(self.call)
            || self.settled.iter().any(|(id, _)| *id == approval.id)
        {
            return;
        }
        let settled = CancellationToken::new();
        self.settled.push((approval.id, settled.clone()));
        let (call, eof) = (self.call, self.manner.eof.clone());
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
        let (answer, by) = match answer {
            Some(answer) => (answer, ResolvedBy::Elicitation),
            None => (Answer::from(Decision::Deny), ResolvedBy::Unattended),
        };
        // If somebody else was first, this one has no effect.
        let _ = self.thread.answer(id, answer, by).await;
    }

    /// The client does not want the answer any more. If it only ran out of time the turn goes on.
    async fn cancelled(&mut self) {
        let detach = match self.manner.on_cancel {
            OnCancel::Detach => true,
            OnCancel::Interrupt => false,
            OnCancel::Auto => self
                .open_call
                .reason()
                .await
                .is_some_and(|reason| ran_out_of_time(&reason)),
        };
        if !detach && self.thread.interrupt(Some(self.turn_id)).await.is_ok() {
            // Its processes are gone when the turn has ended.
            let _ = (&mut self.ended).await;
        }
    }
}

/// `notifications/progress`: the first at once, then what is new, merged, with a heartbeat.
struct Progress {
    call: Option<(RequestContext<RoleServer>, rmcp::model::ProgressToken)>,
    thread_id: String,
    value: f64,
    /// The newest thing worth saying.
    news: String,
    fresh: bool,
    /// The end of what the model is writing.
    line: String,
    last: Instant,
}

impl Progress {
    fn new(call: &RequestContext<RoleServer>, thread: &ThreadHandle) -> Self {
        let token = call.meta.get_progress_token();
        Self {
            call: token.map(|token| (call.clone(), token)),
            thread_id: thread.id().to_string(),
            value: 0.0,
            news: String::new(),
            fresh: false,
            line: String::new(),
            last: Instant::now(),
        }
    }

    fn note(&mut self, event: &Event) {
        let news = match event {
            Event::CallStarted { title, .. } => title.clone(),
            Event::FileChanged {
                path,
                added,
                removed,
                ..
            } => format!("edit: {path} +{added} −{removed}"),
            Event::CallOutput { line, .. } => line.clone(),
            Event::Warning { message } => message.clone(),
            Event::TextDelta { text } => self.written(text),
            Event::TextWithdrawn => {
                self.line.clear();
                return;
            }
            Event::TurnStarted { .. }
            | Event::ItemCompleted { .. }
            | Event::ApprovalRequested { .. }
            | Event::ApprovalResolved { .. }
            | Event::TurnCompleted { .. } => return,
        };
        if !news.trim().is_empty() {
            self.news = shortened(&shown_line(news.trim()), MESSAGE);
            self.fresh = true;
        }
    }

    /// The line that the model is at.
    fn written(&mut self, text: &str) -> String {
        self.line.push_str(text);
        let start = self.line.trim_end().rfind('\n').map_or(0, |at| at + 1);
        self.line.drain(..start);
        if self.line.len() > 4 * MESSAGE {
            let cut = self.line.ceil_char_boundary(self.line.len() - 2 * MESSAGE);
            self.line.drain(..cut);
        }
        self.line.clone()
    }

    async fn say(&mut self, message: &str) {
        message.clone_into(&mut self.news);
        self.fresh = true;
        self.send(&CancellationToken::new()).await;
    }

    async fn send_what_is_due(&mut self, eof: &CancellationToken) {
        if self.fresh || self.last.elapsed() >= HEARTBEAT {
            self.send(eof).await;
        }
    }

    async fn send(&mut self, eof: &CancellationToken) {
        self.fresh = false;
        self.last = Instant::now();
        let Some((call, token)) = &self.call else {
            return;
        };
        self.value += 1.0;
        let mut meta = NotificationMetaObject::new();
        meta.insert("requestId".to_owned(), call.id.clone().into_json_value());
        meta.insert("threadId".to_owned(), json!(self.thread_id));
        let mut step = ProgressNotificationParam::new(token.clone(), self.value)
            .with_message(self.news.clone());
        step.meta = Some(meta);
        tokio::select! {
            // A client that is gone is noticed by the reader.
            _ = call.peer.notify_progress(step) => {}
            () = eof.cancelled() => {}
        }
    }
}
