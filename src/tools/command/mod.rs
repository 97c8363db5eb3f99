//! A shell line as far as it is certain what it does: what only reads, what the owner's prefixes say of it, and what an
//! approval of it stands on.
//!
//! [`Line::parse`] understands a small part of the shell's language and calls everything else [`Opaque`]; all that
//! follows is decided on that. Nothing here runs anything or asks anybody: the gate does. None of it is a boundary
//! either: what a command can do is up to the sandbox, also when it was called certain here.

mod named;
mod options;
mod parse;
mod programs;
mod reads;
mod rules;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::workspace::Workspace;
pub use named::Named;
pub use programs::Programs;
pub use rules::Rules;

/// A line that is plainly understood: simple commands, joined by `&&`, `||`, `;`, line ends and `|`. Redirects to
/// `/dev/null` and between file descriptors are understood and forgotten, since they change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// At least one, in order.
    pub commands: Vec<Simple>,
}

/// One program, or builtin of the shell, with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simple {
    /// How it is joined to the one before; the first one is [`Join::Then`].
    pub join: Join,
    /// At least one; the first is the program, and no pattern.
    pub words: Vec<Word>,
}

/// What stands between two commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// `;` or the end of a line.
    Then,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `|`
    Pipe,
}

/// One word as the program gets it, quotes removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What it says.
    pub text: String,
    /// The byte where the first `*`, `?` or `[` stands that the shell replaces by names of files.
    pub pattern: Option<usize>,
}

/// Why a line is not plainly understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Opaque(pub &'static str);

/// Where a line would run.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Whose roots count.
    pub workspace: &'a Workspace,
    /// Where the line starts, resolved.
    pub workdir: &'a Path,
    /// How programs are found.
    pub programs: &'a Programs,
}

impl Simple {
    /// The program as it was written.
    pub fn program(&self) -> &str {
        &self.words[0].text
    }

    /// What follows it.
    pub fn arguments(&self) -> &[Word] {
        &self.words[1..]
    }
}

impl Line {
    /// Each command with the directory it starts in. `None` where a `cd` makes that uncertain: only `cd DIR && …` at
    /// the start counts, with nothing behind it that would also run if it failed.
    fn steps(&self, place: Place) -> Option<Vec<(PathBuf, &Simple)>> {
        let is_cd = |simple: &&Simple| simple.program() == "cd";
        let start = place.workdir.to_owned();
        let Some(first) = self.commands.first().filter(is_cd) else {
            let moves = self.commands.iter().any(|simple| is_cd(&simple));
            let step = |simple| (start.clone(), simple);
            return (!moves).then(|| self.commands.iter().map(step).collect());
        };
        let rest = &self.commands[1..];
        let only_after_it = rest.first().is_none_or(|simple| simple.join == Join::And)
            && rest
                .iter()
                .all(|simple| matches!(simple.join, Join::And | Join::Pipe) && !is_cd(&simple));
        let [target] = first.arguments() else {
            return None;
        };
        let plain = only_after_it && target.pattern.is_none() && !target.text.starts_with('-');
        let inside = place.inside(&start, &target.text).filter(|_| plain)?;
        let steps = rest.iter().map(|simple| (inside.clone(), simple));
        Some([(start, first)].into_iter().chain(steps).collect())
    }
}

impl Place<'_> {
    /// The real path that `named` leads to from `base`, if that may be read by tools.
    fn inside(&self, base: &Path, named: &str) -> Option<PathBuf> {
        let path = base.join(named);
        let path = path.to_str().filter(|_| !named.is_empty())?;
        self.workspace.resolve(path).ok()
    }
}

/// The name of a program without its directory.
fn base_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// What a text that is not understood might mean as words: quotes and backslashes taken out, cut at everything that
/// means something to a shell.
fn rough_words(text: &str) -> Vec<String> {
    let bare = text.replace(['\'', '"', '\\'], "");
    bare.split(|c: char| c.is_whitespace() || ";&|()<>{}$`,=".contains(c))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}
