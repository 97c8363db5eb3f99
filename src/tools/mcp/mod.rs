//! External MCP servers as a source of tools: configured by the owner, run beside us, asked only through the gate.
//!
//! [`Servers`] is the set of a process: a server is started once for each way of starting it and shared by the threads
//! that use it. [`choose`] settles which tools a new thread has; that is recorded with its context and holds for its
//! life. [`tools`] makes them callable, again and again, from what was recorded.
//!
//! Nothing here believes a server: its names and schemas are made to fit, its hints are shown and never obeyed, its
//! answers are bounded and marked as data, what it asks of us goes to a person or is refused, and an approval stands on what it said of
//! its tool when the question was put.

mod audit;
mod connection;
mod heard;
mod mirrored;
mod names;
mod oauth;
mod offer;
mod person;
mod pipe;
mod resources;
mod result;
mod schema;
mod server;
mod settings;
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
    conversation::shown_line,
    model::ToolSpec,
    workspace::{
        sandbox::Launcher,
        shell::{self, companion::Program},
    },
};
use audit::Audit;
pub use connection::About;
use oauth::SignIn;
pub use oauth::{Login, Registered};
pub use server::Server;
use server::Target;
pub use settings::{Narrowed, Protocol, Settings};
pub use trust::{Trust, digest_of as trust_digest};

/// How long a server is kept for the thread that is about to be made.
const UNTIL_USED: Duration = Duration::from_secs(60);

/// Model APIs take no more tools than this, ours included.
const MOST_TOOLS: usize = 110;

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
    /// By what makes a server another one. One that no thread uses any more ends. Locked for a moment; nobody awaits
    /// under it.
    running: Mutex<HashMap<String, Weak<Server>>>,
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
        let target = self.target(name, settings, cwd, variable)?;
        // What only decides about its tools does not make it another one.
        let key = format!(
            "{name} {target:?} {:?} {}",
            settings.protocol, settings.startup_seconds
        );
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, server| server.strong_count() > 0);
        let server = running.get(&key).and_then(Weak::upgrade);
        let server = server.unwrap_or_else(|| {
            let server = self.begin(name, settings, target);
            running.insert(key, Arc::downgrade(&server));
            server
        });
        Ok(Usable {
            server,
            settings: settings.clone(),
        })
    }

    /// A new one, kept for a while for the thread that is about to be made.
    fn begin(&self, name: &str, settings: &Settings, target: Target) -> Arc<Server> {
        let stop = self.stop.child_token();
        let kept_in = self.kept_in(name, settings);
        let (server, keeper) = Server::new(name, settings.clone(), target, kept_in, stop.clone());
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

    /// Where what a server offers is kept: a file for each way of starting it, wherever it starts.
    fn kept_in(&self, name: &str, settings: &Settings) -> Option<PathBuf> {
        let variables: Vec<&String> = settings.env.keys().collect();
        let identity = format!("{:?} {:?} {variables:?}", settings.command, settings.args);
        let key = digest(&[
            name,
            &identity,
            &format!("{:?} {:?}", settings.url, settings.protocol),
        ]);
        Some(
            self.place
                .as_ref()?
                .join(format!("offers/{}.json", &key[..32])),
        )
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
    pub async fn fitting(&self, servers: &[Usable], question: &str) -> Option<String> {
        suggest::fitting(servers, question, &self.audit).await
    }

    /// The tools of `recorded` that `servers` can still answer for, with their names.
    pub fn tools(
        &self,
        recorded: &[Outside],
        specs: &[ToolSpec],
        servers: &[Usable],
    ) -> Vec<(String, Box<dyn AnyTool>)> {
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
            let access = resources::Resources::new(spec, readable.clone(), self.audit.clone());
            tools.push((name, Box::new(access)));
        }
        for outside in recorded {
            let server = servers
                .iter()
                .find(|usable| usable.server.name == outside.server);
            if let (Some(spec), Some(server)) = (spec(&outside.name), server) {
                let tool = tool::External::new(spec, outside, server.clone(), self.audit.clone());
                tools.push((outside.name.clone(), Box::new(tool)));
            }
        }
        tools
    }
}

/// What a thread has of external servers.
#[derive(Debug, Default)]
pub struct Chosen {
    /// As the model sees them, in a stable order.
    pub specs: Vec<ToolSpec>,
    /// What stands behind them.
    pub outside: Vec<Outside>,
    /// What somebody should know: servers that could not be asked, tools that were left out.
    pub warnings: Vec<String>,
}

/// The tools of `servers` for a new thread. Waits only for servers that were never seen before, side by side, each at
/// most its start-up time. `only_unasked`: nothing that would need a question. `ours`: names that are taken.
pub async fn choose(servers: &[Usable], only_unasked: bool, ours: &[ToolSpec]) -> Chosen {
    let offers = servers.iter().map(|usable| usable.server.first_offer());
    let offers = futures_util::future::join_all(offers).await;
    let mut chosen = Chosen::default();
    let mut found = Vec::new();
    for (Usable { server, settings }, offer) in servers.iter().zip(offers) {
        let name = shown_line(&server.name);
        match offer {
            Err(why) => chosen.warnings.push(format!(
                "external server `{name}` is left out: {why}; `openoxide mcp test {name}` shows more"
            )),
            Ok(offer) => {
                if !offer.resources.is_empty() {
                    chosen.outside.push(Outside {
                        name: resources::READ.to_owned(),
                        server: server.name.clone(),
                        tool: String::new(),
                        digest: String::new(),
                    });
                }
                let offered = offer.tools.iter().filter(|tool| {
                    settings.offers(&tool.name) && (!only_unasked || settings.runs_unasked(&tool.name))
                });
                found.extend(offered.cloned().map(|tool| (server.name.clone(), tool)));
            }
        }
    }
    if !chosen.outside.is_empty() {
        chosen.specs.extend(resources::specs());
    }
    let room = MOST_TOOLS.saturating_sub(ours.len() + chosen.specs.len());
    if found.len() > room {
        chosen.warnings.push(format!(
            "{} tools of external servers are left out, since model APIs take only so many; `tools` and `deny_tools` choose",
            found.len() - room
        ));
        found.truncate(room);
    }
    let pairs = found
        .iter()
        .map(|(server, tool)| (server.as_str(), tool.name.as_str()));
    let names = names::names(pairs);
    for (name, (server, tool)) in names.into_iter().zip(found) {
        chosen.specs.push(tool::spec(&name, &server, &tool));
        chosen.outside.push(Outside {
            name,
            server,
            tool: tool.name,
            digest: tool.digest,
        });
    }
    chosen
}

/// What `openoxide mcp` shows of a server.
#[derive(Debug, Serialize)]
pub struct Report {
    /// As the owner calls it.
    pub name: String,
    /// `stdio`, `http` or `websocket`.
    pub transport: &'static str,
    /// The program with its arguments, or the address.
    pub target: String,
    /// `ready`, `failed`, or why it is not started.
    pub state: String,
    /// As the model sees them; those that run unasked are marked.
    pub tools: Vec<ReportedTool>,
    /// How many.
    pub resources: usize,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// For an answer to nothing, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping_ms: Option<f64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it last wrote to standard error.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stderr: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_do: Option<String>,
}

/// A tool of a [`Report`].
#[derive(Debug, Serialize)]
pub struct ReportedTool {
    /// As the model calls it.
    pub name: String,
    /// It runs without a question.
    pub auto: bool,
    /// What the server says about it, to be believed by nobody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl Report {
    /// What is known without starting anything.
    pub fn known(name: &str, settings: &Settings, servers: &Servers, state: &str) -> Self {
        let kept = servers.kept_in(name, settings);
        let offer = kept
            .as_deref()
            .and_then(offer::Offer::kept)
            .unwrap_or_default();
        Self {
            name: name.to_owned(),
            transport: settings.transport(),
            target: settings.target(),
            state: state.to_owned(),
            tools: reported(name, settings, &offer),
            resources: offer.resources.len(),
            about: None,
            ping_ms: None,
            error: None,
            stderr: Vec::new(),
            to_do: None,
        }
    }

    /// What comes of using `server`, which starts or has started: waits for it, at most its start-up time.
    pub async fn tried(usable: &Usable, servers: &Servers) -> Self {
        let Usable { server, settings } = usable;
        let connection = server.connection(&CancellationToken::new()).await;
        let mut report = Self::known(&server.name, settings, servers, "ready");
        report.stderr = server.last_lines();
        match connection {
            Err(why) => {
                report.state = "failed".to_owned();
                report.to_do = Some(way_out(&why, settings));
                report.error = Some(why);
            }
            Ok(connection) => {
                let offer = connection.offer();
                report.tools = reported(&server.name, settings, &offer);
                report.resources = offer.resources.len();
                report.about = server.about();
                // The newer protocol has no ping; then its start is all there is to say.
                let ping = connection.ping(Duration::from_secs(5)).await;
                report.ping_ms = ping.map(|took| took.as_secs_f64() * 1_000.0);
            }
        }
        report
    }
}

fn reported(name: &str, settings: &Settings, offer: &offer::Offer) -> Vec<ReportedTool> {
    let offered: Vec<_> = offer
        .tools
        .iter()
        .filter(|tool| settings.offers(&tool.name))
        .collect();
    let names = names::names(offered.iter().map(|tool| (name, tool.name.as_str())));
    let tools = names.into_iter().zip(offered);
    tools
        .map(|(name, tool)| ReportedTool {
            name,
            auto: settings.runs_unasked(&tool.name),
            hints: tool.hints.clone(),
        })
        .collect()
}

fn way_out(why: &str, settings: &Settings) -> String {
    let words = if why.contains("mcp login") {
        "sign in as it says; a token of your own goes into `bearer_token_env`"
    } else if why.contains("could not be started") {
        "install the program, or set `command` to where it is"
    } else if why.contains("not ready") || why.contains("did not answer") {
        "start it by hand to see what it waits for, or give it more `startup_seconds`"
    } else if settings.url.is_some() {
        "check `url`, `headers` and `bearer_token_env`, and that the server runs"
    } else {
        "run its command by hand and look at what it prints; `enabled = false` leaves it out"
    };
    words.to_owned()
}

/// SHA-256 of the parts, each told from the next, in hexadecimal digits.
fn digest(parts: &[&str]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&part.len().to_le_bytes());
        context.update(part.as_bytes());
    }
    let digits = context.finish();
    digits
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
