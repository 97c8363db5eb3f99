//! Where whole lines of a search stand in a file, and what each place would have to be forgiven.

use std::ops::Range;

use super::fold::{self, Drift};
use super::page::Page;
use super::pair::Pair;

/// How many places are looked at before the search counts as standing everywhere.
const MOST_PLACES: usize = 20_000;
/// How many line comparisons one search may cost: keeps a thousand equal lines in fifty thousand equal ones quick.
const MOST_COMPARISONS: usize = 4_000_000;

/// A run of file lines that a search may mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index among the file's solid lines.
    pub(super) solid: usize,
    pub(super) drift: Drift,
}

/// A place taken, line by line.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    /// For each search line the file lines it stands for: one, none for a blank the file does not have, many for an
    /// elision.
    pub(super) rows: Vec<Range<usize>>,
    pub(super) drift: Drift,
}

impl Hit {
    pub(super) fn first(&self) -> usize {
        self.rows.first().map_or(0, |row| row.start)
    }

    pub(super) fn end(&self) -> usize {
        self.rows.last().map_or(0, |row| row.end)
    }
}

/// Every place where the solid lines of the search stand one after the other, blank lines aside.
pub(super) fn places(page: &Page, pair: &Pair) -> Vec<Place> {
    let solid = pair.solid();
    let keys: Vec<u64> = solid.iter().map(|&i| fold::key(&pair.search[i])).collect();
    let mut found = Vec::new();
    let mut spent = 0;
    for at in runs(&page.keys, &keys) {
        spent += keys.len();
        if found.len() >= MOST_PLACES || spent > MOST_COMPARISONS {
            break;
        }
        if let Some(drift) = drift_at(page, pair, &solid, at) {
            found.push(Place { solid: at, drift });
        }
    }
    found
}

/// Offsets at which `needle` stands in `keys`.
fn runs<'k>(keys: &'k [u64], needle: &'k [u64]) -> impl Iterator<Item = usize> + 'k {
    let windows = if needle.is_empty() {
        0
    } else {
        (keys.len() + 1).saturating_sub(needle.len())
    };
    (0..windows).filter(move |&at| keys[at..at + needle.len()] == *needle)
}

fn drift_at(page: &Page, pair: &Pair, solid: &[usize], at: usize) -> Option<Drift> {
    let mut total = Drift::NONE;
    for (k, &i) in solid.iter().enumerate() {
        let file = page.lines[page.solid[at + k]].text;
        total = total | fold::drift(&pair.search[i], file)?;
    }
    Some(total | blanks_drift(page, pair, solid, at))
}

/// What the blank lines around and between the solid ones need forgiven.
fn blanks_drift(page: &Page, pair: &Pair, solid: &[usize], at: usize) -> Drift {
    let mut total = Drift::NONE;
    for (row, search) in trace(page, pair, solid, at).iter().zip(&pair.search) {
        if !fold::is_blank(search) {
            continue;
        }
        total = total
            | match row.clone().next() {
                None => Drift::BLANK_LINES,
                Some(i) => fold::drift(search, page.lines[i].text).unwrap_or(Drift::TRAILING),
            };
    }
    for k in 1..solid.len() {
        let here = page.solid[at + k] - page.solid[at + k - 1];
        if here > solid[k] - solid[k - 1] {
            total = total | Drift::BLANK_LINES;
        }
    }
    total
}

/// Takes a place: which file lines each search line stands for.
pub(super) fn take(page: &Page, pair: &Pair, place: Place) -> Hit {
    Hit {
        rows: trace(page, pair, &pair.solid(), place.solid),
        drift: place.drift,
    }
}

fn trace(page: &Page, pair: &Pair, solid: &[usize], at: usize) -> Vec<Range<usize>> {
    let mut rows = Vec::with_capacity(pair.search.len());
    lead(page, solid[0], page.solid[at], &mut rows);
    for (k, &i) in solid.iter().enumerate() {
        let here = page.solid[at + k];
        rows.push(here..here + 1);
        let next = solid.get(k + 1).copied().unwrap_or(pair.search.len());
        let limit = match solid.get(k + 1) {
            Some(_) => page.solid[at + k + 1],
            None => blank_end(page, here + 1),
        };
        follow(here + 1, limit, next - i - 1, &mut rows);
    }
    rows
}

/// Blank search lines before the first solid one: the file's blank lines just above it, as far as there are any.
fn lead(page: &Page, wanted: usize, first: usize, rows: &mut Vec<Range<usize>>) {
    let there = (0..wanted)
        .take_while(|&n| n < first && page.lines[first - 1 - n].is_blank())
        .count();
    let start = first - there;
    rows.extend((there..wanted).map(|_| start..start));
    rows.extend((start..first).map(|i| i..i + 1));
}

/// Blank search lines after a solid one: the file's blank lines below it, then nothing.
fn follow(from: usize, limit: usize, wanted: usize, rows: &mut Vec<Range<usize>>) {
    let there = wanted.min(limit - from);
    rows.extend((from..from + there).map(|i| i..i + 1));
    rows.extend((there..wanted).map(|_| from + there..from + there));
}

fn blank_end(page: &Page, from: usize) -> usize {
    (from..page.lines.len())
        .find(|&i| !page.lines[i].is_blank())
        .unwrap_or(page.lines.len())
}

/// What a set of equal places comes to.
#[derive(Debug)]
pub(super) enum Choice<T> {
    One(T),
    /// First lines (zero-based) of the places that fit equally well.
    Many(Vec<usize>),
    None,
}

/// Picks the one place that needs least forgiven. Places on the same rung are equal, but for the one that alone has its
/// indentation right; the hint breaks what ties are left.
pub(super) fn choose(page: &Page, places: &[Place], hint: Option<usize>) -> Choice<Place> {
    let Some(best) = places.iter().map(|place| place.drift.rank()).min() else {
        return Choice::None;
    };
    let mut pool: Vec<Place> = places
        .iter()
        .copied()
        .filter(|place| place.drift.rank() == best)
        .collect();
    let level: Vec<Place> = pool
        .iter()
        .copied()
        .filter(|place| !place.drift.has(Drift::INDENT))
        .collect();
    if level.len() == 1 {
        pool = level;
    }
    if let [only] = pool[..] {
        return Choice::One(only);
    }
    let lines: Vec<usize> = pool.iter().map(|place| page.solid[place.solid]).collect();
    match nearest(&lines, hint) {
        Some(i) => Choice::One(pool[i]),
        None => Choice::Many(lines),
    }
}

/// The line that a 1-based hint clearly means: the nearest, and less than half as far as the next.
pub(super) fn nearest(lines: &[usize], hint: Option<usize>) -> Option<usize> {
    let hint = hint?.saturating_sub(1);
    let mut by_distance: Vec<(usize, usize)> = lines
        .iter()
        .enumerate()
        .map(|(i, line)| (line.abs_diff(hint), i))
        .collect();
    by_distance.sort_unstable();
    match by_distance[..] {
        [(near, i), (next, _), ..] if near * 2 < next => Some(i),
        _ => None,
    }
}
