//! What policy says of an access, before anybody is asked.

use std::path::PathBuf;

use super::Gate;
use crate::{
    conversation::{Access, ApprovalPolicy, OutsideAccess, SandboxPolicy, shown_line},
    workspace::{may_hold_secrets, sandbox::Protection},
};

/// What policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Unasked.
    Run,
    /// Ask first; the text says what is special about it.
    Ask(String),
    /// Not at all; the text says why, and who may change that.
    Refuse(String),
}

impl Gate {
    pub(super) fn verdict(&self, access: &Access) -> Verdict {
        if let Some(why) = self.denied(access).or_else(|| self.shows_others(access)) {
            return Verdict::Refuse(why);
        }
        table(
            access,
            self.workspace.sandbox(),
            self.approval_policy_for(access),
            |path| self.workspace.write_protection(path),
            || self.shortfall(),
        )
    }

    /// What the owner denies of it.
    fn denied(&self, access: &Access) -> Option<String> {
        let text = match access {
            Access::Run { command, .. } => command,
            Access::Type { input, .. } => input,
            Access::Nothing | Access::Read(_) | Access::Write { .. } | Access::Outside(_) => {
                return None;
            }
        };
        let prefix = self.rules.denied(text)?;
        Some(format!(
            "`policy.deny` holds `{prefix}`, and only the owner can change that"
        ))
    }

    /// `untrusted` lets pass what is certain only to read and what the owner allows. Not more than that: what would leave
    /// the sandbox is asked all the same.
    fn approval_policy_for(&self, access: &Access) -> ApprovalPolicy {
        match (self.approval_policy, access) {
            (
                ApprovalPolicy::Untrusted,
                Access::Run {
                    command, workdir, ..
                },
            ) if self.rules.unasked(command, &self.workspace, workdir) => ApprovalPolicy::OnRequest,
            (policy, _) => policy,
        }
    }

    /// Why nobody can say yes to this where others are on the machine who must not be seen: the person who would be
    /// asked is one of them.
    fn shows_others(&self, access: &Access) -> Option<String> {
        if let Access::Write { paths, .. } = access {
            return self.shows_more(paths).map(str::to_owned);
        }
        let (Access::Run {
            escalate: leaves, ..
        }
        | Access::Type { free: leaves, .. }) = access
        else {
            return None;
        };
        match (self.workspace.view().is_narrow(), leaves) {
            (false, _) => None,
            (true, true) => Some(
                "outside the sandbox is the work of others, and nobody who uses this server can \
                 allow that"
                    .to_owned(),
            ),
            // It holds them apart or is nothing; what else is partial is asked about as ever.
            (true, false) => self.confinement.separates().err(),
        }
    }

    /// Why an edit outside of the workspace is not even put into a question, which shows what stood there.
    fn shows_more(&self, paths: &[PathBuf]) -> Option<&'static str> {
        if self.workspace.sandbox() == SandboxPolicy::DangerFullAccess {
            return None;
        }
        let mut outside = paths
            .iter()
            .filter(|path| !self.workspace.is_inside(path))
            .peekable();
        outside.peek()?;
        if self.workspace.view().is_narrow() {
            return Some(
                "outside the workspace is the work of others, and nobody who uses this server can allow that",
            );
        }
        let secret = outside.any(|path| may_hold_secrets(path));
        secret.then_some("it may hold secrets of something else, and a question would show them")
    }

    /// What keeps a command from running unasked although the policy would let it: the kernel does not hold it.
    fn shortfall(&self) -> Option<String> {
        match self.confinement.sandbox().protection() {
            Protection::Whole => None,
            Protection::Partial(_) if self.accept_partial => None,
            Protection::Partial(missing) => Some(format!(
                "the sandbox of this machine is only partial ({}); its owner can accept that with `policy.accept_partial`",
                missing.join(", ")
            )),
            Protection::None => Some(
                "nothing on this machine can confine a command; in a container that is itself the sandbox, its owner can start openoxide with `--sandbox danger-full-access`"
                    .to_owned(),
            ),
        }
    }
}

/// The table of the contract ("Policies"): what `sandbox` and `approval` say of `access`. `protection` tells why
/// `workspace-write` keeps a path from being written, `shortfall` what of the sandbox the kernel does not enforce on
/// commands.
pub(super) fn table(
    access: &Access,
    sandbox: SandboxPolicy,
    approval: ApprovalPolicy,
    protection: impl Fn(&PathBuf) -> Option<&'static str>,
    shortfall: impl Fn() -> Option<String>,
) -> Verdict {
    match access {
        Access::Nothing | Access::Read(_) => Verdict::Run,
        Access::Outside(access) => outside(access, approval),
        Access::Write { paths, .. } => match (forbidden(sandbox, paths, protection), approval) {
            (Some(why), ApprovalPolicy::Never) => Verdict::Refuse(why),
            (Some(why), _) => Verdict::Ask(why),
            (None, ApprovalPolicy::Untrusted) => {
                Verdict::Ask("the policy asks before every edit".to_owned())
            }
            (None, _) => Verdict::Run,
        },
        Access::Run { escalate, .. } => match (escalate, approval) {
            _ if sandbox == SandboxPolicy::DangerFullAccess => unsandboxed(approval),
            (true, ApprovalPolicy::Never) => Verdict::Refuse(
                "it would leave the sandbox, and the policy is to never ask".to_owned(),
            ),
            (true, _) => Verdict::Ask("it would run outside the sandbox".to_owned()),
            (false, _) => held(shortfall(), approval),
        },
        Access::Type { free, .. } => match (free, approval) {
            _ if sandbox == SandboxPolicy::DangerFullAccess => unsandboxed(approval),
            (true, ApprovalPolicy::Never) => Verdict::Refuse(
                "the command is outside the sandbox, and the policy is to never ask".to_owned(),
            ),
            (true, _) => Verdict::Ask("the command runs outside the sandbox".to_owned()),
            (false, _) => held(shortfall(), approval),
        },
    }
}

/// In the sandbox, as far as there is one.
fn held(shortfall: Option<String>, approval: ApprovalPolicy) -> Verdict {
    match (shortfall, approval) {
        (Some(why), ApprovalPolicy::Never) => Verdict::Refuse(why),
        (Some(why), _) => Verdict::Ask(why),
        (None, _) => unsandboxed(approval),
    }
}

/// A command that leaves nothing behind which it should be: only `untrusted` asks.
fn unsandboxed(approval: ApprovalPolicy) -> Verdict {
    match approval {
        ApprovalPolicy::Untrusted => Verdict::Ask(
            "the policy asks before a command that is not certain only to read".to_owned(),
        ),
        ApprovalPolicy::OnRequest | ApprovalPolicy::Never => Verdict::Run,
    }
}

/// A tool of an external server; the sandbox has no part in it.
fn outside(access: &OutsideAccess, approval: ApprovalPolicy) -> Verdict {
    match approval {
        _ if access.unasked => Verdict::Run,
        ApprovalPolicy::Never => Verdict::Refuse(format!(
            "it is not in `mcp_servers.{}.auto`, or not any more what it was when the thread began, and the policy is to never ask",
            shown_line(&access.server)
        )),
        _ if access.changed => Verdict::Ask(
            "the server describes this tool differently than when the thread began".to_owned(),
        ),
        _ => Verdict::Ask("it is not among those that its owner lets run unasked".to_owned()),
    }
}

fn forbidden(
    sandbox: SandboxPolicy,
    paths: &[PathBuf],
    protection: impl Fn(&PathBuf) -> Option<&'static str>,
) -> Option<String> {
    match sandbox {
        SandboxPolicy::ReadOnly => Some("the sandbox is `read-only`".to_owned()),
        SandboxPolicy::DangerFullAccess => None,
        SandboxPolicy::WorkspaceWrite => paths.iter().find_map(protection).map(str::to_owned),
    }
}
