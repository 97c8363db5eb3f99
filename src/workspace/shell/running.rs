//! A command under way: reads what it prints, types what is given, and sees it end.

use std::{
    future::Future,
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    super::checkpoint,
    Command, Input, ShellError,
    child::{Child, InTerminal},
    guard::TreeGuard,
    output::Capture,
    progress::Progress,
    spare::Spare,
    terminal,
    tree::{self, Tree},
    wires::{LONGEST_LINE, Transfer, Wires},
};

/// Silence after which a pipe that outlives its shell is given up.
const DRAIN_IDLE: Duration = Duration::from_millis(50);
/// The same for one that is never silent.
const DRAIN_MOST: Duration = Duration::from_millis(250);
/// After so much silence a command has said what it had to say for now.
const QUIET: Duration = Duration::from_secs(1);
/// What may wait to be read by the command, in bytes.
const MOST_TYPED: usize = 1 << 20;
const INTERRUPT: u8 = 0x03;
const END_OF_INPUT: u8 = 0x04;

/// A command that was started. Dropping it ends the command.
pub struct Running {
    line: String,
    workdir: PathBuf,
    child: Child,
    wires: Wires,
    capture: Capture,
    progress: Progress,
    /// Not read by the command yet.
    typed: Vec<u8>,
    /// The input ends after that.
    closing: bool,
    tree: TreeGuard,
    started: Instant,
    deadline: Instant,
    exit: Option<Exit>,
    /// Once nothing is left of it.
    took: Option<Duration>,
    /// That it may change files until then.
    under_way: Option<Arc<checkpoint::Running>>,
}

/// What a command did since it was last looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// What it printed, as a person would have seen it: at most the first and the last 64 KiB.
    pub output: String,
    /// Bytes between them, or all if the output is binary.
    pub omitted_bytes: u64,
    /// None while it runs.
    pub exit: Option<Exit>,
    /// From before the start until now, or until nothing was left of it.
    pub seconds: f64,
    /// Bytes that were typed and that it has not read.
    pub unread: usize,
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

/// How long to watch a command that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until it ends.
    End,
    /// So long.
    For(Duration),
    /// Until it has said something and then nothing for a second; at most so long.
    Quiet(Duration),
}

/// Why something was not typed. The words are for the model.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("its input has ended; it can only be looked at")]
    Closed,
    #[error("it has not read {0} bytes that were typed before; look again first")]
    Full(usize),
    #[error(
        "a terminal takes lines of at most {LONGEST_LINE} bytes, and one of these has {0}; write it to a file and let the command read that"
    )]
    LineTooLong(usize),
}

impl Seen {
    pub(super) fn nothing(exit: Exit) -> Self {
        Self {
            output: String::new(),
            omitted_bytes: 0,
            exit: Some(exit),
            seconds: 0.0,
            unread: 0,
        }
    }
}

impl Running {
    /// Starts `command`.
    ///
    /// # Errors
    /// It could not be started: then nothing of it is there.
    pub fn start(command: &Command) -> Result<Self, ShellError> {
        Self::start_with(command, None)
    }

    /// The same, by the `spare` if it is one for this command.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub fn start_with(command: &Command, spare: Option<&Spare>) -> Result<Self, ShellError> {
        command.check()?;
        let started = Instant::now();
        let mark = tree::new_mark();
        let spawned = match command.input {
            Input::Terminal => in_terminal(command, &mark),
            Input::None | Input::Pipe => match spare.and_then(|spare| spare.employ(command, &mark))
            {
                Some((child, output)) => by_spare(command, &mark, child, output),
                None => on_pipes(command, &mark),
            },
        };
        let (child, wires, tree) = spawned.map_err(|error| command.failed(error))?;
        Ok(Self {
            line: command.line.clone(),
            workdir: command.workdir.clone(),
            child,
            wires,
            capture: Capture::default(),
            progress: Progress::new(),
            typed: Vec::new(),
            closing: false,
            tree,
            started,
            deadline: started + command.timeout,
            exit: None,
            took: None,
            under_way: None,
        })
    }

    /// Holds `under_way` until nothing is left of the command, however long that is.
    pub fn note(&mut self, under_way: Option<Arc<checkpoint::Running>>) {
        self.under_way = under_way;
    }

    /// The shell line.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Where it started.
    pub fn workdir(&self) -> &Path {
        &self.workdir
    }

    /// Of its whole life.
    pub fn timeout(&self) -> Duration {
        self.deadline - self.started
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Lets it go on until it ends or `patience` does. Ends it when `cancel` is cancelled.
    ///
    /// `on_output` is told the last line that shows something, at most ten times a second; it should not block.
    pub async fn watch(
        &mut self,
        patience: Patience,
        cancel: &CancellationToken,
        mut on_output: impl FnMut(&str) + Send,
    ) {
        let (longest, quiet) = match patience {
            Patience::End => (None, None),
            Patience::For(longest) => (Some(longest), None),
            Patience::Quiet(longest) => (Some(longest), Some(QUIET)),
        };
        let pause = async {
            match longest {
                Some(longest) => sleep(longest).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = self.go_on(pause, quiet, &mut on_output) => return,
        }
        self.end(Exit::Cancelled).await;
    }

    /// Lets it go on until it ends or `pause` does.
    pub(super) async fn watch_until(&mut self, pause: impl Future<Output = ()>) {
        self.go_on(pause, None, &mut |_: &str| ()).await;
    }

    /// What it did since the last look.
    pub fn look(&mut self) -> Seen {
        let (output, omitted_bytes) = self.capture.take(self.exit.is_some());
        Seen {
            output,
            omitted_bytes,
            exit: self.exit,
            seconds: self
                .took
                .unwrap_or_else(|| self.started.elapsed())
                .as_secs_f64(),
            unread: self.typed.len(),
        }
    }

    /// Types `keys`, which the command reads when it is watched. In a terminal they are what they are there. On pipes
    /// Ctrl-C alone interrupts all processes of the command, and Ctrl-D at the end ends the input.
    ///
    /// # Errors
    /// Nothing of it was typed.
    pub fn type_in(&mut self, keys: &[u8]) -> Result<(), InputError> {
        if self.exit.is_some() || keys.is_empty() {
            return Ok(());
        }
        if !self.wires.is_terminal() && keys == [INTERRUPT] {
            self.tree.interrupt();
            return Ok(());
        }
        if !self.wires.takes_input() || self.closing {
            return Err(InputError::Closed);
        }
        if self.typed.len() + keys.len() > MOST_TYPED {
            return Err(InputError::Full(self.typed.len()));
        }
        if self.wires.takes_lines() {
            let ends = |byte: &u8| matches!(byte, b'\n' | b'\r' | &END_OF_INPUT);
            let longest = keys.split(ends).map(<[u8]>::len).max().unwrap_or(0);
            if longest > LONGEST_LINE {
                return Err(InputError::LineTooLong(longest));
            }
        }
        match keys.strip_suffix(&[END_OF_INPUT]) {
            Some(text) if !self.wires.is_terminal() => {
                self.typed.extend_from_slice(text);
                self.closing = true;
                self.close_when_typed();
            }
            _ => self.typed.extend_from_slice(keys),
        }
        Ok(())
    }

    /// Moves what comes and goes until the shell has ended, the time is up, or `pause` ends, or it has been `quiet` for
    /// so long after it said something.
    async fn go_on(
        &mut self,
        pause: impl Future<Output = ()>,
        quiet: Option<Duration>,
        on_output: &mut (impl FnMut(&str) + Send),
    ) {
        if self.exit.is_some() {
            return;
        }
        tokio::pin!(pause);
        let mut silent_at = None;
        let ended = loop {
            let (progress, silence) = (self.progress.pending, silent_at);
            tokio::select! {
                // First, since a flood uses up the budget that tokio gives a task, and a timer asked after that never fires.
                biased;
                () = &mut pause => return,
                () = sleep_until(self.deadline.into()) => break Err(Exit::TimedOut),
                status = self.child.wait() => break Ok(status),
                moved = self.wires.transfer(&self.typed) => match moved {
                    Transfer::Came(bytes) => {
                        self.capture.push(bytes);
                        self.progress.push(bytes, on_output);
                        silent_at = quiet.map(|quiet| Instant::now() + quiet);
                    }
                    Transfer::Went(count) => drop(self.typed.drain(..count)),
                    Transfer::Refused => self.typed.clear(),
                },
                () = sleep_until(self.progress.due.into()), if progress => self.progress.tell(on_output),
                () = sleep_until(silence.unwrap_or(self.deadline).into()), if silence.is_some() => return,
            }
            self.close_when_typed();
        };
        match ended {
            Ok(status) => self.clear_up(status).await,
            Err(exit) => self.end(exit).await,
        }
    }

    fn close_when_typed(&mut self) {
        if self.closing && self.typed.is_empty() {
            self.wires.close_input();
        }
    }

    /// After the shell has ended by itself: takes what is still on the way and ends what is left of the command.
    async fn clear_up(&mut self, status: io::Result<ExitStatus>) {
        let exit = exit(status);
        self.exit = Some(exit);
        if self.tree.is_certainly_over(exit == Exit::Signal(9)) {
            self.tree.release();
        }
        self.tree.shell_ended();
        // What the shell did not wait for, such as `tee` in `exec > >(tee log)`, ends a moment later.
        self.drain().await;
        self.tree.take().end_leftovers().await;
        self.drain().await;
        self.is_over();
    }

    /// Ends the command before it has ended by itself.
    pub(super) async fn end(&mut self, exit: Exit) {
        if self.exit.is_some() {
            return;
        }
        self.exit = Some(exit);
        self.tree.take().end().await;
        // It has been killed; only one that the kernel cannot end is waited for in vain.
        let _ = timeout(DRAIN_MOST, self.child.wait()).await;
        self.drain().await;
        self.is_over();
    }

    fn is_over(&mut self) {
        self.took = Some(self.started.elapsed());
        self.under_way = None;
    }

    /// Reads until nobody has the other end, or those who still do are silent for a while or have had their time.
    async fn drain(&mut self) {
        let deadline = tokio::time::Instant::now() + DRAIN_MOST;
        while !self.wires.at_end && tokio::time::Instant::now() < deadline {
            match timeout(DRAIN_IDLE, self.wires.read()).await {
                Ok(bytes) => self.capture.push(bytes),
                Err(_) => return,
            }
        }
    }
}

fn exit(status: io::Result<ExitStatus>) -> Exit {
    match status.map(|status| (status.code(), status.signal())) {
        Ok((Some(code), _)) => Exit::Code(code),
        Ok((None, Some(signal))) => Exit::Signal(signal),
        // Somebody else has waited for the child: a defect, but its output is still worth having.
        Ok((None, None)) | Err(_) => Exit::Code(-1),
    }
}

type Spawned = (Child, Wires, TreeGuard);

fn by_spare(
    command: &Command,
    mark: &str,
    child: tokio::process::Child,
    output: io::PipeReader,
) -> io::Result<Spawned> {
    let child = Child::Piped(Box::new(child));
    let tree = Tree::new(child.id()?, mark, tree::pipe_name(&output), None);
    let tree = guard(command, tree);
    Ok((child, Wires::piped(output, None)?, tree))
}

fn on_pipes(command: &Command, mark: &str) -> io::Result<Spawned> {
    let (output, writer) = io::pipe()?;
    let (stdin, input) = match command.input {
        Input::Pipe => {
            let (reader, writer) = io::pipe()?;
            (Stdio::from(reader), Some(writer))
        }
        Input::None | Input::Terminal => (Stdio::null(), None),
    };
    let name = tree::pipe_name(&output);
    let wires = Wires::piped(output, input)?;
    let words = command.words();
    let child = tokio::process::Command::new(words[0])
        .args(&words[1..])
        .current_dir(&command.workdir)
        .env_clear()
        .envs(command.variables(mark))
        .stdin(stdin)
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    let child = Child::Piped(Box::new(child));
    let tree = guard(command, Tree::new(child.id()?, mark, name, None));
    Ok((child, wires, tree))
}

fn in_terminal(command: &Command, mark: &str) -> io::Result<Spawned> {
    let started = terminal::start(&command.words(), command, mark)?;
    let child = Child::InTerminal(Box::new(InTerminal::new(started.process)?));
    let held = started.master.try_clone()?;
    let tree = guard(
        command,
        Tree::new(child.id()?, mark, started.name, Some(held)),
    );
    let wires = Wires::terminal(started.master)?;
    Ok((child, wires, tree))
}

fn guard(command: &Command, tree: Tree) -> TreeGuard {
    TreeGuard(Some(match command.behind {
        Some(_) => tree.behind_helper(),
        None => tree,
    }))
}
