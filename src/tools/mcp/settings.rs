//! What the owner sets for one external server, and what of it a project may take away.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::oauth::Registered;

/// How addresses begin that can be spoken with.
const SCHEMES: [&str; 4] = ["http://", "https://", "ws://", "wss://"];

/// One external server. Either `command` or `url`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The program that speaks MCP on its standard input and output; started from an argument list, never by a shell.
    pub command: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables that it gets besides the usual ones.
    pub env: BTreeMap<String, String>,
    /// Where it starts; the thread's directory if not set.
    pub cwd: Option<PathBuf>,
    /// Where a server of Streamable HTTP is, or one behind a WebSocket (`ws:`, `wss:`).
    pub url: Option<String>,
    /// Headers that every request to it carries.
    pub headers: BTreeMap<String, String>,
    /// The environment variable with the token that is sent to it.
    pub bearer_token_env: Option<String>,
    /// For a server where a person signs in, and that wants to know its clients beforehand.
    pub oauth: Registered,
    /// `false`: it is known, and not started.
    pub enabled: bool,
    /// Which generation of the protocol is spoken.
    pub protocol: Protocol,
    /// How long it may take to start. A thread waits for that only while its tools were never seen.
    pub startup_seconds: f64,
    /// How long a call may take.
    pub call_seconds: f64,
    /// Only these of its tools; `*` stands for any characters.
    pub tools: Option<Vec<String>>,
    /// Not these.
    pub deny_tools: Vec<String>,
    /// These run without a question.
    pub auto: Vec<String>,
    /// Resources that fit a question are put behind it.
    pub context: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            command: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            url: None,
            headers: BTreeMap::new(),
            bearer_token_env: None,
            oauth: Registered::default(),
            enabled: true,
            protocol: Protocol::default(),
            startup_seconds: 10.0,
            call_seconds: 300.0,
            tools: None,
            deny_tools: Vec::new(),
            auto: Vec::new(),
            context: false,
        }
    }
}

/// The generations of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// `initialize`, up to 2025-11-25. Today's servers do not all survive to be asked for anything else.
    #[default]
    Legacy,
    /// The newer one where the server speaks it.
    Auto,
    /// 2026-07-28 only.
    Modern,
}

impl Protocol {
    /// What is spoken, one after the other until one is understood.
    pub(super) fn tried(self) -> &'static [Self] {
        match self {
            Self::Auto => &[Self::Modern, Self::Legacy],
            Self::Legacy => &[Self::Legacy],
            Self::Modern => &[Self::Modern],
        }
    }
}

/// What a project's file and a call's arguments may do to an external server: take away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Narrowed {
    /// `false` takes it away.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "only_false"
    )]
    pub enabled: Option<bool>,
    /// Added to the owner's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny_tools: Vec<String>,
}

fn only_false<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    match bool::deserialize(from)? {
        false => Ok(Some(false)),
        true => Err(serde::de::Error::custom(
            "an external server can only be disabled here; its owner can enable it",
        )),
    }
}

impl Settings {
    /// Says what is wrong with them, in one line.
    pub fn check(&self) -> Result<(), String> {
        match (&self.command, &self.url) {
            (None, None) => return Err("it has neither `command` nor `url`".to_owned()),
            (Some(_), Some(_)) => return Err("it has both `command` and `url`".to_owned()),
            (Some(command), None) if command.trim().is_empty() => {
                return Err("its `command` is empty".to_owned());
            }
            (None, Some(url)) if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) => {
                return Err(format!(
                    "`{url}` cannot be spoken with: only http, https, ws and wss are, and programs by `command`"
                ));
            }
            _ => {}
        }
        for (key, seconds) in [
            ("startup_seconds", self.startup_seconds),
            ("call_seconds", self.call_seconds),
        ] {
            if Duration::try_from_secs_f64(seconds).is_err() {
                return Err(format!("its `{key}` is not a number of seconds"));
            }
        }
        Ok(())
    }

    /// Takes away what a project or a caller takes away.
    pub fn narrow(&mut self, by: &Narrowed) {
        self.enabled &= by.enabled.unwrap_or(true);
        self.deny_tools.extend(by.deny_tools.iter().cloned());
    }

    /// Whether its tool `name` is offered.
    pub fn offers(&self, name: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|pattern| fits(pattern, name));
        self.tools.as_deref().is_none_or(named) && !named(&self.deny_tools)
    }

    /// Whether its tool `name` runs unasked.
    pub fn runs_unasked(&self, name: &str) -> bool {
        self.auto.iter().any(|pattern| fits(pattern, name))
    }

    /// Whether resources that it has listed are read unasked.
    pub fn reads_unasked(&self) -> bool {
        self.context || self.runs_unasked(super::resources::READ)
    }

    /// How long it may take to start.
    pub fn startup(&self) -> Duration {
        Duration::try_from_secs_f64(self.startup_seconds).unwrap_or(Duration::MAX)
    }

    /// How long a call may take.
    pub fn patience(&self) -> Duration {
        Duration::try_from_secs_f64(self.call_seconds).unwrap_or(Duration::MAX)
    }

    /// What people call its way of being spoken with.
    pub fn transport(&self) -> &'static str {
        match &self.url {
            Some(url) if url.starts_with("ws") => "websocket",
            Some(_) => "http",
            None => "stdio",
        }
    }

    /// The program with its arguments, or the address.
    pub fn target(&self) -> String {
        match (&self.url, &self.command) {
            (Some(url), _) => url.clone(),
            (None, command) => {
                let words = command.iter().chain(&self.args).map(String::as_str);
                words.collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// True if it is shown a token, or what stands for one, that its owner has given.
    pub(super) fn has_token(&self) -> bool {
        let mut names = self.headers.keys();
        self.bearer_token_env.is_some()
            || names.any(|name| name.eq_ignore_ascii_case("authorization"))
    }

    /// Values that must not be seen: what its headers carry, and variables that are named like secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &String> {
        let named = self.env.iter();
        let named = named.filter(|(name, _)| crate::workspace::shell::is_secret_name(name));
        self.headers.values().chain(named.map(|(_, value)| value))
    }
}

/// Whether `name` is what `pattern` says; `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut left) = name.strip_prefix(head) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let tail = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = left.find(piece) else {
            return false;
        };
        left = &left[at + piece.len()..];
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, fit) in [
            ("read", "read", true),
            ("read", "read_file", false),
            ("*", "anything", true),
            ("read_*", "read_file", true),
            ("read_*", "unread_file", false),
            ("*_file", "read_file", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("ab*bc", "abc", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }

    #[test]
    fn denying_wins_and_a_list_leaves_out_the_rest() {
        let settings = Settings {
            tools: Some(vec!["get_*".to_owned()]),
            deny_tools: vec!["get_secret".to_owned()],
            ..Settings::default()
        };
        let offered = ["get_a", "get_secret", "set_a"].map(|name| settings.offers(name));
        assert_eq!(offered, [true, false, false]);
        assert!(Settings::default().offers("anything"));
        assert!(!Settings::default().runs_unasked("anything"));
    }

    #[test]
    fn one_way_to_it_and_only_one() {
        let program = |command: Option<&str>, url: Option<&str>| Settings {
            command: command.map(str::to_owned),
            url: url.map(str::to_owned),
            ..Settings::default()
        };
        assert!(program(Some("x"), None).check().is_ok());
        assert!(program(None, Some("https://h/mcp")).check().is_ok());
        assert!(program(None, Some("ws://h/mcp")).check().is_ok());
        assert!(program(None, Some("ftp://h/mcp")).check().is_err());
        assert!(program(None, None).check().is_err());
        assert!(program(Some("x"), Some("http://h")).check().is_err());
    }
}
