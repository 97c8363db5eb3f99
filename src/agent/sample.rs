//! One sample of a turn: what the model streamed, and the calls in it.
//!
//! A call that only reads starts as soon as the model has completed it, if no acting call stands before it; everything
//! else waits until the sample is whole. Before a call starts, all items up to it are recorded; so a sample that is cut
//! keeps its items up to the last call that started, and the rest of it never was.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Report;
use crate::{
    conversation::{Event, Item, OutputStatus, ToolCall, ToolOutput, Usage, shown_line},
    model::{Model, ModelError, ModelEvent, Request},
    tools::{
        Host,
        gate::{Gate, Passed},
    },
};

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
        model: &dyn Model,
        request: Request,
        usage: &mut Usage,
    ) -> Result<StreamEnd, StorageError> {
        let mut stream = model.stream(request);
        usage.requests += 1;
        loop {
            let event = tokio::select! {
                biased;
                () = self.means.stop.cancelled() => return Ok(StreamEnd::Stopped),
                event = stream.next() => event,
            };
            match event {
                Some(Ok(ModelEvent::TextDelta(text))) => {
                    self.means.report.publish(Event::TextDelta { text })
                }
                Some(Ok(ModelEvent::ReasoningDelta(_))) => {}
                Some(Ok(ModelEvent::Item(item))) => self.take(item).await?,
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

    async fn take(&mut self, item: Item) -> Result<(), StorageError> {
        let call = match &item {
            Item::ToolCall(call) => Some(call.clone()),
            _ => None,
        };
        self.items.push(item);
        let Some(call) = call else { return Ok(()) };
        let only_reads = self.means.gate.only_reads(&call.name);
        let at_once = only_reads && self.calls.iter().all(|before| before.only_reads);
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
        let message = format!(
            "{}; trying again in {:.1} s",
            shown_line(&error.message),
            after.as_secs_f64()
        );
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

    /// True if the model called nothing.
    pub(super) fn is_final(&self) -> bool {
        self.calls.is_empty()
    }

    /// Runs what has not run and gives the outputs in the order of the calls, each recorded.
    pub(super) async fn finish(&mut self) -> Result<Vec<Passed>, StorageError> {
        let mut all = Vec::new();
        let mut aborted = false;
        while !self.calls.is_empty() {
            self.start_next(aborted);
            let Some(pending) = self.calls.pop_front() else {
                break;
            };
            let passed = pending.end(&self.means).await;
            aborted |= passed.abort;
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
            self.calls.iter().take_while(|call| call.only_reads).count()
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
            Stage::Waits => return means.gate.interrupted(&self.call),
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

/// The output of a call that began in a process that is gone.
fn lost(call: &ToolCall) -> Passed {
    ended(call, OutputStatus::Interrupted, EFFECTS_UNKNOWN)
}

fn broken(call: &ToolCall, content: &str) -> Passed {
    ended(call, OutputStatus::Failed, content)
}

fn ended(call: &ToolCall, status: OutputStatus, content: &str) -> Passed {
    let output = ToolOutput {
        call_id: call.call_id.clone(),
        status,
        content: content.to_owned(),
        command: None,
    };
    Passed {
        output,
        denied: None,
        abort: false,
    }
}

fn ended_early() -> ModelError {
    ModelError {
        kind: crate::model::ModelErrorKind::Unreachable,
        message: "the model's stream ended without an end".to_owned(),
        retry_after: None,
    }
}
