pub mod search;
pub mod shell;
