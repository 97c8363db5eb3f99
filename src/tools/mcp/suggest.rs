//! Resources of external servers that fit a question, for servers that the owner marked with `context = true`: found by
//! name, address and description, read from what is known or what comes at once, and marked as data.
//!
//! Nobody waits for more than [`AT_ONCE`]; what comes later is there for the next question.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    Usable,
    audit::Journal,
    connection::Connection,
    offer::{Offer, Resource},
    resources::{READ, sending},
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
/// Different words of a question, and words of it at all: whoever pastes a book asks about its beginning.
const ASKED: usize = 100;
const HEARD: usize = 5_000;
/// Characters of an address that are looked at.
const ADDRESS: usize = 300;
/// Words that are in every question.
const COMMON: &[&str] = &[
    "and", "are", "for", "from", "has", "have", "how", "into", "not", "that", "the", "this", "was",
    "what", "when", "where", "which", "who", "why", "with", "you", "add", "all", "can", "make",
];

/// What stands behind a question; none where nothing fits it.
pub(super) async fn fitting(
    servers: &[Usable],
    question: &str,
    journal: &Journal,
) -> Option<String> {
    let by = Instant::now() + AT_ONCE;
    let marked = servers.iter().filter(|usable| usable.settings.context);
    let offers: Vec<(&Usable, Arc<Offer>)> = marked
        .map(|usable| (usable, usable.server.offer().unwrap_or_default()))
        .collect();
    let ranked = best(question, offers.iter().map(|(_, offer)| &**offer), by);
    let best: Vec<(&Usable, &Resource)> = ranked
        .into_iter()
        .map(|(server, at)| (offers[server].0, &offers[server].1.resources[at]))
        .collect();
    if best.is_empty() {
        return None;
    }
    let read = best.iter().map(|(usable, resource)| {
        let read = read((*usable).clone(), resource.uri.clone(), journal.clone());
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
async fn read(usable: Usable, uri: String, journal: Journal) -> Option<String> {
    let connection = usable.server.live()?;
    if let Some(known) = connection.known(&uri) {
        return Some(known);
    }
    let sent = journal.sends(sending(&usable.server.name, "context", &uri));
    let content = fetch(&connection, &uri, usable.settings.patience()).await;
    let outcome = if content.is_some() { "done" } else { "failed" };
    sent.ended(outcome, content.as_ref().map_or(0, String::len));
    content
}

async fn fetch(connection: &Connection, uri: &str, patience: Duration) -> Option<String> {
    let answer = connection.read(uri, patience).await.ok()?;
    let text = result::text_of_resource(&answer);
    connection.remember(uri, &text, &answer["ttlMs"]);
    Some(text)
}

/// The resources of an offer by their words: made once, when it is first asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(OnceLock<BTreeMap<String, Vec<usize>>>);

impl PartialEq for Index {
    /// Follows from what it is an index of.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Index {
    fn of(&self, resources: &[Resource]) -> &BTreeMap<String, Vec<usize>> {
        self.0.get_or_init(|| {
            let mut index: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            let plain = resources.iter().enumerate();
            for (at, resource) in plain.filter(|(_, resource)| !resource.template) {
                let address: String = resource.uri.chars().take(ADDRESS).collect();
                let text = format!("{address} {}", resource.about);
                let different: BTreeSet<String> = words(&text).collect();
                for word in different {
                    index.entry(word).or_default().push(at);
                }
            }
            index
        })
    }
}

/// Those that fit best, the best first, as the places of offer and resource. A word counts the more the fewer resources
/// have it. What is not looked at `by` then does not count.
fn best<'a>(
    question: &str,
    offers: impl Iterator<Item = &'a Offer>,
    by: Instant,
) -> Vec<(usize, usize)> {
    let in_time = || Instant::now() < by;
    let mut indices = Vec::new();
    let mut all = 0;
    for offer in offers.take_while(|_| in_time()) {
        indices.push(offer.index.of(&offer.resources));
        all += offer.resources.len();
    }
    let mut asked = BTreeSet::new();
    let mut scores: HashMap<(usize, usize), f64> = HashMap::new();
    for word in words(question).take(HEARD).take_while(|_| in_time()) {
        if asked.len() == ASKED || !asked.insert(word.clone()) {
            continue;
        }
        let has: Vec<(usize, usize)> = indices
            .iter()
            .enumerate()
            .flat_map(|(server, index)| alike(&word, index).into_iter().map(move |at| (server, at)))
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "some thousands at most")]
        let weight = (1.0 + all as f64 / has.len().max(1) as f64).ln();
        for at in has {
            *scores.entry(at).or_default() += weight;
        }
    }
    let mut order: Vec<((usize, usize), f64)> = scores.into_iter().collect();
    order.sort_by(|(a, one), (b, other)| other.total_cmp(one).then(a.cmp(b)));
    order.into_iter().take(MOST).map(|(at, _)| at).collect()
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    let words = parts.filter(|part| !part.is_empty()).map(str::to_lowercase);
    words.filter(|word| word.chars().count() > 2 && !COMMON.contains(&word.as_str()))
}

/// Those that have `word`, or one that is the other with an ending of a letter or two.
fn alike(word: &str, index: &BTreeMap<String, Vec<usize>>) -> BTreeSet<usize> {
    let mut found: BTreeSet<usize> = BTreeSet::new();
    found.extend(index.get(word).into_iter().flatten());
    if word.len() <= 3 {
        return found;
    }
    let from = (std::ops::Bound::Excluded(word), std::ops::Bound::Unbounded);
    let longer = index.range::<str, _>(from);
    let longer = longer.take_while(|(other, _)| other.starts_with(word));
    let longer = longer.filter(|(other, _)| other.len() - word.len() < 3);
    found.extend(longer.flat_map(|(_, at)| at));
    let shorter = (1..3).filter_map(|cut| word.get(..word.len().checked_sub(cut)?));
    let shorter = shorter.filter(|other| other.len() > 3);
    found.extend(shorter.filter_map(|other| index.get(other)).flatten());
    found
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
            for (asked, had) in [(one, other), (other, one)] {
                let index = BTreeMap::from([(had.to_owned(), vec![7])]);
                assert_eq!(!alike(asked, &index).is_empty(), same, "{asked} {had}");
            }
        }
    }

    fn offer(resources: usize) -> Offer {
        let resource = |n| Resource {
            uri: format!("mem://{n}/{}", "part/".repeat(300)),
            template: false,
            about: format!("about{n}: The parser of the language number{n:04} and its many rules."),
        };
        Offer {
            resources: (0..resources).map(resource).collect(),
            ..Offer::default()
        }
    }

    #[test]
    fn the_rarer_word_counts_more() {
        let offers = [offer(10), offer(20)];
        let by = Instant::now() + Duration::from_secs(60);
        let ranked = best("What of parsers and number0017?", offers.iter(), by);
        assert_eq!(ranked[0], (1, 17));
        assert_eq!(ranked.len(), MOST);
    }

    #[test]
    fn a_question_of_any_length_is_ranked_in_no_time() {
        let offers: Vec<Offer> = (0..10).map(|_| offer(1_000)).collect();
        let book: String = (0..200_000)
            .map(|n| format!("number{n:04} word{n} "))
            .collect();
        let far = Instant::now() + Duration::from_secs(600);
        best("parser", offers.iter(), far);
        let began = std::time::Instant::now();
        assert_eq!(best(&book, offers.iter(), far).len(), MOST);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(
            best(&book, offers.iter(), Instant::now()).is_empty(),
            "the time is over"
        );
    }
}
