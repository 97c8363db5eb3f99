//! Who refers to whom: files by the rank of those that refer to them (PageRank), definitions by what they get of it.
//!
//! A reference is a name that a file holds and another one defines. How much it counts is how much it says:
//! - A name made of parts that is defined once and not inside of a type speaks for itself. Any other (`is_empty`, `new`,
//!   `Output`) may mean something of the library, a local or one of many. It counts where the file holds something else of
//!   that place too: the type whose method it is, another name that is defined there, or the name of the module. Elsewhere
//!   it hardly counts.
//! - The more files hold a name anyway, the less each of them says (inverse document frequency).
//! - What is defined several times is divided among them, and a name that a file defines itself is its own.
//!
//! What a file says of nobody in particular goes to all.

use std::{collections::HashMap, ffi::OsStr, ops::Range, path::Path};

use super::{
    survey::{File, Form},
    words,
};

/// Of a rank, the part that follows references.
const DAMPING: f32 = 0.85;
/// After these the order does not change any more.
const ROUNDS: usize = 12;
/// What a reference counts that may mean anything, and one by a word of which only the module is named.
const VAGUE: f32 = 0.05;
const DOUBTFUL: f32 = 0.3;
/// A module whose name more files have (`mod`, `index`) is not named by it.
const SAME_STEM: usize = 3;
/// A name that more files define is nobody's.
const MOST_DEFINERS: usize = 12;

/// Gives `files` their ranks and their definitions their scores.
pub(super) fn rank(files: &mut [File]) {
    let index = Index::of(files);
    let references = References::of(files, &index);
    let ranks = page_rank(&index, &references);
    let mut scores = vec![0.0; index.places.len()];
    for (at, rank) in ranks.iter().enumerate() {
        for Reference { place, part } in references.of_file(at) {
            scores[*place as usize] += rank * part;
        }
    }
    for (at, (file, rank)) in files.iter_mut().zip(ranks).enumerate() {
        file.rank = rank;
        for spot in &mut file.spots {
            let place = index.place(spot.name, number(at));
            spot.score = place.map_or(0.0, |place| {
                scores[place] / f32::from(index.places[place].times)
            });
        }
    }
}

/// A file that defines a name.
struct Place {
    name: u32,
    file: u32,
    /// How many definitions of that name it has.
    times: u16,
    form: Form,
    /// One of them is not inside of a type.
    outer: bool,
    /// None of them can be seen from outside of the folder.
    narrow: bool,
}

impl Place {
    /// Whoever holds this may mean other things of the file too.
    fn says_where(&self) -> bool {
        self.outer && self.form > Form::Plain
    }

    /// How much a reference to it says.
    fn says(&self, backing: Backing, once: bool, rarity: f32) -> f32 {
        let is_sure = self.outer && once;
        match (self.form, backing) {
            (Form::Parts | Form::Capital, Backing::Name | Backing::Module) if is_sure => 1.0,
            (Form::Plain, Backing::Module) => DOUBTFUL * rarity,
            (_, Backing::Name | Backing::Module) => rarity,
            (Form::Parts, Backing::None) if is_sure => rarity,
            (_, Backing::None) => VAGUE * rarity,
        }
    }
}

/// What else in a file speaks for a reference.
#[derive(Clone, Copy)]
enum Backing {
    None,
    /// The module is named.
    Module,
    /// Another name from there.
    Name,
}

/// The words by which the module of each file is named: its own name, and that of its folder.
fn modules(files: &[File]) -> Vec<[u32; 2]> {
    let words = |file: &File| {
        let path = Path::new(&file.name);
        let folder = path.parent().and_then(Path::file_name);
        [path.file_stem(), folder].map(|name| name.and_then(OsStr::to_str).map_or(0, words::number))
    };
    let mut modules: Vec<[u32; 2]> = files.iter().map(words).collect();
    let mut times: HashMap<u32, usize> = HashMap::new();
    for [stem, _] in &modules {
        *times.entry(*stem).or_default() += 1;
    }
    for [stem, _] in &mut modules {
        if times[stem] > SAME_STEM {
            *stem = 0;
        }
    }
    modules
}

/// Who defines what, in the order of names.
struct Index {
    places: Vec<Place>,
    /// Where the names begin that have the same first half: they are hashes, so these are few.
    starts: Vec<u32>,
}

impl Index {
    fn of(files: &[File]) -> Self {
        let mut places = Vec::new();
        for (at, file) in files.iter().enumerate() {
            let named = file.spots.iter().filter(|spot| spot.name != 0);
            places.extend(named.map(|spot| Place {
                name: spot.name,
                file: number(at),
                times: 1,
                form: spot.form,
                outer: !spot.member,
                narrow: spot.narrow,
            }));
        }
        places.sort_unstable_by_key(|place| (place.name, place.file));
        places.dedup_by(|again, first| {
            let same = (again.name, again.file) == (first.name, first.file);
            if same {
                first.times = first.times.saturating_add(1);
                first.outer |= again.outer;
                first.narrow &= again.narrow;
            }
            same
        });
        let mut starts = vec![0; (1 << 16) + 1];
        for place in &places {
            starts[half(place.name) + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        Self { places, starts }
    }

    /// Where `name` is defined: numbers of places.
    fn find(&self, name: u32) -> Range<usize> {
        let (from, to) = (self.starts[half(name)], self.starts[half(name) + 1]);
        let same_half = &self.places[from as usize..to as usize];
        let first = same_half.partition_point(|place| place.name < name);
        let count = same_half[first..].partition_point(|place| place.name == name);
        let from = from as usize + first;
        from..from + count
    }

    fn place(&self, name: u32, file: u32) -> Option<usize> {
        let found = self.find(name);
        let within = self.places[found.clone()].binary_search_by_key(&file, |place| place.file);
        within.ok().map(|at| found.start + at)
    }
}

fn half(name: u32) -> usize {
    (name >> 16) as usize
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Which names of others each file holds, as the ranges of their places.
struct Uses {
    all: Vec<Range<usize>>,
    /// Where those of each file end.
    ends: Vec<usize>,
    /// For the first place of a name, how many files hold it.
    frequencies: Vec<u32>,
}

impl Uses {
    fn of(files: &[File], index: &Index) -> Self {
        let mut uses = Self {
            all: Vec::new(),
            ends: Vec::with_capacity(files.len()),
            frequencies: vec![0; index.places.len()],
        };
        for (at, file) in files.iter().enumerate() {
            for name in &file.names {
                let places = index.find(*name);
                let definers = &index.places[places.clone()];
                if definers.is_empty() {
                    continue;
                }
                uses.frequencies[places.start] += 1;
                let own = |place: &Place| place.file == number(at);
                if definers.len() <= MOST_DEFINERS && !definers.iter().any(own) {
                    uses.all.push(places);
                }
            }
            uses.ends.push(uses.all.len());
        }
        uses
    }

    fn of_file(&self, at: usize) -> &[Range<usize>] {
        part(&self.all, &self.ends, at)
    }

    /// From nearly nothing for a name that all files hold to 1 for one that a single file does.
    fn rarity(&self, places: &Range<usize>) -> f32 {
        let all = self.ends.len() as f32;
        let holders = self.frequencies[places.start].max(1) as f32;
        (1.0 + all / holders).ln() / (1.0 + all).ln()
    }
}

/// A file that refers to others.
struct Holder<'a> {
    file: &'a File,
    files: &'a [File],
    modules: &'a [[u32; 2]],
}

impl Holder<'_> {
    /// False for what is only for files of a folder that this one is not in.
    fn sees(&self, place: &Place) -> bool {
        !place.narrow || self.is_near(place.file)
    }

    fn is_near(&self, file: u32) -> bool {
        let path = Path::new(&self.files[file as usize].name);
        let folder = match path.ends_with("mod.rs") {
            true => path.parent().and_then(Path::parent),
            false => path.parent(),
        };
        folder.is_some_and(|folder| Path::new(&self.file.name).starts_with(folder))
    }

    fn names_module(&self, place: &Place) -> bool {
        // `fold` in `fold.rs` is not said twice by saying it once.
        let holds = |word: &u32| *word != place.name && self.file.names.binary_search(word).is_ok();
        self.modules[place.file as usize].iter().any(holds)
    }
}

/// What a file refers to: where it may be defined, and the part of the file's rank that goes there.
struct Reference {
    place: u32,
    part: f32,
}

/// Those of all files, one after another.
struct References {
    all: Vec<Reference>,
    /// Where those of each file end.
    ends: Vec<usize>,
}

impl References {
    fn of(files: &[File], index: &Index) -> Self {
        let uses = Uses::of(files, index);
        let modules = modules(files);
        let mut references = Self {
            all: Vec::new(),
            ends: Vec::with_capacity(files.len()),
        };
        let mut named = vec![0; files.len()];
        for (at, file) in files.iter().enumerate() {
            let from = references.all.len();
            let holder = Holder {
                file,
                files,
                modules: &modules,
            };
            references.add(&holder, uses.of_file(at), index, &uses, &mut named);
            let parts = &mut references.all[from..];
            let said: f32 = parts.iter().map(|reference| reference.part).sum();
            for reference in parts {
                reference.part /= said.max(1.0);
            }
            references.ends.push(references.all.len());
        }
        references
    }

    /// Those of one file. `named` is for counting and all zeros, before and after.
    fn add(
        &mut self,
        holder: &Holder<'_>,
        held: &[Range<usize>],
        index: &Index,
        uses: &Uses,
        named: &mut [u16],
    ) {
        let places = || held.iter().flat_map(|places| &index.places[places.clone()]);
        let seen = |place: &&Place| holder.sees(place);
        for place in places().filter(seen).filter(|place| place.says_where()) {
            named[place.file as usize] += 1;
        }
        for range in held {
            let places = &index.places[range.clone()];
            let times: f32 = places.iter().map(|place| f32::from(place.times)).sum();
            let numbered = range.clone().zip(places);
            for (at, place) in numbered.filter(|(_, place)| holder.sees(place)) {
                let others = named[place.file as usize] - u16::from(place.says_where());
                let backing = match others {
                    0 if place.outer && holder.names_module(place) => Backing::Module,
                    0 => Backing::None,
                    _ => Backing::Name,
                };
                let says = place.says(backing, times == 1.0, uses.rarity(range));
                self.all.push(Reference {
                    place: number(at),
                    part: says * f32::from(place.times) / times,
                });
            }
        }
        for place in places() {
            named[place.file as usize] = 0;
        }
    }

    fn of_file(&self, at: usize) -> &[Reference] {
        part(&self.all, &self.ends, at)
    }
}

/// The part of `all` that is of `at`, where each one's ends.
fn part<'a, T>(all: &'a [T], ends: &[usize], at: usize) -> &'a [T] {
    let from = at.checked_sub(1).map_or(0, |before| ends[before]);
    &all[from..ends[at]]
}

fn page_rank(index: &Index, references: &References) -> Vec<f32> {
    let files = references.ends.len();
    let count = files.max(1) as f32;
    let mut ranks = vec![1.0 / count; files];
    for _ in 0..ROUNDS {
        let mut next = vec![0.0; files];
        let mut to_all = 0.0;
        for (at, rank) in ranks.iter().enumerate() {
            let mut left = *rank;
            for Reference { place, part } in references.of_file(at) {
                let share = rank * part;
                next[index.places[*place as usize].file as usize] += share;
                left -= share;
            }
            to_all += left;
        }
        let rest = (1.0 - DAMPING + DAMPING * to_all) / count;
        ranks = next.into_iter().map(|rank| rest + DAMPING * rank).collect();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::outline::{language::Kind, survey::Spot};

    /// `.name` is inside of a type.
    fn file(defines: &[&str], refers: &[&str]) -> File {
        let spot = |name: &&str| Spot {
            kind: Kind::Function,
            depth: 0,
            line: 1,
            end: 1,
            name: words::number(name.trim_start_matches('.')),
            form: if name.contains('_') {
                Form::Parts
            } else {
                Form::Plain
            },
            member: name.starts_with('.'),
            narrow: false,
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

    /// The score of the definition `which` of the file `at`.
    fn score(files: &[File], at: usize, which: usize) -> f32 {
        files[at].spots[which].score
    }

    #[test]
    fn what_is_referred_to_most_and_by_the_most_referred_is_first() {
        let mut files = vec![
            file(&["un_used"], &["help_er", "core_type"]),
            file(&["help_er"], &["core_type"]),
            file(&["core_type"], &[]),
            file(&["lone_ly"], &["core_type", "lone_ly"]),
        ];
        rank(&mut files);
        let score = |at| score(&files, at, 0);
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

    #[test]
    fn a_method_counts_where_its_type_is_named_too() {
        let mut files = vec![
            file(&["big_engine", ".is_empty"], &[]),
            file(&["big_motor", ".is_empty"], &[]),
        ];
        files.extend((0..5).map(|_| file(&[], &["big_engine", "is_empty"])));
        rank(&mut files);
        assert!(score(&files, 0, 1) > 4.0 * score(&files, 1, 1));
        assert!(score(&files, 0, 0) > score(&files, 0, 1));
    }

    #[test]
    fn what_everybody_calls_ranks_below_what_a_few_mean() {
        // A dozen that mean the type, and all of them a method that the library has too.
        let mut files = vec![
            file(&["big_tree", ".is_empty", ".len"], &[]),
            file(&["work_space", ".find_root"], &[]),
        ];
        files.extend((0..28).map(|_| file(&[], &["is_empty", "len"])));
        files.extend((0..12).map(|_| file(&[], &["is_empty", "len", "work_space", "find_root"])));
        rank(&mut files);
        for common in [1, 2] {
            for meant in [0, 1] {
                assert!(score(&files, 1, meant) > 3.0 * score(&files, 0, common));
            }
        }
    }

    #[test]
    fn what_only_a_folder_can_see_is_referred_to_from_there() {
        let mut files = vec![file(&["one_thing"], &[]), file(&["other_thing"], &[])];
        files[0].spots[0].narrow = true;
        let both = ["one_thing", "other_thing"];
        files.extend([file(&[], &both), file(&[], &both)]);
        for (file, name) in files
            .iter_mut()
            .zip(["a/b.rs", "a/c.rs", "a/d/e.rs", "f.rs"])
        {
            file.name = name.to_owned();
        }
        rank(&mut files);
        let (narrow, open) = (score(&files, 0, 0), score(&files, 1, 0));
        assert!(narrow > 0.0 && open > 1.5 * narrow, "{narrow} {open}");
    }

    #[test]
    fn a_word_counts_where_its_module_is_named() {
        let scored = |module: &str| {
            let mut files = vec![file(&["parse"], &[]), file(&[], &["parse", "reader"])];
            files[0].name = module.to_owned();
            rank(&mut files);
            score(&files, 0, 0)
        };
        assert!(scored("src/reader.rs") > 3.0 * scored("src/writer.rs"));
        assert!(scored("reader/mod.rs") > 3.0 * scored("writer/mod.rs"));
        // `parse` in `parse.rs` is not said twice.
        assert!((scored("src/parse.rs") - scored("src/writer.rs")).abs() < 1e-6);
    }

    #[test]
    fn a_name_is_divided_among_its_definitions() {
        let mut files = vec![
            file(&["one_type", ".make_it", ".make_it", ".once_only"], &[]),
            file(&[], &["one_type", "make_it", "once_only"]),
        ];
        rank(&mut files);
        let once = score(&files, 0, 3);
        assert!((score(&files, 0, 1) * 2.0 - once).abs() < 1e-6);
        assert!(once > 0.0);
    }
}
