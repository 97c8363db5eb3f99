//! The edit engine behind the corpus scorer's protocol: a case a line on stdin, an answer a line on stdout.

use std::io::{self, BufRead, Write};

use openoxide::workspace::edit::{Edit, apply};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Case {
    id: String,
    before: Option<String>,
    edits: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    search: String,
    replace: String,
}

#[derive(Serialize)]
struct Answer {
    id: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

fn answer(case: Case) -> Answer {
    let edit = |pair: Pair| Edit {
        search: pair.search,
        replace: pair.replace,
        ..Edit::default()
    };
    let edits: Vec<Edit> = case.edits.into_iter().map(edit).collect();
    match apply(case.before.as_deref().map(str::as_bytes), &edits) {
        Ok(applied) => Answer {
            id: case.id,
            ok: true,
            after: Some(String::from_utf8_lossy(&applied.after).into_owned()),
            error: None,
            message: None,
        },
        Err(refusal) => Answer {
            id: case.id,
            ok: false,
            after: None,
            error: Some(refusal.code.as_str()),
            message: Some(refusal.message),
        },
    }
}

fn main() -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        serde_json::to_writer(&mut out, &answer(serde_json::from_str(&line?)?))?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}
