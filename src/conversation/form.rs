//! What an external server wants to know from a person: a flat form, made safe to show, and what may be entered.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{shortened, shown_line, shown_text};

/// Fields of one form.
const MOST_FIELDS: usize = 24;
/// Choices of one field.
const MOST_CHOICES: usize = 100;
/// Characters of a title, and of a choice.
const TITLE: usize = 120;
/// Characters of what is said about the whole, or about one field.
const WORDS: usize = 2_000;

/// A form. Whatever it says is the server's word; nobody has checked it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Form {
    /// As the owner calls it.
    pub server: String,
    /// What it says.
    pub message: String,
    /// A JSON Schema: an object of strings, numbers, booleans and choices.
    pub schema: Value,
}

impl Form {
    /// From the parameters of `elicitation/create`; none for what no person could fill in here, such as an address to
    /// visit.
    pub fn read(server: &str, params: &Value) -> Option<Self> {
        if params["mode"].as_str().is_some_and(|mode| mode != "form") {
            return None;
        }
        let asked = &params["requestedSchema"];
        let wished = match &asked["properties"] {
            Value::Object(fields) if fields.len() <= MOST_FIELDS => fields.clone(),
            Value::Null => Map::new(),
            _ => return None,
        };
        let mut fields = Map::new();
        for (name, wish) in wished {
            fields.insert(name, field(&wish)?);
        }
        let required = asked["required"].as_array().into_iter().flatten();
        let required: Vec<&str> = required
            .filter_map(Value::as_str)
            .filter(|name| fields.contains_key(*name))
            .collect();
        let message = params["message"].as_str().unwrap_or_default();
        Some(Self {
            server: server.to_owned(),
            message: shortened(&shown_text(message), WORDS),
            schema: json!({"type": "object", "properties": fields, "required": required}),
        })
    }

    /// Its fields in order: name, schema, and whether it must be there.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value, bool)> {
        let fields = self.schema["properties"].as_object().into_iter().flatten();
        fields.map(|(name, field)| {
            let required = self.schema["required"].as_array();
            let required = required.is_some_and(|names| names.iter().any(|other| other == name));
            (name.as_str(), field, required)
        })
    }

    /// What was entered, with defaults where nothing was, and without what was not asked for. One line says what does
    /// not fit.
    pub fn filled(&self, entered: &Value) -> Result<Value, String> {
        let mut filled = Map::new();
        for (name, field, required) in self.fields() {
            let given = Some(&entered[name]).filter(|given| !given.is_null());
            match given.or(field.get("default")) {
                Some(value) if fits(field, value) => {
                    filled.insert(name.to_owned(), value.clone());
                }
                Some(_) => return Err(format!("`{}` does not fit", shown_line(name))),
                None if required => return Err(format!("`{}` is missing", shown_line(name))),
                None => {}
            }
        }
        Ok(Value::Object(filled))
    }
}

/// The values that a choice can have.
pub fn choices(field: &Value) -> Option<Vec<&str>> {
    let titled = field["oneOf"].as_array().or(field["anyOf"].as_array());
    if let Some(cases) = titled {
        return Some(
            cases
                .iter()
                .filter_map(|case| case["const"].as_str())
                .collect(),
        );
    }
    let values = field["enum"].as_array()?;
    Some(values.iter().filter_map(Value::as_str).collect())
}

/// One field with what is known of it; none for what is no such field.
fn field(wish: &Value) -> Option<Value> {
    let kind = wish["type"].as_str()?;
    let mut made = Map::from_iter([("type".to_owned(), kind.into())]);
    for (key, most) in [("title", TITLE), ("description", WORDS)] {
        if let Some(text) = wish[key].as_str() {
            made.insert(key.to_owned(), shortened(&shown_line(text), most).into());
        }
    }
    let kept: &[&str] = match kind {
        "string" => {
            made.extend(choice(wish)?);
            &["minLength", "maxLength"]
        }
        "number" | "integer" => &["minimum", "maximum"],
        "boolean" => &[],
        "array" => {
            let items = choice(&wish["items"])?;
            let titled = items.contains_key("oneOf");
            let items = match titled {
                true => json!({"anyOf": items["oneOf"]}),
                false => json!({"type": "string", "enum": items.get("enum")?}),
            };
            made.insert("items".to_owned(), items);
            &["minItems", "maxItems"]
        }
        _ => return None,
    };
    let numbers = kept.iter().filter(|key| wish[**key].is_number());
    made.extend(numbers.map(|key| ((*key).to_owned(), wish[*key].clone())));
    let known = ["email", "uri", "date", "date-time"];
    if kind == "string" && known.iter().any(|format| wish["format"] == *format) {
        made.insert("format".to_owned(), wish["format"].clone());
    }
    let made = Value::Object(made);
    let default = Some(&wish["default"]).filter(|default| fits(&made, default));
    Some(with_default(made, default))
}

fn with_default(mut field: Value, default: Option<&Value>) -> Value {
    if let Some(default) = default {
        field["default"] = default.clone();
    }
    field
}

/// `enum` with its names, or `oneOf`; empty where anything may be entered, none where there are too many.
fn choice(wish: &Value) -> Option<Map<String, Value>> {
    let titled = wish["oneOf"].as_array().or(wish["anyOf"].as_array());
    if let Some(cases) = titled {
        let case = |case: &Value| {
            let value = case["const"].as_str()?;
            let title = case["title"].as_str().unwrap_or(value);
            Some(json!({"const": value, "title": shortened(&shown_line(title), TITLE)}))
        };
        let cases: Option<Vec<Value>> = cases.iter().map(case).collect();
        let cases = cases.filter(|cases| cases.len() <= MOST_CHOICES)?;
        return Some(Map::from_iter([("oneOf".to_owned(), cases.into())]));
    }
    let mut made = Map::new();
    let Some(values) = wish["enum"].as_array() else {
        return Some(made);
    };
    if values.len() > MOST_CHOICES || !values.iter().all(Value::is_string) {
        return None;
    }
    made.insert("enum".to_owned(), values.clone().into());
    if let Some(names) = wish["enumNames"].as_array() {
        let names = names.iter().filter_map(Value::as_str);
        let names: Vec<String> = names
            .map(|name| shortened(&shown_line(name), TITLE))
            .collect();
        if names.len() == values.len() {
            made.insert("enumNames".to_owned(), names.into());
        }
    }
    Some(made)
}

fn fits(field: &Value, value: &Value) -> bool {
    let within = |size: Option<f64>, least: &str, most: &str| {
        size.is_some_and(|size| {
            field[least].as_f64().is_none_or(|least| size >= least)
                && field[most].as_f64().is_none_or(|most| size <= most)
        })
    };
    let offered = |field: &Value, value: &Value| {
        let choices = choices(field);
        value.is_string() && choices.is_none_or(|known| known.iter().any(|one| value == one))
    };
    #[expect(clippy::cast_precision_loss, reason = "lengths of what a person types")]
    let size = |length: usize| Some(length as f64);
    match field["type"].as_str() {
        Some("string") => {
            let length = value.as_str().and_then(|text| size(text.chars().count()));
            offered(field, value) && within(length, "minLength", "maxLength")
        }
        Some("boolean") => value.is_boolean(),
        Some("integer") => {
            (value.is_i64() || value.is_u64()) && within(value.as_f64(), "minimum", "maximum")
        }
        Some("number") => within(value.as_f64(), "minimum", "maximum"),
        Some("array") => value.as_array().is_some_and(|chosen| {
            chosen.iter().all(|one| offered(&field["items"], one))
                && within(size(chosen.len()), "minItems", "maxItems")
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(properties: Value) -> Option<Form> {
        let schema = json!({"type": "object", "properties": properties, "required": ["a", "gone"]});
        Form::read("s", &json!({"message": "m", "requestedSchema": schema}))
    }

    #[test]
    fn a_form_keeps_what_a_person_can_fill_in() {
        let made = form(json!({
            "a": {"type": "string", "title": "A\u{202e}", "format": "email", "pattern": ".*", "default": 7},
            "b": {"type": "string", "enum": ["x", "y"], "enumNames": ["X", "Y"], "default": "y"},
            "c": {"type": "array", "items": {"anyOf": [{"const": "p", "title": "P"}]}, "maxItems": 2},
        }));
        let made = made.unwrap().schema;
        assert_eq!(
            made["properties"],
            json!({
                "a": {"type": "string", "title": "A\\u{202e}", "format": "email"},
                "b": {"type": "string", "enum": ["x", "y"], "enumNames": ["X", "Y"], "default": "y"},
                "c": {"type": "array", "items": {"anyOf": [{"const": "p", "title": "P"}]}, "maxItems": 2},
            })
        );
        assert_eq!(made["required"], json!(["a"]));
    }

    #[test]
    fn what_is_no_form_is_none() {
        for odd in [
            json!({"a": {"type": "object"}}),
            json!({"a": {"type": "string", "enum": [1]}}),
            json!({"a": {"type": "array", "items": {"type": "string"}}}),
            json!({"a": 7}),
            json!([]),
        ] {
            assert_eq!(form(odd.clone()), None, "{odd}");
        }
        let visit = json!({"mode": "url", "url": "https://evil", "message": "m"});
        assert_eq!(Form::read("s", &visit), None);
    }

    #[test]
    fn what_is_entered_must_fit_and_defaults_stand_in() {
        let form = form(json!({
            "a": {"type": "string", "maxLength": 3},
            "n": {"type": "integer", "minimum": 1, "default": 4},
            "e": {"type": "string", "enum": ["x"]},
        }));
        let form = form.unwrap();
        let filled = form.filled(&json!({"a": "abc", "more": 1}));
        assert_eq!(filled, Ok(json!({"a": "abc", "n": 4})));
        for (entered, words) in [
            (json!({}), "`a` is missing"),
            (json!({"a": "abcd"}), "`a` does not fit"),
            (json!({"a": "a", "n": 0}), "`n` does not fit"),
            (json!({"a": "a", "n": 1.5}), "`n` does not fit"),
            (json!({"a": "a", "e": "z"}), "`e` does not fit"),
        ] {
            assert_eq!(form.filled(&entered), Err(words.to_owned()), "{entered}");
        }
    }
}
