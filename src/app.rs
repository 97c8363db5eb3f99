//! The only wiring: from configuration to parts, and from what somebody wishes to the header of a thread.

mod meter;
mod outside;
mod tenant;
mod wiring;
mod wish;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;

use crate::{
    config::{Config, ConfigError, Environment, Layers, Paths},
    conversation::{ApprovalPolicy, Item, Redactor, SandboxPolicy, ThreadId},
    model::{
        Head, Http, Model, ModelError, ModelErrorKind, ModelEvent, Request, Secret, Tape, WireApi,
        served,
    },
    thread::{
        DirectoryStore, Header, NoStore, Owned, Places, Policy, ThreadStore, Threads, ending,
    },
    tools::{
        command::Rules,
        gate::Gate,
        mcp::{self, Servers},
        registry::Settings,
    },
    workspace::{
        Workspace,
        sandbox::{Confinement, Sandbox},
        shell, worktree,
    },
};

pub use meter::{BOUNDS, Counts, Meter, Times};
pub use outside::{External, Standing};
pub use tenant::{Tenant, TenantLimits};
pub use wish::{HeaderError, Wish};

use wiring::{Key, Wiring};

/// How often a server looks for threads that nobody used for long.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);

/// What the program is built from.
#[derive(Clone, Debug, Default)]
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
    /// Callers of the server may search, run and analyze with their own hands.
    pub workspace_tools: bool,
    /// An openoxide that is executed to confine commands, where this program is not one.
    pub helper: Option<PathBuf>,
}

/// The program, wired.
pub struct App {
    config: Config,
    setup: Setup,
    /// Everybody's.
    store: Arc<dyn ThreadStore>,
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
        if config.model.name.trim().is_empty() {
            return Err(ConfigError::new(
                "the name of the model (`--model`, `model.name`) is empty",
            ));
        }
        for (name, settings) in config.mcp_servers.iter().filter(|(_, one)| one.enabled) {
            settings.check().map_err(|why| {
                let layer = layers.setting(&["mcp_servers", name]);
                let layer = layer.map_or(String::new(), |(_, layer)| format!(" (from {layer})"));
                ConfigError::new(format!("`mcp_servers.{name}`{layer}: {why}"))
            })?;
        }
        paths.close(&config.policy.credential_paths);
        paths.close(config.server.token_file.as_slice());
        let key = key_for(&config, &environment);
        let secret_variables = config
            .policy
            .env
            .iter()
            .filter(|(name, _)| shell::is_secret_name(name));
        let after_name = |token: &String| token.rsplit(':').next().map(str::to_owned);
        let own_tokens = config.server.tokens.iter().filter_map(after_name);
        let outside = config.mcp_servers.values();
        let tokens = outside
            .clone()
            .filter_map(|settings| settings.bearer_token_env.as_ref());
        let tokens: Vec<String> = tokens.filter_map(|name| environment.get(name)).collect();
        let outside = outside.flat_map(mcp::Settings::secrets).chain(&tokens);
        let known = match &key {
            Some(Key::Known(key)) => Some(Secret::new(key)),
            Some(Key::None) | None => None,
        };
        let secrets = config.model.endpoint(&config.model.name, known).secrets();
        let variables = secret_variables.map(|(_, value)| value.clone());
        let secrets = secrets.into_iter().chain(variables).chain(own_tokens);
        // What cannot be read is no reason to go deeper.
        let depth = environment
            .get(shell::DEPTH)
            .map_or(0, |depth| depth.parse().unwrap_or(u32::MAX));
        let sandbox = Arc::new(Sandbox::new(setup.helper.clone()));
        let servers = Servers::new(
            (!setup.ephemeral).then(|| paths.external()),
            depth.saturating_add(1),
            sandbox.keeper(),
        );
        let granted = config.mcp_servers.iter();
        let granted = granted.flat_map(|(name, settings)| servers.granted(name, settings));
        let redactor = Redactor::new(secrets.chain(outside.cloned()).chain(granted));
        let store: Arc<dyn ThreadStore> = if setup.ephemeral {
            Arc::new(NoStore)
        } else {
            Arc::new(DirectoryStore::new(paths.threads()))
        };
        let wiring = Wiring {
            tenant: None,
            meter: None,
            config: config.clone(),
            layers,
            servers: Arc::new(servers),
            environment,
            state: (!setup.ephemeral).then(|| paths.state.clone()),
            paths,
            key,
            stored_key: Arc::default(),
            tape: setup.record.as_deref().map(tape).transpose()?,
            redactor,
            depth,
            sandbox,
            model: setup.model.clone(),
            home_named: setup.cwd.canonicalize().ok().filter(|_| setup.cwd_named),
            asker: setup.asker,
            places: Places::new(config.limits.turns_at_once),
            http: Http::default(),
        };
        Ok(Self::wired(config, setup, store, wiring))
    }

    fn wired(config: Config, setup: Setup, store: Arc<dyn ThreadStore>, wiring: Wiring) -> Self {
        let tenant = wiring.tenant.as_ref();
        let owner = tenant.map(|tenant| tenant.name.clone());
        let most = tenant.map_or(usize::MAX, |tenant| tenant.limits.threads);
        let theirs: Arc<dyn ThreadStore> = match setup.asker {
            // Who owns the machine sees everybody's.
            Asker::Owner => store.clone(),
            Asker::Caller => Arc::new(Owned::new(store.clone(), owner, most)),
        };
        let theirs = match &wiring.meter {
            Some(meter) => meter.around_store(theirs),
            None => theirs,
        };
        let threads = Threads::new(theirs, Box::new(wiring.clone()), config.threads.idle());
        Self {
            config,
            setup,
            store,
            threads,
            wiring,
        }
    }

    /// The same program for one tenant: threads, roots and ceiling are theirs, all the rest is shared.
    pub fn of(&self, tenant: Tenant) -> Self {
        let mut wiring = self.wiring.clone();
        wiring.config.server.roots = match tenant.roots.is_empty() && tenant.one_of_several {
            // Unbounded, each could name where another works.
            true => vec![self.setup.cwd.clone()],
            false => tenant.roots.clone(),
        };
        if let Some(sandbox) = tenant.sandbox {
            wiring.config.policy.sandbox = Some(self.wiring.ceiling().min(sandbox));
        }
        wiring.places = self.wiring.places.share(tenant.limits.turns_at_once);
        wiring.tenant = Some(Arc::new(tenant));
        wiring.meter = Some(Meter::default());
        let setup = Setup {
            asker: Asker::Caller,
            ..self.setup.clone()
        };
        Self::wired(wiring.config.clone(), setup, self.store.clone(), wiring)
    }

    /// Whether this machine keeps several tenants apart: found out by trying, in a few milliseconds.
    ///
    /// # Errors
    /// One line that says what is missing: then one process serves one tenant.
    pub fn can_separate_tenants(&self) -> Result<(), String> {
        let elsewhere = std::env::temp_dir();
        let place = self.state().unwrap_or(&elsewhere);
        self.wiring
            .sandbox
            .try_to_separate(place)
            .map_err(|why| format!("this machine cannot keep several tenants apart: {why}"))?;
        if self.config.policy.network {
            tracing::warn!(
                "`policy.network`: the commands of all tenants are in the machine's one network, so what one of them listens at can be reached by the others"
            );
        }
        Ok(())
    }

    /// Whose threads these are, where it is a tenant's.
    pub fn tenant(&self) -> Option<&Tenant> {
        self.wiring.tenant.as_deref()
    }

    /// What a tenant's threads did in this process, in numbers.
    pub fn meter(&self) -> Option<&Meter> {
        self.wiring.meter.as_ref()
    }

    /// Takes the secrets that are known here out of what people write.
    pub fn redactor(&self) -> &Redactor {
        &self.wiring.redactor
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

    /// Whether the configured endpoint is of no use without a key.
    pub fn needs_key(&self) -> bool {
        let model = &self.config.model;
        model.headers.is_empty() && model.endpoint(&model.name, None).needs_key()
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

    /// Tokens that the server says the configured model takes; nothing where it does not say.
    pub async fn served_window(&self) -> Option<u64> {
        let name = &self.config.model.name;
        if name.starts_with("recorded:") {
            return None;
        }
        let endpoint = self.wiring.endpoint(name).ok()?;
        served(&endpoint).await.ok().flatten()
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
        let input = Arc::new(model.encode(&[Item::UserMessage { text }]));
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
            ..Policy::default()
        };
        let cwd = self.judged(cwd)?;
        let workspace = self.wiring.workspace(&cwd, &policy)?;
        let settings = self.wiring.settings(sandbox);
        Ok((workspace, self.wiring.confinement(&policy), settings))
    }

    /// Whether callers get tools for their own hands.
    pub fn workspace_tools(&self) -> bool {
        self.setup.workspace_tools
    }

    /// What stands before those tools in `cwd`: under the policies of a thread there, or with `only_reads` of a query.
    pub fn hands(&self, cwd: Option<PathBuf>, only_reads: bool) -> Result<Gate, String> {
        let cwd = self.judged(&self.setup.cwd.join(cwd.unwrap_or_default()))?;
        let wish = Wish {
            query: only_reads,
            ..Wish::default()
        };
        let (_, policy) = self
            .policy(&cwd, &wish)
            .map_err(|error| error.to_string())?;
        self.wiring.hands(&cwd, &policy, only_reads)
    }

    /// Removes threads that nobody used for long, now and every hour, on a thread of its own: it may end with the process,
    /// and goes on the next time.
    pub fn expire_threads(&self) {
        let keep = self.config.threads.keep();
        if let Some(store) = self
            .wiring
            .state
            .as_ref()
            .map(|state| DirectoryStore::new(state.join("threads")))
        {
            std::thread::spawn(move || {
                loop {
                    if let Err(error) = ending::expire(&store, keep) {
                        tracing::warn!("old threads: {error}");
                    }
                    // Ends with the process.
                    std::thread::sleep(EXPIRE_EVERY);
                }
            });
        }
    }

    /// Interrupts every running turn and waits until its end is recorded, at most `grace`; then ends the external
    /// servers.
    pub async fn shut_down(&self, grace: Duration) {
        self.threads.shut_down(grace).await;
        self.wiring.servers.end().await;
    }

    /// Removes the worktrees of this process's threads that nothing came of. At the end of the process.
    pub fn clear_unused_worktrees(&self) {
        for worktree in self.threads.worktrees() {
            // What cannot be looked through may hold something, and stays.
            let _ = worktree::remove_if_unused(&worktree, &[]);
        }
    }

    /// Removes what was made for a thread that does not begin, if nothing came of it.
    pub fn abandon(&self, header: &Header) {
        if header.own_directory {
            // One that is not empty stays.
            let _ = std::fs::remove_dir(&header.cwd);
        }
        if let Some(isolated) = &header.isolated {
            // What cannot be looked through may hold something, and stays.
            let _ = worktree::remove_if_unused(&isolated.worktree, &[]);
        }
    }

    /// The directories that the owner named for callers of this.
    pub fn named_roots(&self) -> &[PathBuf] {
        match self.tenant() {
            Some(tenant) => &tenant.roots,
            None => &self.config.server.roots,
        }
    }

    /// The process's working directory, where that is for callers to look at unasked: not for one of several.
    pub fn shown_directory(&self) -> Option<&Path> {
        (!self.wiring.view().is_narrow()).then_some(self.setup.cwd.as_path())
    }

    /// The process's working directory.
    pub fn cwd(&self) -> &Path {
        &self.setup.cwd
    }

    /// The directory of our own files; none where nothing is kept, or can be.
    pub fn state(&self) -> Option<&Path> {
        self.wiring.kept()
    }

    /// Places that no caller may name.
    pub fn closed(&self) -> Vec<PathBuf> {
        let own = self.wiring.paths.closed.iter().cloned();
        let tenant = self.wiring.tenant.iter();
        own.chain(tenant.flat_map(|tenant| tenant.closed(None)))
            .collect()
    }

    /// The same for a thread that works in `cwd`, which is in one of them if it is a worktree of ours.
    pub fn closed_in(&self, cwd: &Path) -> Vec<PathBuf> {
        self.wiring.closed(cwd)
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
