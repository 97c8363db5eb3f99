//! A rollout read at its two ends: enough of it to say what a thread is about and how it stands, however long it is.
//!
//! The head goes to the first message, the tail goes back to the last record that begins or ends a turn. Both are handed to
//! the ordinary reader, which passes over what it cannot place.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::Path,
};

/// Bytes of a first look at either end; each further look doubles them.
const LOOK: u64 = 64 * 1024;

/// The lines that matter, as a short rollout.
///
/// # Errors
/// The file cannot be read.
pub(super) fn skim(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut lines = head(&mut file)?;
    let start = lines.len() as u64;
    if start < length {
        lines.extend(tail(&file, start, length)?);
    }
    Ok(lines)
}

/// The number of turns that were begun, in the whole lines of the file.
///
/// # Errors
/// The file cannot be read.
pub(super) fn turns(path: &Path) -> io::Result<usize> {
    let mut lines = BufReader::with_capacity(LOOK as usize, File::open(path)?);
    let (mut line, mut turns) = (Vec::new(), 0);
    while lines.read_until(b'\n', &mut line)? > 0 {
        turns += usize::from(line.ends_with(b"\n") && is_record(&line, &["turn_started"]));
        line.clear();
    }
    Ok(turns)
}

/// Whole lines from the beginning, up to the first message.
fn head(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut seen = 0;
    loop {
        let look = LOOK.max(head.len() as u64);
        let read = file.take(look).read_to_end(&mut head)?;
        while let Some(length) = head[seen..].iter().position(|byte| *byte == b'\n') {
            let line = seen..seen + length;
            seen = line.end + 1;
            if is_record(&head[line], &["user_message"]) {
                head.truncate(seen);
                return Ok(head);
            }
        }
        if read == 0 {
            return Ok(head);
        }
    }
}

/// The end, from the last record that says how a turn stands; nothing before `start`.
fn tail(file: &File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut look = LOOK;
    loop {
        let from = length.saturating_sub(look).max(start);
        let mut tail = vec![0; (length - from) as usize];
        file.read_exact_at(&mut tail, from)?;
        let lines = tail.rsplit(|byte| *byte == b'\n');
        let mut end = tail.len() + 1;
        for line in lines {
            end -= line.len() + 1;
            let is_whole = end > 0 || from == start;
            if is_whole && is_record(line, &["turn_started", "turn_ended"]) {
                return Ok(tail.split_off(end));
            }
        }
        if from == start {
            return Ok(tail);
        }
        look *= 2;
    }
}

/// True if a line is a record of one of these types. A record's `type` stands right after its time, so text that only
/// quotes one is not taken for it.
fn is_record(line: &[u8], types: &[&str]) -> bool {
    const TYPE: &[u8] = b"\"type\":\"";
    let start = &line[..line.len().min(80)];
    let Some(at) = start.windows(TYPE.len()).position(|part| part == TYPE) else {
        return false;
    };
    let name = &start[at + TYPE.len()..];
    let name = name.split(|byte| *byte == b'"').next().unwrap_or_default();
    types.iter().any(|one| one.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::{DirectoryStore, ThreadStore};

    const ID: &str = "01990000-0000-7000-8000-000000000001";

    /// A fixture with `filler` bytes of conversation after line `at`, and `end` after that.
    fn store(
        name: &str,
        at: usize,
        filler: usize,
        end: &str,
    ) -> (tempfile::TempDir, DirectoryStore) {
        let fixture = format!("{}/fixtures/rollouts/v1/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = fs_err::read_to_string(fixture).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let quote = "{\\\"type\\\":\\\"turn_ended\\\"}".repeat(8);
        let message = format!(
            r#"{{"at":"2026-11-20T12:00:07.500Z","type":"agent_message","text":"{quote}"}}"#
        );
        let count = filler / message.len();
        lines.splice(at..at, std::iter::repeat_n(message, count));
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(ID);
        fs_err::create_dir(&place).unwrap();
        fs_err::write(place.join("rollout.jsonl"), lines.join("\n") + "\n" + end).unwrap();
        let store = DirectoryStore::new(dir.path().to_owned());
        (dir, store)
    }

    #[test]
    fn a_glance_says_what_reading_the_whole_says() {
        for (name, at) in [
            ("completed.jsonl", 3),
            ("cut_short.jsonl", 3),
            ("damaged.jsonl", 3),
        ] {
            for filler in [0, 100_000, 1_000_000] {
                for end in ["", "{\"at\":\"2026-11-20T12"] {
                    let (_dir, store) = store(name, at, filler, end);
                    let id = ID.parse().unwrap();
                    let (glance, whole) = (store.glance(id).unwrap(), &store.list().unwrap()[0]);
                    let about = format!("{name} {filler} {end}");
                    assert_eq!(glance.status, whole.status, "{about}");
                    assert_eq!(glance.title, whole.title, "{about}");
                    assert_eq!(glance.cwd, whole.cwd, "{about}");
                    assert_eq!(glance.turns, None, "{about}");
                }
            }
        }
    }

    #[test]
    fn a_long_thread_is_not_read_whole() {
        let (dir, _) = store("completed.jsonl", 3, 4_000_000, "");
        let bytes = skim(&dir.path().join(ID).join("rollout.jsonl")).unwrap();
        assert!(bytes.len() < 10_000, "{} bytes", bytes.len());
    }
}
