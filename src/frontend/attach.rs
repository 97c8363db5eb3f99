//! Files that somebody puts into the context: read with the message, so that the model need not ask for them.

use std::{fmt::Write, path::Path};

use crate::{conversation::shown_line, workspace::file};

/// All files of one message together, in bytes.
const BUDGET: usize = 512 * 1024;

/// `prompt` followed by the files. `resolve` turns a name into a real path or says why it may not be read.
pub(super) fn attach(
    prompt: &str,
    files: &[String],
    resolve: impl Fn(&str) -> Result<std::path::PathBuf, String>,
) -> Result<String, String> {
    let mut message = prompt.to_owned();
    for name in files {
        let text = read(&resolve(name)?, name)?;
        // Writing into a String cannot fail.
        let _ = write!(
            message,
            "\n\n<file path=\"{}\">\n{}\n</file>",
            shown_line(name),
            text.trim_end_matches('\n')
        );
        if message.len() > BUDGET + prompt.len() {
            return Err(format!(
                "the files are more than {BUDGET} bytes together; name fewer, the agent can read the rest"
            ));
        }
    }
    Ok(message)
}

/// True for `.env` and its relatives, which nobody who only names a path gets to read.
pub(super) fn may_hold_secrets(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy().to_ascii_lowercase();
        name.starts_with(".env")
    })
}

fn read(real: &Path, name: &str) -> Result<String, String> {
    let name = shown_line(name);
    let bytes = file::read(real)
        .map_err(|error| format!("file `{name}` cannot be read: {error}"))?
        .ok_or_else(|| format!("file `{name}` does not exist"))?;
    String::from_utf8(bytes).map_err(|_| format!("file `{name}` is not UTF-8 text"))
}
