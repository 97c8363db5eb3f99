//! How long a turn waits for its checkpoint: a tree of 50,000 files, in git with a fresh index and without git.

use std::{
    io::{self, Write},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use openoxide::{
    conversation::SandboxPolicy,
    workspace::{Boundaries, Workspace, checkpoint::Checkpoint},
};

const DIRECTORIES: usize = 2500;
const FILES_IN_EACH: usize = 20;
/// Turns after the first; the best of them is told.
const TURNS: usize = 5;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let dir = tempfile::tempdir()?;
    let work = dir.path().canonicalize()?.join("work");
    plant(&work)?;
    tell(&runtime, "without git", &work, &dir.path().join("state-1"))?;
    let line = "git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -qm x && sleep 1.1 && git update-index --refresh";
    let made = Command::new("sh")
        .args(["-c", line])
        .current_dir(&work)
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    // git believes what is as old as its index as little as we do.
    std::thread::sleep(Duration::from_millis(100));
    tell(&runtime, "with git", &work, &dir.path().join("state-2"))
}

fn plant(work: &Path) -> Result<()> {
    for number in 0..DIRECTORIES {
        let directory = work.join(format!("d{:02}/s{:02}", number / 50, number % 50));
        std::fs::create_dir_all(&directory)?;
        for file in 0..FILES_IN_EACH {
            let text = format!("fn number_{number}_{file}() {{}}\n").repeat(120);
            std::fs::write(directory.join(format!("f{file}.rs")), text)?;
        }
    }
    Ok(())
}

fn tell(runtime: &tokio::runtime::Runtime, what: &str, work: &Path, state: &Path) -> Result<()> {
    let mut out = io::stdout();
    let bounds = Boundaries {
        state: Some(state.to_owned()),
        ..Boundaries::default()
    };
    let workspace = Arc::new(Workspace::open(
        work,
        SandboxPolicy::WorkspaceWrite,
        bounds,
    )?);
    let before = processor_time()?;
    let (first, end) = turn(runtime, &workspace, work)?;
    let used = processor_time()? - before;
    let figures = format!("{first:.1?}, end of turn {end:.1?} ({used:.1?} of processors)");
    writeln!(out, "{what}: first command waits {figures}")?;
    let before = processor_time()?;
    let turns: Vec<_> = (0..TURNS)
        .map(|_| turn(runtime, &workspace, work))
        .collect::<Result<_>>()?;
    let used = (processor_time()? - before) / TURNS as u32;
    let best = turns.iter().map(|turn| turn.0).min().context("turns")?;
    let end = turns.iter().map(|turn| turn.1).min().context("turns")?;
    let figures = format!("{best:.1?}, end of turn {end:.1?} ({used:.1?} of processors)");
    writeln!(out, "{what}: a later one waits {figures}")?;
    Ok(())
}

/// What this process used so far: the figure that a busy machine does not change.
fn processor_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .context("fields")?
        .split_whitespace()
        .collect();
    // In hundredths of a second, after the name: user and system.
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// One turn with one command that changes one file: what the command and the outcome wait for.
fn turn(
    runtime: &tokio::runtime::Runtime,
    workspace: &Arc<Workspace>,
    work: &Path,
) -> Result<(Duration, Duration)> {
    let begun = workspace.checkpoint().begin(workspace, None);
    let started = Instant::now();
    let running = runtime.block_on(Checkpoint::command(workspace));
    let waited = started.elapsed();
    let file = work.join("d01/s01/f1.rs");
    let text = std::fs::read_to_string(&file)? + "// one more\n";
    std::fs::write(&file, text)?;
    drop(running);
    let started = Instant::now();
    let measured = workspace.checkpoint().measure(workspace, &begun);
    let end = started.elapsed();
    let [change] = measured.changes.as_slice() else {
        anyhow::bail!("{measured:?}");
    };
    ensure!(change.path == "d01/s01/f1.rs", "{change:?}");
    if let Some(why) = measured.partial {
        writeln!(io::stdout(), "  (partial: {why})")?;
    }
    Ok((waited, end))
}
