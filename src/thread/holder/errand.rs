//! One errand of a visitor, run where the thread is held: a verb of the handle, and what comes of it as lines.
//!
//! What lasts (a lease, a place among those who follow a turn) is held by the task and ends with it.

use std::sync::Arc;

use tokio::sync::{broadcast::error::RecvError, mpsc, oneshot};

use super::{Ask, PROTOCOL, Say};
use crate::{
    conversation::{Event, Outcome, TurnId},
    thread::handle::{Abandoned, Follow, HandleError, ThreadHandle},
};

/// The visitor left, or the thread did; either way there is nobody to say it to.
#[derive(Debug)]
pub(super) struct Left;

impl From<HandleError> for Left {
    fn from(_: HandleError) -> Self {
        Self
    }
}

pub(super) struct Errand {
    number: u64,
    says: mpsc::Sender<(u64, Say)>,
}

impl Errand {
    pub(super) fn new(number: u64, says: mpsc::Sender<(u64, Say)>) -> Self {
        Self { number, says }
    }

    pub(super) async fn refuse(&self, why: String) -> Result<(), Left> {
        self.say(Say::Refused(why)).await
    }

    /// Does what is asked.
    pub(super) async fn run(self, ask: Ask, thread: ThreadHandle) -> Result<(), Left> {
        let said = match ask {
            Ask::Greet { protocol: PROTOCOL } => Say::Done,
            Ask::Greet { protocol } => Say::Refused(format!(
                "it speaks protocol {PROTOCOL} and not {protocol}; use one version of openoxide"
            )),
            Ask::Answer { id, answer, by } => Say::Answered(thread.answer(id, answer, by).await?),
            Ask::Decide { id, answer } => match thread.decide(id, answer).await {
                Ok(()) => Say::Done,
                Err(error) => Say::NotDecided(error),
            },
            Ask::GiveUp { id } => {
                thread.give_up(id).await?;
                Say::Done
            }
            Ask::Interrupt { turn_id } => {
                thread.interrupt(turn_id).await?;
                Say::Done
            }
            Ask::Standing => Say::Standing(thread.standing().await?.map(Box::new)),
            Ask::OutcomeOf { turn_id } => {
                Say::OutcomeOf(thread.outcome_of(turn_id).await?.map(Box::new))
            }
            Ask::Has { turn_id } => Say::Has(thread.has(turn_id).await?),
            Ask::Abandon { turn_id } => return self.abandon(turn_id, thread).await,
            Ask::Attend => return self.attend(thread).await,
            Ask::Follow => return self.follow(thread).await,
            Ask::Subscribe => return self.subscribe(thread).await,
            Ask::Stop => return Ok(()),
        };
        self.say(said).await
    }

    async fn abandon(self, turn_id: TurnId, thread: ThreadHandle) -> Result<(), Left> {
        match thread.abandon(turn_id).await? {
            Abandoned::ToOthers => self.say(Say::LeftToOthers).await,
            Abandoned::Over => self.say(Say::Done).await,
            Abandoned::Stopped(ended) => {
                self.say(Say::Stopped).await?;
                self.end(ended, thread).await
            }
        }
    }

    /// Holds a lease. Ended by the visitor, or with its connection.
    async fn attend(self, thread: ThreadHandle) -> Result<(), Left> {
        let _lease = thread.attend().await?;
        drop(thread);
        self.say(Say::Done).await?;
        std::future::pending().await
    }

    async fn follow(self, thread: ThreadHandle) -> Result<(), Left> {
        match thread.follow().await? {
            Follow::Running(started) => {
                self.say(Say::Following(started.turn_id)).await?;
                self.end(started.outcome, thread).await
            }
            Follow::Ended(outcome) => self.say(Say::Ended(whole(outcome))).await,
            Follow::Nothing => self.say(Say::Nothing).await,
        }
    }

    /// Waits for the end of a turn as one who follows it.
    async fn end(
        self,
        ended: oneshot::Receiver<Arc<Outcome>>,
        thread: ThreadHandle,
    ) -> Result<(), Left> {
        drop(thread);
        let outcome = ended.await.map_err(|_| Left)?;
        self.say(Say::Outcome(whole(outcome))).await
    }

    /// Passes on what happens, until the visitor has seen enough.
    async fn subscribe(self, thread: ThreadHandle) -> Result<(), Left> {
        let snapshot = thread.subscribe().await?;
        let weak = thread.downgrade();
        drop(thread);
        let mut events = snapshot.events;
        let subscribed = Say::Subscribed {
            items: snapshot.items.len(),
            pending: snapshot.pending,
        };
        self.say(subscribed).await?;
        loop {
            match events.recv().await {
                Ok(event) => self.say(Say::Event(slim(event))).await?,
                Err(RecvError::Lagged(_)) => {
                    let snapshot = weak.upgrade().ok_or(Left)?.subscribe().await?;
                    events = snapshot.events;
                    let pending = snapshot.pending;
                    self.say(Say::Missed { pending }).await?;
                }
                Err(RecvError::Closed) => return Err(Left),
            }
        }
    }

    async fn say(&self, say: Say) -> Result<(), Left> {
        let said = self.says.send((self.number, say)).await;
        said.map_err(|_| Left)
    }
}

/// Without what only a model's provider reads.
fn slim(event: Arc<Event>) -> Event {
    match Arc::unwrap_or_clone(event) {
        Event::ItemCompleted { item } => Event::ItemCompleted {
            item: item.without_wire(),
        },
        event => event,
    }
}

fn whole(outcome: Arc<Outcome>) -> Box<Outcome> {
    Box::new(Arc::unwrap_or_clone(outcome))
}
