//! The same from a real parser, for languages that have a grammar here: tree-sitter, with the tag query of each grammar
//! and what it leaves out.
//!
//! A text gets [`PER_TEXT`] to be parsed; what takes longer, and what is in no language here, keeps its lines.

mod tables;

use std::{
    collections::HashMap,
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use tree_sitter::{
    Node, ParseOptions, Parser, Point, Query, QueryCursor, QueryCursorOptions, StreamingIterator,
    Tree,
};

use super::{
    Definition,
    language::{Kind, Language},
    lexical::MOST,
};
pub(super) use tables::NAMES;
use tables::{BRANCHES, IMPORTS, source};

/// For one text.
const PER_TEXT: Duration = Duration::from_secs(1);
/// Matches of a query that may be under way; beyond, the oldest is dropped.
const MATCHES: u32 = 1024;

/// What a parser says of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parsed {
    pub(super) definitions: Vec<Definition>,
    /// Lines at which a way divides, once for each time; sorted.
    pub(super) branches: Vec<u32>,
    /// Lines at which an import begins.
    pub(super) imports: Vec<u32>,
}

/// Parses one text.
pub(super) fn parse(language: &Language, path: &Path, text: &[u8]) -> Option<Parsed> {
    Parsers::default().parse(language, path, text)
}

/// Parsers that were made, by the name of their grammar; none where there is no grammar.
#[derive(Default)]
pub(super) struct Parsers {
    made: HashMap<&'static str, Option<Grammar>>,
}

struct Grammar {
    parser: Parser,
    query: Query,
}

impl Parsers {
    pub(super) fn parse(
        &mut self,
        language: &Language,
        path: &Path,
        text: &[u8],
    ) -> Option<Parsed> {
        // The one with markup is a grammar of its own.
        let name = match path.extension().is_some_and(|ending| ending == "tsx") {
            true => "TSX",
            false => language.name,
        };
        let grammar = self.made.entry(name).or_insert_with(|| Grammar::of(name));
        grammar.as_mut()?.parse(text)
    }
}

impl Grammar {
    fn of(name: &str) -> Option<Self> {
        let (language, query) = source(name)?;
        let mut parser = Parser::new();
        // Both can only fail for a grammar of another generation, which a test would show.
        parser.set_language(&language).ok()?;
        let query = Query::new(&language, &query).ok()?;
        Some(Self { parser, query })
    }

    fn parse(&mut self, text: &[u8]) -> Option<Parsed> {
        let until = Instant::now() + PER_TEXT;
        let tree = self.tree(text, until)?;
        let mut parsed = Parsed {
            definitions: self.definitions(&tree, text, until)?,
            ..Parsed::default()
        };
        walk(&tree, |node| {
            let line = line_of(node.start_position());
            if node.is_named() {
                if BRANCHES.contains(&node.kind()) {
                    parsed.branches.push(line);
                }
                // A list in Go: each of its lines is one.
                let is_list = || {
                    node.named_child(0)
                        .is_some_and(|child| child.kind() == "import_spec_list")
                };
                if IMPORTS.contains(&node.kind()) && !is_list() {
                    parsed.imports.push(line);
                }
            } else if matches!(node.kind(), "&&" | "||" | "and" | "or") {
                parsed.branches.push(line);
            }
        });
        parsed.branches.sort_unstable();
        parsed.imports.dedup();
        Some(parsed)
    }

    fn tree(&mut self, text: &[u8], until: Instant) -> Option<Tree> {
        let mut late = |_: &_| match Instant::now() > until {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let options = ParseOptions::new().progress_callback(&mut late);
        let mut rest = |at: usize, _: Point| text.get(at..).unwrap_or_default();
        let tree = self
            .parser
            .parse_with_options(&mut rest, None, Some(options));
        // Where it stopped it would go on.
        self.parser.reset();
        tree
    }

    fn definitions(&self, tree: &Tree, text: &[u8], until: Instant) -> Option<Vec<Definition>> {
        let mut late = |_: &_| match Instant::now() > until {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let options = QueryCursorOptions::new().progress_callback(&mut late);
        let mut cursor = QueryCursor::new();
        cursor.set_match_limit(MATCHES);
        let names = self.query.capture_names();
        let mut matches = cursor.matches_with_options(&self.query, tree.root_node(), text, options);
        let mut found = Vec::new();
        while let Some(matched) = matches.next() {
            let (mut name, mut defined) = (None, None);
            for capture in matched.captures() {
                match names[capture.index as usize] {
                    "name" => name = Some(capture.node),
                    tag => {
                        if let Some(tag) = tag.strip_prefix("definition.") {
                            defined = whole(capture.node).map(|node| (kind(tag, node), node));
                        }
                    }
                }
            }
            if let Some((kind, node)) = defined {
                let name = name.map_or(&text[..0], |name| &text[name.byte_range()]);
                found.push((node.start_byte(), node.end_byte(), kind, name, node));
            }
        }
        drop(matches);
        (Instant::now() <= until).then(|| nested(found))
    }
}

type Found<'a> = (usize, usize, Kind, &'a [u8], Node<'a>);

/// Each once, in the order of the text, with how many it stands in.
fn nested(mut found: Vec<Found<'_>>) -> Vec<Definition> {
    // What is matched twice is more precise as a function than as what it may also be.
    found.sort_by_key(|(from, to, kind, ..)| {
        (*from, std::cmp::Reverse(*to), *kind != Kind::Function)
    });
    found.dedup_by_key(|(from, to, ..)| (*from, *to));
    let mut open: Vec<usize> = Vec::new();
    let definitions = found
        .into_iter()
        .take(MOST)
        .map(|(from, to, kind, name, node)| {
            open.retain(|end| *end > from);
            let depth = u8::try_from(open.len()).unwrap_or(u8::MAX).min(12);
            open.push(to);
            let end = node.end_position();
            // What ends before the first column ends with the line before.
            let last = if end.column == 0 && end.row > node.start_position().row {
                end.row
            } else {
                end.row + 1
            };
            Definition {
                kind,
                name: String::from_utf8_lossy(name).into_owned(),
                line: line_of(node.start_position()),
                end: u32::try_from(last).unwrap_or(u32::MAX),
                depth,
            }
        });
    definitions.collect()
}

fn line_of(place: Point) -> u32 {
    u32::try_from(place.row + 1).unwrap_or(u32::MAX)
}

/// A declarator of C stands for the function around it; without one it is a prototype.
fn whole(node: Node<'_>) -> Option<Node<'_>> {
    if node.kind() != "function_declarator" {
        return Some(node);
    }
    let mut around = node.parent();
    while let Some(parent) = around {
        match parent.kind() {
            "function_definition" => return Some(parent),
            "pointer_declarator" | "reference_declarator" | "parenthesized_declarator" => {
                around = parent.parent()
            }
            _ => return None,
        }
    }
    None
}

fn kind(tag: &str, node: Node<'_>) -> Kind {
    match tag {
        // An associated type of Rust is called as its trait says.
        _ if node.kind() == "type_item"
            && node
                .parent()
                .is_some_and(|around| around.kind() == "declaration_list") =>
        {
            Kind::Group
        }
        "function" | "method" => Kind::Function,
        "module" => Kind::Module,
        "group" => Kind::Group,
        "constant" | "macro" | "field" => Kind::Value,
        _ => Kind::Type,
    }
}

/// All nodes, without going deep into the stack.
fn walk(tree: &Tree, mut see: impl FnMut(Node<'_>)) {
    let mut cursor = tree.walk();
    loop {
        see(cursor.node());
        if cursor.goto_first_child() || cursor.goto_next_sibling() {
            continue;
        }
        loop {
            if !cursor.goto_parent() {
                return;
            }
            if cursor.goto_next_sibling() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `first-last name` of each definition, indented by its depth.
    fn found(name: &str, text: &str) -> String {
        let path = Path::new(name);
        let language = Language::of(path, b"").unwrap();
        let parsed = parse(language, path, text.as_bytes())
            .unwrap_or_else(|| panic!("{name} has no grammar"));
        let line = |found: &Definition| {
            let indent = "  ".repeat(usize::from(found.depth));
            format!("{indent}{}-{} {}\n", found.line, found.end, found.name)
        };
        parsed.definitions.iter().map(line).collect()
    }

    #[test]
    fn every_language_has_a_grammar_whose_tags_are_found() {
        for (name, text, expected) in [
            (
                "a.rs",
                "impl A for B {\n    fn one(&self) {}\n}\nconst TWO: u8 = 1;\n",
                "1-3 \n  2-2 one\n4-4 TWO\n",
            ),
            (
                "a.py",
                "class A:\n    def one(self):\n        pass\n",
                "1-3 A\n  2-3 one\n",
            ),
            (
                "a.js",
                "class A {\n  constructor() {}\n  one() {}\n}\nconst two = () => {};\n",
                "1-4 A\n  2-2 constructor\n  3-3 one\n5-5 two\n",
            ),
            (
                "a.ts",
                "export class A<T> {\n  one(): void {}\n}\nenum B { C }\ntype D = string;\nfunction e() {}\n",
                "1-3 A\n  2-2 one\n4-4 B\n5-5 D\n6-6 e\n",
            ),
            (
                "a.tsx",
                "function A() {\n  return <b>{1}</b>;\n}\n",
                "1-3 A\n",
            ),
            (
                "a.go",
                "package a\n\ntype A struct{}\n\nfunc (a A) One() {\n}\n",
                "3-3 A\n5-6 One\n",
            ),
            (
                "A.java",
                "class A {\n  A() {}\n  void one() {}\n  enum B { C }\n}\n",
                "1-5 A\n  2-2 A\n  3-3 one\n  4-4 B\n",
            ),
            (
                "a.c",
                "#define A 1\nint *one(int a)\n{\n}\nint two(void);\nstruct b { int c; };\n",
                "1-1 A\n2-4 one\n6-6 b\n",
            ),
            (
                "a.cpp",
                "namespace a {\nclass B {\n  ~B() {}\n};\nvoid B::one() {}\n}\n",
                "1-6 a\n  2-4 B\n    3-3 ~B\n  5-5 one\n",
            ),
            (
                "a.rb",
                "module A\n  class B\n    def one\n    end\n  end\nend\n",
                "1-6 A\n  2-5 B\n    3-4 one\n",
            ),
            (
                "a.php",
                "<?php\nclass A {\n  function one() {}\n}\nenum B {}\n",
                "2-4 A\n  3-3 one\n5-5 B\n",
            ),
            (
                "a.cs",
                "namespace A {\n  struct B { void One() {} }\n  record C(int D);\n}\n",
                "1-4 A\n  2-2 B\n    2-2 One\n  3-3 C\n",
            ),
        ] {
            assert_eq!(found(name, text), expected, "{name}");
        }
        for name in NAMES {
            assert!(source(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_text_that_is_nested_without_end_ends_in_time() {
        let began = Instant::now();
        for (name, text) in [
            ("a.rs", "(".repeat(500_000)),
            ("a.js", "[{".repeat(200_000)),
            ("a.c", "a*(".repeat(200_000)),
            ("a.py", "((((\n".repeat(100_000)),
            ("a.cpp", "a<b<".repeat(150_000)),
        ] {
            let path = Path::new(name);
            // It may have an outline or none.
            let _ = parse(Language::of(path, b"").unwrap(), path, text.as_bytes());
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{:?}",
            began.elapsed()
        );
    }
}
