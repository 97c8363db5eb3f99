//! What is no code in a language: comments and strings, as data.

/// What is not code.
#[derive(Clone, Copy, Debug)]
pub(in crate::workspace::outline) struct Lexis {
    /// Begins a comment that ends with the line.
    pub(in crate::workspace::outline) line: &'static [&'static str],
    /// Comments from one to the other.
    pub(in crate::workspace::outline) block: &'static [(&'static str, &'static str)],
    /// Quotes of strings that may hold line ends, the longer ones first.
    pub(in crate::workspace::outline) long: &'static [&'static str],
    /// Quotes of strings that end with their line.
    pub(in crate::workspace::outline) short: &'static [u8],
    /// `'a` may be a lifetime, and `r#"…"#` is a string.
    pub(in crate::workspace::outline) rust: bool,
}

pub(super) const C_LIKE: Lexis = Lexis {
    line: &["//"],
    block: &[("/*", "*/")],
    long: &[],
    short: b"\"'",
    rust: false,
};
pub(super) const SCRIPT: Lexis = Lexis {
    long: &["`"],
    ..C_LIKE
};
pub(super) const TRIPLE: Lexis = Lexis {
    long: &["\"\"\""],
    ..C_LIKE
};
pub(super) const HASH: Lexis = Lexis {
    line: &["#"],
    block: &[],
    long: &[],
    short: b"\"'",
    rust: false,
};
pub(super) const PYTHON: Lexis = Lexis {
    long: &["\"\"\"", "'''"],
    ..HASH
};
pub(super) const DASHES: Lexis = Lexis {
    line: &["--"],
    block: &[("{-", "-}")],
    long: &[],
    short: b"\"",
    rust: false,
};
pub(super) const LUA: Lexis = Lexis {
    block: &[("--[[", "]]")],
    long: &[],
    short: b"\"'",
    ..DASHES
};
pub(super) const SQL: Lexis = Lexis {
    block: &[("/*", "*/")],
    short: b"'",
    ..DASHES
};
pub(super) const LISP: Lexis = Lexis {
    line: &[";"],
    block: &[("#|", "|#")],
    long: &["\""],
    short: b"",
    rust: false,
};
pub(super) const PROSE: Lexis = Lexis {
    line: &[],
    block: &[],
    long: &[],
    short: b"",
    rust: false,
};
pub(super) const RUST: Lexis = Lexis {
    long: &["\""],
    short: b"",
    rust: true,
    ..C_LIKE
};
pub(super) const PHP: Lexis = Lexis {
    line: &["//", "#"],
    long: &["\"", "'"],
    short: b"",
    ..C_LIKE
};
