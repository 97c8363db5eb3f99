//! Which tools of external servers a new thread has: what the servers offer and their owner allows, within the places
//! and the bytes that a model API and a context have for them.
//!
//! What there is of either is shared fairly: a server that needs less than its part leaves the rest to the others, and
//! none can push the others out. What is left out is named.

use super::{Outside, Settings, Usable, names, offer::Offered, resources, tool};
use crate::{
    conversation::{shortened, shown_line},
    model::ToolSpec,
};

/// Model APIs take no more tools than this, ours included.
const MOST_TOOLS: usize = 110;
/// Bytes of all of them together, as they are sent with every request.
const MOST_BYTES: usize = 64 << 10;
/// Tools that a warning names.
const NAMED: usize = 10;

/// What a thread has of external servers.
#[derive(Debug, Default)]
pub struct Chosen {
    /// As the model sees them, in a stable order.
    pub specs: Vec<ToolSpec>,
    /// What stands behind them.
    pub outside: Vec<Outside>,
    /// What somebody should know: servers that could not be asked, tools that were left out.
    pub warnings: Vec<String>,
}

/// The tools of `servers` for a new thread. Waits only for servers that were never seen before, side by side, each at
/// most its start-up time. `only_unasked`: nothing that would need a question. `ours`: names that are taken.
pub async fn choose(servers: &[Usable], only_unasked: bool, ours: &[ToolSpec]) -> Chosen {
    let offers = servers.iter().map(|usable| usable.server.first_offer());
    let offers = futures_util::future::join_all(offers).await;
    let mut chosen = Chosen::default();
    let mut found: Vec<Found> = Vec::new();
    for (Usable { server, settings }, offer) in servers.iter().zip(offers) {
        let name = shown_line(&server.name);
        match offer {
            Err(why) => chosen.warnings.push(format!(
                "external server `{name}` is left out: {why}; `openoxide mcp test {name}` shows more"
            )),
            Ok(offer) => {
                let readable = !only_unasked || settings.reads_unasked();
                if readable && !offer.resources.is_empty() {
                    chosen.outside.push(Outside {
                        name: resources::READ.to_owned(),
                        server: server.name.clone(),
                        tool: String::new(),
                        digest: String::new(),
                    });
                }
                found.push(Found {
                    server: server.name.clone(),
                    tools: allowed(&offer.tools, settings, only_unasked),
                });
            }
        }
    }
    if !chosen.outside.is_empty() {
        chosen.specs.extend(resources::specs());
    }
    let room = MOST_TOOLS.saturating_sub(ours.len() + chosen.specs.len());
    chosen.warnings.extend(share(&mut found, room, MOST_BYTES));
    chosen.take(found);
    chosen
}

fn allowed(tools: &[Offered], settings: &Settings, only_unasked: bool) -> Vec<Offered> {
    let is_allowed = |tool: &&Offered| {
        settings.offers(&tool.name) && (!only_unasked || settings.runs_unasked(&tool.name))
    };
    tools.iter().filter(is_allowed).cloned().collect()
}

impl Chosen {
    fn take(&mut self, found: Vec<Found>) {
        let pairs = found.iter().flat_map(|Found { server, tools }| {
            tools
                .iter()
                .map(|tool| (server.as_str(), tool.name.as_str()))
        });
        let names = names::names(pairs);
        let tools = found.into_iter().flat_map(|Found { server, tools }| {
            tools.into_iter().map(move |t| (server.clone(), t))
        });
        for (name, (server, tool)) in names.into_iter().zip(tools) {
            self.specs.push(tool::spec(&name, &server, &tool));
            self.outside.push(Outside {
                name,
                server,
                tool: tool.name,
                digest: tool.digest,
            });
        }
    }
}

/// What one server has for a thread.
struct Found {
    server: String,
    tools: Vec<Offered>,
}

/// Leaves each server what is its part of `places` and `bytes`; gives what is to be said of the rest.
fn share(found: &mut [Found], places: usize, bytes: usize) -> Vec<String> {
    let needs: Vec<usize> = found.iter().map(|found| found.tools.len()).collect();
    let mut left_out: Vec<Vec<Offered>> = found
        .iter_mut()
        .zip(shares(&needs, places))
        .map(|(found, share)| found.tools.split_off(share.min(found.tools.len())))
        .collect();
    let size = |found: &Found| {
        found
            .tools
            .iter()
            .map(|tool| size(&found.server, tool))
            .sum()
    };
    let needs: Vec<usize> = found.iter().map(size).collect();
    for ((found, share), left_out) in found
        .iter_mut()
        .zip(shares(&needs, bytes))
        .zip(&mut left_out)
    {
        left_out.extend(within(found, share));
    }
    let left_out = found.iter().zip(&left_out);
    left_out
        .filter(|(_, tools)| !tools.is_empty())
        .map(|(found, tools)| warning(&found.server, tools))
        .collect()
}

/// Each need as far as `room` goes: whoever needs less than an even part leaves the rest to the others.
fn shares(needs: &[usize], room: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|at| needs[*at]);
    let (mut left, mut shares) = (room, vec![0; needs.len()]);
    for (served, at) in order.iter().enumerate() {
        shares[*at] = needs[*at].min(left / (needs.len() - served));
        left -= shares[*at];
    }
    shares
}

/// Takes out what does not fit into `bytes`, in the order of the list.
fn within(found: &mut Found, bytes: usize) -> Vec<Offered> {
    let mut left = bytes;
    let tools = std::mem::take(&mut found.tools).into_iter();
    let (fit, rest) = tools.partition(|tool| {
        let size = size(&found.server, tool);
        let fits = size <= left;
        left -= if fits { size } else { 0 };
        fits
    });
    found.tools = fit;
    rest
}

/// About what it takes in a request.
fn size(server: &str, tool: &Offered) -> usize {
    let spec = tool::spec(&tool.name, server, tool);
    spec.name.len() + spec.description.len() + spec.parameters.to_string().len()
}

fn warning(server: &str, tools: &[Offered]) -> String {
    let names = tools.iter().take(NAMED);
    let mut names: Vec<String> = names
        .map(|tool| format!("`{}`", shortened(&shown_line(&tool.name), 80)))
        .collect();
    if tools.len() > NAMED {
        names.push(format!("{} more", tools.len() - NAMED));
    }
    format!(
        "of the external server `{}` there is no room for {}, since model APIs take only so much; `tools` and `deny_tools` choose",
        shown_line(server),
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(server: &str, tools: usize, bytes: usize) -> Found {
        let tool =
            |n| Offered::read(&json!({"name": format!("t{n}"), "description": "x".repeat(bytes)}));
        Found {
            server: server.to_owned(),
            tools: (0..tools).filter_map(tool).collect(),
        }
    }

    #[test]
    fn whoever_needs_little_leaves_the_rest_to_the_others() {
        for (needs, room, expect) in [
            (vec![], 5, vec![]),
            (vec![2, 3], 10, vec![2, 3]),
            (vec![200, 3], 10, vec![7, 3]),
            (vec![200, 200], 10, vec![5, 5]),
            (vec![1, 200, 200], 10, vec![1, 4, 5]),
        ] {
            assert_eq!(shares(&needs, room), expect, "{needs:?}");
        }
    }

    #[test]
    fn a_server_with_many_tools_or_long_ones_pushes_nobody_out() {
        let mut all = [
            found("many", 300, 10),
            found("long", 30, 3_900),
            found("few", 4, 100),
        ];
        let warnings = share(&mut all, 90, MOST_BYTES);
        let kept = all.each_ref().map(|found| found.tools.len());
        assert_eq!((kept[0], kept[2]), (56, 4), "{kept:?}");
        assert!((8..20).contains(&kept[1]), "{kept:?}");
        let all = all.iter();
        let bytes: usize = all
            .flat_map(|f| f.tools.iter().map(|t| size(&f.server, t)))
            .sum();
        assert!(bytes <= MOST_BYTES, "{bytes}");
        assert_eq!(warnings.len(), 2);
        assert!(
            warnings[0].contains("`many`")
                && warnings[0].contains("`t56`, ")
                && warnings[0].contains("234 more"),
            "{warnings:?}"
        );
    }
}
