//! What a server answers to a request that shows no token, or one that is not enough (RFC 6750, section 3).

use reqwest::{
    StatusCode,
    header::{HeaderMap, WWW_AUTHENTICATE},
};
use serde::{Deserialize, Serialize};

/// See the top of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Challenge {
    /// Where it says who gives tokens for it (RFC 9728, section 5.1).
    pub(super) metadata: Option<String>,
    /// What a token must be good for.
    scope: Option<String>,
    error: Option<String>,
}

impl Challenge {
    /// The one in an answer; none where the server has other reasons to refuse.
    pub(in super::super) fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let said = headers.get_all(WWW_AUTHENTICATE).iter();
        let said = said.filter_map(|value| value.to_str().ok());
        let challenge = said.filter_map(Self::read).next();
        match status {
            StatusCode::UNAUTHORIZED => Some(challenge.unwrap_or_default()),
            StatusCode::FORBIDDEN => challenge.filter(Self::is_about_scopes),
            _ => None,
        }
    }

    /// The token is good, and not for this.
    pub(super) fn is_about_scopes(&self) -> bool {
        self.error.as_deref() == Some("insufficient_scope")
    }

    pub(super) fn scopes(&self) -> Vec<String> {
        let scope = self.scope.as_deref().unwrap_or_default();
        scope.split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// Of one header; none if it is about another scheme.
    fn read(header: &str) -> Option<Self> {
        let (scheme, mut rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut challenge = Self::default();
        while let Some((name, after)) = rest.split_once('=') {
            let (value, behind) = value(after);
            let field = match name.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
                "resource_metadata" => Some(&mut challenge.metadata),
                "scope" => Some(&mut challenge.scope),
                "error" => Some(&mut challenge.error),
                _ => None,
            };
            if let Some(field) = field {
                *field = Some(value);
            }
            rest = behind;
        }
        Some(challenge)
    }
}

/// A token or a quoted string, and what is behind it (RFC 9110, section 5.6).
fn value(text: &str) -> (String, &str) {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return (value, &quoted[at + 1..]),
            c => {
                value.push(c);
                escaped = false;
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_wants_is_read_however_it_writes_it() {
        let full = Challenge {
            metadata: Some("https://h/.well-known/x".to_owned()),
            scope: Some("a b".to_owned()),
            error: Some("insufficient_scope".to_owned()),
        };
        for header in [
            r#"Bearer error="insufficient_scope", scope="a b", resource_metadata="https://h/.well-known/x""#,
            r#"bearer scope="a b",error=insufficient_scope , resource_metadata="https://h/.well-known/x", realm="a \"b\", c=d""#,
            r#"Bearer realm="x", SCOPE="a b", error="insufficient_scope", resource_metadata="https://h/\.well-known/x"#,
        ] {
            assert_eq!(Challenge::read(header).as_ref(), Some(&full), "{header}");
        }
        assert_eq!(full.scopes(), ["a", "b"]);
        assert_eq!(Challenge::read(r#"Basic realm="x""#), None);
        for nonsense in [
            "Bearer ",
            "Bearer =",
            "Bearer a",
            "Bearer \"",
            "Bearer x=\"\\",
            "é",
        ] {
            let read = Challenge::read(nonsense).unwrap_or_default();
            assert_eq!(read, Challenge::default(), "{nonsense}");
        }
    }

    #[test]
    fn a_refusal_for_other_reasons_asks_for_no_sign_in() {
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(WWW_AUTHENTICATE, value.parse().unwrap())])
        };
        let none = HeaderMap::new();
        let of = Challenge::of;
        assert_eq!(of(StatusCode::OK, &headers("Bearer scope=a")), None);
        assert_eq!(of(StatusCode::FORBIDDEN, &none), None);
        assert_eq!(of(StatusCode::FORBIDDEN, &headers("Bearer scope=a")), None);
        assert!(
            of(
                StatusCode::FORBIDDEN,
                &headers("Bearer error=insufficient_scope")
            )
            .is_some()
        );
        assert_eq!(
            of(StatusCode::UNAUTHORIZED, &none),
            Some(Challenge::default())
        );
    }
}
