//! The loop: sample the model, run what it called, until it calls nothing or something ends it.
//!
//! A turn is a task with a copy of the conversation. Each item goes to [`Report`] before anything is done about it. What
//! ends a turn: the model's last word, an error that no retry mends, a limit, a person who says abort, or `stop`.
//!
//! A turn that another process left goes on with the calls that it left open, and only then samples again: a call that
//! never started runs now, one that did is closed, since nobody knows what it did.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    Limits, Report, Tally,
    compact::{Compacted, Readable, compact},
    context::History,
    sample::{Left, Means, Sample, StorageError, StreamEnd},
};
use crate::{
    conversation::{Event, Item, Status, TurnError, TurnErrorKind, Usage},
    model::{Head, ModelError, ModelErrorKind, Request},
    tools::{
        Host,
        gate::{Gate, Passed},
    },
};

/// Samples in a row that may break off after a call had started.
const CUTS_IN_A_ROW: u32 = 5;

/// The share of the window, in percent, at which a conversation is compacted: what follows must fit too.
const NEAR: u64 = 80;

/// Bytes of all outputs of one sample together, at most and where nothing is known of the window.
const OUTPUTS: usize = 400_000;

/// What a turn is made of.
pub struct Turn {
    /// Instructions and tools.
    pub head: Arc<Head>,
    /// The conversation, the new message included.
    pub history: History,
    /// Calls at the end of the conversation that have no output, in order.
    pub left: Vec<Left>,
    /// What it had come to when it was left.
    pub tally: Tally,
    /// What stands before the tools.
    pub gate: Arc<Gate>,
    /// What ends it early.
    pub limits: Limits,
    /// For the tools.
    pub host: Arc<dyn Host>,
    /// For the items.
    pub report: Arc<dyn Report>,
    /// Cancelled to interrupt.
    pub stop: CancellationToken,
}

/// What a turn came to; the thread makes an outcome of it.
pub struct TurnEnd {
    /// How it ended.
    pub status: Status,
    /// What it did.
    pub tally: Tally,
    /// Why it did not complete.
    pub error: Option<TurnError>,
    /// The conversation, to go on from.
    pub history: History,
    /// How long it took.
    pub took: Duration,
}

/// Why the loop ends.
struct Ending {
    status: Status,
    error: Option<TurnError>,
}

/// What one step came to.
enum Step {
    Again,
    End(Ending),
}

impl Turn {
    /// Runs it to its end.
    pub async fn run(self) -> TurnEnd {
        let interrupted = self.stop.clone();
        let stop = self.stop.child_token();
        let limit = Duration::try_from_secs_f64(self.limits.max_seconds).unwrap_or(Duration::MAX);
        let timer = {
            let stop = stop.clone();
            tokio::spawn(async move {
                tokio::time::sleep(limit).await;
                stop.cancel();
            })
        };
        let mut run = Run {
            means: Means {
                gate: self.gate,
                host: self.host,
                report: self.report,
                stop,
            },
            interrupted,
            head: self.head,
            history: self.history,
            limits: self.limits,
            cuts: 0,
            refused: false,
            told: (self.tally.commands.len(), self.tally.denied.len()),
            tally: self.tally,
        };
        let started = Instant::now();
        let ending = run.drive(self.left).await;
        timer.abort();
        run.tally.commands.extend(run.means.gate.unfinished());
        run.means.gate.rest();
        TurnEnd {
            status: ending.status,
            error: ending.error,
            tally: run.tally,
            history: run.history,
            took: started.elapsed(),
        }
    }
}

/// A turn on its way.
struct Run {
    means: Means,
    /// The token from above; `means.stop` is also cancelled by the limit on time.
    interrupted: CancellationToken,
    head: Arc<Head>,
    history: History,
    limits: Limits,
    cuts: u32,
    /// The provider would not take the conversation after it had been compacted.
    refused: bool,
    tally: Tally,
    /// Commands and refusals of it that the thread knows.
    told: (usize, usize),
}

impl Run {
    async fn drive(&mut self, left: Vec<Left>) -> Ending {
        let mut steps = 0;
        let mut step = match left.is_empty() {
            true => Ok(Step::Again),
            false => self.take_up(left).await,
        };
        loop {
            match step {
                Ok(Step::Again) => {}
                Ok(Step::End(ending)) => return ending,
                Err(error) => return self.unrecorded(error),
            }
            if let Some(ending) = self.over_limit(steps) {
                return ending;
            }
            steps += 1;
            step = match self.is_near_the_window() {
                true => self.compact(Readable::Whole).await,
                false => self.step().await,
            };
        }
    }

    /// Ends what runs beside: it must not go on without records.
    fn unrecorded(&self, StorageError(message): StorageError) -> Ending {
        self.means.stop.cancel();
        let message = format!("a record could not be written, so nothing more was done: {message}");
        failed(TurnErrorKind::Storage, message)
    }

    /// Goes on with the calls that were left open.
    async fn take_up(&mut self, left: Vec<Left>) -> Result<Step, StorageError> {
        let mut sample = Sample::left(self.means.clone(), left);
        let aborted = self.run_calls(&mut sample).await?;
        Ok(self.ended(aborted).map_or(Step::Again, Step::End))
    }

    fn over_limit(&self, steps: u64) -> Option<Ending> {
        let Limits {
            max_steps,
            max_tokens,
            ..
        } = self.limits;
        if self.means.stop.is_cancelled() {
            return Some(self.stopped());
        }
        let (kind, what) = if steps >= max_steps {
            (
                TurnErrorKind::StepLimit,
                format!("the turn used its {max_steps} steps (`limits.max_steps`)"),
            )
        } else if self.tally.spent >= max_tokens {
            (
                TurnErrorKind::TokenLimit,
                format!("the turn used its {max_tokens} tokens (`limits.max_tokens`)"),
            )
        } else if self.with_the_next() > max_tokens {
            (
                TurnErrorKind::TokenLimit,
                format!(
                    "one more request would be more than the {max_tokens} tokens of the turn (`limits.max_tokens`)"
                ),
            )
        } else {
            return None;
        };
        Some(Ending {
            status: Status::LimitReached,
            error: Some(TurnError {
                kind,
                message: what,
            }),
        })
    }

    /// One request to the model and the calls that come of it.
    async fn step(&mut self) -> Result<Step, StorageError> {
        let mut sample = Sample::new(self.means.clone());
        let request = Request {
            head: self.head.clone(),
            input: self.history.encoded(),
        };
        let end = sample
            .read(&self.history, request, &mut self.tally.usage)
            .await?;
        match &end {
            StreamEnd::Done(used) => {
                // Requests are counted as they are made, so that those of a failed sample count too.
                self.tally.usage += Usage {
                    requests: 0,
                    ..*used
                };
                self.cuts = 0;
                self.refused = false;
                sample.record().await?;
            }
            StreamEnd::Failed(error) if sample.is_nothing() && self.can_be_shorter(error) => {
                self.refused = true;
                return self.compact(Readable::TooLong).await;
            }
            StreamEnd::Cut(_) | StreamEnd::Failed(_) | StreamEnd::Stopped => sample.keep_recorded(),
        }
        self.history.extend(sample.items());
        if let StreamEnd::Done(used) = &end {
            self.spend(*used);
        }
        if let Some(text) = sample.text() {
            self.tally.content = text.to_owned();
        }
        let last_word = sample.is_final();
        let aborted = self.run_calls(&mut sample).await?;
        Ok(self.after(end, last_word, aborted).await)
    }

    /// Runs the calls of a sample to their outputs. True if somebody asked for the turn to end.
    async fn run_calls(&mut self, sample: &mut Sample) -> Result<bool, StorageError> {
        // Before the calls, since one of them may ask, and whoever is asked sees what there is so far.
        let (commands, denied) = self.told;
        self.told = (self.tally.commands.len(), self.tally.denied.len());
        let more = self.tally.since(commands, denied);
        self.means.report.so_far(more).await;
        let passed = sample.finish(self.room_for_outputs()).await?;
        let outputs: Vec<Item> = passed
            .iter()
            .map(|passed| Item::ToolOutput(passed.output.clone()))
            .collect();
        self.history.extend(&outputs);
        let aborted = passed.iter().any(|passed| passed.abort);
        self.note(passed);
        Ok(aborted)
    }

    /// Counts a sample, whose items stand in the history.
    fn spend(&mut self, used: Usage) {
        if used.input_tokens > 0 {
            self.history.count(used.total());
        }
        self.tally.spent += self.tokens();
    }

    /// Tokens so far and of the next request, as far as the provider has counted what stands in it. The first request of a
    /// turn is always made, or a thread that is longer than a budget could never go on.
    fn with_the_next(&self) -> u64 {
        match self.tally.spent {
            0 => 0,
            spent => spent + self.history.counted().unwrap_or(0),
        }
    }

    /// Whether `error` says that the conversation is too long, and that can be helped.
    fn can_be_shorter(&self, error: &ModelError) -> bool {
        error.kind == ModelErrorKind::ContextLength
            && !self.refused
            && self.history.can_be_compacted()
    }

    fn is_near_the_window(&self) -> bool {
        let Some(window) = self.history.model().window() else {
            return false;
        };
        self.history.can_be_compacted() && self.tokens() > window * NEAR / 100
    }

    /// Of the next request.
    fn tokens(&self) -> u64 {
        self.history.tokens(self.head.size())
    }

    /// A quarter of the window, in bytes.
    fn room_for_outputs(&self) -> usize {
        let window = self.history.model().window();
        window.map_or(OUTPUTS, |tokens| OUTPUTS.min(tokens as usize))
    }

    /// Lets the conversation begin anew with what is needed of it. A step by itself, since it is a request.
    async fn compact(&mut self, readable: Readable) -> Result<Step, StorageError> {
        let message = format!(
            "the conversation is near the window of `{}` ({} tokens): it is summed up",
            self.history.model().name(),
            self.tokens()
        );
        self.means.report.publish(Event::Warning { message });
        let compacted = compact(
            &self.history,
            &self.head,
            readable,
            &self.means,
            &mut self.tally.usage,
        );
        match compacted.await {
            Compacted::To(item) => {
                self.means
                    .report
                    .record(item.clone())
                    .await
                    .map_err(StorageError)?;
                self.tally.spent += self.tokens();
                self.history.begin_anew(&item);
                Ok(Step::Again)
            }
            Compacted::Failed(error) => Ok(Step::End(model_failed(error))),
            Compacted::Stopped => Ok(Step::End(self.stopped())),
        }
    }

    async fn after(&mut self, end: StreamEnd, last_word: bool, aborted: bool) -> Step {
        let ended = self.ended(aborted);
        match end {
            StreamEnd::Failed(error) => Step::End(model_failed(error)),
            _ if ended.is_some() => ended.map_or(Step::Again, Step::End),
            StreamEnd::Cut(_) if self.cuts >= CUTS_IN_A_ROW => {
                let message = "the model's stream broke off again and again".to_owned();
                Step::End(failed(TurnErrorKind::ModelUnreachable, message))
            }
            StreamEnd::Cut(wait) => {
                self.cuts += 1;
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.means.stop.cancelled() => {}
                }
                Step::Again
            }
            StreamEnd::Done(_) if last_word => Step::End(Ending {
                status: Status::Completed,
                error: None,
            }),
            StreamEnd::Done(_) | StreamEnd::Stopped => Step::Again,
        }
    }

    /// Why the turn does not go on, if it does not.
    fn ended(&self, aborted: bool) -> Option<Ending> {
        if self.means.stop.is_cancelled() {
            return Some(self.stopped());
        }
        aborted.then(|| interrupted("the turn was ended instead of approved"))
    }

    fn note(&mut self, passed: Vec<Passed>) {
        for one in passed {
            self.tally.commands.extend(one.output.command);
            self.tally.denied.extend(one.denied);
        }
    }

    /// Why `means.stop` is cancelled.
    fn stopped(&self) -> Ending {
        if self.interrupted.is_cancelled() {
            return interrupted("the turn was interrupted");
        }
        let message = format!(
            "the turn used its {} seconds (`limits.max_seconds`)",
            self.limits.max_seconds
        );
        Ending {
            status: Status::LimitReached,
            error: Some(TurnError {
                kind: TurnErrorKind::TimeLimit,
                message,
            }),
        }
    }
}

fn interrupted(message: &str) -> Ending {
    let error = TurnError {
        kind: TurnErrorKind::Interrupted,
        message: message.to_owned(),
    };
    Ending {
        status: Status::Interrupted,
        error: Some(error),
    }
}

fn failed(kind: TurnErrorKind, message: String) -> Ending {
    Ending {
        status: Status::Failed,
        error: Some(TurnError { kind, message }),
    }
}

fn model_failed(error: ModelError) -> Ending {
    failed(error.kind.into(), error.message)
}
