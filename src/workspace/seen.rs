//! What the agent has seen of files, to tell it when one is no longer what it was, and what of it is new.

use std::{
    collections::HashMap,
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::edit::{self, ChangedLines};
use crate::conversation::{shortened, shown_line};

/// New lines that are shown; the rest is counted.
const SHOWN_LINES: usize = 40;
/// Characters of each.
const SHOWN_CHARACTERS: usize = 300;

/// A fingerprint of each line of each file as the agent last read or wrote it: enough to say which lines changed, and
/// a fraction of the file. Forgotten with the process: a thread that another one resumes is not told of what changed
/// before.
///
/// The lock is held for the time of a map operation; nobody awaits under it.
#[derive(Debug, Default)]
pub struct Seen {
    files: Mutex<HashMap<PathBuf, Vec<u64>>>,
}

/// What is known of files, to be kept and believed by the same process only. Paths that are not UTF-8 are left out.
pub type Known = HashMap<String, Vec<u64>>;

impl Seen {
    /// The agent knows `real` as `content` from here on.
    pub fn note(&self, real: &Path, content: &[u8]) {
        self.files().insert(real.to_owned(), fingerprints(content));
    }

    /// What is new about `real`, in words for the agent; none if it knew this content, or none at all. It is told, so
    /// from here on it knows this one.
    pub fn news(&self, real: &Path, content: Option<&[u8]>) -> Option<String> {
        let known = self.files().remove(real)?;
        let Some(content) = content else {
            return Some("it is gone".to_owned());
        };
        let now = fingerprints(content);
        let changed = edit::changed_lines(&known, &now);
        self.files().insert(real.to_owned(), now);
        (!changed.is_empty()).then(|| told(&changed, content))
    }

    /// All of it.
    pub fn known(&self) -> Known {
        let files = self.files();
        let named = files
            .iter()
            .filter_map(|(path, lines)| Some((path.to_str()?, lines)));
        named
            .map(|(path, lines)| (path.to_owned(), lines.clone()))
            .collect()
    }

    /// Knows again what was known.
    pub fn recall(&self, known: Known) {
        self.files()
            .extend(known.into_iter().map(|(path, lines)| (path.into(), lines)));
    }

    fn files(&self) -> MutexGuard<'_, HashMap<PathBuf, Vec<u64>>> {
        // A panic while the lock was held leaves a map that is still whole.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Line ends belong to the lines.
fn fingerprints(content: &[u8]) -> Vec<u64> {
    let lines = content.split_inclusive(|byte| *byte == b'\n');
    lines
        .map(|line| {
            let mut hasher = DefaultHasher::new();
            line.hash(&mut hasher);
            hasher.finish()
        })
        .collect()
}

fn told(changed: &[ChangedLines], content: &[u8]) -> String {
    let lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
    let mut text = String::new();
    let mut room = SHOWN_LINES;
    let mut left_out = 0;
    for ChangedLines { old, new } in changed {
        if new.is_empty() {
            let _ = writeln!(
                text,
                "{} lines after line {} are gone",
                old.len(),
                new.start
            );
            continue;
        }
        let _ = writeln!(text, "new from line {}:", new.start + 1);
        for line in &lines[new.clone()] {
            if room == 0 {
                left_out += 1;
                continue;
            }
            room -= 1;
            let line = String::from_utf8_lossy(line);
            let line = shown_line(line.trim_end_matches('\n'));
            let _ = writeln!(text, "{}", shortened(&line, SHOWN_CHARACTERS));
        }
    }
    if left_out > 0 {
        let _ = writeln!(text, "[{left_out} more new lines; read the file]");
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_told_once_and_by_line() {
        let seen = Seen::default();
        let path = Path::new("/w/a");
        assert_eq!(seen.news(path, Some(b"one\n")), None, "it was never seen");
        seen.note(path, b"one\ntwo\nthree\nfour\n");
        let now = b"one\n2\nthree\n";
        let told = seen.news(path, Some(now)).unwrap();
        assert_eq!(told, "new from line 2:\n2\n1 lines after line 3 are gone");
        assert_eq!(seen.news(path, Some(now)), None);
        assert_eq!(seen.news(path, None).as_deref(), Some("it is gone"));
        seen.note(path, b"");
        let long = "x\n".repeat(50);
        let told = seen.news(path, Some(long.as_bytes())).unwrap();
        assert!(
            told.ends_with("[10 more new lines; read the file]"),
            "{told}"
        );
    }
}
