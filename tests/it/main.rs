//! One test crate at three heights: threads with a scripted model, the real binary over its doors, and the tidiness of
//! the source. What a single room promises is tested in its own file.

#[cfg(target_os = "linux")]
mod sandbox;
mod support;

mod answering;
mod bad_input;
mod beyond;
mod changes;
mod command_line;
mod crash;
mod damage;
mod doctor;
mod external;
mod far;
#[cfg(target_os = "linux")]
mod flood;
mod flow;
mod foreign_git;
mod keeping;
#[cfg(target_os = "linux")]
mod leaks;
mod long;
mod mcp;
mod network;
mod secrets;
mod sessions;
mod setup;
mod soak;
#[cfg(target_os = "linux")]
mod spare;
mod suspended;
#[cfg(target_os = "linux")]
mod tenants;
mod terminal;
mod threads;
mod tidy;
mod undo;
#[cfg(target_os = "linux")]
mod unkept;
mod wire;
