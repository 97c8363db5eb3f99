//! What carries MCP messages: standard input/output, one message a line.
mod admission;
mod in_flight;
pub mod process;
pub mod stdio;
