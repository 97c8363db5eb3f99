//! Where the key comes from: a variable, a file or a command, as the owner configured it.

use std::{
    io::Read,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{ModelConfig, Secret};

/// A password manager may ask its person something.
const COMMAND_TIME: Duration = Duration::from_secs(60);
/// Bytes; keys are short.
const LONGEST: u64 = 16 * 1024;

impl ModelConfig {
    /// The key from `api_key_file`, else from `api_key_command`; nothing where neither is set. Waits for the command.
    ///
    /// # Errors
    ///
    /// What was configured gives no key. The text names it, and holds nothing that it printed.
    pub fn stored_key(&self) -> Result<Option<Secret>, String> {
        if let Some(path) = &self.api_key_file {
            let path = in_home(path);
            let text = fs_err::File::open(&path).and_then(first_part);
            let text =
                text.map_err(|error| format!("no key from `model.api_key_file`: {error}"))?;
            return kept(&text, &format!("`{}`", path.display())).map(Some);
        }
        let Some((program, arguments)) = self.api_key_command.split_first() else {
            return Ok(None);
        };
        let text = printed(program, arguments)
            .map_err(|error| format!("no key from `model.api_key_command`: `{program}` {error}"))?;
        kept(&text, &format!("`{program}`")).map(Some)
    }
}

fn kept(text: &str, from: &str) -> Result<Secret, String> {
    match text.trim() {
        "" => Err(format!("{from} gives an empty key")),
        key => Ok(Secret::new(key)),
    }
}

fn in_home(path: &std::path::Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.to_owned(),
    }
}

fn first_part(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// What a command prints. Ended after [`COMMAND_TIME`]. Its standard input is empty, since ours may be the protocol.
fn printed(program: &str, arguments: &[String]) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Err(error) => return Err(format!("was lost: {error}")),
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() > COMMAND_TIME => {
                // Gone already is as good.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("did not end within {} s", COMMAND_TIME.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if !status.success() {
        return Err(format!("failed: {status}"));
    }
    let output = child.stdout.take().map(first_part);
    output
        .unwrap_or_else(|| Ok(String::new()))
        .map_err(|error| format!("printed no text: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_from_a_file_or_a_command() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "sk-from-file\n").unwrap();
        let empty = dir.path().join("empty");
        std::fs::write(&empty, " \n").unwrap();
        let sh = |line: &str| ["sh", "-c", line].map(str::to_owned).to_vec();
        let table = [
            (None, vec![], "none"),
            (Some(file.clone()), vec![], "sk-from-file"),
            (Some(file), sh("echo sk-from-command"), "sk-from-file"),
            (None, sh("echo sk-from-command"), "sk-from-command"),
            (None, sh("cat"), "`sh` gives an empty key"),
            (
                None,
                sh("echo sk-0123456789; exit 3"),
                "no key from `model.api_key_command`: `sh` failed: exit status: 3",
            ),
            (
                None,
                vec!["/nowhere/pass".into()],
                "no key from `model.api_key_command`: `/nowhere/pass` cannot be started: No such file or directory (os error 2)",
            ),
            (Some(empty), vec![], "empty` gives an empty key"),
            (
                Some("/nowhere/key".into()),
                vec![],
                "no key from `model.api_key_file`: failed to open file `/nowhere/key`",
            ),
        ];
        for (api_key_file, api_key_command, expect) in table {
            let config = ModelConfig {
                api_key_file,
                api_key_command,
                ..ModelConfig::default()
            };
            let found = match config.stored_key() {
                Ok(None) => "none".to_owned(),
                Ok(Some(key)) => key.expose().to_owned(),
                Err(error) => error,
            };
            assert!(found.contains(expect), "{found}, not {expect}");
        }
    }
}
