//! The engine from outside: what comes back for a file and an edit, and what holds for any file and any edit.

use proptest::prelude::*;

use super::{Applied, Code, Edit, Refusal, Rung, apply, unified_diff};

fn edit(search: &str, replace: &str) -> Edit {
    Edit {
        search: search.to_string(),
        replace: replace.to_string(),
        ..Edit::default()
    }
}

fn done(before: &str, edit: Edit) -> Applied {
    apply(Some(before.as_bytes()), &[edit]).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn refused(before: &str, edit: Edit) -> Refusal {
    apply(Some(before.as_bytes()), &[edit]).expect_err("must be refused")
}

/// Applies one edit and compares the whole file.
fn check(before: &str, search: &str, replace: &str, expect: &str) {
    let after = done(before, edit(search, replace)).after;
    assert_eq!(String::from_utf8(after).unwrap(), expect);
}

/// Applies one edit and compares what was forgiven.
fn check_how(before: &str, search: &str, replace: &str, rung: Rung, how: &str) {
    let found = done(before, edit(search, replace)).matches.remove(0);
    assert_eq!(
        (found.rung, found.how.as_deref().unwrap_or("")),
        (rung, how)
    );
}

fn check_refused(before: &str, search: &str, replace: &str, code: Code) {
    assert_eq!(refused(before, edit(search, replace)).code, code);
}

#[test]
fn a_whole_line_wins_over_a_longer_line_that_begins_with_it() {
    check(
        "let a = 1; // x\nlet a = 1;\n",
        "let a = 1;",
        "let a = 2;",
        "let a = 1; // x\nlet a = 2;\n",
    );
}

#[test]
fn a_piece_of_a_line_is_replaced_in_place() {
    check("f(old, 1)\n", "old", "new", "f(new, 1)\n");
}

#[test]
fn a_piece_inside_a_longer_word_is_refused() {
    check_refused("counter = 1\n", "count", "total", Code::NotFound);
}

#[test]
fn a_word_quoted_in_part_may_stay() {
    check(
        "const STATUS_HEADER = 1;\n",
        "const STATUS",
        "pub const STATUS",
        "pub const STATUS_HEADER = 1;\n",
    );
}

#[test]
fn new_lines_take_the_depth_of_their_place() {
    check(
        "class A {\n\tint x;\n\tint y;\n}\n",
        "    int x;\n    int y;",
        "    int x;\n    if (a) {\n        b();\n    }\n    int y;",
        "class A {\n\tint x;\n\tif (a) {\n\t\tb();\n\t}\n\tint y;\n}\n",
    );
}

#[test]
fn what_was_forgiven_is_told() {
    check_how(
        "class A {\n\tint x;\n\tint y;\n}\n",
        "    int x;\n    int y;",
        "    int z;\n    int y;",
        Rung::Blanks,
        "indentation adjusted: 4 spaces to 1 tab",
    );
    check_how("a\nb\n", "a\nb\n", "a\nc\n", Rung::Exact, "");
}

#[test]
fn a_first_line_without_its_indentation_gets_it_back() {
    check(
        "fn f() {\n    if a {\n        b();\n    }\n}\n",
        "if a {\n        b();\n",
        "if c {\n        b();\n",
        "fn f() {\n    if c {\n        b();\n    }\n}\n",
    );
}

#[test]
fn irregular_indentation_is_refused_with_the_lines() {
    let refusal = refused(
        "a\n  bb\n      cc\n",
        edit("   a\n bb\n  cc", "   a\n bb\n     xx\n  cc"),
    );
    assert_eq!(refusal.code, Code::NotFound);
    assert!(
        refusal.message.contains("    2 |   bb"),
        "{}",
        refusal.message
    );
}

const FOUR: &str = "fn f() {\n    if a {\n        b();\n    }\n}\n\nfn g() {\n    c();\n}\n";

#[test]
fn new_lines_in_another_step_take_the_step_of_the_file() {
    let after = FOUR.replace("    c();\n", "    if c {\n        d();\n    }\n");
    check(FOUR, "  c();", "  if c {\n    d();\n  }", &after);
    check(FOUR, "\tc();", "\tif c {\n\t\td();\n\t}", &after);
    check(FOUR, "c();", "if c {\n  d();\n}", &after);
}

#[test]
fn a_search_at_the_margin_does_not_bring_in_its_own_step() {
    let after = format!("fn h() {{\n    e();\n}}\n\n{FOUR}");
    check(FOUR, "fn f() {", "fn h() {\n  e();\n}\n\nfn f() {", &after);
    check(
        FOUR,
        "fn f() {",
        "fn h() {\n    e();\n}\n\nfn f() {",
        &after,
    );
}

#[test]
fn a_step_that_the_file_nowhere_contradicts_stays() {
    let after = FOUR.replace("c();", "c(d,\n      e);");
    check(FOUR, "    c();", "    c(d,\n      e);", &after);
}

#[test]
fn a_depth_that_may_be_one_or_another_is_refused() {
    let refusal = refused("a\n    b\nc\n  d\n  e\n", edit("    e", "    e\n        f"));
    assert_eq!(refusal.code, Code::NotFound);
    let advice = "with the file's own indentation";
    assert!(refusal.message.contains(advice), "{}", refusal.message);
}

#[test]
fn a_line_that_repeats_a_slip_is_put_right() {
    check(
        "/* a\n * b\n */\nx\ny\n",
        "/* a\n* b\n */\nx",
        "/* a\n* c\n */\nx",
        "/* a\n * c\n */\nx\ny\n",
    );
}

#[test]
fn marks_of_lines_come_off_as_they_were_put_on() {
    check("a\n    b\n", ">a\n>    b", ">a\n>    c", "a\n    c\n");
    check("a\n  b\n", " a\n-  b", "a\n  c", "a\n  c\n");
    check("a\n  b\n", "2:  b", "  c", "a\n  c\n");
}

#[test]
fn a_blank_line_quoted_twice_and_kept_once_is_kept() {
    check(
        "use a;\n\nfn f() {}\n",
        "use a;\n\n\nfn f() {}",
        "use a;\n\nfn g() {}",
        "use a;\n\nfn g() {}\n",
    );
}

#[test]
fn lines_on_both_sides_keep_the_bytes_of_the_file() {
    check(
        "one  \n\u{2018}two\u{2019}\nthree\n",
        "one\n'two'\nthree",
        "one\n'two'\nfour",
        "one  \n\u{2018}two\u{2019}\nfour\n",
    );
}

#[test]
fn trailing_blanks_quoted_exactly_can_be_taken_away() {
    check("one  \ntwo\n", "one  \ntwo", "one\ntwo", "one\ntwo\n");
}

#[test]
fn terminators_are_those_of_the_place() {
    check("a\r\nb\r\nc\n", "a\nb", "a\nx\ny", "a\r\nx\r\ny\r\nc\n");
    check("a\nb\n", "a\r\nb\r\n", "a\r\nc\r\n", "a\nc\n");
    check("a\rb\rc", "b", "x\ny", "a\rx\ry\rc");
}

#[test]
fn the_end_of_the_file_stays_as_it_was() {
    check("a\nb", "b\n", "c\nd\n", "a\nc\nd");
    check("a\nb\n", "b", "c", "a\nc\n");
    check("a\nb", "b", "b\n", "a\nb\n");
}

#[test]
fn a_newline_on_one_side_only_adds_no_blank_line() {
    check("a\nb\nc\n", "b", "x\n", "a\nx\nc\n");
    check("a\nb\nc\n", "b\n", "x", "a\nx\nc\n");
}

#[test]
fn a_search_replaced_by_nothing_takes_its_lines_away() {
    check("a\nb\nc\n", "b", "", "a\nc\n");
    check("a b c\n", " b", "", "a c\n");
}

#[test]
fn a_byte_order_mark_stays() {
    check("\u{FEFF}a\nb\n", "a\n", "x\n", "\u{FEFF}x\nb\n");
}

#[test]
fn two_places_are_never_a_choice() {
    check_refused("x = 1\ny\nx = 1\n", "x = 1", "x = 2", Code::Ambiguous);
    check_refused(
        "  x = 1;\ny\n    x = 1;\n",
        "x = 1; ",
        "x = 2;",
        Code::Ambiguous,
    );
    let refusal = refused(
        "fn a() {\n  go();\n}\nfn b() {\n  go();\n}\n",
        edit("  go();\n}", "  stop();\n}"),
    );
    assert!(
        refusal.message.contains("lines 2, 5"),
        "{}",
        refusal.message
    );
    assert!(
        refusal.message.contains("    4 | fn b() {"),
        "{}",
        refusal.message
    );
}

#[test]
fn the_line_hint_breaks_a_tie_and_does_nothing_else() {
    let file = "x\na\nb\nc\nd\ne\nf\nx\n";
    let hinted = |search: &str, line| Edit {
        line: Some(line),
        ..edit(search, "y")
    };
    assert_eq!(
        done(file, hinted("x", 7)).after,
        b"x\na\nb\nc\nd\ne\nf\ny\n"
    );
    assert_eq!(
        done(file, hinted("c", 8)).after,
        b"x\na\nb\ny\nd\ne\nf\nx\n"
    );
    assert_eq!(refused(file, hinted("x", 4)).code, Code::Ambiguous);
    assert_eq!(refused(file, hinted("z", 4)).code, Code::NotFound);
}

#[test]
fn replace_all_is_exact_and_leaves_longer_words_alone() {
    let all = |search: &str, replace: &str| Edit {
        replace_all: true,
        ..edit(search, replace)
    };
    let applied = done("id(id, ids)\nid\n", all("id", "key"));
    assert_eq!(applied.after, b"key(key, ids)\nkey\n");
    assert_eq!(applied.matches.len(), 3);
    assert!(
        applied.matches[0]
            .how
            .as_deref()
            .unwrap()
            .contains("longer words")
    );
    assert_eq!(refused("  a\n", all("    a", "b")).code, Code::NotFound);
    assert_eq!(refused("ids\n", all("id", "key")).code, Code::NotFound);
}

#[test]
fn numbers_and_siblings_are_not_slips() {
    let file =
        "fn a() {\n    let version = 23;\n    start(version);\n    finish();\n    done();\n}\n";
    check_refused(file, &file.replace("23", "24"), "x", Code::NotFound);
    check_refused(file, &file.replace("start", "starts"), "x", Code::NotFound);
    check_refused(file, &file.replace("finish", "vanish"), "x", Code::NotFound);
    let refusal = refused(file, edit(&file.replace("23", "24"), "x"));
    assert!(
        refusal
            .message
            .contains("line 2, the file has `23`, the search says `24`"),
        "{}",
        refusal.message
    );
}

#[test]
fn a_misspelt_word_that_the_file_does_not_have_is_a_slip() {
    let file =
        "fn a() {\n    let version = 23;\n    start(version);\n    finish();\n    done();\n}\n";
    let search = file.replace("finish", "finsih");
    check(
        file,
        &search,
        &search.replace("done", "over"),
        &file.replace("done", "over"),
    );
    let told = "line 4: `finsih` read as `finish`";
    check_how(
        file,
        &search,
        &search.replace("done", "over"),
        Rung::Similar,
        told,
    );
}

#[test]
fn an_edit_made_twice_is_refused_the_second_time() {
    check_refused("a\nb\nnew line\n", "b", "b\nnew line", Code::AlreadyApplied);
    check_refused(
        "fn new_name() {}\n",
        "fn old_name() {}",
        "fn new_name() {}",
        Code::AlreadyApplied,
    );
    check_refused("f(a, b)\n", "f(a", "f(a, b", Code::AlreadyApplied);
}

#[test]
fn artefacts_of_copying_are_taken_off_both_sides() {
    let file = "<b>\n  \"x\": 1\n</b>\n";
    check(
        file,
        "```html\n<b>\n  \"x\": 1\n```",
        "```html\n<b>\n  \"x\": 2\n```",
        "<b>\n  \"x\": 2\n</b>\n",
    );
    check(
        file,
        "  1 | <b>\n  2 |   \"x\": 1",
        "  1 | <b>\n  2 |   \"x\": 2",
        "<b>\n  \"x\": 2\n</b>\n",
    );
    check(
        file,
        "&lt;b&gt;\n  &quot;x&quot;: 1",
        "&lt;i&gt;\n  &quot;x&quot;: 1",
        "<i>\n  \"x\": 1\n</b>\n",
    );
    check(
        file,
        "<b>\\n  \\\"x\\\": 1",
        "<i>\\n  \\\"x\\\": 1",
        "<i>\n  \"x\": 1\n</b>\n",
    );
    check(
        file,
        " <b>\n-  \"x\": 1",
        " <b>\n+  \"x\": 2",
        "<b>\n  \"x\": 2\n</b>\n",
    );
}

#[test]
fn what_looks_like_an_artefact_but_stands_in_the_file_is_literal() {
    check(
        "a\n```\nb\n```\n",
        "```\nb\n```",
        "```\nc\n```",
        "a\n```\nc\n```\n",
    );
    check(
        "s = \"a\\nb\";\n",
        "\"a\\nb\"",
        "\"a\\nc\"",
        "s = \"a\\nc\";\n",
    );
    check(
        "3.0.2 / 2012\n",
        "3.0.2 / 2012",
        "3.0.3 / 2013\n\n3.0.2 / 2012",
        "3.0.3 / 2013\n\n3.0.2 / 2012\n",
    );
}

#[test]
fn a_version_is_not_a_line_number() {
    check_refused(
        "13.0.2 / 2012\n",
        "3.0.2 / 2012 ",
        "4.0.0 / 2013 ",
        Code::NotFound,
    );
}

#[test]
fn an_elided_middle_stays() {
    let file = "fn a() {\n    one();\n    two();\n    three();\n    four();\n}\n";
    check(
        file,
        "fn a() {\n    // ...\n    four();\n}",
        "fn b() {\n    // ...\n    four();\n}",
        &file.replace("fn a", "fn b"),
    );
    check_refused(
        file,
        "fn a() {\n    // ...\n    four();\n}",
        "fn b() {\n    four();\n}",
        Code::NotFound,
    );
}

#[test]
fn a_placeholder_is_not_written_over_code() {
    let file = "fn a() {\n    one();\n    two();\n}\n";
    check_refused(
        file,
        file,
        "fn b() {\n    // ... existing code ...\n}\n",
        Code::NotFound,
    );
    check(
        "def a():\n    pass\n",
        "    pass",
        "    ...",
        "def a():\n    ...\n",
    );
}

#[test]
fn letters_are_the_same_composed_or_not() {
    check(
        "caf\u{e9} = 1\n",
        "cafe\u{301} = 1",
        "cafe\u{301} = 2",
        "caf\u{e9} = 2\n",
    );
    check(
        "cafe\u{301} = 1\n",
        "caf\u{e9} = 1",
        "caf\u{e9} = 2",
        "cafe\u{301} = 2\n",
    );
}

#[test]
fn blank_lines_the_search_left_out_come_back() {
    check(
        "a first\n\nb second\nc third\n",
        "a first\nb second\nc third",
        "a first\nx\nc third",
        "a first\n\nx\nc third\n",
    );
}

#[test]
fn an_empty_search_only_creates() {
    let created = apply(None, &[edit("", "a\n"), edit("a", "b")]).unwrap();
    assert_eq!(created.after, b"b\n");
    assert_eq!(created.matches[0].rung, Rung::Created);
    check_refused("a\n", "", "b", Code::EmptySearch);
    check_refused("a\n\nb\n", "\n", "b", Code::EmptySearch);
    assert_eq!(
        apply(None, &[edit("a", "b")]).unwrap_err().code,
        Code::NotFound
    );
    check("", "", "b", "b");
}

#[test]
fn the_same_text_twice_is_no_change() {
    check_refused("a\n", "a", "a", Code::NoChange);
    check_refused("a\n", "zzz", "zzz", Code::NoChange);
}

#[test]
fn a_file_that_is_not_text_is_refused_with_its_encoding() {
    let latin = apply(Some(b"caf\xe9\n"), &[edit("a", "b")]).unwrap_err();
    assert_eq!(latin.code, Code::NotText);
    assert!(
        latin.message.contains("0xe9 at offset 3"),
        "{}",
        latin.message
    );
    let wide = apply(Some(b"\xff\xfea\0"), &[edit("a", "b")]).unwrap_err();
    assert!(wide.message.contains("UTF-16"), "{}", wide.message);
}

#[test]
fn all_edits_of_a_call_or_none() {
    let edits = [edit("a", "b"), edit("zebra", "c")];
    let refusal = apply(Some(b"a\nq\n"), &edits).unwrap_err();
    assert_eq!((refusal.edit, refusal.code), (1, Code::NotFound));
    assert!(
        refusal.message.starts_with("edit 2 of 2: not_found"),
        "{}",
        refusal.message
    );
    let both = apply(Some(b"a\nq\n"), &[edit("a", "x\ny"), edit("y", "z")]).unwrap();
    assert_eq!(both.after, b"x\nz\nq\n");
}

#[test]
fn matches_name_lines_of_the_new_file() {
    let edits = [edit("d", "D"), edit("a", "a1\na2\na3")];
    let applied = apply(Some(b"a\nb\nc\nd\n"), &edits).unwrap();
    let lines: Vec<_> = applied
        .matches
        .iter()
        .map(|m| (m.first_line, m.last_line))
        .collect();
    assert_eq!(lines, [(6, 6), (1, 3)]);
}

#[test]
fn a_refusal_is_short_and_shows_what_cannot_be_seen() {
    let file: String = (0..400).map(|n| format!("\tline {n} of many\n")).collect();
    let search: String = (100..160)
        .map(|n| format!("\tline {n} of some\n"))
        .collect();
    let message = refused(&file, edit(&search, "x")).message;
    assert!(message.lines().count() <= 25, "{message}");
    assert!(message.contains("search: →line 100 of some"), "{message}");
    let long = format!("{}\n", "x".repeat(1_000_000));
    assert!(refused(&long, edit("xyz", "b")).message.len() < 1000);
}

#[test]
fn diff_headers_are_those_of_git() {
    let new = unified_diff("a b.txt", None, Some(b"x"));
    assert_eq!(
        new.text,
        "diff --git a/a b.txt b/a b.txt\nnew file mode 100644\n--- /dev/null\n+++ b/a b.txt\t\n@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n"
    );
    let gone = unified_diff("a", Some(b"x\n"), None);
    assert_eq!((gone.added, gone.removed), (0, 1));
    assert!(
        gone.text
            .contains("--- a/a\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n")
    );
    let binary = unified_diff("a", Some(b"\xff"), Some(b"x"));
    assert_eq!(binary.text, "Binary files a/a and b/a differ\n");
    assert_eq!(unified_diff("a", Some(b"x"), Some(b"x")).text, "");
}

#[test]
fn git_takes_the_diff() {
    let many: String = (0..40).map(|n| format!("line {n}\n")).collect();
    let changed = many.replace("line 3\n", "").replace("line 30", "x\r\ny");
    check_git("a.txt", Some(&many), Some(&changed));
    check_git("with a blank.txt", Some("a\nb"), Some("a\nb\n"));
    check_git(
        "d/\"quoted\" \u{e9}.txt",
        Some("a\r\nb\r\n"),
        Some("a\r\nc"),
    );
    check_git("new.txt", None, Some("a\nb"));
    check_git("gone.txt", Some("a\nb"), None);
    check_git("empty new", None, Some(""));
    check_git("empty gone", Some(""), None);
    check_git("filled", Some(""), Some("a\n"));
    check_git("emptied", Some("a\n"), Some(""));
}

fn check_git(path: &str, before: Option<&str>, after: Option<&str>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    if let Some(before) = before {
        std::fs::write(&file, before).unwrap();
    }
    let diff = unified_diff(path, before.map(str::as_bytes), after.map(str::as_bytes));
    std::fs::write(dir.path().join("the.diff"), &diff.text).unwrap();
    let git = std::process::Command::new("git")
        .args(["apply", "--whitespace=nowarn", "the.diff"])
        .envs([
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CEILING_DIRECTORIES", "/"),
        ])
        .current_dir(dir.path())
        .output()
        .expect("git is installed");
    assert!(
        git.status.success(),
        "{path}: {}\n{}",
        String::from_utf8_lossy(&git.stderr),
        diff.text
    );
    assert_eq!(
        std::fs::read_to_string(&file).ok().as_deref(),
        after,
        "{path}"
    );
}

/// Words that make lines alike, near-alike, blank and odd, so that random edits reach every rung.
const WORDS: [&str; 26] = [
    "a", "b", "version", "verison", "}", "{", "end", "// ...", "...", "  ", "\t", " ", "\"",
    "\u{201C}", "\u{2014}", "--", "1", "2", "12:", "```", "\\n", "&lt;", "<", "\u{FEFF}", "é", "+",
];

fn text() -> impl Strategy<Value = String> {
    let line = prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..4);
    let eol = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\r", ""]);
    prop::collection::vec((line, eol), 0..9).prop_map(|lines| {
        lines
            .into_iter()
            .map(|(line, eol)| line.concat() + eol)
            .collect()
    })
}

/// A search cut out of the file, then damaged or not, or any text at all.
fn edits(file: &str) -> BoxedStrategy<Edit> {
    let ends: Vec<usize> = (0..=file.len())
        .filter(|&at| file.is_char_boundary(at))
        .collect();
    let file = file.to_string();
    let cut = (
        prop::sample::select(ends.clone()),
        prop::sample::select(ends),
    )
        .prop_map(move |(a, b)| file[a.min(b)..a.max(b)].to_string());
    let damaged = (cut, any::<u8>()).prop_map(|(cut, kind)| damage(&cut, kind));
    let search = prop_oneof![4 => damaged, 1 => text()];
    (
        search,
        text(),
        any::<bool>(),
        any::<bool>(),
        prop::option::of(0usize..9),
    )
        .prop_map(|(search, new, grow, replace_all, line)| Edit {
            replace: if grow { format!("{search}{new}") } else { new },
            search,
            line,
            replace_all,
        })
        .boxed()
}

fn damage(cut: &str, kind: u8) -> String {
    let lines = |f: &dyn Fn(&str) -> String| -> String {
        cut.split('\n').map(f).collect::<Vec<_>>().join("\n")
    };
    match kind % 8 {
        0 => lines(&|line| format!("  {line}")),
        1 => lines(&|line| line.trim().to_string()),
        2 => lines(&|line| format!("{line} ")),
        3 => format!("```\n{cut}\n```"),
        4 => cut.replace('\n', "\\n"),
        5 => cut.replace("\n\n", "\n"),
        _ => cut.to_string(),
    }
}

fn case() -> impl Strategy<Value = (String, Vec<Edit>)> {
    text().prop_flat_map(|file| {
        let edits = prop::collection::vec(edits(&file), 1..3);
        (Just(file), edits)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_and_any_edits_come_back((file, edits) in case(), bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = apply(Some(file.as_bytes()), &edits);
        let _ = apply(Some(&bytes), &edits);
        let _ = apply(None, &edits);
    }

    #[test]
    fn nothing_outside_the_match_changes((file, edits) in case()) {
        if let Ok(applied) = apply(Some(file.as_bytes()), &edits[..1]) {
            let after = String::from_utf8(applied.after).unwrap();
            let (first, last) = extent(&applied.matches);
            prop_assert!(holds_outside(&file, &after, first, last), "{after:?} at {first}-{last}");
        }
    }

    #[test]
    fn the_diff_gives_the_same_bytes((file, edits) in case()) {
        if let Ok(applied) = apply(Some(file.as_bytes()), &edits) {
            let diff = unified_diff("f", Some(file.as_bytes()), Some(&applied.after));
            prop_assert_eq!(patched(&file, &diff.text).into_bytes(), applied.after);
        }
    }

    #[test]
    fn lines_inserted_once_are_not_inserted_again((file, edit) in insertion()) {
        let Ok(once) = apply(Some(file.as_bytes()), std::slice::from_ref(&edit)) else { return Ok(()) };
        if let Ok(twice) = apply(Some(&once.after), &[edit]) {
            prop_assert_eq!(
                String::from_utf8(twice.after).unwrap(),
                String::from_utf8(once.after).unwrap(),
                "{:?}", twice.matches
            );
        }
    }
}

/// A file, and whole lines of it with more lines put above or below them.
fn insertion() -> impl Strategy<Value = (String, Edit)> {
    let words =
        || prop::sample::select(vec!["a", "b(c)", "}", "end", "", "  a", "\tb", "version 1"]);
    let lines = |n| prop::collection::vec(words(), n);
    (
        lines(1..8),
        lines(1..4),
        any::<bool>(),
        0usize..8,
        1usize..4,
    )
        .prop_map(|(file, new, below, at, tall)| {
            let at = at % file.len();
            let search = file[at..(at + tall).min(file.len())].join("\n");
            let new = new.join("\n");
            let replace = match below {
                true => format!("{search}\n{new}"),
                false => format!("{new}\n{search}"),
            };
            (file.join("\n") + "\n", edit(&search, &replace))
        })
}

fn extent(matches: &[super::Match]) -> (usize, usize) {
    let first = matches.iter().map(|m| m.first_line).min().unwrap_or(1);
    let last = matches.iter().map(|m| m.last_line).max().unwrap_or(1);
    (first, last)
}

/// The lines above the first match and below the last are the file's own, byte for byte.
fn holds_outside(before: &str, after: &str, first: usize, last: usize) -> bool {
    let lines = super::page::split(after);
    let above = lines.get(first - 1).map_or(after.len(), |line| line.at);
    let below = lines.get(last).map_or(after.len(), |line| line.at);
    before.starts_with(&after[..above]) && before.ends_with(&after[below..])
}

/// Applies a unified diff by the letter.
fn patched(before: &str, diff: &str) -> String {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let mut out = String::new();
    let (mut at, mut begun) = (0, false);
    let mut rows = diff.split_inclusive('\n').peekable();
    while let Some(row) = rows.next() {
        let open = rows.peek().is_some_and(|next| next.starts_with("\\ "));
        let text = |row: &str| {
            row[1..]
                .strip_suffix('\n')
                .filter(|_| open)
                .unwrap_or(&row[1..])
                .to_string()
        };
        if let Some(range) = row.strip_prefix("@@ -") {
            let (start, len) = numbers(range);
            let start = if len == 0 { start } else { start - 1 };
            out += &old[at..start].concat();
            at = start;
            begun = true;
        } else if !begun || row.starts_with('\\') {
        } else if row.starts_with('+') {
            out += &text(row);
        } else {
            assert_eq!(old[at], text(row), "{diff}");
            if row.starts_with(' ') {
                out += old[at];
            }
            at += 1;
        }
    }
    out += &old[at..].concat();
    out
}

fn numbers(range: &str) -> (usize, usize) {
    let old = range.split(' ').next().unwrap();
    let (start, len) = old.split_once(',').unwrap_or((old, "1"));
    (start.parse().unwrap(), len.parse().unwrap())
}

#[test]
fn marks_of_a_diff_are_not_written_as_text() {
    let edit = |replace: &str| Edit {
        search: "one".into(),
        replace: replace.into(),
        ..Edit::default()
    };
    let refused =
        |file: &str, replace: &str| apply(Some(file.as_bytes()), &[edit(replace)]).is_err();
    assert!(refused("one\ntwo\n", "one\n+ three\n+ four"));
    assert!(
        !refused("one\n+ two\n", "one\n+ three\n+ four"),
        "the file has such lines"
    );
    assert!(!refused("one\ntwo\n", "one\n+1"), "one line may be meant");
}

#[test]
fn what_would_fill_the_memory_is_refused() {
    let file = "ab".repeat(500_000);
    let edit = Edit {
        search: "ab".into(),
        replace: "b".repeat(200_000),
        replace_all: true,
        line: None,
    };
    assert_eq!(
        apply(Some(file.as_bytes()), &[edit]).unwrap_err().code,
        Code::TooLarge
    );
}
