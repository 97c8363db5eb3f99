//! Our ends of what a command reads and writes: two pipes, or one terminal.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter},
    os::fd::OwnedFd,
};

use rustix::termios::{LocalModes, tcgetattr};
use tokio::net::unix::pipe;

/// The size of a pipe: what one read can give.
const READ_SIZE: usize = 64 << 10;
/// What a terminal takes as one line; the rest of a longer one it throws away (termios(3), canonical mode).
pub(super) const LONGEST_LINE: usize = 4095;

pub(super) struct Wires {
    output: pipe::Receiver,
    /// None where nothing can be typed, or no more.
    input: Option<pipe::Sender>,
    /// To ask a terminal how it takes input.
    terminal: Option<File>,
    /// Nobody has the other end any more.
    pub(super) at_end: bool,
    buffer: Vec<u8>,
}

impl Wires {
    pub(super) fn piped(output: PipeReader, input: Option<PipeWriter>) -> io::Result<Self> {
        let input = input
            .map(|input| pipe::Sender::from_owned_fd(OwnedFd::from(input)))
            .transpose()?;
        Ok(Self::new(
            pipe::Receiver::from_owned_fd(OwnedFd::from(output))?,
            input,
            None,
        ))
    }

    /// `master` is the end of a terminal that a person would sit at. Unchecked: the runtime only looks for pipes, and
    /// reads and writes of a terminal wait in the same way.
    pub(super) fn terminal(master: File) -> io::Result<Self> {
        let output = pipe::Receiver::from_file_unchecked(nonblocking(master.try_clone()?)?)?;
        let input = pipe::Sender::from_file_unchecked(nonblocking(master.try_clone()?)?)?;
        Ok(Self::new(output, Some(input), Some(master)))
    }

    fn new(output: pipe::Receiver, input: Option<pipe::Sender>, terminal: Option<File>) -> Self {
        Self {
            output,
            input,
            terminal,
            at_end: false,
            buffer: vec![0; READ_SIZE],
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    pub(super) fn takes_input(&self) -> bool {
        self.input.is_some()
    }

    /// After what was written so far, the command finds the end of its input. A terminal has none.
    pub(super) fn close_input(&mut self) {
        if !self.is_terminal() {
            self.input = None;
        }
    }

    /// A terminal takes input line by line, and no more than [`LONGEST_LINE`] bytes of each.
    pub(super) fn takes_lines(&self) -> bool {
        let modes = self.terminal.as_ref().map(tcgetattr);
        modes.is_some_and(|modes| {
            modes.is_ok_and(|modes| modes.local_modes.contains(LocalModes::ICANON))
        })
    }

    /// What came; nothing at the end, and at an error, which means the same: `EIO` is how a terminal ends. Dropping
    /// the future loses nothing.
    pub(super) async fn read(&mut self) -> &[u8] {
        let read = read(&self.output, &mut self.buffer).await;
        self.at_end = read == 0;
        &self.buffer[..read]
    }

    /// Reads, or writes some of `typed` where there is something. Dropping the future loses nothing.
    pub(super) async fn transfer(&mut self, typed: &[u8]) -> Transfer<'_> {
        let may_write = self.input.is_some() && !typed.is_empty();
        let moved = tokio::select! {
            biased;
            read = read(&self.output, &mut self.buffer), if !self.at_end => Moved::Read(read),
            written = write(self.input.as_ref(), typed), if may_write => Moved::Written(written),
            else => std::future::pending().await,
        };
        match moved {
            Moved::Read(read) => {
                self.at_end = read == 0;
                Transfer::Came(&self.buffer[..read])
            }
            Moved::Written(Ok(count)) => Transfer::Went(count),
            Moved::Written(Err(_)) => {
                self.input = None;
                Transfer::Refused
            }
        }
    }
}

enum Moved {
    Read(usize),
    Written(io::Result<usize>),
}

/// What went over the wires.
pub(super) enum Transfer<'a> {
    /// From the command; nothing at the end.
    Came(&'a [u8]),
    /// So many bytes to it.
    Went(usize),
    /// It does not read any more.
    Refused,
}

async fn read(output: &pipe::Receiver, buffer: &mut [u8]) -> usize {
    loop {
        if output.readable().await.is_err() {
            return 0;
        }
        match output.try_read(buffer) {
            Ok(read) => return read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return 0,
        }
    }
}

async fn write(input: Option<&pipe::Sender>, bytes: &[u8]) -> io::Result<usize> {
    let Some(input) = input else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    loop {
        input.writable().await?;
        match input.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return written,
        }
    }
}

fn nonblocking(file: File) -> io::Result<File> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::NONBLOCK)?;
    Ok(file)
}
