//! Schemas of external tools made acceptable: what model APIs and grammar converters of model servers take.
//!
//! What is kept is a list, since what a list of bad words forgets makes the whole request fail. A constraint that is
//! left out costs little: the server checks its own arguments.

use serde_json::{Map, Value, json};

use crate::conversation::{shortened, shown_text};

/// Keywords that are kept, where their value is one.
const KEPT: &[&str] = &["type", "enum", "const", "required", "minimum", "maximum"];
/// All that there is.
const TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];
/// Deeper is anything.
const DEEPEST: usize = 10;
/// Characters of a description inside a schema.
const DESCRIPTION: usize = 500;
/// Bytes; beyond it descriptions go first, then everything.
const LARGEST: usize = 16 * 1024;

/// `schema` as a model may be given it; always an object with `properties`.
pub(super) fn acceptable(schema: &Value) -> Value {
    let whole = object(Reading::of(schema, true).clean(schema, 0));
    if whole.to_string().len() <= LARGEST {
        return whole;
    }
    let terse = object(Reading::of(schema, false).clean(schema, 0));
    if terse.to_string().len() <= LARGEST {
        return terse;
    }
    json!({"type": "object", "properties": {}, "additionalProperties": true})
}

/// At the top nothing but an object is accepted.
fn object(cleaned: Value) -> Value {
    let Value::Object(mut map) = cleaned else {
        return json!({"type": "object", "properties": {}});
    };
    for key in ["anyOf", "enum", "const", "items"] {
        map.remove(key);
    }
    map.insert("type".to_owned(), "object".into());
    if !map.get("properties").is_some_and(Value::is_object) {
        map.insert("properties".to_owned(), json!({}));
    }
    Value::Object(map)
}

struct Reading<'a> {
    root: &'a Value,
    descriptions: bool,
    /// What is left of the work that one schema may cost.
    budget: std::cell::Cell<usize>,
}

impl<'a> Reading<'a> {
    fn of(root: &'a Value, descriptions: bool) -> Self {
        Self {
            root,
            descriptions,
            budget: 2_000.into(),
        }
    }

    fn clean(&self, schema: &Value, depth: usize) -> Value {
        let Value::Object(from) = schema else {
            return json!({});
        };
        let left = self.budget.get();
        if depth > DEEPEST || left == 0 {
            return json!({});
        }
        self.budget.set(left - 1);
        if let Some(target) = from.get("$ref").and_then(|target| self.target(target)) {
            return self.clean(target, depth + 1);
        }
        let mut map = Map::new();
        for (key, value) in from {
            if KEPT.contains(&key.as_str()) && is_valid(key, value) {
                map.insert(key.clone(), value.clone());
            }
        }
        if let (true, Some(Value::String(text))) = (self.descriptions, from.get("description")) {
            let text = shortened(&shown_text(text), DESCRIPTION);
            map.insert("description".to_owned(), text.into());
        }
        if let Some(Value::Object(properties)) = from.get("properties") {
            let cleaned = properties
                .iter()
                .map(|(name, property)| (name.clone(), self.clean(property, depth + 1)));
            map.insert("properties".to_owned(), Value::Object(cleaned.collect()));
        }
        match from.get("items").or_else(|| from.get("prefixItems")) {
            Some(Value::Array(several)) => {
                map.insert("items".to_owned(), self.any_of(several, depth));
            }
            Some(items) => {
                map.insert("items".to_owned(), self.clean(items, depth + 1));
            }
            None => {}
        }
        match from.get("additionalProperties") {
            Some(Value::Bool(open)) => {
                drop(map.insert("additionalProperties".to_owned(), (*open).into()))
            }
            Some(schema @ Value::Object(_)) => {
                map.insert(
                    "additionalProperties".to_owned(),
                    self.clean(schema, depth + 1),
                );
            }
            _ => {}
        }
        self.alternatives(from, &mut map, depth);
        plain_types(&mut map);
        needed(&mut map);
        Value::Object(map)
    }

    /// `anyOf`, `oneOf` and `allOf`: at the top, and in `allOf`, their properties come together; else `anyOf`.
    fn alternatives(&self, from: &Map<String, Value>, map: &mut Map<String, Value>, depth: usize) {
        for key in ["allOf", "anyOf", "oneOf"] {
            let Some(Value::Array(cases)) = from.get(key) else {
                continue;
            };
            if depth == 0 || key == "allOf" {
                for case in cases {
                    // One of several alternatives must not require what only it has.
                    merge(map, self.clean(case, depth + 1), key == "allOf");
                }
                continue;
            }
            let Value::Object(any) = self.any_of(cases, depth) else {
                continue;
            };
            map.extend(any);
        }
    }

    /// One schema for several; an alternative that is only `null` says no more than that it can be left out.
    fn any_of(&self, cases: &[Value], depth: usize) -> Value {
        let cases = cases
            .iter()
            .filter(|case| case.get("type") != Some(&"null".into()))
            .map(|case| self.clean(case, depth + 1));
        let mut cases: Vec<Value> = cases.collect();
        match cases.len() {
            0 => json!({}),
            1 => cases.remove(0),
            _ => json!({"anyOf": cases}),
        }
    }

    /// Only inside the schema itself: `#/$defs/x`.
    fn target(&self, target: &Value) -> Option<&'a Value> {
        self.root.pointer(target.as_str()?.strip_prefix('#')?)
    }
}

fn merge(into: &mut Map<String, Value>, from: Value, required: bool) {
    let Value::Object(from) = from else { return };
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if key == "properties" => {
                old.extend(new)
            }
            (Some(Value::Array(old)), Value::Array(new)) if key == "required" && required => {
                old.extend(new)
            }
            (None, value) if key != "required" || required => drop(into.insert(key, value)),
            _ => {}
        }
    }
}

/// Whether `value` is one that `key` can have. Model APIs refuse the whole request where it is not.
fn is_valid(key: &str, value: &Value) -> bool {
    match (key, value) {
        ("type", Value::Array(several)) => several.iter().any(is_type),
        ("type", one) => is_type(one),
        ("enum", Value::Array(values)) => !values.is_empty(),
        ("minimum" | "maximum", Value::Number(_)) | ("required", Value::Array(_)) => true,
        ("const", _) => true,
        _ => false,
    }
}

fn is_type(value: &Value) -> bool {
    value.as_str().is_some_and(|name| TYPES.contains(&name))
}

/// One type, or alternatives of one type each; `null` only says that it can be left out. An array has `items`.
fn plain_types(map: &mut Map<String, Value>) {
    match map.remove("type") {
        None => {}
        Some(Value::Array(types)) => {
            let named: Vec<Value> = types
                .into_iter()
                .filter(|t| is_type(t) && t != "null")
                .collect();
            match named.as_slice() {
                [] => {}
                [only] => one_type(map, only.clone()),
                several => several_types(map, several),
            }
        }
        Some(only) => one_type(map, only),
    }
}

fn one_type(map: &mut Map<String, Value>, only: Value) {
    if only == "array" {
        map.entry("items").or_insert_with(|| json!({}));
    } else {
        map.remove("items");
    }
    map.insert("type".to_owned(), only);
}

fn several_types(map: &mut Map<String, Value>, several: &[Value]) {
    let items = map.remove("items").unwrap_or_else(|| json!({}));
    let case = |kind: &Value| match kind == "array" {
        true => json!({"type": kind, "items": items}),
        false => json!({"type": kind}),
    };
    // Alternatives of its own say more than the names of their types.
    map.entry("anyOf")
        .or_insert_with(|| several.iter().map(case).collect());
}

/// `required` names properties that are there, each once.
fn needed(map: &mut Map<String, Value>) {
    let Some(Value::Array(required)) = map.remove("required") else {
        return;
    };
    let Some(Value::Object(properties)) = map.get("properties") else {
        return;
    };
    let mut names: Vec<Value> = Vec::new();
    for name in required {
        let known = name
            .as_str()
            .is_some_and(|name| properties.contains_key(name));
        if known && !names.contains(&name) {
            names.push(name);
        }
    }
    if !names.is_empty() {
        map.insert("required".to_owned(), names.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_come_out_as_every_model_server_takes_them() {
        for (given, made) in [
            (json!(null), json!({"type": "object", "properties": {}})),
            (
                json!({"type": "string"}),
                json!({"type": "object", "properties": {}}),
            ),
            (
                json!({"$schema": "x", "title": "T", "type": "object", "required": ["a", "gone", "a"],
                       "properties": {"a": {"type": ["string", "null"], "format": "uri", "default": "x", "description": "An a."}}}),
                json!({"type": "object", "properties": {"a": {"type": "string", "description": "An a."}}, "required": ["a"]}),
            ),
            (
                json!({"properties": {"p": {"$ref": "#/$defs/P"}}, "$defs": {"P": {"type": "integer", "minimum": 1, "exclusiveMaximum": 9}}}),
                json!({"type": "object", "properties": {"p": {"type": "integer", "minimum": 1}}}),
            ),
            (
                json!({"oneOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"properties": {"b": {}}}]}),
                json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {}}}),
            ),
            (
                json!({"properties": {"n": {"anyOf": [{"type": "null"}, {"type": "number"}]}, "l": {"type": "array"}}}),
                json!({"type": "object", "properties": {"n": {"type": "number"}, "l": {"type": "array", "items": {}}}}),
            ),
        ] {
            assert_eq!(acceptable(&given), made, "{given}");
        }
    }

    #[test]
    fn what_is_no_schema_costs_only_itself() {
        for (given, made) in [
            (json!({"type": "date"}), json!({})),
            (json!({"type": 7}), json!({})),
            (
                json!({"type": ["date", "string"]}),
                json!({"type": "string"}),
            ),
            (json!({"type": []}), json!({})),
            (json!({"enum": []}), json!({})),
            (json!({"enum": "x"}), json!({})),
            (
                json!({"type": "string", "enum": ["a"]}),
                json!({"type": "string", "enum": ["a"]}),
            ),
            (
                json!({"type": "integer", "minimum": "zero", "maximum": 9}),
                json!({"type": "integer", "maximum": 9}),
            ),
            (
                json!({"type": "array"}),
                json!({"type": "array", "items": {}}),
            ),
            (
                json!({"type": ["array", "null"]}),
                json!({"type": "array", "items": {}}),
            ),
            (
                json!({"type": "array", "items": "x"}),
                json!({"type": "array", "items": {}}),
            ),
            (
                json!({"type": ["array", "string"], "items": {"type": "integer"}}),
                json!({"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}]}),
            ),
            (
                json!({"anyOf": [{"type": "array"}, {"type": "date"}]}),
                json!({"anyOf": [{"type": "array", "items": {}}, {}]}),
            ),
            (
                json!({"type": "string", "items": {}, "required": "a"}),
                json!({"type": "string"}),
            ),
        ] {
            let whole = acceptable(&json!({"properties": {"p": given}}));
            assert_eq!(whole["properties"]["p"], made, "{given}");
        }
    }

    #[test]
    fn neither_size_nor_depth_nor_a_circle_gets_through() {
        let circle = json!({"$defs": {"T": {"properties": {"left": {"$ref": "#/$defs/T"}, "right": {"$ref": "#/$defs/T"}}}}, "$ref": "#/$defs/T"});
        assert!(acceptable(&circle).to_string().len() <= LARGEST);
        let many = (0..5_000).map(|n| (format!("property_{n}"), json!({"type": "string"})));
        let large = json!({"properties": Value::Object(many.collect())});
        let open = json!({"type": "object", "properties": {}, "additionalProperties": true});
        assert_eq!(acceptable(&large), open);
        let wordy = (0..20).map(|n| (format!("p{n}"), json!({"description": "x".repeat(9_000)})));
        let wordy = json!({"properties": Value::Object(wordy.collect())});
        assert!(acceptable(&wordy).to_string().len() <= LARGEST);
    }
}
