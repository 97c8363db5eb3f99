//! Arbitrary bytes as a file and edits on it, and what must hold whatever they are.

use openoxide::workspace::edit::{Applied, Edit, apply, unified_diff};

/// Text that reaches the rungs of the ladder sooner than random bytes do.
const PIECES: [&str; 48] = [
    "\n",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "    ",
    "  ",
    "\t",
    " ",
    "fn a() {",
    "}",
    "end",
    "// ...",
    "...",
    "// the first comment says so.",
    "version",
    "verison",
    "1",
    "23",
    "24",
    "\"",
    "'",
    "\u{201C}",
    "\u{2019}",
    "\u{2014}",
    "--",
    "\\n",
    "\\\"",
    "\\u00e9",
    "\\",
    "&lt;",
    "&amp;",
    "<",
    "```",
    "~~~rust",
    "12: ",
    "  13 | ",
    "14\t",
    "+",
    "-",
    "> ",
    "\u{FEFF}",
    "\u{200B}",
    "\u{A0}",
    "e\u{301}",
    "é",
    "哈",
    "<<<<<<< SEARCH",
];

/// Reads a byte at a time, and zeros after the end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                usize::from(*first)
            }
            None => 0,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() * 256 + self.next()) % limit.max(1)
    }

    fn text(&mut self, most: usize) -> String {
        let pieces = self.below(most);
        (0..pieces).map(|_| self.piece()).collect()
    }

    fn piece(&mut self) -> String {
        match self.next() {
            n @ 0..=200 => PIECES[n % PIECES.len()].to_string(),
            _ => char::from_u32(self.next() as u32).map_or(String::new(), String::from),
        }
    }

    fn edit(&mut self, file: &str) -> Edit {
        let cut = self.cut(file);
        let search = match self.next() % 4 {
            0 => self.text(12),
            1 => cut,
            _ => self.damage(&cut),
        };
        let new = self.text(12);
        let replace = match self.next() % 5 {
            0 => new,
            1 => format!("{search}{new}"),
            2 => format!("{new}{search}"),
            3 => search.replacen(' ', &new, 1),
            _ => search.lines().skip(1).collect::<Vec<_>>().join("\n"),
        };
        Edit {
            search,
            replace,
            line: (self.next() % 4 == 0).then(|| self.below(30)),
            replace_all: self.next() % 8 == 0,
        }
    }

    /// A run of lines, or of characters.
    fn cut(&mut self, file: &str) -> String {
        if self.next() % 4 == 0 {
            let skip = self.below(file.chars().count() + 1);
            let take = self.below(60);
            return file.chars().skip(skip).take(take).collect();
        }
        let lines: Vec<&str> = file.split_inclusive('\n').collect();
        let from = self.below(lines.len());
        let tall = 1 + self.below(12);
        lines.into_iter().skip(from).take(tall).collect()
    }

    fn damage(&mut self, text: &str) -> String {
        let mut text = text.to_string();
        for _ in 0..=self.next() % 2 {
            text = self.damage_once(&text);
        }
        text
    }

    fn damage_once(&mut self, text: &str) -> String {
        let each = |f: &dyn Fn(usize, &str) -> String| {
            let lines: Vec<String> = text
                .split('\n')
                .enumerate()
                .map(|(n, line)| f(n, line))
                .collect();
            lines.join("\n")
        };
        match self.next() % 16 {
            0 => each(&|_, line| format!("  {line}")),
            1 => each(&|_, line| line.trim_start().to_string()),
            2 => each(&|_, line| format!("{line}  ")),
            3 => each(&|n, line| format!("{:>4} | {line}", n + 7)),
            4 => each(&|_, line| line.replace("    ", "\t")),
            5 => each(&|_, line| line.replace('\t', "  ")),
            6 => text.replace('\n', "\r\n"),
            7 => text.replace("\n\n", "\n"),
            8 => text.replace('\n', "\n\n"),
            9 => format!("```\n{text}\n```"),
            10 => text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n"),
            11 => text.replace('&', "&amp;").replace('<', "&lt;"),
            12 => text.replace('"', "\u{201C}").replace('\'', "\u{2019}"),
            13 => self.swapped(text),
            14 => self.elided(text),
            _ => format!("{text}{}", self.piece()),
        }
    }

    fn swapped(&mut self, text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        let at = self.below(letters.len());
        if at + 1 < letters.len() {
            letters.swap(at, at + 1);
        }
        letters.into_iter().collect()
    }

    fn elided(&mut self, text: &str) -> String {
        let mut lines: Vec<&str> = text.split('\n').collect();
        let from = 1 + self.below(lines.len());
        let to = from + self.below(4);
        if to < lines.len() {
            lines.splice(from..to, ["// ... existing code ..."]);
        }
        lines.join("\n")
    }
}

/// Reads a file and edits out of the bytes and checks what must hold.
pub fn edit(data: &[u8]) {
    let mut bytes = Bytes(data);
    let _ = apply(
        Some(data),
        &[Edit {
            search: "a".into(),
            ..Edit::default()
        }],
    );
    let file = bytes.text(120);
    edit_of(&file, bytes.0);
}

/// Edits read out of the bytes, on a given file.
pub fn edit_of(file: &str, data: &[u8]) {
    let mut bytes = Bytes(data);
    let edits: Vec<Edit> = (0..=bytes.next() % 3).map(|_| bytes.edit(file)).collect();
    match apply(Some(file.as_bytes()), &edits) {
        Ok(applied) => {
            check_diff(file, &applied);
            check_places(&applied);
        }
        Err(refusal) => {
            assert!(refusal.edit < edits.len());
            assert!(refusal.message.lines().count() <= 40, "{}", refusal.message);
            assert!(refusal.message.len() < 12_000, "{}", refusal.message);
        }
    }
    if let Ok(applied) = apply(Some(file.as_bytes()), &edits[..1]) {
        check_outside(file, &applied);
    }
}

fn check_places(applied: &Applied) {
    let after = std::str::from_utf8(&applied.after).expect("text stays text");
    let lines = lines(after).len().max(1);
    for place in &applied.matches {
        assert!(
            1 <= place.first_line
                && place.first_line <= place.last_line
                && place.last_line <= lines
        );
    }
}

/// The lines above the first match and below the last are the file's own, byte for byte.
fn check_outside(before: &str, applied: &Applied) {
    let after = std::str::from_utf8(&applied.after).expect("text stays text");
    let lines = lines(after);
    let first = applied
        .matches
        .iter()
        .map(|m| m.first_line)
        .min()
        .unwrap_or(1);
    let last = applied
        .matches
        .iter()
        .map(|m| m.last_line)
        .max()
        .unwrap_or(1);
    let above: usize = lines.iter().take(first - 1).map(|line| line.len()).sum();
    let below: usize = lines.iter().take(last).map(|line| line.len()).sum();
    assert!(
        before.starts_with(&after[..above]),
        "changed above line {first}"
    );
    assert!(
        before.ends_with(&after[below..]),
        "changed below line {last}"
    );
}

fn lines(text: &str) -> Vec<&str> {
    let stop = if text.contains('\n') { '\n' } else { '\r' };
    text.split_inclusive(stop).collect()
}

fn check_diff(before: &str, applied: &Applied) {
    let after = std::str::from_utf8(&applied.after).expect("text stays text");
    if before.contains('\0') || after.contains('\0') {
        return;
    }
    let diff = unified_diff("f", Some(before.as_bytes()), Some(after.as_bytes()));
    assert_eq!(patched(before, &diff.text), after);
}

/// Applies a unified diff by the letter.
fn patched(before: &str, diff: &str) -> String {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let mut out = String::new();
    let (mut at, mut begun) = (0, false);
    let mut rows = diff.split_inclusive('\n').peekable();
    while let Some(row) = rows.next() {
        let open = rows.peek().is_some_and(|next| next.starts_with("\\ "));
        let text = row[1..]
            .strip_suffix('\n')
            .filter(|_| open)
            .unwrap_or(&row[1..]);
        if let Some(range) = row.strip_prefix("@@ -") {
            let start = start_of(range);
            out += &old[at..start].concat();
            at = start;
            begun = true;
        } else if !begun || row.starts_with('\\') {
        } else if row.starts_with('+') {
            out += text;
        } else {
            assert_eq!(old[at], text);
            if row.starts_with(' ') {
                out += text;
            }
            at += 1;
        }
    }
    out + &old[at..].concat()
}

fn start_of(range: &str) -> usize {
    let old = range.split(' ').next().unwrap_or("");
    let (start, len) = old.split_once(',').unwrap_or((old, "1"));
    let start: usize = start.parse().expect("a line number");
    if len == "0" { start } else { start - 1 }
}
