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
/// A name that more files define is nobody's.
const MOST_DEFINERS: usize = 12;

/// Gives `files` their ranks and their definitions their scores.
pub(super) fn rank(files: &mut [File]) {
    let definers = definers(files);
    let edges: Vec<Vec<(u32, u32)>> = files
        .iter()
        .map(|file| references(file, &definers))
        .collect();
    let ranks = page_rank(&definers.lists, &edges);
    let mut scores = vec![0.0; definers.lists.len()];
    for (from, references) in edges.iter().enumerate() {
        for (name, _) in references {
            scores[*name as usize] += ranks[from] / references.len() as f32;
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
}

fn definers(files: &[File]) -> Definers {
    let mut by_name = HashMap::new();
    let mut lists: Vec<Vec<u32>> = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        for name in file
            .spots
            .iter()
            .map(|spot| spot.name)
            .filter(|name| *name != 0)
        {
            let list = *by_name.entry(name).or_insert_with(|| {
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
    by_name.retain(|_, list| lists[*list as usize].len() <= MOST_DEFINERS);
    Definers { by_name, lists }
}

/// The names of others that `file` refers to, by their lists, with how many files define each.
fn references(file: &File, definers: &Definers) -> Vec<(u32, u32)> {
    let mut own: Vec<u32> = file.spots.iter().map(|spot: &Spot| spot.name).collect();
    own.sort_unstable();
    let others = file
        .names
        .iter()
        .filter(|name| own.binary_search(name).is_err());
    let known = others.filter_map(|name| definers.by_name.get(name));
    known
        .map(|list| {
            (
                *list,
                u32::try_from(definers.lists[*list as usize].len()).unwrap_or(1),
            )
        })
        .collect()
}

fn page_rank(lists: &[Vec<u32>], edges: &[Vec<(u32, u32)>]) -> Vec<f32> {
    let count = edges.len().max(1) as f32;
    let mut ranks = vec![1.0 / count; edges.len()];
    for _ in 0..ROUNDS {
        let mut next = vec![0.0; edges.len()];
        // What refers to nobody gives to all; else each name gets as much as any other.
        let mut idle = 0.0;
        for (from, references) in edges.iter().enumerate() {
            if references.is_empty() {
                idle += ranks[from];
            }
            for (name, definers) in references {
                let share = ranks[from] / references.len() as f32 / *definers as f32;
                for to in &lists[*name as usize] {
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
