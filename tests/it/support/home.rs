//! A person's machine in a temporary directory: a home, openoxide's own place and a project. Programs run here see
//! nothing of the real environment but `PATH`.
//!
//! All of them, and all that they start, carry this home in their environment; that is how [`Home::processes`] finds
//! what was left running, also when it has left its process group, session and parent.

use std::{
    fs::{DirEntry, ReadDir},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::model_server::ModelServer;

/// How long anything may take on a busy machine before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The key that programs are given. It must never be seen again.
pub(crate) const KEY: &str = "sk-it-4f1d8a6b2c9e7035";

/// A machine of its own. Dropping it removes it.
pub(crate) struct Home {
    /// Kept for its end.
    _directory: tempfile::TempDir,
    root: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("openoxide-it-").tempdir();
        let directory = directory.expect("a temporary directory");
        let root = directory.path().canonicalize().expect("it is there");
        for place in ["home", "state", "project"] {
            std::fs::create_dir(root.join(place)).expect("an empty directory");
        }
        Self {
            _directory: directory,
            root,
        }
    }

    /// Puts a file into the project.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        write(&self.project().join(path), text);
        self
    }

    /// The user's configuration file.
    pub(crate) fn config(self, toml: &str) -> Self {
        write(&self.config_file(), toml);
        self
    }

    /// Where the user's configuration file is.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.state().join("config.toml")
    }

    /// What programs see as the home directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// `OPENOXIDE_HOME`.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Where programs start.
    pub(crate) fn project(&self) -> PathBuf {
        self.root.join("project")
    }

    /// A file of the project.
    pub(crate) fn read(&self, path: &str) -> String {
        read(&self.project().join(path))
    }

    /// Whether the project has an entry of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.project().join(name).symlink_metadata().is_ok()
    }

    /// Waits until a command has made `name`.
    pub(crate) fn until_it_has(&self, name: &str) {
        eventually(name, || self.has(name));
    }

    /// The names in the project, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        names(std::fs::read_dir(self.project()).expect("the project"))
    }

    /// Where the rollout of a thread is.
    pub(crate) fn rollout_file(&self, thread_id: &str) -> PathBuf {
        self.state()
            .join("threads")
            .join(thread_id)
            .join("rollout.jsonl")
    }

    /// The records of a thread. Each line must be JSON.
    pub(crate) fn rollout(&self, thread_id: &str) -> Vec<Value> {
        let text = read(&self.rollout_file(thread_id));
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }

    /// The ids of all threads, oldest first.
    pub(crate) fn threads(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.state().join("threads")).map_or(Vec::new(), names);
        // Not what is just being removed.
        all.into_iter()
            .filter(|name| !name.starts_with('.'))
            .collect()
    }

    /// The program with these arguments, a key, and nobody to talk to.
    pub(crate) fn openoxide(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_openoxide"));
        command
            .args(arguments)
            .current_dir(self.project())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("OPENOXIDE_HOME", self.state())
            .env("OPENAI_API_KEY", KEY)
            // Nothing listens here, so that no test can reach further than it says.
            .env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
        command
    }

    /// The same with a model to talk to, over the Responses API.
    pub(crate) fn openoxide_with(&self, model: &ModelServer, arguments: &[&str]) -> Command {
        let mut command = self.openoxide_by_default(model, arguments);
        command.args(["-c", "model.wire_api=responses"]);
        command
    }

    /// The same over the API that is taken where nobody chose one.
    pub(crate) fn openoxide_by_default(&self, model: &ModelServer, arguments: &[&str]) -> Command {
        let mut command = self.openoxide(arguments);
        command.env("OPENAI_BASE_URL", model.base_url());
        command
    }

    /// What runs here: process ids with their command lines. `None` where that cannot be known.
    pub(crate) fn processes(&self) -> Option<Vec<(u32, String)>> {
        let mine = format!("HOME={}", self.home().display());
        let entries = std::fs::read_dir("/proc").ok()?;
        // A process may end while it is looked at; a zombie has no environment and counts as gone.
        let found = entries.filter_map(|entry| {
            let entry = entry.ok()?;
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let is_mine = environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == mine.as_bytes());
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line)
                .replace('\0', " ")
                .trim()
                .to_owned();
            is_mine.then_some((pid, line))
        });
        Some(found.collect())
    }

    /// Waits until a command like `line` runs here. False, and said, where processes cannot be seen.
    pub(crate) fn until_running(&self, line: &str) -> bool {
        if self.processes().is_none() {
            skipped("processes cannot be looked at here (no /proc)");
            return false;
        }
        let runs = || {
            let processes = self.processes().unwrap_or_default();
            processes.iter().any(|(_, known)| known == line)
        };
        eventually(&format!("`{line}` runs"), runs);
        true
    }

    /// Nothing runs here any more, but for processes that contain one of these words.
    pub(crate) fn assert_deserted(&self, but: &[&str]) {
        let left = || {
            let all = self.processes().unwrap_or_default().into_iter();
            all.filter(|(_, line)| !but.iter().any(|word| line.contains(word)))
                .collect::<Vec<_>>()
        };
        // A process that was killed takes a moment to go.
        let deadline = Instant::now() + Duration::from_secs(1);
        while !left().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(left().is_empty(), "left running: {:?}", left());
    }
}

impl Drop for Home {
    /// A test that fails must not leave what it found running.
    fn drop(&mut self) {
        for (pid, _) in self.processes().unwrap_or_default() {
            let pid = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            // It may have ended meanwhile.
            let _ =
                pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
    }
}

/// One line on standard error about what this machine does not let us try. Not by `eprintln!`, which the test runner
/// keeps to itself when the test passes: the gate looks for these lines.
pub(crate) fn skipped(what: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "skipped: {what}").expect("standard error");
}

/// Waits until `done`, or fails.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn names(entries: ReadDir) -> Vec<String> {
    let name = |entry: DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry.expect("an entry")))
        .collect();
    names.sort();
    names
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    let parent = path.parent().expect("a directory");
    std::fs::create_dir_all(parent).expect("its directory");
    std::fs::write(path, text).expect("a file");
}

/// What a program that ended left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    /// None when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Standard output as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Standard error has these words.
    pub(crate) fn assert_says(&self, words: &str) {
        assert!(
            self.stderr.contains(words),
            "no {words:?} in {}",
            self.stderr
        );
    }

    /// Ended with this code.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// A program on its way.
pub(crate) struct Running {
    child: Child,
    output: mpsc::Receiver<(bool, Vec<u8>)>,
}

/// Starts `command` with nothing to read.
pub(crate) fn start(command: Command) -> Running {
    start_with(command, b"")
}

/// Starts `command` with `input` on its standard input.
pub(crate) fn start_with(mut command: Command, input: &[u8]) -> Running {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // A program that does not read its input may end before all of it is written.
    let _ = child.stdin.take().expect("piped").write_all(input);
    let (tell, output) = mpsc::channel();
    let streams: [(bool, Box<dyn Read + Send>); 2] = [
        (true, Box::new(child.stdout.take().expect("piped"))),
        (false, Box::new(child.stderr.take().expect("piped"))),
    ];
    for (is_output, mut stream) in streams {
        let tell = tell.clone();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What cannot be read is not there; the test sees that. It may have given up by then.
            let _ = stream.read_to_end(&mut bytes);
            let _ = tell.send((is_output, bytes));
        });
    }
    Running { child, output }
}

impl Running {
    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end, and for that of whoever holds its output.
    pub(crate) fn ended(mut self) -> Ran {
        let status = ends_within(&mut self.child, PATIENCE);
        let (mut stdout, mut stderr) = (String::new(), String::new());
        for _ in 0..2 {
            let (is_output, bytes) = self
                .output
                .recv_timeout(PATIENCE)
                .expect("its output ends with it");
            let text = String::from_utf8(bytes).expect("UTF-8");
            *(if is_output { &mut stdout } else { &mut stderr }) = text;
        }
        Ran {
            code: status.code(),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only if a test failed before its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end with nothing to read.
pub(crate) fn run(command: Command) -> Ran {
    start(command).ended()
}

/// Waits for the end of a process, or fails.
pub(crate) fn ends_within(child: &mut Child, patience: Duration) -> std::process::ExitStatus {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return status;
        }
        assert!(
            Instant::now() < deadline,
            "it still runs after {patience:?}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}
