//! What is told of a command while it runs.

use std::time::{Duration, Instant};

use super::output;

/// Between two words of progress.
const EVERY: Duration = Duration::from_millis(100);
const CHARS: usize = 200;
const BYTES: usize = 8 * CHARS;

/// The line that a person would look at.
pub(super) struct Progress {
    /// The end of what was printed, as much as a line may take.
    recent: Vec<u8>,
    /// Some of it was not told yet.
    pub(super) pending: bool,
    /// When it may be told.
    pub(super) due: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            recent: Vec::new(),
            pending: false,
            due: Instant::now(),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], on_output: &mut impl FnMut(&str)) {
        self.recent
            .extend_from_slice(&bytes[bytes.len().saturating_sub(BYTES)..]);
        let excess = self.recent.len().saturating_sub(BYTES);
        self.recent.drain(..excess);
        self.pending |= !bytes.is_empty();
        if self.pending && Instant::now() >= self.due {
            self.tell(on_output);
        }
    }

    pub(super) fn tell(&mut self, on_output: &mut impl FnMut(&str)) {
        self.pending = false;
        self.due = Instant::now() + EVERY;
        if let Some(line) = output::last_line(&self.recent, CHARS) {
            on_output(&line);
        }
    }
}
