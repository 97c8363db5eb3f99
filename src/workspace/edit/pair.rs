//! A search and its replacement as lines, the way one reading of an edit sees them.

use super::{Edit, fold, page};

/// The two sides of an edit, split into lines without terminators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) search: Vec<String>,
    pub(super) replace: Vec<String>,
    /// The search ended with a terminator, so its last line is a whole one.
    pub(super) closed: bool,
    /// The replacement ended with a terminator.
    pub(super) replace_closed: bool,
}

impl Pair {
    /// Reads an edit as it stands. A final newline on one side only is an accident of how the strings were written,
    /// not a blank line to add or to take away, unless it is the whole difference.
    pub(super) fn new(edit: &Edit) -> Self {
        let search = edit.search.trim_start_matches('\u{FEFF}');
        let replace = if search.len() < edit.search.len() {
            edit.replace.trim_start_matches('\u{FEFF}')
        } else {
            &edit.replace
        };
        let mut pair = Pair {
            search: lines(search),
            replace: lines(replace),
            closed: is_closed(search),
            replace_closed: is_closed(replace),
        };
        if pair.closed != pair.replace_closed && pair.search == pair.replace {
            pair.open_up();
        }
        pair
    }

    /// Makes the final newline that only one side has a line of its own.
    fn open_up(&mut self) {
        let side = if self.closed {
            &mut self.search
        } else {
            &mut self.replace
        };
        side.push(String::new());
        self.closed = false;
        self.replace_closed = false;
    }

    /// The same pair with another search and replacement.
    pub(super) fn with(&self, search: Vec<String>, replace: Vec<String>) -> Pair {
        Pair {
            search,
            replace,
            ..*self
        }
    }

    /// True where both sides have the same lines.
    pub(super) fn is_idle(&self) -> bool {
        self.search == self.replace && self.closed == self.replace_closed
    }

    /// Indices of the search lines that are not blank.
    pub(super) fn solid(&self) -> Vec<usize> {
        (0..self.search.len())
            .filter(|&i| !fold::is_blank(&self.search[i]))
            .collect()
    }
}

fn is_closed(text: &str) -> bool {
    text.ends_with(['\n', '\r'])
}

/// The lines of a text. A `\r` before a terminator is a part of it, however many there are, and so is one at the end.
pub(super) fn lines(text: &str) -> Vec<String> {
    let bare = |line: &page::Line| line.text.trim_end_matches('\r').to_string();
    page::split(text).iter().map(bare).collect()
}
