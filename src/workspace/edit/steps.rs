//! The steps in which a text is indented: which one is usual, and whether new lines are at home where they would stand.

use std::collections::HashSet;
use std::ops::Range;

use super::fold;
use super::page::Page;

/// What one level of indentation is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Spaces(usize),
    Tab,
}

impl Step {
    /// The steps that this one is a whole number of, itself first.
    pub(super) fn parts(self) -> Vec<Step> {
        match self {
            Step::Tab => vec![Step::Tab],
            Step::Spaces(wide) => (2..=wide)
                .rev()
                .filter(|n| wide.is_multiple_of(*n))
                .map(Step::Spaces)
                .collect(),
        }
    }

    /// True where the line is indented by a whole number of these.
    pub(super) fn divides(self, line: &str) -> bool {
        let indent = fold::indent(line);
        match self {
            Step::Tab => indent.bytes().all(|c| c == b'\t'),
            Step::Spaces(n) => indent.bytes().all(|c| c == b' ') && indent.len().is_multiple_of(n),
        }
    }
}

/// Widest step in spaces; what is deeper is a continuation line.
const WIDEST: usize = 8;
/// What the lines end with that deeper ones must follow.
const OPENERS: [char; 4] = ['{', '(', '[', ':'];
/// How many lines around a place are asked for their step before the file is.
const AROUND: usize = 100;

/// The step by which lines are usually deeper than the one above; where none is, by which they are shallower.
pub(super) fn usual<'t>(lines: impl Iterator<Item = &'t str>) -> Option<Step> {
    let indents: Vec<&str> = lines
        .filter(|line| !fold::is_blank(line))
        .map(fold::indent)
        .collect();
    let pairs = || indents.windows(2).map(|pair| (pair[0], pair[1]));
    let deeper = pairs().filter_map(|(above, here)| step(above, here));
    let shallower = pairs().filter_map(|(above, here)| step(here, above));
    most(deeper).or_else(|| most(shallower))
}

/// The step of the file near a place, or of the whole file where its surroundings are flat.
pub(super) fn of_file(page: &Page, place: &Range<usize>) -> Option<Step> {
    let from = place.start.saturating_sub(AROUND);
    let to = (place.end + AROUND).min(page.lines.len());
    let near = usual(page.lines[from..to].iter().map(|line| line.text));
    near.or_else(|| usual(page.lines.iter().map(|line| line.text)))
}

/// Other widths are no levels: one column more is the second line of a block comment.
fn step(above: &str, here: &str) -> Option<Step> {
    let more = here.strip_prefix(above)?;
    let spaces = more.bytes().all(|c| c == b' ');
    match more.len() {
        n @ (2 | 3 | 4 | WIDEST) if spaces => Some(Step::Spaces(n)),
        1 if more == "\t" => Some(Step::Tab),
        _ => None,
    }
}

/// The step that is there most often, the smallest of several.
fn most(steps: impl Iterator<Item = Step>) -> Option<Step> {
    let mut counts = [0usize; WIDEST + 1];
    for step in steps {
        match step {
            Step::Tab => counts[0] += 1,
            Step::Spaces(n) => counts[n] += 1,
        }
    }
    let top = counts.iter().copied().max().filter(|n| *n > 0)?;
    match counts.iter().position(|n| *n == top)? {
        0 => Some(Step::Tab),
        n => Some(Step::Spaces(n)),
    }
}

/// How a file goes from one line to the next, and the lines around a place in it.
pub(super) struct Habits<'a> {
    /// What a line ended with, and what the one below it had in front of the same indentation.
    seen: HashSet<(char, &'a str)>,
    /// The indentations that are open above the place, outermost first.
    open: Vec<&'a str>,
    above: Option<&'a str>,
    below: Option<&'a str>,
}

impl<'a> Habits<'a> {
    pub(super) fn of(page: &Page<'a>, place: &Range<usize>) -> Self {
        let solid: Vec<&str> = page.solid.iter().map(|&i| page.lines[i].text).collect();
        let first = page.solid.partition_point(|&i| i < place.start);
        let end = page.solid.partition_point(|&i| i < place.end);
        let seen = solid.windows(2).filter_map(|pair| deeper(pair[0], pair[1]));
        let mut open = Vec::new();
        for line in &solid[..first] {
            enter(&mut open, fold::indent(line));
        }
        Habits {
            seen: seen.collect(),
            open,
            above: first.checked_sub(1).map(|i| solid[i]),
            below: solid.get(end).copied(),
        }
    }

    /// How many of the lines, put in the place, would follow the one above as no line of the file does.
    pub(super) fn strays(&self, lines: &[String]) -> usize {
        let new = lines.iter().map(String::as_str);
        let solid = new.filter(|line| !fold::is_blank(line)).chain(self.below);
        let mut open: Vec<&str> = self.open.clone();
        let mut above = self.above;
        let mut strays = 0;
        for line in solid {
            let here = fold::indent(line);
            let at_home = match above.and_then(|above| deeper(above, line)) {
                Some((kind, "")) if !OPENERS.contains(&kind) => true,
                Some(turn) => self.seen.contains(&turn),
                None => here.is_empty() || open.contains(&here),
            };
            strays += usize::from(!at_home);
            enter(&mut open, here);
            above = Some(line);
        }
        strays
    }
}

/// True where a line that opens a block or a bracket is followed by a deeper one.
pub(super) fn opens(lines: &[String]) -> bool {
    let solid: Vec<&String> = lines.iter().filter(|line| !fold::is_blank(line)).collect();
    solid.windows(2).any(|pair| {
        pair[0].trim_end().ends_with(OPENERS)
            && fold::indent(pair[1]).len() > fold::indent(pair[0]).len()
    })
}

/// Closes what is not around a line with this indentation, and opens that.
fn enter<'t>(open: &mut Vec<&'t str>, indent: &'t str) {
    while open
        .last()
        .is_some_and(|last| last.len() >= indent.len() || !indent.starts_with(last))
    {
        open.pop();
    }
    open.push(indent);
}

/// What `above` ends with (all letters alike) and how much deeper `here` is, nothing for shallower.
fn deeper<'t>(above: &str, here: &'t str) -> Option<(char, &'t str)> {
    let more = fold::indent(here).strip_prefix(fold::indent(above))?;
    let last = above.trim_end().chars().next_back()?;
    let kind = if last.is_alphanumeric() { 'a' } else { last };
    Some((kind, more))
}
