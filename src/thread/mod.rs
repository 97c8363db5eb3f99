//! A conversation over time. One actor owns each thread; whoever wants something of it holds a [`ThreadHandle`].
//!
//! The actor is the only writer of items and of the rollout. A running turn is a task of its own that reports to it, so
//! the mailbox answers at once whatever the turn does. Front-ends hold no conversation state.

mod actor;
pub mod answer;
mod approvals;
mod closing;
pub mod ending;
pub mod export;
pub mod fork;
mod handle;
mod holder;
mod idle;
mod lease;
mod link;
mod places;
pub mod rollout;
mod skim;
pub mod store;
pub mod threads;
pub mod undo;
mod writers;

pub use actor::Parts;
pub use handle::{
    Abandoned, DecideError, Follow, HandleError, Snapshot, Standing, StartError, Started,
    ThreadHandle,
};
pub use holder::visit;
pub use lease::Lease;
pub use places::Places;
pub use rollout::{Header, Isolated, Loaded, Policy, Record};
pub use store::{DirectoryStore, NoStore, StoreError, ThreadStore, ThreadSummary};
pub use threads::{Assemble, Threads, ThreadsError};
