//! An outline as text: the most referenced definitions that a budget has room for, with what they stand in, file by file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};

use super::{
    language::Kind,
    reading,
    reading::Skipped,
    survey::{File, Spot, Survey},
};
use crate::conversation::{shortened, shown_line};

/// Characters of one definition.
const HEAD: usize = 240;
/// Lines that one may go over.
const HEAD_LINES: usize = 12;
/// Bytes that are kept for what is said at the end.
const FOOT: usize = 300;
/// Definitions that did not fit after which nothing else is tried.
const TRIES: usize = 200;

/// Bytes of a definition.
const SHORTEST: usize = 8;

/// Which part of a survey is shown.
pub(super) struct Part<'a> {
    /// Below this path, relative to the root; empty for all of it.
    pub(super) below: &'a str,
    /// Bytes that there are for it.
    pub(super) budget: usize,
}

/// The outline of `part`, paths written by `show`.
pub(super) fn page(survey: &Survey, part: &Part<'_>, show: impl Fn(&Path) -> String) -> String {
    let inside = |file: &&File| is_below(&file.name, part.below);
    let files: Vec<&File> = survey.files.iter().filter(inside).collect();
    let mut chosen = Chosen::new(survey, part.budget.saturating_sub(FOOT), &show);
    chosen.fill(&files);
    let mut text = chosen.written(&files);
    text += &foot(&files, survey, chosen.count());
    text
}

fn is_below(name: &str, below: &str) -> bool {
    below.is_empty()
        || name
            .strip_prefix(below)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What goes onto the page.
struct Chosen<'a, F> {
    root: &'a Path,
    left: usize,
    show: F,
    /// Of each file that is on it: how it is written, its text, and the definitions by number.
    files: BTreeMap<usize, Shown>,
}

struct Shown {
    title: String,
    heads: Vec<String>,
    chosen: BTreeSet<usize>,
}

impl<'a, F: Fn(&Path) -> String> Chosen<'a, F> {
    fn new(survey: &'a Survey, budget: usize, show: F) -> Self {
        Self {
            root: &survey.root,
            left: budget,
            show,
            files: BTreeMap::new(),
        }
    }

    /// The most referenced first; among those that nobody refers to, the outer ones of the files that are most.
    fn fill(&mut self, files: &[&File]) {
        let mut all: Vec<(usize, usize)> = files
            .iter()
            .enumerate()
            .flat_map(|(file, found)| (0..found.spots.len()).map(move |spot| (file, spot)))
            .filter(|(file, spot)| files[*file].spots[*spot].kind != Kind::Group)
            .collect();
        let order = |a: &(usize, usize), b: &(usize, usize)| {
            let (left, right) = (&files[a.0].spots[a.1], &files[b.0].spots[b.1]);
            let by_score = right.score.total_cmp(&left.score);
            let by_depth = || left.depth.cmp(&right.depth);
            let by_file = || files[b.0].rank.total_cmp(&files[a.0].rank);
            by_score
                .then_with(by_depth)
                .then_with(by_file)
                .then(a.cmp(b))
        };
        // No line is shorter: what is beyond this can never be reached.
        let reachable = self.left / SHORTEST + TRIES;
        if all.len() > reachable {
            all.select_nth_unstable_by(reachable, order);
            all.truncate(reachable);
        }
        all.sort_by(order);
        let mut misses = 0;
        for (file, spot) in all {
            if misses > TRIES {
                break;
            }
            misses = if self.take(file, spot, files[file]) {
                0
            } else {
                misses + 1
            };
        }
    }

    /// Takes a definition with those that it stands in, if there is room.
    fn take(&mut self, at: usize, spot: usize, file: &File) -> bool {
        let (root, show) = (self.root, &self.show);
        let shown = self
            .files
            .entry(at)
            .or_insert_with(|| Shown::of(file, root, show));
        let mut wanted = vec![spot];
        wanted.extend(around(&file.spots, spot));
        wanted.retain(|spot| !shown.chosen.contains(spot));
        let title = if shown.chosen.is_empty() {
            shown.title.len() + 2
        } else {
            0
        };
        let lines: usize = wanted.iter().map(|spot| shown.heads[*spot].len() + 1).sum();
        if title + lines > self.left {
            return false;
        }
        self.left -= title + lines;
        shown.chosen.extend(wanted);
        true
    }

    fn count(&self) -> usize {
        self.files.values().map(|shown| shown.chosen.len()).sum()
    }

    fn written(&self, files: &[&File]) -> String {
        let mut order: Vec<(&usize, &Shown)> = self
            .files
            .iter()
            .filter(|(_, shown)| !shown.chosen.is_empty())
            .collect();
        let weight = |at: usize, shown: &Shown| -> f32 {
            let scores = shown.chosen.iter().map(|spot| files[at].spots[*spot].score);
            scores.fold(0.0, f32::max)
        };
        order.sort_by(|a, b| {
            weight(*b.0, b.1)
                .total_cmp(&weight(*a.0, a.1))
                .then(a.0.cmp(b.0))
        });
        let mut text = String::new();
        for (_, shown) in order {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{}", shown.title);
            for spot in &shown.chosen {
                let _ = writeln!(text, "{}", shown.heads[*spot]);
            }
            text.push('\n');
        }
        text
    }
}

impl Shown {
    fn of(file: &File, root: &Path, show: impl Fn(&Path) -> String) -> Self {
        let path = root.join(&file.name);
        // What changed since the survey shows other lines; the next call sees it as it is.
        let text = reading::bytes(&path).unwrap_or_default();
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let width = file.lines.max(1).ilog10() as usize + 1;
        let head = |spot: &Spot| {
            let indent = "  ".repeat(usize::from(spot.depth));
            format!("{:>width$}: {indent}{}", spot.line, head(&lines, spot.line))
        };
        Self {
            title: format!("{} ({} lines)", show(&path), file.lines),
            heads: file.spots.iter().map(head).collect(),
            chosen: BTreeSet::new(),
        }
    }
}

/// The definitions around the one at `spot`.
fn around(spots: &[Spot], spot: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut depth = spots[spot].depth;
    for at in (0..spot).rev() {
        if depth == 0 {
            break;
        }
        if spots[at].depth < depth {
            depth = spots[at].depth;
            found.push(at);
        }
    }
    found
}

/// The head of what begins at `line`: up to its body, on one line.
pub(super) fn head(lines: &[&[u8]], line: u32) -> String {
    let from = (line as usize).saturating_sub(1);
    let mut head = String::new();
    let mut open = 0i32;
    for line in lines.iter().skip(from).take(HEAD_LINES) {
        let line = String::from_utf8_lossy(&line[..line.len().min(4 * HEAD)]);
        let tight = head.ends_with('(') || line.trim_start().starts_with(')');
        if !head.is_empty() && !tight {
            head.push(' ');
        }
        head += line.trim();
        open += line.chars().fold(0, |open, c| {
            open + i32::from(c == '(') - i32::from(c == ')')
        });
        if open <= 0 || head.len() > HEAD {
            break;
        }
    }
    let head = before_body(&head)
        .trim_end()
        .trim_end_matches([':', ';', '=']);
    shortened(&shown_line(&head.trim_end().replace(",)", ")")), HEAD)
}

/// What stands before the first `{` outside of brackets.
fn before_body(head: &str) -> &str {
    let mut open = 0;
    for (at, c) in head.char_indices() {
        match c {
            '(' | '[' | '<' => open += 1,
            ')' | ']' => open -= 1,
            // Not that of `->` and `=>`.
            '>' if !head[..at].ends_with(['-', '=']) => open -= 1,
            '{' if open <= 0 => return &head[..at],
            _ => {}
        }
    }
    head
}

fn foot(files: &[&File], survey: &Survey, shown: usize) -> String {
    let all: usize = files.iter().map(|file| file.spots.len()).sum();
    let with = files.iter().filter(|file| !file.spots.is_empty()).count();
    let mut text = match (all, all.saturating_sub(shown)) {
        (0, _) => "no definitions found\n".to_owned(),
        (_, 0) => String::new(),
        (_, rest) => format!(
            "[{rest} of {all} definitions in {with} files are not shown, the least referenced ones; a deeper `path` or a larger `budget` shows them]\n"
        ),
    };
    let mut reasons: BTreeMap<Skipped, usize> = BTreeMap::new();
    for why in files.iter().filter_map(|file| file.skipped) {
        *reasons.entry(why).or_default() += 1;
    }
    let mut left_out: Vec<String> = reasons
        .iter()
        .map(|(why, count)| format!("{count} {}", why.as_str()))
        .collect();
    if survey.late > 0 {
        left_out.push(format!("{} not looked at for want of time", survey.late));
    }
    if !left_out.is_empty() {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "[files left out: {}]", left_out.join(", "));
    }
    text
}
