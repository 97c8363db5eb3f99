//! What an external server wants to know from a person, on its way to one and back: as a request while a call is open
//! (up to 2025-11-25), or as a result after which the call comes again (2026-07-28).
//!
//! It goes to whoever attends the thread, never to a model, and is cancelled where nobody does. Everything else that a
//! server may want this way (samples of our model, roots) is not offered.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value, json};

use super::{
    Usable,
    connection::{Connection, Trouble},
    heard::{Follower, cancelled},
};
use crate::{
    conversation::{ApprovalKind, CallId, Decision, Form, ResolvedBy, shown_line},
    tools::{Call, Host, Progress, Question},
};

/// Times that one call comes again; the SDKs have the same bound.
const MOST_ROUNDS: u32 = 10;

/// Follows a call for the thread that made it.
pub(super) struct Person {
    server: String,
    call: CallId,
    host: Arc<dyn Host>,
}

impl Follower for Person {
    fn reaches_a_person(&self) -> bool {
        true
    }

    fn progress(&self, line: String) {
        self.host.progress(&self.call, Progress::Line(line));
    }

    fn elicited(&self, params: Value) -> BoxFuture<'static, Value> {
        let Some(form) = Form::read(&self.server, &params) else {
            return std::future::ready(cancelled()).boxed();
        };
        let (host, question) = (self.host.clone(), question(&self.call, form.clone()));
        async move {
            // Always comes back: with an answer, or since nobody attends, or with the end of the turn.
            let answered = host.ask(question).await;
            let entered = answered.answer.entered.unwrap_or_else(|| json!({}));
            match answered.answer.decision {
                Decision::Approve | Decision::ApproveForSession => match form.filled(&entered) {
                    Ok(content) => json!({"action": "accept", "content": content}),
                    Err(_) => cancelled(),
                },
                Decision::Deny if answered.by != ResolvedBy::Unattended => {
                    json!({"action": "decline"})
                }
                Decision::Deny | Decision::Abort => cancelled(),
            }
        }
        .boxed()
    }
}

fn question(call: &CallId, form: Form) -> Question {
    Question {
        call_id: call.clone(),
        kind: ApprovalKind::Input,
        summary: format!("answer the external server `{}`", shown_line(&form.server)),
        place: "which only a person can".to_owned(),
        detail: String::new(),
        reason: None,
        stands_on: String::new(),
        covers: None,
        form: Some(Box::new(form)),
    }
}

/// Asks for `method`, and again with what a person answered, until there is a result. Ends as one request does, and
/// after [`MOST_ROUNDS`].
pub(super) async fn ask(
    connection: &Connection,
    method: &str,
    params: Value,
    usable: &Usable,
    call: &Call,
) -> Result<Value, Trouble> {
    let person = Arc::new(Person {
        server: usable.server.name.clone(),
        call: call.id.clone(),
        host: call.host.clone(),
    });
    let mut again = params.clone();
    for _ in 0..MOST_ROUNDS {
        let patience = usable.settings.patience();
        let result = connection
            .ask(method, again, patience, &call.cancel, person.clone())
            .await?;
        if result["resultType"] != "input_required" {
            return Ok(result);
        }
        again = params.clone();
        again["inputResponses"] = answers(&result["inputRequests"], &person).await?;
        if !result["requestState"].is_null() {
            again["requestState"] = result["requestState"].clone();
        }
    }
    Err(Trouble::Refused(format!(
        "it wanted to know something {MOST_ROUNDS} times in one call"
    )))
}

/// One after the other, as a person answers.
async fn answers(requests: &Value, person: &Person) -> Result<Value, Trouble> {
    let mut answers = Map::new();
    for (key, request) in requests.as_object().into_iter().flatten() {
        let answer = match request["method"].as_str() {
            Some("elicitation/create") => person.elicited(request["params"].clone()).await,
            method => {
                let method = shown_line(method.unwrap_or("something"));
                let why = format!("it wants `{method}` of us, which is not offered");
                return Err(Trouble::Refused(why));
            }
        };
        answers.insert(key.clone(), answer);
    }
    Ok(Value::Object(answers))
}
