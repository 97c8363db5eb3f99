//! `openoxide threads answer`: a question of a turn that another process runs, or that none does, answered from here.
//!
//! The process that holds the thread is told, and the first answer counts. If none holds it, the answer is kept, and
//! the turn finds it when somebody goes on with it: nothing is started here, where key and model may be others.

use std::{
    io::{Write, stdout},
    sync::Arc,
};

use anyhow::bail;

use super::{OK, args::AnswerArgs, prompt, threads};
use crate::{
    app::{App, Setup, kept_threads},
    conversation::{Answer, Approval, ApprovalId, Decision, ResolvedBy, ThreadId, shown_line},
    thread::{self, DirectoryStore, ThreadHandle, ThreadStore},
};

pub(super) async fn run(args: AnswerArgs) -> anyhow::Result<u8> {
    let door = Door::of(&args.id).await?;
    let questions = wanted(door.pending().await?, args.approval, &door)?;
    match args.answer() {
        Some(answer) => {
            let question = only(questions)?;
            door.give(&question, answer).await?;
        }
        None if prompt::is_attended() => {
            for question in questions {
                match prompt::ask(&question) {
                    Some(answer) => door.give(&question, answer).await?,
                    None => return Ok(OK),
                }
            }
        }
        None => bail!(
            "there is no terminal to ask on; give `--approve`, `--deny` or `--abort`. Open:\n{}",
            listed(&questions)
        ),
    }
    door.say_how_it_goes_on().await?;
    Ok(OK)
}

/// Where an answer goes.
struct Door {
    id: ThreadId,
    store: DirectoryStore,
    /// The process that works on the thread.
    holder: Option<ThreadHandle>,
}

impl Door {
    async fn of(name: &str) -> anyhow::Result<Self> {
        let store = kept_threads()?;
        let id = threads::find(&store, name)?;
        let header = store.read(id)?.header;
        let holder = thread::visit(Arc::new(store.clone()), header).await?;
        Ok(Self { id, store, holder })
    }

    async fn pending(&self) -> anyhow::Result<Vec<Approval>> {
        if let Some(holder) = &self.holder {
            return Ok(holder.subscribe().await?.pending);
        }
        let loaded = self.store.read(self.id)?;
        let open = loaded.open_turn();
        Ok(open.map_or_else(Vec::new, |turn| turn.open_approvals.clone()))
    }

    async fn give(&self, question: &Approval, answer: Answer) -> anyhow::Result<()> {
        if answer.decision == Decision::ApproveForSession && question.session_covers.is_none() {
            bail!(
                "an approval for the session is not offered for this; `--approve` is for this once"
            );
        }
        let summary = shown_line(&question.summary);
        let counted = match &self.holder {
            Some(holder) => {
                let by = ResolvedBy::Terminal;
                holder.answer(question.id, answer, by).await?
            }
            None => thread::answer::keep(&self.store, self.id, question.id, clean(answer)?).await?,
        };
        if !counted {
            bail!("too late: {summary} is settled, or its turn has ended");
        }
        writeln!(stdout(), "answered: {summary}")?;
        Ok(())
    }

    /// Where no process does what was answered, whoever answered has to know who will.
    async fn say_how_it_goes_on(&self) -> anyhow::Result<()> {
        if self.holder.is_none() && self.pending().await?.is_empty() {
            writeln!(
                stdout(),
                "no process works on the thread: {} goes on with its turn",
                self.way_on()
            )?;
        }
        Ok(())
    }

    /// True if a turn is open that no process runs.
    fn is_left_open(&self) -> anyhow::Result<bool> {
        Ok(self.holder.is_none() && self.store.read(self.id)?.open_turn().is_some())
    }

    fn way_on(&self) -> String {
        let id = self.id;
        format!("`openoxide --resume {id}`, or `openoxide-reply` of an MCP client,")
    }
}

/// An answer as it may be kept: the process that holds a thread cleans what it is given itself.
fn clean(answer: Answer) -> anyhow::Result<Answer> {
    let Some(note) = answer.note else {
        return Ok(answer);
    };
    let cwd = std::env::current_dir()?;
    let setup = Setup {
        cwd,
        ..Setup::default()
    };
    let note = App::build(setup)?.redactor().clean(note);
    Ok(Answer {
        note: Some(note),
        ..answer
    })
}

fn wanted(
    pending: Vec<Approval>,
    named: Option<ApprovalId>,
    door: &Door,
) -> anyhow::Result<Vec<Approval>> {
    if pending.is_empty() {
        match door.is_left_open()? {
            true => bail!(
                "no question is open in this thread; {} goes on with its turn",
                door.way_on()
            ),
            false => bail!("no question is open in this thread"),
        }
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
