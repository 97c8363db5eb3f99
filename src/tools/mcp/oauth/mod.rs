//! The right to use an external server over HTTP: OAuth 2.1 as the specification's chapter "Authorization" has it, in
//! both generations of the protocol.
//!
//! A person signs in once, with `openoxide mcp login NAME`: [`discovery`] finds out who gives tokens for the server,
//! [`login`] asks there in a browser, whose last page is ours ([`callback`]). What comes of it is a [`Grant`], a file in
//! the state directory that only its user reads. A connection holds a [`SignIn`] and asks it for the token of each
//! request, so that what one process got, or renewed, holds for all of them at once.
//!
//! A token goes to the server that it was asked for and to nobody else, and nothing here starts a sign-in by itself: a
//! server that wants one is a warning that says what to do.

mod callback;
mod challenge;
mod discovery;
mod grant;
mod login;

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use reqwest::{Client, Response};
use serde::{Deserialize, Serialize};

use super::digest;
use crate::{
    conversation::{shortened, shown_line},
    model,
};
pub(super) use challenge::Challenge;
use grant::Grant;
pub use login::Login;
pub(super) use login::Wish;

/// For one answer of those who give tokens.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of such an answer.
const LARGEST: usize = 256 << 10;
/// Characters of what they say about an error.
const SAID: usize = 300;
/// A token that ends so soon is renewed before it is used.
const SOON: Duration = Duration::from_secs(30);
/// For another process to renew a token.
const RENEWAL: Duration = Duration::from_secs(20);
/// Between two looks at what others do.
const LOOK: Duration = Duration::from_millis(500);

/// Who we are where a server's tokens come from, if the owner has made that out with them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registered {
    /// The client's id, or the address of the document that describes it.
    pub client_id: Option<String>,
    /// The environment variable with its secret, if it has one.
    pub client_secret_env: Option<String>,
    /// The port of this machine that the browser is sent back to; any free one if not set.
    pub callback_port: Option<u16>,
    /// What to ask for besides what the server says it needs.
    pub scopes: Vec<String>,
}

/// What a connection shows of its user: nothing, until a person has signed in.
#[derive(Clone)]
pub(super) struct SignIn {
    /// As the owner calls the server.
    name: String,
    /// Where what was granted is kept.
    file: PathBuf,
    /// Of a client that the owner has registered.
    secret: Option<String>,
}

impl std::fmt::Debug for SignIn {
    /// Without what nobody may see.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignIn({})", self.file.display())
    }
}

impl SignIn {
    /// For the server `name` at `url`; what is granted is kept below `place`.
    pub(super) fn new(place: &Path, name: &str, url: &str, secret: Option<String>) -> Self {
        let key = digest(&[name, url]);
        Self {
            name: name.to_owned(),
            file: place.join(format!("grants/{}.json", &key[..32])),
            secret,
        }
    }

    fn grant(&self) -> Option<Grant> {
        Grant::read(&self.file)
    }

    /// Forgets what was granted. False if nothing was.
    pub(super) fn forget(&self) -> io::Result<bool> {
        match fs_err::remove_file(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true),
        }
    }

    /// What must not be seen of what was granted.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.grant()
            .map(|grant| grant.secrets())
            .unwrap_or_default()
    }

    /// The token to send, renewed where it is about to end; none before somebody has signed in.
    pub(super) async fn token(&self) -> Option<String> {
        let grant = self.grant()?;
        if !grant.ends_within(SOON) {
            return Some(grant.token().to_owned());
        }
        let renewed = self.instead_of(grant.token()).await;
        Some(renewed.unwrap_or_else(|| grant.token().to_owned()))
    }

    /// Another token than `old`, which is about to end or was refused, if there is one or can be. One process renews for
    /// all: many servers take a refresh token only once (RFC 9700, section 4.14.2).
    pub(super) async fn instead_of(&self, old: &str) -> Option<String> {
        let _lock = self
            .lock()
            .await
            .inspect_err(|error| self.warn(error))
            .ok()?;
        let grant = self.grant()?;
        if grant.token() != old {
            return Some(grant.token().to_owned());
        }
        let newer = match grant.renew(self.secret.as_deref()).await? {
            Ok(newer) => newer,
            Err(why) => {
                self.warn(&why);
                return None;
            }
        };
        // What cannot be kept holds for this request; the next one finds the old one refused.
        let _ = newer
            .write(&self.file)
            .inspect_err(|error| self.warn(error));
        Some(newer.token().to_owned())
    }

    async fn lock(&self) -> io::Result<File> {
        let path = self.file.with_extension("lock");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(path)?;
        let patience = Instant::now() + RENEWAL;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) if Instant::now() < patience => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::TimedOut.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn warn(&self, why: &dyn std::fmt::Display) {
        let name = shown_line(&self.name);
        tracing::warn!("the sign-in at external server `{name}` could not be renewed: {why}");
    }

    /// What to do about a server that refuses us, in one line.
    pub(super) async fn refused(&self, challenge: &Challenge) -> String {
        let name = shown_line(&self.name);
        if self.grant().is_none() {
            return format!("it wants you to sign in: `openoxide mcp login {name}`");
        }
        if let Err(error) = self.note(challenge).await {
            self.warn(&error);
        }
        let wanted = challenge.scopes();
        if challenge.is_about_scopes() && !wanted.is_empty() {
            let wanted = shortened(&shown_line(&wanted.join(" ")), SAID);
            return format!(
                "it wants you to allow `{wanted}`: `openoxide mcp login {name}` asks for that"
            );
        }
        format!("it does not take your sign-in any more: `openoxide mcp login {name}`")
    }

    /// Keeps what the server wants beyond what was granted, for the next sign-in to ask for it.
    async fn note(&self, challenge: &Challenge) -> io::Result<()> {
        let _lock = self.lock().await?;
        match self.grant() {
            // Once: others try again when the file changes, and would write the same again.
            Some(mut grant) if grant.wanted.as_ref() != Some(challenge) => {
                grant.wanted = Some(challenge.clone());
                grant.write(&self.file)
            }
            _ => Ok(()),
        }
    }

    /// Returns when somebody signs in, or out, here or in another process. Looks twice a second.
    pub(super) async fn changed(&self) {
        let stamp =
            || -> Option<SystemTime> { std::fs::metadata(&self.file).ok()?.modified().ok() };
        let before = stamp();
        while stamp() == before {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The body of an answer, within its bounds.
async fn bounded(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| unreached())? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST {
            return Err("it answers with too much".to_owned());
        }
    }
    Ok(body)
}

/// A client for `address` and others like it.
fn client(address: &str) -> Result<Client, String> {
    model::http_client(address).map_err(|error| error.to_string())
}

fn unreached() -> String {
    "it cannot be reached".to_owned()
}
