//! From files, environment and flags to one [`Config`], each layer checked by itself so that an error names its place.

use std::{collections::BTreeMap, fmt, io, path::Path};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::{conversation::shown_line, workspace::file};

use super::{
    Config, NarrowLimits, NarrowModel, NarrowPolicy, Narrowing,
    narrowing::{check, of_project},
    plain,
};

/// What is wrong, where, and a way out.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    message: String,
    hint: Option<String>,
}

impl ConfigError {
    /// One lowercase line.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// With a way out.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The way out, where there is one.
    pub fn way_out(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Both, for readers who get one line.
    pub fn in_one_line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The environment as we read it: the process's own, under what `--env-file` names.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    file: BTreeMap<String, String>,
}

impl Environment {
    /// The process's own variables, and those of a file where one is named: `NAME=value` lines, `#` comments, optional
    /// quotes and `export`. The process's own win.
    pub fn read(env_file: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = env_file else {
            return Ok(Self::default());
        };
        let text = fs_err::read_to_string(path).map_err(|error| {
            ConfigError::new(format!("failed to read `{}`: {error}", path.display()))
        })?;
        Ok(Self {
            file: text.lines().filter_map(variable).collect(),
        })
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<String> {
        std::env::var(name)
            .ok()
            .or_else(|| self.file.get(name).cloned())
            .filter(|value| !value.is_empty())
    }
}

impl Environment {
    /// What the file says of a variable that the process itself does not have.
    pub fn in_file(&self, name: &str) -> Option<String> {
        let own = std::env::var(name).is_ok();
        self.file
            .get(name)
            .filter(|value| !own && !value.is_empty())
            .cloned()
    }
}

fn variable(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
    let value = value.trim();
    let unquoted = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    Some((name.trim().to_owned(), unquoted.unwrap_or(value).to_owned()))
}

/// What the owner set, in two parts: a project's file stands between them and can only narrow the lower one.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The user's file and a profile of it.
    below: Table,
    /// The environment and flags.
    above: Table,
    /// Each layer by its name, the last one on top.
    named: Vec<(String, Table)>,
}

impl Layers {
    /// Adds the user's file, if it exists.
    pub fn user_file(mut self, path: &Path) -> Result<Self, ConfigError> {
        if let Some(text) = read(path)? {
            let _: Config = checked(&text, path)?;
            let table: Table = checked(&text, path)?;
            self.named.push((path.display().to_string(), table.clone()));
            merge(&mut self.below, table);
        }
        Ok(self)
    }

    /// Adds a profile of the user's file.
    pub fn profile(mut self, name: &str) -> Result<Self, ConfigError> {
        let profiles = self
            .below
            .get("profiles")
            .and_then(Value::as_table)
            .cloned()
            .unwrap_or_default();
        let Some(profile) = profiles.get(name).and_then(Value::as_table) else {
            let known: Vec<String> = profiles.keys().map(|name| format!("`{name}`")).collect();
            let known = if known.is_empty() {
                "there are none".to_owned()
            } else {
                known.join(", ")
            };
            return Err(ConfigError::new(format!("unknown profile `{name}`"))
                .hint(format!("profiles: {known}")));
        };
        self.named
            .push((format!("profile `{name}`"), profile.clone()));
        lay_over(&mut self.below, profile.clone());
        Ok(self)
    }

    /// Adds what the environment sets.
    pub fn environment(mut self, environment: &Environment) -> Self {
        for (variable, key) in [("OPENAI_BASE_URL", "base_url"), ("OPENOXIDE_MODEL", "name")] {
            if let Some(value) = environment.get(variable) {
                let table = nested(&["model", key], Value::String(value));
                self.named.push((variable.to_owned(), table.clone()));
                merge(&mut self.above, table);
            }
        }
        if let Some(tokens) = environment.get("OPENOXIDE_TOKENS") {
            let tokens = tokens.split(',').map(str::trim);
            let tokens = tokens
                .filter(|token| !token.is_empty())
                .map(|token| Value::String(token.to_owned()))
                .collect();
            let table = nested(&["server", "tokens"], Value::Array(tokens));
            self.named
                .push(("OPENOXIDE_TOKENS".to_owned(), table.clone()));
            merge(&mut self.above, table);
        }
        self
    }

    /// Adds what flags set.
    pub fn flags(mut self, flags: impl IntoIterator<Item = Table>) -> Self {
        for flag in flags {
            self.named.push(("a flag".to_owned(), flag.clone()));
            lay_over(&mut self.above, flag);
        }
        self
    }

    /// What the owner set, whatever the project.
    pub fn owner(&self) -> Result<Config, ConfigError> {
        self.over(&Narrowing::default())
    }

    /// What the owner set for `key`, and the name of the layer that did.
    pub fn setting(&self, key: &[&str]) -> Option<(String, &str)> {
        self.named.iter().rev().find_map(|(name, table)| {
            let (first, rest) = key.split_first()?;
            let value = rest
                .iter()
                .try_fold(table.get(*first)?, |value, key| value.get(key))?;
            Some((value.to_string(), name.as_str()))
        })
    }

    /// What holds in `cwd`, whose `.openoxide/config.toml` may narrow.
    pub fn in_project(&self, cwd: &Path) -> Result<Config, ConfigError> {
        let path = cwd.join(".openoxide/config.toml");
        // An error says what stands there, and whoever made the link may not be the one who may read that.
        let real = path.canonicalize().ok().zip(cwd.canonicalize().ok());
        if real
            .as_ref()
            .is_some_and(|(real, top)| !real.starts_with(top))
        {
            return Err(ConfigError::new(format!(
                "config `{}` is a link that leads out of its directory, and is not read",
                shown_line(&path.to_string_lossy())
            )));
        }
        // What was judged, whatever stands there by now.
        let judged = real.as_ref().map_or(&path, |(real, _)| real);
        let Some(text) = read(judged)? else {
            return self.owner();
        };
        let project = of_project(&text, &path)?;
        // What flags have lowered is no reason to refuse a file that was right before.
        check(&project, &path, &[typed(&self.below)?, self.owner()?])?;
        self.over(&project)
    }

    fn over(&self, project: &Narrowing) -> Result<Config, ConfigError> {
        let mut config: Config = typed(&self.below)?;
        config.choose(project);
        let mut whole = self.below.clone();
        merge(&mut whole, chosen(&config)?);
        lay_over(&mut whole, self.above.clone());
        let mut config: Config = typed(&whole)?;
        // Flags stand above what the project chose, and within its bounds.
        config.bound(project);
        Ok(config)
    }
}

/// What a project can choose, as it stands.
fn chosen(config: &Config) -> Result<Table, ConfigError> {
    let Config { policy, model, .. } = config;
    Table::try_from(Narrowing {
        policy: NarrowPolicy {
            sandbox: policy.sandbox,
            approval_policy: policy.approval_policy,
            ..NarrowPolicy::default()
        },
        limits: NarrowLimits::default(),
        model: NarrowModel {
            reasoning_effort: model.reasoning_effort,
        },
        // The bounds: applied once all layers are there.
        mcp_servers: BTreeMap::new(),
    })
    .map_err(|error| ConfigError::new(error.to_string()))
}

fn typed(table: &Table) -> Result<Config, ConfigError> {
    let text = toml::to_string(table).map_err(|error| ConfigError::new(error.to_string()))?;
    toml::from_str(&text)
        .map_err(|error| explain("the configuration from flags and environment", None, &error))
}

/// `a.b=value` as a table. The value is TOML, else a plain string.
pub fn assignment(text: &str) -> Result<Table, ConfigError> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(
            ConfigError::new(format!("`{text}` is not of the form key=value"))
                .hint("for example `-c limits.max_steps=20`"),
        );
    };
    let keys: Vec<&str> = key.trim().split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(ConfigError::new(format!("`{key}` is not a key")));
    }
    let as_toml = toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"));
    let table = nested(
        &keys,
        as_toml.unwrap_or_else(|| Value::String(value.to_owned())),
    );
    let text = toml::to_string(&table).map_err(|error| ConfigError::new(error.to_string()))?;
    let _: Config = toml::from_str(&text)
        .map_err(|error| explain(&format!("`{key}={value}`"), None, &error))?;
    Ok(table)
}

pub(super) fn nested(keys: &[&str], value: Value) -> Table {
    let whole = keys.iter().rev().fold(value, |inner, key| {
        Value::Table([((*key).to_owned(), inner)].into_iter().collect())
    });
    match whole {
        Value::Table(table) => table,
        _ => Table::new(),
    }
}

/// [`merge`], where a layer that says how an external server is reached takes away how another says it is.
fn lay_over(into: &mut Table, from: Table) {
    const PROGRAM: &[&str] = &["command", "args", "env", "cwd"];
    const ADDRESS: &[&str] = &["url", "headers", "bearer_token_env", "oauth"];
    let servers = from.get("mcp_servers").and_then(Value::as_table);
    for (name, given) in servers.into_iter().flatten() {
        let old = into.get_mut("mcp_servers");
        let old = old.and_then(|servers| servers.get_mut(name)?.as_table_mut());
        let gone = match (given.get("command"), given.get("url")) {
            // Arguments are of one program and no other.
            (Some(_), None) => [ADDRESS, &["args"]].concat(),
            (None, Some(_)) => PROGRAM.to_vec(),
            _ => Vec::new(),
        };
        if let Some(old) = old {
            old.retain(|key, _| !gone.contains(&key));
        }
    }
    merge(into, from);
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Bytes; a configuration is written by hand.
const LARGEST_FILE: usize = 256 * 1024;

/// A regular file of a sane size: a pipe or a device in a repository must not hang or fill us.
pub(super) fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let fail = |why: &dyn fmt::Display| {
        ConfigError::new(format!(
            "failed to read config `{}`: {why}",
            shown_line(&path.to_string_lossy())
        ))
    };
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(fail(&error)),
    };
    let bytes = file::read(&real)
        .map_err(|error| fail(&error))?
        .unwrap_or_default();
    if bytes.len() > LARGEST_FILE {
        return Err(fail(&format!("it has {} bytes", bytes.len())));
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| fail(&"it is not UTF-8 text"))
}

fn checked<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        explain(
            &format!(
                "failed to read config `{}`",
                shown_line(&path.to_string_lossy())
            ),
            Some(text),
            &error,
        )
    })
}

/// Puts an error of the TOML reader into our words: which key, which line, and the nearest known one.
fn explain(what: &str, text: Option<&str>, error: &toml::de::Error) -> ConfigError {
    let line = text.map_or(String::new(), |text| line_of(text, error));
    let words = error.message().split('`').skip(1).step_by(2);
    let words: Vec<String> = words.map(str::to_owned).collect();
    let unknown = error.message().starts_with("unknown field");
    match words.split_first() {
        Some((key, known)) if unknown => unknown_key(what, std::slice::from_ref(key), &line, known),
        _ => ConfigError::new(format!(
            "{what}: {}{line}",
            plain(error.message(), "a table")
        )),
    }
}

/// Where in `text` it is, as the end of a sentence.
pub(super) fn line_of(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map(|span| span.start.min(text.len()));
    at.map_or(String::new(), |at| {
        format!(" at line {}", text[..at].matches('\n').count() + 1)
    })
}

/// That the last of `keys` is none of those that are `known`.
pub(super) fn unknown_key(
    what: &str,
    keys: &[String],
    line: &str,
    known: &[String],
) -> ConfigError {
    let key = keys.last().map_or("", |key| key);
    let error = ConfigError::new(format!("{what}: unknown key `{}`{line}", shown_line(key)));
    error.hint(nearest(key, known))
}

/// The one of `known` that `key` was meant to be, or all of them.
pub(super) fn nearest(key: &str, known: &[String]) -> String {
    let likeness = |known: &String| strsim::jaro(key, known);
    let nearest = known
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some(near) if likeness(near) > 0.7 => format!("did you mean `{near}`?"),
        _ => format!("known keys here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::SandboxPolicy;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn an_unknown_key_names_file_line_and_the_nearest_known_one() {
        let (_dir, path) = file("[policy]\nsandbox = \"read-only\"\nsandboxx = 1\n");
        let error = Layers::default().user_file(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "failed to read config `{}`: unknown key `sandboxx` at line 3",
                path.display()
            )
        );
        assert_eq!(error.way_out(), Some("did you mean `sandbox`?"));
    }

    #[test]
    fn a_flag_for_a_server_leaves_what_its_owner_set_and_takes_away_the_other_way_to_it() {
        let (_dir, path) = file(
            "[mcp_servers.s]\ncommand = 'run'\nargs = ['a']\nenv = { A = '1' }\nauto = ['read']\ndeny_tools = ['w*']\ncall_seconds = 7\n",
        );
        let with = |flag: &str| {
            let layers = Layers::default().user_file(&path).unwrap();
            let flag = super::super::of_flag(flag).unwrap();
            let config = layers.flags([flag]).owner().unwrap();
            config.mcp_servers["s"].clone()
        };
        let net = with("s:http:https://h/mcp");
        assert_eq!((net.check(), net.command.clone()), (Ok(()), None));
        assert!(net.args.is_empty() && net.env.is_empty());
        let other = with("s:stdio:other");
        assert_eq!(
            (other.command.as_deref(), other.args.len()),
            (Some("other"), 0)
        );
        assert_eq!(other.env["A"], "1");
        for settings in [net, other] {
            assert_eq!(settings.auto, ["read"]);
            assert_eq!(settings.deny_tools, ["w*"]);
            assert_eq!(settings.call_seconds, 7.0);
        }
    }

    #[test]
    fn later_layers_win_and_leave_the_rest() {
        let (_dir, path) = file(
            "[model]\nname = \"a\"\n[limits]\nmax_steps = 7\n[profiles.fast.model]\nname = \"b\"\n",
        );
        let layers = Layers::default()
            .user_file(&path)
            .unwrap()
            .profile("fast")
            .unwrap();
        let config = layers
            .flags([assignment("limits.max_seconds=5").unwrap()])
            .owner()
            .unwrap();
        assert_eq!(
            (config.model.name.as_str(), config.limits.max_steps),
            ("b", 7)
        );
        assert_eq!(config.limits.max_seconds, 5.0);
    }

    /// A directory whose project file says this.
    fn project(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".openoxide")).unwrap();
        std::fs::write(dir.path().join(".openoxide/config.toml"), text).unwrap();
        dir
    }

    fn flags(set: &[&str]) -> Layers {
        Layers::default().flags(set.iter().map(|set| assignment(set).unwrap()))
    }

    #[test]
    fn a_project_bounds_flags_and_they_choose_again() {
        let dir = project(
            "limits = {max_steps = 30, max_tokens = 9}\npolicy = {sandbox = 'read-only', network = false}\n",
        );
        let config = flags(&[
            "limits.max_tokens=50",
            "limits.max_steps=5",
            "policy.network=true",
        ]);
        let config = config.in_project(dir.path()).unwrap();
        assert_eq!((config.limits.max_steps, config.limits.max_tokens), (5, 9));
        assert!(!config.policy.network && config.policy.offline);
        assert_eq!(config.policy.sandbox, Some(SandboxPolicy::ReadOnly));
        let config = flags(&["policy.sandbox='workspace-write'"])
            .in_project(dir.path())
            .unwrap();
        assert_eq!(config.policy.sandbox, Some(SandboxPolicy::WorkspaceWrite));
    }

    #[test]
    fn what_would_widen_is_an_error_in_a_project_that_says_who_sets_it() {
        for (text, owner, key) in [
            ("limits.max_steps = 201", &[][..], "limits.max_steps"),
            ("limits.max_seconds = inf", &[], "limits.max_seconds"),
            ("limits.max_tokens = 11", &["limits.max_tokens=10"], ""),
            ("policy.network = true", &[], "policy.network"),
            ("policy.network = true", &["policy.network=true"], ""),
            (
                "policy.sandbox = 'danger-full-access'",
                &[],
                "policy.sandbox",
            ),
            (
                "policy.sandbox = 'workspace-write'",
                &["policy.sandbox='read-only'"],
                "",
            ),
            ("policy.approval_policy = 'never'", &[], ""),
        ] {
            let dir = project(text);
            match (flags(owner).in_project(dir.path()), key) {
                (Ok(_), "") => {}
                (Ok(_), _) => panic!("{text}"),
                (Err(error), key) => {
                    let words = error.in_one_line();
                    let has = |word: &str| words.contains(word);
                    assert!(!key.is_empty() && has(key), "{text}: {words}");
                    assert!(has("config.toml") && has("only the owner"), "{words}");
                    assert!(has("your own configuration file"), "{words}");
                }
            }
        }
        let (_dir, path) = file("policy.approval_policy = 'untrusted'\n");
        let strict = Layers::default().user_file(&path).unwrap();
        let looser = project("policy.approval_policy = 'never'");
        let error = strict.in_project(looser.path()).unwrap_err();
        assert!(
            error.to_string().contains("policy.approval_policy"),
            "{error}"
        );
    }

    #[test]
    fn a_key_that_is_not_for_a_project_is_told_from_one_that_is_none() {
        for (text, expect) in [
            (
                "\n[model]\nbase_url = 'x'",
                "`base_url` of `model` at line 3 is not for a project",
            ),
            (
                "policy.allow = ['git push']",
                "`allow` of `policy` at line 1 is not for a project",
            ),
            (
                "policy.writable_roots = ['x']",
                "`writable_roots` of `policy` is not for a project",
            ),
            (
                "[server]\nhttp = 'x'",
                "`server` at line 1 is not for a project",
            ),
            (
                "[profiles.a]\nx = 1",
                "`profiles` at line 1 is not for a project",
            ),
        ] {
            let error = Layers::default()
                .in_project(project(text).path())
                .unwrap_err();
            assert!(error.to_string().contains(expect), "{error}");
            assert!(
                error.to_string().contains("only the owner sets it"),
                "{error}"
            );
        }
        for (text, key, near) in [
            (
                "\n[limits]\nmax_step = 1",
                "unknown key `max_step` at line 3",
                "`max_steps`",
            ),
            (
                "policy.sandboxx = 1",
                "unknown key `sandboxx` at line 1",
                "`sandbox`",
            ),
            (
                "model.base_ur = 1",
                "unknown key `base_ur` at line 1",
                "`base_url`",
            ),
            (
                "[polic]\nx = 1",
                "unknown key `polic` at line 1",
                "`policy`",
            ),
        ] {
            let error = Layers::default()
                .in_project(project(text).path())
                .unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
            assert_eq!(error.way_out(), Some(&*format!("did you mean {near}?")));
        }
    }

    #[test]
    fn a_call_is_told_the_same_of_its_config() {
        let told = |config: serde_json::Value| {
            let config = config.as_object().unwrap().clone();
            super::super::of_call(config).map_err(|error| error.in_one_line())
        };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for (config, words) in [
            (
                r#"{"model": {"base_url": "x"}}"#,
                &["`model.base_url`", "only the owner of this server"][..],
            ),
            (
                r#"{"mcp_servers": {"a": {"command": "x"}}}"#,
                &["`mcp_servers.a.command`", "only the owner"],
            ),
            (
                r#"{"limits": {"max_stepz": 1}}"#,
                &["unknown key `limits.max_stepz`", "`max_steps`"],
            ),
            (r#"{"limits": 5}"#, &["`limits`", "expected an object"]),
            (
                r#"{"limits": {"max_steps": "x"}}"#,
                &["`limits.max_steps`", "expected a whole number"],
            ),
        ] {
            let error = told(json(config)).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
            assert!(
                !error.contains("struct") && !error.contains("u64"),
                "{error}"
            );
        }
        let roots = told(json(r#"{"policy": {"writable_roots": ["a"]}}"#)).unwrap();
        assert_eq!(roots.policy.writable_roots, [Path::new("a")]);
    }

    #[test]
    fn a_project_file_from_elsewhere_is_not_read() {
        let (_elsewhere, secrets) = file("password = 5\n");
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".openoxide")).unwrap();
        let path = dir.path().join(".openoxide/config.toml");
        std::os::unix::fs::symlink(secrets, &path).unwrap();
        let error = Layers::default().in_project(dir.path()).unwrap_err();
        assert!(error.to_string().contains("leads out"), "{error}");
        assert!(!error.to_string().contains("password"), "{error}");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(dir.path().join("mine.toml"), "limits.max_steps = 3\n").unwrap();
        std::os::unix::fs::symlink("../mine.toml", &path).unwrap();
        let config = Layers::default().in_project(dir.path()).unwrap();
        assert_eq!(config.limits.max_steps, 3);
    }

    #[test]
    fn a_project_denies_commands_and_allows_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".openoxide")).unwrap();
        let path = dir.path().join(".openoxide/config.toml");
        std::fs::write(&path, "policy.deny = [\"git push\"]\n").unwrap();
        let config = Layers::default()
            .flags([assignment("policy.deny=['rm']").unwrap()])
            .in_project(dir.path())
            .unwrap();
        assert_eq!(config.policy.deny, ["rm", "git push"]);
        std::fs::write(&path, "policy.allow = [\"git push\"]\n").unwrap();
        let error = Layers::default().in_project(dir.path()).unwrap_err();
        assert!(error.to_string().contains("`allow`"), "{error}");
    }

    #[test]
    fn a_value_is_toml_or_else_text() {
        let config = Layers::default()
            .flags([
                assignment("model.name=gpt-x").unwrap(),
                assignment("policy.sandbox='read-only'").unwrap(),
            ])
            .owner()
            .unwrap();
        assert_eq!(
            (config.model.name.as_str(), config.policy.sandbox),
            ("gpt-x", Some(SandboxPolicy::ReadOnly))
        );
        assert!(
            assignment("limits.max_stepz=1")
                .unwrap_err()
                .way_out()
                .unwrap()
                .contains("max_steps")
        );
        assert!(assignment("nonsense").is_err());
    }

    #[test]
    fn an_env_file_is_read_as_shells_write_it() {
        let (_dir, path) =
            file("# c\nexport OPENOXIDE_TEST_A=\"x y\"\nOPENOXIDE_TEST_B = 'z'\nnot a line\n");
        let environment = Environment::read(Some(&path)).unwrap();
        assert_eq!(environment.get("OPENOXIDE_TEST_A").as_deref(), Some("x y"));
        assert_eq!(environment.get("OPENOXIDE_TEST_B").as_deref(), Some("z"));
    }
}
