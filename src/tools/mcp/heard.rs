//! What a server sends, taken in: answers go to whoever waits for them, progress to whoever follows, and what it asks of
//! us is refused. A message is data until it is understood; one that is not is passed over.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::conversation::{shortened, shown_line};

/// An answer: the result, or what the server says instead.
pub(super) type Answer = Result<Value, String>;

type Listener = Box<dyn Fn(String) + Send + Sync>;

/// Shared by the reader of a connection and those who ask over it.
#[derive(Default)]
pub(super) struct Heard {
    /// The server says that what it offers changed.
    pub(super) changed: Notify,
    /// Nothing more comes.
    pub(super) closed: CancellationToken,
    /// Locked for a moment; nobody awaits under it.
    waiting: Mutex<HashMap<u64, Waiting>>,
}

struct Waiting {
    answer: oneshot::Sender<Answer>,
    progress: f64,
    listener: Listener,
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Heard")
    }
}

impl Heard {
    /// Waits for the answer to `id`.
    pub(super) fn expect(&self, id: u64, listener: Listener) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        let waiting = Waiting {
            answer,
            progress: f64::NEG_INFINITY,
            listener,
        };
        self.waiting().insert(id, waiting);
        receiver
    }

    /// Nobody waits for `id` any more.
    pub(super) fn forget(&self, id: u64) {
        self.waiting().remove(&id);
    }

    /// The connection is gone, and with it every answer.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.waiting().clear();
    }

    /// Takes one message in. What comes back is to be sent.
    pub(super) fn take(&self, message: &Value) -> Option<Value> {
        let id = &message["id"];
        match (message["method"].as_str(), id) {
            (Some(method), Value::Null) => self.notified(method, &message["params"]),
            (Some(method), id) => return Some(reply(method, id)),
            (None, id) => self.answered(id, message),
        }
        None
    }

    fn answered(&self, id: &Value, message: &Value) {
        let Some(waiting) = id.as_u64().and_then(|id| self.waiting().remove(&id)) else {
            return;
        };
        let error = &message["error"];
        let answer = if error.is_null() {
            Ok(message["result"].clone())
        } else {
            let said = error["message"].as_str().map(str::to_owned);
            Err(said.unwrap_or_else(|| error.to_string()))
        };
        // Whoever waited may have given up.
        let _ = waiting.answer.send(answer);
    }

    fn notified(&self, method: &str, params: &Value) {
        match method {
            "notifications/progress" => self.progressed(params),
            "notifications/tools/list_changed" | "notifications/resources/list_changed" => {
                self.changed.notify_one();
            }
            _ => {}
        }
    }

    fn progressed(&self, params: &Value) {
        let mut waiting = self.waiting();
        let id = params["progressToken"].as_u64();
        let Some(waiting) = id.and_then(|id| waiting.get_mut(&id)) else {
            return;
        };
        let progress = params["progress"].as_f64().unwrap_or_default();
        // It must rise; what does not is late or a lie.
        if progress <= waiting.progress {
            return;
        }
        waiting.progress = progress;
        let total = params["total"].as_f64();
        let total = total
            .map(|total| format!(" of {total}"))
            .unwrap_or_default();
        let said = params["message"].as_str();
        let said = said
            .filter(|said| !said.trim().is_empty())
            .map(str::to_owned);
        let text = said.unwrap_or_else(|| format!("{progress}{total}"));
        (waiting.listener)(shortened(&shown_line(&text), 200));
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a server hears that asks something of us.
fn reply(method: &str, id: &Value) -> Value {
    match method {
        "ping" => json!({"jsonrpc": "2.0", "id": id, "result": {}}),
        // Not declared; one that asks all the same hears that nobody is there.
        "elicitation/create" => {
            json!({"jsonrpc": "2.0", "id": id, "result": {"action": "cancel"}})
        }
        _ => json!({"jsonrpc": "2.0", "id": id, "error": {
            "code": -32601, "message": format!("{method} is not offered"),
        }}),
    }
}

/// A message in `text`; none where there is none. Of an answer that cannot be read whole, for instance since one of its
/// tools has a schema of a thousand levels, the tools that can be read, or an error in its place, so that nobody waits
/// for it in vain.
pub(super) fn message(text: &[u8]) -> Option<Value> {
    let whole: Option<Value> = serde_json::from_slice(text).ok();
    whole.filter(Value::is_object).or_else(|| salvaged(text))
}

fn salvaged(text: &[u8]) -> Option<Value> {
    // Raw values are passed over without going into them, however deep they are.
    #[derive(Deserialize)]
    struct Answer<'a> {
        id: Value,
        #[serde(borrow)]
        result: &'a RawValue,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Tools<'a> {
        #[serde(borrow)]
        tools: Vec<&'a RawValue>,
        next_cursor: Option<String>,
    }
    let Answer { id, result } = serde_json::from_slice(text).ok()?;
    Some(match serde_json::from_str::<Tools<'_>>(result.get()) {
        Ok(Tools { tools, next_cursor }) => {
            let readable = tools
                .iter()
                .filter_map(|tool| serde_json::from_str(tool.get()).ok());
            let tools: Vec<Value> = readable.collect();
            json!({"id": id, "result": {"tools": tools, "nextCursor": next_cursor}})
        }
        Err(_) => json!({"id": id, "error": {"message": "its answer could not be read"}}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tool_too_deep_to_read_costs_only_itself() {
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        let text = format!(
            r#"{{"id": 3, "result": {{"tools": [{{"name": "a"}}, {deep}], "nextCursor": "n"}}}}"#
        );
        let read = message(text.as_bytes()).unwrap();
        assert_eq!(
            read,
            json!({"id": 3, "result": {"tools": [{"name": "a"}], "nextCursor": "n"}})
        );
        let text = format!(r#"{{"id": 3, "result": {deep}}}"#);
        assert!(message(text.as_bytes()).unwrap()["error"].is_object());
        assert_eq!(message(b"Server ready."), None);
        assert_eq!(message(b"17"), None);
    }

    #[test]
    fn what_a_server_asks_of_us_is_refused() {
        let heard = Heard::default();
        let asked = |method: &str| {
            let message = json!({"jsonrpc": "2.0", "id": "x", "method": method});
            heard.take(&message).unwrap()
        };
        assert_eq!(asked("ping")["result"], json!({}));
        assert_eq!(asked("elicitation/create")["result"]["action"], "cancel");
        assert_eq!(asked("sampling/createMessage")["error"]["code"], -32601);
        assert_eq!(heard.take(&json!({"method": "notifications/odd"})), None);
        assert_eq!(heard.take(&json!({"id": 99, "result": {}})), None);
    }
}
