//! What a caller says to its hands, and the list that tells it. The doc comments are what the calling model reads.

use std::path::PathBuf;

use rmcp::model::{Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::frontend::mcp::arguments::{self, described, object};

/// The tools by name.
pub(in crate::frontend::mcp) const SEARCH: &str = "search_codebase";
pub(in crate::frontend::mcp) const RUN: &str = "run_command";
pub(in crate::frontend::mcp) const ANALYZE: &str = "analyze_file";
pub(in crate::frontend::mcp) const NAMES: [&str; 3] = [SEARCH, RUN, ANALYZE];

/// Search file contents with a Rust regular expression; what git ignores, hidden and binary files are left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchCodebase {
    /// The regular expression.
    pub(super) pattern: String,
    /// Directory or file, relative to the server's directory (default: all of it).
    pub(super) path: Option<String>,
    /// Only paths that match, for example `*.rs`.
    pub(super) glob: Option<String>,
    /// Do not tell upper from lower case.
    #[serde(default)]
    pub(super) ignore_case: bool,
    /// Lines shown around each match.
    pub(super) context_lines: Option<u32>,
    /// At most so many matching lines (default 200).
    pub(super) limit: Option<u32>,
}

/// Run a shell command in the sandbox and see its output; what it leaves running is ended with it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunCommand {
    /// The shell line.
    pub(super) command: String,
    /// Directory to work in (default: the server's).
    pub(super) cwd: Option<PathBuf>,
    /// Ended after so many seconds (default 120).
    pub(super) timeout_seconds: Option<f64>,
}

/// See the functions of a source file with length and complexity, its to-dos and its imports.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AnalyzeFile {
    /// Path relative to the server's directory.
    pub(super) path: String,
}

/// The tools in the order in which they are listed.
pub(in crate::frontend::mcp) fn tools() -> Vec<Tool> {
    vec![
        tool::<SearchCodebase>(
            SEARCH,
            "Search file contents",
            arguments::reading(),
            searched(),
        ),
        tool::<RunCommand>(RUN, "Run a command", arguments::acting(), ran()),
        tool::<AnalyzeFile>(ANALYZE, "Analyze a file", arguments::reading(), analyzed()),
    ]
}

fn tool<T: JsonSchema>(
    name: &'static str,
    title: &str,
    annotations: ToolAnnotations,
    output: Value,
) -> Tool {
    described::<T>(name)
        .with_title(title)
        .with_annotations(annotations)
        .with_raw_output_schema(object(output))
}

// Open objects, as that of an outcome: clients check results against them, and results may grow.

fn searched() -> Value {
    let line = json!({
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "line": {"type": "integer"},
            "text": {"type": "string"},
            "context": {"type": "boolean", "description": "Only shown around a match."}
        },
        "required": ["path", "line", "text"]
    });
    json!({
        "type": "object",
        "properties": {
            "matches": {"type": "array", "items": line},
            "truncated": {"type": "boolean", "description": "There are more."}
        },
        "required": ["matches", "truncated"]
    })
}

fn ran() -> Value {
    json!({
        "type": "object",
        "properties": {
            "exit_code": {"type": "integer", "description": "None if it was ended; 128 and the number of a signal."},
            "output": {"type": "string"},
            "seconds": {"type": "number"},
            "timed_out": {"type": "boolean"}
        },
        "required": ["output", "seconds"]
    })
}

fn analyzed() -> Value {
    let line = json!({
        "type": "object",
        "properties": {"line": {"type": "integer"}, "text": {"type": "string"}},
        "required": ["line", "text"]
    });
    let function = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "line": {"type": "integer"},
            "end_line": {"type": "integer"},
            "length": {"type": "integer"},
            "complexity": {"type": "integer"}
        },
        "required": ["name", "line", "end_line", "length", "complexity"]
    });
    json!({
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "language": {"type": "string"},
            "parsed": {"type": "boolean", "description": "By a parser; else line by line."},
            "lines": {"type": "integer"},
            "functions": {"type": "array", "items": function},
            "todos": {"type": "array", "items": line},
            "imports": {"type": "array", "items": line},
            "truncated": {"type": "boolean"}
        },
        "required": ["path", "language", "lines", "functions", "todos", "imports"]
    })
}
