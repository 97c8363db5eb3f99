//! What goes out to one client: whole texts, in the order in which they were sent.
//!
//! The transport owns the [`Outbox`], and a task of its own writes what comes out of the [`Queue`], so that neither a
//! dropped future nor two messages at once can tear a text. The future of a send ends when its text is written. That is
//! the only brake on what is queued: whoever awaits each notification before making the next holds one at most. Answers
//! and refusals, which nobody awaits, are limited by number (see [`InFlight`]).

use std::{io, sync::Arc, time::Duration};

use rmcp::{
    RoleServer,
    model::RequestId,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    admission::{Admitted, Rejection},
    in_flight::{InFlight, answers},
};

/// How many refusals may wait to be written. A client that sends rubbish and reads nothing gets no more of them.
const MAX_REFUSALS: u32 = 64;

/// How long the end of input waits for refusals to be written, since the process may end right after it.
const PARTING: Duration = Duration::from_millis(500);

/// The end that messages are put into.
#[derive(Debug)]
pub(in crate::frontend::mcp) struct Outbox {
    /// Gone once closed.
    outgoing: Option<mpsc::UnboundedSender<Outgoing>>,
    refusals: Arc<Semaphore>,
    in_flight: InFlight,
}

/// The end that the writing task reads.
#[derive(Debug)]
pub(in crate::frontend::mcp) struct Queue {
    queue: mpsc::UnboundedReceiver<Outgoing>,
    in_flight: InFlight,
}

/// One text for the writing task, and who hears that it was written.
#[derive(Debug)]
pub(in crate::frontend::mcp) struct Outgoing {
    /// One message in JSON.
    pub(in crate::frontend::mcp) text: Vec<u8>,
    receipt: Receipt,
    /// The request that it answers.
    answers: Option<RequestId>,
}

#[derive(Debug)]
enum Receipt {
    Sender(oneshot::Sender<io::Result<()>>),
    /// Given back by being dropped.
    Rejection(#[expect(dead_code, reason = "held, never read")] OwnedSemaphorePermit),
}

impl Outbox {
    /// For one client, with nothing in it.
    pub(in crate::frontend::mcp) fn new() -> (Self, Queue) {
        let (outgoing, queue) = mpsc::unbounded_channel();
        let in_flight = InFlight::default();
        let outbox = Self {
            outgoing: Some(outgoing),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS as usize)),
            in_flight: in_flight.clone(),
        };
        (outbox, Queue { queue, in_flight })
    }

    /// The message that rmcp is to see of an incoming text, if any. Its answer will go out here, and so does a refusal.
    pub(in crate::frontend::mcp) fn take_in(
        &self,
        verdict: Admitted,
    ) -> Option<RxJsonRpcMessage<RoleServer>> {
        let entered = verdict.and_then(|message| {
            message
                .map(|message| self.in_flight.enter(message))
                .transpose()
        });
        entered.unwrap_or_else(|refusal| {
            self.refuse(&refusal);
            None
        })
    }

    /// Queues `message`; the future ends when it is written.
    pub(in crate::frontend::mcp) fn send(
        &self,
        message: &TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let (written, receipt) = oneshot::channel();
        // Queued here and not in the future: rmcp spawns the futures, which would lose the order of the calls.
        let queued = serde_json::to_vec(message)
            .map(|text| self.queue(text, Receipt::Sender(written), answers(message)));
        async move {
            queued?;
            receipt
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
        }
    }

    /// Queues the answer without waiting, because rmcp drops the future of `receive` whenever something else happens.
    fn refuse(&self, refusal: &Rejection) {
        tracing::debug!(?refusal, "refused a message");
        match self.refusals.clone().try_acquire_owned() {
            Ok(permit) => {
                let text = refusal.to_text().into_bytes();
                self.queue(text, Receipt::Rejection(permit), None);
            }
            Err(_) => tracing::warn!("refusals pile up unread, dropped one"),
        }
    }

    /// A closed or broken connection drops the receipt, which says as much to the sender.
    fn queue(&self, text: Vec<u8>, receipt: Receipt, answers: Option<RequestId>) {
        if let Some(outgoing) = &self.outgoing {
            let _ = outgoing.send(Outgoing {
                text,
                receipt,
                answers,
            });
        }
    }

    /// Waits until the refusals are out, or for [`PARTING`].
    pub(in crate::frontend::mcp) async fn part(&self) {
        let _ = timeout(PARTING, self.refusals.acquire_many(MAX_REFUSALS)).await;
    }

    /// Lets the writing task end when the queue is empty.
    pub(in crate::frontend::mcp) fn close(&mut self) {
        self.outgoing = None;
    }
}

impl Queue {
    /// The next text to write; none when the outbox is closed or dropped.
    pub(in crate::frontend::mcp) async fn next(&mut self) -> Option<Outgoing> {
        let outgoing = self.queue.recv().await?;
        // Before it is written: a quick client may use the id again as soon as it has the answer.
        if let Some(id) = &outgoing.answers {
            self.in_flight.end(id);
        }
        Some(outgoing)
    }
}

impl Outgoing {
    /// Says what became of it. The sender may have stopped caring; the text is out all the same.
    pub(in crate::frontend::mcp) fn done(self, written: io::Result<()>) {
        if let Receipt::Sender(sender) = self.receipt {
            let _ = sender.send(written);
        }
    }
}
