//! Unix sockets outside do not answer: what is only to be read is seen through overlays.
//!
//! To connect is no write, so a read-only mount does not stop it, and Landlock knows it only from ABI 9 on. But a socket
//! is found by its inode, and an overlay has inodes of its own: a path that leads through one reaches nobody, whenever
//! and by whatever name the socket was bound. The same goes for named pipes.
//!
//! The kernel makes no overlay of a directory that something is mounted below, since that could show what the mount
//! covers. Such a directory stays as it is, and each directory in it gets an overlay of its own.

use std::{
    ffi::CStr,
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    mount::{MountFlags, mount, mount_bind},
};

use super::{Trouble, mounts::Mount, place::enter_quietly};

/// The lower of the two layers that an overlay must have: there is nothing in it.
pub(super) const EMPTY: &str = "/dev/.empty";
const OPTIONS: &CStr = c"lowerdir=.:/dev/.empty,redirect_dir=nofollow,xino=off";
/// Replaced by others that hold no socket of the machine.
const REPLACED: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];
/// Where by the Filesystem Hierarchy Standard nobody listens; compilers read thousands of files there.
const STATIC: [&str; 4] = ["/boot", "/etc", "/lost+found", "/usr"];
/// File systems that know no sockets; some of them cannot be in an overlay.
const WITHOUT_SOCKETS: [&str; 26] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "efivarfs",
    "exfat",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "msdos",
    "ntfs3",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
    "udf",
    "vfat",
];
/// More than any machine needs; each takes some 100 µs, most of them when it goes.
const MOST: usize = 256;

/// Puts overlays over what can be reached of `mounts`. With `everywhere` a place that does not get one is an error,
/// without it stays as it is.
pub(super) fn seal(mounts: &[Mount], everywhere: bool) -> Result<(), Trouble> {
    for mount in mounts.iter().filter(|mount| mount.reachable) {
        let sockets = !WITHOUT_SOCKETS.contains(&mount.kind.as_str());
        let left_out = is_in(&mount.place, &REPLACED) || is_in(&mount.place, &STATIC);
        if sockets && !left_out && mount.place.is_dir() {
            seal_place(&mount.place, mounts, everywhere)?;
        }
    }
    Ok(())
}

/// The same for one place, wherever it is.
pub(super) fn seal_place(place: &Path, mounts: &[Mount], everywhere: bool) -> Result<(), Trouble> {
    let mut around = mounts
        .iter()
        .filter(|mount| place.starts_with(&mount.place));
    let flags = around
        .next_back()
        .map_or(MountFlags::empty(), |mount| mount.flags);
    let mut seal = Seal {
        points: mounts.iter().map(|mount| mount.place.as_path()).collect(),
        flags,
        everywhere,
        left: MOST,
    };
    seal.cover(place)
}

/// True where no socket outside can be reached, if overlays are everywhere.
pub(super) fn is_sealed(place: &Path) -> bool {
    !is_in(place, &STATIC)
}

/// True where something else is put over the machine's own.
pub(super) fn is_replaced(place: &Path) -> bool {
    is_in(place, &REPLACED)
}

fn is_in(place: &Path, list: &[&str]) -> bool {
    list.iter().any(|known| place.starts_with(known))
}

struct Seal<'a> {
    /// Where something is mounted.
    points: Vec<&'a Path>,
    /// What the mount does not allow, its overlays do not allow either.
    flags: MountFlags,
    everywhere: bool,
    left: usize,
}

impl Seal<'_> {
    fn cover(&mut self, directory: &Path) -> Result<(), Trouble> {
        let mut points = self.points.iter();
        if points.any(|point| *point != directory && point.starts_with(directory)) {
            return self.cover_each(directory);
        }
        let made = match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                overlay(directory, self.flags)
            }
            None => Err(Errno::NOSPC),
        };
        match made {
            // Out of this user's reach, and so of the command's.
            Err(Errno::ACCESS | Errno::NOENT) => Ok(()),
            Err(error) if self.everywhere => {
                let what = format!("an overlay of `{}`", directory.display());
                Err(Trouble::new(what, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn cover_each(&mut self, directory: &Path) -> Result<(), Trouble> {
        let directories: Vec<PathBuf> = match std::fs::read_dir(directory) {
            Ok(entries) => entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect(),
            // It cannot be listed, but what somebody knows the name of could be reached.
            Err(error) if self.everywhere && directory.join(".").exists() => {
                let what = format!("an overlay of what is in `{}`", directory.display());
                return Err(Trouble::new(what, error));
            }
            Err(_) => Vec::new(),
        };
        for inside in directories {
            let own = self.points.contains(&inside.as_path());
            if !own && !is_replaced(&inside) && is_sealed(&inside) {
                self.cover(&inside)?;
            }
        }
        Ok(())
    }
}

/// Covers `directory` with what is in it, seen through an overlay that nothing can be written to. It becomes the
/// current directory, which is then covered itself: a path among the options would need to be escaped, can be too long,
/// and may lead elsewhere the second time.
fn overlay(directory: &Path, flags: MountFlags) -> Result<(), Errno> {
    enter_quietly(directory)?;
    if std::fs::read_dir(".").is_ok_and(|mut entries| entries.next().is_none()) {
        // The same to see, and nothing to be taken down.
        return mount_bind(EMPTY, ".");
    }
    let flags = flags | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount("overlay", ".", "overlay", flags, OPTIONS)
}
