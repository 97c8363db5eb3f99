//! Tells when files and directories change: a few named ones, whatever else happens around them.
//!
//! The kernel's events (inotify(7)) only say when to look; what counts is how a file looks from outside. So a flood of
//! events costs one look at what is watched each [`MERGED`], events that were lost do no harm, and where there are none
//! (another system, a network file system, too many watches) a look each [`ANYWAY`] finds the same a little later.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Events that come together are looked at together.
const MERGED: Duration = Duration::from_millis(200);
/// What changes all the time is told no more often.
const REST: Duration = Duration::from_secs(2);
/// Without any event.
const ANYWAY: Duration = Duration::from_secs(5);

/// How something looks from outside; none where nothing is.
type Stamp = Option<(u64, u64, i64, i64, i64, i64)>;

/// One thing that is watched, as it looked when this was made.
#[derive(Clone, Debug)]
pub struct Target {
    path: PathBuf,
    stamp: Stamp,
    told: Option<Instant>,
}

impl Target {
    /// `path` holds no symlink, and need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self {
            stamp: stamp(&path),
            path,
            told: None,
        }
    }
}

/// Watches some targets. Dropping it ends that.
#[derive(Debug)]
pub struct Watch {
    targets: Vec<Target>,
    events: Events,
}

impl Watch {
    /// Of what is in `targets`. Must be called in a runtime.
    pub fn new(targets: Vec<Target>) -> Self {
        let events = Events::of(targets.iter().map(|target| target.path.as_path()));
        Self { targets, events }
    }

    /// The targets, as they were told last.
    pub fn into_targets(self) -> Vec<Target> {
        self.targets
    }

    /// Waits until something is not as it was, and says which, by number. May be dropped at any time: what was not told
    /// is told by the next call.
    pub async fn changed(&mut self) -> Vec<usize> {
        loop {
            let (changed, held_back) = self.look();
            if !changed.is_empty() {
                return changed;
            }
            let anyway = if held_back { REST } else { ANYWAY };
            tokio::select! {
                () = self.events.come() => {}
                () = tokio::time::sleep(anyway) => {}
            }
            tokio::time::sleep(MERGED).await;
            self.events.forget();
        }
    }

    /// What changed and is told now, and whether there is more that was told a moment ago.
    fn look(&mut self) -> (Vec<usize>, bool) {
        let (mut changed, mut held_back) = (Vec::new(), false);
        for (at, target) in self.targets.iter_mut().enumerate() {
            let now = stamp(&target.path);
            if now == target.stamp {
                continue;
            }
            if target.told.is_some_and(|told| told.elapsed() < REST) {
                held_back = true;
                continue;
            }
            target.stamp = now;
            target.told = Some(Instant::now());
            changed.push(at);
        }
        (changed, held_back)
    }
}

fn stamp(path: &Path) -> Stamp {
    let about = path.symlink_metadata().ok()?;
    let (modified, changed) = (
        (about.mtime(), about.mtime_nsec()),
        (about.ctime(), about.ctime_nsec()),
    );
    Some((
        about.ino(),
        about.size(),
        modified.0,
        modified.1,
        changed.0,
        changed.1,
    ))
}

#[cfg(target_os = "linux")]
mod events {
    use std::{collections::BTreeSet, mem::MaybeUninit, os::fd::OwnedFd, path::Path};

    use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
    use tokio::io::{Interest, unix::AsyncFd};

    /// What the kernel tells of the directories around the targets, and of those that are targets; none if it does not.
    #[derive(Debug)]
    pub(super) struct Events(Option<AsyncFd<OwnedFd>>);

    impl Events {
        #[expect(
            deprecated,
            reason = "what its unsafe replacement asks the caller to keep, an `OwnedFd` keeps by itself"
        )]
        pub(super) fn of<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
            let open = || {
                let events = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
                let around = paths.flat_map(|path| [path.parent(), Some(path)]);
                for place in around.flatten().collect::<BTreeSet<_>>() {
                    // A place that is no directory has one around it, and one that cannot be watched is looked at anyway.
                    let _ = add_watch(&events, place, of_interest());
                }
                AsyncFd::with_interest(events, Interest::READABLE).ok()
            };
            Self(open())
        }

        /// Returns when there is one.
        pub(super) async fn come(&self) {
            match &self.0 {
                Some(events) => drop(events.readable().await),
                None => std::future::pending().await,
            }
        }

        /// Reads those that came; what they say is seen by looking.
        pub(super) fn forget(&self) {
            let Some(events) = &self.0 else {
                return;
            };
            let mut buffer = [MaybeUninit::uninit(); 4096];
            // The queue of the kernel is bounded, and so is this.
            let _ = events.try_io(Interest::READABLE, |events| {
                let mut reader = Reader::new(events, &mut buffer);
                for _ in 0..100_000 {
                    reader.next()?;
                }
                Ok(())
            });
        }
    }

    fn of_interest() -> WatchFlags {
        WatchFlags::ONLYDIR
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
    }
}

#[cfg(not(target_os = "linux"))]
mod events {
    use std::path::Path;

    /// There are none here: it is looked anyway.
    #[derive(Debug)]
    pub(super) struct Events;

    impl Events {
        pub(super) fn of<'a>(_: impl Iterator<Item = &'a Path>) -> Self {
            Self
        }

        pub(super) async fn come(&self) {
            std::future::pending().await
        }

        pub(super) fn forget(&self) {}
    }
}

use events::Events;

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(watch: &mut Watch) -> Vec<usize> {
        let change = tokio::time::timeout(Duration::from_secs(30), watch.changed());
        change.await.expect("a change is seen")
    }

    #[tokio::test]
    async fn a_file_that_is_written_replaced_made_or_removed_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (file, absent, folder) = (dir.join("a"), dir.join("new"), dir.join("sub"));
        std::fs::write(&file, "1").unwrap();
        std::fs::create_dir(&folder).unwrap();
        let targets = [&file, &absent, &folder].map(|path| Target::new(path.clone()));
        // What changes before it is watched is not missed.
        std::fs::write(&file, "22").unwrap();
        let mut watch = Watch::new(targets.into());
        assert_eq!(told(&mut watch).await, [0]);
        std::fs::write(&absent, "").unwrap();
        assert_eq!(told(&mut watch).await, [1]);
        std::fs::write(folder.join("x"), "").unwrap();
        assert_eq!(told(&mut watch).await, [2]);
        tokio::time::sleep(REST).await;
        std::fs::write(dir.join("other"), "333").unwrap();
        std::fs::rename(dir.join("other"), &file).unwrap();
        assert_eq!(told(&mut watch).await, [0]);
        std::fs::remove_file(&absent).unwrap();
        assert_eq!(told(&mut watch).await, [1]);
    }

    #[tokio::test]
    async fn ten_thousand_other_files_are_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let file = dir.join("a");
        std::fs::write(&file, "1").unwrap();
        let mut watch = Watch::new(vec![Target::new(file.clone()), Target::new(dir.clone())]);
        let writing = tokio::task::spawn_blocking(move || {
            for n in 0..10_000 {
                std::fs::write(dir.join(format!("o{n}")), "x").unwrap();
            }
            std::fs::write(file, "22").unwrap();
        });
        let began = Instant::now();
        let (mut of_file, mut of_folder) = (0, 0);
        while of_file == 0 {
            for which in told(&mut watch).await {
                *(if which == 0 {
                    &mut of_file
                } else {
                    &mut of_folder
                }) += 1;
            }
        }
        writing.await.unwrap();
        let most = began.elapsed().as_secs() / REST.as_secs() + 2;
        assert!(of_folder <= most, "{of_folder} in {:?}", began.elapsed());
    }
}
