//! Definitions that a word of their language announces: `fn`, `class`, `create table`.

use super::{CONTROL, in_name};
use crate::workspace::outline::{
    blank::STRING,
    language::{Kind, Language},
};

/// A line that begins with a word of the language, whatever stands before it that may.
pub(super) fn worded(line: &[u8], language: &Language) -> Option<(Kind, String)> {
    let folds = folds(language);
    let mut rest = line;
    for _ in 0..8 {
        let length = rest
            .iter()
            .take_while(|byte| !byte.is_ascii_whitespace() && !b"(<".contains(byte))
            .count();
        let length = if rest.starts_with(b"(") {
            rest.iter().take_while(|b| !b.is_ascii_whitespace()).count()
        } else {
            length
        };
        let word = std::str::from_utf8(&rest[..length]).ok()?;
        let lowered;
        let word = if folds {
            lowered = word.to_ascii_lowercase();
            &lowered
        } else {
            word
        };
        let after = rest[length..].trim_ascii_start();
        if let Some((_, kind)) = language.words.iter().find(|(known, _)| *known == word)
            // `const fn`, `enum class`: the word that comes next says what it is.
            && !followed_by_word(after, language)
        {
            return named(word, *kind, after, language);
        }
        if !language.before.contains(&word)
            || (folds && rest.len() == line.len() && word != "create")
        {
            return None;
        }
        rest = after;
        // `pub(crate)`, `extern "C"`.
        if rest.starts_with(b"(") && language.lexis.rust {
            rest = behind(rest, b'(', b')')?.trim_ascii_start();
        }
        while rest.first().is_some_and(|byte| *byte == STRING) {
            rest = rest[1..].trim_ascii_start();
        }
    }
    None
}

/// Upper and lower case are the same.
fn folds(language: &Language) -> bool {
    language.name == "SQL"
}

fn without<'a>(text: &'a [u8], word: &str) -> &'a [u8] {
    match text.split_at_checked(word.len()) {
        Some((begin, rest)) if begin.eq_ignore_ascii_case(word.as_bytes()) => {
            rest.trim_ascii_start()
        }
        _ => text,
    }
}

fn followed_by_word(after: &[u8], language: &Language) -> bool {
    let next: Vec<u8> = after
        .iter()
        .copied()
        .take_while(|byte| in_name(*byte))
        .collect();
    let follows = language
        .words
        .iter()
        .any(|(known, _)| known.as_bytes() == next);
    let passes =
        language.before.iter().any(|known| known.as_bytes() == next) && language.lexis.rust;
    (follows || passes) && after.get(next.len()).is_some_and(u8::is_ascii_whitespace)
}

/// What stands behind the `close` of the `open` that `text` begins with.
fn behind(text: &[u8], open: u8, close: u8) -> Option<&[u8]> {
    let mut depth = 0usize;
    for (at, byte) in text.iter().enumerate() {
        if *byte == open {
            depth += 1;
        } else if *byte == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return Some(&text[at + 1..]);
            }
        }
    }
    None
}

/// The name of what `word` defines.
fn named(word: &str, kind: Kind, after: &[u8], language: &Language) -> Option<(Kind, String)> {
    let mut rest = after;
    if kind == Kind::Group {
        let head = rest
            .split(|byte| *byte == b'{')
            .next()
            .unwrap_or(rest)
            .trim_ascii();
        return Some((kind, String::from_utf8_lossy(head).into_owned()));
    }
    if language.name == "Go" && word == "func" && rest.starts_with(b"(") {
        rest = behind(rest, b'(', b')')?.trim_ascii_start();
    }
    if language.name == "Lisp" || language.name == "Terraform" {
        rest = rest.trim_ascii_start();
        while rest
            .first()
            .is_some_and(|byte| *byte == b'(' || *byte == STRING)
        {
            rest = &rest[1..];
        }
        let length = rest
            .iter()
            .take_while(|byte| !byte.is_ascii_whitespace() && !b"()[]{".contains(byte))
            .count();
        let name = String::from_utf8_lossy(&rest[..length]).into_owned();
        return Some((
            kind,
            if name.is_empty() {
                word.to_owned()
            } else {
                name
            },
        ));
    }
    if folds(language) {
        rest = ["if", "not", "exists"]
            .iter()
            .fold(rest, |rest, word| without(rest, word));
    }
    while rest.first().is_some_and(|byte| b"*&<".contains(byte)) {
        rest = match rest[0] {
            b'<' => behind(rest, b'<', b'>')?,
            _ => &rest[1..],
        };
        rest = rest.trim_ascii_start();
    }
    let path = path(rest)?;
    // A Kotlin or Swift extension is called by what follows the dot, a Lua method by what follows the colon.
    let name = path.rsplit(['.', ':']).find(|part| !part.is_empty())?;
    if kind == Kind::Type && matches!(language.name, "C" | "C++") && !has_body(rest) {
        return None;
    }
    let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let stops =
        matches!(language.name, "TypeScript" | "JavaScript" | "Python") && CONTROL.contains(&name);
    (is_name && !stops).then(|| (kind, name.to_owned()))
}

/// `struct a {` and `struct a` alone define; `struct a b;` and `struct a f(…) {` do not.
fn has_body(rest: &[u8]) -> bool {
    let head = rest.split(|byte| *byte == b'{').next().unwrap_or(rest);
    !head.iter().any(|byte| b";(=,)*".contains(byte))
}

/// The dotted name that `rest` begins with, quotes of SQL left out.
pub(super) fn path(rest: &[u8]) -> Option<String> {
    let rest = match rest.first() {
        Some(b'"' | b'`' | b'[') => &rest[1..],
        _ => rest,
    };
    let length = rest
        .iter()
        .take_while(|byte| in_name(**byte) || b".:?!$'".contains(byte))
        .count();
    let name = std::str::from_utf8(&rest[..length]).ok()?;
    let name = name.trim_end_matches([':', '.']).trim_start_matches('$');
    (!name.is_empty()).then(|| name.to_owned())
}
