//! What is looked at around a command: what it may change before it does, and what it has left behind after.

use std::sync::Arc;

use super::{Gate, Passing, Stopped};
use crate::{
    conversation::{Access, SandboxPolicy},
    tools::{Confined, Progress},
    workspace::checkpoint::{Checkpoint, Running},
};

impl Gate {
    /// Held while a command runs that may change files; before it does, what it may change is known. Ended by the look,
    /// or by `cancel`.
    pub(super) async fn look_before(
        &self,
        passing: &Passing<'_>,
        confined: bool,
    ) -> Result<Option<Arc<Running>>, Stopped> {
        let look = async {
            match self.may_change_files(&passing.access, confined) {
                true => Some(Arc::new(Checkpoint::command(&self.workspace).await)),
                false => None,
            }
        };
        tokio::select! {
            biased;
            () = passing.cancel.cancelled() => Err(Stopped::Interrupted),
            running = look => Ok(running),
        }
    }

    /// Whether it matters what was there before. What is typed may make a command change files, too.
    fn may_change_files(&self, access: &Access, confined: bool) -> bool {
        let free = match access {
            Access::Run { .. } => !confined,
            Access::Type { free, .. } => *free,
            // Nothing holds an external server, and some are there to write files.
            Access::Outside(_) => true,
            // The file tools tell themselves what they change.
            Access::Nothing | Access::Read(_) | Access::Write { .. } => return false,
        };
        self.measures && (free || self.workspace.sandbox() != SandboxPolicy::ReadOnly)
    }

    /// What a command has left that its user should know of: lines for the model, and warnings for the person.
    pub(super) async fn look_after(
        &self,
        passing: &Passing<'_>,
        confined: Option<Confined>,
    ) -> String {
        let (Access::Run { .. }, Some(confined)) = (&passing.access, confined) else {
            return String::new();
        };
        let workspace = self.workspace.clone();
        let look = tokio::task::spawn_blocking(move || confined.by.look_after(&workspace));
        // The walk is bounded; if it broke down, the next one finds the same.
        let found = look.await.unwrap_or_default();
        let mut lines = String::new();
        for what in found {
            lines += &format!("\n[{what}]");
            let warning = Progress::Warning(what);
            passing.host.progress(&passing.call.call_id, warning);
        }
        lines
    }
}
