//! Decides for each incoming text whether rmcp may see it, and answers for rmcp where it would fall silent or die.
//!
//! rmcp drops what is not JSON, answers a known method with unreadable params as if it did not know the method, and ends
//! the whole connection when anything but a request comes before the session is set up. A gate knows one connection and
//! does no input or output; every transport that carries one message at a time can ask it.

use rmcp::{
    RoleServer,
    model::{
        ClientRequest, ErrorCode, ErrorData, GetMeta, JsonRpcMessage, JsonRpcRequest,
        ProtocolVersion, RequestId,
    },
    service::RxJsonRpcMessage,
};
use serde_json::{Map, Value, json};

/// What becomes of one incoming text: a message for rmcp, nothing at all, or an answer without rmcp.
pub(in crate::frontend::mcp) type Admitted =
    Result<Option<RxJsonRpcMessage<RoleServer>>, Rejection>;

/// The state of one connection as far as rmcp's bootstrap is concerned.
#[derive(Debug, Default)]
pub(in crate::frontend::mcp) struct Admission {
    /// Whether rmcp has left its bootstrap, where only requests are survived.
    open: bool,
}

impl Admission {
    /// For messages that each come by themselves, where rmcp needs nothing set up before.
    pub(in crate::frontend::mcp) fn opened() -> Self {
        Self { open: true }
    }

    /// Judges one text, which should be one JSON-RPC message.
    pub(in crate::frontend::mcp) fn admit(&mut self, text: &[u8]) -> Admitted {
        let text = std::str::from_utf8(text).map_err(|_| {
            Rejection::new(ErrorCode::PARSE_ERROR, None, "the message is not UTF-8")
        })?;
        // Windows shells put a byte order mark in front of what they pipe.
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Ok(None);
        }
        let message = match serde_json::from_str(text) {
            Ok(JsonRpcMessage::Request(request)) => return self.request(request).map(Some),
            Ok(message) => Some(message),
            Err(_) => diagnose(text)?,
        };
        Ok(message.filter(|_| self.open))
    }

    fn request(
        &mut self,
        message: JsonRpcRequest<ClientRequest>,
    ) -> Result<RxJsonRpcMessage<RoleServer>, Rejection> {
        let request = &message.request;
        let method = request.method();
        let refuse = |code, why| Err(Rejection::new(code, Some(message.id.clone()), why));
        // rmcp reads a known method whose params do not fit as a custom one.
        let custom = matches!(request, ClientRequest::CustomRequest(_));
        // Where it is gone from the protocol, rmcp says that there is no such method.
        let gone = request.get_meta().protocol_version() >= Some(ProtocolVersion::V_2026_07_28)
            && GONE.contains(&method);
        if custom && METHODS.contains(&method) && !gone {
            let why = format!("the params of `{method}` have a missing or ill-typed field");
            return refuse(ErrorCode::INVALID_PARAMS, why);
        }
        if self.open || self.opens(request) {
            return Ok(JsonRpcMessage::Request(message));
        }
        if custom {
            // At once: clients find out what a server is by asking, and wait for the answer.
            return refuse(ErrorCode::METHOD_NOT_FOUND, method.to_owned());
        }
        let modern = ProtocolVersion::V_2026_07_28;
        let why = format!(
            "`{method}` came before the session was set up: send `initialize` first, or the `_meta` of {modern} with each request"
        );
        refuse(ErrorCode::INVALID_REQUEST, why)
    }

    /// Whether rmcp's bootstrap may see `request`, noting when it leaves the bootstrap over it.
    fn opens(&mut self, request: &ClientRequest) -> bool {
        match request {
            ClientRequest::InitializeRequest(_) => self.open = true,
            ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => {}
            request => {
                let meta = request.get_meta();
                let Some(version) = meta.protocol_version() else {
                    return false;
                };
                // Otherwise rmcp says what is wrong and stays in its bootstrap.
                self.open = ProtocolVersion::KNOWN_VERSIONS.contains(&version)
                    && meta.client_capabilities().is_some();
            }
        }
        true
    }
}

/// The requests that rmcp reads into a type of their own, when their params fit it.
const METHODS: &[&str] = &[
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/update",
    "tools/call",
    "tools/list",
];

/// Of these, those that 2026-07-28 has not.
const GONE: &[&str] = &[
    "initialize",
    "logging/setLevel",
    "ping",
    "resources/subscribe",
    "resources/unsubscribe",
];

/// Reads a text that is no JSON-RPC message as it stands, or says what is wrong with it.
fn diagnose(text: &str) -> Admitted {
    let why = match serde_json::from_str(text) {
        Ok(Value::Object(object)) if is_answer(&object) => return Ok(mend(object)),
        Ok(Value::Object(object)) if is_notification(&object) => return Ok(None),
        Ok(Value::Object(object)) => return Err(diagnose_request(&object)),
        Ok(Value::Array(_)) => "batches are not supported: send each message by itself",
        Ok(_) => "a message is a JSON object",
        Err(error) => {
            let why = format!("not JSON: {error}");
            return Err(Rejection::new(ErrorCode::PARSE_ERROR, None, why));
        }
    };
    Err(Rejection::new(ErrorCode::INVALID_REQUEST, None, why))
}

fn is_answer(object: &Map<String, Value>) -> bool {
    let has = |key| object.contains_key(key);
    !has("method") && (has("result") || has("error"))
}

/// Notifications are never answered, whatever is wrong with them.
fn is_notification(object: &Map<String, Value>) -> bool {
    is_versioned(object)
        && !object.contains_key("id")
        && object.get("method").is_some_and(Value::is_string)
}

fn is_versioned(object: &Map<String, Value>) -> bool {
    object
        .get("jsonrpc")
        .is_some_and(|version| version == "2.0")
}

fn diagnose_request(object: &Map<String, Value>) -> Rejection {
    let id = request_id(object);
    let why = match object.get("method") {
        _ if !is_versioned(object) => "`jsonrpc` must be \"2.0\"",
        None => "`method` is missing",
        Some(method) if !method.is_string() => "`method` must be a string",
        _ if id.is_none() => "`id` must be a string or an integer",
        _ => "`params` must be an object",
    };
    Rejection::new(ErrorCode::INVALID_REQUEST, id, why)
}

/// Makes an answer out of what was meant as one, such as a result beside `"error": null`, or else a failure: who waits
/// for it should not wait for ever. Never refused, since answers to answers could go back and forth without end.
fn mend(mut object: Map<String, Value>) -> Option<RxJsonRpcMessage<RoleServer>> {
    let id = request_id(&object)?;
    let failed = object.get("error").is_some_and(|error| !error.is_null());
    let result = object.remove("result").filter(|_| !failed);
    Some(
        match result.and_then(|result| serde_json::from_value(result).ok()) {
            Some(result) => JsonRpcMessage::response(result, id),
            None => {
                let error = ErrorData::internal_error("the client's answer cannot be read", None);
                JsonRpcMessage::error(error, Some(id))
            }
        },
    )
}

fn request_id(object: &Map<String, Value>) -> Option<RequestId> {
    serde_json::from_value(object.get("id")?.clone()).ok()
}

/// The answer to what never reaches rmcp.
#[derive(Debug)]
pub(in crate::frontend::mcp) struct Rejection {
    code: ErrorCode,
    id: Option<RequestId>,
    why: String,
}

impl Rejection {
    /// `id` is that of the refused request, if it could be read.
    pub(in crate::frontend::mcp) fn new(
        code: ErrorCode,
        id: Option<RequestId>,
        why: impl Into<String>,
    ) -> Self {
        let why = why.into();
        Self { code, id, why }
    }

    /// The answer as JSON text. By hand, since rmcp leaves out an `id` that could not be read where JSON-RPC wants null.
    pub(in crate::frontend::mcp) fn to_text(&self) -> String {
        let error = json!({"code": self.code, "message": self.why});
        json!({"jsonrpc": "2.0", "id": self.id, "error": error}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;

    fn opened() -> Admission {
        let mut gate = Admission::default();
        assert!(matches!(gate.admit(INITIALIZE.as_bytes()), Ok(Some(_))));
        gate
    }

    fn modern(method: &str, version: &str) -> String {
        json!({"jsonrpc": "2.0", "id": 2, "method": method, "params": {"_meta": {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {},
        }}})
        .to_string()
    }

    /// What became of each text, one after the other: `pass`, `ignore`, or the code and id of a refusal.
    fn check(gate: &mut Admission, cases: &[(&[u8], &str)]) {
        for (text, expected) in cases {
            let found = match gate.admit(text) {
                Ok(Some(_)) => "pass".to_owned(),
                Ok(None) => "ignore".to_owned(),
                Err(refusal) => {
                    let line: Value =
                        serde_json::from_str(&refusal.to_text()).expect("refusals are JSON");
                    assert_eq!(line["jsonrpc"], "2.0");
                    format!("{} {}", line["error"]["code"], line["id"])
                }
            };
            assert_eq!(found, *expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_id_it_has() {
        for mut gate in [Admission::default(), opened()] {
            check(
                &mut gate,
                &[
                    (b"{bad", "-32700 null"),
                    (b"\"\xff\"", "-32700 null"),
                    ("[".repeat(1000).as_bytes(), "-32700 null"),
                    (
                        br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
                        "-32600 null",
                    ),
                    (b"5", "-32600 null"),
                    (b"{}", "-32600 null"),
                    (br#"{"id":3,"method":"ping"}"#, "-32600 3"),
                    (
                        br#"{"jsonrpc":"1.0","id":"a","method":"ping"}"#,
                        "-32600 \"a\"",
                    ),
                    (br#"{"jsonrpc":"2.0","id":4}"#, "-32600 4"),
                    (br#"{"jsonrpc":"2.0","id":5,"method":5}"#, "-32600 5"),
                    (
                        br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
                        "-32600 null",
                    ),
                    (
                        br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
                        "-32600 null",
                    ),
                    (
                        br#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
                        "-32600 null",
                    ),
                    (
                        br#"{"jsonrpc":"2.0","id":6,"method":"tools/list","params":5}"#,
                        "-32600 6",
                    ),
                    (
                        br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":5}}"#,
                        "-32602 7",
                    ),
                    (
                        br#"{"jsonrpc":"2.0","id":8,"method":"resources/read","params":{"uri":5}}"#,
                        "-32602 8",
                    ),
                    (
                        br#"{"jsonrpc":"2.0","id":9,"method":"initialize"}"#,
                        "-32602 9",
                    ),
                    (b" \r", "ignore"),
                    (
                        br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":5}"#,
                        "ignore",
                    ),
                ],
            );
        }
    }

    #[test]
    fn only_openers_pass_before_the_session_is_set_up() {
        let mut gate = Admission::default();
        check(
            &mut gate,
            &[
                (
                    br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
                    "ignore",
                ),
                (br#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "ignore"),
                (
                    br#"{"jsonrpc":"2.0","error":{"code":1,"message":"no"}}"#,
                    "ignore",
                ),
                (br#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, "ignore"),
                (
                    br#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#,
                    "-32600 2",
                ),
                (
                    br#"{"jsonrpc":"2.0","id":3,"method":"no/such"}"#,
                    "-32601 3",
                ),
                (br#"{"jsonrpc":"2.0","id":4,"method":"ping"}"#, "pass"),
                (modern("server/discover", "2026-07-28").as_bytes(), "pass"),
                (modern("tools/list", "2099-01-01").as_bytes(), "pass"),
                (
                    br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
                    "ignore",
                ),
                (INITIALIZE.as_bytes(), "pass"),
                (
                    br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
                    "pass",
                ),
                (br#"{"jsonrpc":"2.0","id":5,"method":"tools/list"}"#, "pass"),
                (br#"{"jsonrpc":"2.0","id":6,"method":"no/such"}"#, "pass"),
            ],
        );
    }

    #[test]
    fn a_request_with_its_own_meta_opens_the_session() {
        let mut gate = Admission::default();
        check(&mut gate, &[
            (modern("tools/list", "2026-07-28").as_bytes(), "pass"),
            (br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#, "pass"),
        ]);
    }

    #[test]
    fn an_answer_of_odd_shape_still_ends_the_wait_for_it() {
        let answer = |text: &str| match opened().admit(text.as_bytes()) {
            Ok(Some(message)) => serde_json::to_value(message).expect("messages are JSON"),
            other => panic!("{other:?}"),
        };
        let mended =
            answer(r#"{"jsonrpc":"2.0","id":0,"result":{"action":"accept"},"error":null}"#);
        assert_eq!(mended["result"]["action"], "accept");
        let failed = answer(r#"{"jsonrpc":"2.0","id":0,"error":"boo"}"#);
        assert_eq!(
            (&failed["id"], &failed["error"]["code"]),
            (&json!(0), &json!(-32603))
        );
        let odd = br#"{"jsonrpc":"2.0","id":1.5,"result":{},"error":null}"#;
        assert!(matches!(opened().admit(odd), Ok(None)));
    }
}
