//! What the owner sets about the model.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Endpoint, Secret};

/// Which model, where, and on whose account.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The name that the provider knows, or `recorded:FILE`.
    pub name: String,
    /// Where the API is, up to and without `/responses` or `/chat/completions`.
    pub base_url: String,
    /// Which API is spoken there; without it, what the server at `base_url` is known to speak.
    pub wire_api: Option<WireApi>,
    /// The environment variable that holds the key.
    pub api_key_env: String,
    /// A file that holds the key; looked at where the variable is not set.
    pub api_key_file: Option<PathBuf>,
    /// A command and its arguments that print the key; run once, where neither variable nor file has it.
    pub api_key_command: Vec<String>,
    /// Headers that every request carries.
    pub headers: BTreeMap<String, String>,
    /// How hard to think, for models that reason.
    pub reasoning_effort: Option<Effort>,
    /// Tokens that the model takes; without it, what is known of the model.
    pub context_window: Option<u64>,
    /// What tokens of `name` cost.
    pub prices: Option<Prices>,
    /// False where the server takes no tools: then edits are read from the model's text.
    pub tools: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            name: "gpt-5.5".to_owned(),
            base_url: "https://api.openai.com/v1".to_owned(),
            wire_api: None,
            api_key_env: "OPENAI_API_KEY".to_owned(),
            api_key_file: None,
            api_key_command: Vec::new(),
            headers: BTreeMap::new(),
            reasoning_effort: None,
            context_window: None,
            prices: None,
            tools: true,
        }
    }
}

impl ModelConfig {
    /// Where `model` is asked with `key`. Window and prices are said of the configured model and of no other.
    pub fn endpoint(&self, model: &str, key: Option<Secret>) -> Endpoint {
        let is_it = model == self.name;
        let headers = self.headers.iter();
        Endpoint {
            key,
            key_variable: self.api_key_env.clone(),
            wire_api: self.wire_api,
            context_window: self.context_window.filter(|_| is_it),
            prices: self.prices.filter(|_| is_it),
            takes_tools: self.tools,
            headers: headers
                .map(|(name, value)| (name.clone(), Secret::new(value)))
                .collect(),
            ..Endpoint::new(self.base_url.clone(), model)
        }
    }
}

/// The APIs that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireApi {
    /// OpenAI's Responses.
    Responses,
    /// Chat Completions, which almost every server speaks.
    Chat,
}

/// How hard a model thinks before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// Not at all.
    None,
    /// As little as it can.
    Minimal,
    /// A little.
    Low,
    /// As most do.
    Medium,
    /// Long.
    High,
    /// As long as it can.
    Xhigh,
}

/// What a million tokens cost, in whatever currency the owner counts.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Sent, and not served from the provider's cache.
    pub input: f64,
    /// Sent and served from the cache; without it, as `input`.
    pub cached_input: Option<f64>,
    /// Received, reasoning included.
    pub output: f64,
}
