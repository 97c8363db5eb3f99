//! Runs one command to its end: bounded output, a deadline, and nothing of it left behind.
//!
//! [`run`] owns the command and everything that it starts. Standard input is empty; output and errors go into one
//! pipe, in the order they were written. The future ends when the shell ends, at the time-out, or when the token is
//! cancelled; dropping it ends the command too. In each case the whole tree of processes dies (see [`adopt_orphans`]
//! and `tree`), so a command cannot leave a server running. A process that holds the pipe open after the shell has
//! ended delays the answer by a short grace, never longer.

pub mod companion;
mod environment;
mod output;
mod tree;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use std::os::unix::process::ExitStatusExt;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::sandbox::{Launcher, TEMPORARY};
pub use environment::{DEPTH, for_commands, is_secret_name};
use output::Capture;
use tree::Tree;
pub use tree::adopt_orphans;

/// Silence after which a pipe that outlives its shell is given up.
const DRAIN_IDLE: Duration = Duration::from_millis(50);
/// The same for one that is never silent.
const DRAIN_MOST: Duration = Duration::from_millis(250);
/// Between two words of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
const PROGRESS_CHARS: usize = 200;
const PROGRESS_BYTES: usize = 8 * PROGRESS_CHARS;
/// The size of a pipe: what one read can give.
const READ_SIZE: usize = 64 << 10;

/// What to run.
#[derive(Debug, Clone)]
pub struct Command {
    /// For `bash -c`, or `sh -c` where there is no bash. Not a login shell.
    pub line: String,
    /// Must be a directory.
    pub workdir: PathBuf,
    /// All of it; see [`for_commands`]. One variable that marks the command's processes is added.
    pub env: Vec<(OsString, OsString)>,
    pub timeout: Duration,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Standard output and error as a person would have seen them, at most the first and the last 64 KiB.
    pub output: String,
    /// Bytes between them, or all if the output is binary.
    pub omitted_bytes: u64,
    pub exit: Exit,
    /// From before the start until nothing was left of it.
    pub seconds: f64,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// The shell itself died of this signal. What dies of one below it, the shell reports as code 128 + n.
    Signal(i32),
    TimedOut,
    Cancelled,
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
) -> Result<Finished, ShellError> {
    run_behind(command, None, cancel, on_output).await
}

/// As [`run`], with `launcher` in front of the shell: what [`super::sandbox`] confines a command with. Its temporary
/// files then go to the private `/tmp`.
pub async fn run_behind(
    mut command: Command,
    launcher: Option<Launcher>,
    cancel: CancellationToken,
    mut on_output: impl FnMut(&str) + Send,
) -> Result<Finished, ShellError> {
    let started = Instant::now();
    if launcher.is_some() {
        command
            .env
            .retain(|(name, _)| !TEMPORARY.iter().any(|known| name == known));
    }
    if cancel.is_cancelled() {
        return Ok(Finished {
            output: String::new(),
            omitted_bytes: 0,
            exit: Exit::Cancelled,
            seconds: 0.0,
        });
    }
    let mut running = Running::start(&command, launcher.as_ref())?;
    let deadline = started + command.timeout;
    let ended = tokio::select! {
        // First, since a flood uses up the budget that tokio gives a task, and a timer asked after that never fires.
        biased;
        () = cancel.cancelled() => Err(Exit::Cancelled),
        () = sleep_until(deadline.into()) => Err(Exit::TimedOut),
        status = running.follow(&mut on_output) => Ok(status),
    };
    let exit = match ended {
        Ok(status) => running.clear_up(status).await,
        Err(exit) => running.end(exit).await,
    };
    let (output, omitted_bytes) = running.capture.finish();
    Ok(Finished {
        output,
        omitted_bytes,
        exit,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// A command under way.
struct Running {
    child: Child,
    pipe: pipe::Receiver,
    /// Nobody has the other end any more.
    at_end: bool,
    buffer: Vec<u8>,
    capture: Capture,
    tree: TreeGuard,
}

impl Running {
    fn start(command: &Command, launcher: Option<&Launcher>) -> Result<Self, ShellError> {
        check_workdir(&command.workdir)?;
        let shell = shell();
        let spawn_error = |source: io::Error| match source.kind() {
            io::ErrorKind::ArgumentListTooLong => ShellError::TooLong,
            io::ErrorKind::InvalidInput if command.line.contains('\0') => ShellError::Nul,
            _ => ShellError::Spawn {
                shell: shell.to_owned(),
                source,
            },
        };
        let (reader, writer) = io::pipe().map_err(spawn_error)?;
        let pipe = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(spawn_error)?;
        let mark = tree::new_mark();
        let child = spawn(command, launcher, &mark, writer).map_err(spawn_error)?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let Some(leader) = leader else {
            return Err(spawn_error(io::Error::other("it has no process id")));
        };
        let tree = Tree::new(leader, &mark, &pipe);
        Ok(Self {
            child,
            pipe,
            at_end: false,
            buffer: vec![0; READ_SIZE],
            capture: Capture::default(),
            tree: TreeGuard(Some(tree)),
        })
    }

    /// Reads until the shell has ended.
    async fn follow(
        &mut self,
        on_output: &mut (impl FnMut(&str) + Send),
    ) -> io::Result<ExitStatus> {
        let mut progress = Progress::new();
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => return status,
                read = read(&self.pipe, &mut self.buffer), if !self.at_end => {
                    self.took(read);
                    progress.push(&self.buffer[..read], on_output);
                }
                () = sleep_until(progress.due.into()), if progress.pending => progress.tell(on_output),
            }
        }
    }

    /// After the shell has ended by itself: takes what is still in the pipe and ends what is left of the command.
    async fn clear_up(&mut self, status: io::Result<ExitStatus>) -> Exit {
        self.tree.shell_ended();
        // What the shell did not wait for, such as `tee` in `exec > >(tee log)`, ends a moment later.
        self.drain().await;
        self.tree.take().end_leftovers().await;
        self.drain().await;
        match status.map(|status| (status.code(), status.signal())) {
            Ok((Some(code), _)) => Exit::Code(code),
            Ok((None, Some(signal))) => Exit::Signal(signal),
            // Somebody else has waited for the child: a defect, but its output is still worth having.
            Ok((None, None)) | Err(_) => Exit::Code(-1),
        }
    }

    /// Ends the command before it has ended by itself.
    async fn end(&mut self, exit: Exit) -> Exit {
        self.tree.take().end().await;
        // It has been killed; only one that the kernel cannot end is waited for in vain.
        let _ = timeout(DRAIN_MOST, self.child.wait()).await;
        self.drain().await;
        exit
    }

    /// Reads until nobody has the other end, or those who still do are silent for a while or have had their time.
    async fn drain(&mut self) {
        let deadline = tokio::time::Instant::now() + DRAIN_MOST;
        while !self.at_end && tokio::time::Instant::now() < deadline {
            match timeout(DRAIN_IDLE, read(&self.pipe, &mut self.buffer)).await {
                Ok(read) => self.took(read),
                Err(_) => return,
            }
        }
    }

    fn took(&mut self, read: usize) {
        self.at_end = read == 0;
        self.capture.push(&self.buffer[..read]);
    }
}

/// Bytes read; 0 at the end, and at an error, which for a pipe means the same.
async fn read(pipe: &pipe::Receiver, buffer: &mut [u8]) -> usize {
    loop {
        if pipe.readable().await.is_err() {
            return 0;
        }
        match pipe.try_read(buffer) {
            Ok(read) => return read,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return 0,
        }
    }
}

fn check_workdir(path: &Path) -> Result<(), ShellError> {
    let error = |source| ShellError::Workdir {
        path: path.to_owned(),
        source,
    };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(error(io::ErrorKind::NotADirectory.into())),
        Err(source) => Err(error(source)),
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

fn spawn(
    command: &Command,
    launcher: Option<&Launcher>,
    mark: &str,
    output: io::PipeWriter,
) -> io::Result<Child> {
    let errors = output.try_clone()?;
    // Our ends of the pipe close with this, when it is dropped.
    let mut spawned = match launcher {
        Some(launcher) => {
            let mut helper = tokio::process::Command::new(&launcher.program);
            helper.args(&launcher.arguments).arg(shell());
            helper
        }
        None => tokio::process::Command::new(shell()),
    };
    spawned
        .arg("-c")
        .arg(&command.line)
        .current_dir(&command.workdir)
        .env_clear()
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .env(tree::MARK, mark)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
}

/// What is told while a command runs.
struct Progress {
    /// The end of what was printed, as much as a line may take.
    recent: Vec<u8>,
    /// Some of it was not told yet.
    pending: bool,
    due: Instant,
}

impl Progress {
    fn new() -> Self {
        Self {
            recent: Vec::new(),
            pending: false,
            due: Instant::now(),
        }
    }

    fn push(&mut self, bytes: &[u8], on_output: &mut impl FnMut(&str)) {
        self.recent
            .extend_from_slice(&bytes[bytes.len().saturating_sub(PROGRESS_BYTES)..]);
        let excess = self.recent.len().saturating_sub(PROGRESS_BYTES);
        self.recent.drain(..excess);
        self.pending |= !bytes.is_empty();
        if self.pending && Instant::now() >= self.due {
            self.tell(on_output);
        }
    }

    fn tell(&mut self, on_output: &mut impl FnMut(&str)) {
        self.pending = false;
        self.due = Instant::now() + PROGRESS_EVERY;
        if let Some(line) = output::last_line(&self.recent, PROGRESS_CHARS) {
            on_output(&line);
        }
    }
}

/// Ends the tree when it is dropped. None once nothing is left of it.
#[derive(Debug)]
struct TreeGuard(Option<Tree>);

impl TreeGuard {
    /// The guard with what it guards; an empty one stays.
    fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    fn shell_ended(&mut self) {
        if let Some(tree) = &mut self.0 {
            tree.shell_ended();
        }
    }

    /// As [`Tree::end_leftovers`], off the runtime's threads where it takes more than a look.
    async fn end_leftovers(mut self) {
        if self.0.as_ref().is_some_and(Tree::clearly_empty) {
            self.0 = None;
        } else {
            self.end().await;
        }
        tree::reap_strays();
    }

    /// Ends all of it and waits until it is gone.
    async fn end(mut self) {
        // An error means that the runtime shuts down, which has dropped the guard and so done the work.
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(mut tree) = self.0.take() {
                tree.end();
            }
        })
        .await;
    }
}

impl Drop for TreeGuard {
    /// One look here, since the program may be about to exit; the rest, which takes milliseconds, on a thread.
    fn drop(&mut self) {
        let Some(mut tree) = self.0.take() else {
            return;
        };
        tree.kill();
        // Without a thread to be had, the look above has to do.
        let _ = std::thread::Builder::new().spawn(move || tree.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    /// A directory of its own, in which the scripts leave the numbers of their processes.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            adopt_orphans();
            Self(tempfile::tempdir().unwrap())
        }

        fn command(&self, line: &str) -> Command {
            Command {
                line: line.to_owned(),
                workdir: self.0.path().to_owned(),
                env: for_commands(std::env::vars_os(), &[], 1),
                timeout: Duration::from_secs(30),
            }
        }

        async fn run(&self, line: &str) -> Finished {
            run(self.command(line), CancellationToken::new(), |_| ())
                .await
                .unwrap()
        }

        /// The processes that wrote their number into files called `*.pid`.
        fn pids(&self) -> Vec<i32> {
            let files = std::fs::read_dir(self.0.path()).unwrap().flatten();
            files
                .filter(|file| file.file_name().to_str().unwrap().ends_with(".pid"))
                .filter_map(|file| {
                    std::fs::read_to_string(file.path())
                        .unwrap()
                        .trim()
                        .parse()
                        .ok()
                })
                .collect()
        }

        async fn until_pids(&self, count: usize) -> Vec<i32> {
            for _ in 0..1000 {
                if self.pids().len() == count {
                    return self.pids();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("only {:?} of {count}", self.pids());
        }

        fn assert_deserted(&self, name: &str) {
            let works_here = |process: &std::fs::DirEntry| {
                std::fs::read_link(process.path().join("cwd")).is_ok_and(|dir| dir == self.0.path())
            };
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            let left: Vec<_> = processes
                .filter(works_here)
                .map(|process| process.path())
                .collect();
            assert!(left.is_empty(), "{name}: {left:?}");
        }

        /// Neither alive nor a zombie, within 100 ms.
        async fn assert_gone(&self, pids: &[i32]) {
            let deadline = Instant::now() + Duration::from_millis(100);
            let there = |pid: &&i32| std::fs::exists(format!("/proc/{pid}")).unwrap();
            while pids.iter().any(|pid| there(&pid)) && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let left: Vec<_> = pids.iter().filter(there).collect();
            assert!(left.is_empty(), "still there: {left:?}");
        }
    }

    /// Each starts a process that would live for long, records it, and goes on at once.
    const NASTY: &[(&str, &str)] = &[
        ("background", "sh -c 'echo $$ >a.pid; exec sleep 60' &"),
        (
            "nohup",
            "nohup sh -c 'echo $$ >a.pid; exec sleep 60' >/dev/null 2>&1 &",
        ),
        (
            "setsid",
            "setsid sh -c 'echo $$ >a.pid; exec sleep 60' >/dev/null 2>&1 &",
        ),
        (
            "double fork",
            "(setsid sh -c '(sh -c \"echo \\$\\$ >a.pid; exec sleep 60\" >/dev/null 2>&1 &) & exit' &)",
        ),
        (
            "ignores signals",
            "sh -c 'trap \"\" TERM HUP INT QUIT; echo $$ >a.pid; while :; do sleep 1; done' &",
        ),
        (
            "own group",
            "set -m; sh -c 'echo $$ >a.pid; exec sleep 60' >/dev/null 2>&1 & set +m",
        ),
        (
            "no mark but holds the pipe",
            "env -i /bin/sh -c 'setsid sh -c \"echo \\$\\$ >a.pid; exec sleep 60\" &'",
        ),
        (
            "no mark but has a parent",
            "setsid sh -c 'env -i setsid sh -c \"echo \\$\\$ >a.pid; exec sleep 60\" >/dev/null 2>&1; :' >/dev/null 2>&1 &",
        ),
    ];

    #[tokio::test]
    async fn output_and_errors_come_in_order_with_the_code() {
        let place = Place::new();
        let finished = place
            .run("echo one; echo two >&2; echo three; pwd; cat; exit 7")
            .await;
        let dir = place.0.path().display();
        assert_eq!(finished.output, format!("one\ntwo\nthree\n{dir}\n"));
        assert_eq!(finished.exit, Exit::Code(7));
        assert_eq!(finished.omitted_bytes, 0);
    }

    #[tokio::test]
    async fn a_signal_is_told_from_a_code() {
        let place = Place::new();
        for (line, exit) in [
            ("kill -9 $$", Exit::Signal(9)),
            ("kill -TERM $$; sleep 5", Exit::Signal(15)),
            ("exit 137", Exit::Code(137)),
            ("sh -c 'kill -9 $$'; exit $?", Exit::Code(137)),
            ("nonesuch-command", Exit::Code(127)),
        ] {
            assert_eq!(place.run(line).await.exit, exit, "{line}");
        }
    }

    #[tokio::test]
    async fn what_cannot_start_says_why() {
        let place = Place::new();
        let file = place.0.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut nowhere = place.command("true");
        nowhere.workdir = place.0.path().join("nowhere");
        let mut not_a_dir = place.command("true");
        not_a_dir.workdir = file;
        for (command, words) in [
            (nowhere, &["nowhere", "No such file"][..]),
            (not_a_dir, &["file", "not a directory"]),
            (
                place.command(&format!("true {}", "x".repeat(1 << 20))),
                &["too long"],
            ),
            (place.command("true \0"), &["NUL"]),
        ] {
            let error = run(command, CancellationToken::new(), |_| ())
                .await
                .unwrap_err()
                .to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    #[tokio::test]
    async fn the_environment_is_what_was_given() {
        let place = Place::new();
        let mut command = place.command("env");
        command.env = vec![("ONLY".into(), "this".into())];
        let output = run(command, CancellationToken::new(), |_| ())
            .await
            .unwrap()
            .output;
        assert!(
            output.contains("ONLY=this\n") && !output.contains("HOME="),
            "{output}"
        );
    }

    #[tokio::test]
    async fn nothing_is_left_behind_when_a_command_ends_by_itself() {
        for (name, script) in NASTY {
            let place = Place::new();
            let finished = place
                .run(&format!(
                    "{script}\nuntil [ -s a.pid ]; do sleep 0.01; done; echo done"
                ))
                .await;
            assert_eq!(finished.output, "done\n", "{name}");
            assert_eq!(place.pids().len(), 1, "{name}");
            place.assert_gone(&place.pids()).await;
        }
    }

    #[tokio::test]
    async fn what_is_just_being_started_does_not_slip_away() {
        for (name, script) in NASTY {
            for milliseconds in 0..12 {
                let place = Place::new();
                place
                    .run(&format!("{script}\nsleep 0.{milliseconds:03}"))
                    .await;
                place.assert_deserted(name);
            }
        }
    }

    #[tokio::test]
    async fn the_whole_tree_dies_at_the_time_out_at_cancellation_and_when_dropped() {
        for (name, script) in NASTY {
            for end in ["time-out", "cancel", "drop"] {
                let place = Place::new();
                let mut command = place.command(&format!(
                    "echo $$ >shell.pid; {script}\nwhile :; do sleep 1; done"
                ));
                if end == "time-out" {
                    command.timeout = Duration::from_millis(400);
                }
                let cancel = CancellationToken::new();
                let task = tokio::spawn(run(command, cancel.clone(), |_| ()));
                let pids = place.until_pids(2).await;
                match end {
                    "cancel" => cancel.cancel(),
                    "drop" => task.abort(),
                    _ => {}
                }
                match (end, task.await) {
                    ("time-out", Ok(finished)) => {
                        assert_eq!(finished.unwrap().exit, Exit::TimedOut)
                    }
                    ("cancel", Ok(finished)) => assert_eq!(finished.unwrap().exit, Exit::Cancelled),
                    ("drop", Err(e)) => assert!(e.is_cancelled()),
                    (_, result) => panic!("{name}, {end}: {result:?}"),
                }
                place.assert_gone(&pids).await;
            }
        }
    }

    #[tokio::test]
    async fn a_flood_of_forks_ends() {
        let place = Place::new();
        let mut command = place.command("f() { setsid sh -c 'sleep 0.01; exec sleep 60' & f; }; f");
        command.timeout = Duration::from_millis(200);
        let finished = run(command, CancellationToken::new(), |_| ())
            .await
            .unwrap();
        assert_eq!(finished.exit, Exit::TimedOut);
        assert!(finished.seconds < 2.0, "{}", finished.seconds);
        place.assert_deserted("a flood of forks");
    }

    #[tokio::test]
    async fn a_holder_of_the_pipe_does_not_delay_the_answer() {
        let place = Place::new();
        for line in [
            "sleep 5 & echo started",
            "yes started & sleep 0.05; echo started",
        ] {
            let finished = place.run(line).await;
            assert!(finished.seconds < 1.0, "{line}: {}", finished.seconds);
            assert!(finished.output.contains("started"), "{line}");
        }
    }

    #[tokio::test]
    async fn what_the_shell_did_not_wait_for_may_still_print() {
        let place = Place::new();
        let finished = place.run("(sleep 0.02; echo late) &").await;
        assert_eq!(finished.output, "late\n");
    }

    #[tokio::test]
    async fn two_commands_at_once_leave_each_other_alone() {
        let place = Place::new();
        let long = "setsid sh -c 'echo $$ >long.pid; sleep 0.6; echo survived >proof' >/dev/null 2>&1 & wait; sleep 0.8; cat proof";
        let (long, ()) = tokio::join!(place.run(long), async {
            place.until_pids(1).await;
            for _ in 0..3 {
                place
                    .run("setsid sleep 60 >/dev/null 2>&1 & sleep 0.01")
                    .await;
            }
            let mut command = place.command("sleep 60");
            command.timeout = Duration::from_millis(20);
            run(command, CancellationToken::new(), |_| ())
                .await
                .unwrap();
        });
        assert_eq!(long.output, "survived\n");
    }

    #[tokio::test]
    async fn children_of_others_keep_their_lives_and_their_status() {
        let place = Place::new();
        let mut living = tokio::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let mut ended = tokio::process::Command::new("setsid")
            .args(["sh", "-c", "exit 5"])
            .spawn()
            .unwrap();
        for (_, script) in NASTY {
            place.run(script).await;
        }
        place.assert_deserted("beside others");
        tokio::time::sleep(Duration::from_millis(2100)).await;
        place.run("true").await;
        assert_eq!(ended.wait().await.unwrap().code(), Some(5));
        assert!(living.try_wait().unwrap().is_none());
        living.kill().await.unwrap();
    }

    #[tokio::test]
    async fn orphans_that_end_by_themselves_do_not_stay_as_zombies() {
        let place = Place::new();
        place
            .run(
                "(setsid sh -c 'echo $$ >a.pid' &) ; set -m; (sh -c 'echo $$ >b.pid' &); sleep 0.1",
            )
            .await;
        assert_eq!(place.pids().len(), 2);
        place.run("true").await;
        tokio::time::sleep(Duration::from_millis(2100)).await;
        place.run("true").await;
        place.assert_gone(&place.pids()).await;
    }

    #[tokio::test]
    async fn a_flood_is_kept_in_bounded_memory() {
        fn resident() -> usize {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status
                .lines()
                .find(|line| line.starts_with("VmRSS:"))
                .unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        }
        let place = Place::new();
        let highest = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&highest);
        let before = resident();
        let flood = place
            .command("echo first; head -c 100000000 /dev/zero | tr '\\0' 'x'; echo; echo last");
        let finished = run(flood, CancellationToken::new(), move |_| {
            let mut highest = seen.lock().unwrap();
            *highest = resident().max(*highest);
        });
        let finished = finished.await.unwrap();
        assert!(
            finished.output.starts_with("first\nxxx") && finished.output.ends_with("xxx\nlast\n")
        );
        assert_eq!(finished.omitted_bytes, 100_000_000 + 12 - (128 << 10));
        let growth = highest.lock().unwrap().saturating_sub(before);
        // Other tests grow at the same time, but not by what a flood would add.
        assert!(growth < 30_000, "{growth} KiB");
    }

    #[tokio::test]
    async fn a_flood_does_not_put_off_the_time_out() {
        let place = Place::new();
        let mut command = place.command("yes");
        command.timeout = Duration::from_millis(200);
        let finished = run(command, CancellationToken::new(), |_| ())
            .await
            .unwrap();
        assert_eq!(finished.exit, Exit::TimedOut);
        assert!(
            finished.seconds < 1.0 && finished.omitted_bytes > 0,
            "{}",
            finished.seconds
        );
    }

    #[tokio::test]
    async fn progress_is_told_while_it_runs_and_what_came_too_soon_is_told_later() {
        let place = Place::new();
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let command = place
            .command("printf '10%%\\r'; sleep 0.02; printf '50%%\\r'; sleep 0.3; echo; echo end");
        let finished = run(command, CancellationToken::new(), move |line| {
            sink.lock().unwrap().push(line.to_owned())
        });
        assert_eq!(finished.await.unwrap().output, "50%\nend\n");
        let told = told.lock().unwrap();
        assert_eq!(told[..2], ["10%", "50%"], "{told:?}");
    }

    #[tokio::test]
    async fn a_command_cancelled_before_it_starts_does_nothing() {
        let place = Place::new();
        let cancel = CancellationToken::new();
        cancel.cancel();
        let finished = run(place.command("touch here"), cancel, |_| ())
            .await
            .unwrap();
        assert_eq!(finished.exit, Exit::Cancelled);
        assert!(!place.0.path().join("here").exists());
    }

    /// Own time beside a bare spawn, and the most memory ever used: `cargo test --release -- --ignored measured`.
    #[tokio::test]
    #[ignore = "a measurement"]
    async fn measured_time_of_true_and_memory_of_a_flood() {
        let place = Place::new();
        let rounds = 500;
        let bare = Instant::now();
        for _ in 0..rounds {
            let mut bash = tokio::process::Command::new("/bin/bash");
            bash.args(["-c", "true"]).status().await.unwrap();
        }
        let bare = bare.elapsed() / rounds;
        let own = Instant::now();
        for _ in 0..rounds {
            place.run("true").await;
        }
        let own = own.elapsed() / rounds;
        let flood = place
            .run("head -c 1000000000 /dev/zero | tr '\\0' 'x'")
            .await;
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let highest = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        let mut log = io::stderr();
        writeln!(
            log,
            "true: bare {bare:?}, run {own:?}; 1 GB in {:.1} s, {highest}",
            flood.seconds
        )
        .unwrap();
    }
}
