//! Search/replace blocks in a model's text: how a model without tools changes a file. They become calls like any other
//! and pass the same gate. Only read where the provider takes no tools: quoted text could become an edit.

use serde_json::{Value, json};

/// One block.
#[derive(Debug, PartialEq)]
struct Block {
    path: String,
    search: String,
    replace: String,
}

/// The calls that `text` asks for: tool and arguments. Blocks for one file that follow each other are one call, since
/// all of its edits hold or none.
pub(super) fn calls(text: &str) -> Vec<(&'static str, Value)> {
    let blocks = blocks(text);
    let groups =
        blocks.chunk_by(|a, b| a.path == b.path && !a.search.is_empty() && !b.search.is_empty());
    groups
        .map(|group| {
            let path = &group[0].path;
            if group[0].search.is_empty() {
                let content = &group[0].replace;
                return ("write_file", json!({"path": path, "content": content}));
            }
            let edits: Vec<Value> = group
                .iter()
                .map(|block| json!({"search": block.search, "replace": block.replace}))
                .collect();
            ("edit_file", json!({"path": path, "edits": edits}))
        })
        .collect()
}

/// Every whole block with a path. One that does not end is none.
fn blocks(text: &str) -> Vec<Block> {
    let mut lines = text.lines();
    let mut blocks = Vec::new();
    let mut path = String::new();
    while let Some(line) = lines.next() {
        if !is_mark(line, '<', "SEARCH") {
            path = path_in(line).unwrap_or(path);
            continue;
        }
        let search = until(&mut lines, |line| is_mark(line, '=', ""));
        let replace = until(&mut lines, |line| is_mark(line, '>', "REPLACE"));
        if let (Some(search), Some(replace)) = (search, replace)
            && !path.is_empty()
        {
            blocks.push(Block {
                path: path.clone(),
                search,
                replace,
            });
        }
    }
    blocks
}

/// Models miscount their marks by one or two.
fn is_mark(line: &str, mark: char, word: &str) -> bool {
    let line = line.trim_end();
    let rest = line.trim_start_matches(mark);
    (5..=9).contains(&(line.len() - rest.len())) && rest.trim() == word
}

/// A path alone on its line, in whatever dress: `` `a.rs` ``, `**a.rs**`, `### a.rs`, `File: a.rs`. A fence is passed over.
fn path_in(line: &str) -> Option<String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with("```") {
        return None;
    }
    let bare = line
        .trim_matches(|c| matches!(c, '`' | '*' | '#' | ':' | ' '))
        .trim_start_matches("File:")
        .trim_matches(|c| matches!(c, '`' | '*' | ' '));
    // A sentence between two blocks does not change the file; a path with blanks would have to be alone in its ticks.
    let is_alone =
        !bare.contains(char::is_whitespace) || line.starts_with('`') && line.ends_with('`');
    (is_alone && bare.contains(['.', '/'])).then(|| bare.to_owned())
}

fn until<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
    end: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut text = String::new();
    for line in lines {
        if end(line) {
            return Some(text);
        }
        text += line;
        text.push('\n');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_calls() {
        let block = |search: &str, replace: &str| {
            format!("<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n")
        };
        let edit = |path: &str, pairs: &[(&str, &str)]| {
            let edits: Vec<Value> = pairs
                .iter()
                .map(|(search, replace)| json!({"search": search, "replace": replace}))
                .collect();
            format!("edit_file {}", json!({"path": path, "edits": edits}))
        };
        let a = block("one\n", "two\n");
        let table = [
            (
                format!("I change it.\n\nsrc/a.rs\n```rust\n{a}```\n"),
                vec![edit("src/a.rs", &[("one\n", "two\n")])],
            ),
            (
                format!("**src/a.rs**\n{a}and\n{a}"),
                vec![edit("src/a.rs", &[("one\n", "two\n"), ("one\n", "two\n")])],
            ),
            (
                format!("`my file.txt`\n{a}b.txt\n{a}"),
                vec![
                    edit("my file.txt", &[("one\n", "two\n")]),
                    edit("b.txt", &[("one\n", "two\n")]),
                ],
            ),
            (
                format!("### File: a.py:\n{}", block("  x\n\n", "")),
                vec![edit("a.py", &[("  x\n\n", "")])],
            ),
            (
                format!("new.txt\n{}", block("", "hi\n")),
                vec![format!(
                    "write_file {}",
                    json!({"path": "new.txt", "content": "hi\n"})
                )],
            ),
            (format!("nothing names a file\n{a}"), vec![]),
            ("a.rs\n<<<<<<< SEARCH\none\n=======\ntwo\n".into(), vec![]),
            ("a.rs\n<<<<<<< SEARCH\none\n".into(), vec![]),
            ("no block".into(), vec![]),
        ];
        for (text, expect) in table {
            let found: Vec<String> = calls(&text)
                .iter()
                .map(|(tool, arguments)| format!("{tool} {arguments}"))
                .collect();
            assert_eq!(found, expect, "{text}");
        }
    }
}
