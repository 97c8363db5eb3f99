//! Who refers to whom: files by the rank of those that refer to them (PageRank), definitions by what they get of it.
//!
//! A reference is a name that a file holds and another one defines. Names that many files define say little about each,
//! and a name that a file defines itself is its own.

use std::collections::HashMap;

use super::survey::{File, Spot};

/// Of a rank, the part that follows references.
const DAMPING: f32 = 0.85;
/// After these the order does not change any more.
const ROUNDS: usize = 12;
/// What a reference by a name counts that may mean something else: a word of the library, a local.
const VAGUE: f32 = 0.05;
/// A name that more files define may mean any of them.
const COMMON: usize = 3;
/// A name that more files define is nobody's.
const MOST_DEFINERS: usize = 12;

/// Gives `files` their ranks and their definitions their scores.
pub(super) fn rank(files: &mut [File]) {
    let definers = definers(files);
    let edges: Vec<Vec<Reference>> = files
        .iter()
        .map(|file| references(file, &definers))
        .collect();
    let ranks = page_rank(&definers.lists, &edges);
    let mut scores = vec![0.0; definers.lists.len()];
    for (references, rank) in edges.iter().zip(&ranks) {
        for Reference { list, part } in references {
            scores[*list as usize] += rank * part;
        }
    }
    for (file, rank) in files.iter_mut().zip(ranks) {
        file.rank = rank;
        for spot in &mut file.spots {
            let name = definers.by_name.get(&spot.name);
            spot.score = name.map_or(0.0, |name| {
                scores[*name as usize] / count(&definers.lists, *name)
            });
        }
    }
}

/// Who defines what: the files of each name that is worth following.
struct Definers {
    by_name: HashMap<u32, u32>,
    lists: Vec<Vec<u32>>,
    /// What a reference by the name counts.
    weights: Vec<f32>,
}

fn definers(files: &[File]) -> Definers {
    let mut by_name = HashMap::new();
    let mut lists: Vec<Vec<u32>> = Vec::new();
    let mut weights = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        for spot in file.spots.iter().filter(|spot| spot.name != 0) {
            let list = *by_name.entry(spot.name).or_insert_with(|| {
                weights.push(if spot.telling { 1.0 } else { VAGUE });
                lists.push(Vec::new());
                u32::try_from(lists.len() - 1).unwrap_or(u32::MAX)
            });
            let list = &mut lists[list as usize];
            // One more than counts says that there are too many.
            if list.last() != Some(&at) && list.len() <= MOST_DEFINERS {
                list.push(at);
            }
        }
    }
    for (weight, list) in weights.iter_mut().zip(&lists) {
        if list.len() > COMMON {
            *weight *= VAGUE;
        }
    }
    by_name.retain(|_, list| lists[*list as usize].len() <= MOST_DEFINERS);
    Definers {
        by_name,
        lists,
        weights,
    }
}

/// A name of others that a file refers to: its list, and the part of the file's rank that it gets.
struct Reference {
    list: u32,
    part: f32,
}

fn references(file: &File, definers: &Definers) -> Vec<Reference> {
    let mut own: Vec<u32> = file.spots.iter().map(|spot: &Spot| spot.name).collect();
    own.sort_unstable();
    let others = file
        .names
        .iter()
        .filter(|name| own.binary_search(name).is_err());
    let lists: Vec<u32> = others
        .filter_map(|name| definers.by_name.get(name).copied())
        .collect();
    let weight = |list: &u32| definers.weights[*list as usize];
    let all: f32 = lists.iter().map(weight).sum();
    let reference = |list: u32| Reference {
        list,
        part: weight(&list) / all,
    };
    lists.into_iter().map(reference).collect()
}

fn page_rank(lists: &[Vec<u32>], edges: &[Vec<Reference>]) -> Vec<f32> {
    let count = edges.len().max(1) as f32;
    let mut ranks = vec![1.0 / count; edges.len()];
    for _ in 0..ROUNDS {
        let mut next = vec![0.0; edges.len()];
        // What refers to nobody gives to all; else each name gets its part.
        let mut idle = 0.0;
        for (references, rank) in edges.iter().zip(&ranks) {
            if references.is_empty() {
                idle += rank;
            }
            for Reference { list, part } in references {
                let definers = &lists[*list as usize];
                let share = rank * part / definers.len() as f32;
                for to in definers {
                    next[*to as usize] += share;
                }
            }
        }
        let rest = (1.0 - DAMPING + DAMPING * idle) / count;
        ranks = next.into_iter().map(|rank| rest + DAMPING * rank).collect();
    }
    ranks
}

fn count(lists: &[Vec<u32>], name: u32) -> f32 {
    lists[name as usize].len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::outline::{language::Kind, words};

    fn file(defines: &[&str], refers: &[&str]) -> File {
        let spot = |name: &&str| Spot {
            kind: Kind::Function,
            depth: 0,
            line: 1,
            end: 1,
            name: words::number(name),
            telling: true,
            score: 0.0,
        };
        let mut names: Vec<u32> = refers.iter().map(|name| words::number(name)).collect();
        names.sort_unstable();
        File {
            spots: defines.iter().map(spot).collect(),
            names,
            ..File::default()
        }
    }

    #[test]
    fn what_is_referred_to_most_and_by_the_most_referred_is_first() {
        let mut files = vec![
            file(&["unused"], &["helper", "core_type"]),
            file(&["helper"], &["core_type"]),
            file(&["core_type"], &[]),
            file(&["lonely"], &["core_type", "lonely"]),
        ];
        rank(&mut files);
        let score = |at: usize| files[at].spots[0].score;
        assert!(score(2) > score(1) && score(1) > score(0));
        assert_eq!((score(0), score(3)), (0.0, 0.0));
        assert!(files[2].rank > files[1].rank && files[1].rank > files[0].rank);
        let all: f32 = files.iter().map(|file| file.rank).sum();
        assert!((all - 1.0).abs() < 1e-3, "{all}");
    }

    #[test]
    fn a_name_that_everybody_defines_is_nobodys() {
        let mut files: Vec<File> = (0..40).map(|_| file(&["new"], &[])).collect();
        files.push(file(&["caller"], &["new"]));
        rank(&mut files);
        assert!(files.iter().all(|file| file.spots[0].score == 0.0));
        rank(&mut []);
    }
}
