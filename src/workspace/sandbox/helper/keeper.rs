//! The process between openoxide and a command that is not confined: whatever the command starts stays below it, and
//! ends with the command or with openoxide.
//!
//! It adopts all descendants that lose their parent, so that none gets away by a session, a group or an environment of
//! its own. It changes nothing else about the command.

use std::{ffi::OsString, process::ExitCode};

use rustix::process::{WaitStatus, getpid, set_child_subreaper};

use super::{Trouble, init, outer, work::Work};

pub(super) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match keep(arguments) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, signal) => outer::die_of(signal.unwrap_or_default()),
        },
        Err(trouble) => outer::not_started(&trouble),
    }
}

fn keep(mut arguments: impl Iterator<Item = OsString>) -> Result<Option<WaitStatus>, Trouble> {
    let parent = arguments
        .next()
        .and_then(|parent| parent.to_str()?.parse().ok());
    let (Some(parent), Some(work)) = (parent, Work::parse(arguments)) else {
        return Err(outer::misused());
    };
    let parent = outer::watch(parent)?;
    set_child_subreaper(Some(getpid())).map_err(|error| Trouble::new("adopting orphans", error))?;
    init::heed_no_keys()?;
    init::take_terminal()?;
    let Some(command) = work.command(&parent)? else {
        return Ok(None);
    };
    let child = init::start(command, None)?;
    let status = init::reap_or_end(child, &parent);
    init::wait_for_the_last_word();
    init::end_descendants();
    status.map(Some)
}
