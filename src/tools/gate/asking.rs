//! A question until it is answered: what a yes is to, and whether it still is.

use super::{Gate, Passing, Stopped};
use crate::{
    conversation::{Access, Answer, Decision, ResolvedBy},
    tools::{Answered, command::Named},
};

/// How often one call is asked about because what it runs keeps changing.
const MOST_QUESTIONS: usize = 3;

/// What somebody said yes to.
pub(super) struct Approved {
    /// The files that the command names, as they were.
    named: Named,
    /// What the model reads of a word that came with it.
    note: Option<String>,
}

impl Gate {
    /// Asks, and asks again if the files that a command names changed since. Ended by the answer, or by `cancel`.
    pub(super) async fn ask(&self, passing: &Passing<'_>, why: &str) -> Result<Approved, Stopped> {
        let mut named = self.named(&passing.access);
        let mut special = why.to_owned();
        for _ in 0..MOST_QUESTIONS {
            let question = self.question(passing, &special, &named);
            let answered = tokio::select! {
                answered = passing.host.ask(question) => answered,
                () = passing.cancel.cancelled() => return Err(Stopped::Interrupted),
            };
            let note = passing.note_of_a_yes(answered, why)?;
            let now = self.named(&passing.access);
            let Some(changed) = named.changed(&now, &self.workspace) else {
                return Ok(Approved { named, note });
            };
            special = format!("{why}; {changed} changed since the last question");
            named = now;
        }
        let reason = "what it runs changed after each question about it".to_owned();
        Err(passing.refused(reason))
    }

    /// Stops a call that would run something else than what was shown to whoever approved it.
    pub(super) fn still_approved(
        &self,
        passing: &Passing<'_>,
        approved: Option<&Approved>,
    ) -> Result<(), Stopped> {
        let Some(approved) = approved else {
            return Ok(());
        };
        let now = self.named(&passing.access);
        match approved.named.changed(&now, &self.workspace) {
            None => Ok(()),
            Some(changed) => Err(passing.refused(format!(
                "{changed} changed after the approval; call again to ask anew"
            ))),
        }
    }

    /// What an approval of `access` stands on, as it is now.
    fn named(&self, access: &Access) -> Named {
        match access {
            Access::Run {
                command, workdir, ..
            } => self.rules.named(command, &self.workspace, workdir),
            Access::Nothing
            | Access::Read(_)
            | Access::Write { .. }
            | Access::Type { .. }
            | Access::Outside(_) => Named::default(),
        }
    }
}

impl Passing<'_> {
    /// What came with a yes; any other answer stops the call.
    fn note_of_a_yes(&self, answered: Answered, why: &str) -> Result<Option<String>, Stopped> {
        let Answer { decision, note, .. } = answered.answer;
        let who = match answered.by {
            ResolvedBy::Terminal | ResolvedBy::Elicitation => "a person",
            ResolvedBy::Caller => "the caller",
            ResolvedBy::Unattended | ResolvedBy::Interrupt => "nobody",
        };
        let abort = match decision {
            Decision::Approve | Decision::ApproveForSession => {
                return Ok(note.map(|note| format!("A note from {who}, who approved: {note}")));
            }
            Decision::Deny => false,
            Decision::Abort => true,
        };
        let said = match answered.by {
            ResolvedBy::Terminal | ResolvedBy::Elicitation | ResolvedBy::Caller => {
                format!("{who} said no")
            }
            ResolvedBy::Unattended => format!("{why}, and nobody could be asked"),
            ResolvedBy::Interrupt => "the turn ended before anybody answered".to_owned(),
        };
        let note = note.map(|note| format!(": {note}")).unwrap_or_default();
        let denied = self.denied(format!("{said}{note}"));
        Err(Stopped::Refused { denied, abort })
    }
}

impl Approved {
    /// What the model reads of it, below the output.
    pub(super) fn note(self) -> String {
        self.note
            .map(|note| format!("\n{note}"))
            .unwrap_or_default()
    }
}
