//! The ways in: what people and programs speak with.
pub mod mcp;
