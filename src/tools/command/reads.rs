//! Whether a line certainly only reads: every command in it known, every option on the list, every file inside the
//! roots.
//!
//! A path outside the roots makes a command uncertain although reading harms nothing by itself: what is outside is for
//! the owner to show. Symlinks are followed for this, those too that a pattern could match.

use std::path::Path;

use super::{
    Line, Place, Simple, Word,
    options::{BUILTINS, Operands, PROGRAMS, Program},
};

/// Directories with more entries are not looked through for what a pattern could match.
const MOST_ENTRIES: usize = 10_000;

impl Line {
    /// True if it is certain that this line changes nothing, runs nothing that a command could have put there, and
    /// reads only what the file tools may read.
    pub fn only_reads(&self, place: Place) -> bool {
        self.steps(place).is_some_and(|steps| {
            let mut steps = steps.iter();
            steps.all(|(base, simple)| simple.only_reads(base, place))
        })
    }
}

impl Simple {
    /// The same for one command that starts in `base`.
    pub(super) fn only_reads(&self, base: &Path, place: Place) -> bool {
        let name = super::base_name(self.program());
        let Some(program) = PROGRAMS.iter().find(|known| known.names.contains(&name)) else {
            return false;
        };
        let builtin = BUILTINS.contains(&self.program()) && place.is_usual();
        if !builtin && !place.is_system(base, self.program()) {
            return false;
        }
        let files = Files { base, place };
        let words = self.arguments();
        match program.operands {
            Operands::Anything => words
                .iter()
                .all(|word| word.pattern.is_none() || files.has(word)),
            Operands::Cd => words.len() == 1,
            Operands::Lookup => looks_up(name, words),
            Operands::Printf => prints(words),
            Operands::Test => tests(words, &files),
            Operands::Find => finds(words, &files),
            kind => {
                arguments(program, words).is_some_and(|arguments| arguments.only_read(kind, &files))
            }
        }
    }
}

/// What may be read from where a command starts.
struct Files<'a> {
    base: &'a Path,
    place: Place<'a>,
}

impl Files<'_> {
    /// True if `word` names files inside the roots, there or not.
    fn has(&self, word: &Word) -> bool {
        let text = word.text.as_str();
        match word.pattern {
            None => matches!(text, "" | "-" | "/dev/null") || self.reach(text),
            Some(at) => {
                let directory = text[..at].rfind('/').map_or("", |slash| &text[..=slash]);
                !text[at..].contains('/') && self.matches_stay(directory)
            }
        }
    }

    fn reach(&self, named: &str) -> bool {
        self.place.inside(self.base, named).is_some()
    }

    /// True if no entry of `directory` leads elsewhere, or would be taken for an option.
    fn matches_stay(&self, directory: &str) -> bool {
        let named = if directory.is_empty() { "." } else { directory };
        let Some(real) = self.place.inside(self.base, named) else {
            return false;
        };
        let Ok(entries) = real.read_dir() else {
            // Nothing is there to match, so the pattern stays as it is.
            return true;
        };
        let mut seen = 0;
        for entry in entries {
            seen += 1;
            let Ok(entry) = entry else { return false };
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return false;
            };
            let option = directory.is_empty() && name.starts_with('-');
            let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let stays = !link || self.reach(&format!("{directory}{name}"));
            if option || !stays || seen > MOST_ENTRIES {
                return false;
            }
        }
        true
    }
}

/// The arguments of a program, options checked and taken out.
struct Arguments<'a> {
    operands: Vec<&'a Word>,
    /// An option said what to look for.
    pattern_given: bool,
}

/// Takes the listed options out; `None` where there is another one.
fn arguments<'a>(program: &Program, words: &'a [Word]) -> Option<Arguments<'a>> {
    let mut found = Arguments {
        operands: Vec::new(),
        pattern_given: false,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.text.as_str();
        if text == "--" {
            found.operands.extend(words);
            break;
        }
        if text == "-" || !text.starts_with('-') {
            found.operands.push(word);
            continue;
        }
        let takes_next = if word.pattern.is_some() && !text.contains('=') {
            return None;
        } else if text.starts_with("--") {
            found.pattern_given |= text.starts_with("--regexp") || text == "--files";
            long(program, text)?
        } else {
            let (takes_next, letters) = short(program, &text[1..])?;
            found.pattern_given |= program.short.contains("e:") && letters.contains('e');
            takes_next
        };
        if takes_next {
            words.next().filter(|value| is_value(value))?;
        }
    }
    Some(found)
}

/// True if a program that sees an option here, and not the value of the one before, still finds none.
fn is_value(word: &Word) -> bool {
    let mut chars = word.text.chars();
    let dashed = chars.next() == Some('-') && !chars.next().is_some_and(|c| c.is_ascii_digit());
    word.pattern.is_none() && !dashed
}

/// Whether `--name` or `--name=value` takes the next word too; `None` if it is not listed.
fn long(program: &Program, text: &str) -> Option<bool> {
    match text.split_once('=') {
        Some((name, _)) => {
            let listed = program.long.iter().any(|known| {
                known
                    .split_once('=')
                    .is_some_and(|(known, _)| known == name)
            });
            listed.then_some(false)
        }
        None => program
            .long
            .iter()
            .find_map(|known| match known.split_once('=') {
                None | Some((_, "?")) => (known.trim_end_matches("=?") == text).then_some(false),
                Some((known, _)) => (known == text).then_some(true),
            }),
    }
}

/// Whether the letters take the next word too, and those that are options; `None` if one is not listed.
fn short<'a>(program: &Program, letters: &'a str) -> Option<(bool, &'a str)> {
    for (at, letter) in letters.char_indices() {
        let listed = program.short.find(letter).filter(|_| letter != ':')?;
        if program.short[listed + 1..].starts_with(':') {
            let end = at + letter.len_utf8();
            return Some((end == letters.len(), &letters[..end]));
        }
    }
    Some((false, letters))
}

impl Arguments<'_> {
    fn only_read(&self, kind: Operands, files: &Files) -> bool {
        let all_files = |words: &[&Word]| words.iter().all(|word| files.has(word));
        let literal = |word: &&Word| word.pattern.is_none();
        let after_first = |fits: &dyn Fn(&Word) -> bool| match self.operands.split_first() {
            Some((first, rest)) => first.pattern.is_none() && fits(first) && all_files(rest),
            None => false,
        };
        match kind {
            Operands::Files => all_files(&self.operands),
            Operands::OneFile => {
                self.operands.len() <= 1
                    && self.operands.iter().all(literal)
                    && all_files(&self.operands)
            }
            Operands::Text => self.operands.iter().all(literal),
            Operands::Search if self.pattern_given => all_files(&self.operands),
            Operands::Search => after_first(&|_| true),
            Operands::Sed => after_first(&|script| is_selection(&script.text)),
            Operands::Jq => after_first(&|filter| is_filter(&filter.text)),
            Operands::Date => self
                .operands
                .iter()
                .all(|word| word.pattern.is_none() && word.text.starts_with('+')),
            // Decided before, without options.
            Operands::Anything
            | Operands::Printf
            | Operands::Test
            | Operands::Find
            | Operands::Lookup
            | Operands::Cd => false,
        }
    }
}

/// `command -v NAME…`, `type NAME…`
fn looks_up(name: &str, words: &[Word]) -> bool {
    let names = match words {
        [flag, names @ ..] if name == "command" && matches!(flag.text.as_str(), "-v" | "-V") => {
            names
        }
        names if name == "type" => names,
        _ => return false,
    };
    names
        .iter()
        .all(|word| word.pattern.is_none() && !word.text.starts_with('-'))
}

/// `printf FORMAT …` without `-v` and `%n`, which set variables, the path among them.
fn prints(words: &[Word]) -> bool {
    let Some((format, values)) = words.split_first() else {
        return false;
    };
    let mut rest = format.text.as_str();
    while let Some((_, after)) = rest.split_once('%') {
        let conversion =
            after.trim_start_matches(|c: char| c.is_ascii_digit() || "-+ #'.*hlLjzt".contains(c));
        let Some(letter) = conversion.chars().next() else {
            return false;
        };
        if !"diouxXeEfFgGaAcsbq%".contains(letter) {
            return false;
        }
        rest = &conversion[1..];
    }
    !format.text.starts_with('-')
        && format.pattern.is_none()
        && values
            .iter()
            .all(|word| word.pattern.is_none() && !word.text.contains(['$', '`']))
}

/// `test …` and `[ … ]`. Not `-v` and `-R`, which look into an array and evaluate what stands between its brackets.
fn tests(words: &[Word], files: &Files) -> bool {
    const KNOWN: &[&str] = &[
        "-e", "-f", "-d", "-r", "-w", "-x", "-s", "-L", "-h", "-n", "-z", "-eq", "-ne", "-lt",
        "-le", "-gt", "-ge", "-nt", "-ot", "-ef",
    ];
    words.iter().all(|word| {
        let text = word.text.as_str();
        let operator = KNOWN.contains(&text) || matches!(text, "!" | "=" | "!=" | "]");
        let plain = word.pattern.is_none() && !text.starts_with('-') && !text.contains(['$', '`']);
        operator || plain && files.has(word)
    })
}

/// `find` with what looks at files and names them on standard output.
fn finds(words: &[Word], files: &Files) -> bool {
    const ALONE: &[&str] = &[
        "-print",
        "-print0",
        "-empty",
        "-not",
        "!",
        "-a",
        "-and",
        "-o",
        "-or",
        "(",
        ")",
        "-prune",
        "-readable",
        "-writable",
        "-executable",
        "-xdev",
        "-mount",
        "-depth",
        "-true",
        "-false",
        "-ls",
        "-quit",
        "-nouser",
        "-nogroup",
        "-daystart",
        "-noleaf",
    ];
    const VALUED: &[&str] = &[
        "-name",
        "-iname",
        "-path",
        "-ipath",
        "-wholename",
        "-iwholename",
        "-regex",
        "-iregex",
        "-regextype",
        "-type",
        "-xtype",
        "-maxdepth",
        "-mindepth",
        "-size",
        "-mtime",
        "-mmin",
        "-atime",
        "-amin",
        "-ctime",
        "-cmin",
        "-perm",
        "-user",
        "-group",
        "-links",
        "-inum",
        "-printf",
    ];
    let starts = words.iter().take_while(|word| {
        !word.text.starts_with('-') && !matches!(word.text.as_str(), "(" | ")" | "!" | ",")
    });
    let (starts, expression) = words.split_at(starts.count());
    let mut rest = expression.iter();
    while let Some(word) = rest.next() {
        let text = word.text.as_str();
        let fine = match text {
            "-newer" | "-anewer" | "-cnewer" | "-samefile" => rest
                .next()
                .is_some_and(|file| is_value(file) && files.has(file)),
            _ if VALUED.contains(&text) => rest.next().is_some_and(is_value),
            _ => ALONE.contains(&text),
        };
        if !fine || word.pattern.is_some() {
            return false;
        }
    }
    starts
        .iter()
        .all(|start| !start.text.is_empty() && files.has(start))
}

/// A script of `sed` that selects lines: addresses and `p`, `d`, `q` or `=`.
fn is_selection(script: &str) -> bool {
    script.split(';').all(|command| {
        let command = command.trim_matches(' ');
        let Some(addresses) = command.strip_suffix(['p', 'd', 'q', '=']) else {
            return false;
        };
        let mut rest = Some(addresses);
        rest = rest.and_then(after_address);
        if let Some(second) = rest.and_then(|rest| rest.strip_prefix(',')) {
            rest = after_address(second);
        }
        rest.is_some_and(|rest| rest.is_empty() || rest == "!") || addresses.is_empty()
    })
}

/// What follows a number, `$`, or `/text/` whose text holds nothing that could end it elsewhere.
fn after_address(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('$') {
        return Some(rest);
    }
    if let Some(expression) = text.strip_prefix('/') {
        let (inside, rest) = expression.split_once('/')?;
        return (!inside.contains(['\\', '[', '\n'])).then_some(rest);
    }
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
}

/// A filter of `jq` that loads no modules and does not look at the environment.
fn is_filter(filter: &str) -> bool {
    let lower = filter.to_ascii_lowercase();
    !["import", "include", "env", "modulemeta", "__prog"]
        .iter()
        .any(|word| lower.contains(word))
}
