//! What a repository tells agents: the `AGENTS.md` files from its root down to the working directory.
//!
//! They are context, not authority: they come to the model as a message, never as its instructions.

use std::path::{Path, PathBuf};

use crate::workspace::file;

/// All files together, in bytes. The deepest file is the most specific, so the budget is cut from the top.
const BUDGET: usize = 32 * 1024;

const NAME: &str = "AGENTS.md";

/// The text for the model, empty where there are no such files, and what a person should know about it.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    /// Each file under a heading with its path.
    pub text: String,
    /// Files that were cut or could not be read.
    pub warnings: Vec<String>,
}

/// Reads the chain for `cwd`, which is resolved.
pub fn find(cwd: &Path) -> Found {
    find_where(cwd, |_| true)
}

/// The same without files that `may_be_read` is against. It is asked for their real paths.
pub fn find_where(cwd: &Path, may_be_read: impl Fn(&Path) -> bool) -> Found {
    let root = cwd
        .ancestors()
        .find(|dir| dir.join(".git").exists())
        .unwrap_or(cwd);
    let mut left = BUDGET;
    let mut parts = Vec::new();
    let mut found = Found::default();
    for dir in cwd.ancestors().take_while(|dir| dir.starts_with(root)) {
        let path = dir.join(NAME);
        match read_inside(&path, root, &may_be_read) {
            Ok(None) => {}
            Ok(Some(text)) => {
                let kept = &text[..text.floor_char_boundary(left)];
                left -= kept.len();
                if kept.len() < text.len() {
                    found.warnings.push(format!(
                        "`{}` was cut to {} bytes",
                        path.display(),
                        kept.len()
                    ));
                }
                if !kept.trim().is_empty() {
                    parts.push(format!("## {}\n\n{}\n", path.display(), kept.trim_end()));
                }
            }
            Err(error) => found
                .warnings
                .push(format!("`{}` was not read: {error}", path.display())),
        }
    }
    parts.reverse();
    found.text = parts.join("\n");
    found
}

/// A symlink is followed only inside the repository: `AGENTS.md -> ~/.ssh/id_rsa` would be sent to the provider.
fn read_inside(
    path: &Path,
    root: &Path,
    may_be_read: impl Fn(&Path) -> bool,
) -> std::io::Result<Option<String>> {
    let real: PathBuf = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !real.starts_with(root) {
        return Err(std::io::Error::other(
            "it is a link that leads out of the repository",
        ));
    }
    if !may_be_read(&real) {
        return Ok(None);
    }
    Ok(file::read(&real)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_goes_from_the_root_down_and_stays_in_its_budget() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let deep = root.join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir(root.join(".git")).unwrap();
        std::fs::write(root.join(NAME), format!("top rule\n{}", "x".repeat(BUDGET))).unwrap();
        std::fs::write(deep.join(NAME), "deep rule").unwrap();
        let found = find(&deep);
        assert!(found.text.find("top rule").unwrap() < found.text.find("deep rule").unwrap());
        assert!(found.text.len() < BUDGET + 500);
        assert_eq!(found.warnings.len(), 1);
    }

    #[test]
    fn a_link_out_of_the_repository_is_not_read() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("key"), "secret").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(outside.path().join("key"), root.join(NAME)).unwrap();
        let found = find(&root);
        assert!(found.text.is_empty() && found.warnings.len() == 1);
    }
}
