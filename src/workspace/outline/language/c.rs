//! C and C++: functions that no word announces, and types only where they have a body.

use super::{
    Bare, Kind,
    Kind::{Module, Type, Value},
    Language, PLAIN, Shape,
    lexis::C_LIKE,
};

pub(super) const ALL: &[Language] = &[
    Language {
        name: "C",
        endings: &["c", "h"],
        lexis: C_LIKE,
        shape: Shape::Code(Bare::C),
        before: &["typedef", "static", "extern", "const"],
        words: C_WORDS,
        imports: &["#include", "# include"],
        ..PLAIN
    },
    Language {
        name: "C++",
        endings: &["cc", "cpp", "cxx", "hpp", "hh", "hxx", "ipp", "cu", "cuh"],
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
        ..PLAIN
    },
];

const C_WORDS: &[(&str, Kind)] = &[
    ("struct", Type),
    ("enum", Type),
    ("union", Type),
    ("#define", Value),
];
