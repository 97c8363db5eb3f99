//! Temporary.
pub struct Edit {
    pub search: String,
    pub replace: String,
    pub line: Option<usize>,
    pub replace_all: bool,
}
pub struct Match {
    pub how: Option<String>,
}
pub struct Applied {
    pub after: Vec<u8>,
    pub matches: Vec<Match>,
}
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub message: String,
}
pub struct Diff {
    pub text: String,
    pub added: usize,
    pub removed: usize,
}
pub fn apply(before: Option<&[u8]>, edits: &[Edit]) -> Result<Applied, Refusal> {
    let mut t = String::from_utf8(before.unwrap_or_default().to_vec()).map_err(|_| Refusal {
        message: "not text".into(),
    })?;
    for e in edits {
        if t.matches(&e.search).count() != 1 {
            return Err(Refusal {
                message: "not found".into(),
            });
        }
        t = t.replacen(&e.search, &e.replace, 1);
    }
    Ok(Applied {
        after: t.into_bytes(),
        matches: vec![],
    })
}
pub fn unified_diff(path: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> Diff {
    let a = String::from_utf8_lossy(before.unwrap_or_default()).into_owned();
    let b = String::from_utf8_lossy(after.unwrap_or_default()).into_owned();
    let d = similar::TextDiff::from_lines(&a, &b);
    let text = d.unified_diff().header(path, path).to_string();
    Diff {
        added: text
            .lines()
            .filter(|l| l.starts_with('+') && !l.starts_with("+++"))
            .count(),
        removed: text
            .lines()
            .filter(|l| l.starts_with('-') && !l.starts_with("---"))
            .count(),
        text,
    }
}
