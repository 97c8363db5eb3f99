//! `openoxide -m "task"`: one turn in the current directory.

use std::{
    collections::HashSet,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anstyle::Style;
use anyhow::{Context, anyhow, bail};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::broadcast::{Receiver, error::RecvError},
};

use super::{
    args::{Options, Output},
    is_broken_pipe, prompt,
    report::Report,
    threads,
};
use crate::{
    app::{App, HeaderError, Wish},
    conversation::{
        Approval, ApprovalId, Event, Outcome, Prompt, ResolvedBy, Status, ThreadId, TurnErrorKind,
        shown_text,
    },
    frontend::attach::attach,
    thread::{Snapshot, StartError, Started, ThreadHandle},
};

/// Stopped by a signal, or by a reader that went away.
pub(super) const INTERRUPTED: u8 = 130;

/// How long an interrupted turn may take to wind down.
const GRACE: Duration = Duration::from_secs(5);

/// One turn as it was asked for.
pub(super) struct Run {
    task: Option<String>,
    resume: Option<String>,
    newest: bool,
    output: Output,
    files: Vec<String>,
    images: Vec<String>,
    isolated: bool,
    instructions: Option<String>,
}

impl Run {
    #[expect(clippy::too_many_arguments, reason = "one for each flag")]
    pub(super) fn new(
        message: Option<String>,
        resume: Option<String>,
        newest: bool,
        output: Output,
        files: Vec<String>,
        images: Vec<String>,
        isolated: bool,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let task = match message.as_deref() {
            Some("-") => Some(
                io::read_to_string(io::stdin().lock())
                    .context("failed to read the task from standard input")?,
            ),
            _ => message,
        };
        if task.as_ref().is_some_and(|task| task.trim().is_empty()) {
            bail!("the task is empty");
        }
        Ok(Self {
            task,
            resume,
            newest,
            output,
            files,
            images,
            isolated,
            instructions: options.instructions.clone(),
        })
    }

    /// Runs it and gives the exit code.
    pub(super) async fn drive(self, app: App) -> anyhow::Result<u8> {
        let ended = self.go(&app).await;
        // Whatever came of it, nothing stays behind: neither turns nor external servers.
        app.shut_down(GRACE).await;
        app.clear_unused_worktrees();
        ended
    }

    async fn go(self, app: &App) -> anyhow::Result<u8> {
        let message = self.message()?;
        app.expire_threads();
        // It may wait for external servers, which must not outlive us.
        let thread = tokio::select! {
            thread = self.thread(app) => thread?,
            signalled = signalled() => return signalled.map(|()| INTERRUPTED).map_err(Into::into),
        };
        if thread.is_far() {
            self.follows(&thread)?;
        }
        let lease = if prompt::is_attended() {
            Some(thread.attend().await?)
        } else {
            None
        };
        let snapshot = thread.subscribe().await?;
        let mut display = Display {
            output: self.output,
            report: self.report(),
            asks: lease.is_some(),
            seen: 0,
            asked: HashSet::new(),
        };
        display.thread(&thread)?;
        let started = match message {
            Some(message) => {
                let message = app.with_resources(message, thread.header()).await;
                thread.start(message).await
            }
            None => thread.resume().await,
        };
        let started = match started {
            Ok(started) => started,
            Err(StartError::NothingToResume) => {
                bail!("{}; give it a task with -m", StartError::NothingToResume)
            }
            Err(error) => bail!(error),
        };
        let followed = follow(&thread, started, snapshot, &mut display).await;
        // Its processes end with it, also those in the background.
        app.threads().shut_down(GRACE).await;
        if followed.as_ref().is_err_and(is_broken_pipe) {
            return Ok(INTERRUPTED);
        }
        let mut outcome = Outcome::clone(&*followed?);
        if outcome.status == Status::ApprovalRequired {
            // It waits for an answer that cannot come here: the question is kept for whoever goes on.
            app.threads().shut_down(GRACE).await;
        }
        // One that nothing came of is gone before it is told of.
        app.clear_unused_worktrees();
        outcome.worktree = outcome.worktree.filter(|worktree| worktree.path.exists());
        outcome.next = next(&outcome);
        display.end(&outcome)?;
        drop(lease);
        Ok(exit_code(&outcome))
    }

    /// Another process works on the thread: its turn can be followed, and takes no task from here.
    fn follows(&self, thread: &ThreadHandle) -> anyhow::Result<()> {
        let id = thread.id();
        if self.task.is_some() {
            bail!(
                "another process works on thread `{id}`; `openoxide --resume {id}` without a task follows its turn, and when that has ended the thread takes this one"
            );
        }
        self.report().line(
            Style::new(),
            "another process works on this thread; following its turn (Ctrl-C leaves it to go on)",
        );
        Ok(())
    }

    async fn thread(&self, app: &App) -> anyhow::Result<ThreadHandle> {
        let id = match (self.resume.as_deref(), self.newest) {
            (Some("last"), _) | (None, true) => newest_here(app)?,
            (Some(id), _) => threads::find(&**app.threads().store(), id)?,
            (None, false) => {
                let wish = Wish {
                    instructions: self.instructions.clone(),
                    isolated: self.isolated,
                    ..Wish::default()
                };
                let header = app.header(wish).await.map_err(HeaderError::into_anyhow)?;
                return Ok(app.threads().create(header)?);
            }
        };
        Ok(app.threads().reach(id).await?)
    }

    /// The task and its files, read before there is a thread. The owner may name any file.
    fn message(&self) -> anyhow::Result<Option<Prompt>> {
        let here = std::env::current_dir()?;
        let named = [self.files.as_slice(), &self.images].concat();
        for image in &self.images {
            let alone = attach("", std::slice::from_ref(image), |name| real(&here, name));
            if alone.map_err(anyhow::Error::msg)?.pictures.is_empty() {
                bail!(
                    "`--image {image}` is no picture: PNG, JPEG, GIF or WebP; for text there is `--file`"
                );
            }
        }
        let message = |task: &String| attach(task, &named, |name| real(&here, name));
        let message = self.task.as_ref().map(message).transpose();
        message.map_err(anyhow::Error::msg)
    }

    fn report(&self) -> Report {
        match self.output {
            Output::Text => Report::Stderr,
            Output::Json | Output::StreamJson => Report::Silent,
        }
    }
}

/// Runs one turn that asks nobody, and shows how it goes.
pub(super) async fn follow_quietly(
    thread: &ThreadHandle,
    task: &str,
    report: Report,
) -> anyhow::Result<Arc<Outcome>> {
    let snapshot = thread.subscribe().await?;
    let started = thread.start(task.to_owned()).await?;
    let mut display = Display {
        output: Output::Text,
        report,
        asks: false,
        seen: 0,
        asked: HashSet::new(),
    };
    follow(thread, started, snapshot, &mut display).await
}

fn real(here: &Path, name: &str) -> Result<PathBuf, String> {
    here.join(name)
        .canonicalize()
        .map_err(|error| format!("file `{name}` cannot be read: {error}"))
}

fn newest_here(app: &App) -> anyhow::Result<ThreadId> {
    let here = app.cwd().canonicalize()?;
    let store = app.threads().store();
    // One that cannot be read must not hide the others.
    let mut threads = store
        .ids()?
        .into_iter()
        .filter_map(|id| store.glance(id).ok());
    let newest = threads.find(|thread| thread.cwd == here && !thread.query);
    newest
        .map(|thread| thread.thread_id)
        .with_context(|| format!("there is no thread of `{}` to continue", here.display()))
}

/// Shows events and carries questions until the turn ends.
async fn follow(
    thread: &ThreadHandle,
    started: Started,
    snapshot: Snapshot,
    display: &mut Display,
) -> anyhow::Result<Arc<Outcome>> {
    let Snapshot {
        items,
        pending,
        mut events,
    } = snapshot;
    display.seen = items.len();
    let mut ended = started.outcome;
    heed_signals(thread.clone())?;
    if thread.is_far() {
        // Asked before we came.
        pending
            .into_iter()
            .for_each(|approval| display.ask(thread, approval));
    }
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Ok(event) => display.event(thread, &event)?,
                Err(RecvError::Lagged(_)) => events = display.catch_up(thread).await?,
                Err(RecvError::Closed) => return ended.await.map_err(|_| lost(thread)),
            },
            // After the events, so that none of them is missed.
            outcome = &mut ended => return outcome.map_err(|_| lost(thread)),
        }
    }
}

fn lost(thread: &ThreadHandle) -> anyhow::Error {
    let id = thread.id();
    match thread.is_far() {
        true => anyhow!(
            "the process that worked on the thread is gone; `openoxide --resume {id}` goes on with its turn"
        ),
        false => anyhow!("the thread was lost inside openoxide"),
    }
}

/// The first signal interrupts the turn, or leaves it where it runs if that is not here. The second, or [`GRACE`], ends
/// the process. A task of its own: a reader of our output that has stopped reading keeps whoever writes to it waiting,
/// and that must not make us deaf.
fn heed_signals(thread: ThreadHandle) -> io::Result<()> {
    let mut signals = signals()?;
    tokio::spawn(async move {
        any(&mut signals).await;
        if !thread.is_far() {
            // If the thread is gone, so is what could be interrupted.
            let _ = thread.interrupt(None).await;
            tokio::select! {
                () = any(&mut signals) => {}
                () = tokio::time::sleep(GRACE) => {}
            }
        }
        std::process::exit(i32::from(INTERRUPTED));
    });
    Ok(())
}

/// Returns when a signal says that it is enough.
pub(super) async fn signalled() -> io::Result<()> {
    any(&mut signals()?).await;
    Ok(())
}

fn signals() -> io::Result<Vec<Signal>> {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ];
    kinds.into_iter().map(signal).collect()
}

async fn any(signals: &mut [Signal]) {
    futures_util::future::select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv())))
        .await;
}

/// Where events go.
struct Display {
    output: Output,
    report: Report,
    asks: bool,
    /// Items of the thread that were shown, or stood there before.
    seen: usize,
    asked: HashSet<ApprovalId>,
}

impl Display {
    fn thread(&self, thread: &ThreadHandle) -> io::Result<()> {
        if self.output != Output::StreamJson {
            return Ok(());
        }
        let header = thread.header();
        json_line(&serde_json::json!({
            "type": "thread.started", "thread_id": header.thread_id, "cwd": header.cwd, "model": header.model,
        }))
    }

    fn event(&mut self, thread: &ThreadHandle, event: &Arc<Event>) -> io::Result<()> {
        self.report.show(event);
        if self.output == Output::StreamJson {
            stream(event)?;
        }
        match &**event {
            Event::ItemCompleted { .. } => self.seen += 1,
            Event::ApprovalRequested { approval } => self.ask(thread, approval.clone()),
            _ => {}
        }
        Ok(())
    }

    /// A reader this slow lost events: items and questions are shown from a new snapshot, deltas are gone.
    async fn catch_up(&mut self, thread: &ThreadHandle) -> anyhow::Result<Receiver<Arc<Event>>> {
        let Snapshot {
            items,
            pending,
            events,
        } = thread.subscribe().await?;
        for item in items.into_iter().skip(self.seen) {
            self.event(thread, &Arc::new(Event::ItemCompleted { item }))?;
        }
        for approval in pending {
            self.ask(thread, approval);
        }
        Ok(events)
    }

    /// Typing takes as long as it takes; events go on meanwhile.
    fn ask(&mut self, thread: &ThreadHandle, approval: Approval) {
        if !self.asks || !self.asked.insert(approval.id) {
            return;
        }
        let thread = thread.clone();
        tokio::spawn(async move {
            let id = approval.id;
            let asked = tokio::task::spawn_blocking(move || prompt::ask(&approval)).await;
            // Somebody else may have been first; then this answer is too late and that was said.
            match asked.ok().flatten() {
                Some(answer) => {
                    let _ = thread.answer(id, answer, ResolvedBy::Terminal).await;
                }
                None => {
                    let _ = thread.give_up(id).await;
                }
            }
        });
    }

    fn end(&self, outcome: &Outcome) -> anyhow::Result<()> {
        self.report.end(outcome);
        match self.output {
            Output::Text if !outcome.content.is_empty() => {
                let mut answer = outcome.content.clone();
                if io::stdout().is_terminal() {
                    answer = shown_text(&answer);
                }
                if !answer.ends_with('\n') {
                    answer.push('\n');
                }
                io::stdout().write_all(answer.as_bytes())?;
            }
            Output::Text => {}
            Output::Json => json_line(&outcome.shown())?,
            Output::StreamJson => {
                let outcome = outcome.shown();
                json_line(&serde_json::json!({"type": "turn.completed", "outcome": outcome}))?;
            }
        }
        Ok(())
    }
}

/// One event for a program. The end of the turn comes later, with what is added to it here.
fn stream(event: &Event) -> io::Result<()> {
    match event {
        Event::TurnCompleted { .. } => Ok(()),
        Event::ItemCompleted { item } => {
            let item = item.clone().without_wire();
            json_line(&serde_json::to_value(Event::ItemCompleted { item })?)
        }
        event => json_line(&serde_json::to_value(event)?),
    }
}

fn json_line(value: &serde_json::Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(format!("{value}\n").as_bytes())?;
    stdout.flush()
}

fn next(outcome: &Outcome) -> Option<String> {
    (outcome.status != Status::Completed)
        .then(|| format!("openoxide --resume {}", outcome.thread_id))
}

/// The codes of the contract.
fn exit_code(outcome: &Outcome) -> u8 {
    let kind = outcome.error.as_ref().map(|error| error.kind);
    match (outcome.status, kind) {
        (Status::Completed | Status::Running, _) => 0,
        (Status::Failed, Some(TurnErrorKind::ModelUnreachable | TurnErrorKind::ModelAuth)) => 3,
        (Status::Failed, _) => 1,
        (Status::ApprovalRequired, _) => 4,
        (Status::LimitReached, _) => 5,
        (Status::Interrupted, _) => INTERRUPTED,
    }
}

impl HeaderError {
    /// With the hint of a configuration error still in reach.
    pub(super) fn into_anyhow(self) -> anyhow::Error {
        match self {
            Self::Config(error) => error.into(),
            Self::Refused(message) => anyhow::Error::msg(message),
        }
    }
}
