//! What of the machine the commands of a workspace can see besides the workspace: all of it, or the system alone.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::real_or_future;

/// Besides the workspace itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Everything that is not closed.
    #[default]
    Machine,
    /// The directories of the system, and these to read: for one of several who must not see each other. No command
    /// leaves the sandbox then, whoever says yes.
    System(Vec<PathBuf>),
}

/// What programs need to run, and nobody's work is in. All else is not there: `/home`, `/srv`, `/opt`, `/var`, `/mnt`
/// and whatever somebody has put beside them.
const SYSTEM: [&str; 15] = [
    "/bin",
    "/etc",
    "/gnu/store",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/nix/var/nix/profiles",
    // Its own processes, and a few names, are put over these two.
    "/proc",
    "/run",
    "/sbin",
    // From here C libraries count processors.
    "/sys/devices/system",
    "/usr",
    "/var/lib/alternatives",
];
/// Where settings of the system lie beside its secrets.
const SETTINGS: [&str; 2] = ["/etc", "/usr/local/etc"];
/// Secret by their name, whatever their mode.
const SECRETS: [&str; 6] = [
    "/etc/gshadow",
    "/etc/krb5.keytab",
    "/etc/letsencrypt",
    "/etc/shadow",
    "/etc/ssl/private",
    "/etc/wireguard",
];
/// Entries of settings that are looked at; a system has a few thousand.
const MOST_SETTINGS: usize = 100_000;

impl View {
    /// True where others must not be seen.
    pub fn is_narrow(&self) -> bool {
        *self != Self::Machine
    }

    /// All that can be seen besides the workspace; `None` where that is everything.
    pub(in crate::workspace) fn places(&self) -> Option<Vec<PathBuf>> {
        match self {
            Self::Machine => None,
            Self::System(others) => {
                let system = SYSTEM.iter().map(PathBuf::from);
                Some(system.chain(others.iter().cloned()).collect())
            }
        }
    }

    /// What of the system is not to be seen all the same: what an ordinary user could not read. For root, the kernel
    /// makes no difference. Reads the directories of settings.
    pub(in crate::workspace) fn secrets(&self) -> Vec<PathBuf> {
        if !self.is_narrow() {
            return Vec::new();
        }
        let mut left = MOST_SETTINGS;
        // By real paths, as all that is closed: the sandbox follows no symlink.
        let private = SETTINGS.map(|top| private(&real_or_future(Path::new(top)), &mut left));
        let named = SECRETS.iter().map(|name| real_or_future(Path::new(name)));
        named.chain(private.into_iter().flatten()).collect()
    }
}

/// What below `top` only its owner or a group may read. Beyond so many entries, all that was not looked at.
fn private(top: &Path, left: &mut usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(top).into_iter().flatten().flatten() {
        let Ok(about) = entry.metadata() else {
            continue;
        };
        let for_all = if about.is_dir() { 0o005 } else { 0o004 };
        *left = left.saturating_sub(1);
        if about.is_symlink() {
        } else if *left == 0 || about.permissions().mode() & for_all != for_all {
            found.push(entry.path());
        } else if about.is_dir() {
            found.extend(private(&entry.path(), left));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_ordinary_user_could_not_read_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, mode| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        };
        make("passwd", 0o644);
        make("shadow", 0o640);
        make("app/settings", 0o644);
        make("app/key", 0o600);
        make("closed/settings", 0o644);
        let closed = dir.path().join("closed");
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("shadow", dir.path().join("link")).unwrap();
        let mut found = private(dir.path(), &mut 100);
        found.sort();
        let expected = ["app/key", "closed", "shadow"].map(|name| dir.path().join(name));
        assert_eq!(found, expected);
        // What there is no time to look at is private.
        assert!(private(dir.path(), &mut 1).len() >= 3);
    }
}
