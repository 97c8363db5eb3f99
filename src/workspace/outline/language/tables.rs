//! What is no program: schemas, build files, prose and configuration.

use super::{
    Kind::{Function, Module, Section, Type, Value},
    Language, PLAIN, Shape,
    lexis::{C_LIKE, HASH, Lexis, PROSE, PYTHON, SQL},
};

pub(super) const ALL: &[Language] = &[
    Language {
        name: "SQL",
        endings: &["sql"],
        lexis: SQL,
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
        ..PLAIN
    },
    Language {
        name: "Protocol Buffers",
        endings: &["proto"],
        lexis: C_LIKE,
        words: &[
            ("message", Type),
            ("enum", Type),
            ("service", Type),
            ("rpc", Function),
        ],
        imports: &["import "],
        ..PLAIN
    },
    Language {
        name: "GraphQL",
        endings: &["graphql", "gql"],
        lexis: PYTHON,
        before: &["extend"],
        words: &[
            ("type", Type),
            ("interface", Type),
            ("enum", Type),
            ("input", Type),
            ("union", Type),
            ("scalar", Type),
        ],
        ..PLAIN
    },
    Language {
        name: "Terraform",
        endings: &["tf", "hcl"],
        lexis: HASH,
        words: &[
            ("resource", Type),
            ("data", Type),
            ("module", Module),
            ("variable", Value),
            ("output", Value),
        ],
        ..PLAIN
    },
    Language {
        name: "Make",
        endings: &["mk"],
        names: &["Makefile", "makefile", "GNUmakefile"],
        lexis: Lexis { short: b"", ..HASH },
        shape: Shape::Targets,
        imports: &["include "],
        ..PLAIN
    },
    Language {
        name: "Markdown",
        endings: &["md", "markdown"],
        lexis: PROSE,
        shape: Shape::Markdown,
        ..PLAIN
    },
    Language {
        name: "TOML",
        endings: &["toml", "ini", "cfg"],
        lexis: HASH,
        shape: Shape::Sections,
        words: &[("section", Section)],
        ..PLAIN
    },
];
