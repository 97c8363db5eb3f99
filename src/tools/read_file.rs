//! `read_file`: a file with line numbers, or a part of it.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Call, Output, Planned, Tool, ToolError, input, output};
use crate::{
    conversation::{Access, shortened, shown_text},
    workspace::{Workspace, file},
};

/// Lines of one answer where the model does not say.
const LINES: usize = 2000;

/// Characters of one line; minified files have lines that would fill the window.
const LINE_CHARS: usize = 2000;

pub(super) struct ReadFile;

/// Read a text file; lines come numbered, as `number<tab>text`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// Path relative to the working directory.
    path: String,
    /// First line, counted from 1.
    #[serde(default, deserialize_with = "input::count")]
    start_line: Option<usize>,
    /// How many lines (default 2000).
    #[serde(default, deserialize_with = "input::count")]
    line_count: Option<usize>,
}

pub(super) struct Plan {
    path: PathBuf,
    start: usize,
    count: usize,
}

impl Tool for ReadFile {
    type Input = Input;
    type Plan = Plan;
    const NAME: &'static str = "read_file";
    const ONLY_READS: bool = true;

    fn plan(&self, input: Input, workspace: &Workspace) -> Result<Planned<Plan>, ToolError> {
        let path = workspace.resolve(&input.path).map_err(ToolError::new)?;
        let start = input.start_line.unwrap_or(1).max(1);
        let count = input.line_count.unwrap_or(LINES);
        let title = workspace.show(&path);
        Ok(Planned {
            access: Access::Read(vec![path.clone()]),
            title,
            plan: Plan { path, start, count },
        })
    }

    async fn run(&self, plan: Plan, call: Call) -> Result<Output, ToolError> {
        tokio::task::spawn_blocking(move || read(&plan, &call.workspace))
            .await
            .map_err(|_| ToolError::new("reading failed inside openoxide"))?
            .map(Output::from)
    }
}

fn read(plan: &Plan, workspace: &Workspace) -> Result<String, ToolError> {
    let shown = workspace.show(&plan.path);
    let content = file::read(&plan.path)
        .map_err(|error| ToolError(format!("`{shown}` cannot be read: {error}")))?
        .ok_or_else(|| {
            ToolError(format!(
                "`{shown}` does not exist{}",
                near_names(&plan.path, workspace)
            ))
        })?;
    workspace.seen().note(&plan.path, &content);
    if content.is_empty() {
        return Ok(format!("`{shown}` is empty"));
    }
    if content[..content.len().min(8192)].contains(&0) {
        return Err(ToolError(format!(
            "`{shown}` is a binary file of {} bytes",
            content.len()
        )));
    }
    let text = String::from_utf8_lossy(&content);
    numbered(&text, plan, &shown)
}

fn numbered(text: &str, plan: &Plan, shown: &str) -> Result<String, ToolError> {
    let total = text.lines().count();
    if plan.start > total {
        return Err(ToolError(format!(
            "`{shown}` has {total} lines, so there is no line {}",
            plan.start
        )));
    }
    let mut out = String::new();
    let mut next = plan.start;
    for line in text.lines().skip(plan.start - 1).take(plan.count) {
        if out.len() > output::OUTPUT_BYTES {
            break;
        }
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{next}\t{}", shortened(&shown_text(line), LINE_CHARS));
        next += 1;
    }
    if next <= total {
        let _ = writeln!(
            out,
            "[… lines {next} to {total} not shown; go on with start_line {next}]"
        );
    }
    Ok(out)
}

/// Names beside the missing one that resemble it, for a model that misremembers.
pub(super) fn near_names(missing: &Path, workspace: &Workspace) -> String {
    let (Some(parent), Some(name)) = (missing.parent(), missing.file_name()) else {
        return String::new();
    };
    let Ok(entries) = std::fs::read_dir(parent) else {
        return format!(
            "; its directory `{}` does not exist either",
            workspace.show(parent)
        );
    };
    let name = name.to_string_lossy();
    let mut near: Vec<(f64, String)> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .map(|other| (strsim::jaro_winkler(&name, &other), other))
        .filter(|(likeness, _)| *likeness > 0.8)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<String> = near
        .iter()
        .take(3)
        .map(|(_, name)| format!("`{}`", workspace.show(&parent.join(name))))
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", names.join(" or "))
    }
}
