//! Something of each file, by directory and name. With whole paths as keys, tens of thousands of files cost more to put
//! away and to look up than to look at on disk.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// Names in their order, each once.
type Names<T> = Vec<(OsString, T)>;

/// What is known of files.
#[derive(Clone, Debug)]
pub(super) struct Tree<T>(HashMap<PathBuf, Names<T>>);

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Tree<T> {
    /// Adds a directory with all that is known of it, in any order.
    pub(super) fn add(&mut self, directory: PathBuf, mut names: Names<T>) {
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        self.0.insert(directory, names);
    }

    /// Adds all directories of `other`.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Adds one file.
    pub(super) fn insert(&mut self, path: &Path, what: T) {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        let names = self.0.entry(directory.to_owned()).or_default();
        match place(names, name) {
            Ok(at) => names[at].1 = what,
            Err(at) => names.insert(at, (name.to_owned(), what)),
        }
    }

    pub(super) fn get(&self, path: &Path) -> Option<&T> {
        find(self.inside(path.parent()?), path.file_name()?)
    }

    /// What is directly in `directory`; nothing where it is not known.
    pub(super) fn inside(&self, directory: &Path) -> &[(OsString, T)] {
        self.0.get(directory).map_or(&[], Vec::as_slice)
    }

    pub(super) fn has_directory(&self, directory: &Path) -> bool {
        self.0.contains_key(directory)
    }

    /// Also those with nothing in them.
    pub(super) fn directories(&self) -> impl Iterator<Item = (&PathBuf, &[(OsString, T)])> {
        self.0.iter().map(|(path, names)| (path, names.as_slice()))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (PathBuf, &T)> {
        let directories = self.0.iter();
        directories.flat_map(|(directory, names)| {
            let names = names.iter();
            names.map(|(name, what)| (directory.join(name), what))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

impl<T: PartialEq> Tree<T> {
    /// Paths that only one of the two has, or each with something else.
    pub(super) fn differing(&self, other: &Self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for (directory, names) in &self.0 {
            let others = other.inside(directory);
            if names != others {
                let changed = names
                    .iter()
                    .filter(|(n, what)| find(others, n) != Some(what));
                paths.extend(changed.map(|(name, _)| directory.join(name)));
            }
        }
        for (directory, names) in &other.0 {
            let known = self.inside(directory);
            if known == names {
                continue;
            }
            let new = names.iter().filter(|(name, _)| find(known, name).is_none());
            paths.extend(new.map(|(name, _)| directory.join(name)));
        }
        paths
    }
}

/// What `name` has among `names`.
pub(super) fn find<'a, T>(names: &'a [(OsString, T)], name: &OsStr) -> Option<&'a T> {
    Some(&names[place(names, name).ok()?].1)
}

fn place<T>(names: &[(OsString, T)], name: &OsStr) -> Result<usize, usize> {
    names.binary_search_by(|(known, _)| known.as_os_str().cmp(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_trees_differ_where_a_file_came_went_or_changed() {
        let tree = |files: &[(&str, u8)]| {
            let mut tree = Tree::default();
            for (path, what) in files {
                tree.insert(Path::new(path), *what);
            }
            tree
        };
        let old = tree(&[("/a/same", 1), ("/a/changed", 1), ("/gone/file", 1)]);
        let new = tree(&[
            ("/a/same", 1),
            ("/a/changed", 2),
            ("/a/came", 1),
            ("/b/c", 1),
        ]);
        let mut paths = old.differing(&new);
        paths.sort();
        let expected = ["/a/came", "/a/changed", "/b/c", "/gone/file"];
        assert_eq!(paths, expected.map(PathBuf::from));
        assert_eq!(new.get(Path::new("/a/changed")), Some(&2));
        assert_eq!(new.files().count(), new.len());
    }
}
