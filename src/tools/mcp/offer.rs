//! What an external server offers: its tools and resources, read with bounds, known again by digest, and kept between
//! runs so that a thread need not wait for the server to start.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Connection, Trouble},
    digest,
    heard::Nobody,
    mirrored::{self, Mirrored},
    schema,
    suggest::Index,
};
use crate::conversation::{shortened, shown_line, shown_text};

/// Pages of a list.
const MOST_PAGES: usize = 50;
/// Tools of one server.
const MOST_TOOLS: usize = 500;
/// Resources of one server.
const MOST_RESOURCES: usize = 1_000;
/// Characters of the description of a tool.
const DESCRIPTION: usize = 4_000;
/// One page; the whole start has its own bound.
const PAGE: Duration = Duration::from_secs(60);

/// What a server offers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Offer {
    /// Sorted by name, each name once.
    pub(super) tools: Vec<Offered>,
    pub(super) resources: Vec<Resource>,
    /// By the server's own word it holds until then, in milliseconds since 1970; for want of one until it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) holds_until: Option<u64>,
    /// For the resources, by their words.
    #[serde(skip)]
    pub(super) index: Index,
    /// It was not ready in time, and this is all that is known of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) late: bool,
}

/// One tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Offered {
    pub(super) name: String,
    /// Safe to show, not too long.
    pub(super) description: String,
    /// Acceptable to model APIs.
    pub(super) parameters: Value,
    /// What it says about itself that nobody should believe: `read-only`.
    pub(super) hints: Vec<String>,
    /// Of name, description, schema and hints as the server sent them.
    pub(super) digest: String,
    /// What goes into headers too; none where the server wants what cannot be.
    #[serde(default = "nothing")]
    pub(super) mirrored: Option<Mirrored>,
}

/// One resource, or a template of some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Resource {
    pub(super) uri: String,
    /// Its `uri` is a template (RFC 6570).
    pub(super) template: bool,
    /// Name and description, in one line.
    pub(super) about: String,
}

impl Offer {
    /// Asks the server. What cannot be understood is left out.
    pub(super) async fn read(connection: &Connection) -> Result<Self, String> {
        let mut offer = Self::default();
        // A server that declares nothing may still have tools; one that has none says so or refuses.
        let declared = connection.about.tools;
        match all(connection, "tools/list", "tools", MOST_TOOLS).await {
            Ok(tools) => {
                offer.tools = tools.entries.iter().filter_map(Offered::read).collect();
                offer.holds(&tools);
            }
            Err(Trouble::Refused(_)) if !declared => {}
            Err(Trouble::Locked(why)) => return Err(why),
            Err(trouble) => return Err(format!("it does not list its tools: {}", words(&trouble))),
        }
        if connection.mirrors() {
            offer.tools.retain(|tool| tool.mirrored.is_some());
        }
        offer.tools.sort_by(|a, b| a.name.cmp(&b.name));
        offer.tools.dedup_by(|a, b| a.name == b.name);
        if connection.about.resources {
            // Without them its tools are still worth having.
            let plain = all(connection, "resources/list", "resources", MOST_RESOURCES).await;
            let templates = all(
                connection,
                "resources/templates/list",
                "resourceTemplates",
                MOST_RESOURCES,
            )
            .await;
            for list in [plain, templates] {
                let list = list.unwrap_or_default();
                let resources = list.entries.iter().filter_map(Resource::read);
                offer.resources.extend(resources);
                offer.holds(&list);
            }
        }
        Ok(offer)
    }

    /// No longer than any of its lists.
    fn holds(&mut self, list: &Listed) {
        let until = list.ttl_ms.map(|ttl| now_ms().saturating_add(ttl));
        self.holds_until = self.holds_until.into_iter().chain(until).min();
    }

    /// Its server has said that it does not hold any more.
    pub(super) fn is_stale(&self) -> bool {
        self.holds_until.is_some_and(|until| until <= now_ms())
    }

    pub(super) fn tool(&self, name: &str) -> Option<&Offered> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    /// What was kept of an earlier run.
    pub(super) fn kept(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs_err::read(path).ok()?).ok()
    }

    /// Keeps it for the next run.
    pub(super) fn keep(&self, path: &Path) -> std::io::Result<()> {
        super::write_private(path, &serde_json::to_vec(self)?)
    }
}

impl Offered {
    pub(super) fn read(tool: &Value) -> Option<Self> {
        let name = tool["name"]
            .as_str()
            .filter(|name| !name.is_empty() && name.len() <= 500)?;
        let described = tool["description"].as_str().or(tool["title"].as_str());
        let hints = tool["annotations"].as_object().into_iter().flatten();
        let hints = hints.filter_map(|(hint, value)| hint_name(hint, value.as_bool()?));
        let raw = [
            name,
            described.unwrap_or_default(),
            &tool["inputSchema"].to_string(),
            &tool["annotations"].to_string(),
        ];
        Some(Self {
            name: name.to_owned(),
            description: shortened(&shown_text(described.unwrap_or_default()), DESCRIPTION),
            parameters: schema::acceptable(&tool["inputSchema"]),
            hints: hints.map(str::to_owned).collect(),
            digest: digest(&raw),
            mirrored: mirrored::wanted(&tool["inputSchema"]),
        })
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what serde wants")]
fn nothing() -> Option<Mirrored> {
    Some(Mirrored::new())
}

fn hint_name(hint: &str, value: bool) -> Option<&'static str> {
    match (hint, value) {
        ("readOnlyHint", true) => Some("read-only"),
        ("destructiveHint", true) => Some("destructive"),
        ("destructiveHint", false) => Some("not destructive"),
        ("idempotentHint", true) => Some("idempotent"),
        ("openWorldHint", false) => Some("closed world"),
        _ => None,
    }
}

impl Resource {
    fn read(resource: &Value) -> Option<Self> {
        let plain = resource["uri"].as_str();
        let uri = plain.or(resource["uriTemplate"].as_str())?;
        let about = [&resource["name"], &resource["description"]];
        let about = about
            .into_iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>();
        (uri.len() <= 2_000).then(|| Self {
            uri: uri.to_owned(),
            template: plain.is_none(),
            about: shortened(&shown_line(&about.join(": ")), 200),
        })
    }
}

/// What went wrong, for whoever reads it.
pub(super) fn words(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Refused(why) => shown_line(why),
        Trouble::TimedOut => "it took too long".to_owned(),
        Trouble::Cancelled => "it was interrupted".to_owned(),
        Trouble::Gone => "it ended".to_owned(),
        Trouble::Locked(why) => why.clone(),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A list that a server has given.
#[derive(Default)]
struct Listed {
    entries: Vec<Value>,
    /// For how long it holds, where the server says so: the least of its pages.
    ttl_ms: Option<u64>,
}

/// The entries of a list over its pages, as they came; what is beyond the bounds is left out.
async fn all(
    connection: &Connection,
    method: &str,
    key: &str,
    most: usize,
) -> Result<Listed, Trouble> {
    let mut found = Vec::new();
    let mut ttl_ms: Option<u64> = None;
    let mut page = json!({});
    let cancel = CancellationToken::new();
    for _ in 0..MOST_PAGES {
        let mut result = connection
            .ask(method, page.clone(), PAGE, &cancel, Arc::new(Nobody))
            .await?;
        if let Some(Value::Array(entries)) = result.get_mut(key).map(Value::take) {
            found.extend(entries);
        }
        ttl_ms = ttl_ms.into_iter().chain(result["ttlMs"].as_u64()).min();
        match result["nextCursor"].as_str() {
            Some(next) if found.len() < most => page["cursor"] = next.into(),
            _ => break,
        }
    }
    found.truncate(most);
    Ok(Listed {
        entries: found,
        ttl_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_known_again_only_while_it_says_the_same_of_itself() {
        let one = json!({"name": "a", "description": "Reads.", "inputSchema": {"type": "object"}});
        let digest = |tool: &Value| Offered::read(tool).unwrap().digest;
        assert_eq!(digest(&one), digest(&one.clone()));
        for (key, value) in [
            ("description", json!("Reads, and sends what it read.")),
            (
                "inputSchema",
                json!({"type": "object", "properties": {"x": {}}}),
            ),
            ("annotations", json!({"readOnlyHint": true})),
        ] {
            let mut other = one.clone();
            other[key] = value;
            assert_ne!(digest(&one), digest(&other), "{key}");
        }
    }

    #[test]
    fn what_cannot_be_a_tool_is_left_out_and_the_rest_is_made_safe() {
        assert_eq!(Offered::read(&json!({"description": "no name"})), None);
        assert_eq!(Offered::read(&json!(7)), None);
        let tool = Offered::read(
            &json!({"name": "x", "description": "a\u{200b}b", "annotations": {"readOnlyHint": true, "openWorldHint": "?"}}),
        );
        let tool = tool.unwrap();
        assert_eq!(tool.description, "a\\u{200b}b");
        assert_eq!(tool.hints, ["read-only"]);
        assert_eq!(tool.parameters["type"], "object");
    }
}
