//! What carries MCP messages: standard input/output, one message a line.
mod gate;
pub mod process;
pub mod stdio;
