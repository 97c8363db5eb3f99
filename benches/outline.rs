//! How long an outline takes: `cargo bench --bench outline [-- FILES]`, with `--features grammars` for the parsers.
//!
//! It makes a tree of 20,000 files in five languages that refer to each other, and looks at it for the first time, again,
//! and after one change. Processor time is told beside, since a machine may be busy with something else.
//!
//! `cargo bench --bench outline -- PATH TOKENS` prints what the agent sees of a place below the working directory instead.

#![expect(clippy::print_stdout, reason = "figures are all that it makes")]

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use openoxide::{
    conversation::SandboxPolicy,
    workspace::{Boundaries, Workspace, outline},
};
use tokio_util::sync::CancellationToken;

const ENDINGS: [&str; 5] = ["rs", "py", "ts", "go", "java"];

fn main() {
    let asked = std::env::args().find_map(|word| word.parse().ok());
    let place = std::env::args()
        .skip(1)
        .find(|word| Path::new(word).exists());
    match place {
        Some(place) => printed(&place, asked.unwrap_or(3000)),
        None => measured(asked.unwrap_or(20_000)),
    }
}

fn printed(place: &str, tokens: usize) {
    let bounds = Boundaries::default();
    let here = Workspace::open(Path::new("."), SandboxPolicy::ReadOnly, bounds).expect("here");
    let place = here.resolve(place).expect("a place below");
    let cancel = CancellationToken::new();
    let text = outline::outline(&here, &place, tokens, &cancel).expect("an outline");
    println!("{text}");
}

fn measured(count: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let state = tempfile::tempdir().expect("a temporary directory");
    let bytes: usize = (0..count).map(|n| make(dir.path(), n, count)).sum();
    println!("{count} files, {:.1} MB", bytes as f64 / 1e6);
    // What was written in the last moments is not believed by its looks.
    std::thread::sleep(Duration::from_millis(200));
    let bounds = || Boundaries {
        state: Some(state.path().to_owned()),
        ..Boundaries::default()
    };
    let open =
        || Workspace::open(dir.path(), SandboxPolicy::ReadOnly, bounds()).expect("a workspace");
    let workspace = open();
    told("first look, and the best-ranked parsed", &workspace);
    told("again", &workspace);
    std::fs::write(dir.path().join("m1/s1/f1.py"), "def changed(): pass\n").expect("written");
    told("after one change", &workspace);
    if cfg!(feature = "grammars") {
        // The rest is parsed in the background meanwhile.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(120) && workspace.outlines().is_busy() {
            std::thread::sleep(Duration::from_millis(100));
        }
        println!(
            "the rest parsed in the background after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        told("again, all parsed", &open());
    }
    let file = std::fs::read_dir(state.path().join("outlines"))
        .expect("kept")
        .flatten()
        .next();
    let size = file
        .and_then(|file| file.metadata().ok())
        .map_or(0, |about| about.len());
    println!("kept: {:.1} MB", size as f64 / 1e6);
}

fn told(what: &str, workspace: &Workspace) {
    let (began, before) = (Instant::now(), processor());
    let cancel = CancellationToken::new();
    let text = outline::outline(workspace, workspace.cwd(), 3000, &cancel).expect("an outline");
    let (wall, used) = (began.elapsed(), processor() - before);
    println!(
        "{what}: {:.0} ms ({:.0} ms of processors), {} bytes",
        wall.as_secs_f64() * 1e3,
        used.as_secs_f64() * 1e3,
        text.len()
    );
}

/// What this process used of all processors.
fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Writes one file of some hundred lines, and says how long it is.
fn make(root: &Path, n: usize, count: usize) -> usize {
    let ending = ENDINGS[n % ENDINGS.len()];
    let folder = root.join(format!("m{}/s{}", n % 100, n % 10));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut text = String::new();
    for k in 0..12 {
        // A few are called by many.
        let other = (n * 7919 + k * 104_729) % count;
        let other = if k % 3 == 0 { other % 50 } else { other };
        let call = format!("work_{other}_{}(beta, alpha)", (k * 5) % 12);
        // Writing into a String cannot fail.
        let _ = match ending {
            "py" => writeln!(
                text,
                "def work_{n}_{k}(alpha, beta):\n    \"\"\"Does it.\"\"\"\n    if alpha > beta:\n        return {call}\n    return alpha\n"
            ),
            "ts" => writeln!(
                text,
                "export function work_{n}_{k}(alpha: number, beta: number): number {{\n  // Does it.\n  if (alpha > beta) {{\n    return {call};\n  }}\n  return alpha;\n}}\n"
            ),
            "go" => writeln!(
                text,
                "func work_{n}_{k}(alpha int, beta int) int {{\n\t// Does it.\n\tif alpha > beta {{\n\t\treturn {call}\n\t}}\n\treturn alpha\n}}\n"
            ),
            "java" => writeln!(
                text,
                "class C{n}_{k} {{\n    int work_{n}_{k}(int alpha, int beta) {{\n        if (alpha > beta) {{\n            return {call};\n        }}\n        return alpha;\n    }}\n}}\n"
            ),
            _ => writeln!(
                text,
                "pub fn work_{n}_{k}(alpha: u32, beta: u32) -> u32 {{\n    // Does it.\n    if alpha > beta {{\n        return {call};\n    }}\n    alpha\n}}\n"
            ),
        };
    }
    std::fs::write(folder.join(format!("f{n}.{ending}")), &text).expect("written");
    text.len()
}
