//! The languages that an outline knows, as data: how a file is recognized, what is comment and string in it, and with
//! which words a definition begins.

use std::path::Path;

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

/// What is not code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexis {
    /// Begins a comment that ends with the line.
    pub(super) line: &'static [&'static str],
    /// Comments from one to the other.
    pub(super) block: &'static [(&'static str, &'static str)],
    /// Quotes of strings that may hold line ends, the longer ones first.
    pub(super) long: &'static [&'static str],
    /// Quotes of strings that end with their line.
    pub(super) short: &'static [u8],
    /// `'a` may be a lifetime, and `r#"…"#` is a string.
    pub(super) rust: bool,
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

const C_LIKE: Lexis = Lexis {
    line: &["//"],
    block: &[("/*", "*/")],
    long: &[],
    short: b"\"'",
    rust: false,
};
const SCRIPT: Lexis = Lexis {
    long: &["`"],
    ..C_LIKE
};
const TRIPLE: Lexis = Lexis {
    long: &["\"\"\""],
    ..C_LIKE
};
const HASH: Lexis = Lexis {
    line: &["#"],
    block: &[],
    long: &[],
    short: b"\"'",
    rust: false,
};
const PYTHON: Lexis = Lexis {
    long: &["\"\"\"", "'''"],
    ..HASH
};
const DASHES: Lexis = Lexis {
    line: &["--"],
    block: &[("{-", "-}")],
    long: &[],
    short: b"\"",
    rust: false,
};
const LUA: Lexis = Lexis {
    block: &[("--[[", "]]")],
    long: &[],
    short: b"\"'",
    ..DASHES
};
const SQL: Lexis = Lexis {
    block: &[("/*", "*/")],
    short: b"'",
    ..DASHES
};
const LISP: Lexis = Lexis {
    line: &[";"],
    block: &[("#|", "|#")],
    long: &["\""],
    short: b"",
    rust: false,
};
const PROSE: Lexis = Lexis {
    line: &[],
    block: &[],
    long: &[],
    short: b"",
    rust: false,
};
const RUST: Lexis = Lexis {
    long: &["\""],
    short: b"",
    rust: true,
    ..C_LIKE
};
const PHP: Lexis = Lexis {
    line: &["//", "#"],
    long: &["\"", "'"],
    short: b"",
    ..C_LIKE
};

use Kind::{Function, Group, Module, Section, Type, Value};

/// Recognized by the ending, the name or the first line of a file. What is not here is read as [`GENERIC`].
const LANGUAGES: &[Language] = &[
    Language {
        name: "Rust",
        endings: &["rs"],
        names: &[],
        lexis: RUST,
        shape: Shape::Code(Bare::None),
        before: &[
            "pub", "async", "unsafe", "const", "extern", "default", "auto",
        ],
        words: &[
            ("fn", Function),
            ("struct", Type),
            ("enum", Type),
            ("union", Type),
            ("trait", Type),
            ("type", Type),
            ("impl", Group),
            ("mod", Module),
            ("const", Value),
            ("static", Value),
            ("macro_rules!", Value),
        ],
        imports: &["use ", "pub use ", "extern crate "],
    },
    Language {
        name: "Python",
        endings: &["py", "pyi", "pyw"],
        names: &["python", "python3"],
        lexis: PYTHON,
        shape: Shape::Code(Bare::None),
        before: &["async"],
        words: &[("def", Function), ("class", Type)],
        imports: &["import ", "from "],
    },
    Language {
        name: "JavaScript",
        endings: &["js", "jsx", "mjs", "cjs"],
        names: &["node"],
        lexis: SCRIPT,
        shape: Shape::Code(Bare::Script),
        before: &["export", "default", "async", "static"],
        words: &[
            ("function", Function),
            ("function*", Function),
            ("class", Type),
        ],
        imports: &["import ", "export * from", "require("],
    },
    Language {
        name: "TypeScript",
        endings: &["ts", "tsx", "mts", "cts"],
        names: &["deno", "bun"],
        lexis: SCRIPT,
        shape: Shape::Code(Bare::Script),
        before: &[
            "export",
            "default",
            "declare",
            "abstract",
            "async",
            "static",
            "public",
            "private",
            "protected",
            "readonly",
            "override",
        ],
        words: &[
            ("function", Function),
            ("function*", Function),
            ("class", Type),
            ("interface", Type),
            ("enum", Type),
            ("type", Type),
            ("namespace", Module),
            ("module", Module),
        ],
        imports: &["import ", "export * from", "require("],
    },
    Language {
        name: "Go",
        endings: &["go"],
        names: &[],
        lexis: SCRIPT,
        shape: Shape::Code(Bare::None),
        before: &[],
        words: &[
            ("func", Function),
            ("type", Type),
            ("const", Value),
            ("var", Value),
        ],
        imports: &["import "],
    },
    Language {
        name: "Java",
        endings: &["java"],
        names: &[],
        lexis: TRIPLE,
        shape: Shape::Code(Bare::Java),
        before: JAVA_BEFORE,
        words: &[
            ("class", Type),
            ("interface", Type),
            ("@interface", Type),
            ("enum", Type),
            ("record", Type),
        ],
        imports: &["import "],
    },
    Language {
        name: "C",
        endings: &["c", "h"],
        names: &[],
        lexis: C_LIKE,
        shape: Shape::Code(Bare::C),
        before: &["typedef", "static", "extern", "const"],
        words: C_WORDS,
        imports: &["#include", "# include"],
    },
    Language {
        name: "C++",
        endings: &["cc", "cpp", "cxx", "hpp", "hh", "hxx", "ipp", "cu", "cuh"],
        names: &[],
        lexis: C_LIKE,
        shape: Shape::Code(Bare::Java),
        before: &[
            "typedef",
            "static",
            "extern",
            "const",
            "constexpr",
            "inline",
            "export",
        ],
        words: &[
            ("class", Type),
            ("struct", Type),
            ("union", Type),
            ("enum", Type),
            ("concept", Type),
            ("namespace", Module),
            ("#define", Value),
        ],
        imports: &["#include", "# include", "import "],
    },
    Language {
        name: "Ruby",
        endings: &["rb", "rake", "gemspec"],
        names: &["Rakefile", "Gemfile", "ruby"],
        lexis: Lexis {
            block: &[("\n=begin", "\n=end")],
            ..HASH
        },
        shape: Shape::Code(Bare::None),
        before: &[
            "private",
            "protected",
            "public",
            "private_class_method",
            "module_function",
        ],
        words: &[("def", Function), ("class", Type), ("module", Module)],
        imports: &["require ", "require_relative ", "load "],
    },
    Language {
        name: "PHP",
        endings: &["php", "phtml"],
        names: &["php"],
        lexis: PHP,
        shape: Shape::Code(Bare::None),
        before: &[
            "public",
            "private",
            "protected",
            "static",
            "abstract",
            "final",
            "readonly",
        ],
        words: &[
            ("function", Function),
            ("class", Type),
            ("interface", Type),
            ("trait", Type),
            ("enum", Type),
            ("namespace", Module),
            ("const", Value),
        ],
        imports: &["use ", "require", "include"],
    },
    Language {
        name: "C#",
        endings: &["cs"],
        names: &[],
        lexis: TRIPLE,
        shape: Shape::Code(Bare::Java),
        before: JAVA_BEFORE,
        words: &[
            ("class", Type),
            ("interface", Type),
            ("struct", Type),
            ("enum", Type),
            ("record", Type),
            ("delegate", Type),
            ("namespace", Module),
        ],
        imports: &["using "],
    },
    Language {
        name: "Kotlin",
        endings: &["kt", "kts"],
        names: &[],
        lexis: TRIPLE,
        shape: Shape::Code(Bare::None),
        before: JAVA_BEFORE,
        words: &[
            ("fun", Function),
            ("class", Type),
            ("interface", Type),
            ("object", Type),
            ("typealias", Type),
        ],
        imports: &["import "],
    },
    Language {
        name: "Swift",
        endings: &["swift"],
        names: &[],
        lexis: TRIPLE,
        shape: Shape::Code(Bare::None),
        before: JAVA_BEFORE,
        words: &[
            ("func", Function),
            ("class", Type),
            ("struct", Type),
            ("enum", Type),
            ("protocol", Type),
            ("actor", Type),
            ("typealias", Type),
            ("extension", Group),
        ],
        imports: &["import "],
    },
    Language {
        name: "Scala",
        endings: &["scala", "sc"],
        names: &[],
        lexis: TRIPLE,
        shape: Shape::Code(Bare::None),
        before: JAVA_BEFORE,
        words: &[
            ("def", Function),
            ("class", Type),
            ("trait", Type),
            ("object", Type),
            ("enum", Type),
        ],
        imports: &["import "],
    },
    Language {
        name: "Dart",
        endings: &["dart"],
        names: &[],
        lexis: Lexis {
            long: &["\"\"\"", "'''"],
            ..C_LIKE
        },
        shape: Shape::Code(Bare::Java),
        before: JAVA_BEFORE,
        words: &[
            ("class", Type),
            ("mixin", Type),
            ("enum", Type),
            ("extension", Group),
            ("typedef", Type),
        ],
        imports: &["import ", "export "],
    },
    Language {
        name: "Lua",
        endings: &["lua"],
        names: &["lua"],
        lexis: LUA,
        shape: Shape::Code(Bare::None),
        before: &["local"],
        words: &[("function", Function)],
        imports: &["require"],
    },
    Language {
        name: "Elixir",
        endings: &["ex", "exs"],
        names: &["elixir"],
        lexis: PYTHON,
        shape: Shape::Code(Bare::None),
        before: &[],
        words: &[
            ("def", Function),
            ("defp", Function),
            ("defmacro", Function),
            ("defmodule", Module),
            ("defprotocol", Module),
            ("defimpl", Group),
        ],
        imports: &["import ", "alias ", "require ", "use "],
    },
    Language {
        name: "shell",
        endings: &["sh", "bash", "zsh", "ksh"],
        names: &["sh", "bash", "zsh"],
        lexis: Lexis {
            long: &["\"", "'"],
            short: b"",
            ..HASH
        },
        shape: Shape::Code(Bare::Shell),
        before: &[],
        words: &[("function", Function)],
        imports: &["source ", ". "],
    },
    Language {
        name: "Perl",
        endings: &["pl", "pm"],
        names: &["perl"],
        lexis: Lexis {
            block: &[("\n=pod", "\n=cut"), ("\n=head", "\n=cut")],
            ..HASH
        },
        shape: Shape::Code(Bare::None),
        before: &[],
        words: &[("sub", Function), ("package", Module)],
        imports: &["use ", "require "],
    },
    Language {
        name: "Zig",
        endings: &["zig"],
        names: &[],
        lexis: C_LIKE,
        shape: Shape::Code(Bare::None),
        before: &["pub", "export", "extern", "inline"],
        words: &[("fn", Function), ("const", Value)],
        imports: &["const std = @import"],
    },
    Language {
        name: "Haskell",
        endings: &["hs"],
        names: &[],
        lexis: DASHES,
        shape: Shape::Code(Bare::None),
        before: &[],
        words: &[
            ("data", Type),
            ("newtype", Type),
            ("class", Type),
            ("instance", Group),
            ("type", Type),
            ("module", Module),
        ],
        imports: &["import "],
    },
    Language {
        name: "OCaml",
        endings: &["ml", "mli"],
        names: &[],
        lexis: Lexis {
            line: &[],
            block: &[("(*", "*)")],
            long: &["\""],
            short: b"",
            rust: false,
        },
        shape: Shape::Code(Bare::None),
        before: &[],
        words: &[
            ("let", Function),
            ("val", Function),
            ("type", Type),
            ("module", Module),
            ("class", Type),
        ],
        imports: &["open "],
    },
    Language {
        name: "Lisp",
        endings: &["lisp", "el", "clj", "cljs", "cljc", "scm", "rkt"],
        names: &[],
        lexis: LISP,
        shape: Shape::Code(Bare::None),
        before: &[],
        words: &[
            ("(defun", Function),
            ("(defn", Function),
            ("(defn-", Function),
            ("(define", Function),
            ("(defmacro", Function),
            ("(defmethod", Function),
            ("(defclass", Type),
            ("(defrecord", Type),
            ("(ns", Module),
        ],
        imports: &["(require", "(:require", "(import"],
    },
    Language {
        name: "SQL",
        endings: &["sql"],
        names: &[],
        lexis: SQL,
        shape: Shape::Code(Bare::None),
        before: &[
            "create",
            "or",
            "replace",
            "temporary",
            "temp",
            "unique",
            "materialized",
            "if",
            "not",
            "exists",
        ],
        words: &[
            ("table", Type),
            ("view", Type),
            ("type", Type),
            ("function", Function),
            ("procedure", Function),
            ("trigger", Function),
        ],
        imports: &[],
    },
    Language {
        name: "Protocol Buffers",
        endings: &["proto"],
        names: &[],
        lexis: C_LIKE,
        shape: Shape::Code(Bare::None),
        before: &[],
        words: &[
            ("message", Type),
            ("enum", Type),
            ("service", Type),
            ("rpc", Function),
        ],
        imports: &["import "],
    },
    Language {
        name: "GraphQL",
        endings: &["graphql", "gql"],
        names: &[],
        lexis: PYTHON,
        shape: Shape::Code(Bare::None),
        before: &["extend"],
        words: &[
            ("type", Type),
            ("interface", Type),
            ("enum", Type),
            ("input", Type),
            ("union", Type),
            ("scalar", Type),
        ],
        imports: &[],
    },
    Language {
        name: "Terraform",
        endings: &["tf", "hcl"],
        names: &[],
        lexis: HASH,
        shape: Shape::Code(Bare::None),
        before: &[],
        words: &[
            ("resource", Type),
            ("data", Type),
            ("module", Module),
            ("variable", Value),
            ("output", Value),
        ],
        imports: &[],
    },
    Language {
        name: "Make",
        endings: &["mk"],
        names: &["Makefile", "makefile", "GNUmakefile"],
        lexis: Lexis { short: b"", ..HASH },
        shape: Shape::Targets,
        before: &[],
        words: &[],
        imports: &["include "],
    },
    Language {
        name: "Markdown",
        endings: &["md", "markdown"],
        names: &[],
        lexis: PROSE,
        shape: Shape::Markdown,
        before: &[],
        words: &[],
        imports: &[],
    },
    Language {
        name: "TOML",
        endings: &["toml", "ini", "cfg"],
        names: &[],
        lexis: HASH,
        shape: Shape::Sections,
        before: &[],
        words: &[("section", Section)],
        imports: &[],
    },
];

const JAVA_BEFORE: &[&str] = &[
    "public",
    "private",
    "protected",
    "internal",
    "static",
    "abstract",
    "final",
    "sealed",
    "open",
    "override",
    "partial",
    "data",
    "inline",
    "readonly",
    "async",
    "case",
    "implicit",
    "suspend",
    "fileprivate",
    "indirect",
    "base",
    "new",
    "unsafe",
    "ref",
    "enum",
    "lazy",
    "mutating",
    "strictfp",
    "non-sealed",
];

const C_WORDS: &[(&str, Kind)] = &[
    ("struct", Type),
    ("enum", Type),
    ("union", Type),
    ("#define", Value),
];

/// Anything else that is text: the words that most languages share.
pub(super) const GENERIC: Language = Language {
    name: "text",
    endings: &[],
    names: &[],
    lexis: PROSE,
    shape: Shape::Code(Bare::None),
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
};

impl Language {
    /// The language of a file, by its name; of one without an ending, by `first`, its first line.
    pub fn of(path: &Path, first: &[u8]) -> Option<&'static Self> {
        let name = path.file_name()?.to_str()?;
        let ending = path.extension().and_then(|ending| ending.to_str());
        let by = |known: fn(&Self) -> &'static [&'static str], word: &str| {
            LANGUAGES
                .iter()
                .find(|language| known(language).contains(&word))
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
        let line = line.trim_ascii_start();
        self.name != "Rust" || line.starts_with(b"pub") || line.starts_with(b"macro_rules!")
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
        let mut endings: Vec<&str> = LANGUAGES.iter().flat_map(|l| l.endings).copied().collect();
        let count = endings.len();
        endings.sort_unstable();
        endings.dedup();
        assert_eq!(endings.len(), count);
    }
}
