//! Our own time of one shell step: a turn of many `true`, divided by their number, less the same command by itself.
//! Outside the sandbox and inside, with everything that a step is made of but a model's answer: the gate, two records
//! on disk, the helper, the command, and what is left of it.
//!
//! Then our own time of a step over HTTP, the fifth against the five-hundredth of one turn: from the end of an answer to
//! the beginning of the next request, by the clock and by the processor time of all our threads.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
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

/// Steps of the long turn.
const LONG: usize = 500;

/// What the model's side saw of one step.
struct Mark {
    came: Instant,
    answered: Instant,
    /// Processor time of all our threads but the model's own. They wait while it looks.
    cpu: Duration,
    bytes: usize,
}

/// Processor time of all threads but this one.
fn cpu() -> Result<Duration> {
    let own = fs_err::read_link("/proc/thread-self")?;
    let mut nanos = 0;
    for task in fs_err::read_dir("/proc/self/task")? {
        let task = task?;
        // One that has just ended has no time any more.
        let told = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        if own.file_name() != Some(&task.file_name()) {
            nanos += told
                .split(' ')
                .next()
                .unwrap_or_default()
                .parse()
                .unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// Answers every request on one connection: with a read of `big.txt`, and the last with a word.
fn answers(mut stream: TcpStream) -> Result<Vec<Mark>> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let call = json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "", "function": {
        "name": "read_file", "arguments": "{\"path\": \"big.txt\"}"}}]}, "finish_reason": "stop"}]});
    let word = json!({"choices": [{"delta": {"content": "done"}, "finish_reason": "stop"}]});
    let mut marks = Vec::new();
    while marks.len() <= LONG {
        let mut bytes = 0;
        loop {
            let mut line = String::new();
            ensure!(reader.read_line(&mut line)? > 0, "the connection ended");
            let line = line.trim().to_ascii_lowercase();
            match line.strip_prefix("content-length:") {
                Some(length) => bytes = length.trim().parse()?,
                None if line.is_empty() => break,
                None => {}
            }
        }
        let (came, cpu) = (Instant::now(), cpu()?);
        io::copy(&mut reader.by_ref().take(bytes), &mut io::sink())?;
        let event = if marks.len() < LONG { &call } else { &word };
        let body = format!("data: {event}\n\ndata: [DONE]\n\n");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length";
        stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        marks.push(Mark {
            came,
            answered: Instant::now(),
            cpu,
            bytes: bytes as usize,
        });
    }
    Ok(marks)
}

/// A turn of many steps over HTTP, and what its model saw.
fn long_turn(work: &Path, home: &Path) -> Result<Vec<Mark>> {
    fs_err::write(
        work.join("big.txt"),
        "a line of a file that is read\n".repeat(40),
    )?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    let model = thread::spawn(move || answers(listener.accept()?.0));
    let flags = format!(
        "model.base_url = {url:?}\nmodel.context_window = 100000000\n\
         limits.max_steps = 1000\nlimits.max_tokens = 1000000000"
    );
    let app = App::build(Setup {
        cwd: work.to_owned(),
        home: Some(home.to_owned()),
        flags: vec![toml::from_str(&flags)?],
        helper: Some(env!("CARGO_BIN_EXE_openoxide").into()),
        ..Setup::default()
    })?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let thread = app.threads().create(app.header(Wish::default()).await?)?;
        let outcome = thread.start("go".to_owned()).await?.outcome.await?;
        ensure!(outcome.status == Status::Completed, "{outcome:?}");
        Ok(())
    })?;
    model.join().expect("it does not panic")
}

/// The median of ten steps from `first` on, by the clock and by the processor, in milliseconds.
fn own(marks: &[Mark], first: usize) -> (f64, f64) {
    let middle = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    let pairs = || marks[first..first + 11].windows(2);
    (
        middle(pairs().map(|two| two[1].came - two[0].answered).collect()),
        middle(pairs().map(|two| two[1].cpu - two[0].cpu).collect()),
    )
}

fn main() -> Result<()> {
    adopt_orphans();
    let place = tempfile::tempdir()?;
    let work = place.path().join("work");
    fs_err::create_dir(&work)?;
    let file = place.path().join("steps.json");
    recording(&file, &json!({"command": "true"}))?;
    let app = App::build(Setup {
        cwd: work.clone(),
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
    let marks = long_turn(&work, &place.path().join("home"))?;
    for (name, first) in [("5th", 2), ("500th", LONG - 11)] {
        let (clock, cpu) = own(&marks, first);
        writeln!(
            out,
            "{name:>5} step over HTTP  {clock:6.2} ms, processor {cpu:6.2} ms, request {:6.1} KB",
            marks[first + 5].bytes as f64 / 1e3
        )?;
    }
    Ok(())
}
