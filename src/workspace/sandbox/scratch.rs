//! What becomes a thread's private `/tmp` and `/dev/shm`.
//!
//! The directories go with their thread, or with the program ([`clear_up`]). What a killed program has left is removed
//! by the next one: those of one process lie in one that is locked, and the kernel takes the lock away with the process.
//! A lock for each thread would be open files for each, and a process may have 1024.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

const PREFIX: &str = "openoxide-scratch-";
/// Younger ones may be about to be locked.
const SETTLED: Duration = Duration::from_secs(60);
/// Entries that one look takes in, and directories that it removes.
const MOST_SEEN: usize = 100_000;
const MOST_REMOVED: usize = 64;

/// All that this process has made. Held for a look at a list; nobody awaits under it.
static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Two directories of one thread that last as long as this.
#[derive(Debug)]
pub(super) struct Scratch {
    tmp: TempDir,
    shm: TempDir,
    /// After those in it.
    _ground: Arc<Ground>,
}

/// Where the threads of a process have theirs.
#[derive(Debug)]
pub(super) struct Ground {
    tmp: Locked,
    shm: Option<Locked>,
}

#[derive(Debug)]
struct Locked {
    directory: TempDir,
    _lock: File,
}

impl Ground {
    /// Under `/tmp` and `/dev/shm`, which are covered for every command, so that no thread sees another's.
    pub(super) fn make() -> io::Result<Self> {
        let tmp =
            Locked::make(Path::new("/tmp")).or_else(|_| Locked::make(&std::env::temp_dir()))?;
        let shm = Locked::make(Path::new("/dev/shm")).ok();
        Ok(Self { tmp, shm })
    }

    /// False if somebody tidied it away.
    pub(super) fn is_there(&self) -> bool {
        let all = [Some(&self.tmp), self.shm.as_ref()];
        all.into_iter()
            .flatten()
            .all(|one| one.directory.path().is_dir())
    }
}

impl Scratch {
    pub(super) fn make(ground: Arc<Ground>) -> io::Result<Self> {
        let shm = ground.shm.as_ref().unwrap_or(&ground.tmp);
        let scratch = Self {
            tmp: TempDir::new_in(ground.tmp.directory.path())?,
            shm: TempDir::new_in(shm.directory.path())?,
            _ground: ground,
        };
        for place in scratch.places() {
            fs::create_dir(&place)?;
            fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
        }
        Ok(scratch)
    }

    pub(super) fn places(&self) -> [PathBuf; 2] {
        [self.tmp.path().join("tmp"), self.shm.path().join("shm")]
    }
}

impl Locked {
    fn make(parent: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::open(directory.path())?;
        flock(&lock, FlockOperation::LockShared)?;
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.push(directory.path().to_owned());
        Ok(Self {
            directory,
            _lock: lock,
        })
    }
}

/// Removes all that this process has made: for its end, at which nothing is dropped.
pub fn clear_up() {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    for directory in made.drain(..) {
        // It went with its thread; or a dying command still writes there, and the next program removes it.
        let _ = fs::remove_dir_all(directory);
    }
}

/// Removes what killed programs have left, once in this process. Takes a moment: for a thread of its own.
pub(super) fn sweep_once() {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(|| {
        sweep(Path::new("/tmp"));
        sweep(Path::new("/dev/shm"));
    });
}

/// Removes what killed programs of this user have left in `parent`; what is left over, the next program removes.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let left = entries
        .take(MOST_SEEN)
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| name.starts_with(PREFIX))
        })
        .filter(|entry| is_left(&entry.path()));
    for entry in left.take(MOST_REMOVED) {
        // Another may do the same at the same time.
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// True for a directory of this user that has settled and that nobody holds.
fn is_left(path: &Path) -> bool {
    let Ok(about) = path.symlink_metadata() else {
        return false;
    };
    let age = about.modified().map(|at| at.elapsed().unwrap_or_default());
    let own = about.uid() == rustix::process::geteuid().as_raw();
    if !(about.is_dir() && own && age.is_ok_and(|age| age > SETTLED)) {
        return false;
    }
    File::open(path)
        .is_ok_and(|held| flock(&held, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays_and_what_was_left_goes() {
        let parent = tempfile::tempdir().unwrap();
        let used = Locked::make(parent.path()).unwrap();
        let left = parent.path().join(format!("{PREFIX}left"));
        fs::create_dir(&left).unwrap();
        let old = std::time::SystemTime::now() - 2 * SETTLED;
        for directory in [used.directory.path(), &left] {
            let times = fs::FileTimes::new().set_modified(old);
            File::open(directory).unwrap().set_times(times).unwrap();
        }
        let foreign = parent.path().join(format!("{PREFIX}foreign"));
        if rustix::process::geteuid().is_root() {
            fs::create_dir(&foreign).unwrap();
            let times = fs::FileTimes::new().set_modified(old);
            File::open(&foreign).unwrap().set_times(times).unwrap();
            std::os::unix::fs::chown(&foreign, Some(65534), None).unwrap();
        }
        let young = parent.path().join(format!("{PREFIX}young"));
        fs::create_dir(&young).unwrap();
        sweep(parent.path());
        assert!(used.directory.path().exists());
        assert!(young.exists());
        assert_eq!(foreign.exists(), rustix::process::geteuid().is_root());
        assert!(!left.exists());
    }
}
