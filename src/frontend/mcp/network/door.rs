//! What is looked at of a request before anything else: the `Host` it came for, the web page it came from, its token.
//!
//! A page that a browser shows may send requests to any address, this machine's own included. Its name for us gives it
//! away (DNS rebinding), or the `Origin` that the browser adds. Nothing of a body is read and nothing is upgraded before.

use std::net::{IpAddr, SocketAddr};

use axum::response::{IntoResponse, Response};
use http::{
    HeaderMap, StatusCode, Uri,
    header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE},
    uri::Authority,
};

/// Who may be asked for, and by which pages.
#[derive(Debug)]
pub(super) struct Door {
    /// Names besides the address that a connection came to.
    hosts: Vec<Name>,
    origins: Vec<String>,
}

/// A name of ours; with a port, only with that.
#[derive(Debug, PartialEq)]
struct Name {
    host: String,
    port: Option<u16>,
}

impl Door {
    /// For the address that `listener` was given as, and the owner's names and pages.
    pub(super) fn new(
        listener: &str,
        public: &[String],
        origins: &[String],
    ) -> Result<Self, String> {
        let own = name(listener).filter(|own| own.host.parse::<IpAddr>().is_err());
        let public = public.iter().map(|text| {
            name(text)
                .ok_or_else(|| format!("`--public-host {text}` is neither a host nor HOST:PORT"))
        });
        let public: Vec<Name> = public.collect::<Result<_, _>>()?;
        Ok(Self {
            hosts: own.into_iter().chain(public).collect(),
            origins: origins
                .iter()
                .map(|origin| origin.trim_end_matches('/').to_lowercase())
                .collect(),
        })
    }

    /// Lets a request pass that came for us, and from no page that is not ours. `local` is where it arrived.
    pub(super) fn judge(
        &self,
        local: SocketAddr,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        let host = host.filter(|_| hosts.next().is_none());
        let Some(asked) = host.and_then(name) else {
            return Err(Refusal(
                StatusCode::BAD_REQUEST,
                "a request names its host once",
            ));
        };
        // A proxy's form of a request, which may name another.
        let in_line = uri.authority().map(|authority| name(authority.as_str()));
        let meant = in_line.is_none_or(|named| named.as_ref() == Some(&asked));
        if !meant || !self.is_us(&asked, local) {
            tracing::warn!("refused a request for another host");
            let why = "this host is not served here; its owner may name it with `--public-host`";
            return Err(Refusal(StatusCode::FORBIDDEN, why));
        }
        let ours = |origin: &http::HeaderValue| {
            let origin = origin.to_str().unwrap_or_default().to_lowercase();
            self.origins.contains(&origin)
        };
        if !headers.get_all(ORIGIN).iter().all(ours) {
            tracing::warn!("refused a request from a web page");
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                "web pages are not served here",
            ));
        }
        Ok(())
    }

    fn is_us(&self, asked: &Name, local: SocketAddr) -> bool {
        let here = local.ip().to_canonical();
        let by_address = match asked.host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical() == here || here.is_loopback() && ip.is_loopback(),
            Err(_) => here.is_loopback() && asked.host == "localhost",
        };
        let on_port = asked.port.unwrap_or(80) == local.port();
        let by_name =
            |own: &Name| own.host == asked.host && (own.port.is_none() || own.port == asked.port);
        by_address && on_port || self.hosts.iter().any(by_name)
    }
}

/// The token that a request carries, from its one `Authorization` header and nowhere else.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let only = all.next().filter(|_| all.next().is_none())?;
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// The answer to a request without a token that counts.
pub(super) fn unauthorized(presented: bool) -> Response {
    let challenge = match presented {
        true => r#"Bearer realm="openoxide", error="invalid_token""#,
        false => r#"Bearer realm="openoxide""#,
    };
    let why = match presented {
        true => "this token is not known here, or does not hold any more",
        false => "a token is needed: `Authorization: Bearer TOKEN`",
    };
    let mut response = Refusal(StatusCode::UNAUTHORIZED, why).into_response();
    let challenge = http::HeaderValue::from_static(challenge);
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

/// What a request is refused with: one line for whoever looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) &'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, why) = self;
        (status, format!("{why}\n")).into_response()
    }
}

fn name(text: &str) -> Option<Name> {
    // Who a request comes from has no place here.
    let authority: Authority = text.parse().ok().filter(|_| !text.contains('@'))?;
    let host = authority.host().trim_end_matches('.').to_lowercase();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(&host)
        .to_owned();
    let rest = text.rsplit(']').next().unwrap_or(text);
    // A port that is none is no name of ours.
    let port = match rest.split_once(':') {
        Some((_, port)) => Some(port.parse().ok()?),
        None => None,
    };
    (!host.is_empty()).then_some(Name { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(door: &Door, local: &str, line: &str, headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        let judged = door.judge(local.parse().unwrap(), &line.parse().unwrap(), &map);
        judged.map_or_else(|refused| refused.0.as_u16(), |()| 200)
    }

    #[test]
    fn only_our_own_names_are_served() {
        let public = ["agents.example".to_owned(), "other.example:8443".to_owned()];
        let door = Door::new("127.0.0.1:8080", &public, &[]).unwrap();
        for (local, host, expected) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", 200),
            ("127.0.0.1:8080", "localhost:8080", 200),
            ("127.0.0.1:8080", "LOCALHOST.:8080", 200),
            ("127.0.0.1:8080", "[::1]:8080", 200),
            ("127.0.0.1:8080", "localhost", 403),
            ("127.0.0.1:8080", "localhost:81", 403),
            ("127.0.0.1:8080", "evil.example:8080", 403),
            ("127.0.0.1:8080", "localhost.evil.example:8080", 403),
            ("127.0.0.1:8080", "127.0.0.1.evil.example:8080", 403),
            ("127.0.0.1:8080", "10.0.0.1:8080", 403),
            ("127.0.0.1:8080", "localhost@evil.example:8080", 400),
            ("127.0.0.1:8080", "", 400),
            ("127.0.0.1:8080", "localhost:x", 400),
            ("127.0.0.1:8080", "agents.example", 200),
            ("127.0.0.1:8080", "agents.example:443", 200),
            ("127.0.0.1:8080", "other.example:8443", 200),
            ("127.0.0.1:8080", "other.example", 403),
            ("127.0.0.1:80", "localhost", 200),
            ("10.0.0.7:8080", "10.0.0.7:8080", 200),
            ("10.0.0.7:8080", "localhost:8080", 403),
            ("[::ffff:10.0.0.7]:8080", "10.0.0.7:8080", 200),
            ("[fe80::1]:8080", "[fe80::1]:8080", 200),
        ] {
            assert_eq!(
                judged(&door, local, "/mcp", &[("host", host)]),
                expected,
                "{local} {host}"
            );
        }
        let named = Door::new("box.lan:8080", &[], &[]).unwrap();
        assert_eq!(
            judged(&named, "10.0.0.7:8080", "/", &[("host", "box.lan:8080")]),
            200
        );
        assert!(Door::new("127.0.0.1:1", &["a b".to_owned()], &[]).is_err());
    }

    #[test]
    fn a_request_names_one_host_in_one_way() {
        let door = Door::new("127.0.0.1:8080", &[], &[]).unwrap();
        let ours = ("host", "localhost:8080");
        let judge =
            |line: &str, headers: &[(&str, &str)]| judged(&door, "127.0.0.1:8080", line, headers);
        assert_eq!(judge("/mcp", &[]), 400);
        assert_eq!(judge("/mcp", &[ours, ours]), 400);
        assert_eq!(judge("http://localhost:8080/mcp", &[ours]), 200);
        assert_eq!(judge("http://evil.example/mcp", &[ours]), 403);
    }

    #[test]
    fn no_web_page_is_served_but_those_that_the_owner_named() {
        let origins = ["https://ide.example".to_owned()];
        let door = Door::new("127.0.0.1:8080", &[], &origins).unwrap();
        let from = |pages: &[&str]| {
            let mut headers = vec![("host", "localhost:8080")];
            headers.extend(pages.iter().map(|page| ("origin", *page)));
            judged(&door, "127.0.0.1:8080", "/ws", &headers)
        };
        assert_eq!(from(&["https://ide.example"]), 200);
        for page in [
            "http://localhost:8080",
            "http://ide.example",
            "https://ide.example:8443",
            "null",
            "",
            "https://ide.example.evil.example",
        ] {
            assert_eq!(from(&[page]), 403, "{page}");
        }
        assert_eq!(from(&["https://ide.example", "https://evil.example"]), 403);
    }

    #[test]
    fn a_token_comes_in_one_header() {
        let carried = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(carried(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(carried(&["bearer  abc"]).as_deref(), Some("abc"));
        for wrong in [
            &[][..],
            &["abc"],
            &["Basic abc"],
            &["Bearer abc", "Bearer abc"],
        ] {
            assert_eq!(carried(wrong), None, "{wrong:?}");
        }
    }
}
