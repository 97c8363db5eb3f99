//! Reading what a directory brings along and programs go by: rules, configuration, what git keeps.
//!
//! Whoever made the directory chose what stands under these names: a pipe that nobody writes into, a link to a device
//! without an end, a file of any size. Only regular files are read, to a bound, and nothing is waited for.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    path::Path,
};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};

/// Bytes of rules or of a configuration; people write a few thousand.
pub const LARGEST_RULES: u64 = 1 << 20;

/// What becomes of a symlink at the last part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It leads to what is read.
    Followed,
    /// It is not read: as git does it with `.gitignore` and `.gitattributes`.
    Refused,
}

/// Opens the regular file `path`, seen from `at`.
pub fn open(at: impl AsFd, path: &Path, links: Links) -> io::Result<File> {
    let (look, more) = match links {
        Links::Followed => (AtFlags::empty(), OFlags::empty()),
        Links::Refused => (AtFlags::SYMLINK_NOFOLLOW, OFlags::NOFOLLOW),
    };
    // Before too, since some devices act on being opened.
    let about = statat(&at, path, look)?;
    if !FileType::from_raw_mode(about.st_mode).is_file() {
        return Err(not_regular());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | more;
    let file = File::from(openat(at, path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(not_regular()),
    }
}

/// All of the regular file `path`, seen from `at`, if it has at most `most` bytes.
pub fn read(at: impl AsFd, path: &Path, links: Links, most: u64) -> io::Result<Vec<u8>> {
    let file = open(at, path, links)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(io::Error::other(format!(
            "it has {length} bytes, more than {most}"
        )));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of the regular file `path`, if it has at most `most` bytes; links lead to it.
pub fn text(path: &Path, most: u64) -> io::Result<String> {
    let bytes = read(CWD, path, Links::Followed, most)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read_to_a_bound_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("rules"), "*.log").unwrap();
        std::os::unix::fs::symlink("rules", at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("endless")).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, mode, 0).unwrap();
        for (name, followed, refused) in [
            ("rules", true, true),
            ("link", true, false),
            ("endless", false, false),
            ("pipe", false, false),
            (".", false, false),
            ("nothing", false, false),
        ] {
            let can = |links, most| read(CWD, &at(name), links, most).is_ok();
            assert_eq!(can(Links::Followed, 5), followed, "{name}");
            assert_eq!(can(Links::Refused, 5), refused, "{name}");
            assert!(!can(Links::Followed, 4), "{name}");
        }
        assert_eq!(text(&at("link"), LARGEST_RULES).unwrap(), "*.log");
    }
}
