//! What two lines may differ in and still be called the same line: blanks at the ends, indentation, typography, inner blanks.

use std::borrow::Cow;
use std::ops::BitOr;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// The differences a comparison had to forgive, as a set. The highest one decides how good a match is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drift(u8);

impl Drift {
    pub(super) const NONE: Drift = Drift(0);
    pub(super) const TRAILING: Drift = Drift(1);
    pub(super) const INDENT: Drift = Drift(2);
    pub(super) const TYPOGRAPHY: Drift = Drift(4);
    pub(super) const SPACING: Drift = Drift(8);
    pub(super) const BLANK_LINES: Drift = Drift(16);

    pub(super) fn has(self, other: Drift) -> bool {
        self.0 & other.0 != 0
    }

    /// 0 for none, then one step for each kind, in the order of the ladder.
    pub(super) fn rank(self) -> u32 {
        u8::BITS - self.0.leading_zeros()
    }
}

impl BitOr for Drift {
    type Output = Drift;
    fn bitor(self, other: Drift) -> Drift {
        Drift(self.0 | other.0)
    }
}

/// What `search` and `file` differ in, or nothing where they are different lines.
pub(super) fn drift(search: &str, file: &str) -> Option<Drift> {
    if search == file {
        return Some(Drift::NONE);
    }
    let (a, b) = (search.trim(), file.trim());
    let mut edges = Drift::NONE;
    if trailing(search) != trailing(file) {
        edges = edges | Drift::TRAILING;
    }
    if !is_blank(search) && indent(search) != indent(file) {
        edges = edges | Drift::INDENT;
    }
    body_drift(a, b).map(|body| body | edges)
}

fn body_drift(a: &str, b: &str) -> Option<Drift> {
    if a == b {
        return Some(Drift::NONE);
    }
    if same_typography(a, b) {
        return Some(Drift::TYPOGRAPHY);
    }
    if same_words(a, b) {
        return Some(Drift::SPACING);
    }
    let loose = DASHES
        .iter()
        .any(|dash| same_words(&fold(a, dash), &fold(b, dash)));
    loose.then_some(Drift::TYPOGRAPHY | Drift::SPACING)
}

/// What a long dash may have been before it was set: `—` for `-`, `--` or `---`.
const DASHES: [&str; 3] = ["-", "--", "---"];

fn same_typography(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return false;
    }
    DASHES
        .iter()
        .any(|dash| fold(a, dash).trim() == fold(b, dash).trim())
}

fn same_words(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

/// The text with typographic characters set in ASCII and letters composed.
pub(super) fn fold<'a>(text: &'a str, dash: &str) -> Cow<'a, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut push = |c: char| match plain(c) {
        Some("-") if is_long_dash(c) => out.push_str(dash),
        Some(ascii) => out.push_str(ascii),
        None => out.push(c),
    };
    if is_nfc(text) {
        text.chars().for_each(&mut push);
    } else {
        text.nfc().for_each(&mut push);
    }
    Cow::Owned(out)
}

/// The ASCII that a typographic character stands for; empty for one that cannot be seen.
pub(super) fn plain(c: char) -> Option<&'static str> {
    match c {
        '\u{2018}'..='\u{201B}' | '\u{2032}' => Some("'"),
        '\u{201C}'..='\u{201F}' | '\u{2033}' => Some("\""),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some("-"),
        '\u{2026}' => Some("..."),
        '\u{A0}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => Some(" "),
        '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{FEFF}' | '\u{AD}' => Some(""),
        _ => None,
    }
}

fn is_long_dash(c: char) -> bool {
    matches!(c, '\u{2013}'..='\u{2015}')
}

/// True for a line of nothing but blanks and characters that cannot be seen.
pub(super) fn is_blank(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_whitespace() || plain(c) == Some(""))
}

/// The blanks a line begins with.
pub(super) fn indent(text: &str) -> &str {
    &text[..text.len() - text.trim_start().len()]
}

/// The blanks a line ends with.
pub(super) fn trailing(text: &str) -> &str {
    &text[text.trim_end().len()..]
}

/// A hash that is equal for any two lines that `drift` calls the same (FNV-1a over the folded text, runs of blanks and of
/// dashes counted once).
pub(super) fn key(text: &str) -> u64 {
    if text.is_ascii() {
        return hash(text.trim().bytes());
    }
    hash(fold(text, "-").trim().bytes())
}

fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    let mut last = 0;
    for byte in bytes {
        let byte = if byte.is_ascii_whitespace() || byte == 0x0b {
            b' '
        } else {
            byte
        };
        if byte == last && (byte == b' ' || byte == b'-') {
            continue;
        }
        last = byte;
        h = (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    h
}
