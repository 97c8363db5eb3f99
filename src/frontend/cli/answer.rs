//! `openoxide threads answer`: a question that another process asks, answered from here.
//!
//! Nothing is written here: the answer goes to the process that holds the thread, and the first one counts.

use std::{
    io::{Write, stdout},
    path::Path,
};

use anyhow::{Context, bail};

use super::{OK, args::AnswerArgs, prompt, threads};
use crate::{
    app::kept_threads,
    conversation::{Answer, Approval, ApprovalId, Decision, ResolvedBy, shown_line},
    thread::{ThreadStore, Visit},
};

pub(super) async fn run(args: AnswerArgs) -> anyhow::Result<u8> {
    let store = kept_threads()?;
    let id = threads::find(&store, &args.id)?;
    let socket = store.socket(id).context("threads are not kept here")?;
    let Some(holder) = Visit::at(&socket).await? else {
        bail!(
            "no process works on thread `{id}`; `openoxide --resume {id}` goes on with it, and asks"
        );
    };
    let questions = wanted(holder.subscribe().await?.pending, args.approval)?;
    match args.answer() {
        Some(answer) => {
            let question = only(questions)?;
            give(&socket, &question, answer).await?;
        }
        None if prompt::is_attended() => {
            for question in questions {
                match prompt::ask(&question) {
                    Some(answer) => give(&socket, &question, answer).await?,
                    None => break,
                }
            }
        }
        None => bail!(
            "there is no terminal to ask on; give `--approve`, `--deny` or `--abort`. Open:\n{}",
            listed(&questions)
        ),
    }
    Ok(OK)
}

fn wanted(pending: Vec<Approval>, named: Option<ApprovalId>) -> anyhow::Result<Vec<Approval>> {
    if pending.is_empty() {
        bail!("no question is open in this thread");
    }
    let Some(named) = named else {
        return Ok(pending);
    };
    match pending.iter().find(|approval| approval.id == named) {
        Some(approval) => Ok(vec![approval.clone()]),
        None => bail!("`{named}` is not open. Open:\n{}", listed(&pending)),
    }
}

fn only(questions: Vec<Approval>) -> anyhow::Result<Approval> {
    match <[Approval; 1]>::try_from(questions) {
        Ok([question]) => Ok(question),
        Err(several) => bail!(
            "several questions are open; say which with `--approval ID`:\n{}",
            listed(&several)
        ),
    }
}

fn listed(questions: &[Approval]) -> String {
    let lines: Vec<String> = questions
        .iter()
        .map(|approval| {
            let (summary, place) = (shown_line(&approval.summary), shown_line(&approval.place));
            format!("  {}  {summary} {place}", approval.id)
        })
        .collect();
    lines.join("\n")
}

/// Sends the answer by a connection of its own: a person takes their time, and the holder does not wait for visitors.
async fn give(socket: &Path, question: &Approval, answer: Answer) -> anyhow::Result<()> {
    if answer.decision == Decision::ApproveForSession && question.session_covers.is_none() {
        bail!("an approval for the session is not offered for this; `--approve` is for this once");
    }
    let summary = shown_line(&question.summary);
    let counted = match Visit::at(socket).await? {
        Some(mut holder) => {
            holder
                .answer(question.id, answer, ResolvedBy::Terminal)
                .await?
        }
        None => false,
    };
    if !counted {
        bail!("too late: {summary} is settled, or its turn has ended");
    }
    writeln!(stdout(), "answered: {summary}")?;
    Ok(())
}
