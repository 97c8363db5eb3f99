//! What stands between a command and the machine.
//!
//! A [`Sandbox`] knows what this machine offers; it finds out once, by trying, when it is first asked. A
//! [`Confinement`] is one thread's share of it: its private directories, and what its policy leaves a command. What
//! comes out of it is a [`Launcher`]: our own program in front of the command's, which confines itself and then starts
//! it (`helper`). The kernel does the rest; nothing here asks anybody or decides whether a command runs.

mod circumstances;
mod confinement;
mod errand;
mod git;
#[cfg(target_os = "linux")]
mod helper;
mod orders;
mod plan;
mod probe;
mod scratch;
mod survey;

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

pub use circumstances::Circumstances;
pub use confinement::Confinement;
pub use errand::Errand;
use plan::{Layers, Plan};
use scratch::Ground;
pub use scratch::clear_up;

/// Runs as the sandbox's helper, if that is what the program's own `arguments` ask for. To be called first of all.
pub fn run_if_asked(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    #[cfg(target_os = "linux")]
    return helper::run_if_asked(arguments);
    #[cfg(not(target_os = "linux"))]
    {
        drop(arguments);
        None
    }
}

/// How much of what a policy forbids the kernel enforces here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// All of it.
    Whole,
    /// All but these.
    Partial(Vec<&'static str>),
    /// Nothing.
    None,
}

/// What this machine offers.
#[derive(Debug)]
pub struct Sandbox {
    program: PathBuf,
    offer: OnceLock<probe::Offer>,
    /// Made with the first command. Held while it is; nobody awaits under it.
    ground: Mutex<Option<Arc<Ground>>>,
}

impl Sandbox {
    /// With `program` as the helper: an openoxide. By default the one that runs, even if its file was replaced.
    pub fn new(program: Option<PathBuf>) -> Self {
        Self {
            program: program.unwrap_or_else(|| PathBuf::from("/proc/self/exe")),
            offer: OnceLock::new(),
            ground: Mutex::default(),
        }
    }

    /// One that claims to have everything: for tests of what is decided on it, which start nothing.
    #[cfg(test)]
    pub(crate) fn whole() -> Self {
        let offer = probe::Offer {
            layers: Some(Layers::ALL),
            troubles: Vec::new(),
        };
        Self {
            program: PathBuf::new(),
            offer: OnceLock::from(offer),
            ground: Mutex::default(),
        }
    }

    /// Where the private directories of threads are.
    fn ground(&self) -> io::Result<Arc<Ground>> {
        let mut ground = self.ground.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ground) = ground.as_ref().filter(|ground| ground.is_there()) {
            return Ok(ground.clone());
        }
        Ok(ground.insert(Arc::new(Ground::make()?)).clone())
    }

    /// Finds out what there is, in the background, so that the first command need not wait; and removes what killed
    /// programs have left.
    pub fn look_ahead(self: &Arc<Self>) {
        if self.offer.get().is_some() {
            return;
        }
        let sandbox = self.clone();
        // Without a thread to be had, the first command finds out.
        let _ = std::thread::Builder::new().spawn(move || {
            sandbox.offer();
            scratch::sweep_once();
        });
    }

    /// How much is enforced. Waits a few milliseconds where nobody has looked before.
    pub fn protection(&self) -> Protection {
        match self.offer().layers {
            Some(layers) => match missing(layers) {
                missing if missing.is_empty() => Protection::Whole,
                missing => Protection::Partial(missing),
            },
            None => Protection::None,
        }
    }

    /// Whether commands that must not see each other can be kept apart here. Found out by letting one try, in a
    /// directory that is made in `state` for the time of that.
    ///
    /// # Errors
    /// One line that says what is missing.
    pub fn try_to_separate(&self, state: &Path) -> Result<(), String> {
        let offer = self.offer();
        match offer.layers.filter(|layers| layers.separate()) {
            Some(layers) => probe::separates(&self.program, layers, state),
            None => Err(format!(
                "it takes namespaces, a `/proc` of their own and system call filters, and there is {}{}",
                self.by(),
                offer
                    .troubles
                    .iter()
                    .map(|why| format!("; {why}"))
                    .collect::<String>()
            )),
        }
    }

    /// What else somebody should know who relies on it: too little to ask for an approval each time.
    pub fn notes(&self) -> Vec<&'static str> {
        let Some(layers) = self.offer().layers else {
            return Vec::new();
        };
        let notes = [
            (
                layers.namespaces && !layers.own_proc,
                "names and command lines of other processes can be seen",
            ),
            (
                layers.namespaces && !layers.landlock,
                "with `--network`, abstract Unix sockets outside can be reached",
            ),
            (
                layers.namespaces && !layers.sealed,
                "Unix sockets outside that appear while a command runs, or were bound by a relative path, can be reached",
            ),
        ];
        notes
            .into_iter()
            .filter_map(|(applies, note)| applies.then_some(note))
            .collect()
    }

    /// The layers in force, joined by `+`; `none` where there is none.
    pub fn by(&self) -> String {
        let Some(layers) = self.offer().layers else {
            return "none".to_owned();
        };
        let names = [
            (layers.namespaces, "namespaces"),
            (layers.landlock, "landlock"),
            (layers.seccomp, "seccomp"),
        ];
        let names: Vec<&str> = names
            .iter()
            .filter_map(|(there, name)| there.then_some(*name))
            .collect();
        names.join("+")
    }

    /// What was tried and did not work, and why.
    pub fn troubles(&self) -> &[String] {
        &self.offer().troubles
    }

    fn offer(&self) -> &probe::Offer {
        self.offer.get_or_init(|| probe::look(&self.program))
    }

    /// What stands in front of a program of our own that only reads, in `workdir` and `place`: it can write nothing and
    /// reaches no network. None where this machine has no sandbox.
    pub(in crate::workspace) fn reader(
        &self,
        workdir: &Path,
        place: &Path,
        closed: &[PathBuf],
    ) -> io::Result<Option<Launcher>> {
        let Some(layers) = self.offer().layers else {
            return Ok(None);
        };
        // A directory for temporary files may be named by a link, which the helper does not follow.
        let workdir = &*workdir.canonicalize()?;
        let readable = [workdir, place].map(Path::to_owned).to_vec();
        let mut hidden = closed.to_vec();
        hidden.retain(|hidden| !readable.iter().any(|place| place.starts_with(hidden)));
        let plan = Plan {
            layers,
            readable,
            hidden,
            ..Plan::nothing(workdir)
        };
        self.launcher(plan).map(Some)
    }

    fn launcher(&self, plan: Plan) -> io::Result<Launcher> {
        let text = serde_json::to_string(&plan).map_err(|error| {
            io::Error::other(format!(
                "a path of the sandbox cannot be written down: {error}"
            ))
        })?;
        let arguments = ["sandbox-exec", &text, &std::process::id().to_string(), "--"];
        Ok(Launcher {
            program: self.program.clone(),
            arguments: arguments.map(OsString::from).to_vec(),
            private_tmp: true,
            plan: Some(plan),
        })
    }

    /// What stands in front of a command that is not confined, so that nothing of it outlives this process. None where
    /// the kernel does not have what it needs.
    #[cfg(target_os = "linux")]
    pub fn keeper(&self) -> Option<Launcher> {
        if !helper::can_keep() {
            return None;
        }
        let arguments = [helper::KEEPER, &std::process::id().to_string(), "--"];
        Some(Launcher {
            program: self.program.clone(),
            arguments: arguments.map(OsString::from).to_vec(),
            private_tmp: false,
            plan: None,
        })
    }

    /// There is none for this system.
    #[cfg(not(target_os = "linux"))]
    pub fn keeper(&self) -> Option<Launcher> {
        None
    }
}

/// What the policies forbid and these layers do not enforce.
fn missing(layers: Layers) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !layers.namespaces {
        missing.extend([
            "`.git/config`, `.git/hooks`, `.mcp.json` and the like are writable",
            "modes, owners, times and attributes of files outside can be changed",
            "names of files in closed places such as `~/.ssh` can be seen",
            "other processes and their open files can be seen, their priorities and limits changed",
            "`/tmp` and `/dev/shm` are closed instead of private",
            "there is no loopback",
        ]);
    } else if !layers.own_network {
        missing.push("there is no loopback");
    }
    if !layers.own_proc && !layers.landlock {
        missing.push("the environment of other processes can be read");
    }
    if !layers.seccomp {
        missing.push("system calls are not filtered");
    }
    missing
}

/// The sockets that somebody outside listens at.
fn listening() -> Vec<PathBuf> {
    #[cfg(target_os = "linux")]
    return helper::sockets();
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

#[cfg(target_os = "linux")]
use helper::WAITING;
#[cfg(not(target_os = "linux"))]
const WAITING: &str = "";

/// Variables that lead to temporary directories outside; inside, `/tmp` is the place.
pub const TEMPORARY: [&str; 3] = ["TMPDIR", "TMP", "TEMP"];

/// What is put in front of a command so that it runs confined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// To be executed in place of the command's own program.
    pub program: PathBuf,
    /// Before the command's program and its arguments.
    pub arguments: Vec<OsString>,
    /// `/tmp` is the command's own behind it.
    pub private_tmp: bool,
    /// What it is to carry out.
    plan: Option<Plan>,
}

impl Launcher {
    /// The arguments with which it makes everything ready and then waits for an [`Errand`], until the end of its standard
    /// input.
    pub fn in_advance(&self) -> Vec<&OsStr> {
        let last = self.arguments.len().saturating_sub(1);
        let arguments = self.arguments[..last].iter().map(OsString::as_os_str);
        arguments.chain([OsStr::new(WAITING)]).collect()
    }

    /// What, besides its arguments, must be the same for one that was started before.
    pub fn circumstances(&self) -> Circumstances {
        Circumstances::of(self.plan.as_ref())
    }
}
