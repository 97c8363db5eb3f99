//! Searches the contents of files by regular expression, on all cores, and gives the results in the order of the walk.
//!
//! One thread walks, some search, and the caller's puts the reports in order and stops the others once the limit is
//! reached. They are scoped threads: none outlives the call.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use grep_matcher::Matcher;
use grep_regex::RegexMatcher;
use grep_searcher::{
    BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkFinish, SinkMatch,
};
use tokio_util::sync::CancellationToken;

use super::SearchError;
use super::pattern::Pattern;
use super::scope::{Entry, Scope};
use crate::workspace::file;

/// Characters of a line that are kept.
const LINE_CHARS: usize = 500;
/// Characters before the match that stay in sight when a long line is cut.
const CHARS_BEFORE_MATCH: usize = 100;
/// Bytes of one line, or for a pattern across lines of one file, beyond which the file is left out.
const HEAP_LIMIT: usize = 64 << 20;
/// Lines of context beyond which a caller wants the file.
const MOST_CONTEXT: usize = 50;
/// Files handed to a worker at a time: passing them one by one costs as much as searching a small one.
const BATCH: usize = 32;
const MOST_WORKERS: usize = 8;

/// What to search for, and where.
#[derive(Debug, Clone)]
pub struct TextQuery {
    /// A directory, or one file, which is searched even if it is hidden or ignored.
    pub root: PathBuf,
    /// In the syntax of the `regex` crate. `\n` in it lets it match across lines.
    pub pattern: String,
    /// As in [`super::FileQuery`].
    pub glob: Option<String>,
    pub ignore_case: bool,
    /// Lines shown before and after each match, at most 50.
    pub context_lines: usize,
    /// Only the names of the files that have a match.
    pub files_only: bool,
    /// At most this many matching lines, or files with `files_only`.
    pub limit: usize,
    /// Absolute directories and files that are never read.
    pub excluded: Vec<PathBuf>,
}

/// The matches, by file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextMatches {
    pub files: Vec<FileMatches>,
    /// There are more matches than the limit.
    pub truncated: bool,
    /// Files left out because they are not text.
    pub binary_files: usize,
    /// Files left out because they could not be read.
    pub unreadable_files: usize,
}

/// The matches in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMatches {
    /// Relative to the root, with `/`; the file's own name when the root is the file.
    pub path: String,
    /// In order; empty with `files_only`.
    pub lines: Vec<Line>,
}

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// Without the line end, at most 500 characters around the match; what is not UTF-8 is replaced.
    pub text: String,
    /// False for context.
    pub is_match: bool,
}

/// What became of one file.
enum Report {
    Nothing,
    Matches(FileMatches),
    Binary,
    Unreadable,
}

/// Searches as `query` says. Blocks.
pub fn search(query: &TextQuery, cancel: &CancellationToken) -> Result<TextMatches, SearchError> {
    let pattern = Pattern::compile(&query.pattern, query.ignore_case)?;
    let scope = Scope::open(&query.root, query.glob.as_deref(), &query.excluded)?;
    let stop = cancel.child_token();
    let mut found = TextMatches::default();
    thread::scope(|threads| {
        let (to_workers, work) = sync_channel(2 * MOST_WORKERS);
        // Owned by the workers alone, so that the walk cannot wait for workers that are gone.
        let work = Arc::new(Mutex::new(work));
        let (report, reports) = channel();
        let (scope, stop) = (&scope, &stop);
        threads.spawn(move || walk(scope, &to_workers, stop));
        for _ in 0..workers() {
            let worker = Worker::new(query, &pattern, stop);
            let (work, report) = (Arc::clone(&work), report.clone());
            threads.spawn(move || worker.run(&work, &report));
        }
        drop((work, report));
        found.collect(&reports, query);
        stop.cancel();
    });
    match cancel.is_cancelled() {
        true => Err(SearchError::Cancelled),
        false => Ok(found),
    }
}

type Job = (usize, Vec<Entry>);
type Done = (usize, Vec<Report>);

fn workers() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get().min(MOST_WORKERS))
}

/// Hands out the files in numbered batches until all are or the search stops.
fn walk(scope: &Scope, workers: &SyncSender<Job>, stop: &CancellationToken) {
    let mut files = scope.files();
    for number in 0.. {
        let batch: Vec<_> = files
            .by_ref()
            .take_while(|_| !stop.is_cancelled())
            .take(BATCH)
            .collect();
        // No worker left to take it: each has panicked, and the scope passes that on.
        if batch.is_empty() || workers.send((number, batch)).is_err() {
            return;
        }
    }
}

/// Searches one file after the other.
struct Worker<'a> {
    searcher: Searcher,
    pattern: &'a Pattern,
    stop: &'a CancellationToken,
    /// Matching lines of one file beyond which the rest of it cannot be shown: one more than the limit, so that
    /// reaching the limit is told from passing it.
    most: usize,
    files_only: bool,
}

impl<'a> Worker<'a> {
    fn new(query: &TextQuery, pattern: &'a Pattern, stop: &'a CancellationToken) -> Self {
        let context = match query.files_only {
            true => 0,
            false => query.context_lines.min(MOST_CONTEXT),
        };
        let searcher = SearcherBuilder::new()
            .multi_line(pattern.multi_line)
            .line_terminator(pattern.line_terminator())
            .before_context(context)
            .after_context(context)
            .binary_detection(BinaryDetection::quit(0))
            .heap_limit(Some(HEAP_LIMIT))
            .build();
        Self {
            searcher,
            pattern,
            stop,
            most: if query.files_only {
                1
            } else {
                query.limit.saturating_add(1)
            },
            files_only: query.files_only,
        }
    }

    /// Ends with the walk. After a stop the rest of the work is taken and left undone, so that the walk gets on.
    fn run(mut self, work: &Mutex<Receiver<Job>>, reports: &Sender<Done>) {
        loop {
            let next = work.lock().map(|work| work.recv());
            let Ok(Ok((number, files))) = next else {
                return;
            };
            let done = files.into_iter().map(|file| self.report(file)).collect();
            // Nobody listens any more: the limit is reached.
            let _ = reports.send((number, done));
        }
    }

    fn report(&mut self, file: Entry) -> Report {
        if self.stop.is_cancelled() {
            return Report::Nothing;
        }
        let mut lines = Collector {
            matcher: &self.pattern.matcher,
            most: self.most,
            matches: 0,
            lines: Vec::new(),
            binary: false,
        };
        match self.read(&file, &mut lines) {
            Err(_) => Report::Unreadable,
            Ok(()) if lines.binary => Report::Binary,
            Ok(()) if lines.matches == 0 => Report::Nothing,
            Ok(()) => Report::Matches(FileMatches {
                path: file.name,
                lines: if self.files_only {
                    Vec::new()
                } else {
                    lines.lines
                },
            }),
        }
    }

    fn read(&mut self, entry: &Entry, lines: &mut Collector<'_>) -> io::Result<()> {
        let reader = Stoppable {
            // What was a regular file when the walk saw it may have become a pipe; or it, or what is above it, a link
            // out of the workspace.
            inner: file::open(&entry.path)?,
            stop: self.stop,
        };
        self.searcher
            .search_reader(&self.pattern.matcher, reader, lines)
    }
}

/// A file that fails to be read once the search stops: the searcher asks nobody between two matches.
struct Stoppable<'a> {
    inner: File,
    stop: &'a CancellationToken,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        self.inner.read(buffer)
    }
}

/// The lines of one file as the searcher finds them.
struct Collector<'a> {
    matcher: &'a RegexMatcher,
    most: usize,
    matches: usize,
    lines: Vec<Line>,
    binary: bool,
}

impl Collector<'_> {
    fn add(&mut self, number: u64, line: &[u8], is_match: bool) {
        self.lines.push(Line {
            number,
            text: excerpt(line, self.matcher),
            is_match,
        });
    }
}

impl Sink for &mut Collector<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        let first = found.line_number().unwrap_or(1);
        for (number, line) in (first..).zip(found.lines()) {
            self.add(number, line, true);
            self.matches += 1;
            if self.matches >= self.most {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> io::Result<bool> {
        self.add(context.line_number().unwrap_or(1), context.bytes(), false);
        Ok(true)
    }

    fn finish(&mut self, _: &Searcher, end: &SinkFinish) -> io::Result<()> {
        self.binary = end.binary_byte_offset().is_some();
        Ok(())
    }
}

/// `line` without its end; of a long one, the characters around the first match.
fn excerpt(line: &[u8], matcher: &RegexMatcher) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() <= LINE_CHARS {
        return String::from_utf8_lossy(line).into_owned();
    }
    let found = matcher
        .find(line)
        .ok()
        .flatten()
        .map_or(0, |found| found.start());
    let before = String::from_utf8_lossy(&line[..found]).chars().count();
    let text = String::from_utf8_lossy(line);
    let skipped = match before + CHARS_BEFORE_MATCH < LINE_CHARS {
        true => 0,
        false => before - CHARS_BEFORE_MATCH,
    };
    let mut rest = text.chars().skip(skipped);
    let mut cut: String = rest.by_ref().take(LINE_CHARS).collect();
    if skipped > 0 {
        cut.insert(0, '…');
    }
    if rest.next().is_some() {
        cut.push('…');
    }
    cut
}

impl TextMatches {
    /// Takes the reports in the order of the walk, whatever order they come in, up to the limit.
    fn collect(&mut self, reports: &Receiver<Done>, query: &TextQuery) {
        let mut early = BTreeMap::new();
        let mut left = query.limit;
        let mut next = 0;
        for (number, batch) in reports {
            early.insert(number, batch);
            while let Some(batch) = early.remove(&next) {
                next += 1;
                for report in batch {
                    self.add(report, query, &mut left);
                    if self.truncated {
                        return;
                    }
                }
            }
        }
    }

    fn add(&mut self, report: Report, query: &TextQuery, left: &mut usize) {
        match report {
            Report::Nothing => {}
            Report::Binary => self.binary_files += 1,
            Report::Unreadable => self.unreadable_files += 1,
            Report::Matches(_) if *left == 0 => self.truncated = true,
            Report::Matches(file) if query.files_only => {
                *left -= 1;
                self.files.push(file);
            }
            Report::Matches(mut file) => {
                self.truncated = file.cut_to(left, query.context_lines.min(MOST_CONTEXT));
                self.files.push(file);
            }
        }
    }
}

impl FileMatches {
    /// Keeps the first `left` matches with their context and takes them off `left`; says whether there were more.
    fn cut_to(&mut self, left: &mut usize, context: usize) -> bool {
        let mut last = 0;
        for index in 0..self.lines.len() {
            let line = &self.lines[index];
            if !line.is_match {
                continue;
            }
            if *left == 0 {
                let shown = self.lines[..index]
                    .partition_point(|line| line.number <= last + context as u64);
                self.lines.truncate(shown);
                return true;
            }
            *left -= 1;
            last = line.number;
        }
        false
    }
}

impl std::fmt::Display for TextMatches {
    /// What the model reads, as ripgrep prints it: the path as a heading, then `12: match` and `13- context`, `--`
    /// between lines that do not follow each other; at the end, in brackets, what is not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.files.is_empty() {
            f.write_str("no matches\n")?;
        }
        for (index, file) in self.files.iter().enumerate() {
            if index > 0 && !file.lines.is_empty() {
                writeln!(f)?;
            }
            write!(f, "{file}")?;
        }
        if self.truncated {
            writeln!(
                f,
                "[there are more matches; a narrower pattern, glob or path shows them]"
            )?;
        }
        // Beside matches, every image of a repository would be noise.
        let binary = if self.files.is_empty() {
            self.binary_files
        } else {
            0
        };
        for (count, why) in [(binary, "binary"), (self.unreadable_files, "unreadable")] {
            match count {
                0 => {}
                1 => writeln!(f, "[1 {why} file was not searched]")?,
                _ => writeln!(f, "[{count} {why} files were not searched]")?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for FileMatches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.path)?;
        let mut before = None;
        for line in &self.lines {
            if before.is_some_and(|before| line.number > before + 1) {
                writeln!(f, "--")?;
            }
            let sign = if line.is_match { ':' } else { '-' };
            writeln!(f, "{}{sign} {}", line.number, line.text)?;
            before = Some(line.number);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn workspace(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, content).unwrap();
        }
        dir
    }

    fn query(dir: &tempfile::TempDir, pattern: &str) -> TextQuery {
        TextQuery {
            root: dir.path().to_owned(),
            pattern: pattern.to_owned(),
            glob: None,
            ignore_case: false,
            context_lines: 0,
            files_only: false,
            limit: 100,
            excluded: Vec::new(),
        }
    }

    fn found(query: &TextQuery) -> TextMatches {
        search(query, &CancellationToken::new()).unwrap()
    }

    #[test]
    fn what_the_model_reads() {
        let dir = workspace(&[
            ("b.rs", b"one\ntwo\nthree\nfour\nfive\nsix\ntwo again\n"),
            ("a/x.rs", b"Two\r\ntwo;\r\n"),
            ("a/y.py", b"two\n"),
            ("bin.rs", b"two\0two\n"),
            ("target/z.rs", b"two\n"),
            (".gitignore", b"target\n"),
            ("state/s.rs", b"two\n"),
        ]);
        let mut query = query(&dir, "two");
        query.glob = Some("*.rs".to_owned());
        query.context_lines = 1;
        query.excluded = vec![dir.path().join("state")];
        assert_eq!(
            found(&query).to_string(),
            "a/x.rs\n1- Two\n2: two;\n\nb.rs\n1- one\n2: two\n3- three\n--\n6- six\n7: two again\n"
        );
        query.files_only = true;
        query.ignore_case = true;
        assert_eq!(found(&query).to_string(), "a/x.rs\nb.rs\n");
        query.pattern = "nowhere".to_owned();
        assert_eq!(
            found(&query).to_string(),
            "no matches\n[1 binary file was not searched]\n"
        );
        query.root = dir.path().join("b.rs");
        assert_eq!(found(&query).to_string(), "no matches\n");
    }

    #[test]
    fn one_file_is_searched_even_if_hidden_or_ignored_but_not_if_excluded() {
        let dir = workspace(&[(".env", b"KEY=1\n"), (".gitignore", b".env\n")]);
        let mut query = query(&dir, "KEY");
        assert!(found(&query).files.is_empty());
        query.root = dir.path().join(".env");
        assert_eq!(found(&query).to_string(), ".env\n1: KEY=1\n");
        query.excluded = vec![dir.path().join(".env")];
        assert!(found(&query).files.is_empty());
    }

    #[test]
    fn dollar_matches_before_a_carriage_return_and_a_line_feed_matches_across_lines() {
        let dir = workspace(&[
            ("a.c", b"fn a() {\r\n  x;\r\n}\r\n"),
            ("b.c", b"if {\n}\nelse\n"),
        ]);
        assert_eq!(found(&query(&dir, ";$")).to_string(), "a.c\n2:   x;\n");
        assert_eq!(
            found(&query(&dir, r"\{\n\}")).to_string(),
            "b.c\n1: if {\n2: }\n"
        );
    }

    #[test]
    fn a_bound_gives_the_same_first_matches_each_time_and_says_that_there_are_more() {
        let files: Vec<(String, String)> = (0..300)
            .map(|i| (format!("f{i:03}"), "hit\n\n\nhit\nhit\n".to_owned()))
            .collect();
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(n, c)| (n.as_str(), c.as_bytes()))
            .collect();
        let dir = workspace(&files);
        let mut query = query(&dir, "hit");
        query.limit = 4;
        query.context_lines = 1;
        let text = "f000\n1: hit\n2- \n3- \n4: hit\n5: hit\n\nf001\n1: hit\n2- \n[there are more matches; a narrower pattern, glob or path shows them]\n";
        for _ in 0..20 {
            assert_eq!(found(&query).to_string(), text);
        }
        query.limit = 900;
        assert!(
            !found(&query).truncated,
            "reaching the limit is not passing it"
        );
        query.limit = 899;
        assert!(found(&query).truncated);
        query.files_only = true;
        query.limit = 300;
        assert_eq!(
            (found(&query).files.len(), found(&query).truncated),
            (300, false)
        );
        query.limit = 7;
        assert_eq!(
            (found(&query).files.len(), found(&query).truncated),
            (7, true)
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_match_and_bad_bytes_survive() {
        let long = format!("{}needle{}", "ä".repeat(5000), "z".repeat(5000));
        let dir = workspace(&[
            ("long.js", long.as_bytes()),
            ("latin1.txt", b"caf\xe9 needle\n"),
        ]);
        let found = found(&query(&dir, "needle"));
        assert_eq!(found.files[0].lines[0].text, "caf\u{fffd} needle");
        let cut = &found.files[1].lines[0].text;
        assert!(
            cut.contains("needle") && cut.starts_with('…') && cut.ends_with('…'),
            "{cut}"
        );
        assert_eq!(cut.chars().count(), 502);
    }

    #[test]
    fn one_match_over_many_lines_is_bounded_too() {
        let dir = workspace(&[("a", "x\n".repeat(100_000).as_bytes())]);
        let mut query = query(&dir, r"(?s)x\n.*x");
        query.limit = 10;
        let found = found(&query);
        assert_eq!((found.files[0].lines.len(), found.truncated), (10, true));
    }

    #[test]
    fn cancelling_ends_a_search_within_a_large_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs_err::File::create(dir.path().join("huge")).unwrap();
        let block = b"0123456789abcdef\n".repeat(60_000);
        (0..200).for_each(|_| io::Write::write_all(&mut &file, &block).unwrap());
        let cancel = CancellationToken::new();
        let canceller = cancel.clone();
        let started = Instant::now();
        let timer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            canceller.cancel();
            Instant::now()
        });
        // The nested repetitions keep it from a literal search, which would be over too soon.
        let result = search(&query(&dir, r"([0-9a-f]+[xyz]?){3}[g-w]"), &cancel);
        let after = timer.join().unwrap().elapsed();
        assert!(
            matches!(result, Err(SearchError::Cancelled)),
            "took {:?}",
            started.elapsed()
        );
        assert!(after < Duration::from_millis(100), "{after:?}");
    }

    #[test]
    fn a_file_that_became_a_link_or_cannot_be_read_is_counted() {
        let dir = workspace(&[("a", b"x\n")]);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("a"), &link).unwrap();
        let pattern = Pattern::compile("x", false).unwrap();
        let stop = CancellationToken::new();
        let mut worker = Worker::new(&query(&dir, "x"), &pattern, &stop);
        let report = worker.report(Entry {
            path: link,
            name: "link".to_owned(),
        });
        let mut matches = TextMatches::default();
        matches.add(report, &query(&dir, "x"), &mut 9);
        assert_eq!(
            matches.to_string(),
            "no matches\n[1 unreadable file was not searched]\n"
        );
    }
}
