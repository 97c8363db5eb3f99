//! `openoxide doctor`: what it finds of configuration, key and model, and what it says to do.

use serde_json::{Value, json};

use crate::support::{
    home::{Home, KEY},
    model_server::{ModelServer, Reply},
};

/// The findings about `what`, and how the program ended.
fn findings(mut command: std::process::Command, what: &str) -> (Vec<Value>, Option<i32>) {
    let output = command.output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains(KEY), "{text}");
    let all: Vec<Value> = serde_json::from_str(&text).expect("an array");
    let about = all.into_iter().filter(|finding| finding["what"] == what);
    (about.collect(), output.status.code())
}

fn found(findings: &[Value]) -> Vec<&str> {
    let found = findings.iter().map(|finding| &finding["found"]);
    found.filter_map(Value::as_str).collect()
}

#[test]
fn a_model_that_answers_is_fine_and_each_setting_has_its_origin() {
    let model = ModelServer::start(vec![Reply::text("ok")]);
    let home = Home::new().config("[model]\nname = \"gpt-oss:20b\"\n");
    let doctor = || home.openoxide_by_default(&model, &["doctor", "--json"]);
    let (settings, _) = findings(doctor(), "setting");
    let file = home.config_file();
    assert_eq!(
        found(&settings),
        [
            format!("model.name = gpt-oss:20b (from {})", file.display()),
            format!(
                "model.base_url = {} (from OPENAI_BASE_URL)",
                model.base_url()
            ),
        ]
    );
    let (answers, _) = findings(doctor(), "model");
    assert_eq!(answers[0]["fine"], true, "{answers:?}");
    assert!(found(&answers)[0].starts_with("`gpt-oss:20b` answers, in "));
    assert_eq!(
        found(&findings(doctor(), "key").0),
        ["from `OPENAI_API_KEY`"]
    );
    assert_eq!(found(&findings(doctor(), "window").0), ["128000 tokens"]);
    let endpoint = format!("{}/chat/completions", model.base_url());
    assert_eq!(found(&findings(doctor(), "endpoint").0), [endpoint]);
    for what in ["git", "threads"] {
        let (looked_at, _) = findings(doctor(), what);
        assert_eq!(looked_at.len(), 1, "{what}");
    }
    assert!(home.threads().is_empty());
}

#[test]
fn a_window_that_the_server_tells_is_shown_with_the_line_to_set() {
    let models = json!({"data": [{"id": "other", "context_length": 1000}, {"id": "qwen3:8b", "context_length": 32_768}]});
    let running = json!({"models": [{"name": "qwen3:8b", "context_length": 4096}]});
    let table = [
        ("qwen3:8b", vec![], "128000 tokens", None),
        (
            "qwen3:8b",
            vec![("/v1/models", &models)],
            "128000 tokens, but the server says 32768",
            Some(32_768),
        ),
        // Ollama, which cuts what is longer and says nothing.
        (
            "qwen3:8b",
            vec![("/v1/models", &models), ("/api/ps", &running)],
            "128000 tokens, but the server says 4096",
            Some(4096),
        ),
        (
            "other",
            vec![("/v1/models", &models)],
            "not known of `other`; the server says 1000 tokens",
            Some(1000),
        ),
    ];
    for (name, pages, expect, set) in table {
        let model = ModelServer::start(vec![Reply::text("ok")]);
        pages
            .into_iter()
            .for_each(|(target, page)| model.tell(target, page.clone()));
        let home = Home::new().config(&format!("[model]\nname = \"{name}\"\n"));
        let (window, _) = findings(
            home.openoxide_by_default(&model, &["doctor", "--json"]),
            "window",
        );
        assert_eq!(found(&window), [expect]);
        let to_do = window[0]["to_do"].as_str().unwrap_or_default();
        let line = set
            .map(|set| format!("`model.context_window = {set}`"))
            .unwrap_or_default();
        assert!(
            to_do.contains(&line) && to_do.is_empty() == set.is_none(),
            "{to_do}"
        );
    }
}

#[test]
fn a_model_that_refuses_says_what_to_do_and_fails() {
    let error = r#"{"error":{"message":"who are you?","code":"invalid_api_key"}}"#;
    let model = ModelServer::start(vec![Reply::http(401, error)]);
    let home = Home::new();
    let (answers, code) = findings(
        home.openoxide_by_default(&model, &["doctor", "--json"]),
        "model",
    );
    assert_eq!((&answers[0]["fine"], code), (&Value::Bool(false), Some(1)));
    assert!(found(&answers)[0].contains("refuses the key in `OPENAI_API_KEY`"));
    assert_eq!(
        answers[0]["to_do"],
        "check the key, and that it is the one of this endpoint"
    );
}

#[test]
fn a_key_that_is_missing_is_found_before_anything_is_asked() {
    let home = Home::new();
    let mut doctor = home.openoxide(&["doctor", "--json"]);
    doctor
        .env_remove("OPENAI_API_KEY")
        .env_remove("OPENAI_BASE_URL");
    let (answers, code) = findings(doctor, "model");
    assert_eq!((&answers[0]["fine"], code), (&Value::Bool(false), Some(1)));
    assert!(
        found(&answers)[0].contains("set `OPENAI_API_KEY`"),
        "{answers:?}"
    );
}

#[test]
fn a_configuration_that_nothing_runs_with_is_a_finding_with_what_to_do() {
    let (home, project) = (Home::new().config("[limits]\nx = 1\n"), Home::new());
    let project = project.file(".openoxide/config.toml", "[limits]\nmax_step = 1\n");
    let model = ModelServer::start(vec![Reply::text("ok")]);
    for (home, key) in [(&home, "`x`"), (&project, "`max_step`")] {
        let doctor = home.openoxide_with(&model, &["doctor", "--json"]);
        let (findings, code) = findings(doctor, "configuration");
        let broken = findings.iter().find(|finding| finding["fine"] == false);
        let broken = broken.expect("a finding");
        assert!(found(&findings).iter().any(|found| found.contains(key)));
        assert!(
            broken["to_do"]
                .as_str()
                .expect("words")
                .contains("max_steps")
        );
        assert_eq!(code, Some(1));
    }
}

#[test]
fn without_a_key_where_one_is_needed_something_is_lacking() {
    let home = Home::new();
    let mut doctor = home.openoxide(&["doctor", "--json"]);
    doctor
        .env_remove("OPENAI_API_KEY")
        .env_remove("OPENAI_BASE_URL");
    let (key, code) = findings(doctor, "key");
    assert_eq!((&key[0]["fine"], code), (&json!(false), Some(1)), "{key:?}");
    assert!(
        key[0]["to_do"]
            .as_str()
            .expect("words")
            .contains("OPENAI_BASE_URL")
    );
}
