//! Contents of files by their hash: written once, never changed, checked when they are read.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use ring::digest;
use serde::{Deserialize, Serialize};

use super::plumbing::hex;

/// The name of a content: its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentId(String);

impl ContentId {
    /// The name of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(hex(digest::digest(&digest::SHA256, content).as_ref()))
    }

    /// From how it was written down.
    pub(super) fn named(name: String) -> Self {
        Self(name)
    }

    /// None for what cannot be the name of a file below a store: it may come from a damaged manifest.
    fn split(&self) -> Option<(&str, &str)> {
        let plain = self.0.len() == 64 && self.0.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| self.0.split_at(2))
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Contents in a directory: `ab/cdef…`. Files are 0600, directories 0700; several processes may use one.
#[derive(Clone, Debug)]
pub struct Contents {
    root: PathBuf,
}

impl Contents {
    /// Those in `root`, which is made with the first.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Keeps `content`.
    pub fn put(&self, content: &[u8]) -> io::Result<ContentId> {
        let id = ContentId::of(content);
        let path = self.place(&id)?;
        if path.exists() {
            return Ok(id);
        }
        let temporary = path.with_extension(uuid::Uuid::now_v7().to_string());
        let written = new_file(&temporary)
            .and_then(|mut file| file.write_all(content))
            .and_then(|()| fs::rename(&temporary, &path));
        if written.is_err() {
            // The first error is the one to tell; the rest is swept with the directory.
            let _ = fs::remove_file(&temporary);
        }
        written.map(|()| id)
    }

    /// Keeps what `other` has under this name: by a second name of the file where that can be.
    pub(super) fn take(&self, other: &Self, id: &ContentId) -> io::Result<()> {
        let (from, to) = (other.path(id)?, self.place(id)?);
        match fs::hard_link(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(_) => self.put(&other.get(id)?).map(drop),
            linked => linked,
        }
    }

    /// What was kept.
    ///
    /// # Errors
    /// It is not there, or not what its name says.
    pub fn get(&self, id: &ContentId) -> io::Result<Vec<u8>> {
        let content = fs_err::read(self.path(id)?)?;
        if ContentId::of(&content) == *id {
            Ok(content)
        } else {
            Err(io::Error::other(format!(
                "the kept content {id} is damaged"
            )))
        }
    }

    /// Names of all of them with their files.
    pub(super) fn all(&self) -> impl Iterator<Item = (ContentId, PathBuf)> + use<> {
        let below = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
        below(&self.root).flat_map(move |first| {
            below(&first.path()).map(move |second| {
                let names = [first.file_name(), second.file_name()];
                let name = names.map(|name| name.to_string_lossy().into_owned());
                (ContentId(name.concat()), second.path())
            })
        })
    }

    fn path(&self, id: &ContentId) -> io::Result<PathBuf> {
        let (first, rest) = id
            .split()
            .ok_or_else(|| io::Error::other("not the name of a content"))?;
        Ok(self.root.join(first).join(rest))
    }

    /// The path with its directory made.
    fn place(&self, id: &ContentId) -> io::Result<PathBuf> {
        let path = self.path(id)?;
        path.parent().map_or(Ok(()), private_directory)?;
        Ok(path)
    }
}

/// Makes `path` and what is missing above it, for the owner alone.
pub(in crate::workspace) fn private_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

pub(super) fn new_file(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_or_is_said_to_be_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let contents = Contents::at(dir.path().join("contents"));
        let id = contents.put(b"one").unwrap();
        assert_eq!(contents.put(b"one").unwrap(), id);
        assert_eq!(contents.get(&id).unwrap(), b"one");
        let other = Contents::at(dir.path().join("other"));
        other.take(&contents, &id).unwrap();
        assert_eq!(other.get(&id).unwrap(), b"one");
        let (name, path) = contents.all().next().unwrap();
        assert_eq!(name, id);
        fs::write(path, b"two").unwrap();
        assert!(contents.get(&id).is_err());
        assert!(contents.get(&ContentId("../../x".to_owned())).is_err());
    }
}
