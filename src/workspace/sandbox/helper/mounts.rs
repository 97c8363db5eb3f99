//! The file system as a command sees it: made of the machine's own in a mount namespace of its own.
//!
//! Everything is made read-only in place; what may be written is copied before and put back over it. What is taken
//! out is covered last. What the plan names is opened past no symlink, and what is opened is what is copied and covered
//! (`place`).

use std::{
    collections::HashMap,
    ffi::OsString,
    fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, StatxFlags, statx},
    mount::{MountFlags, MountPropagationFlags, mount, mount_change, mount_remount},
};

use super::{
    Trouble, overlay,
    place::{Place, Way},
    root,
};
use crate::workspace::sandbox::plan::Plan;

/// Devices that every program expects; no others are there.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Of `/run`, what programs need and nobody listens at.
const KEPT_OF_RUN: [&str; 6] = [
    "/run/current-system",
    "/run/booted-system",
    "/run/opengl-driver",
    "/run/systemd/resolve/resolv.conf",
    "/run/systemd/resolve/stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
];
/// An empty file to cover others with. A program that finds its configuration empty goes on, one that may not read it
/// often does not.
const CLOSED: &str = "/dev/.closed";
/// Of what was there a moment ago.
const AWAY: &str = "it was taken away meanwhile";

/// A part of the tree, copied, to be put somewhere.
pub(super) struct Copy {
    pub(super) place: PathBuf,
    way: Way,
    mount: OwnedFd,
    is_dir: bool,
}

/// Makes the file system that `plan` describes. `sockets` are those that listen outside.
pub(super) fn build(plan: &Plan, sockets: &[PathBuf]) -> Result<(), Trouble> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(|error| Trouble::new("making mounts private", error))?;
    let devices = DEVICES.iter().map(|name| Path::new("/dev").join(name));
    let devices = copies(devices, Way::OfTheSystem)?;
    let mut writable: Vec<&PathBuf> = plan.writable.iter().chain(&plan.pinned).collect();
    writable.sort_by_key(|place| place.components().count());
    let writable = copies(writable.into_iter().cloned(), Way::Straight)?;
    let scratch = match &plan.scratch {
        Some(places) => copies(places.iter().cloned(), Way::OfTheSystem)?,
        None => Vec::new(),
    };

    if let Some(seen) = &plan.seen {
        let theirs = plan.readable.iter().chain(&plan.writable);
        root::narrow(seen.iter(), theirs)?;
    }

    let table = make_read_only()?;
    let kept = copies(KEPT_OF_RUN.iter().map(PathBuf::from), Way::OfTheSystem)?;
    let covered = |place: &&PathBuf| overlay::is_replaced(place);
    let readable = plan.readable.iter().filter(covered).cloned();
    let readable = copies(readable, Way::Straight)?;
    let read_only = copies(plan.read_only.iter().cloned(), Way::Straight)?;

    if plan.layers.own_proc {
        let flags =
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
        at("/proc", mount("proc", "/proc", "proc", flags, None))?;
    }
    let mut scratch = scratch.into_iter();
    make_dev(devices, scratch.next_back())?;
    if let Some(tmp) = scratch.next() {
        cover(Path::new("/tmp"), &tmp)?;
    }
    make_run(kept)?;
    overlay::seal(&table, plan.layers.sealed)?;
    for copy in &readable {
        put(copy)?;
        overlay::seal_place(&copy.place, &table, plan.layers.sealed)?;
    }
    for copy in writable.iter().chain(&read_only) {
        put(copy)?;
    }
    for place in &plan.hidden {
        hide(place)?;
    }
    for socket in listening(plan, sockets) {
        hide(&socket)?;
    }
    Ok(())
}

/// Of what listens outside, what no overlay holds, by its real path. A relative name is looked for in what was found in
/// writable places.
fn listening(plan: &Plan, sockets: &[PathBuf]) -> Vec<PathBuf> {
    let open = |socket: &PathBuf| {
        let mut writable = plan.writable.iter();
        !plan.layers.sealed
            || !overlay::is_sealed(socket)
            || writable.any(|place| socket.starts_with(place))
    };
    let (absolute, relative): (Vec<_>, Vec<_>) =
        sockets.iter().partition(|path| path.is_absolute());
    let listens = |found: &&PathBuf| {
        let mut names = relative.iter().map(|path| path.file_name());
        names.any(|name| name == found.file_name())
    };
    let found = plan.sockets.iter().filter(listens);
    // It is bound by any name, and its directory may have been moved since.
    let real = |socket: &PathBuf| socket.canonicalize().ok();
    let absolute = absolute.into_iter().filter_map(real).filter(open);
    let mut all: Vec<PathBuf> = absolute.chain(found.filter_map(real)).collect();
    all.sort();
    all.dedup();
    all.retain(|socket| is_socket(socket));
    all
}

/// Copies of those that are there.
fn copies(places: impl Iterator<Item = PathBuf>, way: Way) -> Result<Vec<Copy>, Trouble> {
    let mut copies = Vec::new();
    for place in places {
        copies.extend(copy(&place, way)?);
    }
    Ok(copies)
}

pub(super) fn copy(place: &Path, way: Way) -> Result<Option<Copy>, Trouble> {
    let Some(found) = Place::find(place, way)? else {
        return Ok(None);
    };
    Ok(Some(Copy {
        place: place.to_owned(),
        way,
        mount: at(place, found.clone_tree())?,
        is_dir: found.is_dir(),
    }))
}

/// Puts a copy where it came from, also where something covers that place now.
fn put(copy: &Copy) -> Result<(), Trouble> {
    put_at(&copy.place, copy)
}

/// The same with another place.
pub(super) fn put_at(place: &Path, copy: &Copy) -> Result<(), Trouble> {
    if place.symlink_metadata().is_err() {
        let made = if copy.is_dir {
            fs::create_dir_all(place)
        } else {
            let parent = place.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(parent).and_then(|()| fs::File::create(place).map(drop))
        };
        at(place, made)?;
    }
    cover(place, copy)
}

fn cover(place: &Path, copy: &Copy) -> Result<(), Trouble> {
    match Place::find(place, copy.way)? {
        Some(found) => at(place, found.cover(&copy.mount)),
        None => Err(Trouble::new(format!("`{}`", place.display()), AWAY)),
    }
}

/// Makes every mount that can be reached read-only and without devices, and tells of all that there are.
fn make_read_only() -> Result<Vec<Mount>, Trouble> {
    let table = at(
        "/proc/self/mountinfo",
        fs::read_to_string("/proc/self/mountinfo"),
    )?;
    let mut mounts: Vec<Mount> = table.lines().filter_map(Mount::parse).collect();
    for mount in &mut mounts {
        // What another covers may be behind a symlink now.
        let found = Place::find(&mount.place, Way::Straight).ok().flatten();
        let Some(found) = found.filter(|found| is_of(found, mount.id)) else {
            continue;
        };
        mount.reachable = true;
        let flags = mount.flags
            | MountFlags::BIND
            | MountFlags::RDONLY
            | MountFlags::NODEV
            | MountFlags::NOSUID;
        at(&mount.place, mount_remount(found.path(), flags, ""))?;
    }
    Ok(mounts)
}

fn is_of(place: &Place, mount: u64) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    statx(place, "", flags, StatxFlags::MNT_ID).is_ok_and(|found| found.stx_mnt_id == mount)
}

/// A line of the mount table: proc_pid_mountinfo(5).
pub(super) struct Mount {
    id: u64,
    pub(super) place: PathBuf,
    pub(super) flags: MountFlags,
    /// The type of its file system.
    pub(super) kind: String,
    /// Neither covered by another nor out of this user's reach: else it is out of the command's too.
    pub(super) reachable: bool,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let id = fields.next()?.parse().ok()?;
        let place = unescaped(fields.nth(3)?);
        let known = HashMap::from([
            ("nosuid", MountFlags::NOSUID),
            ("nodev", MountFlags::NODEV),
            ("noexec", MountFlags::NOEXEC),
            ("noatime", MountFlags::NOATIME),
            ("nodiratime", MountFlags::NODIRATIME),
            ("relatime", MountFlags::RELATIME),
        ]);
        let options = fields.next()?.split(',');
        let flags = options
            .filter_map(|option| known.get(option).copied())
            .collect();
        let (_, behind) = line.split_once(" - ")?;
        let kind = behind.split(' ').next()?.to_owned();
        Some(Self {
            id,
            place,
            flags,
            kind,
            reachable: false,
        })
    }
}

/// Blanks and backslashes stand as `\ooo` in the table.
fn unescaped(field: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes).into()
}

/// A `/dev` with nothing in it that leads to the machine.
fn make_dev(devices: Vec<Copy>, shm: Option<Copy>) -> Result<(), Trouble> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    at("/dev", mount("tmpfs", "/dev", "tmpfs", flags, c"mode=755"))?;
    for device in &devices {
        put(device)?;
    }
    at(CLOSED, closed_file())?;
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ] {
        at(link, std::os::unix::fs::symlink(target, link))?;
    }
    for directory in ["/dev/pts", "/dev/shm", overlay::EMPTY] {
        at(directory, fs::create_dir(directory))?;
    }
    let options = c"newinstance,ptmxmode=0666,mode=620";
    at(
        "/dev/pts",
        mount("devpts", "/dev/pts", "devpts", flags, options),
    )?;
    let flags = flags | MountFlags::BIND | MountFlags::RDONLY;
    at("/dev", mount_remount("/dev", flags, ""))?;
    match shm {
        Some(shm) => cover(Path::new("/dev/shm"), &shm),
        None => Ok(()),
    }
}

fn closed_file() -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(CLOSED)
        .map(drop)
}

/// An empty `/run`, where services listen, with the few things in it that programs need.
fn make_run(kept: Vec<Copy>) -> Result<(), Trouble> {
    if !Path::new("/run").is_dir() {
        return Ok(());
    }
    let links: Vec<_> = KEPT_OF_RUN
        .iter()
        .filter_map(|link| Some((link, fs::read_link(link).ok()?)))
        .collect();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    at("/run", mount("tmpfs", "/run", "tmpfs", flags, c"mode=755"))?;
    for copy in &kept {
        put(copy)?;
    }
    for (link, target) in links {
        at(link, std::os::unix::fs::symlink(target, link))?;
    }
    let flags = flags | MountFlags::BIND | MountFlags::RDONLY;
    at("/run", mount_remount("/run", flags, ""))
}

/// Covers a place: a directory with one that nobody can open, anything else with an empty file.
fn hide(place: &Path) -> Result<(), Trouble> {
    let Some(found) = Place::find(place, Way::Straight)? else {
        return Ok(());
    };
    if found.is_dir() {
        let flags =
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
        let options = c"mode=000,nr_inodes=2,size=4k";
        return at(place, mount("tmpfs", found.path(), "tmpfs", flags, options));
    }
    match copy(Path::new(CLOSED), Way::OfTheSystem)? {
        Some(closed) => at(place, found.cover(&closed.mount)),
        None => Err(Trouble::new(CLOSED, "it is not there")),
    }
}

fn is_socket(place: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    place
        .symlink_metadata()
        .is_ok_and(|about| about.file_type().is_socket())
}

/// An error with its place.
pub(super) fn at<T, E: Into<io::Error>>(
    place: impl AsRef<Path>,
    result: Result<T, E>,
) -> Result<T, Trouble> {
    result.map_err(|error| {
        Trouble::new(
            format!("`{}`", place.as_ref().display()),
            Into::<io::Error>::into(error),
        )
    })
}

/// Where this network namespace knows Unix sockets: paths that begin with a slash, and others as they were bound,
/// proc_net_unix(5).
pub(super) fn sockets() -> Vec<PathBuf> {
    let table = fs::read("/proc/net/unix").unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    let mut paths: Vec<_> = table.lines().skip(1).filter_map(bound_at).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The eighth field, which may hold blanks; abstract names begin with `@`.
fn bound_at(line: &str) -> Option<PathBuf> {
    let mut rest = line;
    for _ in 0..7 {
        rest = rest.trim_start().split_once(' ')?.1;
    }
    (!rest.is_empty() && !rest.starts_with('@')).then(|| rest.into())
}
