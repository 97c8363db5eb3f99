//! `write_file`: a whole file.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Call, Output, Planned, Tool, ToolError,
    rewrite::{Rewrite, unless_by_others},
};
use crate::workspace::{Workspace, file};

pub(super) struct WriteFile;

/// Create a file, or replace its whole content. For a part of an existing file use `edit_file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// Path relative to the working directory; missing directories are made.
    path: String,
    /// The whole content.
    content: String,
}

impl Tool for WriteFile {
    type Input = Input;
    type Plan = Rewrite;
    const NAME: &'static str = "write_file";
    const ONLY_READS: bool = false;

    fn writes(input: &Input) -> Option<&str> {
        Some(&input.path)
    }

    fn plan(&self, input: Input, workspace: &Workspace) -> Result<Planned<Rewrite>, ToolError> {
        let path = workspace.target(&input.path).map_err(ToolError::new)?;
        let before = file::read(&path).map_err(|error| {
            ToolError(format!(
                "`{}` cannot be written: {error}",
                workspace.show(&path)
            ))
        })?;
        unless_by_others(workspace, &path, before.as_deref())?;
        Ok(Rewrite {
            path,
            before,
            after: input.content.into_bytes(),
            remarks: Vec::new(),
        }
        .planned(workspace))
    }

    async fn run(&self, plan: Rewrite, call: Call) -> Result<Output, ToolError> {
        plan.write(&call)
    }
}
