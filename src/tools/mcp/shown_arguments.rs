//! The arguments of a call as a person is shown them before they say yes: every key, long texts shortened.
//!
//! Whoever asks the question shows so many lines and no more. What would not be whole there is not asked about, since
//! nobody could know what they agree to.

use serde_json::{Map, Value};

use crate::tools::ToolError;

/// Lines of a question that shows all of it.
const LINES: usize = 60;
/// Bytes of one.
const BYTES: usize = 4_000;
/// Characters of a text, tried one after the other.
const SHORTENED: [usize; 4] = [2_000, 400, 100, 40];

/// `arguments` for a question. Those that run `unasked` are asked about nowhere, so they may be anything.
pub(super) fn of(arguments: &Map<String, Value>, unasked: bool) -> Result<String, ToolError> {
    let ways = SHORTENED.into_iter().flat_map(|most| {
        let short = shortened(arguments, most);
        [pretty(&short), one_a_line(&short)]
    });
    let mut fitting = ways.filter(|text| text.lines().count() <= LINES && text.len() <= BYTES);
    match fitting.next() {
        Some(text) => Ok(text),
        None if unasked => Ok(String::new()),
        None => Err(ToolError(format!(
            "a person has to agree to this call, and its arguments are more than a question can show (every key, within {LINES} lines and {BYTES} bytes). Nothing was done; ask for less at once."
        ))),
    }
}

fn pretty(arguments: &Map<String, Value>) -> String {
    // Values of JSON can always be written.
    serde_json::to_string_pretty(arguments).unwrap_or_default()
}

fn one_a_line(arguments: &Map<String, Value>) -> String {
    let lines = arguments
        .iter()
        .map(|(key, value)| format!("{}: {value}", Value::from(key.as_str())));
    lines.collect::<Vec<_>>().join("\n")
}

fn shortened(arguments: &Map<String, Value>, most: usize) -> Map<String, Value> {
    let one = |(key, value): (&String, &Value)| (key.clone(), value_shortened(value, most));
    arguments.iter().map(one).collect()
}

fn value_shortened(value: &Value, most: usize) -> Value {
    match value {
        Value::String(text) => text_shortened(text, most).into(),
        Value::Array(list) => list
            .iter()
            .map(|value| value_shortened(value, most))
            .collect(),
        Value::Object(map) => Value::Object(shortened(map, most)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The beginning and the end, and how much there is between them.
fn text_shortened(text: &str, most: usize) -> String {
    let characters = text.chars().count();
    if characters <= most {
        return text.to_owned();
    }
    let half = most / 2;
    let begin: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(characters - half).collect();
    format!("{begin} … {} characters … {end}", characters - 2 * half)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(arguments: &Value) -> Result<String, ToolError> {
        of(arguments.as_object().unwrap(), false)
    }

    #[test]
    fn every_key_is_shown_and_long_texts_are_shortened() {
        let many: Map<String, Value> = (0..50)
            .map(|n| (format!("key_{n}"), "x".repeat(5_000).into()))
            .collect();
        let nested =
            json!({"a": {"list": (0..90).collect::<Vec<_>>(), "to": "x"}, "z": "y\n".repeat(200)});
        for arguments in [Value::Object(many), nested] {
            let text = shown(&arguments).unwrap();
            assert!(
                text.lines().count() <= LINES && text.len() <= BYTES,
                "{text}"
            );
            for key in arguments.as_object().unwrap().keys() {
                assert!(text.contains(&format!("\"{key}\": ")), "{key}: {text}");
            }
        }
        let plain = json!({"text": "to be seen"});
        assert_eq!(shown(&plain).unwrap(), "{\n  \"text\": \"to be seen\"\n}");
    }

    #[test]
    fn what_a_question_cannot_show_is_not_asked_about() {
        let many: Map<String, Value> = (0..80).map(|n| (format!("k{n}"), n.into())).collect();
        let refused = of(&many, false).unwrap_err();
        assert!(
            refused.0.contains("more than a question can show"),
            "{refused:?}"
        );
        assert!(of(&many, true).is_ok());
        let deep = json!({"list": (0..3_000).map(|n| json!({"a": n})).collect::<Vec<_>>()});
        assert!(shown(&deep).is_err());
    }
}
