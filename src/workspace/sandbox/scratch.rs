//! What becomes a thread's private `/tmp` and `/dev/shm`.
//!
//! The directories go with their thread, or with the program ([`clear_up`]). What a killed program has left is removed
//! by the next one: a directory that is in use is locked, and the kernel takes the lock away with the process.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

const PREFIX: &str = "openoxide-scratch-";
/// Younger ones may be about to be locked.
const SETTLED: Duration = Duration::from_secs(60);

/// All that this process has made. Held for a look at a list; nobody awaits under it.
static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Two directories that last as long as this.
#[derive(Debug)]
pub(super) struct Scratch {
    tmp: Locked,
    shm: Option<Locked>,
}

#[derive(Debug)]
struct Locked {
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// Under `/tmp` and `/dev/shm`, which are covered for every command, so that no thread sees another's.
    pub(super) fn make() -> io::Result<Self> {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(|| {
            // Without a thread to be had, the next program does it.
            let _ = std::thread::Builder::new().spawn(|| {
                sweep(Path::new("/tmp"));
                sweep(Path::new("/dev/shm"));
            });
        });
        let tmp =
            Locked::make(Path::new("/tmp")).or_else(|_| Locked::make(&std::env::temp_dir()))?;
        let shm = Locked::make(Path::new("/dev/shm")).ok();
        let scratch = Self { tmp, shm };
        for place in scratch.places() {
            fs::create_dir(&place)?;
            fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
        }
        Ok(scratch)
    }

    pub(super) fn places(&self) -> [PathBuf; 2] {
        let shm = self.shm.as_ref().unwrap_or(&self.tmp);
        [
            self.tmp.directory.path().join("tmp"),
            shm.directory.path().join("shm"),
        ]
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

/// Removes what killed programs of this user have left in `parent`.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX));
        let settled = entry
            .metadata()
            .and_then(|about| about.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > SETTLED));
        if !(ours && settled && entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            continue;
        }
        let Ok(directory) = File::open(entry.path()) else {
            continue;
        };
        if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Another may do the same at the same time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
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
        sweep(parent.path());
        assert!(used.directory.path().exists());
        assert!(!left.exists());
    }
}
