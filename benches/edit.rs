//! How fast the edit engine is: on made-up large files, and on the corpus named by `OPENOXIDE_EDIT_CORPUS`
//! (`*.jsonl` or `*.jsonl.gz`) class by class.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use openoxide::workspace::edit::{Edit, apply};
use serde::Deserialize;

/// Each figure is the best of so many runs: what disturbs a run only ever makes it slower.
const RUNS: usize = 5;

#[derive(Deserialize)]
struct Case {
    class: String,
    before: Option<String>,
    edits: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    search: String,
    replace: String,
}

/// A file and the edits on it.
type Meant = (Option<String>, Vec<Edit>);

fn edit(search: &str, replace: &str) -> Edit {
    Edit {
        search: search.to_string(),
        replace: replace.to_string(),
        ..Edit::default()
    }
}

fn best(mut run: impl FnMut()) -> Duration {
    let timed = (0..RUNS).map(|_| {
        let started = Instant::now();
        run();
        started.elapsed()
    });
    timed.min().unwrap_or_default()
}

fn large_files(out: &mut impl Write) -> Result<()> {
    let alike: String = (0..6250)
        .map(|n| format!("fn handler_{n}() {{\n    let id = {n};\n    if id == 0 {{\n        return;\n    }}\n    go(id);\n}}\n\n"))
        .collect();
    let line = format!("{};const last = 1;\n", "x=y;".repeat(250_000));
    let search = "fn handler_5000() {\n    let id = 5000;\n    if id == 0 {";
    let shifted = search.replace("\n    ", "\n        ");
    let cases = [
        ("50,000 lines, exact", &alike, edit(search, "a")),
        ("50,000 lines, shifted", &alike, edit(&shifted, "a")),
        (
            "50,000 lines, absent",
            &alike,
            edit(&search.replace("5000", "7777"), "a"),
        ),
        (
            "50,000 lines, 6,250 places",
            &alike,
            edit("        return;\n    }", "a"),
        ),
        (
            "a line of 1 MB, a piece of it",
            &line,
            edit("const last = 1", "const last = 2"),
        ),
        (
            "a line of 1 MB, absent",
            &line,
            edit("const first = 1", "a"),
        ),
    ];
    for (name, file, edit) in cases {
        let time = best(|| drop(apply(Some(file.as_bytes()), std::slice::from_ref(&edit))));
        writeln!(out, "{name:32} {:9.2} ms", time.as_secs_f64() * 1e3)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    if path.extension().is_none_or(|end| end != "gz") {
        return Ok(fs_err::read_to_string(path)?);
    }
    let unpacked = Command::new("gzip").arg("-dc").arg(path).output()?;
    ensure!(
        unpacked.status.success(),
        "gzip cannot read `{}`",
        path.display()
    );
    Ok(String::from_utf8(unpacked.stdout)?)
}

fn corpus(out: &mut impl Write, path: &Path) -> Result<()> {
    let mut classes: BTreeMap<String, Vec<Meant>> = BTreeMap::new();
    for line in read(path)?.lines() {
        let case: Case = serde_json::from_str(line).context("a line of the corpus")?;
        let edits = case
            .edits
            .iter()
            .map(|pair| edit(&pair.search, &pair.replace));
        classes
            .entry(case.class)
            .or_default()
            .push((case.before, edits.collect()));
    }
    for (class, cases) in classes {
        let time = best(|| {
            for (before, edits) in &cases {
                drop(apply(before.as_deref().map(str::as_bytes), edits));
            }
        });
        let each = time.as_secs_f64() / cases.len() as f64;
        writeln!(
            out,
            "{class:32} {:9.1} µs a case, {:7.0} cases/s",
            each * 1e6,
            1.0 / each
        )?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let mut out = io::stdout().lock();
    large_files(&mut out)?;
    match std::env::var_os("OPENOXIDE_EDIT_CORPUS") {
        Some(path) => corpus(&mut out, Path::new(&path)),
        None => Ok(writeln!(
            out,
            "OPENOXIDE_EDIT_CORPUS is not set: the corpus is left out"
        )?),
    }
}
