//! The standard streams of an external server, survived whatever it writes.
//!
//! One line is one message. What is not a message is passed over: many servers print a greeting to standard output. A
//! line beyond [`LONGEST_LINE`] ends the connection, since whoever writes it would fill our memory next.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStderr, ChildStdin, ChildStdout},
};

use super::heard::{self, Heard};
use crate::conversation::{shortened, shown_line};

/// Bytes of one message.
const LONGEST_LINE: usize = 8 << 20;
/// Lines of standard error that are kept.
const KEPT_LINES: usize = 20;
/// Characters of one.
const KEPT_CHARS: usize = 400;

/// For a server to read what it has asked for; one that does not is started again.
const TO_READ: Duration = Duration::from_secs(30);

/// The input of a server. Locked only for one message, since what is sent from several tasks must not be mixed; a
/// server that does not read keeps it, so whoever sends has a time-out.
#[derive(Clone, Debug)]
pub(super) struct Input {
    open: Arc<tokio::sync::Mutex<Option<ChildStdin>>>,
    /// Told when it can be used no more, so that the server is started again.
    heard: Arc<Heard>,
}

/// Ends the connection unless the line was written to its end.
struct Line<'a> {
    heard: &'a Heard,
    whole: bool,
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.whole {
            self.heard.close();
        }
    }
}

impl Input {
    pub(super) fn new(input: ChildStdin, heard: Arc<Heard>) -> Self {
        Self {
            open: Arc::new(tokio::sync::Mutex::new(Some(input))),
            heard,
        }
    }

    /// Writes one message. False if nobody reads any more.
    pub(super) async fn send(&self, message: &Value) -> bool {
        let mut line = message.to_string();
        line.push('\n');
        let mut input = self.open.lock().await;
        // Taken out while it is written to: whoever gives up in the middle of a line closes it, since nothing that
        // followed would be a message, and with it the connection.
        let Some(mut open) = input.take() else {
            return false;
        };
        let mut written = Line {
            heard: &self.heard,
            whole: false,
        };
        written.whole = open.write_all(line.as_bytes()).await.is_ok() && open.flush().await.is_ok();
        *input = Some(open).filter(|_| written.whole);
        written.whole
    }

    /// Closes it, which asks the server to end. One that is being written to is not read; it is killed soon.
    pub(super) fn close(&self) {
        if let Ok(mut input) = self.open.try_lock() {
            *input = None;
        }
    }
}

/// Reads messages until the output ends or a line is too long, and says so to all who wait.
pub(super) async fn read(output: ChildStdout, input: Input, heard: Arc<Heard>, tail: Tail) {
    let mut output = BufReader::with_capacity(64 << 10, output);
    while let Some(line) = next_line(&mut output, &tail).await {
        match heard::message(&line) {
            None => tail.chatter(&String::from_utf8_lossy(&line)),
            Some(message) => {
                if let Some(reply) = heard.take(&message, None) {
                    // Not waited for: a server that asks and does not read must not stop us from reading.
                    let input = input.clone();
                    heard.reply(reply, async move |reply| {
                        // Nobody may read it any more.
                        let _ = tokio::time::timeout(TO_READ, input.send(&reply)).await;
                    });
                }
            }
        }
    }
    heard.close();
}

/// The next line; `None` at the end or when a line is too long.
async fn next_line(output: &mut BufReader<ChildStdout>, tail: &Tail) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        // An error means the same as the end.
        let read = output.fill_buf().await.unwrap_or_default();
        if read.is_empty() {
            return None;
        }
        let end = read.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(read.len(), |end| end + 1);
        line.extend_from_slice(&read[..taken]);
        output.consume(taken);
        if line.len() > LONGEST_LINE {
            tail.complaint("(openoxide) it wrote a message of more than 8 MiB");
            return None;
        }
        if end.is_some() {
            return Some(line);
        }
    }
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

    pub(super) fn complaint(&self, line: &str) {
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
