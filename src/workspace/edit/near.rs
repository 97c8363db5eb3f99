//! The lines that a search which is not in the file comes nearest to; for the message only, nothing is decided by it.

use std::collections::{HashMap, HashSet};

use super::fold;
use super::likeness;
use super::page::Page;
use super::pair::Pair;

/// A span of the file that a search may have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Near {
    pub(super) first: usize,
    pub(super) last: usize,
    /// Solid search lines that stand at their place in the span.
    pub(super) agree: usize,
    /// The first line that does not: index in the search, and in the file where there is one to compare with.
    pub(super) differs: Option<(usize, Option<usize>)>,
}

/// Spans are only shown where at least this many of ten lines stand; below, single words tell more.
const FEWEST_OF_TEN: usize = 3;

/// At most three spans, nearest first.
pub(super) fn near(page: &Page, pair: &Pair) -> Vec<Near> {
    let solid = pair.solid();
    let votes = likeness::votes(page, pair);
    let most = votes.first().map_or(0, |(_, n)| *n);
    if most * 10 >= solid.len() * FEWEST_OF_TEN && most > 0 && says_enough(page, pair, &votes[0]) {
        let level = votes.iter().take_while(|(_, n)| *n == most).take(3);
        return level
            .map(|(at, _)| aligned(page, pair, &solid, *at))
            .collect();
    }
    wordwise(page, pair, &solid).into_iter().collect()
}

/// A lone bracket that stands somewhere is no place.
fn says_enough(page: &Page, pair: &Pair, (at, _): &(usize, usize)) -> bool {
    let solid = pair.solid();
    solid.iter().enumerate().any(|(k, &i)| {
        let line = &pair.search[i];
        page.keys[at + k] == fold::key(line)
            && line.chars().filter(|c| c.is_alphanumeric()).count() > 4
    })
}

fn aligned(page: &Page, pair: &Pair, solid: &[usize], at: usize) -> Near {
    let same = |k: &usize| {
        let line = page.lines[page.solid[at + k]].text;
        fold::drift(&pair.search[solid[*k]], line).is_some()
    };
    let differs = (0..solid.len()).find(|k| !same(k));
    Near {
        first: page.solid[at],
        last: page.solid[at + solid.len() - 1],
        agree: (0..solid.len()).filter(same).count(),
        differs: differs.map(|k| (solid[k], Some(page.solid[at + k]))),
    }
}

/// The span of the search's height whose words are the rarest of those both have.
fn wordwise(page: &Page, pair: &Pair, solid: &[usize]) -> Option<Near> {
    let wanted: HashSet<&str> = pair.search.iter().flat_map(|line| words(line)).collect();
    let scores = scores(page, &wanted);
    let tall = solid.len().min(page.solid.len());
    let best = windows(&scores, tall)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .filter(|(_, score)| *score > 0.0)?;
    let rows = &page.solid[best.0..best.0 + tall];
    Some(compared(page, pair, solid, rows))
}

/// For each solid line the sum of its wanted words, each the less the more lines have it.
fn scores(page: &Page, wanted: &HashSet<&str>) -> Vec<f64> {
    let mut lines: HashMap<&str, Vec<usize>> = HashMap::new();
    for (n, &i) in page.solid.iter().enumerate() {
        for word in words(page.lines[i].text).filter(|word| wanted.contains(word)) {
            let at = lines.entry(word).or_default();
            if at.last() != Some(&n) {
                at.push(n);
            }
        }
    }
    let mut scores = vec![0.0; page.solid.len()];
    for at in lines.values() {
        let weight = 1.0 / at.len() as f64;
        at.iter().for_each(|&n| scores[n] += weight);
    }
    scores
}

/// The sum over each window, at its beginning.
fn windows(scores: &[f64], tall: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
    let mut sum: f64 = scores.iter().take(tall).sum();
    (0..(scores.len() + 1).saturating_sub(tall)).map(move |at| {
        if at > 0 {
            sum += scores[at + tall - 1] - scores[at - 1];
        }
        (at, sum)
    })
}

fn compared(page: &Page, pair: &Pair, solid: &[usize], rows: &[usize]) -> Near {
    let there: HashSet<u64> = rows
        .iter()
        .map(|&i| fold::key(page.lines[i].text))
        .collect();
    let missing = |i: &&usize| !there.contains(&fold::key(&pair.search[**i]));
    let differs = solid.iter().find(missing).copied();
    Near {
        first: rows[0],
        last: rows[rows.len() - 1],
        agree: solid.len() - solid.iter().filter(missing).count(),
        differs: differs.map(|i| (i, likest(page, &pair.search[i], rows))),
    }
}

fn likest(page: &Page, search: &str, rows: &[usize]) -> Option<usize> {
    let wanted: HashSet<&str> = words(search).collect();
    let shared = |i: &usize| {
        let here: HashSet<&str> = words(page.lines[*i].text).collect();
        here.intersection(&wanted).count()
    };
    let best = rows
        .iter()
        .copied()
        .max_by_key(|i| (shared(i), std::cmp::Reverse(*i)))?;
    (shared(&best) > 0).then_some(best)
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| word.len() > 1)
}
