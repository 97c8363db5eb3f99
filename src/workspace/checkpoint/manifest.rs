//! What a turn changed, as it is kept with its thread: each file before and after, enough to show it and to take it back.
//!
//! `changes/<turn>.json` in the folder of the thread, and the contents from before in `contents/`. Until the turn ends,
//! what the file tools touch stands in `changes/<turn>.jsonl`, written before each first write, so that a turn that was
//! cut off by a crash can be taken back too. An undo is kept in the same way before it begins, with `changes/<undo>.undoing`
//! beside it until it is done. Names that are not UTF-8 are not kept, and said not to be.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::contents::{ContentId, Contents, private_directory};
use crate::conversation::{By, ThreadId, TurnId};

/// What a path held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum State {
    /// Nothing, and that is certain.
    Absent,
    /// A regular file.
    File {
        /// Permissions.
        mode: u32,
        /// Its bytes; none where they were not kept: too large, or beyond the budget.
        content: Option<ContentId>,
    },
    /// A symbolic link.
    Link {
        /// Where it leads, as bytes.
        content: Option<ContentId>,
    },
}

impl State {
    /// The name of what it held.
    pub fn content(&self) -> Option<&ContentId> {
        match self {
            Self::Absent => None,
            Self::File { content, .. } | Self::Link { content } => content.as_ref(),
        }
    }
}

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Absolute, resolved.
    pub path: PathBuf,
    /// When the turn began.
    pub before: State,
    /// When it ended.
    pub after: State,
    /// Where its content came from, if it was moved here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Set if it was not, or perhaps not, this thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// What stands there now is older than the turn, and came from where no look was taken before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_copy: bool,
}

/// What one turn, or one undo, changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Where it worked, resolved.
    pub root: PathBuf,
    /// By path.
    pub entries: Vec<Entry>,
    /// Directories that were not there before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<PathBuf>,
    /// Turns and undos that this one took back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undoes: Vec<TurnId>,
    /// Why it may not be all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// An undo that was begun and did not end: some of it was done, or all, or nothing.
    #[serde(skip)]
    pub cut_off: bool,
}

impl Manifest {
    /// Nothing changed yet.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            entries: Vec::new(),
            made: Vec::new(),
            undoes: Vec::new(),
            partial: None,
            cut_off: false,
        }
    }
}

/// Where the changes of one thread are kept.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    /// Contents from before.
    pub contents: Contents,
}

/// What a file tool is about to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Touched {
    pub(super) root: PathBuf,
    pub(super) entry: Entry,
    #[serde(default)]
    pub(super) made: Vec<PathBuf>,
}

impl Folder {
    /// In the folder of a thread; made with the first change.
    pub fn of_thread(thread: &Path) -> Self {
        Self {
            root: thread.join("changes"),
            contents: Contents::at(thread.join("contents")),
        }
    }

    /// All that is kept, in the order of time. A file that cannot be read is an error that names it: an undo must not
    /// pass over a turn.
    pub fn all(&self) -> io::Result<Vec<(TurnId, Manifest)>> {
        let entries = match fs_err::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut turns: Vec<TurnId> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                let (stem, end) = name.to_str()?.split_once('.')?;
                matches!(end, "json" | "jsonl").then(|| stem.parse().ok())?
            })
            .collect();
        turns.sort();
        turns.dedup();
        turns
            .into_iter()
            .map(|turn| Ok((turn, self.read(turn)?)))
            .collect()
    }

    fn read(&self, turn: TurnId) -> io::Result<Manifest> {
        Ok(match self.written(turn)? {
            Some(written) if self.undoing(turn).exists() => Manifest {
                cut_off: true,
                ..written
            },
            Some(written) if !self.begun(turn).exists() => written,
            written => self.cut_off(turn, written),
        })
    }

    /// Notes what the undo `id` is about to do. Until [`Self::end_undo`] it is one that was cut off.
    pub(super) fn begin_undo(&self, id: TurnId, manifest: &Manifest) -> io::Result<()> {
        private_directory(&self.root)?;
        super::contents::new_file(&self.undoing(id)).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => fs::File::open(self.undoing(id)),
            _ => Err(error),
        })?;
        self.write(id, manifest)?;
        // Before the first file is touched, the names are on disk too.
        fs::File::open(&self.root)?.sync_all()
    }

    /// It was done. This takes no room, so a full disk does not stop it.
    pub(super) fn end_undo(&self, id: TurnId) -> io::Result<()> {
        gone(fs::remove_file(self.undoing(id)))
    }

    /// Nothing came of it.
    pub(super) fn drop_undo(&self, id: TurnId) -> io::Result<()> {
        gone(fs::remove_file(self.root.join(format!("{id}.json"))))?;
        self.end_undo(id)
    }

    fn undoing(&self, id: TurnId) -> PathBuf {
        self.root.join(format!("{id}.undoing"))
    }

    fn begun(&self, turn: TurnId) -> PathBuf {
        self.root.join(format!("{turn}.jsonl"))
    }

    /// What a turn had changed when it was last measured.
    pub(super) fn written(&self, turn: TurnId) -> io::Result<Option<Manifest>> {
        let path = self.root.join(format!("{turn}.json"));
        match fs_err::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| io::Error::other(format!("`{}`: {error}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Of a turn that did not end: what its file tools meant to leave since it was last measured.
    fn cut_off(&self, turn: TurnId, written: Option<Manifest>) -> Manifest {
        let mut manifest = written.unwrap_or_else(|| Manifest::new(Path::new("/")));
        let why = "the turn was cut off: only what its file tools did is known";
        manifest.partial = Some(match manifest.partial {
            Some(partial) => format!("{partial}; {why}"),
            None => why.to_owned(),
        });
        for touched in self.touched(turn) {
            manifest.root = touched.root;
            manifest.made.extend(touched.made);
            let known = manifest
                .entries
                .iter_mut()
                .find(|e| e.path == touched.entry.path);
            match known {
                Some(known) => known.after = touched.entry.after,
                None => manifest.entries.push(touched.entry),
            }
        }
        manifest
    }

    pub(super) fn touched(&self, turn: TurnId) -> Vec<Touched> {
        let text = fs::read(self.begun(turn)).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n');
        lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }

    pub(super) fn touch(&self, turn: TurnId, touched: &Touched) -> io::Result<()> {
        private_directory(&self.root)?;
        let line = serde_json::to_string(touched)? + "\n";
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.begun(turn))?
            .write_all(line.as_bytes())
    }

    /// Keeps what a turn came to, if it came to anything.
    pub fn write(&self, turn: TurnId, manifest: &Manifest) -> io::Result<()> {
        let path = self.root.join(format!("{turn}.json"));
        if manifest.entries.is_empty() {
            // It had changed something when it was let go of.
            gone(fs::remove_file(&path))?;
        } else {
            private_directory(&self.root)?;
            let temporary = path.with_extension("new");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&serde_json::to_vec(manifest)?)?;
            file.sync_data()?;
            fs::rename(temporary, path)?;
        }
        gone(fs::remove_file(self.begun(turn)))
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Who is meant: a turn of a thread, and where that is kept.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// The thread.
    pub thread: ThreadId,
    /// The turn.
    pub turn: TurnId,
    /// The folder of the thread; none if nothing of it is kept.
    pub folder: Option<PathBuf>,
}
