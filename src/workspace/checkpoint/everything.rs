//! All that counts of a repository's working tree at one moment, with what git already has of it.

use std::{
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    git::{Index, ObjectId, Repository},
    kept::read_as,
    scan::{Scan, Scope},
};

/// Files that are not ignored, or that git tracks all the same.
#[derive(Debug)]
pub(crate) struct Everything {
    scan: Scan,
    index: Index,
}

impl Everything {
    /// Of the working tree `top`. Blocks, until `deadline` at the latest.
    pub(crate) fn of(top: &Path, closed: &[PathBuf], deadline: Instant) -> io::Result<Self> {
        let index = Repository::around(top).map(|found| {
            let index = found.index();
            match found.may_filter(&index) {
                true => Index::default(),
                false => index,
            }
        });
        let index = index.unwrap_or_default();
        let tracked: Vec<PathBuf> = index.paths().cloned().collect();
        let scope = Scope {
            roots: &[top.to_owned()],
            closed,
            tracked: &tracked,
        };
        let scan = scope.scan(None, deadline).map_err(io::Error::other)?;
        Ok(Self { scan, index })
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.scan.files.keys()
    }

    pub(crate) fn has(&self, path: &Path) -> bool {
        self.scan.files.contains_key(path)
    }

    /// Those that git has an object of.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&PathBuf, &ObjectId)> {
        let files = self.scan.files.iter();
        files.filter_map(|(path, stat)| Some((path, self.index.object(path, stat)?)))
    }

    /// The others.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &PathBuf> {
        let files = self.scan.files.iter();
        let new = files.filter(|(path, stat)| self.index.object(path, stat).is_none());
        new.map(|(path, _)| path)
    }

    pub(crate) fn is_link(&self, path: &Path) -> bool {
        self.scan.files.get(path).is_some_and(|stat| stat.link)
    }

    /// As git writes it.
    pub(crate) fn mode(&self, path: &Path) -> &'static str {
        match self.scan.files.get(path) {
            Some(stat) if stat.link => "120000",
            Some(stat) if stat.mode & 0o100 != 0 => "100755",
            _ => "100644",
        }
    }

    pub(crate) fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        if self.is_link(path) {
            return Ok(read_as(path, true)?.unwrap_or_default());
        }
        fs_err::read(path)
    }
}
