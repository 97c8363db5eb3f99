//! Files that somebody puts into the context: read with the message, so that the model need not ask for them. Pictures
//! are shown, everything else must be text.

use std::{fmt::Write, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    conversation::{Picture, Prompt, shown_line},
    workspace::file,
};

/// All files of one message together, in bytes.
const BUDGET: usize = 512 * 1024;

/// One picture, in bytes; providers take 5 MB at the least.
const PICTURE_LIMIT: usize = 4 << 20;

/// Pictures in one message.
const PICTURES: usize = 8;

/// What pictures begin with.
const KINDS: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
];

/// `prompt` followed by the files. `resolve` turns a name into a real path or says why it may not be read.
pub(super) fn attach(
    prompt: &str,
    files: &[String],
    resolve: impl Fn(&str) -> Result<std::path::PathBuf, String>,
) -> Result<Prompt, String> {
    let mut message = prompt.to_owned();
    let mut pictures = Vec::new();
    for name in files {
        let bytes = read(&resolve(name)?, name)?;
        if let Some(kind) = kind_of_picture(&bytes) {
            pictures.push(picture(name, kind, &bytes)?);
            continue;
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            format!(
                "file `{}` is neither UTF-8 text nor a picture that models take",
                shown_line(name)
            )
        })?;
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
    if pictures.len() > PICTURES {
        return Err(format!("one message takes {PICTURES} pictures"));
    }
    Ok(Prompt {
        text: message,
        pictures,
    })
}

fn kind_of_picture(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some("image/webp");
    }
    let known = KINDS.iter().find(|(start, _)| bytes.starts_with(start));
    known.map(|(_, kind)| *kind)
}

fn picture(name: &str, media_type: &str, bytes: &[u8]) -> Result<Picture, String> {
    if bytes.len() > PICTURE_LIMIT {
        return Err(format!(
            "picture `{}` has {} bytes and may have {PICTURE_LIMIT}; make it smaller",
            shown_line(name),
            bytes.len()
        ));
    }
    Ok(Picture {
        name: shown_line(name),
        media_type: media_type.to_owned(),
        data: BASE64_STANDARD.encode(bytes),
    })
}

fn read(real: &Path, name: &str) -> Result<Vec<u8>, String> {
    let name = shown_line(name);
    file::read(real)
        .map_err(|error| format!("file `{name}` cannot be read: {error}"))?
        .ok_or_else(|| format!("file `{name}` does not exist"))
}
