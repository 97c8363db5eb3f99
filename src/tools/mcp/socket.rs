//! A WebSocket to an external server: one text frame is one message, the subprotocol is `mcp`.
//!
//! reqwest opens it, as it does for HTTP, so that certificates, proxies and headers are the same; tungstenite only
//! frames what goes over it.

use std::sync::Arc;

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use reqwest::{StatusCode, Upgraded};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    connection::Trouble,
    heard::{self, Heard},
    pipe::Tail,
    streamable::{Address, Http},
};
use crate::conversation::shown_line;

/// Bytes of one message.
const LARGEST: usize = 8 << 20;

type Stream = WebSocketStream<Upgraded>;
type Out = Arc<Mutex<SplitSink<Stream, Message>>>;

/// An open connection. Dropping it closes it.
pub(super) struct Socket {
    /// Locked for one message; a server that does not read keeps it, so whoever sends has a time-out.
    out: Out,
    _read: AbortOnDropHandle<()>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Socket")
    }
}

impl Socket {
    /// Connects. The caller bounds the time.
    pub(super) async fn open(
        address: &Address,
        heard: Arc<Heard>,
        tail: Tail,
    ) -> Result<Self, String> {
        let key = generate_key();
        let unreached = || "it cannot be reached".to_owned();
        let asked = Http::new(&address.over_http())?;
        let response = asked.upgrade(&key).await.map_err(|trouble| match trouble {
            Trouble::Locked(why) => why,
            _ => unreached(),
        })?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("it answers with HTTP {}", response.status()));
        }
        let accepted = response.headers().get("sec-websocket-accept");
        if accepted.is_none_or(|accepted| accepted != &*derive_accept_key(key.as_bytes())) {
            return Err("it does not speak WebSocket".to_owned());
        }
        let upgraded = response.upgrade().await.map_err(|_| unreached())?;
        let bounds = WebSocketConfig::default()
            .max_message_size(Some(LARGEST))
            .max_frame_size(Some(LARGEST));
        let stream = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(bounds)).await;
        let (out, incoming) = stream.split();
        let out = Arc::new(Mutex::new(out));
        let read = tokio::spawn(read(incoming, out.clone(), heard, tail));
        Ok(Self {
            out,
            _read: AbortOnDropHandle::new(read),
        })
    }

    /// Sends one message. False if nobody reads any more.
    pub(super) async fn send(&self, message: &Value) -> bool {
        send(&self.out, message).await
    }

    /// Says that this is the end.
    pub(super) async fn close(&self) {
        // It may be gone.
        let _ = self.out.lock().await.close().await;
    }
}

async fn send(out: &Out, message: &Value) -> bool {
    let frame = Message::text(message.to_string());
    out.lock().await.send(frame).await.is_ok()
}

/// Reads messages until the connection ends or one is too large, and says so to all who wait.
async fn read(mut incoming: SplitStream<Stream>, out: Out, heard: Arc<Heard>, tail: Tail) {
    while let Some(frame) = incoming.next().await {
        match frame {
            Ok(Message::Text(text)) => {
                let message = heard::message(text.as_bytes());
                if let Some(reply) = message.and_then(|message| heard.take(&message, None)) {
                    let out = out.clone();
                    // Not waited for: a server that asks and does not read must not stop us from reading.
                    heard.reply(reply, async move |reply| {
                        // Nobody may read it any more.
                        send(&out, &reply).await;
                    });
                }
            }
            Ok(Message::Close(_)) => break,
            Ok(_) => {}
            Err(error) => {
                tail.complaint(&format!("(openoxide) {}", shown_line(&error.to_string())));
                break;
            }
        }
    }
    heard.close();
}
