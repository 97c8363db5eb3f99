//! What a URI names: threads, what their turns changed, files and directories.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::conversation::{ThreadId, TurnId};

/// All threads that are listed.
pub(super) const THREADS: &str = "openoxide://threads";

/// What a path in a URI cannot hold as it is (RFC 3986, section 3.3).
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A resource by its address. Whether it is there, and for whom, is for the reader.
#[derive(Debug, PartialEq)]
pub(super) enum Address {
    Threads,
    Thread(ThreadId),
    /// What a turn changed; without its name, the last one.
    Diff(ThreadId, Option<TurnId>),
    /// A path, absolute or relative to the server's directory.
    File(String),
    Directory(String),
}

impl Address {
    /// True for what is kept of threads, which is no file that a client could watch.
    pub(super) fn is_of_threads(&self) -> bool {
        match self {
            Self::Threads | Self::Thread(_) | Self::Diff(..) => true,
            Self::File(_) | Self::Directory(_) => false,
        }
    }

    /// `None` for what no resource of ours is called.
    pub(super) fn parse(uri: &str) -> Option<Self> {
        if let Some(path) = uri.strip_prefix("file://") {
            return local(path).map(Self::File);
        }
        if let Some(path) = uri.strip_prefix("directory://") {
            return local(path).map(Self::Directory);
        }
        let rest = uri.strip_prefix(THREADS)?;
        let parts: Vec<&str> = rest.split('/').collect();
        match parts.as_slice() {
            [""] => Some(Self::Threads),
            ["", thread] => Some(Self::Thread(thread.parse().ok()?)),
            ["", thread, "diff"] => Some(Self::Diff(thread.parse().ok()?, None)),
            ["", thread, "turns", turn, "diff"] => {
                Some(Self::Diff(thread.parse().ok()?, Some(turn.parse().ok()?)))
            }
            _ => None,
        }
    }
}

/// The path behind the slashes. `localhost` is this machine, as nothing is (RFC 8089, section 2).
fn local(path: &str) -> Option<String> {
    let path = match path.strip_prefix("localhost") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        _ => path,
    };
    let path = percent_decode_str(path).decode_utf8().ok()?;
    (!path.contains('\0')).then(|| path.into_owned())
}

/// The address of a thread.
pub(super) fn thread(id: ThreadId) -> String {
    format!("{THREADS}/{id}")
}

/// The address of what a turn changed.
pub(in crate::frontend::mcp) fn diff(id: ThreadId, turn: TurnId) -> String {
    format!("{THREADS}/{id}/turns/{turn}/diff")
}

/// The address of a place on this machine; `scheme` is `file` or `directory`.
pub(super) fn place(scheme: &str, path: &str) -> String {
    format!("{scheme}://{}", utf8_percent_encode(path, PATH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_and_what_is_none_is_not() {
        let id: ThreadId = "01990000-0000-7000-8000-000000000001".parse().unwrap();
        let turn: TurnId = "01990000-0000-7000-8000-0000000000a1".parse().unwrap();
        for (uri, expected) in [
            (THREADS.to_owned(), Some(Address::Threads)),
            (thread(id), Some(Address::Thread(id))),
            (
                format!("{}/diff", thread(id)),
                Some(Address::Diff(id, None)),
            ),
            (diff(id, turn), Some(Address::Diff(id, Some(turn)))),
            ("file:///a/b".into(), Some(Address::File("/a/b".into()))),
            (
                "file://localhost/a".into(),
                Some(Address::File("/a".into())),
            ),
            (
                "file://src/a%20b.rs".into(),
                Some(Address::File("src/a b.rs".into())),
            ),
            ("file://%2Fa%2Fb".into(), Some(Address::File("/a/b".into()))),
            ("directory://.".into(), Some(Address::Directory(".".into()))),
            ("file:///a%00b".into(), None),
            ("file:///%FF".into(), None),
            ("openoxide://threadsx".into(), None),
            (format!("{THREADS}/last"), None),
            (format!("{}/turns/{turn}", thread(id)), None),
            ("https://example.com".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(Address::parse(&uri), expected, "{uri}");
        }
    }

    #[test]
    fn a_place_is_found_again_by_its_address() {
        for path in ["/a b/c#d?e%20f", "/ünï/{x}", "/plain.rs"] {
            let uri = place("file", path);
            assert!(!uri.contains([' ', '#', '?', '{']), "{uri}");
            assert_eq!(Address::parse(&uri), Some(Address::File(path.to_owned())));
        }
    }
}
