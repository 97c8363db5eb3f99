//! The harness.

pub(crate) mod client;
pub(crate) mod commands;
pub(crate) mod harness;
pub(crate) mod home;
pub(crate) mod model_server;
pub(crate) mod outside;
pub(crate) mod turns;
