//! What of the machine goes into a command's file system besides its plan.
//!
//! A plan names places; the helper takes what stands there at that moment. What stands there later may be another, as
//! after `git config`, which puts a new file in the place of the old one: a helper from before would not guard it.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::plan::Plan;

/// As long as this is the same, so is what a helper makes of a plan.
#[derive(Debug, PartialEq, Eq)]
pub struct Circumstances {
    places: Vec<Option<Identity>>,
    /// The mount table. Empty if there is none.
    mounts: String,
    /// Those that somebody listens at.
    sockets: Vec<PathBuf>,
}

/// Of a file or directory. Numbers are used again; with the time of birth, where it is known, they are not.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    born: Option<SystemTime>,
}

impl Circumstances {
    /// Those of now. Without a plan there are none to mind.
    pub(super) fn of(plan: Option<&Plan>) -> Self {
        let places = plan.into_iter().flat_map(Plan::places);
        let places = places.map(|place| Identity::of(place)).collect();
        let built = plan.is_some_and(|plan| plan.layers.namespaces);
        let (mounts, sockets) = match built {
            true => (
                std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
                super::listening(),
            ),
            false => Default::default(),
        };
        Self {
            places,
            mounts,
            sockets,
        }
    }
}

impl Identity {
    fn of(place: &Path) -> Option<Self> {
        let about = place.symlink_metadata().ok()?;
        Some(Self {
            device: about.dev(),
            inode: about.ino(),
            born: about.created().ok(),
        })
    }
}
