//! A search whose middle is left out: `...`, `// ... existing code ...`, in the same order on both sides.

use super::fold::{self, Drift};
use super::locate::{self, Choice, Hit, Place};
use super::page::Page;
use super::pair::Pair;

/// Words that say "the code that is there", in the markers models write.
const WORDS: [&str; 14] = [
    "existing",
    "rest",
    "unchanged",
    "same",
    "remaining",
    "omitted",
    "other",
    "code",
    "of",
    "the",
    "lines",
    "as",
    "before",
    "file",
];
/// How many places one piece may have before it says nothing about where it is.
const MOST_PLACES: usize = 500;

/// True for a line that stands for lines left out.
pub(super) fn is_marker(line: &str) -> bool {
    let body = line
        .trim()
        .trim_start_matches(['/', '#', '*', '-', ';', '%', '<', '!', '{', '[', '('])
        .trim_end_matches(['/', '*', '-', '>', '}', ']', ')'])
        .trim();
    let words = body.trim_matches(['.', '…', ' ']);
    let dotted = body.starts_with("...") || body.starts_with('…');
    dotted
        && words
            .split_whitespace()
            .all(|word| WORDS.contains(&word.to_lowercase().as_str()))
}

/// A line of the replacement that stands for code left out, where the search leaves out nothing and the file has no such
/// line: written as it is, it would take that code away.
pub(super) fn placeholder<'p>(page: &Page, pair: &'p Pair) -> Option<&'p str> {
    let says_so = |line: &&String| is_marker(line) && line.chars().any(char::is_alphabetic);
    if pair.search.iter().any(|line| is_marker(line)) {
        return None;
    }
    let line = pair.replace.iter().find(says_so)?.trim();
    (!page.text.contains(line)).then_some(line)
}

/// True where the search has markers that the replacement lacks.
pub(super) fn leaves_out_more(pair: &Pair) -> bool {
    let markers = |lines: &[String]| lines.iter().filter(|line| is_marker(line)).count();
    markers(&pair.search) > markers(&pair.replace)
}

/// The one chain of pieces that the search describes.
pub(super) fn chain(page: &Page, pair: &Pair) -> Choice<Hit> {
    let Some(pieces) = pieces(pair) else {
        return Choice::None;
    };
    let stands: Vec<Vec<Place>> = pieces.iter().map(|piece| stands(page, piece)).collect();
    if stands.iter().any(Vec::is_empty) {
        return Choice::None;
    }
    let tall: Vec<usize> = pieces.iter().map(|piece| piece.solid().len()).collect();
    match chains(&stands, &tall) {
        Chains::None => Choice::None,
        Chains::Many(first) => Choice::Many(first.iter().map(|p| page.solid[p.solid]).collect()),
        Chains::One(places) => Choice::One(join(page, &pieces, &places)),
    }
}

/// The search cut at its markers; nothing where the two sides do not leave out the same things.
fn pieces(pair: &Pair) -> Option<Vec<Pair>> {
    let marks = pair.search.iter().filter(|line| is_marker(line)).count();
    let kept = pair.replace.iter().filter(|line| is_marker(line)).count();
    if marks == 0 || marks != kept {
        return None;
    }
    let pieces: Vec<Pair> = pair
        .search
        .split(|line| is_marker(line))
        .map(|lines| pair.with(lines.to_vec(), Vec::new()))
        .collect();
    pieces
        .iter()
        .all(|piece| !piece.solid().is_empty())
        .then_some(pieces)
}

fn stands(page: &Page, piece: &Pair) -> Vec<Place> {
    let places = locate::places(page, piece);
    let best = places.iter().map(|place| place.drift.rank()).min();
    places
        .into_iter()
        .filter(|place| Some(place.drift.rank()) == best)
        .collect()
}

enum Chains {
    None,
    One(Vec<Place>),
    /// The places of the piece that leaves the choice open.
    Many(Vec<Place>),
}

/// Counts the ways to take the pieces in order without overlap, as far as "more than one".
fn chains(stands: &[Vec<Place>], tall: &[usize]) -> Chains {
    if let Some(crowded) = stands.iter().find(|places| places.len() > MOST_PLACES) {
        return Chains::Many(crowded.clone());
    }
    let mut ways: Vec<usize> = vec![1; stands[0].len()];
    for k in 1..stands.len() {
        ways = stands[k]
            .iter()
            .map(|place| {
                let before = stands[k - 1].iter().zip(&ways);
                before
                    .filter(|(prior, _)| prior.solid + tall[k - 1] <= place.solid)
                    .fold(0, |sum: usize, (_, n)| sum.saturating_add(*n))
            })
            .collect();
    }
    match ways.iter().fold(0, |sum: usize, n| sum.saturating_add(*n)) {
        0 => Chains::None,
        1 => Chains::One(only_chain(stands, tall)),
        _ => Chains::Many(
            stands
                .iter()
                .find(|places| places.len() > 1)
                .unwrap_or(&stands[0])
                .clone(),
        ),
    }
}

/// The chain, known to be the only one: from either end each piece has one place that fits its neighbours.
fn only_chain(stands: &[Vec<Place>], tall: &[usize]) -> Vec<Place> {
    let mut reach: Vec<Vec<Place>> = vec![stands[0].clone()];
    for k in 1..stands.len() {
        let fits = |place: &&Place| {
            reach[k - 1]
                .iter()
                .any(|prior| prior.solid + tall[k - 1] <= place.solid)
        };
        reach.push(stands[k].iter().filter(fits).copied().collect());
    }
    let mut chain: Vec<Place> = Vec::with_capacity(stands.len());
    for k in (0..stands.len()).rev() {
        let limit = chain.last().map_or(usize::MAX, |next| next.solid);
        let place = reach[k]
            .iter()
            .rfind(|place| place.solid + tall[k] <= limit);
        chain.extend(place);
    }
    chain.reverse();
    chain
}

fn join(page: &Page, pieces: &[Pair], places: &[Place]) -> Hit {
    let mut rows = Vec::new();
    let mut drift = Drift::NONE;
    for (piece, place) in pieces.iter().zip(places) {
        let hit = locate::take(page, piece, *place);
        if let Some(end) = rows.last().map(|row: &std::ops::Range<usize>| row.end) {
            rows.push(end..hit.first().max(end));
        }
        rows.extend(hit.rows);
        drift = drift | hit.drift;
    }
    Hit { rows, drift }
}

/// The lines with each marker made the same on both sides, so that the two line up whatever their words.
pub(super) fn seal(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .map(|line| match is_marker(line) && !fold::is_blank(line) {
            true => "\u{0}...".to_string(),
            false => line.clone(),
        })
        .collect()
}
