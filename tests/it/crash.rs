//! A server that is killed, at every record that it writes and at any moment between: the thread always loads, each call
//! has one output, nothing that was done is lost, nothing is done twice, and what was asked can still be answered.
//!
//! `OPENOXIDE_CRASHES` is the number of random moments; `.ci/full` takes a thousand.

use std::{
    collections::{HashMap, HashSet},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    client::{Client, NEWEST_SESSION, outcome},
    home::{Home, PATIENCE},
    model_server::{ModelServer, Reply},
};

/// Random moments where nothing else is said.
const MOMENTS: u64 = 50;

/// How long the person at the client thinks about a question.
const THOUGHT: Duration = Duration::from_millis(10);

/// Reads, commands, an edit, a question, and a last word.
fn task() -> Vec<Reply> {
    let edits = json!([{"search": "one", "replace": "two"}]);
    let log = |word: &str| json!({"command": format!("echo {word} >> log; sleep 0.02")});
    vec![
        Reply::call("c1", "read_file", json!({"path": "a.txt"})),
        Reply::call("c2", "shell", log("first")),
        Reply::reasoning("And now the edit.").and_call(
            "c3",
            "edit_file",
            json!({"path": "a.txt", "edits": edits}),
        ),
        Reply::call(
            "c4",
            "write_file",
            json!({"path": ".envrc", "content": "new\n"}),
        ),
        Reply::call("c5", "shell", log("second")),
        Reply::text("All done."),
    ]
}

fn project() -> Home {
    Home::new().file("a.txt", "one\n").file(".envrc", "old\n")
}

/// When a server is killed.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// As soon as the rollout has this many lines.
    AtLine(usize),
    /// This long after the call.
    After(Duration),
    Never,
}

/// One task on one machine, through as many servers as it takes.
struct Run {
    home: Home,
    model: ModelServer,
}

/// What one server came to.
#[derive(Debug)]
enum Came {
    Killed,
    To(Value),
}

impl Run {
    fn new() -> Self {
        Self {
            home: project(),
            model: ModelServer::start_by_outputs(task()),
        }
    }

    fn thread(&self) -> Option<String> {
        self.home.threads().pop()
    }

    /// The whole lines of the rollout.
    fn lines(&self) -> Vec<String> {
        let Some(thread) = self.thread() else {
            return Vec::new();
        };
        let text = std::fs::read_to_string(self.home.rollout_file(&thread)).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text[..whole].lines().map(str::to_owned).collect()
    }

    /// The records in a few words each.
    fn story(&self) -> Vec<String> {
        let word = |line: &String| {
            let record: Value = serde_json::from_str(line).unwrap_or_default();
            let about =
                ["call_id", "status", "name", "resumes"].map(|name| record[name].to_string());
            format!("{} {}", record["type"], about.join(" "))
        };
        self.lines().iter().map(word).collect()
    }

    /// Starts a server, begins the task or goes on with it, and kills the server when told.
    fn serve(&self, kill: Kill) -> Came {
        let server = self.home.openoxide_with(&self.model, &["mcp-server"]);
        let mut client = Client::able(server, NEWEST_SESSION, json!({"elicitation": {}}));
        let began = Instant::now();
        let call = match self.thread().filter(|_| self.lines().len() > 1) {
            None => client.begin("openoxide", json!({"prompt": "Do it."})),
            Some(thread) => client.begin("openoxide-reply", json!({"thread_id": thread})),
        };
        let came = self.attend(&mut client, call, kill, began);
        match came {
            Came::Killed => {
                client.signal(Signal::KILL);
                client.ends_within(PATIENCE);
            }
            Came::To(_) => client.close(),
        }
        came
    }

    /// Answers what is asked, until the call ends or the moment has come.
    fn attend(&self, client: &mut Client, call: u64, kill: Kill, began: Instant) -> Came {
        let mut question: Option<(Instant, Value)> = None;
        loop {
            assert!(
                began.elapsed() < PATIENCE,
                "the call never ends: {:#?}",
                self.story()
            );
            let now = match kill {
                Kill::AtLine(lines) => self.lines().len() >= lines,
                Kill::After(moment) => began.elapsed() >= moment,
                Kill::Never => false,
            };
            if now {
                return Came::Killed;
            }
            if let Some((_, id)) = question.take_if(|(asked, _)| asked.elapsed() >= THOUGHT) {
                let approve = json!({"action": "accept", "content": {"decision": "approve"}});
                client.send(&json!({"jsonrpc": "2.0", "id": id, "result": approve}));
            }
            match client.next_within(Duration::from_micros(200)) {
                Some(message) if message["method"] == "elicitation/create" => {
                    question = Some((Instant::now(), message["id"].clone()));
                }
                Some(message) if message["id"] == call => return Came::To(message),
                _ => {}
            }
        }
    }

    /// Kills as told, one server after the other, and sees the task through.
    fn through(&self, kills: &[Kill]) {
        for kill in kills {
            let before = self.lines();
            match self.serve(*kill) {
                Came::Killed => self.assert_kept(&before),
                Came::To(_) => break,
            }
        }
        let done = self.last_outcome();
        let result = match done {
            Some(outcome) if outcome["status"] == "completed" => return self.assert_done(&outcome),
            _ => self.serve(Kill::Never),
        };
        match result {
            Came::To(message) => self.assert_done(outcome(&message["result"])),
            Came::Killed => unreachable!("nobody killed it"),
        }
    }

    fn last_outcome(&self) -> Option<Value> {
        let lines = self.lines();
        let last: Value = serde_json::from_str(lines.last()?).ok()?;
        Some(last["outcome"].clone()).filter(Value::is_object)
    }

    /// Nothing that was recorded is gone.
    fn assert_kept(&self, before: &[String]) {
        let now = self.lines();
        // A thread whose first turn never began is left alone, and another one made.
        let began = before.len() > 1;
        assert!(!began || now.starts_with(before), "{:#?}", self.story());
    }

    fn assert_done(&self, outcome: &Value) {
        assert_eq!(
            outcome["status"],
            "completed",
            "{outcome}\n{:#?}",
            self.lines()
        );
        assert_eq!(self.model.violations(), [""; 0], "{:#?}", self.story());
        let outputs = self.outputs();
        let log = std::fs::read_to_string(self.home.project().join("log")).unwrap_or_default();
        for (call, word) in [("c2", "first"), ("c5", "second")] {
            let times = log.lines().filter(|line| *line == word).count();
            let least = usize::from(outputs[call] == "done");
            assert!(
                (least..=1).contains(&times),
                "{word} {times} times: {:#?}",
                self.lines()
            );
        }
        for (call, path, new) in [("c3", "a.txt", "two\n"), ("c4", ".envrc", "new\n")] {
            // What was interrupted while it ran may have been done or not.
            if outputs[call] == "done" {
                assert_eq!(self.home.read(path), new, "{call}: {:#?}", self.story());
            } else {
                assert_eq!(outputs[call], "interrupted", "{:#?}", self.story());
            }
        }
        self.home.assert_deserted(&[]);
    }

    /// How each call of the task ended. Fails if one has no output or two, or was given up before it began: what was only
    /// planned or asked is still to be done.
    fn outputs(&self) -> HashMap<String, String> {
        let (mut outputs, mut started) = (HashMap::new(), HashSet::new());
        for line in self.lines() {
            let record: Value = serde_json::from_str(&line).unwrap_or_default();
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            match text("type").as_str() {
                "call_started" => drop(started.insert(text("call_id"))),
                "tool_output" => {
                    let twice = outputs.insert(text("call_id"), text("status"));
                    assert!(twice.is_none(), "two outputs: {:#?}", self.story());
                }
                _ => {}
            }
        }
        assert_eq!(outputs.len(), 5, "{:#?}", self.story());
        for (call, status) in &outputs {
            let began = started.contains(call);
            assert!(
                status == "done" || began,
                "{call} {status}: {:#?}",
                self.story()
            );
        }
        outputs
    }
}

#[test]
fn a_server_killed_at_any_record_loses_nothing_and_does_nothing_twice() {
    let whole = Run::new();
    whole.through(&[]);
    let records = whole.lines().len();
    assert!(records > 15, "{:#?}", whole.lines());
    side_by_side((1..=records).map(|line| vec![Kill::AtLine(line)]).collect());
}

#[test]
fn a_server_killed_at_any_moment_loses_nothing_and_does_nothing_twice() {
    let moments = std::env::var("OPENOXIDE_CRASHES");
    let moments = moments.map_or(MOMENTS, |count| count.parse().expect("a number"));
    let began = Instant::now();
    Run::new().through(&[]);
    let whole = began.elapsed();
    // Scattered evenly whatever their number; the scheduler does the rest.
    let moment = |number: u64| Kill::After(whole.mul_f64((number as f64 * 0.618_034).fract()));
    let kills = (0..moments).map(|number| {
        let times = 1 + number % 3;
        (0..times).map(|time| moment(number * 3 + time)).collect()
    });
    side_by_side(kills.collect());
}

/// Two at a time: most of it is waiting.
fn side_by_side(runs: Vec<Vec<Kill>>) {
    let half = runs.len().div_ceil(2);
    thread::scope(|scope| {
        for part in runs.chunks(half) {
            scope.spawn(move || part.iter().for_each(|kills| Run::new().through(kills)));
        }
    });
}
