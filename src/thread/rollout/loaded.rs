//! What a rollout says: the conversation, its turns, and what was going on when the file ends.
//!
//! The reader takes what is there: a torn last line, lines of damage and records of a later version are counted and
//! passed over. It also works out what is open: a turn, its calls without an output, its questions without an answer.

use std::collections::HashSet;

use super::{Header, Line, Record, VERSION};
use crate::{
    agent::sample::Left,
    conversation::{
        Answer, Approval, ApprovalId, CallId, Item, Outcome, OutputStatus, Resolution, ResolvedBy,
        ToolCall, ToolOutput, TurnId,
    },
};

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
    /// Whose it is.
    pub by: ResolvedBy,
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
    let mut loaded = Loaded::new(header);
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
    /// Of a thread that has no records yet.
    pub fn new(header: Header) -> Self {
        Self {
            header,
            items: Vec::new(),
            turns: Vec::new(),
            counted: None,
            damaged: 0,
        }
    }

    /// Takes one more record.
    pub(in crate::thread) fn add(&mut self, record: Record) {
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

    /// The items that came with the thread that this one was forked from.
    pub fn before_the_fork(&self) -> &[Item] {
        let first = self.turns.first();
        &self.items[..first.map_or(self.items.len(), |turn| turn.first_item)]
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
            self.given.push(Given {
                approval,
                answer,
                by,
            });
        }
    }

    fn has_open(&self, call: &ToolCall) -> bool {
        let mut open = self.open_calls.iter();
        open.any(|open| open.call.call_id == call.call_id)
    }
}
