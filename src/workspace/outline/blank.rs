//! The code of a text: comments and the insides of strings are blanked out, byte for byte, so that lines and columns stay.

use super::language::Lexis;

/// Stands for a byte of a comment.
pub(super) const COMMENT: u8 = 1;
/// Stands for a byte of a string.
pub(super) const STRING: u8 = 2;

/// `text` with [`COMMENT`] and [`STRING`] for what is not code; line ends stay. One pass, whatever the text holds.
pub(super) fn blanked(text: &[u8], lexis: &Lexis) -> Vec<u8> {
    let starts = Starts::of(lexis);
    let mut code = text.to_vec();
    let mut at = 0;
    while at < text.len() {
        if !starts.any(text[at]) {
            at += 1;
            continue;
        }
        let Some((end, fill)) = skipped(text, at, lexis) else {
            at += 1;
            continue;
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = fill;
            }
        }
        at = end.max(at + 1);
    }
    code
}

/// The bytes with which something that is not code can begin.
struct Starts([bool; 256]);

impl Starts {
    fn of(lexis: &Lexis) -> Self {
        let mut starts = [false; 256];
        let words = lexis.line.iter().chain(lexis.long);
        let words = words.chain(lexis.block.iter().map(|(begin, _)| begin));
        for word in words {
            starts[usize::from(word.as_bytes()[0])] = true;
        }
        for quote in lexis.short {
            starts[usize::from(*quote)] = true;
        }
        if lexis.rust {
            starts[usize::from(b'\'')] = true;
            starts[usize::from(b'r')] = true;
        }
        Self(starts)
    }

    fn any(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }
}

/// Where what begins at `at` ends, if it is a comment or a string.
fn skipped(text: &[u8], at: usize, lexis: &Lexis) -> Option<(usize, u8)> {
    let rest = &text[at..];
    for (begin, end) in lexis.block {
        // Those that must stand at the beginning of a line may stand at that of the text.
        if rest.starts_with(begin.as_bytes()) {
            let from = at + begin.len();
            let close = find(&text[from..], end.as_bytes());
            return Some((
                close.map_or(text.len(), |close| from + close + end.len()),
                COMMENT,
            ));
        }
    }
    for begin in lexis.line {
        if rest.starts_with(begin.as_bytes()) && is_comment(text, at, begin) {
            let end = find(rest, b"\n").unwrap_or(rest.len());
            return Some((at + end, COMMENT));
        }
    }
    if lexis.rust {
        match rest[0] {
            b'r' => return raw(text, at).map(|end| (end, STRING)),
            b'\'' => return character(rest).map(|length| (at + length, STRING)),
            _ => {}
        }
    }
    for quote in lexis.long {
        if rest.starts_with(quote.as_bytes()) {
            return Some((quoted(text, at, quote.as_bytes(), false), STRING));
        }
    }
    lexis
        .short
        .contains(&rest[0])
        .then(|| (quoted(text, at, &rest[..1], true), STRING))
}

/// In shells, `#` inside a word is no comment; and `#!`, `$#` and the like are none anywhere.
fn is_comment(text: &[u8], at: usize, begin: &str) -> bool {
    begin != "#"
        || at == 0
        || text[at - 1].is_ascii_whitespace()
        || b";({[,".contains(&text[at - 1])
}

/// The end of a string behind its closing `quote`; a short one that is not closed ends with its line.
fn quoted(text: &[u8], at: usize, quote: &[u8], short: bool) -> usize {
    let mut here = at + quote.len();
    while here < text.len() {
        match text[here] {
            b'\\' => here += 2,
            b'\n' if short => return here,
            _ if text[here..].starts_with(quote) => return here + quote.len(),
            _ => here += 1,
        }
    }
    text.len()
}

/// The end of `r"…"` or `r#"…"#`.
fn raw(text: &[u8], at: usize) -> Option<usize> {
    let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let before = at.checked_sub(1).map(|before| &text[before]);
    if before.is_some_and(|byte| in_word(byte) && *byte != b'b' && *byte != b'c') {
        return None;
    }
    let hashes = text[at + 1..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let from = at + 1 + hashes;
    if text.get(from) != Some(&b'"') || hashes > 255 {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"')
        .chain(std::iter::repeat_n(b'#', hashes))
        .collect();
    let end = find(&text[from + 1..], &close);
    Some(end.map_or(text.len(), |end| from + 1 + end + close.len()))
}

/// How long a character literal is; none for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    match rest.get(1)? {
        b'\\' => rest
            .iter()
            .take(14)
            .skip(3)
            .position(|byte| *byte == b'\'')
            .map(|end| end + 4),
        b'\'' | b'\n' => None,
        first => {
            let length = match first {
                0..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
        }
    }
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    let first = *word.first()?;
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| *byte == first) {
        if text[from + at..].starts_with(word) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workspace::outline::language::Language;

    /// The code of `text`, with `~` for comments and `"` for strings.
    fn seen(name: &str, text: &str) -> String {
        let language = Language::of(Path::new(name), b"").unwrap();
        let code = blanked(text.as_bytes(), &language.lexis);
        assert_eq!(code.len(), text.len());
        let code = code.iter().map(|byte| match *byte {
            COMMENT => '~',
            STRING => '"',
            byte => char::from(byte),
        });
        code.collect()
    }

    #[test]
    fn what_is_no_code_is_blank_and_lines_stay() {
        for (name, text, expected) in [
            ("a.rs", "a // b\nc", "a ~~~~\nc"),
            ("a.rs", "f('x', '\\n', &'a b)", "f(\"\"\", \"\"\"\", &'a b)"),
            ("a.rs", "r#\"fn \"#; x", "\"\"\"\"\"\"\"\"; x"),
            ("a.rs", "\"a\nb\" c /* d */ e", "\"\"\n\"\" c ~~~~~~~ e"),
            ("a.py", "'''x\ny''' z # q", "\"\"\"\"\n\"\"\"\" z ~~~"),
            ("a.py", "'it\nz", "\"\"\"\nz"),
            ("a.sh", "echo $# ${a#b} # c", "echo $# ${a#b} ~~~"),
            ("a.c", "\"a\\\"b\" /* c", "\"\"\"\"\"\" ~~~~"),
            ("a.js", "`a\n${b}` c", "\"\"\n\"\"\"\"\" c"),
        ] {
            assert_eq!(seen(name, text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_never_closed_ends_with_the_text() {
        for name in ["a.rs", "a.py", "a.js", "a.sh", "a.lua", "a.php", "a.rb"] {
            for text in [
                "\"", "'", "`", "/*", "r##\"", "\"\"\"", "\\", "--[[", "'\\", "#",
            ] {
                assert_eq!(seen(name, text).len(), text.len(), "{name} {text}");
            }
        }
    }
}
