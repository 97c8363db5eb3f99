//! The files of the workspace that a line names: what an approval of it stands on, so that it is asked again when they
//! changed.
//!
//! This goes as far as the line itself and no further: each file inside the roots that a word of it names (scripts,
//! those behind an interpreter, configuration), and of `make`, `npm` and their like the file that says what they do.
//! What those files load in turn is not followed: a test runner runs the whole workspace, and a question about it says
//! no more than that. Of those that the line runs, a question shows what is in them. The last look comes when the start
//! is recorded; in the moment that is left another process could change a file, but commands of the agent do not run
//! meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
};

use ring::digest::{Context, SHA256};
use rustix::fs::CWD;

use super::{Line, Place, Simple, base_name, options::BUILTINS, rough_words, rules::RUN_OTHERS};
use crate::{
    conversation::{shown_line, shown_text},
    workspace::{
        Workspace,
        given::{self, Links},
    },
};

/// What an approval for the session may name, in characters: what a person reads to its end.
const LONGEST: usize = 400;
/// Files, and directories that a line may change into.
const MOST_FILES: usize = 64;
const MOST_DIRECTORIES: usize = 8;
/// Words that are looked at: a longer line is no command but a document.
const MOST_WORDS: usize = 1000;
/// Of a bigger file only the beginning, the length and the time of its last change count, in bytes.
const LARGEST: u64 = 4 << 20;
/// What an approval for the session may name of them.
const MOST_SHOWN: usize = 8;
/// What a question shows of one file that the line runs, and of all of them, in bytes.
const HEAD: usize = 4000;
const HEADS: usize = 12_000;

/// Programs that run what a file says, versions cut off. Those that run other programs are in [`RUN_OTHERS`].
const INTERPRETERS: &[&str] = &[
    "python",
    "pypy",
    "ipython",
    "node",
    "nodejs",
    "deno",
    "bun",
    "ts-node",
    "tsx",
    "ruby",
    "irb",
    "perl",
    "php",
    "lua",
    "luajit",
    "Rscript",
    "R",
    "julia",
    "java",
    "jshell",
    "groovy",
    "scala",
    "kotlin",
    "osascript",
    "tclsh",
    "wish",
    "guile",
    "racket",
    "elixir",
    "iex",
    "erl",
    "escript",
    "runghc",
    "ocaml",
    "swift",
    "awk",
    "gawk",
    "mawk",
    "nawk",
    "m4",
    "npx",
    "bunx",
    "uvx",
    "pipx",
    "gdb",
    "lldb",
    "vim",
    "nvim",
    "vi",
    "ed",
    "ex",
    "emacs",
    "less",
    "more",
];

/// Programs that do what the workspace says, and where they look first.
const RUNNERS: &[(&[&str], &[&str])] = &[
    (&["make", "gmake"], &["GNUmakefile", "makefile", "Makefile"]),
    (&["npm", "pnpm", "yarn", "bun", "npx"], &["package.json"]),
    (&["just"], &["justfile", "Justfile", ".justfile"]),
    (
        &["cargo"],
        &["Cargo.toml", "build.rs", ".cargo/config.toml"],
    ),
    (&["go"], &["go.mod"]),
    (
        &["gradle", "gradlew"],
        &["build.gradle", "build.gradle.kts"],
    ),
    (&["mvn", "mvnw"], &["pom.xml"]),
    (&["cmake", "ctest"], &["CMakeLists.txt"]),
    (&["ninja"], &["build.ninja"]),
    (&["rake", "bundle"], &["Rakefile", "Gemfile"]),
    (
        &["pytest", "tox", "nox", "uv", "poetry", "hatch", "pip"],
        &["pyproject.toml", "conftest.py", "tox.ini", "setup.py"],
    ),
    (&["composer"], &["composer.json"]),
    (&["mix"], &["mix.exs"]),
    (
        &[
            "dotnet",
            "msbuild",
            "bazel",
            "buck2",
            "sbt",
            "stack",
            "cabal",
            "task",
            "pre-commit",
        ],
        &[],
    ),
];

/// The files that a line names, each by what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    files: BTreeMap<PathBuf, File>,
    /// There were more.
    cut: bool,
}

/// A file as it was read, once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct File {
    digest: [u8; 32],
    bytes: u64,
    /// Its beginning, if the line runs it.
    head: Option<Vec<u8>>,
}

impl Named {
    /// One short word for all of it, empty if there is nothing: the same as long as the files are.
    pub fn digest(&self) -> String {
        if self.files.is_empty() && !self.cut {
            return String::new();
        }
        let mut all = Context::new(&SHA256);
        for (path, file) in &self.files {
            all.update(path.as_os_str().as_encoded_bytes());
            all.update(&[0]);
            all.update(&file.digest);
        }
        let digest = all.finish();
        let short = digest.as_ref().iter().take(16);
        short.map(|byte| format!("{byte:02x}")).collect()
    }

    /// The files that `text` names now.
    pub(super) fn now(text: &str, place: Place) -> Self {
        let mut found = Search {
            place,
            files: BTreeMap::new(),
            bases: vec![place.workdir.to_owned()],
            cut: false,
        };
        found.words(text);
        let cut = found.cut || found.files.len() > MOST_FILES;
        let files = found
            .files
            .into_iter()
            .take(MOST_FILES)
            .map(|(path, runs)| (File::read(&path, runs), path));
        Self {
            files: files.map(|(file, path)| (path, file)).collect(),
            cut,
        }
    }

    /// What is in the files that the line runs: all of it where it is short, else the beginning and how much more.
    pub fn shown(&self, workspace: &Workspace) -> String {
        let mut left = HEADS;
        let mut shown = String::new();
        for (path, file) in &self.files {
            let Some(head) = &file.head else {
                continue;
            };
            let head = &head[..head.len().min(left)];
            left -= head.len();
            let name = workspace.show(path);
            shown += &format!("`{name}`, {} bytes:\n", file.bytes);
            if head.contains(&0) {
                shown += "    (not text)\n";
                continue;
            }
            // An indent: a line must not pass for one of ours, nor for one of a diff.
            for line in shown_text(&String::from_utf8_lossy(head)).lines() {
                shown += &format!("    {line}\n");
            }
            let more = file.bytes.saturating_sub(head.len() as u64);
            if more > 0 {
                shown += &format!("    … {more} more bytes\n");
            }
        }
        if self.cut {
            shown += "… and more files\n";
        }
        shown
    }

    /// Which files are different `now`, as they are shown to people; `None` if none is.
    pub fn changed(&self, now: &Self, workspace: &Workspace) -> Option<String> {
        let both = self.files.keys().chain(now.files.keys());
        let different: BTreeSet<String> = both
            .filter(|path| {
                let digest = |named: &Self| named.files.get(*path).map(|file| file.digest);
                digest(self) != digest(now)
            })
            .map(|path| format!("`{}`", workspace.show(path)))
            .collect();
        (!different.is_empty()).then(|| different.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// What an approval of `text` for the session covers, as a text that names all of it: the command, the directory,
    /// whether it leaves the sandbox, and the contents of these files. `None` where it is not offered: a line that is
    /// not understood or not shown whole; shells, interpreters and what runs other programs; a program that a command
    /// could have written; outside the sandbox also what runs the whole workspace.
    pub(super) fn covers(&self, text: &str, place: Place, escalate: bool) -> Option<String> {
        let line = Line::parse(text).ok()?;
        let directory = place.workspace.show(place.workdir);
        let plain = |text: &str| shown_line(text) == text && !text.contains('`');
        let whole = text.chars().count() <= LONGEST && plain(text) && plain(&directory);
        let lasting = line
            .steps(place)?
            .iter()
            .all(|(base, simple)| lasts(simple, base, place, escalate));
        if !whole || !lasting || self.cut || self.files.len() > MOST_SHOWN {
            return None;
        }
        let outside = if escalate {
            ", outside the sandbox"
        } else {
            ""
        };
        let mut covers = format!("the exact command `{text}` in `{directory}`{outside}");
        for (path, file) in &self.files {
            // Half of SHA-256 is beyond what anybody can match.
            let digest: String = file.digest[..16]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            covers += &format!(
                ", with `{}` as it is ({digest})",
                place.workspace.show(path)
            );
        }
        Some(covers)
    }
}

/// True if `simple` means the same the next time, as far as that is not up to files of the workspace.
fn lasts(simple: &Simple, base: &Path, place: Place, escalate: bool) -> bool {
    let name = base_name(simple.program());
    let (broad, runs_workspace) = (runs_arguments(name), is_runner(name));
    let found = place.program(base, simple.program());
    // Outside the sandbox a command can change what its user can.
    let own = BUILTINS.contains(&simple.program())
        || found.is_some_and(|real| {
            !place.is_changeable(&real) && (!escalate || place.is_trusted(&real))
        });
    own && !broad && !(escalate && runs_workspace)
}

/// True for what runs a program or a script that its arguments name.
fn runs_arguments(name: &str) -> bool {
    let unversioned = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    RUN_OTHERS.contains(&name) || INTERPRETERS.contains(&unversioned)
}

fn is_runner(name: &str) -> bool {
    RUNNERS.iter().any(|(names, _)| names.contains(&name))
}

struct Search<'a> {
    place: Place<'a>,
    /// Each with whether the line runs it.
    files: BTreeMap<PathBuf, bool>,
    /// Where the line may stand when it names a file.
    bases: Vec<PathBuf>,
    /// Not all of it was looked at.
    cut: bool,
}

impl Search<'_> {
    fn words(&mut self, text: &str) {
        let line = Line::parse(text);
        // What is not understood may run anything that it names.
        let mut words: Vec<(String, bool)> = rough_words(text)
            .into_iter()
            .map(|word| (word, line.is_err()))
            .collect();
        let mut patterns = Vec::new();
        for simple in line.iter().flat_map(|line| &line.commands) {
            let name = base_name(simple.program());
            let all = runs_arguments(name) || is_runner(name);
            for (index, word) in simple.words.iter().enumerate() {
                // Without a slash it is looked for on the path, not here.
                let runs = all || index == 0 && word.text.contains('/');
                words.push((word.text.clone(), runs));
                // What stands in `sh -c '…'`.
                words.extend(rough_words(&word.text).into_iter().map(|word| (word, runs)));
                patterns.extend(word.pattern.map(|at| (word.text[..at].to_owned(), runs)));
            }
        }
        self.cut = words.len() > MOST_WORDS;
        words.truncate(MOST_WORDS);
        for (word, _) in &words {
            let directory = self
                .place
                .inside(self.place.workdir, word)
                .filter(|real| real.is_dir());
            if let Some(directory) = directory.filter(|_| self.bases.len() < MOST_DIRECTORIES) {
                self.bases.push(directory);
            }
        }
        for (word, runs) in &words {
            self.word(word, *runs);
        }
        for (before, runs) in patterns {
            let directory = before
                .rsplit_once('/')
                .map_or(".", |(directory, _)| directory);
            self.matches(directory, runs);
        }
    }

    fn add(&mut self, real: PathBuf, runs: bool) {
        *self.files.entry(real).or_default() |= runs;
    }

    fn word(&mut self, word: &str, runs: bool) {
        let runner = RUNNERS
            .iter()
            .find(|(names, _)| names.contains(&base_name(word)));
        let defaults = runner.map_or(&[][..], |(_, files)| files);
        for base in self.bases.clone() {
            for name in defaults.iter().chain([&word]) {
                let real = self.place.inside(&base, name);
                if let Some(real) = real.filter(|real| real.is_file()) {
                    self.add(real, runs);
                }
            }
        }
        let on_path = self.place.program(self.place.workdir, word);
        let ours = |real: &PathBuf| {
            self.place
                .workspace
                .writable_roots()
                .iter()
                .any(|root| real.starts_with(root))
        };
        if let Some(real) = on_path.filter(ours) {
            self.add(real, runs || !word.contains('/'));
        }
    }

    /// All files of a directory that a pattern looks into.
    fn matches(&mut self, directory: &str, runs: bool) {
        let entries = self
            .place
            .inside(self.place.workdir, directory)
            .and_then(|real| real.read_dir().ok());
        let paths = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        for path in paths.filter(|path| path.is_file()).take(MOST_FILES + 1) {
            self.add(path, runs);
        }
    }
}

impl File {
    /// What is in a file; of one that cannot be read, that.
    fn read(path: &Path, runs: bool) -> Self {
        let mut file = Self {
            head: runs.then(Vec::new),
            ..Self::default()
        };
        let mut context = Context::new(&SHA256);
        if file.fill(&mut context, path).is_err() {
            context.update(b"unreadable");
        }
        file.digest.copy_from_slice(context.finish().as_ref());
        file
    }

    fn fill(&mut self, context: &mut Context, path: &Path) -> std::io::Result<()> {
        let file = given::open(CWD, path, Links::Followed)?;
        let meta = file.metadata()?;
        self.bytes = meta.len();
        context.update(&meta.len().to_le_bytes());
        if meta.len() > LARGEST {
            context.update(format!("{:?}", meta.modified()?).as_bytes());
        }
        let mut file = file.take(LARGEST);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            context.update(&buffer[..read]);
            if let Some(head) = &mut self.head {
                let wanted = HEAD.saturating_sub(head.len()).min(read);
                head.extend_from_slice(&buffer[..wanted]);
            }
        }
    }
}
