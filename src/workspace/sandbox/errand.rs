//! A command for a helper that was started before there was one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What such a helper is told to start, with nothing to read from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Errand {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// All of its environment.
    pub env: Vec<(String, String)>,
    /// As it is called behind the helper.
    pub workdir: PathBuf,
}
