//! Where our own files are, and the places of credentials that no tool ever touches.

use std::path::PathBuf;

use etcetera::BaseStrategy;

use super::layers::{ConfigError, Environment};

/// Places under the home directory that hold credentials.
const CREDENTIALS: [&str; 7] = [
    ".ssh",
    ".aws",
    ".gnupg",
    ".netrc",
    ".docker",
    ".kube",
    ".config/gh",
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
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        let credentials = home
            .iter()
            .flat_map(|home| CREDENTIALS.map(|place| home.join(place)));
        let (config_file, state, own) = match environment.get("OPENOXIDE_HOME") {
            Some(home) => {
                let home = PathBuf::from(home);
                (home.join("config.toml"), home.clone(), vec![home])
            }
            None => platform()?,
        };
        Ok(Self {
            config_file,
            closed: own.into_iter().chain(credentials).collect(),
            state,
        })
    }

    /// The directory of threads.
    pub fn threads(&self) -> PathBuf {
        self.state.join("threads")
    }
}

fn platform() -> Result<(PathBuf, PathBuf, Vec<PathBuf>), ConfigError> {
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
    Ok((
        config.join("config.toml"),
        state.clone(),
        vec![config, state],
    ))
}
