//! `openoxide doctor`: what it finds of configuration, key and model, and what it says to do.

use serde_json::Value;

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
