//! How long a call waits for its turn before it answers `running`: its wait budget.
//!
//! Clients give up on a call after five seconds, a minute, ten minutes or never, most cannot be told otherwise, and few
//! say what they are. What is known of them stands here, each with where it is known from. It matters less than it
//! looks: a client that gives up says so, its turn goes on, and asking again finds it.

use std::time::Duration;

use rmcp::{RoleServer, model::Implementation, service::RequestContext};

/// Of a client that nothing is known of: most give up after a minute, as the TypeScript SDK does by default.
const UNKNOWN: Duration = Duration::from_secs(45);

/// What is known of how long a client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Without end, or for hours.
    Endless,
    /// So many seconds, whatever it hears meanwhile.
    Seconds(u64),
    /// Without end as long as it hears of progress, else so many seconds.
    WhileItHears(u64),
    /// So many seconds where it listens for progress, and without end where it does not.
    UnlessItHears(u64),
}

use Patience::{Endless, Seconds, UnlessItHears, WhileItHears};

/// By the beginning of the name in `clientInfo`, in lower case.
const KNOWN: &[(&str, Patience)] = &[
    // Observed with 2.1.329: no limit on a call, half an hour without a word on stdio, which progress resets.
    ("claude-code", WhileItHears(1500)),
    // anthropics/claude-code#22542, #63379: a minute to four, and each time-out harms the bridge.
    ("claude-ai", Seconds(45)),
    // microsoft/vscode#311595: none found.
    ("visual studio code", Endless),
    // Its source: MCP_DEFAULT_TIMEOUT_MSEC is ten minutes; progress does not reset it.
    ("gemini-cli", Seconds(540)),
    // A fork of the former.
    ("qwen-cli", Seconds(540)),
    // anomalyco/opencode#28186: a minute, which progress resets.
    ("opencode", WhileItHears(45)),
    // aaif-goose/goose#8295, #9100: five minutes.
    ("goose", Seconds(270)),
    // github/copilot-intellij-feedback#1935: about half a minute.
    ("github-copilot", Seconds(25)),
    ("copilot", Seconds(25)),
    // The Python SDK names itself so for everybody who says nothing: it has no time-out. LangChain's adapters end the
    // server with the call, so that an early answer would end the turn. The Agents SDK gives up after 5 s, and is why
    // a call that is cancelled over time leaves its turn running.
    ("mcp", UnlessItHears(45)),
];

/// The wait budget of a call whose caller and owner said nothing; none to wait as long as the turn takes.
pub(super) fn budget(call: &RequestContext<RoleServer>) -> Option<Duration> {
    let hears = call.meta.get_progress_token().is_some();
    budget_of(call.client_info().as_ref(), hears)
}

fn budget_of(client: Option<&Implementation>, hears: bool) -> Option<Duration> {
    let name = client.map(|client| client.name.to_lowercase());
    let known = name.and_then(|name| {
        let mut rows = KNOWN.iter();
        rows.find(|(known, _)| match *known {
            // Too short a word to be a beginning.
            "mcp" => name == "mcp",
            known => name.starts_with(known),
        })
    });
    let Some((_, patience)) = known else {
        return Some(UNKNOWN);
    };
    let seconds = match (*patience, hears) {
        (Endless, _) | (WhileItHears(_), true) | (UnlessItHears(_), false) => return None,
        (Seconds(seconds), _) | (WhileItHears(seconds), false) | (UnlessItHears(seconds), true) => {
            seconds
        }
    };
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_answered_before_it_gives_up() {
        for (name, hears, expected) in [
            ("something new", false, Some(45)),
            ("something new", true, Some(45)),
            ("mcp", false, None),
            ("mcp", true, Some(45)),
            ("mcp-something", false, Some(45)),
            ("claude-code", true, None),
            ("claude-code", false, Some(1500)),
            ("Visual Studio Code - Insiders", false, None),
            ("opencode", true, None),
            ("opencode", false, Some(45)),
            ("gemini-cli-mcp-client", true, Some(540)),
            ("qwen-cli-mcp-client-openoxide", true, Some(540)),
        ] {
            let client = Implementation::new(name, "1");
            let found = budget_of(Some(&client), hears).map(|wait| wait.as_secs());
            assert_eq!(found, expected, "{name} {hears}");
        }
        assert_eq!(budget_of(None, false), Some(UNKNOWN));
    }
}
