//! Somebody a server works for: what is theirs, and how far they may go.
//!
//! A tenant gets an [`App`](super::App) of its own ([`App::of`](super::App::of)) over what all of them share: its store
//! knows the threads of this owner only, its roots bound every `cwd`, and its ceiling lies under that of the server. So
//! whatever stands above an `App` needs to know nothing of tenants.

use std::path::{Path, PathBuf};

use crate::{
    config::{ConfigError, ServerConfig},
    conversation::SandboxPolicy,
    workspace::View,
};

/// Characters of a name, which is a directory's too.
const LONGEST_NAME: usize = 64;

/// Somebody a server works for.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    /// The owner in the headers of its threads; fit to be the name of a directory.
    pub name: String,
    /// Directories that its calls may name; none: anywhere, as for the server's only tenant.
    pub roots: Vec<PathBuf>,
    /// Where a call without `cwd` gets a directory of its own. It is one of the roots.
    pub workspaces: Option<PathBuf>,
    /// The widest sandbox of its threads, where that is narrower than the server's.
    pub sandbox: Option<SandboxPolicy>,
    /// How much at once.
    pub limits: TenantLimits,
    /// There are others beside it, whom it must not see.
    pub one_of_several: bool,
    /// Directories besides the system's that its commands may read, where there are others.
    pub readable: Vec<PathBuf>,
    /// Roots that are set for others.
    foreign: Vec<PathBuf>,
    /// The owner's external servers that it may use, where there are others.
    mcp_servers: Vec<String>,
}

/// How much of the server one tenant may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Threads that are kept.
    pub threads: usize,
    /// Turns that run at once.
    pub turns_at_once: usize,
}

impl Tenant {
    /// The tenant called `name`, as the owner of the server set it. Its workspaces are made when the first is needed.
    ///
    /// # Errors
    /// If nobody can be called so, or could do anything with what is set.
    pub fn new(
        name: &str,
        server: &ServerConfig,
        one_of_several: bool,
    ) -> Result<Self, ConfigError> {
        if !is_name(name) {
            return Err(ConfigError::new(format!(
                "`{name}` is no name for a tenant: letters, digits, `.`, `_` and `-`, at most {LONGEST_NAME}, and no `.` first"
            )));
        }
        let own = server.tenants.get(name).cloned().unwrap_or_default();
        let limits = TenantLimits {
            threads: own.threads.unwrap_or(server.threads),
            turns_at_once: own.turns_at_once.unwrap_or(server.turns_at_once),
        };
        if limits.threads == 0 || limits.turns_at_once == 0 {
            return Err(ConfigError::new(format!(
                "tenant `{name}` gets no thread or no turn at all: `threads` and `turns_at_once` are 1 at least"
            )));
        }
        let workspaces = server.workspaces.as_ref().map(|all| all.join(name));
        let named = match own.roots.is_empty() {
            true => &server.roots,
            false => &own.roots,
        };
        let others = server.tenants.iter().filter(|(other, _)| *other != name);
        Ok(Self {
            name: name.to_owned(),
            roots: named.iter().chain(&workspaces).cloned().collect(),
            workspaces,
            // Not roots that it shares with others.
            readable: server.readable.iter().chain(&own.roots).cloned().collect(),
            foreign: others.flat_map(|(_, other)| other.roots.clone()).collect(),
            mcp_servers: own.mcp_servers,
            sandbox: own.sandbox,
            limits,
            one_of_several,
        })
    }

    /// True if its threads may use the external server `name`, which sees what the owner sees and works for whoever asks
    /// it: beside others only where the owner says so, and never one that a project brings along.
    pub(super) fn may_use(&self, name: &str, of_project: bool) -> bool {
        let named = || self.mcp_servers.iter().any(|allowed| allowed == name);
        !self.one_of_several || (!of_project && named())
    }

    /// What commands of its threads see besides their workspace.
    pub(super) fn view(&self) -> View {
        if !self.one_of_several {
            return View::Machine;
        }
        let all = self.workspaces.as_deref().and_then(Path::parent).map(real);
        let readable = self.readable.iter().map(|place| real(place));
        // Others may yet get theirs in there.
        let holds_theirs = |place: &PathBuf| all.as_ref().is_some_and(|all| all.starts_with(place));
        View::System(readable.filter(|place| !holds_theirs(place)).collect())
    }

    /// What belongs to others, for work in `cwd`, or for looking wherever it may.
    pub(super) fn closed(&self, cwd: Option<&Path>) -> Vec<PathBuf> {
        if !self.one_of_several {
            return Vec::new();
        }
        let roots: Vec<PathBuf> = self.roots.iter().map(|root| real(root)).collect();
        let foreign = self.foreign.iter().map(|place| real(place));
        // One that holds a root of ours was given to us with it.
        let foreign = foreign.filter(|place| !roots.iter().any(|root| root.starts_with(place)));
        foreign.chain(self.other_workspaces(cwd)).collect()
    }

    fn other_workspaces(&self, cwd: Option<&Path>) -> Vec<PathBuf> {
        let Some((own, all)) = self.workspaces.as_ref().and_then(|own| {
            let all = real(own.parent()?);
            Some((all.join(own.file_name()?), all))
        }) else {
            return Vec::new();
        };
        if cwd.is_some_and(|cwd| !real(cwd).starts_with(&own)) {
            return vec![all];
        }
        let entries = std::fs::read_dir(&all).into_iter().flatten().flatten();
        let places = entries.map(|entry| entry.path());
        places.filter(|place| *place != own).collect()
    }

    /// A directory of the thread `id` alone.
    pub(super) fn workspace_of(&self, id: impl std::fmt::Display) -> Option<PathBuf> {
        let all: &Path = self.workspaces.as_deref()?;
        Some(all.join(id.to_string()))
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('.') && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_fit_for_a_directory() {
        for (name, fits) in [
            ("alice", true),
            ("team-7.b_c", true),
            ("", false),
            ("..", false),
            (".hidden", false),
            ("a/b", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(is_name(name), fits, "{name}");
        }
        assert!(!is_name(&"a".repeat(LONGEST_NAME + 1)));
    }

    #[test]
    fn a_tenant_has_its_own_part_of_the_workspaces_and_its_own_roots_before_the_server_s() {
        let server = ServerConfig {
            roots: vec!["/srv".into()],
            workspaces: Some("/ws".into()),
            tenants: [(
                "bob".to_owned(),
                crate::config::TenantConfig {
                    roots: vec!["/bob".into()],
                    turns_at_once: Some(2),
                    ..Default::default()
                },
            )]
            .into(),
            ..ServerConfig::default()
        };
        let alice = Tenant::new("alice", &server, true).unwrap();
        assert_eq!(
            alice.roots,
            [PathBuf::from("/srv"), PathBuf::from("/ws/alice")]
        );
        let bob = Tenant::new("bob", &server, true).unwrap();
        assert_eq!(bob.roots, [PathBuf::from("/bob"), PathBuf::from("/ws/bob")]);
        assert_eq!(bob.limits.turns_at_once, 2);
        assert_eq!(bob.limits.threads, alice.limits.threads);
    }

    #[test]
    fn an_external_server_is_for_a_tenant_that_is_alone_or_was_given_it() {
        let given = crate::config::TenantConfig {
            mcp_servers: vec!["tickets".to_owned()],
            ..Default::default()
        };
        let server = ServerConfig {
            tenants: [("bob".to_owned(), given)].into(),
            ..ServerConfig::default()
        };
        for (tenant, beside_others, name, of_project, may) in [
            ("alice", false, "tickets", true, true),
            ("alice", true, "tickets", false, false),
            ("bob", true, "tickets", false, true),
            ("bob", true, "tickets", true, false),
            ("bob", true, "files", false, false),
        ] {
            let tenant = Tenant::new(tenant, &server, beside_others).unwrap();
            assert_eq!(tenant.may_use(name, of_project), may, "{tenant:?}: {name}");
        }
    }
}
