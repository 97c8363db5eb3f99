//! What a server sends, taken in: answers go to whoever waits for them, progress and questions to a person to whoever
//! follows, and all else that it asks of us is refused. A message is data until it is understood; one that is not is
//! passed over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt, future::BoxFuture};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::conversation::{shortened, shown_line};

/// An answer: the result, or what the server says instead.
pub(super) type Answer = Result<Value, String>;

/// What is to be sent to a server that asked something, once it is known.
pub(super) type Reply = BoxFuture<'static, Value>;

/// Answers to a server that are on their way at once; what it asks beyond that is not heard.
const MOST_REPLIES: usize = 64;

/// Questions to a person that one request may lead to.
const MOST_QUESTIONS: u32 = 10;

/// Who follows a request while it runs.
pub(super) trait Follower: Send + Sync {
    /// A person can be asked for this request; a question without a name may be about it.
    fn reaches_a_person(&self) -> bool;

    /// It goes on.
    fn progress(&self, line: String);

    /// The server wants to know something from a person (`elicitation/create`): the result for it.
    fn elicited(&self, params: Value) -> BoxFuture<'static, Value>;
}

/// Follows what nobody waits to hear of.
pub(super) struct Nobody;

impl Follower for Nobody {
    fn reaches_a_person(&self) -> bool {
        false
    }

    fn progress(&self, _: String) {}

    fn elicited(&self, _: Value) -> BoxFuture<'static, Value> {
        std::future::ready(cancelled()).boxed()
    }
}

/// The result of a question that nobody answered.
pub(super) fn cancelled() -> Value {
    json!({"action": "cancel"})
}

/// Shared by the reader of a connection and those who ask over it.
pub(super) struct Heard {
    /// The server says that what it offers changed.
    pub(super) changed: Notify,
    /// Nothing more comes.
    pub(super) closed: CancellationToken,
    /// Locked for a moment; nobody awaits under it.
    waiting: Mutex<HashMap<u64, Waiting>>,
    replies: Arc<Semaphore>,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            changed: Notify::new(),
            closed: CancellationToken::new(),
            waiting: Mutex::default(),
            replies: Arc::new(Semaphore::new(MOST_REPLIES)),
        }
    }
}

struct Waiting {
    answer: oneshot::Sender<Answer>,
    progress: f64,
    follower: Arc<dyn Follower>,
    /// A person is being asked.
    asking: Arc<watch::Sender<bool>>,
    questions: u32,
}

/// One who waits.
pub(super) struct Expected<'a> {
    pub(super) answer: oneshot::Receiver<Answer>,
    /// While a person is asked, time does not count.
    pub(super) asking: watch::Receiver<bool>,
    pub(super) waits: Waits<'a>,
}

/// Waiting, until this is dropped: whoever gives up, however that comes, is not waited for.
pub(super) struct Waits<'a> {
    heard: &'a Heard,
    id: u64,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.heard.waiting().remove(&self.id);
    }
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Heard")
    }
}

impl Heard {
    /// Waits for the answer to `id`.
    pub(super) fn expect(&self, id: u64, follower: Arc<dyn Follower>) -> Expected<'_> {
        let (answer, receiver) = oneshot::channel();
        let (asking, watching) = watch::channel(false);
        let waiting = Waiting {
            answer,
            progress: f64::NEG_INFINITY,
            follower,
            asking: Arc::new(asking),
            questions: 0,
        };
        self.waiting().insert(id, waiting);
        Expected {
            answer: receiver,
            asking: watching,
            waits: Waits { heard: self, id },
        }
    }

    /// True while somebody waits for `id`.
    pub(super) fn expects(&self, id: u64) -> bool {
        self.waiting().contains_key(&id)
    }

    /// The connection is gone, and with it every answer.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.waiting().clear();
    }

    /// Takes one message in, which came while `within` was answered, where that is known. What comes back is to be
    /// sent, by a task of its own: a person takes their time.
    pub(super) fn take(&self, message: &Value, within: Option<u64>) -> Option<Reply> {
        let id = &message["id"];
        let reply = match (message["method"].as_str(), id) {
            (Some(method), Value::Null) => {
                self.notified(method, &message["params"]);
                return None;
            }
            (Some("elicitation/create"), id) => self.elicited(id, message, within),
            (Some(method), id) => std::future::ready(reply(method, id)).boxed(),
            (None, id) => {
                self.answered(id, message);
                return None;
            }
        };
        Some(reply)
    }

    /// Sends what [`Self::take`] gave, by a task of its own. A server that asks and does not read gets no more than
    /// [`MOST_REPLIES`] of them.
    pub(super) fn reply<F: Future<Output = ()> + Send>(
        &self,
        reply: Reply,
        send: impl FnOnce(Value) -> F + Send + 'static,
    ) {
        if let Ok(permit) = self.replies.clone().try_acquire_owned() {
            tokio::spawn(async move {
                send(reply.await).await;
                drop(permit);
            });
        }
    }

    /// A question goes to whoever follows the request that it belongs to. On a pipe nothing says which that is, so it
    /// must be the only one whose follower can ask a person; and one question at a time.
    fn elicited(&self, id: &Value, message: &Value, within: Option<u64>) -> Reply {
        let answer =
            |id: Value, result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
        let id = id.clone();
        let mut waiting = self.waiting();
        let only = || {
            let mut able = waiting.iter();
            let mut able = able
                .by_ref()
                .filter(|(_, one)| one.follower.reaches_a_person());
            let first = able.next().map(|(id, _)| *id);
            first.filter(|_| able.next().is_none())
        };
        let asked = within.or_else(only).and_then(|id| waiting.get_mut(&id));
        let asked = asked
            .filter(|asked| asked.questions < MOST_QUESTIONS && !asked.asking.send_replace(true));
        let Some(asked) = asked else {
            return std::future::ready(answer(id, cancelled())).boxed();
        };
        asked.questions += 1;
        let asking = asked.asking.clone();
        let told = asked.follower.elicited(message["params"].clone());
        async move {
            let result = told.await;
            asking.send_replace(false);
            answer(id, result)
        }
        .boxed()
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
        waiting
            .follower
            .progress(shortened(&shown_line(&text), 200));
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a server hears that asks something of us.
fn reply(method: &str, id: &Value) -> Value {
    match method {
        "ping" => json!({"jsonrpc": "2.0", "id": id, "result": {}}),
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

    /// Answers at once, as a person who is there.
    struct There;

    impl Follower for There {
        fn reaches_a_person(&self) -> bool {
            true
        }

        fn progress(&self, _: String) {}

        fn elicited(&self, _: Value) -> BoxFuture<'static, Value> {
            std::future::ready(json!({"action": "accept"})).boxed()
        }
    }

    #[test]
    fn a_question_finds_the_one_request_that_a_person_follows() {
        let heard = Heard::default();
        let asked = || {
            let message = json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create"});
            let reply = heard.take(&message, None).unwrap();
            let reply = reply.now_or_never().unwrap();
            reply["result"]["action"].as_str().unwrap().to_owned()
        };
        let listening = heard.expect(1, Arc::new(Nobody));
        assert_eq!(asked(), "cancel");
        let call = heard.expect(2, Arc::new(There));
        assert_eq!(asked(), "accept");
        let other = heard.expect(3, Arc::new(There));
        assert_eq!(asked(), "cancel", "it may belong to either");
        drop(other);
        assert_eq!(asked(), "accept", "whoever gives up is forgotten");
        drop(call);
        assert_eq!(asked(), "cancel");
        assert!(heard.expects(1) && !heard.expects(2));
        drop(listening);
        assert!(!heard.expects(1));
    }

    #[test]
    fn what_a_server_asks_of_us_is_refused() {
        let heard = Heard::default();
        let asked = |method: &str| {
            let message = json!({"jsonrpc": "2.0", "id": "x", "method": method});
            heard
                .take(&message, None)
                .and_then(FutureExt::now_or_never)
                .unwrap()
        };
        assert_eq!(asked("ping")["result"], json!({}));
        assert_eq!(asked("elicitation/create")["result"]["action"], "cancel");
        assert_eq!(asked("sampling/createMessage")["error"]["code"], -32601);
        let none = |message: &Value| heard.take(message, None).is_none();
        assert!(none(&json!({"method": "notifications/odd"})));
        assert!(none(&json!({"id": 99, "result": {}})));
    }
}
