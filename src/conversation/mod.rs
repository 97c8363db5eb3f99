//! The shared words as plain data: everything above speaks in these and nothing here does anything.
//!
//! No channel, lock, closure or file lives here; whatever crosses a boundary of the program can be printed.

mod approval;
mod event;
mod form;
mod ids;
mod item;
mod outcome;
mod policy;
mod prompt;
mod redact;
mod shown;

pub use approval::{Answer, Approval, ApprovalKind, Decision, Resolution, ResolvedBy};
pub use event::Event;
pub use form::{Form, choices};
pub use ids::{ApprovalId, CallId, NotAnId, ThreadId, TurnId};
pub use item::{Item, OutputStatus, ToolCall, ToolOutput, Wire};
pub use outcome::{
    By, Change, ChangeKind, CommandRun, Denied, Outcome, SandboxReport, Status, TurnError,
    TurnErrorKind, Usage, Worktree,
};
pub use policy::{Access, ApprovalPolicy, OutsideAccess, SandboxPolicy, WhenUnattended};
pub use prompt::{Picture, Prompt};
pub use redact::Redactor;
pub use shown::{shortened, shown_line, shown_text};
