//! Reading and writing one file whole: regular files only, never through a symlink that appeared meanwhile.
//!
//! Paths come resolved from [`super::Workspace::resolve`], so they hold no symlink. They are opened under that promise
//! (`RESOLVE_NO_SYMLINKS`, openat2(2)): a command that swaps a directory for a symlink after the path was judged makes
//! the call fail instead of leading it out.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::Path,
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, renameat, unlinkat};

/// The largest file that the tools take in, in bytes.
pub const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// What stands around a number that is never used twice, in the name of a file that is about to replace another.
const BEFORE: &str = ".openoxide-";
const AFTER: &str = ".tmp";

/// The whole content of the regular file `real`; `None` when it does not exist.
///
/// # Errors
/// A directory, a device, a pipe, or more than [`LARGEST_FILE`] bytes.
pub fn read(real: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match open(real) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    if !about.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if about.len() > LARGEST_FILE {
        return Err(io::Error::other(format!(
            "it has {} bytes, more than the {LARGEST_FILE} that tools take; use a command to look at parts of it",
            about.len()
        )));
    }
    let mut content = Vec::with_capacity(about.len() as usize);
    file.take(LARGEST_FILE).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Opens `real` for reading, whatever it is; does not wait for who writes into a pipe.
pub(super) fn open(real: &Path) -> io::Result<File> {
    Ok(File::from(open_resolved(
        real,
        OFlags::RDONLY | OFlags::NONBLOCK,
    )?))
}

/// Gives `real` this content, whole or not at all; directories that are missing are made.
///
/// An existing file keeps its mode. One with several names, or that belongs to somebody else, is written in place,
/// since replacing it would cut the other names off or change its owner. Other names may lie outside the workspace
/// (package managers link their stores): they are the same file, which whoever put it here gave to be changed. A command
/// in the sandbox cannot make such a link, since the kernel makes none across mounts.
pub fn write(real: &Path, content: &[u8]) -> io::Result<()> {
    if content.len() as u64 > LARGEST_FILE {
        return Err(io::Error::other(format!(
            "{} bytes are more than the {LARGEST_FILE} that tools take",
            content.len()
        )));
    }
    let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(io::Error::other("it is not a file name"));
    };
    let directory = open_directory(parent)?;
    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(about) if about.st_nlink > 1 || about.st_uid != rustix::process::geteuid().as_raw() => {
            write_in_place(real, content)
        }
        Ok(about) => replace(
            &directory,
            name,
            content,
            Some(Mode::from_raw_mode(about.st_mode)),
        ),
        Err(rustix::io::Errno::NOENT) => replace(&directory, name, content, None),
        Err(error) => Err(error.into()),
    }
}

/// True for the name of a file that a writer here, or of another process, is about to put in the place of another.
pub(super) fn is_on_its_way(name: &OsStr) -> bool {
    let name = name.to_str();
    let number = name.and_then(|name| name.strip_prefix(BEFORE)?.strip_suffix(AFTER));
    number.is_some_and(|number| uuid::Uuid::try_parse(number).is_ok())
}

/// Takes the file or link `real` away; what is not there already is.
pub fn remove(real: &Path) -> io::Result<()> {
    let (directory, name) = parent(real)?;
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Takes the directory `real` away if nothing is in it.
pub fn remove_empty_directory(real: &Path) -> io::Result<()> {
    let (directory, name) = parent(real)?;
    Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// Makes the link `real`, where nothing is yet.
pub fn link(real: &Path, target: &[u8]) -> io::Result<()> {
    let (directory, name) = parent(real)?;
    Ok(rustix::fs::symlinkat(
        std::ffi::OsStr::from_bytes(target),
        directory,
        name,
    )?)
}

/// Gives the regular file `real` these permissions.
pub fn set_mode(real: &Path, mode: u32) -> io::Result<()> {
    let file = File::from(open_resolved(real, OFlags::RDONLY | OFlags::NONBLOCK)?);
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

fn parent(real: &Path) -> io::Result<(OwnedFd, &std::ffi::OsStr)> {
    let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(io::Error::other("it is not a file name"));
    };
    Ok((open_directory(parent)?, name))
}

fn write_in_place(real: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::from(open_resolved(real, OFlags::WRONLY | OFlags::NONBLOCK)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    reserve(&file, content.len() as u64)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    file.sync_all()
}

/// Takes the room on the disk before the first byte is overwritten: a full disk must not cost the old content.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::{
        fs::{FallocateFlags, fallocate},
        io::Errno,
    };
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes.max(1)) {
        // Some file systems cannot tell.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn replace(
    directory: &OwnedFd,
    name: &std::ffi::OsStr,
    content: &[u8],
    mode: Option<Mode>,
) -> io::Result<()> {
    let temporary = format!("{BEFORE}{}{AFTER}", uuid::Uuid::now_v7());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // The mode of a new file is what the user's umask makes of it, as for any editor.
    let file = rustix::fs::openat(
        directory,
        temporary.as_str(),
        flags,
        Mode::from_raw_mode(0o666),
    )?;
    let written = fill(File::from(file), content, mode)
        .and_then(|()| Ok(renameat(directory, temporary.as_str(), directory, name)?));
    if written.is_err() {
        // The error that is told is the one that came first; a temporary file that stays is visible by its name.
        let _ = unlinkat(directory, temporary.as_str(), AtFlags::empty());
    }
    written?;
    Ok(rustix::fs::fsync(directory)?)
}

fn fill(mut file: File, content: &[u8], mode: Option<Mode>) -> io::Result<()> {
    if let Some(mode) = mode {
        file.set_permissions(std::fs::Permissions::from_mode(mode.as_raw_mode() & 0o7777))?;
    }
    file.write_all(content)?;
    file.sync_all()
}

/// Opens a directory by its resolved path and makes what is missing of it, one part after the other.
fn open_directory(real: &Path) -> io::Result<OwnedFd> {
    match open_resolved(real, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
                return Err(error);
            };
            let parent = open_directory(parent)?;
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(
                parent.as_fd(),
                name,
                flags,
                Mode::empty(),
            )?)
        }
        opened => opened,
    }
}

/// Opens a path that holds no symlink, or fails.
fn open_resolved(real: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    #[cfg(target_os = "linux")]
    {
        use rustix::{fs::ResolveFlags, io::Errno};
        match rustix::fs::openat2(CWD, real, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            // Kernels before 5.6 and some sandboxes do not know openat2.
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return Ok(opened?),
        }
    }
    Ok(rustix::fs::openat(CWD, real, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_write_keeps_mode_and_other_names() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let script = base.join("run.sh");
        write(&script, b"one").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o750)).unwrap();
        write(&script, b"two").unwrap();
        assert_eq!(
            script.metadata().unwrap().permissions().mode() & 0o7777,
            0o750
        );
        std::fs::hard_link(&script, base.join("other")).unwrap();
        write(&script, b"3").unwrap();
        assert_eq!(std::fs::read(base.join("other")).unwrap(), b"3");
        assert_eq!(
            std::fs::read_dir(&base).unwrap().count(),
            2,
            "no temporary file stays"
        );
    }

    #[test]
    fn missing_directories_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("a/b/c.txt");
        write(&path, b"x").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"x");
    }

    #[test]
    fn a_symlink_that_appeared_meanwhile_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        symlink(outside.path(), base.join("swapped")).unwrap();
        symlink(outside.path().join("secret"), base.join("last")).unwrap();
        assert!(read(&base.join("swapped/secret")).is_err());
        assert!(read(&base.join("last")).is_err());
        assert!(write(&base.join("swapped/new"), b"x").is_err());
        assert!(!outside.path().join("new").exists());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        assert!(read(&base).is_err());
        assert!(read(Path::new("/dev/zero")).is_err());
        let pipe = base.join("pipe");
        rustix::fs::mknodat(
            CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(read(&pipe).is_err());
        assert_eq!(read(&base.join("absent")).unwrap(), None);
    }
}
