//! What a project's file and a call may set: only what makes things narrower. The rest is the owner's, and is refused with
//! their name.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_path_to_error::Segment;
use toml::Value;

use super::{
    Config, ConfigError,
    layers::{line_of, nearest, nested, unknown_key},
    plain,
};
use crate::{
    conversation::{ApprovalPolicy, SandboxPolicy, shown_line},
    model::Effort,
    tools::mcp,
};

/// The way out for a project's file.
const OF_A_PROJECT: &str = "a project file may lower `limits` and `policy.network`, choose a stricter `policy`, add to `policy.deny` and `deny_tools`, disable one of \
     `mcp_servers` and set `model.reasoning_effort`; the rest belongs to your own configuration file";
/// The same for a call.
const OF_A_CALL: &str = "a call may lower `limits` and `policy.network`, choose a stricter `policy`, add to `policy.deny`, `deny_tools` and `policy.writable_roots`, \
     disable one of `mcp_servers` and set `model.reasoning_effort`; the rest belongs to the owner's own configuration";

/// What a project file and the arguments of a call may set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Narrowing {
    /// A stricter sandbox or approval policy.
    pub policy: NarrowPolicy,
    /// Lower limits.
    pub limits: NarrowLimits,
    /// How hard to think.
    pub model: NarrowModel,
    /// External servers, or tools of theirs, taken away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mcp_servers: BTreeMap<String, mcp::Narrowed>,
}

/// See [`Narrowing`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NarrowPolicy {
    /// A stricter one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxPolicy>,
    /// A stricter one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_policy: Option<ApprovalPolicy>,
    /// Added to the owner's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// `false` takes the network away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
    /// Of a call alone: directories inside the roots that may be written too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub writable_roots: Vec<PathBuf>,
}

/// See [`Narrowing`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NarrowLimits {
    /// A lower one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// A lower one.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lower_seconds"
    )]
    pub max_seconds: Option<f64>,
    /// A lower one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
}

/// See [`Narrowing`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NarrowModel {
    /// Replaces the owner's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<Effort>,
}

/// A number below zero, or none at all, would read as no limit.
fn lower_seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let seconds = Option::<f64>::deserialize(from)?;
    match seconds {
        Some(seconds) if seconds.is_nan() || seconds < 0.0 => Err(serde::de::Error::custom(
            "expected a number of seconds, 0 or more",
        )),
        seconds => Ok(seconds),
    }
}

/// True if `policy` asks or refuses less than `than` does.
pub fn is_looser(policy: ApprovalPolicy, than: ApprovalPolicy) -> bool {
    use ApprovalPolicy::{Never, OnRequest, Untrusted};
    matches!(
        (policy, than),
        (OnRequest | Never, Untrusted) | (OnRequest, Never)
    )
}

impl Narrowing {
    /// What of its limits, and of the network, is more than `config` has, by key and in words.
    pub fn beyond(&self, config: &Config) -> BTreeMap<&'static str, String> {
        let (asked, set) = (&self.limits, &config.limits);
        let more = |key, asked: &dyn fmt::Display, set: &dyn fmt::Display| {
            (
                key,
                format!("`{key} = {asked}` is more than the {set} that hold here"),
            )
        };
        let steps = asked.max_steps.filter(|asked| *asked > set.max_steps);
        let seconds = asked.max_seconds.filter(|asked| *asked > set.max_seconds);
        let tokens = asked.max_tokens.filter(|asked| *asked > set.max_tokens);
        let network = self.policy.network == Some(true) && !config.policy.network;
        let network = network.then(|| {
            let key = "policy.network";
            (key, format!("`{key} = true`, and there is no network here"))
        });
        let limits = [
            steps.map(|asked| more("limits.max_steps", &asked, &set.max_steps)),
            seconds.map(|asked| more("limits.max_seconds", &asked, &set.max_seconds)),
            tokens.map(|asked| more("limits.max_tokens", &asked, &set.max_tokens)),
        ];
        limits.into_iter().flatten().chain(network).collect()
    }

    /// The same with sandbox and approval policy, which a call chooses in its own way.
    pub(super) fn all_beyond(&self, config: &Config) -> BTreeMap<&'static str, String> {
        let set = config.policy.sandbox.unwrap_or_default();
        let sandbox = self.policy.sandbox.filter(|asked| *asked > set);
        let sandbox = sandbox.map(|asked| ("policy.sandbox", asked.as_str(), set.as_str()));
        let set = config.policy.approval_policy.unwrap_or_default();
        let approval = self.policy.approval_policy;
        let approval = approval.filter(|asked| is_looser(*asked, set));
        let approval =
            approval.map(|asked| ("policy.approval_policy", asked.as_str(), set.as_str()));
        let chosen = [sandbox, approval].into_iter().flatten();
        let chosen = chosen.map(|(key, asked, set)| {
            (
                key,
                format!("`{key} = {asked:?}` allows more than the {set:?} that holds here"),
            )
        });
        self.beyond(config).into_iter().chain(chosen).collect()
    }
}

impl Config {
    /// Applies what a caller asks for, as far as it narrows.
    pub fn narrow(&mut self, by: &Narrowing) {
        self.choose(by);
        self.bound(by);
    }

    /// Takes over what flags and callers may choose again.
    pub(super) fn choose(&mut self, by: &Narrowing) {
        let policy = &mut self.policy;
        if let Some(sandbox) = by.policy.sandbox {
            policy.sandbox = Some(policy.sandbox.unwrap_or_default().min(sandbox));
        }
        let set = policy.approval_policy.unwrap_or_default();
        let stricter = by
            .policy
            .approval_policy
            .filter(|asked| !is_looser(*asked, set));
        policy.approval_policy = stricter.or(policy.approval_policy);
        self.model.reasoning_effort = by.model.reasoning_effort.or(self.model.reasoning_effort);
    }

    /// Takes away what nobody above gives back.
    pub(super) fn bound(&mut self, by: &Narrowing) {
        let (limits, lower) = (&mut self.limits, &by.limits);
        limits.max_steps = limits.max_steps.min(lower.max_steps.unwrap_or(u64::MAX));
        limits.max_seconds = limits
            .max_seconds
            .min(lower.max_seconds.unwrap_or(f64::INFINITY));
        limits.max_tokens = limits.max_tokens.min(lower.max_tokens.unwrap_or(u64::MAX));
        self.policy.deny.extend(by.policy.deny.iter().cloned());
        if by.policy.network == Some(false) {
            self.policy.network = false;
            self.policy.offline = true;
        }
        // Of one that is not there nothing can be taken.
        for (name, narrowed) in &by.mcp_servers {
            if let Some(settings) = self.mcp_servers.get_mut(name) {
                settings.narrow(narrowed);
            }
        }
    }
}

/// What the file of a project says.
pub(super) fn of_project(text: &str, path: &Path) -> Result<Narrowing, ConfigError> {
    let what = format!(
        "failed to read config `{}`",
        shown_line(&path.to_string_lossy())
    );
    let broken = |error: &toml::de::Error| {
        let line = line_of(text, error);
        ConfigError::new(format!(
            "{what}: {}{line}",
            plain(error.message(), "a table")
        ))
    };
    let reader = toml::Deserializer::parse(text).map_err(|error| broken(&error))?;
    let project: Narrowing = serde_path_to_error::deserialize(reader).map_err(|error| {
        let (keys, error) = (keys(error.path()), error.into_inner());
        let line = line_of(text, &error);
        match refusal(&keys, error.message()) {
            Some(Refusal::Owners) => owners(&what, &keys, &line).hint(OF_A_PROJECT),
            Some(Refusal::Unknown(known)) => unknown_key(&what, &keys, &line, &known),
            None => broken(&error).hint(OF_A_PROJECT),
        }
    })?;
    if project.policy.writable_roots.is_empty() {
        return Ok(project);
    }
    let keys = ["policy", "writable_roots"].map(str::to_owned);
    Err(owners(&what, &keys, "").hint(OF_A_PROJECT))
}

/// What the `config` of a call says.
///
/// # Errors
/// With the nearest key where one is not known, and who sets it where it is not for callers.
pub fn of_call(
    config: serde_json::Map<String, serde_json::Value>,
) -> Result<Narrowing, ConfigError> {
    let config = serde_json::Value::Object(config);
    serde_path_to_error::deserialize(config).map_err(|error| {
        let (keys, error) = (keys(error.path()), error.into_inner().to_string());
        let path = shown_line(&keys.join("."));
        match refusal(&keys, &error) {
            Some(Refusal::Owners) => {
                let only =
                    format!("`{path}` is not for callers; only the owner of this server sets it");
                ConfigError::new(only).hint(OF_A_CALL)
            }
            Some(Refusal::Unknown(known)) => {
                let error = ConfigError::new(format!("unknown key `{path}`"));
                error.hint(nearest(keys.last().map_or("", |key| key), &known))
            }
            None => ConfigError::new(format!("`{path}`: {}", plain(&error, "an object"))),
        }
    })
}

fn owners(what: &str, keys: &[String], line: &str) -> ConfigError {
    let key = keys.last().map_or("", |key| key);
    let group = keys
        .split_last()
        .map_or(String::new(), |(_, group)| group.join("."));
    let group = if group.is_empty() {
        group
    } else {
        format!(" of `{}`", shown_line(&group))
    };
    ConfigError::new(format!(
        "{what}: `{}`{group}{line} is not for a project; only the owner sets it",
        shown_line(key)
    ))
}

fn keys(path: &serde_path_to_error::Path) -> Vec<String> {
    let keys = path.iter().filter_map(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        _ => None,
    });
    keys.collect()
}

/// Why a key cannot stand where only narrowing can.
enum Refusal {
    /// It is a key, and not for this place.
    Owners,
    /// It is none. With those there are.
    Unknown(Vec<String>),
}

/// None where the key is not what is wrong.
fn refusal(keys: &[String], message: &str) -> Option<Refusal> {
    let words = |message: &str| -> Vec<String> {
        let words = message.split('`').skip(1).step_by(2);
        words.skip(1).map(str::to_owned).collect()
    };
    if !message.starts_with("unknown field") {
        return None;
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let alone = nested(&keys, Value::Boolean(true));
    match alone.try_into::<Config>() {
        Err(error) if error.message().starts_with("unknown field") => {
            let mut known = words(message);
            known.extend(words(error.message()));
            known.sort();
            known.dedup();
            Some(Refusal::Unknown(known))
        }
        _ => Some(Refusal::Owners),
    }
}

/// Says that `project`, the file of it at `path`, wants more than either of `owners`.
pub(super) fn check(
    project: &Narrowing,
    path: &Path,
    owners: &[Config],
) -> Result<(), ConfigError> {
    let mut beyond: Vec<_> = owners
        .iter()
        .map(|owner| project.all_beyond(owner))
        .collect();
    let last = beyond.pop().unwrap_or_default();
    let wider = last
        .iter()
        .find(|(key, _)| beyond.iter().all(|also| also.contains_key(*key)));
    match wider {
        None => Ok(()),
        Some((_, why)) => Err(ConfigError::new(format!(
            "config `{}`: {why}; a project can only narrow, and only the owner sets more",
            shown_line(&path.to_string_lossy())
        ))
        .hint(OF_A_PROJECT)),
    }
}
