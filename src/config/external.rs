//! External servers as people have them already: the JSON files of other clients, one flag for one server, and what a
//! project names in its `.mcp.json`.
//!
//! Shapes: `{"mcpServers": {NAME: {…}}}` (Claude, Cursor), `{"servers": {NAME: {…}}}` (VS Code) and
//! `{"servers": [{"name": …}]}`. Keys of other clients that mean nothing here are passed over; our own work too.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value};

use super::layers::{ConfigError, read};
use crate::{conversation::shown_line, tools::mcp::Settings};

/// The servers of a file that the owner names, as a layer of configuration. `${NAME}` and `${NAME:-default}` in its
/// texts are variables of `variable`.
pub fn of_file(
    path: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<toml::Table, ConfigError> {
    let named = servers(path)?.ok_or_else(|| fail(path, &"there is no such file"))?;
    let mut expanded = BTreeMap::new();
    for (name, settings) in named {
        let settings = expand(settings, &variable)
            .map_err(|why| fail(path, &format!("server `{}`: {why}", shown_line(&name))))?;
        settings
            .check()
            .map_err(|why| fail(path, &format!("server `{}`: {why}", shown_line(&name))))?;
        expanded.insert(name, settings);
    }
    layer(&expanded)
}

/// What the `.mcp.json` of a project names, variables and all as it is written. Nothing of it is believed yet.
pub fn named_in_project(cwd: &Path) -> Result<BTreeMap<String, Settings>, ConfigError> {
    Ok(servers(&cwd.join(".mcp.json"))?.unwrap_or_default())
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
    let mut settings = Settings::default();
    match transport {
        "stdio" => {
            let mut words = words(target).ok_or_else(|| {
                ConfigError::new(format!("`{target}` has a quote that does not end"))
            })?;
            settings.command = Some(words.remove(0));
            settings.args = words;
        }
        "http" | "streamable-http" => settings.url = Some(target.to_owned()),
        other => return Err(ConfigError::new(unspoken(other)).hint("`stdio` or `http`")),
    }
    settings
        .check()
        .map_err(|why| ConfigError::new(format!("`{text}`: {why}")))?;
    layer(&BTreeMap::from([(name.to_owned(), settings)]))
}

fn unspoken(transport: &str) -> String {
    format!(
        "the transport `{}` is not spoken here",
        shown_line(transport)
    )
}

fn layer(servers: &BTreeMap<String, Settings>) -> Result<toml::Table, ConfigError> {
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

/// The servers of a JSON file; none where it is not there.
fn servers(path: &Path) -> Result<Option<BTreeMap<String, Settings>>, ConfigError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    let whole: Value = serde_json::from_str(&text).map_err(|error| fail(path, &error))?;
    let mut servers = BTreeMap::new();
    for (name, server) in entries(&whole).map_err(|why| fail(path, &why))? {
        let named = |why: String| fail(path, &format!("server `{}`: {why}", shown_line(&name)));
        let server = server
            .as_object()
            .ok_or_else(|| named("it is not an object".to_owned()))?;
        servers.insert(name.clone(), settings(server).map_err(named)?);
    }
    Ok(Some(servers))
}

fn fail(path: &Path, why: &dyn std::fmt::Display) -> ConfigError {
    let path = shown_line(&path.to_string_lossy());
    ConfigError::new(format!("failed to read MCP servers from `{path}`: {why}"))
}

fn entries(whole: &Value) -> Result<Vec<(String, Value)>, String> {
    match whole.get("mcpServers").or_else(|| whole.get("servers")) {
        Some(Value::Object(map)) => Ok(map.clone().into_iter().collect()),
        Some(Value::Array(list)) => list
            .iter()
            .map(|server| {
                let name = server["name"].as_str().ok_or("a server has no `name`")?;
                Ok((name.to_owned(), server.clone()))
            })
            .collect(),
        _ => Err("it has neither `mcpServers` nor `servers`".to_owned()),
    }
}

/// One server, whoever's client it was written for.
fn settings(server: &Map<String, Value>) -> Result<Settings, String> {
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
    if let Some(transport) = server.get("transport").or_else(|| server.get("type")) {
        let known = [
            "stdio",
            "local",
            "http",
            "streamable-http",
            "streamableHttp",
            "streamable_http",
            "remote",
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
    serde_json::from_value(Value::Object(ours)).map_err(|error| error.to_string())
}

/// `settings` with its variables filled in.
pub fn expand(
    mut settings: Settings,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Settings, String> {
    let command = settings.command.iter_mut();
    let url = settings.url.iter_mut();
    let maps = settings
        .env
        .values_mut()
        .chain(settings.headers.values_mut());
    for text in command
        .chain(url)
        .chain(settings.args.iter_mut())
        .chain(maps)
    {
        *text = filled(text, variable)?;
    }
    Ok(settings)
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
        let table = of_file(&path, |name| (name == "SET").then(|| "value".to_owned()))?;
        Ok(table["mcp_servers"].clone().try_into().unwrap())
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
                .ends_with("server `s`: the variable `GONE` is not set")
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file_and_the_server() {
        for (text, expect) in [
            ("{", "EOF while parsing"),
            ("{}", "neither `mcpServers` nor `servers`"),
            (
                r#"{"servers": [{"command": "x"}]}"#,
                "a server has no `name`",
            ),
            (
                r#"{"mcpServers": {"s": {}}}"#,
                "server `s`: it has neither `command` nor `url`",
            ),
            (
                r#"{"mcpServers": {"s": {"type": "sse", "url": "http://h"}}}"#,
                "`sse` is not spoken here",
            ),
            (
                r#"{"mcpServers": {"s": {"command": "x", "args": "y"}}}"#,
                "server `s`: invalid type",
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
        let url = settings("s:http:https://h:8080/mcp").unwrap().url;
        assert_eq!(url.as_deref(), Some("https://h:8080/mcp"));
        for wrong in [
            "s",
            "s:stdio",
            "s:stdio: ",
            ":stdio:x",
            "s:ws:ws://h",
            "s:stdio:'x",
            "s:http:x",
        ] {
            assert!(settings(wrong).is_err(), "{wrong}");
        }
    }
}
