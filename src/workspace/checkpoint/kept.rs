//! Our own copy of what a directory holds and no git keeps: contents, and which file had which when it was last seen.
//!
//! A file is read again only when the file system says something else of it than last time. It is a cache: losing it
//! costs time, and several threads may use it at once, since contents never change and the list is replaced whole.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    contents::{ContentId, Contents, new_file, private_directory},
    scan::Stat,
};
use crate::workspace::file::LARGEST_FILE;

/// Bytes of one directory that are kept.
const MOST_BYTES: u64 = 512 * 1024 * 1024;

/// The file system's clock ticks so coarsely that what changed less than this before it was looked at may change again
/// without a trace.
const TICK: Duration = Duration::from_millis(50);

/// Contents that no file has any more stay so long: another thread may be in a turn that began with them.
const LINGER: Duration = Duration::from_secs(24 * 3600);

/// What is kept of one directory.
#[derive(Debug)]
pub(super) struct Kept {
    list: PathBuf,
    pub(super) contents: Contents,
    files: HashMap<PathBuf, (Stat, ContentId)>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    path: PathBuf,
    stat: Stat,
    content: ContentId,
}

impl Kept {
    /// What earlier turns left in `folder`.
    pub(super) fn open(folder: &Path) -> Self {
        let list = folder.join("files.json");
        let lines: Vec<Line> = fs::read(&list)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let files = lines.into_iter().map(|l| (l.path, (l.stat, l.content)));
        Self {
            list,
            contents: Contents::at(folder.join("contents")),
            files: files.collect(),
        }
    }

    /// What `path` held when `stat` was true of it.
    pub(super) fn content(&self, path: &Path, stat: &Stat) -> Option<&ContentId> {
        let (known, content) = self.files.get(path)?;
        (known == stat).then_some(content)
    }

    /// Keeps the contents of `wanted` and forgets the rest. Gives how many could not be kept in time and room; those
    /// that are too large for the file tools are not among them.
    pub(super) fn renew(&mut self, wanted: Vec<(&PathBuf, &Stat)>, deadline: Instant) -> usize {
        let before = std::mem::take(&mut self.files);
        let (mut old, mut new) = (HashMap::new(), Vec::new());
        let mut room = MOST_BYTES;
        for (path, stat) in wanted {
            match before.get(path) {
                Some((known, content)) if known == stat => {
                    room = room.saturating_sub(stat.size);
                    old.insert(path.clone(), (*stat, content.clone()));
                }
                _ if stat.size > LARGEST_FILE => {}
                _ => new.push((path, stat)),
            }
        }
        let is_new = !new.is_empty() || old.len() != before.len();
        let batch = Batch {
            contents: &self.contents,
            room: AtomicU64::new(room),
            left_out: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            deadline,
        };
        let read = batch.read(&new);
        self.files = old;
        self.files.extend(read);
        if is_new {
            // A list that could not be written costs time in the next turn and nothing else.
            let _ = self.save();
            self.sweep();
        }
        batch.left_out.into_inner()
    }

    fn save(&self) -> io::Result<()> {
        let now = nanoseconds(SystemTime::now() - TICK);
        let settled = self.files.iter().filter(|(path, (stat, _))| {
            // Names that are no text cannot stand in JSON; they are read each time.
            stat.changed < now && path.to_str().is_some()
        });
        let lines: Vec<Line> = settled
            .map(|(path, (stat, content))| Line {
                path: path.clone(),
                stat: *stat,
                content: content.clone(),
            })
            .collect();
        self.list.parent().map_or(Ok(()), private_directory)?;
        let temporary = self.list.with_extension(uuid::Uuid::now_v7().to_string());
        serde_json::to_writer(io::BufWriter::new(new_file(&temporary)?), &lines)?;
        fs::rename(temporary, &self.list)
    }

    fn sweep(&self) {
        let used: HashSet<&ContentId> = self.files.values().map(|(_, content)| content).collect();
        for (id, path) in self.contents.all() {
            let age = fs::metadata(&path).and_then(|about| about.modified());
            let old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LINGER));
            if old && !used.contains(&id) {
                // Next time, then.
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Files that are read side by side.
struct Batch<'a> {
    contents: &'a Contents,
    room: AtomicU64,
    left_out: AtomicUsize,
    next: AtomicUsize,
    deadline: Instant,
}

impl Batch<'_> {
    fn read(&self, files: &[(&PathBuf, &Stat)]) -> Vec<(PathBuf, (Stat, ContentId))> {
        let readers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..readers.min(8).min(files.len() / 64 + 1))
                .map(|_| scope.spawn(|| self.share(files)))
                .collect();
            let read = readers.into_iter().filter_map(|r| r.join().ok());
            read.flatten().collect()
        })
    }

    /// Takes one file after the other until none is left.
    fn share(&self, files: &[(&PathBuf, &Stat)]) -> Vec<(PathBuf, (Stat, ContentId))> {
        let mut read = Vec::new();
        while let Some((path, stat)) = files.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            match self.one(path, stat) {
                Some(content) => read.push(((*path).clone(), (**stat, content))),
                None => drop(self.left_out.fetch_add(1, Ordering::Relaxed)),
            }
        }
        read
    }

    fn one(&self, path: &Path, stat: &Stat) -> Option<ContentId> {
        let fits = |room: u64| room.checked_sub(stat.size);
        let in_time = Instant::now() < self.deadline;
        let room = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if !in_time || room.is_err() {
            return None;
        }
        let content = read_as(path, stat.link).ok()??;
        // It may have changed between the look and the reading.
        (Stat::at(path)? == *stat).then(|| self.contents.put(&content).ok())?
    }
}

/// The bytes of a file, or where a link leads; none where there is neither.
pub(super) fn read_as(path: &Path, link: bool) -> io::Result<Option<Vec<u8>>> {
    use std::os::unix::ffi::OsStringExt;
    if link {
        return match fs::read_link(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            target => Ok(Some(target?.into_os_string().into_vec())),
        };
    }
    super::super::file::read(path)
}

pub(super) fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_only_when_it_changed_and_only_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state");
        let files: Vec<PathBuf> = (0..3).map(|n| dir.path().join(n.to_string())).collect();
        for path in &files {
            fs::write(path, "old").unwrap();
        }
        // What is younger than a tick of the clock is not believed the next time.
        std::thread::sleep(TICK * 3);
        let renew = |deadline| {
            let stats: Vec<Stat> = files.iter().map(|path| Stat::at(path).unwrap()).collect();
            let mut kept = Kept::open(&folder);
            let left_out = kept.renew(files.iter().zip(&stats).collect(), deadline);
            let content = |(path, stat): (&PathBuf, &Stat)| kept.content(path, stat).cloned();
            let contents: Vec<_> = files.iter().zip(&stats).map(content).collect();
            (left_out, contents)
        };
        let (old, new) = (ContentId::of(b"old"), ContentId::of(b"new"));
        let soon = || Instant::now() + Duration::from_secs(60);
        let past = Instant::now();
        assert_eq!(renew(past), (3, vec![None; 3]), "no time at all");
        assert_eq!(renew(soon()), (0, vec![Some(old.clone()); 3]));
        fs::write(&files[1], "new").unwrap();
        let known = vec![Some(old.clone()), None, Some(old.clone())];
        assert_eq!(renew(past), (1, known), "no time for what is new");
        let all = vec![Some(old.clone()), Some(new), Some(old)];
        assert_eq!(renew(soon()), (0, all));
    }
}
