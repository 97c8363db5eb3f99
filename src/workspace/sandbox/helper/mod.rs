//! The other side of the sandbox: our own program, executed again, confines itself and then starts the command.
//!
//! Also without a sandbox one process of ours stands in front of a command, the *keeper*: what the command starts cannot
//! get away from it, and does not outlive openoxide.
//!
//! With one, two processes stand between openoxide and a command. The *outer* one leaves the machine's namespaces, forks the
//! inner one, and hands on its status; it ends when openoxide does. The *inner* one is the first process of the new
//! PID namespace, so everything in there dies with it. It makes the file system, gives up all rights, and starts the
//! command. Each ends when the one before it does, however that came about.
//!
//! Either may also be started before there is a command (`work`): it makes everything ready, and then waits for one.
//!
//! Nothing here may run a command less confined than its plan says: whatever fails, the command does not start.

mod init;
mod keeper;
mod landlock;
mod mounts;
mod network;
mod outer;
mod overlay;
mod place;
mod root;
mod seccomp;
mod work;

use std::{ffi::OsString, process::ExitCode};

/// The first argument that makes our program the helper.
pub(super) const OUTER: &str = "sandbox-exec";
/// The first argument that makes it the keeper.
pub(super) const KEEPER: &str = "command-exec";
/// Between the helper's arguments and the command's.
pub(super) const COMMAND: &str = "--";
/// In its place: the command comes on standard input, or its end and nothing.
pub(super) const WAITING: &str = "--waiting";
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
    match arguments.nth(1)?.to_str()? {
        OUTER => Some(outer::run(arguments)),
        KEEPER => Some(keeper::run(arguments)),
        _ => None,
    }
}

/// The sockets that somebody listens at where we are.
pub(super) fn sockets() -> Vec<std::path::PathBuf> {
    mounts::sockets()
}

/// Whether the keeper can do its work: it has to hear of our end, and to know who is below it.
pub(super) fn can_keep() -> bool {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    pidfd_open(getpid(), PidfdFlags::empty()).is_ok()
        && std::fs::exists("/proc/thread-self/children").unwrap_or(false)
}
