//! Whether git may keep something else of a file than its bytes: filtered, with other line ends, in another encoding.
//!
//! The rules are not followed: includes, macros and conditions decide which hold, and what held when a file was added
//! need not hold now. Where something could name such a rule, each file is read once and compared with the name of its
//! object (see [`super::kept`]); so a word too many costs that and nothing else.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::git::{Index, Repository};

/// Of gitattributes(5), and of macros for them.
const ATTRIBUTES: [&str; 7] = [
    "filter", "text", "crlf", "eol", "ident", "encoding", "[attr]",
];
/// Of git-config(1), in small letters: what converts by itself, or leads to files that may.
const SETTINGS: [&str; 4] = ["autocrlf", "attributesfile", "[include", "safecrlf"];
/// What brings settings or attributes along with the environment.
const VARIABLES: [&str; 3] = [
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_ATTR_SOURCE",
];

/// True if it may. `found` are attributes files of the working tree that git need not track.
pub(super) fn is_possible(repository: &Repository, index: &Index, found: &[PathBuf]) -> bool {
    let name = OsStr::new(".gitattributes");
    let tracked = index.directories().filter_map(|(directory, mut names)| {
        names
            .any(|known| known == name)
            .then(|| directory.join(name))
    });
    let of_repository = [
        repository.top.join(name),
        repository.common.join("info/attributes"),
    ];
    let settings = ["config", "config.worktree"].map(|file| repository.own.join(file));
    let common = repository.common.join("config");
    VARIABLES
        .iter()
        .any(|name| std::env::var_os(name).is_some())
        || found.iter().any(|path| says(path, &ATTRIBUTES))
        || of_repository.iter().any(|path| says(path, &ATTRIBUTES))
        || tracked.into_iter().any(|path| says(&path, &ATTRIBUTES))
        || settings
            .iter()
            .chain([&common])
            .any(|path| says(path, &SETTINGS))
        || outside().into_iter().any(|[attributes, settings]| {
            says(&attributes, &ATTRIBUTES) || says(&settings, &SETTINGS)
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

/// True if one of `words` stands in a file; one that is not there says nothing.
fn says(path: &Path, words: &[&str]) -> bool {
    let text = fs::read(path).unwrap_or_default().to_ascii_lowercase();
    let text = String::from_utf8_lossy(&text);
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_may_convert_is_seen_wherever_it_stands() {
        for (place, text, expected) in [
            ("a/.gitattributes", "*.c diff=cpp", false),
            ("a/.gitattributes", "*.txt filter=x", true),
            (".gitattributes", "* text=auto", true),
            ("new/.gitattributes", "*.txt ident", true),
            (
                ".git/info/attributes",
                "*.u working-tree-encoding=UTF-16",
                true,
            ),
            (".git/config", "[core]\n\tautoCRLF = true", true),
            (".git/config", "[core]\n\tattributesFile = x", true),
            (".git/config", "[includeIf \"gitdir:x\"]\n\tpath = x", true),
            (".git/config", "[core]\n\tbare = false", false),
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
            let possible = is_possible(&repository, &tracked, &found);
            assert_eq!(possible, expected, "{place}: {text}");
        }
    }
}
