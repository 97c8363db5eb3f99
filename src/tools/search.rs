//! `search`: a regular expression over the contents of files.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, Output, Planned, Tool, ToolError, input, output};
use crate::{
    conversation::Access,
    workspace::{
        Workspace,
        search::{self, TextMatches, TextQuery},
    },
};

/// Matching lines of one answer where the model does not say.
const LINES: usize = 200;

pub(super) struct Search;

/// Search file contents with a Rust regular expression; what git ignores, hidden and binary files are left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// The regular expression.
    pattern: String,
    /// Directory or file relative to the working directory (default: all of it).
    path: Option<String>,
    /// Only paths that match, for example `*.rs`.
    glob: Option<String>,
    /// Do not tell upper from lower case.
    #[serde(default)]
    ignore_case: bool,
    /// Lines shown around each match.
    #[serde(default, deserialize_with = "input::count")]
    context_lines: Option<usize>,
    /// Only the names of files that match.
    #[serde(default)]
    files_only: bool,
    /// At most so many matching lines (default 200).
    #[serde(default, deserialize_with = "input::count")]
    limit: Option<usize>,
}

impl Tool for Search {
    type Input = Input;
    type Plan = TextQuery;
    const NAME: &'static str = "search";
    const ONLY_READS: bool = true;

    fn plan(&self, input: Input, workspace: &Workspace) -> Result<Planned<TextQuery>, ToolError> {
        if input.pattern.is_empty() {
            return Err(ToolError::new(
                "`pattern` is empty; to see which files there are, use `list_files`",
            ));
        }
        let root = workspace
            .resolve(input.path.as_deref().unwrap_or("."))
            .map_err(ToolError::new)?;
        let title = format!("{} in {}", input.pattern, workspace.show(&root));
        let plan = TextQuery {
            root: root.clone(),
            pattern: input.pattern,
            glob: input.glob,
            ignore_case: input.ignore_case,
            context_lines: input.context_lines.unwrap_or(0),
            files_only: input.files_only,
            limit: input.limit.unwrap_or(LINES),
            excluded: workspace.closed().to_vec(),
        };
        Ok(Planned {
            access: Access::Read(vec![root]),
            title,
            plan,
        })
    }

    async fn run(&self, query: TextQuery, call: Call) -> Result<Output, ToolError> {
        let cancel = call.cancel.clone();
        let root = query.root.clone();
        let mut found = tokio::task::spawn_blocking(move || search::search(&query, &cancel))
            .await
            .map_err(|_| ToolError::new("searching failed inside openoxide"))?
            .map_err(ToolError::new)?;
        // Told from the working directory, so that the next call can name them as they stand.
        for file in &mut found.files {
            let real = if root.is_dir() {
                root.join(&file.path)
            } else {
                root.clone()
            };
            file.path = call.workspace.show(&real);
        }
        Ok(Output {
            structured: Some(structured(&found)),
            ..Output::from(found.to_string())
        })
    }
}

/// Line by line, as many as fit.
fn structured(found: &TextMatches) -> Value {
    let lines = found
        .files
        .iter()
        .flat_map(|file| file.lines.iter().map(move |line| (file, line)));
    let mut left = output::OUTPUT_BYTES;
    let mut matches = Vec::new();
    let mut truncated = found.truncated;
    for (file, line) in lines {
        let mut one = json!({"path": file.path, "line": line.number, "text": line.text});
        if !line.is_match {
            one["context"] = true.into();
        }
        let size = one.to_string().len();
        if size > left {
            truncated = true;
            break;
        }
        left -= size;
        matches.push(one);
    }
    json!({"matches": matches, "truncated": truncated})
}
