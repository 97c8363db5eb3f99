//! The one path from a call to its effect: *plan → rule → question → run → look*.
//!
//! Policy, question and escalation meet only here. The rule is a pure function of an access and the policies; a question
//! goes up through [`Host::ask`] and always comes back; nothing runs before [`Host::starting`] says that it is recorded.
//! A call always ends in exactly one output, whatever happens on the way.

mod asking;
mod look;
mod passed;
mod question;
mod rule;
mod run;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use passed::{NOT_RUN, Passed};

use super::{
    Host,
    command::Rules,
    registry::{AnyTool, Registry, Run},
};
use crate::{
    conversation::{
        Access, ApprovalPolicy, CommandRun, Redactor, SandboxReport, ToolCall, shortened,
        shown_line,
    },
    workspace::{PathError, Workspace, sandbox::Confinement},
};
use asking::Approved;
use passed::Stopped;
use rule::Verdict;
use run::Ran;

/// What stands before the tools of a thread.
pub struct Gate {
    /// The tools.
    pub tools: Registry,
    /// Where they work.
    pub workspace: Arc<Workspace>,
    /// What holds commands there.
    pub confinement: Arc<Confinement>,
    /// The owner takes a sandbox that enforces only a part.
    pub accept_partial: bool,
    /// When to ask.
    pub approval_policy: ApprovalPolicy,
    /// What the owner allows and denies of commands.
    pub rules: Rules,
    /// Takes secrets out of what tools bring in.
    pub redactor: Redactor,
    /// Somebody will ask what commands changed, so it is looked at before they do.
    pub measures: bool,
}

/// A call that was understood, on its way.
struct Passing<'a> {
    call: &'a ToolCall,
    access: Access,
    title: String,
    host: Arc<dyn Host>,
    cancel: CancellationToken,
}

impl Gate {
    /// Takes one call from its arguments to its output.
    pub async fn pass(
        &self,
        call: &ToolCall,
        host: Arc<dyn Host>,
        cancel: CancellationToken,
    ) -> Passed {
        match self.road(call, host, cancel).await {
            Ok(ran) => self.ran(call, ran),
            Err(stopped) => self.stopped(call, stopped),
        }
    }

    /// Every step of it may stop the call.
    async fn road(
        &self,
        call: &ToolCall,
        host: Arc<dyn Host>,
        cancel: CancellationToken,
    ) -> Result<Ran, Stopped> {
        let (passing, plan) = self.plan(call, host, cancel)?;
        let approved = match self.verdict(&passing.access) {
            Verdict::Run => None,
            Verdict::Ask(why) => Some(self.ask(&passing, &why).await?),
            Verdict::Refuse(reason) => return Err(passing.refused(reason)),
        };
        let confined = self.confined(&passing.access, approved.is_some());
        // Held until the command was looked after; one that goes on in the background holds it for as long as it does.
        let under_way = self.look_before(&passing, confined.is_some()).await?;
        passing.start().await?;
        // Recording takes its time, and this is the last moment.
        self.still_approved(&passing, approved.as_ref())?;
        let means = self.means(&passing, confined.clone(), under_way.clone());
        let mut ran = Ran::of(plan, means).await;
        ran.add(self.look_after(&passing, confined).await);
        ran.add(approved.map(Approved::note).unwrap_or_default());
        Ok(ran)
    }

    /// What is meant by `call`, and what is left to do then.
    fn plan<'a>(
        &self,
        call: &'a ToolCall,
        host: Arc<dyn Host>,
        cancel: CancellationToken,
    ) -> Result<(Passing<'a>, Run), Stopped> {
        let Some(tool) = self.tools.find(&call.name) else {
            return Err(self.not_offered(call));
        };
        self.may_write(tool, call)?;
        let planned = tool.plan(&call.arguments, &self.workspace)?;
        let passing = Passing {
            call,
            access: planned.access,
            title: planned.title,
            host,
            cancel,
        };
        Ok((passing, planned.plan))
    }

    /// Stops an edit that is refused whatever it holds, before the file is looked at.
    fn may_write(&self, tool: &dyn AnyTool, call: &ToolCall) -> Result<(), Stopped> {
        let Some(named) = tool.writes(&call.arguments) else {
            return Ok(());
        };
        let refused = |shown: &str, reason: String| {
            let summary = format!("edit `{}`", shown_line(shown));
            Err(Stopped::refused(summary, reason))
        };
        match self.workspace.target(&named) {
            Err(private @ PathError::Closed { .. }) => refused(&named, private.to_string()),
            // Planning says what is wrong with it.
            Err(_) => Ok(()),
            Ok(real) => {
                let shown = self.workspace.show(&real);
                let (paths, diff) = (vec![real], String::new());
                match self.verdict(&Access::Write { paths, diff }) {
                    Verdict::Refuse(reason) => refused(&shown, reason),
                    Verdict::Ask(_) | Verdict::Run => Ok(()),
                }
            }
        }
    }

    /// A tool that there is not, or not for this thread.
    fn not_offered(&self, call: &ToolCall) -> Stopped {
        let name = shortened(&shown_line(&call.name), 80);
        if let Some(withheld) = self.tools.withheld(&call.name) {
            let summary = match (withheld.writes)(&call.arguments) {
                Some(path) => format!("edit `{}`", shown_line(&path)),
                None => {
                    let what = shortened(&shown_line(&call.arguments), 200);
                    format!("call `{name}` with {what}")
                }
            };
            return Stopped::refused(summary, withheld.why.to_owned());
        }
        let names: Vec<&str> = self.tools.names().collect();
        let names = names.join(", ");
        Stopped::Failed(format!("there is no tool `{name}`; the tools are {names}"))
    }

    /// True if a call of `name` cannot change anything, so that it may run beside others.
    pub fn only_reads(&self, name: &str) -> bool {
        self.tools.find(name).is_none_or(|tool| tool.only_reads())
    }

    /// What commands of this thread run behind.
    pub fn sandbox_report(&self) -> SandboxReport {
        self.confinement.report(self.workspace.sandbox())
    }

    /// Commands that were used in this turn and still run.
    pub fn unfinished(&self) -> Vec<CommandRun> {
        let unfinished = self.tools.sessions().unfinished().into_iter();
        unfinished
            .map(|(command, seconds)| CommandRun {
                command: self.redactor.clean(command),
                exit_code: None,
                seconds,
            })
            .collect()
    }

    /// Between turns nothing is kept ready.
    pub fn rest(&self) {
        self.tools.sessions().spare().dismiss();
    }

    /// True if something runs in the background of the thread.
    pub fn is_running(&self) -> bool {
        self.tools.sessions().is_running()
    }

    /// Ends what runs in the background of the thread. Returns when nothing is left of it.
    pub async fn end_sessions(&self) {
        self.tools.sessions().end().await;
    }
}
