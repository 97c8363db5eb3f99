//! What a search's indentation says about the file's, so that new lines come in at the right depth.

use std::borrow::Cow;

use similar::{Algorithm, DiffOp};

use super::fold;
use super::page::Page;

/// A solid search line and the file line it stands for, blanks in front only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Depth<'a> {
    pub(super) search: &'a str,
    pub(super) file: &'a str,
}

impl Lost {
    fn of(depth: &Depth) -> Lost {
        Lost {
            from: depth.search.to_string(),
            to: depth.file.to_string(),
        }
    }
}

impl Depth<'_> {
    fn is_level(&self) -> bool {
        self.search == self.file
    }

    /// Off by one column at most.
    fn is_nearly_level(&self) -> bool {
        let (short, long) = match self.search.len() < self.file.len() {
            true => (self.search, self.file),
            false => (self.file, self.search),
        };
        long.starts_with(short) && long.len() - short.len() <= 1
    }
}

/// How the replacement's indentation becomes the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    /// It already is.
    None,
    /// Only the first line lost it.
    First(Lost),
    /// Every line, in the same way; the first, cut out of the middle of a line, in its own.
    All(Map, Option<Lost>),
}

/// The indentation that a first line has, and the one it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    from: String,
    to: String,
}

/// One unit for another, then a constant prefix more or less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    unit: Unit,
    prefix: Prefix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Same,
    /// So many spaces of the search are a tab of the file.
    ToTab(usize),
    /// A tab of the search is so many spaces of the file.
    FromTab(usize),
    /// So many spaces of the search are so many of the file; what is left over stays.
    Scaled(usize, usize),
    /// Every width in this proportion.
    Ratio(usize, usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Prefix {
    More(String),
    Less(String),
}

/// The shift that explains every pair of depths, or nothing where there is none and the new lines cannot tell either.
pub(super) fn fit(
    page: &Page,
    depths: &[Depth],
    search: &[String],
    replace: &[String],
) -> Option<Shift> {
    if depths.iter().all(Depth::is_level) || replace.iter().all(|line| fold::is_blank(line)) {
        return Some(Shift::None);
    }
    if settled_by_context(depths, search, replace) {
        return Some(Shift::None);
    }
    if let Some(first) = first_only(depths, search, replace) {
        return Some(first);
    }
    if let Some(map) = find_map(page, depths, search, replace) {
        return Some(Shift::All(map, None));
    }
    if let Some(shift) = first_apart(page, depths, search, replace) {
        return Some(shift);
    }
    is_at_home(depths).then_some(Shift::None)
}

/// True where the lines that both sides share have the file's indentation in the replacement: then it was written right.
fn settled_by_context(depths: &[Depth], search: &[String], replace: &[String]) -> bool {
    let solid: Vec<&str> = search
        .iter()
        .map(String::as_str)
        .filter(|line| !fold::is_blank(line))
        .collect();
    let ours: Vec<&str> = solid.iter().map(|line| line.trim()).collect();
    let theirs: Vec<&str> = replace.iter().map(|line| line.trim()).collect();
    let (mut right, mut copied) = (0, 0);
    for op in similar::capture_diff_slices(Algorithm::Myers, &ours, &theirs) {
        let DiffOp::Equal {
            old_index,
            new_index,
            len,
        } = op
        else {
            continue;
        };
        for k in 0..len {
            let Some(depth) = depths.get(old_index + k).filter(|depth| !depth.is_level()) else {
                continue;
            };
            let here = fold::indent(&replace[new_index + k]);
            right += usize::from(here == depth.file);
            copied += usize::from(here == depth.search);
        }
    }
    right > 0 && copied == 0
}

/// A search cut out of the middle of a line: the first line lost its indentation, all others have theirs.
fn first_only(depths: &[Depth], search: &[String], replace: &[String]) -> Option<Shift> {
    let (first, rest) = depths.split_first()?;
    let lost = first.search.is_empty() && !first.is_level() && rest.iter().all(Depth::is_level);
    let alone =
        rest.is_empty() && !(first.search.is_empty() && stands_deeper(first, search, replace));
    (lost && !alone).then(|| Shift::First(Lost::of(first)))
}

/// A first line that lost its indentation on top of a shift of all others.
fn first_apart(
    page: &Page,
    depths: &[Depth],
    search: &[String],
    replace: &[String],
) -> Option<Shift> {
    let (first, rest) = depths.split_first()?;
    let begun = replace.iter().position(|line| !fold::is_blank(line))?;
    let lost = first.file.len() > first.search.len() && first.file.ends_with(first.search);
    let same = lost && fold::indent(&replace[begun]) == first.search;
    let map = find_map(page, rest, search, &replace[begun + 1..])?;
    (same && rest.len() > 1).then(|| Shift::All(map, Some(Lost::of(first))))
}

/// With one search line there is nothing to compare: its followers keep their place if they would fit below the file's
/// line as they stand, and would not if they were moved.
fn stands_deeper(first: &Depth, search: &[String], replace: &[String]) -> bool {
    let opens = |line: &String| line.trim_end().ends_with(['{', '(', '[', ':', '>']);
    let mut followers = replace
        .iter()
        .filter(|line| !fold::is_blank(line))
        .skip(1)
        .peekable();
    let opened = search.iter().chain(replace.first()).any(opens);
    followers.peek().is_some()
        && !opened
        && followers.all(|line| fold::indent(line).starts_with(first.file))
}

/// Most search lines were level, or all as good as level: the others are slips, and the replacement goes in as it is.
fn is_at_home(depths: &[Depth]) -> bool {
    let level = depths.iter().filter(|depth| depth.is_level()).count();
    level * 2 >= depths.len() || depths.iter().all(Depth::is_nearly_level)
}

/// Steps of indentation that are taken for one another.
const STEPS: [(usize, usize); 10] = [
    (2, 4),
    (4, 2),
    (4, 8),
    (8, 4),
    (2, 8),
    (8, 2),
    (3, 4),
    (4, 3),
    (2, 3),
    (3, 2),
];
const RATIOS: [(usize, usize); 4] = [(1, 2), (2, 1), (1, 4), (4, 1)];

/// The map that holds for every pair and can be applied to every new line; a constant prefix before anything else.
fn find_map(page: &Page, depths: &[Depth], search: &[String], replace: &[String]) -> Option<Map> {
    let mut units = vec![Unit::Same];
    units.extend((1..=8).map(Unit::ToTab));
    units.extend((1..=8).map(Unit::FromTab));
    units.extend(STEPS.map(|(from, to)| Unit::Scaled(from, to)));
    units.extend(RATIOS.map(|(from, to)| Unit::Ratio(from, to)));
    let mut maps: Vec<Map> = units
        .iter()
        .filter_map(|unit| consistent(*unit, depths))
        .filter(|map| map.fits(replace))
        .collect();
    maps.sort_by_key(|map| !map.is_one_step());
    let map = maps.first()?;
    let rival = maps.iter().find(|other| {
        matches!(other.unit, Unit::Scaled(..)) && other.is_one_step() && other.unit != map.unit
    });
    if let Some(Map {
        unit: Unit::Scaled(from, to),
        ..
    }) = rival
        && map.unit == Unit::Same
        && step(search.iter().chain(replace).map(String::as_str)) == Some(*from)
        && step(page.lines.iter().map(|line| line.text)) == Some(*to)
    {
        return rival.cloned();
    }
    Some(without_mixture(map, depths, replace))
}

/// The step by which lines are usually indented deeper than the one above, in spaces.
fn step<'t>(lines: impl Iterator<Item = &'t str>) -> Option<usize> {
    let mut counts = [0usize; 9];
    let mut above = None;
    for line in lines.filter(|line| !fold::is_blank(line)) {
        let here = fold::indent(line);
        if here.contains('\t') {
            return None;
        }
        let deeper = above.and_then(|above| here.len().checked_sub(above));
        if let Some(n @ 1..=8) = deeper {
            counts[n] += 1;
        }
        above = Some(here.len());
    }
    let most = counts.iter().copied().max().filter(|n| *n > 0)?;
    counts.iter().position(|n| *n == most)
}

/// The map with this unit that holds for every pair.
fn consistent(unit: Unit, depths: &[Depth]) -> Option<Map> {
    let first = depths.first()?;
    let map = Map {
        unit,
        prefix: Prefix::between(&unit.convert(first.search), first.file)?,
    };
    // A proportion and a prefix together would explain any two depths.
    let scaled = matches!(unit, Unit::Scaled(..) | Unit::Ratio(..));
    if scaled && map.prefix != Prefix::More(String::new()) {
        return None;
    }
    depths
        .iter()
        .all(|depth| map.apply(depth.search).as_deref() == Some(depth.file))
        .then_some(map)
}

/// Where the file is indented with tabs and the new lines with spaces, a constant prefix would mix the two; the smallest
/// step of the new lines is then one tab.
fn without_mixture(map: &Map, depths: &[Depth], replace: &[String]) -> Map {
    let tabbed = matches!(&map.prefix, Prefix::More(more) if more.contains('\t'));
    let step = replace
        .iter()
        .map(|line| fold::indent(line))
        .filter(|indent| !indent.is_empty() && indent.chars().all(|c| c == ' '))
        .map(str::len)
        .min();
    match step {
        Some(step) if tabbed && map.unit == Unit::Same => {
            consistent(Unit::ToTab(step), depths).unwrap_or_else(|| map.clone())
        }
        _ => map.clone(),
    }
}

impl Map {
    fn fits(&self, replace: &[String]) -> bool {
        let mut solid = replace.iter().filter(|line| !fold::is_blank(line));
        solid.all(|line| self.apply(fold::indent(line)).is_some())
    }

    fn is_one_step(&self) -> bool {
        self.unit == Unit::Same || self.prefix == Prefix::More(String::new())
    }

    fn apply(&self, indent: &str) -> Option<String> {
        let here = self.unit.convert(indent);
        match &self.prefix {
            Prefix::More(more) => Some(format!("{more}{here}")),
            Prefix::Less(less) => here.strip_prefix(less.as_str()).map(str::to_string),
        }
    }
}

impl Prefix {
    fn between(from: &str, to: &str) -> Option<Prefix> {
        if let Some(more) = to.strip_suffix(from) {
            return Some(Prefix::More(more.to_string()));
        }
        from.strip_suffix(to)
            .map(|less| Prefix::Less(less.to_string()))
    }
}

impl Unit {
    fn convert(self, indent: &str) -> Cow<'_, str> {
        let spaces = indent.chars().take_while(|c| *c == ' ').count();
        match self {
            Unit::Same => Cow::Borrowed(indent),
            Unit::ToTab(n) => Cow::Owned(format!(
                "{}{}",
                "\t".repeat(spaces / n),
                &indent[spaces - spaces % n..]
            )),
            Unit::FromTab(n) => Cow::Owned(indent.replace('\t', &" ".repeat(n))),
            Unit::Scaled(from, to) => Cow::Owned(format!(
                "{}{}",
                " ".repeat(spaces / from * to),
                &indent[spaces - spaces % from..]
            )),
            Unit::Ratio(from, to) => Cow::Owned(format!(
                "{}{}",
                " ".repeat(spaces * to / from),
                &indent[spaces..]
            )),
        }
    }
}

impl Shift {
    /// The replacement in the file's terms.
    pub(super) fn apply(&self, replace: &[String]) -> Vec<String> {
        let first = replace.iter().position(|line| !fold::is_blank(line));
        replace
            .iter()
            .enumerate()
            .map(|(j, line)| self.apply_line(line, Some(j) == first))
            .collect()
    }

    fn apply_line(&self, line: &str, is_first: bool) -> String {
        let here = fold::indent(line);
        let body = &line[here.len()..];
        match self {
            _ if body.is_empty() => line.to_string(),
            Shift::First(lost) | Shift::All(_, Some(lost)) if is_first && here == lost.from => {
                format!("{}{body}", lost.to)
            }
            Shift::All(map, _) => match map.apply(here) {
                Some(there) => format!("{there}{body}"),
                None => line.to_string(),
            },
            Shift::None | Shift::First(_) => line.to_string(),
        }
    }
}

/// `4 spaces`, `1 tab`, `no indentation`.
pub(super) fn name(indent: &str) -> String {
    let tabs = indent.chars().filter(|c| *c == '\t').count();
    let spaces = indent.chars().filter(|c| *c == ' ').count();
    let count = |n: usize, unit: &str| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    match (tabs, spaces) {
        _ if tabs + spaces < indent.chars().count() => "other blanks".to_string(),
        (0, 0) => "no indentation".to_string(),
        (0, n) => count(n, "space"),
        (n, 0) => count(n, "tab"),
        (t, s) => format!("{} and {}", count(t, "tab"), count(s, "space")),
    }
}
