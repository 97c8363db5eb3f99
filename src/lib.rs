//! openoxide.
pub mod conversation;
pub mod model;
pub mod workspace;
