//! `openoxide threads undo`: shows what it would take, asks on a terminal, and does it.

use std::io::{self, IsTerminal, Write};

use super::OK;
use crate::{
    conversation::{ThreadId, shown_text},
    thread::{
        DirectoryStore,
        undo::{Back, Ready, prepare},
    },
};

/// Somebody said no.
const DECLINED: u8 = 1;

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) dry_run: bool,
    pub(super) yes: bool,
}

pub(super) fn run(
    store: &DirectoryStore,
    id: ThreadId,
    back: Back,
    manner: Manner,
) -> anyhow::Result<u8> {
    let mut ready = prepare(store, id, back)?;
    io::stdout().write_all(shown(&ready).as_bytes())?;
    if manner.dry_run || ready.undo.is_empty() {
        return Ok(OK);
    }
    if !manner.yes && !agreed()? {
        return Ok(DECLINED);
    }
    ready.apply()?;
    let files = ready.undo.diffs().len();
    let (done, again) = match back {
        Back::LastUndo => ("as before the undo", ""),
        Back::LastTurn | Back::Before(_) => ("taken back", " --redo"),
    };
    writeln!(
        io::stdout(),
        "{files} file(s) {done}; `openoxide threads undo {id}{again}` takes that back"
    )?;
    Ok(OK)
}

/// The diff, and what is not in it.
fn shown(ready: &Ready) -> String {
    let mut text: String = ready
        .undo
        .diffs()
        .into_iter()
        .map(|(_, diff)| shown_text(&diff.text))
        .collect();
    if let Some(count) = ready.undo.finishes() {
        text.push_str(&format!(
            "this finishes an undo that was cut off, which has taken {count} file(s) back\n"
        ));
    }
    for (path, why) in &ready.undo.left {
        text.push_str(&format!("left as it is: {path} ({})\n", shown_text(why)));
    }
    for why in &ready.partial {
        text.push_str(&format!("perhaps not all: {}\n", shown_text(why)));
    }
    if ready.ends_a_turn() && !ready.undo.is_empty() {
        text.push_str("the turn was left open and ends with this\n");
    }
    if ready.undo.is_empty() {
        text.push_str("there is nothing to take back\n");
    }
    text
}

/// Nobody is asked where nobody is: whoever runs this in a script means it.
fn agreed() -> io::Result<bool> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Ok(true);
    }
    write!(io::stdout(), "Take this back? [y/N] ")?;
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
