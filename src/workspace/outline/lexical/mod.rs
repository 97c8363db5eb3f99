//! The definitions of a text without a parser: lines that begin as one does, nested and ended by their indentation.
//!
//! Indentation is what people see, and a text that is broken, half written or full of preprocessor branches is still
//! understood line by line. One pass; nothing here can be made slow by what a text holds.

mod bare;
mod nest;
mod titles;
mod worded;

use super::{
    Definition,
    blank::{COMMENT, STRING},
    language::{Bare, Kind, Language, Shape},
};
use bare::{Place, without_word};
use nest::Nest;
use worded::worded;

/// Definitions of one file that are kept.
pub(super) const MOST: usize = 5_000;
/// Bytes of a line that are looked at.
const LOOKED_AT: usize = 400;

/// Words before `(` that are no name of a function.
const CONTROL: &[&str] = &[
    "if",
    "for",
    "while",
    "switch",
    "catch",
    "return",
    "else",
    "do",
    "new",
    "throw",
    "await",
    "yield",
    "sizeof",
    "case",
    "using",
    "lock",
    "foreach",
    "assert",
    "delete",
    "typeof",
    "in",
    "of",
    "when",
    "synchronized",
    "try",
    "defined",
    "fixed",
    "with",
    "alignas",
    "decltype",
    "requires",
    "co_await",
    "co_return",
    "super",
    "this",
];

/// The definitions of `text`, whose code alone is `code`.
pub(super) fn definitions(text: &[u8], code: &[u8], language: &Language) -> Vec<Definition> {
    let Shape::Code(bare) = language.shape else {
        return titles::titles(text, language.shape);
    };
    let lines: Vec<&[u8]> = code.split(|byte| *byte == b'\n').collect();
    let mut nest = Nest::default();
    for (at, line) in lines.iter().enumerate() {
        let line = &line[..line.len().min(LOOKED_AT)];
        let trimmed = line.trim_ascii();
        let Some(indent) = indent(line).filter(|_| !is_beside(trimmed, bare)) else {
            continue;
        };
        nest.close(indent, trimmed, at);
        let place = Place {
            lines: &lines,
            at,
            indent,
        };
        let found = worded(trimmed, language).or_else(|| without_word(trimmed, bare, &place));
        if let Some((kind, name)) = found {
            // An associated type of Rust is called as its trait says.
            let associated = indent > 0 && language.lexis.rust && begins(trimmed, "type");
            let kind = if associated { Kind::Group } else { kind };
            nest.open(indent, kind, name, at);
        }
    }
    nest.ended()
}

/// The column of the first thing in `line`; none if there is nothing but blanks.
fn indent(line: &[u8]) -> Option<usize> {
    let mut column = 0;
    for byte in line {
        match byte {
            b' ' => column += 1,
            b'\t' => column += 4,
            b'\r' | &COMMENT => return None,
            // A string alone on its line is no statement, unless it goes on: then what follows says so.
            &STRING if column == 0 => return None,
            _ => return Some(column),
        }
    }
    None
}

/// Lines that stand at the margin whatever they are in: preprocessor, labels.
fn is_beside(line: &[u8], bare: Bare) -> bool {
    let is_label = || matches!(line.split_last(), Some((b':', name)) if name.iter().all(|byte| in_name(*byte)));
    match bare {
        Bare::C | Bare::Java => {
            (line.starts_with(b"#") && !line.starts_with(b"#define")) || is_label()
        }
        Bare::None | Bare::Script | Bare::Shell => false,
    }
}

fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// True if `line` begins with `word` as a whole.
fn begins(line: &[u8], word: &str) -> bool {
    line.strip_prefix(word.as_bytes())
        .is_some_and(|rest| rest.first().is_none_or(|byte| !in_name(*byte)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::workspace::outline::blank::blanked;

    /// `first-last name` of each definition, indented by its depth.
    fn found(name: &str, text: &str) -> String {
        let language = Language::of(Path::new(name), b"").unwrap();
        let code = blanked(text.as_bytes(), &language.lexis);
        let line = |found: &Definition| {
            let indent = "  ".repeat(usize::from(found.depth));
            format!("{indent}{}-{} {}\n", found.line, found.end, found.name)
        };
        let found = definitions(text.as_bytes(), &code, language);
        found.iter().map(line).collect()
    }

    fn check(name: &str, text: &str, expected: &str) {
        let expected: String = expected.lines().map(|line| format!("{line}\n")).collect();
        assert_eq!(found(name, text), expected, "{name}");
    }

    #[test]
    fn rust() {
        check(
            "a.rs",
            "//! fn none\nuse x;\npub(crate) const fn one<'a>(\n    a: &'a str,\n) -> u32\nwhere\n    u32: Copy,\n{\n    0\n}\n\n\
             impl<T> Show for Thing<T> {\n    const SIZE: u8 = 1;\n    async unsafe fn two(self) {}\n\n    fn three() {\n        let fn_x = 1;\n    }\n}\n\
             macro_rules! four { () => {} }\npub struct Five;\nlet s = \"\nfn six() {}\n\";\npub(in crate::a) enum Seven {\n    A,\n}\nextern \"C\" fn eight() {}\n",
            "3-10 one\n12-19 <T> Show for Thing<T>\n  13-13 SIZE\n  14-14 two\n  16-18 three\n20-20 four\n21-21 Five\n25-27 Seven\n28-28 eight",
        );
    }

    #[test]
    fn python() {
        check(
            "a.py",
            "\"\"\"\ndef none(): pass\n\"\"\"\nclass One(Base):\n    '''Doc.'''\n\n    @property\n    async def two(self):\n        # def none\n        def three():\n            pass\n        return 1\n\nX = 1\n\ndef four(\n    a,\n):\n    pass\n",
            "4-12 One\n  8-12 two\n    10-11 three\n16-19 four",
        );
    }

    #[test]
    fn scripts() {
        check(
            "a.ts",
            "export default class One<T> extends Two {\n  static async three(a: string): Promise<void> {\n    if (a) {\n    }\n    four(() => {\n    });\n  }\n  get five() { return 1; }\n}\n\
             export const six = async (a) => {\n  return 1;\n};\nexport interface Seven { a: b }\nfunction* eight() {}\nconst nine = 9;\nexport type Ten = string;\nconst eleven = function () {\n};\n",
            "1-9 One\n  2-7 three\n  8-8 five\n10-12 six\n13-13 Seven\n14-14 eight\n16-16 Ten\n17-18 eleven",
        );
    }

    #[test]
    fn c_and_its_children() {
        check(
            "a.c",
            "#include <a.h>\n#define ONE 1\nstruct two;\nstruct three {\n    int a;\n};\nstatic int *four(struct three *t,\n                 int b)\n{\n#ifdef X\n    five(b);\n#endif\nout:\n    return 0;\n}\n\nint six(void);\nstruct three seven(void) { return x; }\nMODULE(\"a\");\n",
            "2-2 ONE\n4-6 three\n7-15 four\n18-18 seven",
        );
        check(
            "a.cpp",
            "namespace one {\nclass Two : public Base {\n public:\n  explicit Two(int a);\n  ~Two() override {}\n  int three() const {\n    return x.four(1);\n  }\n};\n}\n\nvoid Two::five(std::vector<int> a) {\n  for (auto b : a) {\n  }\n}\n",
            "1-1 one\n2-9 Two\n  5-5 ~Two\n  6-8 three\n12-15 five",
        );
        check(
            "A.java",
            "package a;\npublic final class One implements Two {\n    private int a = three(1);\n    public One(int a) {\n        this.a = a;\n    }\n    @Override\n    protected <T> List<T> four(T a, int b) throws E {\n        if (a == null) {\n            throw new X(1) {\n            };\n        }\n    }\n    enum Five { A }\n}\n",
            "2-15 One\n  4-6 One\n  8-13 four\n  14-14 Five",
        );
        check(
            "a.cs",
            "using X;\nnamespace One.Two\n{\n    public record Three(int A);\n    internal static class Four\n    {\n        public int Five(int a) => a + 1;\n        public string Six { get; set; }\n    }\n}\n",
            "2-10 Two\n  4-4 Three\n  5-9 Four\n    7-7 Five",
        );
    }

    #[test]
    fn others() {
        check(
            "a.go",
            "package a\n\ntype One struct {\n\tA int\n}\n\nfunc (o *One) Two(a int) error {\n\treturn nil\n}\n\nfunc Three[T any](a T) {}\n",
            "3-5 One\n7-9 Two\n11-11 Three",
        );
        check(
            "a.rb",
            "module One\n  class Two < Three\n    def self.four(a)\n      a\n    end\n\n    private def five?\n    end\n  end\nend\n",
            "1-10 One\n  2-9 Two\n    3-5 four\n    7-8 five?",
        );
        check(
            "a.php",
            "<?php\nnamespace A\\B;\nfinal class One {\n    public static function &two(array $a): int {\n        return 1;\n    }\n}\n",
            "2-2 A\n3-7 One\n  4-6 two",
        );
        check(
            "a.sh",
            "one() {\n  two\n}\nfunction three {\n  :\n}\n",
            "1-3 one\n4-6 three",
        );
        check(
            "a.kt",
            "data class One(val a: Int) {\n    suspend fun two(): Int = 1\n}\nfun String.three() = 1\n",
            "1-3 One\n  2-2 two\n4-4 three",
        );
        check(
            "a.sql",
            "CREATE OR REPLACE FUNCTION one(a int)\nCREATE TABLE IF NOT EXISTS \"two\" (\n  a int\n);\nDROP TABLE x;\n",
            "1-1 one\n2-4 two",
        );
        check(
            "a.md",
            "# One\n```\n# none\n```\n## Two\ntext\n# Three\n",
            "1-6 One\n  5-6 Two\n7-7 Three",
        );
        check(
            "Makefile",
            "X := 1\n.PHONY: all\nall: a b\n\tcc $<\nclean:\n\trm\n",
            "3-4 all\n5-6 clean",
        );
        check(
            "a.toml",
            "[one]\na = [\n  1,\n]\n[[two.three]]\n",
            "1-4 one\n5-5 two.three",
        );
    }

    #[test]
    fn hostile_text_takes_no_longer_than_other_text() {
        let deep: String = (0..20_000)
            .map(|n| format!("{}fn f{n}() {{\n", " ".repeat(n % 3000)))
            .collect();
        for text in [
            deep,
            "fn ".repeat(200_000),
            "(\n".repeat(200_000),
            "int a(b\n".repeat(100_000),
            "const a = (\n".repeat(100_000),
            "pub(".repeat(200_000),
        ] {
            let began = std::time::Instant::now();
            for name in ["a.rs", "a.c", "a.js", "a.java", "a.md"] {
                assert!(found(name, &text).len() < 1_000_000);
            }
            assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
        }
    }
}
