//! One file, read: its language, its definitions and the names that it refers to; or why it is left out.

use std::{io::Read, path::Path};

use ring::digest;

use super::{
    Definition, blank,
    language::{GENERIC, Language},
    lexical, words,
};

/// Bytes of a file beyond which it is data, whatever its name.
pub(super) const LARGEST: u64 = 1024 * 1024;
/// Bytes in which a zero means that it is no text.
const LOOKED_AT: usize = 8192;
/// Bytes of a line that nobody wrote by hand, and of one in the middle.
const LONGEST_LINE: usize = 20_000;
const MEAN_LINE: usize = 400;

/// Why a file has no outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skipped {
    /// Not text.
    Binary,
    /// Longer than a megabyte.
    Huge,
    /// Lines that nobody wrote by hand.
    Minified,
    /// Data, or text of no known language.
    Foreign,
    /// Not to be read.
    Unreadable,
}

impl Skipped {
    /// In a list of what was left out.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Huge => "over 1 MB",
            Self::Minified => "minified",
            Self::Foreign => "of no language with definitions",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What a text says.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) language: &'static Language,
    pub(super) definitions: Vec<Definition>,
    pub(super) names: Vec<u32>,
    pub(super) lines: u32,
}

/// The bytes of the regular file at `path`, which is opened without following a link or waiting for a pipe.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, Skipped> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = std::os::unix::fs::OpenOptionsExt::custom_flags(
        std::fs::OpenOptions::new().read(true),
        flags.bits().cast_signed(),
    )
    .open(path)
    .map_err(|_| Skipped::Unreadable)?;
    let about = file.metadata().map_err(|_| Skipped::Unreadable)?;
    if !about.is_file() {
        return Err(Skipped::Unreadable);
    }
    if about.len() > LARGEST {
        return Err(Skipped::Huge);
    }
    let mut text = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0) + 1);
    let read = file.take(LARGEST).read_to_end(&mut text);
    read.map(|_| text).map_err(|_| Skipped::Unreadable)
}

/// Whether `text` was written by somebody.
pub(super) fn judged(text: &[u8]) -> Result<(), Skipped> {
    if text[..text.len().min(LOOKED_AT)].contains(&0) {
        return Err(Skipped::Binary);
    }
    let lines = text.split(|byte| *byte == b'\n');
    let (count, longest) = lines.fold((0, 0), |(count, longest), line| {
        (count + 1, line.len().max(longest))
    });
    let dense = text.len() > LOOKED_AT && text.len() / count > MEAN_LINE;
    match longest > LONGEST_LINE || dense {
        true => Err(Skipped::Minified),
        false => Ok(()),
    }
}

/// Reads `text`, which was judged, line by line. A text of no known language only if it is asked for by name.
pub(super) fn read(path: &Path, text: &[u8], by_name: bool) -> Result<Reading, Skipped> {
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let language = match Language::of(path, first) {
        Some(language) => language,
        None if by_name => &GENERIC,
        None => return Err(Skipped::Foreign),
    };
    let code = blank::blanked(text, &language.lexis);
    Ok(Reading {
        language,
        definitions: lexical::definitions(text, &code, language),
        names: words::names(&code),
        lines: lines(text),
    })
}

pub(super) fn lines(text: &[u8]) -> u32 {
    let ends = text.iter().filter(|byte| **byte == b'\n').count();
    let last = usize::from(!text.is_empty() && !text.ends_with(b"\n"));
    u32::try_from(ends + last).unwrap_or(u32::MAX)
}

/// What names a content.
pub(super) type Digest = [u8; 16];

pub(super) fn digest_of(text: &[u8]) -> Digest {
    let mut short = Digest::default();
    short.copy_from_slice(&digest::digest(&digest::SHA256, text).as_ref()[..16]);
    short
}
