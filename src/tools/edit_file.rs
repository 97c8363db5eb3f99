//! `edit_file`: search/replace in one file, all edits or none.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Call, Output, Planned, Progress, Tool, ToolError, input, read_file::near_names};
use crate::{
    conversation::Access,
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

/// New content for a file whose old content is known.
pub(super) struct Rewrite {
    pub(super) path: PathBuf,
    pub(super) before: Option<Vec<u8>>,
    pub(super) after: Vec<u8>,
    /// How it was done, where the model should know.
    pub(super) remarks: Vec<String>,
}

impl Tool for EditFile {
    type Input = Input;
    type Plan = Rewrite;
    const NAME: &'static str = "edit_file";
    const ONLY_READS: bool = false;

    fn plan(&self, input: Input, workspace: &Workspace) -> Result<Planned<Rewrite>, ToolError> {
        let path = workspace.resolve(&input.path).map_err(ToolError::new)?;
        let shown = workspace.show(&path);
        if input.edits.is_empty() {
            return Err(ToolError::new("`edits` is empty; nothing was done"));
        }
        let before = file::read(&path)
            .map_err(|error| ToolError(format!("`{shown}` cannot be edited: {error}")))?;
        let changed = unless_by_others(workspace, &path, before.as_deref())?;
        let edits: Vec<Edit> = input.edits.into_iter().map(Edit::from).collect();
        let applied = edit::apply(before.as_deref(), &edits).map_err(|refusal| {
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

/// True if a command of this thread changed the file since the agent saw it.
///
/// # Errors
/// Somebody else did. It is told what, so that a second call means the file as it is.
pub(super) fn unless_by_others(
    workspace: &Workspace,
    path: &Path,
    now: Option<&[u8]>,
) -> Result<bool, ToolError> {
    let Some(news) = workspace.seen().news(path, now) else {
        return Ok(false);
    };
    if workspace.checkpoint().is_by_own_command(path) {
        return Ok(true);
    }
    Err(ToolError(format!(
        "`{}` was changed by somebody else since you last saw it, so nothing was done; {news}\nCall again if the change still makes sense.",
        workspace.show(path)
    )))
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

impl Rewrite {
    pub(super) fn planned(self, workspace: &Workspace) -> Planned<Self> {
        let title = workspace.show(&self.path);
        let diff = edit::unified_diff(&title, self.before.as_deref(), Some(&self.after));
        Planned {
            access: Access::Write {
                paths: vec![self.path.clone()],
                diff: diff.text,
            },
            title,
            plan: self,
        }
    }

    /// Writes it, unless the file is no longer what the plan was made from.
    pub(super) fn write(self, call: &Call) -> Result<Output, ToolError> {
        let shown = call.workspace.show(&self.path);
        if self.before.as_deref() == Some(self.after.as_slice()) {
            return Ok(format!("{shown} already has this content; nothing was written").into());
        }
        let fail = |error: std::io::Error| ToolError(format!("`{shown}` was not written: {error}"));
        if file::read(&self.path).map_err(fail)? != self.before {
            return Err(ToolError(format!(
                "`{shown}` changed while this call waited; nothing was written. Read it again."
            )));
        }
        call.workspace
            .checkpoint()
            .keep(
                &call.workspace,
                &self.path,
                self.before.as_deref(),
                &self.after,
            )
            .map_err(fail)?;
        file::write(&self.path, &self.after).map_err(fail)?;
        call.workspace.seen().note(&self.path, &self.after);
        let diff = edit::unified_diff(&shown, self.before.as_deref(), Some(&self.after));
        let mut content = format!("{shown}: +{} −{}", diff.added, diff.removed);
        for remark in &self.remarks {
            content.push('\n');
            content.push_str(remark);
        }
        let progress = Progress::FileChanged {
            path: shown,
            added: diff.added,
            removed: diff.removed,
            diff: diff.text,
        };
        call.host.progress(&call.id, progress);
        Ok(content.into())
    }
}
