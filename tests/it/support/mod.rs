//! The harness.

pub(crate) mod harness;
pub(crate) mod model_server;
