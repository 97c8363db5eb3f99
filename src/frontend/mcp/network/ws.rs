//! MCP over WebSocket: one text frame is one message, and no frame ends the connection but one too large.
//!
//! It works as standard input/output does: the same requests in both generations, `notifications/cancelled` to cancel.
//! Only its end is not the end of the server, so turns go on when a connection is lost and can be asked for again. Both
//! ends are looked after by pings; a client that answers none for [`SILENCE`] is gone. [`Socket`] reads; a task writes,
//! and ends with the transport, at the first failed write, or when `gone` is cancelled.

use std::{io, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use rmcp::{
    RoleServer, ServerHandler, ServiceExt,
    model::ErrorCode,
    service::{RxJsonRpcMessage, ServerInitializeError, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::frontend::mcp::transport::{
    admission::{Admission, Rejection},
    carrier::Carrier,
    outbox::{Outbox, Queue},
};

/// Between two pings.
const PING: Duration = Duration::from_secs(20);
/// Without a frame, a pong included.
const SILENCE: Duration = Duration::from_secs(60);

/// One connection, as rmcp reads it.
struct Socket {
    frames: SplitStream<WebSocket>,
    admission: Admission,
    outbox: Outbox,
    heard: Instant,
    gone: CancellationToken,
}

/// Serves one client until it is gone, or `gone` is cancelled; cancels it.
pub(super) async fn serve<H: ServerHandler>(
    handler: H,
    socket: WebSocket,
    gone: CancellationToken,
) {
    let (sink, frames) = socket.split();
    let (outbox, queue) = Outbox::new();
    tokio::spawn(write_frames(sink, queue, gone.clone()));
    let transport = Socket {
        frames,
        admission: Admission::default(),
        outbox,
        heard: Instant::now(),
        gone,
    };
    match handler.serve(Carrier::new(transport)).await {
        Ok(running) => drop(running.waiting().await),
        // A client that only looked.
        Err(ServerInitializeError::ConnectionClosed(_)) => {}
        Err(error) => tracing::error!(%error, "a session could not be set up"),
    }
}

impl Socket {
    /// The next frame. Nothing when the client has closed, is gone, or sent what is no frame.
    async fn next(&mut self) -> Option<Message> {
        let next = timeout_at(self.heard + SILENCE, self.frames.next());
        let frame = tokio::select! {
            biased;
            () = self.gone.cancelled() => return None,
            frame = next => frame.inspect_err(|_| tracing::debug!("a client answers no ping")).ok()??,
        };
        self.heard = Instant::now();
        frame
            .inspect_err(|error| tracing::debug!(%error, "a connection broke"))
            .ok()
    }
}

impl Transport<RoleServer> for Socket {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.outbox.send(&message)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let verdict = match self.next().await {
                Some(Message::Text(text)) => self.admission.admit(text.as_bytes()),
                Some(Message::Binary(_)) => Err(not_text()),
                Some(Message::Ping(_) | Message::Pong(_)) => Ok(None),
                Some(Message::Close(_)) | None => {
                    self.gone.cancel();
                    self.outbox.part().await;
                    return None;
                }
            };
            if let Some(message) = self.outbox.take_in(verdict) {
                return Some(message);
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.outbox.close();
        Ok(())
    }
}

fn not_text() -> Rejection {
    Rejection::new(ErrorCode::PARSE_ERROR, None, "a message is a text frame")
}

async fn write_frames(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: Queue,
    gone: CancellationToken,
) {
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    loop {
        let written = tokio::select! {
            outgoing = queue.next() => match outgoing {
                Some(mut outgoing) => {
                    let text = std::mem::take(&mut outgoing.text);
                    let written = write(&mut sink, text).await;
                    let failed = written.is_err();
                    if failed {
                        // Before anybody hears of it, as on standard output.
                        gone.cancel();
                    }
                    outgoing.done(written);
                    !failed
                }
                None => {
                    // The other side may have closed before.
                    let _ = sink.send(Message::Close(None)).await;
                    return;
                }
            },
            _ = pings.tick() => sink.send(Message::Ping(axum::body::Bytes::new())).await.is_ok(),
        };
        if !written {
            gone.cancel();
            return;
        }
    }
}

async fn write(sink: &mut SplitSink<WebSocket, Message>, text: Vec<u8>) -> io::Result<()> {
    // JSON is UTF-8.
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    sink.send(Message::Text(text.into()))
        .await
        .map_err(io::Error::other)
}
