//! Languages that run as they are: of the web, of the shell, and between.

use super::{
    Bare,
    Kind::{Function, Group, Module, Type, Value},
    Language, PLAIN, Shape,
    lexis::{HASH, LUA, Lexis, PHP, PYTHON, SCRIPT},
};

pub(super) const ALL: &[Language] = &[
    Language {
        name: "Python",
        endings: &["py", "pyi", "pyw"],
        names: &["python", "python3"],
        lexis: PYTHON,
        before: &["async"],
        words: &[("def", Function), ("class", Type)],
        imports: &["import ", "from "],
        ..PLAIN
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
        name: "Ruby",
        endings: &["rb", "rake", "gemspec"],
        names: &["Rakefile", "Gemfile", "ruby"],
        lexis: Lexis {
            block: &[("\n=begin", "\n=end")],
            ..HASH
        },
        before: &[
            "private",
            "protected",
            "public",
            "private_class_method",
            "module_function",
        ],
        words: &[("def", Function), ("class", Type), ("module", Module)],
        imports: &["require ", "require_relative ", "load "],
        ..PLAIN
    },
    Language {
        name: "PHP",
        endings: &["php", "phtml"],
        names: &["php"],
        lexis: PHP,
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
        ..PLAIN
    },
    Language {
        name: "Lua",
        endings: &["lua"],
        names: &["lua"],
        lexis: LUA,
        before: &["local"],
        words: &[("function", Function)],
        imports: &["require"],
        ..PLAIN
    },
    Language {
        name: "Elixir",
        endings: &["ex", "exs"],
        names: &["elixir"],
        lexis: PYTHON,
        words: &[
            ("def", Function),
            ("defp", Function),
            ("defmacro", Function),
            ("defmodule", Module),
            ("defprotocol", Module),
            ("defimpl", Group),
        ],
        imports: &["import ", "alias ", "require ", "use "],
        ..PLAIN
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
        words: &[("function", Function)],
        imports: &["source ", ". "],
        ..PLAIN
    },
    Language {
        name: "Perl",
        endings: &["pl", "pm"],
        names: &["perl"],
        lexis: Lexis {
            block: &[("\n=pod", "\n=cut"), ("\n=head", "\n=cut")],
            ..HASH
        },
        words: &[("sub", Function), ("package", Module)],
        imports: &["use ", "require "],
        ..PLAIN
    },
];
