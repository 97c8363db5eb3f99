//! What `doctor` says of configuration, key and model: where each value comes from, and whether the model answers.

use std::time::{Duration, Instant};

use super::Finding;
use crate::{
    app::App,
    conversation::shown_line,
    model::{ModelErrorKind, WireApi},
};

/// For the one request; a model that has to be loaded takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

const WITHOUT_A_KEY: &str = "export the key, or set OPENAI_BASE_URL to a server of your own; `openoxide demo` needs neither";

/// Settings worth knowing the origin of, where somebody set them.
const TOLD: &[&[&str]] = &[
    &["model", "wire_api"],
    &["model", "context_window"],
    &["policy", "sandbox"],
    &["policy", "approval_policy"],
];

pub(super) fn configuration(app: &App) -> Vec<Finding> {
    let file = app.config_file();
    let found = match file.exists() {
        true => file.display().to_string(),
        false => format!("none at {}", file.display()),
    };
    let mut findings = vec![Finding::fine("configuration", shown_line(&found))];
    let model = &app.config().model;
    for (key, value) in [("name", &model.name), ("base_url", &model.base_url)] {
        let layer = app.setting(&["model", key]).map(|(_, layer)| layer);
        let layer = layer.unwrap_or_else(|| "default".to_owned());
        findings.push(setting(&["model", key], without_query(value), &layer));
    }
    let set = TOLD.iter().filter_map(|key| Some((key, app.setting(key)?)));
    findings.extend(set.map(|(key, (value, layer))| setting(key, &value, &layer)));
    findings
}

fn setting(key: &[&str], value: &str, layer: &str) -> Finding {
    let found = format!("{} = {value} (from {layer})", key.join("."));
    Finding::fine("setting", shown_line(&found))
}

/// Some put a key there.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// Key, endpoint and window, then one tiny request.
pub(super) async fn model(app: &App) -> Vec<Finding> {
    let config = &app.config().model;
    let key = match app.key_origin() {
        Ok(Some(origin)) => Finding::fine("key", format!("from {origin}")),
        Ok(None) if app.needs_key() => Finding::lacking(
            "key",
            format!("none in `{}`", config.api_key_env),
            WITHOUT_A_KEY,
        ),
        Ok(None) => Finding::fine("key", "none, and none is needed".to_owned()),
        Err(error) => Finding::lacking("key", error, "mend it, or set the variable"),
    };
    let model = match app.model() {
        Ok(model) => model,
        Err(error) => {
            return vec![
                key,
                Finding::lacking("model", shown_line(&error), WITHOUT_A_KEY),
            ];
        }
    };
    let endpoint = match app.wire_api() {
        _ if config.name.starts_with("recorded:") => "a recording".to_owned(),
        WireApi::Responses => format!("{}/responses", without_query(&config.base_url)),
        WireApi::Chat => format!("{}/chat/completions", without_query(&config.base_url)),
    };
    let endpoint = Finding::fine("endpoint", shown_line(&endpoint));
    let answer = answer(app).await;
    // Asked last: some servers only know of a model that they have loaded.
    let window = match answer.fine {
        true => window(model.name(), model.window(), app.served_window().await),
        false => window(model.name(), model.window(), None),
    };
    if config.name.starts_with("recorded:") {
        return vec![endpoint, answer];
    }
    vec![key, endpoint, window, answer]
}

/// What is `known` of the window of a model, and what its server says. One that is larger than it is is no small thing:
/// some servers cut a conversation that is too long, and say nothing.
fn window(name: &str, known: Option<u64>, served: Option<u64>) -> Finding {
    let name = shown_line(name);
    let (found, to_do) = match (known, served) {
        (Some(known), Some(served)) if served < known => (
            format!("{known} tokens, but the server says {served}"),
            Some(format!("set `model.context_window = {served}`, or give the server more")),
        ),
        (Some(known), _) => (format!("{known} tokens"), None),
        (None, Some(served)) => (
            format!("not known of `{name}`; the server says {served} tokens"),
            Some(format!("set `model.context_window = {served}`")),
        ),
        (None, None) => (
            format!("not known of `{name}`"),
            Some(
                "set `model.context_window`, or long threads are summed up only when the server refuses them"
                    .to_owned(),
            ),
        ),
    };
    Finding {
        to_do,
        ..Finding::fine("window", found)
    }
}

async fn answer(app: &App) -> Finding {
    let started = Instant::now();
    let asked = tokio::time::timeout(PATIENCE, app.ask("Say ok.")).await;
    let name = shown_line(&app.config().model.name);
    match asked {
        Ok(Ok(_)) => {
            let took = started.elapsed().as_secs_f64();
            Finding::fine("model", format!("`{name}` answers, in {took:.1} s"))
        }
        Ok(Err(error)) => Finding::lacking("model", shown_line(&error.message), to_do(error.kind)),
        Err(_) => Finding::lacking(
            "model",
            format!("`{name}` said nothing for {} s", PATIENCE.as_secs()),
            to_do(ModelErrorKind::Unreachable),
        ),
    }
}

fn to_do(kind: ModelErrorKind) -> &'static str {
    match kind {
        ModelErrorKind::Unreachable => {
            "start the server, or check `model.base_url` and the network"
        }
        ModelErrorKind::Busy => "try again later",
        ModelErrorKind::Auth => "check the key, and that it is the one of this endpoint",
        ModelErrorKind::Quota => "look at the account",
        ModelErrorKind::ContextLength => "give the server a larger window: this request is tiny",
        ModelErrorKind::Rejected => "check `model.name`, `model.base_url` and `model.wire_api`",
    }
}
