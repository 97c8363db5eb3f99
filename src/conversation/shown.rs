//! Text from models, repositories and servers made safe to show: what a terminal or a reader would not see as a
//! character is written out as `\u{…}`.

/// `text` for one line: control, format, bidi, zero-width and separator characters escaped, line ends included.
pub fn shown_line(text: &str) -> String {
    escape(text, |_| false)
}

/// `text` for several lines: as [`shown_line`], but line feeds and tabs stay.
pub fn shown_text(text: &str) -> String {
    escape(text, |c| matches!(c, '\n' | '\t'))
}

/// At most `limit` characters of `text`, with an ellipsis where some were left out.
pub fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => text
            .chars()
            .take(limit.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_invisible(c) && !keep(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// General categories Cc, Cf, Zl and Zp of Unicode 17, and the fillers and selectors that render as nothing.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_fool_a_reader_is_written_out() {
        assert_eq!(shown_line("a\x1b[2Kb\r\nc"), "a\\u{1b}[2Kb\\u{d}\\u{a}c");
        assert_eq!(
            shown_line("evil\u{202e}txt.exe\u{200b}"),
            "evil\\u{202e}txt.exe\\u{200b}"
        );
        assert_eq!(shown_text("one\n\ttwo\u{7}"), "one\n\ttwo\\u{7}");
        assert_eq!(shown_line("naïve 日本 e\u{301}"), "naïve 日本 e\u{301}");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("héllo", 5), "héllo");
        assert_eq!(shortened("héllo!", 5), "héll…");
    }
}
