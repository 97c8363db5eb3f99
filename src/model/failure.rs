//! What a provider said when it did not do what was asked, read tolerantly, and what can be done about it.
//!
//! Providers agree on nothing here: codes are strings or numbers, bodies are JSON of five shapes, HTML or empty. The
//! status decides least, since a full window and an empty account both come as 400, 429 and 500.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::{ModelError, ModelErrorKind};
use crate::conversation::{Redactor, shortened, shown_line};

/// Characters of a message; a provider's own words can be a page.
const MESSAGE_LIMIT: usize = 600;

/// Between two looks at a server that loads its model (llama.cpp).
const LOADING: Duration = Duration::from_secs(5);

/// What a provider said, from an HTTP answer or from an event in a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Failure {
    /// The HTTP status; none within a stream.
    pub(super) status: Option<u16>,
    /// `code` and `type`, lower case, empty where there are none.
    codes: [String; 2],
    /// Its words, on one line.
    pub(super) words: String,
    /// How long it asks us to wait.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    /// From an HTTP answer. `body` may be cut and may be anything.
    pub(super) fn from_answer(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let failure = match serde_json::from_slice::<Value>(body) {
            Ok(json) => Self::from_json(&json),
            Err(_) => Self {
                words: plain_words(&String::from_utf8_lossy(body)),
                ..Self::default()
            },
        };
        let retry_after = retry_after(headers, SystemTime::now()).or(failure.retry_after);
        Self {
            status: Some(status),
            retry_after,
            ..failure
        }
    }

    /// From JSON that holds an error somewhere: `{"error":{"message":…}}`, the same in an array or under `response`,
    /// `{"error":"…"}`, `{"detail":"…"}`, `{"message":"…"}`.
    pub(super) fn from_json(json: &Value) -> Self {
        let json = json.get(0).unwrap_or(json);
        let error = [&json["response"]["error"], &json["error"], &json["detail"]]
            .into_iter()
            .find(|found| !found.is_null())
            .unwrap_or(json);
        let mut words = match &error["message"] {
            Value::Null if error.is_string() => text_of(error),
            Value::Null => error.to_string(),
            message => text_of(message),
        };
        // llama.cpp says what it has beside its words.
        if let Some(tokens) = error["n_ctx"]
            .as_u64()
            .filter(|_| error["message"].is_string())
        {
            words += &format!(" [n_ctx {tokens}]");
        }
        Self {
            status: None,
            codes: [&error["code"], &error["type"]].map(|code| text_of(code).to_lowercase()),
            retry_after: wait_in_words(&words),
            words: one_line(&words),
        }
    }

    /// What can be done about it.
    pub(super) fn kind(&self) -> ModelErrorKind {
        let text = self.words.to_lowercase();
        let coded = |known: &[&str]| self.codes.iter().any(|code| known.contains(&code.as_str()));
        let worded = |known: &[&str]| known.iter().any(|words| text.contains(words));
        if coded(CONTEXT_CODES) || worded(CONTEXT_WORDS) {
            ModelErrorKind::ContextLength
        } else if coded(QUOTA_CODES) || worded(QUOTA_WORDS) {
            ModelErrorKind::Quota
        } else if coded(MISSAMPLED_CODES) {
            ModelErrorKind::Busy
        } else if coded(AUTH_CODES) || worded(AUTH_WORDS) {
            ModelErrorKind::Auth
        } else if coded(REJECTED_CODES) {
            ModelErrorKind::Rejected
        } else {
            // A stream's errors carry the status as their code at some gateways.
            let numeric = self.codes.iter().find_map(|code| code.parse().ok());
            match self.status.or(numeric) {
                None if coded(UNFIT_CODES) => ModelErrorKind::Rejected,
                status => kind_of_status(status),
            }
        }
    }

    /// Whether it is the model's name that the provider does not know.
    pub(super) fn is_about_the_model(&self) -> bool {
        ["model_not_found", "deploymentnotfound"].contains(&self.codes[0].as_str())
            || self.status == Some(404) && self.words.to_lowercase().contains("model")
    }
}

const CONTEXT_CODES: &[&str] = &[
    "context_length_exceeded",
    "exceed_context_size_error",
    "request_too_large",
    "string_above_max_length",
];
/// OpenAI, vLLM and Mistral, OpenAI's Responses, llama.cpp, Anthropic (two), LM Studio (three), Gemini, and a request
/// above the rate limit by itself, which comes as 429 and never succeeds.
const CONTEXT_WORDS: &[&str] = &[
    "maximum context length",
    "context window",
    "available context size",
    "prompt is too long",
    "exceed context limit",
    "context length of only",
    "reached context length",
    "greater than the context length",
    "exceeds the maximum number of tokens allowed",
    "request too large",
];
const QUOTA_CODES: &[&str] = &[
    "insufficient_quota",
    "insufficient_balance",
    "billing_hard_limit_reached",
    "billing_not_active",
    "usage_limit_reached",
];
/// Anthropic's comes as 400.
const QUOTA_WORDS: &[&str] = &["credit balance is too low"];
/// What the model sampled was no call, and the server made an error of it: the next sample may be better (Groq).
const MISSAMPLED_CODES: &[&str] = &["tool_use_failed"];
/// Says nothing where there is a status: OpenAI's 401 for a missing key and DeepSeek's 402 have it too.
const UNFIT_CODES: &[&str] = &["invalid_request_error"];
const AUTH_CODES: &[&str] = &["invalid_api_key", "authentication_error", "invalid_token"];
const AUTH_WORDS: &[&str] = &["api key not valid", "incorrect api key"];
const REJECTED_CODES: &[&str] = &[
    "model_not_found",
    "invalid_prompt",
    "content_filter",
    "content_policy_violation",
    "cyber_policy",
    "bio_policy",
];

/// No status is an error within a stream, which is the provider's own trouble unless it says otherwise.
fn kind_of_status(status: Option<u16>) -> ModelErrorKind {
    match status {
        None | Some(408 | 409 | 425 | 429 | 500 | 502..=599) => ModelErrorKind::Busy,
        Some(401 | 403) => ModelErrorKind::Auth,
        Some(402) => ModelErrorKind::Quota,
        Some(413) => ModelErrorKind::ContextLength,
        Some(_) => ModelErrorKind::Rejected,
    }
}

/// How long an answer asks us to wait: `retry-after-ms`, or `retry-after` as seconds or as an HTTP date (RFC 9110
/// section 10.2.3). A date that is past is zero, nonsense is nothing.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let header = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |text: &str| Duration::try_from_secs_f64(text.parse::<f64>().ok()?).ok();
    let precise = header("retry-after-ms").and_then(seconds).map(|d| d / 1000);
    precise.or_else(|| {
        let text = header("retry-after")?;
        seconds(text).or_else(|| {
            let until = httpdate::parse_http_date(text).ok()?;
            Some(until.duration_since(now).unwrap_or_default())
        })
    })
}

/// "Please try again in 1.5s", "… in 28ms", "… in 6m0s", "… in 20 seconds", Gemini's "Please retry in 32.5s" and Azure's
/// "Please retry after 26 seconds". A server that loads its model is busy for longer than it takes to ask five times.
fn wait_in_words(words: &str) -> Option<Duration> {
    let lower = words.to_lowercase();
    if lower.contains("loading model") {
        return Some(LOADING);
    }
    let said = |mark: &&str| Some(lower.split_once(mark)?.1);
    let mut rest = ["try again in ", "retry in ", "retry after "]
        .iter()
        .find_map(said)?;
    let mut seconds = None;
    while let Some((count, unit, after)) = leading_span(rest) {
        *seconds.get_or_insert(0.0) += count * unit;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds?).ok()
}

/// A number, the seconds in its unit, and what follows.
fn leading_span(text: &str) -> Option<(f64, f64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let count = text[..digits].parse().ok()?;
    let tail = text[digits..].trim_start();
    let letters = tail.find(|c: char| !c.is_ascii_alphabetic());
    let (unit, after) = tail.split_at(letters.unwrap_or(tail.len()));
    let seconds = match unit {
        "ms" => 0.001,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        _ => return None,
    };
    Some((count, seconds, after))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The title of a page of HTML, else the text itself.
fn plain_words(body: &str) -> String {
    let text = body.trim();
    if !text.starts_with('<') {
        return one_line(text);
    }
    let title = text
        .split_once("<title>")
        .and_then(|(_, rest)| rest.split_once("</title>"));
    one_line(title.map_or("a page of HTML", |(title, _)| title))
}

/// `words` safe to show, on one line.
pub(super) fn one_line(words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    shown_line(&words.join(" "))
}

/// Who is spoken with, for messages that a person can act on.
#[derive(Debug)]
pub(super) struct Peer {
    /// The base URL without credentials, query and trailing slash.
    pub(super) base: String,
    /// What requests go to below it.
    pub(super) path: &'static str,
    /// The model asked for.
    pub(super) model: String,
    /// Where the key comes from.
    pub(super) key_variable: String,
    /// Whether one is sent.
    pub(super) has_key: bool,
    /// Whether it is this machine.
    pub(super) is_loopback: bool,
    /// Knows the key and the values of headers.
    pub(super) redactor: Redactor,
}

impl Peer {
    /// What the provider said as an error for a person.
    pub(super) fn error(&self, failure: Failure) -> ModelError {
        let kind = failure.kind();
        let status = failure.status.map(|status| format!(" ({status})"));
        let what = self.says(kind, &failure) + &status.unwrap_or_default();
        let words = Some(&failure.words).filter(|words| !words.is_empty());
        let message = words.map_or(what.clone(), |words| format!("{what}: {words}"));
        let retry_after = failure.retry_after;
        ModelError {
            retry_after,
            ..self.model_error(kind, message)
        }
    }

    fn says(&self, kind: ModelErrorKind, failure: &Failure) -> String {
        let Self {
            base,
            path,
            model,
            key_variable,
            ..
        } = self;
        match kind {
            ModelErrorKind::Auth if self.has_key => {
                format!("`{base}` refuses the key in `{key_variable}`")
            }
            ModelErrorKind::Auth => format!("`{base}` wants a key, set `{key_variable}`"),
            ModelErrorKind::Quota => format!("the account at `{base}` has nothing left"),
            ModelErrorKind::ContextLength => {
                format!("the conversation is longer than `{model}` takes")
            }
            ModelErrorKind::Rejected if failure.is_about_the_model() => {
                format!("`{base}` has no model `{model}`")
            }
            ModelErrorKind::Rejected if failure.status == Some(404) => {
                format!("`{base}{path}` does not exist, check the base URL and `model.wire_api`")
            }
            ModelErrorKind::Rejected => format!("`{base}` rejects the request"),
            ModelErrorKind::Busy | ModelErrorKind::Unreachable => {
                format!("`{base}` cannot answer now")
            }
        }
    }

    /// Nobody answers, for this reason.
    pub(super) fn unreachable(&self, cause: &str) -> ModelError {
        let hint = if self.is_loopback {
            "; is the server running?"
        } else {
            ""
        };
        self.broken(format!(
            "cannot reach `{}`: {}{hint}",
            self.base,
            one_line(cause)
        ))
    }

    /// The connection was there and is no longer of use; `what` is told as it is.
    pub(super) fn broken(&self, what: String) -> ModelError {
        self.model_error(ModelErrorKind::Unreachable, what)
    }

    /// It answers, and not with what we can take; `what` is told as it is.
    pub(super) fn unfit(&self, what: String) -> ModelError {
        self.model_error(ModelErrorKind::Rejected, what)
    }

    /// Redacted before it is cut, or half a key could stay at the end.
    fn model_error(&self, kind: ModelErrorKind, message: String) -> ModelError {
        ModelError {
            kind,
            message: shortened(&self.redactor.clean(message), MESSAGE_LIMIT),
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ModelErrorKind::*;

    #[test]
    fn every_shape_of_refusal_is_understood() {
        let table: &[(u16, &str, ModelErrorKind, &str)] = &[
            (
                400,
                r#"{"error":{"message":"no","type":"invalid_request_error"}}"#,
                Rejected,
                "no",
            ),
            (400, r#"{"detail":"bad field"}"#, Rejected, "bad field"),
            (
                422,
                r#"{"detail":[{"loc":["body"],"msg":"x"}]}"#,
                Rejected,
                r#"[{"loc":["body"],"msg":"x"}]"#,
            ),
            (400, r#"{"error":"plain"}"#, Rejected, "plain"),
            (
                400,
                r#"[{"error":{"message":"API key not valid. Pass one.","code":400}}]"#,
                Auth,
                "API key not valid. Pass one.",
            ),
            (401, "", Auth, ""),
            (
                401,
                r#"{"error":{"message":"You didn't provide an API key.","type":"invalid_request_error","param":null,"code":null}}"#,
                Auth,
                "You didn't provide an API key.",
            ),
            (
                402,
                r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
                Quota,
                "Insufficient Balance",
            ),
            (
                429,
                r#"{"error":{"message":"slow down","type":"invalid_request_error"}}"#,
                Busy,
                "slow down",
            ),
            (
                403,
                "<html><head><title>403\n Forbidden</title>",
                Auth,
                "403 Forbidden",
            ),
            (402, r#"{"message":"pay"}"#, Quota, "pay"),
            (
                404,
                r#"{"error":{"message":"model 'x' not found"}}"#,
                Rejected,
                "model 'x' not found",
            ),
            (408, "", Busy, ""),
            (413, "", ContextLength, ""),
            (
                429,
                r#"{"error":{"message":"slow","code":429}}"#,
                Busy,
                "slow",
            ),
            (
                429,
                r#"{"error":{"message":"pay","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                Quota,
                "pay",
            ),
            (
                429,
                r#"{"error":{"message":"Request too large for x","code":"rate_limit_exceeded"}}"#,
                ContextLength,
                "Request too large for x",
            ),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens"}}"#,
                ContextLength,
                "This model's maximum context length is 8192 tokens",
            ),
            (
                500,
                r#"{"error":{"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
                ContextLength,
                "the request exceeds the available context size",
            ),
            (500, "<h1>oops</h1>", Busy, "a page of HTML"),
            (
                400,
                r#"{"error":{"message":"too long","type":"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":4096}}"#,
                ContextLength,
                "too long [n_ctx 4096]",
            ),
            (
                400,
                r#"{"error":"Trying to keep the first 5000 tokens, but the model is loaded with context length of only 4096 tokens"}"#,
                ContextLength,
                "Trying to keep the first 5000 tokens, but the model is loaded with context length of only 4096 tokens",
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (8).","status":"INVALID_ARGUMENT"}}]"#,
                ContextLength,
                "The input token count (9) exceeds the maximum number of tokens allowed (8).",
            ),
            (
                400,
                r#"{"error":{"message":"Failed to call a function.","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"<function"}}"#,
                Busy,
                "Failed to call a function.",
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
                Quota,
                "Your credit balance is too low to access the Anthropic API.",
            ),
            (
                503,
                r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
                Busy,
                "Loading model",
            ),
            (501, "", Rejected, ""),
            (502, "bad\x1b[2J gateway", Busy, "bad\\u{1b}[2J gateway"),
            (
                529,
                r#"{"error":{"message":"overloaded","type":"overloaded_error"}}"#,
                Busy,
                "overloaded",
            ),
            (307, "", Rejected, ""),
        ];
        for (status, body, kind, words) in table {
            let failure = Failure::from_answer(*status, &HeaderMap::new(), body.as_bytes());
            assert_eq!(
                (failure.kind(), failure.words.as_str()),
                (*kind, *words),
                "{status} {body}"
            );
        }
    }

    #[test]
    fn errors_within_a_stream_are_understood() {
        let table: &[(&str, ModelErrorKind, &str)] = &[
            (
                r#"{"type":"error","code":"server_error","message":"m"}"#,
                Busy,
                "m",
            ),
            (
                r#"{"type":"error","error":{"code":null,"type":"invalid_request_error","message":"m"}}"#,
                Rejected,
                "m",
            ),
            (r#"{"type":"error","code":"429","message":"m"}"#, Busy, "m"),
            (
                r#"{"type":"error","error":{"code":401,"message":"m"}}"#,
                Auth,
                "m",
            ),
            (
                r#"{"response":{"error":{"code":"context_length_exceeded","message":"m"}}}"#,
                ContextLength,
                "m",
            ),
            (
                r#"{"response":{"error":{"code":"rate_limit_exceeded","message":"m"}}}"#,
                Busy,
                "m",
            ),
            (
                r#"{"response":{"error":{"code":"insufficient_quota","message":"m"}}}"#,
                Quota,
                "m",
            ),
            (
                r#"{"response":{"error":{"code":"invalid_prompt","message":"m"}}}"#,
                Rejected,
                "m",
            ),
            (
                r#"{"response":{"error":{"code":"never_heard_of","message":"m"}}}"#,
                Busy,
                "m",
            ),
        ];
        for (event, kind, words) in table {
            let failure = Failure::from_json(&serde_json::from_str(event).unwrap());
            assert_eq!(
                (failure.kind(), failure.words.as_str()),
                (*kind, *words),
                "{event}"
            );
        }
    }

    #[test]
    fn a_wait_is_read_in_every_form() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        let table: &[(&str, &str, Option<u64>)] = &[
            ("retry-after", "2", Some(2000)),
            ("retry-after", " 1.5 ", Some(1500)),
            ("retry-after", "86400", Some(86_400_000)),
            ("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT", Some(30_000)),
            ("retry-after", "Wed, 21 Oct 2026 07:27:00 GMT", Some(0)),
            ("retry-after", "soon", None),
            ("retry-after", "-1", None),
            ("retry-after", "inf", None),
            ("retry-after", "1e300", None),
            ("retry-after-ms", "50", Some(50)),
            ("retry-after-ms", "nonsense", None),
            ("x-other", "1", None),
        ];
        for (name, value, expect) in table {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            let wait = retry_after(&headers, now).map(|wait| wait.as_millis() as u64);
            assert_eq!(wait, *expect, "{name}: {value}");
        }
    }

    #[test]
    fn a_wait_is_read_from_words() {
        let table: &[(&str, Option<u64>)] = &[
            (
                "Rate limit reached. Please try again in 1.5s. Visit x",
                Some(1500),
            ),
            ("Please try again in 28ms.", Some(28)),
            ("Try again in 6m0s.", Some(360_000)),
            ("please try again in 20 seconds", Some(20_000)),
            ("Quota exceeded. Please retry in 32.5s.", Some(32_500)),
            ("Please retry after 26 seconds.", Some(26_000)),
            ("Loading model", Some(5_000)),
            ("try again in a while", None),
            ("try again in 5", None),
            ("no wait", None),
        ];
        for (words, expect) in table {
            let wait = wait_in_words(words).map(|wait| wait.as_millis() as u64);
            assert_eq!(wait, *expect, "{words}");
        }
    }

    #[test]
    fn a_key_that_is_echoed_does_not_reach_the_message() {
        let peer = Peer {
            base: "http://h/v1".into(),
            path: "/responses",
            model: "m".into(),
            key_variable: "K".into(),
            has_key: true,
            is_loopback: false,
            redactor: Redactor::new(["sk-0123456789".into()]),
        };
        let body = br#"{"error":{"message":"Incorrect API key provided: sk-0123456789"}}"#;
        let error = peer.error(Failure::from_answer(401, &HeaderMap::new(), body));
        assert_eq!(
            error.message,
            "`http://h/v1` refuses the key in `K` (401): Incorrect API key provided: [redacted]"
        );
    }
}
