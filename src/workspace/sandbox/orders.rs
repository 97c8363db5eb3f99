//! What git would run or obey in a repository that appeared while a command ran.
//!
//! A command may make repositories, and test suites do; but whoever later works in one runs what it says as themselves,
//! outside every sandbox. So what appeared is judged once: a repository as `git init` and `git clone` make it is
//! nothing to speak of, one with hooks or with settings that are not plainly harmless is told to model and user. From
//! the next command on it is guarded like any other.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::CWD;

use super::git;
use crate::workspace::given::{self, Links};

/// Settings that run nothing and lead nowhere, whatever their value; `*` stands for a name in quotes.
const HARMLESS: &[&str] = &[
    "branch.*.merge",
    "branch.*.rebase",
    "branch.*.remote",
    "commit.gpgsign",
    "core.autocrlf",
    "core.bare",
    "core.eol",
    "core.filemode",
    "core.ignorecase",
    "core.logallrefupdates",
    "core.longpaths",
    "core.precomposeunicode",
    "core.repositoryformatversion",
    "core.sharedrepository",
    "core.symlinks",
    "extensions.objectformat",
    "extensions.partialclone",
    "extensions.refstorage",
    "gc.auto",
    "init.defaultbranch",
    "maintenance.auto",
    "pull.rebase",
    "push.default",
    "receive.denycurrentbranch",
    "remote.*.fetch",
    "remote.*.mirror",
    "remote.*.partialclonefilter",
    "remote.*.promisor",
    "remote.*.tagopt",
    "remote.*.url",
    "submodule.*.active",
    "submodule.*.url",
    "submodule.active",
    "user.email",
    "user.name",
];
/// Repositories of submodules that are looked at.
const MOST_MODULES: usize = 64;
/// Larger ones are not read.
const LARGEST_CONFIG: u64 = 64 << 10;

/// What is in the repository at `top` that its user should know of before git is run there; `None` if nothing is.
pub(super) fn of(top: &Path) -> Option<String> {
    let dot_git = top.join(".git");
    let about = dot_git.symlink_metadata();
    let directory = match about {
        Err(_) => top.to_owned(),
        Ok(about) if about.is_dir() => dot_git,
        // It is the pointer of a worktree or submodule, whose own directory is judged where it is.
        Ok(about) if about.is_file() && points_inside(top) => return None,
        Ok(_) => return Some("`.git` leads elsewhere".to_owned()),
    };
    let mut found = in_directory(&directory, false);
    for module in modules(&directory.join("modules")) {
        found.extend(in_directory(&module, true));
    }
    found.truncate(3);
    (!found.is_empty()).then(|| found.join(", "))
}

/// True if `.git` names a directory below the one that holds a `.git` above it, as git's own do.
fn points_inside(top: &Path) -> bool {
    let named = given::text(&top.join(".git"), LARGEST_CONFIG).unwrap_or_default();
    let Some(named) = named.strip_prefix("gitdir:") else {
        return false;
    };
    let Ok(real) = top.join(named.trim()).canonicalize() else {
        return false;
    };
    if git::linked(&top.join(".git")).is_some_and(|(_, common)| common.ends_with(".git")) {
        // Of a worktree beside its repository, which is judged for itself.
        return true;
    }
    let mut above = top.ancestors().skip(1).map(|above| above.join(".git"));
    above.any(|git| {
        git.is_dir()
            && (real.starts_with(git.join("modules")) || real.starts_with(git.join("worktrees")))
    })
}

fn in_directory(directory: &Path, is_module: bool) -> Vec<String> {
    let mut found = Vec::new();
    let hooks = fs::read_dir(directory.join("hooks")).into_iter().flatten();
    for hook in hooks.flatten() {
        let name = hook.file_name();
        let name = name.to_string_lossy();
        if !name.ends_with(".sample") {
            found.push(format!("the hook `{name}`"));
        }
    }
    for name in ["config", "config.worktree"] {
        let path = directory.join(name);
        if path.symlink_metadata().is_err() {
            continue;
        }
        let Ok(text) = given::read(CWD, &path, Links::Refused, LARGEST_CONFIG) else {
            found.push(format!("an unusual `{name}`"));
            continue;
        };
        found.extend(unusual(&String::from_utf8_lossy(&text), is_module));
    }
    if directory.join("commondir").exists() {
        found.push("a `commondir`".to_owned());
    }
    found
}

/// The settings of a configuration that are not plainly harmless.
fn unusual(text: &str, is_module: bool) -> Vec<String> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = match header.split_once(' ') {
                Some((kind, quoted)) if quoted.ends_with('"') && quoted.len() > 1 => {
                    format!("{}.*", kind.to_lowercase())
                }
                _ => header.to_lowercase(),
            };
            continue;
        }
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let key = format!("{section}.{}", name.trim().to_lowercase());
        let whole = !line.ends_with('\\');
        let module = is_module && key == "core.worktree" && value.trim().starts_with("..");
        if !(whole && (module || HARMLESS.contains(&key.as_str()))) {
            found.push(format!("the setting `{key}`"));
        }
    }
    found
}

/// Directories of repositories below `modules`.
fn modules(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![top.to_owned()];
    while let Some(directory) = next.pop() {
        if found.len() == MOST_MODULES {
            break;
        }
        if directory.join("HEAD").is_file() {
            next.push(directory.join("modules"));
            found.push(directory);
            continue;
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let inside = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        next.extend(inside.map(|entry| entry.path()).take(MOST_MODULES));
    }
    found
}

/// What makes git take its orders from elsewhere, where it stands in the directory of a repository itself. It cannot be
/// held before it exists, and git itself never puts it there: only into those of worktrees.
pub(super) fn diversion(top: &Path) -> Option<PathBuf> {
    let dot_git = top.join(".git");
    let directory = match dot_git.symlink_metadata() {
        Ok(about) if about.is_dir() => dot_git,
        Ok(_) => return None,
        Err(_) => top.to_owned(),
    };
    let diversion = directory.join("commondir");
    diversion.symlink_metadata().is_ok().then_some(diversion)
}

/// What cannot be changed without a trace: the time of a file's last change of any kind, which nobody can set.
pub(super) type Traces = BTreeMap<PathBuf, (u64, i64, i64)>;

/// Those of all files in `places`, which are files or directories of files.
pub(super) fn traces(places: &[PathBuf]) -> Traces {
    let mut traces = Traces::new();
    for place in places {
        let inside = fs::read_dir(place).into_iter().flatten().flatten();
        let all = inside.map(|entry| entry.path()).chain([place.clone()]);
        for path in all {
            if let Ok(about) = path.symlink_metadata() {
                traces.insert(path, (about.ino(), about.ctime(), about.ctime_nsec()));
            }
        }
    }
    traces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_as_git_makes_it_is_nothing_to_speak_of() {
        let dir = tempfile::tempdir().unwrap();
        let git = |line: &str| {
            let mut sh = std::process::Command::new("sh");
            sh.args(["-c", line]).current_dir(dir.path());
            let quiet = sh.env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
            assert!(quiet.status.success(), "{line}: {quiet:?}");
        };
        let commit = "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x";
        git(&format!(
            "git init -q a && cd a && {commit} && cd .. && git clone -q a b && git init -q --bare c"
        ));
        git("cd b && git -c protocol.file.allow=always submodule --quiet add ../a sub");
        git(&format!(
            "cd a && git worktree add -q ../a/tree && git worktree add -q ../beside && cd ../b && {commit}"
        ));
        for name in ["a", "b", "c", "b/sub", "a/tree", "beside"] {
            assert_eq!(of(&dir.path().join(name)), None, "{name}");
        }
        for (line, what) in [
            (
                "git -C a config core.fsmonitor ./x",
                "the setting `core.fsmonitor`",
            ),
            (
                "git -C b/sub config alias.st '!x'",
                "the setting `alias.st`",
            ),
            (
                "git -C c config include.path x",
                "the setting `include.path`",
            ),
            (
                "echo x >a/tree/x; echo gitdir: ../../c >a/tree/.git",
                "`.git` leads elsewhere",
            ),
        ] {
            git(line);
            let top = line
                .split([' ', '/'])
                .find(|word| ["a", "b", "c"].contains(word));
            let top = if line.contains("tree") {
                "a/tree"
            } else {
                top.unwrap()
            };
            assert_eq!(of(&dir.path().join(top)).as_deref(), Some(what), "{line}");
        }
        git("git -C a config --unset core.fsmonitor; echo x >a/.git/hooks/pre-commit");
        assert_eq!(
            of(&dir.path().join("a")).as_deref(),
            Some("the hook `pre-commit`")
        );
    }

    #[test]
    fn what_is_not_plainly_a_harmless_setting_is_told() {
        for (text, count) in [
            (
                "[core]\n\tbare = false\n[remote \"origin\"]\n\turl = x\n",
                0,
            ),
            ("[CORE]\nBare\n# comment\n", 0),
            ("[core] pager = x\n", 1),
            ("[core]\n\tbare = false \\\n", 1),
            ("[core \"x\"]\n\tbare = false\n", 1),
            ("[core]\n\tworktree = /\n", 1),
            (
                "[remote \"a\"]\n\tuploadpack = x\n[filter \"l\"]\n\tclean = x\n",
                2,
            ),
        ] {
            assert_eq!(unusual(text, false).len(), count, "{text}");
        }
        assert_eq!(
            unusual("[core]\nworktree = ../../x\n", true),
            [] as [String; 0]
        );
        assert_eq!(unusual("[core]\nworktree = /\n", true).len(), 1);
    }
}
