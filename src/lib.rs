//! openoxide: a coding agent in one program, for people on a command line and for others over MCP.
//!
//! # The map, in reading order
//!
//! | layer | module | job |
//! |---|---|---|
//! | 0 | [`conversation`] | the shared words as plain data: ids, item, event, approval, policy, outcome |
//! | 1 | [`workspace`] | what can be done to a directory: edit, search, shell; no model, no questions |
//! | 2 | [`model`] | sampling a model: one streaming method |
//! | 2 | [`tools`] | what the model may call, and the gate that each call passes |
//! | 3 | [`agent`] | one turn: the loop between model and gate, and the context it sends |
//! | 4 | [`thread`] | a conversation over time: the actor, approvals, rollouts |
//! | 5 | [`frontend`] | thin subscribers: the MCP server and the command line |
//! | 6 | [`config`], [`app`] | read what the owner set, build the parts, wire them |
//!
//! Imports go down only; `tests/it/tidy.rs` holds them to it. Two needs point upward and are turned round by a small
//! trait in the lower layer: [`tools::Host`] and [`agent::Report`], both implemented by the thread.
//!
//! # The invariants
//!
//! 1. Only the thread actor writes items, but for an undo, which ends the open turn that it takes back; and only one
//!    process at a time holds a thread while a turn is open.
//! 2. Persist, publish, then act.
//! 3. Every call has exactly one output, also after an interrupt or a crash.
//! 4. No question waits when nobody can answer; everything that waits says what ends it. Nothing that is sent by a
//!    model, a repository or an external server can widen what it may do.
//! 5. Only `frontend` speaks to the outside. Standard output belongs to the protocol.
//! 6. Tools do not know threads; the workspace does not know models; the agent does not know protocols.
//! 7. Nobody below `app` sees the whole configuration; each part declares its own.
//! 8. Nothing the model writes reaches the disk or a process except through the gate.
//! 9. A file is changed only where the edit says so: bytes outside the matched span stay as they were, line endings
//!    and permissions included; a write is whole or not at all.

pub mod agent;
pub mod app;
pub mod config;
pub mod conversation;
pub mod frontend;
pub mod model;
pub mod thread;
pub mod tools;
pub mod workspace;
