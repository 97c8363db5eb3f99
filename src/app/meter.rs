//! What the threads of one tenant did, in numbers: a store around the store and a model around the model.
//!
//! Nothing that works knows that it is counted. Turns, calls and questions are seen as they are recorded, samples as
//! they stream. The numbers are those of this process; one that was killed begins at zero.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use serde_json::value::RawValue;

use crate::{
    conversation::{ApprovalId, Decision, Item, Status, ThreadId, TurnId, Usage},
    model::{Model, ModelError, ModelEvent, Request},
    thread::{Header, Loaded, Record, StoreError, ThreadStore, ThreadSummary, store::Journal},
};

/// Names of tools that are told apart: a model may call what it likes.
const TOOLS: usize = 64;
/// The name of all others.
const OTHER: &str = "other";

/// The upper ends of times that are counted together, in seconds.
pub const BOUNDS: [f64; 10] = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// The numbers of one tenant. The lock is held for an addition; nobody awaits under it.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Mutex<Counts>>);

/// The numbers as they stand.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Threads that were made.
    pub threads: u64,
    /// Turns that run, questions that wait included.
    pub running: BTreeMap<TurnId, Instant>,
    /// Turns that ended, by how.
    pub turns: BTreeMap<&'static str, u64>,
    /// How long they took.
    pub turn_seconds: Times,
    /// Requests to the model.
    pub steps: u64,
    /// Of these, those that failed for good.
    pub failed_steps: u64,
    /// From a request to the first that comes of it.
    pub first_seconds: Times,
    /// From a request to the end of its answer.
    pub step_seconds: Times,
    /// Calls, by tool.
    pub calls: BTreeMap<String, u64>,
    /// Questions that were asked.
    pub asked: u64,
    /// Questions that were decided, by how.
    pub decided: BTreeMap<&'static str, u64>,
    /// How long they waited.
    pub waited_seconds: Times,
    /// Tokens, all samples together.
    pub usage: Usage,
}

/// Many times, as far as their distribution matters.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// How many were at most as long as each of [`BOUNDS`].
    pub within: [u64; BOUNDS.len()],
    /// How many.
    pub count: u64,
    /// All together, in seconds.
    pub sum: f64,
}

impl Times {
    fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        for (within, bound) in self.within.iter_mut().zip(BOUNDS) {
            *within += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum += seconds;
    }
}

impl Meter {
    /// The numbers as they stand.
    pub fn read(&self) -> Counts {
        self.with(|counts| counts.clone())
    }

    /// `store`, counted.
    pub(super) fn around_store(&self, store: Arc<dyn ThreadStore>) -> Arc<dyn ThreadStore> {
        let meter = self.clone();
        Arc::new(CountedStore { store, meter })
    }

    /// `model`, counted.
    pub(super) fn around_model(&self, model: Arc<dyn Model>) -> Arc<dyn Model> {
        let meter = self.clone();
        Arc::new(CountedModel { model, meter })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct CountedStore {
    store: Arc<dyn ThreadStore>,
    meter: Meter,
}

impl CountedStore {
    fn journal(&self, journal: Box<dyn Journal>) -> Box<dyn Journal> {
        Box::new(CountedJournal {
            journal,
            meter: self.meter.clone(),
            asked: HashMap::new(),
        })
    }
}

impl ThreadStore for CountedStore {
    fn create(&self, header: &Header) -> Result<Box<dyn Journal>, StoreError> {
        let journal = self.store.create(header)?;
        self.meter.with(|counts| counts.threads += 1);
        Ok(self.journal(journal))
    }

    fn open(&self, id: ThreadId) -> Result<(Loaded, Box<dyn Journal>), StoreError> {
        let (loaded, journal) = self.store.open(id)?;
        Ok((loaded, self.journal(journal)))
    }

    fn read(&self, id: ThreadId) -> Result<Loaded, StoreError> {
        self.store.read(id)
    }

    fn list(&self) -> Result<Vec<ThreadSummary>, StoreError> {
        self.store.list()
    }

    fn ids(&self) -> Result<Vec<ThreadId>, StoreError> {
        self.store.ids()
    }

    fn glance(&self, id: ThreadId) -> Result<ThreadSummary, StoreError> {
        self.store.glance(id)
    }

    fn owner(&self, id: ThreadId) -> Result<Option<String>, StoreError> {
        self.store.owner(id)
    }

    fn room(&self) -> Result<(), StoreError> {
        self.store.room()
    }

    fn socket(&self, id: ThreadId) -> Option<PathBuf> {
        self.store.socket(id)
    }
}

/// Sees each record of one thread.
struct CountedJournal {
    journal: Box<dyn Journal>,
    meter: Meter,
    /// Since when questions of this process wait.
    asked: HashMap<ApprovalId, Instant>,
}

impl CountedJournal {
    fn count(&mut self, record: &Record) {
        match record {
            Record::TurnStarted { turn_id, .. } => self.meter.with(|counts| {
                counts.running.insert(*turn_id, Instant::now());
            }),
            Record::TurnSuspended { outcome, .. } => self.meter.with(|counts| {
                counts.running.remove(&outcome.turn_id);
            }),
            Record::TurnEnded { outcome, .. } => self.meter.with(|counts| {
                if let Some(began) = counts.running.remove(&outcome.turn_id) {
                    counts.turn_seconds.add(began.elapsed());
                }
                *counts
                    .turns
                    .entry(Status::as_str(outcome.status))
                    .or_default() += 1;
            }),
            Record::ApprovalRequested { approval } => {
                self.asked.insert(approval.id, Instant::now());
                self.meter.with(|counts| counts.asked += 1);
            }
            Record::ApprovalResolved {
                approval_id,
                resolution,
            } => {
                let asked = self.asked.remove(approval_id);
                let decision = word(resolution.answer.decision);
                self.meter.with(|counts| {
                    asked
                        .iter()
                        .for_each(|asked| counts.waited_seconds.add(asked.elapsed()));
                    *counts.decided.entry(decision).or_default() += 1;
                });
            }
            Record::Item(Item::ToolCall(call)) => self.meter.with(|counts| {
                let room = counts.calls.len() < TOOLS || counts.calls.contains_key(&call.name);
                let name = if room { &*call.name } else { OTHER };
                *counts.calls.entry(name.to_owned()).or_default() += 1;
            }),
            Record::CallStarted { .. } | Record::Item(_) => {}
        }
    }
}

impl Journal for CountedJournal {
    fn hold(&mut self) -> Result<Option<Loaded>, StoreError> {
        self.journal.hold()
    }

    fn newer(&mut self) -> Result<Option<Loaded>, StoreError> {
        self.journal.newer()
    }

    fn release(&mut self) {
        self.journal.release();
    }

    fn not_kept(&self) -> Option<String> {
        self.journal.not_kept()
    }

    /// Nobody: these journals are tenants', and who else works there is not for them.
    fn at_work_in(&self, _: &Path) -> BoxFuture<'static, Vec<ThreadId>> {
        async { Vec::new() }.boxed()
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        self.journal.append(record)?;
        self.count(record);
        Ok(())
    }

    fn folder(&self) -> Option<PathBuf> {
        self.journal.folder()
    }

    fn socket(&self) -> Option<PathBuf> {
        self.journal.socket()
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        self.journal.sync()
    }
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "approve",
        Decision::ApproveForSession => "approve_for_session",
        Decision::Deny => "deny",
        Decision::Abort => "abort",
    }
}

struct CountedModel {
    model: Arc<dyn Model>,
    meter: Meter,
}

impl Model for CountedModel {
    fn origin(&self) -> &str {
        self.model.origin()
    }

    fn name(&self) -> &str {
        self.model.name()
    }

    fn window(&self) -> Option<u64> {
        self.model.window()
    }

    fn encode(&self, items: &[Item]) -> Vec<Arc<RawValue>> {
        self.model.encode(items)
    }

    fn stream(&self, request: Request) -> BoxStream<'static, Result<ModelEvent, ModelError>> {
        self.meter.with(|counts| counts.steps += 1);
        let sample = Sample {
            meter: self.meter.clone(),
            began: Instant::now(),
            heard: false,
        };
        let events = self.model.stream(request);
        stream::unfold((events, sample), |(mut events, mut sample)| async {
            let event = events.next().await?;
            sample.hear(&event);
            Some((event, (events, sample)))
        })
        .boxed()
    }
}

/// One sample on its way.
struct Sample {
    meter: Meter,
    began: Instant,
    heard: bool,
}

impl Sample {
    fn hear(&mut self, event: &Result<ModelEvent, ModelError>) {
        let took = self.began.elapsed();
        let first = !std::mem::replace(&mut self.heard, true);
        self.meter.with(|counts| {
            if first && event.is_ok() {
                counts.first_seconds.add(took);
            }
            match event {
                Ok(ModelEvent::Done(usage)) => {
                    counts.step_seconds.add(took);
                    counts.usage += *usage;
                }
                Ok(_) => {}
                Err(_) => counts.failed_steps += 1,
            }
        });
    }
}
