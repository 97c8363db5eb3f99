//! Languages of expressions.

use super::{
    Kind::{Function, Group, Module, Type},
    Language, PLAIN,
    lexis::{DASHES, LISP, Lexis},
};

pub(super) const ALL: &[Language] = &[
    Language {
        name: "Haskell",
        endings: &["hs"],
        lexis: DASHES,
        words: &[
            ("data", Type),
            ("newtype", Type),
            ("class", Type),
            ("instance", Group),
            ("type", Type),
            ("module", Module),
        ],
        imports: &["import "],
        ..PLAIN
    },
    Language {
        name: "OCaml",
        endings: &["ml", "mli"],
        lexis: Lexis {
            line: &[],
            block: &[("(*", "*)")],
            long: &["\""],
            short: b"",
            rust: false,
        },
        words: &[
            ("let", Function),
            ("val", Function),
            ("type", Type),
            ("module", Module),
            ("class", Type),
        ],
        imports: &["open "],
        ..PLAIN
    },
    Language {
        name: "Lisp",
        endings: &["lisp", "el", "clj", "cljs", "cljc", "scm", "rkt"],
        lexis: LISP,
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
        ..PLAIN
    },
];
