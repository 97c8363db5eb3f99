//! From the configuration and a header to what a thread works with: model, gate, sandbox, limits.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustix::fs::{Access, access};

use super::{Asker, Meter, Tenant};
use crate::{
    config::{Config, Environment, Layers, Paths},
    conversation::{
        ApprovalPolicy, Redactor, SandboxPolicy, ThreadId, WhenUnattended, Worktree, shown_line,
    },
    model::{Endpoint, Http, Model, Recorded, Remote, Retry, Secret, Tape},
    thread::{Assemble, Header, Parts, Places, Policy},
    tools::{
        command::Rules,
        gate::Gate,
        mcp::Servers,
        registry::{Registry, Settings},
    },
    workspace::{
        Boundaries, View, Workspace, check_resolved,
        sandbox::{Confinement, Protection, Sandbox},
        shell, worktree,
    },
};

/// How deep agents may start agents before a turn is refused.
const DEEPEST: u32 = 2;

/// What the environment says of the key.
#[derive(Clone)]
pub(super) enum Key {
    Known(String),
    /// There is none, wherever else one may be stored.
    None,
}

/// What the parts of a thread are made from.
#[derive(Clone)]
pub(super) struct Wiring {
    /// Whose threads these are, where it is a tenant's.
    pub(super) tenant: Option<Arc<Tenant>>,
    /// Counts what they do.
    pub(super) meter: Option<Meter>,
    /// What the owner set.
    pub(super) config: Config,
    pub(super) layers: Layers,
    /// Where what is known of directories is kept; none if nothing is.
    pub(super) state: Option<PathBuf>,
    pub(super) paths: Paths,
    pub(super) servers: Arc<Servers>,
    pub(super) environment: Environment,
    pub(super) key: Option<Key>,
    /// The key from a file or a command, once it was wanted. Nobody awaits under it.
    pub(super) stored_key: Arc<OnceLock<Result<Option<Secret>, String>>>,
    pub(super) tape: Option<Tape>,
    pub(super) redactor: Redactor,
    pub(super) depth: u32,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) model: Option<String>,
    /// Resolved.
    pub(super) home_named: Option<PathBuf>,
    pub(super) asker: Asker,
    /// One set for all threads.
    pub(super) places: Places,
    /// As above.
    pub(super) http: Http,
}

impl Assemble for Wiring {
    fn judge(&self, header: &Header) -> Result<(), String> {
        self.within_roots(header.directory())
    }

    fn assemble(&self, header: &Header) -> Result<Parts, String> {
        self.not_too_deep()?;
        if let Some(isolated) = header.isolated.as_ref().filter(|_| !header.cwd.exists()) {
            check_resolved(&isolated.from).map_err(|error| error.to_string())?;
            // Nothing had come of it, so it was removed when the process ended that made it.
            let closed = &self.paths.closed;
            worktree::make_again(&isolated.worktree, header.thread_id, &isolated.from, closed)
                .map_err(|error| error.to_string())?;
        }
        let flagged = self.model.as_ref().filter(|_| self.asker == Asker::Owner);
        let (model, redactor) = self.model(flagged.unwrap_or(&header.model))?;
        let gate = self.gate(
            &header.cwd,
            &header.policy,
            header.query,
            redactor.clone(),
            |sandbox, approval, settings| {
                let mut tools = Registry::built_in(sandbox, approval, settings);
                tools.extend(self.outside_tools(header));
                tools
            },
        )?;
        let limits = match self.asker {
            // Who gave the limits may give others, inside what the project bounds.
            Asker::Owner => {
                let config = self.layers.in_project(header.directory());
                config.map_err(|error| error.in_one_line())?.limits
            }
            Asker::Caller => header.limits.within(self.config.limits),
        };
        Ok(Parts {
            model,
            gate: Arc::new(gate),
            limits,
            when_unattended: self.when_unattended(),
            redactor,
            places: self.places.clone(),
        })
    }
}

impl Wiring {
    /// Where callers may work; nothing: anywhere.
    pub(super) fn roots(&self) -> &[PathBuf] {
        &self.config.server.roots
    }

    /// Whether `real`, which is resolved, is for whoever asks.
    pub(super) fn within_roots(&self, real: &Path) -> Result<(), String> {
        match self.roots() {
            [] => Ok(()),
            roots => self.within(roots, real),
        }
    }

    /// Whether `real`, which is resolved, is in one of `roots` and not with another tenant.
    pub(super) fn within(&self, roots: &[PathBuf], real: &Path) -> Result<(), String> {
        let is_in = |root: &PathBuf| root.canonicalize().is_ok_and(|root| real.starts_with(root));
        let tenant = self.tenant.iter();
        let mut others = tenant.flat_map(|tenant| tenant.closed(Some(real)));
        match roots.iter().any(is_in) && !others.any(|place| real.starts_with(place)) {
            true => Ok(()),
            false => Err(outside(roots, real)),
        }
    }

    /// That a directory is not for whoever named it so.
    pub(super) fn outside_roots(&self, named: &Path) -> String {
        outside(self.roots(), named)
    }

    fn not_too_deep(&self) -> Result<(), String> {
        match self.depth > DEEPEST {
            true => Err(format!(
                "agents have started agents {DEEPEST} levels deep; this is where it ends (`OPENOXIDE_DEPTH`)"
            )),
            false => Ok(()),
        }
    }

    /// What stands before the tools of a thread in `cwd` under `policy`.
    fn gate(
        &self,
        cwd: &Path,
        policy: &Policy,
        query: bool,
        redactor: Redactor,
        tools: impl FnOnce(SandboxPolicy, ApprovalPolicy, &Settings) -> Registry,
    ) -> Result<Gate, String> {
        let policy = Policy {
            sandbox: policy.sandbox.min(self.ceiling()),
            ..policy.clone()
        };
        let approval_policy = match self.config.policy.approval_policy {
            Some(ApprovalPolicy::Untrusted) if !query => ApprovalPolicy::Untrusted,
            _ => policy.approval_policy,
        };
        let workspace = Arc::new(self.workspace(cwd, &policy)?);
        let settings = self.settings(policy.sandbox);
        let owner = &self.config.policy;
        let deny = [owner.deny.as_slice(), &policy.deny].concat();
        Ok(Gate {
            tools: tools(policy.sandbox, approval_policy, &settings),
            workspace,
            confinement: Arc::new(self.confinement(&policy)),
            accept_partial: self.config.policy.accept_partial,
            approval_policy,
            rules: Rules::new(&owner.allow, &deny, &settings.environment)?,
            redactor,
            measures: true,
        })
    }

    /// The same for somebody who calls the tools with their own hands. No outcome tells of it, so nothing is measured.
    pub(super) fn hands(&self, cwd: &Path, policy: &Policy, query: bool) -> Result<Gate, String> {
        self.not_too_deep()?;
        let tools = |_, _, settings: &Settings| Registry::of_hands(settings);
        let gate = self.gate(cwd, policy, query, self.redactor.clone(), tools)?;
        Ok(Gate {
            measures: false,
            ..gate
        })
    }

    /// The widest sandbox that any thread of this process gets, new or resumed.
    pub(super) fn ceiling(&self) -> SandboxPolicy {
        let set = match self.config.policy.sandbox {
            Some(set) => set,
            None if self.asker == Asker::Owner || self.config.server.allow_full_access => {
                SandboxPolicy::DangerFullAccess
            }
            None => SandboxPolicy::WorkspaceWrite,
        };
        match self.view().is_narrow() {
            // Whoever leaves the sandbox is among the others.
            true => set.min(SandboxPolicy::WorkspaceWrite),
            false => set,
        }
    }

    /// The owner's strategy; a command line that asks nobody says no.
    pub(super) fn when_unattended(&self) -> WhenUnattended {
        let default = match self.asker {
            Asker::Owner => WhenUnattended::Deny,
            Asker::Caller => WhenUnattended::AutoWithinPolicy,
        };
        self.config.policy.when_unattended.unwrap_or(default)
    }

    /// `cwd` is resolved.
    pub(super) fn workspace(&self, cwd: &Path, policy: &Policy) -> Result<Workspace, String> {
        let bounds = Boundaries {
            writable_roots: self.writable_roots(policy),
            closed: self.closed(cwd),
            named_by_owner: self.home_named.as_deref() == Some(cwd),
            state: self.kept().map(Path::to_owned),
            guard: Some(self.sandbox.clone()),
            view: self.view(),
        };
        Workspace::open_resolved(cwd, policy.sandbox, bounds).map_err(|error| error.to_string())
    }

    /// The owner's, and those of callers that are still what they were: where a directory was, the agent may have put a
    /// link that leads out.
    fn writable_roots(&self, policy: &Policy) -> Vec<PathBuf> {
        let owners = &self.config.policy.writable_roots;
        let is_itself = |root: &&PathBuf| {
            let same =
                owners.contains(root) || root.canonicalize().is_ok_and(|real| real == **root);
            if !same {
                let root = shown_line(&root.to_string_lossy());
                tracing::warn!(
                    "`{root}` is not the directory any more that may be written, and is left out"
                );
            }
            same
        };
        let roots = policy.writable_roots.iter();
        roots.filter(is_itself).cloned().collect()
    }

    /// The directory of our own files, while it can be written.
    pub(super) fn kept(&self) -> Option<&Path> {
        self.state.as_deref().filter(|state| can_be_written(state))
    }

    /// What of the machine commands see.
    pub(super) fn view(&self) -> View {
        let view = self.tenant.as_ref().map(|tenant| tenant.view());
        view.unwrap_or_default()
    }

    /// Never for tools: our own, and what belongs to other tenants.
    pub(super) fn closed(&self, cwd: &Path) -> Vec<PathBuf> {
        let others = self
            .tenant
            .iter()
            .flat_map(|tenant| tenant.closed(Some(cwd)));
        self.our_own(cwd).into_iter().chain(others).collect()
    }

    /// A worktree of ours lies in our own directory: then all of that but the worktree.
    fn our_own(&self, cwd: &Path) -> Vec<PathBuf> {
        let worktrees = self.paths.worktrees();
        let real = |path: &Path| path.canonicalize().ok();
        let within = real(cwd).zip(real(&worktrees)).and_then(|(cwd, of)| {
            let name = cwd.strip_prefix(of).ok()?.components().next()?;
            Some(name.as_os_str().to_owned())
        });
        let Some(own) = within else {
            return self.paths.closed.clone();
        };
        let state = &self.paths.state;
        let others = self
            .paths
            .closed
            .iter()
            .filter(|place| !worktrees.starts_with(place));
        let beside =
            entries(state).chain(["threads", "directories", "deeds", "outlines"].map(Into::into));
        let beside = beside
            .filter(|name| name != "worktrees")
            .map(|name| state.join(name));
        let siblings = entries(&worktrees).filter(|name| *name != own);
        others
            .cloned()
            .chain([self.paths.config_file.clone()])
            .chain(beside)
            .chain(siblings.map(|name| worktrees.join(name)))
            .collect()
    }

    pub(super) fn worktree(
        &self,
        thread: ThreadId,
        workspace: &Workspace,
    ) -> Result<(Worktree, PathBuf), String> {
        let state = self.state.as_ref().ok_or(
            "`isolation` needs a place to keep the worktree, which there is not with `--ephemeral`",
        )?;
        worktree::make(state, thread, workspace.cwd(), workspace.closed())
            .map_err(|error| error.to_string())
    }

    pub(super) fn confinement(&self, policy: &Policy) -> Confinement {
        let network = self.config.policy.network && policy.network != Some(false);
        Confinement::new(self.sandbox.clone(), network)
    }

    pub(super) fn settings(&self, sandbox: SandboxPolicy) -> Settings {
        let extra: Vec<(String, String)> = self.config.policy.env.clone().into_iter().collect();
        let depth = self.depth.saturating_add(1);
        let environment = match self.view().is_narrow() {
            true => shell::for_commands(shell::of_a_stranger(std::env::vars_os()), &extra, depth),
            false => shell::for_commands(std::env::vars_os(), &extra, depth),
        };
        Settings {
            environment,
            keeper: self.sandbox.keeper(),
            commands_are_held: sandbox == SandboxPolicy::ReadOnly
                && match self.sandbox.protection() {
                    Protection::Whole => true,
                    Protection::Partial(_) => self.config.policy.accept_partial,
                    Protection::None => false,
                },
        }
    }

    /// The model of that name, and what knows its key.
    pub(super) fn model(&self, name: &str) -> Result<(Arc<dyn Model>, Redactor), String> {
        let (model, redactor): (Arc<dyn Model>, _) = match name.strip_prefix("recorded:") {
            Some(file) => {
                let recorded =
                    Recorded::open(Path::new(file)).map_err(|error| error.to_string())?;
                (Arc::new(recorded), self.redactor.clone())
            }
            None => {
                let (remote, redactor) = self.remote(name)?;
                (Arc::new(Retry::new(remote)), redactor)
            }
        };
        let model = match &self.tape {
            Some(tape) => tape.around(model, redactor.clone()),
            None => model,
        };
        let model = match &self.meter {
            Some(meter) => meter.around_model(model),
            None => model,
        };
        Ok((model, redactor))
    }

    /// Where the model of that name is asked.
    pub(super) fn endpoint(&self, name: &str) -> Result<Endpoint, String> {
        Ok(Endpoint {
            http: self.http.clone(),
            ..self.config.model.endpoint(name, self.key()?)
        })
    }

    pub(super) fn remote(&self, name: &str) -> Result<(Remote, Redactor), String> {
        let model = &self.config.model;
        let endpoint = self.endpoint(name)?;
        let redactor = match &endpoint.key {
            Some(key) => self.redactor.and(key.expose()),
            None => self.redactor.clone(),
        };
        let has_none = endpoint.key.is_none() && model.headers.is_empty();
        let needs_key = endpoint.needs_key();
        let remote = Remote::new(endpoint).map_err(|error| error.to_string())?;
        if has_none && needs_key {
            return Err(format!(
                "no key for `{}`: set `{}`, or OPENAI_BASE_URL to a server of your own",
                model.base_url, model.api_key_env
            ));
        }
        Ok((remote, redactor))
    }

    /// From the environment, else from where the owner keeps it.
    pub(super) fn key(&self) -> Result<Option<Secret>, String> {
        match &self.key {
            Some(Key::Known(key)) => Ok(Some(Secret::new(key.clone()))),
            Some(Key::None) => Ok(None),
            None => self
                .stored_key
                .get_or_init(|| self.config.model.stored_key())
                .clone(),
        }
    }
}

/// True if what is in `directory`, which need not exist, can be made and changed.
fn can_be_written(directory: &Path) -> bool {
    let there = directory.ancestors().find(|place| place.exists());
    let mode = Access::WRITE_OK | Access::EXEC_OK;
    there.is_some_and(|place| place.is_dir() && access(place, mode).is_ok())
}

fn entries(directory: &Path) -> impl Iterator<Item = std::ffi::OsString> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.flatten().map(|entry| entry.file_name())
}

pub(super) fn outside(roots: &[PathBuf], named: &Path) -> String {
    let roots: Vec<String> = roots
        .iter()
        .map(|root| format!("`{}`", root.display()))
        .collect();
    format!(
        "`{}` is outside this server's roots: {}",
        shown_line(&named.to_string_lossy()),
        roots.join(", ")
    )
}
