//! One thread's share of the sandbox: its private directories, what its policy leaves a command, and what is known of
//! its workspace.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::{
    Launcher, Protection, Sandbox, git, orders,
    plan::{Layers, Plan},
    scratch::Scratch,
    survey::Survey,
};
use crate::{
    conversation::{SandboxPolicy, SandboxReport},
    workspace::{Workspace, file},
};

/// Where the walk through the workspace came to its bounds.
const CUT: &str =
    "the workspace is too large to be looked through: repositories deep in it are not guarded";

/// Of a machine without namespaces.
const NOT_SEPARATE: &str = "this machine cannot keep what several tenants do apart";

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
    /// What leads git elsewhere, and was there.
    diversions: Vec<PathBuf>,
    /// What of the system is not for a command of one among several.
    secrets: Vec<PathBuf>,
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

    /// Whether commands that may not see each other can be kept apart here; else one line that says so.
    pub fn separates(&self) -> Result<(), String> {
        let layers = self.sandbox.offer().layers;
        match layers.is_some_and(Layers::separate) {
            true => Ok(()),
            false => Err(NOT_SEPARATE.to_owned()),
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
        if workspace.view().is_narrow() {
            self.separates().map_err(io::Error::other)?;
        }
        let known = self.known(workspace, layers);
        let mut plan = Plan::new(workspace, workspace.sandbox(), workdir, &known.survey);
        plan.close(&known.secrets);
        plan.layers = layers;
        plan.network = self.network;
        plan.scratch = Some(self.scratch()?.places());
        self.sandbox.launcher(plan)
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
        found.extend(before.diverted(workspace));
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

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        // A panic while it was held leaves what is still whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scratch(&self) -> io::Result<&Scratch> {
        if let Some(scratch) = self.scratch.get() {
            return Ok(scratch);
        }
        // Two at once: the second is dropped, and with it its directories.
        let made = Scratch::make(self.sandbox.ground()?)?;
        Ok(self.scratch.get_or_init(|| made))
    }
}

impl Known {
    /// Puts right what leads git elsewhere in the repositories that were there, and did not.
    fn diverted(&self, workspace: &Workspace) -> Vec<String> {
        let repositories = self.survey.repositories.iter();
        let diversions = repositories.filter_map(|repository| orders::diversion(&repository.top));
        let appeared = diversions.filter(|diversion| !self.diversions.contains(diversion));
        let tell = |diversion: PathBuf| {
            let became = match file::remove(&diversion) {
                Ok(()) => "it was removed".to_owned(),
                Err(error) => format!("it could not be removed: {error}"),
            };
            format!(
                "`{}` appeared, which makes git take hooks and settings from elsewhere; {became}",
                workspace.show(&diversion)
            )
        };
        appeared.map(tell).collect()
    }

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
        let repositories = survey.repositories.iter();
        let diversions = repositories.filter_map(|repository| orders::diversion(&repository.top));
        Self {
            diversions: diversions.collect(),
            secrets: workspace.view().secrets(),
            survey,
            traces,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Boundaries, sandbox::probe};

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
            ground: Mutex::default(),
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
            (
                false,
                "git init -q a/b",
                "echo ../../x >a/b/.git/commondir",
                "`a/b/.git/commondir` appeared",
            ),
            (
                false,
                "git init -q --bare a/b",
                "echo ../../x >a/b/commondir",
                "it was removed",
            ),
            (
                false,
                "true",
                "git init -q a; echo ../../x >a/.git/commondir",
                "`a` appeared with a `commondir`",
            ),
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
