//! Turns a regular expression from a model into a bounded matcher, or into words about what is wrong with it.

use grep_matcher::LineTerminator;
use grep_regex::{ErrorKind, RegexMatcher, RegexMatcherBuilder};

use super::SearchError;

/// Bytes that a compiled expression, and apart from it the cache of its automaton, may take. ripgrep's own is ten
/// times as much; nobody types what needs more than this, and each worker has a cache.
const COMPILED_LIMIT: usize = 10 << 20;

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) matcher: RegexMatcher,
    /// A match may cover several lines, for which whole files are read.
    pub(super) multi_line: bool,
}

impl Pattern {
    /// Line by line where possible, which is several times as quick; across lines if the expression names a line feed.
    pub(super) fn compile(pattern: &str, ignore_case: bool) -> Result<Self, SearchError> {
        if pattern.is_empty() {
            return Err(SearchError::Pattern {
                message: "it is empty".to_owned(),
                hint: "list the files instead, or use `.` for every line that is not empty"
                    .to_owned(),
            });
        }
        // The matcher wraps the pattern in a group before it parses, and then blames that for what is unclosed.
        if let Err(error) = regex_syntax::Parser::new().parse(pattern) {
            return Err(explained(pattern, &error));
        }
        let mut builder = RegexMatcherBuilder::new();
        builder
            .case_insensitive(ignore_case)
            .multi_line(true)
            .size_limit(COMPILED_LIMIT)
            .dfa_size_limit(COMPILED_LIMIT);
        // `crlf` makes `$` match before `\r\n`; it sets the line terminator, which forbids matching one.
        let (matcher, multi_line) = match builder.clone().crlf(true).build(pattern) {
            Err(e) if matches!(e.kind(), ErrorKind::NotAllowed(_)) => {
                (builder.build(pattern), true)
            }
            built => (built, false),
        };
        let matcher = matcher.map_err(|error| refused(pattern, &error.to_string(), ""))?;
        Ok(Self {
            matcher,
            multi_line,
        })
    }
}

impl Pattern {
    /// What the searcher must split lines at to agree with the matcher. `\r\n` stands for a lone `\n` too.
    pub(super) fn line_terminator(&self) -> LineTerminator {
        match self.multi_line {
            true => LineTerminator::byte(b'\n'),
            false => LineTerminator::crlf(),
        }
    }
}

fn explained(pattern: &str, error: &regex_syntax::Error) -> SearchError {
    let (reason, offset) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span().start.offset),
        regex_syntax::Error::Translate(error) => {
            (error.kind().to_string(), error.span().start.offset)
        }
        other => return refused(pattern, &other.to_string(), ""),
    };
    let character = pattern[..offset].chars().count() + 1;
    refused(pattern, &reason, &format!(" at character {character}"))
}

fn refused(pattern: &str, reason: &str, position: &str) -> SearchError {
    SearchError::Pattern {
        message: format!("{reason}{position} of `{pattern}`"),
        hint: hint(reason).to_owned(),
    }
}

fn hint(reason: &str) -> &'static str {
    if reason.contains("look-around") || reason.contains("backreferences") {
        "search for a simpler pattern and pick from the results"
    } else if reason.contains("size limit") {
        "use smaller repetition counts"
    } else {
        r"to search for `(`, `)`, `[`, `{`, `*`, `+`, `?`, `|`, `.` or `\` as it is, put a backslash in front, such as `main\(`"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_pattern_says_where_and_what_to_try() {
        for (pattern, words) in [
            (
                "main(",
                &["unclosed group", "at character 5 of `main(`", r"main\("][..],
            ),
            ("a[", &["unclosed character class", "at character 2"]),
            (
                "*a",
                &["repetition operator missing expression", "at character 1"],
            ),
            (r"(a)\1", &["backreferences", "simpler"]),
            ("(?=a)", &["look-ahead", "simpler"]),
            ("(a{1000}){1000}", &["size limit", "smaller"]),
            ("", &["empty"]),
        ] {
            let error = Pattern::compile(pattern, false).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "`{pattern}`: no `{word}` in {error}");
            }
        }
    }

    #[test]
    fn only_a_line_feed_makes_it_slow() {
        for (pattern, multi_line) in [
            (r"a\nb", true),
            ("a\nb", true),
            (r"a\s+b", false),
            (r"(?s)a.b", false),
            (r"[^x]$", false),
        ] {
            assert_eq!(
                Pattern::compile(pattern, false).unwrap().multi_line,
                multi_line,
                "{pattern}"
            );
        }
    }
}
