//! What a caller may say, and the list of tools that tells it. The doc comments are what the calling model reads.

use std::{path::PathBuf, sync::Arc};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Value, json};

use crate::{
    config::{self, Narrowing},
    conversation::{ApprovalId, ApprovalPolicy, Decision, SandboxPolicy},
    tools::input,
};

/// The tools by name.
pub(super) const START: &str = "openoxide";
pub(super) const REPLY: &str = "openoxide-reply";
pub(super) const QUERY: &str = "openoxide-query";

/// Start a coding session: an agent reads, edits and runs commands in a directory until the task is done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    /// The task, with all that is needed to do it.
    pub(super) prompt: String,
    /// Directory to work in (default: the server's).
    pub(super) cwd: Option<PathBuf>,
    /// Model instead of the configured one.
    pub(super) model: Option<String>,
    /// What may be done at all (default workspace-write).
    pub(super) sandbox: Option<SandboxPolicy>,
    /// When to ask (default on-request).
    #[serde(alias = "approval-policy")]
    pub(super) approval_policy: Option<ApprovalPolicy>,
    /// Added to the agent's own instructions.
    pub(super) instructions: Option<String>,
    /// The same by the name of the peer that users come from.
    #[serde(rename = "base-instructions")]
    #[schemars(skip)]
    base_instructions: Option<String>,
    /// The same by its other name.
    #[serde(rename = "developer-instructions")]
    #[schemars(skip)]
    developer_instructions: Option<String>,
    /// Paths of files to put into the context.
    #[serde(default)]
    pub(super) files: Vec<String>,
    /// Lower limits, a stricter policy, or model.reasoning_effort.
    #[serde(default, deserialize_with = "narrowing")]
    #[schemars(with = "Option<JsonObject>")]
    pub(super) config: Option<Narrowing>,
    /// Return `running` after so many seconds; 0: at once.
    pub(super) wait_seconds: Option<f64>,
    /// How much of the outcome to return (default brief).
    #[serde(default)]
    pub(super) detail: Detail,
    /// worktree: in a git worktree of its own, from the directory as it is (default none).
    #[serde(default)]
    pub(super) isolation: Isolation,
}

impl Start {
    /// What is added to the agent's own instructions, under whatever names it came.
    pub(super) fn take_instructions(&mut self) -> Option<String> {
        let given = [
            self.base_instructions.take(),
            self.developer_instructions.take(),
            self.instructions.take(),
        ];
        let given: Vec<String> = given.into_iter().flatten().collect();
        (!given.is_empty()).then(|| given.join("\n\n"))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Isolation {
    #[default]
    None,
    Worktree,
}

/// Go on with a thread: send the next message, wait for its turn, resume it, or answer its question.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    /// The thread, or "last".
    #[serde(alias = "threadId", alias = "conversationId")]
    pub(super) thread_id: String,
    /// The next message; without it, wait for the running turn or resume an interrupted one.
    pub(super) prompt: Option<String>,
    /// Answer to an open question.
    pub(super) decision: Option<GivenDecision>,
    /// Stop the running turn first.
    #[serde(default)]
    pub(super) interrupt: bool,
    /// Paths of files to put into the context.
    #[serde(default)]
    pub(super) files: Vec<String>,
    /// Return `running` after so many seconds; 0: at once.
    pub(super) wait_seconds: Option<f64>,
    /// How much of the outcome to return (default brief).
    #[serde(default)]
    pub(super) detail: Detail,
}

/// An answer from the model that called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct GivenDecision {
    /// Can be left out when one question is open.
    #[schemars(with = "Option<String>")]
    pub(super) approval_id: Option<ApprovalId>,
    /// deny, abort or, where the owner lets callers, approve.
    #[schemars(with = "String")]
    pub(super) decision: Decision,
    /// A word for the agent.
    pub(super) note: Option<String>,
}

/// Ask about the code; nothing is changed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// The question.
    pub(super) query: Option<String>,
    /// Directory to look into (default: the server's).
    pub(super) cwd: Option<PathBuf>,
    /// With query: ask a copy of this thread; alone: wait for that query.
    #[serde(alias = "threadId", alias = "conversationId")]
    pub(super) thread_id: Option<String>,
    /// Model instead of the configured one.
    pub(super) model: Option<String>,
    /// Return `running` after so many seconds; 0: at once.
    pub(super) wait_seconds: Option<f64>,
}

/// How much of an outcome a caller wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Detail {
    #[default]
    Brief,
    Full,
}

/// Reads the arguments of a call, or says which one is wrong.
pub(super) fn parse<T: DeserializeOwned>(
    tool: &str,
    arguments: Option<JsonObject>,
) -> Result<T, String> {
    let arguments = Value::Object(arguments.unwrap_or_default());
    serde_path_to_error::deserialize(arguments).map_err(|error| {
        let at = error.path().to_string();
        let at = if at == "." {
            String::new()
        } else {
            format!(" `{at}`")
        };
        let why = config::plain(&error.inner().to_string(), "an object");
        format!("argument{at} of `{tool}`: {why}")
    })
}

/// What a call wants narrower, refused in our words.
fn narrowing<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Narrowing>, D::Error> {
    let given = Option::<JsonObject>::deserialize(from)?;
    let narrowing = given.map(config::of_call).transpose();
    narrowing.map_err(|error| D::Error::custom(error.in_one_line()))
}

/// How long a call that comes again waits and what it shows. Its arguments were understood the first time.
pub(super) fn waiting(arguments: Option<&JsonObject>) -> (Option<f64>, Detail) {
    let given = |name| arguments.and_then(|arguments| arguments.get(name));
    let detail = given("detail").and_then(|detail| Detail::deserialize(detail).ok());
    let wait_seconds = given("wait_seconds").and_then(Value::as_f64);
    (wait_seconds, detail.unwrap_or_default())
}

/// What is said of a tool that works: it may do whatever its policy lets it.
pub(super) fn acting() -> ToolAnnotations {
    ToolAnnotations::new()
        .read_only(false)
        .destructive(true)
        .idempotent(false)
        .open_world(true)
}

/// What is said of a tool that changes nothing.
pub(super) fn reading() -> ToolAnnotations {
    ToolAnnotations::new()
        .read_only(true)
        .destructive(false)
        .idempotent(true)
        .open_world(false)
}

/// The tools in the order in which they are listed.
pub(super) fn tools() -> Vec<Tool> {
    vec![
        tool::<Start>(START, "Start a coding session", acting()),
        tool::<Reply>(REPLY, "Go on with a coding session", acting()),
        tool::<Query>(QUERY, "Ask about the code", reading()),
    ]
}

fn tool<T: JsonSchema>(name: &'static str, title: &str, annotations: ToolAnnotations) -> Tool {
    described::<T>(name)
        .with_title(title)
        .with_annotations(annotations)
        .with_raw_output_schema(object(outcome_schema()))
}

/// A tool with the words and the arguments of `T`.
pub(super) fn described<T: JsonSchema>(name: &'static str) -> Tool {
    let spec = input::spec::<T>(name);
    Tool::new(name, spec.description, object(spec.parameters))
}

/// One shallow open object: clients check results against it, and the outcome may grow.
fn outcome_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "thread_id": {"type": "string"},
            "turn_id": {"type": "string"},
            "status": {"type": "string"},
            "content": {"type": "string"},
            "changes": {"type": "array"},
            "commands": {"type": "array"},
            "approvals": {"type": "array"},
            "beside": {"type": "array"},
            "denied": {"type": "array"},
            "usage": {"type": "object"},
            "sandbox": {"type": "object"},
            "worktree": {"type": "object"},
            "partial_changes": {"type": "string"},
            "error": {"type": "object"},
            "next": {"type": "string"}
        },
        "required": ["thread_id", "status", "content"]
    })
}

pub(super) fn object(value: Value) -> Arc<JsonObject> {
    match value {
        Value::Object(object) => Arc::new(object),
        _ => Arc::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_without_output_schemas_is_small() {
        let mut list = serde_json::to_value(tools()).unwrap();
        for tool in list.as_array_mut().unwrap() {
            tool.as_object_mut().unwrap().remove("outputSchema");
        }
        assert!(
            list.to_string().len() < 4000,
            "{} bytes: {list}",
            list.to_string().len()
        );
    }

    #[test]
    fn a_wrong_argument_is_named() {
        let parse = |value: Value| parse::<Start>(START, value.as_object().cloned()).unwrap_err();
        assert!(parse(json!({"prompt": 5})).contains("`prompt`"));
        assert!(parse(json!({})).contains("`prompt`"));
        assert!(parse(json!({"prompt": "x", "sandbox": "open"})).contains("`sandbox`"));
        assert!(parse(json!({"prompt": "x", "wait_seconds": "soon"})).contains("wait_seconds"));
        assert!(parse(json!({"prompt": "x", "nonsense": 1})).contains("`nonsense`"));
    }

    #[test]
    fn the_spellings_of_the_peer_are_understood_and_not_listed() {
        let arguments =
            json!({"prompt": "x", "approval-policy": "never", "developer-instructions": "be kind"});
        let mut start: Start = parse(START, arguments.as_object().cloned()).unwrap();
        assert_eq!(start.approval_policy, Some(ApprovalPolicy::Never));
        assert_eq!(start.take_instructions().as_deref(), Some("be kind"));
        let list = serde_json::to_string(&tools()).unwrap();
        for name in ["approval-policy", "-instructions", "_instructions"] {
            assert!(!list.contains(name), "{name} in {list}");
        }
    }

    #[test]
    fn instructions_under_several_names_are_joined() {
        let arguments = json!({
            "prompt": "x", "developer-instructions": "be kind", "base-instructions": "be quick", "instructions": "be sure",
        });
        let mut start: Start = parse(START, arguments.as_object().cloned()).unwrap();
        let joined = start.take_instructions();
        assert_eq!(joined.as_deref(), Some("be quick\n\nbe kind\n\nbe sure"));
    }
}
