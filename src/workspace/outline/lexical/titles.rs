//! Headings, sections and targets: what is not code, and nested by levels if at all.

use super::{LOOKED_AT, nest::Nest};
use crate::workspace::outline::{
    Definition,
    language::{Kind, Shape},
};

/// Those of `text`, which is no code.
pub(super) fn titles(text: &[u8], shape: Shape) -> Vec<Definition> {
    let mut nest = Nest::default();
    let mut fenced = false;
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line[..line.len().min(LOOKED_AT)].trim_ascii_end();
        fenced ^= line.starts_with(b"```") || line.starts_with(b"~~~");
        let found = match shape {
            Shape::Markdown if fenced => None,
            Shape::Markdown => heading(line),
            Shape::Sections => section(line).map(|name| (0, Kind::Section, name)),
            Shape::Targets | Shape::Code(_) => target(line).map(|name| (0, Kind::Function, name)),
        };
        if let Some((level, kind, name)) = found {
            nest.close(level, b"", at);
            nest.open(level, kind, name, at);
        }
        if !line.is_empty() {
            nest.last = at;
        }
    }
    nest.ended()
}

fn section(line: &[u8]) -> Option<String> {
    let inside = line.strip_prefix(b"[")?;
    let inside = inside.strip_prefix(b"[").unwrap_or(inside);
    let end = inside.iter().position(|byte| *byte == b']')?;
    let name = String::from_utf8_lossy(&inside[..end]).into_owned();
    // The value of a list that goes over lines.
    let is_name = !name.is_empty() && !name.contains([',', '{', '=']);
    is_name.then_some(name)
}

fn target(line: &[u8]) -> Option<String> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(&line[..colon]).ok()?;
    let is_rule = line.get(colon + 1) != Some(&b'=') && !name.is_empty();
    let is_plain = !name.contains(['=', '$', '\t', '#']) && !name.starts_with(['.', ' ']);
    (is_rule && is_plain).then(|| name.trim_end().to_owned())
}

fn heading(line: &[u8]) -> Option<(usize, Kind, String)> {
    let level = line.iter().take_while(|byte| **byte == b'#').count();
    let name = line[level..].strip_prefix(b" ")?.trim_ascii();
    (1..=6).contains(&level).then(|| {
        (
            level,
            Kind::Section,
            String::from_utf8_lossy(name).into_owned(),
        )
    })
}
