//! What `doctor` says of the machine around: git, and the directory where threads are kept.

use std::process::{Command, Stdio};

use super::Finding;
use crate::{app::App, conversation::shown_line};

pub(super) fn git() -> Finding {
    let version = Command::new("git")
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    match version {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            Finding::fine("git", shown_line(version.trim()))
        }
        _ => Finding {
            to_do: Some("install git, if the agent shall work in repositories".to_owned()),
            ..Finding::fine("git", "not found".to_owned())
        },
    }
}

/// Tries it, since permissions, quotas and read-only mounts all look different.
pub(super) fn state(app: &App) -> Finding {
    let place = app.threads_directory();
    let tried = fs_err::create_dir_all(&place).and_then(|()| {
        let file = tempfile::Builder::new()
            .prefix(".doctor-")
            .tempfile_in(&place)?;
        file.close()
    });
    match tried {
        Ok(()) => Finding::fine("threads", shown_line(&place.display().to_string())),
        Err(error) => Finding::lacking(
            "threads",
            shown_line(&format!("cannot be kept in {}: {error}", place.display())),
            "make it writable or set OPENOXIDE_HOME; until then every thread ends with its process, as with `--ephemeral`",
        ),
    }
}
