//! `list_files`: the files below a directory, ignored ones left out.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Call, Output, Planned, Tool, ToolError, input};
use crate::{
    conversation::Access,
    workspace::{
        Workspace,
        search::{self, FileQuery},
    },
};

/// Files of one answer where the model does not say.
const FILES: usize = 500;

pub(super) struct ListFiles;

/// List files below a directory, sorted; what git ignores and hidden files are left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// Directory relative to the working directory (default: all of it).
    path: Option<String>,
    /// Only paths that match, for example `src/**/*.rs`.
    glob: Option<String>,
    /// At most so many (default 500).
    #[serde(default, deserialize_with = "input::count")]
    limit: Option<usize>,
}

impl Tool for ListFiles {
    type Input = Input;
    type Plan = FileQuery;
    const NAME: &'static str = "list_files";
    const ONLY_READS: bool = true;

    fn plan(&self, input: Input, workspace: &Workspace) -> Result<Planned<FileQuery>, ToolError> {
        let root = workspace
            .resolve(input.path.as_deref().unwrap_or("."))
            .map_err(ToolError::new)?;
        let title = match &input.glob {
            Some(glob) => format!("{} in {}", glob, workspace.show(&root)),
            None => workspace.show(&root),
        };
        let plan = FileQuery {
            root: root.clone(),
            glob: input.glob,
            limit: input.limit.unwrap_or(FILES),
            excluded: workspace.closed().to_vec(),
        };
        Ok(Planned {
            access: Access::Read(vec![root]),
            title,
            plan,
        })
    }

    async fn run(&self, query: FileQuery, call: Call) -> Result<Output, ToolError> {
        let cancel = call.cancel.clone();
        let root = query.root.clone();
        let mut listed = tokio::task::spawn_blocking(move || search::list_files(&query, &cancel))
            .await
            .map_err(|_| ToolError::new("listing failed inside openoxide"))?
            .map_err(ToolError::new)?;
        // Told from the working directory, so that the next call can name them as they stand.
        for path in &mut listed.files {
            *path = call.workspace.show(&root.join(&*path));
        }
        Ok(listed.to_string().into())
    }
}
