//! Known servers as data: what each speaks, wants and leaves out. What is not known here is taken to be an
//! OpenAI-compatible server that speaks Chat Completions and wants a key.
//!
//! A new server is one more entry; nothing else in the program asks for a server by name.

use reqwest::Url;

use super::config::WireApi;

/// What one server, or one sort of server, needs.
#[derive(Debug, PartialEq)]
pub(super) struct Provider {
    /// What people call it.
    pub(super) name: &'static str,
    /// Names of hosts; with a dot at the beginning, their ends.
    hosts: &'static [&'static str],
    /// The port that it listens on unless told otherwise; only counts for servers on this machine.
    port: Option<u16>,
    /// What it speaks best.
    pub(super) wire_api: WireApi,
    /// Which header carries the key.
    pub(super) auth: Auth,
    /// Nobody is served without a key.
    pub(super) needs_key: bool,
    /// Takes `stream_options`, without which most do not count tokens in a stream.
    pub(super) counts_in_stream: bool,
    /// Takes `prompt_cache_key`.
    pub(super) takes_cache_key: bool,
    /// Takes its own reasoning back; the strict ones refuse the field.
    pub(super) takes_reasoning_back: bool,
    /// A body that ends cleanly without a `finish_reason` is whole. Only for servers that answer from this machine with
    /// nothing in between: one that dies resets the connection.
    pub(super) lenient_eof: bool,
}

/// How the key is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `api-key: KEY`.
    ApiKey,
}

const ANY: Provider = Provider {
    name: "OpenAI-compatible",
    hosts: &[],
    port: None,
    wire_api: WireApi::Chat,
    auth: Auth::Bearer,
    needs_key: true,
    counts_in_stream: true,
    takes_cache_key: true,
    takes_reasoning_back: true,
    lenient_eof: false,
};

const LOCAL: Provider = Provider {
    needs_key: false,
    lenient_eof: true,
    ..ANY
};

const KNOWN: &[Provider] = &[
    Provider {
        name: "OpenAI",
        hosts: &["api.openai.com"],
        wire_api: WireApi::Responses,
        ..ANY
    },
    Provider {
        name: "Azure",
        hosts: &[
            ".openai.azure.com",
            ".services.ai.azure.com",
            ".cognitiveservices.azure.com",
        ],
        wire_api: WireApi::Responses,
        auth: Auth::ApiKey,
        ..ANY
    },
    Provider {
        name: "OpenRouter",
        hosts: &["openrouter.ai"],
        ..ANY
    },
    // Refuses what it does not know: "property 'reasoning_content' is unsupported" (janhq/jan#8136).
    Provider {
        name: "Groq",
        hosts: &["api.groq.com"],
        takes_cache_key: false,
        takes_reasoning_back: false,
        ..ANY
    },
    Provider {
        name: "vLLM",
        port: Some(8000),
        ..LOCAL
    },
    Provider {
        name: "Ollama",
        port: Some(11434),
        ..LOCAL
    },
    Provider {
        name: "LM Studio",
        port: Some(1234),
        ..LOCAL
    },
    Provider {
        name: "llama.cpp",
        port: Some(8080),
        ..LOCAL
    },
];

impl Provider {
    /// Whether it is somebody's service, known by its host.
    pub(super) fn is_service(&self) -> bool {
        !self.hosts.is_empty()
    }
}

/// Who answers at `url`. A server on this machine that is not known by its port needs no key, and that is all that is
/// known of it.
pub(super) fn at(url: &Url, is_loopback: bool) -> Provider {
    let host = url.host_str().unwrap_or_default();
    let is_host = |end: &str| host == end || end.starts_with('.') && host.ends_with(end);
    let is_it = |known: &&Provider| {
        let by_port = is_loopback && known.port.is_some() && known.port == url.port();
        known.hosts.iter().any(|end| is_host(end)) || by_port
    };
    let provider = KNOWN.iter().find(is_it).unwrap_or(&ANY);
    // Azure's older addresses, of one deployment each, only speak Chat Completions.
    let wire_api = match url.path().contains("/deployments/") {
        true => WireApi::Chat,
        false => provider.wire_api,
    };
    Provider {
        needs_key: provider.needs_key && !is_loopback,
        wire_api,
        ..*provider
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_address() {
        use WireApi::{Chat, Responses};
        let table = [
            (
                "https://api.openai.com/v1",
                false,
                "OpenAI",
                Responses,
                true,
            ),
            (
                "https://me.openai.azure.com/openai/v1",
                false,
                "Azure",
                Responses,
                true,
            ),
            (
                "https://me.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21",
                false,
                "Azure",
                Chat,
                true,
            ),
            (
                "https://api.openai.com.evil.example/v1",
                false,
                "OpenAI-compatible",
                Chat,
                true,
            ),
            (
                "https://openrouter.ai/api/v1",
                false,
                "OpenRouter",
                Chat,
                true,
            ),
            ("https://api.groq.com/openai/v1", false, "Groq", Chat, true),
            ("http://localhost:8000/v1", true, "vLLM", Chat, false),
            ("http://127.0.0.1:11434/v1", true, "Ollama", Chat, false),
            ("http://[::1]:1234/v1", true, "LM Studio", Chat, false),
            ("http://localhost:8080/v1", true, "llama.cpp", Chat, false),
            (
                "http://127.0.0.1:40123/v1",
                true,
                "OpenAI-compatible",
                Chat,
                false,
            ),
            (
                "http://gpu.lan:8000/v1",
                false,
                "OpenAI-compatible",
                Chat,
                true,
            ),
        ];
        for (url, is_loopback, name, wire_api, needs_key) in table {
            let known = at(&Url::parse(url).unwrap(), is_loopback);
            let found = (known.name, known.wire_api, known.needs_key);
            assert_eq!(found, (name, wire_api, needs_key), "{url}");
        }
    }
}
