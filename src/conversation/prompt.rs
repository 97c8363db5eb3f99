//! What somebody asks, with the pictures that go with it.

use serde::{Deserialize, Serialize};

use super::{Item, Redactor};

/// One message on its way into a thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// The whole message, text files that came with it included.
    pub text: String,
    /// Shown before it.
    pub pictures: Vec<Picture>,
}

/// One picture. Bounded by whoever reads it in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// The file it came from, as it was named.
    pub name: String,
    /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
    pub media_type: String,
    /// Base64; left out for those who only read along.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data: String,
}

impl Prompt {
    /// The same without known secrets in its text.
    pub fn cleaned(self, redactor: &Redactor) -> Self {
        Self {
            text: redactor.clean(self.text),
            ..self
        }
    }

    /// What it is in a conversation.
    pub fn items(self) -> Vec<Item> {
        let pictures = self.pictures.into_iter().map(Item::Picture);
        let text = Item::UserMessage { text: self.text };
        pictures.chain([text]).collect()
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self {
            text,
            pictures: Vec::new(),
        }
    }
}

impl Picture {
    /// The form in which models take it.
    pub fn data_url(&self) -> String {
        format!("data:{};base64,{}", self.media_type, self.data)
    }
}
