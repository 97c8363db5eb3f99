//! Whether git may keep something else of a file than its bytes: filtered, with other line ends, in another encoding.
//!
//! The rules are not followed: includes, macros and conditions decide which hold, and what held when a file was added
//! need not hold now. Where something could name such a rule, each file is read once and compared with the name of its
//! object (see [`super::kept`]); so a word too many costs that and nothing else.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use rustix::fs::CWD;

use super::git::{Index, Repository};
use crate::workspace::given::{self, LARGEST_RULES, Links};

/// What git may have made of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Conversion {
    /// Its object has its bytes.
    #[default]
    None,
    /// Its object has its bytes or another size: line ends and idents change nothing else.
    OfSize,
    /// Anything.
    Any,
}

/// Of gitattributes(5), and of macros for them.
const ATTRIBUTES: [(&str, Conversion); 7] = [
    ("filter", Conversion::Any),
    ("encoding", Conversion::Any),
    ("[attr]", Conversion::Any),
    ("text", Conversion::OfSize),
    ("crlf", Conversion::OfSize),
    ("eol", Conversion::OfSize),
    ("ident", Conversion::OfSize),
];
/// Of git-config(1), in small letters: what converts by itself, or leads to files that may.
const SETTINGS: [(&str, Conversion); 3] = [
    ("attributesfile", Conversion::Any),
    ("autocrlf", Conversion::OfSize),
    ("[include", Conversion::OfSize),
];
/// What brings settings or attributes along with the environment.
const VARIABLES: [&str; 3] = [
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_ATTR_SOURCE",
];

/// The worst that is possible. `found` are attributes files of the working tree that git need not track.
pub(super) fn possible(repository: &Repository, index: &Index, found: &[PathBuf]) -> Conversion {
    let name = OsStr::new(".gitattributes");
    let tracked = index.directories().filter_map(|(directory, mut names)| {
        names
            .any(|known| known == name)
            .then(|| directory.join(name))
    });
    let mut attributes = vec![
        repository.top.join(name),
        repository.common.join("info/attributes"),
    ];
    attributes.extend(tracked.chain(found.iter().cloned()));
    let mut settings = vec![
        repository.common.join("config"),
        repository.own.join("config.worktree"),
    ];
    for [more_attributes, more_settings] in outside() {
        attributes.push(more_attributes);
        settings.push(more_settings);
    }
    attributes.sort();
    attributes.dedup();
    let by_variable = VARIABLES
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    let attributes = attributes.iter().map(|path| worst(path, &ATTRIBUTES));
    let settings = settings.iter().map(|path| worst(path, &SETTINGS));
    let worst = attributes.chain(settings).max().unwrap_or_default();
    worst.max(if by_variable {
        Conversion::Any
    } else {
        Conversion::None
    })
}

/// The user's and the system's, as attributes and settings.
fn outside() -> Vec<[PathBuf; 2]> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let home = variable("HOME").unwrap_or_default();
    let own = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let named = ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"].into_iter();
    let named = named
        .filter_map(variable)
        .map(|path| [PathBuf::new(), path]);
    let usual = [
        [own.join("git/attributes"), own.join("git/config")],
        [PathBuf::new(), home.join(".gitconfig")],
        ["/etc/gitattributes".into(), "/etc/gitconfig".into()],
    ];
    usual.into_iter().chain(named).collect()
}

/// What the words in a file may mean; one that is not there says nothing.
fn worst(path: &Path, words: &[(&str, Conversion)]) -> Conversion {
    let text = given::read(CWD, path, Links::Followed, LARGEST_RULES);
    let text = text.unwrap_or_default().to_ascii_lowercase();
    let text = String::from_utf8_lossy(&text);
    let said = words.iter().filter(|(word, _)| text.contains(word));
    said.map(|(_, means)| *means).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_word_that_may_convert_is_seen_wherever_it_stands() {
        for (place, text, expected) in [
            ("a/.gitattributes", "*.c diff=cpp", Conversion::None),
            ("a/.gitattributes", "*.txt filter=x", Conversion::Any),
            (".gitattributes", "* text=auto", Conversion::OfSize),
            ("new/.gitattributes", "*.txt ident", Conversion::OfSize),
            (
                ".git/info/attributes",
                "*.u working-tree-encoding=UTF-16",
                Conversion::Any,
            ),
            (
                ".git/config",
                "[core]\n\tautoCRLF = true",
                Conversion::OfSize,
            ),
            (
                ".git/config",
                "[core]\n\tattributesFile = x",
                Conversion::Any,
            ),
            (
                ".git/config",
                "[includeIf \"gitdir:x\"]\n\tpath = x",
                Conversion::OfSize,
            ),
            (".git/config", "[core]\n\tbare = false", Conversion::None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let top = dir.path();
            let made = std::process::Command::new("git")
                .args(["init", "-q"])
                .arg(top)
                .status();
            assert!(made.unwrap().success());
            fs::create_dir_all(top.join(place).parent().unwrap()).unwrap();
            fs::write(top.join(place), text).unwrap();
            let repository = Repository::around(top).unwrap();
            let tracked = Index::of(top, &["a/.gitattributes"]);
            let found = [top.join("new/.gitattributes")];
            let possible = super::possible(&repository, &tracked, &found);
            assert_eq!(possible, expected, "{place}: {text}");
        }
    }
}
