//! What carries MCP messages: standard input/output, one message a line.
mod admission;
pub mod process;
pub mod stdio;
