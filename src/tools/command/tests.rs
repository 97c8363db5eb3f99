//! The tables: what is certain, what is not, what is not even understood. Then the promises that hold for any text, and
//! two real shells to say what a line means.

use std::{os::unix::fs::PermissionsExt, process};

use proptest::prelude::*;

use super::*;
use crate::{conversation::SandboxPolicy, workspace::Boundaries};

/// A workspace with a few files, and a directory of programs that counts as the system's.
struct Fixture {
    dir: tempfile::TempDir,
    workspace: Workspace,
    programs: Programs,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (bin, work) = (root.join("bin"), root.join("work"));
        let known = options::PROGRAMS.iter().flat_map(|program| program.names);
        let others = [
            "rm",
            "git",
            "cargo",
            "make",
            "bash",
            "python3.12",
            "kubectl",
            "env",
        ];
        for name in known.copied().chain(others) {
            write(&bin.join(name), "#!/bin/sh\n", 0o755);
        }
        for (name, text) in [
            ("a.txt", "one"),
            ("src/a.rs", "two"),
            ("src/b.rs", "three"),
            ("Makefile", "all:"),
            ("odd/-delete", ""),
        ] {
            write(&work.join(name), text, 0o644);
        }
        write(&work.join("tools/x.sh"), "echo hi", 0o755);
        write(&work.join("ls"), "evil", 0o755);
        write(&root.join("secret/key"), "key", 0o644);
        std::fs::create_dir(work.join("links")).unwrap();
        std::os::unix::fs::symlink(root.join("secret"), work.join("links/out")).unwrap();
        std::os::unix::fs::symlink(work.join("ls"), bin.join("nl.link")).unwrap();
        let workspace =
            Workspace::open(&work, SandboxPolicy::WorkspaceWrite, Boundaries::default()).unwrap();
        let mut programs = Programs::of(&[("PATH".into(), bin.clone().into())]);
        programs.trust(&bin);
        Self {
            dir,
            workspace,
            programs,
        }
    }

    fn place(&self) -> Place<'_> {
        Place {
            workspace: &self.workspace,
            workdir: self.workspace.cwd(),
            programs: &self.programs,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.workspace.cwd().join(name)
    }

    fn judge(&self, text: &str) -> Judged {
        match Line::parse(text) {
            Err(_) => Judged::Opaque,
            Ok(line) if line.only_reads(self.place()) => Judged::Reads,
            Ok(_) => Judged::Unsure,
        }
    }

    fn rules(&self, allow: &[&str], deny: &[&str]) -> Rules {
        let owned = |texts: &[&str]| {
            texts
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>()
        };
        Rules {
            programs: self.programs.clone(),
            ..Rules::new(&owned(allow), &owned(deny), &[]).unwrap()
        }
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Reads,
    Unsure,
    Opaque,
}

#[track_caller]
fn all(judged: Judged, lines: &[&str]) {
    let fixture = Fixture::new();
    for line in lines {
        assert_eq!(
            fixture.judge(line),
            judged,
            "{line:?}: {:?}",
            Line::parse(line)
        );
    }
}

#[test]
fn harmless_lines_run_unasked() {
    all(
        Judged::Reads,
        &[
            "ls",
            "ls -la",
            "ls -la src",
            "ls --color=auto -1 src/",
            "ls *.txt",
            "ls src/*.rs",
            "ls -- src",
            "pwd",
            "pwd && ls",
            "pwd; ls\nwhoami\n",
            "cat a.txt",
            "cat ./a.txt src/../a.txt",
            "cat 'a.txt'",
            "cat \"a.txt\"",
            "cat missing.txt",
            "cat < /dev/null",
            "cat a.txt 2>/dev/null",
            "cat a.txt 2> /dev/null | head -n 5",
            "cat a.txt 2>&1 | head -5",
            "cat a.txt >&2",
            "cat a.txt >>/dev/null",
            "head -n -3 a.txt",
            "head -c10 a.txt",
            "tail -n +2 a.txt",
            "tail --lines=2 a.txt",
            "tail --lines 2 a.txt",
            "wc -l src/*.rs",
            "grep foo a.txt",
            "grep -rn 'fn main' src",
            "grep -rn \"/api/v1\" src",
            "grep -E 'a|b$' a.txt",
            "grep \"foo$\" a.txt",
            "grep foo$ a.txt",
            "grep -e foo -e bar a.txt",
            "grep --include='*.rs' -r foo .",
            "grep --include=*.rs -r foo .",
            "! grep -q foo a.txt",
            "grep -q foo a.txt && echo yes || echo no",
            "rg foo",
            "rg -n --hidden -g '*.rs' 'fn \\w+' src",
            "rg --files src",
            "rg -A3 -B 2 foo",
            "find . -name '*.rs'",
            "find . -type f -not -path './target/*' -print",
            "find src \\( -name a -o -name b \\) -mtime -1",
            "find . -newer a.txt",
            "sed -n 5p a.txt",
            "sed -n '1,20p' a.txt",
            "sed -n '/one/,$p;5q' a.txt",
            "sed 3d a.txt",
            "sort a.txt",
            "sort -k2,2 -t, -u a.txt | uniq -c",
            "sort -rn a.txt | head",
            "uniq a.txt",
            "cut -d/ -f1 a.txt",
            "cut -d ' ' -f 2- a.txt",
            "tr -d '\\n'",
            "nl -ba a.txt",
            "stat -c %s a.txt",
            "file a.txt",
            "du -sh src",
            "df -h .",
            "echo hello world",
            "echo 'rm -rf /'",
            "echo \"a > b; rm c | d & e\"",
            "echo a\\;rm",
            "echo a#b",
            "echo \\$x",
            "echo '$(rm x)'",
            "echo '`rm x`'",
            "echo HEAD~1",
            "printf '%s\\n' a b",
            "printf '%-10s|%5.2f%%' a 1",
            "true",
            "false || true",
            "test -f a.txt && cat a.txt",
            "[ -d src ] && ls src",
            "[ a = b ]",
            "basename /usr/lib/x.so .so",
            "dirname src/a.rs",
            "realpath a.txt",
            "date",
            "date -u +%F",
            "uname -a",
            "whoami",
            "id -u",
            "which ls cargo",
            "command -v cargo",
            "type ls",
            "cmp a.txt src/a.rs",
            "diff -u a.txt src/a.rs",
            "sha256sum a.txt",
            "cksum a.txt",
            "tree -L 2 src",
            "jq -r .name a.txt",
            "cd src && ls",
            "cd odd && ls ./*",
            "cd src && cat a.rs | wc -l && cat ../a.txt",
            "cat \"a b.txt\" 'ü.txt'",
            "ls |\n  wc -l",
        ],
    );
}

#[test]
fn understood_lines_that_may_do_more_are_asked_about() {
    all(
        Judged::Unsure,
        &[
            // Other programs, and one certain command does not excuse another.
            "rm x",
            "rm -rf /",
            "ls; rm x",
            "ls\nrm x",
            "ls && rm x",
            "ls || rm x",
            "ls | rm x",
            "cat a.txt | tee b.txt",
            "ls;rm x",
            "r\\m x",
            "'rm' x",
            "r\"\"m x",
            "\"ls\"; 'r'm x",
            "git status",
            "git diff",
            "git log",
            "cargo --version",
            "env",
            "env ls",
            "printenv",
            "sudo ls",
            "xargs ls",
            "ls | xargs rm",
            "bash -c ls",
            "sh x.sh",
            "eval ls",
            "exec ls",
            "source a.txt",
            ". a.txt",
            "time-ls",
            "awk '{print}' a.txt",
            "less a.txt",
            "dd if=a.txt of=b",
            "tee a",
            "nosuchprogram",
            "export PATH",
            "alias ls",
            "hash -p ./ls cat",
            "set -o noclobber",
            // Programs that are not the system's.
            "./ls",
            "src/cat a.txt",
            "../work/ls",
            "/nowhere/ls",
            "nl.link",
            // Options that write, run or do not end.
            "find . -delete",
            "find . -exec rm x \\;",
            "find . -execdir rm x +",
            "find . -ok rm x \\;",
            "find . -fprint out",
            "find . -fprintf out %p",
            "find . -fls out",
            "find . -name a -delete",
            "find . -name -delete",
            "find -L .",
            "cd odd && find *",
            "cd odd && ls *",
            "diff -r src odd",
            "sort -o b a.txt",
            "sort a.txt -o b",
            "sort -ob a.txt",
            "sort --output=b a.txt",
            "sort --outp b a.txt",
            "sort -T. --compress-program=./x a.txt",
            "sort -k -o a.txt",
            "uniq a.txt b.txt",
            "uniq *.txt",
            "sed -i s/a/b/ a.txt",
            "sed -n -i 5p a.txt",
            "sed -n 5p a.txt -i",
            "sed -n 5p --in-place a.txt",
            "sed 's/a/b/' a.txt",
            "sed -n '5w out' a.txt",
            "sed -n '/a/w out' a.txt",
            "sed '1e rm x' a.txt",
            "sed -n '5p\nw out' a.txt",
            "sed -n '/a[/]w out;/p' a.txt",
            "sed -f script a.txt",
            "sed",
            "rg --pre ./x foo",
            "rg --pre=./x foo",
            "rg -z foo",
            "rg --hostname-bin ./x foo",
            "rg -f list foo",
            "rg -L foo",
            "rg -r --pre ./x",
            "grep -f list a.txt",
            "grep -R foo .",
            "tree -o out",
            "tree -R -H . -L 1",
            "file -C -m magic",
            "diff -l a.txt src/a.rs",
            "date -s tomorrow",
            "date 01010000",
            "date --set=now",
            "tail -f a.txt",
            "wc --files0-from=a.txt",
            "sha256sum -c a.txt",
            "jq env a.txt",
            "jq '$ENV.x' a.txt",
            "jq 'import \"x\" as $x; .' a.txt",
            "jq -f a.txt",
            "printf -v PATH x; ls",
            "printf '%n' PATH",
            "printf '%5n' PATH",
            "printf '%.*hhn' 1 PATH",
            "printf '%(%F)T'",
            "printf '%d' 'a[$(rm x)]'",
            "test -v 'a[$(rm x)]'",
            "[ -v 'a[`rm x`]' ]",
            "test 'a[$(rm x)]' -eq 0",
            "command ls",
            "command -p ls",
            "type -p ls",
            // Files outside the roots.
            "cat /etc/passwd",
            "cat ../secret/key",
            "cat links/out/key",
            "cat links/*",
            "cat links/*/key",
            "cat */../../secret/key",
            "ls /",
            "ls ..",
            "find /",
            "find .. -name x",
            "grep -r key ..",
            "grep -e key ../secret/key",
            "cd .. && cat secret/key",
            "cd src && cat ../../secret/key",
            "cd links/out && cat key",
            "cd src; cat ../../secret/key",
            "cd missing || cat a.txt",
            "cd src && false || cat ../a.txt",
            "cd src && cd .. && ls",
            "cd",
            "cd -",
            "ls && cd src",
        ],
    );
}

#[test]
fn what_is_not_plain_is_opaque() {
    all(
        Judged::Opaque,
        &[
            "",
            "   ",
            "\n\n",
            "ls $(rm x)",
            "ls `rm x`",
            "ls \"$(rm x)\"",
            "ls \"`rm x`\"",
            "echo \"a\\\\$(rm x)\"",
            "echo 'a'$(rm x)'b'",
            "echo \"'$(rm x)'\"",
            "echo $HOME",
            "echo ${x:-$(rm x)}",
            "echo \"${x}\"",
            "echo \"é\\\" ; rm x \"",
            "echo $'a\\'; rm x #'",
            "echo $\"x\"",
            "echo $((1+1))",
            "echo $[1+1]",
            "echo \"$[1]\"",
            "echo \"$@\"",
            "cat a > b",
            "cat a >b",
            "cat a >> b",
            "echo x >> .git/hooks/x",
            "echo x>a.txt",
            "echo x 2>err",
            "echo x &> b",
            "echo x &>/dev/null",
            "echo x >| b",
            "echo x >/dev/nullx",
            "echo x >/dev/null/../x",
            "echo x >'/dev/null'",
            "echo x >&b",
            "echo x 12>/dev/null",
            "cat <> b",
            "cat < a.txt",
            "cat <<EOF\nx\nEOF",
            "cat << /dev/null\nrm x\n/dev/null",
            "cat <<<x",
            "cat <<< /dev/null",
            "cat <(rm x)",
            "cat >(rm x)",
            "diff <(ls) <(rm x)",
            "sleep 1 &",
            "ls & rm x",
            "ls |& rm x",
            "(rm x)",
            "(ls)",
            "{ rm x; }",
            "ls {a,b}",
            "f() { rm x; }; f",
            "ls(){ rm x; }",
            "function ls { rm x; }",
            "if true; then rm x; fi",
            "for x in a; do rm x; done",
            "while true; do rm x; done",
            "case x in x) rm x;; esac",
            "[[ -f a ]]",
            "time ls",
            "! ! ls",
            "ls | ! wc",
            "coproc ls",
            "PATH=. ls",
            "x=1 ls",
            "x+=1 ls",
            "a[0]=1 ls",
            "LD_PRELOAD=./x.so ls",
            "x=1",
            "./*",
            "l? x",
            "/bin/l[s]",
            "'' x",
            "ls ~",
            "ls ~root",
            "ls a=~",
            "ls a:~/x",
            "ls # comment",
            "# comment",
            "ls 'open",
            "ls \"open",
            "ls \\",
            "ls \\\nrm x",
            "ls 'a' \"b\\",
            "ls\u{a0}-la",
            "ls \u{2003}x",
            "ls\u{200b}",
            "ｌｓ",
            "ls\rrm x",
            "ls \u{0}",
            "ls '\u{0}'",
            "ls \u{b}x",
            "ls \\é",
            "ls &&",
            "ls |",
            "| ls",
            "&& ls",
            "; ls",
            "ls ;; rm x",
            "ls && ; rm x",
            "!",
            ">/dev/null",
            "ls; >/dev/null; ls",
            "ls @(a)",
        ],
    );
    assert!(Line::parse(&format!("echo {}", "x".repeat(20_000))).is_err());
}

#[test]
fn words_are_what_the_program_gets() {
    let line =
        Line::parse(r#"! a 'b c'"d\"e"\ f 2>&1 >/dev/null g*h || i "" "\z" | j k[1]"#).unwrap();
    let shown: Vec<String> = line
        .commands
        .iter()
        .map(|simple| {
            let words = simple.words.iter().map(|word| match word.pattern {
                Some(at) => format!("<{}@{at}>", word.text),
                None => format!("<{}>", word.text),
            });
            format!("{:?} {}", simple.join, words.collect::<String>())
        })
        .collect();
    assert!(Line::parse("j[1]").is_err());
    assert_eq!(Line::parse("a | j[1").unwrap().commands.len(), 2);
    assert_eq!(
        shown,
        [
            r#"Then <a><b cd"e f><g*h@1>"#,
            r#"Or <i><><\z>"#,
            "Pipe <j><k[1]@1>"
        ]
    );
}

#[test]
fn no_program_is_certain_where_the_environment_changes_them() {
    let fixture = Fixture::new();
    let line = Line::parse("ls").unwrap();
    let bin = fixture.dir.path().canonicalize().unwrap().join("bin");
    let check = |variables: &[(&str, &str)]| {
        let environment: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let mut programs = Programs::of(&environment);
        programs.trust(bin.parent().unwrap());
        line.only_reads(Place {
            programs: &programs,
            ..fixture.place()
        })
    };
    let bin_text = bin.to_str().unwrap();
    let work = fixture.workspace.cwd().to_str().unwrap();
    assert!(check(&[("PATH", bin_text)]));
    assert!(check(&[
        ("PATH", bin_text),
        ("LD_LIBRARY_PATH", "/usr/lib")
    ]));
    for variables in [
        &[][..],
        &[("PATH", &*format!("{work}:{bin_text}"))],
        &[("PATH", &*format!(".:{bin_text}"))],
        &[("PATH", &*format!(":{bin_text}"))],
        &[("PATH", bin_text), ("LD_LIBRARY_PATH", work)],
        &[("PATH", bin_text), ("LD_LIBRARY_PATH", "lib")],
        &[("PATH", bin_text), ("BASH_ENV", "x")],
        &[("PATH", bin_text), ("LD_PRELOAD", "x.so")],
    ] {
        assert!(!check(variables), "{variables:?}");
    }
    // The tempdir is a place where everybody may write, unless a test trusts it.
    let programs = Programs::of(&[("PATH".into(), bin.clone().into())]);
    let untrusted = Place {
        programs: &programs,
        ..fixture.place()
    };
    assert!(!line.only_reads(untrusted));
}

#[test]
fn an_allowed_line_is_allowed_whole() {
    let fixture = Fixture::new();
    let rules = fixture.rules(&["cargo test", "make"], &[]);
    for (line, expected) in [
        ("cargo test", true),
        ("cargo test --lib 'a b'", true),
        ("cargo  'test'", true),
        ("cd src && cargo test 2>&1 | tail -n 5", true),
        ("cargo test; make all; ls", true),
        ("make", true),
        ("makefoo", false),
        ("cargo tests", false),
        ("cargo", false),
        ("cargo +nightly test", false),
        ("./cargo test", false),
        ("cargo test; rm x", false),
        ("cargo test | rm x", false),
        ("cargo test > out", false),
        ("cargo test $(rm x)", false),
        ("X=1 cargo test", false),
        ("cargo t*", false),
        ("cd .. && cargo test", false),
        ("sudo cargo test", false),
    ] {
        let found = rules.unasked(line, &fixture.workspace, fixture.workspace.cwd());
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn a_denied_command_is_found_where_it_hides() {
    let rules = Fixture::new().rules(&[], &["rm", "git push", "curl -X"]);
    for (line, expected) in [
        ("rm x", Some("rm")),
        ("rm", Some("rm")),
        ("ls; rm x", Some("rm")),
        ("ls\nrm x", Some("rm")),
        ("ls | rm", Some("rm")),
        ("/bin/rm x", Some("rm")),
        ("./rm x", Some("rm")),
        ("RM x", Some("rm")),
        ("r\\m x", Some("rm")),
        ("'r'\"m\" x", Some("rm")),
        ("sudo rm x", Some("rm")),
        ("sudo -u root /bin/rm x", Some("rm")),
        ("env X=y rm x", Some("rm")),
        ("/usr/bin/env -i rm x", Some("rm")),
        ("command rm x", Some("rm")),
        ("nice -n 5 rm x", Some("rm")),
        ("timeout 5 rm x", Some("rm")),
        ("nohup timeout 5 git push", Some("git push")),
        ("ls | xargs -n1 rm", Some("rm")),
        ("find . -exec rm '{}' \\;", Some("rm")),
        ("find . -exec rm {} \\;", Some("rm")),
        ("bash -c 'rm x'", Some("rm")),
        ("sh -c \"ls; 'rm' x\"", Some("rm")),
        ("eval 'rm x'", Some("rm")),
        ("busybox rm x", Some("rm")),
        ("alias x=rm; x", Some("rm")),
        ("(rm x)", Some("rm")),
        ("echo $(rm x)", Some("rm")),
        ("echo `rm x`", Some("rm")),
        ("if true; then rm x; fi", Some("rm")),
        ("x() { rm y; }; x", Some("rm")),
        ("X=1 rm x", Some("rm")),
        ("X=rm; $X x", Some("rm")),
        ("ls > out; git  push", Some("git push")),
        ("ls & rm x", Some("rm")),
        ("git push --force", Some("git push")),
        ("git 'push'", Some("git push")),
        ("curl -X POST", Some("curl -X")),
        ("rmdir x", None),
        ("echo rm", None),
        ("ls rm", None),
        ("git commit -m 'rm'", None),
        ("git pushd", None),
        ("git pull; push", None),
        ("git", None),
        ("grep -r 'git push' .", None),
        ("farm x > out", None),
        ("perform $x", None),
        // What cannot be seen, as the module says.
        ("git -C x push", None),
        ("python3 -c 'import os; os.remove(\"x\")'", None),
    ] {
        assert_eq!(rules.denied(line).as_deref(), expected, "{line}");
    }
}

#[test]
fn a_prefix_is_the_plain_beginning_of_one_command() {
    for text in [
        "", " ", "a; b", "a | b", "a $(b)", "X=1 a", "a*", "a b*", "a > b", "'a",
    ] {
        let error = Rules::new(&[], &[text.to_owned()], &[]).unwrap_err();
        assert!(error.starts_with("`policy.deny`: "), "{error}");
    }
}

#[test]
fn an_approval_for_the_session_names_all_that_it_covers() {
    let fixture = Fixture::new();
    let covers = |line: &str, escalate| {
        let named = Named::now(line, fixture.place());
        named.covers(line, fixture.place(), escalate)
    };
    assert_eq!(
        covers("kubectl get pods", true).as_deref(),
        Some("the exact command `kubectl get pods` in `.`, outside the sandbox")
    );
    assert_eq!(
        covers("git status | cat", false).as_deref(),
        Some("the exact command `git status | cat` in `.`")
    );
    let with_file = covers("kubectl apply -f a.txt", true).unwrap();
    assert!(
        with_file.contains(", with `a.txt` as it is ("),
        "{with_file}"
    );
    let before = covers("make all", false).unwrap();
    std::fs::write(fixture.file("Makefile"), "all: evil").unwrap();
    assert_ne!(covers("make all", false).unwrap(), before);
    for (line, escalate) in [
        ("make all", true),
        ("cargo test", true),
        ("bash x.sh", false),
        ("sh -c ls", false),
        ("python3.12 x.py", false),
        ("env kubectl get", false),
        ("sudo kubectl get", false),
        ("ls | xargs rm", false),
        ("./tools/x.sh", false),
        ("tools/x.sh", false),
        ("nosuchprogram", false),
        ("eval ls", false),
        ("kubectl get pods > out", false),
        ("kubectl $x", false),
        ("kubectl '`'", false),
        ("kubectl 'a\u{202e}b'", false),
        ("kubectl get\nkubectl put", false),
        ("cd src; kubectl get", false),
    ] {
        assert_eq!(covers(line, escalate), None, "{line}");
    }
    let long = |letters: usize| format!("kubectl {}", "x".repeat(letters));
    assert!(covers(&long(392), false).is_some());
    assert!(covers(&long(393), false).is_none());
}

#[test]
fn an_approval_stands_on_the_files_that_the_line_names() {
    let fixture = Fixture::new();
    for (line, file, stands) in [
        ("./tools/x.sh", "tools/x.sh", true),
        ("sh tools/x.sh", "tools/x.sh", true),
        ("sh -c 'cd tools && ./x.sh 1'", "tools/x.sh", true),
        ("cd tools; ./x.sh", "tools/x.sh", true),
        ("X=1 ./tools/x.sh > out", "tools/x.sh", true),
        ("for i in 1 2; do tools/x.sh $i; done", "tools/x.sh", true),
        ("sudo env A=b tools/x.sh", "tools/x.sh", true),
        ("x --run=tools/x.sh", "tools/x.sh", true),
        ("sh tools/*.sh", "tools/x.sh", true),
        ("make", "Makefile", true),
        ("cd src && make -C ..", "Makefile", true),
        ("sudo make install", "Makefile", true),
        ("make", "a.txt", false),
        ("./tools/x.sh", "a.txt", false),
        ("ls", "tools/x.sh", false),
    ] {
        let before = Named::now(line, fixture.place());
        assert_eq!(
            before.changed(&Named::now(line, fixture.place()), &fixture.workspace),
            None
        );
        let old = std::fs::read(fixture.file(file)).unwrap();
        std::fs::write(fixture.file(file), "changed").unwrap();
        let now = Named::now(line, fixture.place());
        let expected = stands.then(|| format!("`{file}`"));
        assert_eq!(before.changed(&now, &fixture.workspace), expected, "{line}");
        std::fs::write(fixture.file(file), old).unwrap();
    }
    // A file that was not there counts too.
    let before = Named::now("sh new.sh", fixture.place());
    std::fs::write(fixture.file("new.sh"), "x").unwrap();
    let now = Named::now("sh new.sh", fixture.place());
    assert!(before.changed(&now, &fixture.workspace).is_some());
}

#[test]
fn a_question_shows_what_is_in_the_files_that_the_line_runs() {
    let fixture = Fixture::new();
    let shown = |line: &str| Named::now(line, fixture.place()).shown(&fixture.workspace);
    std::fs::write(fixture.file("tools/x.sh"), "#!/bin/sh\n+rm \u{202e}\n").unwrap();
    std::fs::write(fixture.file("Makefile"), "all:\n").unwrap();
    let script = "`tools/x.sh`, 18 bytes:\n    #!/bin/sh\n    +rm \\u{202e}\n";
    for (line, expected) in [
        ("./tools/x.sh a.txt", script),
        ("bash tools/x.sh", script),
        ("sudo env tools/x.sh", script),
        ("sh -c 'cd tools && ./x.sh'", script),
        ("for i in 1 2; do tools/x.sh; done", script),
        ("make", "`Makefile`, 5 bytes:\n    all:\n"),
        ("cat tools/x.sh", ""),
        ("kubectl apply -f a.txt", ""),
        ("ls", ""),
    ] {
        assert_eq!(shown(line), expected, "{line}");
    }
    std::fs::write(fixture.file("tools/x.sh"), "a\n".repeat(5000)).unwrap();
    let long = shown("tools/x.sh");
    assert!(
        long.starts_with("`tools/x.sh`, 10000 bytes:\n    a\n"),
        "{long}"
    );
    assert!(long.ends_with("    a\n    … 6000 more bytes\n"), "{long}");
    std::fs::write(fixture.file("tools/x.sh"), b"\x7fELF\0").unwrap();
    assert!(shown("tools/x.sh").ends_with("    (not text)\n"));
}

/// Nothing changes it.
static SHARED: std::sync::LazyLock<Fixture> = std::sync::LazyLock::new(Fixture::new);

/// Text that is more like shell than chance would have it.
fn shell_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec![
            "ls", "cat", "a.txt", "src", "-la", "-o", "-exec", "find", "sort", "rm", "echo", "printf", "'", "\"", "\\",
            "$", "$(", ")", "`", ";", "&", "&&", "|", "||", "<", ">", ">/dev/null", "2>&1", "\n", "!", "#", "*", "?",
            "[", "]", "{", "}", "~", "=", "cd", "-n", "sed", "5p", "test", "..", "/",
        ]).prop_map(str::to_owned),
        5 => Just(" ".to_owned()),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// Words and quotes, mostly closed.
fn quoted_text() -> impl Strategy<Value = String> {
    let some = |pieces: &'static [&'static str]| {
        prop::collection::vec(prop::sample::select(pieces), 0..5).prop_map(|chosen| chosen.concat())
    };
    let bare = some(&[
        "a", "b", "~", "=", ":", "#", "!", "%", "^", "\\ ", "\\$", "\\\\", "\\n", "\\'", "$", " ",
        "/", "+", "@", "-", ",", ".", "1", "{", "}", "{a,b}", "[", "]",
    ]);
    let single = some(&["a", " ", "\"", "\\", "$x", "`", "é", "\n", "*"]);
    let double = some(&[
        "a", " ", "'", "\\\\", "\\\"", "\\$", "\\`", "\\n", "$", "$ ", "$|", "$/", "$x", "$'", "!",
        "~", "*", "é", "{",
    ]);
    let part = prop_oneof![
        bare,
        single.prop_map(|text| format!("'{text}'")),
        double.prop_map(|text| format!("\"{text}\"")),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

/// What `shell` makes of words, each in angle brackets; it finds no programs.
fn words_by(shell: &str, words: &str) -> String {
    let printed = process::Command::new(shell)
        .args(["-c", &format!("PATH=/nowhere; printf '<%s>' {words}")])
        .current_dir("/")
        .output()
        .unwrap();
    String::from_utf8(printed.stdout).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_judged_without_a_panic(text in any::<String>(), likely in shell_text()) {
        let fixture = &*SHARED;
        let rules = fixture.rules(&["cargo test"], &["rm"]);
        for text in [&text, &likely] {
            let (workspace, cwd) = (&fixture.workspace, fixture.workspace.cwd());
            let _ = rules.denied(text);
            let unasked = rules.unasked(text, workspace, cwd);
            let named = rules.named(text, workspace, cwd);
            let _ = rules.covers(text, workspace, cwd, true, &named);
            prop_assert!(!(unasked && Line::parse(text).is_err()));
        }
    }

    #[test]
    fn nothing_certain_holds_a_substitution_or_a_redirect_to_a_file(text in shell_text()) {
        let fixture = &*SHARED;
        if fixture.judge(&text) == Judged::Reads {
            // Quoted text is data; what is left must be plain.
            let mut bare = String::new();
            let (mut quote, mut chars) = (None, text.chars());
            while let Some(c) = chars.next() {
                match (quote, c) {
                    (None | Some('"'), '\\') => { chars.next(); }
                    (None, '\'' | '"') => quote = Some(c),
                    (Some(open), c) if open == c => quote = None,
                    (Some('"'), '`') => prop_assert!(false, "{text:?}"),
                    (None, c) => bare.push(c),
                    _ => {}
                }
            }
            let bare = bare.replace(">>", ">").replace(">/dev/null", "").replace("2>&1", "").replace(">&1", "").replace("&&", "");
            for bad in ["$(", "`", ">", "<", "&", "(", "{", "#"] {
                let inside_word = bad == "#" && !bare.contains(" #") && !bare.starts_with('#');
                prop_assert!(inside_word || !bare.contains(bad), "{text:?}");
            }
        }
    }

    #[test]
    fn real_shells_read_the_same_words(text in prop_oneof![1 => shell_text(), 3 => quoted_text()]) {
        // What goes elsewhere is not seen here.
        if let Ok(line) = Line::parse(&format!("printf x {text}"))
            && let [only] = line.commands.as_slice()
            && only.words.iter().all(|word| word.pattern.is_none())
            && !text.contains(['>', '<'])
        {
            let words = only.arguments().iter().map(|word| format!("<{}>", word.text));
            let expected: String = words.collect();
            for shell in ["bash", "sh"] {
                let found = words_by(shell, &format!("x {text}"));
                prop_assert_eq!(&found, &expected, "{} {:?}", shell, text);
            }
        }
    }
}
