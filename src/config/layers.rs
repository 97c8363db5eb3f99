//! From files, environment and flags to one [`Config`], each layer checked by itself so that an error names its place.

use std::{collections::BTreeMap, fmt, io, path::Path};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::{conversation::shown_line, workspace::file};

use super::{Config, NarrowLimits, NarrowModel, NarrowPolicy, Narrowing};

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
        if real.is_some_and(|(real, top)| !real.starts_with(top)) {
            return Err(ConfigError::new(format!(
                "config `{}` is a link that leads out of its directory, and is not read",
                shown_line(&path.to_string_lossy())
            )));
        }
        let Some(text) = read(&path)? else {
            return self.owner();
        };
        let project: Narrowing = checked(&text, &path).map_err(|error| {
            error.hint(
                "a project file may lower `limits`, choose a stricter `policy`, add to `policy.deny` and `deny_tools`, disable one of \
                 `mcp_servers` and set `model.reasoning_effort`; the rest belongs to your own configuration file",
            )
        })?;
        self.over(&project)
    }

    fn over(&self, project: &Narrowing) -> Result<Config, ConfigError> {
        let mut config: Config = typed(&self.below)?;
        config.narrow(project);
        let mut whole = self.below.clone();
        merge(&mut whole, narrowed(&config)?);
        lay_over(&mut whole, self.above.clone());
        let mut config: Config = typed(&whole)?;
        // What flags deny comes on top of what the project denies, not in its place.
        config
            .policy
            .deny
            .extend(project.policy.deny.iter().cloned());
        config.narrow_servers(project);
        Ok(config)
    }
}

/// The keys that a project can narrow, as they stand.
fn narrowed(config: &Config) -> Result<Table, ConfigError> {
    let Config {
        policy,
        limits,
        model,
        ..
    } = config;
    Table::try_from(Narrowing {
        policy: NarrowPolicy {
            sandbox: policy.sandbox,
            approval_policy: policy.approval_policy,
            deny: Vec::new(),
            network: Some(policy.network),
        },
        limits: NarrowLimits {
            max_steps: Some(limits.max_steps),
            max_seconds: Some(limits.max_seconds),
            max_tokens: Some(limits.max_tokens),
        },
        model: NarrowModel {
            reasoning_effort: model.reasoning_effort,
        },
        // Applied once all layers are there.
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

fn nested(keys: &[&str], value: Value) -> Table {
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
    let line = text
        .zip(error.span())
        .map(|(text, span)| {
            format!(
                " at line {}",
                text[..span.start.min(text.len())].matches('\n').count() + 1
            )
        })
        .unwrap_or_default();
    let words: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
    let unknown = error.message().starts_with("unknown field");
    match words.split_first() {
        Some((key, known)) if unknown => {
            let nearest = known
                .iter()
                .max_by(|a, b| strsim::jaro(key, a).total_cmp(&strsim::jaro(key, b)));
            let error = ConfigError::new(format!("{what}: unknown key `{key}`{line}"));
            match nearest {
                Some(near) if strsim::jaro(key, near) > 0.7 => {
                    error.hint(format!("did you mean `{near}`?"))
                }
                _ => error.hint(format!("known keys here: {}", known.join(", "))),
            }
        }
        _ => ConfigError::new(format!(
            "{what}: {}{line}",
            error.message().lines().next().unwrap_or_default()
        )),
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

    #[test]
    fn a_project_only_narrows_and_flags_stand_above_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".openoxide")).unwrap();
        let path = dir.path().join(".openoxide/config.toml");
        std::fs::write(&path, "limits.max_steps = 9999\nlimits.max_tokens = 9\npolicy.sandbox = \"danger-full-access\"\n").unwrap();
        let layers = Layers::default();
        let config = layers.in_project(dir.path()).unwrap();
        assert_eq!(
            (config.limits.max_steps, config.limits.max_tokens),
            (200, 9)
        );
        assert_eq!(config.policy.sandbox, Some(SandboxPolicy::WorkspaceWrite));
        let flagged = layers
            .clone()
            .flags([assignment("limits.max_tokens=50").unwrap()]);
        assert_eq!(
            flagged.in_project(dir.path()).unwrap().limits.max_tokens,
            50
        );
        std::fs::write(&path, "[model]\nbase_url = \"http://evil\"\n").unwrap();
        let error = layers.in_project(dir.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("unknown key `base_url` at line 2"),
            "{error}"
        );
        assert!(
            error
                .way_out()
                .unwrap()
                .contains("your own configuration file")
        );
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
        assert!(
            error.to_string().contains("unknown key `allow` at line 1"),
            "{error}"
        );
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
