//! The body of an answer on its way to async-openai, which leaves it at `[DONE]`.
//!
//! A body that is not read to its end costs the connection, and with it a handshake for each step: so what follows the
//! mark is read by us. A body that is dropped before its mark closes the connection at once, which is how a request is
//! cancelled.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt, Stream, StreamExt,
    stream::{self, BoxStream},
};
use reqwest::{Body, Response};
use tokio::time::timeout;

/// How long the rest of a body is waited for: a few bytes that the server has mostly sent already.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(2);

/// What ends a stream of Chat Completions.
const DONE: &[u8] = b"[DONE]";
/// The crate's reader of events panics at one.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// `response` with a body that keeps its connection usable.
pub(super) fn read_to_the_end(response: Response) -> Response {
    let head = (response.status(), response.headers().clone());
    let body = Tailed {
        inner: response.bytes_stream().boxed(),
        tail: Vec::new(),
        has_begun: false,
        has_ended: false,
    };
    let mut whole = http::Response::new(Body::wrap_stream(body));
    (*whole.status_mut(), *whole.headers_mut()) = head;
    whole.into()
}

struct Tailed {
    inner: BoxStream<'static, reqwest::Result<Bytes>>,
    /// The last bytes that came, as many as a mark may have with the line ends behind it.
    tail: Vec<u8>,
    has_begun: bool,
    has_ended: bool,
}

impl Stream for Tailed {
    type Item = reqwest::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(chunk) = ready!(self.inner.poll_next_unpin(cx)) else {
            self.has_ended = true;
            return Poll::Ready(None);
        };
        Poll::Ready(Some(chunk.map(|bytes| self.pass(bytes))))
    }
}

impl Tailed {
    fn pass(&mut self, bytes: Bytes) -> Bytes {
        self.tail
            .extend_from_slice(&bytes[bytes.len().saturating_sub(16)..]);
        let excess = self.tail.len().saturating_sub(16);
        self.tail.drain(..excess);
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        match bytes.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) if is_first => bytes.slice_ref(rest),
            _ => bytes,
        }
    }

    fn is_done(&self) -> bool {
        self.tail.windows(DONE.len()).any(|window| window == DONE)
    }
}

impl Drop for Tailed {
    fn drop(&mut self) {
        if self.is_done() && !self.has_ended {
            let rest = std::mem::replace(&mut self.inner, stream::empty().boxed());
            let drained = timeout(DRAIN_TIME, rest.for_each(async |_| {}));
            // Without a runtime there is no connection to keep.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(drained.map(drop));
            }
        }
    }
}
