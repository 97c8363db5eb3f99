//! Definitions as they are found, line by line: each ends where something stands as far left as it.

use super::{super::Definition, MOST, begins};
use crate::workspace::outline::language::Kind;

/// Deeper ones are shown at this depth.
const DEEPEST: u8 = 12;

/// Definitions that are open, by the column at which they began.
#[derive(Default)]
pub(super) struct Nest {
    found: Vec<Definition>,
    open: Vec<(usize, usize)>,
    /// The last line that held something.
    pub(super) last: usize,
}

impl Nest {
    /// A line at this column ends what began there or further right; one that only closes belongs to it.
    pub(super) fn close(&mut self, indent: usize, line: &[u8], at: usize) {
        let goes_on = matches!(line.first(), Some(b')' | b']' | b'{')) || begins(line, "where");
        let closes = line.starts_with(b"}") || begins(line, "end");
        while let Some((column, which)) = self.open.last().copied() {
            if column < indent || (column == indent && goes_on) {
                break;
            }
            let with_this = column == indent && closes;
            self.found[which].end = number(if with_this { at } else { self.last });
            self.open.pop();
        }
        self.last = at;
    }

    pub(super) fn open(&mut self, indent: usize, kind: Kind, name: String, at: usize) {
        if self.found.len() == MOST {
            return;
        }
        let depth = u8::try_from(self.open.len()).unwrap_or(DEEPEST);
        self.open.push((indent, self.found.len()));
        self.found.push(Definition {
            kind,
            name,
            line: number(at),
            end: number(at),
            depth: depth.min(DEEPEST),
        });
    }

    pub(super) fn ended(mut self) -> Vec<Definition> {
        for (_, which) in self.open {
            self.found[which].end = number(self.last);
        }
        self.found
    }
}

/// From 1.
fn number(at: usize) -> u32 {
    u32::try_from(at + 1).unwrap_or(u32::MAX)
}
