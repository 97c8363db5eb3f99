//! Which files a search may see: the walk below the root, what is excluded from it, and the glob.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::{DirEntry, WalkBuilder, WalkState};
use tokio_util::sync::CancellationToken;

use super::{SearchError, ignored::Ignored};

/// The root of a search with everything that narrows it.
pub(in crate::workspace) struct Scope {
    /// Resolved: without symbolic links, so that the excluded paths can be compared with what the walk yields.
    root: PathBuf,
    excluded: Vec<PathBuf>,
    names: Option<NameFilter>,
}

/// A regular file in scope.
pub(in crate::workspace) struct Entry {
    pub(in crate::workspace) path: PathBuf,
    /// Relative to the root, with `/`; the file's own name when the root is the file.
    pub(in crate::workspace) name: String,
}

impl Scope {
    pub(in crate::workspace) fn open(
        root: &Path,
        glob: Option<&str>,
        excluded: &[PathBuf],
    ) -> Result<Self, SearchError> {
        let named = root;
        let root = fs_err::canonicalize(named)?;
        // It was resolved and judged before, and another may stand there by now.
        if root != named {
            return Err(SearchError::Elsewhere(named.display().to_string()));
        }
        let metadata = fs_err::metadata(&root)?;
        if !metadata.is_dir() && !metadata.is_file() {
            return Err(SearchError::NotAFile(root.display().to_string()));
        }
        Ok(Self {
            names: glob.map(|glob| NameFilter::new(glob, &root)).transpose()?,
            excluded: excluded.iter().map(|path| resolved(path)).collect(),
            root,
        })
    }

    /// The files in the order of their paths, directory by directory. What cannot be read is left out.
    pub(super) fn files(&self) -> impl Iterator<Item = Entry> + '_ {
        self.walk()
            .sort_by_file_path(Path::cmp)
            .build()
            .filter_map(Result::ok)
            .filter_map(|entry| self.file(entry))
    }

    /// The same files in no order, by several threads: for those who want them all. Ends early once `cancel` is cancelled.
    pub(in crate::workspace) fn listed(&self, cancel: &CancellationToken) -> Vec<Entry> {
        let (found, files) = std::sync::mpsc::channel();
        self.walk().build_parallel().run(|| {
            let found = found.clone();
            Box::new(move |entry| {
                if let Some(file) = entry.ok().and_then(|entry| self.file(entry)) {
                    // The receiver lives as long as this function.
                    let _ = found.send(file);
                }
                match cancel.is_cancelled() {
                    true => WalkState::Quit,
                    false => WalkState::Continue,
                }
            })
        });
        drop(found);
        files.into_iter().collect()
    }

    fn walk(&self) -> WalkBuilder {
        let excluded = self.excluded.clone();
        let hidden = !self.names.as_ref().is_some_and(|names| names.wants_hidden);
        let ignored = Ignored::new(&self.root, hidden);
        let mut walk = WalkBuilder::new(&self.root);
        // It would open whatever stands under the name of a file of rules.
        walk.standard_filters(false)
            .follow_links(false)
            .filter_entry(move |entry| {
                let path = entry.path();
                let is_dir = entry.file_type().is_some_and(|kind| kind.is_dir());
                (entry.depth() == 0 || entry.file_name() != ".git")
                    && !excluded.iter().any(|excluded| path.starts_with(excluded))
                    && (entry.depth() == 0 || !ignored.leaves_out(path, is_dir))
            });
        walk
    }

    fn file(&self, entry: DirEntry) -> Option<Entry> {
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        (is_file && !self.is_excluded(entry.path()))
            .then(|| self.entry(entry))
            .flatten()
    }

    /// `filter_entry` is not asked about the root itself.
    fn is_excluded(&self, path: &Path) -> bool {
        self.excluded
            .iter()
            .any(|excluded| path.starts_with(excluded))
    }

    fn entry(&self, entry: DirEntry) -> Option<Entry> {
        let path = entry.into_path();
        let relative = path.strip_prefix(&self.root).unwrap_or(&path);
        let relative = match relative.as_os_str().is_empty() {
            true => Path::new(path.file_name()?),
            false => relative,
        };
        if self
            .names
            .as_ref()
            .is_some_and(|names| !names.wants(relative))
        {
            return None;
        }
        let name = relative.to_string_lossy().into_owned();
        Some(Entry { name, path })
    }
}

fn resolved(path: &Path) -> PathBuf {
    fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A glob as people write it for ripgrep and in `.gitignore`: without a slash it is about the name at any depth, with
/// one about the path from the root; naming a directory means all that is in it; a leading `!` turns it round.
struct NameFilter {
    set: GlobSet,
    inverted: bool,
    wants_hidden: bool,
}

impl NameFilter {
    fn new(glob: &str, root: &Path) -> Result<Self, SearchError> {
        let error = |message: String| SearchError::Glob {
            glob: glob.to_owned(),
            message,
        };
        let (inverted, body) = match glob.strip_prefix('!') {
            Some(body) => (true, body),
            None => (false, glob),
        };
        let body = relative_to(body, root).ok_or_else(|| {
            error(format!(
                "it is absolute; write it relative to `{}`, such as `src/**/*.rs` or `*.rs`",
                root.display()
            ))
        })?;
        let mut set = GlobSetBuilder::new();
        for form in forms(body) {
            set.add(
                GlobBuilder::new(&form)
                    .literal_separator(true)
                    .build()
                    .map_err(|e| error(format!("{}; `*`, `**`, `?`, `[ab]` and `{{a,b}}` have a meaning, put one in brackets to match it as it is", e.kind())))?,
            );
        }
        Ok(Self {
            set: set.build().map_err(|e| error(e.kind().to_string()))?,
            inverted,
            wants_hidden: !inverted && names_hidden(body),
        })
    }

    fn wants(&self, relative: &Path) -> bool {
        self.set.is_match(relative) != self.inverted
    }
}

/// `glob` without `./` or the root in front; none if it leads elsewhere.
fn relative_to<'a>(glob: &'a str, root: &Path) -> Option<&'a str> {
    let glob = glob.trim_start_matches("./");
    if !glob.starts_with('/') {
        return Some(glob);
    }
    let below = glob.strip_prefix(root.to_str()?)?;
    below.strip_prefix('/').or(below.is_empty().then_some("**"))
}

/// The globs that together mean what `glob` says.
fn forms(glob: &str) -> Vec<String> {
    let directory = glob.ends_with('/');
    let glob = glob.trim_end_matches('/');
    let anchored = if glob.contains('/') {
        glob.to_owned()
    } else {
        format!("**/{glob}")
    };
    // A plain name may be a directory; `src/*` must not reach further down than it says.
    let last = glob.rsplit('/').next().unwrap_or(glob);
    let below = format!("{anchored}/**");
    match (directory, last.contains(['*', '?', '[', '{'])) {
        (true, _) => vec![below],
        (false, true) => vec![anchored],
        (false, false) => vec![anchored, below],
    }
}

fn names_hidden(glob: &str) -> bool {
    glob.split(['/', '{', ','])
        .any(|part| part.starts_with('.') && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_means_what_ripgrep_users_expect() {
        for (glob, path, expected) in [
            ("*.rs", "a/b/c.rs", true),
            ("*.rs", "a/b/c.rst", false),
            ("src/*.rs", "src/a.rs", true),
            ("src/*.rs", "src/x/a.rs", false),
            ("src/**/*.rs", "src/a.rs", true),
            ("src/**/*.rs", "src/x/y/a.rs", true),
            ("src", "src/x/y/a.rs", true),
            ("src/", "a/src/b.rs", true),
            ("src/", "src", false),
            ("src/*", "src/x/a.rs", false),
            ("*.{rs,toml}", "Cargo.toml", true),
            ("!*.rs", "a.rs", false),
            ("!*.rs", "a.py", true),
            ("./src/*.rs", "src/a.rs", true),
            ("/r/src/*.rs", "src/a.rs", true),
            ("Cargo.toml", "x/Cargo.toml", true),
        ] {
            let filter = NameFilter::new(glob, Path::new("/r")).unwrap();
            assert_eq!(filter.wants(Path::new(path)), expected, "{glob} on {path}");
        }
    }

    #[test]
    fn only_a_glob_that_names_a_hidden_part_looks_into_hidden_ones() {
        for (glob, expected) in [
            (".github/**", true),
            ("*.{yml,.env}", true),
            ("**/.env", true),
            ("*.rs", false),
            ("!.github", false),
        ] {
            let filter = NameFilter::new(glob, Path::new("/r")).unwrap();
            assert_eq!(filter.wants_hidden, expected, "{glob}");
        }
    }

    #[test]
    fn a_bad_glob_says_what_is_wrong() {
        for (glob, words) in [
            ("a[", "unclosed"),
            ("{a", "unclosed"),
            ("/etc/*", "relative to `/r`"),
        ] {
            let error = NameFilter::new(glob, Path::new("/r"))
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains(words) && error.contains(glob), "{error}");
        }
    }
}
