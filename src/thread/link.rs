//! The line from a running turn to its thread's actor: what `tools::Host` and `agent::Report` are above.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::places::Place;
use crate::{
    agent::{Report, Tally, turn::TurnEnd},
    conversation::{Answer, CallId, Decision, Event, Form, Item, Redactor, ResolvedBy, TurnId},
    tools::{Answered, Host, Progress, Question},
    workspace::checkpoint::Measured,
};

/// What a turn tells its actor.
pub(super) enum TurnMessage {
    /// Persist this, then say so.
    Record {
        item: Item,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Record that a call starts, sync, then say so.
    Starting {
        call_id: CallId,
        title: String,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// What is new of what the turn has come to.
    SoFar {
        more: Tally,
        reply: oneshot::Sender<()>,
    },
    /// What differs on disk, for those who are told that the turn waits.
    Measured { measured: Measured },
    /// Find an answer.
    Ask {
        question: Question,
        reply: oneshot::Sender<Answered>,
    },
    /// It ended, and this is what differs on disk.
    Ended {
        turn_id: TurnId,
        end: Box<TurnEnd>,
        measured: Measured,
    },
    /// It panicked.
    Broken { turn_id: TurnId },
}

/// Held by one turn.
pub(super) struct Link {
    pub(super) messages: mpsc::Sender<TurnMessage>,
    pub(super) events: broadcast::Sender<Arc<Event>>,
    /// What a turn tells may hold what a file or a command printed.
    pub(super) redactor: Redactor,
    pub(super) place: Arc<Place>,
}

const LOST: &str = "the thread is closed";

impl Link {
    async fn tell<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> TurnMessage) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(message(reply)).await.ok()?;
        answer.await.ok()
    }

    fn cleaned(&self, question: Question) -> Question {
        let clean = |text| self.redactor.clean(text);
        Question {
            summary: clean(question.summary),
            place: clean(question.place),
            detail: clean(question.detail),
            reason: question.reason.map(clean),
            covers: question.covers.map(clean),
            form: question.form.map(|form| {
                Box::new(Form {
                    message: clean(form.message),
                    ..*form
                })
            }),
            ..question
        }
    }

    /// Returns when the turn may run.
    pub(super) async fn take_place(&self) {
        self.place.take(|why| self.warn(why)).await;
    }

    fn warn(&self, message: String) {
        self.send(Event::Warning { message });
    }

    fn send(&self, event: Event) {
        // Nobody listens: then nobody misses it.
        let _ = self.events.send(Arc::new(event));
    }
}

impl Report for Link {
    fn record(&self, item: Item) -> BoxFuture<'_, Result<(), String>> {
        async move {
            self.tell(|reply| TurnMessage::Record { item, reply })
                .await
                .unwrap_or_else(|| Err(LOST.to_owned()))
        }
        .boxed()
    }

    fn so_far(&self, more: Tally) -> BoxFuture<'_, ()> {
        async move {
            // If the thread let go of the turn, nobody wants to know.
            let _ = self.tell(|reply| TurnMessage::SoFar { more, reply }).await;
        }
        .boxed()
    }

    fn publish(&self, event: Event) {
        self.send(event);
    }
}

impl Host for Link {
    fn ask(&self, question: Question) -> BoxFuture<'_, Answered> {
        async move {
            let question = self.cleaned(question);
            let lost = Answered {
                answer: Answer::from(Decision::Deny),
                by: ResolvedBy::Unattended,
            };
            let answer = self.tell(|reply| TurnMessage::Ask { question, reply });
            let answer = self.place.while_asking(answer, |why| self.warn(why)).await;
            answer.unwrap_or(lost)
        }
        .boxed()
    }

    fn starting<'a>(
        &'a self,
        call: &'a CallId,
        title: String,
    ) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let call_id = call.clone();
            let title = self.redactor.clean(title);
            let told = self
                .tell(|reply| TurnMessage::Starting {
                    call_id,
                    title,
                    reply,
                })
                .await;
            told.unwrap_or_else(|| Err(LOST.to_owned()))
        }
        .boxed()
    }

    fn progress(&self, call: &CallId, progress: Progress) {
        let call_id = call.clone();
        self.send(match progress {
            Progress::Line(line) => Event::CallOutput {
                call_id,
                line: self.redactor.clean(line),
            },
            Progress::Warning(message) => Event::Warning {
                message: self.redactor.clean(message),
            },
            Progress::FileChanged {
                path,
                added,
                removed,
                diff,
            } => Event::FileChanged {
                call_id,
                path,
                added,
                removed,
                diff: self.redactor.clean(diff),
            },
        });
    }
}
