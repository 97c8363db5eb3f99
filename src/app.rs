//! The only wiring: from configuration to parts, and from what somebody wishes to the header of a thread.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use futures_util::StreamExt;

use crate::{
    agent::{
        context::{Context, Surroundings},
        instructions,
    },
    config::{Config, ConfigError, Environment, Layers, Narrowing, Paths},
    conversation::{
        ApprovalPolicy, Item, Redactor, SandboxPolicy, ThreadId, WhenUnattended, Worktree,
        shown_line,
    },
    model::{
        Head, Model, ModelError, ModelErrorKind, ModelEvent, Recorded, Remote, Request, Retry,
        Secret, Tape, WireApi,
    },
    thread::{
        Assemble, DirectoryStore, Header, Isolated, NoStore, Parts, Policy, ThreadStore, Threads,
        ending,
        rollout::{VERSION, now},
    },
    tools::{
        command::Rules,
        gate::Gate,
        registry::{Registry, Settings},
    },
    workspace::{
        Boundaries, Workspace,
        sandbox::{Confinement, Protection, Sandbox},
        shell, worktree,
    },
};

/// How deep agents may start agents before a turn is refused.
const DEEPEST: u32 = 2;

/// What the program is built from.
#[derive(Debug, Default)]
pub struct Setup {
    /// The working directory.
    pub cwd: PathBuf,
    /// The owner named it by flag, so it may be a home directory.
    pub cwd_named: bool,
    /// A file with variables.
    pub env_file: Option<PathBuf>,
    /// A profile of the user's file.
    pub profile: Option<String>,
    /// What flags set, in order.
    pub flags: Vec<toml::Table>,
    /// The model that a flag names; it replaces that of a resumed thread too.
    pub model: Option<String>,
    /// Keep nothing on disk.
    pub ephemeral: bool,
    /// Our own files are here, whatever the environment says.
    pub home: Option<PathBuf>,
    /// Who wishes for threads in this process.
    pub asker: Asker,
    /// Where what the model says is kept, to be played again.
    pub record: Option<PathBuf>,
    /// An openoxide that is executed to confine commands, where this program is not one.
    pub helper: Option<PathBuf>,
}

/// The program, wired.
pub struct App {
    config: Config,
    setup: Setup,
    threads: Threads,
    wiring: Wiring,
}

/// Who wishes for a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asker {
    /// The owner of this process: what was set by flags is what is meant.
    #[default]
    Owner,
    /// A client of the server: bound by the owner's ceilings.
    Caller,
}

/// What somebody wishes of a new thread; by default nothing but defaults.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Relative to the process's own directory, which is the default.
    pub cwd: Option<PathBuf>,
    /// Instead of the configured model.
    pub model: Option<String>,
    /// Not wider than the ceiling.
    pub sandbox: Option<SandboxPolicy>,
    /// Not looser than an `untrusted` of the owner.
    pub approval_policy: Option<ApprovalPolicy>,
    /// Added to our own instructions.
    pub instructions: Option<String>,
    /// Lower limits, and how hard to think.
    pub narrowing: Narrowing,
    /// Only a question: read-only, and never asks.
    pub query: bool,
    /// In a copy of the directory of its own: a git worktree.
    pub isolated: bool,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The project's file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What is wished cannot be had; one line for whoever wished it.
    #[error("{0}")]
    Refused(String),
}

impl From<String> for HeaderError {
    fn from(message: String) -> Self {
        Self::Refused(message)
    }
}

impl App {
    /// Reads the configuration and builds what every thread shares. Touches no network and starts nothing.
    pub fn build(setup: Setup) -> Result<Self, ConfigError> {
        let environment = Environment::read(setup.env_file.as_deref())?;
        let mut paths = match &setup.home {
            Some(home) => Paths::under(home),
            None => Paths::find(&environment)?,
        };
        let mut layers = Layers::default().user_file(&paths.config_file)?;
        if let Some(profile) = &setup.profile {
            layers = layers.profile(profile)?;
        }
        let layers = layers.environment(&environment).flags(setup.flags.clone());
        let config = layers.owner()?;
        Rules::new(&config.policy.allow, &config.policy.deny, &[]).map_err(ConfigError::new)?;
        paths.close(&config.policy.credential_paths);
        let key = key_for(&config, &environment);
        let secret_variables = config
            .policy
            .env
            .iter()
            .filter(|(name, _)| shell::is_secret_name(name));
        let secrets = config
            .model
            .headers
            .values()
            .chain(secret_variables.map(|(_, value)| value));
        let known = match &key {
            Some(Key::Known(key)) => Some(key),
            Some(Key::None) | None => None,
        };
        let redactor = Redactor::new(known.into_iter().chain(secrets).cloned());
        // What cannot be read is no reason to go deeper.
        let depth = environment
            .get(shell::DEPTH)
            .map_or(0, |depth| depth.parse().unwrap_or(u32::MAX));
        let store: Arc<dyn ThreadStore> = if setup.ephemeral {
            Arc::new(NoStore)
        } else {
            Arc::new(DirectoryStore::new(paths.threads()))
        };
        let wiring = Wiring {
            config: config.clone(),
            layers,
            state: (!setup.ephemeral).then(|| paths.state.clone()),
            paths,
            key,
            stored_key: Arc::default(),
            tape: setup.record.as_deref().map(tape).transpose()?,
            redactor,
            depth,
            sandbox: Arc::new(Sandbox::new(setup.helper.clone())),
            model: setup.model.clone(),
            home_named: setup.cwd.canonicalize().ok().filter(|_| setup.cwd_named),
            asker: setup.asker,
        };
        let threads = Threads::new(store, Box::new(wiring.clone()));
        Ok(Self {
            config,
            setup,
            threads,
            wiring,
        })
    }

    /// The threads of this process.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// The configuration; only front-ends' own parts are for them.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The user's configuration file; need not exist.
    pub fn config_file(&self) -> &Path {
        &self.wiring.paths.config_file
    }

    /// Where threads are kept.
    pub fn threads_directory(&self) -> PathBuf {
        self.wiring.paths.threads()
    }

    /// What the owner set for a key, and the layer that did; the default where nobody did.
    pub fn setting(&self, key: &[&str]) -> Option<(String, String)> {
        let set = self.wiring.layers.setting(key);
        set.map(|(value, layer)| (value, layer.to_owned()))
    }

    /// Where the key comes from, if there is one.
    pub fn key_origin(&self) -> Result<Option<String>, String> {
        let config = &self.config.model;
        let origin = match (&self.wiring.key, &config.api_key_file) {
            (Some(_), _) => format!("`{}`", config.api_key_env),
            (None, Some(path)) => format!("`{}`", path.display()),
            (None, None) => "`model.api_key_command`".to_owned(),
        };
        Ok(self.wiring.key()?.map(|_| origin))
    }

    /// The API that the configured endpoint is asked over.
    pub fn wire_api(&self) -> WireApi {
        let model = &self.config.model;
        model.endpoint(&model.name, None).spoken()
    }

    /// The configured model.
    pub fn model(&self) -> Result<Arc<dyn Model>, String> {
        let (model, _) = self.wiring.model(&self.config.model.name)?;
        Ok(model)
    }

    /// What the configured model answers to `question`, without tools and instructions; asked once.
    pub async fn ask(&self, question: &str) -> Result<String, ModelError> {
        let refused = |message: String| ModelError {
            kind: ModelErrorKind::Rejected,
            message,
            retry_after: None,
        };
        let model = self.model().map_err(refused)?;
        let head = Head {
            thread_id: ThreadId::generate(),
            instructions: "Answer with one word.".to_owned(),
            tools: Vec::new(),
            reasoning_effort: None,
        };
        let text = question.to_owned();
        let input = model.encode(&[Item::UserMessage { text }]);
        let head = Arc::new(head);
        let mut stream = model.stream(Request { head, input });
        let mut answer = String::new();
        while let Some(event) = stream.next().await {
            match event? {
                ModelEvent::TextDelta(text) => answer += &text,
                ModelEvent::Retrying { error, .. } => return Err(error),
                ModelEvent::ReasoningDelta(_) | ModelEvent::Item(_) | ModelEvent::Done(_) => {}
            }
        }
        Ok(answer)
    }

    /// `cwd` as a thread under `sandbox` would have it, with what a command there gets: its confinement and its
    /// environment.
    pub fn place(
        &self,
        cwd: &Path,
        sandbox: SandboxPolicy,
    ) -> Result<(Workspace, Confinement, Settings), String> {
        let policy = Policy {
            sandbox,
            approval_policy: ApprovalPolicy::Never,
            writable_roots: self.config.policy.writable_roots.clone(),
            deny: Vec::new(),
        };
        let workspace = self.wiring.workspace(cwd, &policy)?;
        let settings = self.wiring.settings(sandbox);
        Ok((workspace, self.wiring.confinement(), settings))
    }

    /// Removes threads that nobody used for long, on a thread of its own: it may end with the process, and goes on the
    /// next time.
    pub fn expire_threads(&self) {
        let keep = self.config.threads.keep();
        if let Some(store) = self
            .wiring
            .state
            .as_ref()
            .map(|state| DirectoryStore::new(state.join("threads")))
        {
            std::thread::spawn(move || {
                if let Err(error) = ending::expire(&store, keep) {
                    tracing::warn!("old threads: {error}");
                }
            });
        }
    }

    /// Removes the worktrees of this process's threads that nothing came of. At the end of the process.
    pub fn clear_unused_worktrees(&self) {
        for header in self.threads.headers() {
            self.abandon(&header);
        }
    }

    /// Removes the worktree of a thread that does not begin, or ends, if nothing came of it.
    pub fn abandon(&self, header: &Header) {
        if let Some(isolated) = &header.isolated {
            // What cannot be looked through may hold something, and stays.
            let _ = worktree::remove_if_unused(&isolated.worktree, &[]);
        }
    }

    /// The process's working directory.
    pub fn cwd(&self) -> &Path {
        &self.setup.cwd
    }

    /// The directory of our own files; none where nothing is kept.
    pub fn state(&self) -> Option<&Path> {
        (!self.setup.ephemeral).then_some(self.wiring.paths.state.as_path())
    }

    /// Places that no caller may name.
    pub fn closed(&self) -> &[PathBuf] {
        &self.wiring.paths.closed
    }

    /// The same for a thread that works in `cwd`, which is in one of them if it is a worktree of ours.
    pub fn closed_in(&self, cwd: &Path) -> Vec<PathBuf> {
        self.wiring.closed(cwd)
    }

    /// The header of a new thread as wished.
    pub fn header(&self, wish: Wish) -> Result<Header, HeaderError> {
        let cwd = self.setup.cwd.join(wish.cwd.clone().unwrap_or_default());
        // Before anything of the directory is read, so that what is outside the roots cannot be probed.
        self.within_roots(&cwd)?;
        // Beside the first request to the model, so that neither the start nor the first command waits for it.
        self.wiring.sandbox.look_ahead();
        let mut config = self.wiring.layers.in_project(&cwd)?;
        let sandbox = self.sandbox(&wish, config.policy.sandbox.unwrap_or_default())?;
        let approval_policy = self.approval_policy(&wish, config.policy.approval_policy)?;
        config.narrow(&wish.narrowing);
        let deny = config.policy.deny.clone();
        Rules::new(&[], &deny, &[])?;
        let policy = Policy {
            sandbox,
            approval_policy,
            writable_roots: config.policy.writable_roots.clone(),
            deny,
        };
        let model = self.model_name(wish.model.clone(), config.model.name)?;
        let thread_id = ThreadId::generate();
        let mut workspace = self.wiring.workspace(&cwd, &policy)?;
        let mut isolated = None;
        if wish.isolated {
            let from = workspace.cwd().to_owned();
            let (worktree, place) = self.wiring.worktree(thread_id, &workspace)?;
            workspace = self.wiring.workspace(&place, &policy)?;
            isolated = Some(Isolated { from, worktree });
        }
        let found = instructions::find(workspace.cwd());
        for warning in &found.warnings {
            tracing::warn!("{}", shown_line(warning));
        }
        let around = Surroundings {
            cwd: workspace.cwd(),
            sandbox,
            approval_policy,
            query: wish.query,
            instructions: wish.instructions.as_deref(),
            agents_md: &found.text,
        };
        let settings = self.wiring.settings(sandbox);
        let tools = Registry::built_in(sandbox, approval_policy, &settings).specs();
        Ok(Header {
            version: VERSION,
            thread_id,
            cwd: workspace.cwd().to_owned(),
            created_at: now(),
            parent: None,
            isolated,
            policy,
            model,
            query: wish.query,
            limits: config.limits,
            context: Context::new(around, tools, config.model.reasoning_effort),
        })
    }

    /// A recording is a file: a caller cannot name one.
    fn model_name(&self, wished: Option<String>, configured: String) -> Result<String, String> {
        match wished {
            Some(name) if self.setup.asker == Asker::Caller && name.starts_with("recorded:") => Err(
                "a caller cannot choose a recording; the owner of the server can, with `--model`"
                    .to_owned(),
            ),
            name => Ok(name.unwrap_or(configured)),
        }
    }

    /// The header of a thread that answers a question about `parent`: the same context, so that the provider's cache
    /// holds, and read-only for its life.
    pub fn question_about(&self, parent: &Header) -> Header {
        Header {
            thread_id: ThreadId::generate(),
            created_at: now(),
            parent: Some(parent.thread_id),
            policy: Policy {
                sandbox: SandboxPolicy::ReadOnly,
                approval_policy: ApprovalPolicy::Never,
                writable_roots: Vec::new(),
                deny: Vec::new(),
            },
            query: true,
            ..parent.clone()
        }
    }

    fn sandbox(&self, wish: &Wish, default: SandboxPolicy) -> Result<SandboxPolicy, String> {
        if wish.query {
            return Ok(SandboxPolicy::ReadOnly);
        }
        let ceiling = self.wiring.ceiling();
        let wished = wish.sandbox.or(wish.narrowing.policy.sandbox);
        match wished {
            Some(wished) if wished > ceiling => Err(format!(
                "sandbox `{}` is wider than this server's `{}`; only its owner can change that, with `--sandbox` or `--allow-full-access`",
                wished.as_str(),
                ceiling.as_str()
            )),
            wished => Ok(wished.unwrap_or(default).min(ceiling)),
        }
    }

    fn approval_policy(
        &self,
        wish: &Wish,
        default: Option<ApprovalPolicy>,
    ) -> Result<ApprovalPolicy, String> {
        if wish.query {
            return Ok(ApprovalPolicy::Never);
        }
        let set = self.config.policy.approval_policy;
        let wished = wish
            .approval_policy
            .or(wish.narrowing.policy.approval_policy);
        match (set, wished) {
            (Some(ApprovalPolicy::Untrusted), Some(looser))
                if self.setup.asker == Asker::Caller && looser != ApprovalPolicy::Untrusted =>
            {
                Err(format!(
                    "approval policy `{}` is looser than this server's `untrusted`",
                    looser.as_str()
                ))
            }
            (_, wished) => Ok(wished.or(default).unwrap_or_default()),
        }
    }

    /// A caller's directory must be inside the owner's roots, where there are some; what is not there is not inside.
    pub fn within_roots(&self, cwd: &Path) -> Result<(), String> {
        let roots = &self.config.server.roots;
        let real = cwd.canonicalize().ok();
        let mut allowed = roots.iter().filter_map(|root| root.canonicalize().ok());
        if roots.is_empty() || real.is_some_and(|real| allowed.any(|root| real.starts_with(root))) {
            return Ok(());
        }
        let roots: Vec<String> = roots
            .iter()
            .map(|root| format!("`{}`", root.display()))
            .collect();
        let cwd = shown_line(&cwd.to_string_lossy());
        Err(format!(
            "`{cwd}` is outside this server's roots: {}",
            roots.join(", ")
        ))
    }
}

/// The threads that are kept on this machine, to look at without the rest of the program.
pub fn kept_threads() -> Result<DirectoryStore, ConfigError> {
    Ok(DirectoryStore::new(
        Paths::find(&Environment::default())?.threads(),
    ))
}

/// The key from the environment. The process's own goes to no server that only a named file asks for.
fn key_for(config: &Config, environment: &Environment) -> Option<Key> {
    let name = &config.model.api_key_env;
    let url_in_file = environment.in_file("OPENAI_BASE_URL");
    if url_in_file.as_ref() == Some(&config.model.base_url) {
        let key = environment.in_file(name);
        return Some(key.map_or(Key::None, Key::Known));
    }
    environment.get(name).map(Key::Known)
}

fn tape(path: &Path) -> Result<Tape, ConfigError> {
    Tape::create(path)
        .map_err(|error| ConfigError::new(format!("the recording cannot be kept: {error}")))
}

/// What the environment says of the key.
#[derive(Clone)]
enum Key {
    Known(String),
    /// There is none, wherever else one may be stored.
    None,
}

/// What the parts of a thread are made from.
#[derive(Clone)]
struct Wiring {
    /// What the owner set.
    config: Config,
    layers: Layers,
    /// Where what is known of directories is kept; none if nothing is.
    state: Option<PathBuf>,
    paths: Paths,
    key: Option<Key>,
    /// The key from a file or a command, once it was wanted. Nobody awaits under it.
    stored_key: Arc<OnceLock<Result<Option<Secret>, String>>>,
    tape: Option<Tape>,
    redactor: Redactor,
    depth: u32,
    sandbox: Arc<Sandbox>,
    model: Option<String>,
    /// Resolved.
    home_named: Option<PathBuf>,
    asker: Asker,
}

impl Assemble for Wiring {
    fn assemble(&self, header: &Header) -> Result<Parts, String> {
        if self.depth > DEEPEST {
            return Err(format!(
                "agents have started agents {DEEPEST} levels deep; this is where it ends (`OPENOXIDE_DEPTH`)"
            ));
        }
        let policy = Policy {
            sandbox: header.policy.sandbox.min(self.ceiling()),
            ..header.policy.clone()
        };
        let approval_policy = match self.config.policy.approval_policy {
            Some(ApprovalPolicy::Untrusted) if !header.query => ApprovalPolicy::Untrusted,
            _ => policy.approval_policy,
        };
        if let Some(isolated) = header.isolated.as_ref().filter(|_| !header.cwd.exists()) {
            // Nothing had come of it, so it was removed when the process ended that made it.
            let closed = &self.paths.closed;
            worktree::make_again(&isolated.worktree, header.thread_id, &isolated.from, closed)
                .map_err(|error| error.to_string())?;
        }
        let workspace = Arc::new(self.workspace(&header.cwd, &policy)?);
        let settings = self.settings(policy.sandbox);
        let owner = &self.config.policy;
        let deny = [owner.deny.as_slice(), &policy.deny].concat();
        let rules = Rules::new(&owner.allow, &deny, &settings.environment)?;
        let tools = Registry::built_in(policy.sandbox, approval_policy, &settings);
        let flagged = self.model.as_ref().filter(|_| self.asker == Asker::Owner);
        let (model, redactor) = self.model(flagged.unwrap_or(&header.model))?;
        let gate = Gate {
            tools,
            workspace,
            confinement: Arc::new(self.confinement()),
            accept_partial: self.config.policy.accept_partial,
            approval_policy,
            rules,
            redactor: redactor.clone(),
        };
        let limits = match self.asker {
            // Who gave the limits may give others.
            Asker::Owner => self.config.limits,
            Asker::Caller => header.limits.within(self.config.limits),
        };
        Ok(Parts {
            model,
            gate: Arc::new(gate),
            limits,
            when_unattended: self.when_unattended(),
            redactor,
        })
    }
}

impl Wiring {
    /// The widest sandbox that any thread of this process gets, new or resumed.
    fn ceiling(&self) -> SandboxPolicy {
        match self.config.policy.sandbox {
            Some(set) => set,
            None if self.asker == Asker::Owner || self.config.server.allow_full_access => {
                SandboxPolicy::DangerFullAccess
            }
            None => SandboxPolicy::WorkspaceWrite,
        }
    }

    /// The owner's strategy; a command line that asks nobody says no.
    fn when_unattended(&self) -> WhenUnattended {
        let default = match self.asker {
            Asker::Owner => WhenUnattended::Deny,
            Asker::Caller => WhenUnattended::AutoWithinPolicy,
        };
        self.config.policy.when_unattended.unwrap_or(default)
    }

    fn workspace(&self, cwd: &Path, policy: &Policy) -> Result<Workspace, String> {
        let bounds = Boundaries {
            writable_roots: policy.writable_roots.clone(),
            closed: self.closed(cwd),
            named_by_owner: self.home_named.is_some() && self.home_named == cwd.canonicalize().ok(),
            state: self.state.clone(),
        };
        Workspace::open(cwd, policy.sandbox, bounds).map_err(|error| error.to_string())
    }

    /// Never for tools. A worktree of ours lies in our own directory: then all of that but the worktree.
    fn closed(&self, cwd: &Path) -> Vec<PathBuf> {
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
        let beside = entries(state).chain(["threads".into(), "directories".into()]);
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

    fn worktree(
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

    fn confinement(&self) -> Confinement {
        Confinement::new(self.sandbox.clone(), self.config.policy.network)
    }

    fn settings(&self, sandbox: SandboxPolicy) -> Settings {
        let extra: Vec<(String, String)> = self.config.policy.env.clone().into_iter().collect();
        Settings {
            environment: shell::for_commands(
                std::env::vars_os(),
                &extra,
                self.depth.saturating_add(1),
            ),
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
    fn model(&self, name: &str) -> Result<(Arc<dyn Model>, Redactor), String> {
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
        Ok((model, redactor))
    }

    fn remote(&self, name: &str) -> Result<(Remote, Redactor), String> {
        let model = &self.config.model;
        let key = self.key()?;
        let redactor = match &key {
            Some(key) => self.redactor.and(key.expose()),
            None => self.redactor.clone(),
        };
        let has_none = key.is_none() && model.headers.is_empty();
        let endpoint = model.endpoint(name, key);
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
    fn key(&self) -> Result<Option<Secret>, String> {
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

fn entries(directory: &Path) -> impl Iterator<Item = std::ffi::OsString> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.flatten().map(|entry| entry.file_name())
}
