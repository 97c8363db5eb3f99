//! The whole road as its user goes it: a task over MCP, a server that is killed while it asks, another that is started,
//! the answer, the work, and everything that the command line shows of it and takes back.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    client::{Client, Dialect, NEWEST_SESSION, outcome, word},
    home::{Home, PATIENCE, run},
    model_server::{ModelServer, Reply},
};

/// How a client hears of questions and answers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A form while the call is open.
    Form,
    /// As a result, and `decision` in a reply.
    Returned,
    /// As a result of 2026-07-28, and the same call again.
    Round,
    /// As before, but the call that comes again is a new reply.
    NewRound,
}

const WAYS: [Way; 4] = [Way::Form, Way::Returned, Way::Round, Way::NewRound];

/// One edit that needs no question, and a command that does.
fn task() -> Vec<Reply> {
    let edits = json!([{"search": "helo", "replace": "hello"}]);
    let edit = json!({"path": "greet.txt", "edits": edits});
    let publish =
        json!({"command": "cat greet.txt >>log.txt", "escalate": true, "reason": "to publish"});
    vec![
        Reply::call("c1", "edit_file", edit),
        Reply::call("c2", "shell", publish),
        Reply::text("Mended and published."),
    ]
}

struct Road {
    home: Home,
    model: ModelServer,
    way: Way,
}

impl Road {
    fn new(way: Way) -> Self {
        Self {
            home: Home::new().file("greet.txt", "helo\n"),
            model: ModelServer::start(task()),
            way,
        }
    }

    fn serve(&self) -> Client {
        let strategy = match self.way {
            Way::Returned => "return-to-caller",
            _ => "auto-within-policy",
        };
        let flags = ["mcp-server", "--when-unattended", strategy];
        let server = self.home.openoxide_with(&self.model, &flags);
        let forms = json!({"elicitation": {"form": {}}});
        match self.way {
            Way::Form => Client::able(server, NEWEST_SESSION, forms),
            Way::Returned => Client::start(server, NEWEST_SESSION),
            Way::Round | Way::NewRound => Client::able(server, Dialect::Inline, forms),
        }
    }

    /// Begins the task, and kills the server when it asks. Gives what the client was told before.
    fn cut_short(&self) -> Value {
        let mut client = self.serve();
        let call = client.begin("openoxide", json!({"prompt": "Mend and publish."}));
        let told = match self.way {
            Way::Form => client.asked("elicitation/create"),
            _ => client.result(call),
        };
        client.signal(Signal::KILL);
        client.ends_within(PATIENCE);
        assert_eq!(self.files(), ("hello\n".to_owned(), false), "{told}");
        told
    }

    /// Goes on at a new server, says yes, and gives the result.
    fn answered(&self, told: &Value) -> Value {
        let mut client = self.serve();
        let reply = json!({"thread_id": "last"});
        let result = match self.way {
            Way::Form => {
                let call = client.begin("openoxide-reply", reply);
                let form = client.asked("elicitation/create");
                assert_eq!(form["params"]["message"], told["params"]["message"]);
                client.send(&json!({"jsonrpc": "2.0", "id": form["id"], "result": yes()}));
                client.result(call)
            }
            Way::Returned => {
                let id = &outcome(told)["approvals"][0]["id"];
                let decision = json!({"approval_id": id, "decision": "approve"});
                let thread = word(told, "thread_id");
                let reply = json!({"thread_id": thread, "decision": decision});
                client.call("openoxide-reply", reply)
            }
            Way::Round => {
                let prompt = json!({"prompt": "Mend and publish."});
                again(&mut client, "openoxide", prompt, told)
            }
            Way::NewRound => {
                let asked = client.call("openoxide-reply", reply.clone());
                again(&mut client, "openoxide-reply", reply, &asked)
            }
        };
        client.close();
        result
    }

    fn threads(&self, verb: &str, more: &[&str]) -> String {
        let thread = self.home.threads().remove(0);
        let arguments = [&["threads", verb, &thread], more].concat();
        run(self.home.openoxide(&arguments)).expect(0).stdout
    }

    /// The greeting, and whether it was published.
    fn files(&self) -> (String, bool) {
        let names = self.home.names();
        (
            self.home.read("greet.txt"),
            names.contains(&"log.txt".to_owned()),
        )
    }
}

fn yes() -> Value {
    json!({"action": "accept", "content": {"decision": "approve"}})
}

/// The call once more, with the answer to the question that its result was.
fn again(client: &mut Client, tool: &str, arguments: Value, asked: &Value) -> Value {
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let requests = asked["inputRequests"].as_object().expect("requests");
    let question = requests.keys().next().expect("a question");
    let responses = json!({question: yes()});
    client.ask(
        "tools/call",
        json!({
            "name": tool, "arguments": arguments,
            "requestState": asked["requestState"], "inputResponses": responses,
        }),
    )
}

#[test]
fn a_task_whose_server_is_killed_while_it_asks_is_answered_done_seen_and_taken_back() {
    for way in WAYS {
        let road = Road::new(way);
        let told = road.cut_short();
        let list = run(road.home.openoxide(&["threads", "list"])).expect(0);
        assert!(list.stdout.contains("approval_required"), "{}", list.stdout);
        let shown = road.threads("show", &[]);
        let waits = "? waits for an answer (`openoxide threads answer";
        assert!(
            shown.contains(waits) && shown.contains("cat greet.txt"),
            "{shown}"
        );

        let done = road.answered(&told);
        assert_eq!(outcome(&done)["status"], "completed", "{way:?}: {done}");
        assert_eq!(outcome(&done)["content"], "Mended and published.");
        let changed = outcome(&done)["changes"].as_array().expect("changes");
        let changed: Vec<&str> = changed
            .iter()
            .filter_map(|one| one["path"].as_str())
            .collect();
        assert_eq!(changed, ["greet.txt", "log.txt"], "{way:?}: {done}");
        assert_eq!(road.files(), ("hello\n".to_owned(), true));
        assert_eq!(road.home.read("log.txt"), "hello\n", "once");
        assert_eq!(road.model.violations(), [""; 0]);
        assert_eq!(
            (road.home.threads().len(), road.model.requests().len()),
            (1, 3)
        );

        let shown = road.threads("show", &[]);
        assert!(
            shown.contains("Mended and published.") && !shown.contains("waits for"),
            "{shown}"
        );
        let diff = road.threads("diff", &[]);
        assert!(
            diff.contains("-helo\n+hello\n") && diff.contains("b/log.txt"),
            "{diff}"
        );
        let undone = road.threads("undo", &[]);
        assert!(undone.contains("2 file(s) taken back"), "{undone}");
        assert_eq!(road.files(), ("helo\n".to_owned(), false));
        let shown = road.threads("show", &[]);
        assert!(shown.contains("taken back"), "{shown}");
        let redone = road.threads("undo", &["--redo"]);
        assert!(redone.contains("2 file(s) as before the undo"), "{redone}");
        assert_eq!(road.files(), ("hello\n".to_owned(), true));
        assert!(!road.threads("show", &[]).contains("taken back"));
    }
}

/// Nobody goes on with work that was taken back: the turn that was left open ends with it.
#[test]
fn what_was_done_before_the_kill_is_taken_back_without_an_answer_and_that_too_is_taken_back() {
    let road = Road::new(Way::Returned);
    let told = road.cut_short();
    let undone = road.threads("undo", &[]);
    assert!(
        undone.contains("ends with this") && undone.contains("1 file(s) taken back"),
        "{undone}"
    );
    assert_eq!(road.files(), ("helo\n".to_owned(), false));
    let shown = road.threads("show", &[]);
    assert!(
        shown.contains("interrupted") && shown.contains("taken back"),
        "{shown}"
    );
    assert!(!shown.contains("waits for an answer"), "{shown}");
    road.threads("undo", &["--redo"]);
    assert_eq!(road.files(), ("hello\n".to_owned(), false));
    let mut client = road.serve();
    let id = &outcome(&told)["approvals"][0]["id"];
    let decision = json!({"approval_id": id, "decision": "approve"});
    let reply = json!({"thread_id": "last", "decision": decision});
    let refusal = client.refusal("openoxide-reply", reply);
    assert!(refusal.contains("not open"), "{refusal}");
    // The thread is whole: it goes on, and each call has its output.
    let more = json!({"thread_id": "last", "prompt": "And now?"});
    let more = client.call("openoxide-reply", more);
    assert_eq!(outcome(&more)["status"], "completed", "{more}");
    assert_eq!(road.model.violations(), [""; 0]);
    client.close();
}
