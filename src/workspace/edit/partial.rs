//! Exact pieces of lines: a search that begins or ends inside a line.

use super::page::Page;
use super::pair::Pair;

/// Bytes of the file that a search equals, terminators aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) start: usize,
    pub(super) end: usize,
    /// First and last line it touches.
    pub(super) first: usize,
    pub(super) last: usize,
}

/// How many pieces are looked at before the search counts as standing everywhere.
const MOST_CUTS: usize = 20_000;

/// Every place where the search stands byte for byte, overlaps counted, whatever the terminators.
pub(super) fn cuts(page: &Page, pair: &Pair) -> Vec<Cut> {
    let found = match &pair.search[..] {
        [] => Vec::new(),
        [one] if one.is_empty() => Vec::new(),
        [one] => within_lines(page, one),
        [first, middle @ .., last] => across_lines(page, first, middle, last),
    };
    found
        .into_iter()
        .filter(|cut| !pair.closed || cut.end == line_end(page, cut.last))
        .filter(|cut| !leaves_seam(page, pair, cut))
        .collect()
}

fn line_end(page: &Page, line: usize) -> usize {
    page.lines[line].at + page.lines[line].text.len()
}

fn within_lines(page: &Page, needle: &str) -> Vec<Cut> {
    let step = needle.chars().next().map_or(1, char::len_utf8);
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = page.text.get(from..).and_then(|rest| rest.find(needle)) {
        let start = from + at;
        let line = page.line_of(start);
        if start + needle.len() <= line_end(page, line) {
            found.push(Cut {
                start,
                end: start + needle.len(),
                first: line,
                last: line,
            });
        }
        if found.len() >= MOST_CUTS {
            break;
        }
        from = start + step;
    }
    found
}

fn across_lines(page: &Page, first: &str, middle: &[String], last: &str) -> Vec<Cut> {
    let tall = middle.len() + 1;
    let fits = |i: &usize| {
        let rows = &page.lines[*i..=*i + tall];
        rows[tall].text.starts_with(last)
            && rows[0].text.ends_with(first)
            && rows[1..tall]
                .iter()
                .zip(middle)
                .all(|(row, want)| row.text == want)
    };
    (0..page.lines.len().saturating_sub(tall))
        .filter(fits)
        .take(MOST_CUTS)
        .map(|i| Cut {
            start: line_end(page, i) - first.len(),
            end: page.lines[i + tall].at + last.len(),
            first: i,
            last: i + tall,
        })
        .collect()
}

/// A search that begins or ends with a bare newline takes that newline away only if the replacement has none there: then
/// two lines of the file would be joined, which nobody means by it.
fn leaves_seam(page: &Page, pair: &Pair, cut: &Cut) -> bool {
    let bare = |side: Option<&String>| side.is_some_and(String::is_empty);
    let head = bare(pair.search.first())
        && !bare(pair.replace.first())
        && cut.start > page.lines[cut.first].at;
    let tail = bare(pair.search.last())
        && !bare(pair.replace.last())
        && cut.end < line_end(page, cut.last);
    head || tail
}

/// True where the change would begin or end inside a word of the file. What both sides share at an end does not change,
/// so a word cut there is only quoted in part.
pub(super) fn cuts_word(page: &Page, pair: &Pair, cut: &Cut) -> bool {
    let (search, replace) = (pair.search.join("\n"), pair.replace.join("\n"));
    let ahead = common(search.chars(), replace.chars());
    let behind = common(search.chars().rev(), replace.chars().rev());
    let before = page.text[..cut.start].chars().next_back();
    let after = page.text[cut.end..].chars().next();
    let left = joins(before, search.chars().next());
    let right = joins(search.chars().next_back(), after);
    // One word alone, found inside another, is that other word.
    let lone = search.trim().chars().all(is_word);
    (left && (lone || !ahead)) || (right && (lone || !behind))
}

/// Whether both sides begin with the same whole word, or with something that is no word.
fn common(mut a: impl Iterator<Item = char>, mut b: impl Iterator<Item = char>) -> bool {
    loop {
        match (a.next(), b.next()) {
            (Some(x), Some(y)) if x == y && is_word(x) => {}
            (Some(x), Some(y)) if is_word(x) || is_word(y) => return x == y,
            (Some(x), None) | (None, Some(x)) if is_word(x) => return false,
            _ => return true,
        }
    }
}

fn joins(left: Option<char>, right: Option<char>) -> bool {
    left.is_some_and(is_word) && right.is_some_and(is_word)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
