//! Rollouts that were damaged in any way: the reader takes what is there, and what it gives can be sent to a model.

use std::collections::HashSet;

use openoxide::{
    conversation::{CallId, Item},
    thread::{Loaded, rollout},
};
use proptest::prelude::*;

/// One thing that befalls a file. Places are fractions of its length.
#[derive(Clone, Debug)]
enum Damage {
    /// These bytes stand there instead.
    Overwritten(f64, Vec<u8>),
    /// These bytes stand there too.
    Inserted(f64, Vec<u8>),
    /// So many bytes are gone.
    Lost(f64, usize),
    /// The file ends there.
    Truncated(f64),
    /// A line is gone.
    LineLost(f64),
    /// A line stands there twice.
    LineTwice(f64),
    /// Two lines changed places.
    LinesSwapped(f64, f64),
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let place = || 0.0..1.0f64;
        let bytes = || prop::collection::vec(any::<u8>(), 1..40);
        prop_oneof![
            (place(), bytes()).prop_map(|(at, bytes)| Self::Overwritten(at, bytes)),
            (place(), bytes()).prop_map(|(at, bytes)| Self::Inserted(at, bytes)),
            (place(), 1..300usize).prop_map(|(at, count)| Self::Lost(at, count)),
            place().prop_map(Self::Truncated),
            place().prop_map(Self::LineLost),
            place().prop_map(Self::LineTwice),
            (place(), place()).prop_map(|(one, other)| Self::LinesSwapped(one, other)),
        ]
    }

    /// Does it to everything behind the header.
    fn befall(&self, body: &mut Vec<u8>) {
        let at = |place: f64| (place * body.len() as f64) as usize;
        match self {
            Self::Overwritten(place, bytes) => {
                let start = at(*place);
                let end = (start + bytes.len()).min(body.len());
                body.splice(start..end, bytes.iter().copied());
            }
            Self::Inserted(place, bytes) => {
                let start = at(*place);
                body.splice(start..start, bytes.iter().copied());
            }
            Self::Lost(place, count) => {
                let start = at(*place);
                body.drain(start..(start + count).min(body.len()));
            }
            Self::Truncated(place) => body.truncate(at(*place)),
            Self::LineLost(place) => lines(body, |lines| {
                lines.remove((place * lines.len() as f64) as usize);
            }),
            Self::LineTwice(place) => lines(body, |lines| {
                let line = (place * lines.len() as f64) as usize;
                lines.insert(line, lines[line].clone());
            }),
            Self::LinesSwapped(one, other) => lines(body, |lines| {
                let count = lines.len() as f64;
                lines.swap((one * count) as usize, (other * count) as usize);
            }),
        }
    }
}

fn lines(body: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut lines: Vec<Vec<u8>> = body
        .split_inclusive(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    if !lines.is_empty() {
        change(&mut lines);
    }
    *body = lines.concat();
}

/// What a provider would refuse: a call without an output, an output without a call, either of them twice. The calls of
/// an open turn get their outputs when it is closed.
fn assert_paired(loaded: &Loaded) {
    let open = loaded
        .open_turn()
        .into_iter()
        .flat_map(|turn| &turn.open_calls);
    let open: HashSet<&CallId> = open.map(|open| &open.call.call_id).collect();
    let (mut called, mut answered) = (HashSet::new(), HashSet::new());
    for item in &loaded.items {
        match item {
            Item::ToolCall(call) => assert!(called.insert(&call.call_id), "called twice: {call:?}"),
            Item::ToolOutput(output) => {
                assert!(
                    called.contains(&output.call_id),
                    "answers nothing: {output:?}"
                );
                assert!(
                    answered.insert(&output.call_id),
                    "answers again: {output:?}"
                );
            }
            _ => {}
        }
    }
    for call in called {
        let closed = answered.contains(call);
        assert!(
            closed != open.contains(call),
            "{call:?}: closed {closed}, and open the other way"
        );
    }
}

fn fixtures() -> Vec<Vec<u8>> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/rollouts/v1");
    let files = std::fs::read_dir(directory).expect("fixtures");
    files
        .map(|file| std::fs::read(file.expect("a file").path()).expect("its bytes"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_befalls_a_rollout_it_loads_and_can_be_sent(
        which in any::<prop::sample::Index>(),
        damages in prop::collection::vec(Damage::any(), 1..6),
    ) {
        let fixtures = fixtures();
        let whole = which.get(&fixtures);
        let header = whole.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
        let mut body = whole[header..].to_vec();
        for damage in &damages {
            damage.befall(&mut body);
        }
        let loaded = rollout::read(&[&whole[..header], &body].concat()).expect("its header is whole");
        assert_paired(&loaded);
        for turn in &loaded.turns {
            prop_assert!(turn.first_item <= loaded.items.len());
        }
    }

    #[test]
    fn bytes_that_are_no_rollout_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        // Neither ends the program.
        let _ = rollout::read(&bytes);
    }
}
