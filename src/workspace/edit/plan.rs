//! The ladder: from an edit to the one patch it means, or to the reason why there is none.

use super::fold::{self, Drift};
use super::locate::{self, Choice, Hit, Place};
use super::page::Page;
use super::pair::Pair;
use super::partial::{self, Cut};
use super::readings::{self, Reading};
use super::refusal::Failure;
use super::splice::{self, Patch};
use super::{Edit, Rung, elide, likeness};

/// A patch, and how its place was found.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) patch: Patch,
    pub(super) rung: Rung,
    pub(super) how: Option<String>,
}

/// What a rung says: nothing, a place, or that there are too many.
type Rungs<T> = Result<Option<T>, Failure>;

/// In bytes: below this a lone line with blank lines around it says too little to ignore them.
const SHORTEST_LONE_LINE: usize = 10;
/// From this rank on blank lines are wrong too.
const BLANK_LINES: u32 = 5;

/// The patch for an edit that means one place.
pub(super) fn once(page: &Page, edit: &Edit) -> Result<Step, Failure> {
    let literal = meant(page, edit)?;
    let ladder = Ladder {
        page,
        hint: edit.line,
    };
    let step = match ladder.climb(&literal)? {
        Some(step) => step,
        None => return Err(lost(page, &literal)),
    };
    if page.text[step.patch.at..step.patch.end] == step.patch.text {
        return Err(Failure::AlreadyApplied {
            first: page.line_of(step.patch.at),
            last: page.line_of(step.patch.end.saturating_sub(1).max(step.patch.at)),
        });
    }
    Ok(step)
}

fn meant(page: &Page, edit: &Edit) -> Result<Pair, Failure> {
    let literal = Pair::new(edit);
    if edit.search.is_empty() || literal.solid().is_empty() {
        return Err(Failure::EmptySearch);
    }
    if literal.is_idle() {
        return Err(Failure::NoChange);
    }
    if has_diff_marks(page, &literal) {
        return Err(Failure::Marked);
    }
    if let Some(line) = elide::placeholder(page, &literal) {
        let line = line.to_string();
        return Err(Failure::Placeholder { line });
    }
    Ok(literal)
}

/// True if every new line of the replacement begins with the mark of a diff, where no line of the search or the file
/// does: it would be written as text. One such line may be meant.
fn has_diff_marks(page: &Page, pair: &Pair) -> bool {
    let marked = |line: &&String| line.starts_with('+');
    let added = pair
        .replace
        .iter()
        .filter(|line| !line.trim().is_empty() && !pair.search.contains(line));
    let added: Vec<&String> = added.collect();
    added.len() > 1
        && added.iter().all(marked)
        && !pair.search.iter().any(|line| marked(&line))
        && !page.text.lines().any(|line| line.starts_with('+'))
}

/// Why a search that fits nowhere does not.
fn lost(page: &Page, pair: &Pair) -> Failure {
    if let Some((first, last)) = stands_instead(page, pair) {
        return Failure::AlreadyApplied { first, last };
    }
    if let Some(lines) = tied(page, pair) {
        return Failure::Tied {
            lines,
            pair: pair.clone(),
        };
    }
    Failure::NotFound { pair: pair.clone() }
}

/// Lines at which the replacement stands though the search does not.
fn stands_instead(page: &Page, pair: &Pair) -> Option<(usize, usize)> {
    let inside = pair
        .search
        .windows(pair.replace.len().max(1))
        .any(|lines| lines == pair.replace);
    if inside || !says_something(pair.replace.iter()) {
        return None;
    }
    let new = pair.with(pair.replace.clone(), Vec::new());
    let mut places = locate::places(page, &new);
    places.retain(|place| place.drift.rank() < BLANK_LINES);
    if let Some(place) = places.first() {
        let hit = locate::take(page, &new, *place);
        return Some((hit.first(), hit.end() - 1));
    }
    None
}

/// True where some line holds more than a bracket or an `end`.
fn says_something<'a>(mut lines: impl Iterator<Item = &'a String>) -> bool {
    lines.any(|line| {
        let letters = line.chars().filter(|c| c.is_alphanumeric()).count();
        letters > 6 || (letters > 2 && line.split_whitespace().count() > 1)
    })
}

/// How many places may be equally near before none of them can be what was meant.
const MOST_TIED: usize = 9;

/// Places that equal the same most of the search: it cannot be told which of them it misremembers. Places that equal
/// different parts of it are none of them what was meant.
fn tied(page: &Page, pair: &Pair) -> Option<Vec<usize>> {
    let votes = likeness::votes(page, pair);
    let (best, most) = *votes.first()?;
    if most < 2 || most * 2 < pair.solid().len() {
        return None;
    }
    let kept = likeness::agreeing(page, pair, best);
    let level = votes.iter().take_while(|(_, n)| *n == most);
    let mut lines: Vec<usize> = level
        .take(MOST_TIED + 1)
        .filter(|(at, _)| likeness::agreeing(page, pair, *at) == kept)
        .map(|(at, _)| page.solid[*at])
        .collect();
    lines.sort_unstable();
    (2..=MOST_TIED).contains(&lines.len()).then_some(lines)
}

struct Ladder<'a> {
    page: &'a Page<'a>,
    hint: Option<usize>,
}

impl Ladder<'_> {
    fn climb(&self, literal: &Pair) -> Rungs<Step> {
        let (stands, irregular) = match self.as_it_stands(&Reading::literal(literal)) {
            Err(failure @ Failure::Irregular { .. }) => (None, Some(failure)),
            other => (other?, None),
        };
        let stands = stands
            .filter(|(rank, _)| *rank <= Drift::TRAILING.rank() || !readings::is_diff(literal));
        let readings = match &stands {
            // As good as it gets: no reading could fit better.
            Some((rank, _)) if *rank <= Drift::TRAILING.rank() => Vec::new(),
            _ => readings::readings(literal),
        };
        if let Some(step) = self.without_artefact(stands, &readings)? {
            return Ok(Some(step));
        }
        match (self.loosely(literal, &readings)?, irregular) {
            (None, Some(failure)) => Err(failure),
            (step, _) => Ok(step),
        }
    }

    /// The rungs on which more than blanks and artefacts is forgiven.
    fn loosely(&self, literal: &Pair, readings: &[Reading]) -> Rungs<Step> {
        let literal = Reading::literal(literal);
        let rungs = [
            Self::blank_lines_aside,
            Self::elided,
            Self::similar as fn(&Self, &Reading) -> Rungs<Step>,
        ];
        for rung in rungs {
            for reading in std::iter::once(&literal).chain(readings) {
                if let Some(step) = rung(self, reading)? {
                    return Ok(Some(step));
                }
            }
        }
        Ok(None)
    }

    /// Whole lines and pieces of lines, with a rank that tells how much was forgiven.
    fn as_it_stands(&self, reading: &Reading) -> Rungs<(u32, Step)> {
        let pair = &reading.pair;
        let mut places = locate::places(self.page, pair);
        places.retain(|place| place.drift.rank() < BLANK_LINES);
        let exact: Vec<Place> = places
            .iter()
            .copied()
            .filter(|place| place.drift == Drift::NONE)
            .collect();
        if !exact.is_empty() {
            return self.settle(pair, &exact, Rung::Exact);
        }
        if !reading.whole
            && let Some(cut) = self.cut(pair)?
        {
            return self.piece(pair, cut, &places);
        }
        self.settle(pair, &places, Rung::Blanks)
    }

    fn settle(&self, pair: &Pair, places: &[Place], rung: Rung) -> Rungs<(u32, Step)> {
        let place = match locate::choose(self.page, places, self.hint) {
            Choice::None => return Ok(None),
            Choice::Many(lines) => {
                return Err(Failure::Ambiguous {
                    lines,
                    pair: pair.clone(),
                });
            }
            Choice::One(place) => place,
        };
        let hit = locate::take(self.page, pair, place);
        let step = self.splice(pair, &hit, rung, Vec::new())?;
        Ok(Some((place.drift.rank(), step)))
    }

    fn cut(&self, pair: &Pair) -> Rungs<Cut> {
        let cuts = partial::cuts(self.page, pair);
        let lines: Vec<usize> = cuts.iter().map(|cut| cut.first).collect();
        match (&cuts[..], locate::nearest(&lines, self.hint)) {
            ([], _) => Ok(None),
            ([only], _) => Ok(Some(*only)),
            (_, Some(i)) => Ok(Some(cuts[i])),
            _ => Err(Failure::Ambiguous {
                lines,
                pair: pair.clone(),
            }),
        }
    }

    /// A piece of a line, unless the piece is all of the line but for blanks: then the line is meant.
    fn piece(&self, pair: &Pair, cut: Cut, places: &[Place]) -> Rungs<(u32, Step)> {
        let whole = places.iter().find(|place| {
            self.page.solid[place.solid] <= cut.last && self.page.solid[place.solid] >= cut.first
        });
        if let Some(place) = whole {
            return self.settle(pair, &[*place], Rung::Blanks);
        }
        if partial::cuts_word(self.page, pair, &cut) {
            return Err(Failure::InsideWord { line: cut.first });
        }
        let patch = splice::piece(self.page, pair, &cut);
        if repeats(self.page, &patch, &cut) {
            return Err(Failure::AlreadyApplied {
                first: cut.first,
                last: cut.last,
            });
        }
        let step = Step {
            patch,
            rung: Rung::Piece,
            how: None,
        };
        Ok(Some((0, step)))
    }

    /// The reading that needs least forgiven once its artefact is off; the literal one where none is better.
    fn without_artefact(&self, literal: Option<(u32, Step)>, readings: &[Reading]) -> Rungs<Step> {
        let mut best = literal;
        let mut crowd = None;
        for reading in readings {
            match self.as_it_stands(reading) {
                Ok(Some((rank, step))) if best.as_ref().is_none_or(|(least, _)| rank < *least) => {
                    best = Some((rank, named(step, reading, Rung::Reading)));
                }
                Ok(_) | Err(Failure::Irregular { .. }) => {}
                Err(failure) => crowd = crowd.or(Some(failure)),
            }
        }
        match (best, crowd) {
            (Some((_, step)), _) => Ok(Some(step)),
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(None),
        }
    }

    fn blank_lines_aside(&self, reading: &Reading) -> Rungs<Step> {
        let pair = &reading.pair;
        let solid = pair.solid();
        if let [lone] = solid[..]
            && pair.search[lone].trim().len() < SHORTEST_LONE_LINE
        {
            return Ok(None);
        }
        let places = locate::places(self.page, pair);
        let found = self.settle(pair, &places, Rung::BlankLines)?;
        Ok(found.map(|(_, step)| named(step, reading, Rung::BlankLines)))
    }

    fn elided(&self, reading: &Reading) -> Rungs<Step> {
        let pair = &reading.pair;
        match elide::chain(self.page, pair) {
            Choice::None => Ok(None),
            Choice::Many(lines) => Err(Failure::Ambiguous {
                lines,
                pair: pair.clone(),
            }),
            Choice::One(hit) => {
                let told = vec!["lines left out by the search kept".to_string()];
                let step = self.splice(pair, &hit, Rung::Elided, told)?;
                Ok(Some(named(step, reading, Rung::Elided)))
            }
        }
    }

    fn similar(&self, reading: &Reading) -> Rungs<Step> {
        let pair = &reading.pair;
        match likeness::find(self.page, pair) {
            Choice::None => Ok(None),
            Choice::Many(lines) => Err(Failure::Tied {
                lines,
                pair: pair.clone(),
            }),
            Choice::One((place, told)) => {
                let hit = locate::take(self.page, pair, place);
                let step = self.splice(pair, &hit, Rung::Similar, told)?;
                Ok(Some(named(step, reading, Rung::Similar)))
            }
        }
    }

    fn splice(
        &self,
        pair: &Pair,
        hit: &Hit,
        rung: Rung,
        told: Vec<String>,
    ) -> Result<Step, Failure> {
        if let Some((first, last)) = inserted(self.page, pair, hit) {
            return Err(Failure::AlreadyApplied { first, last });
        }
        let Some(spliced) = splice::lines(self.page, pair, hit) else {
            return Err(Failure::Irregular {
                first: hit.first(),
                last: hit.end() - 1,
            });
        };
        let mut how = told;
        how.extend(spliced.indentation);
        how.extend(forgiven(hit.drift));
        Ok(Step {
            patch: spliced.patch,
            rung,
            how: (!how.is_empty()).then(|| how.join("; ")),
        })
    }
}

fn named(mut step: Step, reading: &Reading, rung: Rung) -> Step {
    if !reading.how.is_empty() {
        step.how = Some(match step.how {
            Some(how) => format!("{}; {how}", reading.how),
            None => reading.how.clone(),
        });
    }
    step.rung = rung;
    step
}

/// What a drift is called; the indentation is told by the writer, which knows how it was moved.
fn forgiven(drift: Drift) -> Vec<String> {
    let names = [
        (Drift::TRAILING, "blanks at line ends ignored"),
        (
            Drift::TYPOGRAPHY,
            "quotes and dashes kept as the file has them",
        ),
        (Drift::SPACING, "blanks inside lines ignored"),
        (Drift::BLANK_LINES, "blank lines ignored"),
    ];
    let present = names.iter().filter(|(kind, _)| drift.has(*kind));
    present.map(|(_, name)| (*name).to_string()).collect()
}

/// Lines at which the whole replacement stands already, the search being a part of it.
fn inserted(page: &Page, pair: &Pair, hit: &Hit) -> Option<(usize, usize)> {
    let tall = pair.search.len();
    let same = |a: &String, b: &String| fold::drift(a, b).is_some();
    let starts = 0..(pair.replace.len() + 1).saturating_sub(tall);
    starts
        .filter(|&k| {
            let part = &pair.replace[k..k + tall];
            part.iter().zip(&pair.search).all(|(a, b)| same(a, b))
        })
        .find_map(|k| {
            let (ahead, behind) = (&pair.replace[..k], &pair.replace[k + tall..]);
            (!ahead.is_empty() || !behind.is_empty())
                .then(|| surrounded(page, hit, ahead, behind))
                .flatten()
        })
}

fn surrounded(
    page: &Page,
    hit: &Hit,
    ahead: &[String],
    behind: &[String],
) -> Option<(usize, usize)> {
    let behind = match behind {
        // A final newline is there already.
        [rest @ .., last] if last.is_empty() && hit.end() + rest.len() == page.lines.len() => rest,
        all => all,
    };
    if ahead.is_empty() && behind.is_empty() && !page.text.ends_with(['\n', '\r']) {
        return None;
    }
    let first = hit.first().checked_sub(ahead.len())?;
    let last = hit.end() + behind.len();
    let above = page.lines.get(first..hit.first())?;
    let below = page.lines.get(hit.end()..last)?;
    let stands =
        |(want, line): (&String, &super::page::Line)| fold::drift(want, line.text).is_some();
    let all = ahead.iter().zip(above).all(stands) && behind.iter().zip(below).all(stands);
    all.then_some((first, last - 1))
}

/// An insertion that is there already, around the piece that the search quotes.
fn repeats(page: &Page, patch: &Patch, cut: &Cut) -> bool {
    let old = &page.text[cut.start..cut.end];
    let (above, below) = (&page.text[..cut.start], &page.text[cut.end..]);
    patch.text.len() > old.len()
        && patch.text.match_indices(old).any(|(at, _)| {
            above.ends_with(&patch.text[..at]) && below.starts_with(&patch.text[at + old.len()..])
        })
}

/// Every exact occurrence. One that stands inside a longer word is another word, and stays.
pub(super) fn everywhere(page: &Page, edit: &Edit) -> Result<Vec<Step>, Failure> {
    let literal = meant(page, edit)?;
    let mut cuts = partial::cuts(page, &literal);
    if cuts.is_empty() {
        return Err(lost(page, &literal));
    }
    let mut free = 0;
    cuts.retain(|cut| {
        let apart = cut.start >= free;
        free = if apart { cut.end } else { free };
        apart
    });
    let (inside, whole): (Vec<Cut>, Vec<Cut>) = cuts
        .iter()
        .partition(|cut| partial::cuts_word(page, &literal, cut));
    let Some(first) = whole.first() else {
        return Err(Failure::InsideWord {
            line: cuts[0].first,
        });
    };
    let mut steps: Vec<Step> = whole
        .iter()
        .map(|cut| (cut, splice::piece(page, &literal, cut)))
        .filter(|(cut, patch)| !repeats(page, patch, cut))
        .map(|(_, patch)| Step {
            patch,
            rung: Rung::Piece,
            how: None,
        })
        .collect();
    let Some(told) = steps.first_mut() else {
        return Err(Failure::AlreadyApplied {
            first: first.first,
            last: first.last,
        });
    };
    told.how = (!inside.is_empty()).then(|| left_alone(&inside));
    Ok(steps)
}

fn left_alone(inside: &[Cut]) -> String {
    let lines: Vec<String> = inside
        .iter()
        .take(10)
        .map(|cut| (cut.first + 1).to_string())
        .collect();
    format!(
        "{} more inside longer words left alone (lines {})",
        inside.len(),
        lines.join(", ")
    )
}
