//! A question on the terminal: our facts first, then what the model says, then one key.

use std::{
    fs::File,
    io::{BufRead, BufReader, IsTerminal, Write},
};

use anstyle::{AnsiColor, Style};

use super::{form, report::Report};
use crate::conversation::{Answer, Approval, Decision, shown_line};

pub(super) const QUESTION: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const PLAIN: Style = Style::new();

/// True if a person can be asked: they see standard error and can type.
pub(super) fn is_attended() -> bool {
    std::io::stderr().is_terminal() && File::open("/dev/tty").is_ok()
}

/// Asks, and waits for a line. Ended by the person, or by the terminal going away, which is no answer.
pub(super) fn ask(approval: &Approval) -> Option<Answer> {
    let mut terminal = BufReader::new(File::open("/dev/tty").ok()?);
    if let Some(form) = &approval.form {
        return form::ask(form, terminal);
    }
    show(approval);
    loop {
        let session = approval
            .session_covers
            .as_ref()
            .map(|_| ", [s]ession")
            .unwrap_or_default();
        // If it cannot be shown, there is no use in waiting.
        write!(
            anstream::stderr().lock(),
            "  [y]es{session}, [n]o, [a]bort the turn (a word after it goes to the model): "
        )
        .ok()?;
        let mut typed = String::new();
        if terminal.read_line(&mut typed).ok()? == 0 {
            return None;
        }
        if let Some(answer) = parse(&typed, approval.session_covers.is_some()) {
            return Some(answer);
        }
    }
}

fn show(approval: &Approval) {
    Report::Stderr.line(
        QUESTION,
        &format!(
            "? {} {}",
            shown_line(&approval.summary),
            shown_line(&approval.place)
        ),
    );
    Report::Stderr.diff(&approval.detail);
    if let Some(reason) = &approval.reason {
        Report::Stderr.line(PLAIN, &format!("  the model says: {}", shown_line(reason)));
    }
    if let Some(covers) = &approval.session_covers {
        Report::Stderr.line(
            PLAIN,
            &format!("  for the session would cover: {}", shown_line(covers)),
        );
    }
}

fn parse(typed: &str, session_offered: bool) -> Option<Answer> {
    let (word, note) = typed
        .trim()
        .split_once(char::is_whitespace)
        .unwrap_or((typed.trim(), ""));
    let decision = match word.to_lowercase().as_str() {
        "y" | "yes" => Decision::Approve,
        "s" | "session" if session_offered => Decision::ApproveForSession,
        "n" | "no" => Decision::Deny,
        "a" | "abort" => Decision::Abort,
        _ => return None,
    };
    let note = Some(note.trim().to_owned()).filter(|note| !note.is_empty());
    Some(Answer {
        note,
        ..Answer::from(decision)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_decision_and_perhaps_a_note() {
        assert_eq!(parse("y\n", true), Some(Answer::from(Decision::Approve)));
        let denied = Answer {
            note: Some("use make".to_owned()),
            ..Answer::from(Decision::Deny)
        };
        assert_eq!(parse("n use make\n", true), Some(denied));
        assert_eq!(parse("s\n", false), None);
        assert_eq!(parse("\n", true), None);
    }
}
