//! The tidiness of the source: imports go down only, packages are named only in their rooms, files open with a sentence.
//!
//! It reads the files of `src` as text, with comments and string literals blanked out, and knows just enough of Rust to
//! find `crate::` paths, braces included. The tables are those of the design; each exception has its reason beside it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Longer files are worth a look: one noun a file.
const LONG: usize = 450;

/// The layer of each module below the crate root. Imports go to a lower number.
const LAYERS: &[(&str, u8)] = &[
    ("conversation", 0),
    ("workspace", 1),
    ("model", 2),
    ("tools", 2),
    ("agent", 3),
    ("thread", 4),
    ("frontend", 5),
    ("config", 6),
    ("app", 6),
    ("main", 6),
];

/// Imports that go sideways or up, as `(from, to, why)`. `from` is a file or a folder.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "tools",
        "model",
        "a tool describes itself as a `ToolSpec`, the words of the model about tools",
    ),
    (
        "tools/mcp",
        "model",
        "HTTP connections are made in one place, with one set of certificates",
    ),
    ("app", "config", "the wiring reads the configuration"),
    (
        "frontend/cli",
        "app",
        "the command line is where the program begins: it builds the `App`",
    ),
    (
        "frontend/mcp",
        "app",
        "the server asks the `App` for headers and threads",
    ),
    (
        "frontend/cli",
        "config",
        "flags become layers of the configuration, and `openoxide threads` finds its directory",
    ),
    (
        "frontend/mcp",
        "config",
        "arguments of a call are a `Narrowing` of the configuration",
    ),
];

/// Which package may be named where. What is not listed may be named anywhere.
const PACKAGES: &[(&str, &[&str])] = &[
    ("rmcp", &["frontend/mcp"]),
    (
        "base64",
        &["frontend/mcp/resources", "frontend/attach.rs", "tools/mcp"],
    ),
    ("percent_encoding", &["frontend/mcp/resources", "tools/mcp"]),
    ("async_openai", &["model"]),
    ("reqwest", &["model", "tools/mcp"]),
    // The client of a WebSocket; its server is axum's.
    ("tokio_tungstenite", &["tools/mcp"]),
    ("rustls", &["model"]),
    ("tower", &["model"]),
    ("bytes", &["model"]),
    ("http", &["model", "frontend/mcp"]),
    ("axum", &["frontend/mcp/network"]),
    ("hyper", &["frontend/mcp/network"]),
    ("hyper_util", &["frontend/mcp/network"]),
    ("httpdate", &["model"]),
    ("portable_pty", &["workspace/shell"]),
    ("filedescriptor", &["workspace/shell"]),
    ("vte", &["workspace/shell"]),
    ("similar", &["workspace/edit"]),
    // The rules of a checkpoint outlive the walk of a search: those of the first look hold for the second.
    (
        "ignore",
        &["workspace/search", "workspace/checkpoint/scan.rs"],
    ),
    ("globset", &["workspace/search"]),
    ("grep_matcher", &["workspace/search"]),
    ("grep_regex", &["workspace/search"]),
    ("grep_searcher", &["workspace/search"]),
    ("regex_syntax", &["workspace/search"]),
    ("tree_sitter", &["workspace/outline/grammar"]),
    ("unicode_normalization", &["workspace"]),
    ("etcetera", &["config"]),
    ("clap", &["frontend/cli"]),
    ("clap_complete", &["frontend/cli"]),
    ("anstream", &["frontend/cli"]),
    ("anstyle", &["frontend/cli"]),
    ("tracing_subscriber", &["frontend/cli"]),
    ("anyhow", &["main.rs", "app.rs", "frontend/cli"]),
    ("toml", &["config", "app.rs", "frontend/cli"]),
];

/// One file of `src`.
struct Source {
    /// Relative to `src`.
    path: String,
    text: String,
    /// The text without comments and literals, white space between words kept.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 30, "the source is somewhere else");
    let mut sources: Vec<Source> = files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file).expect("a source file");
            let path = file.strip_prefix(&root).expect("under src");
            Source {
                path: path.to_string_lossy().into_owned(),
                code: code_of(&text),
                text,
            }
        })
        .collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
}

/// `text` with comments and the insides of literals taken out.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = skipped(rest, code.chars().next_back());
        if skipped > 0 {
            // Line ends stay, so that a line is still a line.
            code.push(' ');
            code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// How many bytes at the beginning of `rest` are a comment or a literal. `before` stands in front of it.
fn skipped(rest: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |at| at + 2);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        // A lifetime is not a literal.
        let mut inside = inside.chars();
        let is_char = inside.next() == Some('\\') || inside.next() == Some('\'');
        return if is_char { quoted(rest, '\'') } else { 0 };
    }
    let raw = rest
        .strip_prefix("br")
        .or_else(|| rest.strip_prefix('r'))
        .filter(|_| !in_word);
    if let Some(after) = raw {
        let hashes = after.len() - after.trim_start_matches('#').len();
        if after[hashes..].starts_with('"') {
            let start = rest.len() - after.len() + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            let end = rest[start..].find(&close).expect("a raw string ends");
            return start + end + close.len();
        }
    }
    0
}

fn quoted(rest: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == mark => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The first names after each `crate::` of `code`: `crate::{a::{b, c}, d}` gives `a` and `d`.
fn named_modules(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = code[at + "crate::".len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(list) => named.extend(heads(list)),
            None => named.extend(head(rest)),
        }
    }
    named
}

/// The head of each entry of a braced list; `list` begins behind its brace.
fn heads(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 0usize;
    let mut entry = 0;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.extend(head(list[entry..at].trim()));
                entry = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

fn head(path: &str) -> Option<String> {
    let end = path
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

/// `frontend/cli/args.rs` is in `frontend`, `app.rs` in `app`.
fn module_of(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn is_in(path: &str, place: &str) -> bool {
    path == place
        || path
            .strip_prefix(place)
            .is_some_and(|rest| rest.starts_with('/'))
        || path.strip_suffix(".rs") == Some(place)
}

/// Imports of `source` that its layer does not allow.
fn wrong_imports(source: &Source) -> Vec<String> {
    let from = module_of(&source.path);
    if from == "lib" {
        return Vec::new();
    }
    let Some(own) = layer(from) else {
        return vec![format!("`{}` is in no layer", source.path)];
    };
    named_modules(&source.code)
        .into_iter()
        .filter(|to| to != from)
        .filter(|to| {
            layer(to).is_none_or(|layer| layer >= own)
                && !EXCEPTIONS
                    .iter()
                    .any(|(place, module, _)| module == to && is_in(&source.path, place))
        })
        .map(|to| format!("`{}` (layer {own}) names `crate::{to}`", source.path))
        .collect()
}

/// True if `code` names `package` at the head of a path or in a `use`.
fn names(code: &str, package: &str) -> bool {
    code.match_indices(package).any(|(at, _)| {
        let (before, after) = (&code[..at], code[at + package.len()..].trim_start());
        let stands_alone = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let is_used =
            before.ends_with("use ") && (after.starts_with([';', ',']) || after.starts_with("as "));
        stands_alone && (after.starts_with("::") || is_used)
    })
}

fn no_findings(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

#[test]
fn imports_go_down_only() {
    let findings: Vec<String> = sources().iter().flat_map(wrong_imports).collect();
    no_findings("imports that go up or sideways", &findings);
}

#[test]
fn no_exception_outlives_its_reason() {
    let sources = sources();
    let unused: Vec<String> = EXCEPTIONS
        .iter()
        .filter(|(place, module, _)| {
            !sources
                .iter()
                .any(|s| is_in(&s.path, place) && named_modules(&s.code).contains(*module))
        })
        .map(|(place, module, why)| format!("{place} → {module} ({why})"))
        .collect();
    no_findings("exceptions that nothing needs", &unused);
}

#[test]
fn packages_stay_in_their_rooms() {
    let findings: Vec<String> = sources()
        .iter()
        .flat_map(|source| {
            PACKAGES
                .iter()
                .filter(|(package, places)| {
                    names(&source.code, package)
                        && !places.iter().any(|place| is_in(&source.path, place))
                })
                .map(|(package, places)| {
                    format!(
                        "`{}` names `{package}`, which is for {places:?}",
                        source.path
                    )
                })
        })
        .collect();
    no_findings("packages out of their rooms", &findings);
}

#[test]
fn nothing_is_unsafe_or_excused() {
    let mut findings = Vec::new();
    for source in sources() {
        for (number, line) in source.code.lines().enumerate() {
            let has_word = |word: &str| {
                line.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .any(|w| w == word)
            };
            if has_word("unsafe") {
                findings.push(format!("{}:{}: unsafe", source.path, number + 1));
            }
            if line.contains("#[allow(") || line.contains("#![allow(") {
                findings.push(format!("{}:{}: an allow", source.path, number + 1));
            }
        }
    }
    no_findings(
        "what has no place here (`#[expect(…, reason)]` has)",
        &findings,
    );
}

#[test]
fn only_the_command_line_prints() {
    let printing = ["println!", "print!", "eprintln!", "eprint!", "dbg!"];
    let findings: Vec<String> = sources()
        .iter()
        .filter(|source| !is_in(&source.path, "frontend/cli"))
        .filter(|source| printing.iter().any(|print| source.code.contains(print)))
        .map(|source| source.path.clone())
        .collect();
    no_findings("files that print", &findings);
}

#[test]
fn every_file_opens_with_a_sentence() {
    let findings: Vec<String> = sources()
        .iter()
        .filter(|source| {
            let first = source.text.lines().next().unwrap_or_default();
            !first.starts_with("//! ")
        })
        .map(|source| source.path.clone())
        .collect();
    no_findings("files without a first sentence", &findings);
}

/// `ARCHITECTURE.md` names a file by its path below `src`, or by the end of that.
#[test]
fn the_map_names_files_that_are_there() {
    let map = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let map = std::fs::read_to_string(map).expect("the map");
    let sources = sources();
    let is_there = |name: &str| {
        let name = Path::new(name.strip_prefix("src/").unwrap_or(name));
        sources.iter().any(|s| Path::new(&s.path).ends_with(name))
    };
    let named = map.split('`').skip(1).step_by(2);
    let gone: Vec<String> = named
        .filter(|name| name.ends_with(".rs") && !name.starts_with("tests/") && !is_there(name))
        .map(str::to_owned)
        .collect();
    no_findings("files that are named and not there", &gone);
}

/// Reports only: a table may be long.
#[test]
#[expect(clippy::print_stdout, reason = "a report is all it does")]
fn long_files_are_told() {
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > LONG {
            println!("{} lines: {}", lines, source.path);
        }
    }
}

#[test]
fn the_reader_of_rust_sees_what_is_there_and_nothing_else() {
    let code = code_of(
        "use crate::{a::{b, c}, d, e as f};\n// crate::comment\nlet x = \"crate::text \\\" more\"; let y = r#\"crate::raw \" \"#;\n\
         let z: &'static str = 'c'; crate::g::h(); mycrate::i(); /* crate::j */ let quote = '\"'; crate::k();",
    );
    let found: Vec<String> = named_modules(&code).into_iter().collect();
    assert_eq!(found, ["a", "d", "e", "g", "k"]);
    let upward = Source {
        path: "workspace/file.rs".to_owned(),
        text: String::new(),
        code: code_of("use crate::{conversation::Item, thread::Header};"),
    };
    assert_eq!(
        wrong_imports(&upward),
        ["`workspace/file.rs` (layer 1) names `crate::thread`"]
    );
    assert!(names(&code_of("use rmcp::model;"), "rmcp"));
    assert!(names(&code_of("let a: rmcp::Error;"), "rmcp"));
    assert!(names(&code_of("use clap;"), "clap"));
    assert!(!names(&code_of("use crate::ignore::x;"), "ignore"));
    assert!(!names(&code_of("// rmcp::model"), "rmcp"));
    assert!(!names(&code_of("let ignore = 3;"), "ignore"));
}
