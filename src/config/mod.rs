//! What the owner sets. The parts declare their own keys; this only gathers them and finds out where each layer stands.
//!
//! Order: defaults < user file < profile < project file < environment < flags < arguments of a call. The project file
//! and the arguments of a call can only narrow ([`Narrowing`]).

mod external;
mod layers;
mod narrowing;
mod paths;
mod words;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{
    agent::Limits,
    conversation::{ApprovalPolicy, SandboxPolicy, WhenUnattended},
    model::ModelConfig,
    tools::mcp,
};

pub use external::{Named, expand, named_in_project, of_file, of_flag, variables};
pub use layers::{ConfigError, Environment, Layers, assignment};
pub use narrowing::{NarrowLimits, NarrowModel, NarrowPolicy, Narrowing, is_looser, of_call};
pub use paths::Paths;
pub use words::plain;

/// The whole of it. Only `app` sees it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is sampled.
    pub model: ModelConfig,
    /// What may be done, and when to ask.
    pub policy: PolicyConfig,
    /// What ends a turn early.
    pub limits: Limits,
    /// How long threads are kept.
    pub threads: ThreadsConfig,
    /// How the MCP server behaves.
    pub server: ServerConfig,
    /// External MCP servers, by the name that the owner calls them.
    pub mcp_servers: BTreeMap<String, mcp::Settings>,
    /// Named sets of any of the above, chosen by `--profile`.
    pub profiles: BTreeMap<String, toml::Table>,
}

/// What may be done, and when to ask.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Default, and where it is set the ceiling of what a caller may choose.
    pub sandbox: Option<SandboxPolicy>,
    /// When to ask.
    pub approval_policy: Option<ApprovalPolicy>,
    /// What becomes of a question that nobody can answer.
    pub when_unattended: Option<WhenUnattended>,
    /// Directories besides the working directory that may be written.
    pub writable_roots: Vec<PathBuf>,
    /// Beginnings of commands that run unasked, inside the sandbox.
    pub allow: Vec<String>,
    /// Beginnings of commands that never run.
    pub deny: Vec<String>,
    /// Whether commands reach the network from inside the sandbox.
    pub network: bool,
    /// A project or a call took the network away: for good, whatever the owner sets later.
    #[serde(skip)]
    pub offline: bool,
    /// Variables that commands get besides the usual ones.
    pub env: BTreeMap<String, String>,
    /// Places of credentials that tools and commands never reach, besides the usual ones. `~/` is the home directory.
    pub credential_paths: Vec<PathBuf>,
    /// Run commands unasked where this machine can enforce only a part of the sandbox.
    pub accept_partial: bool,
}

/// How long threads are kept.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThreadsConfig {
    /// Minutes after its last use that a thread leaves memory, fractions allowed, `inf` for never. The next use reads
    /// it from disk.
    #[serde(deserialize_with = "above_zero")]
    pub idle_minutes: f64,
    /// Days after its last turn that a thread leaves the disk.
    #[serde(deserialize_with = "above_zero")]
    pub keep_days: f64,
}

impl Default for ThreadsConfig {
    fn default() -> Self {
        Self {
            idle_minutes: 30.0,
            keep_days: 30.0,
        }
    }
}

impl ThreadsConfig {
    /// The time after which a thread that nobody used leaves memory.
    pub fn idle(&self) -> Duration {
        Duration::try_from_secs_f64(self.idle_minutes * 60.0).unwrap_or(Duration::MAX)
    }

    /// The time after which a thread that nobody used is removed.
    pub fn keep(&self) -> Duration {
        Duration::try_from_secs_f64(self.keep_days * 86400.0).unwrap_or(Duration::MAX)
    }
}

fn above_zero<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let time = f64::deserialize(from)?;
    // Not zero: a thread must outlive the call, and the process, that made it.
    match time > 0.0 {
        true => Ok(time),
        false => Err(serde::de::Error::custom("expected a number above 0")),
    }
}

/// How the MCP server behaves.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Directories that a caller's `cwd` must be inside; empty: anywhere.
    pub roots: Vec<PathBuf>,
    /// Callers may choose `danger-full-access`.
    pub allow_full_access: bool,
    /// What a cancelled request does to its turn.
    pub on_cancel: OnCancel,
    /// Where the network service listens, `ADDR:PORT`; none: standard input/output.
    pub http: Option<String>,
    /// Who may use the network service, `NAME:TOKEN` each, or a token alone.
    pub tokens: Vec<String>,
    /// The same, one a line of this file, which is read again when it changes.
    pub token_file: Option<PathBuf>,
    /// Names by which the network service is reached from outside, besides its address.
    pub public_hosts: Vec<String>,
    /// Web pages that may use the network service, by their origin; none without a reason.
    pub origins: Vec<String>,
    /// Where a call without `cwd` gets a directory of its own.
    pub workspaces: Option<PathBuf>,
    /// Directories besides the system's that commands may read where there are several tenants: toolchains.
    pub readable: Vec<PathBuf>,
    /// Seconds that running turns get to end by themselves when the network service is told to stop.
    pub drain_seconds: f64,
    /// Threads that a tenant may keep.
    pub threads: usize,
    /// Turns that a tenant may have running.
    pub turns_at_once: usize,
    /// What holds for one tenant, by its name.
    pub tenants: BTreeMap<String, TenantConfig>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            allow_full_access: false,
            on_cancel: OnCancel::default(),
            http: None,
            tokens: Vec::new(),
            token_file: None,
            public_hosts: Vec::new(),
            origins: Vec::new(),
            workspaces: None,
            readable: Vec::new(),
            drain_seconds: 30.0,
            threads: 10_000,
            turns_at_once: 32,
            tenants: BTreeMap::new(),
        }
    }
}

/// What holds for one tenant of the network service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantConfig {
    /// Instead of the server's roots.
    pub roots: Vec<PathBuf>,
    /// The widest sandbox of its threads, where that is narrower than the server's.
    pub sandbox: Option<SandboxPolicy>,
    /// Instead of the server's `threads`.
    pub threads: Option<usize>,
    /// Instead of the server's `turns_at_once`.
    pub turns_at_once: Option<usize>,
    /// `/metrics` shows it the numbers of all tenants.
    pub all_metrics: bool,
    /// The owner's external servers that its threads may use beside other tenants; they run outside of any tenant.
    pub mcp_servers: Vec<String>,
}

/// What a cancelled request does to its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCancel {
    /// Interrupt, unless the client's reason says that it only ran out of time.
    #[default]
    Auto,
    /// Interrupt always.
    Interrupt,
    /// Let it run; `openoxide-reply` follows it.
    Detach,
}
