//! The one path from a call to its effect: *parse input → access → policy → ask if needed → run → output*.
//!
//! Policy, question and escalation meet only here. The verdict is a pure function of an access and the policies; a
//! question goes up through [`Host::ask`] and always comes back; nothing runs before [`Host::starting`] says that it is
//! recorded. A call always ends in exactly one output, whatever happens on the way.

use std::{path::PathBuf, sync::Arc};

use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Call, Confined, Host, Output, Planned, Progress, Question, ToolError,
    command::{Named, Rules},
    output,
    registry::{Registry, Run},
};
use crate::{
    conversation::{
        Access, ApprovalKind, ApprovalPolicy, CommandRun, Decision, Denied, OutputStatus,
        OutsideAccess, Redactor, SandboxPolicy, SandboxReport, ToolCall, ToolOutput, shortened,
        shown_line, shown_text,
    },
    workspace::{
        Workspace,
        checkpoint::{Checkpoint, Running},
        sandbox::{Confinement, Protection},
    },
};

/// How often one call is asked about because what it runs keeps changing.
const MOST_QUESTIONS: usize = 3;

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

/// What somebody said yes to.
#[derive(Default)]
struct Approved {
    /// The files that the command names, as they were.
    named: Option<Named>,
    /// A word for the model.
    note: Option<String>,
}

/// What became of a call.
#[derive(Debug)]
pub struct Passed {
    /// Its one output.
    pub output: ToolOutput,
    /// The same for a program, where there is more to it than text.
    pub structured: Option<Value>,
    /// What was refused, where something was.
    pub denied: Option<Denied>,
    /// Somebody asked for the turn to end.
    pub abort: bool,
}

/// What policy says of an access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Unasked.
    Run,
    /// Ask first; the text says what is special about it.
    Ask(String),
    /// Not at all; the text says why, and who may change that.
    Refuse(String),
}

impl Gate {
    /// True if a call of `name` cannot change anything, so that it may run beside others.
    pub fn only_reads(&self, name: &str) -> bool {
        self.tools.find(name).is_none_or(|tool| tool.only_reads())
    }

    /// Takes one call from its arguments to its output.
    pub async fn pass(
        &self,
        call: &ToolCall,
        host: Arc<dyn Host>,
        cancel: CancellationToken,
    ) -> Passed {
        let planned = match self.plan(call) {
            Ok(planned) => planned,
            Err(error) => return self.ended(call, OutputStatus::Failed, error.0),
        };
        match self.verdict(&planned.access) {
            Verdict::Run => {
                let confined = self.confined(&planned.access, false);
                self.run(call, planned, confined, host, cancel, Approved::default())
                    .await
            }
            Verdict::Refuse(reason) => self.refused(call, &planned, reason, false),
            Verdict::Ask(why) => self.ask(call, planned, why, host, cancel).await,
        }
    }

    fn plan(&self, call: &ToolCall) -> Result<Planned<Run>, ToolError> {
        let Some(tool) = self.tools.find(&call.name) else {
            let names: Vec<&str> = self.tools.names().collect();
            let name = shortened(&shown_line(&call.name), 80);
            return Err(ToolError(format!(
                "there is no tool `{name}`; the tools are {}",
                names.join(", ")
            )));
        };
        tool.plan(&call.arguments, &self.workspace)
    }

    fn verdict(&self, access: &Access) -> Verdict {
        let mut approval = self.approval_policy;
        let denied = |text: &str| {
            let prefix = self.rules.denied(text)?;
            Some(Verdict::Refuse(format!(
                "`policy.deny` holds `{prefix}`, and only the owner can change that"
            )))
        };
        if let Access::Type { input, .. } = access
            && let Some(refused) = denied(input)
        {
            return refused;
        }
        if let Access::Run {
            command, workdir, ..
        } = access
        {
            if let Some(refused) = denied(command) {
                return refused;
            }
            let unasked = || self.rules.unasked(command, &self.workspace, workdir);
            if approval == ApprovalPolicy::Untrusted && unasked() {
                // Not more than that: what would leave the sandbox is asked all the same.
                approval = ApprovalPolicy::OnRequest;
            }
        }
        if let Some(why) = self.shows_others(access) {
            return Verdict::Refuse(why);
        }
        verdict(
            access,
            self.workspace.sandbox(),
            approval,
            |path| self.workspace.write_protection(path),
            || self.shortfall(),
        )
    }

    /// Why nobody can say yes to this where others are on the machine who must not be seen: the person who would be
    /// asked is one of them.
    fn shows_others(&self, access: &Access) -> Option<String> {
        let (Access::Run { .. } | Access::Type { .. }) = access else {
            return None;
        };
        let leaves = matches!(
            access,
            Access::Run { escalate: true, .. } | Access::Type { free: true, .. }
        );
        match (self.workspace.view().is_narrow(), leaves) {
            (false, _) => None,
            (true, true) => Some(
                "outside the sandbox is the work of others, and nobody who uses this server can allow that"
                    .to_owned(),
            ),
            // It holds them apart or is nothing; what else is partial is asked about as ever.
            (true, false) => self
                .confinement
                .separates()
                .err(),
        }
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

    /// What commands of this thread run behind.
    pub fn sandbox_report(&self) -> SandboxReport {
        self.confinement.report(self.workspace.sandbox())
    }

    /// What keeps a command from running unasked although the policy would let it: the kernel does not hold it.
    fn shortfall(&self) -> Option<String> {
        match self.confinement.sandbox().protection() {
            Protection::Whole => None,
            Protection::Partial(_) if self.accept_partial => None,
            Protection::Partial(missing) => Some(format!(
                "the sandbox of this machine is only partial ({}); its owner can accept that with `policy.accept_partial`",
                missing.join(", ")
            )),
            Protection::None => Some(
                "nothing on this machine can confine a command; in a container that is itself the sandbox, its owner can start openoxide with `--sandbox danger-full-access`"
                    .to_owned(),
            ),
        }
    }

    /// What a command with this access runs behind. `approved`: somebody said yes to it.
    fn confined(&self, access: &Access, approved: bool) -> Option<Confined> {
        let leaves = match access {
            Access::Run { escalate, .. } => *escalate && approved,
            _ => true,
        };
        let held = self.workspace.sandbox() != SandboxPolicy::DangerFullAccess && !leaves;
        // Where there is nothing to hold it, it comes here only with an approval.
        (held && self.confinement.sandbox().protection() != Protection::None).then(|| Confined {
            by: self.confinement.clone(),
            may_escalate: self.approval_policy != ApprovalPolicy::Never
                && !self.workspace.view().is_narrow(),
        })
    }

    /// Asks, and runs what was approved: if the files that a command names changed since, it is asked again.
    async fn ask(
        &self,
        call: &ToolCall,
        planned: Planned<Run>,
        why: String,
        host: Arc<dyn Host>,
        cancel: CancellationToken,
    ) -> Passed {
        let mut named = self.named(&planned.access);
        let mut special = why.clone();
        for _ in 0..MOST_QUESTIONS {
            let question = self.question(call, &planned, &special, &named);
            let answered = tokio::select! {
                answered = host.ask(question) => answered,
                () = cancel.cancelled() => return self.interrupted(call),
            };
            let note = answered.answer.note;
            match answered.answer.decision {
                Decision::Approve | Decision::ApproveForSession => {
                    let now = self.named(&planned.access);
                    let Some(changed) = named.changed(&now, &self.workspace) else {
                        let confined = self.confined(&planned.access, true);
                        let approved = Approved {
                            named: Some(named),
                            note,
                        };
                        return self
                            .run(call, planned, confined, host, cancel, approved)
                            .await;
                    };
                    special = format!("{why}; {changed} changed since the last question");
                    named = now;
                }
                decision => {
                    let who = if answered.by_nobody {
                        format!("{why}, and nobody could be asked")
                    } else {
                        "a person said no".to_owned()
                    };
                    let note = note.map(|note| format!(": {note}")).unwrap_or_default();
                    let reason = format!("{who}{note}");
                    return self.refused(call, &planned, reason, decision == Decision::Abort);
                }
            }
        }
        let reason = "what it runs changed after each question about it".to_owned();
        self.refused(call, &planned, reason, false)
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

    fn question(
        &self,
        call: &ToolCall,
        planned: &Planned<Run>,
        why: &str,
        named: &Named,
    ) -> Question {
        let place =
            |at: &std::path::Path| format!("in `{}`: {why}", shown_line(&at.to_string_lossy()));
        let common = |kind, place, detail: String, reason: Option<String>, covers| Question {
            call_id: call.call_id.clone(),
            kind,
            summary: summary(&planned.access, &planned.title),
            place,
            detail,
            reason,
            stands_on: named.digest(),
            covers,
            form: None,
        };
        match &planned.access {
            Access::Run {
                command,
                workdir,
                escalate,
                reason,
            } => {
                let covers = self
                    .rules
                    .covers(command, &self.workspace, workdir, *escalate, named);
                common(
                    ApprovalKind::Command,
                    place(workdir),
                    named.shown(&self.workspace),
                    reason.clone(),
                    covers,
                )
            }
            // Never for the session: what the same keys do is up to what reads them.
            Access::Type { workdir, .. } => common(
                ApprovalKind::Command,
                place(workdir),
                String::new(),
                None,
                None,
            ),
            Access::Write { paths, diff } => {
                let covers = paths
                    .first()
                    .map(|path| format!("edits of `{}`", self.workspace.show(path)));
                common(
                    ApprovalKind::Edit,
                    place(self.workspace.cwd()),
                    diff.clone(),
                    None,
                    covers,
                )
            }
            Access::Outside(outside) => common(
                ApprovalKind::Tool,
                format!(
                    "at the external server `{}`: {why}",
                    shown_line(&outside.server)
                ),
                outside_detail(outside),
                None,
                Some(outside_covers(outside)),
            ),
            Access::Nothing | Access::Read(_) => common(
                ApprovalKind::Edit,
                place(self.workspace.cwd()),
                String::new(),
                None,
                None,
            ),
        }
    }

    async fn run(
        &self,
        call: &ToolCall,
        planned: Planned<Run>,
        confinement: Option<Confined>,
        host: Arc<dyn Host>,
        cancel: CancellationToken,
        approved: Approved,
    ) -> Passed {
        if cancel.is_cancelled() {
            return self.interrupted(call);
        }
        let under_way = tokio::select! {
            running = self.running(&planned.access, confinement.is_some()) => running,
            () = cancel.cancelled() => return self.interrupted(call),
        };
        let title = shown_line(&format!("{}: {}", call.name, planned.title));
        if let Err(error) = host.starting(&call.call_id, title).await {
            return self.ended(
                call,
                OutputStatus::Failed,
                format!("not run, since it could not be recorded: {error}"),
            );
        }
        // Recording takes its time, and this is the last moment.
        if let Some(named) = &approved.named
            && let Some(changed) = named.changed(&self.named(&planned.access), &self.workspace)
        {
            let reason = format!("{changed} changed after the approval; call again to ask anew");
            return self.refused(call, &planned, reason, false);
        }
        let looked_after = match (&planned.access, &confinement) {
            (Access::Run { .. }, Some(confined)) => Some((confined.by.clone(), host.clone())),
            _ => None,
        };
        let running = Call {
            id: call.call_id.clone(),
            workspace: self.workspace.clone(),
            cancel,
            host,
            confinement,
            // A command that goes on in the background holds it for as long as it does.
            under_way: under_way.clone(),
        };
        // A tool that panics must cost its call, not the turn; one that is given up must not act any more.
        let tool = AbortOnDropHandle::new(tokio::spawn((planned.plan)(running)));
        let ran = tool.await;
        let (status, done) = match ran {
            Ok(Ok(done)) if done.interrupted => (OutputStatus::Interrupted, done),
            Ok(Ok(done)) => (OutputStatus::Done, done),
            Ok(Err(error)) => (OutputStatus::Failed, Output::from(error.0)),
            Err(_) => (
                OutputStatus::Failed,
                Output::from("the tool broke down inside openoxide".to_owned()),
            ),
        };
        let left = match looked_after {
            Some((confinement, host)) => self.look_after(call, confinement, host).await,
            None => String::new(),
        };
        let note = approved
            .note
            .map(|note| format!("\nA note from the person who approved: {note}"))
            .unwrap_or_default();
        let content = output::bounded(
            self.redactor.clean(done.content + &left + &note),
            output::OUTPUT_BYTES,
        );
        let output = ToolOutput {
            call_id: call.call_id.clone(),
            status,
            content,
            command: done.command,
        };
        Passed {
            output,
            structured: done.structured.map(|value| self.cleaned(value)),
            denied: None,
            abort: false,
        }
    }

    /// Held while a command runs that may change files; before it does, what it may change is known. What is typed may
    /// make it do so too.
    async fn running(&self, access: &Access, confined: bool) -> Option<Arc<Running>> {
        let may_write = match access {
            Access::Run { .. } => !confined,
            Access::Type { free, .. } => *free,
            // Nothing holds an external server, and some are there to write files.
            Access::Outside(_) => true,
            Access::Nothing | Access::Read(_) | Access::Write { .. } => return None,
        };
        let may_write = may_write || self.workspace.sandbox() != SandboxPolicy::ReadOnly;
        match may_write && self.measures {
            true => Some(Arc::new(Checkpoint::command(&self.workspace).await)),
            false => None,
        }
    }

    /// Without what tools must not bring in, wherever in it that stands.
    fn cleaned(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.redactor.clean(text).into(),
            Value::Array(values) => values
                .into_iter()
                .map(|value| self.cleaned(value))
                .collect(),
            Value::Object(entries) => {
                let entries = entries.into_iter();
                let cleaned = entries.map(|(key, value)| (key, self.cleaned(value)));
                Value::Object(cleaned.collect())
            }
            plain => plain,
        }
    }

    /// What a command has left that its user should know of: lines for the model, and warnings for the person.
    async fn look_after(
        &self,
        call: &ToolCall,
        confinement: Arc<Confinement>,
        host: Arc<dyn Host>,
    ) -> String {
        let workspace = self.workspace.clone();
        let look = tokio::task::spawn_blocking(move || confinement.look_after(&workspace));
        // The walk is bounded; if it broke down, the next one finds the same.
        let found = look.await.unwrap_or_default();
        let mut lines = String::new();
        for what in found {
            lines += &format!("\n[{what}]");
            host.progress(&call.call_id, Progress::Warning(what));
        }
        lines
    }

    fn refused(
        &self,
        call: &ToolCall,
        planned: &Planned<Run>,
        reason: String,
        abort: bool,
    ) -> Passed {
        let summary = summary(&planned.access, &planned.title);
        let content =
            format!("denied: {reason}. Nothing was done; go on without it, or say what is needed.");
        let mut passed = self.ended(call, OutputStatus::Denied, content);
        passed.denied = Some(Denied {
            summary: self.redactor.clean(summary),
            reason: self.redactor.clean(reason),
        });
        passed.abort = abort;
        passed
    }

    /// The output of a call that did not run because its turn was stopped.
    pub fn interrupted(&self, call: &ToolCall) -> Passed {
        self.ended(
            call,
            OutputStatus::Interrupted,
            "not run: the turn was interrupted first".to_owned(),
        )
    }

    fn ended(&self, call: &ToolCall, status: OutputStatus, content: String) -> Passed {
        let content = output::bounded(self.redactor.clean(content), output::OUTPUT_BYTES);
        let output = ToolOutput {
            call_id: call.call_id.clone(),
            status,
            content,
            command: None,
        };
        Passed {
            output,
            structured: None,
            denied: None,
            abort: false,
        }
    }
}

fn summary(access: &Access, title: &str) -> String {
    match access {
        Access::Run { command, .. } => format!("run `{}`", shown_line(command)),
        Access::Type { command, input, .. } => format!(
            "type `{}` into the running `{}`",
            shown_line(input),
            shown_line(command)
        ),
        Access::Write { .. } => format!("edit `{}`", shown_line(title)),
        Access::Outside(outside) => format!(
            "ask `{}` of the external server `{}`: {}",
            shown_line(&outside.tool),
            shown_line(&outside.server),
            shown_line(title)
        ),
        Access::Nothing | Access::Read(_) => shown_line(title),
    }
}

/// The table of the contract ("Policies"): what `sandbox` and `approval` say of `access`. `protection` tells why
/// `workspace-write` keeps a path from being written, `shortfall` what of the sandbox the kernel does not enforce on
/// commands.
pub fn verdict(
    access: &Access,
    sandbox: SandboxPolicy,
    approval: ApprovalPolicy,
    protection: impl Fn(&PathBuf) -> Option<&'static str>,
    shortfall: impl Fn() -> Option<String>,
) -> Verdict {
    match access {
        Access::Nothing | Access::Read(_) => Verdict::Run,
        Access::Outside(access) => outside(access, approval),
        Access::Write { paths, .. } => match (forbidden(sandbox, paths, protection), approval) {
            (Some(why), ApprovalPolicy::Never) => Verdict::Refuse(why),
            (Some(why), _) => Verdict::Ask(why),
            (None, ApprovalPolicy::Untrusted) => {
                Verdict::Ask("the policy asks before every edit".to_owned())
            }
            (None, _) => Verdict::Run,
        },
        Access::Run { escalate, .. } => match (escalate, approval) {
            _ if sandbox == SandboxPolicy::DangerFullAccess => unsandboxed(approval),
            (true, ApprovalPolicy::Never) => Verdict::Refuse(
                "it would leave the sandbox, and the policy is to never ask".to_owned(),
            ),
            (true, _) => Verdict::Ask("it would run outside the sandbox".to_owned()),
            (false, _) => held(shortfall(), approval),
        },
        Access::Type { free, .. } => match (free, approval) {
            _ if sandbox == SandboxPolicy::DangerFullAccess => unsandboxed(approval),
            (true, ApprovalPolicy::Never) => Verdict::Refuse(
                "the command is outside the sandbox, and the policy is to never ask".to_owned(),
            ),
            (true, _) => Verdict::Ask("the command runs outside the sandbox".to_owned()),
            (false, _) => held(shortfall(), approval),
        },
    }
}

/// In the sandbox, as far as there is one.
fn held(shortfall: Option<String>, approval: ApprovalPolicy) -> Verdict {
    match (shortfall, approval) {
        (Some(why), ApprovalPolicy::Never) => Verdict::Refuse(why),
        (Some(why), _) => Verdict::Ask(why),
        (None, _) => unsandboxed(approval),
    }
}

/// What the table says of a tool of an external server; the sandbox has no part in it.
fn outside(access: &OutsideAccess, approval: ApprovalPolicy) -> Verdict {
    match approval {
        _ if access.unasked => Verdict::Run,
        ApprovalPolicy::Never => Verdict::Refuse(format!(
            "it is not in `mcp_servers.{}.auto`, or not any more what it was when the thread began, and the policy is to never ask",
            shown_line(&access.server)
        )),
        _ if access.changed => Verdict::Ask(
            "the server describes this tool differently than when the thread began".to_owned(),
        ),
        _ => Verdict::Ask("it is not among those that its owner lets run unasked".to_owned()),
    }
}

/// What a person should see before it goes out: all of what goes there, then the server's own words.
fn outside_detail(outside: &OutsideAccess) -> String {
    let arguments = shown_text(&outside.arguments);
    match outside.about.as_str() {
        "" => arguments,
        about => format!(
            "{arguments}\n\nThe server says of the tool: {}",
            shown_text(about)
        ),
    }
}

/// The key of an approval for the session. With what the server says of the tool, it is another key; all of the digest
/// is in it, since a server could make two tools agree in a part of it.
fn outside_covers(outside: &OutsideAccess) -> String {
    format!(
        "calls of `{}` of the external server `{}`, as it describes it now ({})",
        shown_line(&outside.tool),
        shown_line(&outside.server),
        outside.identity
    )
}

/// A command that leaves nothing behind which it should be: only `untrusted` asks.
fn unsandboxed(approval: ApprovalPolicy) -> Verdict {
    match approval {
        ApprovalPolicy::Untrusted => Verdict::Ask(
            "the policy asks before a command that is not certain only to read".to_owned(),
        ),
        ApprovalPolicy::OnRequest | ApprovalPolicy::Never => Verdict::Run,
    }
}

fn forbidden(
    sandbox: SandboxPolicy,
    paths: &[PathBuf],
    protection: impl Fn(&PathBuf) -> Option<&'static str>,
) -> Option<String> {
    match sandbox {
        SandboxPolicy::ReadOnly => Some("the sandbox is `read-only`".to_owned()),
        SandboxPolicy::DangerFullAccess => None,
        SandboxPolicy::WorkspaceWrite => paths.iter().find_map(protection).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::{
        conversation::CallId,
        tools::{Answered, Tool, registry::Settings},
        workspace::{Boundaries, sandbox::Sandbox},
    };

    #[test]
    fn the_verdict_is_the_table_of_the_contract() {
        use ApprovalPolicy::{Never, OnRequest, Untrusted};
        use SandboxPolicy::{DangerFullAccess, ReadOnly, WorkspaceWrite};
        let edit = |path: &str| Access::Write {
            paths: vec![path.into()],
            diff: String::new(),
        };
        let command = |escalate| Access::Run {
            command: "make".into(),
            workdir: "/w".into(),
            escalate,
            reason: None,
        };
        let keys = |free| Access::Type {
            command: "bash".into(),
            workdir: "/w".into(),
            input: "ls\n".into(),
            free,
        };
        let read = Access::Read(vec!["/w/a".into()]);
        let asked_outside = |unasked| {
            Access::Outside(Box::new(OutsideAccess {
                server: "s".into(),
                tool: "t".into(),
                arguments: String::new(),
                about: String::new(),
                identity: String::new(),
                changed: false,
                unasked,
            }))
        };
        for (access, sandbox, approval, expected) in [
            (&read, ReadOnly, Untrusted, "run"),
            (&edit("/w/a"), WorkspaceWrite, Untrusted, "ask"),
            (&edit("/w/a"), WorkspaceWrite, OnRequest, "run"),
            (&edit("/w/a"), WorkspaceWrite, Never, "run"),
            (&edit("/guarded"), WorkspaceWrite, Untrusted, "ask"),
            (&edit("/guarded"), WorkspaceWrite, OnRequest, "ask"),
            (&edit("/guarded"), WorkspaceWrite, Never, "refuse"),
            (&edit("/guarded"), DangerFullAccess, Never, "run"),
            (&edit("/w/a"), ReadOnly, OnRequest, "ask"),
            (&edit("/w/a"), ReadOnly, Never, "refuse"),
            (&command(false), WorkspaceWrite, Untrusted, "ask"),
            (&command(false), WorkspaceWrite, OnRequest, "run"),
            (&command(false), WorkspaceWrite, Never, "run"),
            (&command(true), WorkspaceWrite, Untrusted, "ask"),
            (&command(true), WorkspaceWrite, OnRequest, "ask"),
            (&command(true), WorkspaceWrite, Never, "refuse"),
            (&command(true), DangerFullAccess, Never, "run"),
            (&command(false), ReadOnly, OnRequest, "run"),
            (&command(false), ReadOnly, Untrusted, "ask"),
            (&command(true), ReadOnly, OnRequest, "ask"),
            (&command(true), ReadOnly, Never, "refuse"),
            (&asked_outside(true), ReadOnly, Untrusted, "run"),
            (&asked_outside(true), ReadOnly, OnRequest, "run"),
            (&asked_outside(true), ReadOnly, Never, "run"),
            (&asked_outside(false), DangerFullAccess, Untrusted, "ask"),
            (&asked_outside(false), DangerFullAccess, OnRequest, "ask"),
            (&asked_outside(false), DangerFullAccess, Never, "refuse"),
            (&keys(false), WorkspaceWrite, Untrusted, "ask"),
            (&keys(false), WorkspaceWrite, OnRequest, "run"),
            (&keys(false), ReadOnly, Never, "run"),
            (&keys(true), WorkspaceWrite, Untrusted, "ask"),
            (&keys(true), WorkspaceWrite, OnRequest, "ask"),
            (&keys(true), WorkspaceWrite, Never, "refuse"),
            (&keys(true), DangerFullAccess, Untrusted, "ask"),
            (&keys(true), DangerFullAccess, OnRequest, "run"),
            (&keys(true), DangerFullAccess, Never, "run"),
        ] {
            let protection = |path: &PathBuf| path.starts_with("/guarded").then_some("guarded");
            let found = word(&verdict(access, sandbox, approval, protection, || None));
            assert_eq!(found, expected, "{access:?} {sandbox:?} {approval:?}");
        }
    }

    /// A command, as a tool would plan it.
    struct Fake;

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Line {
        command: String,
        escalate: bool,
    }

    impl Tool for Fake {
        type Input = Line;
        type Plan = ();
        const NAME: &'static str = "fake";
        const ONLY_READS: bool = false;

        fn plan(&self, input: Line, workspace: &Workspace) -> Result<Planned<()>, ToolError> {
            let access = Access::Run {
                command: input.command.clone(),
                workdir: workspace.cwd().to_owned(),
                escalate: input.escalate,
                reason: None,
            };
            Ok(Planned {
                access,
                title: input.command,
                plan: (),
            })
        }

        async fn run(&self, (): (), _: Call) -> Result<Output, ToolError> {
            Ok(Output::from("ran".to_owned()))
        }
    }

    /// Says yes, and writes to a file while it is asked, as often as told.
    struct Meddler {
        script: PathBuf,
        times: usize,
        /// Once more while the start is recorded.
        late: bool,
        questions: Mutex<Vec<Question>>,
    }

    impl Host for Meddler {
        fn ask(&self, question: Question) -> BoxFuture<'_, Answered> {
            let mut questions = self.questions.lock().unwrap();
            questions.push(question);
            if questions.len() <= self.times {
                std::fs::write(&self.script, questions.len().to_string()).unwrap();
            }
            Box::pin(std::future::ready(Answered {
                answer: Decision::Approve.into(),
                by_nobody: false,
            }))
        }

        fn starting<'a>(&'a self, _: &'a CallId, _: String) -> BoxFuture<'a, Result<(), String>> {
            if self.late {
                std::fs::write(&self.script, "late").unwrap();
            }
            Box::pin(std::future::ready(Ok(())))
        }

        fn progress(&self, _: &CallId, _: Progress) {}
    }

    /// What became of a command under `approval`, and the questions, while somebody changes `x.sh` `times` times.
    async fn pass(
        approval: ApprovalPolicy,
        command: (&str, bool),
        times: usize,
    ) -> (OutputStatus, Vec<Question>) {
        let (output, questions) = meddled(approval, command, times, false).await;
        (output.status, questions)
    }

    async fn meddled(
        approval: ApprovalPolicy,
        (command, escalate): (&str, bool),
        times: usize,
        late: bool,
    ) -> (ToolOutput, Vec<Question>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.sh"), "echo one\n").unwrap();
        let sandbox = SandboxPolicy::WorkspaceWrite;
        let workspace = Workspace::open(dir.path(), sandbox, Boundaries::default()).unwrap();
        let settings = Settings {
            environment: Vec::new(),
            commands_are_held: false,
            keeper: None,
        };
        let mut tools =
            Registry::built_in(SandboxPolicy::ReadOnly, ApprovalPolicy::Never, &settings);
        tools.add(Fake);
        let path = [("PATH".into(), "/usr/bin:/bin".into())];
        let gate = Gate {
            tools,
            workspace: Arc::new(workspace),
            confinement: Arc::new(Confinement::new(Arc::new(Sandbox::whole()), false)),
            accept_partial: true,
            approval_policy: approval,
            rules: Rules::new(&["sh x.sh allowed".into()], &["rm".into()], &path).unwrap(),
            redactor: Redactor::default(),
            measures: true,
        };
        let host = Arc::new(Meddler {
            script: dir.path().join("x.sh"),
            times,
            late,
            questions: Mutex::default(),
        });
        let call = ToolCall {
            call_id: CallId("1".to_owned()),
            name: "fake".to_owned(),
            arguments: serde_json::json!({"command": command, "escalate": escalate}).to_string(),
            wire: None,
        };
        let passed = gate
            .pass(&call, host.clone(), CancellationToken::new())
            .await;
        let questions = host.questions.lock().unwrap().clone();
        (passed.output, questions)
    }

    #[tokio::test]
    async fn commands_pass_as_the_rules_say() {
        use ApprovalPolicy::{Never, OnRequest, Untrusted};
        use OutputStatus::{Denied, Done};
        for (approval, command, escalate, status, questions) in [
            (Untrusted, "cat x.sh | wc -l", false, Done, 0),
            (Untrusted, "cat x.sh | wc -l", true, Done, 1),
            (Untrusted, "cat /etc/hostname", false, Done, 1),
            (Untrusted, "sh x.sh", false, Done, 1),
            (Untrusted, "sh x.sh allowed", false, Done, 0),
            (Untrusted, "sh x.sh allowed", true, Done, 1),
            (OnRequest, "sh x.sh", false, Done, 0),
            (OnRequest, "sh x.sh allowed", true, Done, 1),
            (Never, "sh x.sh allowed", true, Denied, 0),
            (Untrusted, "rm x.sh", false, Denied, 0),
            (OnRequest, "ls; sudo rm x.sh", false, Denied, 0),
            (Never, "echo $(rm x.sh)", false, Denied, 0),
            (OnRequest, "rm x.sh", true, Denied, 0),
        ] {
            let (became, asked) = pass(approval, (command, escalate), 0).await;
            let found = (became, asked.len());
            assert_eq!(
                found,
                (status, questions),
                "{approval:?} {command} {escalate}"
            );
        }
    }

    #[tokio::test]
    async fn an_approval_is_for_the_script_as_it_was_when_asked() {
        let escalated = ("./x.sh", true);
        let (status, questions) = pass(ApprovalPolicy::OnRequest, escalated, 1).await;
        assert_eq!(status, OutputStatus::Done);
        assert_eq!(questions.len(), 2);
        assert!(!questions[0].place.contains("changed"));
        assert_eq!(questions[0].detail, "`x.sh`, 9 bytes:\n    echo one\n");
        assert_eq!(questions[1].detail, "`x.sh`, 1 bytes:\n    1\n");
        let again = "outside the sandbox; `x.sh` changed since the last question";
        assert!(
            questions[1].place.ends_with(again),
            "{}",
            questions[1].place
        );
        let (status, questions) = pass(ApprovalPolicy::OnRequest, escalated, 9).await;
        assert_eq!((status, questions.len()), (OutputStatus::Denied, 3));
        let (output, questions) = meddled(ApprovalPolicy::OnRequest, escalated, 0, true).await;
        assert_eq!((output.status, questions.len()), (OutputStatus::Denied, 1));
        let said = "`x.sh` changed after the approval; call again";
        assert!(output.content.contains(said), "{}", output.content);
    }

    fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Run => "run",
            Verdict::Ask(_) => "ask",
            Verdict::Refuse(_) => "refuse",
        }
    }

    #[test]
    fn what_the_kernel_does_not_hold_needs_somebody_to_say_yes() {
        use ApprovalPolicy::{Never, OnRequest, Untrusted};
        use SandboxPolicy::{DangerFullAccess, ReadOnly, WorkspaceWrite};
        let command = Access::Run {
            command: "make".into(),
            workdir: "/w".into(),
            escalate: false,
            reason: None,
        };
        for (sandbox, approval, expected) in [
            (ReadOnly, OnRequest, "ask"),
            (ReadOnly, Never, "refuse"),
            (WorkspaceWrite, Untrusted, "ask"),
            (WorkspaceWrite, OnRequest, "ask"),
            (WorkspaceWrite, Never, "refuse"),
            (DangerFullAccess, Never, "run"),
        ] {
            let short = || Some("nothing holds it".to_owned());
            let found = verdict(&command, sandbox, approval, |_| None, short);
            assert_eq!(word(&found), expected, "{sandbox:?} {approval:?}");
        }
    }
}
