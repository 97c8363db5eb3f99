//! What a person has allowed, as it is kept: a token, how to renew it, and where.

use std::{
    io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PATIENCE, SAID, bounded, challenge::Challenge, client, unreached};
use crate::{
    conversation::{shortened, shown_line},
    tools::mcp::write_private,
};

/// See the top of the file. Has no `Debug`: nearly all of it is secret.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Grant {
    /// What the token is for, as its server calls itself (RFC 8707).
    pub(super) resource: String,
    /// Where it is from.
    pub(super) issuer: String,
    /// Where it is renewed.
    endpoint: String,
    client: Registration,
    token: String,
    refresh: Option<String>,
    /// Seconds since 1970.
    ends: Option<u64>,
    /// What it is good for, or was asked for.
    pub(super) scopes: Vec<String>,
    /// What the server wanted when it last refused it.
    #[serde(default)]
    pub(super) wanted: Option<Challenge>,
}

/// Who we are where tokens come from.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Registration {
    pub(super) id: String,
    /// Of a client that registered itself. That of one which the owner registered stays where the owner has it.
    pub(super) secret: Option<String>,
    pub(super) method: Method,
}

/// How a client proves to be who it is (RFC 7591, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Method {
    #[serde(rename = "none")]
    Nothing,
    #[serde(rename = "client_secret_basic")]
    Basic,
    #[serde(rename = "client_secret_post")]
    Post,
}

/// Whom to ask for a token, and as whom.
pub(super) struct Source<'a> {
    pub(super) resource: &'a str,
    pub(super) issuer: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) client: &'a Registration,
    /// Of the client.
    pub(super) secret: Option<&'a str>,
}

/// The answer of a token endpoint (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    token_type: String,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
    scope: Option<String>,
}

impl Source<'_> {
    /// Asks for a token with `proof` of what was allowed; `scopes` are what it will be good for if nothing is said.
    pub(super) async fn grant(
        &self,
        proof: &[(&str, &str)],
        scopes: &[String],
    ) -> Result<Grant, String> {
        let mut form = proof.to_vec();
        form.push(("resource", self.resource));
        let request = client(self.endpoint)?.post(self.endpoint).timeout(PATIENCE);
        let request = request.header("accept", "application/json");
        let secret = self.secret.unwrap_or_default();
        let request = match self.client.method {
            Method::Basic => request.header("authorization", basic(&self.client.id, secret)),
            Method::Post => {
                form.extend([("client_id", &*self.client.id), ("client_secret", secret)]);
                request
            }
            Method::Nothing => {
                form.push(("client_id", &*self.client.id));
                request
            }
        };
        let response = request.form(&form).send().await.map_err(|_| unreached())?;
        let status = response.status();
        let body = bounded(response).await?;
        if !status.is_success() {
            return Err(refusal(&body).unwrap_or_else(|| format!("HTTP {status}")));
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| "it answers with something else than a token".to_owned())?;
        if !answer.token_type.eq_ignore_ascii_case("bearer") {
            return Err("it gives a token of a kind that openoxide cannot send".to_owned());
        }
        let granted = answer.scope.as_deref().map(split);
        Ok(Grant {
            resource: self.resource.to_owned(),
            issuer: self.issuer.to_owned(),
            endpoint: self.endpoint.to_owned(),
            client: self.client.clone(),
            token: answer.access_token,
            refresh: answer.refresh_token,
            ends: answer
                .expires_in
                .map(|seconds| now().saturating_add(seconds)),
            scopes: granted.unwrap_or_else(|| scopes.to_vec()),
            wanted: None,
        })
    }
}

impl Grant {
    /// What is kept; nothing if it cannot be read.
    pub(super) fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        write_private(file, &serde_json::to_vec_pretty(self)?)
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        let rest = self.refresh.iter().chain(&self.client.secret);
        rest.chain([&self.token]).cloned().collect()
    }

    pub(super) fn ends_within(&self, time: Duration) -> bool {
        self.ends
            .is_some_and(|ends| ends <= now().saturating_add(time.as_secs()))
    }

    /// A newer one; none where it cannot be renewed. `secret` of a client that the owner registered.
    pub(super) async fn renew(&self, secret: Option<&str>) -> Option<Result<Self, String>> {
        let refresh = self.refresh.as_deref()?;
        let source = Source {
            resource: &self.resource,
            issuer: &self.issuer,
            endpoint: &self.endpoint,
            client: &self.client,
            secret: self.client.secret.as_deref().or(secret),
        };
        let proof = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
        let newer = source.grant(&proof, &self.scopes).await;
        Some(newer.map(|newer| Self {
            refresh: newer.refresh.clone().or_else(|| self.refresh.clone()),
            ..newer
        }))
    }
}

/// The words of a scope.
pub(super) fn split(scope: &str) -> Vec<String> {
    scope.split_ascii_whitespace().map(str::to_owned).collect()
}

/// What an error says (RFC 6749, section 5.2).
pub(super) fn refusal(body: &[u8]) -> Option<String> {
    let said: Value = serde_json::from_slice(body).ok()?;
    let error = said["error"].as_str()?;
    let more = said["error_description"]
        .as_str()
        .map(|why| format!(": {why}"));
    let words = format!("{error}{}", more.unwrap_or_default());
    Some(shortened(&shown_line(&words), SAID))
}

/// All but what every encoding leaves as it is: not everybody who reads it decodes it.
const UNUSUAL: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// RFC 6749, section 2.3.1.
fn basic(id: &str, secret: &str) -> String {
    let encoded = |text| utf8_percent_encode(text, UNUSUAL);
    let pair = format!("{}:{}", encoded(id), encoded(secret));
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_name_and_secret_survive_their_encoding() {
        assert_eq!(basic("a", "b"), "Basic YTpi");
        let pair = BASE64_STANDARD.encode("https%3A%2F%2Fa-b.c:a%3Ab_%C3%A9");
        assert_eq!(basic("https://a-b.c", "a:b_é"), format!("Basic {pair}"));
    }

    #[test]
    fn an_error_is_told_in_its_own_words_and_harmless() {
        let said =
            refusal(br#"{"error": "invalid_grant", "error_description": "code\u001b[2J is old"}"#)
                .unwrap();
        assert!(
            said.starts_with("invalid_grant: code") && !said.contains('\u{1b}'),
            "{said}"
        );
        assert_eq!(refusal(b"<html>"), None);
        assert_eq!(refusal(b"{}"), None);
    }
}
