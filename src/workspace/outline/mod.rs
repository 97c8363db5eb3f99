//! The outline of a file, a folder or all of a workspace: its definitions with their lines, the most referenced first.
//!
//! Every file is read line by line ([`lexical`]), whatever its language; where the program was built with grammars, the
//! best-ranked ones are then parsed, and the rest in the background (`refine`). What was found is kept in the state directory by
//! the content of each file, so that the next call only looks at what changed. Ranks are about who refers to whom
//! ([`rank`]). The walk is that of a search: the same files are left out.

mod analysis;
mod blank;
#[cfg(feature = "grammars")]
mod grammar;
mod kept;
mod language;
mod lexical;
mod page;
mod rank;
mod reading;
#[cfg(feature = "grammars")]
mod refine;
mod survey;
mod words;

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::{Workspace, checkpoint::git::Repository, search::SearchError};
pub use analysis::{Analysis, FunctionFound, LineFound, analyse};
pub use language::{Kind, Language};
use page::{Part, page};
pub use reading::Skipped;
pub use survey::Survey;

/// Bytes of a token, about.
const TOKEN: usize = 4;

/// One definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// What it is.
    pub kind: Kind,
    /// As it is called, without what it stands in.
    pub name: String,
    /// Its first line, from 1.
    pub line: u32,
    /// Its last line.
    pub end: u32,
    /// How many others it stands in.
    pub depth: u8,
}

/// Why there is no outline. Its reader is the model.
#[derive(Debug, thiserror::Error)]
pub enum OutlineError {
    /// The file has none.
    #[error("`{path}` has no outline: it is {}", why.as_str())]
    Skipped {
        /// As it is shown.
        path: String,
        /// Why.
        why: Skipped,
    },
    /// It could not be looked at, or was cancelled.
    #[error(transparent)]
    Search(#[from] SearchError),
}

/// The outlines of one workspace.
#[derive(Debug, Default)]
pub struct Outlines {
    /// Where they are kept from call to call; without it, nowhere.
    state: Option<PathBuf>,
    #[cfg(feature = "grammars")]
    background: refine::Background,
}

impl Outlines {
    /// `state`: our own directory, which is never in a workspace.
    pub fn new(state: Option<PathBuf>) -> Self {
        Self {
            state,
            #[cfg(feature = "grammars")]
            background: refine::Background::default(),
        }
    }

    /// Everything below `root`, ranked. Blocks: a few seconds for the first look at tens of thousands of files.
    ///
    /// # Errors
    /// The root cannot be walked, or `cancel` was cancelled.
    pub fn survey(
        &self,
        root: &Path,
        closed: &[PathBuf],
        cancel: &CancellationToken,
    ) -> Result<Survey, SearchError> {
        let known = self.known_or_near(root);
        let mut survey = Survey::take(root, closed, known, cancel)?;
        if survey.fresh {
            #[cfg(feature = "grammars")]
            refine::at_once(&mut survey, cancel);
            rank::rank(&mut survey.files);
            self.keep(&survey);
        }
        #[cfg(feature = "grammars")]
        if let Some(state) = &self.state {
            self.background.finish(&survey, state);
        }
        Ok(survey)
    }

    fn keep(&self, survey: &Survey) {
        if let Some(state) = &self.state
            && let Err(error) = kept::keep(state, &survey.root, &survey.files)
        {
            // Without it the next call takes as long as this one.
            tracing::debug!("the outline is not kept: {error}");
        }
    }

    /// True while files are parsed in the background.
    #[cfg(feature = "grammars")]
    pub fn is_busy(&self) -> bool {
        self.background.is_busy()
    }

    /// Without grammars, nothing is ever done there.
    #[cfg(not(feature = "grammars"))]
    pub fn is_busy(&self) -> bool {
        false
    }

    /// What is already known of `root`, without looking.
    fn known(&self, root: &Path) -> Vec<survey::File> {
        let state = self.state.as_deref();
        state
            .map(|state| kept::load(state, root))
            .unwrap_or_default()
    }

    /// The same; for a worktree of which nothing is known, what is of the place that it is a copy of. Only the contents
    /// count then.
    fn known_or_near(&self, root: &Path) -> Vec<survey::File> {
        let known = self.known(root);
        let Some(main) = copied_from(root).filter(|_| known.is_empty()) else {
            return known;
        };
        let mut near = self.known(&main);
        for file in &mut near {
            file.stamp = survey::Stamp::default();
        }
        near
    }
}

/// The place in the main working tree that `root`, in another one of its repository, is a copy of.
fn copied_from(root: &Path) -> Option<PathBuf> {
    let repository = Repository::around(root).filter(|found| found.own != found.common)?;
    let inside = root.strip_prefix(&repository.top).ok()?;
    let place = repository.common.parent()?.join(inside);
    // Without the `/` that joining nothing leaves: the name of what is kept depends on it.
    Some(place.components().collect())
}

/// The outline of `real`, a file or a directory in `workspace`, in about `budget` tokens. Blocks.
///
/// # Errors
/// There is nothing to outline, in words for the model.
pub fn outline(
    workspace: &Workspace,
    real: &Path,
    budget: usize,
    cancel: &CancellationToken,
) -> Result<String, OutlineError> {
    let root = root_of(workspace, real);
    let below = real
        .strip_prefix(root)
        .unwrap_or(Path::new(""))
        .to_string_lossy();
    let part = Part {
        below: &below,
        budget: budget.saturating_mul(TOKEN),
    };
    let survey = match real.is_dir() {
        true => workspace
            .outlines()
            .survey(root, workspace.closed(), cancel)?,
        false => alone(workspace, real, root)?,
    };
    Ok(page(&survey, &part, |path| workspace.show(path)))
}

/// References come from all of the directory that `real` is in.
fn root_of<'a>(workspace: &'a Workspace, real: &'a Path) -> &'a Path {
    let roots = workspace.writable_roots().iter();
    roots
        .filter(|root| real.starts_with(root))
        .max_by_key(|root| root.as_os_str().len())
        .map_or_else(
            || {
                if real.is_dir() {
                    real
                } else {
                    real.parent().unwrap_or(real)
                }
            },
            PathBuf::as_path,
        )
}

/// One file, with the ranks that are known of it already.
fn alone(workspace: &Workspace, real: &Path, root: &Path) -> Result<Survey, OutlineError> {
    let skipped = |why| OutlineError::Skipped {
        path: workspace.show(real),
        why,
    };
    let text = reading::bytes(real).map_err(skipped)?;
    reading::judged(&text).map_err(skipped)?;
    let read = read(real, &text).map_err(skipped)?;
    let name = real
        .strip_prefix(root)
        .unwrap_or(real)
        .to_string_lossy()
        .into_owned();
    let known = workspace.outlines().known(root);
    let scores: std::collections::HashMap<u32, f32> = known
        .iter()
        .filter(|file| file.name == name)
        .flat_map(|file| file.spots.iter().map(|spot| (spot.name, spot.score)))
        .collect();
    let mut spots: Vec<survey::Spot> = survey::spots(&read.definitions, &text, read.language);
    for spot in &mut spots {
        spot.score = scores.get(&spot.name).copied().unwrap_or_default();
    }
    let file = survey::File {
        name,
        parsed: read.parsed.is_some(),
        lines: read.lines,
        spots,
        ..survey::File::default()
    };
    Ok(Survey {
        root: root.to_owned(),
        files: vec![file],
        ..Survey::default()
    })
}

/// A file that was asked for by name: parsed where there is a grammar, else line by line.
fn read(path: &Path, text: &[u8]) -> Result<Read, Skipped> {
    let reading = reading::read(path, text, true)?;
    #[cfg(feature = "grammars")]
    if let Some(parsed) = grammar::parse(reading.language, path, text) {
        return Ok(Read {
            definitions: parsed.definitions,
            parsed: Some((parsed.branches, parsed.imports)),
            language: reading.language,
            lines: reading.lines,
        });
    }
    Ok(Read {
        definitions: reading.definitions,
        parsed: None,
        language: reading.language,
        lines: reading.lines,
    })
}

/// What one file says.
struct Read {
    language: &'static Language,
    lines: u32,
    definitions: Vec<Definition>,
    /// From a parser: the lines at which a way divides, and those at which an import begins.
    parsed: Option<(Vec<u32>, Vec<u32>)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{conversation::SandboxPolicy, workspace::Boundaries};

    struct Place {
        dir: tempfile::TempDir,
        state: tempfile::TempDir,
    }

    impl Place {
        fn new(files: &[(&str, &str)]) -> Self {
            let place = Self {
                dir: tempfile::tempdir().unwrap(),
                state: tempfile::tempdir().unwrap(),
            };
            for (name, text) in files {
                place.write(name, text);
            }
            place
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.dir.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }

        fn workspace(&self) -> Workspace {
            let bounds = Boundaries {
                closed: vec![self.dir.path().join("closed")],
                state: Some(self.state.path().to_owned()),
                ..Boundaries::default()
            };
            Workspace::open(self.dir.path(), SandboxPolicy::ReadOnly, bounds).unwrap()
        }

        fn outline(&self, path: &str, budget: usize) -> Result<String, OutlineError> {
            let workspace = self.workspace();
            let real = workspace.resolve(path).unwrap();
            outline(&workspace, &real, budget, &CancellationToken::new())
        }

        fn survey(&self) -> Survey {
            let workspace = self.workspace();
            let closed = workspace.closed();
            workspace
                .outlines()
                .survey(workspace.cwd(), closed, &CancellationToken::new())
                .unwrap()
        }
    }

    const CORE: &str = "pub struct Engine {\n    a: u8,\n}\n\nimpl Engine {\n    pub fn start(\n        &self,\n        at: u32,\n    ) -> bool {\n        true\n    }\n}\n\nfn unused() {}\n";

    fn small() -> Place {
        Place::new(&[
            ("src/core.rs", CORE),
            (
                "src/a.rs",
                "use crate::core::Engine;\npub fn drive(engine: &Engine) { engine.start(1); }\n",
            ),
            (
                "src/b.rs",
                "fn lonely() { drive(&Engine { a: 1 }).start(2) }\n",
            ),
            ("docs/x.md", "# Title\n"),
        ])
    }

    #[test]
    fn the_most_referenced_come_first_nested_as_they_stand() {
        let text = small().outline(".", 1000).unwrap();
        assert_eq!(
            text,
            "src/core.rs (14 lines)\n 1: pub struct Engine\n 5: impl Engine\n 6:   pub fn start(&self, at: u32) -> bool\n14: fn unused()\n\n\
             src/a.rs (2 lines)\n2: pub fn drive(engine: &Engine)\n\n\
             docs/x.md (1 lines)\n1: # Title\n\n\
             src/b.rs (1 lines)\n1: fn lonely()\n\n"
        );
    }

    #[test]
    fn a_budget_keeps_the_most_referenced_and_says_what_is_left_out() {
        let place = small();
        let text = place.outline("src", 110).unwrap();
        assert!(
            text.starts_with("src/core.rs (14 lines)\n 1: pub struct Engine\n"),
            "{text}"
        );
        assert!(!text.contains("lonely"), "{text}");
        assert!(
            text.contains("definitions in 3 files are not shown"),
            "{text}"
        );
        assert!(text.len() < 4 * 110, "{}", text.len());
        let one = place.outline("src/core.rs", 1000).unwrap();
        assert!(
            one.contains("fn unused()") && !one.contains("drive"),
            "{one}"
        );
    }

    #[test]
    fn what_has_no_outline_is_counted_or_named() {
        let place = small();
        place.write("a.min.js", &"function a(){};".repeat(5000));
        place.write("b.rs", "\0\0");
        place.write("c.rs", &"fn a() {}\n".repeat(200_000));
        place.write("d.json", "{}");
        place.write("closed/e.rs", "fn hidden() {}");
        place.write(".gitignore", "ignored\n");
        place.write("ignored/f.rs", "fn ignored() {}");
        place.write("g.rs", "fn \u{202e}g() {} // \u{1b}[2J\n");
        std::os::unix::fs::symlink("/etc/passwd", place.dir.path().join("h.rs")).unwrap();
        let text = place.outline(".", 2000).unwrap();
        let said = "[files left out: 1 binary, 1 over 1 MB, 1 minified, 1 of no language with definitions]";
        assert!(text.contains(said), "{text}");
        assert!(
            !text.contains("hidden") && !text.contains("ignored/"),
            "{text}"
        );
        assert!(
            !text.contains('\u{202e}') && !text.contains('\u{1b}'),
            "{text}"
        );
        let error = place.outline("c.rs", 100).unwrap_err().to_string();
        assert_eq!(error, "`c.rs` has no outline: it is over 1 MB");
        assert!(
            place
                .outline("d.json", 100)
                .unwrap()
                .contains("no definitions")
        );
    }

    #[test]
    fn what_is_kept_is_used_until_the_file_changes() {
        let place = small();
        std::thread::sleep(std::time::Duration::from_millis(80));
        assert!(place.survey().fresh);
        // The background thread of a build with grammars has nothing left to do here.
        assert!(!place.survey().fresh);
        place.write("src/core.rs", "pub fn instead() {}\n");
        let text = place.outline("src/core.rs", 500).unwrap();
        assert!(text.contains("instead"), "{text}");
        let survey = place.survey();
        assert!(
            survey.fresh
                && survey
                    .files
                    .iter()
                    .any(|file| file.lines == 1 && file.name.ends_with("core.rs"))
        );
        fs_err::remove_file(place.dir.path().join("src/b.rs")).unwrap();
        assert!(place.survey().fresh);
        assert!(!place.outline(".", 1000).unwrap().contains("lonely"));
    }

    #[test]
    fn what_was_kept_of_another_place_is_never_shown_as_this_one() {
        let (one, other) = (small(), Place::new(&[("a.py", "def only_here(): pass\n")]));
        one.survey();
        let bounds = Boundaries {
            state: Some(one.state.path().to_owned()),
            ..Boundaries::default()
        };
        let workspace = Workspace::open(other.dir.path(), SandboxPolicy::ReadOnly, bounds).unwrap();
        let text = outline(&workspace, workspace.cwd(), 500, &CancellationToken::new()).unwrap();
        assert!(
            text.contains("only_here") && !text.contains("Engine"),
            "{text}"
        );
    }

    #[test]
    fn a_worktree_begins_with_what_is_known_of_the_main_one() {
        let (main, copy) = (small(), small());
        copy.write("src/a.rs", "pub fn changed() {}\n");
        let own = main.dir.path().join(".git/worktrees/w");
        main.write(".git/objects/x", "");
        main.write(".git/config", "");
        main.write(".git/worktrees/w/commondir", "../..\n");
        let link = copy.dir.path().join(".git");
        fs_err::write(own.join("gitdir"), link.as_os_str().as_encoded_bytes()).unwrap();
        fs_err::write(&link, format!("gitdir: {}\n", own.display())).unwrap();
        // What nobody would read in the files shows where it comes from.
        let mut known = main.survey().files;
        for file in &mut known {
            file.lines = 77;
        }
        let root = |place: &Place| place.dir.path().canonicalize().unwrap();
        kept::keep(main.state.path(), &root(&main), &known).unwrap();
        let outlines = Outlines::new(Some(main.state.path().to_owned()));
        let cancel = CancellationToken::new();
        let found = outlines.survey(&root(&copy), &[], &cancel).unwrap().files;
        let lines: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.lines)).collect();
        assert_eq!(
            lines,
            [
                ("docs/x.md", 77),
                ("src/a.rs", 1),
                ("src/b.rs", 77),
                ("src/core.rs", 77)
            ]
        );
        // A directory that only says that it is a copy has no part in it.
        fs_err::write(own.join("gitdir"), "elsewhere").unwrap();
        assert_eq!(copied_from(&root(&copy)), None);
    }

    fn analysed(name: &str, text: &str) -> Analysis {
        let place = Place::new(&[(name, text)]);
        let workspace = place.workspace();
        analyse(&workspace, &workspace.resolve(name).unwrap()).unwrap()
    }

    /// `name first-last complexity` of each function.
    fn functions(found: &Analysis) -> Vec<String> {
        let functions = found.functions.iter();
        functions
            .map(|f| format!("{} {}-{} {}", f.name, f.line, f.end_line, f.complexity))
            .collect()
    }

    #[test]
    fn a_file_is_analysed() {
        let rust = analysed(
            "a.rs",
            "use std::{\n    io,\n    fs,\n};\nuse crate::x;\n\n// TODO: more\nfn one(a: u8) -> u8 {\n    if a > 1 && a < 9 {\n        return 1; // FIXME\n    }\n    match a {\n        1 => 2,\n        _ => 3,\n    }\n}\n\nfn two() {\n    let s = \"TODO if for while\";\n}\n",
        );
        assert_eq!(functions(&rust), ["one 8-16 5", "two 18-20 1"]);
        let lines = |found: &[LineFound]| found.iter().map(|f| f.line).collect::<Vec<_>>();
        assert_eq!(lines(&rust.todos), [7, 10]);
        assert_eq!(lines(&rust.imports), [1, 5]);
        assert_eq!(rust.imports[0].text, "use std::{ io, fs, }");
        assert_eq!((rust.language.as_str(), rust.lines), ("Rust", 20));
        assert_eq!(rust.parsed, cfg!(feature = "grammars"));
        let python = analysed(
            "a.py",
            "import os\nfrom a import (\n    b,\n)\n\ndef one(a):\n    for x in a:\n        if x and a or b:\n            pass\n    return 1 if a else 2\n",
        );
        assert_eq!(functions(&python), ["one 6-10 6"]);
        assert_eq!(lines(&python.imports), [1, 2]);
        let go = analysed(
            "a.go",
            "package a\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nfunc one(a int) int {\n\tif a > 1 {\n\t\treturn 2\n\t}\n\treturn 1\n}\n",
        );
        assert_eq!(functions(&go), ["one 8-13 2"]);
        assert_eq!(lines(&go.imports), [4, 5]);
    }
}
