//! Finds files by name and lines by regular expression below one directory, in process and by ripgrep's rules.
//!
//! Ignore files are honoured whether or not there is a repository, hidden files are left out unless the glob names
//! one, symbolic links are never followed, and `.git` is never entered. The walk is sorted, so a bound gives the same
//! results each time. Everything here blocks: call it on a blocking thread. It ends when the walk ends, when the limit
//! is reached, or soon after the token is cancelled, within a large file too.

mod files;
mod grep;
mod ignored;
mod pattern;
mod rules;
mod scope;

pub use files::{FileList, FileQuery, list_files};
pub use grep::{FileMatches, Line, TextMatches, TextQuery, search};
pub(super) use rules::Room;
pub(super) use scope::Scope;

/// Why nothing was searched. The words are for the model: what was wrong, and what to try.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The root is missing or cannot be read; the source names the path.
    #[error("nothing to search: {0}")]
    Root(#[from] std::io::Error),
    /// The root is a device, a socket or a pipe.
    #[error("`{0}` is neither a directory nor a regular file")]
    NotAFile(String),
    /// The root is not the place any more that it was when its path was resolved.
    #[error("`{0}` leads elsewhere now; try again")]
    Elsewhere(String),
    /// The regular expression does not compile; the message shows where, the hint says what to try.
    #[error("the pattern is not a valid Rust regex: {message}\n{hint}")]
    Pattern { message: String, hint: String },
    /// The glob does not parse, or cannot match anything below the root.
    #[error("the glob `{glob}` cannot be used: {message}")]
    Glob { glob: String, message: String },
    /// The token was cancelled before the end.
    #[error("the search was cancelled")]
    Cancelled,
}
