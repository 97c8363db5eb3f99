//! The numbers of tenants in the text form of Prometheus (version 0.0.4).
//!
//! A token shows the numbers of its own tenant: what others do is not for it to see, unless the owner of the server says
//! so in `server.tenants.NAME.all_metrics`.

use std::fmt::{Display, Write};

use crate::app::{BOUNDS, Counts, Times};

/// What the body of an answer is.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One tenant: its name, its numbers, and how many threads it has in memory.
pub(super) struct Account {
    pub(super) tenant: String,
    pub(super) counts: Counts,
    pub(super) in_memory: usize,
}

/// All numbers of `accounts`.
pub(super) fn text(accounts: &[Account]) -> String {
    let mut page = Page {
        text: String::new(),
        accounts,
    };
    page.each("threads", "gauge", "Threads in memory.", |a| a.in_memory);
    page.each("threads_created_total", "counter", "Threads made.", |a| {
        a.counts.threads
    });
    page.each("turns_running", "gauge", "Turns that run or wait.", |a| {
        a.counts.running.len()
    });
    page.by("turns_total", "Turns that ended, by how.", "status", |a| {
        named(a.counts.turns.iter())
    });
    page.times("turn_seconds", "How long turns took.", |a| {
        &a.counts.turn_seconds
    });
    page.each("steps_total", "counter", "Requests to the model.", |a| {
        a.counts.steps
    });
    page.each(
        "steps_failed_total",
        "counter",
        "Requests to the model that failed for good.",
        |a| a.counts.failed_steps,
    );
    page.times(
        "model_first_seconds",
        "From a request to the model to the first of its answer.",
        |a| &a.counts.first_seconds,
    );
    page.times(
        "model_seconds",
        "From a request to the model to the end of its answer.",
        |a| &a.counts.step_seconds,
    );
    page.by(
        "tokens_total",
        "Tokens, cached input and reasoning counted in theirs too.",
        "kind",
        |a| {
            let usage = &a.counts.usage;
            vec![
                ("input".to_owned(), usage.input_tokens),
                ("cached_input".to_owned(), usage.cached_input_tokens),
                ("output".to_owned(), usage.output_tokens),
                ("reasoning".to_owned(), usage.reasoning_tokens),
            ]
        },
    );
    page.by(
        "tool_calls_total",
        "Calls of the model, by tool.",
        "tool",
        |a| named(a.counts.calls.iter()),
    );
    page.each(
        "approvals_asked_total",
        "counter",
        "Questions that were asked.",
        |a| a.counts.asked,
    );
    page.by(
        "approvals_total",
        "Questions that were decided, by how.",
        "decision",
        |a| named(a.counts.decided.iter()),
    );
    page.times("approval_wait_seconds", "How long questions waited.", |a| {
        &a.counts.waited_seconds
    });
    page.text
}

/// A page as it is written: each number once, with all tenants that have it.
struct Page<'a> {
    text: String,
    accounts: &'a [Account],
}

impl Page<'_> {
    fn each<N: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        number: impl Fn(&Account) -> N,
    ) {
        self.head(name, kind, help);
        for account in self.accounts {
            self.line(name, &labels(account, None), number(account));
        }
    }

    fn by(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        numbers: impl Fn(&Account) -> Vec<(String, u64)>,
    ) {
        self.head(name, "counter", help);
        for account in self.accounts {
            for (value, number) in numbers(account) {
                self.line(name, &labels(account, Some((label, &value))), number);
            }
        }
    }

    fn times(&mut self, name: &str, help: &str, times: impl Fn(&Account) -> &Times) {
        self.head(name, "histogram", help);
        for account in self.accounts {
            let times = times(account);
            let ends = BOUNDS.iter().map(ToString::to_string).zip(times.within);
            for (end, count) in ends.chain([("+Inf".to_owned(), times.count)]) {
                let labels = labels(account, Some(("le", &end)));
                self.line(&format!("{name}_bucket"), &labels, count);
            }
            self.line(&format!("{name}_sum"), &labels(account, None), times.sum);
            self.line(
                &format!("{name}_count"),
                &labels(account, None),
                times.count,
            );
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(
            self.text,
            "# HELP openoxide_{name} {help}\n# TYPE openoxide_{name} {kind}"
        );
    }

    fn line(&mut self, name: &str, labels: &str, number: impl Display) {
        let _ = writeln!(self.text, "openoxide_{name}{{{labels}}} {number}");
    }
}

fn labels(account: &Account, more: Option<(&str, &str)>) -> String {
    let own = format!("tenant=\"{}\"", escaped(&account.tenant));
    match more {
        Some((label, value)) => format!("{own},{label}=\"{}\"", escaped(value)),
        None => own,
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

fn named<'a, N: Display + 'a>(
    counts: impl Iterator<Item = (&'a N, &'a u64)>,
) -> Vec<(String, u64)> {
    counts
        .map(|(name, count)| (name.to_string(), *count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_each_number_once_and_names_cannot_break_out() {
        let mut counts = Counts::default();
        counts.calls.insert("a\"} 1\nevil 2".to_owned(), 3);
        counts.step_seconds.count = 2;
        let account = |tenant: &str| Account {
            tenant: tenant.to_owned(),
            counts: counts.clone(),
            in_memory: 1,
        };
        let text = text(&[account("ana"), account("bob")]);
        for line in text.lines() {
            assert!(
                line.starts_with("# ") || line.starts_with("openoxide_"),
                "{line}"
            );
        }
        assert!(
            text.contains(r#"openoxide_tool_calls_total{tenant="bob",tool="a\"} 1\nevil 2"} 3"#),
            "{text}"
        );
        assert!(text.contains("openoxide_model_seconds_bucket{tenant=\"ana\",le=\"+Inf\"} 2\n"));
        assert_eq!(
            text.matches("# TYPE openoxide_steps_total counter").count(),
            1
        );
    }
}
