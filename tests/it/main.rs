//! One test crate at three heights: threads with a scripted model, the real binary over its doors, and the tidiness of
//! the source. What a single room promises is tested in its own file.

#[cfg(target_os = "linux")]
mod sandbox;
mod support;

mod answering;
mod bad_input;
mod command_line;
mod crash;
mod external;
mod mcp;
mod secrets;
mod threads;
mod tidy;
