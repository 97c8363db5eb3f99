//! The process that was started for a command, and its end.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Child as Process, ExitStatus},
};

use rustix::process::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A child of ours. Nobody else waits for it; dropping it leaves no zombie once it is killed.
pub(super) enum Child {
    /// On pipes.
    Piped(Box<tokio::process::Child>),
    /// In a terminal.
    InTerminal(Box<InTerminal>),
}

/// What portable-pty has started, which tells the end of a process by its words only: waited for by ourselves.
pub(super) struct InTerminal {
    /// None once it was handed on to be reaped.
    process: Option<Process>,
    /// Comes when any child ends.
    ended: Signal,
    /// Says to [`super::tree::reap_strays`] that somebody waits.
    _held: Option<OwnedFd>,
}

impl InTerminal {
    pub(super) fn new(process: Process) -> io::Result<Self> {
        Ok(Self {
            ended: signal(SignalKind::child())?,
            _held: hold(&process),
            process: Some(process),
        })
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let gone = || io::Error::other("it was waited for");
        loop {
            if let Some(status) = self.process.as_mut().ok_or_else(gone)?.try_wait()? {
                return Ok(status);
            }
            // The signal ends with the runtime, and this with it.
            self.ended.recv().await;
        }
    }
}

#[cfg(target_os = "linux")]
fn hold(process: &Process) -> Option<OwnedFd> {
    let pid = Pid::from_raw(process.id().cast_signed())?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn hold(_: &Process) -> Option<OwnedFd> {
    None
}

impl Drop for InTerminal {
    /// Whoever drops it kills it too, so the thread ends; without one to be had, a stray is reaped later.
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take()
            && !matches!(process.try_wait(), Ok(Some(_)))
        {
            let _ = std::thread::Builder::new().spawn(move || process.wait());
        }
    }
}

impl Child {
    pub(super) fn id(&self) -> io::Result<Pid> {
        let id = match self {
            Self::Piped(child) => child.id(),
            Self::InTerminal(child) => child.process.as_ref().map(Process::id),
        };
        id.and_then(|id| Pid::from_raw(id.cast_signed()))
            .ok_or_else(|| io::Error::other("it has no process id"))
    }

    /// Its end, again and again if asked again. May be dropped and called anew.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Piped(child) => child.wait().await,
            Self::InTerminal(child) => child.wait().await,
        }
    }
}
