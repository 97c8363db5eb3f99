//! A copy of a directory for one thread: a git worktree that starts from the directory as it is.
//!
//! What is there, uncommitted and untracked files included and ignored ones not, becomes a commit on a branch of its
//! own. No git runs for it: objects, index, branch and files are written by us (see [`super::checkpoint::objects`]). So
//! no hook, filter or configuration of the repository has a part in it, and the user's index, branches and files stay
//! as they are.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    checkpoint::{
        Everything, One,
        git::{ObjectId, Repository},
        hex,
        objects::{Kind, Objects, Tree, index},
    },
    given::{self, LARGEST_RULES},
};
use crate::conversation::{ThreadId, Worktree, shown_line};

/// How long it may take to find what is in the directory.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of the list of packed refs; a hundred thousand take some ten million.
const LARGEST_PACKED: u64 = 64 << 20;

/// Why there is no worktree. Its reader is whoever asked for one.
#[derive(Debug, thiserror::Error)]
pub enum WorktreeError {
    /// It takes a repository.
    #[error("`{}` is not in a git repository that a worktree can be made of (submodules, SHA-256 and tables of refs are not supported); work there without `isolation`", shown_line(&.0.to_string_lossy()))]
    NoRepository(PathBuf),
    /// The system, or git, says no.
    #[error("the worktree could not be made: {0}")]
    Io(#[from] io::Error),
}

/// Makes one for `thread` in `state`, from `directory`, which is resolved. Gives it with the place in it that is
/// `directory`. Blocks.
pub fn make(
    state: &Path,
    thread: ThreadId,
    directory: &Path,
    closed: &[PathBuf],
) -> Result<(Worktree, PathBuf), WorktreeError> {
    let repository = around(directory)?;
    let worktree = Worktree {
        path: state.join("worktrees").join(thread.to_string()),
        branch: branch(&repository, thread),
    };
    let inside = directory
        .strip_prefix(&repository.top)
        .unwrap_or(Path::new(""));
    let place = worktree.path.join(inside);
    build(repository, &worktree, thread, closed)?;
    Ok((worktree, place))
}

/// Makes one that was removed since nothing had come of it, from the directory as it is now.
pub fn make_again(
    worktree: &Worktree,
    thread: ThreadId,
    directory: &Path,
    closed: &[PathBuf],
) -> Result<(), WorktreeError> {
    build(around(directory)?, worktree, thread, closed)
}

fn around(directory: &Path) -> Result<Repository, WorktreeError> {
    Repository::around(directory).ok_or_else(|| WorktreeError::NoRepository(directory.to_owned()))
}

fn build(
    repository: Repository,
    worktree: &Worktree,
    thread: ThreadId,
    closed: &[PathBuf],
) -> Result<(), WorktreeError> {
    let name = format!("openoxide-{thread}");
    let branch = worktree.branch.clone();
    let making = Making {
        path: worktree.path.clone(),
        own: repository.common.join("worktrees").join(&name),
        reference: repository.common.join("refs/heads").join(&branch),
        objects: Objects(repository.objects()),
        files: everything(&repository, closed)?,
        head: head(&repository),
        repository,
        branch,
    };
    if let Err(error) = making.all() {
        making.undo();
        return Err(error.into());
    }
    Ok(())
}

struct Making {
    repository: Repository,
    /// By path.
    files: Vec<One>,
    objects: Objects,
    /// The commit that is checked out, if there is one.
    head: Option<String>,
    path: PathBuf,
    /// Its directory in the repository.
    own: PathBuf,
    branch: String,
    reference: PathBuf,
}

impl Making {
    fn all(&self) -> io::Result<()> {
        fs::create_dir_all(&self.own)?;
        super::checkpoint::private_directory(&self.path)?;
        let files = self.keep()?;
        let tree = Self::tree(&files);
        let commit = self.commit(&tree)?;
        self.copy()?;
        fs::write(self.own.join("index"), index(&self.path, &files)?)?;
        let text = |path: PathBuf, text: &str| fs::write(path, format!("{text}\n"));
        text(
            self.own.join("HEAD"),
            &format!("ref: refs/heads/{}", self.branch),
        )?;
        text(self.own.join("commondir"), "../..")?;
        text(
            self.own.join("gitdir"),
            &self.path.join(".git").to_string_lossy(),
        )?;
        // What a worktree starts from, to see later whether anything came of it.
        let base = format!("{commit} {}", hex(&tree.id()));
        text(self.own.join("openoxide-base"), &base)?;
        self.reference.parent().map_or(Ok(()), fs::create_dir_all)?;
        // As git does: whoever else makes this branch now gets an error.
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&self.reference)?
            .write_all(format!("{commit}\n").as_bytes())?;
        text(
            self.path.join(".git"),
            &format!("gitdir: {}", self.own.display()),
        )
    }

    /// Makes objects of what git does not have. Gives all files by their names, as an index has them.
    fn keep(&self) -> io::Result<Vec<(&[u8], Kind, ObjectId)>> {
        let files = self.files.iter().map(|one| {
            let id = match one.object {
                Some(id) => id,
                None => self.objects.blob(&one.bytes()?)?,
            };
            Ok((name(&self.repository.top, &one.path), one.kind, id))
        });
        files.collect()
    }

    fn tree(files: &[(&[u8], Kind, ObjectId)]) -> Tree {
        let mut tree = Tree::default();
        for (name, kind, id) in files {
            tree.add(name, *kind, *id);
        }
        tree
    }

    /// The directory as a commit after the one that is checked out.
    fn commit(&self, tree: &Tree) -> io::Result<String> {
        let tree = self.objects.tree(tree)?;
        let message = "The directory as the thread found it";
        let commit = self.objects.commit(&tree, self.head.as_deref(), message)?;
        Ok(hex(&commit))
    }

    fn copy(&self) -> io::Result<()> {
        for one in &self.files {
            let inside = name(&self.repository.top, &one.path);
            let to = self.path.join(OsStr::from_bytes(inside));
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            if one.kind == Kind::Link {
                std::os::unix::fs::symlink(fs::read_link(&one.path)?, &to)?;
            } else {
                fs::copy(&one.path, &to)?;
                let mode = fs::symlink_metadata(&to)?.permissions().mode();
                fs::set_permissions(&to, fs::Permissions::from_mode(mode | 0o600))?;
            }
        }
        Ok(())
    }

    /// What was made so far; what cannot be removed is named by what it is called.
    fn undo(&self) {
        let _ = fs::remove_dir_all(&self.own);
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the worktree and its branch if nothing came of it: its files are as they were, and so is the branch. True
/// if it is gone. Blocks.
pub fn remove_if_unused(worktree: &Worktree, closed: &[PathBuf]) -> io::Result<bool> {
    let Some(repository) = Repository::around(&worktree.path) else {
        return Ok(false);
    };
    let line =
        |path: PathBuf| Ok::<_, io::Error>(given::text(&path, LARGEST_RULES)?.trim().to_owned());
    let base = line(repository.own.join("openoxide-base"))?;
    let Some((base, tree)) = base.split_once(' ') else {
        return Ok(false);
    };
    let reference = repository.common.join("refs/heads").join(&worktree.branch);
    let here = format!("ref: refs/heads/{}", worktree.branch);
    if repository.top != worktree.path
        || line(repository.own.join("HEAD"))? != here
        || line(reference.clone())? != *base
        || hex(&tree_of(&repository, closed)?) != tree
    {
        return Ok(false);
    }
    fs::remove_dir_all(&worktree.path)?;
    fs::remove_dir_all(&repository.own)?;
    fs::remove_file(reference)?;
    Ok(true)
}

/// The name of the tree that the files are now.
fn tree_of(repository: &Repository, closed: &[PathBuf]) -> io::Result<ObjectId> {
    let mut tree = Tree::default();
    for one in everything(repository, closed)? {
        tree.add(name(&repository.top, &one.path), one.kind, one.id()?);
    }
    Ok(tree.id())
}

/// All files of the working tree, by path as git sorts them.
fn everything(repository: &Repository, closed: &[PathBuf]) -> io::Result<Vec<One>> {
    let found = Everything::of(repository, closed, Instant::now() + PATIENCE)?;
    let mut files: Vec<One> = found.files().collect();
    files.sort_unstable_by(|one, other| {
        let [one, other] = [one, other].map(|one| one.path.as_os_str().as_bytes());
        one.cmp(other)
    });
    Ok(files)
}

/// As git calls what is at `path` below `top`.
fn name<'a>(top: &Path, path: &'a Path) -> &'a [u8] {
    let inside = path.strip_prefix(top).unwrap_or(path);
    inside.as_os_str().as_bytes()
}

/// The commit that is checked out; none before the first.
fn head(repository: &Repository) -> Option<String> {
    let head = given::text(&repository.own.join("HEAD"), LARGEST_RULES).ok()?;
    let Some(name) = head.trim().strip_prefix("ref: ") else {
        return Some(head.trim().to_owned());
    };
    let loose = given::text(&repository.common.join(name), LARGEST_RULES).ok();
    let loose = loose.map(|id| id.trim().to_owned());
    let packed = packed_refs(repository);
    let mut packed = packed.lines().filter_map(|line| line.split_once(' '));
    let found = loose.or_else(|| Some(packed.find(|(_, of)| *of == name)?.0.to_owned()))?;
    found
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then_some(found)
}

fn packed_refs(repository: &Repository) -> String {
    let packed = given::text(&repository.common.join("packed-refs"), LARGEST_PACKED);
    packed.unwrap_or_default()
}

/// The first 8 letters of the thread's id say when it was made, to a minute; where that minute has a branch already,
/// the last 4 are added.
fn branch(repository: &Repository, thread: ThreadId) -> String {
    let id = thread.to_string();
    let short = format!("openoxide/{}", &id[..8]);
    match exists(repository, &short) {
        true => format!("{short}-{}", &id[id.len() - 4..]),
        false => short,
    }
}

fn exists(repository: &Repository, branch: &str) -> bool {
    let packed = packed_refs(repository);
    let line = format!(" refs/heads/{branch}");
    repository.common.join("refs/heads").join(branch).exists()
        || packed.lines().any(|packed| packed.ends_with(&line))
}
