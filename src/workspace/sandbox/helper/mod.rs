//! The other side of the sandbox: our own program, executed again, confines itself and then starts the command.
//!
//! Two processes stand between openoxide and a command. The *outer* one leaves the machine's namespaces, forks the
//! inner one, and hands on its status; it ends when openoxide does. The *inner* one is the first process of the new
//! PID namespace, so everything in there dies with it. It makes the file system, gives up all rights, and starts the
//! command. Each ends when the one before it does, however that came about.
//!
//! Nothing here may run a command less confined than its plan says: whatever fails, the command does not start.

mod init;
mod landlock;
mod mounts;
mod network;
mod outer;
mod overlay;
mod seccomp;

use std::{ffi::OsString, process::ExitCode};

/// The first argument that makes our program the helper.
pub(super) const OUTER: &str = "sandbox-exec";
/// Between the helper's arguments and the command's.
pub(super) const COMMAND: &str = "--";
/// The exit code when the command was not started.
const NOT_STARTED: u8 = 125;

/// Why the command was not started.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
struct Trouble {
    what: String,
    why: String,
}

impl Trouble {
    fn new(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self {
            what: what.into(),
            why: why.to_string(),
        }
    }
}

/// Runs as the helper, if that is what `arguments`, the program's own first, ask for. To be called before anything
/// starts a thread.
pub(crate) fn run_if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let asked = arguments.nth(1)?;
    (asked == OUTER).then(|| outer::run(arguments))
}
