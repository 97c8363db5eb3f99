//! Parameters of a tool that its server wants to see in headers too (`x-mcp-header`, 2026-07-28 over HTTP).

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

/// Name of the header, and of the parameter.
pub(super) type Mirrored = Vec<(String, String)>;

/// What `schema` wants mirrored; none where it wants what cannot be, so that the tool is not to be used.
pub(super) fn wanted(schema: &Value) -> Option<Mirrored> {
    let mut taken = HashSet::new();
    let mut found = Mirrored::new();
    for (parameter, about) in schema["properties"].as_object().into_iter().flatten() {
        let Some(name) = about.get("x-mcp-header") else {
            if holds_deeper(about) {
                return None;
            }
            continue;
        };
        let name = name.as_str().filter(|name| is_token(name))?;
        let plain = ["string", "integer", "number", "boolean"].iter();
        let mut plain = plain.filter(|kind| about["type"] == **kind);
        if plain.next().is_none() || !taken.insert(name.to_ascii_lowercase()) {
            return None;
        }
        found.push((format!("Mcp-Param-{name}"), parameter.clone()));
    }
    Some(found)
}

/// Only parameters themselves can be mirrored.
fn holds_deeper(about: &Value) -> bool {
    match about {
        Value::Object(map) => map.contains_key("x-mcp-header") || map.values().any(holds_deeper),
        Value::Array(list) => list.iter().any(holds_deeper),
        _ => false,
    }
}

fn is_token(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !name.is_empty() && name.chars().all(fine)
}

/// A value as a header holds it; none for what is left out.
pub(super) fn value(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(safe(&text))
}

/// `text` where a header can hold it, else its bytes.
pub(super) fn safe(text: &str) -> String {
    let visible = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if visible && text.trim() == text && !text.starts_with("=?base64?") {
        return text.to_owned();
    }
    format!("=?base64?{}?=", BASE64_STANDARD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_can_be_mirrored_is_and_the_rest_spoils_the_tool() {
        let of = |about: Value| wanted(&json!({"properties": {"a": about}}));
        let good = of(json!({"type": "string", "x-mcp-header": "Region"}));
        assert_eq!(
            good,
            Some(vec![("Mcp-Param-Region".to_owned(), "a".to_owned())])
        );
        assert_eq!(of(json!({"type": "string"})), Some(Vec::new()));
        for bad in [
            json!({"type": "string", "x-mcp-header": ""}),
            json!({"type": "string", "x-mcp-header": "a b"}),
            json!({"type": "string", "x-mcp-header": "a\r\nb"}),
            json!({"type": "object", "x-mcp-header": "A"}),
            json!({"type": "object", "properties": {"b": {"type": "string", "x-mcp-header": "B"}}}),
        ] {
            assert_eq!(of(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn no_value_can_make_a_header_of_its_own() {
        for (given, made) in [
            (json!("us west"), Some("us west")),
            (json!(42), Some("42")),
            (json!(false), Some("false")),
            (json!(""), Some("")),
            (json!(" a"), Some("=?base64?IGE=?=")),
            (json!("a\r\nb"), Some("=?base64?YQ0KYg==?=")),
            (
                json!("=?base64?YQ==?="),
                Some("=?base64?PT9iYXNlNjQ/WVE9PT89?="),
            ),
            (json!(null), None),
        ] {
            assert_eq!(value(&given).as_deref(), made, "{given}");
        }
    }
}
