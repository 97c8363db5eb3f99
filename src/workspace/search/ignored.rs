//! What the rules of `.gitignore` and its like leave out of a search, and hidden files.
//!
//! The walk of the `ignore` crate would read those files as it finds them; what stands under their names is not always
//! a file with an end. So they are read here ([`Room`]), once for each directory, and the walk asks.

use std::{
    collections::HashMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use ignore::{Match, gitignore::Gitignore};
use rustix::fs::CWD;

use super::rules::Room;
use crate::workspace::{checkpoint::git::Repository, given::Links};

/// The rules of one search.
pub(super) struct Ignored {
    /// Rules above it do not count: outside of a repository a `.gitignore` further up (dotfiles kept in a home
    /// directory) means other files.
    top: PathBuf,
    /// Hidden files are left out too, where no rule says otherwise.
    hidden: bool,
    /// The user's own, for all repositories.
    global: Gitignore,
    room: Room,
    levels: RwLock<HashMap<PathBuf, Arc<Level>>>,
}

/// The rules of one directory and those above it.
#[derive(Default)]
struct Level {
    ignore: Option<Gitignore>,
    gitignore: Option<Gitignore>,
    exclude: Option<Gitignore>,
    /// A repository begins here: rules of git further up are not for it.
    is_repository: bool,
    above: Option<Arc<Level>>,
}

impl Ignored {
    /// For a search of `root`.
    pub(super) fn new(root: &Path, hidden: bool) -> Self {
        let mut around = root.ancestors();
        let top = around.find(|dir| dir.join(".git").exists());
        Self {
            top: top.unwrap_or(root).to_owned(),
            hidden,
            global: Gitignore::global().0,
            room: Room::default(),
            levels: RwLock::default(),
        }
    }

    /// Whether the search passes over `path`.
    pub(super) fn leaves_out(&self, path: &Path, is_dir: bool) -> bool {
        let Some(directory) = path.parent() else {
            return false;
        };
        let level = self.level(directory);
        let global = self.global.matched(path, is_dir).map(|_| ());
        match level.matched(path, is_dir).or(global) {
            Match::Ignore(_) => true,
            Match::Whitelist(_) => false,
            Match::None => self.hidden && path.file_name().is_some_and(is_hidden),
        }
    }

    fn level(&self, directory: &Path) -> Arc<Level> {
        let levels = self.levels.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = levels.get(directory) {
            return known.clone();
        }
        drop(levels);
        let level = Arc::new(self.read(directory));
        let mut levels = self.levels.write().unwrap_or_else(PoisonError::into_inner);
        levels.entry(directory.to_owned()).or_insert(level).clone()
    }

    fn read(&self, directory: &Path) -> Level {
        if !directory.starts_with(&self.top) {
            return Level::default();
        }
        let above = directory.parent().filter(|_| directory != self.top);
        let rules = |name: &str| self.rules(directory, &directory.join(name), Links::Refused);
        let is_repository = directory.join(".git").exists();
        let exclude = || {
            let repository = Repository::around(directory)?;
            let file = repository.common.join("info/exclude");
            self.rules(directory, &file, Links::Followed)
        };
        Level {
            ignore: rules(".ignore"),
            gitignore: rules(".gitignore"),
            exclude: is_repository.then(exclude).flatten(),
            is_repository,
            above: above.map(|above| self.level(above)),
        }
    }

    fn rules(&self, directory: &Path, file: &Path, links: Links) -> Option<Gitignore> {
        self.room.rules(directory, CWD, file, links)
    }
}

impl Level {
    /// What the nearest rule says; those of `.ignore` come first, wherever they stand.
    fn matched(&self, path: &Path, is_dir: bool) -> Match<()> {
        let ask = |rules: &Option<Gitignore>| match rules {
            Some(rules) => rules.matched(path, is_dir).map(|_| ()),
            None => Match::None,
        };
        let levels = || std::iter::successors(Some(self), |level| level.above.as_deref());
        let nearest = |mut said: Box<dyn Iterator<Item = Match<()>> + '_>| {
            said.find(|said| !said.is_none()).unwrap_or(Match::None)
        };
        let inside = levels().position(|level| level.is_repository);
        let of_git = inside.map_or(usize::MAX, |at| at + 1);
        nearest(Box::new(levels().map(|level| ask(&level.ignore))))
            .or(nearest(Box::new(
                levels().take(of_git).map(|level| ask(&level.gitignore)),
            )))
            .or(nearest(Box::new(
                levels().take(of_git).map(|level| ask(&level.exclude)),
            )))
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rule_holds_and_what_is_no_file_rules_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let write = |name: &str, text: &str| {
            let path = top.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(".git/objects/x", "");
        write(".git/config", "");
        write(".git/info/exclude", "*.bak\n");
        write(".gitignore", "*.log\n/built/\n!.shown\n");
        write("sub/.gitignore", "!kept.log\n");
        write("sub/.ignore", "notes\n");
        write("module/.git/HEAD", "");
        std::fs::create_dir(top.join("pipe")).unwrap();
        for name in [".ignore", ".gitignore"] {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(CWD, top.join("pipe").join(name), fifo, mode, 0).unwrap();
        }
        std::fs::create_dir(top.join("endless")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", top.join("endless/.gitignore")).unwrap();
        let ignored = Ignored::new(&top.join("sub"), true);
        for (name, is_dir, expected) in [
            ("a.log", false, true),
            ("a.rs", false, false),
            ("built", true, true),
            ("built", false, false),
            ("sub/a.log", false, true),
            ("sub/kept.log", false, false),
            ("sub/notes", false, true),
            ("sub/x/notes", false, true),
            ("sub/a.bak", false, true),
            ("module/a.log", false, false),
            (".hidden", false, true),
            (".shown", false, false),
            ("pipe/a.log", false, true),
            ("pipe/a.rs", false, false),
            ("endless/a.rs", false, false),
        ] {
            assert_eq!(
                ignored.leaves_out(&top.join(name), is_dir),
                expected,
                "{name}"
            );
        }
    }
}
