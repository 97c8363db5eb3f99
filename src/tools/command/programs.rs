//! Which file a program's name means, and whether that file can be somebody else's work.

use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::Place;

/// Where systems and package managers put programs.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/run/current-system",
    "/home/linuxbrew/.linuxbrew",
    "/System",
    "/Library",
];

/// Where everybody may write.
const TEMPORARY: &[&str] = &[
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/private/tmp",
    "/private/var/tmp",
    "/private/var/folders",
];

/// Variables that make programs other than they are. None of them passes to commands by itself; an owner can set them.
const CHANGING: &[&str] = &[
    "BASH_ENV",
    "ENV",
    "CDPATH",
    "LD_PRELOAD",
    "LD_AUDIT",
    "DYLD_INSERT_LIBRARIES",
    "RIPGREP_CONFIG_PATH",
    "GREP_OPTIONS",
    "SHELLOPTS",
    "BASHOPTS",
];

/// How commands find their programs.
#[derive(Clone, Debug)]
pub struct Programs {
    path: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
    /// None of [`CHANGING`] is set.
    usual: bool,
    trusted: Vec<PathBuf>,
}

impl Programs {
    /// As commands with this environment find them.
    pub fn of(environment: &[(OsString, OsString)]) -> Self {
        let directories = |wanted: &[&str]| -> Vec<PathBuf> {
            let named = environment
                .iter()
                .filter(|(name, _)| wanted.iter().any(|wanted| name == wanted));
            named
                .flat_map(|(_, value)| std::env::split_paths(value))
                .collect()
        };
        Self {
            path: directories(&["PATH"]),
            libraries: directories(&["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"]),
            usual: !environment
                .iter()
                .any(|(name, _)| CHANGING.iter().any(|changing| name == changing)),
            trusted: SYSTEM.iter().map(PathBuf::from).collect(),
        }
    }

    /// One directory more counts as the system's.
    #[cfg(test)]
    pub(super) fn trust(&mut self, directory: &Path) {
        self.trusted.push(directory.to_owned());
    }

    fn is_trusted(&self, real: &Path) -> bool {
        self.trusted.iter().any(|place| real.starts_with(place))
    }
}

impl Place<'_> {
    /// True if the shell's own builtins do what they should.
    pub(super) fn is_usual(&self) -> bool {
        self.programs.usual
    }

    /// The real file that `name` means from `base`: one with a slash as it stands, others along the path.
    pub(super) fn program(&self, base: &Path, name: &str) -> Option<PathBuf> {
        let is_program = |path: &PathBuf| {
            path.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        if name.contains('/') {
            return base.join(name).canonicalize().ok().filter(is_program);
        }
        let mut candidates = self
            .programs
            .path
            .iter()
            .map(|place| base.join(place).join(name));
        candidates.find(is_program)?.canonicalize().ok()
    }

    /// True if `name` certainly means a program of the system: found by an absolute path, linked with libraries that
    /// are found so too, and nowhere where a command could have put it.
    pub(super) fn is_system(&self, base: &Path, name: &str) -> bool {
        let by_itself = name.starts_with('/')
            || !name.contains('/') && self.programs.path.iter().all(|place| place.is_absolute());
        let libraries = &self.programs.libraries;
        let own_libraries = libraries.iter().all(|place| {
            place.is_absolute() && !self.is_changeable(&place.canonicalize().unwrap_or_default())
        });
        let found = self.program(base, name);
        self.is_usual()
            && by_itself
            && own_libraries
            && found
                .is_some_and(|real| self.programs.is_trusted(&real) && !self.is_changeable(&real))
    }

    /// True where only the system's own means put programs.
    pub(super) fn is_trusted(&self, real: &Path) -> bool {
        self.programs.is_trusted(real)
    }

    /// True where commands of this thread can write.
    pub(super) fn is_changeable(&self, real: &Path) -> bool {
        let mut roots = self.workspace.writable_roots().iter();
        let temporary = TEMPORARY.iter().any(|place| real.starts_with(place));
        roots.any(|root| real.starts_with(root)) || temporary && !self.programs.is_trusted(real)
    }
}
