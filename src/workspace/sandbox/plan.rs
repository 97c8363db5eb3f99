//! What a command may touch, as plain data: made outside from policy and workspace, carried out inside by the helper.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{conversation::SandboxPolicy, workspace::Workspace};

use super::{git, survey::Survey};

/// Places in a writable root that other programs act on without asking; guarded where they exist.
const GUARDED: [&str; 4] = [".openoxide", ".mcp.json", ".vscode", ".envrc"];

/// The kernel's means that are to be used. The probe finds out which of them this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layers {
    /// User, mount, PID, IPC and UTS namespaces.
    pub(super) namespaces: bool,
    /// An overlay over everything that is only to be read; without this, over what can have one.
    pub(super) sealed: bool,
    /// A network namespace of its own.
    pub(super) own_network: bool,
    /// A `/proc` that shows only the command's own processes.
    pub(super) own_proc: bool,
    /// Landlock, with what this kernel knows of it.
    pub(super) landlock: bool,
    /// System call filters.
    pub(super) seccomp: bool,
}

impl Layers {
    /// Everything.
    pub(super) const ALL: Self = Self {
        namespaces: true,
        sealed: true,
        own_network: true,
        own_proc: true,
        landlock: true,
        seccomp: true,
    };
}

/// What one command may touch. All paths are absolute; those that are not there when it starts are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// What enforces it.
    pub(super) layers: Layers,
    /// May be written, with everything below.
    pub(super) writable: Vec<PathBuf>,
    /// Stay visible where a private directory would cover them.
    pub(super) readable: Vec<PathBuf>,
    /// In a writable place: may be written but not moved away.
    pub(super) pinned: Vec<PathBuf>,
    /// In a writable place, and only readable all the same.
    pub(super) read_only: Vec<PathBuf>,
    /// Neither readable nor writable.
    pub(super) hidden: Vec<PathBuf>,
    /// Found in writable places: hidden if somebody outside listens there.
    pub(super) sockets: Vec<PathBuf>,
    /// What becomes `/tmp` and `/dev/shm`.
    pub(super) scratch: Option<[PathBuf; 2]>,
    /// Whether the machine's network can be reached.
    pub(super) network: bool,
    /// Where the command starts.
    pub(super) workdir: PathBuf,
}

impl Plan {
    /// Nothing may be written, and no network reached.
    pub(super) fn nothing(workdir: &Path) -> Self {
        Self {
            layers: Layers::ALL,
            writable: Vec::new(),
            readable: Vec::new(),
            pinned: Vec::new(),
            read_only: Vec::new(),
            hidden: Vec::new(),
            sockets: Vec::new(),
            scratch: None,
            network: false,
            workdir: workdir.to_owned(),
        }
    }

    /// What `policy` leaves a command in `workspace`. May create empty directories in `.git`, since what is not there
    /// cannot be guarded.
    pub(super) fn new(
        workspace: &Workspace,
        policy: SandboxPolicy,
        workdir: &Path,
        survey: &Survey,
    ) -> Self {
        let mut plan = Self {
            hidden: workspace.closed().to_vec(),
            sockets: survey.sockets.clone(),
            ..Self::nothing(workdir)
        };
        let roots = workspace.writable_roots().iter();
        if policy == SandboxPolicy::ReadOnly {
            plan.readable.extend(roots.cloned());
            return plan;
        }
        for root in roots {
            plan.writable.push(root.clone());
            let guarded = GUARDED.map(|name| root.join(name));
            plan.read_only
                .extend(guarded.into_iter().filter(|place| place.exists()));
            for repository in git::repositories(root, &survey.repositories) {
                plan.guard(repository);
            }
        }
        plan
    }

    /// All that it names.
    pub(super) fn places(&self) -> impl Iterator<Item = &PathBuf> {
        let scratch = self.scratch.iter().flatten();
        let lists = [
            &self.writable,
            &self.readable,
            &self.pinned,
            &self.read_only,
            &self.hidden,
            &self.sockets,
        ];
        lists
            .into_iter()
            .flatten()
            .chain(scratch)
            .chain([&self.workdir])
    }

    fn guard(&mut self, repository: git::Repository) {
        self.pinned.extend(repository.pinned);
        self.read_only.extend(repository.guarded);
        self.writable.extend(repository.elsewhere);
    }
}
