//! openoxide.
pub mod conversation;
pub mod model;
