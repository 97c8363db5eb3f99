//! The file of a thread: JSON lines, one header, then records, append only. This is its format and its reader.
//!
//! The reader takes what is there: a torn last line, lines of damage and records of a later version are counted and
//! passed over. It also works out what was going on when the file ends: an open turn, and calls without an output.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::{
    agent::{Limits, context::Context, sample::Left},
    conversation::{
        Answer, Approval, ApprovalId, ApprovalPolicy, CallId, Item, Outcome, OutputStatus,
        Resolution, ResolvedBy, SandboxPolicy, ThreadId, ToolCall, ToolOutput, TurnId, Worktree,
    },
};

/// The version that we write. Every older one stays readable.
pub const VERSION: u32 = 1;

/// The first line: what restores a thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// See [`VERSION`].
    pub version: u32,
    /// Its name.
    pub thread_id: ThreadId,
    /// The working directory, resolved.
    pub cwd: PathBuf,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// The tenant of a server whose it is; none: whoever owns this machine's threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The thread it was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ThreadId>,
    /// A copy of a directory that it has to itself; then `cwd` is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolated: Option<Isolated>,
    /// The directory was made for it, and goes with the last thread in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_directory: bool,
    /// What its calls may do. A thread is never continued under a wider one.
    #[serde(default)]
    pub policy: Policy,
    /// The model's name, as asked for.
    pub model: String,
    /// True for a thread that only answers questions: read-only for its whole life.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub query: bool,
    /// What ends its turns early; never more than the process that continues it allows.
    #[serde(default)]
    pub limits: Limits,
    /// What is sent before the conversation, exactly.
    pub context: Arc<Context>,
}

/// A thread that works side by side with others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Isolated {
    /// The directory that it was asked to work in, resolved.
    pub from: PathBuf,
    /// Where it works instead.
    pub worktree: Worktree,
}

impl Header {
    /// The directory that it is about: that of a worktree is the one it was made from.
    pub fn directory(&self) -> &Path {
        self.isolated
            .as_ref()
            .map_or(&self.cwd, |isolated| &isolated.from)
    }
}

/// What the calls of a thread may do. A header without one reads as the narrowest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// What a call may do at all.
    pub sandbox: SandboxPolicy,
    /// When to ask.
    pub approval_policy: ApprovalPolicy,
    /// Directories besides the working directory that may be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writable_roots: Vec<PathBuf>,
    /// Beginnings of commands that never run, besides the owner's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// `false`: no network, whatever the owner sets. Absent: as the owner sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            sandbox: SandboxPolicy::ReadOnly,
            approval_policy: ApprovalPolicy::OnRequest,
            writable_roots: Vec::new(),
            deny: Vec::new(),
            network: None,
        }
    }
}

/// One line after the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// A turn began.
    TurnStarted {
        /// Which.
        turn_id: TurnId,
        /// The turn that it goes on with, where no new message came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumes: Option<TurnId>,
    },
    /// A call passed the gate. Synced before it runs.
    CallStarted {
        /// Which.
        call_id: CallId,
    },
    /// Somebody is asked.
    ApprovalRequested {
        /// The question.
        approval: Approval,
    },
    /// A question was answered, or decided for want of an answer.
    ApprovalResolved {
        /// Which.
        approval_id: ApprovalId,
        /// How and by whom.
        resolution: Resolution,
    },
    /// A process let go of a turn whose question is open. The turn is as open as before; this keeps what it had come to.
    TurnSuspended {
        /// So far.
        outcome: Box<Outcome>,
        /// Tokens that count for its budget, where the provider has not counted as many.
        #[serde(default, skip_serializing_if = "is_zero")]
        spent: u64,
    },
    /// A turn ended.
    TurnEnded {
        /// With this.
        outcome: Box<Outcome>,
        /// Tokens of the conversation as it stands then, if the provider counted them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens: Option<u64>,
    },
    /// A piece of the conversation; its own `type` tells which.
    #[serde(untagged)]
    Item(Item),
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A record with its time, as it stands in the file.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    at: String,
    #[serde(flatten)]
    record: T,
}

/// The header as its line.
pub fn header_line(header: &Header) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct First<'a> {
        r#type: &'a str,
        #[serde(flatten)]
        header: &'a Header,
    }
    Ok(serde_json::to_string(&First {
        r#type: "thread",
        header,
    })? + "\n")
}

/// A record as its line, stamped with the present time.
pub fn record_line(record: &Record) -> serde_json::Result<String> {
    Ok(serde_json::to_string(&Line { at: now(), record })? + "\n")
}

/// The present time as the rollout writes it.
pub fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// What a rollout holds.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The first line.
    pub header: Header,
    /// The conversation.
    pub items: Vec<Item>,
    /// The turns, in order.
    pub turns: Vec<LoadedTurn>,
    /// What the provider counted at the end of the last turn, and how many items that were.
    pub counted: Option<(u64, usize)>,
    /// Lines that could not be read.
    pub damaged: usize,
}

/// One turn of a rollout.
#[derive(Clone, Debug)]
pub struct LoadedTurn {
    /// Its name.
    pub turn_id: TurnId,
    /// The number of items before it.
    pub first_item: usize,
    /// What it came to; none while it is open.
    pub outcome: Option<Outcome>,
    /// What it had come to when a process let go of it.
    pub suspended: Option<Outcome>,
    /// Tokens that counted for its budget by then, where the provider had not counted as many.
    pub spent: u64,
    /// Calls that have no output yet, in order.
    pub open_calls: Vec<Left>,
    /// Questions that have no answer yet.
    pub open_approvals: Vec<Approval>,
    /// Answers that somebody gave and that nothing was done about yet.
    pub given: Vec<Given>,
}

/// An answer that was given to a question.
#[derive(Clone, Debug)]
pub struct Given {
    /// The question.
    pub approval: Approval,
    /// The answer.
    pub answer: Answer,
}

/// Why a file is not a rollout.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The first line is not a header.
    #[error("its first line is not a thread header: {0}")]
    Header(String),
    /// A later version than ours.
    #[error("it was written by a later version (format {0}; this one reads up to {VERSION})")]
    Version(u32),
}

/// Reads a whole rollout.
pub fn read(bytes: &[u8]) -> Result<Loaded, ReadError> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let header: Header =
        serde_json::from_slice(first).map_err(|error| ReadError::Header(error.to_string()))?;
    if header.version > VERSION {
        return Err(ReadError::Version(header.version));
    }
    let mut loaded = Loaded {
        header,
        items: Vec::new(),
        turns: Vec::new(),
        counted: None,
        damaged: 0,
    };
    for line in lines.filter(|line| !line.is_empty()) {
        match record(line) {
            Ok(record) => loaded.add(record),
            Err(_) => loaded.damaged += 1,
        }
    }
    loaded.pair_calls_and_outputs();
    Ok(loaded)
}

/// Most lines are items, and these can be read straight; the way over [`Line`] holds each line in memory as well.
fn record(line: &[u8]) -> serde_json::Result<Record> {
    match serde_json::from_slice::<Item>(line) {
        Ok(item) => Ok(Record::Item(item)),
        Err(_) => serde_json::from_slice::<Line<Record>>(line).map(|line| line.record),
    }
}

impl Loaded {
    /// Takes one more record.
    pub(super) fn add(&mut self, record: Record) {
        let open = self.turns.last_mut().filter(|turn| turn.outcome.is_none());
        match (record, open) {
            (Record::TurnStarted { turn_id, .. }, _) => self.turns.push(LoadedTurn {
                turn_id,
                first_item: self.items.len(),
                outcome: None,
                suspended: None,
                spent: 0,
                open_calls: Vec::new(),
                open_approvals: Vec::new(),
                given: Vec::new(),
            }),
            (Record::Item(item), open) => {
                if let Some(turn) = open {
                    turn.note(&item);
                }
                self.items.push(item);
            }
            (Record::CallStarted { call_id }, Some(turn)) => turn.started(&call_id),
            (Record::ApprovalRequested { approval }, Some(turn)) => {
                turn.open_approvals.push(approval)
            }
            (
                Record::ApprovalResolved {
                    approval_id,
                    resolution,
                },
                Some(turn),
            ) => turn.resolved(approval_id, resolution),
            (Record::TurnSuspended { outcome, spent }, Some(turn)) => {
                (turn.suspended, turn.spent) = (Some(*outcome), spent);
            }
            (Record::TurnEnded { outcome, tokens }, Some(turn)) => {
                turn.outcome = Some(*outcome);
                self.counted = tokens.map(|tokens| (tokens, self.items.len()));
            }
            // Outside a turn these have nothing to belong to.
            (_, None) => self.damaged += 1,
        }
    }

    /// A line of damage may have held a call or an output. Providers refuse the one without the other, so a lost output
    /// is made good where it would have stood, and an output that answers nothing, or again, is left out. The calls of
    /// an open turn are closed when it is.
    fn pair_calls_and_outputs(&mut self) {
        let open = self
            .open_turn()
            .into_iter()
            .flat_map(|turn| &turn.open_calls);
        let mut answered: HashSet<CallId> = open.map(|open| open.call.call_id.clone()).collect();
        answered.extend(answered_after_called(&self.items));
        let mut pairs = Pairs::default();
        let mut starts = Vec::with_capacity(self.items.len() + 1);
        for item in std::mem::take(&mut self.items) {
            starts.push(pairs.start_of(&item));
            pairs.add(item, &answered);
        }
        pairs.make_good();
        starts.push(pairs.items.len());
        self.items = pairs.items;
        if let Some((_, items)) = &mut self.counted {
            *items = starts[*items];
        }
        for turn in &mut self.turns {
            turn.first_item = starts[turn.first_item];
            let ended = turn.outcome.is_some();
            turn.open_calls
                .retain(|open| !ended && !pairs.closed.contains(&open.call.call_id));
        }
    }

    /// The last turn, if it has no outcome.
    pub fn open_turn(&self) -> Option<&LoadedTurn> {
        self.turns.last().filter(|turn| turn.outcome.is_none())
    }

    /// The items of the turn at `turn`, counted from 0.
    pub fn items_of(&self, turn: usize) -> &[Item] {
        let end = self.turns.get(turn + 1);
        let end = end.map_or(self.items.len(), |next| next.first_item);
        &self.items[self.turns[turn].first_item..end]
    }

    /// What the last turn came to.
    pub fn last_outcome(&self) -> Option<&Outcome> {
        self.turns
            .iter()
            .rev()
            .find_map(|turn| turn.outcome.as_ref())
    }
}

/// Items on their way to being paired.
#[derive(Default)]
struct Pairs {
    items: Vec<Item>,
    called: HashSet<CallId>,
    closed: HashSet<CallId>,
    /// Calls whose outputs were lost; they are made good before the next item that is neither call nor output.
    lost: Vec<CallId>,
}

impl Pairs {
    /// Where `item` will stand.
    fn start_of(&mut self, item: &Item) -> usize {
        if !matches!(item, Item::ToolCall(_) | Item::ToolOutput(_)) {
            self.make_good();
        }
        self.items.len()
    }

    fn add(&mut self, item: Item, answered: &HashSet<CallId>) {
        let fits = match &item {
            Item::ToolCall(call) => {
                let new = self.called.insert(call.call_id.clone());
                if new && !answered.contains(&call.call_id) {
                    self.lost.push(call.call_id.clone());
                }
                new
            }
            Item::ToolOutput(output) => {
                let call = &output.call_id;
                self.called.contains(call) && self.closed.insert(call.clone())
            }
            _ => true,
        };
        if fits {
            self.items.push(item);
        }
    }

    fn make_good(&mut self) {
        self.items.extend(self.lost.drain(..).map(lost_output));
    }
}

fn answered_after_called(items: &[Item]) -> HashSet<CallId> {
    let mut called = HashSet::new();
    let answers = |item: &Item| match item {
        Item::ToolCall(call) => {
            called.insert(call.call_id.clone());
            None
        }
        Item::ToolOutput(output) => called.get(&output.call_id).cloned(),
        _ => None,
    };
    items.iter().filter_map(answers).collect()
}

fn lost_output(call_id: CallId) -> Item {
    let content = "the output of this call was lost; look before repeating it".to_owned();
    Item::ToolOutput(ToolOutput {
        call_id,
        status: OutputStatus::Interrupted,
        content,
        command: None,
    })
}

impl LoadedTurn {
    fn note(&mut self, item: &Item) {
        match item {
            Item::ToolCall(call) if self.has_open(call) => {}
            Item::ToolCall(call) => self.open_calls.push(Left {
                call: call.clone(),
                started: false,
            }),
            Item::ToolOutput(output) => {
                self.open_calls
                    .retain(|open| open.call.call_id != output.call_id);
                self.given
                    .retain(|given| given.approval.call_id != output.call_id);
            }
            Item::UserMessage { .. }
            | Item::Picture(_)
            | Item::AgentMessage { .. }
            | Item::Reasoning { .. }
            | Item::Compaction { .. } => {}
        }
    }

    fn started(&mut self, call_id: &CallId) {
        for open in &mut self.open_calls {
            open.started |= open.call.call_id == *call_id;
        }
        // An answer is for one start.
        self.given
            .retain(|given| given.approval.call_id != *call_id);
    }

    /// What a strategy decided for want of an answer is no answer: when the turn goes on, it is asked again.
    fn resolved(&mut self, id: ApprovalId, Resolution { answer, by }: Resolution) {
        let Some(at) = self.open_approvals.iter().position(|open| open.id == id) else {
            return;
        };
        let approval = self.open_approvals.remove(at);
        if !matches!(by, ResolvedBy::Unattended | ResolvedBy::Interrupt) {
            self.given.push(Given { approval, answer });
        }
    }

    fn has_open(&self, call: &ToolCall) -> bool {
        let mut open = self.open_calls.iter();
        open.any(|open| open.call.call_id == call.call_id)
    }
}

/// The number of lines by `type`: what a test of the format looks at.
pub fn census(bytes: &[u8]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let kind = serde_json::from_slice::<serde_json::Value>(line)
            .ok()
            .and_then(|value| value["type"].as_str().map(str::to_owned))
            .unwrap_or_else(|| "damaged".to_owned());
        *counts.entry(kind).or_default() += 1;
    }
    counts
}
