//! Repositories that mean harm, or something else than their bytes: nothing that git could be told to run is run by us,
//! and an undo gives back what was there, whatever git would have made of it.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use openoxide::workspace::sandbox::{Protection, Sandbox};

use crate::support::{
    home::{Home, skipped},
    turns::{
        COMMIT, changes, home_is, id, project, sh, shell, threads, tree, turn, turn_in, write,
    },
};

/// What git runs by its settings, with `SCOPE` where a driver, an alias or the like may have any name.
const KEYS: [&str; 52] = [
    "core.fsmonitor",
    "core.sshCommand",
    "core.editor",
    "core.pager",
    "core.askPass",
    "core.gitProxy",
    "core.alternateRefsCommand",
    "sequence.editor",
    "gpg.program",
    "gpg.ssh.program",
    "gpg.ssh.defaultKeyCommand",
    "gpg.x509.program",
    "gpg.openpgp.program",
    "credential.helper",
    "diff.external",
    "diff.SCOPE.command",
    "diff.SCOPE.textconv",
    "diff.tool",
    "merge.SCOPE.driver",
    "merge.tool",
    "filter.SCOPE.clean",
    "filter.SCOPE.smudge",
    "filter.SCOPE.process",
    "mergetool.SCOPE.cmd",
    "mergetool.SCOPE.path",
    "difftool.SCOPE.cmd",
    "difftool.SCOPE.path",
    "interactive.diffFilter",
    "uploadpack.packObjectsHook",
    "trailer.SCOPE.command",
    "trailer.SCOPE.cmd",
    "alias.SCOPE",
    "alias.cat-file",
    "alias.hash-object",
    "pager.cat-file",
    "pager.diff",
    "man.SCOPE.cmd",
    "man.SCOPE.path",
    "browser.SCOPE.cmd",
    "browser.SCOPE.path",
    "web.browser",
    "help.browser",
    "guitool.SCOPE.cmd",
    "imap.tunnel",
    "sendemail.sendmailCmd",
    "sendemail.toCmd",
    "sendemail.ccCmd",
    "remote.origin.vcs",
    "remote.origin.uploadpack",
    "remote.origin.receivepack",
    "submodule.sub/module.update",
    "tar.SCOPE.command",
];

const HOOKS: [&str; 16] = [
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-receive",
    "post-rewrite",
    "post-update",
    "pre-auto-gc",
    "pre-commit",
    "pre-receive",
    "prepare-commit-msg",
    "reference-transaction",
    "sendemail-validate",
    "update",
];

/// Variables that name a program for git.
const PROGRAMS: [&str; 10] = [
    "GIT_EXTERNAL_DIFF",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EDITOR",
    "GIT_SEQUENCE_EDITOR",
    "GIT_PAGER",
    "GIT_ASKPASS",
    "GIT_PROXY_COMMAND",
    "EDITOR",
    "PAGER",
];

/// A machine on which every git is told to run markers.
struct Hostile {
    home: Home,
}

impl Hostile {
    fn new() -> Self {
        let hostile = Self { home: project() };
        std::fs::create_dir(hostile.markers()).expect("a directory");
        let dir = hostile.home.project();
        sh(
            &dir,
            &format!(
                "git init -q . && {COMMIT} && git init -q ../home/lib && cd ../home/lib && echo m > m && {COMMIT}"
            ),
        );
        sh(
            &dir,
            &format!(
                "git -c protocol.file.allow=always submodule --quiet add ../home/lib sub/module && {COMMIT}"
            ),
        );
        hostile.set_keys();
        hostile.plant_hooks();
        hostile.write_attributes();
        hostile
    }

    fn markers(&self) -> PathBuf {
        self.home.home().join("markers")
    }

    fn mark(&self) -> PathBuf {
        self.home.home().join("mark")
    }

    /// Writes a program that leaves its name when it runs, and gives its path.
    fn marker(&self, name: &str) -> String {
        let program = self.markers().join(name.replace('/', "_"));
        let text = format!(
            "#!/bin/sh\necho \"${{0##*/}}\" >> {}\ncat\n",
            self.mark().display()
        );
        std::fs::write(&program, text).expect("a program");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("its mode");
        program.display().to_string()
    }

    /// In every file that git reads settings from.
    fn set_keys(&self) {
        let (home, dir) = (self.home.home(), self.home.project());
        let included = home.join("included");
        for (scope, file) in [
            ("repository", dir.join(".git/config")),
            ("module", dir.join(".git/modules/sub/module/config")),
            ("included", included.clone()),
            ("conditional", home.join("conditional")),
            ("global", home.join(".gitconfig")),
            ("user", home.join(".config/git/config")),
            ("system", home.join("system")),
        ] {
            std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
            let mut text = std::fs::read_to_string(&file).unwrap_or_default();
            for key in KEYS {
                let key = key.replace("SCOPE", scope);
                let marker = self.marker(&format!("{scope}-{key}"));
                let (section, name) = key.rsplit_once('.').expect("a section");
                let section = match section.split_once('.') {
                    Some((section, rest)) => format!("{section} \"{rest}\""),
                    None => section.to_owned(),
                };
                let shell = ["alias", "credential", "submodule"];
                let bang = if shell.iter().any(|known| section.starts_with(known)) {
                    "!"
                } else {
                    ""
                };
                text += &format!("[{section}]\n\t{name} = {bang}{marker}\n");
            }
            std::fs::write(file, text).expect("settings");
        }
        let more = format!(
            "git config --file .git/config include.path {0}; git config --file .git/config includeIf.gitdir:/.path {1}; \
             git config --file .git/config core.hooksPath .githooks; git config --file .git/config core.attributesFile {2}; \
             git config --file .git/config extensions.partialClone origin; git config --file .git/config remote.origin.promisor true; \
             git config --file .git/config remote.origin.url ext::{0}",
            included.display(),
            home.join("conditional").display(),
            home.join("attributes").display(),
        );
        sh(&dir, &more);
    }

    fn plant_hooks(&self) {
        let dir = self.home.project();
        for (scope, place) in [
            ("tracked", dir.join(".githooks")),
            ("own", dir.join(".git/hooks")),
            ("module", dir.join(".git/modules/sub/module/hooks")),
        ] {
            std::fs::create_dir_all(&place).expect("a directory");
            for hook in HOOKS {
                let marker = self.marker(&format!("{scope}-{hook}"));
                std::fs::copy(marker, place.join(hook)).expect("a hook");
            }
        }
    }

    fn write_attributes(&self) {
        let (home, dir) = (self.home.home(), self.home.project());
        for (file, scope) in [
            (dir.join(".gitattributes"), "repository"),
            (dir.join("sub/.gitattributes"), "included"),
            (dir.join("sub/module/.gitattributes"), "module"),
            (dir.join(".git/info/attributes"), "global"),
            (home.join("attributes"), "user"),
        ] {
            std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
            let text = format!("* diff={scope} merge={scope}\n*.txt filter={scope} ident\n");
            std::fs::write(file, text).expect("attributes");
        }
    }

    /// As somebody has it who has been attacked in every other way too.
    fn infect(&self, command: &mut Command) {
        let home = self.home.home();
        for name in PROGRAMS {
            command.env(name, self.marker(&format!("variable-{name}")));
        }
        command
            .env("HOME", &home)
            .env("GIT_CONFIG_SYSTEM", home.join("system"))
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "diff.variable.textconv")
            .env("GIT_CONFIG_VALUE_0", self.marker("variable-textconv"))
            .env(
                "GIT_CONFIG_PARAMETERS",
                format!("'core.editor'='{}'", self.marker("parameter")),
            );
    }

    /// Also where git finds itself and the repository.
    fn mislead(&self, command: &mut Command) {
        self.infect(command);
        for name in ["git-cat-file", "git", "git-remote-ext"] {
            self.marker(name);
        }
        let dot_git = self.home.project().join(".git");
        command
            .env("GIT_EXEC_PATH", self.markers())
            .env("GIT_TEMPLATE_DIR", self.markers())
            .env("GIT_DIR", &dot_git)
            .env("GIT_COMMON_DIR", &dot_git)
            .env("GIT_WORK_TREE", self.home.project())
            .env("GIT_INDEX_FILE", dot_git.join("index"))
            .env("GIT_OBJECT_DIRECTORY", self.markers())
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.markers());
    }

    /// The markers that ran since this was last asked.
    fn marks(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.mark()).unwrap_or_default();
        // What did not run left nothing to remove.
        let _ = std::fs::remove_file(self.mark());
        text.lines().map(str::to_owned).collect()
    }

    /// What somebody does with a git of their own.
    fn ordinary_git(&self, line: &str) {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.home.project());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("a path"));
        self.infect(&mut command);
        // Under so many markers hardly anything succeeds.
        command.output().expect("a shell");
    }
}

#[test]
fn nothing_that_git_can_be_told_to_run_is_run() {
    let hostile = Hostile::new();
    let home = &hostile.home;
    for line in [
        "touch a.txt; git status",
        "git diff; git diff HEAD",
        "git add -A; git commit -m x; git commit",
        "git repository; git global; git user; git included",
        "git fetch; git submodule update",
        "cd sub/module; touch m; git status; git commit -am x",
    ] {
        hostile.ordinary_git(line);
    }
    let ran = hostile.marks();
    for expected in [
        "repository-alias.repository",
        "module-core.fsmonitor",
        "included-alias.included",
        "conditional-core.fsmonitor",
        "global-filter.global.process",
        "user-alias.user",
        "post-index-change",
    ] {
        assert!(
            ran.contains(expected),
            "the marker {expected} does not work: {ran:?}"
        );
    }
    sh(
        &home.project(),
        "rm -f .git/index.lock .git/modules/sub/module/index.lock",
    );

    let before = tree(home);
    for more in [&[][..], &["--isolation", "worktree"]] {
        let calls = [
            write("b.txt", "2\n"),
            shell("echo 2 > a.txt; echo 2 > sub/module/m; rm sub/c.txt; mv old.txt new.txt"),
        ];
        let outcome = turn_in(home, &calls, more, |command| hostile.mislead(command));
        let expected = [
            "modified a.txt",
            "modified b.txt",
            "renamed new.txt from old.txt",
            "deleted sub/c.txt",
            "modified sub/module/m",
        ];
        assert_eq!(changes(&outcome), expected);
        assert_eq!(outcome.get("partial_changes"), None);
        let thread = id(&outcome);
        for arguments in [
            &["diff", &thread][..],
            &["undo", &thread],
            &["undo", &thread, "--redo"],
            &["undo", &thread],
            &["show", &thread],
            &["export", &thread],
            &["delete", &thread],
        ] {
            let mut command = home.openoxide(&[&["threads"], arguments].concat());
            hostile.mislead(&mut command);
            crate::support::home::run(command).expect(0);
        }
    }
    home_is(home, &before, "");
    assert_eq!(hostile.marks(), BTreeSet::new());
}

#[test]
fn the_git_that_we_run_can_write_nothing() {
    if Sandbox::new(Some(env!("CARGO_BIN_EXE_openoxide").into())).protection() == Protection::None {
        return skipped("there is no sandbox here");
    }
    // A git that is not what it seems: what it may do, any bug of the real one may do.
    let diff_with = |last: &str| {
        let home = project();
        sh(
            &home.project(),
            &format!("git init -q . && {COMMIT} && sleep 0.1 && git status -s"),
        );
        let bin = home.home().join("bin");
        let places = [home.project(), home.home(), home.state(), ".".into()];
        let write = |place: &PathBuf| format!("echo x > {}/openoxide-it-written;", place.display());
        let writes: String = places.iter().map(write).collect();
        let text = format!("#!/bin/sh\n({writes}) 2>/dev/null\n{last}\n");
        std::fs::create_dir(&bin).expect("a directory");
        std::fs::write(bin.join("git"), text).expect("a program");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bin.join("git"), mode).expect("its mode");
        let path = std::env::var("PATH").expect("a path");
        let outcome = turn_in(&home, &[shell("echo 2 > a.txt")], &[], |command| {
            command.env("PATH", format!("{}:{path}", bin.display()));
        });
        let written = |place: &&PathBuf| place.join("openoxide-it-written").exists();
        assert_eq!(places.iter().find(written), None);
        outcome["changes"][0]["diff"].as_str().map(str::to_owned)
    };
    let real = "PATH=${PATH#*:}; exec git \"$@\"";
    assert!(diff_with(real).is_some_and(|diff| diff.contains("-two")));
    assert_eq!(
        diff_with("exit 1").unwrap_or_default(),
        "",
        "it was ours that ran"
    );
}

/// A repository in which git keeps something else than the bytes, by `settings` and `attributes`. What a turn does to
/// its files is taken back to the byte, by another copy than git's where git has none.
fn bytes_come_back(settings: &str, attributes: &str, files: &[(&str, &[u8])]) {
    let home = Home::new().file(".gitattributes", attributes);
    let dir = home.project();
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).expect("a file");
    }
    let settle = "git add . 2>/dev/null && git -c user.name=a -c user.email=a@b commit -qm x 2>/dev/null && sleep 0.1 && git status -s";
    sh_at_home(&home, &format!("git init -q . && {settings}"));
    sh_at_home(&home, settle);
    let clean = sh_at_home(
        &home,
        "rm .git/index; git reset -q 2>/dev/null; sleep 0.1; git status -s",
    );
    assert_eq!(clean, "", "git sees no change");
    for (name, bytes) in files {
        let kept = sh_at_home(
            &home,
            &format!("git cat-file blob :{name} | od -An -tx1 -v"),
        );
        let kept: String = kept.split_whitespace().collect();
        let own: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_ne!(kept, own, "git keeps something else of {name}");
    }
    let before = tree(&home);
    for spoil in ["for f in *.txt; do echo more >> $f; done", "rm *.txt"] {
        let outcome = turn(&home, &[shell(spoil)], &[]);
        assert_eq!(outcome.get("partial_changes"), None, "{outcome}");
        assert_eq!(changes(&outcome).len(), files.len());
        threads(&home, &["undo", &id(&outcome)]).expect(0);
        home_is(&home, &before, "");
    }
    // And a worktree begins with them.
    let first = files[0].0;
    let look = format!("od -An -tx1 -v {first}; echo x > new");
    let outcome = turn(&home, &[shell(&look)], &["--isolation", "worktree"]);
    let path = Path::new(outcome["worktree"]["path"].as_str().expect("a path")).join(first);
    assert_eq!(std::fs::read(path).expect("a file"), files[0].1);
}

/// A line for the shell with the home of the program, and so with the same settings of git.
fn sh_at_home(home: &Home, line: &str) -> String {
    let ran = Command::new("sh")
        .args(["-ec", line])
        .current_dir(home.project())
        .env("HOME", home.home())
        .env_remove("XDG_CONFIG_HOME")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("a shell");
    assert!(ran.status.success(), "{line}: {ran:?}");
    String::from_utf8(ran.stdout).expect("text")
}

#[test]
fn line_ends_come_back_as_they_were() {
    let files: [(&str, &[u8]); 2] = [("a.txt", b"one\r\ntwo\r\n"), ("b.txt", b"\r\n")];
    bytes_come_back("true", "*.txt text eol=crlf\n", &files);
    bytes_come_back("git config core.autocrlf true", "", &files);
    bytes_come_back("git config --global core.autocrlf true", "", &files);
    bytes_come_back(
        "git config --file ~/more core.autocrlf true; git config --global include.path ~/more",
        "",
        &files,
    );
}

#[test]
fn idents_and_encodings_come_back_as_they_were() {
    let utf16: Vec<u8> = "grün\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let id = b"$Id: 0123456789012345678901234567890123456789 $\n";
    bytes_come_back("true", "*.txt ident\n", &[("a.txt", id)]);
    let attributes = "*.txt working-tree-encoding=UTF-16LE\n";
    bytes_come_back("true", attributes, &[("a.txt", &utf16)]);
}

#[test]
fn what_a_filter_keeps_elsewhere_comes_back_as_it_was() {
    let large = "large\n".repeat(1000);
    let pointer = "git config filter.lfs.clean 'cat > .git/large; echo pointer'; git config filter.lfs.smudge 'cat .git/large'";
    let attributes = "*.txt filter=lfs diff=lfs merge=lfs -text\n";
    bytes_come_back(pointer, attributes, &[("a.txt", large.as_bytes())]);
    // The sizes are the same, and no file of the repository says so.
    let turned = "git config --global filter.turn.clean 'tr a-z b-za'; git config --global filter.turn.smudge 'tr b-za a-z'; \
        git config --global core.attributesFile ~/attributes; echo '*.txt filter=turn' > ~/attributes";
    bytes_come_back(turned, "", &[("a.txt", b"turned\n")]);
}
