//! What an external server wants to know, asked on the terminal field by field.

use std::io::{BufRead, Write};

use serde_json::{Map, Value, json};

use super::report::Report;
use crate::conversation::{Answer, Decision, Form, choices, shown_line, shown_text};

/// Asks, and waits for a person. Ended by them, or by the terminal going away, which is no answer.
pub(super) fn ask(form: &Form, mut terminal: impl BufRead) -> Option<Answer> {
    let whose = format!(
        "? the external server `{}` wants to know something; what you enter goes there and nowhere else. It says:",
        shown_line(&form.server)
    );
    Report::Stderr.line(super::prompt::QUESTION, &whose);
    for line in shown_text(&form.message).lines() {
        Report::Stderr.line(super::prompt::PLAIN, &format!("  {line}"));
    }
    loop {
        let typed = line("  [a]nswer, [d]ecline, [c]ancel: ", &mut terminal)?;
        match typed.to_lowercase().as_str() {
            "a" | "answer" => break,
            "d" | "decline" => return Some(Decision::Deny.into()),
            "c" | "cancel" => return None,
            _ => {}
        }
    }
    let mut entered = Map::new();
    for (name, field, required) in form.fields() {
        if let Some(value) = value(form, name, field, required, &mut terminal)? {
            entered.insert(name.to_owned(), value);
        }
    }
    Some(Answer {
        entered: Some(Value::Object(entered)),
        ..Answer::from(Decision::Approve)
    })
}

/// One field, asked again until what is typed fits; nothing typed is the default, or nothing. `None` if the terminal
/// went away.
fn value(
    form: &Form,
    name: &str,
    field: &Value,
    required: bool,
    terminal: &mut impl BufRead,
) -> Option<Option<Value>> {
    let only = Form {
        schema: json!({"properties": {name: field}, "required": []}),
        ..form.clone()
    };
    loop {
        let typed = line(&label(name, field, required), terminal)?;
        if typed.is_empty() && (!required || field.get("default").is_some()) {
            return Some(field.get("default").cloned());
        }
        let value = meant(field, &typed);
        if !typed.is_empty() && only.filled(&json!({name: value})).is_ok() {
            return Some(Some(value));
        }
        Report::Stderr.line(super::prompt::PLAIN, "  that does not fit");
    }
}

fn label(name: &str, field: &Value, required: bool) -> String {
    let mut words = vec![shown_line(field["title"].as_str().unwrap_or(name))];
    words.extend(field["description"].as_str().map(shown_line));
    let known = choices(field).or_else(|| choices(&field["items"]));
    words.push(match (field["type"].as_str(), known) {
        (Some("boolean"), _) => "yes or no".to_owned(),
        (Some("array"), Some(known)) => format!("some of: {}", shown_line(&known.join(", "))),
        (_, Some(known)) => format!("one of: {}", shown_line(&known.join(", "))),
        (kind, None) => shown_line(kind.unwrap_or("string")),
    });
    let default = field
        .get("default")
        .map(|default| shown_line(&default.to_string()));
    words.extend(default.map(|default| format!("nothing for {default}")));
    if !required && field.get("default").is_none() {
        words.push("may be left out".to_owned());
    }
    format!("  {}: ", words.join("; "))
}

/// What was typed as the field wants it; what cannot be that stays text and does not fit.
fn meant(field: &Value, typed: &str) -> Value {
    match field["type"].as_str() {
        Some("boolean") => match typed.to_lowercase().as_str() {
            "y" | "yes" | "true" => true.into(),
            "n" | "no" | "false" => false.into(),
            _ => typed.into(),
        },
        Some("integer" | "number") => serde_json::from_str(typed).unwrap_or_else(|_| typed.into()),
        Some("array") => typed.split(',').map(str::trim).collect(),
        _ => typed.into(),
    }
}

/// What is typed after `label`. If that cannot be shown, there is no use in waiting.
fn line(label: &str, terminal: &mut impl BufRead) -> Option<String> {
    write!(anstream::stderr().lock(), "{label}").ok()?;
    let mut typed = String::new();
    let read = terminal.read_line(&mut typed).ok()?;
    (read > 0).then(|| typed.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_asked_until_they_fit() {
        let schema = json!({"properties": {
            "name": {"type": "string"},
            "count": {"type": "integer", "minimum": 1, "default": 3},
            "sure": {"type": "boolean"},
            "of": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}},
        }, "required": ["name", "sure"]});
        let params = json!({"message": "m", "requestedSchema": schema});
        let form = Form::read("s", &params).unwrap();
        let typed = "what\na\n\nAna\n0\n\nperhaps\ny\nx, z\nx, y\n";
        let answer = ask(&form, typed.as_bytes()).unwrap();
        assert_eq!(answer.decision, Decision::Approve);
        assert_eq!(
            answer.entered,
            Some(json!({"name": "Ana", "count": 3, "sure": true, "of": ["x", "y"]}))
        );
        let declined = ask(&form, "d\n".as_bytes());
        assert_eq!(declined, Some(Decision::Deny.into()));
        assert_eq!(ask(&form, "c\n".as_bytes()), None);
        assert_eq!(ask(&form, "a\nAna\n".as_bytes()), None);
    }
}
