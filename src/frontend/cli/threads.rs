//! `openoxide threads`: what is kept, seen, forked, exported and deleted. Starts nothing, and asks no model.

use std::{io::Write, path::PathBuf};

use anyhow::{Context, bail};

use super::{
    OK,
    args::{ExportFormat, ThreadsCommand},
    story, take_back,
};
use crate::{
    app::kept_threads,
    conversation::{By, Status, ThreadId, shown_line},
    thread::{
        self, DirectoryStore, Loaded, ThreadStore, ThreadSummary, ending,
        export::{self, change_line},
        undo,
    },
};

/// All but `answer`, which goes to the process that asks.
pub(super) fn run(command: ThreadsCommand) -> anyhow::Result<u8> {
    let store = kept_threads()?;
    let text = match command {
        ThreadsCommand::List { cwd, json } => list(&store, cwd, json)?,
        ThreadsCommand::Show { id, json } => show(&store, &id, json)?,
        ThreadsCommand::Diff { id, turn } => diff(&store, &id, turn.as_deref())?,
        ThreadsCommand::Export { id, format } => exported(&store, &id, format)?,
        ThreadsCommand::Fork { id, turn } => fork(&store, &id, turn.as_deref())?,
        ThreadsCommand::Delete { ids } => delete(&store, &ids)?,
        ThreadsCommand::Undo {
            id,
            turn,
            redo,
            dry_run,
            yes,
        } => {
            let id = find(&store, &id)?;
            let turn = match turn {
                Some(turn) => {
                    let loaded = store.read(id)?;
                    Some(loaded.turns[named(&loaded, &turn)?].turn_id)
                }
                None => None,
            };
            let back = match (turn, redo) {
                (Some(turn), _) => undo::Back::Before(turn),
                (None, true) => undo::Back::LastUndo,
                (None, false) => undo::Back::LastTurn,
            };
            return take_back::run(&store, id, back, take_back::Manner { dry_run, yes });
        }
        ThreadsCommand::Answer(_) => bail!("an answer goes to the process that asks"),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(OK)
}

fn list(store: &DirectoryStore, cwd: Option<PathBuf>, json: bool) -> anyhow::Result<String> {
    // One that cannot be read must not hide the others.
    let glance = |id| store.glance(id).ok();
    let mut threads: Vec<_> = store.ids()?.into_iter().filter_map(glance).collect();
    if let Some(cwd) = cwd {
        let cwd = cwd
            .canonicalize()
            .with_context(|| format!("`{}`", cwd.display()))?;
        threads.retain(|thread| thread.cwd == cwd);
    }
    if json {
        // Told only here, since to count them the whole thread is read.
        for thread in &mut threads {
            thread.turns = store.count_turns(thread.thread_id).ok();
        }
        return Ok(serde_json::to_string_pretty(&threads)? + "\n");
    }
    if threads.is_empty() {
        return Ok("no threads yet; `openoxide -m \"task\"` makes one\n".to_owned());
    }
    Ok(threads.iter().map(summary).collect())
}

fn summary(thread: &ThreadSummary) -> String {
    let status = thread.status.map_or("new", Status::as_str);
    let cwd = shown_line(&thread.cwd.to_string_lossy());
    let fork = thread.parent.map(|parent| format!(" (fork of {parent})"));
    format!(
        "{}  {}  {status:<17}  {cwd}\n    {}{}\n",
        thread.thread_id,
        &thread.created_at[..16.min(thread.created_at.len())],
        thread.title,
        fork.unwrap_or_default()
    )
}

fn show(store: &DirectoryStore, id: &str, json: bool) -> anyhow::Result<String> {
    let loaded = store.read(find(store, id)?)?;
    if json {
        return Ok(serde_json::to_string_pretty(&export::json(&loaded))? + "\n");
    }
    let undone = undo::taken_back(store, &loaded);
    let at_work = loaded.open_turn().is_some() && store.is_held(loaded.header.thread_id);
    Ok(story::tell(&loaded, &undone, at_work))
}

fn exported(store: &DirectoryStore, id: &str, format: ExportFormat) -> anyhow::Result<String> {
    let loaded = store.read(find(store, id)?)?;
    Ok(match format {
        ExportFormat::Markdown => export::markdown(&loaded),
        ExportFormat::Json => serde_json::to_string_pretty(&export::json(&loaded))? + "\n",
    })
}

fn diff(store: &DirectoryStore, id: &str, turn: Option<&str>) -> anyhow::Result<String> {
    let loaded = store.read(find(store, id)?)?;
    let last = loaded.turns.len().checked_sub(1);
    let at = turn.map(|turn| named(&loaded, turn)).transpose()?.or(last);
    let at = at.context("the thread has no turn yet")?;
    let turn = &loaded.turns[at];
    let outcome = turn.outcome.as_ref().or(turn.suspended.as_ref());
    let outcome = outcome.with_context(|| {
        let id = loaded.header.thread_id;
        format!(
            "turn {} has not ended; what it changed so far is what `openoxide threads undo {id} --dry-run` would take back",
            at + 1
        )
    })?;
    let mut text = String::new();
    for change in outcome
        .changes
        .iter()
        .filter(|change| change.by != Some(By::Other))
    {
        text.push_str(&change.diff);
        if change.diff.is_empty() {
            // `git apply` passes over what it does not know.
            text.push_str(&format!("# {}, without a diff\n", change_line(change)));
        }
    }
    Ok(text)
}

fn fork(store: &DirectoryStore, id: &str, turn: Option<&str>) -> anyhow::Result<String> {
    let loaded = store.read(find(store, id)?)?;
    let turn = turn.map(|turn| named(&loaded, turn)).transpose()?;
    Ok(format!("{}\n", thread::fork::fork(store, &loaded, turn)?))
}

fn delete(store: &DirectoryStore, ids: &[String]) -> anyhow::Result<String> {
    let found: Vec<ThreadId> = ids
        .iter()
        .map(|id| find(store, id))
        .collect::<Result<_, _>>()?;
    let mut text = String::new();
    for id in found {
        ending::delete(store, id)?;
        text.push_str(&format!("deleted {id}\n"));
    }
    Ok(text)
}

/// The position of the turn that somebody named by its number or by enough of the end of its id.
fn named(loaded: &Loaded, name: &str) -> anyhow::Result<usize> {
    let by_number = name.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
    let by_number = by_number.filter(|at| *at < loaded.turns.len());
    let mut ids = loaded.turns.iter();
    let by_id = || ids.position(|turn| name.len() > 3 && turn.turn_id.to_string().ends_with(name));
    by_number.or_else(by_id).with_context(|| {
        format!(
            "there is no turn `{}`; the thread has {}, as `openoxide threads show` tells",
            shown_line(name),
            loaded.turns.len()
        )
    })
}

/// The thread whose name is `id`, or ends in it.
pub(super) fn find(store: &dyn ThreadStore, id: &str) -> anyhow::Result<ThreadId> {
    if id.is_empty() {
        bail!("the id of the thread is empty; `openoxide threads list` shows them");
    }
    if let Ok(id) = id.parse() {
        return Ok(id);
    }
    let found: Vec<_> = store
        .ids()?
        .into_iter()
        .filter(|thread| thread.to_string().ends_with(id))
        .collect();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => bail!(
            "there is no thread `{}`; `openoxide threads list` shows them",
            shown_line(id)
        ),
        _ => bail!(
            "`{}` fits {} threads; give more of its end",
            shown_line(id),
            found.len()
        ),
    }
}
