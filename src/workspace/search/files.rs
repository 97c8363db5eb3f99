//! Lists the files below a directory, sorted and bounded.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::{SearchError, scope::Scope};

/// Which files to list.
#[derive(Debug, Clone)]
pub struct FileQuery {
    /// A directory; its own hidden or ignored state does not matter.
    pub root: PathBuf,
    /// As in ripgrep: `*.rs` at any depth, `src/**/*.rs` from the root, `!` in front to leave out.
    pub glob: Option<String>,
    /// At most this many names are given; the rest is counted.
    pub limit: usize,
    /// Absolute directories and files that are never listed.
    pub excluded: Vec<PathBuf>,
}

/// The files found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileList {
    /// Relative to the root, with `/`, the first ones in the order of the walk.
    pub files: Vec<String>,
    /// How many more there are.
    pub omitted: usize,
}

/// The files below `query.root`. Blocks.
pub fn list_files(query: &FileQuery, cancel: &CancellationToken) -> Result<FileList, SearchError> {
    let scope = Scope::open(&query.root, query.glob.as_deref(), &query.excluded)?;
    let mut list = FileList::default();
    for entry in scope.files() {
        if cancel.is_cancelled() {
            return Err(SearchError::Cancelled);
        }
        if list.files.len() < query.limit {
            list.files.push(entry.name);
        } else {
            list.omitted += 1;
        }
    }
    Ok(list)
}

impl std::fmt::Display for FileList {
    /// What the model reads: one name a line, then what was left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.files.is_empty() && self.omitted == 0 {
            return f.write_str("no files found\n");
        }
        for name in &self.files {
            writeln!(f, "{name}")?;
        }
        if self.omitted > 0 {
            writeln!(
                f,
                "[{} more files; a glob or a deeper directory narrows the list]",
                self.omitted
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            let path = dir.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "x\n").unwrap();
        }
        dir
    }

    fn listed(dir: &tempfile::TempDir, change: impl FnOnce(&mut FileQuery)) -> FileList {
        let mut query = FileQuery {
            root: dir.path().to_owned(),
            glob: None,
            limit: 100,
            excluded: Vec::new(),
        };
        change(&mut query);
        list_files(&query, &CancellationToken::new()).unwrap()
    }

    #[test]
    fn ignored_hidden_and_excluded_files_are_not_listed() {
        let dir = workspace(&[
            "a.rs",
            "b/c.rs",
            "b/out.log",
            ".hidden",
            ".git/config",
            ".ci/x.yml",
            "state/secret",
            "target/x",
        ]);
        fs_err::write(dir.path().join(".gitignore"), "*.log\n/target\n").unwrap();
        let state = dir.path().join("state");
        assert_eq!(
            listed(&dir, |q| q.excluded = vec![state.clone()]).files,
            ["a.rs", "b/c.rs"]
        );
        assert_eq!(
            listed(&dir, |q| q.glob = Some(".ci/**".into())).files,
            [".ci/x.yml"]
        );
        assert!(
            listed(&dir, |q| q.glob = Some(".git/**".into()))
                .files
                .is_empty()
        );
        let inside = listed(&dir, |q| {
            q.root = state.clone();
            q.excluded = vec![state.clone()];
        });
        assert_eq!(inside, FileList::default());
    }

    #[test]
    fn a_bound_keeps_the_first_names_each_time_and_counts_the_rest() {
        let names: Vec<String> = (0..50).map(|i| format!("d{}/f{i:02}", i % 7)).collect();
        let dir = workspace(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let first = listed(&dir, |q| q.limit = 9);
        assert_eq!((first.files.len(), first.omitted), (9, 41));
        assert_eq!(first.files[..2], ["d0/f00", "d0/f07"]);
        assert_eq!(listed(&dir, |q| q.limit = 9), first);
        assert!(
            first
                .to_string()
                .ends_with("[41 more files; a glob or a deeper directory narrows the list]\n")
        );
    }

    #[test]
    fn a_symbolic_link_leads_nowhere() {
        let outside = workspace(&["secret.txt"]);
        let dir = workspace(&["a.txt"]);
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.txt"), dir.path().join("s.txt"))
            .unwrap();
        assert_eq!(listed(&dir, |_| ()).files, ["a.txt"]);
    }

    #[test]
    fn a_pipe_under_the_name_of_rules_holds_up_no_list() {
        let dir = workspace(&["a.rs", "b/c.rs"]);
        for name in [".ignore", ".gitignore", "b/.gitignore"] {
            let made = std::process::Command::new("mkfifo")
                .arg(dir.path().join(name))
                .status();
            assert!(made.unwrap().success());
        }
        let (told, told_by) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(listed(&dir, |_| ()).files));
        let files = told_by.recv_timeout(std::time::Duration::from_secs(60));
        assert_eq!(files.expect("it waits for the pipe"), ["a.rs", "b/c.rs"]);
    }

    #[test]
    fn an_ignore_file_above_a_directory_without_a_repository_does_not_count() {
        let home = workspace(&["p/a.rs"]);
        fs_err::write(home.path().join(".gitignore"), "*\n").unwrap();
        assert_eq!(
            listed(&home, |q| q.root = home.path().join("p")).files,
            ["a.rs"]
        );
        fs_err::create_dir(home.path().join(".git")).unwrap();
        assert!(
            listed(&home, |q| q.root = home.path().join("p"))
                .files
                .is_empty()
        );
    }

    #[test]
    fn a_cancelled_list_and_a_missing_root_are_errors() {
        let dir = workspace(&["a"]);
        let cancel = CancellationToken::new();
        cancel.cancel();
        let mut query = FileQuery {
            root: dir.path().to_owned(),
            glob: None,
            limit: 1,
            excluded: vec![],
        };
        assert!(matches!(
            list_files(&query, &cancel),
            Err(SearchError::Cancelled)
        ));
        query.root = dir.path().join("nowhere");
        let error = list_files(&query, &CancellationToken::new())
            .unwrap_err()
            .to_string();
        assert!(error.contains("nowhere"), "{error}");
    }
}
