//! Similar, not fuzzy: one misspelt word, or one reworded comment, in a block that otherwise stands in the file.
//!
//! No ratio decides. A line either differs in a way that only a slip explains, or it is another line.

use std::collections::HashMap;

use super::fold::{self, Drift};
use super::locate::{Choice, Place};
use super::page::Page;
use super::pair::Pair;
use super::words::{self, Token};

/// The fewest solid lines of a block in which a slip can be told from another block.
const FEWEST_LINES: usize = 4;

/// How many solid lines of the search stand at each offset among the file's solid lines, most first.
pub(super) fn votes(page: &Page, pair: &Pair) -> Vec<(usize, usize)> {
    let solid = pair.solid();
    let mut wanted: HashMap<u64, Vec<usize>> = HashMap::new();
    for (k, &i) in solid.iter().enumerate() {
        wanted
            .entry(fold::key(&pair.search[i]))
            .or_default()
            .push(k);
    }
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for (at, key) in page.keys.iter().enumerate() {
        for k in wanted.get(key).into_iter().flatten().take(64) {
            if let Some(offset) = at.checked_sub(*k)
                && offset + solid.len() <= page.solid.len()
            {
                *counts.entry(offset).or_default() += 1;
            }
        }
    }
    let mut votes: Vec<(usize, usize)> = counts.into_iter().collect();
    votes.sort_unstable_by_key(|&(offset, n)| (std::cmp::Reverse(n), offset));
    votes
}

/// Which solid lines of the search stand at their place when it begins at `at`.
pub(super) fn agreeing(page: &Page, pair: &Pair, at: usize) -> Vec<bool> {
    let keys = &page.keys[at..];
    let solid = pair.solid();
    let same = |(i, key): (&usize, &u64)| fold::key(&pair.search[*i]) == *key;
    solid.iter().zip(keys).map(same).collect()
}

/// The one block that the search equals but for slips, with a sentence for each slip.
pub(super) fn find(page: &Page, pair: &Pair) -> Choice<(Place, Vec<String>)> {
    let solid = pair.solid();
    if solid.len() < FEWEST_LINES {
        return Choice::None;
    }
    let votes = votes(page, pair);
    let Some(&(at, most)) = votes.first() else {
        return Choice::None;
    };
    if most * 10 < solid.len() * 6 {
        return Choice::None;
    }
    let rivals: Vec<usize> = votes
        .iter()
        .take_while(|(_, n)| n + 1 >= most)
        .map(|(at, _)| page.solid[*at])
        .collect();
    match slips(page, pair, &solid, at) {
        None => Choice::None,
        Some(_) if rivals.len() > 1 => Choice::Many(rivals),
        Some(found) => Choice::One(found_at(at, found)),
    }
}

fn found_at(at: usize, (drift, how): (Drift, Vec<String>)) -> (Place, Vec<String>) {
    (Place { solid: at, drift }, how)
}

fn slips(page: &Page, pair: &Pair, solid: &[usize], at: usize) -> Option<(Drift, Vec<String>)> {
    let mut drift = Drift::NONE;
    let mut how = Vec::new();
    for (k, &i) in solid.iter().enumerate() {
        let line = page.solid[at + k];
        let (search, file) = (&pair.search[i], page.lines[line].text);
        match fold::drift(search, file) {
            Some(found) => drift = drift | found,
            None => {
                let slip = slip(page, search, file)?;
                drift = drift | edges(search, file);
                how.push(format!("line {}: {slip}", line + 1));
            }
        }
    }
    (how.len() <= 1 + solid.len() / 6).then_some((drift, how))
}

fn edges(search: &str, file: &str) -> Drift {
    if fold::indent(search) == fold::indent(file) {
        Drift::NONE
    } else {
        Drift::INDENT
    }
}

/// The slip that makes a search line out of a file line, in words; nothing where they are different lines.
fn slip(page: &Page, search: &str, file: &str) -> Option<String> {
    misspelling(page, search, file)
        .map(|(wrong, right)| format!("`{wrong}` read as `{right}`"))
        .or_else(|| reworded(search, file).then(|| "comment worded differently".to_string()))
}

/// The one word that is misspelt, where all other tokens are the same.
fn misspelling<'a>(page: &Page, search: &'a str, file: &'a str) -> Option<(&'a str, &'a str)> {
    let ours = words::solid_tokens(search);
    let theirs = words::solid_tokens(file);
    if ours.len() != theirs.len() {
        return None;
    }
    let mut differing = ours.iter().zip(&theirs).filter(|(a, b)| a.text != b.text);
    let (wrong, right) = differing.next()?;
    if differing.next().is_some() {
        return None;
    }
    let (part, meant) = differing_part(wrong, right)?;
    let slipped = words::is_slip(part, meant) && !page.text.contains(part);
    slipped.then_some((wrong.text, right.text))
}

/// Of two identifiers joined by underscores, the one part in which they differ.
fn differing_part<'a>(a: &Token<'a>, b: &Token<'a>) -> Option<(&'a str, &'a str)> {
    let ours: Vec<&str> = a.text.split('_').collect();
    let theirs: Vec<&str> = b.text.split('_').collect();
    if ours.len() != theirs.len() {
        return None;
    }
    let mut parts = ours.into_iter().zip(theirs).filter(|(x, y)| x != y);
    let part = parts.next()?;
    parts.next().is_none().then_some(part)
}

/// Whether two comment lines say the same: all numbers equal, three of five words, and nothing but small words, capitals
/// and punctuation changed or one word dropped.
fn reworded(search: &str, file: &str) -> bool {
    match (words::comment(search), words::comment(file)) {
        (Some((ours, a)), Some((theirs, b))) => ours == theirs && words::says_the_same(a, b),
        _ => false,
    }
}
