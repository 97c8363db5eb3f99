//! The network service with the fixtures of MCP's conformance suite beside our own tools: `conformance ADDR:PORT ORIGIN…`.
//!
//! For `.ci/conformance/run` only. The stack is that of `openoxide mcp-server --http`; around the handler of each
//! connection stands an [`Overlay`] that answers for the names of the suite (`test_…`, `test://…`) and passes
//! everything else on.

use std::{borrow::Cow, time::Duration};

use openoxide::{
    app::{App, Asker, Setup},
    config::assignment,
    frontend::mcp::network::{Network, Options, Server},
};
#[expect(deprecated, reason = "clients up to 2025-11-25 still ask for it")]
use rmcp::model::SetLevelRequestParams;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams,
        ClientCapabilities, CompleteRequestParams, CompleteResult, CustomNotification,
        CustomRequest, DiscoverResult, GetPromptRequestParams, GetPromptResponse, GetTaskParams,
        GetTaskResult, InputRequests, InputRequiredResult, ListPromptsResult,
        ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
        ProgressNotificationParam, ReadResourceRequestParams, ReadResourceResponse,
        RequestStateCodec, ServerConfig, ServerNotification, ServerRequest, SubscribeRequestParams,
        SubscriptionFilter, UnsubscribeRequestParams, UpdateTaskParams,
    },
    service::{NotificationContext, RequestContext, SubscriptionContext},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

type Call = RequestContext<RoleServer>;

/// One red pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// A wave file without a sample.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let origins: Vec<String> = arguments.map(|origin| format!("'{origin}'")).collect();
    let home = tempfile::tempdir()?;
    let setup = Setup {
        cwd: std::env::current_dir()?,
        home: Some(home.path().to_owned()),
        flags: vec![assignment(&format!(
            "server.origins=[{}]",
            origins.join(",")
        ))?],
        asker: Asker::Caller,
        ..Setup::default()
    };
    let options = Options {
        address,
        no_auth: true,
        ..Options::default()
    };
    let seal = RequestStateCodec::new_unchecked(vec![7; 32]);
    let overlay = move |real| Overlay {
        real,
        seal: seal.clone(),
    };
    let network = Network::bind_around(App::build(setup)?, &options, overlay).await?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .init();
    // In the words of the program, which the script waits for.
    std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("serves MCP at http://{}/mcp\n", network.address()),
    )?;
    let told = CancellationToken::new();
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let telling = told.clone();
    tokio::spawn(async move {
        end.recv().await;
        telling.cancel();
    });
    network.serve(told, CancellationToken::new()).await;
    Ok(())
}

/// Our handler, and before it the suite's fixtures.
struct Overlay {
    real: Server,
    seal: RequestStateCodec,
}

/// A value of a type that it is known to fit.
fn typed<T: DeserializeOwned>(mut value: Value) -> Result<T, ErrorData> {
    if ["content", "contents", "messages", "prompts", "completion"]
        .iter()
        .any(|key| !value[*key].is_null())
    {
        // rmcp takes it away again where the generation does not have it.
        value["resultType"] = json!("complete");
    }
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn said(text: impl Into<String>) -> Value {
    json!({"content": [{"type": "text", "text": text.into()}]})
}

/// Tools by their names, and what they do without further ado.
fn simple(name: &str) -> Option<Value> {
    let image = json!({"type": "image", "data": PNG, "mimeType": "image/png"});
    Some(match name {
        "test_simple_text" => said("This is a simple text response for testing."),
        "test_image_content" => json!({"content": [image]}),
        "test_audio_content" => {
            json!({"content": [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]})
        }
        "test_embedded_resource" => json!({"content": [{"type": "resource", "resource": {
            "uri": "test://embedded-resource", "mimeType": "text/plain", "text": "This is an embedded resource content."}}]}),
        "test_multiple_content_types" => json!({"content": [
            {"type": "text", "text": "Multiple content types test:"}, image,
            {"type": "resource", "resource": {"uri": "test://mixed-content-resource", "mimeType": "application/json",
                "text": "{\"test\":\"data\",\"value\":123}"}}]}),
        "test_error_handling" => json!({"isError": true, "content": [
            {"type": "text", "text": "This tool intentionally returns an error for testing"}]}),
        "test_logging_tool" | "test_streaming_elicitation" => said("Done."),
        _ => return None,
    })
}

const TOOLS: [&str; 26] = [
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_error_handling",
    "test_logging_tool",
    "test_streaming_elicitation",
    "test_tool_with_logging",
    "test_tool_with_progress",
    "test_sampling",
    "test_elicitation",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_missing_capability",
    "test_reconnection",
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state",
    "test_input_required_result_capabilities",
    "test_custom_header",
    "json_schema_2020_12_tool",
];

fn tool(name: &str) -> Value {
    let text = json!({"type": "string"});
    let schema = match name {
        "test_sampling" => {
            json!({"type": "object", "properties": {"prompt": text}, "required": ["prompt"]})
        }
        "test_elicitation" => {
            json!({"type": "object", "properties": {"message": text}, "required": ["message"]})
        }
        "test_custom_header" => json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"}}, "required": ["region"]}),
        "json_schema_2020_12_tool" => json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "$defs": {"address": {"$anchor": "addressDef", "type": "object",
                "properties": {"street": text, "city": text}}},
            "properties": {"name": text, "address": {"$ref": "#/$defs/address"}, "contactMethod": {"type": "string", "enum": ["phone", "email"]},
                "phone": text, "email": text},
            "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
            "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
            "then": {"required": ["phone"]}, "else": {"required": ["email"]},
            "additionalProperties": false}),
        _ => json!({"type": "object", "properties": {}}),
    };
    json!({"name": name, "description": format!("Fixture `{name}` of the conformance suite."), "inputSchema": schema})
}

fn form(message: &str, field: &str, kind: &str) -> Value {
    json!({"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": {
        "type": "object", "properties": {field: {"type": kind}}, "required": [field]}}})
}

fn sampling(question: &str, tokens: u32) -> Value {
    json!({"method": "sampling/createMessage", "params": {"maxTokens": tokens, "messages": [
        {"role": "user", "content": {"type": "text", "text": question}}]}})
}

fn roots() -> Value {
    json!({"method": "roots/list", "params": {}})
}

impl Overlay {
    async fn fixture(
        &self,
        params: CallToolRequestParams,
        call: &Call,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = params.name.clone();
        if let Some(result) = simple(&name) {
            return Ok(typed::<CallToolResult>(result)?.into());
        }
        if let Some(rest) = name.strip_prefix("test_input_required_result_") {
            return self.rounds(rest, params, call);
        }
        let arguments = Value::Object(params.arguments.unwrap_or_default());
        let result = match &*name {
            "test_tool_with_logging" => logging(call).await,
            "test_tool_with_progress" => progress(call).await,
            "test_sampling" => {
                let question = arguments["prompt"].as_str().unwrap_or_default();
                let answer = ask(call, "sampling/createMessage", &sampling(question, 100)).await?;
                said(format!(
                    "LLM response: {}",
                    answer["content"]["text"].as_str().unwrap_or_default()
                ))
            }
            "test_elicitation" => {
                let fields = json!({"username": {"type": "string", "description": "User's response"},
                    "email": {"type": "string", "description": "User's email address"}});
                let message = arguments["message"].as_str().unwrap_or_default();
                let answer = elicit(call, message, fields, &["username", "email"]).await?;
                said(format!(
                    "User response: action={}, content={}",
                    answer["action"], answer["content"]
                ))
            }
            "test_elicitation_sep1034_defaults" => {
                let fields = json!({"name": {"type": "string", "default": "John Doe"},
                    "age": {"type": "integer", "default": 30}, "score": {"type": "number", "default": 95.5},
                    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
                    "verified": {"type": "boolean", "default": true}});
                completed(&elicit(call, "Please check", fields, &[]).await?)
            }
            "test_elicitation_sep1330_enums" => {
                completed(&elicit(call, "Please choose", enums(), &[]).await?)
            }
            "test_missing_capability" => {
                let capable = call.client_capabilities().unwrap_or_default();
                if serde_json::to_value(capable).unwrap_or_default()["sampling"].is_null() {
                    let needed = typed::<ClientCapabilities>(json!({"sampling": {}}))?;
                    return Err(ErrorData::missing_required_client_capability(needed));
                }
                said("There is sampling.")
            }
            _ => said("Done."),
        };
        Ok(typed::<CallToolResult>(result)?.into())
    }

    /// Tools that ask by their results.
    fn rounds(
        &self,
        name: &str,
        params: CallToolRequestParams,
        call: &Call,
    ) -> Result<CallToolResponse, ErrorData> {
        let answers = params
            .input_responses
            .map_or(Value::Null, |given| json!(given));
        let state = params.request_state;
        let opened = state
            .as_ref()
            .map(|state| self.seal.open_json_with::<Value>(state, name.as_bytes()));
        let opened = opened
            .transpose()
            .map_err(|error| ErrorData::invalid_params(error.to_string(), None))?;
        let has = |key: &str| answers[key].is_object();
        let name_of = |key: &str| {
            answers[key]["content"]["name"]
                .as_str()
                .unwrap_or("nobody")
                .to_owned()
        };
        let done = |text: String| Ok(typed::<CallToolResult>(said(text))?.into());
        let sealed = |step: u32| {
            let payload = serde_json::to_vec(&json!({"step": step})).unwrap_or_default();
            let options = rmcp::model::SealOptions::new()
                .associated_data(name.as_bytes())
                .ttl(Duration::from_secs(600));
            Some(self.seal.seal_with(&payload, &options))
        };
        let asked = |requests: Value, state: Option<String>| {
            let requests = typed::<InputRequests>(requests)?;
            Ok(InputRequiredResult::new(Some(requests), state).into())
        };
        match name {
            "elicitation" if has("user_name") => done(format!("Hello, {}!", name_of("user_name"))),
            "elicitation" => asked(
                json!({"user_name": form("What is your name?", "name", "string")}),
                None,
            ),
            "sampling" if has("capital_question") => done(
                answers["capital_question"]["content"]["text"]
                    .as_str()
                    .unwrap_or("?")
                    .to_owned(),
            ),
            "sampling" => asked(
                json!({"capital_question": sampling("What is the capital of France?", 100)}),
                None,
            ),
            "list_roots" if has("client_roots") => {
                done(format!("Roots: {}", answers["client_roots"]["roots"]))
            }
            "list_roots" => asked(json!({"client_roots": roots()}), None),
            "request_state" | "tampered_state" if has("confirm") && opened.is_some() => {
                done("state-ok".to_owned())
            }
            "request_state" | "tampered_state" => asked(
                json!({"confirm": form("Please confirm", "ok", "boolean")}),
                sealed(1),
            ),
            "multiple_inputs" if has("user_name") && has("greeting") && has("client_roots") => {
                done("All three.".to_owned())
            }
            "multiple_inputs" => asked(
                json!({"user_name": form("What is your name?", "name", "string"),
                "greeting": sampling("Generate a greeting", 50), "client_roots": roots()}),
                sealed(1),
            ),
            "multi_round" => match opened.map(|state| state["step"].as_u64()) {
                Some(Some(1)) if has("step1") => asked(
                    json!({"step2": form("Step 2: What is your favorite color?", "color", "string")}),
                    sealed(2),
                ),
                Some(Some(2)) if has("step2") => done("Both steps.".to_owned()),
                _ => asked(
                    json!({"step1": form("Step 1: What is your name?", "name", "string")}),
                    sealed(1),
                ),
            },
            _ => {
                let capable = serde_json::to_value(call.client_capabilities()).unwrap_or_default();
                let all = [
                    (
                        "elicitation",
                        "name",
                        form("What is your name?", "name", "string"),
                    ),
                    ("sampling", "greeting", sampling("Generate a greeting", 50)),
                    ("roots", "roots", roots()),
                ];
                let able = all
                    .into_iter()
                    .filter(|(needs, ..)| capable[*needs].is_object());
                let requests: serde_json::Map<String, Value> = able
                    .map(|(_, key, request)| (key.to_owned(), request))
                    .collect();
                if requests.is_empty() || answers.is_object() {
                    return done("Nothing to ask.".to_owned());
                }
                asked(Value::Object(requests), None)
            }
        }
    }
}

fn enums() -> Value {
    let plain = json!(["option1", "option2", "option3"]);
    let titled = |names: [&str; 3]| {
        let names = names.into_iter().enumerate();
        Value::Array(
            names
                .map(|(at, title)| json!({"const": format!("value{}", at + 1), "title": title}))
                .collect(),
        )
    };
    json!({
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled(["First Option", "Second Option", "Third Option"])},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled(["First Choice", "Second Choice", "Third Choice"])}},
    })
}

fn completed(answer: &Value) -> Value {
    let action = answer["action"].as_str().unwrap_or_default();
    said(format!(
        "Elicitation completed: action={action}, content={}",
        answer["content"]
    ))
}

async fn elicit(
    call: &Call,
    message: &str,
    fields: Value,
    required: &[&str],
) -> Result<Value, ErrorData> {
    let schema = json!({"type": "object", "properties": fields, "required": required});
    let request = json!({"params": {"message": message, "requestedSchema": schema}});
    ask(call, "elicitation/create", &request).await
}

/// A request to the client, on the stream of its call.
async fn ask(call: &Call, method: &str, request: &Value) -> Result<Value, ErrorData> {
    let failed = |error: String| ErrorData::internal_error(error, None);
    let request: ServerRequest = CustomRequest::new(method, Some(request["params"].clone())).into();
    let answer = call
        .peer
        .send_request(request)
        .await
        .map_err(|error| failed(error.to_string()))?;
    serde_json::to_value(answer).map_err(|error| failed(error.to_string()))
}

async fn logging(call: &Call) -> Value {
    for line in [
        "Tool execution started",
        "Tool processing data",
        "Tool execution completed",
    ] {
        let params = json!({"level": "info", "logger": "fixture", "data": line});
        let told = CustomNotification::new("notifications/message", Some(params));
        let _ = call
            .peer
            .send_notification(ServerNotification::CustomNotification(told))
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    said("Logged.")
}

async fn progress(call: &Call) -> Value {
    for value in [0.0, 50.0, 100.0] {
        if let Some(token) = call.meta.get_progress_token() {
            let step = ProgressNotificationParam::new(token, value).with_total(100.0);
            let _ = call.peer.notify_progress(step).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    said("Progressed.")
}

fn prompt(params: &GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let user = |content: Value| json!({"role": "user", "content": content});
    let text = |text: &str| user(json!({"type": "text", "text": text}));
    let arguments = json!(params.arguments);
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
    let messages = match &*params.name {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => vec![text(&format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            argument("arg1"),
            argument("arg2")
        ))],
        "test_prompt_with_embedded_resource" => vec![
            user(
                json!({"type": "resource", "resource": {"uri": argument("resourceUri"), "mimeType": "text/plain",
                "text": "Embedded resource content for testing."}}),
            ),
            text("Please process the embedded resource above."),
        ],
        "test_prompt_with_image" => vec![
            user(json!({"type": "image", "data": PNG, "mimeType": "image/png"})),
            text("Please analyze the image above."),
        ],
        "test_input_required_result_prompt" => {
            if params.input_responses.is_none() {
                let form = form("What context should the prompt use?", "context", "string");
                let requests = typed::<InputRequests>(json!({"user_context": form}))?;
                return Ok(InputRequiredResult::new(Some(requests), None).into());
            }
            vec![text("With context.")]
        }
        _ => return Err(ErrorData::invalid_params("there is no such prompt", None)),
    };
    Ok(GetPromptResponse::Complete(typed(
        json!({"messages": messages}),
    )?))
}

fn prompts() -> Value {
    let argument =
        |name: &str| json!({"name": name, "description": "An argument.", "required": true});
    let prompt = |name: &str, arguments: Vec<Value>| json!({"name": name, "description": "A fixture.", "arguments": arguments});
    json!({"prompts": [
        prompt("test_simple_prompt", vec![]),
        prompt("test_prompt_with_arguments", vec![argument("arg1"), argument("arg2")]),
        prompt("test_prompt_with_embedded_resource", vec![argument("resourceUri")]),
        prompt("test_prompt_with_image", vec![]),
        prompt("test_input_required_result_prompt", vec![]),
    ]})
}

fn resource(uri: &str) -> Option<Value> {
    let text = |kind: &str, text: String| json!({"uri": uri, "mimeType": kind, "text": text});
    Some(match uri {
        "test://static-text" => text(
            "text/plain",
            "This is the content of the static text resource.".to_owned(),
        ),
        "test://static-binary" => json!({"uri": uri, "mimeType": "image/png", "blob": PNG}),
        "test://watched-resource" => text("text/plain", "Watched.".to_owned()),
        _ => {
            let id = uri
                .strip_prefix("test://template/")?
                .strip_suffix("/data")?;
            text(
                "application/json",
                json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")})
                    .to_string(),
            )
        }
    })
}

#[expect(deprecated, reason = "clients up to 2025-11-25 still ask for these")]
impl ServerHandler for Overlay {
    fn get_info(&self) -> ServerConfig {
        let mut info = self.real.get_info();
        info.capabilities.prompts = Some(Default::default());
        info.capabilities.logging = Some(Default::default());
        info.capabilities.completions = Some(Default::default());
        if let Some(resources) = &mut info.capabilities.resources {
            resources.subscribe = Some(true);
        }
        info
    }

    async fn discover(&self, call: Call) -> Result<DiscoverResult, ErrorData> {
        let mut found = self.real.discover(call).await?;
        found.capabilities = self.get_info().capabilities;
        Ok(found)
    }

    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        call: Call,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut list = self.real.list_tools(page, call).await?;
        for name in TOOLS {
            list.tools.push(typed(tool(name))?);
        }
        Ok(list)
    }

    fn get_tool(&self, name: &str) -> Option<rmcp::model::Tool> {
        TOOLS
            .contains(&name)
            .then(|| typed(tool(name)).ok())
            .flatten()
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        call: Call,
    ) -> Result<CallToolResponse, ErrorData> {
        match TOOLS.contains(&&*params.name) {
            true => self.fixture(params, &call).await,
            false => self.real.call_tool(params, call).await,
        }
    }

    async fn list_resources(
        &self,
        page: Option<PaginatedRequestParams>,
        call: Call,
    ) -> Result<ListResourcesResult, ErrorData> {
        let mut list = self.real.list_resources(page, call).await?;
        for name in ["static-text", "static-binary", "watched-resource"] {
            let uri = format!("test://{name}");
            list.resources.push(typed(
                json!({"uri": uri, "name": name, "description": "A fixture."}),
            )?);
        }
        Ok(list)
    }

    async fn list_resource_templates(
        &self,
        page: Option<PaginatedRequestParams>,
        call: Call,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let mut list = self.real.list_resource_templates(page, call).await?;
        let template = json!({"uriTemplate": "test://template/{id}/data", "name": "template", "description": "A fixture."});
        list.resource_templates.push(typed(template)?);
        Ok(list)
    }

    async fn read_resource(
        &self,
        params: ReadResourceRequestParams,
        call: Call,
    ) -> Result<ReadResourceResponse, ErrorData> {
        match resource(&params.uri) {
            Some(contents) => Ok(ReadResourceResponse::Complete(typed(
                json!({"contents": [contents], "ttlMs": 0, "cacheScope": "private"}),
            )?)),
            None => self.real.read_resource(params, call).await,
        }
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Call,
    ) -> Result<ListPromptsResult, ErrorData> {
        let list: ListPromptsResult = typed(prompts())?;
        Ok(list.with_ttl_ms(60_000))
    }

    async fn get_prompt(
        &self,
        params: GetPromptRequestParams,
        _: Call,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompt(&params)
    }

    async fn complete(
        &self,
        _: CompleteRequestParams,
        _: Call,
    ) -> Result<CompleteResult, ErrorData> {
        typed(
            json!({"completion": {"values": ["paris", "park", "party"], "total": 3, "hasMore": false}}),
        )
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: Call) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: Call) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: Call) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        self.real.accepted_subscription_filter(requested)
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        self.real.listen(subscription).await
    }

    async fn on_initialized(&self, session: NotificationContext<RoleServer>) {
        self.real.on_initialized(session).await;
    }

    async fn get_task(&self, task: GetTaskParams, call: Call) -> Result<GetTaskResult, ErrorData> {
        self.real.get_task(task, call).await
    }

    async fn update_task(&self, task: UpdateTaskParams, call: Call) -> Result<(), ErrorData> {
        self.real.update_task(task, call).await
    }

    async fn cancel_task(&self, task: CancelTaskParams, call: Call) -> Result<(), ErrorData> {
        self.real.cancel_task(task, call).await
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [rmcp::model::ProtocolVersion]> {
        self.real.supported_protocol_versions()
    }
}
