//! Lines as words: tokens, slips of the pen, comments.

use super::diff::operations;

/// A run of word characters, of blanks, of dashes or of dots; any other character alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.at + self.text.len()
    }

    pub(super) fn is_blank(&self) -> bool {
        self.text.starts_with(char::is_whitespace)
    }
}

#[derive(PartialEq, Eq)]
enum Kind {
    Word,
    Blank,
    Dash,
    Dot,
    Other,
}

fn kind(c: char) -> Kind {
    match c {
        // A combining mark belongs to the letter before it, composed or not.
        '_' | '\u{300}'..='\u{36F}' => Kind::Word,
        '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' => Kind::Dash,
        '.' | '…' => Kind::Dot,
        c if c.is_alphanumeric() => Kind::Word,
        c if c.is_whitespace() => Kind::Blank,
        _ => Kind::Other,
    }
}

/// The tokens of a line, one after the other without gaps.
pub(super) fn tokens(line: &str) -> Vec<Token<'_>> {
    let mut all: Vec<Token<'_>> = Vec::new();
    let mut last = Kind::Other;
    for (at, c) in line.char_indices() {
        let here = kind(c);
        let end = at + c.len_utf8();
        match all.last_mut() {
            Some(token) if here == last && here != Kind::Other => {
                token.text = &line[token.at..end];
            }
            _ => all.push(Token {
                at,
                text: &line[at..end],
            }),
        }
        last = here;
    }
    all
}

/// The tokens that are not blanks.
pub(super) fn solid_tokens(line: &str) -> Vec<Token<'_>> {
    let mut all = tokens(line);
    all.retain(|token| !token.is_blank());
    all
}

/// Shortest word in which a slip can be told from another word.
const SHORTEST: usize = 5;

/// Whether `wrong` is `right` with one slip of the fingers: a letter doubled or lost inside the word, or two neighbours
/// swapped. A letter exchanged for another, or added at an end (a plural), makes another word.
pub(super) fn is_slip(wrong: &str, right: &str) -> bool {
    let a: Vec<char> = wrong.chars().collect();
    let b: Vec<char> = right.chars().collect();
    let letters = a.iter().chain(&b).all(|c| c.is_alphabetic());
    if !letters || a.len().min(b.len()) + 1 < SHORTEST || b.len() < SHORTEST {
        return false;
    }
    let ahead = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let behind = a.iter().rev().zip(b.iter().rev());
    let behind = behind.take_while(|(x, y)| x == y).count();
    match a.len() as isize - b.len() as isize {
        0 => swapped(&a, &b, ahead, behind),
        1 => inside(a.len(), ahead, behind) && (a[ahead] == a[ahead - 1]),
        -1 => inside(b.len(), ahead, behind),
        _ => false,
    }
}

/// One letter more than the shared ends, and not the first or the last of the word.
fn inside(long: usize, ahead: usize, behind: usize) -> bool {
    ahead >= 1 && ahead + behind + 1 >= long && behind >= 1 && ahead + 1 < long
}

fn swapped(a: &[char], b: &[char], ahead: usize, behind: usize) -> bool {
    ahead + behind + 2 == a.len() && a[ahead] == b[ahead + 1] && a[ahead + 1] == b[ahead]
}

const LEADERS: [&str; 12] = [
    "///", "//!", "//", "/**", "/*", "<!--", "*", "##", "#", "--", ";;", "%",
];

/// The leader and the text of a line that is a comment and nothing else.
pub(super) fn comment(line: &str) -> Option<(&'static str, &str)> {
    let body = line.trim();
    let leader = LEADERS.iter().find(|leader| body.starts_with(**leader))?;
    let text = &body[leader.len()..];
    text.starts_with(char::is_whitespace).then(|| {
        let text = text.trim().trim_end_matches("*/").trim_end_matches("-->");
        (*leader, text.trim_end())
    })
}

/// Words that carry a sentence but not what it is about.
const SMALL: [&str; 40] = [
    "a", "an", "the", "this", "that", "these", "those", "is", "are", "was", "were", "be", "been",
    "to", "for", "of", "in", "on", "at", "by", "with", "from", "as", "and", "or", "but", "so",
    "it", "its", "we", "you", "will", "would", "can", "could", "should", "must", "may", "also",
    "then",
];

fn is_small(word: &str) -> bool {
    SMALL.contains(&word.to_lowercase().as_str())
}

/// Whether two comments say the same: see `likeness`.
pub(super) fn says_the_same(search: &str, file: &str) -> bool {
    let ours: Vec<&str> = bare_words(search);
    let theirs: Vec<&str> = bare_words(file);
    if theirs.len() < 3 || numbers(search) != numbers(file) || symbols(search) != symbols(file) {
        return false;
    }
    let (kept, dropped, added) = compare(&ours, &theirs);
    let lost: Vec<&&str> = dropped.iter().filter(|word| !is_small(word)).collect();
    let same = kept * 5 >= theirs.len() * 3;
    same && added.iter().all(|word| is_small(word))
        && lost.len() <= 1
        && lost.iter().all(|word| is_plain(word))
        && (lost.is_empty() || added.is_empty())
}

/// A word of prose: letters (and an apostrophe), no capitals inside, so no identifier.
fn is_plain(word: &str) -> bool {
    let mut letters = word.chars();
    let caps = word.chars().filter(|c| c.is_uppercase()).count();
    letters.all(|c| c.is_alphabetic() || c == '\'') && caps <= 2
}

fn bare_words(text: &str) -> Vec<&str> {
    text.split_whitespace()
        .map(|word| word.trim_matches(['.', ',', ';', ':', '!', '?']))
        .filter(|word| !word.is_empty())
        .collect()
}

fn numbers(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|run| !run.is_empty())
        .collect()
}

/// What is neither a word nor the punctuation of a sentence.
fn symbols(text: &str) -> Vec<char> {
    let mut all: Vec<char> = text
        .chars()
        .filter(|c| !c.is_alphanumeric() && !c.is_whitespace())
        .filter(|c| !matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '\''))
        .collect();
    all.sort_unstable();
    all
}

/// Words kept, words of the file that are gone, words that are new; in order, capitals at the front of a word aside.
fn compare<'a>(ours: &[&'a str], theirs: &[&'a str]) -> (usize, Vec<&'a str>, Vec<&'a str>) {
    let a: Vec<String> = theirs.iter().map(|word| uncapped(word)).collect();
    let b: Vec<String> = ours.iter().map(|word| uncapped(word)).collect();
    let mut kept = 0;
    let (mut dropped, mut added) = (Vec::new(), Vec::new());
    for op in operations(&a, &b, None) {
        if let similar::DiffOp::Equal { len, .. } = op {
            kept += len;
        } else {
            dropped.extend(&theirs[op.old_range()]);
            added.extend(&ours[op.new_range()]);
        }
    }
    (kept, dropped, added)
}

fn uncapped(word: &str) -> String {
    let mut letters = word.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}
