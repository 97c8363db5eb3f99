//! How many tokens a model takes: what is known by its name, what a refusal tells, and what its server says when asked.

use std::time::Duration;

use serde_json::Value;

use super::{Endpoint, EndpointError, transport::Reader};

/// Input tokens that a model takes, by the beginning of its name without the vendor's prefix; the longest beginning
/// counts. A server may be set to less (Ollama's `num_ctx`), which `model.context_window` says.
const WINDOWS: &[(&str, u64)] = &[
    ("claude-", 200_000),
    ("codestral", 256_000),
    ("deepseek", 128_000),
    ("devstral", 128_000),
    ("gemini-", 1_000_000),
    ("gemma", 128_000),
    ("glm-4", 128_000),
    ("glm-4.6", 200_000),
    ("glm-5", 200_000),
    ("gpt-3.5", 16_000),
    ("gpt-4", 8_000),
    ("gpt-4-turbo", 128_000),
    ("gpt-4.1", 1_000_000),
    ("gpt-4o", 128_000),
    ("gpt-5", 272_000),
    ("gpt-oss", 128_000),
    ("grok-4", 256_000),
    ("kimi-k2", 256_000),
    ("llama-3", 128_000),
    ("llama3", 128_000),
    ("minimax-m", 200_000),
    ("mistral", 128_000),
    ("o1", 200_000),
    ("o3", 200_000),
    ("o4", 200_000),
    ("qwen2.5-coder", 32_000),
    ("qwen3", 128_000),
    ("qwen3-coder", 256_000),
];

/// What is known of the window of `model`, in tokens.
pub(super) fn known(model: &str) -> Option<u64> {
    let name = model.rsplit('/').next().unwrap_or(model).to_lowercase();
    let known = WINDOWS.iter().filter(|(start, _)| name.starts_with(start));
    known
        .max_by_key(|(start, _)| start.len())
        .map(|(_, window)| *window)
}

/// Numbers outside are no windows.
const PLAUSIBLE: std::ops::Range<u64> = 256..1_000_000_000;

/// What stands before the number of tokens in a refusal: of OpenAI, vLLM and OpenRouter, LM Studio, llama.cpp (its words
/// and its `n_ctx`), Gemini, Anthropic's two.
const BEFORE: &[&str] = &[
    "maximum context length is",
    "maximum context length of",
    "context length of only",
    "reached context length of",
    "available context size (",
    "n_ctx",
    "maximum number of tokens allowed (",
    "prompt is too long:",
    "exceed context limit:",
];
/// What stands behind it: Mistral's.
const BEHIND: &str = "maximum context length";

/// The window that a refusal for the length of the conversation tells, if it tells one.
pub(super) fn told_in(words: &str) -> Option<u64> {
    let words = words.to_lowercase();
    let before = BEFORE.iter().find_map(|mark| {
        let (_, rest) = words.split_once(mark)?;
        // "208310 tokens > 200000 maximum", "190000 + 32000 > 200000".
        let rest = rest.split_once('>').map_or(rest, |(_, limit)| limit);
        leading_number(rest)
    });
    let behind = || {
        let (rest, _) = words.split_once(BEHIND)?;
        leading_number(rest.rsplit(' ').find(|word| !word.is_empty())?)
    };
    before
        .or_else(behind)
        .filter(|tokens| PLAUSIBLE.contains(tokens))
}

fn leading_number(text: &str) -> Option<u64> {
    let text = text.trim_start_matches([' ', ':', '=', '"', '(']);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != ',')
        .unwrap_or(text.len());
    text[..end].replace(',', "").parse().ok()
}

/// How long one question about a window may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The names that servers give to it: OpenRouter and Ollama, vLLM, Groq, LM Studio (what is loaded, what could be),
/// llama.cpp.
const NAMES: &[&str] = &[
    "loaded_context_length",
    "context_length",
    "max_model_len",
    "context_window",
    "max_context_length",
    "n_ctx",
];

/// The window that the server at `endpoint` says its model has. Asks it a few times; nothing where none of its answers
/// tells.
///
/// # Errors
///
/// The endpoint's parts cannot be used in HTTP requests.
pub async fn served(endpoint: &Endpoint) -> Result<Option<u64>, EndpointError> {
    let reader = Reader::new(endpoint)?;
    for place in PLACES.iter().chain([&"models"]) {
        let answer = tokio::time::timeout(PATIENCE, reader.get(place)).await;
        let told = answer.ok().flatten();
        let told = told.and_then(|json| window_in(&json, &endpoint.model));
        if told.is_some() {
            return Ok(told);
        }
    }
    Ok(None)
}

/// Where servers of one's own tell how a model was loaded, which is what counts: Ollama and LM Studio load with less
/// than the model could take. llama.cpp has one model.
const PLACES: &[&str] = &["../api/ps", "../api/v0/models", "../props"];

/// The window of `model` in what a server tells of itself or of its models.
fn window_in(json: &Value, model: &str) -> Option<u64> {
    let lists = [&json["data"], &json["models"]];
    let all: Vec<&Value> = lists
        .iter()
        .filter_map(|list| list.as_array())
        .flatten()
        .collect();
    let is_it = |entry: &&&Value| {
        ["id", "name", "model"]
            .iter()
            .any(|key| entry[*key] == *model)
    };
    let entry = all.iter().find(is_it).copied();
    // A server of one model answers whatever it is called, but Ollama's list is of what runs just now.
    let is_only = all.len() == 1 && json["data"].is_array();
    let entry = entry.or(is_only.then(|| all[0]));
    let entry = entry.or(all.is_empty().then_some(json))?;
    let parts = [
        entry,
        &entry["default_generation_settings"],
        &entry["top_provider"],
        &entry["meta"],
    ];
    let found = parts
        .iter()
        .flat_map(|part| NAMES.iter().map(|name| &part[*name]));
    found
        .filter_map(Value::as_u64)
        .find(|tokens| PLAUSIBLE.contains(tokens))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_window_is_known_by_the_longest_beginning() {
        let table = [
            ("gpt-4", Some(8_000)),
            ("openai/gpt-4.1-mini", Some(1_000_000)),
            ("gpt-5.5", Some(272_000)),
            ("Qwen/Qwen3-Coder-30B", Some(256_000)),
            ("qwen3:8b", Some(128_000)),
            ("never-heard-of", None),
        ];
        for (model, expect) in table {
            assert_eq!(known(model), expect, "{model}");
        }
    }

    #[test]
    fn a_refusal_tells_the_window_in_many_words() {
        let table = [
            (
                "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
                Some(8192),
            ),
            (
                "This endpoint's maximum context length is 1,048,576 tokens.",
                Some(1_048_576),
            ),
            ("maximum context length of 4096", Some(4096)),
            (
                "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
                Some(4096),
            ),
            (
                "the request exceeds the available context size [n_ctx 2048]",
                Some(2048),
            ),
            (
                "the model is loaded with context length of only 4096 tokens, which is not enough",
                Some(4096),
            ),
            (
                "Reached context length of 4096 tokens with this model",
                Some(4096),
            ),
            (
                "prompt is too long: 208310 tokens > 200000 maximum",
                Some(200_000),
            ),
            (
                "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000, decrease",
                Some(200_000),
            ),
            (
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
                Some(1_048_576),
            ),
            (
                "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
                Some(32_768),
            ),
            ("Please reduce the length of the messages", None),
            ("maximum context length is 7 tokens", None),
            ("maximum context length is exceeded", None),
        ];
        for (words, expect) in table {
            assert_eq!(told_in(words), expect, "{words}");
        }
    }

    #[test]
    fn a_server_tells_the_window_under_many_names() {
        let table = [
            (
                json!({"data": [{"id": "x", "context_length": 1}, {"id": "m", "context_length": 128_000}]}),
                Some(128_000),
            ),
            (
                json!({"data": [{"id": "m", "max_model_len": 32_768}]}),
                Some(32_768),
            ),
            (
                json!({"data": [{"id": "m", "context_window": 131_072}]}),
                Some(131_072),
            ),
            (
                json!({"data": [{"id": "m", "max_context_length": 131_072, "loaded_context_length": 4096}]}),
                Some(4096),
            ),
            (
                json!({"data": [{"id": "m", "context_length": null, "top_provider": {"context_length": 64_000}}]}),
                Some(64_000),
            ),
            (
                json!({"models": [{"name": "m", "model": "m", "context_length": 4096}]}),
                Some(4096),
            ),
            (
                json!({"default_generation_settings": {"n_ctx": 8192}}),
                Some(8192),
            ),
            (
                json!({"data": [{"id": "/models/a.gguf", "meta": {"n_ctx": 2048, "n_ctx_train": 131_072}}]}),
                Some(2048),
            ),
            (
                json!({"data": [{"id": "x", "context_length": 1000}, {"id": "y", "context_length": 1000}]}),
                None,
            ),
            (
                json!({"models": [{"name": "x", "context_length": 4096}]}),
                None,
            ),
            (json!({"data": []}), None),
            (json!({"data": [{"id": "m", "object": "model"}]}), None),
            (json!([]), None),
        ];
        for (json, expect) in table {
            assert_eq!(window_in(&json, "m"), expect, "{json}");
        }
    }
}
