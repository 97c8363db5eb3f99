//! What comes in pieces and is put together: calls, and the details of reasoning.

use serde_json::{Map, Value};

use crate::model::{ModelError, failure::Peer, remote::arguments};

/// A call on its way.
#[derive(Default)]
pub(super) struct Partial {
    index: Option<u64>,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
    /// What else came with it.
    pub(super) rest: Map<String, Value>,
}

impl Partial {
    /// One entry of `tool_calls`.
    pub(super) fn of(json: &Value, peer: &Peer) -> Result<Self, ModelError> {
        let function = &json["function"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let known = ["index", "id", "type", "function"];
        let rest = json.as_object().into_iter().flatten();
        let rest = rest.filter(|(name, value)| !known.contains(&name.as_str()) && !value.is_null());
        Ok(Self {
            index: json["index"].as_u64(),
            id: text(&json["id"]),
            name: text(&function["name"]),
            arguments: arguments(&function["arguments"], peer)?,
            rest: rest
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        })
    }

    /// Puts the next part to it. Id and name only count the first time: some send them with every part.
    pub(super) fn take(&mut self, part: Self) {
        self.index = self.index.or(part.index);
        if self.id.is_empty() {
            self.id = part.id;
        }
        if self.name.is_empty() {
            self.name = part.name;
        }
        self.arguments.push_str(&part.arguments);
        self.rest.extend(part.rest);
    }

    pub(super) fn of_block((name, arguments): (&str, Value)) -> Self {
        Self {
            name: name.to_owned(),
            arguments: arguments.to_string(),
            ..Self::default()
        }
    }

    /// Whether `part` belongs to this call. An index or an id that differs is another call; without both, a part with a
    /// name is one, since only the first part has it. Some count every call as 0: there a second whole one is another.
    /// Some make up an id for every part: there one without a name goes on with the call of its index.
    pub(super) fn goes_on_with(&self, part: &Self) -> bool {
        let differs = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
        if differs(&self.id, &part.id) {
            return self.index.is_some() && self.index == part.index && part.name.is_empty();
        }
        match (self.index, part.index) {
            (Some(mine), Some(its)) if mine != its => return false,
            _ if !part.id.is_empty() && self.id == part.id => return true,
            (Some(_), Some(_)) => {}
            _ => return part.name.is_empty() || self.name.is_empty(),
        }
        let is_whole = serde_json::from_str::<Map<String, Value>>(&self.arguments).is_ok();
        part.name.is_empty() || part.arguments.is_empty() || !is_whole
    }
}

/// A detail that goes on with the last one is put to it: they come in pieces and go back whole.
pub(super) fn add_detail(details: &mut Value, detail: &Value) {
    let Some(details) = details.as_array_mut() else {
        return;
    };
    let goes_on = |last: &Value| {
        last["type"] == detail["type"]
            && last["index"] == detail["index"]
            && detail["index"].is_u64()
    };
    let (Some(last), Some(fields)) = (
        details.last_mut().filter(|last| goes_on(last)),
        detail.as_object(),
    ) else {
        details.push(detail.clone());
        return;
    };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match (&mut last[name.as_str()], value) {
            (Value::String(known), Value::String(more))
                if ["text", "summary", "data"].contains(&name.as_str()) =>
            {
                known.push_str(more);
            }
            (known, value) => *known = value.clone(),
        }
    }
}
