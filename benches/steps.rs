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
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const STEPS: u32 = 50;
/// Of each figure the median is told.
const ROUNDS: usize = 9;

fn median(mut run: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    Ok(middle((0..ROUNDS).map(|_| run()).collect::<Result<_>>()?))
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
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

/// Processor time of the process without that of this thread. A thread that has ended keeps counting, which it would not
/// in a sum over those that are there.
fn cpu() -> Duration {
    let time = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    time(ClockId::ProcessCPUTime).saturating_sub(time(ClockId::ThreadCPUTime))
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
        let (came, cpu) = (Instant::now(), cpu());
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

/// The median of ten steps from `first` on, by the clock and by the processor.
fn own(marks: &[Mark], first: usize) -> [Duration; 2] {
    let pairs = || marks[first..first + 11].windows(2);
    [
        middle(pairs().map(|two| two[1].came - two[0].answered).collect()),
        middle(
            pairs()
                .map(|two| two[1].cpu.saturating_sub(two[0].cpu))
                .collect(),
        ),
    ]
}

/// The same of several turns, in milliseconds.
fn of_all(turns: &[Vec<Mark>], first: usize) -> [f64; 2] {
    let all: Vec<_> = turns.iter().map(|marks| own(marks, first)).collect();
    [0, 1].map(|which| {
        let times = all.iter().map(|own| own[which]).collect();
        middle(times).as_secs_f64() * 1e3
    })
}

fn shell_steps(out: &mut impl Write, place: &Path, work: &Path) -> Result<()> {
    let file = place.join("steps.json");
    recording(&file, &json!({"command": "true"}))?;
    let app = App::build(Setup {
        cwd: work.to_owned(),
        home: Some(place.join("home")),
        model: Some(format!("recorded:{}", file.display())),
        helper: Some(env!("CARGO_BIN_EXE_openoxide").into()),
        ..Setup::default()
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
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

fn long_turns(out: &mut impl Write, place: &Path, work: &Path) -> Result<()> {
    let turn = |number| long_turn(work, &place.join(format!("home-{number}")));
    let turns = (0..ROUNDS).map(turn).collect::<Result<Vec<_>>>()?;
    let [fifth, last] = [2, LONG - 11].map(|first| of_all(&turns, first));
    for (name, [clock, cpu], step) in [("5th", fifth, 5), ("500th", last, LONG)] {
        writeln!(
            out,
            "{name:>5} step over HTTP  {clock:6.2} ms, processor {cpu:6.2} ms, request {:6.1} KB",
            turns[0][step].bytes as f64 / 1e3
        )?;
    }
    writeln!(
        out,
        "as many times the 5th  {:6.2}   , processor {:6.2}",
        last[0] / fifth[0],
        last[1] / fifth[1]
    )?;
    Ok(())
}

fn main() -> Result<()> {
    adopt_orphans();
    let place = tempfile::tempdir()?;
    let work = place.path().join("work");
    fs_err::create_dir(&work)?;
    let mut out = io::stdout().lock();
    // `cargo bench --bench steps -- http`
    if !std::env::args().any(|argument| argument == "http") {
        shell_steps(&mut out, place.path(), &work)?;
    }
    long_turns(&mut out, place.path(), &work)
}
