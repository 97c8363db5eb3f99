//! What the owner's prefixes say: `policy.allow` and `policy.deny`.
//!
//! A prefix is compared word by word with the beginning of a command: `git push` is in `git push -f`, not in
//! `git pushd` or `git -C x push`. An allowed command runs unasked and still inside the sandbox; a denied one never. A
//! deny prefix is looked for more widely: by the program's name wherever the program lies, anywhere behind `sudo`,
//! `env`, `xargs`, `sh -c` and the like, and in a line that is not understood anywhere in its text. It cannot see what
//! a script does, an option between its words, or a name that is only put together while the line runs; it keeps a
//! command from being run by mistake, and the sandbox is what keeps it from doing harm.

use std::{ffi::OsString, path::Path};

use super::{Line, Named, Place, Programs, Simple, base_name, rough_words};
use crate::{conversation::shown_line, workspace::Workspace};

/// Programs that run others, which their arguments name.
pub(super) const RUN_OTHERS: &[&str] = &[
    "sudo",
    "doas",
    "su",
    "runuser",
    "pkexec",
    "env",
    "command",
    "builtin",
    "exec",
    "eval",
    "trap",
    "alias",
    "source",
    ".",
    "nice",
    "ionice",
    "chrt",
    "taskset",
    "timeout",
    "nohup",
    "time",
    "stdbuf",
    "setsid",
    "setpriv",
    "xargs",
    "parallel",
    "watch",
    "entr",
    "chronic",
    "flock",
    "unshare",
    "nsenter",
    "chroot",
    "busybox",
    "toybox",
    "find",
    "fd",
    "fdfind",
    "ssh",
    "script",
    "expect",
    "strace",
    "ltrace",
    "gdb",
    "bwrap",
    "firejail",
    "systemd-run",
    "at",
    "batch",
    "unbuffer",
    "caffeinate",
    "arch",
    "sandbox-exec",
    "bash",
    "sh",
    "dash",
    "zsh",
    "ksh",
    "mksh",
    "fish",
    "ash",
    "csh",
    "tcsh",
    "rbash",
    "pwsh",
];

/// The owner's prefixes, and how programs are found.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) allow: Vec<Vec<String>>,
    pub(super) deny: Vec<Vec<String>>,
    pub(super) programs: Programs,
}

impl Rules {
    /// Understands the prefixes, for commands that get `environment`.
    ///
    /// # Errors
    /// One line about a prefix that is no plain beginning of a command.
    pub fn new(
        allow: &[String],
        deny: &[String],
        environment: &[(OsString, OsString)],
    ) -> Result<Self, String> {
        let all = |key: &str, prefixes: &[String]| -> Result<Vec<Vec<String>>, String> {
            prefixes.iter().map(|text| prefix(key, text)).collect()
        };
        Ok(Self {
            allow: all("policy.allow", allow)?,
            deny: all("policy.deny", deny)?,
            programs: Programs::of(environment),
        })
    }

    /// The deny prefix that `text` falls under.
    pub fn denied(&self, text: &str) -> Option<String> {
        let line = Line::parse(text);
        let hit = self.deny.iter().find(|prefix| match &line {
            Ok(line) => line.commands.iter().any(|simple| denies(prefix, simple)),
            Err(_) => mentions(prefix, text),
        });
        hit.map(|prefix| shown_line(&prefix.join(" ")))
    }

    /// True if no question is needed even under `untrusted`: each command is allowed by a prefix or certainly reads.
    pub fn unasked(&self, text: &str, workspace: &Workspace, workdir: &Path) -> bool {
        let place = self.place(workspace, workdir);
        let Ok(line) = Line::parse(text) else {
            return false;
        };
        line.steps(place).is_some_and(|steps| {
            let mut steps = steps.iter();
            steps.all(|(base, simple)| self.allows(simple) || simple.only_reads(base, place))
        })
    }

    /// What an approval of `text` stands on, as it is now.
    pub fn named(&self, text: &str, workspace: &Workspace, workdir: &Path) -> Named {
        Named::now(text, self.place(workspace, workdir))
    }

    /// What an approval of `text` for the session covers; see [`Named::covers`].
    pub fn covers(
        &self,
        text: &str,
        workspace: &Workspace,
        workdir: &Path,
        escalate: bool,
        named: &Named,
    ) -> Option<String> {
        named.covers(text, self.place(workspace, workdir), escalate)
    }

    fn place<'a>(&'a self, workspace: &'a Workspace, workdir: &'a Path) -> Place<'a> {
        Place {
            workspace,
            workdir,
            programs: &self.programs,
        }
    }

    fn allows(&self, simple: &Simple) -> bool {
        self.allow.iter().any(|prefix| {
            let words = simple.words.get(..prefix.len());
            words.is_some_and(|words| {
                let mut pairs = words.iter().zip(prefix);
                pairs.all(|(word, wanted)| word.pattern.is_none() && word.text == *wanted)
            })
        })
    }
}

fn prefix(key: &str, text: &str) -> Result<Vec<String>, String> {
    let refused = |why: &str| {
        format!(
            "`{key}`: `{}` is not the plain beginning of a command: {why}",
            shown_line(text)
        )
    };
    let line = Line::parse(text).map_err(|opaque| refused(opaque.0))?;
    match line.commands.as_slice() {
        [one] if one.words.iter().all(|word| word.pattern.is_none()) => {
            Ok(one.words.iter().map(|word| word.text.clone()).collect())
        }
        [_] => Err(refused("a pattern")),
        _ => Err(refused("several commands")),
    }
}

fn denies(prefix: &[String], simple: &Simple) -> bool {
    let words: Vec<&str> = simple.words.iter().map(|word| word.text.as_str()).collect();
    let runs_others = RUN_OTHERS.contains(&base_name(simple.program()));
    begins(prefix, &words) || runs_others && mentions(prefix, &words[1..].join(" "))
}

/// True if `words` begin with `prefix`. The program counts by its name, or by its path where the prefix has one.
fn begins(prefix: &[String], words: &[&str]) -> bool {
    let (Some(wanted), Some(program)) = (prefix.first(), words.first()) else {
        return false;
    };
    let same =
        program.eq_ignore_ascii_case(wanted) || base_name(program).eq_ignore_ascii_case(wanted);
    same && words.len() >= prefix.len()
        && prefix[1..]
            .iter()
            .zip(&words[1..])
            .all(|(wanted, word)| wanted == word)
}

/// True if the words of `prefix` follow each other somewhere in a text that is not understood.
fn mentions(prefix: &[String], text: &str) -> bool {
    let wanted = rough_words(&prefix.join(" "));
    let words = rough_words(text);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    (0..words.len()).any(|at| begins(&wanted, &words[at..]))
}
