//! What can be told of one file without running it: its functions with their length and complexity, what is left to do
//! in it, and what it imports.

use std::path::Path;

use serde::Serialize;

use super::{
    OutlineError,
    blank::{COMMENT, blanked},
    language::{Kind, Language},
    page, reading,
};
use crate::{
    conversation::{shortened, shown_line},
    workspace::Workspace,
};

/// Of each list.
const MOST: usize = 1_000;
/// Characters of a line that is shown.
const LINE: usize = 300;

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// As it is shown.
    pub path: String,
    /// As people call it.
    pub language: String,
    /// A parser read it; else its lines were looked at.
    pub parsed: bool,
    /// All of them.
    pub lines: u32,
    /// In the order of the text.
    pub functions: Vec<FunctionFound>,
    /// Comments with `TODO`, `FIXME`, `XXX` or `HACK`.
    pub todos: Vec<LineFound>,
    /// What it takes from elsewhere.
    pub imports: Vec<LineFound>,
    /// Something was left out of a list, since it had more than a thousand.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionFound {
    /// As it is called.
    pub name: String,
    /// Its first line, from 1.
    pub line: u32,
    /// Its last line.
    pub end_line: u32,
    /// Lines from the first to the last.
    pub length: u32,
    /// Ways through it that do not depend on each other (cyclomatic): 1, and 1 more for each branch.
    pub complexity: u32,
}

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LineFound {
    /// From 1.
    pub line: u32,
    /// Trimmed, and cut if it is long.
    pub text: String,
}

/// Analyses the file `real` of `workspace`. Blocks.
///
/// # Errors
/// It is not there, or no text that somebody wrote.
pub fn analyse(workspace: &Workspace, real: &Path) -> Result<Analysis, OutlineError> {
    let path = workspace.show(real);
    let skipped = |why| OutlineError::Skipped {
        path: path.clone(),
        why,
    };
    let text = reading::bytes(real).map_err(skipped)?;
    reading::judged(&text).map_err(skipped)?;
    let read = super::read(real, &text).map_err(skipped)?;
    let code = blanked(&text, &read.language.lexis);
    let lines = Lines::new(&text, &code);
    let functions = read
        .definitions
        .iter()
        .filter(|found| found.kind == Kind::Function);
    let mut functions: Vec<FunctionFound> = functions
        .map(|found| FunctionFound {
            name: shown_line(&found.name),
            line: found.line,
            end_line: found.end,
            length: found.end.saturating_sub(found.line) + 1,
            complexity: match &read.parsed {
                Some((branches, _)) => 1 + between(branches, found.line, found.end),
                None => lines.complexity(found.line, found.end, read.language),
            },
        })
        .collect();
    let mut todos = lines.todos();
    let mut imports = match &read.parsed {
        Some((_, imports)) if !read.language.calls_imports() => lines.beginning_at(imports),
        _ => lines.imports(read.language),
    };
    let truncated = functions.len() > MOST || todos.len() > MOST || imports.len() > MOST;
    functions.truncate(MOST);
    todos.truncate(MOST);
    imports.truncate(MOST);
    Ok(Analysis {
        path,
        language: read.language.name.to_owned(),
        parsed: read.parsed.is_some(),
        lines: read.lines,
        functions,
        todos,
        imports,
        truncated,
    })
}

/// A text and its code, line by line.
struct Lines<'a> {
    text: Vec<&'a [u8]>,
    code: Vec<&'a [u8]>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a [u8], code: &'a [u8]) -> Self {
        let lines = |text: &'a [u8]| text.split(|byte| *byte == b'\n').collect();
        Self {
            text: lines(text),
            code: lines(code),
        }
    }

    fn found(&self, at: usize) -> LineFound {
        let line = String::from_utf8_lossy(self.text[at]);
        LineFound {
            line: u32::try_from(at + 1).unwrap_or(u32::MAX),
            text: shortened(&shown_line(line.trim()), LINE),
        }
    }

    /// What stands in comments; in a text of no known language everything may be one.
    fn todos(&self) -> Vec<LineFound> {
        let is_one = |at: &usize| {
            MARKS.iter().any(|mark| {
                let line = self.text[*at];
                let mut places = line.windows(mark.len()).enumerate();
                places.any(|(column, word)| {
                    let whole = |byte: Option<&u8>| {
                        byte.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
                    };
                    word == mark.as_bytes()
                        && self.code[*at][column] == COMMENT
                        && whole(column.checked_sub(1).map(|before| &line[before]))
                        && whole(line.get(column + mark.len()))
                })
            })
        };
        (0..self.text.len())
            .filter(is_one)
            .take(MOST + 1)
            .map(|at| self.found(at))
            .collect()
    }

    fn imports(&self, language: &Language) -> Vec<LineFound> {
        let mut found = Vec::new();
        let mut in_list = false;
        for (at, line) in self.code.iter().enumerate() {
            let line = line.trim_ascii();
            let begins = |word: &&str| match word.ends_with('(') {
                // A call may stand anywhere in its line.
                true => line.windows(word.len()).any(|part| part == word.as_bytes()),
                false => line.starts_with(word.as_bytes()),
            };
            let is_import = language.imports.iter().any(begins);
            // `import (` of Go goes on until it is closed.
            let listed =
                in_list && !line.is_empty() && !line.starts_with(b")") && line[0] != COMMENT;
            let opens = language.name == "Go" && line.ends_with(b"(");
            if (is_import && !opens) || listed {
                let mut import = self.found(at);
                let lines = &self.text;
                import.text = match is_import {
                    true => shortened(&whole(lines, at), LINE),
                    false => import.text,
                };
                found.push(import);
            }
            in_list = (in_list && !line.starts_with(b")")) || (is_import && opens);
            if found.len() > MOST {
                break;
            }
        }
        found
    }

    fn beginning_at(&self, numbers: &[u32]) -> Vec<LineFound> {
        let found = numbers.iter().take(MOST + 1).map(|number| LineFound {
            line: *number,
            text: shortened(
                &whole(&self.text, (*number as usize).saturating_sub(1)),
                LINE,
            ),
        });
        found.collect()
    }

    /// One, and one for each branch of the code from `first` to `last`.
    fn complexity(&self, first: u32, last: u32, language: &Language) -> u32 {
        let from = (first as usize).saturating_sub(1);
        let to = (last as usize).min(self.code.len());
        let lines = self.code.get(from..to).unwrap_or_default();
        let branches: usize = lines.iter().map(|line| branches(line, language)).sum();
        u32::try_from(branches + 1).unwrap_or(u32::MAX)
    }
}

/// How many of the sorted `lines` are from `first` to `last`.
fn between(lines: &[u32], first: u32, last: u32) -> u32 {
    let to = lines.partition_point(|line| *line <= last);
    let from = lines.partition_point(|line| *line < first);
    u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX)
}

/// In comments.
const MARKS: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

/// Words at which a way divides. A match divides at its arms.
const BRANCHES: &[&str] = &[
    "if", "elif", "elsif", "elseif", "unless", "for", "foreach", "while", "until", "case", "when",
    "catch", "except", "rescue", "guard",
];

fn branches(line: &[u8], language: &Language) -> usize {
    let words = line.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_' && *byte < 0x80);
    let named = words
        .filter(|word| std::str::from_utf8(word).is_ok_and(|word| is_branch(word, language)))
        .count();
    let both = |sign: &[u8]| line.windows(2).filter(|two| *two == sign).count();
    let spaced = line.windows(3).filter(|three| *three == b" ? ").count();
    let arms = if language.lexis.rust { both(b"=>") } else { 0 };
    let ternaries = if language.lexis.rust { 0 } else { spaced };
    named + both(b"&&") + both(b"||") * usize::from(!is_closure(line, language)) + arms + ternaries
}

fn is_branch(word: &str, language: &Language) -> bool {
    let by_word = matches!(
        language.name,
        "Python" | "Ruby" | "Lua" | "Elixir" | "PHP" | "Perl"
    );
    BRANCHES.contains(&word) || (by_word && (word == "and" || word == "or"))
}

/// `|| x` of Rust takes nothing; `a || b` is a branch.
fn is_closure(line: &[u8], language: &Language) -> bool {
    let begins = |at: usize| {
        line[..at]
            .trim_ascii_end()
            .last()
            .is_none_or(|byte| b"(,=".contains(byte))
    };
    language.lexis.rust
        && line
            .windows(2)
            .enumerate()
            .any(|(at, two)| two == b"||" && begins(at))
}

/// The statement that begins on a line, up to the end of its brackets.
fn whole(lines: &[&[u8]], at: usize) -> String {
    let line = u32::try_from(at + 1).unwrap_or(u32::MAX);
    let mut text = page::head(lines, line);
    // `{` of an import is closed before it ends.
    let open =
        |text: &str| text.matches('{').count() > text.matches('}').count() || text.ends_with('{');
    let first = String::from_utf8_lossy(lines[at]).trim().to_owned();
    if first.contains('{') {
        text = first;
        for line in lines.iter().skip(at + 1).take(20) {
            if !open(&text) || text.len() > LINE {
                break;
            }
            text = format!("{text} {}", String::from_utf8_lossy(line).trim());
        }
        text = shown_line(text.trim_end_matches(';'));
    }
    text
}
