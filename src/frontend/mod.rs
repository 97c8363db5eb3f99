//! What speaks with the outside: thin subscribers of threads. Nothing below here prints, prompts or knows a protocol.

mod attach;
pub mod cli;
pub mod mcp;
