//! A terminal for a command: portable-pty makes it and starts the command in it; the rest we do ourselves.
//!
//! What portable-pty does by default and must not here: it runs in the home directory where the working directory
//! cannot be used (the caller has checked it), hands on our whole environment (cleared), types a line end and an end of
//! input when its writer is dropped (never taken), ends only the first process and sleeps meanwhile (`tree` does it),
//! gives a signal's name for its number (we wait for the process ourselves), and says nothing when the program cannot be
//! executed (we start only our own helper or the system's shell, and nothing that is too long). It adds `SHELL` where
//! that is not set.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    path::PathBuf,
};

use filedescriptor::FileDescriptor;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};

use super::Command;

/// Wide enough for what programs lay out, small enough to read.
const SIZE: PtySize = PtySize {
    rows: 40,
    cols: 120,
    pixel_width: 0,
    pixel_height: 0,
};

/// A command in a terminal.
pub(super) struct Started {
    pub(super) process: std::process::Child,
    /// The end that a person would sit at.
    pub(super) master: File,
    /// What the command's standard output is called in `/proc`.
    pub(super) name: PathBuf,
}

/// Starts `words`, the program first, in a terminal of its own.
pub(super) fn start(
    words: &[&std::ffi::OsStr],
    command: &Command,
    mark: &str,
) -> io::Result<Started> {
    let terminal = native_pty_system()
        .openpty(SIZE)
        .map_err(io::Error::other)?;
    let mut builder =
        CommandBuilder::from_argv(words.iter().map(|&word| word.to_owned()).collect());
    builder.cwd(&command.workdir);
    builder.env_clear();
    for (name, value) in command.variables(mark) {
        builder.env(name, value);
    }
    // A helper that stands in front takes the terminal itself, in the session where the command will be.
    builder.set_controlling_tty(command.behind.is_none());
    let child: Box<dyn portable_pty::Child> = terminal
        .slave
        .spawn_command(builder)
        .map_err(io::Error::other)?;
    let process = child
        .downcast::<std::process::Child>()
        .map_err(|_| io::Error::other("portable-pty gives no process"))?;
    Ok(Started {
        process: *process,
        master: own(terminal.master.as_raw_fd())?,
        name: terminal.master.tty_name().unwrap_or_default(),
    })
}

/// A descriptor of our own for the same terminal.
fn own(number: Option<RawFd>) -> io::Result<File> {
    struct Borrowed(RawFd);
    impl AsRawFd for Borrowed {
        fn as_raw_fd(&self) -> RawFd {
            self.0
        }
    }
    let number = number.ok_or_else(|| io::Error::other("the terminal has no descriptor"))?;
    let copy = FileDescriptor::dup(&Borrowed(number)).map_err(io::Error::other)?;
    copy.as_file().map_err(io::Error::other)
}
