//! Landlock: the second lock on the file system, and where there are no namespaces the only one.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::{
    Trouble,
    place::{Place, Way},
};
use crate::workspace::sandbox::plan::Plan;

/// The newest that we know; the kernel takes of it what it knows.
const NEWEST: ABI = ABI::V9;

/// Written by any program, and harmless.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];

/// Without mounts nothing takes their place: in the first are disks, which root reads without any capability, in the
/// second the files of others.
const REPLACED: [&str; 2] = ["/dev", "/tmp"];

/// Confines this process and all that it will start.
pub(super) fn apply(plan: &Plan) -> Result<(), Trouble> {
    let status = restrict(plan)?;
    if status == RulesetStatus::NotEnforced {
        return Err(Trouble::new("Landlock", "this kernel does not have it"));
    }
    Ok(())
}

fn restrict(plan: &Plan) -> Result<RulesetStatus, Trouble> {
    let all = AccessFs::from_all(NEWEST);
    let read = AccessFs::from_read(NEWEST);
    let mut ruleset = begin(all).map_err(fail)?;
    let root = Path::new("/");
    if plan.layers.namespaces {
        ruleset = allow(ruleset, root, Way::OfTheSystem, read)?;
    } else {
        // What is hidden or replaced by mounts elsewhere is left out here.
        let replaced = REPLACED.map(PathBuf::from);
        let closed = [plan.hidden.as_slice(), &replaced].concat();
        ruleset = allow(ruleset, root, Way::OfTheSystem, AccessFs::ReadDir.into())?;
        for place in beside(root, &closed).iter().chain(&plan.readable) {
            ruleset = allow(ruleset, place, Way::Straight, read)?;
        }
    }
    for device in DEVICES {
        let access = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        let access = access | AccessFs::ReadDir;
        ruleset = allow(ruleset, Path::new(device), Way::OfTheSystem, access)?;
    }
    let private = match &plan.scratch {
        Some(_) if plan.layers.namespaces => ["/tmp".into(), "/dev/shm".into()].to_vec(),
        Some(scratch) => scratch.to_vec(),
        None => Vec::new(),
    };
    for place in &private {
        ruleset = allow(ruleset, place, Way::OfTheSystem, all)?;
    }
    for place in &plan.writable {
        ruleset = allow(ruleset, place, Way::Straight, all)?;
    }
    Ok(ruleset.restrict_self().map_err(fail)?.ruleset)
}

fn begin(all: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::Signal)?
        // With a network of its own the namespace separates abstract sockets too; without one, this does.
        .scope(Scope::AbstractUnixSocket)?
        .create()
}

fn fail(error: RulesetError) -> Trouble {
    Trouble::new("Landlock", error)
}

/// What is not there needs no rule.
fn allow(
    ruleset: RulesetCreated,
    place: &Path,
    way: Way,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, Trouble> {
    let Some(found) = Place::find(place, way)? else {
        return Ok(ruleset);
    };
    let access = match found.is_dir() {
        true => access,
        false => access & AccessFs::from_file(NEWEST),
    };
    ruleset
        .add_rule(PathBeneath::new(found, access))
        .map_err(fail)
}

/// Everything below `top` but the `hidden`, in as few places as that takes: rules can only allow.
fn beside(top: &Path, hidden: &[PathBuf]) -> Vec<PathBuf> {
    if hidden.iter().any(|place| top.starts_with(place)) {
        return Vec::new();
    }
    if !hidden.iter().any(|place| place.starts_with(top)) {
        return vec![top.to_owned()];
    }
    let entries = std::fs::read_dir(top).into_iter().flatten().flatten();
    entries
        .filter(|entry| !entry.file_type().is_ok_and(|kind| kind.is_symlink()))
        .flat_map(|entry| beside(&entry.path(), hidden))
        .collect()
}
