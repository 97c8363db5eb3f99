//! Search and replace that forgives how a model copies and never guesses where it meant.
//!
//! A pure function over bytes. An edit goes down a ladder of comparisons, from exact to similar; the first rung with a
//! single place decides, and two places that fit equally well are a refusal, never a choice. Every rung yields a mapping
//! from search lines to file lines, and one writer (`splice`) turns it into a patch: what the two sides share keeps the
//! file's bytes, what is new takes the indentation and the terminator of its place. Bytes outside the patch are never
//! touched, because they are never copied through anything.
//!
//! Nothing here reads or writes a file, knows a path, or asks a question.

mod diff;
mod elide;
mod fold;
mod indent;
mod likeness;
mod locate;
mod near;
mod page;
mod pair;
mod partial;
mod plan;
mod readings;
mod refusal;
mod splice;
mod steps;
mod words;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use diff::{ChangedLines, Diff, changed_lines, mode_diff, rename_diff, unified_diff};
pub use refusal::{Code, Refusal};

/// One search and what to put in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// The text as it stands in the file; empty to create a file.
    pub search: String,
    /// The text to stand there instead.
    pub replace: String,
    /// About where it is (1-based). Breaks a tie between places that fit equally well, and does nothing else.
    pub line: Option<usize>,
    /// Replace every exact occurrence. An occurrence inside a longer word is left alone.
    pub replace_all: bool,
}

/// The file after all edits of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The new contents.
    pub after: Vec<u8>,
    /// Where each edit went, in the order of the edits; `replace_all` gives one for each occurrence.
    pub matches: Vec<Match>,
}

/// Where an edit went, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Index of the edit.
    pub edit: usize,
    /// First line it wrote (1-based, in the new file).
    pub first_line: usize,
    /// Last line it wrote; the same as the first where it only took lines away.
    pub last_line: usize,
    /// The rung of the ladder that found the place.
    pub rung: Rung,
    /// What had to be forgiven, for the model to read: `indentation adjusted: 4 spaces to 1 tab`. None when exact.
    pub how: Option<String>,
}

/// The rungs of the ladder, safest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// The file did not exist.
    Created,
    /// Whole lines, byte for byte.
    Exact,
    /// A piece of a line, byte for byte.
    Piece,
    /// Whole lines but for blanks at their ends, indentation, typography or inner blanks.
    Blanks,
    /// As one of the above once an artefact of copying was taken off.
    Reading,
    /// Blank lines added or lost.
    BlankLines,
    /// A middle left out by the search.
    Elided,
    /// One misspelt word or one reworded comment.
    Similar,
}

/// Bytes that a file may have after every occurrence of something was replaced: a short search and a long replacement
/// would fill the memory.
const LARGEST: usize = 64 << 20;

/// Applies all edits in order, each to the result of the one before; all or none.
///
/// `before` is `None` for a file that does not exist; then the first edit must have an empty search. An error names the
/// edit that failed and is written for the model to correct itself with.
pub fn apply(before: Option<&[u8]>, edits: &[Edit]) -> Result<Applied, Refusal> {
    let mut file = before.map(text).transpose()?;
    let mut landed = Vec::new();
    for (n, edit) in edits.iter().enumerate() {
        let old = file.as_deref();
        let turn = refusal::Turn {
            edit: n,
            of: edits.len(),
            moved: n > 0 && old.map(count) != before.map(count_bytes),
        };
        let steps = steps(old, edit)
            .map_err(|failure| Refusal::new(turn, old.unwrap_or(""), edit, &failure))?;
        file = Some(write(old.unwrap_or(""), n, steps, &mut landed));
    }
    let after = file.unwrap_or_default();
    Ok(Applied {
        matches: matches(&after, &landed),
        after: after.into_bytes(),
    })
}

fn count(text: &str) -> usize {
    count_bytes(text.as_bytes())
}

fn count_bytes(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

fn text(bytes: &[u8]) -> Result<String, Refusal> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_string()),
        Err(error) => Err(Refusal::not_text(bytes, &error)),
    }
}

fn steps(file: Option<&str>, edit: &Edit) -> Result<Vec<plan::Step>, refusal::Failure> {
    let Some(text) = file.filter(|text| !(text.is_empty() && edit.search.is_empty())) else {
        return create(file, edit).map(|step| vec![step]);
    };
    // A byte order mark belongs to the file, not to its first line.
    let body = text.trim_start_matches('\u{FEFF}');
    if edit.replace_all && swollen(body, edit) > LARGEST {
        return Err(refusal::Failure::TooLarge);
    }
    let page = page::Page::new(body);
    let mut steps = match edit.replace_all {
        true => plan::everywhere(&page, edit)?,
        false => vec![plan::once(&page, edit)?],
    };
    for step in &mut steps {
        step.patch.at += text.len() - body.len();
        step.patch.end += text.len() - body.len();
    }
    Ok(steps)
}

/// At most how many bytes the file has when every occurrence is replaced.
fn swollen(body: &str, edit: &Edit) -> usize {
    let occurrences = body.matches(edit.search.as_str()).count();
    body.len()
        .saturating_add(occurrences.saturating_mul(edit.replace.len()))
}

/// A file that does not exist, or is empty, takes the replacement of an empty search whole.
fn create(file: Option<&str>, edit: &Edit) -> Result<plan::Step, refusal::Failure> {
    if !edit.search.is_empty() {
        return Err(refusal::Failure::NoFile);
    }
    if file.is_some() && edit.replace.is_empty() {
        return Err(refusal::Failure::NoChange);
    }
    Ok(plan::Step {
        patch: splice::Patch {
            at: 0,
            end: 0,
            text: edit.replace.clone(),
        },
        rung: Rung::Created,
        how: None,
    })
}

/// A step that was written, as bytes of the file as it is now.
struct Landed {
    edit: usize,
    span: Range<usize>,
    rung: Rung,
    how: Option<String>,
}

fn write(text: &str, edit: usize, steps: Vec<plan::Step>, landed: &mut Vec<Landed>) -> String {
    for earlier in landed.iter_mut() {
        let moved = |at| moved(at, &steps);
        earlier.span = moved(earlier.span.start)..moved(earlier.span.end);
    }
    let mut after = String::with_capacity(text.len());
    let mut from = 0;
    for step in steps {
        after.push_str(&text[from..step.patch.at]);
        let start = after.len();
        after.push_str(&step.patch.text);
        from = step.patch.end;
        landed.push(Landed {
            edit,
            span: start..after.len(),
            rung: step.rung,
            how: step.how,
        });
    }
    after.push_str(&text[from..]);
    after
}

/// Where a byte is once the steps are written; one inside a step goes to where that step begins.
fn moved(at: usize, steps: &[plan::Step]) -> usize {
    let mut now = at;
    for patch in steps.iter().map(|step| &step.patch) {
        if patch.end <= at {
            now = now + patch.text.len() - (patch.end - patch.at);
        } else if patch.at < at {
            now -= at - patch.at;
        }
    }
    now
}

fn matches(after: &str, landed: &[Landed]) -> Vec<Match> {
    let lines = page::split(after);
    let line_of = |at: usize| lines.partition_point(|line| line.at <= at).max(1);
    let found = |step: &Landed| {
        let first_line = line_of(step.span.start);
        Match {
            edit: step.edit,
            first_line,
            last_line: line_of(step.span.end.saturating_sub(1)).max(first_line),
            rung: step.rung,
            how: step.how.clone(),
        }
    };
    landed.iter().map(found).collect()
}
