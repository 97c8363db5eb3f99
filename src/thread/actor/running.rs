//! A turn that runs: what the actor knows of it, and the task that it is.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Actor, Waiter};
use crate::{
    agent::{Tally, sample::Left, turn::Turn},
    conversation::{Change, SandboxPolicy, ThreadId, TurnId},
    thread::{
        link::{Link, TurnMessage},
        places::Place,
        rollout::LoadedTurn,
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

impl Actor {
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

    fn turn(&mut self, left: Vec<Left>, tally: Tally, link: Arc<Link>) -> Turn {
        let header = &self.state.header;
        Turn {
            head: Arc::new(header.context.head(header.thread_id)),
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
