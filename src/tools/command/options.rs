//! The programs that only read, each with the options that keep it so. A new one is one line here.
//!
//! An option that is not listed makes a command uncertain, so the lists name what is common and certain, not all there
//! is. Left out on purpose: what writes (`sort -o`, `tree -o`, `file -C`), runs something (`rg --pre`, `diff -l`,
//! `find -exec`), reads lists of further files (`--files0-from`, `grep -f`), does not end (`tail -f`), follows links out
//! of the workspace (`grep -R`, `find -L`, `diff -r`), calls others by name (`egrep`), and git, cargo and the like as a
//! whole: which programs those run is up to files in the workspace.

/// One row, or several programs that agree.
pub(super) struct Program {
    pub(super) names: &'static [&'static str],
    /// As for `getopt`: a letter with `:` behind it takes a value.
    pub(super) short: &'static str,
    /// `--name`, `--name=` with a value, `--name=?` with one that may be absent.
    pub(super) long: &'static [&'static str],
    pub(super) operands: Operands,
}

/// What the words mean that are no options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operands {
    /// Files to read.
    Files,
    /// At most one file: a second one would be written.
    OneFile,
    /// Text, patterns of files not included.
    Text,
    /// A pattern to look for unless an option gave one, then files.
    Search,
    /// A program of `jq`, then files.
    Jq,
    /// A script of `sed`, then files.
    Sed,
    /// Formats that begin with `+`.
    Date,
    /// Anything at all, no options: `echo`.
    Anything,
    /// The builtins with a small language of their own, and `find`.
    Printf,
    Test,
    Find,
    Lookup,
    Cd,
}

/// Builtins of every shell: no file of that name is run.
pub(super) const BUILTINS: &[&str] = &[
    "echo", "printf", "true", "false", ":", "pwd", "test", "[", "cd", "command", "type",
];

macro_rules! programs {
    ($($names:expr, $short:expr, $long:expr, $operands:ident;)*) => {
        &[$(Program { names: &$names, short: $short, long: &$long, operands: Operands::$operands },)*]
    };
}

#[rustfmt::skip]
pub(super) const PROGRAMS: &[Program] = programs! {
    ["echo", "true", "false", ":"], "", [], Anything;
    ["printf"], "", [], Printf;
    ["test", "["], "", [], Test;
    ["cd"], "", [], Cd;
    ["command", "type"], "", [], Lookup;
    ["find"], "", [], Find;
    ["pwd"], "LP", [], Text;
    ["whoami", "nproc"], "", ["--all"], Text;
    ["id"], "ugGnrz", [], Text;
    ["uname"], "asnrvmpio", ["--all"], Text;
    ["which"], "as", [], Text;
    ["basename"], "as:z", ["--multiple", "--suffix="], Text;
    ["dirname"], "z", [], Text;
    ["seq"], "f:s:w", ["--separator=", "--equal-width"], Text;
    ["expr"], "", [], Text;
    ["tr"], "cCdst", ["--delete", "--squeeze-repeats", "--complement"], Text;
    ["date"], "uRI", ["--utc", "--iso-8601=?", "--rfc-3339="], Date;
    ["cat"], "AbeEnstTuv", ["--number", "--show-all", "--show-ends", "--show-tabs", "--number-nonblank"], Files;
    ["head"], "n:c:qvz0123456789", ["--lines=", "--bytes=", "--quiet", "--verbose"], Files;
    ["tail"], "n:c:qvz0123456789", ["--lines=", "--bytes=", "--quiet", "--verbose"], Files;
    ["wc"], "clmLw", ["--lines", "--words", "--chars", "--bytes"], Files;
    ["nl"], "b:n:s:v:w:i:", ["--body-numbering="], Files;
    ["tac"], "brs:", [], Files;
    ["rev"], "", [], Files;
    ["paste"], "d:sz", ["--delimiters=", "--serial"], Files;
    ["comm"], "123z", [], Files;
    ["join"], "a:v:e:ij:1:2:o:t:", [], Files;
    ["fold"], "bsw:", ["--width=", "--spaces"], Files;
    ["expand", "unexpand"], "it:a", ["--tabs="], Files;
    ["cut"], "b:c:d:f:snz", ["--bytes=", "--characters=", "--delimiter=", "--fields=", "--complement", "--output-delimiter=", "--only-delimited"], Files;
    ["sort"], "bdfghiMnrRuVszck:t:", ["--reverse", "--numeric-sort", "--unique", "--key=", "--field-separator=", "--human-numeric-sort", "--version-sort", "--check=?"], Files;
    ["uniq"], "cduDiuzf:s:w:", ["--count", "--repeated", "--unique", "--ignore-case"], OneFile;
    ["ls"], "1aAbBcCdfFgGhiklmnNopqQrRsStuUvxXZI:w:T:", ["--all", "--almost-all", "--color=?", "--classify", "--directory", "--group-directories-first", "--human-readable", "--recursive", "--reverse", "--size", "--sort=", "--time=", "--time-style=", "--ignore=", "--full-time"], Files;
    ["stat"], "Lftc:", ["--format=", "--printf=", "--terse", "--dereference", "--file-system"], Files;
    ["file"], "bikLNhr", ["--brief", "--mime", "--mime-type", "--mime-encoding", "--dereference"], Files;
    ["du"], "0abcDhHklmsSxd:", ["--all", "--human-readable", "--summarize", "--max-depth=", "--total", "--apparent-size", "--exclude=", "--bytes", "--si"], Files;
    ["df"], "ahHiklPT", ["--human-readable", "--inodes", "--print-type", "--total"], Files;
    ["realpath", "readlink"], "efmnqsz", ["--canonicalize", "--canonicalize-existing", "--canonicalize-missing", "--no-symlinks"], Files;
    ["cmp"], "bln:s", ["--silent", "--quiet", "--verbose", "--print-bytes"], Files;
    ["diff"], "abBcdeEiNpqstTuwyU:C:W:x:I:0123456789", ["--brief", "--unified=?", "--context=?", "--side-by-side", "--ignore-all-space", "--ignore-space-change", "--ignore-blank-lines", "--new-file", "--color=?", "--exclude=", "--text"], Files;
    ["cksum", "md5sum", "sha1sum", "sha224sum", "sha256sum", "sha384sum", "sha512sum", "b2sum", "sum"], "btz", ["--tag", "--zero"], Files;
    ["od"], "bcdoxA:t:N:j:v", ["--address-radix=", "--format=", "--read-bytes=", "--skip-bytes="], Files;
    ["tree"], "adfFiI:L:nNpP:sSuhgDCrtUv", ["--gitignore", "--noreport", "--dirsfirst", "--du", "--filelimit=", "--prune"], Files;
    ["grep"], "aA:B:bcC:e:EFGhHiIlLm:noPqrsvwxyzZ0123456789", ["--after-context=", "--before-context=", "--context=", "--color=?", "--colour=?", "--count", "--extended-regexp", "--fixed-strings", "--perl-regexp", "--basic-regexp", "--regexp=", "--ignore-case", "--include=", "--exclude=", "--exclude-dir=", "--files-with-matches", "--files-without-match", "--invert-match", "--line-number", "--line-regexp", "--max-count=", "--no-filename", "--no-messages", "--null", "--only-matching", "--quiet", "--recursive", "--text", "--with-filename", "--word-regexp"], Search;
    ["rg"], "aA:bB:cC:d:e:Fg:hHiIj:lm:M:nNopPqr:sSt:T:uUvwx0", ["--after-context=", "--before-context=", "--context=", "--color=", "--count", "--count-matches", "--case-sensitive", "--column", "--crlf", "--fixed-strings", "--files", "--files-with-matches", "--files-without-match", "--glob=", "--heading", "--hidden", "--iglob=", "--ignore-case", "--invert-match", "--json", "--line-number", "--max-columns=", "--max-count=", "--max-depth=", "--multiline", "--multiline-dotall", "--no-config", "--no-filename", "--no-heading", "--no-ignore", "--no-ignore-vcs", "--no-line-number", "--no-messages", "--null", "--only-matching", "--pcre2", "--pretty", "--quiet", "--regexp=", "--replace=", "--smart-case", "--sort=", "--sortr=", "--stats", "--text", "--trim", "--type=", "--type-not=", "--unrestricted", "--vimgrep", "--with-filename", "--word-regexp"], Search;
    ["jq"], "aceMnrsSj", ["--raw-output", "--compact-output", "--slurp", "--null-input", "--sort-keys", "--exit-status", "--tab", "--join-output"], Jq;
    ["sed"], "nErsz", ["--quiet", "--silent", "--regexp-extended"], Sed;
};
