//! The standard streams of an external server as a transport that survives what it writes.
//!
//! One line is one message. What is not a message is passed over: many servers print a greeting to standard output. A
//! line beyond [`LONGEST_LINE`] ends the connection, since whoever writes it would fill our memory next. Chatter that
//! nobody here reads (log messages) is dropped before it costs a task.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStderr, ChildStdin, ChildStdout},
};

use crate::conversation::{shortened, shown_line};

/// Bytes of one message.
const LONGEST_LINE: usize = 8 << 20;
/// Lines of standard error that are kept.
const KEPT_LINES: usize = 20;
/// Characters of one.
const KEPT_CHARS: usize = 400;
/// A notification with this in it is read by nobody.
const CHATTER: &[u8] = b"\"notifications/message\"";

pub(super) struct Pipe {
    /// Locked only for one message; what is sent from several tasks must not be mixed.
    input: Arc<tokio::sync::Mutex<Option<ChildStdin>>>,
    output: BufReader<ChildStdout>,
    /// What came of the line that is being read; kept here since reading may be given up half way.
    line: Vec<u8>,
    tail: Tail,
}

impl Pipe {
    pub(super) fn new(input: ChildStdin, output: ChildStdout, tail: Tail) -> Self {
        Self {
            input: Arc::new(tokio::sync::Mutex::new(Some(input))),
            output: BufReader::with_capacity(64 << 10, output),
            line: Vec::new(),
            tail,
        }
    }

    /// The next line; `None` at the end of the output or when a line is too long.
    async fn next_line(&mut self) -> Option<Vec<u8>> {
        loop {
            // An error means the same as the end.
            let read = self.output.fill_buf().await.unwrap_or_default();
            if read.is_empty() {
                return None;
            }
            let end = read.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(read.len(), |end| end + 1);
            self.line.extend_from_slice(&read[..taken]);
            self.output.consume(taken);
            if self.line.len() > LONGEST_LINE {
                self.tail
                    .complaint("(openoxide) it wrote a message of more than 8 MiB");
                return None;
            }
            if end.is_some() {
                return Some(std::mem::take(&mut self.line));
            }
        }
    }
}

impl Transport<RoleClient> for Pipe {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let input = self.input.clone();
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut input = input.lock().await;
            let input = input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
            input.write_all(&line).await?;
            input.flush().await
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let line = self.next_line().await?;
            if line.len() < 64 << 10 && line.windows(CHATTER.len()).any(|part| part == CHATTER) {
                continue;
            }
            let message = serde_json::from_slice(&line).ok();
            match message.or_else(|| salvaged(&line)) {
                Some(message) => return Some(message),
                None => self.tail.chatter(&String::from_utf8_lossy(&line)),
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        // One that is just being written to does not read; it is killed soon.
        if let Ok(mut input) = self.input.try_lock() {
            *input = None;
        }
        Ok(())
    }
}

/// What can be saved of an answer that cannot be read, for instance since one of its tools has a schema of a thousand
/// levels: the tools that can be read, or an error in its place, so that nobody waits for it in vain.
fn salvaged(line: &[u8]) -> Option<RxJsonRpcMessage<RoleClient>> {
    // Raw values are passed over without going into them, however deep they are.
    #[derive(Deserialize)]
    struct Answer<'a> {
        id: Value,
        #[serde(borrow)]
        result: &'a RawValue,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Tools<'a> {
        #[serde(borrow)]
        tools: Vec<&'a RawValue>,
        next_cursor: Option<String>,
    }
    let Answer { id, result } = serde_json::from_slice(line).ok()?;
    let answer = match serde_json::from_str::<Tools<'_>>(result.get()) {
        Ok(Tools { tools, next_cursor }) => {
            let readable = tools
                .iter()
                .filter_map(|tool| serde_json::from_str(tool.get()).ok());
            let tools: Vec<Value> = readable.collect();
            json!({"jsonrpc": "2.0", "id": id, "result": {"tools": tools, "nextCursor": next_cursor}})
        }
        Err(_) => json!({"jsonrpc": "2.0", "id": id, "error": {
            "code": -32603, "message": "its answer could not be read",
        }}),
    };
    // By way of text, so that the reader of messages is compiled once: it is large.
    serde_json::from_slice(&serde_json::to_vec(&answer).ok()?).ok()
}

/// The last lines that a server wrote where they are no messages. Locked for a moment; nobody awaits under it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    /// On standard error.
    errors: VecDeque<String>,
    /// On standard output, where only messages belong.
    chatter: VecDeque<String>,
}

impl Tail {
    /// What it complained about, or where it did not, what else it said.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.locked();
        let said = if lines.errors.is_empty() {
            &lines.chatter
        } else {
            &lines.errors
        };
        said.iter().cloned().collect()
    }

    fn complaint(&self, line: &str) {
        keep(&mut self.locked().errors, line);
    }

    fn chatter(&self, line: &str) {
        keep(&mut self.locked().chatter, line);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the server complains about until it ends, so that it never blocks on us.
    pub(super) async fn drain(self, mut errors: ChildStderr) {
        let mut buffer = vec![0; 8 << 10];
        let mut line = Vec::new();
        while let Ok(read @ 1..) = errors.read(&mut buffer).await {
            for piece in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(&piece[..piece.len().min(4 * KEPT_CHARS)]);
                if piece.ends_with(b"\n") || line.len() > 4 * KEPT_CHARS {
                    self.complaint(&String::from_utf8_lossy(&line));
                    line.clear();
                }
            }
        }
        self.complaint(&String::from_utf8_lossy(&line));
    }
}

fn keep(lines: &mut VecDeque<String>, line: &str) {
    let shown = shortened(&shown_line(line.trim_end()), KEPT_CHARS);
    if shown.is_empty() {
        return;
    }
    if lines.len() == KEPT_LINES {
        lines.pop_front();
    }
    lines.push_back(shown);
}
