//! The process between openoxide and the new namespaces: enters them, starts the first process there, and waits.

use std::{
    ffi::OsString,
    fs,
    io::{self, PipeReader, PipeWriter, Read, Write},
    process::ExitCode,
};

use fork::Fork;
use nix::sched::{CloneFlags, unshare};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fd::OwnedFd,
    process::{
        Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, getpid, getppid, kill_process,
        pidfd_open, setrlimit, waitpid,
    },
};

use super::{NOT_STARTED, Trouble, init, mounts, work::Work};
use crate::workspace::sandbox::plan::Plan;

pub(super) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match confine(arguments) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(Ended::Code(code))) => ExitCode::from(code),
        Ok(Some(Ended::Signal(signal))) => die_of(signal),
        Err(trouble) => not_started(&Trouble::new("its sandbox could not be made", trouble)),
    }
}

pub(super) fn not_started(trouble: &Trouble) -> ExitCode {
    // Nowhere is left to say that this failed.
    let _ = writeln!(
        io::stderr(),
        "openoxide: the command was not started, since {trouble}"
    );
    ExitCode::from(NOT_STARTED)
}

pub(super) fn misused() -> Trouble {
    Trouble::new(
        "the helper",
        "it is started by openoxide itself and by nobody else",
    )
}

/// How the command ended, as the inner process tells it.
enum Ended {
    Code(u8),
    Signal(i32),
}

/// What the command came to; `None` in the inner process, which has told it.
fn confine(arguments: impl Iterator<Item = OsString>) -> Result<Option<Ended>, Trouble> {
    let (plan, parent, work) = parse(arguments)?;
    close_inherited();
    init::heed_no_keys()?;
    let parent = watch(parent)?;
    let Some(inner) = divide(&plan, work)? else {
        return Ok(None);
    };
    let ended = follow(inner.status, parent);
    // Its end is the end of all that it started; an error means that it has ended.
    let _ = kill_process(inner.id, Signal::KILL);
    let _ = waitpid(Some(inner.id), WaitOptions::empty());
    ended.map(Some)
}

/// The plan, the process that must stay alive, and what to start.
fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<(Plan, i32, Work), Trouble> {
    let mut text = || arguments.next()?.into_string().ok();
    let plan = text().and_then(|plan| serde_json::from_str(&plan).ok());
    let parent = text().and_then(|parent| parent.parse().ok());
    match (plan, parent, Work::parse(arguments)) {
        (Some(plan), Some(parent), Some(work)) => Ok((plan, parent, work)),
        _ => Err(misused()),
    }
}

/// What leaked into us from whoever started openoxide must not reach the command: a directory is a way out.
fn close_inherited() {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten();
    let open: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // The directory just read is on the list and closed already.
        let _ = nix::unistd::close(fd);
    }
}

/// A descriptor that tells when `parent` has ended, whichever of its threads started us.
pub(super) fn watch(parent: i32) -> Result<OwnedFd, Trouble> {
    let gone = || Trouble::new("openoxide", "it has ended");
    let parent = Pid::from_raw(parent).ok_or_else(gone)?;
    let watched = pidfd_open(parent, PidfdFlags::empty()).map_err(|_| gone())?;
    // Only now it is certain that the number was still its own.
    if getppid() == Some(parent) {
        Ok(watched)
    } else {
        Err(gone())
    }
}

/// Leaves the machine's namespaces, as far as the plan uses them.
fn enter(plan: &Plan) -> Result<(), Trouble> {
    if !plan.layers.namespaces {
        return Ok(());
    }
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let mut flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if plan.layers.own_network && !plan.network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).map_err(|error| Trouble::new("new namespaces", error))?;
    let (user, group) = (user.as_raw(), group.as_raw());
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{user} {user} 1")),
        ("gid_map", format!("{group} {group} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), content).map_err(system(file))?;
    }
    Ok(())
}

/// The outer process's hold on the inner one.
struct Inner {
    id: Pid,
    /// Has no other writer: its end is ours.
    _life: PipeWriter,
    status: PipeReader,
}

/// Becomes two processes: `None` in the inner one, when it has ended.
fn divide(plan: &Plan, work: Work) -> Result<Option<Inner>, Trouble> {
    let pipe = || io::pipe().map_err(system("a pipe"));
    let sockets = match plan.layers.namespaces {
        true => mounts::sockets(),
        false => Vec::new(),
    };
    let ((life, writer), (status, report)) = (pipe()?, pipe()?);
    enter(plan)?;
    // We have one thread, so the new process has all there is of us.
    match fork::fork().map_err(system("the inner process"))? {
        Fork::Child => {
            drop((writer, status));
            init::run(plan, &sockets, life, report, work);
            Ok(None)
        }
        Fork::Parent(id) => Ok(Some(Inner {
            id: Pid::from_raw(id).ok_or_else(|| Trouble::new("the inner process", "no id"))?,
            _life: writer,
            status,
        })),
    }
}

/// Waits for the word of the inner process, for its end, or for that of openoxide.
fn follow(mut status: PipeReader, parent: OwnedFd) -> Result<Ended, Trouble> {
    let mut word = Vec::new();
    loop {
        let mut fds = [
            PollFd::new(&status, PollFlags::IN),
            PollFd::new(&parent, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Trouble::new("waiting", error)),
        }
        if !fds[1].revents().is_empty() {
            return Ok(Ended::Signal(Signal::KILL.as_raw()));
        }
        let mut buffer = [0; 1024];
        match status.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => word.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Trouble::new("waiting", error)),
        }
    }
    let word = String::from_utf8_lossy(&word);
    match word.split_once(' ') {
        Some(("code", code)) => Ok(Ended::Code(code.parse().unwrap_or(NOT_STARTED))),
        Some(("signal", signal)) => Ok(Ended::Signal(signal.parse().unwrap_or(9))),
        Some(("trouble", why)) => Err(Trouble::new("inside", why)),
        // Something killed it from outside.
        _ => Ok(Ended::Signal(Signal::KILL.as_raw())),
    }
}

/// Ends as the command did, so that our parent sees the same.
pub(super) fn die_of(signal: i32) -> ExitCode {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // A dump of this process would help nobody.
    let _ = setrlimit(Resource::Core, none);
    init::heed_again(signal);
    // Twice: the first SIGSEGV goes to the handler of Rust's runtime, which finds no stack overflow and steps aside.
    for _ in 0..2 {
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = kill_process(getpid(), signal);
        }
    }
    // The signal is one that we ignore: as a shell would say it.
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
}

fn system<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Trouble {
    let what = what.into();
    move |error| Trouble::new(what, error)
}
