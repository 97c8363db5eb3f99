//! The MCP server.
pub mod transport;
/// Temporary.
pub async fn serve(_app: crate::app::App, _wait: Option<Option<std::time::Duration>>) -> anyhow::Result<u8> { Ok(0) }
