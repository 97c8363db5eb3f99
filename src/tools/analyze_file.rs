//! `analyze_file`: the functions of a file with their length and complexity, what is left to do in it, what it imports.
//!
//! For callers only: the agent's model has `outline` and `read_file`.

use std::{fmt::Write, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Call, Output, Planned, Tool, ToolError, output, read_file::near_names};
use crate::{
    conversation::Access,
    workspace::{
        Workspace,
        outline::{self, Analysis, LineFound},
    },
};

pub(super) struct AnalyzeFile;

/// Analyze a source file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// Path relative to the working directory.
    path: String,
}

impl Tool for AnalyzeFile {
    type Input = Input;
    type Plan = PathBuf;
    const NAME: &'static str = "analyze_file";
    const ONLY_READS: bool = true;

    fn plan(&self, input: Input, workspace: &Workspace) -> Result<Planned<PathBuf>, ToolError> {
        let path = workspace.resolve(&input.path).map_err(ToolError::new)?;
        Ok(Planned {
            access: Access::Read(vec![path.clone()]),
            title: workspace.show(&path),
            plan: path,
        })
    }

    async fn run(&self, path: PathBuf, call: Call) -> Result<Output, ToolError> {
        let analysed = tokio::task::spawn_blocking(move || {
            if !path.exists() {
                let shown = call.workspace.show(&path);
                let near = near_names(&path, &call.workspace);
                return Err(ToolError(format!("`{shown}` does not exist{near}")));
            }
            outline::analyse(&call.workspace, &path).map_err(ToolError::new)
        });
        let mut found = analysed
            .await
            .map_err(|_| ToolError::new("the analysis failed inside openoxide"))??;
        let structured = fitting(&mut found);
        Ok(Output {
            structured: Some(structured),
            ..Output::from(text(&found))
        })
    }
}

/// As much of it as may be told at once: the longest list gives way.
fn fitting(found: &mut Analysis) -> serde_json::Value {
    loop {
        let value = serde_json::to_value(&*found).unwrap_or_default();
        let longest = found
            .functions
            .len()
            .max(found.todos.len())
            .max(found.imports.len());
        if value.to_string().len() <= output::OUTPUT_BYTES || longest == 0 {
            return value;
        }
        let most = longest * 3 / 4;
        found.functions.truncate(most);
        found.todos.truncate(most);
        found.imports.truncate(most);
        found.truncated = true;
    }
}

fn text(found: &Analysis) -> String {
    let how = if found.parsed {
        "parsed"
    } else {
        "by its lines"
    };
    let mut text = format!(
        "{}: {}, {} lines ({how})\n",
        found.path, found.language, found.lines
    );
    // Writing into a String cannot fail.
    for function in &found.functions {
        let _ = writeln!(
            text,
            "{}: {}, {} lines, complexity {}",
            function.line, function.name, function.length, function.complexity
        );
    }
    let mut list = |title: &str, lines: &[LineFound]| {
        if !lines.is_empty() {
            let _ = writeln!(text, "{title}:");
        }
        for line in lines {
            let _ = writeln!(text, "  {}: {}", line.line, line.text);
        }
    };
    list("to do", &found.todos);
    list("imports", &found.imports);
    if found.truncated {
        text += "[not all of it]\n";
    }
    text
}
