//! From a wish for a turn to a turn that runs: under the lock, with what another process left open taken up or ended.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Actor, Waiter};
use crate::{
    agent::{Tally, context::History, turn::Turn},
    conversation::{Change, Event, Prompt, SandboxPolicy, Status, ThreadId, TurnErrorKind, TurnId},
    model::Head,
    thread::{
        handle::{Follow, LEAVING, StartError, Started},
        holder::Door,
        link::{Link, TurnMessage},
        places::Place,
        rollout::{LoadedTurn, Record},
        store::{Nowhere, StoreError},
        writers::AtWork,
    },
    workspace::{
        Workspace,
        checkpoint::{Begun, Checkpoint, Keeping, Measured},
    },
};

/// A turn on its way.
pub(super) struct Running {
    pub(super) turn_id: TurnId,
    pub(super) stop: CancellationToken,
    pub(super) started: Instant,
    /// Whoever follows it.
    pub(super) waiters: Vec<Waiter>,
    /// Since when nobody does.
    pub(super) deserted: Option<tokio::time::Instant>,
    /// What it has come to.
    pub(super) tally: Tally,
    /// What it had changed when another process, or this one, let go of it.
    pub(super) changed_before: Vec<Change>,
    /// Why that may not have been all.
    pub(super) partial_before: Option<String>,
    /// What it is measured against.
    pub(super) begun: Begun,
    /// Other threads of this process at work in the same directory.
    pub(super) beside: Vec<ThreadId>,
    /// Those of other processes, when they have been looked for.
    pub(super) elsewhere: Arc<OnceLock<Vec<ThreadId>>>,
    /// The way of its messages, for what is measured meanwhile.
    pub(super) messages: mpsc::Sender<TurnMessage>,
    pub(super) place: Arc<Place>,
    _at_work: Option<AtWork>,
}

impl Running {
    pub(super) fn is_deserted(&self) -> bool {
        self.waiters.iter().all(Waiter::is_closed)
    }

    /// Returns when nobody has followed the turn for `park`.
    pub(super) async fn deserted(&mut self, park: Duration) {
        if self.stop.is_cancelled() {
            return std::future::pending().await;
        }
        loop {
            self.waiters.retain(|waiter| !waiter.is_closed());
            let Some(waiter) = self.waiters.last_mut() else {
                break;
            };
            self.deserted = None;
            waiter.closed().await;
        }
        let since = *self.deserted.get_or_insert_with(tokio::time::Instant::now);
        match since.checked_add(park) {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    }
}

/// A turn that somebody wants and has no answer about yet.
pub(super) struct Wanted {
    turn_id: TurnId,
    prompt: Option<Prompt>,
    patience: Instant,
    reply: oneshot::Sender<Result<Started, StartError>>,
}

impl Wanted {
    pub(super) fn new(
        prompt: Option<Prompt>,
        reply: oneshot::Sender<Result<Started, StartError>>,
    ) -> Self {
        Self {
            turn_id: TurnId::generate(),
            prompt,
            patience: Instant::now() + LEAVING,
            reply,
        }
    }

    fn accept(self, turn_id: TurnId, queued: bool) -> Waiter {
        let (waiter, outcome) = oneshot::channel();
        // Whoever wanted it may be gone; the turn runs all the same.
        let _ = self.reply.send(Ok(Started {
            turn_id,
            outcome,
            queued,
        }));
        waiter
    }

    fn refuse(self, error: StartError) {
        // As above.
        let _ = self.reply.send(Err(error));
    }
}

pub(super) struct Queued {
    pub(super) turn_id: TurnId,
    pub(super) prompt: Prompt,
    pub(super) waiter: Waiter,
}

impl Actor {
    /// Starts what is wanted, or puts it behind what runs, or lets it wait for another process that is just leaving.
    pub(super) fn start(&mut self, wanted: Wanted) {
        if self.running.is_some() {
            return self.start_behind(wanted);
        }
        match self.hold() {
            Err(StoreError::Held(_)) if Instant::now() < wanted.patience => {
                self.waiting.push(wanted)
            }
            Err(error) => wanted.refuse(StartError::Storage(error.to_string())),
            Ok(()) => match self.begin(wanted.turn_id, wanted.prompt.clone()) {
                Err(error) => wanted.refuse(error),
                Ok(turn_id) => {
                    let waiter = wanted.accept(turn_id, false);
                    self.run_turn(vec![waiter]);
                }
            },
        }
    }

    fn start_behind(&mut self, wanted: Wanted) {
        match (wanted.prompt.clone(), &mut self.running) {
            (Some(prompt), Some(running)) => {
                // It waits for an answer that nobody is being asked for: going another way ends it.
                if self.approvals.all_left_open() {
                    running.stop.cancel();
                }
                let turn_id = wanted.turn_id;
                let waiter = wanted.accept(turn_id, true);
                self.queue.push_back(Queued {
                    turn_id,
                    prompt,
                    waiter,
                });
            }
            // Somebody resumed it a moment ago: one turn for both.
            (None, Some(running)) => {
                let turn_id = running.turn_id;
                running.waiters.push(wanted.accept(turn_id, false));
                running.deserted = None;
                self.park_if_left_open();
            }
            (_, None) => {}
        }
    }

    pub(super) fn follow(&mut self) -> Follow {
        if let Some(running) = &mut self.running {
            let (waiter, outcome) = oneshot::channel();
            let turn_id = running.turn_id;
            running.waiters.push(waiter);
            running.deserted = None;
            self.park_if_left_open();
            return Follow::Running(Started {
                turn_id,
                outcome,
                queued: false,
            });
        }
        match self.state.last_outcome() {
            Some(outcome) if self.state.open_turn().is_none() => {
                Follow::Ended(Arc::new(outcome.clone()))
            }
            _ => Follow::Nothing,
        }
    }

    pub(super) fn try_again(&mut self) {
        for wanted in std::mem::take(&mut self.waiting) {
            self.start(wanted);
        }
    }

    /// Takes the thread, and what another process added to it.
    pub(super) fn hold(&mut self) -> Result<(), StoreError> {
        match self.journal.hold() {
            Ok(Some(newer)) => {
                self.state = newer;
                self.history = None;
            }
            Ok(None) => {}
            Err(StoreError::Io(error)) if may_not_be_written(&error) => {
                self.journal = Box::new(Nowhere::because(&error));
            }
            Err(error) => return Err(error),
        }
        if self.door.is_none() {
            self.door = self.journal.socket().and_then(|socket| {
                // Without it the turn runs all the same; only other processes cannot reach it.
                Door::open(socket, self.own.clone())
                    .inspect_err(|error| {
                        tracing::warn!("other processes cannot reach the thread: {error}")
                    })
                    .ok()
            });
        }
        Ok(())
    }

    /// Takes up what other processes added to the thread, without holding it. True if a turn runs here.
    pub(super) fn refresh(&mut self) -> bool {
        // What cannot be read now is read, or refused, when the thread is held.
        if self.running.is_none()
            && let Ok(Some(newer)) = self.journal.newer()
        {
            self.state = newer;
            self.history = None;
        }
        self.running.is_some()
    }

    /// Gives the thread back.
    pub(super) fn release(&mut self) {
        self.door = None;
        self.journal.release();
    }

    /// Opens a turn under the lock, or gives the lock back.
    pub(super) fn begin(
        &mut self,
        turn_id: TurnId,
        prompt: Option<Prompt>,
    ) -> Result<TurnId, StartError> {
        let begun = match prompt {
            Some(prompt) => self.begin_with(turn_id, prompt),
            None => self.begin_again(turn_id),
        };
        if begun.is_err() {
            self.release();
        }
        begun
    }

    /// A new message first ends what was open.
    fn begin_with(&mut self, turn_id: TurnId, prompt: Prompt) -> Result<TurnId, StartError> {
        self.end_open_turn();
        self.open_turn(turn_id, None)?;
        let mut history = self.take_history();
        for item in prompt.items() {
            self.record(item.clone()).map_err(StartError::Storage)?;
            history.extend(&[item]);
        }
        self.history = Some(history);
        Ok(turn_id)
    }

    /// Without a message, what was open goes on; else the last turn, if it did not complete, in a new one.
    fn begin_again(&mut self, turn_id: TurnId) -> Result<TurnId, StartError> {
        if let Some(open) = self.state.open_turn() {
            let turn_id = open.turn_id;
            self.publish(Event::TurnStarted { turn_id });
            return Ok(turn_id);
        }
        let resumes = self.resumable().ok_or(StartError::NothingToResume)?;
        self.open_turn(turn_id, Some(resumes))?;
        Ok(turn_id)
    }

    fn open_turn(&mut self, turn_id: TurnId, resumes: Option<TurnId>) -> Result<(), StartError> {
        self.append(Record::TurnStarted { turn_id, resumes })
            .map_err(|error| StartError::Storage(error.to_string()))?;
        self.publish(Event::TurnStarted { turn_id });
        if let Some(message) = self.journal.not_kept() {
            self.publish(Event::Warning { message });
        }
        Ok(())
    }

    /// The last turn, if it ended and did not complete.
    fn resumable(&self) -> Option<TurnId> {
        let last = self.state.turns.last()?;
        let outcome = last.outcome.as_ref()?;
        (outcome.status != Status::Completed).then_some(last.turn_id)
    }

    fn take_history(&mut self) -> History {
        self.history.take().unwrap_or_else(|| {
            History::new(
                self.parts.model.clone(),
                &self.state.header.context,
                &self.state.items,
                self.state.counted,
            )
        })
    }

    /// Runs the turn that is open, from wherever it stands.
    pub(super) fn run_turn(&mut self, waiters: Vec<Waiter>) {
        let Some(open) = self.state.open_turn().cloned() else {
            return;
        };
        let LoadedTurn {
            turn_id,
            suspended,
            spent,
            open_calls,
            ..
        } = open;
        let (to_actor, messages) = mpsc::channel(64);
        let mut tally = suspended.as_ref().map(Tally::from).unwrap_or_default();
        tally.spent = tally.spent.max(spent);
        let link = self.link(&to_actor);
        let turn = self.turn(open_calls, tally.clone(), link.clone());
        let (_at_work, beside) = self.enter();
        let begun = self.checkpoint(turn_id);
        let (changed_before, partial_before) = suspended
            .map(|outcome| (outcome.changes, outcome.partial_changes))
            .unwrap_or_default();
        self.messages = Some(messages);
        self.running = Some(Running {
            turn_id,
            stop: turn.stop.clone(),
            started: Instant::now(),
            waiters,
            deserted: None,
            tally,
            changed_before,
            partial_before,
            begun: begun.clone(),
            beside,
            elsewhere: self.look_elsewhere(),
            messages: to_actor.clone(),
            place: link.place.clone(),
            _at_work,
        });
        tokio::spawn(run_and_tell(turn, turn_id, begun, link));
    }

    /// Begins to look at what the turn changes, or goes on with what is known of it.
    fn checkpoint(&self, turn: TurnId) -> Begun {
        let workspace = &self.parts.gate.workspace;
        let keeping = Keeping {
            thread: self.state.header.thread_id,
            turn,
            folder: self.journal.folder(),
        };
        let begun = workspace.checkpoint().begin(Some(keeping));
        if workspace.sandbox() != SandboxPolicy::ReadOnly {
            Checkpoint::look_ahead(workspace);
        }
        begun
    }

    fn link(&self, to_actor: &mpsc::Sender<TurnMessage>) -> Arc<Link> {
        Arc::new(Link {
            messages: to_actor.clone(),
            events: self.events.clone(),
            redactor: self.parts.redactor.clone(),
            place: Arc::new(self.parts.places.place()),
        })
    }

    fn turn(
        &mut self,
        left: Vec<crate::agent::sample::Left>,
        tally: Tally,
        link: Arc<Link>,
    ) -> Turn {
        let head: Head = self.state.header.context.head(self.state.header.thread_id);
        Turn {
            head: Arc::new(head),
            history: self.take_history(),
            left,
            tally,
            gate: self.parts.gate.clone(),
            limits: self.parts.limits,
            host: link.clone(),
            report: link,
            stop: CancellationToken::new(),
        }
    }

    /// Says that this thread is at work, unless it cannot change anything, and hears of others that are.
    fn enter(&self) -> (Option<AtWork>, Vec<ThreadId>) {
        let workspace = &self.parts.gate.workspace;
        if workspace.sandbox() == SandboxPolicy::ReadOnly {
            return (None, Vec::new());
        }
        let (at_work, beside) = self
            .writers
            .enter(self.state.header.thread_id, workspace.cwd());
        (Some(at_work), beside)
    }

    /// Looks for threads of other processes that are at work in the same directory, beside the first model request.
    fn look_elsewhere(&self) -> Arc<OnceLock<Vec<ThreadId>>> {
        let found = Arc::new(OnceLock::new());
        let workspace = &self.parts.gate.workspace;
        if workspace.sandbox() != SandboxPolicy::ReadOnly {
            let search = self.journal.at_work_in(workspace.cwd());
            let found = found.clone();
            // Ended by its end; a turn that is over sooner does without.
            tokio::spawn(async move { found.set(search.await) });
        }
        found
    }

    /// Starts what waits behind the turn that ended.
    pub(super) fn start_queued(&mut self) {
        while self.running.is_none()
            && let Some(Queued {
                turn_id,
                prompt,
                waiter,
            }) = self.queue.pop_front()
        {
            let begun = match self.hold() {
                Ok(()) => self.begin(turn_id, Some(prompt)),
                Err(error) => Err(StartError::Storage(error.to_string())),
            };
            match begun {
                Ok(_) => self.run_turn(vec![waiter]),
                Err(error) => {
                    let outcome = self.failed(turn_id, TurnErrorKind::Storage, &error.to_string());
                    // Whoever waited may be gone.
                    let _ = waiter.send(Arc::new(outcome));
                }
            }
        }
    }
}

/// True where it will stay so. On a full disk there may be room again, and the turn is better refused than forgotten.
fn may_not_be_written(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Runs a turn and reports its end, also when it panics.
async fn run_and_tell(turn: Turn, turn_id: TurnId, begun: Begun, link: Arc<Link>) {
    let workspace = turn.gate.workspace.clone();
    tokio::select! {
        () = link.take_place() => {}
        // Then it ends as soon as it begins.
        () = turn.stop.cancelled() => {}
    }
    let ended = tokio::spawn(turn.run()).await;
    link.place.leave();
    let actor = &link.messages;
    if actor.is_closed() {
        // It was let go of: whoever takes it up measures it, and nobody needs this end.
        return;
    }
    let measured = measured(workspace.clone(), begun.clone()).await;
    workspace.checkpoint().forget(&begun);
    let message = match ended {
        Ok(end) => TurnMessage::Ended {
            turn_id,
            end: Box::new(end),
            measured,
        },
        Err(_) => TurnMessage::Broken { turn_id },
    };
    // The actor lives while a turn runs; if it let go of this one just now, as above.
    let _ = actor.send(message).await;
}

/// What differs on disk from what it was when the turn began. What is needed to take that back is kept.
pub(super) async fn measured(workspace: Arc<Workspace>, begun: Begun) -> Measured {
    let measure = move || workspace.checkpoint().measure(&workspace, &begun);
    let measured = tokio::task::spawn_blocking(measure).await;
    measured.unwrap_or_default()
}
