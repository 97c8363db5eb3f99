//! Where our own files are, and the places of credentials that no tool ever touches.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use super::layers::{ConfigError, Environment};

/// Places under the home directory that hold credentials.
const CREDENTIALS: [&str; 14] = [
    ".ssh",
    ".aws",
    ".azure",
    ".gnupg",
    ".netrc",
    ".docker",
    ".kube",
    ".config/gh",
    ".config/gcloud",
    ".git-credentials",
    ".password-store",
    ".npmrc",
    ".pypirc",
    ".cargo/credentials.toml",
];

/// Where our own files are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The user's configuration; need not exist.
    pub config_file: PathBuf,
    /// Where threads and locks are kept.
    pub state: PathBuf,
    /// Never read or written by tools.
    pub closed: Vec<PathBuf>,
}

impl Paths {
    /// `OPENOXIDE_HOME`, or the platform's directories.
    pub fn find(environment: &Environment) -> Result<Self, ConfigError> {
        match environment.get("OPENOXIDE_HOME") {
            Some(home) => Ok(Self::under(
                &std::path::absolute(&home).unwrap_or(home.into()),
            )),
            None => platform(),
        }
    }

    /// Everything under one directory.
    pub fn under(home: &Path) -> Self {
        Self {
            config_file: home.join("config.toml"),
            state: home.to_owned(),
            closed: closed(&[home]),
        }
    }

    /// Closes these too. `~/` is the home directory; what is relative is below it.
    pub fn close(&mut self, places: &[PathBuf]) {
        let home = std::env::home_dir().unwrap_or_default();
        let absolute = |place: &PathBuf| home.join(place.strip_prefix("~").unwrap_or(place));
        self.closed.extend(places.iter().map(absolute));
    }

    /// What is kept about external servers.
    pub fn external(&self) -> PathBuf {
        self.state.join("mcp")
    }

    /// Where threads work that have a copy of a directory to themselves.
    pub fn worktrees(&self) -> PathBuf {
        self.state.join("worktrees")
    }

    /// The directory of threads.
    pub fn threads(&self) -> PathBuf {
        self.state.join("threads")
    }
}

fn platform() -> Result<Paths, ConfigError> {
    let base = etcetera::choose_base_strategy().map_err(|error| {
        ConfigError::new(format!(
            "there is no home directory to keep threads in: {error}"
        ))
        .hint("set OPENOXIDE_HOME to a directory of your own")
    })?;
    let config = base.config_dir().join("openoxide");
    let state = base
        .state_dir()
        .unwrap_or_else(|| base.data_dir())
        .join("openoxide");
    Ok(Paths {
        config_file: config.join("config.toml"),
        closed: closed(&[&config, &state]),
        state,
    })
}

/// Our own places and those of credentials.
fn closed(own: &[&Path]) -> Vec<PathBuf> {
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    let credentials = home
        .iter()
        .flat_map(|home| CREDENTIALS.map(|place| home.join(place)));
    own.iter()
        .map(|path| (*path).to_owned())
        .chain(credentials)
        .collect()
}
