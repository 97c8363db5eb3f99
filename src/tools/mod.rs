//! What the model may call. One tool is one file; the gate stands before all of them.
//!
//! A tool understands its input once ([`Tool::plan`]), says what that would touch ([`Access`]), and does it when told
//! ([`Tool::run`]). It never asks for leave, never picks a sandbox, and knows no threads: what it needs from above comes
//! through [`Host`].

mod analyze_file;
pub mod command;
mod edit_file;
pub mod gate;
pub(crate) mod input;
mod list_files;
pub mod mcp;
mod outline;
mod output;
mod read_file;
pub mod registry;
mod rewrite;
mod search;
mod shell;
mod shell_input;
mod update_plan;
mod write_file;

use std::{future::Future, sync::Arc};

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    conversation::{
        Access, Answer, Approval, ApprovalId, ApprovalKind, CallId, CommandRun, Form, ResolvedBy,
        TurnId,
    },
    workspace::{Workspace, checkpoint, sandbox::Confinement},
};

/// One tool. `Input` is what the model writes, and its doc comments are what the model reads about it.
pub trait Tool: Send + Sync + 'static {
    /// The arguments.
    type Input: DeserializeOwned + JsonSchema + Send;
    /// What is meant by them: checked, resolved, ready to run.
    type Plan: Send + 'static;

    /// The name that the model calls.
    const NAME: &'static str;

    /// True if no input can make it change anything; such calls run side by side.
    const ONLY_READS: bool;

    /// The file that `input` names to be written, if it names one: what policy refuses is not even looked at.
    fn writes(_: &Self::Input) -> Option<&str> {
        None
    }

    /// Understands `input` and says what it would touch. Changes nothing.
    fn plan(
        &self,
        input: Self::Input,
        workspace: &Workspace,
    ) -> Result<Planned<Self::Plan>, ToolError>;

    /// Does it. Ends soon after `call.cancel` is cancelled.
    fn run(
        &self,
        plan: Self::Plan,
        call: Call,
    ) -> impl Future<Output = Result<Output, ToolError>> + Send;
}

/// A call that was understood.
#[derive(Debug)]
pub struct Planned<P> {
    /// What it would touch.
    pub access: Access,
    /// What it does in a few words, without the tool's name: `src/a.rs`, `cargo test`.
    pub title: String,
    /// What is left to do.
    pub plan: P,
}

/// What a running call may use.
#[derive(Clone)]
pub struct Call {
    /// The model's name for it.
    pub id: CallId,
    /// Where it happens.
    pub workspace: Arc<Workspace>,
    /// Cancelled when the turn is interrupted.
    pub cancel: CancellationToken,
    /// To tell how it goes.
    pub host: Arc<dyn Host>,
    /// What a command runs behind, as the gate decided; none outside the sandbox.
    pub confinement: Option<Confined>,
    /// Held while a command may change files; a command that outlives its call holds it too.
    pub under_way: Option<Arc<checkpoint::Running>>,
}

/// What a command runs behind.
#[derive(Clone, Debug)]
pub struct Confined {
    /// Makes the kernel hold it.
    pub by: Arc<Confinement>,
    /// Whether the model can ask to leave it.
    pub may_escalate: bool,
}

/// What came of a call.
#[derive(Debug, Default)]
pub struct Output {
    /// What the model reads.
    pub content: String,
    /// The same for a program, where there is more to it than text.
    pub structured: Option<Value>,
    /// The command that ran, where one did.
    pub command: Option<CommandRun>,
    /// The turn was stopped before it could finish.
    pub interrupted: bool,
}

impl From<String> for Output {
    fn from(content: String) -> Self {
        Self {
            content,
            ..Self::default()
        }
    }
}

/// Why a call could not be done: what failed, what is there instead, what to try. Its reader is the model.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ToolError(pub String);

impl ToolError {
    /// From any error that reads well.
    pub fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// What tools and the gate need from above. The thread implements it.
pub trait Host: Send + Sync {
    /// Puts a question to whoever attends; always comes back with an answer.
    fn ask(&self, question: Question) -> BoxFuture<'_, Answered>;

    /// Returns when it is recorded that this call starts; an error means that it must not run.
    fn starting<'a>(&'a self, call: &'a CallId, title: String)
    -> BoxFuture<'a, Result<(), String>>;

    /// Tells how a call goes. Lossy, never waits.
    fn progress(&self, call: &CallId, progress: Progress);
}

/// A question about one access. The thread gives it a name and finds somebody to answer.
#[derive(Clone, Debug)]
pub struct Question {
    /// The call that waits.
    pub call_id: CallId,
    /// What sort of thing is asked.
    pub kind: ApprovalKind,
    /// One line: the command, or the files.
    pub summary: String,
    /// Where it would happen and what it would leave.
    pub place: String,
    /// The diff of an edit.
    pub detail: String,
    /// What the model says it is for.
    pub reason: Option<String>,
    /// A digest of the files that it stands on besides what is shown.
    pub stands_on: String,
    /// What an approval for the session covers: a key that is the same for the same thing.
    pub covers: Option<String>,
    /// What an external server wants to know; then no leave is asked for, and only a person can answer.
    pub form: Option<Box<Form>>,
}

impl Question {
    /// It as it is put to somebody and kept on record, under a name of its own.
    pub fn into_approval(self, turn_id: TurnId) -> Approval {
        Approval {
            id: ApprovalId::generate(),
            turn_id,
            call_id: self.call_id,
            kind: self.kind,
            summary: self.summary,
            place: self.place,
            detail: self.detail,
            reason: self.reason,
            stands_on: self.stands_on,
            session_covers: self.covers,
            form: self.form,
        }
    }
}

/// The answer that came.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The decision, and a word for the model.
    pub answer: Answer,
    /// Whose it is.
    pub by: ResolvedBy,
}

/// How a call goes.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The newest line of its output.
    Line(String),
    /// Something that a person should know at once.
    Warning(String),
    /// A file has new content.
    FileChanged {
        /// As shown to people.
        path: String,
        /// The difference.
        added: usize,
        /// The difference.
        removed: usize,
        /// Unified diff.
        diff: String,
    },
}
