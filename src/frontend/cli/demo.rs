//! `openoxide demo`: the whole road on a small sample project, with recorded model replies.
//!
//! Everything but the model's words is real: the loop, the tools, the edit, the check. It happens in a temporary folder
//! that holds its own configuration and state, needs nothing but `sh`, and leaves nothing behind.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{OK, exec::follow_quietly, report::Report};
use crate::{
    app::{App, HeaderError, Setup, Wish},
    config::assignment,
    conversation::{Status, shortened, shown_text},
    workspace::sandbox::{Protection, Sandbox},
};

const TASK: &str = "The check fails. Find out why and fix it.";
const REPLIES: &str = include_str!("../../../fixtures/model/demo.json");
const PROJECT: [(&str, &str); 2] = [
    (
        "total.sh",
        include_str!("../../../fixtures/workspaces/demo/total.sh"),
    ),
    (
        "check.sh",
        include_str!("../../../fixtures/workspaces/demo/check.sh"),
    ),
];

const HEADING: Style = Style::new().bold();
const SENT: Style = AnsiColor::Cyan.on_default();
const RECEIVED: Style = AnsiColor::Green.on_default();
const PLAIN: Style = Style::new();

/// How long the server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sample project, the recording, and a home, all in one temporary folder.
struct Stage {
    folder: TempDir,
    project: PathBuf,
    recording: PathBuf,
}

impl Stage {
    fn set() -> anyhow::Result<Self> {
        let folder =
            TempDir::with_prefix("openoxide-demo-").context("failed to make a temporary folder")?;
        let (project, recording) = (
            folder.path().join("project"),
            folder.path().join("replies.json"),
        );
        fs_err::create_dir(&project)?;
        for (name, content) in PROJECT {
            fs_err::write(project.join(name), content)?;
        }
        fs_err::write(&recording, REPLIES)?;
        Ok(Self {
            folder,
            project,
            recording,
        })
    }

    fn model(&self) -> String {
        format!("recorded:{}", self.recording.display())
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Runs the project's check: whether it passes, and what it says.
    async fn check(&self) -> anyhow::Result<(bool, String)> {
        let ran = Command::new("sh")
            .arg("check.sh")
            .current_dir(&self.project)
            .output()
            .await;
        let ran = ran.context("failed to run `sh`")?;
        Ok((
            ran.status.success(),
            String::from_utf8_lossy(&ran.stdout).trim().to_owned(),
        ))
    }
}

/// The task as `-m` does it.
pub(super) async fn run() -> anyhow::Result<u8> {
    let stage = Stage::set()?;
    say(HEADING, "A small project with a failing check:");
    let (passes, words) = stage.check().await?;
    ensure!(!passes, "the sample project is not what it should be");
    say(PLAIN, &format!("  $ sh check.sh\n  {words}\n"));
    say(
        HEADING,
        &format!(
            "openoxide -m \"{TASK}\"   (the model's replies are recorded, everything else is real)"
        ),
    );
    let model = format!("model.name={}", toml::Value::String(stage.model()));
    let protection = Sandbox::new(None).protection();
    let app = App::build(Setup {
        cwd: stage.project.clone(),
        flags: std::iter::once(model.as_str())
            .chain(allowance(&protection))
            .map(assignment)
            .collect::<Result<_, _>>()?,
        home: Some(stage.home()),
        ..Setup::default()
    })?;
    let header = app
        .header(Wish::default())
        .await
        .map_err(HeaderError::into_anyhow)?;
    let thread = app.threads().create(header)?;
    let outcome = follow_quietly(&thread, TASK, Report::Stdout).await?;
    ensure!(
        outcome.status == Status::Completed,
        "the demo's turn ended with {}",
        outcome.status.as_str()
    );
    say(PLAIN, &format!("\n{}", outcome.content));
    ending(&stage, &protection).await
}

/// What lets the demo's commands run unasked where this machine cannot hold them: they are ours, and harmless.
fn allowance(protection: &Protection) -> Option<&'static str> {
    match protection {
        Protection::Whole => None,
        Protection::Partial(_) => Some("policy.accept_partial=true"),
        Protection::None => Some("policy.sandbox=danger-full-access"),
    }
}

/// The same task as an MCP client gives it.
pub(super) async fn over_mcp() -> anyhow::Result<u8> {
    let stage = Stage::set()?;
    say(
        HEADING,
        "openoxide mcp-server, driven as a client would   (→ sent, ← received; long parts left out)",
    );
    let protection = Sandbox::new(None).protection();
    let mut client = Client::start(&stage, allowance(&protection))?;
    client.handshake().await?;
    let outcome = client.call(&stage).await?;
    say(HEADING, "\nWhat the calling agent reads:");
    for line in outcome["content"][0]["text"]
        .as_str()
        .unwrap_or_default()
        .lines()
    {
        say(PLAIN, &format!("  {}", shown_text(line)));
    }
    client.end().await?;
    ensure!(
        outcome["structuredContent"]["status"] == "completed",
        "the demo's turn did not complete"
    );
    ending(&stage, &protection).await
}

/// The check again, what held the commands, and how to go on with a real model.
async fn ending(stage: &Stage, protection: &Protection) -> anyhow::Result<u8> {
    let (passes, words) = stage.check().await?;
    ensure!(passes, "the check still fails: {words}");
    say(HEADING, "\nThe check now:");
    say(PLAIN, &format!("  $ sh check.sh\n  {words}\n"));
    match protection {
        Protection::Whole => {}
        Protection::Partial(missing) => say(
            PLAIN,
            &format!(
                "Commands ran in a partial sandbox; not enforced: {}. See `openoxide doctor`.\n",
                missing.join(", ")
            ),
        ),
        Protection::None => say(
            PLAIN,
            "Commands ran without a sandbox: nothing was enforced. See `openoxide doctor`.\n",
        ),
    }
    say(HEADING, "With a real model, in a project of yours:");
    say(
        PLAIN,
        "  export OPENAI_API_KEY=…        # or OPENAI_BASE_URL=http://localhost:8000/v1",
    );
    say(PLAIN, "  openoxide -m \"what should be done\"");
    Ok(OK)
}

fn say(style: Style, text: &str) {
    Report::Stdout.line(style, text);
}

/// A small MCP client on the server's standard input/output.
struct Client {
    server: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(stage: &Stage, allowance: Option<&str>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("failed to find this program")?;
        let mut server = Command::new(program)
            .args(["mcp-server", "--model", &stage.model()])
            .args(allowance.into_iter().flat_map(|set| ["-c", set]))
            .current_dir(&stage.project)
            .env("OPENOXIDE_HOME", stage.home())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the server")?;
        let (Some(input), Some(output)) = (server.stdin.take(), server.stdout.take()) else {
            bail!("the server has no standard input or output");
        };
        Ok(Self {
            server,
            input,
            output: BufReader::new(output).lines(),
        })
    }

    async fn handshake(&mut self) -> anyhow::Result<()> {
        let hello = json!({
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "demo", "version": env!("CARGO_PKG_VERSION")},
        });
        self.request(1, "initialize", hello).await?;
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await?;
        self.request(2, "tools/list", json!({})).await?;
        Ok(())
    }

    async fn call(&mut self, stage: &Stage) -> anyhow::Result<Value> {
        let arguments = json!({"prompt": TASK, "cwd": stage.project});
        let params = json!({"name": "openoxide", "arguments": arguments, "_meta": {"progressToken": "demo"}});
        self.request(3, "tools/call", params).await
    }

    /// Sends a request and shows what comes until its answer.
    async fn request(&mut self, id: u64, method: &str, params: Value) -> anyhow::Result<Value> {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await?;
        loop {
            let line = tokio::time::timeout(PATIENCE, self.output.next_line())
                .await
                .context("the server is silent")??;
            let message: Value = serde_json::from_str(&line.context("the server ended")?)?;
            show(RECEIVED, "←", &message);
            if message["id"] == id {
                return message
                    .get("result")
                    .cloned()
                    .with_context(|| format!("`{method}` failed: {message}"));
            }
        }
    }

    async fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        show(SENT, "→", message);
        Ok(self
            .input
            .write_all(format!("{message}\n").as_bytes())
            .await?)
    }

    async fn end(mut self) -> anyhow::Result<()> {
        drop(self.input);
        tokio::time::timeout(PATIENCE, self.server.wait())
            .await
            .context("the server did not end")??;
        Ok(())
    }
}

/// One message on one line, the long lists by their names only.
fn show(style: Style, arrow: &str, message: &Value) {
    let mut brief = message.clone();
    if let Some(tools) = brief
        .pointer_mut("/result/tools")
        .and_then(Value::as_array_mut)
    {
        for tool in tools {
            *tool = tool["name"].take();
        }
    }
    for long in ["/result/instructions", "/result/content"] {
        if let Some(long) = brief.pointer_mut(long) {
            *long = json!("…");
        }
    }
    say(
        style,
        &format!(
            "{arrow} {}",
            shortened(&shown_text(&brief.to_string()), 700)
        ),
    );
}
