//! openoxide.
pub mod conversation;
pub mod frontend;
pub mod model;
