//! `openoxide setup`: what is printed for each client parses, and starts this server as it says.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    client::{Client, NEWEST_SESSION},
    home::{Home, Ran, run},
};

/// Name, the file it goes to, and where the server stands in the configuration.
const CLIENTS: [(&str, &str, &str); 10] = [
    ("claude-code", ".mcp.json", "mcpServers"),
    ("claude-desktop", "claude_desktop_config.json", "mcpServers"),
    ("vscode", ".vscode/mcp.json", "servers"),
    ("cursor", ".cursor/mcp.json", "mcpServers"),
    ("zed", "settings.json", "context_servers"),
    ("codex", ".codex/config.toml", "mcp_servers"),
    ("gemini", ".gemini/settings.json", "mcpServers"),
    ("opencode", "opencode.json", "mcp"),
    ("goose", "config.yaml", "extensions"),
    ("jetbrains", "AI Assistant", "mcpServers"),
];

fn printed(home: &Home, client: &str, more: &[&str]) -> Ran {
    let arguments = [&["setup", client], more].concat();
    run(home.openoxide(&arguments)).expect(0)
}

/// The configuration, read as what it claims to be.
fn parsed(client: &str, text: &str) -> Value {
    match client {
        "codex" => toml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
        "goose" => yaml(text),
        _ => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
    }
}

/// The YAML that we print: nested maps by two spaces, and values that are JSON or a bare word. No more is accepted.
fn yaml(text: &str) -> Value {
    let mut whole = json!({});
    let mut path: Vec<String> = Vec::new();
    for line in text.lines() {
        let inside = line.trim_start_matches(' ');
        let depth = (line.len() - inside.len()) / 2;
        let (name, value) = inside.split_once(':').expect("a key");
        path.truncate(depth);
        path.push(name.to_owned());
        let value = match value.trim() {
            "" => json!({}),
            "[OPENAI_API_KEY]" => json!(["OPENAI_API_KEY"]),
            value => serde_json::from_str(value).unwrap_or_else(|_| {
                assert!(value.chars().all(char::is_alphanumeric), "{value}");
                json!(value)
            }),
        };
        let pointer = format!("/{}", path[..depth].join("/"));
        let parent = if depth == 0 {
            Some(&mut whole)
        } else {
            whole.pointer_mut(&pointer)
        };
        parent.expect("its parent stands above")[name] = value;
    }
    whole
}

/// The command line in a server's entry.
fn command_line(server: &Value) -> Vec<String> {
    let list = |value: &Value| -> Vec<String> {
        let words = value.as_array().expect("a list").iter();
        words
            .map(|word| word.as_str().expect("a word").to_owned())
            .collect()
    };
    if server["command"].is_array() {
        return list(&server["command"]);
    }
    let command = server["command"].as_str().or(server["cmd"].as_str());
    let mut line = vec![command.expect("a command").to_owned()];
    line.extend(list(&server["args"]));
    line
}

#[test]
fn what_is_printed_parses_and_serves_the_tools_it_promises() {
    let home = Home::new();
    for (client, file, place) in CLIENTS {
        for (more, name, tool) in [
            (&[][..], "openoxide", "openoxide"),
            (&["--codex-tools"][..], "codex", "codex"),
        ] {
            let ran = printed(&home, client, more);
            assert!(ran.stderr.contains(file), "{client}: {}", ran.stderr);
            ran.assert_says("mcp__codex__codex");
            let configuration = parsed(client, &ran.stdout);
            let servers = configuration[place].as_object().expect("servers");
            assert_eq!(servers.keys().collect::<Vec<_>>(), [name], "{client}");
            let line = command_line(&servers[name]);
            assert_eq!(line[1], "mcp-server", "{client}: {line:?}");
            let project = home.project().to_string_lossy().into_owned();
            let arguments: Vec<String> = line[1..]
                .iter()
                .map(|word| word.replace("${workspaceFolder}", &project))
                .collect();
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut server = Client::start(home.openoxide(&words), NEWEST_SESSION);
            let list = server.ask("tools/list", json!({}));
            assert_eq!(list["tools"][0]["name"], tool, "{client}");
            server.close();
        }
    }
}

/// The seconds that a configuration tells the server to wait.
fn wait_in(configuration: &str) -> f64 {
    let (_, wait) = configuration
        .split_once("\"--wait\",\"")
        .expect(configuration);
    let (seconds, _) = wait.split_once('"').expect("an end");
    seconds.parse().expect("seconds")
}

#[test]
fn a_server_returns_before_its_client_gives_up() {
    let home = Home::new();
    for (client, pointer, unit) in [
        ("claude-code", "/mcpServers/openoxide/timeout", 1000.0),
        ("zed", "/context_server_timeout", 1.0),
        ("codex", "/mcp_servers/openoxide/tool_timeout_sec", 1.0),
        ("gemini", "/mcpServers/openoxide/timeout", 1000.0),
        ("opencode", "/mcp/openoxide/timeout", 1000.0),
        ("goose", "/extensions/openoxide/timeout", 1.0),
    ] {
        let configuration = parsed(client, &printed(&home, client, &[]).stdout);
        let patience = configuration
            .pointer(pointer)
            .and_then(Value::as_f64)
            .expect(client)
            / unit;
        let text = configuration.to_string();
        let wait = wait_in(&text);
        assert!(
            wait < patience && patience >= 600.0,
            "{client}: {wait} {patience}"
        );
    }
    for (client, most) in [
        ("claude-desktop", 50.0),
        ("cursor", 50.0),
        ("jetbrains", 28.0),
    ] {
        let text = parsed(client, &printed(&home, client, &[]).stdout).to_string();
        let wait = wait_in(&text);
        assert!(wait <= most, "{client}: {wait}");
    }
}

#[test]
fn the_bare_name_is_printed_where_a_shell_finds_it() {
    let home = Home::new().file("bin/openoxide", "#!/bin/sh\n");
    let printed = |client: &str| {
        let mut command: Command = home.openoxide(&["setup", client]);
        command.env("PATH", home.project().join("bin"));
        command_line(&parsed(client, &run(command).expect(0).stdout)["mcpServers"]["openoxide"])
    };
    assert!(
        printed("claude-code")[0].starts_with('/'),
        "a file that cannot be run is none"
    );
    let program = home.project().join("bin/openoxide");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(program, mode).expect("a program");
    assert_eq!(printed("claude-code")[0], "openoxide");
    // Started from a desktop, not from a shell.
    assert_eq!(
        printed("claude-desktop")[0],
        env!("CARGO_BIN_EXE_openoxide")
    );
}

#[test]
fn without_a_client_or_with_an_unknown_one_all_are_named() {
    let home = Home::new();
    let all = run(home.openoxide(&["setup"])).expect(0).stdout;
    let unknown = run(home.openoxide(&["setup", "emacs"])).expect(2);
    assert_eq!(unknown.stdout, "");
    for (client, ..) in CLIENTS {
        assert!(
            all.lines().any(|line| line.starts_with(client)),
            "no {client}: {all}"
        );
        assert!(
            unknown.stderr.contains(client),
            "no {client}: {}",
            unknown.stderr
        );
    }
}
