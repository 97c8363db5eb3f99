//! What a helper is to start: given with its arguments, or told once everything is ready for it.

use std::{
    ffi::OsString,
    io::{self, Read, stdin},
    os::fd::AsFd,
    process::{Command, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{COMMAND, Trouble, WAITING, outer, place};
use crate::workspace::sandbox::errand::Errand;

/// The command, or where it will come from.
pub(super) enum Work {
    /// To be started with our own environment, input and working directory.
    Given(Vec<OsString>),
    /// An [`Errand`] comes on standard input.
    ToCome,
}

impl Work {
    /// From the end of the helper's arguments.
    pub(super) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mark = arguments.next()?;
        let command: Vec<OsString> = arguments.collect();
        match command.is_empty() {
            false if mark == COMMAND => Some(Self::Given(command)),
            true if mark == WAITING => Some(Self::ToCome),
            _ => None,
        }
    }

    /// The command. One that is to come is waited for until it comes, its sender is gone, or there is something to
    /// hear of `life`: then there is none.
    pub(super) fn command(self, life: &impl AsFd) -> Result<Option<Command>, Trouble> {
        match self {
            Self::Given(words) => start_of(words).map(Some),
            Self::ToCome => match receive(life)? {
                Some(errand) => obey(errand).map(Some),
                None => Ok(None),
            },
        }
    }
}

fn start_of<W: AsRef<std::ffi::OsStr>>(words: Vec<W>) -> Result<Command, Trouble> {
    let mut words = words.into_iter();
    let program = words.next().ok_or_else(outer::misused)?;
    let mut command = Command::new(program);
    command.args(words);
    Ok(command)
}

fn obey(errand: Errand) -> Result<Command, Trouble> {
    let mut command = start_of(errand.words)?;
    // By its path: what we were in before is below the mounts that were put over it.
    place::enter(&errand.workdir)?;
    command.env_clear().envs(errand.env).stdin(Stdio::null());
    Ok(command)
}

/// All that comes until the end of standard input.
fn receive(life: &impl AsFd) -> Result<Option<Errand>, Trouble> {
    let mut text = Vec::new();
    let mut stdin = stdin().lock();
    loop {
        let mut fds = [
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::new(life, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(Trouble::new("waiting", error)),
        }
        if !fds[1].revents().is_empty() {
            return Ok(None);
        }
        let mut buffer = [0; 16 << 10];
        match stdin.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => text.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Trouble::new("waiting", error)),
        }
    }
    if text.is_empty() {
        return Ok(None);
    }
    let errand = serde_json::from_slice(&text);
    // Part of one is none.
    errand.map(Some).map_err(|_| outer::misused())
}
