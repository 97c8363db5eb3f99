//! Which parts of a git repository a command may write, so that commits work and git runs nothing that a command left.

use std::path::{Component, Path, PathBuf};

use super::survey::Found;
use crate::workspace::given::{self, LARGEST_RULES};

/// What git runs, or reads as orders.
const ORDERS: [&str; 5] = ["hooks", "config", "config.worktree", "info", "modules"];
/// Of these, what is a directory and can be made where it is missing.
const DIRECTORIES: [&str; 3] = ["hooks", "info", "modules"];
/// Entries of a root that are looked into for a repository.
const MOST_CHILDREN: usize = 512;

/// A repository in a writable root, as far as it needs care.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Repository {
    /// Writable, but not to be moved away with what is guarded in it.
    pub(super) pinned: Vec<PathBuf>,
    /// Not writable.
    pub(super) guarded: Vec<PathBuf>,
    /// Outside the root, and needed for commits: the directories of a linked worktree or of a submodule.
    pub(super) elsewhere: Vec<PathBuf>,
}

/// The repositories in `root`: those `known` from a walk, and what is new at its top or in a directory directly in it.
pub(super) fn repositories(root: &Path, known: &[Found]) -> Vec<Repository> {
    let children = std::fs::read_dir(root).into_iter().flatten().flatten();
    let children = children.take(MOST_CHILDREN).map(|entry| entry.path());
    let known = known.iter().map(|found| found.top.clone());
    let known = known.filter(|top| top.starts_with(root));
    let mut tops: Vec<PathBuf> = std::iter::once(root.to_owned())
        .chain(children)
        .chain(known)
        .collect();
    tops.sort();
    tops.dedup();
    tops.iter()
        .filter_map(|top| repository(top, root))
        .collect()
}

/// True unless a symlink is on the way: what that leads to is no part of the root, and must not become writable with it.
fn is_below(top: &Path, root: &Path) -> bool {
    let (Ok(inside), Ok(root)) = (top.strip_prefix(root), root.canonicalize()) else {
        return false;
    };
    let expected = root.components().chain(inside.components());
    top.canonicalize()
        .is_ok_and(|real| real.components().eq(expected))
}

fn repository(top: &Path, root: &Path) -> Option<Repository> {
    let dot_git = top.join(".git");
    let Ok(about) = dot_git.symlink_metadata() else {
        let bare = ["objects", "refs"]
            .iter()
            .all(|name| top.join(name).is_dir());
        let bare = bare && top.join("HEAD").is_file() && is_below(top, root);
        return bare.then(|| {
            let mut repository = Repository::default();
            repository.guard(top.to_owned());
            repository
        });
    };
    if !is_below(top, root) {
        return None;
    }
    if about.is_dir() {
        let mut repository = Repository::default();
        repository.guard(dot_git);
        return Some(repository);
    }
    if about.is_symlink() {
        // The link cannot be held in place; what it leads to can be kept as it is.
        let guarded = dot_git.canonicalize().into_iter().collect();
        return Some(Repository {
            guarded,
            ..Repository::default()
        });
    }
    let mut repository = Repository {
        guarded: vec![dot_git.clone()],
        ..Repository::default()
    };
    if let Some((own, common)) = linked(&dot_git) {
        for directory in [&common, &own] {
            if !directory.starts_with(root) {
                repository.elsewhere.push(directory.clone());
            }
        }
        repository.guard(common.clone());
        if own != common {
            repository.guard(own);
        }
    }
    Some(repository)
}

impl Repository {
    /// Holds the orders in the git directory `directory`.
    fn guard(&mut self, directory: PathBuf) {
        let is_link = |name: &str| directory.join(name).is_symlink();
        if ORDERS.iter().any(|name| is_link(name)) {
            // A link could be replaced, so all of it is kept as it is; commits then need an approval.
            self.guarded.push(directory);
            return;
        }
        if directory.join("objects").is_dir() {
            for name in DIRECTORIES {
                // Where it cannot be made, a command cannot make it either.
                let _ = std::fs::create_dir(directory.join(name));
            }
        }
        let orders = ORDERS.map(|name| directory.join(name));
        self.guarded
            .extend(orders.into_iter().filter(|place| place.exists()));
        // What a worktree's directory says of the place of the repository, else a command could make its own.
        let pointers = ["commondir", "gitdir"].map(|name| directory.join(name));
        self.guarded
            .extend(pointers.into_iter().filter(|place| place.is_file()));
        self.pinned.push(directory);
    }
}

/// The git directory that a `.git` file names and the common one behind it. None unless the directory names the file
/// in turn: a repository from elsewhere must not get a foreign one opened for it.
pub(super) fn linked(dot_git: &Path) -> Option<(PathBuf, PathBuf)> {
    let top = dot_git.parent()?;
    let named = first_line(dot_git)?;
    let own = top
        .join(named.strip_prefix("gitdir:")?.trim())
        .canonicalize()
        .ok()?;
    let back = match first_line(&own.join("gitdir")) {
        Some(back) => own.join(back),
        None => own.join(worktree_of(&own.join("config"))?).join(".git"),
    };
    if back.canonicalize().ok()? != dot_git.canonicalize().ok()? || !own.join("HEAD").is_file() {
        return None;
    }
    let common = match first_line(&own.join("commondir")) {
        Some(common) => own.join(common).canonicalize().ok()?,
        None => own.clone(),
    };
    // `repository/worktrees/name`, or the directory itself: git makes no others.
    let expected = own == common || own.parent()?.parent()? == common;
    (expected && common.join("objects").is_dir()).then_some((own, common))
}

/// `core.worktree`, which git sets for a submodule.
fn worktree_of(config: &Path) -> Option<PathBuf> {
    let text = given::text(config, LARGEST_RULES).ok()?;
    let value = text.lines().find_map(|line| {
        line.trim()
            .strip_prefix("worktree")?
            .trim()
            .strip_prefix('=')
    })?;
    let path = PathBuf::from(value.trim());
    let plain = |part: Component<'_>| !matches!(part, Component::Prefix(_));
    path.components().all(plain).then_some(path)
}

fn first_line(path: &Path) -> Option<String> {
    let text = given::text(path, LARGEST_RULES).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::sandbox::survey;

    fn git(dir: &Path, line: &str) {
        let ran = std::process::Command::new("sh")
            .args(["-c", line])
            .current_dir(dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(ran.status.success(), "{line}: {ran:?}");
    }

    const COMMIT: &str = "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x";

    #[test]
    fn a_repository_keeps_its_orders_even_those_it_did_not_have() {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), "git init -q . && rm -rf .git/hooks .git/info");
        let found = repositories(dir.path(), &[]);
        let names: Vec<_> = found[0]
            .guarded
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["hooks", "config", "info", "modules"]);
        assert_eq!(found[0].pinned, [dir.path().join(".git")]);
        assert_eq!(found[0].elsewhere, [] as [PathBuf; 0]);
    }

    #[test]
    fn a_linked_worktree_opens_its_repository_and_guards_its_orders() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        git(&dir, "git init -q main");
        git(
            &dir.join("main"),
            &format!("{COMMIT} && git worktree add -q ../linked"),
        );
        let found = repositories(&dir.join("linked"), &[]);
        let common = dir.join("main/.git");
        assert_eq!(
            found[0].elsewhere,
            [common.clone(), common.join("worktrees/linked")]
        );
        for name in ["hooks", "config", "info", "modules"] {
            assert!(found[0].guarded.contains(&common.join(name)), "{name}");
        }
        assert!(found[0].guarded.contains(&dir.join("linked/.git")));
    }

    #[test]
    fn a_git_file_from_elsewhere_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        git(
            &dir,
            "git init -q main && mkdir evil && echo gitdir: ../main/.git >evil/.git",
        );
        let found = repositories(&dir.join("evil"), &[]);
        assert_eq!(found[0].elsewhere, [] as [PathBuf; 0]);
        assert_eq!(found[0].guarded, [dir.join("evil/.git")]);
    }

    #[test]
    fn a_repository_behind_a_link_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        git(
            &dir,
            "git init -q out/repo && git init -q --bare out/bare && mkdir w && ln -s ../out w/known && ln -s ../out/repo ../out/bare w",
        );
        let found = survey::Survey::of(&[dir.join("out")], &[]).repositories;
        let known: Vec<Found> = found
            .into_iter()
            .map(|found| found.moved(&dir.join("out"), &dir.join("w/known")))
            .collect();
        assert_eq!(known.len(), 2);
        assert_eq!(repositories(&dir.join("w"), &known), []);
    }

    #[test]
    fn orders_behind_a_link_close_the_whole_directory() {
        let dir = tempfile::tempdir().unwrap();
        git(
            dir.path(),
            "git init -q . && rm -rf .git/hooks && ln -s ../githooks .git/hooks",
        );
        assert_eq!(
            repositories(dir.path(), &[])[0].guarded,
            [dir.path().join(".git")]
        );
    }
}
