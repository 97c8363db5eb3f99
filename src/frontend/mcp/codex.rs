//! The tools of the peer that users come from, `codex` and `codex-reply`, in place of our two: its arguments become ours,
//! and our results take its shape. What was asked of it is asked of us; it never gets more.

use std::fmt::Write;

use rmcp::model::{CallToolResult, ContentBlock, JsonObject, RequestId, Tool};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::arguments::{self, described, object};
use crate::conversation::{
    Approval, ApprovalKind, ApprovalPolicy, SandboxPolicy, ThreadId, shortened, shown_line,
};

/// The tools by name.
pub(super) const START: &str = "codex";
pub(super) const REPLY: &str = "codex-reply";

pub(super) const INSTRUCTIONS: &str = include_str!("../../../prompts/codex.md");

/// Start a coding session and wait for its result.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Start {
    /// The task, with all that is needed to do it.
    prompt: String,
    /// Directory to work in (default: the server's).
    cwd: Option<String>,
    /// Model instead of the configured one.
    model: Option<String>,
    /// What may be done at all (default read-only).
    sandbox: Option<SandboxPolicy>,
    /// When to ask (default on-request).
    approval_policy: Option<Asking>,
    /// Settings of the peer by name, dots for nesting; those that fit are taken, none can widen.
    config: Option<JsonObject>,
    /// Added to the agent's own instructions.
    base_instructions: Option<String>,
    /// Added to the agent's own instructions.
    developer_instructions: Option<String>,
    /// Ignored: openoxide has its own.
    compact_prompt: Option<String>,
    /// Of earlier versions of the peer.
    #[schemars(skip)]
    profile: Option<String>,
    /// Of earlier versions of the peer.
    #[schemars(skip)]
    include_plan_tool: Option<bool>,
}

/// When the peer asks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Asking {
    Untrusted,
    /// Asks after the sandbox said no: as near as may be, before something leaves it.
    #[schemars(description = "")]
    OnFailure,
    OnRequest,
    Never,
}

impl From<Asking> for ApprovalPolicy {
    fn from(asking: Asking) -> Self {
        match asking {
            Asking::Untrusted => Self::Untrusted,
            Asking::OnFailure | Asking::OnRequest => Self::OnRequest,
            Asking::Never => Self::Never,
        }
    }
}

/// Go on with a coding session: send the next message and wait for its result.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Reply {
    /// The next message; an empty one waits for the running turn or resumes an interrupted one.
    prompt: String,
    /// The session, as `threadId` of its results.
    #[serde(alias = "thread_id")]
    thread_id: Option<String>,
    /// The same by its earlier name.
    conversation_id: Option<String>,
    /// An answer to an open question, as `openoxide-reply` takes it.
    #[schemars(skip)]
    decision: Option<Value>,
}

/// The tools in the order in which they are listed; ours that only asks has no counterpart and stays.
pub(super) fn tools() -> Vec<Tool> {
    let schema = object(json!({
        "type": "object",
        "properties": {"threadId": {"type": "string"}, "content": {"type": "string"}},
        "required": ["threadId", "content"]
    }));
    let tool = |tool: Tool, title: &str| {
        tool.with_title(title)
            .with_annotations(arguments::acting())
            .with_raw_output_schema(schema.clone())
    };
    let mut tools = arguments::tools();
    tools.retain(|tool| tool.name == arguments::QUERY);
    tools.insert(0, tool(described::<Reply>(REPLY), "Codex Reply"));
    tools.insert(0, tool(described::<Start>(START), "Codex"));
    tools
}

/// The arguments of `codex` as ours, and the names of what was ignored. `network` is what the owner lets commands have.
///
/// # Errors
/// One line that names the argument.
pub(super) fn start(
    arguments: Option<JsonObject>,
    network: bool,
) -> Result<(JsonObject, Vec<String>), String> {
    let given: Start = arguments::parse(START, arguments)?;
    let mut settings = Settings::read(given.config.unwrap_or_default(), network)?;
    for (name, is_there) in [
        ("compact-prompt", given.compact_prompt.is_some()),
        ("profile", given.profile.is_some()),
        ("include-plan-tool", given.include_plan_tool.is_some()),
    ] {
        settings.ignored.extend(is_there.then(|| name.to_owned()));
    }
    let instructions: Vec<String> = [given.base_instructions, given.developer_instructions]
        .into_iter()
        .flatten()
        .chain(settings.instructions)
        .collect();
    let asking = given.approval_policy.or(settings.approval_policy);
    let sandbox = given.sandbox.or(settings.sandbox);
    let mut ours = Map::new();
    ours.insert("prompt".to_owned(), given.prompt.into());
    ours.insert(
        "sandbox".to_owned(),
        json!(sandbox.unwrap_or(SandboxPolicy::ReadOnly)),
    );
    for (name, value) in [
        ("cwd", given.cwd.map(Value::from)),
        ("model", given.model.or(settings.model).map(Value::from)),
        (
            "approval_policy",
            asking.map(|asking| json!(ApprovalPolicy::from(asking))),
        ),
        (
            "instructions",
            (!instructions.is_empty()).then(|| instructions.join("\n\n").into()),
        ),
        (
            "config",
            (!settings.narrowing.is_empty()).then(|| settings.narrowing.into()),
        ),
    ] {
        ours.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok((ours, settings.ignored))
}

/// The arguments of `codex-reply` as ours.
///
/// # Errors
/// One line that names the argument.
pub(super) fn reply(arguments: Option<JsonObject>) -> Result<JsonObject, String> {
    let mut arguments = arguments.unwrap_or_default();
    // An answer needs no words beside it.
    if arguments.contains_key("decision") {
        arguments.entry("prompt").or_insert("".into());
    }
    let given: Reply = arguments::parse(REPLY, Some(arguments))?;
    let Some(thread) = given.thread_id.or(given.conversation_id) else {
        return Err(format!("argument `threadId` of `{REPLY}` is missing"));
    };
    let mut ours = Map::new();
    ours.insert("thread_id".to_owned(), thread.into());
    if !given.prompt.trim().is_empty() {
        ours.insert("prompt".to_owned(), given.prompt.into());
    }
    ours.extend(
        given
            .decision
            .map(|decision| ("decision".to_owned(), decision)),
    );
    Ok(ours)
}

/// What a call's `config` comes to.
#[derive(Default)]
struct Settings {
    model: Option<String>,
    sandbox: Option<SandboxPolicy>,
    approval_policy: Option<Asking>,
    instructions: Vec<String>,
    /// Of our own keys: limits, policy, how hard to think. They can only narrow.
    narrowing: Map<String, Value>,
    ignored: Vec<String>,
}

/// Settings that would start programs, read other files, reach other servers, or trust more. The rest cannot do harm:
/// what is not understood has no effect.
const WIDENING: &[&str] = &[
    "apps",
    "chatgpt_base_url",
    "default_permissions",
    "experimental_instructions_file",
    "hooks",
    "mcp_servers",
    "model_instructions_file",
    "model_provider",
    "model_providers",
    "notify",
    "openai_base_url",
    "otel",
    "permissions",
    "plugins",
    "projects",
    "rules",
    "sandbox_permissions",
    "shell_environment_policy",
];

impl Settings {
    fn read(config: JsonObject, network: bool) -> Result<Self, String> {
        let mut settings = Self::default();
        for (name, value) in nested(config) {
            settings.take(&name, value, network)?;
        }
        settings.ignored.sort();
        Ok(settings)
    }

    fn take(&mut self, name: &str, value: Value, network: bool) -> Result<(), String> {
        match (name, value) {
            (_, Value::Null) => {}
            ("model", Value::Object(ours)) => self.narrow_model(ours),
            ("model", value) => self.model = Some(typed(name, value)?),
            ("model_reasoning_effort", value) => {
                let effort: String = typed(name, value)?;
                self.narrow_model(
                    [("reasoning_effort".to_owned(), effort.into())]
                        .into_iter()
                        .collect(),
                );
            }
            ("sandbox_mode", value) => self.sandbox = Some(typed(name, value)?),
            ("approval_policy", value) => self.approval_policy = Some(typed(name, value)?),
            ("instructions" | "developer_instructions", value) => {
                self.instructions.push(typed(name, value)?);
            }
            ("sandbox_workspace_write", value) => {
                self.sandbox_settings(typed(name, value)?, network)?
            }
            ("policy" | "limits", value) => {
                self.narrowing.insert(name.to_owned(), value);
            }
            _ if WIDENING.contains(&name) => return Err(refused(name)),
            _ => self.ignored.push(shortened(&shown_line(name), 60)),
        }
        Ok(())
    }

    fn narrow_model(&mut self, keys: JsonObject) {
        let model = self.narrowing.entry("model").or_insert_with(|| json!({}));
        if let Value::Object(model) = model {
            model.extend(keys);
        }
    }

    fn sandbox_settings(&mut self, keys: JsonObject, network: bool) -> Result<(), String> {
        for (key, value) in keys {
            let name = format!("sandbox_workspace_write.{key}");
            match (key.as_str(), value) {
                ("network_access", value) => match typed(&name, value)? {
                    true if !network => return Err(refused(&name)),
                    true => {}
                    false => {
                        let policy = self.narrowing.entry("policy").or_insert_with(|| json!({}));
                        policy["network"] = false.into();
                    }
                },
                ("writable_roots", value) => {
                    let roots: Vec<Value> = typed(&name, value)?;
                    if !roots.is_empty() {
                        return Err(refused(&name));
                    }
                }
                _ => self.ignored.push(shortened(&shown_line(&name), 60)),
            }
        }
        Ok(())
    }
}

fn refused(name: &str) -> String {
    format!(
        "argument `config`: `{name}` would let a caller do more; only the owner of this server sets it, in openoxide's own configuration"
    )
}

fn typed<T: serde::de::DeserializeOwned>(name: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| format!("argument `config`: `{name}`: {error}"))
}

/// `{"a.b": 1}` as `{"a": {"b": 1}}`.
fn nested(config: JsonObject) -> JsonObject {
    let mut whole = JsonObject::new();
    for (name, value) in config {
        let (first, rest) = match name.split_once('.') {
            Some((first, rest)) => (first.to_owned(), Some(rest.to_owned())),
            None => (name, None),
        };
        let inner = match (rest, value) {
            (Some(rest), value) => Value::Object(nested([(rest, value)].into_iter().collect())),
            (None, value) => value,
        };
        match (whole.get_mut(&first), inner) {
            (Some(Value::Object(there)), Value::Object(inner)) => there.extend(inner),
            (_, inner) => {
                whole.insert(first, inner);
            }
        }
    }
    whole
}

/// A result in the peer's shape: exactly `{threadId, content}`, and the same words as text. What comes without a thread
/// is words already.
pub(super) fn shaped(result: CallToolResult, ignored: &[String]) -> CallToolResult {
    let Some(outcome) = &result.structured_content else {
        return in_its_names(result);
    };
    let thread_id = outcome["thread_id"].clone();
    let content = words(outcome, ignored);
    let mut shaped = CallToolResult::structured(json!({"threadId": thread_id, "content": content}));
    shaped.content = vec![ContentBlock::text(content)];
    shaped.is_error = result.is_error;
    shaped
}

/// The message, then lines about what happened; status and open questions are the last.
fn words(outcome: &Value, ignored: &[String]) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{line}");
    };
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let each = |name: &str| outcome[name].as_array().cloned().unwrap_or_default();
    if let Some(message) = outcome["error"]["message"].as_str() {
        line(shown_line(message));
    }
    let message = word(&outcome["content"]);
    if !message.is_empty() {
        line(message.trim_end().to_owned());
    }
    line(format!("\nthreadId: {}", word(&outcome["thread_id"])));
    let changes: Vec<String> = each("changes")
        .iter()
        .map(|change| {
            let (path, kind) = (word(&change["path"]), word(&change["kind"]));
            format!(
                "{path} ({kind} +{} −{})",
                change["added"], change["removed"]
            )
        })
        .collect();
    if !changes.is_empty() {
        line(format!("changed: {}", changes.join(", ")));
    }
    for command in each("commands")
        .iter()
        .filter(|command| command["exit_code"] != 0)
    {
        let how = match command["exit_code"].as_i64() {
            Some(code) => format!("exit code {code}"),
            None => "ended early".to_owned(),
        };
        line(format!(
            "failed: `{}` ({how})",
            shown_line(&word(&command["command"]))
        ));
    }
    for denied in each("denied") {
        line(format!(
            "denied: {} ({})",
            word(&denied["summary"]),
            word(&denied["reason"])
        ));
    }
    if !ignored.is_empty() {
        line(format!("ignored: {}", ignored.join(", ")));
    }
    let status = word(&outcome["status"]);
    if let Some(next) = outcome["next"].as_str() {
        line(format!("next: {}", renamed(next)));
    }
    line(format!("status: {status}"));
    for approval in each("approvals") {
        line(format!(
            "waits for approval {}: {}",
            word(&approval["id"]),
            word(&approval["summary"])
        ));
    }
    text.trim().to_owned()
}

/// A result that keeps our shape, and says what to call by the names that are listed.
pub(super) fn in_its_names(result: CallToolResult) -> CallToolResult {
    let mut result = result;
    let next = result.structured_content.as_ref();
    let next = next.map(|outcome| outcome["next"].as_str().unwrap_or_default().to_owned());
    if let (Some(outcome), Some(next)) = (&mut result.structured_content, &next)
        && !next.is_empty()
    {
        outcome["next"] = renamed(next).into();
    }
    for block in &mut result.content {
        if let ContentBlock::Text(text) = block {
            text.text = match &next {
                // The rest is what the agent says.
                Some(next) => text.text.replace(next.as_str(), &renamed(next)),
                None => renamed(&text.text),
            };
        }
    }
    result
}

/// Our own words with the names of the peer.
fn renamed(words: &str) -> String {
    [
        (format!("`{}`", arguments::REPLY), format!("`{REPLY}`")),
        (format!("`{}`", arguments::START), format!("`{START}`")),
        ("thread_id".to_owned(), "threadId".to_owned()),
        (
            "without prompt".to_owned(),
            "with an empty prompt".to_owned(),
        ),
        ("no prompt".to_owned(), "an empty prompt".to_owned()),
        (
            "without `prompt`".to_owned(),
            "with an empty `prompt`".to_owned(),
        ),
    ]
    .iter()
    .fold(words.to_owned(), |words, (ours, its)| {
        words.replace(ours, its)
    })
}

/// What a question carries besides the protocol's own parameters: clients written for the peer look for these.
pub(super) fn question(
    approval: &Approval,
    thread: ThreadId,
    cwd: &std::path::Path,
    call: &RequestId,
) -> JsonObject {
    let mut extra = object_of(json!({
        "threadId": thread,
        "codex_mcp_tool_call_id": call.to_string(),
        "codex_event_id": approval.id,
        "codex_call_id": approval.call_id,
    }));
    extra.extend(match approval.kind {
        ApprovalKind::Edit => object_of(json!({
            "codex_elicitation": "patch-approval",
            "codex_changes": {subject(approval): {"type": "update", "unified_diff": approval.detail}},
        })),
        _ => object_of(json!({
            "codex_elicitation": "exec-approval",
            "codex_command": ["sh", "-c", subject(approval)],
            "codex_cwd": cwd,
            "codex_parsed_cmd": [{"type": "unknown", "cmd": subject(approval)}],
        })),
    });
    extra.extend(
        approval
            .reason
            .as_ref()
            .map(|reason| ("codex_reason".to_owned(), json!(reason))),
    );
    extra
}

/// What stands between the marks of the summary: the command, or the file.
fn subject(approval: &Approval) -> &str {
    let summary = approval.summary.as_str();
    let inside = summary
        .split_once('`')
        .and_then(|(_, rest)| rest.strip_suffix('`'));
    inside.unwrap_or(summary)
}

fn object_of(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start_of(arguments: Value) -> Result<(Value, Vec<String>), String> {
        let (ours, ignored) = start(arguments.as_object().cloned(), false)?;
        Ok((ours.into(), ignored))
    }

    #[test]
    fn the_peers_arguments_become_ours() {
        for (given, ours) in [
            (
                json!({"prompt": "x"}),
                json!({"prompt": "x", "sandbox": "read-only"}),
            ),
            (
                json!({"prompt": "x", "cwd": "/a", "model": "m", "sandbox": "workspace-write", "approval-policy": "on-failure"}),
                json!({"prompt": "x", "sandbox": "workspace-write", "cwd": "/a", "model": "m", "approval_policy": "on-request"}),
            ),
            (
                json!({"prompt": "x", "base-instructions": "a", "developer-instructions": "b"}),
                json!({"prompt": "x", "sandbox": "read-only", "instructions": "a\n\nb"}),
            ),
            (
                json!({"prompt": "x", "config": {"sandbox_mode": "workspace-write", "approval_policy": "never", "model": "m", "model_reasoning_effort": "high"}}),
                json!({"prompt": "x", "sandbox": "workspace-write", "model": "m", "approval_policy": "never", "config": {"model": {"reasoning_effort": "high"}}}),
            ),
            (
                json!({"prompt": "x", "sandbox": "read-only", "config": {"sandbox_mode": "workspace-write"}}),
                json!({"prompt": "x", "sandbox": "read-only"}),
            ),
            (
                json!({"prompt": "x", "config": {"sandbox_workspace_write.network_access": false, "sandbox_workspace_write": {"writable_roots": []}, "limits.max_steps": 3}}),
                json!({"prompt": "x", "sandbox": "read-only", "config": {"policy": {"network": false}, "limits": {"max_steps": 3}}}),
            ),
        ] {
            assert_eq!(start_of(given.clone()).unwrap(), (ours, vec![]), "{given}");
        }
    }

    #[test]
    fn harmless_settings_are_ignored_and_named() {
        let config = json!({"tui.theme": "x", "web_search": "live", "history": {"persistence": "none"}, "sandbox_workspace_write.exclude_slash_tmp": true});
        let given = json!({"prompt": "x", "compact-prompt": "c", "profile": "p", "config": config});
        let (_, ignored) = start_of(given).unwrap();
        assert_eq!(
            ignored,
            [
                "history",
                "sandbox_workspace_write.exclude_slash_tmp",
                "tui",
                "web_search",
                "compact-prompt",
                "profile"
            ]
        );
    }

    #[test]
    fn settings_that_would_widen_are_refused_by_name() {
        let mut configs: Vec<Value> = WIDENING
            .iter()
            .map(|name| json!({*name: {"x": 1}}))
            .collect();
        configs.extend(
            WIDENING
                .iter()
                .map(|name| json!({format!("{name}.x.y"): "z"})),
        );
        configs.push(json!({"sandbox_workspace_write": {"network_access": true}}));
        configs.push(json!({"sandbox_workspace_write.writable_roots": ["/"]}));
        for config in configs {
            let error = start_of(json!({"prompt": "x", "config": config})).unwrap_err();
            assert!(error.contains("only the owner"), "{config}: {error}");
            let name = config.as_object().unwrap().keys().next().unwrap();
            let first = name.split('.').next().unwrap();
            assert!(error.contains(first), "{config}: {error}");
        }
        let network =
            json!({"prompt": "x", "config": {"sandbox_workspace_write.network_access": true}});
        assert!(start(network.as_object().cloned(), true).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (given, name) in [
            (json!({}), "`prompt`"),
            (json!({"prompt": "x", "sandbox": "open"}), "`sandbox`"),
            (
                json!({"prompt": "x", "approval-policy": "always"}),
                "`approval-policy`",
            ),
            (json!({"prompt": "x", "nonsense": 1}), "`nonsense`"),
            (
                json!({"prompt": "x", "config": {"sandbox_mode": 5}}),
                "`sandbox_mode`",
            ),
        ] {
            let error = start_of(given).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        assert!(
            reply(json!({"prompt": "x"}).as_object().cloned())
                .unwrap_err()
                .contains("`threadId`")
        );
    }

    #[test]
    fn a_result_ends_with_status_and_what_it_waits_for() {
        let outcome = json!({
            "thread_id": "t", "turn_id": "u", "status": "approval_required", "content": "",
            "denied": [{"summary": "edit `a`", "reason": "nobody"}],
            "approvals": [{"id": "i", "summary": "run `x`"}],
        });
        let result = shaped(CallToolResult::structured(outcome), &["tui".to_owned()]);
        let structured = result.structured_content.unwrap();
        assert_eq!(structured.as_object().unwrap().len(), 2);
        assert_eq!(
            structured["content"],
            "threadId: t\ndenied: edit `a` (nobody)\nignored: tui\nstatus: approval_required\nwaits for approval i: run `x`"
        );
    }
}
