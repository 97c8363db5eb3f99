//! What carries MCP messages and keeps rmcp alive whatever comes in; standard input/output, one message a line.
pub(super) mod admission;
pub(super) mod carrier;
pub(super) mod in_flight;
pub(super) mod outbox;
pub mod process;
pub mod stdio;
