//! From the model's JSON to typed input, and the schema that tells the model what to write.

use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::ToolError;
use crate::model::ToolSpec;

/// The tool as the model sees it: the doc comment of `T` is its description.
pub(crate) fn spec<T: JsonSchema>(name: &str) -> ToolSpec {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings
        .with_transform(Plain)
        .into_generator()
        .into_root_schema_for::<T>();
    let description = schema
        .remove("description")
        .and_then(|d| d.as_str().map(str::to_owned))
        .unwrap_or_default();
    ToolSpec {
        name: name.to_owned(),
        description: one_line(&description),
        parameters: schema.to_value(),
    }
}

/// Reads the arguments, or says what is wrong with them in words that the model can act on.
pub(super) fn parse<T: DeserializeOwned>(name: &str, arguments: &str) -> Result<T, ToolError> {
    let text = if arguments.trim().is_empty() {
        "{}"
    } else {
        arguments
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| (error.path().to_string(), error.into_inner()));
    let whole = read.and_then(|input| {
        reader
            .end()
            .map(|()| input)
            .map_err(|error| (".".to_owned(), error))
    });
    whole.map_err(|(path, error)| {
        let at = if path == "." { String::new() } else { format!(" (at `{path}`)") };
        ToolError(format!(
            "the arguments of `{name}` could not be read{at}: {error}. Nothing was done; send the call again with arguments that fit its schema."
        ))
    })
}

/// A count, also where a model writes `"3"` or `3.0`.
pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    let whole = |n: f64| (n >= 0.0 && n.fract() == 0.0 && n < 1e15).then_some(n as usize);
    let found = match Value::deserialize(from)? {
        Value::Null => return Ok(None),
        Value::Number(n) => n.as_f64().and_then(whole),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    found
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom("expected a whole number, 0 or more"))
}

/// Seconds, also where a model writes `"3"`.
pub(super) fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let found = match Value::deserialize(from)? {
        Value::Null => return Ok(None),
        Value::Number(n) => n.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let fine = found.filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    fine.map(Some)
        .ok_or_else(|| serde::de::Error::custom("expected a number of seconds, 0 or more"))
}

/// Takes out of a schema what grammar converters of model servers stumble over, and what only costs tokens.
#[derive(Clone, Debug)]
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        for key in ["title", "format", "default", "minimum", "$schema"] {
            schema.remove(key);
        }
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|t| t != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                schema.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = one_line(text);
        }
        collapse_enum(schema);
    }
}

/// Doc comments are wrapped for readers of the source; the model needs no line ends.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `oneOf` of constants, which documented enums become, is an `enum`.
fn collapse_enum(schema: &mut Schema) {
    let Some(Value::Array(cases)) = schema.get("oneOf") else {
        return;
    };
    let names: Option<Vec<Value>> = cases
        .iter()
        .map(|case| case.get("const").cloned())
        .collect();
    if let Some(names) = names {
        schema.remove("oneOf");
        schema.insert("type".to_owned(), "string".into());
        schema.insert("enum".to_owned(), Value::Array(names));
    }
}
