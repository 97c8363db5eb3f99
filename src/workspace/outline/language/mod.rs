//! The languages that an outline knows, as data: how a file is recognized, what is comment and string in it, and with
//! which words a definition begins.

mod c;
mod functional;
mod lexis;
mod scripts;
mod tables;
mod typed;

use std::path::Path;

use Kind::{Function, Module, Type};
pub(super) use lexis::Lexis;
use lexis::PROSE;

/// What a definition is, as far as it matters to anybody here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something that runs: its length and complexity can be told.
    Function,
    /// A class, a struct, an interface, an alias.
    Type,
    /// Holds others and has no name that anybody refers to: an `impl`.
    Group,
    /// A module, a package, a namespace.
    Module,
    /// A constant, a macro, a table.
    Value,
    /// A heading of a text, a section of a configuration.
    Section,
}

/// How definitions look that no word announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    /// There are none.
    None,
    /// `int f(…) {` where no line is indented.
    C,
    /// The same at any depth.
    Java,
    /// `f(…) {` at any depth, and `const f = (…) =>`.
    Script,
    /// `f() {`.
    Shell,
}

/// How the text is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Words, and what stands below them.
    Code(Bare),
    /// `# Heading`.
    Markdown,
    /// `[section]`.
    Sections,
    /// `target:` at the beginning of a line.
    Targets,
}

/// A language.
#[derive(Debug)]
pub struct Language {
    /// As people call it.
    pub name: &'static str,
    endings: &'static [&'static str],
    /// Whole names of files, and programs of a `#!` line.
    names: &'static [&'static str],
    pub(super) lexis: Lexis,
    pub(super) shape: Shape,
    /// What may stand before the word of a definition.
    pub(super) before: &'static [&'static str],
    pub(super) words: &'static [(&'static str, Kind)],
    /// Begins an import.
    pub(super) imports: &'static [&'static str],
}

/// What most of them have.
const PLAIN: Language = Language {
    name: "",
    endings: &[],
    names: &[],
    lexis: PROSE,
    shape: Shape::Code(Bare::None),
    before: &[],
    words: &[],
    imports: &[],
};

/// Recognized by the ending, the name or the first line of a file. What is not here is read as [`GENERIC`].
const FAMILIES: [&[Language]; 5] = [
    typed::ALL,
    c::ALL,
    scripts::ALL,
    functional::ALL,
    tables::ALL,
];

fn all() -> impl Iterator<Item = &'static Language> {
    FAMILIES.into_iter().flatten()
}

/// Anything else that is text: the words that most languages share.
pub(super) const GENERIC: Language = Language {
    name: "text",
    before: &[
        "pub",
        "public",
        "private",
        "protected",
        "static",
        "export",
        "local",
        "async",
        "abstract",
        "final",
    ],
    words: &[
        ("function", Function),
        ("func", Function),
        ("fun", Function),
        ("fn", Function),
        ("def", Function),
        ("sub", Function),
        ("proc", Function),
        ("procedure", Function),
        ("class", Type),
        ("struct", Type),
        ("interface", Type),
        ("trait", Type),
        ("enum", Type),
        ("module", Module),
        ("namespace", Module),
    ],
    imports: &["import ", "include ", "require "],
    ..PLAIN
};

impl Language {
    /// The language of a file, by its name; of one without an ending, by `first`, its first line.
    pub fn of(path: &Path, first: &[u8]) -> Option<&'static Self> {
        let name = path.file_name()?.to_str()?;
        let ending = path.extension().and_then(|ending| ending.to_str());
        let by = |known: fn(&Self) -> &'static [&'static str], word: &str| {
            all().find(|language| known(language).contains(&word))
        };
        if let Some(found) = by(|language| language.names, name) {
            return Some(found);
        }
        match ending {
            Some(ending) => by(|language| language.endings, &ending.to_ascii_lowercase()),
            None => by(|language| language.names, program(first)?),
        }
    }

    /// Whether other files can refer to what `line` begins to define, as far as that is said there.
    pub(super) fn is_open(&self, line: &[u8]) -> bool {
        let line = line.trim_ascii();
        // `pub mod a;` says where something is defined.
        let elsewhere = line.ends_with(b";") && line.windows(5).any(|part| part == b" mod ");
        self.name != "Rust"
            || (line.starts_with(b"pub") && !elsewhere)
            || line.starts_with(b"macro_rules!")
    }

    /// Whether only files of its folder can refer to what `line` begins to define.
    pub(super) fn is_narrow(&self, line: &[u8]) -> bool {
        self.name == "Rust" && line.trim_ascii_start().starts_with(b"pub(super)")
    }

    /// Whether `line` defines something of a type that stands elsewhere: `func (a *A) name(`, `void A::name(`.
    pub(super) fn is_method(&self, line: &[u8], name: &str) -> bool {
        match self.name {
            "Go" => line.starts_with(b"func ("),
            "C++" => {
                let through = format!("::{name}");
                line.windows(through.len())
                    .any(|part| part == through.as_bytes())
            }
            _ => false,
        }
    }

    /// An import may be a call like any other, which no grammar tells apart.
    pub(super) fn calls_imports(&self) -> bool {
        matches!(self.name, "JavaScript" | "TypeScript" | "Ruby" | "Lua")
    }
}

/// What a `#!` line runs: `python3` of `#!/usr/bin/env python3`.
fn program(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line.strip_prefix(b"#!")?).ok()?;
    let mut words = line.split_whitespace().map(|word| word.rsplit('/').next());
    let first = words.next()??;
    match first {
        "env" => words.flatten().find(|word| !word.starts_with('-')),
        first => Some(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_name_ending_or_first_line() {
        for (path, first, expected) in [
            ("a/b.rs", "", Some("Rust")),
            ("A.HPP", "", Some("C++")),
            ("Makefile", "", Some("Make")),
            ("run", "#!/usr/bin/env -S python3 -u", Some("Python")),
            ("run", "#!/bin/bash", Some("shell")),
            ("run", "hello", None),
            ("a.svg", "#!/bin/sh", None),
        ] {
            let found = Language::of(Path::new(path), first.as_bytes());
            assert_eq!(found.map(|language| language.name), expected, "{path}");
        }
    }

    #[test]
    fn no_ending_means_two_languages() {
        let mut endings: Vec<&str> = all().flat_map(|l| l.endings).copied().collect();
        let count = endings.len();
        endings.sort_unstable();
        endings.dedup();
        assert_eq!(endings.len(), count);
    }
}
