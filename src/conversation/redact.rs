//! Values of keys that we know are taken out where text enters, so that model, rollout, log and outcome agree.

use std::sync::Arc;

/// Replaces known secrets by a placeholder.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Arc<[String]>,
}

/// Shorter values would be found in ordinary text.
const SHORTEST_SECRET: usize = 8;

impl Redactor {
    /// `secrets` that are too short to be told from ordinary words are left alone.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let secrets = secrets
            .into_iter()
            .filter(|s| s.len() >= SHORTEST_SECRET)
            .collect();
        Self { secrets }
    }

    /// One that knows `secret` too.
    pub fn and(&self, secret: &str) -> Self {
        Self::new(self.secrets.iter().cloned().chain([secret.to_owned()]))
    }

    /// `text` without any known secret.
    pub fn clean(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) {
                text.replace(secret.as_str(), "[redacted]")
            } else {
                text
            }
        })
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_key_does_not_pass_and_a_short_word_does() {
        let redactor = Redactor::new(["sk-0123456789".to_owned(), "none".to_owned()]);
        assert_eq!(
            redactor.clean("key=sk-0123456789 none".to_owned()),
            "key=[redacted] none"
        );
        assert!(!format!("{redactor:?}").contains("sk-"));
    }
}
