//! Definitions that no word announces: `int f(…) {`, `f() {`, `const f = (…) =>`.

use super::{CONTROL, LOOKED_AT, begins, in_name, worded::path};
use crate::workspace::outline::{
    blank::STRING,
    language::{Bare, Kind},
};

/// Lines after its first that a head without a word may need until its `{`.
const HEAD: usize = 8;

/// Where a line stands.
pub(super) struct Place<'a> {
    pub(super) lines: &'a [&'a [u8]],
    pub(super) at: usize,
    pub(super) indent: usize,
}

/// A definition that no word announces.
pub(super) fn without_word(line: &[u8], bare: Bare, place: &Place<'_>) -> Option<(Kind, String)> {
    let name = match bare {
        Bare::None => None,
        Bare::C => (place.indent == 0)
            .then(|| with_body(line, place, false))
            .flatten(),
        Bare::Java => with_body(line, place, false),
        Bare::Script => arrow(line, place).or_else(|| with_body(line, place, true)),
        Bare::Shell => shell_function(line),
    };
    name.map(|name| (Kind::Function, name))
}

fn shell_function(line: &[u8]) -> Option<String> {
    let length = line
        .iter()
        .take_while(|byte| in_name(**byte) || b"-:.".contains(byte))
        .count();
    let rest = line[length..].trim_ascii_start().strip_prefix(b"(")?;
    let is_one = length > 0 && rest.trim_ascii_start().starts_with(b")");
    is_one.then(|| String::from_utf8_lossy(&line[..length]).into_owned())
}

/// `const f = (a) => {`, `const f = async function (`: only where it stands at the margin or is exported.
fn arrow(line: &[u8], place: &Place<'_>) -> Option<String> {
    let line = line.strip_prefix(b"export ").unwrap_or(line);
    let rest = ["const ", "let ", "var "]
        .iter()
        .find_map(|word| line.strip_prefix(word.as_bytes()))?;
    if place.indent > 0 {
        return None;
    }
    let name = path(rest)?;
    let value = &rest[rest.iter().position(|byte| *byte == b'=')? + 1..];
    let value = value.trim_ascii_start();
    let value = value
        .strip_prefix(b"async")
        .map_or(value, <[u8]>::trim_ascii_start);
    let is_function = begins(value, "function")
        || ((value.starts_with(b"(") || value.windows(2).any(|two| two == b"=>")) && points(place));
    is_function.then_some(name)
}

/// An arrow comes before the statement ends.
fn points(place: &Place<'_>) -> bool {
    for line in place.lines[place.at..].iter().take(HEAD) {
        let line = &line[..line.len().min(LOOKED_AT)];
        if line.windows(2).any(|two| two == b"=>") {
            return true;
        }
        if line.trim_ascii_end().ends_with(b";") {
            return false;
        }
    }
    false
}

/// `type name(…) … {`: a name before the first `(`, and a `{` before the statement ends. `alone`: no type before it.
fn with_body(line: &[u8], place: &Place<'_>, alone: bool) -> Option<String> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let head = line[..open].trim_ascii_end();
    let bytes = head
        .iter()
        .rev()
        .take_while(|byte| in_name(**byte) || **byte == b'~' || **byte == b'$')
        .count();
    let name = std::str::from_utf8(&head[head.len() - bytes..]).ok()?;
    let before = head[..head.len() - bytes].trim_ascii();
    let is_name = name.starts_with(|c: char| c.is_alphabetic() || "_~$".contains(c));
    if !is_name
        || CONTROL.contains(&name)
        || before
            .iter()
            .any(|byte| b"={}!;|+?".contains(byte) || *byte == STRING)
    {
        return None;
    }
    let first = before
        .split(|byte| !in_name(*byte))
        .find(|word| !word.is_empty());
    let first = first.and_then(|word| std::str::from_utf8(word).ok());
    if first.is_some_and(|first| CONTROL.contains(&first))
        || before.ends_with(b".")
        || before.ends_with(b"->")
    {
        return None;
    }
    let fits = match alone {
        true => place.indent > 0 && first.is_none_or(|word| METHOD.contains(&word)),
        // A constructor has no type, but a body all the same; a call of a macro at the margin has neither.
        false => {
            first.is_some()
                || name.trim_start_matches('~').starts_with(char::is_uppercase) && place.indent > 0
        }
    };
    (fits && opens(place)).then(|| name.to_owned())
}

/// What may stand before a method of a script.
const METHOD: &[&str] = &[
    "async",
    "static",
    "get",
    "set",
    "public",
    "private",
    "protected",
    "override",
    "readonly",
    "abstract",
    "constructor",
];

/// A `{` (or the `=>` of C#) comes before the statement ends, and outside of its parentheses.
fn opens(place: &Place<'_>) -> bool {
    let mut depth = 0i32;
    for line in place.lines[place.at..].iter().take(HEAD) {
        for (at, byte) in line.iter().take(LOOKED_AT).enumerate() {
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'{' if depth == 0 => return true,
                b';' | b'}' if depth == 0 => return false,
                b'=' if depth == 0 => return line.get(at + 1) == Some(&b'>'),
                _ => {}
            }
        }
    }
    false
}
