//! What a search's indentation says about the file's, so that new lines come in at the right depth.

use std::borrow::Cow;
use std::ops::Range;

use similar::DiffOp;

use super::diff::operations;
use super::fold;
use super::page::Page;
use super::steps::{self, Habits, Step};

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
    /// It already is, but for the lines that stand instead of one quoted with a slip, and repeat the slip.
    Slips,
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
    place: &Range<usize>,
    depths: &[Depth],
    search: &[String],
    replace: &[String],
) -> Option<Shift> {
    let new = New {
        page,
        place,
        search,
        replace,
    };
    if replace.iter().all(|line| fold::is_blank(line)) {
        return Some(Shift::None);
    }
    if depths.iter().all(Depth::is_level) {
        return Some(level(&new, depths));
    }
    if settled_by_context(depths, search, replace) {
        return Some(Shift::None);
    }
    if let Some(first) = first_only(depths, search, replace) {
        return Some(first);
    }
    match likeliest(&new, &maps(&new, depths)) {
        Likeliest::One(map) => return Some(Shift::All(map, None)),
        Likeliest::Tied => return None,
        Likeliest::None => {}
    }
    if let Some(shift) = first_apart(&new, depths) {
        return Some(shift);
    }
    is_at_home(depths).then_some(Shift::Slips)
}

/// The two sides of a pair, and where in the file they belong.
struct New<'a> {
    page: &'a Page<'a>,
    place: &'a Range<usize>,
    search: &'a [String],
    replace: &'a [String],
}

/// A pair that stands as it is stays as it is. Only its new lines can be of another step: where they are off the file's
/// or say what opens them, the file would nowhere go on like that, and would with its own step.
fn level(new: &New, depths: &[Depth]) -> Shift {
    let file = steps::of_file(new.page, new.place);
    let off = |step: Step| !new.replace.iter().all(|line| step.divides(line));
    if !file.is_some_and(off) && !steps::opens(new.replace) {
        return Shift::None;
    }
    match likeliest(new, &learnt(new, depths)) {
        Likeliest::One(map) if !map.is_idle() && is_like_home(new, &map) => Shift::All(map, None),
        _ => Shift::None,
    }
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
    for op in operations(&ours, &theirs, None) {
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
fn first_apart(new: &New, depths: &[Depth]) -> Option<Shift> {
    let (first, rest) = depths.split_first()?;
    let begun = new.replace.iter().position(|line| !fold::is_blank(line))?;
    let lost = first.file.len() > first.search.len() && first.file.ends_with(first.search);
    let same = lost && fold::indent(&new.replace[begun]) == first.search;
    let below = New {
        replace: &new.replace[begun + 1..],
        ..*new
    };
    match likeliest(&below, &maps(&below, rest)) {
        Likeliest::One(map) if same && rest.len() > 1 => {
            Some(Shift::All(map, Some(Lost::of(first))))
        }
        _ => None,
    }
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

/// The maps that hold for every pair and can be applied to every new line: a constant prefix, the step of the pair for
/// the step of the file; where neither does, the first of the usual ones.
fn maps(new: &New, depths: &[Depth]) -> Vec<Map> {
    let learnt = learnt(new, depths);
    if !learnt.is_empty() {
        return learnt;
    }
    let tabs = (1..=8).map(Unit::ToTab).chain((1..=8).map(Unit::FromTab));
    let scaled = STEPS.map(|(from, to)| Unit::Scaled(from, to));
    let ratios = RATIOS.map(|(from, to)| Unit::Ratio(from, to));
    let mut maps: Vec<Map> = tabs
        .chain(scaled)
        .chain(ratios)
        .filter_map(|unit| consistent(unit, depths))
        // A proportion that is not learnt and a prefix together would explain any two depths.
        .filter(|map| !map.unit.is_scale() || map.is_one_step())
        .filter(|map| map.fits(new.replace))
        .collect();
    maps.sort_by_key(|map| !map.is_one_step());
    maps.truncate(1);
    maps
}

/// The maps that what is known of the steps allows. The pair's own may be a part of the one it shows.
fn learnt(new: &New, depths: &[Depth]) -> Vec<Map> {
    let pair = new.search.iter().chain(new.replace).map(String::as_str);
    let own = steps::usual(pair).map_or(Vec::new(), Step::parts);
    let file = steps::of_file(new.page, new.place);
    let between = |from: &Step| file.map_or(Vec::new(), |to| Unit::between(*from, to));
    std::iter::once(Unit::Same)
        .chain(own.iter().flat_map(between))
        .filter_map(|unit| consistent(unit, depths))
        .filter(|map| map.fits(new.replace))
        .collect()
}

enum Likeliest {
    None,
    One(Map),
    /// Equally likely maps that would write different lines.
    Tied,
}

/// The map whose lines are most at home in the file.
fn likeliest(new: &New, maps: &[Map]) -> Likeliest {
    let Some(first) = maps.first() else {
        return Likeliest::None;
    };
    let one = first.written(new);
    if maps.iter().all(|map| map.written(new) == one) {
        return Likeliest::One(first.clone());
    }
    let habits = Habits::of(new.page, new.place);
    let strays = |map: &Map| habits.strays(&map.written(new));
    let fewest = maps.iter().map(strays).min();
    let mut best = maps.iter().filter(|map| Some(strays(map)) == fewest);
    if fewest > Some(0) {
        return Likeliest::Tied;
    }
    let likely = best.next().unwrap_or(first);
    match best.all(|map| map.written(new) == likely.written(new)) {
        true => Likeliest::One(likely.clone()),
        false => Likeliest::Tied,
    }
}

/// True where every line goes on from the one above as lines of the file do.
fn is_like_home(new: &New, map: &Map) -> bool {
    Habits::of(new.page, new.place).strays(&map.written(new)) == 0
}

/// The map with this unit that holds for every pair.
fn consistent(unit: Unit, depths: &[Depth]) -> Option<Map> {
    let first = depths.first()?;
    let map = Map {
        unit,
        prefix: Prefix::between(&unit.convert(first.search), first.file)?,
    };
    depths
        .iter()
        .all(|depth| map.apply(depth.search).as_deref() == Some(depth.file))
        .then_some(map)
}

impl Map {
    fn fits(&self, replace: &[String]) -> bool {
        let mut solid = replace.iter().filter(|line| !fold::is_blank(line));
        solid.all(|line| self.apply(fold::indent(line)).is_some())
    }

    fn written(&self, new: &New) -> Vec<String> {
        Shift::All(self.clone(), None).apply(new.replace)
    }

    fn is_one_step(&self) -> bool {
        self.prefix == Prefix::More(String::new())
    }

    fn is_idle(&self) -> bool {
        self.unit == Unit::Same && self.is_one_step()
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
    /// The units that make one step of the other; they differ in what becomes of a remainder.
    fn between(from: Step, to: Step) -> Vec<Unit> {
        match (from, to) {
            _ if from == to => Vec::new(),
            (Step::Spaces(from), Step::Spaces(to)) => {
                vec![Unit::Scaled(from, to), Unit::Ratio(from, to)]
            }
            (Step::Spaces(n), Step::Tab) => vec![Unit::ToTab(n)],
            (Step::Tab, Step::Spaces(n)) => vec![Unit::FromTab(n)],
            (Step::Tab, Step::Tab) => Vec::new(),
        }
    }

    fn is_scale(self) -> bool {
        matches!(self, Unit::Scaled(..) | Unit::Ratio(..))
    }

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
            Shift::None | Shift::Slips | Shift::First(_) => line.to_string(),
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
