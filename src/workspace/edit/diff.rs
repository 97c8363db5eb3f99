//! A unified diff of a file that `git apply` takes.

use std::{
    collections::HashMap,
    fmt::Write as _,
    hash::Hash,
    time::{Duration, Instant},
};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline, group_diff_ops};

/// What changed between two versions of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The diff; empty where nothing changed.
    pub text: String,
    /// Lines added.
    pub added: usize,
    /// Lines removed.
    pub removed: usize,
}

/// After this long the rest of the two files is called different: still a true diff, only not a short one.
const PATIENCE: Duration = Duration::from_millis(500);
const CONTEXT: usize = 3;

/// The unified diff of `path` (relative, with `/`), where `None` is a file that does not exist.
///
/// A file that is not UTF-8, or has a NUL, gives `Binary files a/… and b/… differ` and no counts.
pub fn unified_diff(path: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> Diff {
    if before == after {
        return Diff::default();
    }
    let (old, new) = (name("a/", path, before), name("b/", path, after));
    let (Some(a), Some(b)) = (text(before), text(after)) else {
        return Diff {
            text: format!("Binary files {old} and {new} differ\n"),
            ..Diff::default()
        };
    };
    let mut diff = Diff {
        text: header(path, before, after),
        ..Diff::default()
    };
    if a != b {
        let _ = write!(diff.text, "--- {old}\n+++ {new}\n");
        hunks(&mut diff, &lines(a), &lines(b));
    }
    diff
}

/// Lines that stand in the place of others, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedLines {
    /// Of the old file.
    pub old: std::ops::Range<usize>,
    /// Of the new one.
    pub new: std::ops::Range<usize>,
}

/// Where two files differ of which only a fingerprint of each line is known.
pub fn changed_lines(old: &[u64], new: &[u64]) -> Vec<ChangedLines> {
    let deadline = Instant::now() + PATIENCE;
    let ops = operations(old, new, Some(deadline));
    let differ = ops.iter().filter(|op| !matches!(op, DiffOp::Equal { .. }));
    differ
        .map(|op| ChangedLines {
            old: op.old_range(),
            new: op.new_range(),
        })
        .collect()
}

/// What makes `new` of `old`, shortest first found until `deadline`. Only numbers are compared, each for its kind of item:
/// the comparison is 100 kB of code for every type that it is made for.
pub(super) fn operations<T: Eq + Hash>(
    old: &[T],
    new: &[T],
    deadline: Option<Instant>,
) -> Vec<DiffOp> {
    let mut numbers = HashMap::with_capacity(old.len());
    let mut number = |item| {
        let next = numbers.len();
        *numbers.entry(item).or_insert(next)
    };
    let old: Vec<usize> = old.iter().map(&mut number).collect();
    let new: Vec<usize> = new.iter().map(&mut number).collect();
    capture_diff_slices_deadline(Algorithm::Myers, &old, &new, deadline)
}

/// The diff of a file that only its mode tells from what it was.
pub fn mode_diff(path: &str, old: u32, new: u32) -> Diff {
    Diff {
        text: format!(
            "diff --git {} {}\nold mode 100{old:03o}\nnew mode 100{new:03o}\n",
            quoted("a/", path),
            quoted("b/", path)
        ),
        ..Diff::default()
    }
}

/// The diff of a file that has another name and the same content.
pub fn rename_diff(old: &str, new: &str) -> Diff {
    let name = |path| quoted("", path);
    Diff {
        text: format!(
            "diff --git {} {}\nsimilarity index 100%\nrename from {}\nrename to {}\n",
            quoted("a/", old),
            quoted("b/", new),
            name(old),
            name(new)
        ),
        ..Diff::default()
    }
}

/// git needs its own header for a file that comes or goes: an empty one has no hunk to tell it by.
fn header(path: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> String {
    let mode = match (before, after) {
        (None, _) => "new file mode 100644\n",
        (_, None) => "deleted file mode 100644\n",
        _ => return String::new(),
    };
    format!(
        "diff --git {} {}\n{mode}",
        quoted("a/", path),
        quoted("b/", path)
    )
}

fn name(side: &str, path: &str, bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "/dev/null".to_string(),
        // A tab ends the name where it has blanks in it.
        Some(_) if path.contains(' ') && quoted(side, path).starts_with(side) => {
            format!("{side}{path}\t")
        }
        Some(_) => quoted(side, path),
    }
}

/// The name as git writes it: in quotes with escapes where it has quotes, backslashes or control characters.
fn quoted(side: &str, path: &str) -> String {
    let plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    if path.chars().all(plain) {
        return format!("{side}{path}");
    }
    let mut out = format!("\"{side}");
    for byte in path.bytes() {
        let _ = match byte {
            b'"' | b'\\' => write!(out, "\\{}", byte as char),
            b'\n' => write!(out, "\\n"),
            b'\t' => write!(out, "\\t"),
            0x20..0x7f => write!(out, "{}", byte as char),
            _ => write!(out, "\\{byte:03o}"),
        };
    }
    out.push('"');
    out
}

fn text(bytes: Option<&[u8]>) -> Option<&str> {
    let text = std::str::from_utf8(bytes.unwrap_or_default()).ok()?;
    (!text.contains('\0')).then_some(text)
}

/// Lines as git counts them: only `\n` ends one.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn hunks(diff: &mut Diff, a: &[&str], b: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    let ops = operations(a, b, Some(deadline));
    for group in group_diff_ops(ops, CONTEXT) {
        hunk(diff, a, b, &group);
    }
}

fn hunk(diff: &mut Diff, a: &[&str], b: &[&str], ops: &[DiffOp]) {
    let (Some(first), Some(last)) = (ops.first(), ops.last()) else {
        return;
    };
    let old = first.old_range().start..last.old_range().end;
    let new = first.new_range().start..last.new_range().end;
    let _ = writeln!(diff.text, "@@ -{} +{} @@", range(&old), range(&new));
    for op in ops {
        match op {
            DiffOp::Equal { .. } => rows(diff, ' ', &a[op.old_range()]),
            _ => {
                rows(diff, '-', &a[op.old_range()]);
                rows(diff, '+', &b[op.new_range()]);
                diff.removed += op.old_range().len();
                diff.added += op.new_range().len();
            }
        }
    }
}

fn range(lines: &std::ops::Range<usize>) -> String {
    match lines.len() {
        // An empty range is named by the line before it.
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        n => format!("{},{n}", lines.start + 1),
    }
}

fn rows(diff: &mut Diff, sign: char, lines: &[&str]) {
    for line in lines {
        diff.text.push(sign);
        diff.text.push_str(line);
        if !line.ends_with('\n') {
            diff.text.push_str("\n\\ No newline at end of file\n");
        }
    }
}
