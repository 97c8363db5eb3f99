//! Commands in each of the ways that they run, and what is left of them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use openoxide::{
    conversation::SandboxPolicy,
    workspace::{
        Boundaries, Workspace,
        sandbox::{Confinement, Protection, Sandbox},
        shell::{Command, Input, Patience, Running, Seen, adopt_orphans},
    },
};
use tokio_util::sync::CancellationToken;

use super::home::{PATIENCE, skipped};

/// What stands in front of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing, as where there is no Linux.
    Bare,
    /// The keeper, as outside the sandbox.
    Kept,
    /// The sandbox.
    Held,
}

/// A directory of its own to run commands in.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    sandbox: Arc<Sandbox>,
    confinement: Confinement,
}

impl Place {
    /// With the ways that there are on this machine.
    pub(crate) fn new() -> (Self, Vec<Way>) {
        adopt_orphans();
        let sandbox = Arc::new(Sandbox::new(Some(env!("CARGO_BIN_EXE_openoxide").into())));
        // Not in `/tmp`, which is another one inside the sandbox.
        let directory = tempfile::Builder::new()
            .prefix("openoxide-it-")
            .tempdir_in("/var/tmp");
        let mut ways = vec![Way::Bare, Way::Kept];
        match sandbox.protection() {
            Protection::None => skipped("there is no sandbox here"),
            Protection::Whole | Protection::Partial(_) => ways.push(Way::Held),
        }
        let place = Self {
            directory: directory.expect("a temporary directory"),
            confinement: Confinement::new(sandbox.clone(), false),
            sandbox,
        };
        (place, ways)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().canonicalize().expect("it is there")
    }

    pub(crate) fn command(&self, way: Way, input: Input, line: &str) -> Command {
        let policy = SandboxPolicy::WorkspaceWrite;
        let behind = match way {
            Way::Bare => None,
            Way::Kept => self.sandbox.keeper(),
            Way::Held => {
                let workspace = Workspace::open(&self.path(), policy, Boundaries::default());
                let workspace = workspace.expect("a workspace");
                let launcher = self.confinement.launcher(&workspace, &self.path());
                Some(launcher.expect("a sandbox"))
            }
        };
        let variables = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", "/"),
            ("TERM", "dumb"),
        ];
        Command {
            line: line.to_owned(),
            workdir: self.path(),
            env: variables
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            timeout: PATIENCE,
            behind,
            input,
        }
    }

    pub(crate) fn start(&self, way: Way, input: Input, line: &str) -> Running {
        Running::start(&self.command(way, input, line)).expect("it starts")
    }

    /// Runs a line in a terminal to its end.
    pub(crate) async fn in_terminal(&self, way: Way, line: &str) -> Seen {
        let mut running = self.start(way, Input::Terminal, line);
        watch(&mut running, Patience::End).await
    }

    /// Waits until a file has a whole line in it.
    pub(crate) async fn until_written(&self, file: &str) {
        let deadline = Instant::now() + PATIENCE;
        let path = self.path().join(file);
        while !std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')) {
            assert!(Instant::now() < deadline, "`{file}` was never written");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What works here: process ids with their command lines. Zombies have no directory and are not among them.
    pub(crate) fn workers(&self) -> Vec<String> {
        workers(&self.path())
    }

    /// Nobody works here any more, `soon`.
    pub(crate) async fn assert_deserted(&self, soon: Duration, what: &str) {
        let deadline = Instant::now() + soon;
        while !self.workers().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let left = self.workers();
        let (count, left) = (left.len(), left.join("; "));
        assert!(count == 0, "{what}: {count} after {soon:?}: {left:.1000}");
    }
}

/// Lets a command go on and looks at it.
pub(crate) async fn watch(running: &mut Running, patience: Patience) -> Seen {
    running
        .watch(patience, &CancellationToken::new(), |_| ())
        .await;
    running.look()
}

/// The processes whose working directory is `directory`.
pub(crate) fn workers(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let here = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == directory)
    };
    let line = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        format!("{}: {line}", entry.file_name().to_string_lossy())
    };
    entries.flatten().filter(here).map(line).collect()
}
