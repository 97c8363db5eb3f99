//! Bounds on what enters the conversation.

/// The default bound on one output: about 10,000 tokens at four bytes a token.
pub(super) const OUTPUT_BYTES: usize = 40_000;

/// At most `limit` bytes of `text`: head and tail kept, what was left out said.
pub(super) fn bounded(text: String, limit: usize) -> String {
    if text.len() <= limit {
        return text;
    }
    let head = &text[..text.floor_char_boundary(limit / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - limit / 2)..];
    let omitted = text.len() - head.len() - tail.len();
    format!("{head}\n[… {omitted} bytes omitted …]\n{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_stay_and_the_gap_is_said() {
        assert_eq!(bounded("short".to_owned(), 100), "short");
        let cut = bounded(format!("{}é{}", "a".repeat(60), "b".repeat(60)), 100);
        assert_eq!(
            cut,
            format!(
                "{}\n[… 22 bytes omitted …]\n{}",
                "a".repeat(50),
                "b".repeat(50)
            )
        );
    }
}
