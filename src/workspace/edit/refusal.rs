//! What the model reads when an edit is refused: what failed, what stands there instead, what to do next.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::Edit;
use super::elide;
use super::fold;
use super::indent;
use super::near::{self, Near};
use super::page::Page;
use super::pair::Pair;
use super::words;

/// Why an edit was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The search text is not in the file.
    NotFound,
    /// It fits more than one place equally well.
    Ambiguous,
    /// The replacement stands there already.
    AlreadyApplied,
    /// Search and replacement are the same.
    NoChange,
    /// An empty search on a file that exists.
    EmptySearch,
    /// The file is not UTF-8 text.
    NotText,
    /// The result would be larger than any file that is edited.
    TooLarge,
}

impl Code {
    /// The code as it goes over the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::NotFound => "not_found",
            Code::Ambiguous => "ambiguous",
            Code::AlreadyApplied => "already_applied",
            Code::NoChange => "no_change",
            Code::EmptySearch => "empty_search",
            Code::NotText => "not_text",
            Code::TooLarge => "too_large",
        }
    }
}

/// No edit of the call was applied, because of this one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why.
    pub code: Code,
    /// Index of the edit that failed.
    pub edit: usize,
    /// For the model: the lines that stand there, the first that differs, and what to try.
    pub message: String,
}

/// What the ladder knows when it gives up; line numbers are zero-based.
#[derive(Debug)]
pub(super) enum Failure {
    NotFound {
        pair: Pair,
    },
    /// The search stands at each of these lines.
    Ambiguous {
        lines: Vec<usize>,
        pair: Pair,
    },
    /// The search stands nowhere, and is equally near to each of these.
    Tied {
        lines: Vec<usize>,
        pair: Pair,
    },
    AlreadyApplied {
        first: usize,
        last: usize,
    },
    /// The only occurrence is a part of a longer word.
    InsideWord {
        line: usize,
    },
    /// Found, but its indentation follows no rule.
    Irregular {
        first: usize,
        last: usize,
    },
    /// The replacement leaves out code that the search quotes.
    Placeholder {
        line: String,
    },
    /// The marks of a diff stand before each new line, and before no line of the file or the search.
    Marked,
    NoChange,
    EmptySearch,
    NoFile,
    TooLarge,
}

impl Failure {
    fn code(&self) -> Code {
        match self {
            Failure::NotFound { .. }
            | Failure::InsideWord { .. }
            | Failure::Irregular { .. }
            | Failure::Placeholder { .. }
            | Failure::Marked
            | Failure::NoFile => Code::NotFound,
            Failure::Ambiguous { .. } | Failure::Tied { .. } => Code::Ambiguous,
            Failure::AlreadyApplied { .. } => Code::AlreadyApplied,
            Failure::NoChange => Code::NoChange,
            Failure::EmptySearch => Code::EmptySearch,
            Failure::TooLarge => Code::TooLarge,
        }
    }
}

/// Which edit of how many failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) edit: usize,
    pub(super) of: usize,
    /// The edits before it changed how many lines there are.
    pub(super) moved: bool,
}

impl Refusal {
    /// The refusal of a file that is not text.
    pub(super) fn not_text(bytes: &[u8], error: &std::str::Utf8Error) -> Refusal {
        Refusal {
            code: Code::NotText,
            edit: 0,
            message: format!(
                "not_text: {}, so it cannot be edited as text; nothing was written",
                encoding(bytes, error)
            ),
        }
    }

    pub(super) fn new(turn: Turn, text: &str, edit: &Edit, failure: &Failure) -> Refusal {
        let page = Page::new(text);
        let code = failure.code();
        let mut message = match turn.of {
            1 => format!("{}: ", code.as_str()),
            n => format!("edit {} of {n}: {}: ", turn.edit + 1, code.as_str()),
        };
        message.push_str(&body(&page, edit, failure));
        if turn.moved {
            message
                .push_str("\n(Lines are counted as the edits before this one would leave them.)");
        }
        message.push_str("\nNothing was written.");
        if turn.of > 1 {
            let _ = write!(
                message,
                " The {} other edits were not applied either: correct this one and send all again.",
                turn.of - 1
            );
        }
        Refusal {
            code,
            edit: turn.edit,
            message,
        }
    }
}

fn encoding(bytes: &[u8], error: &std::str::Utf8Error) -> String {
    match bytes {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "the file is UTF-16".to_string(),
        _ => format!(
            "the file is not UTF-8 (byte {:#04x} at offset {})",
            bytes[error.valid_up_to()],
            error.valid_up_to()
        ),
    }
}

fn body(page: &Page, edit: &Edit, failure: &Failure) -> String {
    match failure {
        Failure::NotFound { pair } if elide::leaves_out_more(pair) => {
            let why = "the search leaves out lines that the replacement does not; put the same marker line in both.";
            format!("{why}\n{}", not_found(page, pair))
        }
        Failure::NotFound { pair } => not_found(page, pair),
        Failure::Ambiguous { lines, pair } => ambiguous(page, pair, lines, edit.replace_all),
        Failure::Tied { lines, pair } => tied(page, pair, lines),
        Failure::AlreadyApplied { first, last } => {
            let shown = excerpt(page, *first, *last, 0, 8);
            format!("the replacement already stands at {}:\n{shown}", span(*first, *last))
        }
        Failure::InsideWord { line } => {
            let shown = excerpt(page, *line, *line, 1, 3);
            format!(
                "the search text occurs only inside a longer word at line {}; quote whole words:\n{shown}",
                line + 1
            )
        }
        Failure::Irregular { first, last } => {
            let shown = excerpt(page, *first, *last, 0, 12);
            format!(
                "the search fits {} but for its indentation, from which the depth of the new lines cannot be told; copy the \
                 lines with the file's own indentation:\n{shown}",
                span(*first, *last)
            )
        }
        Failure::Placeholder { line } => format!(
            "`{line}` in the replacement stands for code, and would be written in its place. Write the code out, or put the \
             same line where the search leaves that code out"
        ),
        Failure::Marked => "each new line of the replacement begins with `+`, as in a diff, and no line of the file does; \
                            send the replacement without these marks"
            .to_string(),
        Failure::TooLarge => "the file would become larger than any that is edited; replace fewer places, or less in each"
            .to_string(),
        Failure::NoChange => "search and replace are the same text".to_string(),
        Failure::EmptySearch => "an empty search only creates a file, and this one exists; quote the lines to change, or \
                                 a line next to which to insert"
            .to_string(),
        Failure::NoFile => "the file does not exist; to create it, send one edit with an empty search".to_string(),
    }
}

fn not_found(page: &Page, pair: &Pair) -> String {
    let spans = near::near(page, pair);
    let Some(best) = spans.first() else {
        return "the search text is not in the file, nor anything like it; read the file again"
            .to_string();
    };
    let count = pair.solid().len();
    let mut out = format!(
        "the search text is not in the file. Closest is {} ({} of {count} lines agree):\n",
        span(best.first, best.last),
        best.agree
    );
    out.push_str(&excerpt(page, best.first, best.last, 1, 12));
    if let Some(difference) = first_difference(page, pair, best) {
        let _ = write!(out, "\n{difference}");
    }
    for other in &spans[1..] {
        let _ = write!(out, "\nEqually close: {}", span(other.first, other.last));
    }
    out
}

fn first_difference(page: &Page, pair: &Pair, near: &Near) -> Option<String> {
    let (i, row) = near.differs?;
    let search = &pair.search[i];
    let Some(row) = row else {
        return Some(format!(
            "Search line {} is nowhere near: `{}`",
            i + 1,
            shown(search)
        ));
    };
    let file = page.lines[row].text;
    let (ours, theirs) = around_difference(search, file);
    Some(format!(
        "First difference at line {}, {}:\n  search: {}\n  file:   {}",
        row + 1,
        in_words(search, file),
        shown(ours),
        shown(theirs)
    ))
}

/// Both lines from a little before they part, where they are long.
fn around_difference<'a>(a: &'a str, b: &'a str) -> (&'a str, &'a str) {
    let shared = a.char_indices().zip(b.chars());
    let apart = shared.take_while(|((_, x), y)| x == y).last();
    let from = apart.map_or(0, |((at, _), _)| at.saturating_sub(LONGEST / 2));
    if from == 0 || a.len().max(b.len()) <= LONGEST {
        return (a, b);
    }
    let from = (0..=from)
        .rev()
        .find(|&at| a.is_char_boundary(at))
        .unwrap_or(0);
    (&a[from..], &b[from..])
}

/// What a search line and a file line differ in.
fn in_words(search: &str, file: &str) -> String {
    let escaped = search.contains("\\n") || search.contains("\\\"") || search.contains("\\t");
    if escaped && search.matches('\\').count() > file.matches('\\').count() {
        return "the search has escapes (\\n, \\\", \\t) where the file has the characters"
            .to_string();
    }
    let (ours, theirs) = (words::solid_tokens(search), words::solid_tokens(file));
    let pairs = ours.iter().zip(&theirs);
    let apart: Vec<_> = pairs.filter(|(a, b)| a.text != b.text).collect();
    match &apart[..] {
        [] if ours.len() == theirs.len() => blanks_in_words(search, file),
        [(a, b)] if ours.len() == theirs.len() => format!(
            "the file has `{}`, the search says `{}`; not changed",
            shown(b.text),
            shown(a.text)
        ),
        _ => "a different line".to_string(),
    }
}

fn blanks_in_words(search: &str, file: &str) -> String {
    let (ours, theirs) = (fold::indent(search), fold::indent(file));
    if ours != theirs {
        return format!(
            "indentation: {} in the search, {} in the file",
            indent::name(ours),
            indent::name(theirs)
        );
    }
    "blanks differ".to_string()
}

/// How many places are listed one by one.
const MOST_LISTED: usize = 10;

fn ambiguous(page: &Page, pair: &Pair, lines: &[usize], all: bool) -> String {
    let mut out = format!(
        "the search fits {} places equally well: {}.",
        lines.len(),
        listed(lines)
    );
    for &line in lines.iter().take(5) {
        let first = pair.search.iter().find(|text| !fold::is_blank(text));
        let _ = match telling_line(page, line, lines) {
            Some(above) => write!(out, "\n{}\n{}", row(page, above), row(page, line)),
            None => write!(
                out,
                "\n{}",
                first.map_or(String::new(), |_| row(page, line))
            ),
        };
    }
    out.push_str("\nAdd a line from above or below that only the place meant has, or pass `line` with its number");
    out.push_str(if all {
        "."
    } else {
        ", or `replace_all` if all are meant."
    });
    out
}

fn tied(page: &Page, pair: &Pair, lines: &[usize]) -> String {
    let mut out = format!(
        "the search text is not in the file, and {} places are equally close: {}.",
        lines.len(),
        listed(lines)
    );
    let tall = pair.search.len().clamp(1, 6);
    for &line in lines.iter().take(2) {
        let last = (line + tall - 1).min(page.lines.len() - 1);
        let _ = write!(out, "\n{}", excerpt(page, line, last, 0, 6));
    }
    if let Some(near) = near::near(page, pair).first()
        && let Some(difference) = first_difference(page, pair, near)
    {
        let _ = write!(out, "\n{difference}");
    }
    out.push_str("\nCopy the lines of the one that is meant.");
    out
}

/// `lines 12, 40, 77`, the first ten.
fn listed(lines: &[usize]) -> String {
    let numbers: Vec<String> = lines
        .iter()
        .take(MOST_LISTED)
        .map(|line| (line + 1).to_string())
        .collect();
    let more = if lines.len() > MOST_LISTED {
        " and more"
    } else {
        ""
    };
    format!("lines {}{more}", numbers.join(", "))
}

/// The nearest line above `line` that is another one above every other place.
fn telling_line(page: &Page, line: usize, lines: &[usize]) -> Option<usize> {
    let text = |at: usize| page.lines[at].text.trim();
    let others = || lines.iter().take(50).filter(|other| **other != line);
    (1..=60.min(line))
        .map(|up| (up, line - up))
        .find_map(|(up, above)| {
            let says = text(above).chars().any(char::is_alphanumeric);
            let alone = others().all(|other| {
                other
                    .checked_sub(up)
                    .is_none_or(|at| text(at) != text(above))
            });
            (says && alone).then_some(above)
        })
}

fn span(first: usize, last: usize) -> String {
    if first == last {
        return format!("line {}", first + 1);
    }
    format!("lines {}-{}", first + 1, last + 1)
}

/// The lines with their numbers, `around` more on either side, the middle left out where it is too tall.
fn excerpt(page: &Page, first: usize, last: usize, around: usize, most: usize) -> String {
    let from = first.saturating_sub(around);
    let to = (last + around).min(page.lines.len().saturating_sub(1));
    let tall = (to + 1).saturating_sub(from);
    let numbers = from..=to;
    if tall <= most {
        return rows(page, numbers);
    }
    let head = most / 2;
    let tail = most - head;
    format!(
        "{}\n       ({} lines)\n{}",
        rows(page, from..=from + head - 1),
        tall - most,
        rows(page, to + 1 - tail..=to)
    )
}

fn rows(page: &Page, numbers: std::ops::RangeInclusive<usize>) -> String {
    let rows: Vec<String> = numbers
        .filter(|&n| n < page.lines.len())
        .map(|n| row(page, n))
        .collect();
    rows.join("\n")
}

fn row(page: &Page, n: usize) -> String {
    let line = format!("{:>5} | {}", n + 1, cut(page.lines[n].text));
    line.trim_end().to_string()
}

/// Longest line shown, in characters.
const LONGEST: usize = 160;

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_string(),
        Some((at, _)) => format!("{}… ({} bytes more)", &text[..at], text.len() - at),
    }
}

/// The line with what cannot be seen made visible: tabs, blanks at the end, odd spaces.
fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in cut(text.trim_end()).chars() {
        match c {
            '\t' => out.push('→'),
            c if c == '\u{7f}' || c < ' ' || matches!(fold::plain(c), Some(" " | "")) => {
                let _ = write!(out, "<U+{:04X}>", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.extend(
        fold::trailing(text)
            .chars()
            .take(20)
            .map(|c| if c == '\t' { '→' } else { '·' }),
    );
    out
}
