//! A file as lines that keep their own terminators, with a loose key for each line that is not blank.

use super::fold;

/// One line: its text and the terminator that follows it (`\n`, `\r\n`, a lone `\r`, or nothing at the end of the file).
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
    pub(super) eol: &'a str,
}

impl Line<'_> {
    /// The byte after this line's terminator.
    pub(super) fn end(&self) -> usize {
        self.at + self.text.len() + self.eol.len()
    }

    pub(super) fn is_blank(&self) -> bool {
        fold::is_blank(self.text)
    }
}

/// The text of a file, never normalised: every tolerance lives in the comparison, none in the copy.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) text: &'a str,
    pub(super) lines: Vec<Line<'a>>,
    /// Indices of the lines that are not blank.
    pub(super) solid: Vec<usize>,
    /// One loose key per solid line; lines that any rung calls equal have equal keys.
    pub(super) keys: Vec<u64>,
}

impl<'a> Page<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let lines = split(text);
        let solid: Vec<usize> = (0..lines.len()).filter(|&i| !lines[i].is_blank()).collect();
        let keys = solid.iter().map(|&i| fold::key(lines[i].text)).collect();
        Page {
            text,
            lines,
            solid,
            keys,
        }
    }

    /// The terminator most lines have; `\n` for a file that has none.
    pub(super) fn usual_eol(&self) -> &'a str {
        let mut counts: [(usize, &'a str); 3] = [(0, "\n"), (0, "\r\n"), (0, "\r")];
        for line in &self.lines {
            if let Some(slot) = counts.iter_mut().find(|(_, eol)| *eol == line.eol) {
                slot.0 += 1;
            }
        }
        counts
            .iter()
            .rev()
            .max_by_key(|(n, _)| *n)
            .map_or("\n", |(_, eol)| eol)
    }

    /// The line that holds byte `at`.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.lines
            .partition_point(|line| line.at <= at)
            .saturating_sub(1)
    }
}

/// Splits at `\n` and `\r\n`; at `\r` only where the file has no `\n` at all.
pub(super) fn split(text: &str) -> Vec<Line<'_>> {
    let mac = !text.contains('\n');
    let stop = if mac { '\r' } else { '\n' };
    let mut at = 0;
    text.split_inclusive(stop)
        .map(|whole| {
            let body = strip_eol(whole, mac);
            let line = Line {
                at,
                text: body,
                eol: &whole[body.len()..],
            };
            at += whole.len();
            line
        })
        .collect()
}

fn strip_eol(whole: &str, mac: bool) -> &str {
    if mac {
        return whole.strip_suffix('\r').unwrap_or(whole);
    }
    match whole.strip_suffix('\n') {
        Some(body) => body.strip_suffix('\r').unwrap_or(body),
        None => whole,
    }
}
