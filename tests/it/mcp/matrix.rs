//! Every way of answering, by every generation of the protocol, under every policy and strategy: there is an answer in
//! time, and it is the one that was meant.

use std::{
    collections::HashMap,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::has_record;
use crate::support::{
    client::{Client, DIALECTS, Dialect, outcome},
    home::{Home, eventually},
    model_server::{ModelServer, Reply},
};

/// Longer than any answer may take, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(45);

/// What a client does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answers {
    Accept,
    AcceptForSession,
    AcceptEmpty,
    Decline,
    Cancel,
    MethodNotFound,
    InvalidRequest,
    Never,
}

const ANSWERS: [Answers; 8] = [
    Answers::Accept,
    Answers::AcceptForSession,
    Answers::AcceptEmpty,
    Answers::Decline,
    Answers::Cancel,
    Answers::MethodNotFound,
    Answers::InvalidRequest,
    Answers::Never,
];

const POLICIES: [&str; 3] = ["untrusted", "on-request", "never"];
const STRATEGIES: [&str; 3] = ["auto-within-policy", "return-to-caller", "deny"];

impl Answers {
    /// The answer to a request, or nothing.
    fn message(self) -> Option<Value> {
        let result = |result: Value| Some(json!({"result": result}));
        let error = |code: i32| Some(json!({"error": {"code": code, "message": "no"}}));
        match self {
            Self::Accept => result(json!({"action": "accept", "content": {"decision": "approve"}})),
            Self::AcceptForSession => {
                result(json!({"action": "accept", "content": {"decision": "approve_for_session"}}))
            }
            Self::AcceptEmpty => result(json!({"action": "accept"})),
            Self::Decline => result(json!({"action": "decline"})),
            Self::Cancel => result(json!({"action": "cancel"})),
            Self::MethodNotFound => error(-32601),
            Self::InvalidRequest => error(-32600),
            Self::Never => None,
        }
    }

    /// Yes, no, or silence.
    fn means(self) -> Option<bool> {
        match self {
            Self::Accept | Self::AcceptForSession | Self::AcceptEmpty => Some(true),
            Self::Decline => Some(false),
            Self::Cancel | Self::MethodNotFound | Self::InvalidRequest | Self::Never => None,
        }
    }
}

/// One server and what it is asked.
#[derive(Clone, Copy, Debug)]
struct Setting {
    dialect: Dialect,
    elicits: bool,
    strategy: &'static str,
}

fn settings() -> Vec<Setting> {
    let mut all = Vec::new();
    for dialect in &DIALECTS[..5] {
        for elicits in [true, false] {
            for strategy in STRATEGIES {
                all.push(Setting {
                    dialect: *dialect,
                    elicits,
                    strategy,
                });
            }
        }
    }
    all
}

/// An edit that a read-only sandbox asks about, and a last word.
fn script() -> Vec<Reply> {
    let write = json!({"path": "new.txt", "content": "hello\n"});
    vec![Reply::call("w1", "write_file", write), Reply::text("done")]
}

/// One call of one client.
struct Case {
    answers: Answers,
    policy: &'static str,
    cwd: PathBuf,
    arguments: Value,
    /// The request that is not answered yet.
    id: u64,
}

impl Setting {
    fn start(self, home: &Home, model: &ModelServer) -> Client {
        let flags = ["mcp-server", "--when-unattended", self.strategy];
        let capabilities = match self.elicits {
            true => json!({"elicitation": {"form": {}}}),
            false => json!({}),
        };
        Client::able(
            home.openoxide_with(model, &flags),
            self.dialect,
            capabilities,
        )
    }

    /// What a call should come to: its status, and whether the file is written.
    fn expected(self, case: &Case) -> (&'static str, bool) {
        let silence = match self.strategy {
            "return-to-caller" => "approval_required",
            _ => "completed",
        };
        match case.answers.means() {
            _ if case.policy == "never" => ("completed", false),
            _ if !self.elicits => (silence, false),
            Some(yes) => ("completed", yes),
            None => (silence, false),
        }
    }

    fn cases(self, home: &Home, client: &mut Client) -> Vec<Case> {
        let answers = if self.elicits {
            &ANSWERS[..]
        } else {
            &ANSWERS[..1]
        };
        let mut cases = Vec::new();
        for (n, answers) in answers.iter().enumerate() {
            for policy in POLICIES {
                let cwd = home.project().join(format!("case-{n}-{policy}"));
                std::fs::create_dir_all(&cwd).expect("a directory");
                let arguments = json!({
                    "prompt": "Write.", "cwd": cwd, "sandbox": "read-only", "approval_policy": policy,
                });
                let id = client.begin("openoxide", arguments.clone());
                cases.push(Case {
                    answers: *answers,
                    policy,
                    cwd,
                    arguments,
                    id,
                });
            }
        }
        cases
    }

    /// Makes all calls at once, answers what is asked, and sees each call to its end.
    fn drive(self) {
        let limits = "[limits]\napproval_seconds = 1.5\npark_seconds = 60\n";
        let (home, model) = (Home::new().config(limits), ModelServer::start(script()));
        let mut client = self.start(&home, &model);
        let began = Instant::now();
        let mut open = self.cases(&home, &mut client);
        let mut asked: HashMap<PathBuf, u32> = HashMap::new();
        while !open.is_empty() {
            let left = DEADLINE.saturating_sub(began.elapsed());
            let Some(message) = client.next_within(left) else {
                let left: Vec<_> = open
                    .iter()
                    .map(|case| (case.answers, case.policy))
                    .collect();
                panic!("{self:?}: no answer for {left:?}: {}", client.errors());
            };
            if message["method"] == "elicitation/create" {
                assert!(self.elicits && !self.dialect.is_modern(), "{message}");
                let text = message["params"]["message"].as_str().expect("a message");
                let case = open
                    .iter()
                    .find(|case| text.contains(&*case.cwd.to_string_lossy()))
                    .expect("an open call asks");
                *asked.entry(case.cwd.clone()).or_default() += 1;
                if let Some(mut answer) = case.answers.message() {
                    answer["jsonrpc"] = json!("2.0");
                    answer["id"] = message["id"].clone();
                    client.send(&answer);
                }
                continue;
            }
            let Some(at) = open
                .iter()
                .position(|case| message["id"] == case.id && message.get("method").is_none())
            else {
                continue;
            };
            let case = open.remove(at);
            if let Some(case) = self.answered(case, &message["result"], &mut client, &mut asked) {
                open.push(case);
            }
        }
        assert!(
            asked.values().all(|times| *times == 1),
            "{self:?}: {asked:?}"
        );
        client.lives();
        client.close();
    }

    /// One call has come to something: the case again if it goes on.
    fn answered(
        self,
        mut case: Case,
        result: &Value,
        client: &mut Client,
        asked: &mut HashMap<PathBuf, u32>,
    ) -> Option<Case> {
        let about = format!("{self:?} {:?} {}: {result}", case.answers, case.policy);
        if result["resultType"] == "input_required" {
            assert!(self.elicits && self.dialect.is_modern(), "{about}");
            *asked.entry(case.cwd.clone()).or_default() += 1;
            // Whoever never answers has been told, and is gone.
            let mut answer = case.answers.message()?;
            let response = match answer["result"].take() {
                Value::Null => answer,
                response => response,
            };
            let requests = result["inputRequests"].as_object().expect("requests");
            let key = requests.keys().next().expect("one").clone();
            case.id = client.request(
                "tools/call",
                json!({
                    "name": "openoxide", "arguments": case.arguments,
                    "requestState": result["requestState"], "inputResponses": {key: response},
                }),
            );
            return Some(case);
        }
        let (status, written) = self.expected(&case);
        let done = outcome(result);
        assert_eq!(done["status"], status, "{about}");
        assert_eq!(case.cwd.join("new.txt").exists(), written, "{about}");
        assert_ne!(result["isError"], true, "{about}");
        let refused = status == "completed" && !written;
        assert_eq!(done["denied"].is_array(), refused, "{about}");
        assert_eq!(
            done["approvals"].is_array(),
            status == "approval_required",
            "{about}"
        );
        let asks = case.policy != "never" && self.elicits;
        assert_eq!(asked.contains_key(&case.cwd), asks, "{about}");
        None
    }

    /// The client is gone in the middle of the question: so is the server, and the question is kept unless the owner
    /// wants a no.
    fn vanish(self) {
        let (home, model) = (Home::new(), ModelServer::start(script()));
        let mut client = self.start(&home, &model);
        client.begin(
            "openoxide",
            json!({"prompt": "Write.", "sandbox": "read-only"}),
        );
        eventually("it asks", || {
            home.threads()
                .first()
                .is_some_and(|thread| has_record(&home, thread, "approval_requested"))
        });
        client.vanish();
        client.ends_within(Duration::from_secs(8));
        let records = home.rollout(&home.threads()[0]);
        let ended = records.iter().any(|record| record["type"] == "turn_ended");
        let resolved = records
            .iter()
            .any(|record| record["type"] == "approval_resolved");
        let kept = self.strategy == "return-to-caller" || (self.elicits && self.strategy != "deny");
        assert_eq!(!ended && !resolved, kept, "{self:?}: {records:#?}");
        assert!(home.names().is_empty(), "{self:?}");
    }
}

/// A few at a time: each is a process or two.
fn side_by_side(work: fn(Setting)) {
    let all = settings();
    for some in all.chunks(6) {
        thread::scope(|scope| {
            for setting in some {
                scope.spawn(move || work(*setting));
            }
        });
    }
}

#[test]
fn every_answer_in_every_setting_comes_to_something_in_time() {
    side_by_side(Setting::drive);
}

#[test]
fn a_client_that_vanishes_leaves_nothing_that_waits() {
    side_by_side(Setting::vanish);
}
