//! What a command printed: its first and last bytes in bounded memory, then the text that a person would have seen.

use std::collections::VecDeque;

/// Bytes kept of the beginning, and as many of the end.
const KEPT: usize = 64 << 10;
/// Columns that the cursor is followed to; further right is a wrong number rather than a wide terminal.
const WIDEST: usize = 1000;
/// Rows of a screen; the same for them.
const TALLEST: usize = 200;
/// Output of which more than one character in so many is not text is called binary.
const BINARY_RATIO: usize = 4;

/// Keeps the head and the tail of a stream of bytes, whatever its length.
#[derive(Debug, Default)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Bytes that left the tail.
    omitted: u64,
}

impl Capture {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(KEPT - self.head.len()));
        self.head.extend_from_slice(head);
        let kept = &rest[rest.len().saturating_sub(KEPT)..];
        let excess = (self.tail.len() + kept.len()).saturating_sub(KEPT);
        self.tail.drain(..excess);
        self.tail.extend(kept);
        self.omitted += (excess + rest.len() - kept.len()) as u64;
    }

    /// The text of what came since the last time, for the model, and the number of bytes that it does not cover. A
    /// character that is not complete yet is left for the next time, unless this is the `last`.
    pub(super) fn take(&mut self, last: bool) -> (String, u64) {
        let Self {
            head,
            tail,
            omitted,
        } = std::mem::take(self);
        let (mut head, mut tail) = (head, Vec::from(tail));
        if !last {
            let end = if tail.is_empty() {
                &mut head
            } else {
                &mut tail
            };
            self.head = end.split_off(end.len() - unfinished(end));
        }
        text_of(head, tail, omitted)
    }
}

fn text_of(mut head: Vec<u8>, tail: Vec<u8>, omitted: u64) -> (String, u64) {
    let total = (head.len() + tail.len()) as u64 + omitted;
    if omitted == 0 {
        head.extend(tail);
        return (text(&head, total), 0);
    }
    // Half a character on either side of the gap was text, and would read as a defect of the output.
    let head_end = head.len() - unfinished(&head);
    let tail_start = tail
        .iter()
        .take(3)
        .take_while(|byte| **byte & 0xc0 == 0x80)
        .count();
    let omitted = omitted + (head.len() - head_end + tail_start) as u64;
    let (head, tail) = (&head[..head_end], &tail[tail_start..]);
    if is_binary(head) {
        return (binary(total), total);
    }
    let (head, tail) = (seen(head), seen(tail));
    let line_end = if head.ends_with('\n') { "" } else { "\n" };
    (
        format!("{head}{line_end}[… {omitted} bytes omitted …]\n{tail}"),
        omitted,
    )
}

/// How many bytes at the end of `bytes` begin a character that is not complete.
fn unfinished(bytes: &[u8]) -> usize {
    (1..=bytes.len().min(3))
        .find(|back| {
            let lead = bytes[bytes.len() - back];
            let length = match lead {
                0xf0..=0xf7 => 4,
                0xe0..=0xef => 3,
                0xc0..=0xdf => 2,
                _ => 0,
            };
            length > *back
        })
        .unwrap_or(0)
}

fn text(bytes: &[u8], total: u64) -> String {
    match is_binary(bytes) {
        true => binary(total),
        false => seen(bytes),
    }
}

fn binary(total: u64) -> String {
    format!("[binary output, {total} bytes]")
}

fn is_binary(bytes: &[u8]) -> bool {
    let (mut all, mut strange) = (0, 0);
    for c in String::from_utf8_lossy(bytes).chars() {
        all += 1;
        strange += usize::from(matches!(c, '\0' | '\u{fffd}'));
    }
    strange * BINARY_RATIO > all
}

/// The last line in `bytes` that shows something, at most `limit` characters of it.
pub(super) fn last_line(bytes: &[u8], limit: usize) -> Option<String> {
    let text = seen(bytes);
    let line = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    Some(line.chars().take(limit).collect())
}

/// What a person would see after `bytes` went to an endlessly long terminal: what was overwritten is gone, colours
/// and titles too. Bytes that are not UTF-8 are replaced.
fn seen(bytes: &[u8]) -> String {
    let mut screen = Screen::default();
    vte::Parser::new().advance(&mut screen, bytes);
    screen.text()
}

/// The lines written so far and the cursor.
struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// Where the first row of the screen is, once a program has taken the whole of it.
    top: Option<usize>,
}

impl Default for Screen {
    fn default() -> Self {
        Self {
            lines: vec![Vec::new()],
            row: 0,
            column: 0,
            top: None,
        }
    }
}

impl Screen {
    fn text(&self) -> String {
        let size = self.lines.iter().map(|line| line.len() + 1).sum();
        let mut text = String::with_capacity(size);
        for (index, line) in self.lines.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text.extend(line);
        }
        text
    }

    fn line(&mut self) -> &mut Vec<char> {
        &mut self.lines[self.row]
    }

    fn go_to_row(&mut self, row: usize) {
        self.row = row;
        if self.lines.len() <= row {
            self.lines.resize_with(row + 1, Vec::new);
        }
    }

    fn go_to_column(&mut self, column: usize) {
        self.column = column.min(WIDEST.max(self.lines[self.row].len()));
    }

    /// The line that is the first of the screen. Where a program takes the whole of it, what was there stays above.
    fn top(&mut self) -> usize {
        let last = self.lines.len() - 1;
        let fresh = last + usize::from(!self.lines[last].is_empty());
        *self.top.get_or_insert(fresh)
    }

    /// `row` and `column` of the screen, from 1.
    fn go_to(&mut self, row: usize, column: usize) {
        let top = self.top();
        self.go_to_row(top + row.clamp(1, TALLEST) - 1);
        self.go_to_column(column.max(1) - 1);
    }

    fn clear(&mut self) {
        let top = self.top();
        self.lines.truncate(top);
        self.go_to_row(top);
        self.column = 0;
    }

    fn erase_in_line(&mut self, mode: u16) {
        let column = self.column;
        let line = self.line();
        match mode {
            0 => line.truncate(column),
            1 => line.iter_mut().take(column + 1).for_each(|c| *c = ' '),
            _ => line.clear(),
        }
    }

    fn erase_in_screen(&mut self, mode: u16) {
        match mode {
            0 => {
                self.erase_in_line(0);
                self.lines.truncate(self.row + 1);
            }
            1 => {}
            _ => self.clear(),
        }
    }
}

impl vte::Perform for Screen {
    fn print(&mut self, c: char) {
        let column = self.column;
        let line = self.line();
        if column < line.len() {
            line[column] = c;
        } else {
            line.resize(column, ' ');
            line.push(c);
        }
        self.column += 1;
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' | 0x0b | 0x0c => {
                self.go_to_row(self.row + 1);
                self.column = 0;
            }
            b'\r' => self.column = 0,
            0x08 => self.column = self.column.saturating_sub(1),
            // Kept as it is: in a Makefile or a diff it is not the same as spaces.
            b'\t' => self.print('\t'),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &vte::Params, intermediates: &[u8], _: bool, action: char) {
        // Private ones (`?25l`) switch something that has no place in text.
        if !intermediates.is_empty() {
            return;
        }
        let mut numbers = params.iter().map(|param| param.first().copied());
        let first = numbers.next().flatten().unwrap_or(0);
        let second = usize::from(numbers.next().flatten().unwrap_or(0));
        let count = usize::from(first.max(1));
        match action {
            'A' => self.row = self.row.saturating_sub(count),
            // No further than what was written, or a number could make it as long as it likes.
            'B' => self.row = (self.row + count).min(self.lines.len() - 1),
            'E' => {
                self.go_to_row((self.row + count).min(self.lines.len()));
                self.column = 0;
            }
            'F' => {
                self.row = self.row.saturating_sub(count);
                self.column = 0;
            }
            'C' => self.go_to_column(self.column + count),
            'D' => self.column = self.column.saturating_sub(count),
            'G' => self.go_to_column(count - 1),
            'H' | 'f' => self.go_to(usize::from(first), second),
            'd' => self.go_to(usize::from(first), self.column + 1),
            'J' => self.erase_in_screen(first),
            'K' => self.erase_in_line(first),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_would_see() {
        for (bytes, expected) in [
            (&b"plain\n"[..], "plain\n"),
            (b"no line end", "no line end"),
            (b"", ""),
            (b"a\r\nb\r\n", "a\nb\n"),
            (b"10%\r50%\r100%\ndone\n", "100%\ndone\n"),
            (b"abcdef\rxy\n", "xycdef\n"),
            (b"long text\r\x1b[Kshort\n", "short\n"),
            (b"ab\x08c\n", "ac\n"),
            (b"_\x08b_\x08o_\x08l_\x08d\n", "bold\n"),
            (b"\x1b[1;31merror\x1b[0m: x\n", "error: x\n"),
            (b"\x1b]0;title\x07text\n", "text\n"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", "link\n"),
            (b"\x1b[?25lhidden cursor\x1b[?25h\n", "hidden cursor\n"),
            (
                b"one: 1\ntwo: 1\n\x1b[2A\x1b[2Kone: 2\n\x1b[2Ktwo: 2\n",
                "one: 2\ntwo: 2\n",
            ),
            (b"x\x1b[3Cy\x1b[1Gz\n", "z   y\n"),
            (b"kept\n\x1b[H\x1b[2Jnew\n", "kept\nnew\n"),
            (
                b"$ top\r\n\x1b[H\x1b[2Jcpu 1\r\n\x1b[H\x1b[Jcpu 2\r\n",
                "$ top\ncpu 2\n",
            ),
            (b"\x1b[2J\x1b[2;3Hb\x1b[1;1Ha\x1b[4dc", "a\n  b\n\n c"),
            (b"ab\x1b[99;5Hx", &format!("ab{}    x", "\n".repeat(99))),
            (
                b"\x1b[65535;65535Hx",
                &format!("{}{}x", "\n".repeat(TALLEST - 1), " ".repeat(WIDEST)),
            ),
            (b"\tall:\n", "\tall:\n"),
            (
                b"caf\xe9 ol\xe9, it is called\n",
                "caf\u{fffd} ol\u{fffd}, it is called\n",
            ),
            ("héllo → 漢字\n".as_bytes(), "héllo → 漢字\n"),
            (
                b"\x1b[65535B\x1b[65535Cx",
                &format!("{}x", " ".repeat(WIDEST)),
            ),
        ] {
            assert_eq!(
                seen(bytes),
                expected,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn the_head_and_the_tail_of_any_length_are_kept() {
        for (length, step) in [
            (0, 1),
            (5, 2),
            (KEPT, KEPT),
            (2 * KEPT, 1000),
            (2 * KEPT + 1, 7),
            (1 << 20, 300_000),
            (1 << 20, 1 << 20),
        ] {
            let bytes: Vec<u8> = (0..length).map(|i| b'a' + (i % 23) as u8).collect();
            let mut capture = Capture::default();
            bytes.chunks(step).for_each(|chunk| capture.push(chunk));
            let (text, omitted) = capture.take(true);
            assert_eq!(
                omitted as usize,
                length.saturating_sub(2 * KEPT),
                "{length} by {step}"
            );
            assert!(bytes.starts_with(&text.as_bytes()[..length.min(KEPT)]));
            assert!(bytes.ends_with(&text.as_bytes()[text.len() - length.min(KEPT)..]));
            assert_eq!(
                text.contains(&format!("\n[… {omitted} bytes omitted …]\n")),
                omitted > 0
            );
        }
    }

    #[test]
    fn a_character_cut_by_the_gap_is_omitted_whole() {
        let mut capture = Capture::default();
        capture.push(&b"x".repeat(KEPT - 1));
        capture.push("漢".repeat(KEPT).as_bytes());
        let (text, omitted) = capture.take(true);
        assert!(!text.contains('\u{fffd}'));
        assert_eq!(
            omitted as usize,
            KEPT - 1 + 3 * KEPT - (KEPT - 1) - KEPT / 3 * 3
        );
    }

    #[test]
    fn binary_output_is_named_and_not_shown() {
        let mut capture = Capture::default();
        capture.push(b"\x7fELF\0\0\0\x01\0\0\xff\xfe");
        assert_eq!(capture.take(true).0, "[binary output, 12 bytes]");
        let mut flood = Capture::default();
        flood.push(&vec![0; 1 << 20]);
        assert_eq!(
            flood.take(true),
            ("[binary output, 1048576 bytes]".to_owned(), 1 << 20)
        );
    }

    #[test]
    fn progress_is_the_last_line_that_says_something() {
        assert_eq!(
            last_line(b"one\ntwo 1%\rtwo 2%\n\n", 80).as_deref(),
            Some("two 2%")
        );
        assert_eq!(last_line(b"abcdef", 3).as_deref(), Some("abc"));
        assert_eq!(last_line(b"\n \n", 80), None);
    }
}
