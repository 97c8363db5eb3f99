//! How long a turn waits for its checkpoint: a tree of 50,000 files, in git with a fresh index and without git.

use std::{
    fmt,
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
/// Turns after the first: the best of their times is told, and the mean of what they use.
const TURNS: u32 = 10;

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
    let first = turn(runtime, &workspace, work)?;
    writeln!(out, "{what}: first command waits {first}")?;
    let turns: Vec<Turn> = (0..TURNS)
        .map(|_| turn(runtime, &workspace, work))
        .collect::<Result<_>>()?;
    let best = |part: fn(&Turn) -> Part| Part {
        wall: turns
            .iter()
            .map(|turn| part(turn).wall)
            .min()
            .unwrap_or_default(),
        used: turns.iter().map(|turn| part(turn).used).sum::<Duration>() / TURNS,
    };
    let best = Turn {
        wait: best(|turn| turn.wait),
        end: best(|turn| turn.end),
    };
    writeln!(out, "{what}: a later one waits {best}")?;
    Ok(())
}

/// What somebody waits for, and what it takes of processors meanwhile.
#[derive(Clone, Copy)]
struct Part {
    wall: Duration,
    used: Duration,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1?} ({:.0?} of processors)", self.wall, self.used)
    }
}

struct Turn {
    wait: Part,
    end: Part,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, end of turn {}", self.wait, self.end)
    }
}

fn part<T>(work: impl FnOnce() -> T) -> Result<(T, Part)> {
    let (before, started) = (processor_time()?, Instant::now());
    let done = work();
    let wall = started.elapsed();
    let used = processor_time()? - before;
    Ok((done, Part { wall, used }))
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
) -> Result<Turn> {
    let begun = workspace.checkpoint().begin(None);
    let (running, wait) = part(|| runtime.block_on(Checkpoint::command(workspace)))?;
    let file = work.join("d01/s01/f1.rs");
    let text = std::fs::read_to_string(&file)? + "// one more\n";
    std::fs::write(&file, text)?;
    drop(running);
    let (measured, end) = part(|| workspace.checkpoint().measure(workspace, &begun))?;
    let [change] = measured.changes.as_slice() else {
        anyhow::bail!("{measured:?}");
    };
    ensure!(change.path == "d01/s01/f1.rs", "{change:?}");
    if let Some(why) = measured.partial {
        writeln!(io::stdout(), "  (partial: {why})")?;
    }
    Ok(Turn { wait, end })
}
