//! Where log lines go: to a thread that writes them to standard error, so that nobody who logs ever waits.
//!
//! A client that does not read our standard error would otherwise stop the server with a full pipe. Lines that come
//! while [`BACKLOG`] others wait are lost.

use std::{
    io::{self, Write},
    sync::mpsc::{SyncSender, sync_channel},
};

use tracing_subscriber::fmt::MakeWriter;

/// Lines.
const BACKLOG: usize = 1000;

/// Takes lines for the writing thread. The thread ends with the last of these.
#[derive(Clone, Debug)]
pub(super) struct Log {
    lines: SyncSender<Vec<u8>>,
}

impl Log {
    pub(super) fn start() -> Self {
        let (lines, queue) = sync_channel::<Vec<u8>>(BACKLOG);
        std::thread::spawn(move || {
            for line in queue {
                // Standard error may be closed; then nobody reads it.
                let _ = io::stderr().write_all(&line);
            }
        });
        Self { lines }
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A full queue loses the line, as said above.
        let _ = self.lines.try_send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
