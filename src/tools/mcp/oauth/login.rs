//! A sign-in: who we are where tokens come from, a page in the browser where a person says yes, and the code that comes
//! back for a token (RFC 6749, section 4.1, with PKCE, RFC 7636).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::Url;
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    Challenge, PATIENCE, Registered, SAID, SignIn, bounded,
    callback::{Callback, Returned},
    client,
    discovery::{self, Found, Issuer, safe, shown},
    grant::{Grant, Method, Registration, Source, refusal},
    unreached,
};
use crate::conversation::{shortened, shown_line};

/// What keeps a token fresh without its user (OpenID Connect Core, section 11).
const OFFLINE: &str = "offline_access";

/// What a sign-in is wanted for.
pub(in super::super) struct Wish<'a> {
    pub(in super::super) sign_in: SignIn,
    /// Of the server.
    pub(in super::super) url: &'a str,
    /// What it said to a request without a token.
    pub(in super::super) challenge: Option<Challenge>,
    pub(in super::super) registered: &'a Registered,
    /// What else the person wants to allow.
    pub(in super::super) scopes: &'a [String],
}

/// A sign-in that has begun: a person goes to its [`address`](Self::address), and [`finish`](Self::finish) waits for what
/// comes of that.
pub struct Login {
    sign_in: SignIn,
    callback: Callback,
    found: Found,
    /// Where it is asked for.
    page: Url,
    registration: Registration,
    scopes: Vec<String>,
    /// Known to the browser that is to come back, and to nobody else.
    state: String,
    /// Proves that whoever brings the code has asked for it.
    verifier: String,
}

impl Login {
    pub(in super::super) async fn begin(wish: Wish<'_>) -> Result<Self, String> {
        let url = Url::parse(wish.url).map_err(|error| error.to_string())?;
        safe(wish.url, &url)?;
        let before = wish.sign_in.grant();
        let kept = before.as_ref().and_then(|grant| grant.wanted.clone());
        let challenge = wish.challenge.clone().or_else(|| kept.clone());
        let found = discovery::find(&url, challenge.as_ref()).await?;
        let found = found.ok_or("it works without a sign-in, and does not say how to do one")?;
        let page = safe(&found.issuer.authorization_endpoint, &url)?;
        let callback = Callback::open(wish.registered.callback_port).await?;
        let registration = register(&found.issuer, &callback.address(), &wish).await?;
        let challenges = challenge.iter().chain(&kept);
        let scopes = scopes(&found, challenges, before.as_ref(), &wish);
        Ok(Self {
            callback,
            registration,
            scopes,
            state: random()?,
            verifier: random()?,
            page,
            found,
            sign_in: wish.sign_in,
        })
    }

    /// Where a person says yes.
    pub fn address(&self) -> String {
        let mut address = self.page.clone();
        let proof = digest(&SHA256, self.verifier.as_bytes());
        let scope = self.scopes.join(" ");
        let mut pairs = address.query_pairs_mut();
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", &self.registration.id),
            ("redirect_uri", &self.callback.address()),
            ("code_challenge", &BASE64_URL_SAFE_NO_PAD.encode(proof)),
            ("code_challenge_method", "S256"),
            ("state", &self.state),
            ("resource", &self.found.resource),
        ] {
            pairs.append_pair(name, value);
        }
        if !scope.is_empty() {
            pairs.append_pair("scope", &scope);
        }
        if self.scopes.iter().any(|scope| scope == OFFLINE) {
            // Without the question many give no token that lasts.
            pairs.append_pair("prompt", "consent");
        }
        drop(pairs);
        address.into()
    }

    /// Who gives the token, and what it will be good for, in a line for whoever is asked.
    pub fn about(&self) -> String {
        let issuer = shown(&self.found.issuer.issuer);
        match self.scopes.as_slice() {
            [] => format!("by `{issuer}`"),
            scopes => format!("by `{issuer}`, for {}", shown(&scopes.join(" "))),
        }
    }

    /// Waits until the browser comes back, or until `pasted` gives the address that it could not reach, and keeps what is
    /// granted. Whoever waits says how long.
    pub async fn finish(self, mut pasted: mpsc::Receiver<String>) -> Result<(), String> {
        loop {
            let returned = tokio::select! {
                returned = self.callback.returned() => returned,
                Some(line) = pasted.recv() => match Returned::pasted(&line) {
                    Some(returned) => returned,
                    None => continue,
                },
            };
            if returned.said("state").as_ref() != Some(&self.state) {
                returned
                    .answer("This is not the answer to the sign-in that openoxide waits for.")
                    .await;
                continue;
            }
            let granted = self.granted(&returned).await;
            returned
                .answer(match granted {
                    Ok(()) => "openoxide is signed in. You can close this page.",
                    Err(_) => "openoxide is not signed in; it says why where it was started.",
                })
                .await;
            return granted;
        }
    }

    async fn granted(&self, returned: &Returned) -> Result<(), String> {
        let issuer = &self.found.issuer;
        // Somebody else's answer could carry our code to somebody else's server (RFC 9207, section 2.4).
        match returned.said("iss") {
            Some(iss) if iss != issuer.issuer => {
                return Err(format!(
                    "the answer is from `{}` and not from `{}`: its code was not used",
                    shown(&iss),
                    shown(&issuer.issuer)
                ));
            }
            None if issuer.says_who_it_is => {
                return Err(format!(
                    "the answer does not say that it is from `{}`: its code was not used",
                    shown(&issuer.issuer)
                ));
            }
            _ => {}
        }
        if let Some(error) = returned.said("error") {
            let more = returned.said("error_description");
            let more = more.map(|more| format!(": {more}")).unwrap_or_default();
            return Err(shortened(&shown_line(&format!("{error}{more}")), SAID));
        }
        let code = returned.said("code").ok_or("the answer has no code")?;
        let source = Source {
            resource: &self.found.resource,
            issuer: &issuer.issuer,
            endpoint: &issuer.token_endpoint,
            client: &self.registration,
            secret: self
                .registration
                .secret
                .as_deref()
                .or(self.sign_in.secret.as_deref()),
        };
        let proof = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", &self.callback.address()),
            ("code_verifier", &self.verifier),
        ];
        let grant = source.grant(&proof, &self.scopes).await;
        let grant =
            grant.map_err(|why| format!("`{}` gives no token: {why}", shown(&issuer.issuer)))?;
        let kept = grant.write(&self.sign_in.file);
        kept.map_err(|error| format!("what was granted cannot be kept: {error}"))
    }
}

/// What to ask for: what the server wants, else all that it knows of; and what was granted before, so that nothing is lost
/// by asking for more.
fn scopes<'a>(
    found: &Found,
    challenges: impl Iterator<Item = &'a Challenge>,
    before: Option<&Grant>,
    wish: &Wish<'_>,
) -> Vec<String> {
    let wanted: Vec<String> = challenges.flat_map(Challenge::scopes).collect();
    let known = &found.issuer.scopes_supported;
    let before = before.filter(|before| before.issuer == found.issuer.issuer);
    let before = before
        .map(|before| before.scopes.clone())
        .unwrap_or_default();
    let before = before.into_iter().filter(|scope| scope != OFFLINE);
    let wanted = if wanted.is_empty() {
        found.scopes.clone()
    } else {
        wanted
    };
    let own = wish.registered.scopes.iter().chain(wish.scopes).cloned();
    let mut scopes: Vec<String> = Vec::new();
    for scope in wanted.into_iter().chain(before).chain(own) {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    let lasts = known.iter().any(|scope| scope == OFFLINE);
    if lasts && !scopes.is_empty() && !scopes.iter().any(|scope| scope == OFFLINE) {
        scopes.push(OFFLINE.to_owned());
    }
    scopes
}

/// What comes of introducing ourselves (RFC 7591, section 3.2.1).
#[derive(Deserialize)]
struct Introduced {
    client_id: String,
    client_secret: Option<String>,
    token_endpoint_auth_method: Option<Method>,
}

/// Who we are there: as the owner has made out, or as we introduce ourselves, each time anew, since the page that the
/// browser comes back to is another one each time.
async fn register(
    issuer: &Issuer,
    callback: &str,
    wish: &Wish<'_>,
) -> Result<Registration, String> {
    if let Some(id) = &wish.registered.client_id {
        let has_secret = wish.sign_in.secret.is_some();
        return Ok(Registration {
            id: id.clone(),
            secret: None,
            method: method(issuer, has_secret),
        });
    }
    let name = shown(&issuer.issuer);
    let endpoint = issuer.registration_endpoint.as_deref().ok_or_else(|| {
        format!(
            "`{name}` lets nobody introduce themselves: register openoxide there as a native app, and set `oauth.client_id` of the server"
        )
    })?;
    let speaks = |method| issuer.speaks(method);
    let wished = [Method::Nothing, Method::Basic, Method::Post];
    let wished = wished.into_iter().find(|method| speaks(*method));
    let about = json!({
        "client_name": "openoxide",
        "redirect_uris": [callback],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": wished.unwrap_or(Method::Nothing),
        "application_type": "native",
    });
    let fails = |why: String| format!("`{name}` does not take openoxide as a client: {why}");
    let request = client(endpoint)?.post(endpoint).timeout(PATIENCE);
    let request = request.header("content-type", "application/json");
    let response = request.body(about.to_string()).send().await;
    let response = response.map_err(|_| fails(unreached()))?;
    let status = response.status();
    let body = bounded(response).await.map_err(fails)?;
    if !status.is_success() {
        return Err(fails(
            refusal(&body).unwrap_or_else(|| format!("HTTP {status}")),
        ));
    }
    let introduced: Introduced = serde_json::from_slice(&body)
        .map_err(|error| fails(format!("its answer cannot be read: {error}")))?;
    let has_secret = introduced.client_secret.is_some();
    Ok(Registration {
        id: introduced.client_id,
        method: introduced
            .token_endpoint_auth_method
            .unwrap_or_else(|| method(issuer, has_secret)),
        secret: introduced.client_secret,
    })
}

/// How a client that nobody has told how proves who it is.
fn method(issuer: &Issuer, has_secret: bool) -> Method {
    let wished = [Method::Basic, Method::Post];
    let wished = wished.into_iter().find(|method| issuer.speaks(*method));
    wished.filter(|_| has_secret).unwrap_or(Method::Nothing)
}

impl Issuer {
    fn speaks(&self, method: Method) -> bool {
        let said = match method {
            Method::Nothing => "none",
            Method::Basic => "client_secret_basic",
            Method::Post => "client_secret_post",
        };
        match &self.token_endpoint_auth_methods_supported {
            Some(methods) => methods.iter().any(|method| method == said),
            // Where nothing is said it is a password in a header (RFC 8414); those who take none seldom say so.
            None => method != Method::Post,
        }
    }
}

/// 256 bits that nobody can guess, as text.
fn random() -> Result<String, String> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| "this machine gives no random numbers".to_owned())?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}
