//! Languages that are compiled and say what a thing is: classes, structs and functions with words before them.

use super::{
    Bare,
    Kind::{Function, Group, Module, Type, Value},
    Language, PLAIN, Shape,
    lexis::{C_LIKE, Lexis, RUST, SCRIPT, TRIPLE},
};

pub(super) const ALL: &[Language] = &[
    Language {
        name: "Rust",
        endings: &["rs"],
        lexis: RUST,
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
        ..PLAIN
    },
    Language {
        name: "Go",
        endings: &["go"],
        lexis: SCRIPT,
        words: &[
            ("func", Function),
            ("type", Type),
            ("const", Value),
            ("var", Value),
        ],
        imports: &["import "],
        ..PLAIN
    },
    Language {
        name: "Java",
        endings: &["java"],
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
        ..PLAIN
    },
    Language {
        name: "C#",
        endings: &["cs"],
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
        ..PLAIN
    },
    Language {
        name: "Kotlin",
        endings: &["kt", "kts"],
        lexis: TRIPLE,
        before: JAVA_BEFORE,
        words: &[
            ("fun", Function),
            ("class", Type),
            ("interface", Type),
            ("object", Type),
            ("typealias", Type),
        ],
        imports: &["import "],
        ..PLAIN
    },
    Language {
        name: "Swift",
        endings: &["swift"],
        lexis: TRIPLE,
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
        ..PLAIN
    },
    Language {
        name: "Scala",
        endings: &["scala", "sc"],
        lexis: TRIPLE,
        before: JAVA_BEFORE,
        words: &[
            ("def", Function),
            ("class", Type),
            ("trait", Type),
            ("object", Type),
            ("enum", Type),
        ],
        imports: &["import "],
        ..PLAIN
    },
    Language {
        name: "Dart",
        endings: &["dart"],
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
        ..PLAIN
    },
    Language {
        name: "Zig",
        endings: &["zig"],
        lexis: C_LIKE,
        before: &["pub", "export", "extern", "inline"],
        words: &[("fn", Function), ("const", Value)],
        imports: &["const std = @import"],
        ..PLAIN
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
