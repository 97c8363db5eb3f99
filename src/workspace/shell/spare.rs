//! A helper that was started before there is a command for it, so that the next command need not wait for that.
//!
//! There is at most one to a thread, made ready while a command runs or the model thinks, for one more like the last.
//! It is used only where what would be started now is the same: program, arguments, and what of the machine goes into
//! them. Anything else, a spare that is gone included, costs the command what it costs without one. It ends with its
//! owner, with openoxide, with the turn, or unused after ten seconds.

use std::{
    io::{self, PipeReader, PipeWriter, Write},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::{process::Child, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{Command, Input};
use crate::workspace::sandbox::{Circumstances, Errand, Launcher};

/// So long it is kept unused: a model answers or is busy with something else.
const IDLE: Duration = Duration::from_secs(10);
/// Longer errands may not fit into the pipe at once.
const LONGEST_ERRAND: usize = 32 << 10;

/// The place of one spare.
#[derive(Debug)]
pub struct Spare {
    /// Held for a look and the sending of a few kilobytes that nobody waits for; nobody awaits under it.
    place: Arc<Mutex<Place>>,
    idle: Duration,
}

#[derive(Debug, Default)]
struct Place {
    ready: Option<Ready>,
    /// One is being started.
    is_coming: bool,
    /// One that was being started before the last of these is not wanted any more.
    dismissals: u64,
}

/// A helper that waits.
#[derive(Debug)]
struct Ready {
    launcher: Launcher,
    circumstances: Circumstances,
    process: Held,
    errands: PipeWriter,
    output: PipeReader,
    _idle: Option<AbortOnDropHandle<()>>,
}

/// Killed when it is dropped, unless it was taken.
#[derive(Debug)]
struct Held(Option<Child>);

impl Default for Spare {
    fn default() -> Self {
        Self::new(IDLE)
    }
}

impl Spare {
    /// The place for one that waits for no longer than `idle`.
    pub fn new(idle: Duration) -> Self {
        Self {
            place: Arc::default(),
            idle,
        }
    }

    /// The process that waits, if there is one.
    pub fn id(&self) -> Option<u32> {
        lock(&self.place).ready.as_ref()?.process.0.as_ref()?.id()
    }

    /// Gives `command` to the spare. None if there is none for it: then nothing of it was started.
    pub(super) fn employ(&self, command: &Command, mark: &str) -> Option<(Child, PipeReader)> {
        let launcher = command.behind.as_ref()?;
        if command.input != Input::None {
            return None;
        }
        // Whatever it is good for: what it was made for is over.
        let mut ready = lock(&self.place).ready.take()?;
        let fits = ready.launcher == *launcher && ready.circumstances == launcher.circumstances();
        let errand = serde_json::to_vec(&command.errand(mark)?).ok()?;
        let lives = matches!(ready.process.0.as_mut()?.try_wait(), Ok(None));
        if !fits || !lives || errand.len() > LONGEST_ERRAND {
            return None;
        }
        // Part of an errand is none, so after an error nothing is started.
        ready.errands.write_all(&errand).ok()?;
        Some((ready.process.0.take()?, ready.output))
    }

    /// Starts one for commands behind `launcher`, in the background.
    pub fn prepare(&self, launcher: &Launcher) {
        let dismissals = {
            let mut place = lock(&self.place);
            if place.is_coming
                || place
                    .ready
                    .as_ref()
                    .is_some_and(|it| it.launcher == *launcher)
            {
                return;
            }
            place.is_coming = true;
            place.dismissals
        };
        let (place, launcher, idle) = (Arc::downgrade(&self.place), launcher.clone(), self.idle);
        drop(tokio::task::spawn_blocking(move || {
            // An error means that the next command starts its own, and hears of it.
            let started = Ready::start(launcher).ok();
            let Some(strong) = place.upgrade() else {
                return;
            };
            let mut now = lock(&strong);
            now.is_coming = false;
            if now.dismissals == dismissals {
                now.ready = started.map(|ready| ready.waiting(place, idle));
            }
        }));
    }

    /// Ends it, and one that is being started.
    pub fn dismiss(&self) {
        let mut place = lock(&self.place);
        place.dismissals += 1;
        place.ready = None;
    }
}

impl Ready {
    fn start(launcher: Launcher) -> io::Result<Self> {
        // Before the start: what changes from here on makes them others than those of the command.
        let circumstances = launcher.circumstances();
        let (output, writer) = io::pipe()?;
        let (stdin, errands) = io::pipe()?;
        // A spare that reads nothing does not hold us up.
        fcntl_setfl(&errands, fcntl_getfl(&errands)? | OFlags::NONBLOCK)?;
        let process = tokio::process::Command::new(&launcher.program)
            .args(launcher.in_advance())
            .current_dir("/")
            .env_clear()
            .stdin(Stdio::from(stdin))
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()?;
        Ok(Self {
            launcher,
            circumstances,
            process: Held(Some(process)),
            errands,
            output,
            _idle: None,
        })
    }

    /// It goes from its place after `idle`.
    fn waiting(mut self, place: Weak<Mutex<Place>>, idle: Duration) -> Self {
        let ending = tokio::spawn(async move {
            sleep(idle).await;
            if let Some(place) = place.upgrade() {
                let unused = lock(&place).ready.take();
                drop(unused);
            }
        });
        self._idle = Some(AbortOnDropHandle::new(ending));
        self
    }
}

impl Drop for Held {
    /// What it has started by then ends with it; the runtime reaps it.
    fn drop(&mut self) {
        if let Some(process) = &mut self.0 {
            // An error means that it has ended.
            let _ = process.start_kill();
        }
    }
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    // A panic while it was held leaves what is still whole.
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Command {
    /// None if something of it is no text.
    fn errand(&self, mark: &str) -> Option<Errand> {
        let text = |text: &std::ffi::OsStr| text.to_str().map(str::to_owned);
        let words = self.shell_words().into_iter().map(text);
        let env = self
            .variables(mark)
            .map(|(name, value)| Some((text(name)?, text(value)?)));
        Some(Errand {
            words: words.collect::<Option<_>>()?,
            env: env.collect::<Option<_>>()?,
            workdir: self.workdir.clone(),
        })
    }
}
