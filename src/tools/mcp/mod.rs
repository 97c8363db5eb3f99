//! External MCP servers as a source of tools: configured by the owner, run beside us, asked only through the gate.
//!
//! [`Servers`] is the set of a process: a server is started once for each way of starting it and shared by the threads
//! that use it. [`choose`] settles which tools a new thread has; that is recorded with its context and holds for its
//! life. [`tools`] makes them callable, again and again, from what was recorded.
//!
//! Nothing here believes a server: its names and schemas are made to fit, its hints are shown and never obeyed, its
//! answers are bounded and marked as data, what it asks of us goes to a person or is refused, and an approval stands
//! on what it said of its tool when the question was put.

mod audit;
mod choice;
mod connection;
mod heard;
mod identity;
mod known;
mod mirrored;
mod names;
mod oauth;
mod offer;
mod person;
mod pipe;
mod report;
mod resources;
mod result;
mod schema;
mod server;
mod settings;
mod shown_arguments;
mod socket;
mod streamable;
mod suggest;
mod tool;
mod trust;

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::registry::AnyTool;
use crate::{
    model::ToolSpec,
    workspace::{
        sandbox::Launcher,
        shell::{self, companion::Program},
    },
};
pub use audit::Whose;
use audit::{Audit, Journal};
pub use choice::{Chosen, choose};
pub use connection::About;
use known::{Known, Late};
use oauth::SignIn;
pub use oauth::{Login, Registered};
pub use report::{Report, ReportedTool};
pub use server::Server;
use server::Target;
pub use settings::{Narrowed, Protocol, Settings};
pub use trust::{Trust, digest_of as trust_digest};

/// How long a server is kept for the thread that is about to be made.
const UNTIL_USED: Duration = Duration::from_secs(60);

/// A tool of an external server as a thread has it: recorded with the thread's context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outside {
    /// As the model calls it. One called `read_resource` stands for the resources of its server.
    pub name: String,
    /// As the owner calls the server.
    pub server: String,
    /// As the server calls it; empty for resources.
    pub tool: String,
    /// Of what the server said of it when the thread began.
    pub digest: String,
}

/// An external server as one thread may use it: the process is shared, what is offered and asked about is not.
#[derive(Clone, Debug)]
pub struct Usable {
    /// Shared with other threads.
    pub server: Arc<Server>,
    /// As the owner set them, and the project and the caller narrowed them.
    pub settings: Settings,
}

/// The external servers of a process.
#[derive(Debug)]
pub struct Servers {
    /// Where what they offered is kept between runs, and what was asked of them; none for a process that keeps nothing.
    place: Option<PathBuf>,
    /// How deep below the first openoxide they run.
    depth: u32,
    /// What stands in front of each program.
    keeper: Option<Launcher>,
    audit: Arc<Audit>,
    /// By what makes a server another one ([`identity`]). One that no thread uses any more ends. Locked for a moment; nobody awaits
    /// under it.
    running: Mutex<HashMap<String, Weak<Server>>>,
    /// Servers that were not ready in time when they were first waited for, by the same.
    late: Arc<Late>,
    /// Ends all of them.
    stop: CancellationToken,
    /// Those who end them.
    keepers: TaskTracker,
}

impl Servers {
    /// None yet. They run at `depth`, behind `keeper`.
    pub fn new(place: Option<PathBuf>, depth: u32, keeper: Option<Launcher>) -> Self {
        Self {
            audit: Arc::new(Audit::new(
                place.as_ref().map(|place| place.join("calls.jsonl")),
            )),
            place,
            depth,
            keeper,
            running: Mutex::default(),
            late: Arc::default(),
            stop: CancellationToken::new(),
            keepers: TaskTracker::new(),
        }
    }

    /// The server `name` for threads of `cwd`: one that runs already, or a new one, which starts in the background.
    /// `variable` looks up the token's variable.
    pub fn start(
        &self,
        name: &str,
        settings: &Settings,
        cwd: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Usable, String> {
        settings.check()?;
        let target = self.target(name, settings, cwd, &variable)?;
        let key = self.identity(name, settings, cwd, &variable);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, server| server.strong_count() > 0);
        let server = running.get(&key).and_then(Weak::upgrade);
        let server = server.unwrap_or_else(|| {
            let server = self.begin(name, settings, target, &key);
            running.insert(key, Arc::downgrade(&server));
            server
        });
        Ok(Usable {
            server,
            settings: settings.clone(),
        })
    }

    /// A new one, kept for a while for the thread that is about to be made.
    fn begin(&self, name: &str, settings: &Settings, target: Target, key: &str) -> Arc<Server> {
        let stop = self.stop.child_token();
        let known = self.known(key);
        let (server, keeper) = Server::new(name, settings.clone(), target, known, stop.clone());
        self.keepers.spawn(keeper.keep());
        let until_used = server.clone();
        self.keepers.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(UNTIL_USED) => {}
                () = stop.cancelled() => {}
            }
            drop(until_used);
        });
        server
    }

    /// What is remembered of the server with this identity.
    fn known(&self, key: &str) -> Known {
        let file = format!("offers/{}.json", &key[..32]);
        let kept_in = self.place.as_ref().map(|place| place.join(file));
        Known::new(key, kept_in, self.late.clone())
    }

    /// What makes a server another one: see [`identity`].
    fn identity(
        &self,
        name: &str,
        settings: &Settings,
        cwd: &Path,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> String {
        let value = |name: &Option<String>| name.as_deref().and_then(variable);
        identity::of(identity::Parts {
            name,
            settings,
            directory: &cwd.join(settings.cwd.clone().unwrap_or_default()),
            token: value(&settings.bearer_token_env),
            secret: value(&settings.oauth.client_secret_env),
            signs_in: self.sign_in(name, settings, variable).is_ok(),
        })
    }

    /// What the server `name` is shown of a person who signed in there; an error where nobody can.
    fn sign_in(
        &self,
        name: &str,
        settings: &Settings,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<SignIn, String> {
        let Some(url) = &settings.url else {
            return Err("it is a program of this machine, where nobody signs in".to_owned());
        };
        if settings.has_token() {
            return Err(
                "it is shown the token that `bearer_token_env` or `headers` give, and needs no other"
                    .to_owned(),
            );
        }
        let place = self.place.as_ref();
        let place = place.ok_or("a sign-in cannot be kept, since nothing is (`--ephemeral`)")?;
        let secret = settings
            .oauth
            .client_secret_env
            .as_deref()
            .and_then(variable);
        Ok(SignIn::new(place, name, url, secret))
    }

    /// Begins a sign-in at the server `name`, where `scopes` are to be allowed besides what it wants itself. Starts
    /// nothing, and asks it twice at most, within its start-up time.
    pub async fn login(
        &self,
        name: &str,
        settings: &Settings,
        scopes: &[String],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Login, String> {
        settings.check()?;
        let sign_in = self.sign_in(name, settings, variable)?;
        let url = settings.url.clone().unwrap_or_default();
        let stranger = streamable::Address {
            headers: settings.headers.clone().into_iter().collect(),
            token: None,
            sign_in: None,
            url,
        };
        let stranger = stranger.over_http();
        oauth::Login::begin(oauth::Wish {
            challenge: server::challenge(&stranger, settings).await?,
            url: &stranger.url,
            registered: &settings.oauth,
            sign_in,
            scopes,
        })
        .await
    }

    /// Forgets what a person allowed at the server `name`. False if that was nothing.
    pub fn logout(&self, name: &str, settings: &Settings) -> Result<bool, String> {
        let sign_in = self.sign_in(name, settings, |_| None)?;
        sign_in.forget().map_err(|error| error.to_string())
    }

    /// What must not be seen of what a person allowed at the server `name`.
    pub fn granted(&self, name: &str, settings: &Settings) -> Vec<String> {
        let sign_in = self.sign_in(name, settings, |_| None);
        sign_in.map(|sign_in| sign_in.secrets()).unwrap_or_default()
    }

    fn target(
        &self,
        name: &str,
        settings: &Settings,
        cwd: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Target, String> {
        if let Some(url) = &settings.url {
            let token = match &settings.bearer_token_env {
                None => None,
                Some(name) => Some(variable(name).ok_or_else(|| {
                    format!("the variable `{name}` of its `bearer_token_env` is not set")
                })?),
            };
            let address = streamable::Address {
                url: url.clone(),
                headers: settings.headers.clone().into_iter().collect(),
                token,
                sign_in: self.sign_in(name, settings, variable).ok(),
            };
            return Ok(match settings.transport() {
                "websocket" => Target::Socket(address),
                _ => Target::Http(address),
            });
        }
        let extra: Vec<(String, String)> = settings.env.clone().into_iter().collect();
        let env: Vec<(OsString, OsString)> =
            shell::for_commands(std::env::vars_os(), &extra, self.depth);
        Ok(Target::Program(Box::new(Program {
            command: settings.command.clone().unwrap_or_default(),
            args: settings.args.clone(),
            workdir: cwd.join(settings.cwd.clone().unwrap_or_default()),
            env,
            keeper: self.keeper.clone(),
        })))
    }

    /// Ends all of them and what they started. Takes a second at most, side by side.
    pub async fn end(&self) {
        self.stop.cancel();
        self.keepers.close();
        self.keepers.wait().await;
    }

    /// Resources of `servers` that fit `question`, as data to stand behind it; within a tenth of a second.
    pub async fn fitting(
        &self,
        whose: Whose,
        servers: &[Usable],
        question: &str,
    ) -> Option<String> {
        let journal = Journal::new(self.audit.clone(), whose);
        suggest::fitting(servers, question, &journal).await
    }

    /// The tools of `recorded` that `servers` can still answer for, with their names. What is asked of them is logged
    /// as `whose`.
    pub fn tools(
        &self,
        whose: Whose,
        recorded: &[Outside],
        specs: &[ToolSpec],
        servers: &[Usable],
    ) -> Vec<(String, Box<dyn AnyTool>)> {
        let journal = Journal::new(self.audit.clone(), whose);
        let spec = |name: &str| specs.iter().find(|spec| spec.name == name).cloned();
        let mut tools: Vec<(String, Box<dyn AnyTool>)> = Vec::new();
        let (readable, recorded): (Vec<&Outside>, Vec<&Outside>) = recorded
            .iter()
            .partition(|outside| outside.name == resources::READ);
        let is_readable = |usable: &&Usable| {
            readable
                .iter()
                .any(|outside| outside.server == usable.server.name)
        };
        let readable: Vec<Usable> = servers.iter().filter(is_readable).cloned().collect();
        for spec in [resources::LIST, resources::READ]
            .into_iter()
            .filter_map(spec)
        {
            let name = spec.name.clone();
            let access = resources::Resources::new(spec, readable.clone(), journal.clone());
            tools.push((name, Box::new(access)));
        }
        for outside in recorded {
            let server = servers
                .iter()
                .find(|usable| usable.server.name == outside.server);
            if let (Some(spec), Some(server)) = (spec(&outside.name), server) {
                let tool = tool::External::new(spec, outside, server.clone(), journal.clone());
                tools.push((outside.name.clone(), Box::new(tool)));
            }
        }
        tools
    }
}

/// SHA-256 of the parts, each told from the next, in hexadecimal digits.
fn digest<P: AsRef<[u8]>>(parts: &[P]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&part.as_ref().len().to_le_bytes());
        context.update(part.as_ref());
    }
    digits(&context.finish())
}

/// In hexadecimal.
fn digits(digest: &ring::digest::Digest) -> String {
    let digits = digest.as_ref().iter();
    digits.map(|byte| format!("{byte:02x}")).collect()
}

/// A file of ours that nobody else reads, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::DirBuilderExt};
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_is_served_over_a_connection_that_shows_another_token() {
        let servers = Servers::new(None, 1, None);
        let with = |token: &str, header: &str| {
            let settings = Settings {
                // Nobody is there, and nobody need be.
                url: Some("http://127.0.0.1:9/mcp".to_owned()),
                headers: [("x-team".to_owned(), header.to_owned())].into(),
                bearer_token_env: Some("TOKEN".to_owned()),
                ..Settings::default()
            };
            let token = token.to_owned();
            let started = servers.start("s", &settings, Path::new("/"), |_| Some(token.clone()));
            started.unwrap().server
        };
        let one = with("a", "red");
        assert!(Arc::ptr_eq(&one, &with("a", "red")));
        assert!(!Arc::ptr_eq(&one, &with("b", "red")));
        assert!(!Arc::ptr_eq(&one, &with("a", "blue")));
        servers.end().await;
    }
}
