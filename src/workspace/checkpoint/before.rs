//! A directory before the first command of a turn: what is there, and where the content of each file is to be had.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{
    Budget,
    contents::{ContentId, Contents},
    conversion::{Conversion, possible},
    git::{Index, ObjectId, Repository},
    kept::{Kept, Limit, Wanted},
    plumbing::{Plumbing, hex},
    scan::{Scan, Scope},
};
use crate::workspace::Workspace;

/// What was there. Empty with a reason in `unknown` where it could not be found out.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub(super) scan: Scan,
    /// What is in it counts even where rules ignore it.
    pub(super) index: Index,
    /// Where the objects of the index can be had.
    repository: Option<Repository>,
    /// What an object of the index may be instead of the bytes of its file.
    conversion: Conversion,
    kept: OnceLock<Kept>,
    /// Why commands' changes are not known at all.
    pub(super) unknown: Option<String>,
    /// Files whose contents could not be kept.
    left_out: OnceLock<Vec<PathBuf>>,
    /// Cancelled when as much is kept as will be.
    pub(super) finished: CancellationToken,
    /// Lives as long as what is kept in it.
    temporary: OnceLock<TempDir>,
}

/// Where a content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Object(ObjectId),
    Kept(ContentId),
}

impl Source {
    /// From how it was written down; what is neither cannot be found.
    pub(super) fn parse(text: String) -> Option<Self> {
        if text.len() != 2 * size_of::<ObjectId>() {
            return Some(Self::Kept(ContentId::named(text)));
        }
        let mut id = ObjectId::default();
        for (at, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self::Object(id))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(id) => f.write_str(&hex(id)),
            Self::Kept(id) => id.fmt(f),
        }
    }
}

impl Before {
    /// Looks. Blocks, until `deadline` at most and a little.
    pub(super) fn look(workspace: &Workspace, deadline: Instant) -> Self {
        let repository = Repository::around(workspace.cwd());
        let index = repository.as_ref().map(Repository::index);
        let index = index.unwrap_or_default();
        let scope = Scope {
            roots: workspace.writable_roots(),
            closed: workspace.closed(),
            tracked: &index,
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
        let repository = repository.filter(|_| !index.is_empty() && git_is_there());
        let conversion = repository
            .as_ref()
            .map(|found| possible(found, &index, &scan.attributes));
        Self {
            conversion: conversion.unwrap_or_default(),
            scan,
            index,
            repository,
            ..Self::default()
        }
    }

    /// Copies what no git has. Blocks, until the deadline at most and a little. A file that changes meanwhile is left
    /// out, never kept as what it was not.
    pub(super) fn keep(&self, place: Option<&Path>, limit: Limit) {
        // Also when this breaks down: nobody must wait for it then.
        let finished = self.finished.clone().drop_guard();
        let wanted = self.wanted();
        let folder = match place {
            Some(place) => place.to_owned(),
            None if wanted.is_empty() => return,
            None => match tempfile::Builder::new()
                .prefix("openoxide-before-")
                .tempdir()
            {
                Ok(made) => self.temporary.get_or_init(|| made).path().to_owned(),
                Err(_) => {
                    let all = wanted.iter().map(|one| one.directory.join(one.name));
                    self.left_out.get_or_init(|| all.collect());
                    return;
                }
            },
        };
        let mut kept = Kept::open(&folder);
        let left_out = kept.renew(&wanted, limit);
        self.left_out.get_or_init(|| left_out);
        // Only one task keeps.
        let kept = self.kept.get_or_init(|| kept);
        drop(finished);
        if place.is_some() {
            kept.settle();
        }
    }

    /// Files whose content is not known to be with git, those of one directory together.
    fn wanted(&self) -> Vec<Wanted<'_>> {
        let mut wanted = Vec::new();
        for (directory, names) in self.scan.files.directories() {
            let objects = self.index.inside(directory).objects(names);
            for ((name, stat), object) in names.iter().zip(objects) {
                let object = object.filter(|_| self.repository.is_some());
                if object.is_none() || self.conversion != Conversion::None {
                    wanted.push(Wanted {
                        is_urgent: object.is_none() || self.conversion == Conversion::Any,
                        directory,
                        name,
                        stat,
                        object,
                    });
                }
            }
        }
        wanted
    }

    /// Files whose contents could not be kept.
    pub(super) fn left_out(&self) -> &[PathBuf] {
        self.left_out.get().map_or(&[], Vec::as_slice)
    }

    /// Waits until as much is kept as will be. Blocks; ended by [`Self::keep`], which has a deadline, or after
    /// the same time.
    pub(super) fn wait(&self, budget: Budget) {
        let until = Instant::now() + budget.time;
        while !self.finished.is_cancelled() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where the content of `path` from before is; none if it was not kept.
    pub(super) fn source(&self, path: &Path) -> Option<Source> {
        let stat = self.scan.files.get(path)?;
        if let Some(kept) = self.kept.get().and_then(|kept| kept.source(path, stat)) {
            return Some(kept.clone());
        }
        // Another size is seen when it is used.
        let is_likely = self.repository.is_some() && self.conversion != Conversion::Any;
        let object = is_likely.then(|| self.index.object(path, stat)).flatten();
        object.map(|id| Source::Object(*id))
    }

    /// Our own copies.
    pub(super) fn contents(&self) -> Option<&Contents> {
        self.kept.get().map(|kept| &kept.contents)
    }

    /// Fetches what is in objects, all at once; what cannot be had is not in the answer.
    pub(super) fn objects(
        &self,
        workspace: &Workspace,
        ids: &[ObjectId],
    ) -> HashMap<ObjectId, Vec<u8>> {
        let Some(repository) = self.repository.as_ref().filter(|_| !ids.is_empty()) else {
            return HashMap::new();
        };
        let fetched = Plumbing::new(&repository.objects(), workspace.guard(), workspace.closed())
            .and_then(|git| git.blobs(ids));
        let fetched = fetched.unwrap_or_else(|error| {
            tracing::warn!("contents from git: {error}");
            Vec::new()
        });
        let pairs = ids.iter().copied().zip(fetched);
        pairs.filter_map(|(id, blob)| Some((id, blob?))).collect()
    }
}

/// Without the program an index is of no use: nobody could fetch the contents.
fn git_is_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("git").is_file())
}
