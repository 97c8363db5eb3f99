//! The one git command that we run ourselves: it reads objects of a repository and sees nothing else of it.
//!
//! Its git directory is an empty one of our own, so there is no configuration, hook, attribute, index, ref or working
//! tree that could name a program or lead elsewhere; of the repository it gets the directory of objects. What is the
//! user's and the system's is turned off too. And it runs in the sandbox of commands, where it can write nothing and
//! reaches no network; on a machine without one, the empty directory must do. It ends with its input, or is killed after
//! [`PATIENCE`].

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use tempfile::TempDir;

use super::git::ObjectId;
use crate::workspace::{
    file::LARGEST_FILE,
    sandbox::{Launcher, Sandbox},
};

/// A pack on a disk that does not answer, or a pipe in its place, must not hold a turn.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of contents that are in memory at a time.
const MOST_TOGETHER: u64 = 256 << 20;

/// A place to run git in.
#[derive(Debug)]
pub(super) struct Plumbing {
    home: TempDir,
    objects: PathBuf,
    behind: Option<Launcher>,
}

impl Plumbing {
    /// For the objects in `objects`, with `guard` in front of it where there is one. `closed` is hidden from it.
    pub(super) fn new(
        objects: &Path,
        guard: Option<&Sandbox>,
        closed: &[PathBuf],
    ) -> io::Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("openoxide-git-")
            .tempdir()?;
        fs::create_dir(home.path().join("refs"))?;
        fs::write(home.path().join("HEAD"), "ref: refs/heads/none\n")?;
        let behind = match guard {
            Some(sandbox) => sandbox.reader(home.path(), objects, closed)?,
            None => None,
        };
        Ok(Self {
            home,
            objects: objects.to_owned(),
            behind,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.behind {
            Some(launcher) => {
                let mut command = Command::new(&launcher.program);
                command.args(&launcher.arguments).arg("git");
                command
            }
            None => Command::new("git"),
        };
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", self.home.path())
            .env("GIT_DIR", self.home.path())
            .env("GIT_OBJECT_DIRECTORY", &self.objects)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The contents of these objects; none for what is not there, or is too much.
    pub(super) fn blobs(&self, ids: &[ObjectId]) -> io::Result<Vec<Option<Vec<u8>>>> {
        let child = self.command(&["cat-file", "--batch", "--buffer"]).spawn()?;
        let input: String = ids.iter().map(|id| hex(id) + "\n").collect();
        let mut blobs = Vec::with_capacity(ids.len());
        let mut room = MOST_TOGETHER;
        let complaint = self.with(child, input.into_bytes(), |output| {
            for id in ids {
                // Self-checking: what does not have the name that was asked for is not given.
                let blob = next_blob(output, LARGEST_FILE.min(room))?;
                room -= blob.as_ref().map_or(0, |blob| blob.len() as u64);
                blobs.push(blob.filter(|blob| super::git::object_id(blob) == *id));
            }
            Ok(())
        })?;
        match complaint {
            None => Ok(blobs),
            Some(complaint) => Err(io::Error::other(format!("git cat-file: {complaint}"))),
        }
    }

    /// Feeds `child`, lets `read` take what it prints, and gives what it complained about if it failed.
    fn with(
        &self,
        mut child: Child,
        input: Vec<u8>,
        read: impl FnOnce(&mut BufReader<std::process::ChildStdout>) -> io::Result<()>,
    ) -> io::Result<Option<String>> {
        let missing = || io::Error::other("a pipe to git is missing");
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let mut stderr = child.stderr.take().ok_or_else(missing)?;
        let (done, waits) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            // A git that ends early does not read all of its input; its exit code tells.
            scope.spawn(move || drop(stdin.write_all(&input)));
            let complaint = scope.spawn(move || {
                let mut text = String::new();
                // What it says that is no text is not needed.
                let _ = stderr.read_to_string(&mut text);
                text
            });
            let pid = rustix::process::Pid::from_child(&child);
            scope.spawn(move || {
                if waits.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                    // It may have ended this moment; it is not waited for before `done`, so the id is still its own.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            });
            let taken = read(&mut BufReader::new(stdout));
            let complaint = complaint.join().unwrap_or_default();
            drop(done);
            let ended = child.wait()?;
            taken?;
            Ok((!ended.success()).then(|| complaint.trim().to_owned()))
        })
    }
}

/// One answer of `cat-file --batch`. What has more than `most` bytes is passed over: an object says itself how long it
/// is, and a few bytes of a packed one may come to any length.
fn next_blob(output: &mut impl BufRead, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut head = String::new();
    output.read_line(&mut head)?;
    let mut words = head.split_whitespace().skip(1);
    let (Some(kind), Some(Ok(size))) = (words.next(), words.next().map(str::parse::<u64>)) else {
        return Ok(None);
    };
    if size > most {
        io::copy(&mut output.take(size.saturating_add(1)), &mut io::sink())?;
        return Ok(None);
    }
    let mut blob = Vec::new();
    output.take(size).read_to_end(&mut blob)?;
    output.read_exact(&mut [0])?;
    Ok((kind == "blob").then_some(blob))
}

/// As git writes names.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_is_longer_than_it_may_be_is_passed_over() {
        let mut output = &b"1 blob 5\nhello\n2 missing\n3 blob 4\nabcd\n4 blob 9\nshort"[..];
        assert_eq!(next_blob(&mut output, 4).unwrap(), None);
        assert_eq!(next_blob(&mut output, 4).unwrap(), None);
        assert_eq!(next_blob(&mut output, 4).unwrap().unwrap(), b"abcd");
        assert!(next_blob(&mut output, 9).is_err(), "git broke off");
    }
}
