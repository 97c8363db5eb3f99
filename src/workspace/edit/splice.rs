//! The one writer: puts the replacement in, with the file's own bytes for every line that both sides share.

use std::borrow::Cow;
use std::ops::Range;

use similar::DiffOp;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::diff::operations;
use super::elide;
use super::fold;
use super::indent::{self, Depth, Shift};
use super::locate::Hit;
use super::page::Page;
use super::pair::Pair;
use super::partial::Cut;
use super::words;

/// Bytes `at..end` of the file become `text`; no other byte changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) at: usize,
    pub(super) end: usize,
    pub(super) text: String,
}

/// A patch, and what was done to the indentation.
#[derive(Debug)]
pub(super) struct Spliced {
    pub(super) patch: Patch,
    pub(super) indentation: Option<String>,
}

/// Puts whole lines in the place of a hit. Nothing where the indentation follows no rule, so that a new line's depth
/// would be a guess.
pub(super) fn lines(page: &Page, pair: &Pair, hit: &Hit) -> Option<Spliced> {
    let pair = &with_plain_indentation(page, pair);
    let pair = &composed(page, pair);
    let depths = depths(page, pair, hit);
    let shift = indent::fit(
        page,
        &(hit.first()..hit.end()),
        &depths,
        &pair.search,
        &pair.replace,
    )?;
    let writer = Writer::new(page, pair, hit, &shift);
    Some(Spliced {
        patch: writer.write(),
        indentation: told(&depths),
    })
}

/// Indentation made of odd spaces or invisible characters that the file has nowhere is read as plain spaces.
fn with_plain_indentation<'a>(page: &Page, pair: &'a Pair) -> Cow<'a, Pair> {
    let odd = |line: &String| {
        !fold::is_blank(line) && lead(line).chars().any(|c| fold::plain(c).is_some())
    };
    let foreign = |c: char| fold::plain(c).is_some() && !page.text.contains(c);
    let mut lines = pair
        .search
        .iter()
        .chain(&pair.replace)
        .filter(|line| odd(line))
        .peekable();
    if lines.peek().is_none() || !lines.all(|line| lead(line).chars().any(foreign)) {
        return Cow::Borrowed(pair);
    }
    let plain = |lines: &[String]| lines.iter().map(|line| plain_lead(line)).collect();
    Cow::Owned(pair.with(plain(&pair.search), plain(&pair.replace)))
}

/// Letters in pieces (`e` and an accent), where the file has them whole.
fn composed<'a>(page: &Page, pair: &'a Pair) -> Cow<'a, Pair> {
    let whole = |line: &String| line.is_ascii() || is_nfc(line);
    if pair.search.iter().all(whole) || !is_nfc(page.text) {
        return Cow::Borrowed(pair);
    }
    let compose = |lines: &[String]| lines.iter().map(|line| line.nfc().collect()).collect();
    Cow::Owned(pair.with(compose(&pair.search), compose(&pair.replace)))
}

/// The blanks and invisible characters a line begins with.
fn lead(text: &str) -> &str {
    let blank = |c: char| c.is_whitespace() || fold::plain(c) == Some("");
    &text[..text.len() - text.trim_start_matches(blank).len()]
}

fn plain_lead(text: &str) -> String {
    if fold::is_blank(text) {
        return text.to_string();
    }
    let lead = lead(text);
    format!("{}{}", fold::fold(lead, "-"), &text[lead.len()..])
}

fn told(depths: &[Depth]) -> Option<String> {
    let moved = depths.iter().find(|depth| depth.search != depth.file)?;
    Some(format!(
        "indentation adjusted: {} to {}",
        indent::name(moved.search),
        indent::name(moved.file)
    ))
}

fn depths<'a>(page: &Page<'a>, pair: &'a Pair, hit: &Hit) -> Vec<Depth<'a>> {
    let solid = |(row, line): &(&std::ops::Range<usize>, &String)| {
        row.len() == 1 && !fold::is_blank(line) && !page.lines[row.start].is_blank()
    };
    hit.rows
        .iter()
        .zip(&pair.search)
        .filter(solid)
        .map(|(row, line)| Depth {
            search: fold::indent(line),
            file: fold::indent(page.lines[row.start].text),
        })
        .collect()
}

struct Writer<'a> {
    page: &'a Page<'a>,
    hit: &'a Hit,
    /// The file lines of each search line, as in the hit.
    rows: Vec<Range<usize>>,
    /// The search with the file's indentation; elisions sealed.
    search: Vec<String>,
    /// The replacement in the file's terms.
    replace: Vec<String>,
    /// The indentation of each search line as it was quoted, where some were quoted with a slip.
    slips: Vec<String>,
    /// The model put blanks at line ends where the file has none, so its new lines lose theirs.
    strips: bool,
    /// Typographic characters that the model wrote where the file has ASCII.
    typeset: Vec<char>,
    /// The next file line that is neither written nor dropped.
    cursor: usize,
    out: Vec<(Cow<'a, str>, &'a str)>,
    /// The last thing that happened to a file line of the region.
    last: Last,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Kept,
    Gap,
    Dropped,
    /// Dropped, with a gap written before it and nothing since.
    DroppedAfterGap,
    Added,
}

impl<'a> Writer<'a> {
    fn new(page: &'a Page<'a>, pair: &Pair, hit: &'a Hit, shift: &Shift) -> Self {
        let elided = hit.rows.iter().any(|row| row.len() > 1) || has_marker(pair, hit);
        let search = in_file_terms(page, pair, hit);
        let replace = match shift {
            Shift::None | Shift::Slips => with_copies_level(pair, &search),
            _ => shift.apply(&pair.replace),
        };
        let seal = |lines: Vec<String>| if elided { elide::seal(&lines) } else { lines };
        Writer {
            page,
            hit,
            rows: hit.rows.clone(),
            slips: match shift {
                Shift::Slips => quoted(pair),
                _ => Vec::new(),
            },
            search: seal(search),
            replace: seal(replace),
            strips: adds_trailing(page, pair, hit),
            typeset: typeset(page, pair, hit),
            cursor: hit.first(),
            out: Vec::new(),
            last: Last::Kept,
        }
    }

    fn write(mut self) -> Patch {
        let ops = {
            let ours: Vec<&str> = self.search.iter().map(|line| line.trim_end()).collect();
            let theirs: Vec<&str> = self.replace.iter().map(|line| line.trim_end()).collect();
            operations(&ours, &theirs, None)
        };
        self.lend_blanks(&ops);
        for op in ops {
            self.step(op);
        }
        self.finish()
    }

    /// Of more blank lines than the file has, the ones that both sides share are the file's.
    fn lend_blanks(&mut self, ops: &[DiffOp]) {
        let kept = |i: usize| {
            ops.iter()
                .any(|op| matches!(op, DiffOp::Equal { .. }) && op.old_range().contains(&i))
        };
        for i in 1..self.rows.len() {
            let blank = self.search[i - 1].trim().is_empty() && self.search[i].trim().is_empty();
            let (above, here) = (self.rows[i - 1].len(), self.rows[i].len());
            if !blank || above + here != 1 || kept(i - 1) == kept(i) {
                continue;
            }
            let row = self.rows[i - 1].start.min(self.rows[i].start);
            let middle = if kept(i) { row } else { row + 1 };
            self.rows[i - 1] = row..middle;
            self.rows[i] = middle..row + 1;
        }
    }

    fn step(&mut self, op: DiffOp) {
        let (old, new) = (op.old_range(), op.new_range());
        match op {
            DiffOp::Equal { .. } => old.zip(new).for_each(|(i, j)| self.keep(i, j)),
            DiffOp::Delete { .. } => old.for_each(|i| self.drop(i)),
            DiffOp::Insert { .. } => new.for_each(|j| self.add(j, None)),
            DiffOp::Replace { .. } if old.len() == new.len() => {
                for (i, j) in old.zip(new) {
                    self.gap(i);
                    self.add(j, Some(i));
                    self.cursor = self.rows[i].end.max(self.cursor);
                }
            }
            DiffOp::Replace { .. } => {
                let first = old.start;
                old.for_each(|i| self.drop(i));
                for (n, j) in new.enumerate() {
                    self.add(j, (n == 0).then_some(first));
                }
            }
        }
    }

    /// Writes the file's blank lines before row `i` that the search left out.
    fn gap(&mut self, i: usize) {
        let until = self.rows[i].start;
        if self.cursor < until {
            self.copy(self.cursor..until);
            self.last = Last::Gap;
        }
    }

    fn copy(&mut self, rows: std::ops::Range<usize>) {
        for line in &self.page.lines[rows.clone()] {
            self.out.push((Cow::Borrowed(line.text), line.eol));
        }
        self.cursor = rows.end;
    }

    /// A line on both sides: the file's bytes, unless its blanks at the end were quoted exactly and then changed.
    fn keep(&mut self, i: usize, j: usize) {
        match self.last {
            // The gap before a dropped line was written: the one after it would double it.
            Last::DroppedAfterGap => self.cursor = self.rows[i].start.max(self.cursor),
            _ => self.gap(i),
        }
        let row = self.rows[i].clone();
        let meant = row.len() == 1 && self.means_trailing(row.start, i, j);
        if meant {
            let line = &self.page.lines[row.start];
            let text = format!(
                "{}{}",
                line.text.trim_end(),
                fold::trailing(&self.replace[j])
            );
            self.out.push((Cow::Owned(text), line.eol));
            self.cursor = row.end;
        } else {
            self.copy(row);
        }
        self.last = Last::Kept;
    }

    fn means_trailing(&self, row: usize, i: usize, j: usize) -> bool {
        let quoted = fold::trailing(&self.search[i]);
        quoted == fold::trailing(self.page.lines[row].text)
            && quoted != fold::trailing(&self.replace[j])
    }

    /// A line only the search has. A gap before it stays if the line above it stayed.
    fn drop(&mut self, i: usize) {
        let had_gap = self.cursor < self.rows[i].start;
        self.last = match self.last {
            Last::Kept | Last::Added if had_gap => {
                self.gap(i);
                Last::DroppedAfterGap
            }
            Last::DroppedAfterGap => Last::DroppedAfterGap,
            _ => Last::Dropped,
        };
        self.cursor = self.rows[i].end.max(self.cursor);
    }

    /// A line only the replacement has, in the place of row `instead` if there is one.
    fn add(&mut self, j: usize, instead: Option<usize>) {
        let row = instead.map(|i| self.rows[i].clone());
        let line = row.filter(|row| row.len() == 1).map(|row| row.start);
        let text = match (instead, line) {
            (Some(i), Some(row)) => self.level(i, row, self.weave(i, row, j)),
            _ => self.replace[j].clone(),
        };
        let eol = self.eol(line);
        self.out.push((Cow::Owned(self.clean(text)), eol));
        self.last = Last::Added;
    }

    /// The new line, with what it shares with the search line left as the file has it.
    fn weave(&self, i: usize, row: usize, j: usize) -> String {
        let (search, file) = (&self.search[i], self.page.lines[row].text);
        let new = &self.replace[j];
        if search.trim() == file.trim() {
            return new.clone();
        }
        woven(search.trim_end(), file.trim_end(), new).unwrap_or_else(|| new.clone())
    }

    /// A line that repeats the slip with which row `i` was quoted gets the indentation of that row.
    fn level(&self, i: usize, row: usize, text: String) -> String {
        match self.slips.get(i) {
            Some(quoted) if quoted == fold::indent(&text) && !fold::is_blank(&text) => format!(
                "{}{}",
                fold::indent(self.page.lines[row].text),
                text.trim_start()
            ),
            _ => text,
        }
    }

    fn clean(&self, text: String) -> String {
        let text = match self.strips {
            true => text.trim_end().to_string(),
            false => text,
        };
        if self.typeset.is_empty() {
            return text;
        }
        let ascii = |c: char| match fold::plain(c) {
            Some(plain) if self.typeset.contains(&c) => plain.to_string(),
            _ => c.to_string(),
        };
        text.chars().map(ascii).collect()
    }

    /// The terminator of the line replaced, else of the line above, else of the region's first line, else the usual one.
    fn eol(&self, row: Option<usize>) -> &'a str {
        let above = self.hit.first().checked_sub(1);
        let candidates = [
            row.map(|row| self.page.lines[row].eol),
            self.out.last().map(|(_, eol)| *eol),
            self.page.lines.get(self.hit.first()).map(|line| line.eol),
            above.map(|row| self.page.lines[row].eol),
        ];
        candidates
            .into_iter()
            .flatten()
            .find(|eol| !eol.is_empty())
            .unwrap_or_else(|| self.page.usual_eol())
    }

    fn finish(mut self) -> Patch {
        let end = self.hit.end();
        if self.cursor < end && self.last != Last::Dropped {
            self.copy(self.cursor..end);
        }
        let open =
            end > 0 && end == self.page.lines.len() && self.page.lines[end - 1].eol.is_empty();
        let count = self.out.len();
        let usual = self.eol(None);
        for (n, (_, eol)) in self.out.iter_mut().enumerate() {
            let last = n + 1 == count;
            if open && last {
                *eol = "";
            } else if eol.is_empty() {
                *eol = usual;
            }
        }
        let at = match self.page.lines.get(self.hit.first()) {
            Some(line) => line.at,
            None => self.page.text.len(),
        };
        Patch {
            at,
            end: if end > self.hit.first() {
                self.page.lines[end - 1].end()
            } else {
                at
            },
            text: self
                .out
                .iter()
                .flat_map(|(text, eol)| [text, *eol])
                .collect(),
        }
    }
}

fn has_marker(pair: &Pair, hit: &Hit) -> bool {
    hit.rows
        .iter()
        .zip(&pair.search)
        .any(|(row, line)| row.is_empty() && elide::is_marker(line) && !fold::is_blank(line))
}

fn in_file_terms(page: &Page, pair: &Pair, hit: &Hit) -> Vec<String> {
    let line = |(row, line): (&std::ops::Range<usize>, &String)| {
        if row.len() != 1 || fold::is_blank(line) {
            return line.clone();
        }
        let there = fold::indent(page.lines[row.start].text);
        format!("{there}{}", line.trim_start())
    };
    hit.rows.iter().zip(&pair.search).map(line).collect()
}

/// The replacement as it is, but for lines copied from the search with an indentation that was a slip there.
fn with_copies_level(pair: &Pair, search: &[String]) -> Vec<String> {
    let moved: Vec<(&String, &String)> = pair
        .search
        .iter()
        .zip(search)
        .filter(|(quoted, level)| quoted != level)
        .collect();
    let level = |line: &String| {
        let copy = moved.iter().find(|(quoted, _)| *quoted == line);
        copy.map_or(line, |(_, level)| level).clone()
    };
    pair.replace.iter().map(level).collect()
}

fn quoted(pair: &Pair) -> Vec<String> {
    let indent = |line: &String| fold::indent(line).to_string();
    pair.search.iter().map(indent).collect()
}

fn adds_trailing(page: &Page, pair: &Pair, hit: &Hit) -> bool {
    hit.rows.iter().zip(&pair.search).any(|(row, line)| {
        row.len() == 1
            && !fold::is_blank(line)
            && fold::trailing(line).len() > fold::trailing(page.lines[row.start].text).len()
    })
}

fn typeset(page: &Page, pair: &Pair, hit: &Hit) -> Vec<char> {
    let noisy = |(row, line): &(&std::ops::Range<usize>, &String)| {
        row.len() == 1 && !line.is_ascii() && line.trim() != page.lines[row.start].text.trim()
    };
    let mut all: Vec<char> = hit
        .rows
        .iter()
        .zip(&pair.search)
        .filter(noisy)
        .flat_map(|(_, line)| line.chars())
        .filter(|c| fold::plain(*c).is_some())
        .collect();
    all.sort_unstable();
    all.dedup();
    all.retain(|c| !page.text.contains(*c));
    all
}

/// `new` with its tokens at either end that stand in `search` too taken from `file`. Nothing where the two old lines do
/// not have the same number of tokens.
fn woven(search: &str, file: &str, new: &str) -> Option<String> {
    let (old, kept, fresh) = (
        words::tokens(search),
        words::tokens(file),
        words::tokens(new),
    );
    if old.len() != kept.len() {
        return None;
    }
    let room = old.len().min(fresh.len());
    let pairs = old.iter().zip(&fresh);
    let ahead = pairs.take_while(|(a, b)| a.text == b.text).count();
    let pairs = old.iter().rev().zip(fresh.iter().rev());
    let behind = pairs.take_while(|(a, b)| a.text == b.text).count();
    let behind = behind.min(room - ahead);
    let head = ahead.checked_sub(1).map_or(0, |n| kept[n].end());
    let tail = kept
        .get(kept.len() - behind)
        .map_or(file.len(), |token| token.at);
    let from = ahead.checked_sub(1).map_or(0, |n| fresh[n].end());
    let to = fresh
        .get(fresh.len() - behind)
        .map_or(new.len(), |token| token.at);
    Some(format!(
        "{}{}{}",
        &file[..head],
        &new[from..to],
        &file[tail..]
    ))
}

/// Puts the replacement in the place of a piece of a line or of lines, byte for byte but for terminators.
pub(super) fn piece(page: &Page, pair: &Pair, cut: &Cut) -> Patch {
    let mut lines = pair.replace.clone();
    if pair.replace_closed && !pair.closed {
        lines.push(String::new());
    }
    let tall = cut.last - cut.first;
    let shared = |n: &usize| pair.search.get(*n) == lines.get(*n);
    let ahead = (0..lines.len()).take_while(shared).count();
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        text.push_str(line);
        if n + 1 < lines.len() {
            let below = lines.len() - 1 - n;
            let row = if n < ahead {
                n
            } else {
                tall.saturating_sub(below)
            };
            text.push_str(eol_near(page, cut.first + row.min(tall)));
        }
    }
    let (first, last) = (&page.lines[cut.first], &page.lines[cut.last]);
    let whole = cut.start == first.at && cut.end == last.at + last.text.len();
    Patch {
        at: cut.start,
        // Lines replaced by nothing take their terminator with them.
        end: if whole && lines.is_empty() {
            last.end()
        } else {
            cut.end
        },
        text,
    }
}

fn eol_near<'a>(page: &Page<'a>, row: usize) -> &'a str {
    let here = page.lines[row].eol;
    let above = row.checked_sub(1).map_or("", |row| page.lines[row].eol);
    [here, above]
        .into_iter()
        .find(|eol| !eol.is_empty())
        .unwrap_or_else(|| page.usual_eol())
}
