//! What git keeps of a working tree, written by ourselves: objects, and the index of a new worktree.
//!
//! No git runs for it, so nothing of the repository's configuration can have a part in it: contents are the bytes of
//! the files. Objects are not compressed; git does that when it packs them.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    git::{ObjectId, id_of},
    plumbing::hex,
};

/// Who makes our commits.
const WHO: &str = "openoxide <openoxide@localhost>";
/// A stored block of RFC 1951 holds no more.
const MOST_IN_BLOCK: usize = 0xffff;

/// A place for objects: `objects` in a git directory.
#[derive(Debug)]
pub(crate) struct Objects(pub(crate) PathBuf);

impl Objects {
    /// Keeps a file's bytes.
    pub(crate) fn blob(&self, content: &[u8]) -> io::Result<ObjectId> {
        self.put("blob", content)
    }

    /// Keeps a tree with all that is below it.
    pub(crate) fn tree(&self, tree: &Tree) -> io::Result<ObjectId> {
        tree.name(&mut |content| self.put("tree", content))
    }

    /// Keeps a commit of now.
    pub(crate) fn commit(
        &self,
        tree: &ObjectId,
        parent: Option<&str>,
        message: &str,
    ) -> io::Result<ObjectId> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let when = now.map_or(0, |now| now.as_secs());
        let parent = parent.map_or_else(String::new, |parent| format!("parent {parent}\n"));
        let tree = hex(tree);
        let text = format!(
            "tree {tree}\n{parent}author {WHO} {when} +0000\ncommitter {WHO} {when} +0000\n\n{message}\n"
        );
        self.put("commit", text.as_bytes())
    }

    /// Keeps an object, if it is not there.
    fn put(&self, kind: &str, content: &[u8]) -> io::Result<ObjectId> {
        let id = id_of(kind, content);
        let name = hex(&id);
        let (folder, name) = name.split_at(2);
        let folder = self.0.join(folder);
        let path = folder.join(name);
        if path.exists() {
            return Ok(id);
        }
        fs::create_dir_all(&folder)?;
        // git removes what is called so, if we cannot.
        let temporary = folder.join(format!("tmp_obj_{}", uuid::Uuid::now_v7().simple()));
        let head = format!("{kind} {}\0", content.len());
        let written = write_stored(&temporary, head.as_bytes(), content)
            .and_then(|()| fs::rename(&temporary, &path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.map(|()| id)
    }
}

/// A new file with `head` and `content` in the format of RFC 1950, as they are.
fn write_stored(path: &Path, head: &[u8], content: &[u8]) -> io::Result<()> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(path)?;
    let mut file = io::BufWriter::new(file);
    file.write_all(&[0x78, 0x01])?;
    let blocks = [head].into_iter().chain(content.chunks(MOST_IN_BLOCK));
    let (mut blocks, mut sum) = (blocks.peekable(), (1, 0));
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        file.write_all(&[blocks.peek().is_none().into()])?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&(!length).to_le_bytes())?;
        file.write_all(block)?;
        sum = adler(sum, block);
    }
    file.write_all(&(sum.1 << 16 | sum.0).to_be_bytes())?;
    file.flush()
}

/// Adler-32 goes on.
fn adler((mut a, mut b): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    const MODULUS: u32 = 65521;
    // So many that nothing overflows.
    for some in bytes.chunks(5552) {
        for byte in some {
            a += u32::from(*byte);
            b += a;
        }
        (a, b) = (a % MODULUS, b % MODULUS);
    }
    (a, b)
}

/// How git calls a regular file, one that can be executed, and a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File = 0o100644,
    Program = 0o100755,
    Link = 0o120000,
}

/// A directory: names with what they are. The names of directories end with a slash, so that they stand in git's order.
#[derive(Debug, Default)]
pub(crate) struct Tree(BTreeMap<Vec<u8>, Node>);

#[derive(Debug)]
enum Node {
    File(Kind, ObjectId),
    Tree(Tree),
}

impl Tree {
    /// Puts a file at `path`, whose parts are separated by slashes.
    pub(crate) fn add(&mut self, path: &[u8], kind: Kind, id: ObjectId) {
        let Some(slash) = path.iter().position(|byte| *byte == b'/') else {
            self.0.insert(path.to_vec(), Node::File(kind, id));
            return;
        };
        let (directory, rest) = path.split_at(slash + 1);
        let below = self.0.entry(directory.to_vec());
        if let Node::Tree(below) = below.or_insert_with(|| Node::Tree(Self::default())) {
            below.add(rest, kind, id);
        }
    }

    /// Its name, without keeping anything.
    pub(crate) fn id(&self) -> ObjectId {
        let named = self.name(&mut |content| Ok(id_of("tree", content)));
        // It reads and writes nothing.
        named.unwrap_or_default()
    }

    fn name(&self, put: &mut impl FnMut(&[u8]) -> io::Result<ObjectId>) -> io::Result<ObjectId> {
        let mut content = Vec::new();
        for (name, node) in &self.0 {
            let (mode, id) = match node {
                Node::File(kind, id) => (*kind as u32, *id),
                Node::Tree(tree) => (0o40000, tree.name(put)?),
            };
            write!(content, "{mode:o} ")?;
            content.extend_from_slice(name.strip_suffix(b"/").unwrap_or(name));
            content.push(0);
            content.extend_from_slice(&id);
        }
        put(&content)
    }
}

/// The content of an index, gitformat-index(5), of files as they are at `top` now. Sorted by name, each with its object.
pub(crate) fn index(top: &Path, files: &[(&[u8], Kind, ObjectId)]) -> io::Result<Vec<u8>> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let mut bytes = b"DIRC\0\0\0\x02".to_vec();
    bytes.extend((files.len() as u32).to_be_bytes());
    for (name, kind, id) in files {
        let about = fs::symlink_metadata(top.join(OsStr::from_bytes(name)))?;
        let (changed, modified) = (about.ctime(), about.mtime());
        // Of larger numbers git keeps the lower half too.
        let numbers = [
            changed as u32,
            about.ctime_nsec() as u32,
            modified as u32,
            about.mtime_nsec() as u32,
            about.dev() as u32,
            about.ino() as u32,
            *kind as u32,
            about.uid(),
            about.gid(),
            about.size() as u32,
        ];
        let from = bytes.len();
        bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        bytes.extend_from_slice(id);
        bytes.extend((name.len().min(0xfff) as u16).to_be_bytes());
        bytes.extend_from_slice(name);
        // At least one NUL, up to a multiple of eight.
        let padding = 8 - (bytes.len() - from) % 8;
        bytes.resize(bytes.len() + padding, 0);
    }
    let sum = super::git::sha1(&[&bytes]);
    bytes.extend_from_slice(&sum);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn git_finds_what_was_written_and_calls_it_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let git = |line: &str| {
            let ran = Command::new("sh")
                .args(["-ec", line])
                .current_dir(dir.path())
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .output()
                .unwrap();
            assert!(ran.status.success(), "{line}: {ran:?}");
            String::from_utf8(ran.stdout).unwrap().trim().to_owned()
        };
        let names = [
            "a/b/one",
            "a-b",
            "a.b",
            "a/b.c/x",
            "empty",
            "large",
            "line\nend",
            "long",
        ];
        let long = format!("{}/{}", "n".repeat(100), "m".repeat(100));
        git(
            "git init -q . && mkdir -p a/b a/b.c && seq 200000 >large && : >empty && echo x | tee a/b/one a-b a.b a/b.c/x \
            'line\nend' long >/dev/null && chmod +x a-b && ln -s a/b link",
        );
        fs::create_dir(dir.path().join("n".repeat(100))).unwrap();
        fs::write(dir.path().join(&long), "long").unwrap();
        let objects = Objects(dir.path().join(".git/objects"));
        let mut files: Vec<(&str, Kind, Vec<u8>)> = names
            .into_iter()
            .chain([long.as_str()])
            .map(|name| (name, Kind::File, fs::read(dir.path().join(name)).unwrap()))
            .chain([("link", Kind::Link, b"a/b".to_vec())])
            .collect();
        files[1].1 = Kind::Program;
        files.sort_by_key(|(name, ..)| name.as_bytes().to_vec());
        let mut tree = Tree::default();
        let mut listed = Vec::new();
        for (name, kind, content) in &files {
            let id = objects.blob(content).unwrap();
            tree.add(name.as_bytes(), *kind, id);
            listed.push((name.as_bytes(), *kind, id));
        }
        let id = objects.tree(&tree).unwrap();
        assert_eq!(tree.id(), id);
        let commit = objects.commit(&id, None, "All of it").unwrap();
        fs::write(
            dir.path().join(".git/index"),
            index(dir.path(), &listed).unwrap(),
        )
        .unwrap();
        git(&format!("git update-ref refs/heads/x {}", hex(&commit)));
        git("git fsck --strict");
        assert_eq!(git("git write-tree"), hex(&id));
        assert_eq!(git("git cat-file blob x:large | cmp - large"), "");
        assert_eq!(
            git("git symbolic-ref HEAD refs/heads/x; git status --short"),
            ""
        );
        assert_eq!(
            git("git diff-files --name-only"),
            "",
            "the index knows the files"
        );
    }
}
