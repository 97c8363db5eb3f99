//! What stands between a command and the machine.
//!
//! A [`Sandbox`] knows what this machine offers; it finds out once, by trying, when it is first asked. A
//! [`Confinement`] is one thread's share of it: its private directories, and what its policy leaves a command. What
//! comes out of it is a [`Launcher`]: our own program in front of the command's, which confines itself and then starts
//! it (`helper`). The kernel does the rest; nothing here asks anybody or decides whether a command runs.

mod git;
#[cfg(target_os = "linux")]
mod helper;
mod orders;
mod plan;
mod probe;
mod scratch;
mod survey;

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::Workspace;
use crate::conversation::{SandboxPolicy, SandboxReport};
use plan::{Layers, Plan};
use scratch::Scratch;
pub use scratch::clear_up;
use survey::Survey;

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
}

impl Sandbox {
    /// With `program` as the helper: an openoxide. By default the one that runs, even if its file was replaced.
    pub fn new(program: Option<PathBuf>) -> Self {
        Self {
            program: program.unwrap_or_else(|| PathBuf::from("/proc/self/exe")),
            offer: OnceLock::new(),
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
        }
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

    fn launcher(&self, plan: &Plan) -> io::Result<Launcher> {
        let plan = serde_json::to_string(plan).map_err(|error| {
            io::Error::other(format!(
                "a path of the sandbox cannot be written down: {error}"
            ))
        })?;
        let arguments = ["sandbox-exec", &plan, &std::process::id().to_string(), "--"];
        Ok(Launcher {
            program: self.program.clone(),
            arguments: arguments.map(OsString::from).to_vec(),
        })
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

/// Where the walk through the workspace came to its bounds.
const CUT: &str =
    "the workspace is too large to be looked through: repositories deep in it are not guarded";

/// Variables that lead to temporary directories outside; inside, `/tmp` is the place.
pub const TEMPORARY: [&str; 3] = ["TMPDIR", "TMP", "TEMP"];

/// What is put in front of a command so that it runs confined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// To be executed in place of the command's own program.
    pub program: PathBuf,
    /// Before the command's program and its arguments.
    pub arguments: Vec<OsString>,
}

/// One thread's share of the sandbox. Its private directories are made with its first command and go with it.
#[derive(Debug)]
pub struct Confinement {
    sandbox: Arc<Sandbox>,
    network: bool,
    scratch: OnceLock<Scratch>,
    /// What is known of the workspace. Held for a look at it; nobody awaits under it.
    known: Mutex<Option<Known>>,
}

/// What was in the workspace when it was last walked through.
#[derive(Clone, Debug, Default)]
struct Known {
    survey: Survey,
    /// Of what git runs or obeys, where the kernel does not keep it from being written.
    traces: orders::Traces,
}

impl Confinement {
    /// `network`: whether commands reach the machine's.
    pub fn new(sandbox: Arc<Sandbox>, network: bool) -> Self {
        Self {
            sandbox,
            network,
            scratch: OnceLock::new(),
            known: Mutex::default(),
        }
    }

    /// What this machine offers.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Whether commands reach the machine's network.
    pub fn network(&self) -> bool {
        self.network
    }

    /// What commands under `policy` run behind.
    pub fn report(&self, policy: SandboxPolicy) -> SandboxReport {
        let none = |missing: &[&str]| SandboxReport {
            policy,
            network: true,
            by: "none".to_owned(),
            missing: missing.iter().map(|&what| what.to_owned()).collect(),
        };
        if policy == SandboxPolicy::DangerFullAccess {
            return none(&[]);
        }
        let missing = match self.sandbox.protection() {
            Protection::None => return none(&["filesystem", "network", "processes"]),
            Protection::Whole => Vec::new(),
            Protection::Partial(missing) => missing.into_iter().map(str::to_owned).collect(),
        };
        let notes = self.sandbox.notes().into_iter().map(str::to_owned);
        let cut = self.lock().as_ref().is_some_and(|known| known.survey.cut);
        SandboxReport {
            policy,
            network: self.network,
            by: self.sandbox.by(),
            missing: missing
                .into_iter()
                .chain(notes)
                .chain(cut.then(|| CUT.to_owned()))
                .collect(),
        }
    }

    /// What starts a command in `workdir` under the workspace's policy.
    ///
    /// # Errors
    /// There is no sandbox here at all, or its private directories cannot be made: then the command must not run.
    pub fn launcher(&self, workspace: &Workspace, workdir: &Path) -> io::Result<Launcher> {
        let Some(layers) = self.sandbox.offer().layers else {
            return Err(io::Error::other("there is no sandbox on this machine"));
        };
        let known = self.known(workspace, layers);
        let mut plan = Plan::new(workspace, workspace.sandbox(), workdir, &known.survey);
        plan.layers = layers;
        plan.network = self.network;
        plan.scratch = Some(self.scratch()?.places());
        self.sandbox.launcher(&plan)
    }

    /// Looks what a command has left that git would run or obey, each a sentence for model and user. To be called
    /// after each command; it reads the directories of the workspace.
    pub fn look_after(&self, workspace: &Workspace) -> Vec<String> {
        let Some(layers) = self.sandbox.offer().layers else {
            return Vec::new();
        };
        if workspace.sandbox() != SandboxPolicy::WorkspaceWrite {
            return Vec::new();
        }
        let before = self.known(workspace, layers);
        let now = Known::now(workspace, layers);
        let mut found = Vec::new();
        for repository in &now.survey.repositories {
            let top = &repository.top;
            if !before.survey.repositories.contains(repository)
                && let Some(what) = orders::of(top)
            {
                found.push(format!(
                    "the repository `{}` appeared with {what}: git would run or obey that outside the sandbox, so look at it first",
                    workspace.show(top)
                ));
            }
        }
        let changed = now.traces.iter().filter(|(path, trace)| {
            let known = before.survey.repositories.iter();
            let old = before.traces.get(*path) != Some(trace);
            old && known.clone().any(|found| path.starts_with(&found.top))
        });
        if let Some((path, _)) = changed.clone().next() {
            found.push(format!(
                "`{}` was changed, which git runs or obeys, and the sandbox of this machine could not hold it",
                workspace.show(path)
            ));
        }
        if now.survey.cut && !before.survey.cut {
            found.push(CUT.to_owned());
        }
        *self.lock() = Some(now);
        found
    }

    fn known(&self, workspace: &Workspace, layers: Layers) -> Known {
        let mut known = self.lock();
        known
            .get_or_insert_with(|| Known::now(workspace, layers))
            .clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        // A panic while it was held leaves what is still whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scratch(&self) -> io::Result<&Scratch> {
        if let Some(scratch) = self.scratch.get() {
            return Ok(scratch);
        }
        // Two at once: the second is dropped, and with it its directories.
        let made = Scratch::make()?;
        Ok(self.scratch.get_or_init(|| made))
    }
}

impl Known {
    fn now(workspace: &Workspace, layers: Layers) -> Self {
        let survey = match workspace.sandbox() {
            SandboxPolicy::WorkspaceWrite => {
                Survey::of(workspace.writable_roots(), workspace.closed())
            }
            SandboxPolicy::ReadOnly | SandboxPolicy::DangerFullAccess => Survey::default(),
        };
        let traces = match layers.namespaces {
            true => orders::Traces::new(),
            false => {
                let roots = workspace.writable_roots().iter();
                let repositories =
                    roots.flat_map(|root| git::repositories(root, &survey.repositories));
                let guarded: Vec<_> = repositories.flat_map(|found| found.guarded).collect();
                orders::traces(&guarded)
            }
        };
        Self { survey, traces }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Boundaries;

    fn look(partial: bool, before: &str, meanwhile: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let git = |line: &str| {
            let mut sh = std::process::Command::new("sh");
            sh.args(["-c", line]).current_dir(dir.path());
            let ran = sh.env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
            assert!(ran.status.success(), "{line}: {ran:?}");
        };
        git(before);
        let layers = Layers {
            namespaces: !partial,
            ..Layers::ALL
        };
        let sandbox = Sandbox {
            program: PathBuf::new(),
            offer: OnceLock::from(probe::Offer {
                layers: Some(layers),
                troubles: Vec::new(),
            }),
        };
        let confinement = Confinement::new(Arc::new(sandbox), false);
        let policy = SandboxPolicy::WorkspaceWrite;
        let workspace = Workspace::open(dir.path(), policy, Boundaries::default()).unwrap();
        confinement.launcher(&workspace, workspace.cwd()).unwrap();
        git(meanwhile);
        let found = confinement.look_after(&workspace);
        assert_eq!(confinement.look_after(&workspace), [] as [String; 0]);
        found
    }

    #[test]
    fn what_a_command_leaves_for_git_to_run_is_told_once() {
        for (partial, before, meanwhile, expected) in [
            (false, "true", "git init -q a/b/c", ""),
            (
                false,
                "true",
                "git init -q a && git -C a config core.pager x",
                "`a` appeared with the setting `core.pager`",
            ),
            (
                false,
                "true",
                "git init -q --bare a/b && echo x >a/b/hooks/update",
                "`a/b` appeared with the hook `update`",
            ),
            // The kernel holds those that were there; who changed them sat outside.
            (false, "git init -q a", "git -C a config core.pager x", ""),
            (
                true,
                "git init -q a",
                "git -C a config core.pager x",
                "`a/.git/config` was changed",
            ),
            (
                true,
                "git init -q a",
                "echo x >a/.git/hooks/update",
                "`a/.git/hooks` was changed",
            ),
            (true, "git init -q a", "touch a/x && git -C a add x", ""),
            (true, "true", "git init -q a", ""),
        ] {
            let found = look(partial, before, meanwhile).join("");
            assert!(found.contains(expected), "{meanwhile}: {found}");
            assert_eq!(
                found.is_empty(),
                expected.is_empty(),
                "{meanwhile}: {found}"
            );
        }
    }
}
