//! MCP over standard input and output: one message a line, and no line that ends the server.
//!
//! [`Stdio`] owns the reading end and is driven by rmcp. The writing end belongs to a task that [`Stdio::new`] starts. It
//! ends when the transport is closed or dropped and the queue is empty, or at the first failed write: then nobody is
//! left to answer, and it cancels `eof` as the end of input does. It never gives up on a reader that is merely slow; who
//! ends the process sets that deadline.

use std::{io, mem};

use rmcp::{
    RoleServer,
    model::ErrorCode,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;

use super::{
    admission::{Admission, Rejection},
    outbox::{Outbox, Queue},
};

/// The longest line that is read, in bytes. What is longer is skipped and refused.
const MAX_LINE: usize = 16 << 20;

/// A server transport over any pair of byte streams.
#[derive(Debug)]
pub struct Stdio<R> {
    lines: Lines<R>,
    admission: Admission,
    outbox: Outbox,
    eof: CancellationToken,
}

impl<R: AsyncRead + Unpin> Stdio<R> {
    /// Serves one client that is read from `reader` and written to on `writer`. `eof` is cancelled as soon as the input
    /// ends or fails or an answer cannot be written; cancelling it from outside ends the input. Needs a tokio runtime.
    pub fn new<W>(reader: R, writer: W, eof: CancellationToken) -> Self
    where
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (outbox, queue) = Outbox::new();
        tokio::spawn(write_lines(writer, queue, eof.clone()));
        Self {
            lines: Lines::new(reader),
            admission: Admission::default(),
            outbox,
            eof,
        }
    }

    /// Ends the input: tells the owner at once, then lets the refusals out.
    async fn end(&mut self) {
        self.eof.cancel();
        self.outbox.part().await;
    }
}

impl<R: AsyncRead + Send + Unpin> Transport<RoleServer> for Stdio<R> {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.outbox.send(&message)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let line = tokio::select! {
                biased;
                () = self.eof.cancelled() => None,
                line = self.lines.next() => line,
            };
            let verdict = match line {
                Some(Line::Whole(line)) => self.admission.admit(&line),
                Some(Line::TooLong) => Err(too_long()),
                None => {
                    self.end().await;
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

fn too_long() -> Rejection {
    let why = format!("a message has at most {} MiB", MAX_LINE >> 20);
    Rejection::new(ErrorCode::INVALID_REQUEST, None, why)
}

async fn write_lines<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: Queue,
    eof: CancellationToken,
) {
    while let Some(mut outgoing) = queue.next().await {
        outgoing.text.push(b'\n');
        let written = match writer.write_all(&outgoing.text).await {
            Ok(()) => writer.flush().await,
            failed => failed,
        };
        if written.is_err() {
            tracing::warn!("cannot write to the client any more");
            // Before anybody hears of it: a question that could not be put to somebody who is gone is not one that
            // they left without an answer.
            eof.cancel();
            return outgoing.done(written);
        }
        outgoing.done(written);
    }
}

#[derive(Debug, PartialEq)]
enum Line {
    /// Without its newline.
    Whole(Vec<u8>),
    TooLong,
}

/// Reads lines of limited length. All state is here rather than in a future, so that a dropped read loses nothing.
#[derive(Debug)]
struct Lines<R> {
    reader: BufReader<R>,
    partial: Vec<u8>,
    /// The current line is too long already; the rest of it is thrown away as it comes.
    skipping: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(64 << 10, reader),
            partial: Vec::new(),
            skipping: false,
        }
    }

    /// The next line, or nothing at the end of input or when it cannot be read. A last line without a newline is lost
    /// with the client that did not finish it.
    async fn next(&mut self) -> Option<Line> {
        loop {
            let chunk = match self.reader.fill_buf().await {
                Ok([]) => return None,
                Ok(chunk) => chunk,
                Err(error) => {
                    tracing::warn!(%error, "cannot read from the client");
                    return None;
                }
            };
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let piece = &chunk[..end.unwrap_or(chunk.len())];
            if self.partial.len() + piece.len() > MAX_LINE {
                self.skipping = true;
                self.partial = Vec::new();
            }
            if !self.skipping {
                self.partial.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                let line = mem::take(&mut self.partial);
                return Some(match mem::take(&mut self.skipping) {
                    true => Line::TooLong,
                    false => Line::Whole(line),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll},
        time::Duration,
    };

    use futures_util::FutureExt;
    use rmcp::{
        ErrorData, ServerHandler, ServiceExt,
        model::{
            CallToolRequestParams, CallToolResponse, CallToolResult, JsonRpcMessage,
            NumberOrString, ProgressNotification, ProgressNotificationParam, ProgressToken,
            ServerNotification,
        },
        service::{QuitReason, RequestContext},
    };
    use serde_json::{Value, json};
    use tokio::{
        io::{DuplexStream, ReadBuf, duplex, sink},
        task::JoinHandle,
        time::{sleep, timeout},
    };

    use super::*;

    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
    const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;
    const FLOOD: &str =
        r#"{"jsonrpc":"2.0","id":"f","method":"tools/call","params":{"name":"flood"}}"#;

    /// A server whose only tool tells of progress until it cannot, counting what was sent.
    #[derive(Clone, Default)]
    struct Flood(Arc<AtomicUsize>);

    impl ServerHandler for Flood {
        async fn call_tool(
            &self,
            _: CallToolRequestParams,
            context: RequestContext<RoleServer>,
        ) -> Result<CallToolResponse, ErrorData> {
            let step =
                ProgressNotificationParam::new(ProgressToken(NumberOrString::Number(1)), 1.0);
            while context.peer.notify_progress(step.clone()).await.is_ok() {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
            Ok(CallToolResult::success(Vec::new()).into())
        }
    }

    /// The other end of a server that runs as it does in the program.
    struct Client {
        writer: DuplexStream,
        lines: tokio::io::Lines<BufReader<DuplexStream>>,
        eof: CancellationToken,
        sent: Arc<AtomicUsize>,
        session: JoinHandle<QuitReason>,
    }

    impl Client {
        fn new() -> Self {
            let (eof, flood) = (CancellationToken::new(), Flood::default());
            let (reader, writer) = duplex(1 << 16);
            let (answers, answered) = duplex(1 << 10);
            let sent = flood.0.clone();
            let transport = Stdio::new(reader, answered, eof.clone());
            let session = tokio::spawn(async move {
                let running = flood.serve(transport).await.expect("the session is set up");
                running.waiting().await.expect("the session does not panic")
            });
            let lines = BufReader::new(answers).lines();
            Self {
                writer,
                lines,
                eof,
                sent,
                session,
            }
        }

        async fn send(&mut self, line: impl AsRef<[u8]>) {
            self.writer
                .write_all(line.as_ref())
                .await
                .expect("the server reads");
            self.writer
                .write_all(b"\n")
                .await
                .expect("the server reads");
        }

        async fn next(&mut self) -> Value {
            let line = timeout(Duration::from_secs(5), self.lines.next_line()).await;
            let line = line
                .expect("an answer in time")
                .expect("an answer")
                .expect("a line");
            serde_json::from_str(&line).expect("a JSON line")
        }

        async fn ask(&mut self, line: impl AsRef<[u8]>) -> Value {
            self.send(line).await;
            self.next().await
        }

        async fn initialized() -> Self {
            let mut client = Self::new();
            assert_eq!(
                client.ask(INITIALIZE).await["result"]["protocolVersion"],
                "2025-11-25"
            );
            client
                .send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
                .await;
            client
        }

        async fn lives(&mut self) {
            assert_eq!(
                self.ask(PING).await,
                json!({"jsonrpc": "2.0", "id": "p", "result": {}})
            );
        }
    }

    #[tokio::test]
    async fn rubbish_is_answered_and_survived_before_and_after_initialize() {
        let mut client = Client::new();
        for round in 0..2 {
            for (line, code) in [
                (&b"{bad"[..], -32700),
                (b"\"\xff\"", -32700),
                (b"[]", -32600),
                (b"\n\r\n{}", -32600),
                (
                    br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}"#,
                    -32602,
                ),
                (br#"{"jsonrpc":"2.0","id":1,"method":"no/such"}"#, -32601),
            ] {
                assert_eq!(
                    client.ask(line).await["error"]["code"],
                    code,
                    "round {round}"
                );
            }
            if round == 0 {
                client.lives().await;
                assert_eq!(client.ask(INITIALIZE).await["id"], "i");
            }
        }
        client.lives().await;
    }

    #[tokio::test]
    async fn a_line_too_long_is_skipped_and_answered() {
        let mut client = Client::initialized().await;
        let mut line = vec![b' '; MAX_LINE + 1];
        assert_eq!(client.ask(&line).await["error"]["code"], -32600);
        line.truncate(MAX_LINE - PING.len());
        line.extend_from_slice(PING.as_bytes());
        assert_eq!(client.ask(&line).await["id"], "p");
    }

    #[tokio::test]
    async fn a_line_too_long_is_not_kept() {
        let (reader, mut writer) = duplex(1 << 16);
        let mut lines = Lines::new(reader);
        let feed = tokio::spawn(async move {
            writer
                .write_all(&vec![b'x'; MAX_LINE + 1])
                .await
                .expect("somebody reads");
            writer
        });
        assert!(
            timeout(Duration::from_secs(2), lines.next()).await.is_err(),
            "no newline yet"
        );
        assert_eq!(lines.partial.capacity(), 0);
        let mut writer = feed.await.expect("all is written");
        writer
            .write_all(b"y\nnext\n")
            .await
            .expect("somebody reads");
        assert_eq!(lines.next().await, Some(Line::TooLong));
        assert_eq!(lines.next().await, Some(Line::Whole(b"next".to_vec())));
    }

    #[tokio::test]
    async fn what_comes_before_initialize_does_not_end_the_session() {
        let mut client = Client::new();
        client
            .send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
        client.send(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
        let early = client
            .ask(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#)
            .await;
        assert_eq!(
            (&early["id"], &early["error"]["code"]),
            (&json!(2), &json!(-32600))
        );
        assert!(
            early["error"]["message"]
                .as_str()
                .is_some_and(|why| why.contains("`initialize`"))
        );
        assert_eq!(client.ask(INITIALIZE).await["id"], "i");
        client.lives().await;
    }

    #[tokio::test]
    async fn a_modern_request_needs_no_initialize() {
        let mut client = Client::new();
        let list = |version| {
            json!({"jsonrpc": "2.0", "id": version, "method": "tools/list", "params": {"_meta": {
                "io.modelcontextprotocol/protocolVersion": version,
                "io.modelcontextprotocol/clientCapabilities": {},
            }}})
            .to_string()
        };
        assert_eq!(
            client.ask(list("2099-01-01")).await["error"]["code"],
            -32022
        );
        client
            .send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
        assert_eq!(
            client.ask(list("2026-07-28")).await["result"]["resultType"],
            "complete"
        );
        client
            .send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
        assert_eq!(client.ask(list("2026-07-28")).await["id"], "2026-07-28");
    }

    #[tokio::test]
    async fn cancelling_what_is_answered_or_unknown_does_nothing() {
        let mut client = Client::initialized().await;
        for id in [json!("i"), json!(77), Value::Null] {
            let params = json!({"requestId": id});
            let cancel =
                json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
            client.send(cancel.to_string()).await;
        }
        client.lives().await;
    }

    #[tokio::test]
    async fn the_end_of_input_is_told_at_once_and_ends_the_session() {
        let client = Client::initialized().await;
        drop(client.writer);
        timeout(Duration::from_millis(500), client.eof.cancelled())
            .await
            .expect("told at once");
        assert!(matches!(client.session.await, Ok(QuitReason::Closed)));
    }

    #[tokio::test]
    async fn refusals_are_out_before_the_session_ends() {
        let (writer, reader) = duplex(1 << 10);
        let mut transport = Stdio::new(&b"{bad\n"[..], writer, CancellationToken::new());
        assert!(transport.receive().await.is_none());
        let mut lines = BufReader::new(reader).lines();
        // At once, for the process may end before the writing task runs again.
        let line = lines.next_line().now_or_never();
        assert!(matches!(line, Some(Ok(Some(_)))), "{line:?}");
    }

    #[tokio::test]
    async fn an_unreadable_input_is_the_end_of_it() {
        struct Broken;
        impl AsyncRead for Broken {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        let eof = CancellationToken::new();
        let mut transport = Stdio::new(Broken, sink(), eof.clone());
        assert!(transport.receive().await.is_none());
        assert!(eof.is_cancelled());
    }

    #[tokio::test]
    async fn lines_are_whole_and_in_order_though_nobody_waits_for_them() {
        let (writer, reader) = duplex(7);
        let mut transport = Stdio::new(tokio::io::empty(), writer, CancellationToken::new());
        for step in 0..100 {
            drop(transport.send(progress(step)));
        }
        transport.close().await.expect("closing cannot fail");
        let mut lines = BufReader::new(reader).lines();
        for step in 0..100 {
            let line = lines
                .next_line()
                .await
                .expect("readable")
                .expect("a line each");
            let line: Value = serde_json::from_str(&line).expect("a whole line");
            assert_eq!(line["params"]["progressToken"], step);
        }
        let end = timeout(Duration::from_secs(5), lines.next_line()).await;
        assert!(matches!(end, Ok(Ok(None))), "closing ends the output");
    }

    fn progress(token: i64) -> TxJsonRpcMessage<RoleServer> {
        let step =
            ProgressNotificationParam::new(ProgressToken(NumberOrString::Number(token)), 1.0);
        let step = ServerNotification::ProgressNotification(ProgressNotification::new(step));
        JsonRpcMessage::notification(step)
    }

    #[tokio::test]
    async fn a_client_that_cannot_be_written_to_is_gone() {
        let mut client = Client::initialized().await;
        drop(client.lines);
        client
            .writer
            .write_all(format!("{FLOOD}\n").as_bytes())
            .await
            .expect("the server reads");
        timeout(Duration::from_secs(5), client.eof.cancelled())
            .await
            .expect("told");

        let (writer, reader) = duplex(7);
        drop(reader);
        let mut transport = Stdio::new(tokio::io::empty(), writer, CancellationToken::new());
        for _ in 0..2 {
            let failed = timeout(Duration::from_secs(1), transport.send(progress(1))).await;
            assert!(failed.expect("at once").is_err());
        }
    }

    #[tokio::test]
    async fn a_stuck_reader_holds_up_whoever_notifies() {
        let mut client = Client::initialized().await;
        client.send(FLOOD).await;
        sleep(Duration::from_millis(200)).await;
        let sent = client.sent.load(Ordering::Relaxed);
        assert!((1..50).contains(&sent), "{sent} fit into the pipe");
        sleep(Duration::from_millis(200)).await;
        assert_eq!(client.sent.load(Ordering::Relaxed), sent);
        assert_eq!(client.next().await["method"], "notifications/progress");
    }

    #[tokio::test]
    async fn refusals_that_nobody_reads_do_not_pile_up() {
        let mut client = Client::initialized().await;
        for _ in 0..10_000 {
            client.send("{bad").await;
        }
        client.send(PING).await;
        let mut refused = 0;
        while client.next().await["id"] != "p" {
            refused += 1;
        }
        assert!(
            (64..200).contains(&refused),
            "{refused} were kept or fit into the pipe"
        );
    }
}
