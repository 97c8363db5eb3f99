//! Ends a command's processes when nobody holds it any more.

use super::tree::{self, Tree};

/// Ends the tree when it is dropped. None once nothing is left of it.
#[derive(Debug)]
pub(super) struct TreeGuard(pub(super) Option<Tree>);

impl TreeGuard {
    /// The guard with what it guards; an empty one stays.
    pub(super) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    pub(super) fn shell_ended(&mut self) {
        if let Some(tree) = &mut self.0 {
            tree.shell_ended();
        }
    }

    /// As [`Tree::interrupt`].
    pub(super) fn interrupt(&mut self) {
        if let Some(tree) = &mut self.0 {
            tree.interrupt();
        }
    }

    /// The shell has ended, perhaps because it was `killed`.
    pub(super) fn is_certainly_over(&self, killed: bool) -> bool {
        let tree = self.0.as_ref();
        tree.is_none_or(|tree| tree.is_certainly_over(killed))
    }

    /// Nothing is left to guard.
    pub(super) fn release(&mut self) {
        self.0 = None;
    }

    /// As [`Tree::end`] where it takes more than a look, then off the runtime's threads.
    pub(super) async fn end_leftovers(mut self) {
        if self.0.is_none() {
            return;
        }
        if self.0.as_ref().is_some_and(Tree::clearly_empty) {
            self.0 = None;
        } else {
            self.end().await;
        }
        tree::reap_strays();
    }

    /// Ends all of it and waits until it is gone.
    pub(super) async fn end(mut self) {
        // An error means that the runtime shuts down, which has dropped the guard and so done the work.
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(mut tree) = self.0.take() {
                tree.end();
            }
        })
        .await;
    }
}

impl Drop for TreeGuard {
    /// One look here, since the program may be about to exit; the rest, which takes milliseconds, on a thread.
    fn drop(&mut self) {
        let Some(mut tree) = self.0.take() else {
            return;
        };
        tree.kill();
        // Without a thread to be had, the look above has to do.
        let _ = std::thread::Builder::new().spawn(move || tree.end());
    }
}
