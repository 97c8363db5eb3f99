//! What a path holds, or held: its state, with the bytes where they are known.

use std::{io, path::Path};

use super::{contents::ContentId, kept::read_as, manifest::State, scan::Stat};

/// Of a regular file or a link, or of nothing.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) state: State,
    pub(super) bytes: Option<Vec<u8>>,
}

impl Held {
    /// None for what is no file, no link and not nothing, or cannot be looked at: it is not as any turn left it.
    pub(super) fn at(path: &Path) -> Option<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(about) => Stat::of(&about).map(|stat| Self::read(path, &stat)),
            Err(error) => {
                let gone = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
                gone.contains(&error.kind()).then(Self::absent)
            }
        }
    }

    /// What is at `path` now, which is as `stat` says.
    pub(super) fn read(path: &Path, stat: &Stat) -> Self {
        Self::of(stat, read_as(path, stat.link).ok().flatten())
    }

    pub(super) fn absent() -> Self {
        Self {
            state: State::Absent,
            bytes: None,
        }
    }

    pub(super) fn file(mode: u32, bytes: Option<Vec<u8>>) -> Self {
        let Some(bytes) = bytes else {
            return Self::absent();
        };
        let content = Some(ContentId::of(&bytes));
        Self {
            state: State::File { mode, content },
            bytes: Some(bytes),
        }
    }

    pub(super) fn of(stat: &Stat, bytes: Option<Vec<u8>>) -> Self {
        let content = bytes.as_deref().map(ContentId::of);
        let state = match stat.link {
            true => State::Link { content },
            false => State::File {
                mode: stat.mode,
                content,
            },
        };
        Self { state, bytes }
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.state != State::Absent && self.bytes.is_none()
    }
}
