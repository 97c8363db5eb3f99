//! External servers as people have them already: the JSON files of other clients, one flag for one server, and what a
//! project names in its `.mcp.json`.
//!
//! Shapes: `{"mcpServers": {NAME: {…}}}` (Claude, Cursor), `{"servers": {NAME: {…}}}` (VS Code) and
//! `{"servers": [{"name": …}]}`. Keys of other clients that mean nothing here are passed over; our own work too.

use std::{cell::RefCell, collections::BTreeMap, path::Path};

use serde_json::{Map, Value};

use super::layers::{ConfigError, read};
use crate::{conversation::shown_line, tools::mcp::Settings};

/// What a file names: the servers that can be understood, and a word about each that cannot, with file and name.
#[derive(Debug)]
pub struct Named<T> {
    /// Those that can.
    pub servers: T,
    /// What somebody should know of the others; the rest of the file holds without them.
    pub warnings: Vec<String>,
}

/// The servers of a file that the owner names, as a layer of configuration that has only the keys which are given there.
/// `${NAME}` and `${NAME:-default}` in its texts are variables of `variable`.
pub fn of_file(
    path: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Named<toml::Table>, ConfigError> {
    let named = servers(path, |mut given| {
        if is_off(&given) {
            let known = read_as_settings(&given).is_ok();
            let off = Map::from_iter([("enabled".to_owned(), false.into())]);
            return Ok(if known { given } else { off });
        }
        fill(&mut given, &variable)?;
        usable(given.clone())?;
        Ok(given)
    })?;
    let Named { servers, warnings } = named.ok_or_else(|| fail(path, &"there is no such file"))?;
    let servers = layer(servers)?;
    Ok(Named { servers, warnings })
}

/// What the `.mcp.json` of a project names, variables and all as it is written. Nothing of it is believed yet.
pub fn named_in_project(cwd: &Path) -> Result<Named<BTreeMap<String, Settings>>, ConfigError> {
    let named = servers(&cwd.join(".mcp.json"), usable)?;
    Ok(named.unwrap_or_else(|| Named {
        servers: BTreeMap::new(),
        warnings: Vec::new(),
    }))
}

/// `NAME:TRANSPORT:TARGET` as a layer of configuration: `git:stdio:uvx mcp-server-git`, `docs:http:https://host/mcp`.
/// The target of a program is split at blanks; quotes hold words together and nothing else has a meaning.
pub fn of_flag(text: &str) -> Result<toml::Table, ConfigError> {
    let form = || {
        ConfigError::new(format!("`{text}` is not of the form NAME:TRANSPORT:TARGET"))
            .hint("for example `--mcp-server time:stdio:\"uvx mcp-server-time\"` or `--mcp-server docs:http:https://host/mcp`")
    };
    let mut parts = text.splitn(3, ':');
    let (Some(name), Some(transport), Some(target)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(form());
    };
    if name.is_empty() || target.trim().is_empty() {
        return Err(form());
    }
    let given = match transport {
        "stdio" => {
            let mut words = words(target).ok_or_else(|| {
                ConfigError::new(format!("`{target}` has a quote that does not end"))
            })?;
            let command = words.remove(0);
            Map::from_iter([
                ("command".to_owned(), command.into()),
                ("args".to_owned(), words.into()),
            ])
        }
        "http" | "streamable-http" | "ws" | "websocket" => {
            Map::from_iter([("url".to_owned(), target.into())])
        }
        other => {
            return Err(ConfigError::new(unspoken(other)).hint("`stdio`, `http` or `websocket`"));
        }
    };
    usable(given.clone()).map_err(|why| ConfigError::new(format!("`{text}`: {why}")))?;
    layer(BTreeMap::from([(name.to_owned(), given)]))
}

/// What is given, as settings that somebody could be started or spoken with by. What is disabled is not judged.
fn usable(given: Map<String, Value>) -> Result<Settings, String> {
    if is_off(&given) {
        return Ok(Settings {
            enabled: false,
            ..read_as_settings(&given).unwrap_or_default()
        });
    }
    let settings = read_as_settings(&given)?;
    settings.check()?;
    Ok(settings)
}

fn is_off(given: &Map<String, Value>) -> bool {
    given.get("enabled") == Some(&Value::Bool(false))
}

fn read_as_settings(given: &Map<String, Value>) -> Result<Settings, String> {
    serde_json::from_value(Value::Object(given.clone())).map_err(|error| error.to_string())
}

fn unspoken(transport: &str) -> String {
    format!(
        "the transport `{}` is not spoken here",
        shown_line(transport)
    )
}

/// Only what is given: what is not must not take the place of what the owner has set elsewhere.
fn layer(servers: BTreeMap<String, Map<String, Value>>) -> Result<toml::Table, ConfigError> {
    let servers =
        toml::Value::try_from(servers).map_err(|error| ConfigError::new(error.to_string()))?;
    Ok(toml::Table::from_iter([(
        "mcp_servers".to_owned(),
        servers,
    )]))
}

/// At least one word; none for a quote that does not end.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (quote.is_none() && !words.is_empty()).then_some(words)
}

/// The servers of a JSON file, each as `read` makes it out; none where the file is not there.
fn servers<T>(
    path: &Path,
    read_one: impl Fn(Map<String, Value>) -> Result<T, String>,
) -> Result<Option<Named<BTreeMap<String, T>>>, ConfigError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    let whole: Value = serde_json::from_str(&text).map_err(|error| fail(path, &error))?;
    let (mut servers, mut warnings) = (BTreeMap::new(), Vec::new());
    for (name, entry) in entries(&whole).map_err(|why| fail(path, &why))? {
        match entry.and_then(given).and_then(&read_one) {
            Ok(server) => drop(servers.insert(name, server)),
            Err(why) => {
                let why = format!("server `{}` is left out: {why}", shown_line(&name));
                warnings.push(fail(path, &why).to_string());
            }
        }
    }
    Ok(Some(Named { servers, warnings }))
}

fn fail(path: &Path, why: &dyn std::fmt::Display) -> ConfigError {
    let path = shown_line(&path.to_string_lossy());
    ConfigError::new(format!("failed to read MCP servers from `{path}`: {why}"))
}

/// What a file says of one server, or why that cannot be read.
type Entry = Result<Value, String>;

fn entries(whole: &Value) -> Result<Vec<(String, Entry)>, String> {
    let named = |(place, server): (usize, &Value)| match server["name"].as_str() {
        Some(name) => (name.to_owned(), Ok(server.clone())),
        None => (
            format!("number {}", place + 1),
            Err("it has no `name`".to_owned()),
        ),
    };
    match whole.get("mcpServers").or_else(|| whole.get("servers")) {
        Some(Value::Object(map)) => Ok(map
            .clone()
            .into_iter()
            .map(|(name, server)| (name, Ok(server)))
            .collect()),
        Some(Value::Array(list)) => Ok(list.iter().enumerate().map(named).collect()),
        _ => Err("it has neither `mcpServers` nor `servers`".to_owned()),
    }
}

/// What is said of one server in our words, whoever's client it was written for.
fn given(server: Value) -> Result<Map<String, Value>, String> {
    let Value::Object(server) = server else {
        return Err("it is not an object".to_owned());
    };
    const OURS: [&str; 13] = [
        "command",
        "args",
        "env",
        "cwd",
        "url",
        "headers",
        "bearer_token_env",
        "enabled",
        "protocol",
        "startup_seconds",
        "call_seconds",
        "deny_tools",
        "auto",
    ];
    let mut ours: Map<String, Value> = server
        .iter()
        .filter(|(key, _)| OURS.contains(&key.as_str()) || *key == "tools")
        // For many the same as to say nothing.
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if let Some(url) = server.get("httpUrl").or_else(|| server.get("serverUrl")) {
        ours.entry("url").or_insert_with(|| url.clone());
    }
    if server.get("disabled") == Some(&Value::Bool(true)) {
        ours.insert("enabled".to_owned(), false.into());
    }
    // Some clients write one list for program and arguments.
    if let Some(Value::Array(list)) = ours.get("command").cloned() {
        let mut list = list.into_iter();
        ours.insert("command".to_owned(), list.next().unwrap_or_default());
        ours.entry("args").or_insert_with(|| list.collect());
    }
    if is_off(&ours) {
        return Ok(ours);
    }
    if let Some(transport) = server.get("transport").or_else(|| server.get("type")) {
        let known = [
            "stdio",
            "local",
            "http",
            "streamable-http",
            "streamableHttp",
            "streamable_http",
            "remote",
            "ws",
            "websocket",
        ];
        let transport = transport.as_str().unwrap_or("?");
        if !known.contains(&transport) {
            return Err(unspoken(transport));
        }
    }
    // Values of other kinds where text belongs are written as they are.
    if let Some(Value::Object(env)) = ours.get_mut("env") {
        for value in env.values_mut().filter(|value| !value.is_string()) {
            *value = value.to_string().into();
        }
    }
    Ok(ours)
}

/// `settings` with its variables filled in.
pub fn expand(
    settings: &Settings,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Settings, String> {
    let Ok(Value::Object(mut given)) = serde_json::to_value(settings) else {
        return Err("its settings cannot be read again".to_owned());
    };
    fill(&mut given, variable)?;
    read_as_settings(&given)
}

/// The variables whose values [`expand`] puts into `settings`, each once.
pub fn variables(settings: &Settings) -> Vec<String> {
    let names = RefCell::new(Vec::new());
    let noted = |name: &str| {
        let mut names = names.borrow_mut();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        Some(String::new())
    };
    // Each has a value here, so nothing is missing.
    let _ = expand(settings, &noted);
    names.into_inner()
}

/// Fills in the variables of all texts that may have some.
fn fill(
    given: &mut Map<String, Value>,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    for key in ["command", "url", "args", "env", "headers"] {
        let texts: Vec<&mut Value> = match given.get_mut(key) {
            Some(Value::Array(list)) => list.iter_mut().collect(),
            Some(Value::Object(map)) => map.values_mut().collect(),
            one => one.into_iter().collect(),
        };
        for text in texts {
            if let Value::String(text) = text {
                *text = filled(text, variable)?;
            }
        }
    }
    Ok(())
}

fn filled(text: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((inside, behind)) = after.split_once('}') else {
            break;
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (inside, None),
        };
        let name = name.strip_prefix("env:").unwrap_or(name);
        let value = variable(name).or(default);
        out.push_str(before);
        out.push_str(&value.ok_or_else(|| format!("the variable `{name}` is not set"))?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mcp.json");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn read_of(text: &str) -> Result<BTreeMap<String, Settings>, ConfigError> {
        let (_dir, path) = file(text);
        let named = of_file(&path, |name| (name == "SET").then(|| "value".to_owned()))?;
        match named.warnings.first() {
            None => Ok(named.servers["mcp_servers"].clone().try_into().unwrap()),
            Some(warning) => Err(ConfigError::new(warning)),
        }
    }

    #[test]
    fn the_shapes_of_other_clients_are_read() {
        let program = Settings {
            command: Some("npx".to_owned()),
            args: vec!["-y".to_owned(), "server".to_owned()],
            ..Settings::default()
        };
        for text in [
            r#"{"mcpServers": {"s": {"command": "npx", "args": ["-y", "server"], "timeout": 9, "alwaysAllow": ["x"]}}}"#,
            r#"{"servers": {"s": {"type": "stdio", "command": "npx", "args": ["-y", "server"]}}, "inputs": []}"#,
            r#"{"servers": [{"name": "s", "transport": "stdio", "command": "npx", "args": ["-y", "server"], "enabled": true}]}"#,
            r#"{"mcpServers": {"s": {"type": "local", "command": ["npx", "-y", "server"]}}}"#,
        ] {
            assert_eq!(read_of(text).unwrap()["s"], program, "{text}");
        }
        let off = read_of(r#"{"mcpServers": {"s": {"url": "http://h/mcp", "disabled": true}}}"#);
        let off = &off.unwrap()["s"];
        assert_eq!(
            (off.url.as_deref(), off.enabled),
            (Some("http://h/mcp"), false)
        );
    }

    #[test]
    fn variables_are_filled_in_and_a_missing_one_is_named() {
        let read = read_of(
            r#"{"mcpServers": {"s": {"command": "x", "env": {"A": "${SET}", "B": "${NOT:-b}", "N": 1}}}}"#,
        );
        let env = read.unwrap()["s"].env.clone();
        assert_eq!(env.values().collect::<Vec<_>>(), ["value", "b", "1"]);
        let error = read_of(r#"{"mcpServers": {"s": {"command": "x", "args": ["${GONE}"]}}}"#);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .ends_with("server `s` is left out: the variable `GONE` is not set")
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file_and_the_server() {
        for (text, expect) in [
            ("{", "EOF while parsing"),
            ("{}", "neither `mcpServers` nor `servers`"),
            (
                r#"{"servers": [{"command": "x"}]}"#,
                "server `number 1` is left out: it has no `name`",
            ),
            (
                r#"{"mcpServers": {"s": {}}}"#,
                "server `s` is left out: it has neither `command` nor `url`",
            ),
            (
                r#"{"mcpServers": {"s": {"type": "sse", "url": "http://h"}}}"#,
                "`sse` is not spoken here",
            ),
            (
                r#"{"mcpServers": {"s": {"command": "x", "args": "y"}}}"#,
                "server `s` is left out: invalid type",
            ),
        ] {
            let error = read_of(text).unwrap_err().to_string();
            assert!(
                error.contains(expect) && error.contains("mcp.json"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_bad_entry_costs_only_itself_and_a_disabled_one_is_not_judged() {
        let (_dir, path) = file(
            r#"{"mcpServers": {"good": {"command": "x"}, "bad": {}, "odd": 7,
                "off": {"type": "sse", "args": "y", "url": "${GONE}", "disabled": true}}}"#,
        );
        let named = of_file(&path, |_| None).unwrap();
        let expect: toml::Table =
            toml::from_str("[mcp_servers]\ngood.command = 'x'\noff.enabled = false\n").unwrap();
        assert_eq!(named.servers, expect);
        let warnings = named.warnings.join("\n");
        assert_eq!(named.warnings.len(), 2, "{warnings}");
        for part in ["mcp.json", "`bad`", "`odd`"] {
            assert!(warnings.contains(part), "no {part} in {warnings}");
        }
        let (dir, path) = file("");
        let text = r#"{"mcpServers": {"good": {"command": "x"}, "bad": {"type": "sse"}}}"#;
        std::fs::rename(&path, dir.path().join(".mcp.json")).unwrap();
        std::fs::write(dir.path().join(".mcp.json"), text).unwrap();
        let named = named_in_project(dir.path()).unwrap();
        assert!(named.servers.contains_key("good") && named.servers.len() == 1);
        assert!(named.warnings[0].contains("`bad`") && named.warnings[0].contains(".mcp.json"));
    }

    #[test]
    fn the_variables_of_a_server_are_known_before_they_are_filled_in() {
        let settings = Settings {
            url: Some("https://h/${A}".to_owned()),
            headers: [("x".to_owned(), "${env:B} ${A} ${C:-c}".to_owned())].into(),
            ..Settings::default()
        };
        assert_eq!(variables(&settings), ["A", "B", "C"]);
    }

    #[test]
    fn a_flag_is_one_server_and_no_shell_line() {
        let settings = |text: &str| -> Result<Settings, ConfigError> {
            Ok(of_flag(text)?["mcp_servers"]["s"]
                .clone()
                .try_into()
                .unwrap())
        };
        let program = settings("s:stdio:run 'a b' $HOME; \"\"").unwrap();
        assert_eq!(program.command.as_deref(), Some("run"));
        assert_eq!(program.args, ["a b", "$HOME;", ""]);
        let given = of_flag("s:http:https://h/mcp").unwrap();
        let given = given["mcp_servers"]["s"].as_table().unwrap();
        assert_eq!(
            given.keys().collect::<Vec<_>>(),
            ["url"],
            "and nothing else"
        );
        let url = settings("s:http:https://h:8080/mcp").unwrap().url;
        assert_eq!(url.as_deref(), Some("https://h:8080/mcp"));
        let url = settings("s:websocket:ws://h/ws").unwrap().url;
        assert_eq!(url.as_deref(), Some("ws://h/ws"));
        for wrong in [
            "s",
            "s:stdio",
            "s:stdio: ",
            ":stdio:x",
            "s:sse:http://h",
            "s:stdio:'x",
            "s:http:x",
        ] {
            assert!(settings(wrong).is_err(), "{wrong}");
        }
    }
}
