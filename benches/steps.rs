//! Our own time of one shell step: a turn of many `true`, divided by their number, less the same command by itself.
//! Outside the sandbox and inside, with everything that a step is made of but a model's answer: the gate, two records
//! on disk, the helper, the command, and what is left of it.

use std::{
    io::{self, Write},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use openoxide::{
    app::{App, Setup, Wish},
    conversation::{SandboxPolicy, Status},
    workspace::shell::adopt_orphans,
};
use serde_json::{Value, json};

const STEPS: u32 = 50;
/// Of each figure the median is told.
const ROUNDS: usize = 9;

fn median(mut run: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let mut times = (0..ROUNDS).map(|_| run()).collect::<Result<Vec<_>>>()?;
    times.sort();
    Ok(times[ROUNDS / 2])
}

/// One `sh -c true`.
fn bare() -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..STEPS {
        ensure!(
            Command::new("/bin/sh")
                .args(["-c", "true"])
                .status()?
                .success()
        );
    }
    Ok(started.elapsed() / STEPS)
}

fn recording(path: &Path, arguments: &Value) -> Result<()> {
    let call = json!({"calls": [{"name": "shell", "arguments": arguments}]});
    let mut samples = vec![call; STEPS as usize];
    samples.push(json!({"text": "done"}));
    let recording = json!({"model": "steps", "samples": samples});
    Ok(fs_err::write(path, recording.to_string())?)
}

/// One step of a turn.
async fn step(app: &App, sandbox: SandboxPolicy) -> Result<Duration> {
    let wish = Wish {
        sandbox: Some(sandbox),
        ..Wish::default()
    };
    let header = app.header(wish).await?;
    let thread = app.threads().create(header)?;
    let started = Instant::now();
    let outcome = thread.start("go".to_owned()).await?.outcome.await?;
    let took = started.elapsed();
    ensure!(outcome.status == Status::Completed, "{outcome:?}");
    let all = outcome.commands.iter().all(|run| run.exit_code == Some(0));
    ensure!(
        all && outcome.commands.len() == STEPS as usize,
        "{outcome:?}"
    );
    Ok(took / STEPS)
}

fn main() -> Result<()> {
    adopt_orphans();
    let place = tempfile::tempdir()?;
    let work = place.path().join("work");
    fs_err::create_dir(&work)?;
    let file = place.path().join("steps.json");
    recording(&file, &json!({"command": "true"}))?;
    let app = App::build(Setup {
        cwd: work,
        home: Some(place.path().join("home")),
        model: Some(format!("recorded:{}", file.display())),
        helper: Some(env!("CARGO_BIN_EXE_openoxide").into()),
        ..Setup::default()
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut out = io::stdout().lock();
    let bare = median(bare)?;
    writeln!(
        out,
        "sh -c true             {:6.2} ms",
        bare.as_secs_f64() * 1e3
    )?;
    for (name, sandbox) in [
        ("free", SandboxPolicy::DangerFullAccess),
        ("sandboxed", SandboxPolicy::WorkspaceWrite),
    ] {
        runtime
            .block_on(step(&app, sandbox))
            .context("warming up")?;
        let step = median(|| runtime.block_on(step(&app, sandbox)))?;
        let own = step.as_secs_f64() - bare.as_secs_f64();
        writeln!(
            out,
            "{name:12} a step    {:6.2} ms, our own {:6.2} ms",
            step.as_secs_f64() * 1e3,
            own * 1e3
        )?;
    }
    Ok(())
}
