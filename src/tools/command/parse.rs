//! From a shell line to its words, or a reason why it is not plainly understood.
//!
//! A tokenizer of our own, for the subset below and nothing else. The crates that were weighed, with what each adds to a
//! release build (two cores, 2026-11-20, before: 13.4 MB of at most 15):
//!
//! | crate | licence | binary | processor time | why not |
//! |---|---|---|---|---|
//! | brush-parser 0.4 | MIT | 0.4 MB | 61 s, 30 new crates | `(` 60 times never ends (28 take 3.5 s), `if ` 5,000 times aborts the process; its words need a second parser |
//! | tree-sitter-bash 0.25 | MIT | 1.5 MB | 30 s, mostly C | the room that is left, all of it; guesses on where the text makes no sense |
//! | yash-syntax | GPL-3 | | | licence |
//! | conch-parser 0.1 | MIT/Apache | | | not kept up |
//!
//! And a whole parser would not decide the question: each construct it knows must still be shown to be harmless, so the
//! list of what is accepted stays as long as this file. What is accepted means the same to bash and to a POSIX `sh`; a
//! test puts the same lines to both.

use std::{iter::Peekable, str::Chars};

use super::{Join, Line, Opaque, Simple, Word};

/// Bytes. Nobody reads a longer one whole.
const LONGEST: usize = 10_000;

/// Words that mean something to the shell where a program would stand.
const RESERVED: &[&str] = &[
    "if", "then", "elif", "else", "fi", "do", "done", "case", "esac", "while", "until", "for",
    "in", "select", "function", "time", "coproc", "[[", "{", "}",
];

impl Line {
    /// Understands `text`, or says what in it is not plain.
    pub fn parse(text: &str) -> Result<Self, Opaque> {
        if text.len() > LONGEST {
            return Err(Opaque("it is too long"));
        }
        let reader = Reader {
            chars: text.chars().peekable(),
            commands: Vec::new(),
            join: Join::Then,
            words: Vec::new(),
            begun: false,
        };
        reader.line()
    }
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    commands: Vec<Simple>,
    /// Before the command that is being read.
    join: Join,
    words: Vec<Word>,
    /// There was a `!` or a redirect, so a program must follow.
    begun: bool,
}

/// A word that is being read.
#[derive(Default)]
struct Draft {
    text: String,
    quoted: bool,
    /// Where `*`, `?` and `[` stand unquoted.
    stars: Vec<usize>,
    brackets: Vec<usize>,
}

impl Reader<'_> {
    fn line(mut self) -> Result<Line, Opaque> {
        while let Some(c) = self.chars.next() {
            match c {
                ' ' | '\t' => {}
                '\n' if self.words.is_empty() && !self.begun => {}
                '\n' | ';' => self.end(Join::Then)?,
                '&' if self.take('&') => self.end(Join::And)?,
                '&' => return Err(Opaque("`&`")),
                '|' if self.take('|') => self.end(Join::Or)?,
                '|' => self.end(Join::Pipe)?,
                '<' | '>' => self.redirect(c)?,
                '#' => return Err(Opaque("a comment")),
                c => self.word(c)?,
            }
        }
        if !self.words.is_empty() {
            self.end(Join::Then)?;
        }
        if self.begun || self.join != Join::Then || self.commands.is_empty() {
            return Err(Opaque("it ends too early"));
        }
        Ok(Line {
            commands: self.commands,
        })
    }

    fn take(&mut self, c: char) -> bool {
        self.chars.next_if_eq(&c).is_some()
    }

    fn end(&mut self, next: Join) -> Result<(), Opaque> {
        if self.words.is_empty() {
            return Err(Opaque("a command without a program"));
        }
        self.commands.push(Simple {
            join: self.join,
            words: std::mem::take(&mut self.words),
        });
        self.join = next;
        self.begun = false;
        Ok(())
    }

    /// After `<` or `>`, perhaps with a number before it.
    fn redirect(&mut self, c: char) -> Result<(), Opaque> {
        self.begun = true;
        let appends = self.take(c);
        if appends && c == '<' {
            return Err(Opaque("a here-document"));
        }
        let duplicates = !appends && self.take('&');
        if !duplicates {
            while self.chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        }
        let mut target = String::new();
        while let Some(c) = self.chars.next_if(|c| {
            !matches!(
                c,
                ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')'
            )
        }) {
            target.push(c);
        }
        // What begins otherwise (`>|`, `<>`, `<(`) has no such target.
        let known = match duplicates {
            true => matches!(target.as_str(), "0" | "1" | "2"),
            false => target == "/dev/null",
        };
        if known {
            Ok(())
        } else {
            Err(Opaque("a redirect"))
        }
    }

    fn word(&mut self, first: char) -> Result<(), Opaque> {
        let mut draft = Draft::default();
        let mut next = Some(first);
        while let Some(c) = next {
            self.part(c, &mut draft)?;
            next = self.chars.next_if(|c| {
                !matches!(
                    c,
                    ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')'
                )
            });
        }
        let is_number = !draft.quoted && draft.text.bytes().all(|byte| byte.is_ascii_digit());
        // What more digits mean depends on the shell.
        let is_descriptor = is_number && draft.text.len() == 1;
        match self.chars.peek() {
            Some('(' | ')') => return Err(Opaque("parentheses")),
            Some('<' | '>') if is_number && !is_descriptor => return Err(Opaque("a redirect")),
            Some('<' | '>') if is_descriptor => {
                let Some(c) = self.chars.next() else {
                    return Err(Opaque("it ends too early"));
                };
                return self.redirect(c);
            }
            _ => {}
        }
        self.placed(draft)
    }

    /// One character outside quotes, with what belongs to it.
    fn part(&mut self, c: char, draft: &mut Draft) -> Result<(), Opaque> {
        let at = draft.text.len();
        match c {
            '\'' => {
                draft.quoted = true;
                loop {
                    match self.chars.next() {
                        Some('\'') => return Ok(()),
                        Some('\0') | None => return Err(Opaque("an open quote")),
                        Some(c) => draft.text.push(c),
                    }
                }
            }
            '"' => return self.double(draft),
            '\\' => {
                draft.quoted = true;
                match self.chars.next() {
                    Some(c @ ' '..='~') => draft.text.push(c),
                    _ => return Err(Opaque("a backslash before something unusual")),
                }
                return Ok(());
            }
            '$' if matches!(self.chars.peek(), None | Some(' ' | '\t' | '\n' | ';')) => {}
            '$' => return Err(Opaque("an expansion")),
            '`' => return Err(Opaque("a substitution")),
            '(' | ')' => return Err(Opaque("parentheses")),
            '{' | '}' => return Err(Opaque("braces")),
            '~' if !draft.text.ends_with(|c: char| c.is_ascii_alphanumeric()) => {
                return Err(Opaque("a home directory"));
            }
            '*' | '?' => draft.stars.push(at),
            '[' => draft.brackets.push(at),
            // Other blanks and control characters are read differently by different shells.
            '!'..='~' => {}
            _ => return Err(Opaque("an unusual character outside quotes")),
        }
        draft.text.push(c);
        Ok(())
    }

    fn double(&mut self, draft: &mut Draft) -> Result<(), Opaque> {
        draft.quoted = true;
        loop {
            // In some encodings the second half of a letter can look like a backslash.
            let after_letter = draft.text.ends_with(|c: char| !c.is_ascii());
            match self.chars.next() {
                Some('\\') if after_letter => {
                    return Err(Opaque("a backslash behind something unusual"));
                }
                Some('"') => return Ok(()),
                Some('\0') | None => return Err(Opaque("an open quote")),
                Some('`') => return Err(Opaque("a substitution")),
                // As regular expressions have it.
                Some('$') if matches!(self.chars.peek(), Some('"' | ' ' | '|' | '/')) => {
                    draft.text.push('$');
                }
                Some('$') => return Err(Opaque("an expansion")),
                Some('\\') => match self.chars.next() {
                    Some(c @ ('$' | '`' | '"' | '\\')) => draft.text.push(c),
                    Some('\n' | '\0') | None => {
                        return Err(Opaque("a backslash before something unusual"));
                    }
                    // Put back what stays as it is.
                    Some(c) => draft.text.extend(['\\', c]),
                },
                Some(c) => draft.text.push(c),
            }
        }
    }

    fn placed(&mut self, draft: Draft) -> Result<(), Opaque> {
        let brackets = draft.brackets.iter().copied();
        let closed = brackets.filter(|at| draft.text[at + 1..].contains(']'));
        let pattern = draft.stars.iter().copied().chain(closed).min();
        if self.words.is_empty() {
            let reserved = !draft.quoted && RESERVED.contains(&draft.text.as_str());
            if !draft.quoted && draft.text == "!" {
                if self.begun || self.join == Join::Pipe {
                    return Err(Opaque("`!` in an unusual place"));
                }
                self.begun = true;
                return Ok(());
            }
            if reserved {
                return Err(Opaque("control flow"));
            }
            if draft.text.contains('=') {
                return Err(Opaque("an assignment"));
            }
            if pattern.is_some() || draft.text.is_empty() {
                return Err(Opaque("a program whose name is not plain"));
            }
        }
        self.words.push(Word {
            text: draft.text,
            pattern,
        });
        Ok(())
    }
}
