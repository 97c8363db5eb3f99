//! Names of things: UUID v7 for what we create, so that sorting by name sorts by time; text for what a model names.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that names nothing that we made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not an id")]
pub struct NotAnId;

macro_rules! uuid_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new name, later in order than every one made before it by this process.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self).map_err(|_| NotAnId)
            }
        }
    };
}

uuid_name!(
    /// Names a thread: one conversation over time.
    ThreadId
);
uuid_name!(
    /// Names a turn: from one user message to the end of the agent's work on it.
    TurnId
);
uuid_name!(
    /// Names an approval: one question about one access.
    ApprovalId
);

impl TurnId {
    /// When it was made, by our clock; of a name that somebody else made, the start of 1970.
    pub fn made_at(&self) -> SystemTime {
        let made = self.0.get_timestamp().map(|stamp| stamp.to_unix());
        let (seconds, nanoseconds) = made.unwrap_or_default();
        UNIX_EPOCH + Duration::new(seconds, nanoseconds)
    }
}

/// The model's own name for one of its calls; unique within a thread.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub String);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_the_time_they_were_made() {
        let names: Vec<ThreadId> = (0..1000).map(|_| ThreadId::generate()).collect();
        assert!(names.is_sorted());
    }
}
