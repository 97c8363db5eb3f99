//! The table of the contract, and commands that pass the gate while somebody changes what they name.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use futures_util::future::BoxFuture;

use super::{rule::table, *};
use crate::{
    conversation::{
        CallId, Decision, OutputStatus, OutsideAccess, ResolvedBy, SandboxPolicy, ToolOutput,
    },
    tools::{
        Answered, Call, Output, Planned, Progress, Question, Tool, ToolError, registry::Settings,
    },
    workspace::{Boundaries, View, sandbox::Sandbox},
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
        let found = word(&table(access, sandbox, approval, protection, || None));
        assert_eq!(found, expected, "{access:?} {sandbox:?} {approval:?}");
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
        let found = table(&command, sandbox, approval, |_| None, short);
        assert_eq!(word(&found), expected, "{sandbox:?} {approval:?}");
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Run => "run",
        Verdict::Ask(_) => "ask",
        Verdict::Refuse(_) => "refuse",
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
            by: ResolvedBy::Terminal,
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
    let gate = gate(dir.path(), approval, Boundaries::default());
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

/// A gate before the tool that is planned here.
fn gate(dir: &Path, approval: ApprovalPolicy, bounds: Boundaries) -> Gate {
    let sandbox = SandboxPolicy::WorkspaceWrite;
    let workspace = Workspace::open(dir, sandbox, bounds).unwrap();
    let settings = Settings {
        environment: Vec::new(),
        commands_are_held: false,
        keeper: None,
    };
    let mut tools = Registry::built_in(SandboxPolicy::ReadOnly, ApprovalPolicy::Never, &settings);
    tools.add(Fake);
    let path = [("PATH".into(), "/usr/bin:/bin".into())];
    Gate {
        tools,
        workspace: Arc::new(workspace),
        confinement: Arc::new(Confinement::new(Arc::new(Sandbox::whole()), false)),
        accept_partial: true,
        approval_policy: approval,
        rules: Rules::new(&["sh x.sh allowed".into()], &["rm".into()], &path).unwrap(),
        redactor: Redactor::default(),
        measures: true,
    }
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

#[test]
fn beside_others_nobody_can_allow_an_edit_outside_of_the_workspace() {
    let (dir, neighbour) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let verdict = |view: View, path: &Path, name: &str| {
        let bounds = Boundaries {
            view,
            ..Boundaries::default()
        };
        let gate = gate(dir.path(), ApprovalPolicy::OnRequest, bounds);
        word(&gate.verdict(&Access::Write {
            paths: vec![path.canonicalize().unwrap().join(name)],
            diff: String::new(),
        }))
    };
    let narrow = || View::System(Vec::new());
    assert_eq!(verdict(narrow(), neighbour.path(), "a"), "refuse");
    assert_eq!(verdict(narrow(), dir.path(), "a"), "run");
    assert_eq!(verdict(View::Machine, neighbour.path(), "a"), "ask");
    // The question would show it.
    assert_eq!(verdict(View::Machine, neighbour.path(), ".env"), "refuse");
    assert_eq!(verdict(View::Machine, dir.path(), ".env"), "run");
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
