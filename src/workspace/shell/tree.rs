//! The processes of one command: found wherever they went, ended, and reaped.
//!
//! A process belongs to a command if one of these holds: it is the shell that was started; its parent, its process
//! group or its session belongs; it started no earlier and carries the command's mark in the environment that it was
//! executed with; it is our child and writes to the command's pipe or terminal. Since [`adopt_orphans`] made us the reaper of our
//! descendants, a process that loses its parent becomes our child instead of vanishing to init, so daemons are found.
//!
//! Behind a helper of ours, which is how commands run on Linux, all of this is only the second net: the helper adopts what
//! loses its parent, or is the first process of a PID namespace, so that everything is below it, whatever it did to get
//! away. Two things remain: what runs as another user, and, outside the sandbox, work handed to a daemon that was there
//! before (`at`, `docker`, `systemd-run`).
//!
//! Without one, what evades the search is a process that at that moment has lost its parent, is in a session or group of
//! its own, was executed with an environment without the mark, and has both standard output and standard error elsewhere,
//! all at once (`env -i setsid sh -c 'x >/dev/null 2>&1 &'`).
//!
//! On systems without `/proc` only the process group is ended.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{self, Pid, Signal, WaitId, WaitIdOptions};

/// The variable that marks the processes of a command. Under another openoxide its mark stays in front, after which
/// comes ours, so that the outer one finds what the inner one started.
pub(super) const MARK: &str = "OPENOXIDE_COMMAND";

/// After a kill a process is gone as soon as it is scheduled; one in uninterruptible sleep may never be.
const PATIENCE: Duration = Duration::from_secs(2);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// How long a process may be in the middle of an exec on a very busy machine.
const EXEC_PATIENCE: Duration = Duration::from_millis(200);
/// At our children, for a moment in which none is added.
const LOOKS: usize = 3;
/// A child that has been dead for so long has nobody who waits for it.
const STRAY_AGE: Duration = Duration::from_secs(2);

static ADOPTING: AtomicBool = AtomicBool::new(false);

/// Makes this process the parent of descendants that lose theirs, so that commands cannot leave it. To be called once
/// at the start of the program. False where the system has no such thing: then marked orphans are still found, by
/// reading the whole process table after each command.
pub fn adopt_orphans() -> bool {
    #[cfg(target_os = "linux")]
    let adopting = process::set_child_subreaper(Some(process::getpid())).is_ok();
    #[cfg(not(target_os = "linux"))]
    let adopting = false;
    ADOPTING.store(adopting, Ordering::Relaxed);
    adopting
}

/// A mark of its own for each command: the variable's value.
pub(super) fn new_mark() -> String {
    let own = uuid::Uuid::now_v7();
    match std::env::var(MARK) {
        Ok(outer) if !outer.is_empty() => format!("{outer}/{own}"),
        _ => own.to_string(),
    }
}

/// What an end of a pipe is called in `/proc`.
pub(super) fn pipe_name(end: impl std::os::fd::AsFd) -> PathBuf {
    let inode = rustix::fs::fstat(end).map_or(0, |stat| stat.st_ino);
    format!("pipe:[{inode}]").into()
}

/// The processes of one command.
#[derive(Debug)]
pub(super) struct Tree {
    leader: Pid,
    /// Clock ticks since boot.
    started: u64,
    /// The last part of the mark.
    mark: String,
    /// What `/proc/PID/fd/1` reads as for one that writes where the command does.
    output: PathBuf,
    /// A terminal's name is free for the next one as soon as nobody holds this end of it.
    _terminal: Option<fs::File>,
    /// Members seen so far with their start. A dead one no longer shows what it belonged to.
    seen: HashMap<i32, u64>,
    shell_ended: bool,
    hold: Hold,
}

/// What keeps the processes of a command together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Nothing: they are looked for among all processes.
    None,
    /// A helper leads and adopts them: all of them descend from it for as long as it lives.
    Helper,
    /// It was seen with all of them stopped, so there are no others.
    Complete,
}

impl Tree {
    /// `leader` must not have been waited for yet and lead its own process group; `output` is what its standard output
    /// is called in `/proc`, and `terminal` our end of it where it is one.
    pub(super) fn new(
        leader: Pid,
        mark: &str,
        output: PathBuf,
        terminal: Option<fs::File>,
    ) -> Self {
        let started =
            Process::read(leader.as_raw_nonzero().get()).map_or(0, |process| process.started);
        Self {
            leader,
            started,
            mark: mark.rsplit('/').next().unwrap_or(mark).to_owned(),
            output,
            _terminal: terminal,
            seen: HashMap::from([(leader.as_raw_nonzero().get(), started)]),
            shell_ended: false,
            hold: Hold::None,
        }
    }

    /// The leader is a helper of ours that adopts whatever loses its parent below it.
    pub(super) fn behind_helper(mut self) -> Self {
        self.hold = Hold::Helper;
        self
    }

    /// To be said when a helper has ended with a status: it does so only when nothing is left below it.
    pub(super) fn is_certainly_over(&self, killed: bool) -> bool {
        self.hold == Hold::Helper && !killed
    }

    /// Ends all and waits until they are gone, at most two seconds. Blocks. The shell itself, if it is still to be
    /// waited for, is left to its owner.
    pub(super) fn end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.kill() > 0 && Instant::now() < deadline {
            thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// Kills what belongs to the command now and reaps what of it is dead; how many there were.
    ///
    /// All are stopped before one is killed: a parent that dies between a look and the next takes with it what tells
    /// whose child is the one that it has just started.
    pub(super) fn kill(&mut self) -> usize {
        self.signal_group(Signal::STOP);
        let mut stopped = HashSet::new();
        let members = loop {
            let members = self.look();
            let fresh: Vec<_> = members
                .iter()
                .filter(|process| stopped.insert(process.pid))
                .collect();
            fresh
                .iter()
                .for_each(|process| process.signal(Signal::STOP));
            if fresh.is_empty() {
                break members;
            }
        };
        if self.hold == Hold::Helper && self.leads() {
            self.hold = Hold::Complete;
        }
        self.signal_group(Signal::KILL);
        for process in &members {
            match process.is_dead() {
                true => process.reap(),
                false => process.signal(Signal::KILL),
            }
        }
        members.len()
    }

    /// As Ctrl-C in a terminal would, but to all of them; our own helpers do not heed it.
    pub(super) fn interrupt(&mut self) {
        for process in self.look() {
            process.signal(Signal::INT);
        }
    }

    /// To be said once the shell was waited for: from then on its number may become somebody else's.
    pub(super) fn shell_ended(&mut self) {
        self.shell_ended = true;
    }

    /// To the whole process group in one step, which no fork can slip through.
    fn signal_group(&self, signal: Signal) {
        // Elsewhere there is nothing but the group to go by.
        if self.shell_ended && cfg!(target_os = "linux") {
            return;
        }
        // An error means that nobody is left in it.
        let _ = process::kill_process_group(self.leader, signal);
    }

    /// The members now, remembered for the looks to come.
    fn look(&mut self) -> Vec<Process> {
        let members = match self.hold {
            Hold::Complete => self.members(self.seen_ones()),
            Hold::Helper if self.leads() => self.members(self.descendants()),
            Hold::Helper | Hold::None => self.members(Process::all()),
        };
        let known = members.iter().map(|process| (process.pid, process.started));
        self.seen.extend(known);
        members
    }

    /// The leader lives, and is the one that was started.
    fn leads(&self) -> bool {
        let leader = Process::read(self.leader.as_raw_nonzero().get());
        leader.is_some_and(|now| now.started == self.started && !now.is_dead())
    }

    /// Those seen before that are still there.
    fn seen_ones(&self) -> Vec<Process> {
        let now = self.seen.iter().filter_map(|(pid, started)| {
            Process::read(*pid).filter(|process| process.started == *started)
        });
        now.collect()
    }

    /// The leader, those seen before, and all below them.
    fn descendants(&self) -> Vec<Process> {
        let mut found = self.seen_ones();
        let mut known: HashSet<i32> = found.iter().map(|process| process.pid).collect();
        let mut at = 0;
        while let Some(parent) = found.get(at).map(|process| process.pid) {
            let below = children_of(&parent.to_string()).unwrap_or_default();
            found.extend(below.into_iter().filter(|child| known.insert(child.pid)));
            at += 1;
        }
        found
    }

    /// The members among `processes`, without the shell once it is dead: its owner waits for it.
    fn members(&self, processes: Vec<Process>) -> Vec<Process> {
        let own = process::getpid().as_raw_nonzero().get();
        let leader = self.leader.as_raw_nonzero().get();
        let mut known: HashSet<i32> = self.seen.keys().copied().collect();
        let mut found: HashSet<i32> = HashSet::new();
        loop {
            let before = found.len();
            for process in &processes {
                if process.pid != own
                    && process.started >= self.started
                    && !found.contains(&process.pid)
                    && self.owns(process, &known, own)
                {
                    known.insert(process.pid);
                    found.insert(process.pid);
                }
            }
            if found.len() == before {
                break;
            }
        }
        let relevant = |process: &Process| {
            // A dead one whose parent lives is its parent's to reap; killing that comes first.
            found.contains(&process.pid)
                && (!process.is_dead() || (process.parent == own && process.pid != leader))
        };
        processes.into_iter().filter(relevant).collect()
    }

    fn owns(&self, process: &Process, known: &HashSet<i32>, own: i32) -> bool {
        known.contains(&process.parent)
            || known.contains(&process.group)
            || known.contains(&process.session)
            || self.seen.get(&process.pid) == Some(&process.started)
            || (!process.is_dead()
                && (self.marked(process)
                    || (process.parent == own && self.writes_to_output(process))))
    }

    fn marked(&self, process: &Process) -> bool {
        process
            .environment()
            .split(|byte| *byte == 0)
            .filter_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))
            .any(|value| {
                value
                    .split(|byte| *byte == b'/')
                    .any(|part| part == self.mark.as_bytes())
            })
    }

    /// Only standard output and error: between fork and exec a child of another thread holds all of our descriptors.
    fn writes_to_output(&self, process: &Process) -> bool {
        [1, 2].iter().any(|fd| {
            fs::read_link(format!("/proc/{}/fd/{fd}", process.pid)).is_ok_and(|target| {
                target.as_os_str().as_bytes() == self.output.as_os_str().as_bytes()
            })
        })
    }

    /// Whether certainly nothing is left: nobody in the group, and none of our own children is a member. With all
    /// orphans coming to us, any other member would descend from such a child.
    ///
    /// Looked at twice: the kernel's list of children may pass over one while another leaves it (proc(5)).
    pub(super) fn clearly_empty(&self) -> bool {
        self.looks_empty() && {
            std::thread::yield_now();
            self.looks_empty()
        }
    }

    fn looks_empty(&self) -> bool {
        if process::test_kill_process_group(self.leader).is_ok()
            || !ADOPTING.load(Ordering::Relaxed)
        {
            return false;
        }
        // One that dies during the look leaves us its children, so it counts only if none came meanwhile.
        (0..LOOKS).any(|_| {
            let Some(first) = children() else {
                return false;
            };
            let numbers: HashSet<i32> = first.iter().map(|process| process.pid).collect();
            self.members(first).is_empty()
                && children().is_some_and(|second| {
                    second.iter().all(|process| numbers.contains(&process.pid))
                })
        })
    }
}

/// A line of the process table.
#[derive(Debug)]
struct Process {
    pid: i32,
    state: u8,
    parent: i32,
    group: i32,
    session: i32,
    /// Clock ticks since boot; together with the number it names a process for good.
    started: u64,
}

impl Process {
    fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| Self::read(entry.file_name().to_str()?.parse().ok()?))
            .collect()
    }

    /// None once it is gone. proc(5): the name, in parentheses, may hold anything, so the fields are counted behind it.
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let name_end = stat.iter().rposition(|byte| *byte == b')')?;
        let fields: Vec<&str> = std::str::from_utf8(&stat[name_end + 1..])
            .ok()?
            .split_ascii_whitespace()
            .collect();
        Some(Self {
            pid,
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // An error means that it is gone, or another user's, which is beyond us.
            let _ = process::kill_process(pid, signal);
        }
    }

    /// What it was executed with. Empty for a moment while it executes something else, which is waited for, since
    /// that is what a process does that has just been started; so is its command line then, and hardly ever else.
    fn environment(&self) -> Vec<u8> {
        let read = |name| fs::read(format!("/proc/{}/{name}", self.pid)).unwrap_or_default();
        let mut environment = read("environ");
        // Those of the kernel, which have neither, are in no group.
        let deadline = Instant::now() + EXEC_PATIENCE;
        while environment.is_empty() && self.group != 0 {
            let settled = !read("cmdline").is_empty();
            environment = read("environ");
            let gone = Self::read(self.pid).is_none_or(|now| now.is_dead());
            if settled || gone || Instant::now() > deadline {
                break;
            }
            thread::sleep(EXEC_PATIENCE / 100);
        }
        environment
    }

    /// Takes it off the process table, if it is a dead child of ours.
    fn reap(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // An error means that it is not there any more.
            let _ = process::waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            );
        }
    }
}

/// Our own children, started or adopted. None where the kernel does not list them.
fn children() -> Option<Vec<Process>> {
    children_of("self")
}

/// The same of a process.
fn children_of(parent: &str) -> Option<Vec<Process>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{parent}/task")).ok()?.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(
                list.split_ascii_whitespace()
                    .filter_map(|pid| Process::read(pid.parse().ok()?)),
            ),
            Err(_) if thread.path().exists() => return None,
            Err(_) => {}
        }
    }
    Some(children)
}

/// Reaps orphans that ended by themselves, after which nothing tells whose they were.
///
/// A child in a session that is neither ours nor its own was certainly adopted. Of others somebody may still want the
/// status: those are reaped when they have been dead for two seconds and no descriptor of ours refers to them, as
/// tokio's does for each of its children.
pub(super) fn reap_strays() {
    static DEAD_SINCE: Mutex<Option<HashMap<(i32, u64), Instant>>> = Mutex::new(None);
    if !ADOPTING.load(Ordering::Relaxed) {
        return;
    }
    let dead: Vec<_> = children()
        .into_iter()
        .flatten()
        .filter(Process::is_dead)
        .collect();
    // Held for a look at a map and rarely at a directory; nobody awaits under it.
    let mut since = DEAD_SINCE.lock().unwrap_or_else(PoisonError::into_inner);
    let since = since.get_or_insert_default();
    since.retain(|key, _| {
        dead.iter()
            .any(|process| (process.pid, process.started) == *key)
    });
    // From the same table as theirs: `rustix::process::getsid` does not allow for the zero that a session outside our
    // PID namespace has, as in a container.
    let own_session = i32::try_from(std::process::id())
        .ok()
        .and_then(Process::read)
        .map_or(0, |own| own.session);
    for process in dead {
        let first = *since
            .entry((process.pid, process.started))
            .or_insert_with(Instant::now);
        let adopted = process.session != own_session && process.session != process.pid;
        if adopted || (first.elapsed() >= STRAY_AGE && !is_held(process.pid)) {
            process.reap();
        }
    }
}

/// Whether a process descriptor of ours refers to `pid`.
fn is_held(pid: i32) -> bool {
    let line = format!("Pid:\t{pid}");
    let Ok(entries) = fs::read_dir("/proc/self/fdinfo") else {
        return true;
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .any(|text| text.lines().any(|known| known == line))
}
