//! What `openoxide mcp` shows of an external server: what is known of it, or what comes of trying it.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{About, Servers, Settings, Usable, names, offer::Offer};

/// What `openoxide mcp` shows of a server.
#[derive(Debug, Serialize)]
pub struct Report {
    /// As the owner calls it.
    pub name: String,
    /// `stdio`, `http` or `websocket`.
    pub transport: &'static str,
    /// The program with its arguments, or the address.
    pub target: String,
    /// `ready`, `failed`, or why it is not started.
    pub state: String,
    /// As the model sees them; those that run unasked are marked.
    pub tools: Vec<ReportedTool>,
    /// How many.
    pub resources: usize,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// For an answer to nothing, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping_ms: Option<f64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it last wrote to standard error.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stderr: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_do: Option<String>,
}

/// A tool of a [`Report`].
#[derive(Debug, Serialize)]
pub struct ReportedTool {
    /// As the model calls it.
    pub name: String,
    /// It runs without a question.
    pub auto: bool,
    /// What the server says about it, to be believed by nobody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

impl Report {
    /// What is known without starting anything.
    ///
    /// The server is that for `cwd`, with `settings` as they are used; `variable` looks up those that it names.
    pub fn known(
        servers: &Servers,
        name: &str,
        settings: &Settings,
        cwd: &Path,
        variable: impl Fn(&str) -> Option<String>,
        state: &str,
    ) -> Self {
        let key = servers.identity(name, settings, cwd, &variable);
        let offer = servers.known(&key).offer().unwrap_or_default();
        Self::of(name, settings, &offer, state)
    }

    fn of(name: &str, settings: &Settings, offer: &Offer, state: &str) -> Self {
        Self {
            name: name.to_owned(),
            transport: settings.transport(),
            target: settings.target(),
            state: state.to_owned(),
            tools: reported(name, settings, offer),
            resources: offer.resources.len(),
            about: None,
            ping_ms: None,
            error: None,
            stderr: Vec::new(),
            to_do: None,
        }
    }

    /// What comes of using `server`, which starts or has started: waits for it, at most its start-up time.
    pub async fn tried(usable: &Usable) -> Self {
        let Usable { server, settings } = usable;
        let connection = server.connection(&CancellationToken::new()).await;
        let offer = server.offer().unwrap_or_default();
        let mut report = Self::of(&server.name, settings, &offer, "ready");
        report.stderr = server.last_lines();
        match connection {
            Err(why) => {
                report.state = "failed".to_owned();
                report.to_do = Some(way_out(&why, settings));
                report.error = Some(why);
            }
            Ok(connection) => {
                let offer = connection.offer();
                report.tools = reported(&server.name, settings, &offer);
                report.resources = offer.resources.len();
                report.about = server.about();
                // The newer protocol has no ping; then its start is all there is to say.
                let ping = connection.ping(Duration::from_secs(5)).await;
                report.ping_ms = ping.map(|took| took.as_secs_f64() * 1_000.0);
            }
        }
        report
    }
}

fn reported(name: &str, settings: &Settings, offer: &Offer) -> Vec<ReportedTool> {
    let offered: Vec<_> = offer
        .tools
        .iter()
        .filter(|tool| settings.offers(&tool.name))
        .collect();
    let names = names::names(offered.iter().map(|tool| (name, tool.name.as_str())));
    let tools = names.into_iter().zip(offered);
    tools
        .map(|(name, tool)| ReportedTool {
            name,
            auto: settings.runs_unasked(&tool.name),
            hints: tool.hints.clone(),
        })
        .collect()
}

fn way_out(why: &str, settings: &Settings) -> String {
    let words = if why.contains("mcp login") {
        "sign in as it says; a token of your own goes into `bearer_token_env`"
    } else if why.contains("could not be started") {
        "install the program, or set `command` to where it is"
    } else if why.contains("not ready") || why.contains("did not answer") {
        "start it by hand to see what it waits for, or give it more `startup_seconds`"
    } else if settings.url.is_some() {
        "check `url`, `headers` and `bearer_token_env`, and that the server runs"
    } else {
        "run its command by hand and look at what it prints; `enabled = false` leaves it out"
    };
    words.to_owned()
}
