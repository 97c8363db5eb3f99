//! The harness.

pub(crate) mod model_server;
