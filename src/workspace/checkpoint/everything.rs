//! All that counts of a repository's working tree at one moment, with what git already has of it.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::fs::CWD;

use super::{
    conversion::{Conversion, possible},
    git::{Index, ObjectId, Repository, object_id},
    kept::read_as,
    objects::Kind,
    scan::{Scan, Scope, Stat},
};
use crate::workspace::given::{self, Links};

/// Files that are not ignored, or that git tracks all the same.
#[derive(Debug)]
pub(crate) struct Everything {
    scan: Scan,
    index: Index,
    /// An object of the index need not be the bytes of its file.
    converts: bool,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct One {
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    /// What git has of it, if that is sure to be its bytes.
    pub(crate) object: Option<ObjectId>,
}

impl Everything {
    /// Of the working tree of `repository`. Blocks, until `deadline` at the latest.
    pub(crate) fn of(
        repository: &Repository,
        closed: &[PathBuf],
        deadline: Instant,
    ) -> io::Result<Self> {
        let index = repository.index();
        let scope = Scope {
            roots: std::slice::from_ref(&repository.top),
            closed,
            tracked: &index,
        };
        let scan = scope.scan(None, deadline).map_err(io::Error::other)?;
        Ok(Self {
            converts: possible(repository, &index, &scan.attributes) != Conversion::None,
            scan,
            index,
        })
    }

    /// All of them, in no order.
    pub(crate) fn files(&self) -> impl Iterator<Item = One> {
        let files = self.scan.files.files();
        files.map(|(path, stat)| One {
            object: self.object(&path, stat).copied(),
            kind: kind(stat),
            path,
        })
    }

    fn object(&self, path: &Path, stat: &Stat) -> Option<&ObjectId> {
        let sure = !self.converts;
        sure.then(|| self.index.object(path, stat))?
    }
}

impl One {
    /// What it holds, or where it leads.
    pub(crate) fn bytes(&self) -> io::Result<Vec<u8>> {
        match self.kind {
            Kind::Link => Ok(read_as(&self.path, true)?.unwrap_or_default()),
            // It was a regular file when it was found.
            Kind::File | Kind::Program => {
                let mut bytes = Vec::new();
                let mut file = given::open(CWD, &self.path, Links::Refused)?;
                file.read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// The name of the object with its bytes, which git may not have.
    pub(crate) fn id(&self) -> io::Result<ObjectId> {
        match self.object {
            Some(id) => Ok(id),
            None => Ok(object_id(&self.bytes()?)),
        }
    }
}

/// As git sees it.
fn kind(stat: &Stat) -> Kind {
    match stat {
        Stat { link: true, .. } => Kind::Link,
        stat if stat.mode & 0o100 != 0 => Kind::Program,
        _ => Kind::File,
    }
}
