//! Which servers that a project names its owner has agreed to: by digest of what would be started, so that a change
//! asks again.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{digest, oauth::Registered, settings::Settings, write_private};

/// What was agreed to.
#[derive(Debug, Default)]
pub struct Trust {
    path: PathBuf,
    agreed: BTreeMap<String, Agreed>,
}

/// One agreement, for whoever reads the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Agreed {
    name: String,
    target: String,
    directory: PathBuf,
}

impl Trust {
    /// What was agreed to so far; nothing, where the file is not there or damaged.
    pub fn read(path: &Path) -> Self {
        let kept = fs_err::read(path).ok();
        let agreed = kept.and_then(|kept| serde_json::from_slice(&kept).ok());
        Self {
            path: path.to_owned(),
            agreed: agreed.unwrap_or_default(),
        }
    }

    /// Whether exactly this was agreed to.
    pub fn holds(&self, name: &str, settings: &Settings, directory: &Path) -> bool {
        self.agreed
            .contains_key(&digest_of(name, settings, directory))
    }

    /// Agrees to it, for good.
    pub fn agree(&mut self, name: &str, settings: &Settings, directory: &Path) -> io::Result<()> {
        let agreed = Agreed {
            name: name.to_owned(),
            target: settings.target(),
            directory: directory.to_owned(),
        };
        self.agreed
            .insert(digest_of(name, settings, directory), agreed);
        write_private(&self.path, &serde_json::to_vec_pretty(&self.agreed)?)
    }
}

/// Of everything that decides what is started: command, arguments, variables, directories, address, headers.
pub fn digest_of(name: &str, settings: &Settings, directory: &Path) -> String {
    let Settings {
        command,
        args,
        env,
        cwd,
        url,
        headers,
        bearer_token_env,
        oauth,
        ..
    } = settings;
    let what =
        format!("{command:?} {args:?} {env:?} {cwd:?} {url:?} {headers:?} {bearer_token_env:?}");
    let directory = directory.to_string_lossy();
    if *oauth == Registered::default() {
        // As it was before there was this key: what was agreed to then still holds.
        return digest(&[name, &what, &directory]);
    }
    digest(&[name, &what, &directory, &format!("{oauth:?}")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_what_would_be_started_asks_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state/trust.json");
        let settings = Settings {
            command: Some("npx".to_owned()),
            args: vec!["server".to_owned()],
            ..Settings::default()
        };
        let project = Path::new("/project");
        assert!(!Trust::read(&file).holds("s", &settings, project));
        Trust::read(&file).agree("s", &settings, project).unwrap();
        let trust = Trust::read(&file);
        assert!(trust.holds("s", &settings, project));
        assert!(!trust.holds("s", &settings, Path::new("/elsewhere")));
        assert!(!trust.holds("t", &settings, project));
        let changes: [fn(&mut Settings); 4] = [
            |s| s.args.push("--evil".to_owned()),
            |s| s.command = Some("sh".to_owned()),
            |s| s.cwd = Some("sub".into()),
            |s| drop(s.env.insert("LD_PRELOAD".to_owned(), "x".to_owned())),
        ];
        for change in changes {
            let mut other = settings.clone();
            change(&mut other);
            assert!(!trust.holds("s", &other, project), "{other:?}");
        }
    }
}
