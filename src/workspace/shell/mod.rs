//! Runs commands: bounded output, a deadline, and nothing of them left behind.
//!
//! A [`Running`] owns a command and everything that it starts. It moves on only while it is watched; [`Sessions`] watch
//! those of a thread that nobody waits for at the moment. On pipes, output and errors go into one, in the order they
//! were written; in a terminal they come as a person would see them. A command is over when its shell has ended, at its
//! time-out, when it is interrupted, or when its owner is dropped. In each case the whole tree of processes dies (see
//! [`adopt_orphans`] and `tree`), so a command cannot leave a server running. A process that holds the pipe open after
//! the shell has ended delays the answer by a short grace, never longer.

mod child;
pub mod companion;
mod environment;
mod guard;
mod output;
mod progress;
mod running;
mod sessions;
mod spare;
mod terminal;
mod tree;
mod wires;

#[cfg(test)]
mod tests;

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::sandbox::{Launcher, TEMPORARY};
pub use environment::{DEPTH, for_commands, is_secret_name};
pub use running::{Exit, InputError, Patience, Running, Seen};
pub use sessions::{About, Ousted, Sessions};
pub use spare::Spare;
pub use tree::adopt_orphans;

/// No argument or variable of a program may be longer (execve(2), `MAX_ARG_STRLEN`).
const LONGEST_ARGUMENT: usize = 128 << 10;

/// What to run.
#[derive(Debug, Clone)]
pub struct Command {
    /// For `bash -c`, or `sh -c` where there is no bash. Not a login shell.
    pub line: String,
    /// Must be a directory.
    pub workdir: PathBuf,
    /// All of it; see [`for_commands`]. One variable that marks the command's processes is added.
    pub env: Vec<(OsString, OsString)>,
    /// Of its whole life.
    pub timeout: Duration,
    /// What stands in front of the shell: the sandbox's helper, or the keeper. Behind the sandbox, temporary files go to
    /// the private `/tmp`.
    pub behind: Option<Launcher>,
    /// What it reads from.
    pub input: Input,
}

/// What a command reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Nothing: it is at its end at once.
    None,
    /// A pipe to type into.
    Pipe,
    /// A terminal of 120 columns and 40 rows, to which it also writes.
    Terminal,
}

/// Why a command did not start. The words are for the model.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    #[error("the working directory `{}` cannot be used: {source}", path.display())]
    Workdir { path: PathBuf, source: io::Error },
    #[error("the command is too long for the system; write it to a file and run that")]
    TooLong,
    #[error("the command holds a NUL character, which no command can")]
    Nul,
    #[error("`{}` could not be started: {source}", shell.display())]
    Spawn { shell: PathBuf, source: io::Error },
}

/// Runs `command` to its end.
///
/// `on_output` is told the last line that shows something, at most ten times a second; it should not block. Fails only
/// if the command could not be started.
pub async fn run(
    command: Command,
    cancel: CancellationToken,
    on_output: impl FnMut(&str) + Send,
) -> Result<Seen, ShellError> {
    if cancel.is_cancelled() {
        return Ok(Seen::nothing(Exit::Cancelled));
    }
    let mut running = Running::start(&command)?;
    running.watch(Patience::End, &cancel, on_output).await;
    Ok(running.look())
}

impl Command {
    /// What no system could run is refused before anything is started: a terminal would not say why.
    fn check(&self) -> Result<(), ShellError> {
        let error = |source| ShellError::Workdir {
            path: self.workdir.clone(),
            source,
        };
        let about = std::fs::metadata(&self.workdir).map_err(error)?;
        if !about.is_dir() {
            return Err(error(io::ErrorKind::NotADirectory.into()));
        }
        if self.line.contains('\0') {
            return Err(ShellError::Nul);
        }
        if self.line.len() >= LONGEST_ARGUMENT {
            return Err(ShellError::TooLong);
        }
        Ok(())
    }

    /// The program and its arguments.
    fn words(&self) -> Vec<&OsStr> {
        let launcher = self.behind.iter().flat_map(|launcher| {
            let arguments = launcher.arguments.iter().map(OsString::as_os_str);
            [launcher.program.as_os_str()].into_iter().chain(arguments)
        });
        launcher.chain(self.shell_words()).collect()
    }

    /// The same without what stands in front.
    fn shell_words(&self) -> [&OsStr; 3] {
        [
            shell().as_os_str(),
            OsStr::new("-c"),
            OsStr::new(&self.line),
        ]
    }

    /// The environment, with the mark.
    fn variables<'a>(&'a self, mark: &'a str) -> impl Iterator<Item = (&'a OsStr, &'a OsStr)> {
        let private = self
            .behind
            .as_ref()
            .is_some_and(|behind| behind.private_tmp);
        let all = self
            .env
            .iter()
            .filter(move |(name, _)| !(private && TEMPORARY.iter().any(|known| name == known)));
        all.map(|(name, value)| (name.as_os_str(), value.as_os_str()))
            .chain([(OsStr::new(tree::MARK), OsStr::new(mark))])
    }

    fn failed(&self, source: io::Error) -> ShellError {
        match source.kind() {
            io::ErrorKind::ArgumentListTooLong => ShellError::TooLong,
            _ => ShellError::Spawn {
                shell: shell().to_owned(),
                source,
            },
        }
    }
}

fn shell() -> &'static Path {
    let bash = Path::new("/bin/bash");
    if bash.exists() {
        bash
    } else {
        Path::new("/bin/sh")
    }
}
