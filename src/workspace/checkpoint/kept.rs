//! Our own copy of what a directory holds and no git keeps: contents, and which file had which when it was last seen.
//!
//! A file is read again only when the file system says something else of it than last time. Where git may keep something
//! else than the bytes of a file, that is found out here too, and remembered in the same way. It is a cache: losing it
//! costs time, and several threads may use it at once, since contents never change and the list is replaced whole.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    before::Source,
    contents::{ContentId, Contents, new_file, private_directory},
    git::{ObjectId, object_id},
    scan::Stat,
    tree::{Tree, find},
};
use crate::workspace::file::LARGEST_FILE;

/// The file system's clock ticks so coarsely that what changed less than this before it was looked at may change again
/// without a trace.
const TICK: Duration = Duration::from_millis(50);

/// Contents that no file has any more stay so long: another thread may be in a turn that began with them.
const LINGER: Duration = Duration::from_secs(24 * 3600);

/// So long contents are not looked through for those.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(3600);

/// What is kept of one directory.
#[derive(Debug)]
pub(super) struct Kept {
    list: PathBuf,
    pub(super) contents: Contents,
    files: Tree<(Stat, Source)>,
    /// The list on disk is another.
    is_new: bool,
}

/// A file that may have to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) directory: &'a Path,
    pub(super) name: &'a OsStr,
    pub(super) stat: &'a Stat,
    /// What git has of it, which may not be its bytes.
    pub(super) object: Option<&'a ObjectId>,
    /// Without it there would be nothing to go by.
    pub(super) is_urgent: bool,
}

/// How long it may take, and how much may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) deadline: Instant,
    /// Bytes of one directory.
    pub(super) room: u64,
}

/// The files of one directory as a line of the list: names, what the file system said, and the name of the content.
#[derive(Serialize, Deserialize)]
struct Line {
    directory: PathBuf,
    files: Vec<(String, [i64; 7], String)>,
}

impl Kept {
    /// What earlier turns left in `folder`.
    pub(super) fn open(folder: &Path) -> Self {
        let list = folder.join("files.jsonl");
        let text = fs::read(&list).unwrap_or_default();
        let mut files = Tree::default();
        for line in text.split(|byte| *byte == b'\n') {
            // What is damaged is read again from the files.
            let Ok(line) = serde_json::from_slice::<Line>(line) else {
                continue;
            };
            let known = line.files.into_iter().filter_map(|(name, stat, source)| {
                let source = Source::parse(source)?;
                Some((OsString::from(name), (Stat::from_numbers(stat), source)))
            });
            files.add(line.directory, known.collect());
        }
        Self {
            list,
            contents: Contents::at(folder.join("contents")),
            files,
            is_new: false,
        }
    }

    /// Where what `path` held when `stat` was true of it is to be had.
    pub(super) fn source(&self, path: &Path, stat: &Stat) -> Option<&Source> {
        let (known, source) = self.files.get(path)?;
        (known == stat).then_some(source)
    }

    /// Keeps the contents of `wanted`, those of one directory together, and forgets the rest. Gives those that could not
    /// be kept in time and room; what is too large for the file tools is not among them.
    pub(super) fn renew(&mut self, wanted: &[Wanted], limit: Limit) -> Vec<PathBuf> {
        let before = std::mem::take(&mut self.files);
        let (mut room, mut new) = (limit.room, Vec::new());
        for inside in wanted.chunk_by(|one, next| std::ptr::eq(one.directory, next.directory)) {
            let known = before.inside(inside[0].directory);
            let mut old = Vec::new();
            for wanted in inside {
                match find(known, wanted.name) {
                    Some((stat, source)) if wanted.is_as(stat, source) => {
                        if matches!(source, Source::Kept(_)) {
                            room = room.saturating_sub(stat.size);
                        }
                        old.push((wanted.name.to_owned(), (*stat, source.clone())));
                    }
                    _ if wanted.stat.size > LARGEST_FILE => {}
                    _ => new.push(*wanted),
                }
            }
            if !old.is_empty() {
                self.files.add(inside[0].directory.to_owned(), old);
            }
        }
        self.is_new = !new.is_empty() || self.files.len() != before.len();
        let batch = Batch {
            contents: &self.contents,
            room: AtomicU64::new(room),
            left_out: Mutex::default(),
            next: AtomicUsize::new(0),
            deadline: limit.deadline,
        };
        for (wanted, source) in batch.read(&new) {
            let path = wanted.directory.join(wanted.name);
            self.files.insert(&path, (*wanted.stat, source));
        }
        let left_out = batch.left_out.into_inner();
        left_out.unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what is known, for the next turn, and removes what is long out of use.
    pub(super) fn settle(&self) {
        if self.is_new {
            // A list that could not be written costs time in the next turn and nothing else.
            let _ = self.save();
            self.sweep();
        }
    }

    fn save(&self) -> io::Result<()> {
        self.list.parent().map_or(Ok(()), private_directory)?;
        let temporary = self.list.with_extension(uuid::Uuid::now_v7().to_string());
        let mut file = io::BufWriter::new(new_file(&temporary)?);
        let now = nanoseconds(SystemTime::now() - TICK);
        for (directory, names) in self.files.directories() {
            let settled = names.iter().filter(|(_, (stat, _))| stat.changed < now);
            // Names that are no text cannot stand in JSON; they are read each time.
            let files = settled.filter_map(|(name, (stat, source))| {
                Some((
                    name.to_str()?.to_owned(),
                    stat.numbers(),
                    source.to_string(),
                ))
            });
            let files: Vec<_> = files.collect();
            if !files.is_empty() && directory.to_str().is_some() {
                let directory = directory.clone();
                serde_json::to_writer(&mut file, &Line { directory, files })?;
                file.write_all(b"\n")?;
            }
        }
        file.flush()?;
        fs::rename(temporary, &self.list)
    }

    /// Looks at each content that there is, so only now and then.
    fn sweep(&self) {
        let mark = self.list.with_file_name("swept");
        let is_younger = |path: &Path, age: Duration| {
            let modified = fs::metadata(path).and_then(|about| about.modified());
            modified.is_ok_and(|at| at.elapsed().is_ok_and(|passed| passed < age))
        };
        if is_younger(&mark, BETWEEN_SWEEPS) || fs::write(&mark, "").is_err() {
            return;
        }
        let used = self
            .files
            .files()
            .filter_map(|(_, (_, source))| match source {
                Source::Kept(id) => Some(id),
                Source::Object(_) => None,
            });
        let used: HashSet<&ContentId> = used.collect();
        for (id, path) in self.contents.all() {
            if !is_younger(&path, LINGER) && !used.contains(&id) {
                // Next time, then.
                let _ = fs::remove_file(path);
            }
        }
    }
}

impl Wanted<'_> {
    /// True if what is known of it still holds: also git must still mean the object that was found to be its bytes.
    fn is_as(&self, stat: &Stat, source: &Source) -> bool {
        stat == self.stat
            && match source {
                Source::Object(id) => self.object == Some(id),
                Source::Kept(_) => true,
            }
    }
}

/// Files that are read side by side.
struct Batch<'a> {
    contents: &'a Contents,
    room: AtomicU64,
    /// Nobody does anything else under its lock than to add one.
    left_out: Mutex<Vec<PathBuf>>,
    next: AtomicUsize,
    deadline: Instant,
}

impl Batch<'_> {
    fn read<'w>(&self, files: &[Wanted<'w>]) -> Vec<(Wanted<'w>, Source)> {
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
    fn share<'w>(&self, files: &[Wanted<'w>]) -> Vec<(Wanted<'w>, Source)> {
        let mut read = Vec::new();
        while let Some(wanted) = files.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            match self.one(wanted) {
                Some(source) => read.push((*wanted, source)),
                None if wanted.is_urgent => self.leave_out(wanted),
                None => {}
            }
        }
        read
    }

    fn leave_out(&self, wanted: &Wanted) {
        let left_out = self.left_out.lock();
        let mut left_out = left_out.unwrap_or_else(PoisonError::into_inner);
        left_out.push(wanted.directory.join(wanted.name));
    }

    fn one(&self, wanted: &Wanted) -> Option<Source> {
        let Wanted { stat, object, .. } = wanted;
        if Instant::now() >= self.deadline || (object.is_none() && !self.has_room(stat.size)) {
            return None;
        }
        let path = wanted.directory.join(wanted.name);
        let content = read_as(&path, stat.link).ok()??;
        // It may have changed between the look and the reading.
        if Stat::at(&path)? != **stat {
            return None;
        }
        match object {
            Some(id) if object_id(&content) == **id => return Some(Source::Object(**id)),
            Some(_) if !self.has_room(stat.size) => return None,
            Some(_) | None => {}
        }
        self.contents.put(&content).ok().map(Source::Kept)
    }

    /// Takes it, if there is as much.
    fn has_room(&self, size: u64) -> bool {
        let fits = |room: u64| room.checked_sub(size);
        let taken = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.is_ok()
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

    const ROOM: u64 = 1000;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Some files, with what was kept of each after a turn within `limit`, and how many were left out.
    fn renew(
        folder: &Path,
        files: &[PathBuf],
        object: Option<(&ObjectId, bool)>,
        limit: Limit,
    ) -> (usize, Vec<Option<Source>>) {
        let stats: Vec<Stat> = files.iter().map(|path| Stat::at(path).unwrap()).collect();
        let wanted: Vec<Wanted> = files
            .iter()
            .zip(&stats)
            .map(|(path, stat)| Wanted {
                directory: files[0].parent().unwrap(),
                name: path.file_name().unwrap(),
                stat,
                object: object.map(|(id, _)| id),
                is_urgent: object.is_none_or(|(_, is_urgent)| is_urgent),
            })
            .collect();
        let mut kept = Kept::open(folder);
        let left_out = kept.renew(&wanted, limit);
        kept.settle();
        let source = |(path, stat): (&PathBuf, &Stat)| kept.source(path, stat).cloned();
        (
            left_out.len(),
            files.iter().zip(&stats).map(source).collect(),
        )
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        let files: Vec<PathBuf> = (0..3).map(|n| dir.join(n.to_string())).collect();
        for path in &files {
            fs::write(path, "old").unwrap();
        }
        // What is younger than a tick of the clock is not believed the next time.
        std::thread::sleep(TICK * 3);
        files
    }

    fn own(content: &[u8]) -> Option<Source> {
        Some(Source::Kept(ContentId::of(content)))
    }

    #[test]
    fn a_file_is_read_again_only_when_it_changed_and_only_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let renew = |deadline| {
            let room = ROOM;
            renew(
                &dir.path().join("state"),
                &files,
                None,
                Limit { deadline, room },
            )
        };
        let past = Instant::now();
        assert_eq!(renew(past), (3, vec![None; 3]), "no time at all");
        assert_eq!(renew(soon()), (0, vec![own(b"old"); 3]));
        fs::write(&files[1], "new").unwrap();
        let known = vec![own(b"old"), None, own(b"old")];
        assert_eq!(renew(past), (1, known), "no time for what is new");
        let all = vec![own(b"old"), own(b"new"), own(b"old")];
        assert_eq!(renew(soon()), (0, all));
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let renew = |room| {
            let deadline = soon();
            renew(
                &dir.path().join("state"),
                &files,
                None,
                Limit { deadline, room },
            )
            .0
        };
        assert_eq!(renew(7), 1, "two of three bytes each");
        assert_eq!(renew(8), 1, "what is there takes its room");
        assert_eq!(renew(9), 0);
    }

    #[test]
    fn an_object_counts_only_if_it_has_the_bytes_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let renew_as = |content: &[u8], deadline, is_urgent| {
            let room = ROOM;
            let id = object_id(content);
            let found = renew(
                &dir.path().join("state"),
                &files,
                Some((&id, is_urgent)),
                Limit { deadline, room },
            );
            (found, id)
        };
        let renew = |content, deadline| renew_as(content, deadline, true);
        let (found, _) = renew_as(b"old", Instant::now(), false);
        assert_eq!(found.0, 0, "the object will do");
        let (found, id) = renew(b"old", soon());
        assert_eq!(found, (0, vec![Some(Source::Object(id)); 3]));
        let (found, _) = renew(b"old", Instant::now());
        assert_eq!(found.0, 0, "it is remembered");
        let (found, _) = renew(b"cleaned", Instant::now());
        assert_eq!(found.0, 3, "git means another object now");
        let (found, _) = renew(b"cleaned", soon());
        assert_eq!(found, (0, vec![own(b"old"); 3]));
    }
}
