//! The definitions of a text without a parser: lines that begin as one does, nested and ended by their indentation.
//!
//! Indentation is what people see, and a text that is broken, half written or full of preprocessor branches is still
//! understood line by line. One pass; nothing here can be made slow by what a text holds.

use super::{
    Definition,
    blank::{COMMENT, STRING},
    language::{Bare, Kind, Language, Shape},
};

/// Definitions of one file that are kept.
pub(super) const MOST: usize = 5_000;
/// Deeper ones are shown at this depth.
const DEEPEST: u8 = 12;
/// Lines after its first that a head without a word may need until its `{`.
const HEAD: usize = 8;
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
        return titles(text, language.shape);
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

/// Headings, sections and targets: what is not code, and nested by levels if at all.
fn titles(text: &[u8], shape: Shape) -> Vec<Definition> {
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

/// Definitions that are open, by the column at which they began.
#[derive(Default)]
struct Nest {
    found: Vec<Definition>,
    open: Vec<(usize, usize)>,
    /// The last line that held something.
    last: usize,
}

impl Nest {
    /// A line at this column ends what began there or further right; one that only closes belongs to it.
    fn close(&mut self, indent: usize, line: &[u8], at: usize) {
        let goes_on = matches!(line.first(), Some(b')' | b']' | b'{')) || begins(line, "where");
        let closes = line.starts_with(b"}") || begins(line, "end");
        while let Some((column, which)) = self.open.last().copied() {
            if column < indent || (column == indent && goes_on) {
                break;
            }
            let with_this = column == indent && closes;
            self.found[which].end = number(if with_this { at } else { self.last });
            self.open.pop();
        }
        self.last = at;
    }

    fn open(&mut self, indent: usize, kind: Kind, name: String, at: usize) {
        if self.found.len() == MOST {
            return;
        }
        let depth = u8::try_from(self.open.len()).unwrap_or(DEEPEST);
        self.open.push((indent, self.found.len()));
        self.found.push(Definition {
            kind,
            name,
            line: number(at),
            end: number(at),
            depth: depth.min(DEEPEST),
        });
    }

    fn ended(mut self) -> Vec<Definition> {
        for (_, which) in self.open {
            self.found[which].end = number(self.last);
        }
        self.found
    }
}

/// From 1.
fn number(at: usize) -> u32 {
    u32::try_from(at + 1).unwrap_or(u32::MAX)
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

/// A line that begins with a word of the language, whatever stands before it that may.
fn worded(line: &[u8], language: &Language) -> Option<(Kind, String)> {
    let folds = folds(language);
    let mut rest = line;
    for _ in 0..8 {
        let length = rest
            .iter()
            .take_while(|byte| !byte.is_ascii_whitespace() && !b"(<".contains(byte))
            .count();
        let length = if rest.starts_with(b"(") {
            rest.iter().take_while(|b| !b.is_ascii_whitespace()).count()
        } else {
            length
        };
        let word = std::str::from_utf8(&rest[..length]).ok()?;
        let lowered;
        let word = if folds {
            lowered = word.to_ascii_lowercase();
            &lowered
        } else {
            word
        };
        let after = rest[length..].trim_ascii_start();
        if let Some((_, kind)) = language.words.iter().find(|(known, _)| *known == word)
            // `const fn`, `enum class`: the word that comes next says what it is.
            && !followed_by_word(after, language)
        {
            return named(word, *kind, after, language);
        }
        if !language.before.contains(&word)
            || (folds && rest.len() == line.len() && word != "create")
        {
            return None;
        }
        rest = after;
        // `pub(crate)`, `extern "C"`.
        if rest.starts_with(b"(") && language.lexis.rust {
            rest = behind(rest, b'(', b')')?.trim_ascii_start();
        }
        while rest.first().is_some_and(|byte| *byte == STRING) {
            rest = rest[1..].trim_ascii_start();
        }
    }
    None
}

/// Upper and lower case are the same.
fn folds(language: &Language) -> bool {
    language.name == "SQL"
}

fn without<'a>(text: &'a [u8], word: &str) -> &'a [u8] {
    match text.split_at_checked(word.len()) {
        Some((begin, rest)) if begin.eq_ignore_ascii_case(word.as_bytes()) => {
            rest.trim_ascii_start()
        }
        _ => text,
    }
}

fn followed_by_word(after: &[u8], language: &Language) -> bool {
    let next: Vec<u8> = after
        .iter()
        .copied()
        .take_while(|byte| in_name(*byte))
        .collect();
    let follows = language
        .words
        .iter()
        .any(|(known, _)| known.as_bytes() == next);
    let passes =
        language.before.iter().any(|known| known.as_bytes() == next) && language.lexis.rust;
    (follows || passes) && after.get(next.len()).is_some_and(u8::is_ascii_whitespace)
}

/// What stands behind the `close` of the `open` that `text` begins with.
fn behind(text: &[u8], open: u8, close: u8) -> Option<&[u8]> {
    let mut depth = 0usize;
    for (at, byte) in text.iter().enumerate() {
        if *byte == open {
            depth += 1;
        } else if *byte == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return Some(&text[at + 1..]);
            }
        }
    }
    None
}

/// The name of what `word` defines.
fn named(word: &str, kind: Kind, after: &[u8], language: &Language) -> Option<(Kind, String)> {
    let mut rest = after;
    if kind == Kind::Group {
        let head = rest
            .split(|byte| *byte == b'{')
            .next()
            .unwrap_or(rest)
            .trim_ascii();
        return Some((kind, String::from_utf8_lossy(head).into_owned()));
    }
    if language.name == "Go" && word == "func" && rest.starts_with(b"(") {
        rest = behind(rest, b'(', b')')?.trim_ascii_start();
    }
    if language.name == "Lisp" || language.name == "Terraform" {
        rest = rest.trim_ascii_start();
        while rest
            .first()
            .is_some_and(|byte| *byte == b'(' || *byte == STRING)
        {
            rest = &rest[1..];
        }
        let length = rest
            .iter()
            .take_while(|byte| !byte.is_ascii_whitespace() && !b"()[]{".contains(byte))
            .count();
        let name = String::from_utf8_lossy(&rest[..length]).into_owned();
        return Some((
            kind,
            if name.is_empty() {
                word.to_owned()
            } else {
                name
            },
        ));
    }
    if folds(language) {
        rest = ["if", "not", "exists"]
            .iter()
            .fold(rest, |rest, word| without(rest, word));
    }
    while rest.first().is_some_and(|byte| b"*&<".contains(byte)) {
        rest = match rest[0] {
            b'<' => behind(rest, b'<', b'>')?,
            _ => &rest[1..],
        };
        rest = rest.trim_ascii_start();
    }
    let path = path(rest)?;
    // A Kotlin or Swift extension is called by what follows the dot, a Lua method by what follows the colon.
    let name = path.rsplit(['.', ':']).find(|part| !part.is_empty())?;
    if kind == Kind::Type && matches!(language.name, "C" | "C++") && !has_body(rest) {
        return None;
    }
    let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let stops =
        matches!(language.name, "TypeScript" | "JavaScript" | "Python") && CONTROL.contains(&name);
    (is_name && !stops).then(|| (kind, name.to_owned()))
}

/// `struct a {` and `struct a` alone define; `struct a b;` and `struct a f(…) {` do not.
fn has_body(rest: &[u8]) -> bool {
    let head = rest.split(|byte| *byte == b'{').next().unwrap_or(rest);
    !head.iter().any(|byte| b";(=,)*".contains(byte))
}

/// The dotted name that `rest` begins with, quotes of SQL left out.
fn path(rest: &[u8]) -> Option<String> {
    let rest = match rest.first() {
        Some(b'"' | b'`' | b'[') => &rest[1..],
        _ => rest,
    };
    let length = rest
        .iter()
        .take_while(|byte| in_name(**byte) || b".:?!$'".contains(byte))
        .count();
    let name = std::str::from_utf8(&rest[..length]).ok()?;
    let name = name.trim_end_matches([':', '.']).trim_start_matches('$');
    (!name.is_empty()).then(|| name.to_owned())
}

/// Where a line stands.
struct Place<'a> {
    lines: &'a [&'a [u8]],
    at: usize,
    indent: usize,
}

/// A definition that no word announces.
fn without_word(line: &[u8], bare: Bare, place: &Place<'_>) -> Option<(Kind, String)> {
    let name = match bare {
        Bare::None => None,
        Bare::C => (place.indent == 0)
            .then(|| with_body(line, place, false))
            .flatten(),
        Bare::Java => with_body(line, place, false),
        Bare::Script => arrow(line, place).or_else(|| with_body(line, place, true)),
        Bare::Shell => shell_function(line),
    };
    name.map(|name| (Kind::Function, name))
}

fn shell_function(line: &[u8]) -> Option<String> {
    let length = line
        .iter()
        .take_while(|byte| in_name(**byte) || b"-:.".contains(byte))
        .count();
    let rest = line[length..].trim_ascii_start().strip_prefix(b"(")?;
    let is_one = length > 0 && rest.trim_ascii_start().starts_with(b")");
    is_one.then(|| String::from_utf8_lossy(&line[..length]).into_owned())
}

/// `const f = (a) => {`, `const f = async function (`: only where it stands at the margin or is exported.
fn arrow(line: &[u8], place: &Place<'_>) -> Option<String> {
    let line = line.strip_prefix(b"export ").unwrap_or(line);
    let rest = ["const ", "let ", "var "]
        .iter()
        .find_map(|word| line.strip_prefix(word.as_bytes()))?;
    if place.indent > 0 {
        return None;
    }
    let name = path(rest)?;
    let value = &rest[rest.iter().position(|byte| *byte == b'=')? + 1..];
    let value = value.trim_ascii_start();
    let value = value
        .strip_prefix(b"async")
        .map_or(value, <[u8]>::trim_ascii_start);
    let is_function = begins(value, "function")
        || ((value.starts_with(b"(") || value.windows(2).any(|two| two == b"=>")) && points(place));
    is_function.then_some(name)
}

/// An arrow comes before the statement ends.
fn points(place: &Place<'_>) -> bool {
    for line in place.lines[place.at..].iter().take(HEAD) {
        let line = &line[..line.len().min(LOOKED_AT)];
        if line.windows(2).any(|two| two == b"=>") {
            return true;
        }
        if line.trim_ascii_end().ends_with(b";") {
            return false;
        }
    }
    false
}

/// `type name(…) … {`: a name before the first `(`, and a `{` before the statement ends. `alone`: no type before it.
fn with_body(line: &[u8], place: &Place<'_>, alone: bool) -> Option<String> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let head = line[..open].trim_ascii_end();
    let bytes = head
        .iter()
        .rev()
        .take_while(|byte| in_name(**byte) || **byte == b'~' || **byte == b'$')
        .count();
    let name = std::str::from_utf8(&head[head.len() - bytes..]).ok()?;
    let before = head[..head.len() - bytes].trim_ascii();
    let is_name = name.starts_with(|c: char| c.is_alphabetic() || "_~$".contains(c));
    if !is_name
        || CONTROL.contains(&name)
        || before
            .iter()
            .any(|byte| b"={}!;|+?".contains(byte) || *byte == STRING)
    {
        return None;
    }
    let first = before
        .split(|byte| !in_name(*byte))
        .find(|word| !word.is_empty());
    let first = first.and_then(|word| std::str::from_utf8(word).ok());
    if first.is_some_and(|first| CONTROL.contains(&first))
        || before.ends_with(b".")
        || before.ends_with(b"->")
    {
        return None;
    }
    let fits = match alone {
        true => place.indent > 0 && first.is_none_or(|word| METHOD.contains(&word)),
        // A constructor has no type, but a body all the same; a call of a macro at the margin has neither.
        false => {
            first.is_some()
                || name.trim_start_matches('~').starts_with(char::is_uppercase) && place.indent > 0
        }
    };
    (fits && opens(place)).then(|| name.to_owned())
}

/// What may stand before a method of a script.
const METHOD: &[&str] = &[
    "async",
    "static",
    "get",
    "set",
    "public",
    "private",
    "protected",
    "override",
    "readonly",
    "abstract",
    "constructor",
];

/// A `{` (or the `=>` of C#) comes before the statement ends, and outside of its parentheses.
fn opens(place: &Place<'_>) -> bool {
    let mut depth = 0i32;
    for line in place.lines[place.at..].iter().take(HEAD) {
        for (at, byte) in line.iter().take(LOOKED_AT).enumerate() {
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'{' if depth == 0 => return true,
                b';' | b'}' if depth == 0 => return false,
                b'=' if depth == 0 => return line.get(at + 1) == Some(&b'>'),
                _ => {}
            }
        }
    }
    false
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
