//! New content for one file: how the file tools show it, and how they write it.

use std::path::{Path, PathBuf};

use super::{Call, Output, Planned, Progress, ToolError};
use crate::{
    conversation::Access,
    workspace::{Workspace, edit, file},
};

/// New content for a file whose old content is known.
pub(super) struct Rewrite {
    pub(super) path: PathBuf,
    pub(super) before: Option<Vec<u8>>,
    pub(super) after: Vec<u8>,
    /// How it was done, where the model should know.
    pub(super) remarks: Vec<String>,
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
