//! Files and directories as resources: inside the directories that are served, after symlinks are resolved, and never
//! what may hold secrets.

use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use rmcp::model::ResourceContents;
use serde_json::{Value, json};

use super::uri;
use crate::{
    conversation::{SandboxPolicy, shown_line},
    workspace::{Boundaries, Workspace, file, may_hold_secrets},
};

/// Bytes of a file; what is longer is for the agent's own tools, which read parts.
const LARGEST: u64 = 1024 * 1024;
/// Entries of a directory.
const ENTRIES: usize = 1000;

/// The directories that are served to this caller.
pub(super) struct Places {
    workspace: Workspace,
}

impl Places {
    /// `roots` that exist are served, but for what is `closed`; `None` when there is none.
    pub(super) fn new(roots: &[PathBuf], closed: &[PathBuf]) -> Option<Self> {
        let mut roots = roots.iter().filter(|root| root.is_dir());
        let first = roots.next()?;
        let bounds = Boundaries {
            writable_roots: roots.cloned().collect(),
            closed: closed.to_vec(),
            ..Boundaries::default()
        };
        let workspace = Workspace::open(first, SandboxPolicy::ReadOnly, bounds).ok()?;
        Some(Self { workspace })
    }

    /// The content of a regular file, as text where it is.
    ///
    /// # Errors
    /// One line that says why; the same whether it is not there or not to be seen.
    pub(super) fn file(&self, path: &Path, uri: &str) -> Result<ResourceContents, String> {
        let real = self.find(path)?;
        let about = std::fs::metadata(&real)
            .ok()
            .filter(|about| about.is_file());
        let about = about.ok_or_else(hidden)?;
        if about.len() > LARGEST {
            return Err(format!(
                "it has {} bytes, more than the {LARGEST} that are served; ask `openoxide-query` about it",
                about.len()
            ));
        }
        let bytes = file::read(&real).ok().flatten().ok_or_else(hidden)?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => ResourceContents::text(text, uri),
            Err(error) => ResourceContents::blob(BASE64_STANDARD.encode(error.as_bytes()), uri)
                .with_mime_type(kind_of_bytes(&real)),
        })
    }

    /// The entries of a directory, sorted by name: what they are, how long, and their addresses.
    ///
    /// # Errors
    /// As for a file.
    pub(super) fn directory(&self, path: &Path, uri: &str) -> Result<ResourceContents, String> {
        let real = self.find(path)?;
        let entries = std::fs::read_dir(&real).map_err(|_| hidden())?;
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        paths.retain(|path| !self.workspace.is_closed(path) && !may_hold_secrets(path));
        paths.sort();
        let omitted = paths.len().saturating_sub(ENTRIES);
        paths.truncate(ENTRIES);
        let mut list = json!({
            "path": shown_line(&real.to_string_lossy()),
            "entries": paths.iter().filter_map(|path| entry(path)).collect::<Vec<_>>(),
        });
        if omitted > 0 {
            list["omitted"] = omitted.into();
        }
        Ok(ResourceContents::text(format!("{list:#}"), uri).with_mime_type("application/json"))
    }

    /// Paths that begin with `typed`, which is relative to `cwd` or absolute; directories end with `/`. Hidden ones only
    /// if that is typed.
    pub(super) fn begun_with(&self, cwd: &Path, typed: &str, folders_only: bool) -> Vec<String> {
        let (folder, begin) = typed
            .rsplit_once('/')
            .map_or(("", typed), |(folder, begin)| (folder, begin));
        let prefix = &typed[..typed.len() - begin.len()];
        let place = if prefix == "/" {
            Path::new("/").to_owned()
        } else {
            cwd.join(folder)
        };
        let entries = self
            .find(&place)
            .ok()
            .and_then(|real| std::fs::read_dir(real).ok());
        let mut found: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let fits =
                    name.starts_with(begin) && (begin.starts_with('.') || !name.starts_with('.'));
                // What is not to be seen is not there; a name that cannot be shown as it is cannot be typed.
                let real = self
                    .find(&entry.path())
                    .ok()
                    .filter(|_| fits && shown_line(&name) == name)?;
                match (real.is_dir(), folders_only) {
                    (true, _) => Some(format!("{prefix}{name}/")),
                    (false, false) => Some(format!("{prefix}{name}")),
                    (false, true) => None,
                }
            })
            .collect();
        found.sort();
        found
    }

    /// The real path, if it is inside and nothing on the way may hold secrets.
    pub(super) fn find(&self, path: &Path) -> Result<PathBuf, String> {
        let named = path.to_str().ok_or_else(hidden)?;
        let real = self.workspace.resolve(named).map_err(|_| hidden())?;
        let roots = self.workspace.writable_roots();
        let inside = roots.iter().find_map(|root| real.strip_prefix(root).ok());
        let secret = inside.is_none_or(|inside| inside.ancestors().any(may_hold_secrets));
        if secret { Err(hidden()) } else { Ok(real) }
    }
}

/// Whoever looks for what they may not see learns nothing from the words.
fn hidden() -> String {
    "only regular files and directories inside the server's directories are served, never credentials or `.env*`"
        .to_owned()
}

/// A symlink is shown as one: where it leads is judged when it is read.
fn entry(path: &Path) -> Option<Value> {
    let about = path.symlink_metadata().ok()?;
    let name = path.file_name()?.to_string_lossy();
    let (kind, scheme) = match about.file_type() {
        kind if kind.is_dir() => ("directory", "directory"),
        kind if kind.is_file() => ("file", "file"),
        kind if kind.is_symlink() => ("symlink", "file"),
        _ => ("other", "file"),
    };
    let mut entry = json!({"name": shown_line(&name), "kind": kind});
    if kind == "file" {
        entry["size"] = about.len().into();
    }
    // A name that is not UTF-8 has no address.
    if let Some(path) = path.to_str() {
        entry["uri"] = uri::place(scheme, path).into();
    }
    Some(entry)
}

fn kind_of_bytes(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension.unwrap_or_default().to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}
