//! `edit_file`: search/replace in one file, all edits or none.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Call, Output, Planned, Tool, ToolError, input,
    read_file::near_names,
    rewrite::{Rewrite, unless_by_others},
};
use crate::{
    conversation::SandboxPolicy,
    workspace::{
        Workspace,
        edit::{self, Edit, Match},
        file,
    },
};

pub(super) struct EditFile;

/// Change parts of a file by search/replace. Each `search` must match exactly one place; all edits are applied in
/// order, or none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// Path relative to the working directory.
    path: String,
    /// The edits, in order.
    edits: Vec<InputEdit>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InputEdit {
    /// Text as it stands in the file, with enough lines around it to be found once.
    search: String,
    /// What stands there afterwards.
    replace: String,
    /// Line near which `search` stands; only decides between equal matches.
    #[serde(default, deserialize_with = "input::count")]
    line: Option<usize>,
    /// Replace every exact match.
    #[serde(default)]
    replace_all: bool,
}

impl Tool for EditFile {
    type Input = Input;
    type Plan = Rewrite;
    const NAME: &'static str = "edit_file";
    const ONLY_READS: bool = false;

    fn writes(input: &Input) -> Option<&str> {
        Some(&input.path)
    }

    fn plan(&self, input: Input, workspace: &Workspace) -> Result<Planned<Rewrite>, ToolError> {
        let path = workspace.target(&input.path).map_err(ToolError::new)?;
        let shown = workspace.show(&path);
        if input.edits.is_empty() {
            return Err(ToolError::new("`edits` is empty; nothing was done"));
        }
        let before = file::read(&path)
            .map_err(|error| ToolError(format!("`{shown}` cannot be edited: {error}")))?;
        let changed = unless_by_others(workspace, &path, before.as_deref())?;
        let edits: Vec<Edit> = input.edits.into_iter().map(Edit::from).collect();
        let applied = edit::apply(before.as_deref(), &edits).map_err(|refusal| {
            if !workspace.is_inside(&path) && workspace.sandbox() != SandboxPolicy::DangerFullAccess
            {
                // Nobody has said yes to showing what stands there.
                return ToolError(format!(
                    "`{shown}` is outside the workspace, and the edits do not fit what stands there; nothing was done"
                ));
            }
            let first = if changed {
                "it changed since you last saw it. "
            } else {
                ""
            };
            let near = if before.is_none() {
                near_names(&path, workspace)
            } else {
                String::new()
            };
            ToolError(format!("`{shown}`{near}: {first}{refusal}"))
        })?;
        let first = changed.then(|| {
            "it had changed since you last saw it; the edits were made in what stands there now"
                .to_owned()
        });
        let remarks = first
            .into_iter()
            .chain(applied.matches.iter().filter_map(remark))
            .collect();
        Ok(Rewrite {
            path,
            before,
            after: applied.after,
            remarks,
        }
        .planned(workspace))
    }

    async fn run(&self, plan: Rewrite, call: Call) -> Result<Output, ToolError> {
        plan.write(&call)
    }
}

/// Where an edit went that did not fit exactly, and how it was made to.
fn remark(found: &Match) -> Option<String> {
    let how = found.how.as_ref()?;
    Some(format!(
        "applied at {}-{}: {how}",
        found.first_line, found.last_line
    ))
}

impl From<InputEdit> for Edit {
    fn from(input: InputEdit) -> Self {
        Self {
            search: input.search,
            replace: input.replace,
            line: input.line,
            replace_all: input.replace_all,
        }
    }
}
