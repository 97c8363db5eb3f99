//! From what somebody wishes to the header of a thread: the owner's ceilings, the project's narrowings, the roots.

use std::{
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{App, Asker, outside::Place, wiring::outside};
use crate::{
    agent::{
        context::{Context, Surroundings},
        instructions,
    },
    config::{Config, ConfigError, Narrowing, is_looser},
    conversation::{ApprovalPolicy, SandboxPolicy, ThreadId, shown_line},
    thread::{
        Header, Isolated, Policy,
        rollout::{VERSION, now},
    },
    tools::{command::Rules, mcp, registry::Registry},
    workspace,
};

/// Nobody can give it: not the owner to one of them, since it would be to look at the others.
const NEVER_FOR_ONE_OF_SEVERAL: &str = "sandbox `danger-full-access` is for nobody on a server with several tenants; a server of one's own is the way to it";

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
    #[error("{}", .0.in_one_line())]
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
    /// The header of a new thread as wished. Waits for external servers only where their tools were never seen, at most
    /// as long as they may take to start.
    pub async fn header(&self, wish: Wish) -> Result<Header, HeaderError> {
        // Before anything is made for it.
        let room = self.threads.store().room();
        room.map_err(|full| full.to_string())?;
        let thread_id = ThreadId::generate();
        match self.own_directory(&wish, thread_id)? {
            None => {
                let cwd = self.setup.cwd.join(wish.cwd.clone().unwrap_or_default());
                self.header_in(&cwd, thread_id, wish).await
            }
            Some(own) => {
                let header = self.header_in(&own, thread_id, wish).await;
                let header = header.inspect_err(|_| {
                    // Nothing is in it yet; if it stays, it is only empty.
                    let _ = std::fs::remove_dir(&own);
                })?;
                Ok(Header {
                    own_directory: true,
                    ..header
                })
            }
        }
    }

    /// A fresh directory for a thread that wishes for none, where tenants have workspaces.
    fn own_directory(&self, wish: &Wish, thread: ThreadId) -> Result<Option<PathBuf>, String> {
        let tenant = self.tenant().filter(|_| wish.cwd.is_none());
        let Some(own) = tenant.and_then(|tenant| tenant.workspace_of(thread)) else {
            return Ok(None);
        };
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&own);
        // Where the server keeps them is not for its callers.
        made.map_err(|error| {
            tracing::error!("workspace `{}`: {error}", own.display());
            "a directory for this thread cannot be made; the owner of the server finds the reason in its log"
        })?;
        Ok(Some(own))
    }

    async fn header_in(
        &self,
        cwd: &Path,
        thread_id: ThreadId,
        wish: Wish,
    ) -> Result<Header, HeaderError> {
        // From here on nothing goes by what was named.
        let cwd = &*self.judged(cwd)?;
        let (config, policy) = self.policy(cwd, &wish)?;
        let (sandbox, approval_policy) = (policy.sandbox, policy.approval_policy);
        // They start beside all that follows, the first request to the model included.
        let place = Place {
            project: cwd,
            starts: cwd,
        };
        let servers = self.wiring.external(&config, place, |_| true);
        let model = self.model_name(wish.model.clone(), config.model.name)?;
        let mut workspace = self.wiring.workspace(cwd, &policy)?;
        let settings = self.wiring.settings(sandbox);
        let tools = Registry::built_in(sandbox, approval_policy, &settings).specs();
        // Before there is a worktree: who gives up while this waits leaves nothing behind.
        let chosen = mcp::choose(&servers, wish.query, &tools).await;
        for warning in &chosen.warnings {
            tracing::warn!("{warning}");
        }
        let mut isolated = None;
        if wish.isolated {
            let from = workspace.cwd().to_owned();
            let (worktree, place) = self.wiring.worktree(thread_id, &workspace)?;
            workspace = self.wiring.workspace(&resolved(&place)?, &policy)?;
            isolated = Some(Isolated { from, worktree });
        }
        let found = instructions::find_where(workspace.cwd(), |path| {
            // A repository may be wider than the roots of a tenant in it.
            let own = path.starts_with(workspace.cwd()) || self.within_roots(path).is_ok();
            own && !workspace.is_closed(path)
        });
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
        let effort = config.model.reasoning_effort;
        let context = Context::new(around, tools, effort).with(chosen);
        Ok(Header {
            version: VERSION,
            thread_id,
            cwd: workspace.cwd().to_owned(),
            created_at: now(),
            owner: self.tenant().map(|tenant| tenant.name.clone()),
            parent: None,
            isolated,
            own_directory: false,
            policy,
            model,
            query: wish.query,
            limits: config.limits,
            context: Arc::new(context),
        })
    }

    /// The real directory that `named` leads to, if it is for whoever asks. Nothing of it is read before, so that what is
    /// outside the roots cannot be probed. To be called once: the next moment the same name may lead elsewhere.
    pub(super) fn judged(&self, named: &Path) -> Result<PathBuf, String> {
        let real = resolved(named);
        let judged = match &real {
            Ok(real) => self.within_roots(real).is_ok(),
            // What is not there is not inside.
            Err(_) => self.wiring.roots().is_empty(),
        };
        match judged {
            true => real,
            false => Err(self.wiring.outside_roots(named)),
        }
    }

    /// What `wish` may do in `cwd`, which was judged, with the configuration that holds there.
    pub(super) fn policy(&self, cwd: &Path, wish: &Wish) -> Result<(Config, Policy), HeaderError> {
        // Beside the first request to the model, so that neither the start nor the first command waits for it.
        self.wiring.sandbox.look_ahead();
        let mut config = self.wiring.layers.in_project(cwd)?;
        let sandbox = self.sandbox(wish, config.policy.sandbox.unwrap_or_default())?;
        let approval_policy = self.approval_policy(wish, config.policy.approval_policy)?;
        if let Some(more) = wish.narrowing.beyond(&config).into_values().next() {
            return Err(HeaderError::Refused(format!(
                "argument `config`: {more}; only the owner of this server sets more"
            )));
        }
        config.narrow(&wish.narrowing);
        let deny = config.policy.deny.clone();
        Rules::new(&[], &deny, &[])?;
        let more = wish.narrowing.policy.writable_roots.iter();
        let more = more.map(|root| self.more_to_write(cwd, root));
        let mut writable_roots = config.policy.writable_roots.clone();
        writable_roots.extend(more.collect::<Result<Vec<_>, _>>()?);
        let policy = Policy {
            sandbox,
            approval_policy,
            writable_roots,
            deny,
            network: config.policy.offline.then_some(false),
        };
        Ok((config, policy))
    }

    /// A directory that a call adds to those that may be written, resolved: inside the roots, and nothing that could not
    /// be its `cwd`. Without roots that is the server's own directory.
    fn more_to_write(&self, cwd: &Path, root: &Path) -> Result<PathBuf, String> {
        let own = [self.setup.cwd.clone(), cwd.to_owned()];
        let roots = match self.config.server.roots.as_slice() {
            [] => own.as_slice(),
            roots => roots,
        };
        let wrong = |why: String| format!("argument `config`: `policy.writable_roots`: {why}");
        let named = cwd.join(root);
        // What is not there is not inside.
        let real = resolved(&named).map_err(|_| wrong(outside(roots, &named)))?;
        self.wiring.within(roots, &real).map_err(wrong)?;
        workspace::check_added(&real, &self.wiring.closed(cwd))
            .map_err(|error| wrong(error.to_string()))?;
        Ok(real)
    }

    /// A recording is a file: a caller cannot name one.
    fn model_name(&self, wished: Option<String>, configured: String) -> Result<String, String> {
        match wished {
            Some(name) if self.setup.asker == Asker::Caller && name.starts_with("recorded:") => Err(
                "a caller cannot choose a recording; the owner of the server can, with `--model`"
                    .to_owned(),
            ),
            Some(name) if name.trim().is_empty() => Err("argument `model` is empty".to_owned()),
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
                ..parent.policy.clone()
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
        let stricter = wish.narrowing.policy.sandbox;
        let held = wish.sandbox.unwrap_or(default);
        if let Some(wider) = stricter.filter(|asked| *asked <= ceiling && *asked > held) {
            return Err(format!(
                "argument `config`: `policy.sandbox` can only be stricter than `{}`, and `{}` is wider; what the owner of this server allows is chosen with `sandbox`",
                held.as_str(),
                wider.as_str()
            ));
        }
        // The argument is bounded too where `config` is stricter still.
        match stricter.max(wish.sandbox) {
            Some(SandboxPolicy::DangerFullAccess) if self.wiring.view().is_narrow() => {
                Err(NEVER_FOR_ONE_OF_SEVERAL.to_owned())
            }
            Some(wished) if wished > ceiling => Err(format!(
                "sandbox `{}` is wider than this server's `{}`; only its owner can change that, with `--sandbox` or `--allow-full-access`",
                wished.as_str(),
                ceiling.as_str()
            )),
            _ => Ok(stricter.unwrap_or(held).min(ceiling)),
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
        let stricter = wish.narrowing.policy.approval_policy;
        let held = wish.approval_policy.or(default).unwrap_or_default();
        let wished = stricter.or(wish.approval_policy);
        match (set, wished) {
            (Some(ApprovalPolicy::Untrusted), Some(looser))
                if self.setup.asker == Asker::Caller && looser != ApprovalPolicy::Untrusted =>
            {
                Err(format!(
                    "approval policy `{}` is looser than this server's `untrusted`, which only its owner changes",
                    looser.as_str()
                ))
            }
            (_, Some(looser)) if stricter.is_some() && is_looser(looser, held) => Err(format!(
                "argument `config`: `policy.approval_policy` can only be stricter than `{}`; only the owner of this server sets a looser one",
                held.as_str()
            )),
            (_, wished) => Ok(wished.unwrap_or(held)),
        }
    }

    /// A caller's directory must be inside the owner's roots, where there are some. `real` is resolved, and is not
    /// resolved again.
    pub fn within_roots(&self, real: &Path) -> Result<(), String> {
        self.wiring.within_roots(real)
    }
}

fn resolved(named: &Path) -> Result<PathBuf, String> {
    let real = workspace::resolved(named);
    real.map_err(|error| error.to_string())
}
