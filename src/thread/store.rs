//! Where threads are kept: a trait, and a directory of rollouts as its first implementation.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};

use super::{
    holder,
    rollout::{self, Header, Loaded, ReadError, Record},
    skim,
};
use crate::{
    conversation::{Item, SandboxPolicy, Status, ThreadId, shortened, shown_line},
    workspace::checkpoint::directory_folder,
};

/// Keeps threads.
pub trait ThreadStore: Send + Sync {
    /// A place for a new thread.
    fn create(&self, header: &Header) -> Result<Box<dyn Journal>, StoreError>;

    /// A thread that is kept, to go on with. Changes nothing.
    fn open(&self, id: ThreadId) -> Result<(Loaded, Box<dyn Journal>), StoreError>;

    /// A thread that is kept, to look at. Needs no lock and never truncates.
    fn read(&self, id: ThreadId) -> Result<Loaded, StoreError>;

    /// All of them, newest first.
    fn list(&self) -> Result<Vec<ThreadSummary>, StoreError>;

    /// The names of all of them, newest first.
    fn ids(&self) -> Result<Vec<ThreadId>, StoreError> {
        Ok(self
            .list()?
            .into_iter()
            .map(|thread| thread.thread_id)
            .collect())
    }

    /// A line about one, turns not counted, at a cost that does not grow with its length.
    fn glance(&self, id: ThreadId) -> Result<ThreadSummary, StoreError> {
        Ok(ThreadSummary::new(&self.read(id)?, || false))
    }

    /// The tenant whose it is, at a cost that does not grow with its length.
    fn owner(&self, id: ThreadId) -> Result<Option<String>, StoreError> {
        Ok(self.glance(id)?.owner)
    }

    /// Whether there is room for one more.
    fn room(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Where the process that holds the thread listens; none where no other process can hold it.
    fn socket(&self, id: ThreadId) -> Option<PathBuf>;
}

/// The place of one thread. Only its actor writes. No method has a default: what stands around another journal must say of
/// each what becomes of it.
pub trait Journal: Send {
    /// Takes the thread for a turn, or says at once that another process has it. Gives what others added meanwhile,
    /// where they did.
    fn hold(&mut self) -> Result<Option<Loaded>, StoreError>;

    /// What others added since it was last read, where they did. Needs no lock.
    fn newer(&mut self) -> Result<Option<Loaded>, StoreError>;

    /// Gives it back.
    fn release(&mut self);

    /// Writes one record. It is in the file, not yet on the disk.
    fn append(&mut self, record: &Record) -> io::Result<()>;

    /// Why nothing is kept, where somebody wanted it kept; one sentence.
    fn not_kept(&self) -> Option<String>;

    /// Where what belongs to the thread besides its records is kept; none if nothing of it is.
    fn folder(&self) -> Option<PathBuf>;

    /// Where to listen for other processes while the thread is held; none where there are none.
    fn socket(&self) -> Option<PathBuf>;

    /// The other threads that may write and that some process works on in `cwd`.
    fn at_work_in(&self, cwd: &Path) -> BoxFuture<'static, Vec<ThreadId>>;

    /// Returns when everything written is on the disk.
    fn sync(&self) -> BoxFuture<'static, io::Result<()>>;
}

/// Why a thread cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none of that name.
    #[error("there is no thread `{0}`")]
    Unknown(ThreadId),
    /// Another process has a turn on it.
    #[error("another process works on thread `{0}`; wait for it, or stop it there")]
    Held(ThreadId),
    /// Its file cannot be read.
    #[error("the rollout `{}` cannot be read: {error}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ReadError,
    },
    /// A tenant has as many as it may.
    #[error(
        "{0} threads are kept here, and there is room for no more; go on with one of them, or ask the owner of the server to remove some (`openoxide threads delete`) or to raise `server.threads`"
    )]
    Full(usize),
    /// The system says no. The error names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A line about a thread.
#[derive(Clone, Debug, Serialize)]
pub struct ThreadSummary {
    /// Its name.
    pub thread_id: ThreadId,
    /// The directory that it is about.
    pub cwd: PathBuf,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// How its last turn stands; none if it has none.
    pub status: Option<Status>,
    /// Turns so far; none where they were not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<usize>,
    /// The thread it was forked from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<ThreadId>,
    /// The beginning of what was first asked.
    pub title: String,
    /// A question only: read-only for its life.
    pub query: bool,
    /// The tenant of a server whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl ThreadSummary {
    /// `at_work`: whether some process works on the thread; asked only where a turn is open.
    fn new(loaded: &Loaded, at_work: impl FnOnce() -> bool) -> Self {
        let title = loaded.items.iter().find_map(|item| match item {
            Item::UserMessage { text } => Some(shortened(&shown_line(text.trim()), 80)),
            _ => None,
        });
        let open = loaded
            .open_turn()
            .map(|turn| match turn.open_approvals.is_empty() {
                true if at_work() => Status::Running,
                true => Status::Interrupted,
                false => Status::ApprovalRequired,
            });
        Self {
            thread_id: loaded.header.thread_id,
            cwd: loaded.header.directory().to_owned(),
            created_at: loaded.header.created_at.clone(),
            status: open.or(loaded.last_outcome().map(|outcome| outcome.status)),
            turns: Some(loaded.turns.len()),
            parent: loaded.header.parent,
            title: title.unwrap_or_default(),
            query: loaded.header.query,
            owner: loaded.header.owner.clone(),
        }
    }
}

/// `threads/<thread_id>/rollout.jsonl` under one directory. Files are 0600, directories 0700.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    root: PathBuf,
}

impl DirectoryStore {
    /// `root` is the `threads` directory; it is made when the first thread is.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where all of them are.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a thread is kept, with what belongs to it.
    pub fn folder(&self, id: ThreadId) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// True if a process, this one included, works on the thread at the moment.
    pub fn is_held(&self, id: ThreadId) -> bool {
        // Given back at once; whoever wants it meanwhile tries again. Where it cannot be looked at, nobody can work.
        matches!(
            Rollout::at(self.clone(), id, 0).lock(),
            Err(StoreError::Held(_))
        )
    }

    /// The threads that may write and that some process works on in `cwd`. Looks at those alone, however many are kept.
    fn at_work_in(&self, cwd: &Path) -> Vec<ThreadId> {
        let marks = self.marks(cwd).and_then(|marks| marks.read_dir().ok());
        let marks = marks.into_iter().flatten().flatten();
        marks
            .filter_map(|mark| {
                let id = mark.file_name().to_str()?.parse().ok()?;
                // Left by a process that was killed. If it stays, it is passed over again.
                if !self.is_held(id) {
                    let _ = fs_err::remove_file(mark.path());
                    return None;
                }
                Some(id)
            })
            .collect()
    }

    /// Where the threads that are at work in `cwd` leave a mark each.
    fn marks(&self, cwd: &Path) -> Option<PathBuf> {
        Some(directory_folder(self.state()?, cwd).join("held"))
    }

    /// Our own directory, where this is the directory of threads.
    pub(super) fn state(&self) -> Option<&Path> {
        self.root.parent()
    }

    /// A thread without its middle: how it began and how it stands.
    pub(super) fn ends(&self, id: ThreadId) -> Result<Loaded, StoreError> {
        let path = self.folder(id).join("rollout.jsonl");
        let bytes = match skim::skim(&path) {
            Err(error) if is_absent(&error) => {
                return Err(StoreError::Unknown(id));
            }
            read => read.map_err(|error| named(&path, &error))?,
        };
        rollout::read(&bytes).map_err(|error| StoreError::Damaged { path, error })
    }

    /// The turns of a thread, at the cost of reading it and without understanding the rest.
    pub fn count_turns(&self, id: ThreadId) -> Result<usize, StoreError> {
        let path = self.folder(id).join("rollout.jsonl");
        Ok(skim::turns(&path).map_err(|error| named(&path, &error))?)
    }

    fn load(&self, id: ThreadId) -> Result<(Loaded, u64), StoreError> {
        let path = self.folder(id).join("rollout.jsonl");
        let bytes = match fs_err::read(&path) {
            Err(error) if is_absent(&error) => {
                return Err(StoreError::Unknown(id));
            }
            read => read?,
        };
        let loaded = rollout::read(&bytes).map_err(|error| StoreError::Damaged { path, error })?;
        Ok((loaded, bytes.len() as u64))
    }
}

impl ThreadStore for DirectoryStore {
    fn create(&self, header: &Header) -> Result<Box<dyn Journal>, StoreError> {
        let directory = self.folder(header.thread_id);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|error| named(&directory, &error))?;
        let mut journal = Rollout::of(self.clone(), header, 0);
        let line = rollout::header_line(header).map_err(io::Error::other)?;
        if let Err(error) = journal.write(&line) {
            // On a full disk say; what is there is no thread, and if it stays it is passed over.
            let _ = std::fs::remove_dir_all(&directory);
            return Err(error.into());
        }
        journal.release();
        Ok(Box::new(journal))
    }

    fn open(&self, id: ThreadId) -> Result<(Loaded, Box<dyn Journal>), StoreError> {
        let (loaded, length) = self.load(id)?;
        let journal = Rollout::of(self.clone(), &loaded.header, length);
        Ok((loaded, Box::new(journal)))
    }

    fn read(&self, id: ThreadId) -> Result<Loaded, StoreError> {
        Ok(self.load(id)?.0)
    }

    fn list(&self) -> Result<Vec<ThreadSummary>, StoreError> {
        // A thread that cannot be read must not hide the others.
        Ok(self
            .ids()?
            .into_iter()
            .filter_map(|id| self.read(id).ok())
            .map(|loaded| ThreadSummary::new(&loaded, || self.is_held(loaded.header.thread_id)))
            .collect())
    }

    fn ids(&self) -> Result<Vec<ThreadId>, StoreError> {
        let entries = match fs_err::read_dir(&self.root) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut ids: Vec<ThreadId> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        // UUID v7 sorts by time.
        ids.sort_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    fn glance(&self, id: ThreadId) -> Result<ThreadSummary, StoreError> {
        Ok(ThreadSummary {
            turns: None,
            ..ThreadSummary::new(&self.ends(id)?, || self.is_held(id))
        })
    }

    fn owner(&self, id: ThreadId) -> Result<Option<String>, StoreError> {
        match head_of(&self.folder(id).join("rollout.jsonl")) {
            Ok(Some(owner)) => Ok(owner),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Unknown(id)),
            // What is wrong with it, the reader knows.
            Ok(None) | Err(_) => Ok(self.glance(id)?.owner),
        }
    }

    fn socket(&self, id: ThreadId) -> Option<PathBuf> {
        Some(self.folder(id).join(holder::SOCKET))
    }
}

/// The owner that the first line of a rollout names; `None` if it is not one.
fn head_of(path: &Path) -> io::Result<Option<Option<String>>> {
    #[derive(Deserialize)]
    struct Head {
        owner: Option<String>,
    }
    let mut line = Vec::new();
    BufReader::new(File::open(path)?).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)
        .ok()
        .map(|head: Head| head.owner))
}

/// One open rollout.
struct Rollout {
    store: DirectoryStore,
    id: ThreadId,
    path: PathBuf,
    /// Open only while the thread is held: a process may know thousands of threads.
    file: Option<Arc<File>>,
    /// Bytes that we know of. More in the file means that somebody else wrote.
    length: u64,
    lock: Option<Lock>,
    /// Where to leave a mark while it is held; none where it changes nothing.
    mark: Option<PathBuf>,
    /// The last write failed, perhaps half-way.
    torn: bool,
}

/// Held by whoever works on a thread.
struct Lock {
    /// Taken away before the lock is given back.
    _mark: Option<Mark>,
    _file: File,
}

/// By which others in the directory of a thread see that it is at work. It is there until this is dropped.
struct Mark(PathBuf);

impl Mark {
    fn leave(at: PathBuf) -> io::Result<Self> {
        let marks = at.parent().unwrap_or(&at);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(marks)?;
        let mut options = OpenOptions::new();
        let made = options.write(true).create(true).truncate(false);
        made.mode(0o600).open(&at)?;
        Ok(Self(at))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // It may be gone with all that is known of the directory; one that stays is found to be nobody's.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Rollout {
    fn of(store: DirectoryStore, header: &Header, length: u64) -> Self {
        let writes = header.policy.sandbox != SandboxPolicy::ReadOnly;
        let marks = writes.then(|| store.marks(&header.cwd)).flatten();
        Self {
            mark: marks.map(|marks| marks.join(header.thread_id.to_string())),
            ..Self::at(store, header.thread_id, length)
        }
    }

    fn at(store: DirectoryStore, id: ThreadId, length: u64) -> Self {
        let path = store.folder(id).join("rollout.jsonl");
        Self {
            store,
            id,
            path,
            file: None,
            length,
            lock: None,
            mark: None,
            torn: false,
        }
    }

    fn file(&mut self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let mut options = OpenOptions::new();
        let opened = options
            .append(true)
            .read(true)
            .create(true)
            .mode(0o600)
            .open(&self.path);
        let file = Arc::new(opened.map_err(|error| named(&self.path, &error))?);
        self.file = Some(file.clone());
        Ok(file)
    }

    /// One write a line, so that a reader never sees half of two.
    fn write(&mut self, line: &str) -> io::Result<()> {
        if std::mem::take(&mut self.torn) {
            self.mend_tail()?;
        }
        let written = (&*self.file()?).write_all(line.as_bytes());
        match &written {
            Ok(()) => self.length += line.len() as u64,
            // A part of the line may stand there; the next one must not be glued to it.
            Err(_) => self.torn = true,
        }
        written.map_err(|error| named(&self.path, &error))
    }

    /// The whole thread, if there is more of it than we know of.
    fn added(&mut self) -> Result<Option<Loaded>, StoreError> {
        // Where it is not there, the reason is found by reading it.
        if std::fs::metadata(&self.path).is_ok_and(|about| about.len() == self.length) {
            return Ok(None);
        }
        let (loaded, length) = self.store.load(self.id)?;
        self.length = length;
        Ok(Some(loaded))
    }

    fn lock(&self) -> Result<File, StoreError> {
        let path = self.path.with_file_name("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| named(&path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(StoreError::Held(self.id)),
            Err(TryLockError::Error(error)) => Err(named(&path, &error).into()),
        }
    }

    /// Ends a line that a dying writer, or a full disk, left unfinished, so that the next begins on a new one.
    fn mend_tail(&mut self) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let file = self.file()?;
        self.length = file.metadata()?.len();
        let mut last = [b'\n'];
        if self.length > 0 {
            file.read_exact_at(&mut last, self.length - 1)?;
        }
        if last == [b'\n'] {
            Ok(())
        } else {
            self.write("\n")
        }
    }
}

impl Journal for Rollout {
    fn hold(&mut self) -> Result<Option<Loaded>, StoreError> {
        if self.lock.is_some() {
            return Ok(None);
        }
        let file = self.lock()?;
        let mark = self.mark.clone();
        self.lock = Some(Lock {
            // Without one the turn runs all the same; only others in its directory do not hear of it.
            _mark: mark.and_then(|at| Mark::leave(at).ok()),
            _file: file,
        });
        let newer = self.added().and_then(|newer| {
            self.mend_tail()?;
            Ok(newer)
        });
        if newer.is_err() {
            self.release();
        }
        newer
    }

    fn newer(&mut self) -> Result<Option<Loaded>, StoreError> {
        match self.lock {
            Some(_) => Ok(None),
            None => self.added(),
        }
    }

    fn release(&mut self) {
        self.lock = None;
        self.file = None;
    }

    fn not_kept(&self) -> Option<String> {
        None
    }

    fn folder(&self) -> Option<PathBuf> {
        Some(self.store.folder(self.id))
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        self.write(&rollout::record_line(record).map_err(io::Error::other)?)
    }

    fn socket(&self) -> Option<PathBuf> {
        self.store.socket(self.id)
    }

    fn at_work_in(&self, cwd: &Path) -> BoxFuture<'static, Vec<ThreadId>> {
        let (store, own, cwd) = (self.store.clone(), self.id, cwd.to_owned());
        let search = move || {
            let mut all = store.at_work_in(&cwd);
            all.retain(|id| *id != own);
            all
        };
        async move {
            let found = tokio::task::spawn_blocking(search).await;
            found.unwrap_or_default()
        }
        .boxed()
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let (file, path) = (self.file.clone(), self.path.clone());
        async move {
            // Not held: then nothing was written since the last time.
            let Some(file) = file else { return Ok(()) };
            let synced = tokio::task::spawn_blocking(move || file.sync_data())
                .await
                .map_err(io::Error::other)?;
            synced.map_err(|error| named(&path, &error))
        }
        .boxed()
    }
}

/// True where there is nothing, nor can be.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

/// Keeps nothing: threads live as long as the process.
#[derive(Clone, Copy, Debug)]
pub struct NoStore;

impl ThreadStore for NoStore {
    fn create(&self, _: &Header) -> Result<Box<dyn Journal>, StoreError> {
        Ok(Box::new(Nowhere::default()))
    }

    fn open(&self, id: ThreadId) -> Result<(Loaded, Box<dyn Journal>), StoreError> {
        Err(StoreError::Unknown(id))
    }

    fn read(&self, id: ThreadId) -> Result<Loaded, StoreError> {
        Err(StoreError::Unknown(id))
    }

    fn list(&self) -> Result<Vec<ThreadSummary>, StoreError> {
        Ok(Vec::new())
    }

    fn socket(&self, _: ThreadId) -> Option<PathBuf> {
        None
    }
}

/// A thread that is kept nowhere.
#[derive(Default)]
pub(super) struct Nowhere {
    because: Option<String>,
}

impl Nowhere {
    /// It was to be kept, and that does not work.
    pub(super) fn because(error: &io::Error) -> Self {
        let because = format!("this thread is not kept and ends with the process: {error}");
        Self {
            because: Some(because),
        }
    }
}

impl Journal for Nowhere {
    fn not_kept(&self) -> Option<String> {
        self.because.clone()
    }

    fn hold(&mut self) -> Result<Option<Loaded>, StoreError> {
        Ok(None)
    }

    fn newer(&mut self) -> Result<Option<Loaded>, StoreError> {
        Ok(None)
    }

    fn folder(&self) -> Option<PathBuf> {
        None
    }

    fn at_work_in(&self, _: &Path) -> BoxFuture<'static, Vec<ThreadId>> {
        async { Vec::new() }.boxed()
    }

    fn release(&mut self) {}

    fn append(&mut self, _: &Record) -> io::Result<()> {
        Ok(())
    }

    fn socket(&self) -> Option<PathBuf> {
        None
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        async { Ok(()) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_work_in_a_directory_is_known_without_looking_at_every_thread() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(dir.path().join("threads"));
        let fixture = "/fixtures/rollouts/v1/completed.jsonl";
        let text = fs_err::read(env!("CARGO_MANIFEST_DIR").to_owned() + fixture).unwrap();
        let header = rollout::read(&text).unwrap().header;
        let make = |cwd: &str, sandbox| {
            let mut header = header.clone();
            header.thread_id = ThreadId::generate();
            header.cwd = cwd.into();
            header.policy.sandbox = sandbox;
            (header.thread_id, store.create(&header).unwrap())
        };
        let (id, mut writes) = make("/r/a", SandboxPolicy::WorkspaceWrite);
        let (_, mut reads) = make("/r/a", SandboxPolicy::ReadOnly);
        let (_, mut elsewhere) = make("/r/b", SandboxPolicy::WorkspaceWrite);
        let (idle, _) = make("/r/a", SandboxPolicy::WorkspaceWrite);
        for journal in [&mut writes, &mut reads, &mut elsewhere] {
            journal.hold().unwrap();
        }
        // A process that was killed leaves its mark.
        let marks = store.marks(Path::new("/r/a")).unwrap();
        fs_err::write(marks.join(idle.to_string()), "").unwrap();
        assert_eq!(store.at_work_in(Path::new("/r/a")), [id]);
        let left: Vec<_> = marks.read_dir().unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        writes.release();
        assert_eq!(store.at_work_in(Path::new("/r/a")), []);
        writes.hold().unwrap();
        drop(writes);
        assert_eq!(marks.read_dir().unwrap().count(), 0);
    }
}
