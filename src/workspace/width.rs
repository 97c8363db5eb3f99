//! Which directories are too wide to be written in: the system's, our own, and homes.

use std::path::{Path, PathBuf};

use super::{OpenError, real_or_future};

/// What holds the system itself, with everything below.
const SYSTEM: [&str; 22] = [
    "/Applications",
    "/Library",
    "/System",
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/gnu",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/lost+found",
    "/nix",
    "/proc",
    "/run",
    "/sbin",
    "/snap",
    "/sys",
    "/usr",
    "/root/.ssh",
];
/// In the system's places, where people's work is all the same.
const NOT_SYSTEM: [&str; 5] = [
    "/usr/local/src",
    "/usr/src",
    "/var/folders",
    "/var/tmp",
    "/var/www",
];
/// What the system and other programs keep, and here and there somebody a project.
const KEPT: [&str; 2] = ["/opt", "/var"];
/// The same, in a home directory: programs, and what says how programs run.
const KEPT_AT_HOME: [&str; 8] = [
    ".bun", ".cargo", ".config", ".gnupg", ".local", ".nvm", ".rustup", ".ssh",
];

/// Whether writing in `real` would put too much at stake.
pub(super) fn check(
    real: &Path,
    closed: &[PathBuf],
    named_by_owner: bool,
) -> Result<(), OpenError> {
    let error = |what, may_be_named| {
        Err(OpenError::TooWide {
            path: real.to_owned(),
            what,
            may_be_named,
        })
    };
    if let Some(what) = never(real, closed) {
        return error(what, false);
    }
    match unless_named(real, &homes()) {
        Some(what) if !named_by_owner => error(what, true),
        _ => Ok(()),
    }
}

/// What no flag makes a writable workspace.
fn never(real: &Path, closed: &[PathBuf]) -> Option<&'static str> {
    let is_in = |places: &[&str]| places.iter().any(|place| real.starts_with(place));
    if real == Path::new("/") {
        return Some("the root of the file system");
    }
    if is_in(&SYSTEM) && !is_in(&NOT_SYSTEM) || KEPT.iter().any(|place| real == Path::new(place)) {
        return Some("a system directory");
    }
    if closed.iter().any(|place| real.starts_with(place)) {
        return Some("a place of credentials or of openoxide's own files");
    }
    let mut homes = homes().into_iter();
    let above = homes.any(|home| home != real && home.starts_with(real));
    (above || real == Path::new("/home")).then_some("above a home directory")
}

/// What is somebody's project only if they say so.
fn unless_named(real: &Path, homes: &[PathBuf]) -> Option<&'static str> {
    if is_home(real, homes) {
        return Some("a home directory");
    }
    if let Some(inside) = homes.iter().find_map(|home| real.strip_prefix(home).ok()) {
        let first = inside.components().next()?.as_os_str().to_str()?;
        let directly = inside.components().count() == 1;
        let kept = first.starts_with('.') && (directly || KEPT_AT_HOME.contains(&first));
        return kept.then_some("a place of programs and their settings in a home directory");
    }
    let is_in = |places: &[&str]| places.iter().any(|place| real.starts_with(place));
    (is_in(&KEPT) && !is_in(&NOT_SYSTEM)).then_some("a system directory")
}

fn is_home(real: &Path, homes: &[PathBuf]) -> bool {
    homes.iter().any(|home| home == real)
        || real
            .parent()
            .is_some_and(|parent| parent == Path::new("/home") || parent == Path::new("/Users"))
}

fn homes() -> Vec<PathBuf> {
    let own = std::env::home_dir().map(|home| real_or_future(&home));
    own.into_iter()
        .chain([PathBuf::from("/root")])
        .filter(|home| home != Path::new("/"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conversation::SandboxPolicy,
        workspace::{Boundaries, Workspace},
    };

    #[test]
    fn a_home_directory_or_the_root_is_never_a_writable_workspace() {
        let open =
            |path: &str, sandbox| Workspace::open(Path::new(path), sandbox, Boundaries::default());
        for path in [
            "/", "/usr", "/usr/bin", "/etc", "/var", "/opt", "/var/lib", "/var/log",
        ] {
            if !Path::new(path).is_dir() {
                continue;
            }
            assert!(
                matches!(
                    open(path, SandboxPolicy::WorkspaceWrite),
                    Err(OpenError::TooWide { .. })
                ),
                "{path}"
            );
            assert!(open(path, SandboxPolicy::ReadOnly).is_ok(), "{path}");
        }
        let home = std::env::home_dir().unwrap();
        if home.is_dir() && home != Path::new("/") {
            assert!(open(home.to_str().unwrap(), SandboxPolicy::WorkspaceWrite).is_err());
        }
    }
    #[test]
    fn a_place_is_a_workspace_or_its_owner_must_name_it_or_never() {
        let homes = [PathBuf::from("/home/ana"), PathBuf::from("/var/lib/ci")];
        for (path, expected) in [
            ("/home/ana/project", "fine"),
            ("/home/ana", "named"),
            ("/home/ana/.config", "named"),
            ("/home/ana/.config/nvim", "named"),
            ("/home/ana/.local/bin", "named"),
            ("/home/ana/.ssh", "named"),
            ("/home/ana/.dotfiles", "named"),
            ("/home/ana/.cursor/worktrees/a", "fine"),
            ("/home/bob", "named"),
            ("/home", "never"),
            ("/opt", "never"),
            ("/opt/app", "named"),
            ("/var", "never"),
            ("/var/lib/x", "named"),
            ("/var/lib/ci/workspace/x", "fine"),
            ("/var/www/site", "fine"),
            ("/var/tmp/x", "fine"),
            ("/usr/share", "never"),
            ("/usr/local/src/x", "fine"),
            ("/nix/store/x", "never"),
            ("/state/threads", "never"),
            ("/work", "fine"),
        ] {
            let real = Path::new(path);
            let closed = [PathBuf::from("/state")];
            let found = match (never(real, &closed), unless_named(real, &homes)) {
                (Some(_), _) => "never",
                (None, Some(_)) => "named",
                (None, None) => "fine",
            };
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn a_further_root_is_judged_too_but_the_owner_has_named_it() {
        let dir = tempfile::tempdir().unwrap();
        for (root, fine) in [("/etc", false), ("/", false), ("/var/cache", true)] {
            let bounds = Boundaries {
                writable_roots: vec![root.into()],
                ..Boundaries::default()
            };
            let opened = Workspace::open(dir.path(), SandboxPolicy::WorkspaceWrite, bounds);
            assert_eq!(opened.is_ok(), fine, "{root}: {opened:?}");
        }
    }
}
