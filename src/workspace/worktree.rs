//! A copy of a directory for one thread: a git worktree that starts from the directory as it is.
//!
//! What is there, uncommitted and untracked files included and ignored ones not, becomes a commit on a branch of its
//! own. Objects, tree and commit are made by a git that does not see the repository (see
//! [`super::checkpoint::plumbing`]); branch, worktree and files are written by us. So no hook, filter or configuration
//! of the repository has a part in it, and the user's index, branches and files stay as they are.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::checkpoint::{
    Everything,
    git::Repository,
    plumbing::{Plumbing, hex},
};
use crate::conversation::{ThreadId, Worktree, shown_line};

/// How long it may take to find what is in the directory.
const PATIENCE: Duration = Duration::from_secs(60);

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
        git: Plumbing::new(&repository.objects())?,
        everything: Everything::of(&repository.top, closed, Instant::now() + PATIENCE)?,
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
    everything: Everything,
    git: Plumbing,
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
        let commit = self.commit()?;
        self.copy()?;
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
        text(self.own.join("openoxide-base"), &commit)?;
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

    /// The directory as a commit after the one that is checked out.
    fn commit(&self) -> io::Result<String> {
        let unknown: Vec<&PathBuf> = self.everything.unknown().collect();
        let ids = self.hash(&unknown)?;
        let mut lines = Vec::new();
        let known = self.everything.known().map(|(path, id)| (path, hex(id)));
        let new = unknown.into_iter().zip(ids);
        for (path, id) in known.chain(new) {
            let inside = path
                .strip_prefix(&self.repository.top)
                .map_err(io::Error::other)?;
            lines.extend_from_slice(format!("{} {id}\t", self.everything.mode(path)).as_bytes());
            lines.extend_from_slice(inside.as_os_str().as_bytes());
            lines.push(0);
        }
        let index = self.own.join("index");
        let with_index: [(&str, &OsStr); 1] = [("GIT_INDEX_FILE", index.as_os_str())];
        self.git
            .run(&["update-index", "-z", "--index-info"], &with_index, lines)?;
        let tree = word(&self.git.run(&["write-tree"], &with_index, Vec::new())?);
        let mut arguments = vec![
            "commit-tree",
            &tree,
            "-m",
            "The directory as the thread found it",
        ];
        if let Some(head) = &self.head {
            arguments.extend(["-p", head]);
        }
        let who =
            ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|key| (key, OsStr::new("openoxide")));
        let mail = ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"]
            .map(|key| (key, OsStr::new("openoxide@localhost")));
        Ok(word(&self.git.run(
            &arguments,
            &[who, mail].concat(),
            Vec::new(),
        )?))
    }

    /// Makes objects of files: their bytes, without filters.
    fn hash(&self, paths: &[&PathBuf]) -> io::Result<Vec<String>> {
        let (mut files, mut ids) = (Vec::new(), vec![String::new(); paths.len()]);
        for (at, path) in paths.iter().enumerate() {
            // A link's object is where it leads, and a name with a line end does not fit into a list of lines.
            if self.everything.is_link(path) || path.as_os_str().as_bytes().contains(&b'\n') {
                let bytes = self.everything.bytes(path)?;
                ids[at] = word(
                    &self
                        .git
                        .run(&["hash-object", "-w", "--stdin"], &[], bytes)?,
                );
            } else {
                files.push(at);
            }
        }
        let list: Vec<u8> = files
            .iter()
            .flat_map(|at| [paths[*at].as_os_str().as_bytes(), b"\n"].concat())
            .collect();
        let arguments = ["hash-object", "-w", "--no-filters", "--stdin-paths"];
        let printed = self.git.run(&arguments, &[], list)?;
        for (at, id) in files
            .into_iter()
            .zip(String::from_utf8_lossy(&printed).lines())
        {
            ids[at] = id.to_owned();
        }
        Ok(ids)
    }

    fn copy(&self) -> io::Result<()> {
        for path in self.everything.paths() {
            let inside = path
                .strip_prefix(&self.repository.top)
                .map_err(io::Error::other)?;
            let to = self.path.join(inside);
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            if self.everything.is_link(path) {
                std::os::unix::fs::symlink(fs::read_link(path)?, &to)?;
            } else {
                fs::copy(path, &to)?;
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
    let line = |path: PathBuf| Ok::<_, io::Error>(fs::read_to_string(path)?.trim().to_owned());
    let base = line(repository.own.join("openoxide-base"))?;
    let reference = repository.common.join("refs/heads").join(&worktree.branch);
    let here = format!("ref: refs/heads/{}", worktree.branch);
    if repository.top != worktree.path
        || line(repository.own.join("HEAD"))? != here
        || line(reference.clone())? != base
        || !is_as_it_began(&repository, &base, closed)?
    {
        return Ok(false);
    }
    fs::remove_dir_all(&worktree.path)?;
    fs::remove_dir_all(&repository.own)?;
    fs::remove_file(reference)?;
    Ok(true)
}

fn is_as_it_began(repository: &Repository, base: &str, closed: &[PathBuf]) -> io::Result<bool> {
    let git = Plumbing::new(&repository.objects())?;
    let printed = git.run(&["ls-tree", "-r", "-z", base], &[], Vec::new())?;
    let everything = Everything::of(&repository.top, closed, Instant::now() + PATIENCE)?;
    let mut seen = 0;
    for line in printed
        .split(|byte| *byte == 0)
        .filter(|line| !line.is_empty())
    {
        let tab = line.iter().position(|byte| *byte == b'\t').unwrap_or(0);
        let path = repository.top.join(OsStr::from_bytes(&line[tab + 1..]));
        let head = String::from_utf8_lossy(&line[..tab]).into_owned();
        if !everything.has(&path) {
            return Ok(false);
        }
        let id = super::checkpoint::git::object_id(&everything.bytes(&path)?);
        if head != format!("{} blob {}", everything.mode(&path), hex(&id)) {
            return Ok(false);
        }
        seen += 1;
    }
    Ok(seen == everything.paths().count())
}

/// The commit that is checked out; none before the first.
fn head(repository: &Repository) -> Option<String> {
    let head = fs::read_to_string(repository.own.join("HEAD")).ok()?;
    let Some(name) = head.trim().strip_prefix("ref: ") else {
        return Some(head.trim().to_owned());
    };
    let loose = fs::read_to_string(repository.common.join(name)).ok();
    let loose = loose.map(|id| id.trim().to_owned());
    let packed = fs::read_to_string(repository.common.join("packed-refs")).unwrap_or_default();
    let mut packed = packed.lines().filter_map(|line| line.split_once(' '));
    let found = loose.or_else(|| Some(packed.find(|(_, of)| *of == name)?.0.to_owned()))?;
    found
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then_some(found)
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
    let packed = fs::read_to_string(repository.common.join("packed-refs")).unwrap_or_default();
    let line = format!(" refs/heads/{branch}");
    repository.common.join("refs/heads").join(branch).exists()
        || packed.lines().any(|packed| packed.ends_with(&line))
}

fn word(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).trim().to_owned()
}
