//! One sample of a turn: what the model streamed, and the calls in it.
//!
//! A call that only reads starts as soon as the model has completed it, if no acting call stands before it; everything
//! else waits until the sample is whole. Before a call starts, all items up to it are recorded; so a sample that is cut
//! keeps its items up to the last call that started, and the rest of it never was.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Report, context::History};
use crate::{
    conversation::{CallId, Event, Item, OutputStatus, ToolCall, Usage, shown_line},
    model::{CALLS_LIMIT, ModelError, ModelErrorKind, ModelEvent, Request, new_call_id},
    tools::{
        Host,
        gate::{Gate, Passed},
    },
};

/// Calls that run side by side. More would hold more in memory and be no quicker.
const SIDE_BY_SIDE: usize = 16;

/// Of an output, where the outputs of its sample are together too long.
const CUT_OUTPUT: usize = 400;

/// How long a call that was told to stop may take before it is left behind.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What the model reads of a call that was cut in its run.
pub const EFFECTS_UNKNOWN: &str =
    "interrupted while it ran; its effects are unknown, so look before repeating it";

/// What the calls and the stream of a sample need.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) gate: Arc<Gate>,
    pub(super) host: Arc<dyn Host>,
    pub(super) report: Arc<dyn Report>,
    pub(super) stop: CancellationToken,
}

/// What was sampled so far.
pub(super) struct Sample {
    means: Means,
    /// Complete items, in order.
    items: Vec<Item>,
    /// How many of them are recorded.
    recorded: usize,
    calls: VecDeque<Pending>,
}

/// A call on its way.
struct Pending {
    call: ToolCall,
    only_reads: bool,
    stage: Stage,
}

/// How far a call is.
enum Stage {
    Waits,
    Runs(JoinHandle<Passed>),
    /// It began in a process that is gone.
    Lost,
}

/// A call that another process left without an output.
#[derive(Clone, Debug)]
pub struct Left {
    /// The call.
    pub call: ToolCall,
    /// It had begun, so its effects are unknown and it never runs again.
    pub started: bool,
}

/// How the stream of a sample ended.
pub(super) enum StreamEnd {
    /// Whole.
    Done(Usage),
    /// It broke after a call had started: what stands goes into the history, and a new sample follows after a wait.
    Cut(Duration),
    /// For good.
    Failed(ModelError),
    /// The turn was stopped.
    Stopped,
}

/// A record that could not be written.
pub(super) struct StorageError(pub(super) String);

impl Sample {
    pub(super) fn new(means: Means) -> Self {
        Self {
            means,
            items: Vec::new(),
            recorded: 0,
            calls: VecDeque::new(),
        }
    }

    /// The end of a sample that was read in another process.
    pub(super) fn left(means: Means, left: Vec<Left>) -> Self {
        let calls = left.into_iter().map(|Left { call, started }| Pending {
            only_reads: means.gate.only_reads(&call.name),
            call,
            stage: if started { Stage::Lost } else { Stage::Waits },
        });
        Self {
            calls: calls.collect(),
            ..Self::new(means)
        }
    }

    /// Reads the model's stream to its end.
    pub(super) async fn read(
        &mut self,
        history: &History,
        request: Request,
        usage: &mut Usage,
    ) -> Result<StreamEnd, StorageError> {
        let mut stream = history.model().stream(request);
        usage.requests += 1;
        loop {
            let event = tokio::select! {
                biased;
                () = self.means.stop.cancelled() => return Ok(StreamEnd::Stopped),
                event = stream.next() => event,
            };
            match event {
                Some(Ok(ModelEvent::TextDelta(text))) => {
                    let text = self.means.gate.redactor.clean(text);
                    self.means.report.publish(Event::TextDelta { text })
                }
                Some(Ok(ModelEvent::ReasoningDelta(_))) => {}
                Some(Ok(ModelEvent::Item(item))) => {
                    let item = item.cleaned(&self.means.gate.redactor);
                    self.take(self.by_its_own_name(item, history)).await?;
                    if self.calls.len() >= CALLS_LIMIT {
                        return Ok(self.enough());
                    }
                }
                Some(Ok(ModelEvent::Retrying { after, error })) => {
                    self.withdraw(after, &error);
                    if self.recorded > 0 {
                        return Ok(StreamEnd::Cut(after));
                    }
                    usage.requests += 1;
                }
                Some(Ok(ModelEvent::Done(used))) => return Ok(StreamEnd::Done(used)),
                Some(Err(error)) => return Ok(StreamEnd::Failed(error)),
                None => return Ok(StreamEnd::Failed(ended_early())),
            }
        }
    }

    /// `item` with a name that no call has: some models count theirs from 0 in every sample, and an output must say
    /// which call it answers.
    fn by_its_own_name(&self, item: Item, history: &History) -> Item {
        let is_taken = |id: &CallId| {
            history.has_call(id) || self.calls.iter().any(|known| known.call.call_id == *id)
        };
        match item {
            Item::ToolCall(call) if is_taken(&call.call_id) => Item::ToolCall(ToolCall {
                call_id: new_call_id(),
                ..call
            }),
            item => item,
        }
    }

    /// The model goes on calling: what it called so far is run and shown to it.
    fn enough(&self) -> StreamEnd {
        let message = format!("the model called {CALLS_LIMIT} tools at once and was stopped there");
        self.means.report.publish(Event::Warning { message });
        StreamEnd::Done(Usage::default())
    }

    async fn take(&mut self, item: Item) -> Result<(), StorageError> {
        let call = match &item {
            Item::ToolCall(call) => Some(call.clone()),
            _ => None,
        };
        self.items.push(item);
        let Some(call) = call else { return Ok(()) };
        let only_reads = self.means.gate.only_reads(&call.name);
        let at_once = only_reads
            && self.calls.len() < SIDE_BY_SIDE
            && self.calls.iter().all(|before| before.only_reads);
        let mut pending = Pending {
            call,
            only_reads,
            stage: Stage::Waits,
        };
        if at_once {
            self.record().await?;
            pending.start(&self.means);
        }
        self.calls.push_back(pending);
        Ok(())
    }

    /// Forgets what was not recorded, and says so.
    fn withdraw(&mut self, after: Duration, error: &ModelError) {
        self.keep_recorded();
        self.means.report.publish(Event::TextWithdrawn);
        let message = trying_again(error, after);
        self.means.report.publish(Event::Warning { message });
    }

    /// Records every complete item.
    pub(super) async fn record(&mut self) -> Result<(), StorageError> {
        for item in &self.items[self.recorded..] {
            self.means
                .report
                .record(item.clone())
                .await
                .map_err(StorageError)?;
            self.recorded += 1;
        }
        Ok(())
    }

    /// Forgets what was not recorded: the sample was cut.
    pub(super) fn keep_recorded(&mut self) {
        self.items.truncate(self.recorded);
        self.calls
            .retain(|pending| !matches!(pending.stage, Stage::Waits));
    }

    /// The items, for the history.
    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    /// The last thing the model said in it.
    pub(super) fn text(&self) -> Option<&str> {
        self.items.iter().rev().find_map(|item| match item {
            Item::AgentMessage { text, .. } if !text.is_empty() => Some(text.as_str()),
            _ => None,
        })
    }

    /// True if nothing of it is recorded, so that it never was.
    pub(super) fn is_nothing(&self) -> bool {
        self.recorded == 0
    }

    /// True if the model called nothing.
    pub(super) fn is_final(&self) -> bool {
        self.calls.is_empty()
    }

    /// Runs what has not run and gives the outputs in the order of the calls, each recorded. Those that come when there
    /// are `limit` bytes of them are cut: a thousand reads at once must not fill the window.
    pub(super) async fn finish(&mut self, limit: usize) -> Result<Vec<Passed>, StorageError> {
        let mut all = Vec::new();
        let mut bytes = 0;
        let mut aborted = false;
        while !self.calls.is_empty() {
            self.start_next(aborted);
            let Some(pending) = self.calls.pop_front() else {
                break;
            };
            let mut passed = pending.end(&self.means).await;
            aborted |= passed.abort;
            if bytes + passed.output.content.len() > limit {
                cut(&mut passed.output.content);
            }
            bytes += passed.output.content.len();
            self.means
                .report
                .record(Item::ToolOutput(passed.output.clone()))
                .await
                .map_err(StorageError)?;
            all.push(passed);
        }
        Ok(all)
    }

    /// Starts the first call, and with one that only reads those like it right behind.
    fn start_next(&mut self, aborted: bool) {
        if aborted || self.means.stop.is_cancelled() {
            return;
        }
        let acts = self.calls.front().is_some_and(|first| !first.only_reads);
        let side_by_side = if acts {
            1
        } else {
            let reads = self.calls.iter().take_while(|call| call.only_reads);
            reads.take(SIDE_BY_SIDE).count()
        };
        for pending in self.calls.iter_mut().take(side_by_side) {
            pending.start(&self.means);
        }
    }
}

impl Pending {
    fn start(&mut self, means: &Means) {
        if matches!(self.stage, Stage::Waits) {
            let (means, call) = (means.clone(), self.call.clone());
            self.stage = Stage::Runs(tokio::spawn(async move {
                means.gate.pass(&call, means.host, means.stop).await
            }));
        }
    }

    /// Waits for the output. Ended by the tool, or by [`STOP_GRACE`] after the turn was stopped.
    async fn end(self, means: &Means) -> Passed {
        let mut running = match self.stage {
            Stage::Waits => return Passed::interrupted(&self.call),
            Stage::Lost => return lost(&self.call),
            Stage::Runs(running) => running,
        };
        let late = async {
            means.stop.cancelled().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            biased;
            ended = &mut running => ended.unwrap_or_else(|_| broken(&self.call, "the call broke down inside openoxide")),
            () = late => {
                running.abort();
                broken(&self.call, "the call did not stop in time and was left; look before repeating it")
            }
        }
    }
}

/// That a wait follows, and why.
pub(super) fn trying_again(error: &ModelError, after: Duration) -> String {
    format!(
        "{}; trying again in {:.1} s",
        shown_line(&error.message),
        after.as_secs_f64()
    )
}

fn cut(content: &mut String) {
    if content.len() > CUT_OUTPUT {
        content.truncate(content.floor_char_boundary(CUT_OUTPUT));
        content.push_str("\n[cut: the outputs of these calls are together too long; ask for this again by itself]");
    }
}

/// The output of a call that began in a process that is gone.
fn lost(call: &ToolCall) -> Passed {
    Passed::with(call, OutputStatus::Interrupted, EFFECTS_UNKNOWN.to_owned())
}

fn broken(call: &ToolCall, content: &str) -> Passed {
    Passed::with(call, OutputStatus::Failed, content.to_owned())
}

fn ended_early() -> ModelError {
    ModelError {
        kind: ModelErrorKind::Unreachable,
        message: "the model's stream ended without an end".to_owned(),
        retry_after: None,
    }
}
