//! A directory before the first command of a turn: what is there, and where the content of each file is to be had.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{
    BUDGET,
    contents::{ContentId, Contents},
    git::{Index, ObjectId, Repository},
    kept::Kept,
    plumbing::Plumbing,
    scan::{Scan, Scope, Stat},
};
use crate::workspace::Workspace;

/// What was there. Empty with a reason in `unknown` where it could not be found out.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub(super) scan: Scan,
    /// Paths that git has in its index, which count even where rules ignore them.
    pub(super) tracked: Vec<PathBuf>,
    repository: Option<(Repository, Index)>,
    kept: OnceLock<Kept>,
    /// Why commands' changes are not known at all.
    pub(super) unknown: Option<String>,
    /// Files whose contents could not be kept.
    pub(super) left_out: AtomicUsize,
    /// Cancelled when as much is kept as will be.
    pub(super) finished: CancellationToken,
    /// Lives as long as what is kept in it.
    temporary: OnceLock<TempDir>,
}

/// Where a content is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Object(ObjectId),
    Kept(ContentId),
}

impl Before {
    /// Looks. Blocks, until `deadline` at most and a little.
    pub(super) fn look(workspace: &Workspace, deadline: Instant) -> Self {
        let repository = Repository::around(workspace.cwd()).map(|repository| {
            let index = repository.index();
            (repository, index)
        });
        let tracked = match &repository {
            Some((_, index)) => within(workspace.writable_roots(), index),
            None => Vec::new(),
        };
        let scope = Scope {
            roots: workspace.writable_roots(),
            closed: workspace.closed(),
            tracked: &tracked,
        };
        let scan = match scope.scan(None, deadline) {
            Ok(scan) => scan,
            Err(error) => {
                return Self {
                    unknown: Some(error.to_string()),
                    ..Self::default()
                };
            }
        };
        Self {
            scan,
            tracked,
            repository: repository.filter(|(repository, index)| {
                !index.is_empty() && !repository.may_filter(index) && git_is_there()
            }),
            ..Self::default()
        }
    }

    /// Copies what no git has. Blocks, until `deadline` at most and a little. A file that changes meanwhile is left
    /// out, never kept as what it was not.
    pub(super) fn keep(&self, place: Option<&Path>, deadline: Instant) {
        // Also when this breaks down: nobody must wait for it then.
        let _finished = self.finished.clone().drop_guard();
        let wanted: Vec<(&PathBuf, &Stat)> = self
            .scan
            .files
            .iter()
            .filter(|(path, stat)| self.object(path, stat).is_none())
            .collect();
        let folder = match place {
            Some(place) => place.to_owned(),
            None if wanted.is_empty() => return,
            None => match tempfile::Builder::new()
                .prefix("openoxide-before-")
                .tempdir()
            {
                Ok(made) => self.temporary.get_or_init(|| made).path().to_owned(),
                Err(_) => return self.left_out.store(wanted.len(), Ordering::Relaxed),
            },
        };
        let mut kept = Kept::open(&folder);
        let left_out = kept.renew(wanted, deadline);
        self.left_out.store(left_out, Ordering::Relaxed);
        // Only one task keeps.
        let _ = self.kept.set(kept);
    }

    /// Waits until as much is kept as will be. Blocks; ended by [`Self::keep`], which has a deadline, or by [`BUDGET`].
    pub(super) fn wait(&self) {
        let until = Instant::now() + BUDGET;
        while !self.finished.is_cancelled() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn object(&self, path: &Path, stat: &Stat) -> Option<ObjectId> {
        let (_, index) = self.repository.as_ref()?;
        index.object(path, stat).copied()
    }

    /// Where the content of `path` from before is; none if it was not kept.
    pub(super) fn source(&self, path: &Path) -> Option<Source> {
        let stat = self.scan.files.get(path)?;
        if let Some(id) = self.object(path, stat) {
            return Some(Source::Object(id));
        }
        let kept = self.kept.get()?.content(path, stat)?;
        Some(Source::Kept(kept.clone()))
    }

    /// Our own copies.
    pub(super) fn contents(&self) -> Option<&Contents> {
        self.kept.get().map(|kept| &kept.contents)
    }

    /// Fetches what is in objects, all at once; what cannot be had is not in the answer.
    pub(super) fn objects(&self, ids: &[ObjectId]) -> HashMap<ObjectId, Vec<u8>> {
        let Some((repository, _)) = &self.repository else {
            return HashMap::new();
        };
        if ids.is_empty() {
            return HashMap::new();
        }
        let fetched = Plumbing::new(&repository.objects()).and_then(|git| git.blobs(ids));
        let fetched = fetched.unwrap_or_else(|error| {
            tracing::warn!("contents from git: {error}");
            Vec::new()
        });
        let pairs = ids.iter().copied().zip(fetched);
        pairs.filter_map(|(id, blob)| Some((id, blob?))).collect()
    }
}

fn within(roots: &[PathBuf], index: &Index) -> Vec<PathBuf> {
    let inside = |path: &&PathBuf| roots.iter().any(|root| path.starts_with(root));
    index.paths().filter(inside).cloned().collect()
}

/// Without the program an index is of no use: nobody could fetch the contents.
fn git_is_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("git").is_file())
}
