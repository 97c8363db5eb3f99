//! What makes an external server another one: all that decides who is spoken with, as whom and how. Whoever agrees in
//! it shares a connection and what is remembered of the server, so nothing that tells two servers apart may be left out.
//!
//! Tokens and values of variables are in it, which is why there is only a digest of it, and why nothing here is made
//! from `Debug`, which is for people and leaves out what they must not see.

use std::path::Path;

use serde_json::json;

use super::{Settings, digest};

/// See [`of`].
pub(super) struct Parts<'a> {
    pub(super) name: &'a str,
    /// With its variables filled in.
    pub(super) settings: &'a Settings,
    /// Where a program starts.
    pub(super) directory: &'a Path,
    /// What `bearer_token_env` stands for now.
    pub(super) token: Option<String>,
    /// What `oauth.client_secret_env` stands for now.
    pub(super) secret: Option<String>,
    /// It is shown what a person has allowed, which is kept by name and address.
    pub(super) signs_in: bool,
}

/// The digest. What only decides about tools (`tools`, `deny_tools`, `auto`, `context`, `call_seconds`) has no part.
pub(super) fn of(parts: Parts<'_>) -> String {
    let Parts {
        name,
        settings,
        directory,
        token,
        secret,
        signs_in,
    } = parts;
    let how = json!([settings.protocol, settings.startup_seconds]);
    let who = match &settings.url {
        Some(url) => {
            json!({"url": url, "headers": settings.headers, "token": token, "signs_in": signs_in, "oauth": settings.oauth, "secret": secret})
        }
        None => {
            json!({"command": settings.command, "args": settings.args, "env": settings.env})
        }
    };
    // An address is the same wherever it is used; a path is not always text.
    let directory = match settings.url {
        Some(_) => &[],
        None => directory.as_os_str().as_encoded_bytes(),
    };
    let (how, who) = (how.to_string(), who.to_string());
    digest(&[name.as_bytes(), how.as_bytes(), who.as_bytes(), directory])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(directory: &str, token: Option<&str>, change: impl Fn(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        of(Parts {
            name: "s",
            settings: &settings,
            directory: Path::new(directory),
            token: token.map(str::to_owned),
            secret: None,
            signs_in: false,
        })
    }

    fn net(token: Option<&str>, header: &str) -> String {
        with("/p", token, |settings| {
            settings.url = Some("https://h/mcp".to_owned());
            settings.headers = [("x-team".to_owned(), header.to_owned())].into();
        })
    }

    fn program(directory: &str, args: &[&str], value: &str) -> String {
        with(directory, None, |settings| {
            settings.command = Some("run".to_owned());
            settings.args = args.iter().map(|arg| (*arg).to_owned()).collect();
            settings.env = [("A".to_owned(), value.to_owned())].into();
        })
    }

    #[test]
    fn whoever_is_shown_something_else_is_another_server() {
        let one = net(Some("token"), "red");
        assert_eq!(one, net(Some("token"), "red"));
        assert_ne!(one, net(Some("token"), "blue"));
        assert_ne!(one, net(Some("other"), "red"));
        assert_ne!(one, net(None, "red"));
    }

    #[test]
    fn what_starts_otherwise_or_elsewhere_is_another_server() {
        let one = program("/a", &["x y"], "1");
        assert_eq!(one, program("/a", &["x y"], "1"));
        assert_ne!(one, program("/b", &["x y"], "1"));
        assert_ne!(one, program("/a", &["x", "y"], "1"));
        assert_ne!(one, program("/a", &["x y"], "2"));
    }

    #[test]
    fn what_only_decides_about_its_tools_does_not_make_it_another() {
        let plain = with("/a", None, |_| {});
        let narrowed = with("/a", None, |settings| {
            settings.deny_tools = vec!["x".to_owned()];
            settings.auto = vec!["y".to_owned()];
            settings.context = true;
        });
        assert_eq!(plain, narrowed);
    }
}
