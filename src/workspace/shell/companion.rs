//! A program that runs beside us for long and is spoken with through its standard streams.
//!
//! It is started from an argument list, never through a shell. Dropping a [`Companion`], or ending it, ends everything
//! that it started as well, by the same means as for commands (see `tree`); behind a keeper, so does our own end.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Pid;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::{
    guard::TreeGuard,
    tree::{self, Tree},
};
use crate::workspace::sandbox::Launcher;

/// One that was killed is gone as soon as it is scheduled.
const UNTIL_GONE: Duration = Duration::from_secs(2);

/// What to start.
#[derive(Clone, Debug)]
pub struct Program {
    /// A name on the `PATH` of `env`, or a path.
    pub command: String,
    /// As they are; nothing is expanded.
    pub args: Vec<String>,
    /// Must be a directory.
    pub workdir: PathBuf,
    /// All of it, but for the variable that marks its processes.
    pub env: Vec<(OsString, OsString)>,
    /// What stands in front of it and ends with us.
    pub keeper: Option<Launcher>,
}

impl Program {
    /// The program and its arguments.
    fn words(&self) -> Vec<&OsStr> {
        let keeper = self.keeper.iter().flat_map(|keeper| {
            let arguments = keeper.arguments.iter().map(OsString::as_os_str);
            [keeper.program.as_os_str()].into_iter().chain(arguments)
        });
        let own = [&self.command].into_iter().chain(&self.args);
        keeper.chain(own.map(OsStr::new)).collect()
    }

    /// As far as can be seen before it is executed.
    fn is_there(&self) -> bool {
        if self.command.contains('/') {
            return self.workdir.join(&self.command).is_file();
        }
        let path = self.env.iter().find(|(name, _)| name == "PATH");
        let Some((_, path)) = path else {
            // The system has a path of its own for that.
            return true;
        };
        std::env::split_paths(path).any(|dir| self.workdir.join(dir).join(&self.command).is_file())
    }
}

/// A program under way.
#[derive(Debug)]
pub struct Companion {
    child: Child,
    tree: TreeGuard,
}

/// Its standard streams.
#[derive(Debug)]
pub struct Streams {
    /// Closing it asks most programs to end.
    pub input: ChildStdin,
    /// What it answers.
    pub output: ChildStdout,
    /// What it complains about; to be drained, or it blocks.
    pub errors: ChildStderr,
}

impl Companion {
    /// Starts `program`.
    ///
    /// # Errors
    /// One line for a person: the directory or the program is not there.
    pub fn start(program: &Program) -> Result<(Self, Streams), String> {
        let fails = |error: &dyn std::fmt::Display| {
            Err(format!(
                "`{}` could not be started: {error}",
                program.command
            ))
        };
        let place = program.workdir.display();
        match program.workdir.metadata() {
            Ok(about) if about.is_dir() => {}
            Ok(_) => return fails(&format!("its directory `{place}` is a file")),
            Err(error) => {
                return fails(&format!("its directory `{place}` cannot be used: {error}"));
            }
        }
        // A keeper could only tell by its last words.
        if !program.is_there() {
            return fails(&"there is no such program");
        }
        Self::spawn(program).or_else(|error| fails(&error))
    }

    fn spawn(program: &Program) -> io::Result<(Self, Streams)> {
        let mark = tree::new_mark();
        let words = program.words();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .current_dir(&program.workdir)
            .env_clear()
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .env(tree::MARK, &mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let gone = || io::Error::other("it was gone at once");
        let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let leader = leader.ok_or_else(gone)?;
        let (input, output, errors) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = (input, output, errors) else {
            return Err(gone());
        };
        let tree = Tree::new(leader, &mark, tree::pipe_name(&errors), None);
        let tree = TreeGuard(Some(match program.keeper {
            Some(_) => tree.behind_helper(),
            None => tree,
        }));
        let streams = Streams {
            input,
            output,
            errors,
        };
        Ok((Self { child, tree }, streams))
    }

    /// Gives it `grace` to end by itself, which it should once its input is closed, then ends it and whatever it
    /// started. How it ended, where it did so by itself.
    pub async fn end(mut self, grace: Duration) -> Option<ExitStatus> {
        let by_itself = tokio::time::timeout(grace, self.child.wait()).await;
        let status = by_itself.ok().and_then(Result::ok);
        if status.is_some() {
            self.tree.shell_ended();
        }
        self.tree.take().end().await;
        if status.is_none() {
            // It has been killed; only one that the kernel cannot end is waited for in vain.
            let _ = tokio::time::timeout(UNTIL_GONE, self.child.wait()).await;
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn sh(line: &str) -> Program {
        Program {
            command: "sh".to_owned(),
            args: vec!["-c".to_owned(), line.to_owned()],
            workdir: std::env::temp_dir(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            keeper: None,
        }
    }

    #[tokio::test]
    async fn it_answers_and_ends_when_its_input_does() {
        let (companion, mut streams) = Companion::start(&sh("read a; echo \"$a!\"; cat")).unwrap();
        streams.input.write_all(b"hello\n").await.unwrap();
        let mut answer = [0; 7];
        streams.output.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"hello!\n");
        drop(streams.input);
        let status = companion.end(Duration::from_secs(20)).await;
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    }

    #[tokio::test]
    async fn what_it_started_ends_with_it() {
        super::super::adopt_orphans();
        let line = "trap '' TERM HUP; (setsid sleep 600 &) ; sleep 601 & echo $!; cat >/dev/null; sleep 600";
        let (companion, mut streams) = Companion::start(&sh(line)).unwrap();
        let mut pid = Vec::new();
        while !pid.ends_with(b"\n") {
            pid.push(streams.output.read_u8().await.unwrap());
        }
        let pid = String::from_utf8(pid).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        assert!(std::path::Path::new(&stat).exists());
        drop(streams.input);
        assert_eq!(companion.end(Duration::from_millis(50)).await, None);
        let state = std::fs::read_to_string(&stat).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let missing = Program {
            command: "no-such-program-here".to_owned(),
            ..sh("")
        };
        let error = Companion::start(&missing).map(|_| ()).unwrap_err();
        assert!(
            error.starts_with("`no-such-program-here` could not be started: "),
            "{error}"
        );
    }
}
