//! Who may come in: tokens, and whose each is.
//!
//! A token is compared in constant time: what is kept is its tag under a key of this process, and what is presented is
//! tagged and compared by `ring`, against every token there is. A file of tokens is read again as soon as it is another
//! one; while it cannot be read, those hold that were in it last.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use tokio_util::sync::CancellationToken;

use ring::{
    digest::{SHA256, digest},
    hmac,
    rand::{SecureRandom, SystemRandom},
};

use crate::{
    config::ConfigError,
    conversation::{shortened, shown_line},
};

/// Of whoever comes in without a token of their own: with the one that we made, or with none where none is wanted.
pub(super) const LOCAL: &str = "local";
/// The token that we make, in the state directory.
const OWN_FILE: &str = "http.token";
/// Characters of a token that nobody guesses. A shorter one is taken with a warning.
const ENOUGH: usize = 16;
/// A file that is empty and was written so lately is still being written.
const SETTLED: Duration = Duration::from_secs(2);
/// Bytes of a file of tokens.
const LARGEST: u64 = 1 << 20;

/// The tokens of one server. The lock is held for a comparison, and while a changed file is read; nobody awaits under it.
pub(super) struct Tokens {
    /// Of this process alone.
    key: hmac::Key,
    /// Those that do not change.
    fixed: Vec<Entry>,
    file: Option<PathBuf>,
    /// The file is the one that we make: its token is a word alone, and belongs to [`LOCAL`].
    own: bool,
    known: Mutex<Known>,
}

/// What holds now.
#[derive(Default)]
struct Known {
    tokens: Vec<Key>,
    /// How the file was when it was read.
    file: Option<Signature>,
}

/// A token that opens.
struct Key {
    tag: hmac::Tag,
    pass: Pass,
}

/// What a token gives.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    /// The tenant whose it is.
    pub(super) name: String,
    /// Cancelled when it is a token no more: what was opened with it ends.
    pub(super) expired: CancellationToken,
}

impl Pass {
    /// That of `name`, for as long as the server runs.
    pub(super) fn lasting(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            expired: CancellationToken::new(),
        }
    }
}

/// One token and its tenant.
#[derive(Clone)]
struct Entry {
    name: String,
    token: String,
}

/// By which a file is known to be another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signature {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:…", self.name)
    }
}

impl Tokens {
    /// The tokens of `fixed`, `NAME:TOKEN` or a token alone each, and those of `file`.
    ///
    /// # Errors
    /// If one is not a token, the file cannot be read, or there are none.
    pub(super) fn new(fixed: &[String], file: Option<PathBuf>) -> Result<Self, ConfigError> {
        Self::of(fixed, file, false)
    }

    fn of(fixed: &[String], file: Option<PathBuf>, own: bool) -> Result<Self, ConfigError> {
        let fixed = fixed
            .iter()
            .map(|text| entry(text))
            .collect::<Result<_, _>>();
        let fixed = fixed.map_err(|why| ConfigError::new(format!("`OPENOXIDE_TOKENS`: {why}")))?;
        let tokens = Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &random()),
            fixed,
            file,
            own,
            known: Mutex::default(),
        };
        tokens.read_again()?;
        if tokens.known().tokens.is_empty() {
            return Err(
                ConfigError::new("there is no token that anybody could come in with")
                    .hint("a file of tokens has one a line, `NAME:TOKEN` or a token alone"),
            );
        }
        Ok(tokens)
    }

    /// The token that is kept in `state`, which is made where there is none, and its place.
    ///
    /// # Errors
    /// If it cannot be kept there.
    pub(super) fn own(state: &Path) -> Result<(Self, PathBuf), ConfigError> {
        let path = state.join(OWN_FILE);
        make(&path).map_err(|error| {
            ConfigError::new(format!(
                "a token cannot be kept in `{}`: {error}",
                path.display()
            ))
        })?;
        Ok((Self::of(&[], Some(path.clone()), true)?, path))
    }

    /// What the token `presented` gives, alone or spelled `NAME:TOKEN` as it is kept.
    pub(super) fn open(&self, presented: &str) -> Option<Pass> {
        let known = self.known();
        let (named, presented) = match presented.split_once(':') {
            Some((name, token)) => (Some(name), token),
            None => (None, presented),
        };
        let mut fits = None;
        // All of them, whichever it is.
        for key in &known.tokens {
            if hmac::verify(&self.key, presented.as_bytes(), key.tag.as_ref()).is_ok() {
                fits = Some(&key.pass);
            }
        }
        let fits = fits.filter(|pass| named.is_none_or(|named| named == pass.name));
        fits.cloned()
    }

    /// The tenants that there are tokens for.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let known = self.known();
        let passes = known.tokens.iter().map(|key| &key.pass);
        passes.map(|pass| pass.name.clone()).collect()
    }

    /// Takes the file as it is now, if it is another one. True if it was.
    pub(super) fn refresh(&self) -> bool {
        let Some(path) = &self.file else { return false };
        if Signature::of(path).ok() == self.known().file {
            return false;
        }
        match self.read_again() {
            Ok(taken) => {
                if taken {
                    tracing::info!("tokens: `{}` was read again", path.display());
                }
                taken
            }
            Err(error) => {
                tracing::error!("tokens: {error}; those from before hold");
                // Told once for each state of the file.
                self.known().file = Signature::of(path).ok();
                false
            }
        }
    }

    /// False if it is not settled yet.
    fn read_again(&self) -> Result<bool, ConfigError> {
        let mut entries = self.fixed.clone();
        let mut seen = None;
        if let Some(path) = &self.file {
            // Before it is read, so that what comes meanwhile is another one.
            seen = Signature::of(path).ok();
            let read = read(path)?.into_iter().map(|entry| match self.own {
                true => Entry {
                    name: LOCAL.to_owned(),
                    ..entry
                },
                false => entry,
            });
            entries.extend(read);
            if entries.is_empty() && seen.as_ref().is_some_and(Signature::is_fresh) {
                // Somebody is writing it; one that stays empty counts.
                return Ok(false);
            }
        }
        let mut warned = false;
        for entry in &entries {
            if entry.token.len() < ENOUGH && !std::mem::replace(&mut warned, true) {
                tracing::warn!(
                    "a token of `{}` has fewer than {ENOUGH} characters and may be guessed",
                    entry.name
                );
            }
        }
        let mut known = self.known();
        let mut before = std::mem::take(&mut known.tokens);
        let key = |entry: Entry| {
            let tag = hmac::sign(&self.key, entry.token.as_bytes());
            let is_same =
                |key: &Key| key.tag.as_ref() == tag.as_ref() && key.pass.name == entry.name;
            match before.iter().position(is_same) {
                Some(at) => before.swap_remove(at),
                None => Key {
                    tag,
                    pass: Pass::lasting(&entry.name),
                },
            }
        };
        known.tokens = entries.into_iter().map(key).collect();
        known.file = seen;
        for gone in before {
            gone.pass.expired.cancel();
        }
        Ok(true)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signature {
    /// Written a moment ago, so perhaps not to its end.
    fn is_fresh(&self) -> bool {
        let (seconds, nanoseconds) = self.modified;
        let since = u64::try_from(seconds)
            .ok()
            .zip(u32::try_from(nanoseconds).ok());
        let written = since.map(|(seconds, part)| UNIX_EPOCH + Duration::new(seconds, part));
        written.is_some_and(|written| written.elapsed().is_ok_and(|ago| ago < SETTLED))
    }

    fn of(path: &Path) -> io::Result<Self> {
        let about = fs::metadata(path)?;
        Ok(Self {
            inode: about.ino(),
            length: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
        })
    }
}

fn read(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let wrong = |why: &dyn fmt::Display| {
        ConfigError::new(format!("the token file `{}`: {why}", path.display()))
    };
    let about = fs::metadata(path).map_err(|error| wrong(&error))?;
    if !about.is_file() || about.len() > LARGEST {
        return Err(wrong(&"it is not a file of tokens"));
    }
    if about.mode() & 0o077 != 0 {
        tracing::warn!(
            "the token file `{}` can be read by others; `chmod 600` it",
            path.display()
        );
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let lines = text.lines().enumerate();
    let meant = lines.map(|(at, line)| (at, line.trim()));
    meant
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| entry(line).map_err(|why| wrong(&format!("line {}: {why}", at + 1))))
        .collect()
}

/// `NAME:TOKEN`, or a token alone, whose tenant is named after its digest.
fn entry(text: &str) -> Result<Entry, String> {
    let (name, token) = match text.trim().split_once(':') {
        Some((name, token)) => (name.trim().to_owned(), token.trim()),
        None => (named_after(text.trim()), text.trim()),
    };
    // What a header can carry (RFC 6750, `b64token`).
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if token.is_empty() || !token.chars().all(fits) {
        return Err(format!(
            "the token of `{}` is not one: letters, digits and `-._~+/=`, one or more",
            shortened(&shown_line(&name), 40)
        ));
    }
    let token = token.to_owned();
    Ok(Entry { name, token })
}

fn named_after(token: &str) -> String {
    let digest = digest(&SHA256, token.as_bytes());
    format!("token-{}", hex(&digest.as_ref()[..4]))
}

/// Writes a token of our own to `path`, unless there is one.
fn make(path: &Path) -> io::Result<()> {
    if let Some(state) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state)?;
    }
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(mut file) => writeln!(file, "{}", hex(&random())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.expect("a system without randomness cannot open a connection either");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(entries: &[&str]) -> Result<Tokens, ConfigError> {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        Tokens::new(&entries, None)
    }

    fn whose(tokens: &Tokens, presented: &str) -> Option<String> {
        tokens.open(presented).map(|pass| pass.name)
    }

    #[test]
    fn a_token_opens_for_its_own_tenant_and_nothing_else_does() {
        let tokens = fixed(&[
            "ana:correct-horse-battery",
            " bob : staple-staple-staple ",
            "alone-alone-alone",
        ])
        .unwrap();
        assert_eq!(
            whose(&tokens, "correct-horse-battery").as_deref(),
            Some("ana")
        );
        assert_eq!(
            whose(&tokens, "ana:correct-horse-battery").as_deref(),
            Some("ana")
        );
        assert_eq!(
            whose(&tokens, "staple-staple-staple").as_deref(),
            Some("bob")
        );
        assert_eq!(
            whose(&tokens, "alone-alone-alone"),
            Some(named_after("alone-alone-alone"))
        );
        for wrong in [
            "",
            "ana",
            "bob:correct-horse-battery",
            "ana:",
            "correct-horse-batter",
            "correct-horse-battery ",
        ] {
            assert_eq!(whose(&tokens, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        for wrong in ["ana:", "ana:two words", "a\u{202e}b:sécret", ":"] {
            let error = fixed(&[wrong]).err().expect(wrong).to_string();
            assert!(
                !error.contains("words") && !error.contains("cret"),
                "{error}"
            );
        }
        assert!(fixed(&[]).is_err());
    }

    #[test]
    fn a_changed_file_counts_at_once_and_an_unreadable_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, "# ours\nana:first-first-first\n\n").unwrap();
        let tokens = Tokens::new(&[], Some(path.clone())).unwrap();
        assert!(!tokens.refresh());
        fs::write(&path, "ana:second-second-second\nbob:third-third-third\n").unwrap();
        assert!(tokens.refresh());
        assert_eq!(whose(&tokens, "first-first-first"), None);
        assert_eq!(whose(&tokens, "third-third-third").as_deref(), Some("bob"));
        fs::remove_file(&path).unwrap();
        assert!(!tokens.refresh());
        assert_eq!(whose(&tokens, "third-third-third").as_deref(), Some("bob"));
        fs::write(&path, "bob:fourth-fourth-fourth\n").unwrap();
        assert!(tokens.refresh());
        assert_eq!(tokens.names().into_iter().collect::<Vec<_>>(), ["bob"]);
    }

    #[test]
    fn a_file_that_is_just_being_written_shuts_nobody_out_and_one_that_stays_empty_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, "ana:first-first-first\n").unwrap();
        let tokens = Tokens::new(&[], Some(path.clone())).unwrap();
        fs::write(&path, "").unwrap();
        assert!(!tokens.refresh());
        assert!(whose(&tokens, "first-first-first").is_some());
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - 2 * SETTLED)
            .unwrap();
        assert!(tokens.refresh());
        assert_eq!(whose(&tokens, "first-first-first"), None);
    }

    #[test]
    fn what_was_opened_with_a_token_that_was_removed_ends_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let write = |tokens: &[&str]| {
            let lines = tokens.iter().map(|token| format!("ana:{token}\n"));
            fs::write(&path, lines.collect::<String>()).unwrap();
        };
        let (old, new) = ("old-old-old-old-old", "new-new-new-new-new");
        write(&[old]);
        let tokens = Tokens::new(&[], Some(path.clone())).unwrap();
        let first = tokens.open(old).unwrap().expired;
        write(&[new, old]);
        assert!(tokens.refresh());
        let second = tokens.open(new).unwrap().expired;
        assert!(!first.is_cancelled());
        write(&[new]);
        assert!(tokens.refresh());
        assert!(first.is_cancelled() && !second.is_cancelled());
        // One that comes back is another.
        write(&[new, old, new]);
        assert!(tokens.refresh());
        assert!(!tokens.open(old).unwrap().expired.is_cancelled());
        assert!(!second.is_cancelled());
    }

    #[test]
    fn our_own_token_is_made_once_and_for_us_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let (first, path) = Tokens::own(&state).unwrap();
        let (second, _) = Tokens::own(&state).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        let token = text.trim();
        assert_eq!(token.len(), 64);
        // As it was written once.
        fs::write(&path, format!("local:{token}\n")).unwrap();
        let (third, _) = Tokens::own(&state).unwrap();
        for tokens in [first, second, third] {
            assert_eq!(whose(&tokens, token).as_deref(), Some(LOCAL));
        }
    }
}
