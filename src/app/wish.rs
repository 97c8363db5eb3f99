//! From what somebody wishes to the header of a thread: the owner's ceilings, the project's narrowings, the roots.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{App, Asker};
use crate::{
    agent::{
        context::{Context, Surroundings},
        instructions,
    },
    config::{Config, ConfigError, Narrowing},
    conversation::{ApprovalPolicy, SandboxPolicy, ThreadId, shown_line},
    thread::{
        Header, Isolated, Policy,
        rollout::{VERSION, now},
    },
    tools::{command::Rules, mcp, registry::Registry},
};

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
    /// The header of a new thread as wished. Waits for external servers only where their tools were never seen, at most
    /// as long as they may take to start.
    pub async fn header(&self, wish: Wish) -> Result<Header, HeaderError> {
        let (cwd, config, policy) = self.policy(&wish)?;
        let (sandbox, approval_policy) = (policy.sandbox, policy.approval_policy);
        // They start beside all that follows, the first request to the model included.
        let servers = self.wiring.external(&config, &cwd, |_| true);
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
        let chosen = mcp::choose(&servers, wish.query, &tools).await;
        for warning in &chosen.warnings {
            tracing::warn!("{warning}");
        }
        let effort = config.model.reasoning_effort;
        let context = Context::new(around, tools, effort).with(chosen);
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
            context: Arc::new(context),
        })
    }

    /// What may be done where `wish` says, with the configuration that holds there.
    pub(super) fn policy(&self, wish: &Wish) -> Result<(PathBuf, Config, Policy), HeaderError> {
        let cwd = self.setup.cwd.join(wish.cwd.clone().unwrap_or_default());
        // Before anything of the directory is read, so that what is outside the roots cannot be probed.
        self.within_roots(&cwd)?;
        // Beside the first request to the model, so that neither the start nor the first command waits for it.
        self.wiring.sandbox.look_ahead();
        let mut config = self.wiring.layers.in_project(&cwd)?;
        let sandbox = self.sandbox(wish, config.policy.sandbox.unwrap_or_default())?;
        let approval_policy = self.approval_policy(wish, config.policy.approval_policy)?;
        config.narrow(&wish.narrowing);
        let deny = config.policy.deny.clone();
        Rules::new(&[], &deny, &[])?;
        let policy = Policy {
            sandbox,
            approval_policy,
            writable_roots: config.policy.writable_roots.clone(),
            deny,
        };
        Ok((cwd, config, policy))
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
