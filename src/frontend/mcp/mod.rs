//! The MCP server.
pub mod transport;
