//! Other ways to read a pair: what a model added by accident while copying (fences, line numbers, escapes), taken off.
//!
//! A reading is the clean inverse of one artefact, applied to both sides. It counts only if the result stands in the file.

use super::fold;
use super::pair::Pair;

/// A pair without an artefact, and the words that say which.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) pair: Pair,
    pub(super) how: String,
    /// It stands only if it stands as whole lines.
    pub(super) whole: bool,
}

impl Reading {
    /// The pair as it was written.
    pub(super) fn literal(pair: &Pair) -> Reading {
        Reading {
            pair: pair.clone(),
            how: String::new(),
            whole: false,
        }
    }
}

/// How one artefact is taken off.
struct Inverse {
    how: &'static str,
    /// Nothing where the pair does not have the artefact.
    off: fn(&Pair) -> Option<Pair>,
    /// What is left must be whole lines: a prefix taken off a line leaves no piece of one.
    whole: bool,
}

const fn of_lines(how: &'static str, off: fn(&Pair) -> Option<Pair>) -> Inverse {
    Inverse {
        how,
        off,
        whole: true,
    }
}

const fn of_text(how: &'static str, off: fn(&Pair) -> Option<Pair>) -> Inverse {
    Inverse {
        how,
        off,
        whole: false,
    }
}

const INVERSES: [Inverse; 13] = [
    of_text("code fence left out", unfence),
    of_text("conflict markers left out", unmark),
    of_lines("line numbers left out", |pair| unnumber(pair, 1)),
    of_lines("line numbers left out", |pair| unnumber(pair, 0)),
    of_lines("diff markers left out", undiff),
    of_lines("quote markers left out", unquote),
    of_text("surrounding quotes left out", unwrap),
    of_text("HTML entities decoded", unentity),
    of_text("escapes decoded", |pair| unescape(pair, ALL)),
    of_text("escaped newlines and quotes decoded", |pair| {
        unescape(pair, &['n', 't', '"'])
    }),
    of_text("escaped newlines decoded", |pair| unescape(pair, &['n'])),
    of_text("escaped quotes decoded", |pair| unescape(pair, &['"'])),
    of_text("escaped quotes decoded", |pair| {
        unescape(pair, &['"', '\''])
    }),
];

/// One artefact on top of another is common (a fence around numbered lines); more than this is not copying any more.
const DEEPEST: usize = 3;
const MOST: usize = 32;
/// In bytes: a longer search is read without one artefact only, so that a megabyte is not copied a hundred times.
const LONG: usize = 100_000;

/// Every reading of the pair but the literal one, simplest first.
pub(super) fn readings(pair: &Pair) -> Vec<Reading> {
    let mut all: Vec<Reading> = Vec::new();
    let mut layer = vec![Reading::literal(pair)];
    let length: usize = pair.search.iter().map(String::len).sum();
    let deepest = if length > LONG { 1 } else { DEEPEST };
    for _ in 0..deepest {
        layer = layer.iter().flat_map(peel).collect();
        layer.retain(|reading| reading.pair != *pair);
        for reading in &layer {
            if all.len() < MOST && !all.iter().any(|known| known.pair == reading.pair) {
                all.push(reading.clone());
            }
        }
        layer.truncate(MOST);
    }
    all
}

fn peel(outer: &Reading) -> Vec<Reading> {
    let peeled = |inverse: &Inverse| {
        let pair = (inverse.off)(&outer.pair)?;
        let how = match outer.how.as_str() {
            "" => inverse.how.to_string(),
            before => format!("{before}, {}", inverse.how),
        };
        let whole = outer.whole || inverse.whole;
        let says = pair.search.iter().any(|line| !fold::is_blank(line));
        says.then_some(Reading { pair, how, whole })
    };
    INVERSES.iter().filter_map(peeled).collect()
}

fn unfence(pair: &Pair) -> Option<Pair> {
    let search = inside_fence(&pair.search)?;
    let replace = match inside_fence(&pair.replace) {
        Some(inside) => inside,
        // Half a fence would go into the file.
        None if pair
            .replace
            .iter()
            .any(|line| opens_like(line, &pair.search)) =>
        {
            return None;
        }
        None => pair.replace.clone(),
    };
    Some(pair.with(search, replace))
}

fn inside_fence(lines: &[String]) -> Option<Vec<String>> {
    let first = lines.iter().position(|line| !fold::is_blank(line))?;
    let last = lines.iter().rposition(|line| !fold::is_blank(line))?;
    let mark = fence_mark(&lines[first])?;
    let closes = lines[last].trim() == mark && last > first;
    closes.then(|| lines[first + 1..last].to_vec())
}

/// True for a line that is the fence the search begins with.
fn opens_like(line: &str, search: &[String]) -> bool {
    let first = search.iter().find(|line| !fold::is_blank(line));
    first.is_some_and(|first| first.trim() == line.trim())
}

/// The fence that a line opens: three or more backticks or tildes, then at most one word.
fn fence_mark(line: &str) -> Option<&str> {
    let body = line.trim();
    let word = body.trim_start_matches(['`', '~']);
    let mark = &body[..body.len() - word.len()];
    let one_kind = mark.chars().all(|c| mark.starts_with(c));
    (mark.len() >= 3 && one_kind && word.split_whitespace().count() <= 1).then_some(mark)
}

fn unmark(pair: &Pair) -> Option<Pair> {
    let is_mark = |line: &String| {
        ["<<<<<<<", "=======", ">>>>>>>"]
            .iter()
            .any(|mark| line.starts_with(mark))
    };
    let strip = |lines: &[String]| {
        let from = usize::from(lines.first().is_some_and(is_mark));
        let to = lines.len() - usize::from(lines.len() > from && lines.last().is_some_and(is_mark));
        lines[from..to].to_vec()
    };
    let search = strip(&pair.search);
    (search.len() < pair.search.len()).then(|| pair.with(search, strip(&pair.replace)))
}

/// Takes line numbers off: every line of the search has one, each one more than the last. `gap` blanks after the mark
/// belong to it.
fn unnumber(pair: &Pair, gap: usize) -> Option<Pair> {
    let rows: Vec<Option<Numbered>> = pair.search.iter().map(|line| numbered(line, gap)).collect();
    let first = rows.iter().flatten().next()?;
    let mut start = None;
    for (i, (row, line)) in rows.iter().zip(&pair.search).enumerate() {
        match row {
            Some(row) if row.mark != first.mark => return None,
            Some(row) if *start.get_or_insert(row.number.checked_sub(i)?) + i == row.number => {}
            None if fold::is_blank(line) => {}
            _ => return None,
        }
    }
    // `3.` and `3)` begin things that are no line numbers; alone they say nothing.
    let weak = matches!(first.mark, '.' | ')' | ' ');
    if weak && rows.iter().flatten().count() < 2 {
        return None;
    }
    let text = |row: &Option<Numbered>| row.as_ref().map_or("", |row| row.text).to_string();
    let known = start?..start? + rows.len();
    let replace = unnumber_replace(&pair.replace, gap, first, &known);
    Some(pair.with(rows.iter().map(text).collect(), replace))
}

/// The replacement may carry numbers on all lines, on the old ones only, or on none. It carries them if it begins with
/// one of the search's, written the same way.
fn unnumber_replace(
    lines: &[String],
    gap: usize,
    like: &Numbered,
    known: &std::ops::Range<usize>,
) -> Vec<String> {
    let row = |line: &String| -> Option<(usize, String)> {
        let row = numbered(line, gap)?;
        (row.mark == like.mark).then(|| (row.number, row.text.to_string()))
    };
    let first = lines
        .iter()
        .find(|line| !fold::is_blank(line))
        .and_then(row);
    if !first.is_some_and(|(number, _)| known.contains(&number)) {
        return lines.to_vec();
    }
    let mut last = 0;
    lines
        .iter()
        .map(|line| match row(line) {
            Some((number, text)) if number >= last => {
                last = number;
                text
            }
            _ => line.clone(),
        })
        .collect()
}

/// A line with a number in front.
struct Numbered<'a> {
    number: usize,
    mark: char,
    text: &'a str,
}

/// `  12 | text`, `12: text`, `12→text`, `12<tab>text`, `L12: text`.
fn numbered(line: &str, gap: usize) -> Option<Numbered<'_>> {
    let body = line.trim_start();
    let body = body.strip_prefix('L').unwrap_or(body);
    let digits = body.len() - body.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits == 0 || digits > 7 {
        return None;
    }
    let (number, rest) = body.split_at(digits);
    let marked = rest.trim_start_matches(' ');
    let (mark, text) = match marked.chars().next() {
        Some(mark @ ('|' | ':' | '→' | '\t' | '│' | ')' | '.')) => {
            (mark, &marked[mark.len_utf8()..])
        }
        _ => (' ', rest.strip_prefix(' ')?),
    };
    let text = match gap {
        0 => text,
        _ if text.is_empty() => text,
        _ => text.strip_prefix(' ')?,
    };
    let number = number.parse().ok()?;
    Some(Numbered { number, mark, text })
}

/// True for a pair written as the two halves of a diff. Read literally it would put the marks into the file.
pub(super) fn is_diff(pair: &Pair) -> bool {
    undiff(pair).is_some()
}

fn undiff(pair: &Pair) -> Option<Pair> {
    let marked = |lines: &[String], mark: char| lines.iter().any(|line| line.starts_with(mark));
    if !marked(&pair.search, '-') && !marked(&pair.replace, '+') {
        return None;
    }
    let search = strip_marks(&pair.search, '-')?;
    let kept = |line: &String| line.starts_with(' ') && pair.search.contains(line);
    let solid = || pair.replace.iter().filter(|line| !fold::is_blank(line));
    // The new side may have been written plainly.
    let replace = match marked(&pair.replace, '+') || solid().all(kept) {
        true => strip_marks(&pair.replace, '+')?,
        false => pair.replace.clone(),
    };
    Some(pair.with(search, replace))
}

/// Lines that all begin with a blank or the mark.
fn strip_marks(lines: &[String], mark: char) -> Option<Vec<String>> {
    lines
        .iter()
        .map(|line| match line.strip_prefix([mark, ' ']) {
            Some(rest) => Some(rest.to_string()),
            None => line.is_empty().then(String::new),
        })
        .collect()
}

fn unquote(pair: &Pair) -> Option<Pair> {
    let mut all = pair.search.iter().chain(&pair.replace);
    let mark = match all
        .all(|line| line.trim_end() == ">" || !line.starts_with('>') || line.starts_with("> "))
    {
        true => "> ",
        false => ">",
    };
    let strip = |lines: &[String]| -> Option<Vec<String>> {
        lines
            .iter()
            .map(|line| match line.strip_prefix(mark) {
                Some(rest) => Some(rest.to_string()),
                None => (fold::is_blank(line) || line.trim_end() == ">").then(String::new),
            })
            .collect()
    };
    Some(pair.with(strip(&pair.search)?, strip(&pair.replace)?))
}

/// A whole JSON string, quotes and all; the escaped newline tells it from a quoted word of the file.
fn unwrap(pair: &Pair) -> Option<Pair> {
    let inside = |lines: &[String]| -> Option<Vec<String>> {
        let text = lines.join("\n");
        let body = text.strip_prefix('"')?.strip_suffix('"')?;
        Some(super::pair::lines(body))
    };
    let escaped = pair.search.iter().any(|line| line.contains("\\n"));
    escaped.then_some(())?;
    Some(pair.with(inside(&pair.search)?, inside(&pair.replace)?))
}

const ENTITIES: [(&str, &str); 10] = [
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", "\""),
    ("&#34;", "\""),
    ("&#39;", "'"),
    ("&#x27;", "'"),
    ("&#x2F;", "/"),
    ("&apos;", "'"),
    ("&nbsp;", " "),
    // Last, so that `&amp;lt;` becomes `&lt;` and no more.
    ("&amp;", "&"),
];

fn unentity(pair: &Pair) -> Option<Pair> {
    let decode = |lines: &[String]| -> Vec<String> { lines.iter().map(|l| entities(l)).collect() };
    let search = decode(&pair.search);
    (search != pair.search).then(|| pair.with(search, decode(&pair.replace)))
}

fn entities(line: &str) -> String {
    let mut out = line.to_string();
    for (name, text) in ENTITIES {
        if out.contains(name) {
            out = out.replace(name, text);
        }
    }
    out
}

/// All escapes of JSON; with these an escape that JSON does not know means that the text was never escaped.
const ALL: &[char] = &['n', 't', 'r', '"', '\\', '/', 'u', 'b', 'f'];

fn unescape(pair: &Pair, kinds: &[char]) -> Option<Pair> {
    let decode = |lines: &[String]| -> Option<Vec<String>> {
        let text = unescape_text(&lines.join("\n"), kinds)?;
        Some(super::pair::lines(&text))
    };
    let search = decode(&pair.search)?;
    let changed = search != pair.search;
    changed.then_some(())?;
    Some(pair.with(search, decode(&pair.replace)?))
}

fn unescape_text(text: &str, kinds: &[char]) -> Option<String> {
    let strict = kinds == ALL;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.chars().next() {
            Some(c) if kinds.contains(&c) => rest = push_escape(&mut out, c, rest)?,
            Some(c) if !strict => {
                // An escaped backslash is passed over whole, so that `\\n` stays what it is.
                out.push('\\');
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
            None if !strict => out.push('\\'),
            _ => return None,
        }
    }
    out.push_str(rest);
    Some(out)
}

/// Writes what the escape stands for and gives the text after it.
fn push_escape<'a>(out: &mut String, kind: char, rest: &'a str) -> Option<&'a str> {
    let plain = match kind {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'u' => char::from_u32(u32::from_str_radix(rest.get(1..5)?, 16).ok()?)?,
        other => other,
    };
    out.push(plain);
    let taken = if kind == 'u' { 5 } else { 1 };
    Some(&rest[taken..])
}
