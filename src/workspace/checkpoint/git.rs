//! What a git repository already keeps of a directory: which contents, by its index, and their bytes, by its objects.
//!
//! No git runs here to find out: the index is read as the table that it is, and an entry counts only where everything
//! that the file system says of the file is what git noted when it last hashed it. Objects are fetched by a git that
//! never sees the repository (see [`super::plumbing`]).

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs,
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::CWD;

use super::scan::Stat;
use crate::workspace::given::{self, LARGEST_RULES, Links};

/// Bytes of an index; that of a million files has some hundred million.
const LARGEST_INDEX: u64 = 256 << 20;
/// Bytes of a name in it: PATH_MAX.
const LONGEST_NAME: usize = 4096;
/// All names together may be so many times as long as the file, in which each may be told by its end. What git writes
/// comes to less than twice.
const MOST_EXPANSION: usize = 16;

/// The name of an object: SHA-1.
pub(crate) type ObjectId = [u8; 20];

/// A repository whose working tree is `top`.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) top: PathBuf,
    /// `.git`, or the directory of a linked worktree.
    pub(crate) own: PathBuf,
    /// `.git` of the main working tree.
    pub(crate) common: PathBuf,
}

impl Repository {
    /// The one that `directory` is in. None where git would not think so, and for what we do not read: hashes other
    /// than SHA-1, refs in tables, submodules.
    pub(crate) fn around(directory: &Path) -> Option<Self> {
        let top = directory
            .ancestors()
            .find(|dir| dir.join(".git").symlink_metadata().is_ok())?;
        let dot_git = top.join(".git");
        let (own, common) = if dot_git.symlink_metadata().ok()?.is_dir() {
            (dot_git.clone(), dot_git)
        } else {
            linked(&dot_git)?
        };
        let config = given::text(&common.join("config"), LARGEST_RULES).ok()?;
        let plain = !config.to_ascii_lowercase().contains("objectformat")
            && !config.to_ascii_lowercase().contains("refstorage");
        (plain && common.join("objects").is_dir()).then(|| Self {
            top: top.to_owned(),
            own,
            common,
        })
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.common.join("objects")
    }

    /// What its index holds; empty if that cannot be read.
    pub(super) fn index(&self) -> Index {
        let path = self.own.join("index");
        let read = || {
            let written = Stat::of(&fs::metadata(&path).ok()?)?.modified;
            let bytes = given::read(CWD, &path, Links::Followed, LARGEST_INDEX).ok()?;
            Index::parse(&bytes, &self.top, written)
        };
        read().unwrap_or_default()
    }
}

/// The git directory that a `.git` file names and the common one behind it. Only where it names the file in turn: a
/// repository from elsewhere must not lead us to another.
fn linked(dot_git: &Path) -> Option<(PathBuf, PathBuf)> {
    let line = |path: &Path| Some(given::text(path, LARGEST_RULES).ok()?.trim().to_owned());
    let named = line(dot_git)?;
    let named = named.strip_prefix("gitdir:")?.trim();
    let own = dot_git.parent()?.join(named).canonicalize().ok()?;
    let back = own.join(line(&own.join("gitdir"))?);
    let common = own
        .join(line(&own.join("commondir"))?)
        .canonicalize()
        .ok()?;
    let agree = back.canonicalize().ok()? == dot_git.canonicalize().ok()?
        && own.parent()?.parent()? == common;
    agree.then_some((own, common))
}

/// What git noted of its files.
#[derive(Debug, Default)]
pub(super) struct Index {
    top: PathBuf,
    /// The names of all files, one behind the other.
    names: Vec<u8>,
    /// By their path below `top`; each with what is directly in it, in the order of names. One table of all paths, as in
    /// the file, costs a search through memory that is in no cache for each directory.
    directories: HashMap<Vec<u8>, Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    /// Where its name is.
    name: Range<usize>,
    id: ObjectId,
    /// As in the file: seconds and nanoseconds of the two times, device, inode, mode, user, group, size.
    fields: [u32; 10],
    sound: bool,
}

/// Entries of one directory that follow each other in the file: they cost one search for it.
#[derive(Default)]
struct Run {
    directory: Vec<u8>,
    entries: Vec<Entry>,
}

/// Flags that say that git does not look at the file, or has more than one version of it.
const ASSUME_VALID_OR_STAGED: u16 = 0x8000 | 0x3000;
const EXTENDED: u16 = 0x4000;
/// Of the second word of flags: not in the working tree, or not yet in the index.
const ELSEWHERE: u16 = 0x4000 | 0x2000;

impl Index {
    /// gitformat-index(5), versions 2 to 4. `written`: when the file was; what has the same age may have changed since
    /// it was hashed and is not believed.
    fn parse(bytes: &[u8], top: &Path, written: i64) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.take(4)? != b"DIRC" {
            return None;
        }
        let version = reader.number()?;
        let count = reader.number()?;
        if !(2..=4).contains(&version) {
            return None;
        }
        let mut index = Self {
            top: top.to_owned(),
            ..Self::default()
        };
        let mut path = Vec::new();
        let mut run = Run::default();
        for _ in 0..count {
            let entry = reader.entry(version, &mut path, written)?;
            // git makes no others; a forged index may.
            if is_plain(&path) {
                index.add(&mut run, entry, &path);
            }
        }
        index.end(run);
        index.sort();
        Some(index)
    }

    fn add(&mut self, run: &mut Run, entry: Entry, path: &[u8]) {
        let (directory, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        if run.directory != directory {
            let directory = directory.to_vec();
            let entries = Vec::new();
            self.end(std::mem::replace(run, Run { directory, entries }));
        }
        let from = self.names.len();
        self.names.extend_from_slice(name);
        let name = from..self.names.len();
        run.entries.push(Entry { name, ..entry });
    }

    /// What is below a directory may stand between its own files, so it may have been found before.
    fn end(&mut self, run: Run) {
        match self.directories.get_mut(&run.directory) {
            Some(entries) => entries.extend(run.entries),
            None if run.entries.is_empty() => {}
            None => drop(self.directories.insert(run.directory, run.entries)),
        }
    }

    /// git writes them sorted; to look them up relies on it.
    fn sort(&mut self) {
        let name = |entry: &Entry| &self.names[entry.name.clone()];
        for entries in self.directories.values_mut() {
            entries.sort_by(|one, other| name(one).cmp(name(other)));
        }
    }

    /// The object with the content of `path`, if it is still as git saw it.
    pub(super) fn object(&self, path: &Path, stat: &Stat) -> Option<&ObjectId> {
        self.inside(path.parent()?).object(path.file_name()?, stat)
    }

    /// What it has directly in `directory`.
    pub(super) fn inside(&self, directory: &Path) -> Inside<'_> {
        let below = directory.strip_prefix(&self.top).ok();
        let entries = below.and_then(|below| self.directories.get(below.as_os_str().as_bytes()));
        Inside {
            names: &self.names,
            entries: entries.map_or(&[], Vec::as_slice),
        }
    }

    /// Each directory with the names that are directly in it.
    pub(super) fn directories(
        &self,
    ) -> impl Iterator<Item = (PathBuf, impl Iterator<Item = &OsStr>)> {
        self.directories.iter().map(|(below, entries)| {
            let directory = self.top.join(OsStr::from_bytes(below));
            let name = |entry: &Entry| OsStr::from_bytes(&self.names[entry.name.clone()]);
            (directory, entries.iter().map(name))
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// One that has these names and no objects.
    #[cfg(test)]
    pub(super) fn of(top: &Path, names: &[&str]) -> Self {
        let mut index = Self {
            top: top.to_owned(),
            ..Self::default()
        };
        let mut run = Run::default();
        for name in names {
            let entry = Entry {
                name: 0..0,
                id: EMPTY,
                fields: [0; 10],
                sound: false,
            };
            index.add(&mut run, entry, name.as_bytes());
        }
        index.end(run);
        index.sort();
        index
    }

    #[cfg(test)]
    fn paths(&self) -> Vec<PathBuf> {
        let all = self.directories();
        let paths = all.flat_map(|(directory, names)| {
            let join = move |name| directory.join(name);
            names.map(join).collect::<Vec<_>>()
        });
        paths.collect()
    }
}

/// A part of an index: what is in one directory.
#[derive(Clone, Copy)]
pub(super) struct Inside<'a> {
    names: &'a [u8],
    entries: &'a [Entry],
}

impl<'a> Inside<'a> {
    /// The object with the content of the file `name`, if it is still as git saw it.
    pub(super) fn object(&self, name: &OsStr, stat: &Stat) -> Option<&'a ObjectId> {
        self.find(name)?.object(stat)
    }

    /// [`Self::object`] of each of these files, which come in the order of their names: the two lists are passed through
    /// side by side.
    pub(super) fn objects(
        self,
        files: &[(OsString, Stat)],
    ) -> impl Iterator<Item = Option<&'a ObjectId>> {
        let mut rest = self.entries.iter().peekable();
        files.iter().map(move |(name, stat)| {
            let name = name.as_bytes();
            while rest.next_if(|entry| self.name(entry) < name).is_some() {}
            let entry = rest.peek().filter(|entry| self.name(entry) == name)?;
            entry.object(stat)
        })
    }

    /// True if git tracks the file `name`.
    pub(super) fn has(&self, name: &OsStr) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &OsStr) -> Option<&'a Entry> {
        let found = self
            .entries
            .binary_search_by(|entry| self.name(entry).cmp(name.as_bytes()));
        self.entries.get(found.ok()?)
    }

    fn name(&self, entry: &Entry) -> &'a [u8] {
        &self.names[entry.name.clone()]
    }
}

/// Names of files below, with no way out and not into git's own.
fn is_plain(name: &[u8]) -> bool {
    let mut parts = name.split(|byte| *byte == b'/');
    parts.all(|part| !matches!(part, b"" | b"." | b".." | b".git"))
}

impl Entry {
    /// Its object, if it has the content of the file of which `stat` is true.
    fn object(&self, stat: &Stat) -> Option<&ObjectId> {
        (self.sound && self.fits(stat)).then_some(&self.id)
    }

    fn fits(&self, stat: &Stat) -> bool {
        let [
            changed,
            changed_rest,
            modified,
            modified_rest,
            _,
            inode,
            mode,
            _,
            _,
            size,
        ] = self.fields;
        let time = |seconds: u32, rest: u32| i64::from(seconds) * 1_000_000_000 + i64::from(rest);
        let link = mode & 0o170000 == 0o120000;
        let file = mode & 0o170000 == 0o100000;
        (link || file)
            && link == stat.link
            && (link || (mode & 0o100 != 0) == (stat.mode & 0o100 != 0))
            && time(changed, changed_rest) == stat.changed
            && time(modified, modified_rest) == stat.modified
            && inode == stat.inode as u32
            && u64::from(size) == stat.size
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// Bytes that names may still have.
    room: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let most = bytes.len().saturating_mul(MOST_EXPANSION);
        Self {
            rest: bytes,
            room: most.min(LARGEST_INDEX as usize),
        }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// One entry; `name` holds that of the one before, which version 4 builds on.
    fn entry(&mut self, version: u32, name: &mut Vec<u8>, written: i64) -> Option<Entry> {
        let before = self.rest.len();
        let mut fields = [0; 10];
        for field in &mut fields {
            *field = self.number()?;
        }
        let id = self.take(20)?.try_into().ok()?;
        let flags = self.short()?;
        let more = if flags & EXTENDED != 0 {
            self.short()?
        } else {
            0
        };
        if version == 4 {
            let drop = self.offset()?;
            name.truncate(name.len().checked_sub(drop)?);
        } else {
            name.clear();
        }
        let end = self.rest.iter().position(|byte| *byte == 0)?;
        name.extend_from_slice(self.take(end)?);
        // A forged one grows with each entry.
        self.room = self.room.checked_sub(name.len())?;
        if name.len() > LONGEST_NAME {
            return None;
        }
        let padding = match version {
            4 => 1,
            // At least one NUL, up to a multiple of eight.
            _ => 8 - (before - self.rest.len()) % 8,
        };
        self.take(padding)?;
        let modified = i64::from(fields[2]) * 1_000_000_000 + i64::from(fields[3]);
        let sound = flags & ASSUME_VALID_OR_STAGED == 0
            && more & ELSEWHERE == 0
            && modified < written
            // git writes size 0 where it is not sure itself.
            && (fields[9] != 0 || id == EMPTY);
        let name = 0..0;
        Some(Entry {
            name,
            id,
            fields,
            sound,
        })
    }

    /// The variable-length number of pack files.
    fn offset(&mut self) -> Option<usize> {
        let mut byte = self.take(1)?[0];
        let mut value = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.take(1)?[0];
            value = (value.checked_add(1)?.checked_mul(128)?) | usize::from(byte & 0x7f);
        }
        Some(value)
    }
}

/// The object of no bytes at all.
const EMPTY: ObjectId = [
    0xe6, 0x9d, 0xe2, 0x9b, 0xb2, 0xd1, 0xd6, 0x43, 0x4b, 0x8b, 0x29, 0xae, 0x77, 0x5a, 0xd8, 0xc2,
    0xe4, 0x8c, 0x53, 0x91,
];

/// The name that git gives a file with `content`.
pub(crate) fn object_id(content: &[u8]) -> ObjectId {
    id_of("blob", content)
}

/// The name that git gives an object.
pub(super) fn id_of(kind: &str, content: &[u8]) -> ObjectId {
    sha1(&[format!("{kind} {}\0", content.len()).as_bytes(), content])
}

pub(super) fn sha1(parts: &[&[u8]]) -> ObjectId {
    use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        hash.update(part);
    }
    let mut id = ObjectId::default();
    id.copy_from_slice(hash.finish().as_ref());
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(dir: &Path, line: &str) {
        let ran = std::process::Command::new("sh")
            .args(["-ec", line])
            .current_dir(dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(ran.status.success(), "{line}: {ran:?}");
    }

    /// A repository with some names that are alike, whose index is older than nothing in it.
    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        sh(
            dir.path(),
            "git init -q . && mkdir -p a/b && echo 1 >a/b/one && echo 11 >a/b/one-more && echo 2 >a/two && : >empty \
             && ln -s a/two link && git add . && git -c user.name=a -c user.email=a@b commit -qm x",
        );
        dir
    }

    fn believed(dir: &Path) -> Vec<String> {
        let index = Repository::around(dir).unwrap().index();
        let mut names: Vec<String> = index
            .paths()
            .into_iter()
            .filter(|path| Stat::at(path).is_some_and(|stat| index.object(path, &stat).is_some()))
            .map(|path| path.strip_prefix(dir).unwrap().display().to_string())
            .collect();
        names.sort();
        names
    }

    const ALL: [&str; 5] = ["a/b/one", "a/b/one-more", "a/two", "empty", "link"];

    #[test]
    fn an_index_of_each_version_is_believed_as_far_as_the_files_are_as_git_saw_them() {
        for version in [2, 3, 4] {
            let dir = repository();
            let top = dir.path().canonicalize().unwrap();
            sh(
                &top,
                &format!(
                    "sleep 0.05; git update-index --index-version {version}; git update-index --really-refresh"
                ),
            );
            let index = Repository::around(&top.join("a")).unwrap().index();
            for path in index.paths().iter().filter(|path| !path.ends_with("link")) {
                let id = index.object(path, &Stat::at(path).unwrap());
                assert_eq!(id, Some(&object_id(&fs::read(path).unwrap())), "{path:?}");
            }
            assert_eq!(believed(&top), ALL);
            sh(
                &top,
                "echo 3 >a/b/one; chmod +x a/two; git update-index --assume-unchanged empty",
            );
            assert_eq!(believed(&top), ["a/b/one-more", "link"]);
        }
    }

    #[test]
    fn a_damaged_or_forged_index_is_not_believed() {
        let dir = repository();
        let top = dir.path();
        let bytes = fs::read(top.join(".git/index")).unwrap();
        for end in 0..bytes.len() {
            // Whatever it gives, it gives it without harm.
            let _ = Index::parse(&bytes[..end], top, i64::MAX);
        }
        let name = bytes.windows(3).position(|word| word == b"a/b").unwrap();
        let mut forged = bytes.clone();
        forged[name..name + 3].copy_from_slice(b"../");
        let index = Index::parse(&forged, top, i64::MAX).unwrap();
        let paths = index.paths();
        assert!(
            !paths
                .iter()
                .any(|path| path.to_string_lossy().contains(".."))
        );
        assert_eq!(paths.len(), ALL.len() - 1);
        // In another order than git's, everything is found all the same.
        let mut forged = bytes.clone();
        forged[name..name + 3].copy_from_slice(b"z/b");
        let index = Index::parse(&forged, top, i64::MAX).unwrap();
        assert!(index.inside(&top.join("z/b")).has(OsStr::new("one")));
        assert!(index.inside(&top.join("a")).has(OsStr::new("two")));
    }

    #[test]
    fn an_index_whose_names_grow_with_each_entry_is_given_up() {
        let forged = |count: u32, drop: u8, added: usize| {
            let mut bytes = b"DIRC\0\0\0\x04".to_vec();
            bytes.extend(count.to_be_bytes());
            let entry = [&[0; 62][..], &[drop], &vec![b'n'; added], &[0]].concat();
            bytes.extend(entry.repeat(count as usize));
            bytes
        };
        let parse = |bytes: &[u8]| Index::parse(bytes, Path::new("/t"), i64::MAX);
        assert!(parse(&forged(60, 0, 64)).is_some());
        assert!(parse(&forged(100, 0, 64)).is_none(), "longer than any path");
        // Each keeps all but one byte of the one before, which is as long as a path may be.
        let long = [&forged(1, 0, 4000)[..], &forged(100_000, 1, 1)[12..]].concat();
        let mut long = long;
        long[8..12].copy_from_slice(&100_001u32.to_be_bytes());
        assert!(parse(&long).is_none(), "more than there may be together");
    }

    #[test]
    fn what_is_in_a_directory_of_the_index_is_found_among_what_is_alike() {
        let top = Path::new("/t");
        let index = Index::of(top, &["a-b/x", "a/x", "a/y/z", "a.b", "x", "a0"]);
        let has =
            |directory: &str, name: &str| index.inside(&top.join(directory)).has(OsStr::new(name));
        for (directory, name, expected) in [
            ("a", "x", true),
            ("a-b", "x", true),
            ("a/y", "z", true),
            ("", "x", true),
            ("", "a.b", true),
            ("a", "z", false),
            ("a", "a", false),
            ("a0", "", false),
            ("b", "x", false),
        ] {
            assert_eq!(has(directory, name), expected, "{directory}/{name}");
        }
        assert!(!index.inside(Path::new("/elsewhere")).has(OsStr::new("x")));
    }

    #[test]
    fn a_linked_worktree_leads_to_its_repository_and_a_forged_one_nowhere() {
        let dir = repository();
        let top = dir.path().canonicalize().unwrap();
        sh(
            &top,
            "git worktree add -q -b linked ../$(basename $PWD)-linked && mkdir forged && cp ../$(basename $PWD)-linked/.git forged/",
        );
        let linked = top.with_file_name(format!("{}-linked", top.file_name().unwrap().display()));
        let found = Repository::around(&linked).unwrap();
        assert_eq!(
            (found.top, found.common),
            (linked.clone(), top.join(".git"))
        );
        assert!(Repository::around(&top.join("forged")).is_none());
        fs::remove_dir_all(linked).unwrap();
    }

    #[test]
    fn objects_come_by_a_git_that_sees_nothing_else() {
        let dir = repository();
        let found = Repository::around(dir.path()).unwrap();
        let ids = [object_id(b"1\n"), object_id(b"nowhere"), object_id(b"2\n")];
        let fetch = || {
            let git = super::super::plumbing::Plumbing::new(&found.objects(), None, &[]).unwrap();
            git.blobs(&ids).unwrap()
        };
        let expected = [Some(b"1\n".to_vec()), None, Some(b"2\n".to_vec())];
        assert_eq!(fetch(), expected);
        sh(dir.path(), "git gc -q");
        assert_eq!(fetch(), expected, "also from packs");
    }
}
