//! The only wiring: from configuration to parts, and from what somebody wishes to the header of a thread.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    agent::{
        context::{Context, Surroundings},
        instructions,
    },
    config::{self, Config, ConfigError, Environment, Layers, Narrowing, Paths},
    conversation::{ApprovalPolicy, Redactor, SandboxPolicy, ThreadId, shown_line},
    model::{Endpoint, Model, Recorded, Responses, Retry, Secret},
    thread::{
        Assemble, DirectoryStore, Header, NoStore, Parts, Policy, ThreadStore, Threads,
        rollout::{VERSION, now},
    },
    tools::{
        command::Rules,
        gate::Gate,
        mcp::{self, Servers},
        registry::{AnyTool, Registry, Settings},
    },
    workspace::{
        Boundaries, Workspace,
        sandbox::{Confinement, Protection, Sandbox},
        shell,
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
        for (name, settings) in &config.mcp_servers {
            settings
                .check()
                .map_err(|why| ConfigError::new(format!("`mcp_servers.{name}`: {why}")))?;
        }
        paths.close(&config.policy.credential_paths);
        let key = environment.get(&config.model.api_key_env);
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
        let outside = config.mcp_servers.values();
        let tokens = outside
            .clone()
            .filter_map(|settings| settings.bearer_token_env.as_ref());
        let tokens: Vec<String> = tokens.filter_map(|name| environment.get(name)).collect();
        let outside = outside.flat_map(mcp::Settings::secrets).chain(&tokens);
        let redactor = Redactor::new(key.iter().chain(secrets).chain(outside).cloned());
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
            servers: Arc::new(Servers::new(
                (!setup.ephemeral).then(|| paths.external()),
                depth.saturating_add(1),
            )),
            paths,
            environment,
            key,
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

    /// The process's working directory.
    pub fn cwd(&self) -> &Path {
        &self.setup.cwd
    }

    /// Places that no caller may name.
    pub fn closed(&self) -> &[PathBuf] {
        &self.wiring.paths.closed
    }

    /// The header of a new thread as wished. Waits for external servers only where their tools were never seen, at most
    /// as long as they may take to start.
    pub async fn header(&self, wish: Wish) -> Result<Header, HeaderError> {
        let cwd = self.setup.cwd.join(wish.cwd.clone().unwrap_or_default());
        // Before anything of the directory is read, so that what is outside the roots cannot be probed.
        self.within_roots(&cwd)?;
        // Beside the first request to the model, so that neither the start nor the first command waits for it.
        self.wiring.sandbox.look_ahead();
        let mut config = self.wiring.layers.in_project(&cwd)?;
        let sandbox = self.sandbox(&wish, config.policy.sandbox.unwrap_or_default())?;
        let approval_policy = self.approval_policy(&wish, config.policy.approval_policy)?;
        config.narrow(&wish.narrowing);
        // They start beside all that follows, the first request to the model included.
        let servers = self.wiring.external(&config, &cwd, |_| true);
        let deny = config.policy.deny.clone();
        Rules::new(&[], &deny, &[])?;
        let policy = Policy {
            sandbox,
            approval_policy,
            writable_roots: config.policy.writable_roots.clone(),
            deny,
        };
        let workspace = self.wiring.workspace(&cwd, &policy)?;
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
        let chosen = mcp::choose(&servers, wish.query, &tools).await;
        for warning in &chosen.warnings {
            tracing::warn!("{warning}");
        }
        Ok(Header {
            version: VERSION,
            thread_id: ThreadId::generate(),
            cwd: workspace.cwd().to_owned(),
            created_at: now(),
            parent: None,
            policy,
            model: self.model_name(wish.model, config.model.name)?,
            query: wish.query,
            limits: config.limits,
            context: Context::new(around, tools, config.model.reasoning_effort).with(chosen),
        })
    }

    /// The external servers that threads of the working directory would have, with where each stands, and the
    /// handle of those that can be started and are to `start`.
    pub fn external(&self, start: impl Fn(&str) -> bool) -> Result<Vec<External>, ConfigError> {
        let config = self.wiring.layers.in_project(&self.setup.cwd)?;
        Ok(self.wiring.listed(&config, &self.setup.cwd, start))
    }

    /// The external servers of this process.
    pub fn servers(&self) -> &Servers {
        &self.wiring.servers
    }

    /// What the owner has agreed to of what projects name.
    pub fn trust(&self) -> mcp::Trust {
        self.wiring.trust()
    }

    /// Interrupts every running turn and waits until its end is recorded, at most `grace`; then ends the external
    /// servers.
    pub async fn shut_down(&self, grace: Duration) {
        self.threads.shut_down(grace).await;
        self.wiring.servers.end().await;
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

/// An external server as `openoxide mcp` shows it.
pub struct External {
    /// As the owner or the project calls it.
    pub name: String,
    /// What is configured, variables of a project's file not filled in.
    pub settings: mcp::Settings,
    /// Where it stands.
    pub standing: Standing,
    /// What came of starting it, where that was wished and it can be.
    pub started: Option<Result<mcp::Usable, String>>,
}

/// Where an external server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be started.
    Enabled,
    /// The owner or the project has switched it off.
    Disabled,
    /// The project names it, and the owner has not agreed.
    Untrusted,
}

/// What the parts of a thread are made from.
#[derive(Clone)]
struct Wiring {
    /// What the owner set.
    config: Config,
    layers: Layers,
    paths: Paths,
    servers: Arc<Servers>,
    environment: Environment,
    key: Option<String>,
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
        let workspace = Arc::new(self.workspace(&header.cwd, &policy)?);
        let settings = self.settings(policy.sandbox);
        let owner = &self.config.policy;
        let deny = [owner.deny.as_slice(), &policy.deny].concat();
        let rules = Rules::new(&owner.allow, &deny, &settings.environment)?;
        let mut tools = Registry::built_in(policy.sandbox, approval_policy, &settings);
        tools.extend(self.outside_tools(header));
        let gate = Gate {
            tools,
            workspace,
            confinement: Arc::new(self.confinement()),
            accept_partial: self.config.policy.accept_partial,
            approval_policy,
            rules,
            redactor: self.redactor.clone(),
        };
        let limits = match self.asker {
            // Who gave the limits may give others.
            Asker::Owner => self.config.limits,
            Asker::Caller => header.limits.within(self.config.limits),
        };
        let flagged = self.model.as_ref().filter(|_| self.asker == Asker::Owner);
        let model = self.model(flagged.unwrap_or(&header.model))?;
        Ok(Parts {
            model,
            gate: Arc::new(gate),
            limits,
            redactor: self.redactor.clone(),
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

    fn workspace(&self, cwd: &Path, policy: &Policy) -> Result<Workspace, String> {
        let bounds = Boundaries {
            writable_roots: policy.writable_roots.clone(),
            closed: self.paths.closed.clone(),
            named_by_owner: self.home_named.is_some() && self.home_named == cwd.canonicalize().ok(),
        };
        Workspace::open(cwd, policy.sandbox, bounds).map_err(|error| error.to_string())
    }

    /// The tools of external servers that were recorded for a thread.
    fn outside_tools(&self, header: &Header) -> Vec<(String, Box<dyn AnyTool>)> {
        let recorded = &header.context.outside;
        if recorded.is_empty() {
            return Vec::new();
        }
        // What the project has taken away since stays away; a file that cannot be read takes away all.
        let servers = match self.layers.in_project(&header.cwd) {
            Ok(config) => self.external(&config, &header.cwd, |name| {
                recorded.iter().any(|outside| outside.server == name)
            }),
            Err(error) => {
                tracing::warn!("no external servers: {error}");
                Vec::new()
            }
        };
        self.servers
            .tools(recorded, &header.context.tools, &servers)
    }

    /// The external servers for threads of `cwd` that are `wished`, started. What keeps one away is a warning.
    fn external(
        &self,
        config: &Config,
        cwd: &Path,
        wished: impl Fn(&str) -> bool,
    ) -> Vec<mcp::Usable> {
        let mut servers = Vec::new();
        for (name, settings, project) in self.configured(config, cwd) {
            let name_shown = shown_line(&name);
            if !settings.enabled || !wished(&name) {
                continue;
            }
            if project && !self.trust().holds(&name, &settings, &self.directory(cwd)) {
                tracing::warn!(
                    "this project names the external server `{name_shown}`, which starts only after `openoxide mcp trust {name_shown}`"
                );
                continue;
            }
            match self.start(&name, &settings, cwd, project) {
                Ok(server) => servers.push(server),
                Err(why) => {
                    tracing::warn!("external server `{name_shown}` is left out: {why}");
                }
            }
        }
        servers
    }

    /// The same to look at.
    fn listed(&self, config: &Config, cwd: &Path, start: impl Fn(&str) -> bool) -> Vec<External> {
        let trust = self.trust();
        let standing = |name: &str, settings: &mcp::Settings, project| {
            if project && !trust.holds(name, settings, &self.directory(cwd)) {
                Standing::Untrusted
            } else if settings.enabled {
                Standing::Enabled
            } else {
                Standing::Disabled
            }
        };
        let servers = self.configured(config, cwd).into_iter();
        servers
            .map(|(name, settings, project)| {
                let standing = standing(&name, &settings, project);
                let starts = standing == Standing::Enabled && start(&name);
                External {
                    standing,
                    started: starts.then(|| self.start(&name, &settings, cwd, project)),
                    name,
                    settings,
                }
            })
            .collect()
    }

    /// The owner's servers and then those of the project's `.mcp.json` that have other names, which are marked; in
    /// stable order.
    fn configured(&self, config: &Config, cwd: &Path) -> Vec<(String, mcp::Settings, bool)> {
        // A file of the project that cannot be read must not cost the owner's.
        let named = config::named_in_project(cwd).unwrap_or_else(|error| {
            tracing::warn!("{error}");
            BTreeMap::new()
        });
        let mut all: BTreeMap<String, (mcp::Settings, bool)> = named
            .into_iter()
            .map(|(name, settings)| (name, (settings, true)))
            .collect();
        let own = config.mcp_servers.clone().into_iter();
        all.extend(own.map(|(name, settings)| (name, (settings, false))));
        all.into_iter()
            .map(|(name, (settings, project))| (name, settings, project))
            .collect()
    }

    fn start(
        &self,
        name: &str,
        settings: &mcp::Settings,
        cwd: &Path,
        project: bool,
    ) -> Result<mcp::Usable, String> {
        // The key is for the model; a project cannot have it sent anywhere.
        let variable = |name: &str| {
            let ours = project
                && (name == self.config.model.api_key_env || name.starts_with("OPENOXIDE_"));
            self.environment.get(name).filter(|_| !ours)
        };
        let mut settings = settings.clone();
        if project {
            settings = config::expand(settings, &variable)?;
            // What runs unasked is for the owner to say.
            settings.auto.clear();
        }
        self.servers
            .start(name, &settings, &self.directory(cwd), variable)
    }

    fn directory(&self, cwd: &Path) -> PathBuf {
        cwd.canonicalize().unwrap_or_else(|_| cwd.to_owned())
    }

    fn trust(&self) -> mcp::Trust {
        mcp::Trust::read(&self.paths.external().join("trusted.json"))
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
            commands_are_held: sandbox == SandboxPolicy::ReadOnly
                && match self.sandbox.protection() {
                    Protection::Whole => true,
                    Protection::Partial(_) => self.config.policy.accept_partial,
                    Protection::None => false,
                },
        }
    }

    fn model(&self, name: &str) -> Result<Arc<dyn Model>, String> {
        if let Some(file) = name.strip_prefix("recorded:") {
            return Ok(Arc::new(
                Recorded::open(Path::new(file)).map_err(|error| error.to_string())?,
            ));
        }
        let model = &self.config.model;
        let endpoint = Endpoint {
            key: self.key.clone().map(Secret::new),
            key_variable: model.api_key_env.clone(),
            headers: model
                .headers
                .clone()
                .into_iter()
                .map(|(name, value)| (name, Secret::new(value)))
                .collect(),
            ..Endpoint::new(model.base_url.clone(), name)
        };
        let loopback = endpoint.is_loopback();
        let responses = Responses::new(endpoint).map_err(|error| error.to_string())?;
        if self.key.is_none() && model.headers.is_empty() && !loopback {
            return Err(format!(
                "no key for `{}`: set `{}`, or OPENAI_BASE_URL to a server of your own",
                model.base_url, model.api_key_env
            ));
        }
        Ok(Arc::new(Retry::new(responses)))
    }
}
