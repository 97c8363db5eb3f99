//! What is done to messages for a server that refuses them as they are. Each of these costs the provider's cache once, so
//! none is done before a server asks for it.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use serde_json::{Map, Value, json, value::RawValue};

use super::raw;
use crate::model::{remote::Field, short_name};

/// Messages told otherwise.
pub(super) type Concession = fn(&[Arc<RawValue>]) -> Vec<Arc<RawValue>>;

/// What a server does not take, and what is done then; in this order.
pub(super) const CONCESSIONS: &[(Field, Concession)] = &[
    (Field::Reasoning, without_reasoning),
    (Field::NoReasoning, with_reasoning),
    (Field::LongIds, with_short_ids),
    (Field::UserAfterTool, with_words_between),
    (Field::UserRuns, in_turns),
];

/// What stands for reasoning that there is none of: Kimi takes no empty text (charmbracelet/crush#2696).
const NO_THOUGHT: &str = " ";

/// What stands between the output of a call and a message of the user.
const BETWEEN: &str = "I was interrupted here.";

/// `messages` with those of the user that follow each other put into one.
fn in_turns(messages: &[Arc<RawValue>]) -> Vec<Arc<RawValue>> {
    let user = |message: &RawValue| {
        let message: Value = serde_json::from_str(message.get()).unwrap_or_default();
        let text = message["content"]
            .as_str()
            .filter(|_| message["role"] == "user");
        text.map(str::to_owned)
    };
    let mut turns: Vec<Arc<RawValue>> = Vec::new();
    let mut open: Option<String> = None;
    for message in messages {
        match (user(message), open.take()) {
            (Some(text), Some(before)) => {
                turns.pop();
                let text = format!("{before}\n\n{text}");
                turns.push(raw(&json!({"role": "user", "content": text})));
                open = Some(text);
            }
            (text, _) => {
                turns.push(message.clone());
                open = text;
            }
        }
    }
    turns
}

/// `messages` without the reasoning in them, for servers that do not take even their own back.
fn without_reasoning(messages: &[Arc<RawValue>]) -> Vec<Arc<RawValue>> {
    let has_some = |message: &RawValue| {
        message.get().starts_with(r#"{"role":"assistant""#)
            && message.get().contains(r#""reasoning"#)
    };
    let bare = messages.iter().map(|message| {
        if !has_some(message) {
            return message.clone();
        }
        let mut fields: Map<String, Value> =
            serde_json::from_str(message.get()).unwrap_or_default();
        fields.retain(|name, _| !name.starts_with("reasoning"));
        raw(&Value::Object(fields))
    });
    bare.collect()
}

/// `messages` with some reasoning in each of the assistant: a thread may have come from another model.
fn with_reasoning(messages: &[Arc<RawValue>]) -> Vec<Arc<RawValue>> {
    let thoughtful = messages.iter().map(|message| {
        let text = message.get();
        if !text.starts_with(r#"{"role":"assistant""#) || text.contains(r#""reasoning_content":"#) {
            return message.clone();
        }
        let mut fields: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
        fields.insert("reasoning_content".to_owned(), json!(NO_THOUGHT));
        raw(&Value::Object(fields))
    });
    thoughtful.collect()
}

/// `messages` with ids of calls in nine letters and digits. Only those of another provider have another form.
fn with_short_ids(messages: &[Arc<RawValue>]) -> Vec<Arc<RawValue>> {
    let short = messages.iter().map(|message| {
        let mut json: Value = serde_json::from_str(message.get()).unwrap_or_default();
        let calls = json["tool_calls"].as_array_mut().into_iter().flatten();
        calls.for_each(|call| shorten(&mut call["id"]));
        if json["tool_call_id"].is_string() {
            shorten(&mut json["tool_call_id"]);
        }
        raw(&json)
    });
    short.collect()
}

/// The same id gives the same name, so that an output still says which call it answers.
fn shorten(id: &mut Value) {
    let text = id.as_str().unwrap_or_default();
    if text.len() != 9 || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(text);
        *id = json!(short_name(hash.into()));
    }
}

/// `messages` with a word of the assistant wherever the user speaks right after a call.
fn with_words_between(messages: &[Arc<RawValue>]) -> Vec<Arc<RawValue>> {
    let has_role = |message: &RawValue, role: &str| {
        message.get().starts_with(&format!(r#"{{"role":"{role}""#))
    };
    let mut whole: Vec<Arc<RawValue>> = Vec::with_capacity(messages.len() + 1);
    for message in messages {
        let after_call = whole.last().is_some_and(|last| has_role(last, "tool"));
        if after_call && has_role(message, "user") {
            whole.push(raw(&json!({"role": "assistant", "content": BETWEEN})));
        }
        whole.push(message.clone());
    }
    whole
}
