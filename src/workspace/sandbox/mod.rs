//! What stands between a command and the machine.
//!
//! Nothing of the kernel's is in force yet: a command runs with the rights of the user who started openoxide. That is
//! said in every outcome, never hidden.

use crate::conversation::{SandboxPolicy, SandboxReport};

/// What commands under `policy` run behind on this machine.
pub fn report(policy: SandboxPolicy) -> SandboxReport {
    let missing: &[&str] = match policy {
        SandboxPolicy::ReadOnly | SandboxPolicy::DangerFullAccess => &[],
        SandboxPolicy::WorkspaceWrite => &["filesystem", "network", "processes"],
    };
    SandboxReport {
        policy,
        // Under `read-only` no command runs at all.
        network: policy != SandboxPolicy::ReadOnly,
        by: "none".to_owned(),
        missing: missing.iter().map(|&what| what.to_owned()).collect(),
    }
}
