//! Who gives tokens for a server: its own metadata (RFC 9728), and that of whoever it names there (RFC 8414, or OpenID
//! Connect's). Each must be about who was asked for, and nothing is fetched but over TLS or from this machine.

use reqwest::{Url, header::ACCEPT};
use serde::Deserialize;

use super::{PATIENCE, bounded, challenge::Challenge, client, unreached};
use crate::conversation::{shortened, shown_line};

/// Where tokens for a server are from, and how to ask for them.
#[derive(Debug)]
pub(super) struct Found {
    /// The server, as it is to be called when a token for it is asked for.
    pub(super) resource: String,
    /// What it says can be asked for.
    pub(super) scopes: Vec<String>,
    pub(super) issuer: Issuer,
}

/// Of a server (RFC 9728, section 2).
#[derive(Debug, Deserialize)]
struct Protected {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
}

/// Of those who give tokens (RFC 8414, section 2).
#[derive(Debug, Deserialize)]
pub(super) struct Issuer {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) registration_endpoint: Option<String>,
    #[serde(default)]
    pub(super) scopes_supported: Vec<String>,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
    /// How clients may prove who they are; that with a password in a header if nothing is said.
    pub(super) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// It says who it is when it sends the browser back (RFC 9207).
    #[serde(default, rename = "authorization_response_iss_parameter_supported")]
    pub(super) says_who_it_is: bool,
}

/// Finds out where tokens for the server at `url` are from. Nothing if it has no metadata and nobody asked for a token.
pub(super) async fn find(
    url: &Url,
    challenge: Option<&Challenge>,
) -> Result<Option<Found>, String> {
    let (resource, scopes, issuer) = match protected(url, challenge).await? {
        Some(protected) => {
            let issuer = protected.authorization_servers.into_iter().next();
            let issuer = issuer.ok_or("it names nobody who gives tokens for it")?;
            (protected.resource, protected.scopes_supported, issuer)
        }
        None if challenge.is_none() => return Ok(None),
        // Servers of 2025-03-26 give their own.
        None => (
            canonical(url),
            Vec::new(),
            url.origin().ascii_serialization(),
        ),
    };
    let issuer = issuer_of(&issuer, url).await?;
    Ok(Some(Found {
        resource,
        scopes,
        issuer,
    }))
}

/// The metadata of the server itself.
async fn protected(url: &Url, challenge: Option<&Challenge>) -> Result<Option<Protected>, String> {
    let named = challenge.and_then(|challenge| challenge.metadata.clone());
    let of = |path| well_known(url, "oauth-protected-resource", path);
    let mut places = named.map_or_else(|| vec![of(url.path()), of("")], |named| vec![named]);
    places.dedup();
    for place in places {
        let Some(protected) = json::<Protected>(&place, url).await? else {
            continue;
        };
        if !is_about(&protected.resource, url) {
            return Err(format!(
                "it says to be `{}`, which is another server: nothing was asked for in its name",
                shown(&protected.resource)
            ));
        }
        return Ok(Some(protected));
    }
    Ok(None)
}

/// The metadata of `issuer`, which must say that it is that.
async fn issuer_of(issuer: &str, server: &Url) -> Result<Issuer, String> {
    let url = safe(issuer, server)?;
    let path = url.path().trim_end_matches('/');
    let mut places = vec![
        well_known(&url, "oauth-authorization-server", path),
        well_known(&url, "openid-configuration", path),
    ];
    if !path.is_empty() {
        let mut appended = url.clone();
        appended.set_path(&format!("{path}/.well-known/openid-configuration"));
        places.push(appended.into());
    }
    for place in places {
        let Some(found) = json::<Issuer>(&place, server).await? else {
            continue;
        };
        if found.issuer != issuer {
            return Err(format!(
                "`{}` says to be `{}`: nothing was asked for there",
                shown(issuer),
                shown(&found.issuer)
            ));
        }
        let methods = &found.code_challenge_methods_supported;
        if !methods.iter().any(|method| method == "S256") {
            return Err(format!(
                "`{}` does not say that it protects codes on their way (PKCE with S256), so none is asked for",
                shown(issuer)
            ));
        }
        for endpoint in [&found.token_endpoint]
            .into_iter()
            .chain(&found.registration_endpoint)
        {
            safe(endpoint, server)?;
        }
        return Ok(found);
    }
    Err(format!(
        "`{}`, who gives tokens for it, says nowhere how to ask for one",
        shown(issuer)
    ))
}

/// Where metadata of `name` about `path` of the host of `url` is (RFC 8414, section 3.1).
fn well_known(url: &Url, name: &str, path: &str) -> String {
    let mut place = url.clone();
    place.set_query(None);
    place.set_fragment(None);
    place.set_path(&format!(
        "/.well-known/{name}{}",
        path.trim_end_matches('/')
    ));
    place.into()
}

/// A document; nothing where there is none.
async fn json<T: serde::de::DeserializeOwned>(
    place: &str,
    server: &Url,
) -> Result<Option<T>, String> {
    let url = safe(place, server)?;
    let about = |why: String| format!("`{}`: {why}", shown(place));
    let request = client(place)?.get(url).timeout(PATIENCE);
    let request = request.header(ACCEPT, "application/json");
    let response = request.send().await.map_err(|_| about(unreached()))?;
    if !response.status().is_success() {
        return Ok(None);
    }
    let body = bounded(response).await.map_err(about)?;
    let read = serde_json::from_slice(&body);
    read.map(Some)
        .map_err(|error| about(format!("it is not what it should be: {error}")))
}

/// An address that codes and tokens may be sent to: nobody reads along on the way there. A server of this machine may
/// name another one of it; one from elsewhere has us ask nobody here.
pub(super) fn safe(address: &str, server: &Url) -> Result<Url, String> {
    let url = Url::parse(address).ok().filter(|url| match url.scheme() {
        "https" => true,
        "http" => is_here(url) && is_here(server),
        _ => false,
    });
    url.ok_or_else(|| {
        let shown = shown(address);
        format!("`{shown}` is no address of https, so no sign-in goes there")
    })
}

fn is_here(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// Whether a server that calls itself `resource` is the one at `url`, or stands for all of its paths.
fn is_about(resource: &str, url: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else {
        return false;
    };
    let directory = |path: &str| format!("{}/", path.trim_end_matches('/'));
    resource.origin() == url.origin()
        && directory(url.path()).starts_with(&directory(resource.path()))
}

/// As the server at `url` is called where it does not say how itself.
fn canonical(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    url.set_query(None);
    url.into()
}

pub(super) fn shown(text: &str) -> String {
    shortened(&shown_line(text), 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_at_the_root_of_its_host() {
        let url = Url::parse("https://h:8443/a/mcp/?x=1#y").unwrap();
        for (path, place) in [
            (url.path(), "https://h:8443/.well-known/z/a/mcp"),
            ("", "https://h:8443/.well-known/z"),
            ("/", "https://h:8443/.well-known/z"),
        ] {
            assert_eq!(well_known(&url, "z", path), place);
        }
    }

    #[test]
    fn a_server_that_says_to_be_another_is_not_believed() {
        let url = Url::parse("https://h/a/mcp").unwrap();
        for (resource, is_it) in [
            ("https://h/a/mcp", true),
            ("https://h/a/mcp/", true),
            ("https://h/a", true),
            ("https://h", true),
            ("https://h/a/mc", false),
            ("https://h/b", false),
            ("http://h/a/mcp", false),
            ("https://h.evil/a/mcp", false),
            ("https://h:444/a/mcp", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_about(resource, &url), is_it, "{resource}");
        }
    }

    #[test]
    fn nothing_is_asked_for_where_others_could_read_along() {
        let here = Url::parse("http://localhost:1/mcp").unwrap();
        let away = Url::parse("https://h/mcp").unwrap();
        for own in [
            "http://localhost:1/x",
            "http://127.0.0.1/x",
            "http://[::1]:2",
        ] {
            assert!(
                safe(own, &here).is_ok() && safe(own, &away).is_err(),
                "{own}"
            );
        }
        assert!(safe("https://h/x", &away).is_ok());
        for not in [
            "http://h/x",
            "http://localhost.evil/x",
            "ftp://localhost",
            "/x",
            "file:///x",
        ] {
            assert!(safe(not, &here).is_err(), "{not}");
        }
    }
}
