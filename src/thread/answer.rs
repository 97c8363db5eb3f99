//! An answer to a question of a turn that no process runs: kept, so that the turn finds it when it is taken up.

use super::{
    rollout::Record,
    store::{DirectoryStore, StoreError, ThreadStore},
};
use crate::conversation::{Answer, ApprovalId, Resolution, ResolvedBy, ThreadId};

/// Keeps the answer of a person at the terminal. False if the question is not open (any more).
///
/// # Errors
/// If a process works on the thread, or it cannot be read or written.
pub async fn keep(
    store: &DirectoryStore,
    id: ThreadId,
    approval_id: ApprovalId,
    answer: Answer,
) -> Result<bool, StoreError> {
    let (loaded, mut journal) = store.open(id)?;
    let loaded = journal.hold()?.unwrap_or(loaded);
    let open = loaded.open_turn().map(|turn| &turn.open_approvals);
    let is_open = open.is_some_and(|open| open.iter().any(|open| open.id == approval_id));
    if is_open {
        let by = ResolvedBy::Terminal;
        let resolution = Resolution { answer, by };
        journal.append(&Record::ApprovalResolved {
            approval_id,
            resolution,
        })?;
        journal.sync().await?;
    }
    journal.release();
    Ok(is_open)
}
