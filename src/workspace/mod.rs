//! What can be done to a directory: no model, no questions.
pub mod edit;
