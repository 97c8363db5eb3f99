//! `outline`: the definitions of a file, a folder or the whole workspace, the most referenced first.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Call, Output, Planned, Tool, ToolError, input, read_file::near_names};
use crate::{
    conversation::Access,
    workspace::{Workspace, outline},
};

/// Tokens of one answer where the model does not say.
const BUDGET: usize = 3_000;
/// What an answer may have at most: beyond, the gate would cut it in the middle.
const MOST: usize = 9_500;

pub(super) struct Outline;

/// See the definitions of a file, a folder or all of the workspace with their line numbers, nested as in the code, the
/// most referenced ones first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// File or directory relative to the working directory (default: all of it).
    path: Option<String>,
    /// Tokens that it may take (default 3000).
    #[serde(default, deserialize_with = "input::count")]
    budget: Option<usize>,
}

pub(super) struct Plan {
    path: PathBuf,
    budget: usize,
}

impl Tool for Outline {
    type Input = Input;
    type Plan = Plan;
    const NAME: &'static str = "outline";
    const ONLY_READS: bool = true;

    fn plan(&self, input: Input, workspace: &Workspace) -> Result<Planned<Plan>, ToolError> {
        let path = workspace
            .resolve(input.path.as_deref().unwrap_or("."))
            .map_err(ToolError::new)?;
        Ok(Planned {
            access: Access::Read(vec![path.clone()]),
            title: workspace.show(&path),
            plan: Plan {
                path,
                budget: input.budget.unwrap_or(BUDGET).clamp(100, MOST),
            },
        })
    }

    async fn run(&self, plan: Plan, call: Call) -> Result<Output, ToolError> {
        tokio::task::spawn_blocking(move || {
            if !plan.path.exists() {
                let shown = call.workspace.show(&plan.path);
                let near = near_names(&plan.path, &call.workspace);
                return Err(ToolError(format!("`{shown}` does not exist{near}")));
            }
            outline::outline(&call.workspace, &plan.path, plan.budget, &call.cancel)
                .map(Output::from)
                .map_err(ToolError::new)
        })
        .await
        .map_err(|_| ToolError::new("the outline failed inside openoxide"))?
    }
}
