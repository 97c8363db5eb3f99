//! A place of the plan, opened once: what is done then is done to what was opened, whatever comes to stand at its name.
//!
//! The paths of a plan were resolved when it was made, so no symlink is on their way. Where one is found, somebody has put
//! it there since, and it may lead anywhere: the command is not started.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2},
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
    process::fchdir,
};

use super::Trouble;

/// How a path may lead to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Past no symlink.
    Straight,
    /// As the machine has it: for what commands cannot change.
    OfTheSystem,
}

/// What was found at a place. Never a symlink.
pub(super) struct Place {
    fd: OwnedFd,
    is_dir: bool,
}

impl Place {
    /// None where nothing is, nothing that can be reached, or a symlink.
    pub(super) fn find(path: &Path, way: Way) -> Result<Option<Self>, Trouble> {
        let fd = match open(path, way, OFlags::empty()) {
            Ok(fd) => fd,
            Err(error @ (Errno::LOOP | Errno::NOSYS | Errno::PERM)) => {
                return Err(trouble(path, error));
            }
            Err(_) => return Ok(None),
        };
        let about = fstat(&fd).map_err(|error| trouble(path, error))?;
        let kind = FileType::from_raw_mode(about.st_mode);
        let is_dir = kind.is_dir();
        Ok((!kind.is_symlink()).then_some(Self { fd, is_dir }))
    }

    pub(super) fn is_dir(&self) -> bool {
        self.is_dir
    }

    /// A copy of it, with all that is mounted below.
    pub(super) fn clone_tree(&self) -> Result<OwnedFd, Errno> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        open_tree(&self.fd, "", flags)
    }

    /// Covers it with `mount`.
    pub(super) fn cover(&self, mount: &OwnedFd) -> Result<(), Errno> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(mount, "", &self.fd, "", flags)
    }

    /// A path that leads nowhere else, for calls that take nothing but paths. As long as this is.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes the directory at `path` the current one.
pub(super) fn enter(path: &Path) -> Result<(), Trouble> {
    enter_quietly(path).map_err(|error| trouble(path, error))
}

/// The same with the bare error.
pub(super) fn enter_quietly(path: &Path) -> Result<(), Errno> {
    fchdir(open(path, Way::Straight, OFlags::DIRECTORY)?)
}

fn open(path: &Path, way: Way, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match way {
        Way::Straight => openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS),
        Way::OfTheSystem => openat(CWD, path, flags, Mode::empty()),
    }
}

fn trouble(path: &Path, error: Errno) -> Trouble {
    let what = format!("`{}`", path.display());
    match error {
        Errno::LOOP => Trouble::new(
            what,
            "a symlink stands on the way to it, where there was a directory",
        ),
        error => Trouble::new(what, io::Error::from(error)),
    }
}
