//! A root with nothing in it but what a command may see: for one of several who must not see each other.
//!
//! To take out what is not to be seen would need a list of it, and forgets what comes later; here, what nobody named is
//! not there. The machine's own root is let go of before anything else is made, so nothing leads back to it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{chdir, pivot_root},
};

use super::{
    Trouble,
    mounts::{at, copy, put_at},
    place::Way,
};

/// Where the new root is made. It is there on every machine, and what is below it is of no use to a command.
const STAGE: &str = "/tmp";
/// Others are put over these later.
const MADE_LATER: [&str; 2] = ["dev", "tmp"];

/// Makes a root that holds what is there of the system and of `theirs`, with everything below, and enters it. Links of
/// the system stay links.
pub(super) fn narrow<'a>(
    system: impl Iterator<Item = &'a PathBuf>,
    theirs: impl Iterator<Item = &'a PathBuf>,
) -> Result<(), Trouble> {
    let system = system.map(|place| (place, Way::OfTheSystem));
    let theirs = theirs.map(|place| (place, Way::Straight));
    let mut places: Vec<_> = system.chain(theirs).collect();
    places.sort_by_key(|(place, _)| *place);
    // What is in another one comes with it.
    places.dedup_by(|(inner, _), (outer, _)| inner.starts_with(outer));
    let mut copies = Vec::new();
    let mut links = Vec::new();
    for (place, way) in places {
        match fs::read_link(place)
            .ok()
            .filter(|_| way == Way::OfTheSystem)
        {
            Some(target) => links.push((place, target)),
            None => copies.extend(copy(place, way)?),
        }
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    at(STAGE, mount("tmpfs", STAGE, "tmpfs", flags, c"mode=755"))?;
    at(STAGE, chdir(STAGE))?;
    for copy in &copies {
        put_at(below(&copy.place), copy)?;
    }
    for (link, target) in links {
        let made = below(link);
        let parent = made.parent().map_or(Ok(()), fs::create_dir_all);
        at(
            link,
            parent.and_then(|()| std::os::unix::fs::symlink(target, made)),
        )?;
    }
    for made in MADE_LATER {
        at(made, fs::create_dir_all(made))?;
    }
    enter()
}

/// In the directory that becomes the root, which is the current one.
fn below(place: &Path) -> &Path {
    place.strip_prefix("/").unwrap_or(place)
}

/// The current directory becomes the root, and what was the root is gone: pivot_root(2) says why this is so short.
fn enter() -> Result<(), Trouble> {
    let fail = |error| Trouble::new("a root of its own", error);
    pivot_root(".", ".").map_err(fail)?;
    unmount(".", UnmountFlags::DETACH).map_err(fail)?;
    chdir("/").map_err(fail)
}
