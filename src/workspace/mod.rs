//! What can be done to a directory: read, edit, search and run commands in it. No model and no questions here.
//!
//! A [`Workspace`] is one working directory with its writable roots. Every path that a model names becomes a real path
//! in [`Workspace::resolve`], symlinks and `..` followed, and is judged only after that.

pub mod checkpoint;
pub mod edit;
pub mod file;
pub mod given;
pub mod outline;
pub mod sandbox;
pub mod search;
pub mod seen;
pub mod shell;
mod view;
pub mod watch;
mod width;
pub mod worktree;

use std::{
    io,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use crate::conversation::{SandboxPolicy, shown_line};
use checkpoint::Checkpoint;
use outline::Outlines;
use sandbox::Sandbox;
use seen::Seen;
pub use view::View;

/// One working directory, what may be written from it, and what must stay closed.
#[derive(Debug)]
pub struct Workspace {
    cwd: PathBuf,
    writable: Vec<PathBuf>,
    closed: Vec<PathBuf>,
    sandbox: SandboxPolicy,
    view: View,
    checkpoint: Checkpoint,
    seen: Seen,
    outlines: Outlines,
    guard: Option<Arc<Sandbox>>,
}

/// What other programs act on where it exists: it may be created, and is then the user's.
const GUARDED: [&str; 4] = [".openoxide", ".mcp.json", ".vscode", ".envrc"];

/// A bare repository, or what a `.git` file elsewhere points to.
fn is_git_directory(path: &Path) -> bool {
    path.join("HEAD").is_file() && path.join("refs").is_dir() && path.join("objects").is_dir()
}

/// What a workspace is opened with. Paths need not be canonical.
#[derive(Clone, Debug, Default)]
pub struct Boundaries {
    /// Directories besides the working directory that may be written.
    pub writable_roots: Vec<PathBuf>,
    /// Never read or written by tools: our own configuration and state, and credential places.
    pub closed: Vec<PathBuf>,
    /// The owner named the working directory by flag, so it may be a home directory.
    pub named_by_owner: bool,
    /// Where what is known of directories is kept from turn to turn; without it, nothing is.
    pub state: Option<PathBuf>,
    /// Holds the git that we run ourselves; without it, that sees nothing but objects all the same.
    pub guard: Option<Arc<Sandbox>>,
    /// What of the machine commands see besides.
    pub view: View,
}

/// Why a directory cannot be worked in.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, or not a directory.
    #[error("working directory `{}`: {reason}", shown_line(&path.to_string_lossy()))]
    NotADirectory {
        /// As it was named.
        path: PathBuf,
        /// From the system.
        reason: String,
    },
    /// It was resolved once, and what stands there now leads elsewhere.
    #[error(
        "working directory `{}` is another one now: it leads to `{}`; start anew in the one that is meant",
        shown_line(&path.to_string_lossy()),
        shown_line(&now.to_string_lossy())
    )]
    Moved {
        /// As it was resolved before.
        path: PathBuf,
        /// As it is now.
        now: PathBuf,
    },
    /// Writing there would put too much at stake.
    #[error(
        "`{}` is {what} and never a writable workspace{}; choose a project directory, or sandbox `read-only`",
        shown_line(&path.to_string_lossy()),
        if *may_be_named { " unless its owner names it with `--cwd`" } else { "" }
    )]
    TooWide {
        /// Resolved.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// The owner may have it all the same.
        may_be_named: bool,
    },
}

/// Why a path cannot be used. Its reader is the model.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// No path was given.
    #[error("the path is empty")]
    Empty,
    /// It leads out of the roots.
    #[error("`{path}` is outside the workspace `{root}`; only paths inside it can be used")]
    Outside {
        /// As it was named.
        path: String,
        /// The working directory.
        root: String,
    },
    /// It is a place that tools never touch.
    #[error(
        "`{path}` is private (credentials, or openoxide's own files) and cannot be used by tools"
    )]
    Closed {
        /// As it was named.
        path: String,
    },
    /// It cannot be followed to its end.
    #[error("`{path}`: {reason}")]
    Unresolvable {
        /// As it was named.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl Workspace {
    /// Opens `cwd`, which must be a directory that `sandbox` may have.
    pub fn open(cwd: &Path, sandbox: SandboxPolicy, bounds: Boundaries) -> Result<Self, OpenError> {
        Self::in_real(resolved(cwd)?, sandbox, bounds)
    }

    /// The same for a directory that was resolved and judged before: it is not resolved anew, since another may stand
    /// at its name by now.
    pub fn open_resolved(
        real: &Path,
        sandbox: SandboxPolicy,
        bounds: Boundaries,
    ) -> Result<Self, OpenError> {
        check_resolved(real)?;
        Self::in_real(real.to_owned(), sandbox, bounds)
    }

    fn in_real(
        real: PathBuf,
        sandbox: SandboxPolicy,
        bounds: Boundaries,
    ) -> Result<Self, OpenError> {
        let closed: Vec<PathBuf> = bounds
            .closed
            .iter()
            .map(|path| real_or_future(path))
            .collect();
        let mut writable = vec![real.clone()];
        for root in &bounds.writable_roots {
            writable.push(resolved(&real.join(root))?);
        }
        if sandbox == SandboxPolicy::WorkspaceWrite {
            width::check(&real, &closed, bounds.named_by_owner)?;
            // The owner's configuration names the others.
            for root in &writable[1..] {
                width::check(root, &closed, true)?;
            }
        }
        Ok(Self {
            cwd: real,
            writable,
            closed,
            sandbox,
            view: bounds.view,
            checkpoint: Checkpoint::new(bounds.state.clone()),
            seen: Seen::default(),
            outlines: Outlines::new(bounds.state),
            guard: bounds.guard,
        })
    }

    /// The working directory, resolved.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Directories that `workspace-write` may write, the working directory first.
    pub fn writable_roots(&self) -> &[PathBuf] {
        &self.writable
    }

    /// Never to be read or written by tools.
    pub fn closed(&self) -> &[PathBuf] {
        &self.closed
    }

    /// The policy it was opened under.
    pub fn sandbox(&self) -> SandboxPolicy {
        self.sandbox
    }

    /// What of the machine commands see besides.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What was in the files before the running turn changed them.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What is known of definitions.
    pub fn outlines(&self) -> &Outlines {
        &self.outlines
    }

    /// What holds the git that we run ourselves.
    fn guard(&self) -> Option<&Sandbox> {
        self.guard.as_deref()
    }

    /// What the agent has seen of files.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The real path that `named` leads to, whether or not its last parts exist. Relative to the working directory.
    ///
    /// # Errors
    /// A path that leaves the roots (unless the policy is `danger-full-access`), that is private, or that passes
    /// through something that is not a directory.
    pub fn resolve(&self, named: &str) -> Result<PathBuf, PathError> {
        let real = self.target(named)?;
        let confined = self.sandbox != SandboxPolicy::DangerFullAccess;
        if confined && !self.is_inside(&real) {
            return Err(PathError::Outside {
                path: shown_line(named),
                root: shown_line(&self.cwd.to_string_lossy()),
            });
        }
        Ok(real)
    }

    /// The real path that an edit of `named` would go to, wherever that is: whether it may is for policy to say. Relative
    /// to the working directory.
    ///
    /// # Errors
    /// A path that is private, whoever would say yes, or that passes through something that is not a directory.
    pub fn target(&self, named: &str) -> Result<PathBuf, PathError> {
        if named.is_empty() {
            return Err(PathError::Empty);
        }
        let real = self.follow(named)?;
        match self.is_closed(&real) {
            true => Err(PathError::Closed {
                path: shown_line(named),
            }),
            false => Ok(real),
        }
    }

    /// True inside the working directory and the other roots.
    pub fn is_inside(&self, real: &Path) -> bool {
        self.writable.iter().any(|root| real.starts_with(root))
    }

    /// True where tools never reach, whatever the policy.
    pub fn is_closed(&self, real: &Path) -> bool {
        self.closed.iter().any(|place| real.starts_with(place))
    }

    /// Why `workspace-write` does not let the file tools write `real`; `None` when it does.
    ///
    /// Programs other than ours run what stands in these places without asking: editors and shells their own, and git
    /// far more than its hooks (a `commondir` leads to another configuration, a rebase runs what its list says), so
    /// nothing of it is for file tools.
    pub fn write_protection(&self, real: &Path) -> Option<&'static str> {
        let root = self
            .writable
            .iter()
            .filter(|root| real.starts_with(root))
            .max_by_key(|root| root.as_os_str().len());
        let Some(root) = root else {
            let is_git = real
                .components()
                .any(|part| part.as_os_str().eq_ignore_ascii_case(".git"));
            return Some(match is_git {
                true => "it is outside the writable directories, and git acts on what stands there",
                false => "it is outside the writable directories",
            });
        };
        let inside = real.strip_prefix(root).unwrap_or(real);
        let mut above = root.clone();
        for part in inside {
            let was = above.clone();
            above.push(part);
            if part.eq_ignore_ascii_case(".git") || (was != *root && is_git_directory(&was)) {
                return Some("git acts on what stands there");
            }
            let guarded = GUARDED.iter().any(|name| part.eq_ignore_ascii_case(name));
            if guarded && above.symlink_metadata().is_ok() {
                return Some("other programs act on what stands there");
            }
        }
        None
    }

    /// How a path is shown: relative to the working directory where it is inside, with `/`, nothing invisible in it.
    pub fn show(&self, real: &Path) -> String {
        let path = match real.strip_prefix(&self.cwd) {
            Ok(inside) if inside.as_os_str().is_empty() => Path::new("."),
            Ok(inside) => inside,
            Err(_) => real,
        };
        shown_line(&path.to_string_lossy())
    }

    fn follow(&self, named: &str) -> Result<PathBuf, PathError> {
        let unresolvable = |reason: String| PathError::Unresolvable {
            path: shown_line(named),
            reason,
        };
        let mut missing = Vec::new();
        let mut existing = self.cwd.join(named);
        loop {
            match existing.canonicalize() {
                Ok(real) => {
                    let whole = missing
                        .iter()
                        .rev()
                        .fold(real.clone(), |path, part| path.join(part));
                    if !missing.is_empty() && !real.is_dir() {
                        return Err(unresolvable(format!(
                            "`{}` is not a directory",
                            self.show(&real)
                        )));
                    }
                    return Ok(whole);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if existing.symlink_metadata().is_ok() {
                        return Err(unresolvable(
                            "it is a symlink to something that is not there".to_owned(),
                        ));
                    }
                    let Some(Component::Normal(name)) = existing.components().next_back() else {
                        return Err(unresolvable(
                            "`..` after something that is not there".to_owned(),
                        ));
                    };
                    missing.push(name.to_owned());
                    existing.pop();
                }
                Err(error) => return Err(unresolvable(error.to_string())),
            }
        }
    }
}

/// True for `.env` and its relatives, which nobody who only names a path gets to read.
pub fn may_hold_secrets(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy().to_ascii_lowercase();
        name.starts_with(".env")
    })
}

/// Whether a caller may have `real` written besides its working directory: neither what is too wide or private, nor what
/// other programs act on, nor what lies in it.
///
/// # Errors
/// [`OpenError::NotADirectory`] and [`OpenError::TooWide`].
pub fn check_added(real: &Path, closed: &[PathBuf]) -> Result<(), OpenError> {
    let real = resolved(real)?;
    let closed: Vec<PathBuf> = closed.iter().map(|path| real_or_future(path)).collect();
    width::check(&real, &closed, false)?;
    let acted_on = |place: &Path| {
        let name = place.file_name().unwrap_or_default();
        let mut names = GUARDED.iter().chain(&[".git"]);
        names.any(|guarded| name.eq_ignore_ascii_case(guarded)) || is_git_directory(place)
    };
    match real.ancestors().any(acted_on) {
        false => Ok(()),
        true => Err(OpenError::TooWide {
            path: real,
            what: "a place that other programs act on",
            may_be_named: false,
        }),
    }
}

/// That a directory which was resolved before still is where its name leads.
pub fn check_resolved(real: &Path) -> Result<(), OpenError> {
    let now = resolved(real)?;
    match now == real {
        true => Ok(()),
        false => Err(OpenError::Moved {
            path: real.to_owned(),
            now,
        }),
    }
}

/// The real directory that `path` leads to.
pub fn resolved(path: &Path) -> Result<PathBuf, OpenError> {
    let fail = |reason: String| OpenError::NotADirectory {
        path: path.to_owned(),
        reason,
    };
    let real = path
        .canonicalize()
        .map_err(|error| fail(error.to_string()))?;
    if real.is_dir() {
        Ok(real)
    } else {
        Err(fail("not a directory".to_owned()))
    }
}

/// The real path of what may not exist yet: its longest existing part resolved, the rest as named.
fn real_or_future(path: &Path) -> PathBuf {
    let found = path
        .ancestors()
        .find_map(|existing| Some((existing, existing.canonicalize().ok()?)));
    match found {
        Some((existing, real)) => match path.strip_prefix(existing) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        },
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(dir: &Path) -> Workspace {
        Workspace::open(dir, SandboxPolicy::WorkspaceWrite, Boundaries::default()).unwrap()
    }

    #[test]
    fn a_path_is_judged_after_its_symlinks_are_followed() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let workspace = workspace(dir.path());
        for (named, fine) in [
            ("a/b/new.txt", true),
            ("sub/../new.txt", true),
            ("./sub", true),
            ("..", false),
            ("../x", false),
            ("/etc/passwd", false),
            ("link", false),
            ("link/new.txt", false),
            ("dangling", false),
            ("nothing/../../x", false),
            ("file/below", false),
            ("", false),
        ] {
            assert_eq!(
                workspace.resolve(named).is_ok(),
                fine,
                "{named}: {:?}",
                workspace.resolve(named)
            );
        }
    }

    #[test]
    fn a_directory_that_was_resolved_before_is_not_resolved_anew() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(dir.join("w/sub/b")).unwrap();
        std::fs::create_dir_all(dir.join("out/b")).unwrap();
        let real = dir.join("w/sub/b");
        let open = |real: &Path| {
            let opened = Workspace::open_resolved(
                real,
                SandboxPolicy::WorkspaceWrite,
                Boundaries::default(),
            );
            opened.map(|workspace| workspace.cwd().to_owned())
        };
        assert_eq!(open(&real).unwrap(), real);
        std::fs::rename(dir.join("w/sub"), dir.join("w/before")).unwrap();
        std::os::unix::fs::symlink("../out", dir.join("w/sub")).unwrap();
        let error = open(&real).unwrap_err();
        assert!(matches!(error, OpenError::Moved { .. }), "{error}");
        assert!(error.to_string().contains("out/b`"), "{error}");
    }

    #[test]
    fn a_private_place_behind_a_link_is_closed_before_it_exists() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().with_extension("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        let bounds = Boundaries {
            closed: vec![link.join("home")],
            ..Boundaries::default()
        };
        let workspace = Workspace::open(dir.path(), SandboxPolicy::WorkspaceWrite, bounds).unwrap();
        assert!(matches!(
            workspace.resolve("home/config.toml"),
            Err(PathError::Closed { .. })
        ));
        std::fs::remove_file(link).unwrap();
    }

    #[test]
    fn private_places_stay_closed_under_every_policy() {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("state");
        std::fs::create_dir(&closed).unwrap();
        for sandbox in [
            SandboxPolicy::WorkspaceWrite,
            SandboxPolicy::DangerFullAccess,
        ] {
            let bounds = Boundaries {
                closed: vec![closed.clone()],
                ..Boundaries::default()
            };
            let workspace = Workspace::open(dir.path(), sandbox, bounds).unwrap();
            assert!(matches!(
                workspace.resolve("state/threads/x"),
                Err(PathError::Closed { .. })
            ));
        }
    }

    #[test]
    fn places_that_other_programs_run_are_not_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sub/.git/hooks")).unwrap();
        std::fs::create_dir(dir.path().join(".vscode")).unwrap();
        std::fs::create_dir_all(dir.path().join("bare/objects")).unwrap();
        std::fs::create_dir(dir.path().join("bare/refs")).unwrap();
        std::fs::write(dir.path().join("bare/HEAD"), "ref: x").unwrap();
        let workspace = workspace(dir.path());
        for (named, free) in [
            ("src/a.rs", true),
            (".git/hooks/pre-commit", false),
            (".git/config", false),
            ("sub/.git/info/attributes", false),
            (".GIT/config", false),
            (".git/COMMIT_EDITMSG", false),
            ("bare/hooks/post-receive", false),
            ("bare.txt", true),
            (".git", false),
            (".vscode/settings.json", false),
            (".envrc", true),
            (".gitignore", true),
        ] {
            let real = workspace.resolve(named).unwrap();
            assert_eq!(workspace.write_protection(&real).is_none(), free, "{named}");
        }
    }
}
