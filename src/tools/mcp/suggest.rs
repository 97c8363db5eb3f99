//! Resources of external servers that fit a question, for servers that the owner marked with `context = true`: found by
//! name, address and description, read from what is known or what comes at once, and marked as data.
//!
//! Nobody waits for more than [`AT_ONCE`]; what comes later is there for the next question.

use std::{
    collections::HashSet,
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout_at;

use super::{
    Usable,
    audit::{Audit, Entry},
    connection::Connection,
    offer::Resource,
    resources::READ,
    result,
};
use crate::conversation::shown_line;

/// For all that is read, so that a turn begins as if there were nothing to read.
const AT_ONCE: Duration = Duration::from_millis(80);
/// Resources in one message.
const MOST: usize = 5;
/// Bytes of the content of one, and of all together.
const ONE: usize = 4_000;
const ALL: usize = 12_000;
/// Words that are in every question.
const COMMON: &[&str] = &[
    "and", "are", "for", "from", "has", "have", "how", "into", "not", "that", "the", "this", "was",
    "what", "when", "where", "which", "who", "why", "with", "you", "add", "all", "can", "make",
];

/// What stands behind a question; none where nothing fits it.
pub(super) async fn fitting(
    servers: &[Usable],
    question: &str,
    audit: &Arc<Audit>,
) -> Option<String> {
    let by = tokio::time::Instant::now() + AT_ONCE;
    let marked = servers.iter().filter(|usable| usable.settings.context);
    let known: Vec<(&Usable, Resource)> = marked
        .flat_map(|usable| {
            let offer = usable.server.offer().unwrap_or_default();
            let plain = offer.resources.iter().filter(|resource| !resource.template);
            plain
                .map(|resource| (usable, resource.clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    let best = best(question, &known);
    if best.is_empty() {
        return None;
    }
    let read = best.iter().map(|(usable, resource)| {
        let read = read((*usable).clone(), resource.uri.clone(), audit.clone());
        // It goes on by itself when it is late: the next question finds it.
        let read = tokio::spawn(read);
        async move { timeout_at(by, read).await.ok()?.ok()? }
    });
    let contents = futures_util::future::join_all(read).await;
    let mut text = "Resources of external servers that may have to do with this:".to_owned();
    let mut left = ALL;
    for ((usable, resource), content) in best.iter().zip(contents) {
        let (server, uri) = (&usable.server.name, shown_line(&resource.uri));
        let about = format!("{uri} {}", resource.about);
        let content = content.filter(|_| left > 0).map(|content| {
            let content = crate::tools::output::bounded(content, ONE.min(left));
            left = left.saturating_sub(content.len());
            content
        });
        let inside = match content {
            Some(content) => format!("{about}\n{content}"),
            None => format!("{about}\n(not read; `{READ}` does)"),
        };
        // Writing into a String cannot fail.
        let _ = write!(text, "\n\n{}", result::marked(server, &inside));
    }
    Some(text)
}

/// The content of one: what is known of it, or what the server says now.
async fn read(usable: Usable, uri: String, audit: Arc<Audit>) -> Option<String> {
    let connection = usable.server.live()?;
    if let Some(known) = connection.known(&uri) {
        return Some(known);
    }
    let started = Instant::now();
    let content = fetch(&connection, &uri, usable.settings.patience()).await;
    audit.note(&Entry {
        server: &usable.server.name,
        what: READ,
        call_id: "context",
        arguments: &uri,
        outcome: if content.is_some() { "done" } else { "failed" },
        bytes: content.as_ref().map_or(0, String::len),
        seconds: started.elapsed().as_secs_f64(),
    });
    content
}

async fn fetch(connection: &Connection, uri: &str, patience: Duration) -> Option<String> {
    let answer = connection.read(uri, patience).await.ok()?;
    let text = result::text_of_resource(&answer);
    connection.remember(uri, &text, &answer["ttlMs"]);
    Some(text)
}

/// Those that fit best, the best first. A word counts the more the fewer resources have it.
fn best<'a>(question: &str, known: &[(&'a Usable, Resource)]) -> Vec<(&'a Usable, Resource)> {
    let about = known.iter().map(|(_, resource)| {
        let text = format!("{} {}", resource.uri, resource.about);
        words(&text)
    });
    let about: Vec<HashSet<String>> = about.collect();
    let mut scores = vec![0.0; known.len()];
    for word in words(question) {
        let has: Vec<usize> = (0..known.len())
            .filter(|at| about[*at].iter().any(|other| alike(&word, other)))
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
        let weight = (1.0 + known.len() as f64 / has.len().max(1) as f64).ln();
        has.iter().for_each(|at| scores[*at] += weight);
    }
    let mut order: Vec<usize> = (0..known.len()).filter(|at| scores[*at] > 0.0).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let best = order.into_iter().take(MOST);
    best.map(|at| known[at].clone()).collect()
}

fn words(text: &str) -> HashSet<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    let words = parts.map(str::to_lowercase);
    words
        .filter(|word| word.chars().count() > 2 && !COMMON.contains(&word.as_str()))
        .collect()
}

/// Equal, or one is the other with an ending.
fn alike(one: &str, other: &str) -> bool {
    let (short, long) = match one.len() < other.len() {
        true => (one, other),
        false => (other, one),
    };
    short == long || (short.len() > 3 && long.len() - short.len() < 3 && long.starts_with(short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_alike_with_an_ending() {
        for (one, other, same) in [
            ("parser", "parser", true),
            ("parser", "parsers", true),
            ("log", "logs", false),
            ("parse", "parsimony", false),
            ("deploy", "deployment", false),
        ] {
            assert_eq!(alike(one, other), same, "{one} {other}");
        }
    }
}
