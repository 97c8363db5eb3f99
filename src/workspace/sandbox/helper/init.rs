//! The first process of the new PID namespace: makes the sandbox whole, starts the command, and ends with it.

use std::{
    io::{IsTerminal, PipeReader, PipeWriter, Write, stdin},
    os::{fd::AsFd, unix::process::CommandExt},
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use fork::Fork;
use nix::sys::signal::{SigSet, Signal as Blocked};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getpid, ioctl_tiocsctty, kill_process,
        pidfd_open, set_child_subreaper, set_parent_process_death_signal, setsid, wait,
    },
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

use super::{NOT_STARTED, Trouble, landlock, mounts, network, outer, place, seccomp, work::Work};
use crate::workspace::sandbox::plan::Plan;

/// What the command did not wait for may still say its last word.
const GRACE: Duration = Duration::from_millis(50);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// More than any kernel has.
const CAPABILITIES: u32 = 64;

/// Confines this process, starts `work`, and tells `report` what came of it. `life` has a writer for as long as the
/// outer process lives.
pub(super) fn run(
    plan: &Plan,
    sockets: &[PathBuf],
    life: PipeReader,
    mut report: PipeWriter,
    work: Work,
) {
    let word = match confine(plan, sockets, &life, &work).and_then(|()| follow(plan, work, &life)) {
        Ok(None) => "code 0".to_owned(),
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "code 255".to_owned(),
        },
        Err(trouble) => format!("trouble {trouble}"),
    };
    // Nobody reads it any more: then nobody wants to know.
    let _ = report.write_all(word.as_bytes());
}

fn confine(
    plan: &Plan,
    sockets: &[PathBuf],
    life: &PipeReader,
    work: &Work,
) -> Result<(), Trouble> {
    let fail = |what: &'static str| move |error: Errno| Trouble::new(what, error);
    if plan.seen.is_some() && !plan.layers.separate() {
        return Err(outer::misused());
    }
    if plan.layers.namespaces {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(fail("its end with ours"))?;
        if !has_writer(life)? {
            return Err(Trouble::new("openoxide", "it has ended"));
        }
    } else {
        // Nothing ends the rest when we do, so we must live to end it.
        set_child_subreaper(Some(getpid())).map_err(fail("adopting orphans"))?;
    }
    // Its own session: a signal to the group of the command stays inside.
    setsid().map_err(fail("a session"))?;
    take_terminal()?;
    if plan.layers.namespaces {
        if plan.layers.own_network && !plan.network {
            network::loopback_up().map_err(fail("the loopback"))?;
        }
        mounts::build(plan, sockets)?;
    }
    // While it waits it is in nobody's way.
    if matches!(work, Work::Given(_)) {
        // The old one is below the mounts that were put over it.
        place::enter(&plan.workdir)?;
    }
    give_up_rights()?;
    if plan.layers.landlock {
        landlock::apply(plan)?;
    }
    if plan.layers.seccomp {
        let own = plan.layers.namespaces && (plan.layers.own_network || plan.network);
        let sockets = match own {
            true => seccomp::Sockets::Own,
            false => seccomp::Sockets::None,
        };
        seccomp::apply(sockets, plan.layers.namespaces)?;
    }
    Ok(())
}

fn has_writer(life: &PipeReader) -> Result<bool, Trouble> {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(life, PollFlags::IN)];
    poll(&mut fds, Some(&at_once)).map_err(|error| Trouble::new("openoxide", error))?;
    Ok(!fds[0].revents().contains(PollFlags::HUP))
}

/// Starts the command as soon as there is one, waits for its end, and a moment for what it leaves running.
fn follow(plan: &Plan, work: Work, life: &PipeReader) -> Result<Option<WaitStatus>, Trouble> {
    let Some(command) = work.command(life)? else {
        return Ok(None);
    };
    let tmp = match &plan.scratch {
        // Without mounts `/tmp` is the machine's, and not writable.
        Some([tmp, _]) if !plan.layers.namespaces => Some(tmp),
        _ => None,
    };
    let child = start(command, tmp)?;
    let status = match plan.layers.namespaces {
        true => reap_until(child),
        false => reap_or_end(child, life),
    };
    wait_for_the_last_word();
    if !plan.layers.namespaces {
        end_descendants();
    }
    status.map(Some)
}

/// No capability is left, and none can be got by executing something.
fn give_up_rights() -> Result<(), Trouble> {
    let fail = |error: Errno| Trouble::new("giving up capabilities", error);
    for number in 0..CAPABILITIES {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            // Without the right to drop it, executing something cannot bring it either: no new privileges.
            Ok(()) | Err(Errno::PERM) => {}
            // The kernel knows no more.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(fail(error)),
        }
    }
    // Not in kernels before 4.3, which have none of the rest either.
    clear_ambient_capability_set().map_err(fail)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(fail)?;
    set_no_new_privs(true).map_err(fail)
}

/// Starts the command on our own standard input and outputs. On pipes it gets a process group of its own: what it sends
/// to its group stays there. In a terminal it is in ours, which is the one that the keys go to.
pub(super) fn start(mut command: Command, tmp: Option<&PathBuf>) -> Result<Pid, Trouble> {
    if let Some(tmp) = tmp {
        command.env("TMPDIR", tmp);
    }
    if !stdin().is_terminal() {
        command.process_group(0);
    }
    spawn_heeding(&mut command)
}

/// Makes the terminal that we were started in, if any, that of our session, so that its keys become signals and
/// `/dev/tty` is there.
pub(super) fn take_terminal() -> Result<(), Trouble> {
    let stdin = stdin();
    if stdin.is_terminal() {
        ioctl_tiocsctty(&stdin).map_err(|error| Trouble::new("the terminal", error))?;
    }
    Ok(())
}

/// What comes by keys, or from somebody who means the command. We live to see its end.
const OF_THE_COMMAND: [Blocked; 7] = [
    Blocked::SIGINT,
    Blocked::SIGQUIT,
    Blocked::SIGHUP,
    Blocked::SIGTERM,
    Blocked::SIGTSTP,
    Blocked::SIGTTIN,
    Blocked::SIGTTOU,
];

/// From here on signals for the command do not reach us.
pub(super) fn heed_no_keys() -> Result<(), Trouble> {
    let signals: SigSet = OF_THE_COMMAND.into_iter().collect();
    let blocked = signals.thread_block();
    blocked.map_err(|error| Trouble::new("its signals", error))
}

/// Becomes two: the child heeds them and is the command. It is we who must not, not for a moment: the command may have
/// said that it is ready before we hear of it again.
fn spawn_heeding(command: &mut Command) -> Result<Pid, Trouble> {
    let program = command.get_program().display().to_string();
    // We have one thread, so the new process has all there is of us.
    match fork::fork().map_err(|error| Trouble::new("the command", error))? {
        Fork::Parent(id) => {
            Pid::from_raw(id).ok_or_else(|| Trouble::new("the command", "it has no id"))
        }
        Fork::Child => {
            let signals: SigSet = OF_THE_COMMAND.into_iter().collect();
            // Without this it would only be deaf to keys.
            let _ = signals.thread_unblock();
            let error = command.exec();
            outer::not_started(&Trouble::new(format!("`{program}`"), error));
            std::process::exit(NOT_STARTED.into())
        }
    }
}

/// Before we die of one ourselves.
pub(super) fn heed_again(signal: i32) {
    let found = OF_THE_COMMAND
        .into_iter()
        .find(|known| *known as i32 == signal);
    // It was blocked by the same means.
    let _ = found.map(|signal| SigSet::from(signal).thread_unblock());
}

/// Until all have ended; only a moment.
pub(super) fn wait_for_the_last_word() {
    let deadline = Instant::now() + GRACE;
    while anybody_left() && Instant::now() < deadline {
        sleep(BETWEEN_LOOKS);
    }
}

/// Reaps whatever ends until `child` does.
fn reap_until(child: Pid) -> Result<WaitStatus, Trouble> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => return Ok(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Trouble::new("waiting", error)),
        }
    }
}

/// The same, and ends everything if there is something to hear of `life`: a pipe that has no writer any more, or a
/// process that has ended.
pub(super) fn reap_or_end(child: Pid, life: &impl AsFd) -> Result<WaitStatus, Trouble> {
    let fail = |error: Errno| Trouble::new("waiting", error);
    let running = pidfd_open(child, PidfdFlags::empty()).map_err(fail)?;
    loop {
        let mut fds = [
            PollFd::new(&running, PollFlags::IN),
            PollFd::new(life, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(fail(error)),
        }
        let (ended, alone) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if alone {
            end_descendants();
        }
        if ended || alone {
            return reap_until(child);
        }
    }
}

/// Kills all that descends from us: what loses its parent becomes our child. All are stopped before one is killed, so
/// that nothing is started faster than it is ended.
pub(super) fn end_descendants() {
    while anybody_left() {
        for signal in [Signal::STOP, Signal::KILL] {
            for process in descendants() {
                // An error means that it is gone.
                let _ = kill_process(process, signal);
            }
        }
        sleep(BETWEEN_LOOKS);
    }
}

fn descendants() -> Vec<Pid> {
    let mut found = vec![getpid()];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero()));
        for task in tasks.into_iter().flatten().flatten() {
            // An error means that the thread is gone.
            let children = std::fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            let pids = children.split_ascii_whitespace();
            found.extend(pids.filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
        }
        at += 1;
    }
    found.split_off(1)
}

/// Whether anything is still running; reaps what is not.
fn anybody_left() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
