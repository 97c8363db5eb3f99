//! Streamable HTTP: rmcp's client over our own way of making connections.

use std::collections::HashMap;

use reqwest::header::{HeaderName, HeaderValue};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
};

use crate::model;

/// Bytes of one event.
const LARGEST_EVENT: usize = 8 << 20;

/// Where a server is, and what to show it.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) token: Option<String>,
}

impl std::fmt::Debug for Address {
    /// Without what nobody may see.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({})", self.url)
    }
}

/// A client of ours behind rmcp's transport.
pub(super) type Http = StreamableHttpClientTransport<reqwest::Client>;

/// A transport to `address`. Connects when it is used.
pub(super) fn transport(address: &Address) -> Result<Http, String> {
    let client = model::http_client(&address.url).map_err(|error| error.to_string())?;
    let mut headers = HashMap::new();
    for (name, value) in &address.headers {
        let parsed = (
            HeaderName::try_from(name),
            HeaderValue::from_str(value.trim()),
        );
        let (Ok(key), Ok(mut value)) = parsed else {
            return Err(format!("the header `{name}` cannot be sent"));
        };
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    let mut config = StreamableHttpClientTransportConfig::with_uri(address.url.as_str())
        .custom_headers(headers)
        .max_sse_event_size(LARGEST_EVENT);
    if let Some(token) = &address.token {
        config = config.auth_header(token.trim());
    }
    Ok(StreamableHttpClientTransport::with_client(client, config))
}
