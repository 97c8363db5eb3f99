//! Reasoning that stands in the text: `<think>…</think>` before the answer, as open models write it where their server
//! does not take it out.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// A piece of what streamed in.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Thought(String),
    Text(String),
}

/// Takes a stream of text apart. Only the beginning of a message can be reasoning; later marks are text.
#[derive(Debug, Default)]
pub(super) struct Thinking {
    state: State,
    /// What may yet become a mark.
    held: String,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Start,
    Thought,
    /// Blank lines between reasoning and answer belong to neither.
    Between,
    Text,
}

impl Thinking {
    /// What `text`, the next that came, adds.
    pub(super) fn split(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while let Some(piece) = self.step() {
            pieces.extend(piece);
        }
        pieces
    }

    /// What was held back when the message ended.
    pub(super) fn end(&mut self) -> Vec<Piece> {
        let held = std::mem::take(&mut self.held);
        let piece = match self.state {
            State::Thought => Piece::Thought(held),
            State::Between => return Vec::new(),
            State::Start | State::Text => Piece::Text(held),
        };
        Some(piece)
            .filter(|piece| !piece.is_empty())
            .into_iter()
            .collect()
    }

    /// Goes one state on, or nowhere: then more is needed.
    fn step(&mut self) -> Option<Option<Piece>> {
        match self.state {
            State::Start => {
                let begun = self.held.trim_start();
                if let Some(rest) = begun.strip_prefix(OPEN) {
                    self.held = rest.to_owned();
                    self.state = State::Thought;
                } else if !OPEN.starts_with(begun) {
                    self.state = State::Text;
                } else {
                    return None;
                }
                Some(None)
            }
            State::Thought => {
                let (thought, rest, closed) = match self.held.split_once(CLOSE) {
                    Some((thought, rest)) => (thought.to_owned(), rest.to_owned(), true),
                    None => {
                        let kept = self.held.len() - half_a_mark(&self.held);
                        let (thought, rest) = self.held.split_at(kept);
                        (thought.to_owned(), rest.to_owned(), false)
                    }
                };
                self.held = rest;
                if closed {
                    self.state = State::Between;
                }
                let piece = Some(Piece::Thought(thought)).filter(|piece| !piece.is_empty());
                (closed || piece.is_some()).then_some(piece)
            }
            State::Between => {
                self.held = self.held.trim_start().to_owned();
                if self.held.is_empty() {
                    return None;
                }
                self.state = State::Text;
                Some(None)
            }
            State::Text => {
                let text = std::mem::take(&mut self.held);
                (!text.is_empty()).then_some(Some(Piece::Text(text)))
            }
        }
    }
}

impl Piece {
    fn is_empty(&self) -> bool {
        match self {
            Self::Thought(text) | Self::Text(text) => text.is_empty(),
        }
    }
}

/// How many bytes at the end of `text` may be the beginning of [`CLOSE`].
fn half_a_mark(text: &str) -> usize {
    (1..CLOSE.len())
        .rev()
        .find(|len| text.ends_with(&CLOSE[..*len]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thought and text of a message that comes in these pieces.
    fn split(pieces: &[&str]) -> (String, String) {
        let mut thinking = Thinking::default();
        let mut all: Vec<Piece> = pieces
            .iter()
            .flat_map(|piece| thinking.split(piece))
            .collect();
        all.extend(thinking.end());
        let (mut thought, mut said) = (String::new(), String::new());
        for piece in all {
            match piece {
                Piece::Thought(text) => thought += &text,
                Piece::Text(text) => said += &text,
            }
        }
        (thought, said)
    }

    #[test]
    fn only_the_beginning_of_a_message_is_reasoning() {
        let table: &[(&str, &str, &str)] = &[
            ("hello", "", "hello"),
            ("<think>hm</think>\n\nyes", "hm", "yes"),
            ("\n<think>a</b></think>c", "a</b>", "c"),
            ("<think></think>c", "", "c"),
            ("<think>never closed", "never closed", ""),
            ("say <think>x</think>", "", "say <think>x</think>"),
            ("<thin", "", "<thin"),
            ("<", "", "<"),
            ("<thinker>", "", "<thinker>"),
            ("  spaced", "", "  spaced"),
            ("<think>é</thi</think>ü", "é</thi", "ü"),
        ];
        for (text, thought, said) in table {
            let expect = ((*thought).to_owned(), (*said).to_owned());
            assert_eq!(split(&[text]), expect, "{text:?}");
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(split(&letters), expect, "{text:?} letter by letter");
        }
    }
}
