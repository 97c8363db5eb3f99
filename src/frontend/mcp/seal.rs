//! `requestState`: what a client keeps for us between two rounds of a call, sealed so that it comes back as it went.
//!
//! It names the turn and its questions and holds no secret. The seal binds it to the tool and the arguments of the
//! call, and it expires. The key lies in the state directory, so that the state of a parked turn opens after a restart;
//! where nothing is kept, or cannot be, it lives as long as the process.

use std::{
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
    time::Duration,
};

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use rmcp::{
    ErrorData,
    model::{JsonObject, RequestStateCodec, SealOptions},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::conversation::{ApprovalId, ThreadId, TurnId};

/// Bytes of the key.
const KEY: usize = 32;
/// Its file in the state directory.
const FILE: &str = "request_state.key";

/// What a round hands to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) thread: ThreadId,
    pub(super) turn: TurnId,
    /// What was asked.
    pub(super) approvals: Vec<ApprovalId>,
    /// Rounds so far, this one included.
    pub(super) round: u32,
}

/// Closes and opens states.
pub(super) struct Seal(RequestStateCodec);

impl Seal {
    /// With the key of `directory`, which is made if there is none; without a directory, with a key of its own.
    pub(super) fn of(directory: Option<&Path>) -> Self {
        let kept = directory.and_then(|directory| {
            let key = kept_key(directory);
            // The seal holds all the same, until the process ends.
            key.inspect_err(|error| {
                tracing::warn!("questions do not outlive the server: `{FILE}`: {error}");
            })
            .ok()
        });
        Self(RequestStateCodec::new_unchecked(
            kept.unwrap_or_else(new_key),
        ))
    }

    /// The state for a client; it opens for `life` and with the same call only.
    pub(super) fn close<T: Serialize>(&self, state: &T, call: &str, life: Duration) -> String {
        // Every part of a state has a JSON form.
        let payload = serde_json::to_vec(state).unwrap_or_default();
        let options = SealOptions::new()
            .associated_data(call.as_bytes())
            .ttl(life);
        self.0.seal_with(&payload, &options)
    }

    /// What a client brought back.
    ///
    /// # Errors
    /// The protocol's error: it is not ours, belongs to another call, or has expired.
    pub(super) fn open<T: DeserializeOwned>(
        &self,
        sealed: &str,
        call: &str,
    ) -> Result<T, ErrorData> {
        self.0
            .open_json_with(sealed, call.as_bytes())
            .map_err(|error| ErrorData::invalid_params(format!("`requestState`: {error}"), None))
    }
}

/// A call as it is recognized again, in 64 characters: its caller, its tool and its arguments, whatever their order. On
/// standard input there is one caller; elsewhere it is a tenant.
pub(super) fn same_call(
    caller: Option<&str>,
    tool: &str,
    arguments: Option<&JsonObject>,
) -> String {
    let arguments = arguments.map_or(Value::Null, |object| Value::Object(object.clone()));
    // A tenant's name has no space.
    let caller = caller.map_or_else(|| "stdio".to_owned(), |name| format!("tenant/{name}"));
    let call = format!("{caller} {tool} {}", sorted(arguments));
    let digest = digest(&SHA256, call.as_bytes());
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(String, Value)> = object.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let entries = entries.into_iter();
            Value::Object(entries.map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        plain => plain,
    }
}

/// The key in `directory`. Two servers that start at once come to the same one: it is written whole under another name,
/// and only the first can give it its own.
fn kept_key(directory: &Path) -> io::Result<Vec<u8>> {
    let path = directory.join(FILE);
    match read_key(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut fresh = tempfile::NamedTempFile::new_in(directory)?;
    fresh.write_all(&new_key())?;
    fresh.as_file().sync_all()?;
    match fresh.persist_noclobber(&path) {
        Err(refused) if refused.error.kind() != io::ErrorKind::AlreadyExists => Err(refused.error),
        // Ours, or that of whoever was first.
        _ => read_key(&path),
    }
}

fn read_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = Vec::new();
    std::fs::File::open(path)?
        .take(KEY as u64 + 1)
        .read_to_end(&mut key)?;
    match key.len() {
        KEY => Ok(key),
        _ => Err(io::Error::other("not a key; remove it to get a new one")),
    }
}

fn new_key() -> Vec<u8> {
    let mut key = vec![0; KEY];
    let filled = SystemRandom::new().fill(&mut key);
    filled.expect("a system without randomness cannot have opened a connection either");
    key
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    fn state() -> State {
        State {
            thread: ThreadId::generate(),
            turn: TurnId::generate(),
            approvals: vec![ApprovalId::generate()],
            round: 1,
        }
    }

    #[test]
    fn a_state_opens_with_its_own_call_and_in_time_only() {
        let (seal, state) = (Seal::of(None), state());
        let hour = Duration::from_secs(3600);
        let sealed = seal.close(&state, "this call", hour);
        assert_eq!(seal.open::<State>(&sealed, "this call").unwrap(), state);
        assert!(seal.open::<State>(&sealed, "another call").is_err());
        assert!(Seal::of(None).open::<State>(&sealed, "this call").is_err());
        let mut forged = sealed.clone().into_bytes();
        let middle = forged.len() / 2;
        forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        for nonsense in [forged.as_str(), "", "rs1.x.y", "null"] {
            let refused = seal.open::<State>(nonsense, "this call").unwrap_err();
            assert_eq!(refused.code.0, -32602, "{nonsense}");
        }
        let brief = seal.close(&state, "this call", Duration::from_millis(1));
        std::thread::sleep(Duration::from_millis(20));
        assert!(seal.open::<State>(&brief, "this call").is_err());
    }

    #[test]
    fn servers_that_start_at_once_have_one_key_which_nobody_else_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("state");
        let sealed: Vec<(Seal, String, State)> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let (seal, state) = (Seal::of(Some(&home)), state());
                        let sealed = seal.close(&state, "call", Duration::from_secs(60));
                        (seal, sealed, state)
                    })
                })
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap())
                .collect()
        });
        for (seal, _, _) in &sealed {
            for (_, closed, state) in &sealed {
                assert_eq!(seal.open::<State>(closed, "call").unwrap(), *state);
            }
        }
        let names: Vec<_> = std::fs::read_dir(&home).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let mode = std::fs::metadata(home.join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_call_is_the_same_whatever_the_order_of_its_arguments() {
        let call = |value: Value| same_call(None, "openoxide", value.as_object());
        let one = call(json!({"prompt": "x", "config": {"a": 1, "b": [1, 2]}}));
        assert_eq!(
            one,
            call(json!({"config": {"b": [1, 2], "a": 1}, "prompt": "x"}))
        );
        assert_ne!(
            one,
            call(json!({"config": {"b": [2, 1], "a": 1}, "prompt": "x"}))
        );
        let of = |caller, tool| same_call(caller, tool, None);
        assert_ne!(of(None, "openoxide"), of(None, "openoxide-reply"));
        assert_ne!(of(Some("a"), "openoxide"), of(Some("b"), "openoxide"));
        assert_ne!(of(Some("stdio"), "openoxide"), of(None, "openoxide"));
    }
}
