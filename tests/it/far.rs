//! A thread that one process works on, reached from another: followed, answered and stopped over its socket, and taken
//! up when that process is gone.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{
    client::{Client, Dialect, NEWEST_SESSION, outcome, text, word},
    home::{Home, PATIENCE, ends_within, eventually, run},
    model_server::{ModelServer, Reply},
};

const FORMS: &str = "elicitation/create";
const RETURNING: [&str; 3] = ["mcp-server", "--when-unattended", "return-to-caller"];

/// A client that nobody can be asked through.
fn serve(home: &Home, model: &ModelServer, flags: &[&str]) -> Client {
    Client::start(home.openoxide_with(model, flags), NEWEST_SESSION)
}

/// A client with a person.
fn attended(home: &Home, model: &ModelServer, flags: &[&str]) -> Client {
    let server = home.openoxide_with(model, flags);
    Client::able(server, NEWEST_SESSION, json!({"elicitation": {}}))
}

/// A command that takes until `enough` is there.
fn waits() -> Reply {
    let line = "echo begun >began || exit; until [ -e enough ]; do echo so far; sleep 0.05; done";
    Reply::call("c1", "shell", json!({"command": line}))
}

/// A command that can be counted and is asked about, and a last word.
fn asks() -> Vec<Reply> {
    let arguments = json!({"command": "echo ran >>log.txt", "escalate": true});
    vec![
        Reply::call("e1", "shell", arguments),
        Reply::text("That is that."),
    ]
}

fn runs(home: &Home) -> usize {
    match home.has("log.txt") {
        true => home.read("log.txt").lines().count(),
        false => 0,
    }
}

/// A server whose turn runs a command that waits, with the call and the thread.
fn at_work(home: &Home, model: &ModelServer) -> (Client, u64, String) {
    let mut client = serve(home, model, &["mcp-server"]);
    let call = client.begin("openoxide", json!({"prompt": "Take your time."}));
    home.until_it_has("began");
    (client, call, home.threads().remove(0))
}

/// A server whose client was shown a form and says nothing yet, with the call, the form and the thread.
fn asked(home: &Home, model: &ModelServer, flags: &[&str]) -> (Client, u64, Value, String) {
    let mut client = attended(home, model, flags);
    let call = client.begin("openoxide", json!({"prompt": "x"}));
    let form = client.asked(FORMS);
    (client, call, form, home.threads().remove(0))
}

/// A command line that follows the turn of another process.
struct Terminal(Child);

impl Terminal {
    /// Starts it, and waits until it says so.
    fn follows(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let said = BufReader::new(child.stderr.take().expect("piped"));
        let (tell, told) = mpsc::channel();
        // Reads on, so that it can go on saying things.
        thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                if line.contains("another process works") {
                    let _ = tell.send(());
                }
            }
        });
        told.recv_timeout(PATIENCE).expect("it says what it does");
        // For the last step, of which it says nothing.
        thread::sleep(Duration::from_millis(500));
        Self(child)
    }

    /// Presses Ctrl-C. The exit code, and what it printed.
    fn left(self) -> (Option<i32>, String) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::INT).expect("it runs");
        self.ended()
    }

    fn ended(mut self) -> (Option<i32>, String) {
        let code = ends_within(&mut self.0, PATIENCE).code();
        let mut printed = String::new();
        let mut stdout = self.0.stdout.take().expect("piped");
        stdout.read_to_string(&mut printed).expect("text");
        (code, printed)
    }
}

fn accept(client: &mut Client, form: &Value) {
    let content = json!({"decision": "approve"});
    let result = json!({"action": "accept", "content": content});
    client.send(&json!({"jsonrpc": "2.0", "id": form["id"], "result": result}));
}

fn assert_well_asked(model: &ModelServer, requests: usize) {
    assert_eq!(model.violations(), [""; 0]);
    assert_eq!(model.requests().len(), requests);
}

#[test]
fn a_second_server_waits_for_the_turn_of_the_first() {
    let home = Home::new();
    let model = ModelServer::start(vec![waits(), Reply::text("It is done.")]);
    let (mut first, call, thread) = at_work(&home, &model);
    let mut second = serve(&home, &model, &["mcp-server"]);
    let began = Instant::now();
    let patient = json!({"thread_id": thread, "wait_seconds": 0.3});
    let running = second.call("openoxide-reply", patient);
    assert_eq!(outcome(&running)["status"], "running", "{running}");
    assert!(began.elapsed() >= Duration::from_millis(300));
    let waiting = second.begin_told("openoxide-reply", json!({"thread_id": "last"}), "p");
    second.until("what the command prints", |message| {
        let said = message["params"]["message"].as_str();
        said.is_some_and(|said| said.contains("so far"))
    });
    let home = home.file("enough", "");
    let [told, heard] = [first.result(call), second.result(waiting)];
    for result in [&told, &heard] {
        assert_eq!(outcome(result)["status"], "completed", "{result}");
        assert_eq!(outcome(result)["content"], "It is done.");
    }
    assert_eq!(outcome(&told)["turn_id"], outcome(&heard)["turn_id"]);
    assert_eq!(outcome(&told)["commands"], outcome(&heard)["commands"]);
    // What the other did is known here from now on, and the thread goes on here.
    let again = second.call("openoxide-reply", json!({"thread_id": thread}));
    assert_eq!(outcome(&again)["content"], "It is done.", "{again}");
    assert_well_asked(&model, 2);
    first.close();
    second.close();
    drop(home);
}

#[test]
fn a_second_server_stops_the_turn_of_the_first() {
    let home = Home::new();
    let model = ModelServer::start(vec![waits(), Reply::text("Something else.")]);
    let (mut first, call, thread) = at_work(&home, &model);
    let mut second = serve(&home, &model, &["mcp-server"]);
    let began = Instant::now();
    let refusal = second.refusal(
        "openoxide-reply",
        json!({"thread_id": thread, "prompt": "Another."}),
    );
    assert!(began.elapsed() < Duration::from_secs(2), "it need not wait");
    for way_out in [&*thread, "without `prompt`", "`interrupt: true`"] {
        assert!(refusal.contains(way_out), "{refusal}");
    }
    let stop = json!({"thread_id": thread, "interrupt": true});
    let stopped = second.call("openoxide-reply", stop.clone());
    assert_eq!(outcome(&stopped)["status"], "interrupted", "{stopped}");
    let told = first.result(call);
    assert_eq!(outcome(&told)["status"], "interrupted", "{told}");
    assert_eq!(outcome(&told)["turn_id"], outcome(&stopped)["turn_id"]);
    assert_well_asked(&model, 1);
    let mut next = stop;
    next["prompt"] = json!("Another.");
    let done = second.call("openoxide-reply", next);
    assert_eq!(outcome(&done)["content"], "Something else.", "{done}");
    assert_well_asked(&model, 2);
    first.close();
    second.close();
}

#[test]
fn a_turn_that_waits_for_its_caller_is_decided_from_another_server() {
    // Whether approving counts is for the process that holds the turn to say.
    for (flags, decision, ran) in [
        (&RETURNING[..], "approve", 1),
        (&["mcp-server"], "approve", 1),
        (&RETURNING, "deny", 0),
    ] {
        let (home, model) = (Home::new(), ModelServer::start(asks()));
        let mut first = serve(&home, &model, &RETURNING);
        let waits = first.call("openoxide", json!({"prompt": "x"}));
        assert_eq!(outcome(&waits)["status"], "approval_required", "{waits}");
        let thread = word(&waits, "thread_id");
        let mut second = serve(&home, &model, flags);
        let seen = second.call("openoxide-reply", json!({"thread_id": thread}));
        assert_eq!(outcome(&seen)["status"], "approval_required", "{seen}");
        assert_eq!(outcome(&seen)["approvals"], outcome(&waits)["approvals"]);
        let session = json!({"decision": "approve_for_session"});
        let session = json!({"thread_id": thread, "decision": session});
        let refusal = second.refusal("openoxide-reply", session);
        assert!(refusal.contains("not for the session"), "{refusal}");
        let decision = json!({"thread_id": thread, "decision": {"decision": decision}});
        let done = second.call("openoxide-reply", decision.clone());
        assert_eq!(outcome(&done)["status"], "completed", "{done}");
        assert_eq!(outcome(&done)["turn_id"], outcome(&waits)["turn_id"]);
        assert_eq!(runs(&home), ran);
        let late = second.refusal("openoxide-reply", decision);
        assert!(late.contains("no question is open"), "{late}");
        let told = first.call("openoxide-reply", json!({"thread_id": "last"}));
        assert_eq!(outcome(&told)["content"], "That is that.", "{told}");
        assert_well_asked(&model, 2);
        first.close();
        second.close();
    }
}

#[test]
fn nobody_approves_from_another_server_while_a_person_is_asked_or_where_only_a_person_may() {
    for (flags, why) in [
        (&RETURNING[..], "a person is being asked"),
        (&["mcp-server"], "approving is for a person"),
    ] {
        let (home, model) = (Home::new(), ModelServer::start(asks()));
        let (mut first, call, _, thread) = asked(&home, &model, flags);
        let mut second = serve(&home, &model, &RETURNING);
        let decide =
            |decision: &str| json!({"thread_id": thread, "decision": {"decision": decision}});
        let refusal = second.refusal("openoxide-reply", decide("approve"));
        assert!(refusal.contains(why), "{refusal}");
        assert_eq!(runs(&home), 0);
        let running = second.call(
            "openoxide-reply",
            json!({"thread_id": thread, "wait_seconds": 0.2}),
        );
        assert_eq!(outcome(&running)["status"], "running", "{running}");
        let done = second.call("openoxide-reply", decide("deny"));
        assert_eq!(outcome(&done)["status"], "completed", "{done}");
        first.told("cancelled");
        assert_eq!(outcome(&first.result(call))["status"], "completed");
        assert_eq!(runs(&home), 0);
        first.close();
        second.close();
    }
}

#[test]
fn a_person_at_either_server_may_answer_and_the_first_answer_counts() {
    let (home, model) = (Home::new(), ModelServer::start(asks()));
    let (mut first, call, _, thread) = asked(&home, &model, &["mcp-server"]);
    let mut second = attended(&home, &model, &["mcp-server"]);
    let waiting = second.begin("openoxide-reply", json!({"thread_id": thread}));
    let form = second.asked(FORMS);
    accept(&mut second, &form);
    first.told("cancelled");
    for result in [first.result(call), second.result(waiting)] {
        assert_eq!(outcome(&result)["status"], "completed", "{result}");
    }
    assert_eq!(runs(&home), 1);
    first.close();
    second.close();
}

#[test]
fn a_client_of_rounds_is_asked_what_another_process_asks() {
    let (home, model) = (Home::new(), ModelServer::start(asks()));
    let (mut first, call, _, thread) = asked(&home, &model, &["mcp-server"]);
    let server = home.openoxide_with(&model, &["mcp-server"]);
    let forms = json!({"elicitation": {"form": {}}});
    let mut second = Client::able(server, Dialect::Inline, forms);
    let arguments = json!({"thread_id": thread});
    let round = second.call("openoxide-reply", arguments.clone());
    assert_eq!(round["resultType"], "input_required", "{round}");
    let requests = round["inputRequests"].as_object().expect("requests");
    let key = requests.keys().next().expect("a question");
    let content = json!({"decision": "approve"});
    let done = second.ask(
        "tools/call",
        json!({
            "name": "openoxide-reply", "arguments": arguments, "requestState": round["requestState"],
            "inputResponses": {key: {"action": "accept", "content": content}},
        }),
    );
    assert_eq!(outcome(&done)["status"], "completed", "{done}");
    assert_eq!(outcome(&first.result(call))["status"], "completed");
    assert_eq!(runs(&home), 1);
    first.close();
    second.close();
}

#[test]
fn a_client_that_cancels_leaves_the_turn_to_those_who_follow_it_in_the_other_process() {
    let home = Home::new();
    let model = ModelServer::start(vec![waits(), Reply::text("It is done.")]);
    let (mut first, call, thread) = at_work(&home, &model);
    let mut second = serve(&home, &model, &["mcp-server"]);
    let wait = json!({"thread_id": thread});
    let waiting = second.begin_told("openoxide-reply", wait.clone(), "p");
    second.told("progress");
    second.cancel(waiting, None);
    second.lives();
    let home = home.file("enough", "");
    assert_eq!(outcome(&first.result(call))["status"], "completed");
    first.close();
    second.close();
    drop(home);
}

#[test]
fn the_last_one_who_cancels_stops_a_turn_also_from_another_process() {
    let home = Home::new();
    let model = ModelServer::start(vec![waits(), Reply::text("It is done.")]);
    let mut first = serve(&home, &model, &["mcp-server"]);
    let gone = first.call("openoxide", json!({"prompt": "x", "wait_seconds": 0}));
    let thread = word(&gone, "thread_id");
    home.until_it_has("began");
    let mut second = serve(&home, &model, &["mcp-server"]);
    let waiting = second.begin_told("openoxide-reply", json!({"thread_id": thread}), "p");
    second.told("progress");
    second.cancel(waiting, None);
    let ended = || {
        let records = home.rollout(&thread);
        records.iter().any(|record| record["type"] == "turn_ended")
    };
    eventually("it is stopped", ended);
    let told = first.call(
        "openoxide-reply",
        json!({"thread_id": thread, "interrupt": true}),
    );
    assert_ne!(outcome(&told)["status"], "running", "{told}");
    home.assert_deserted(&["mcp-server"]);
    first.close();
    second.close();
}

#[test]
fn a_turn_whose_process_dies_goes_on_where_it_is_followed() {
    let home = Home::new();
    let model = ModelServer::start(vec![waits(), Reply::text("It is done.")]);
    let (mut first, _, thread) = at_work(&home, &model);
    let mut second = serve(&home, &model, &["mcp-server"]);
    let waiting = second.begin_told("openoxide-reply", json!({"thread_id": thread}), "p");
    second.told("progress");
    first.signal(Signal::KILL);
    first.ends_within(PATIENCE);
    let done = second.result(waiting);
    assert_eq!(outcome(&done)["content"], "It is done.", "{done}");
    assert!(text(&done).contains("went on here"), "{done}");
    let input = model.requests()[1].body["input"].to_string();
    assert!(input.contains("effects are unknown"), "{input}");
    assert_well_asked(&model, 2);
    second.close();
}

#[test]
fn a_question_whose_process_dies_is_asked_again_where_it_is_followed() {
    let (home, model) = (Home::new(), ModelServer::start(asks()));
    let (mut first, _, _, thread) = asked(&home, &model, &["mcp-server"]);
    let mut second = attended(&home, &model, &["mcp-server"]);
    let waiting = second.begin("openoxide-reply", json!({"thread_id": thread}));
    let lost = second.asked(FORMS);
    first.signal(Signal::KILL);
    first.ends_within(PATIENCE);
    second.told("cancelled");
    let form = second.asked(FORMS);
    assert_ne!(form["id"], lost["id"]);
    assert_eq!(form["params"]["message"], lost["params"]["message"]);
    accept(&mut second, &form);
    let done = second.result(waiting);
    assert_eq!(outcome(&done)["status"], "completed", "{done}");
    assert_eq!(runs(&home), 1);
    assert_well_asked(&model, 2);
    second.close();
}

#[test]
fn a_terminal_follows_the_turn_of_a_server_and_gives_it_no_task() {
    let home = Home::new();
    let model = ModelServer::start(vec![waits(), Reply::text("It is done.")]);
    let (mut first, call, thread) = at_work(&home, &model);
    let list = run(home.openoxide(&["threads", "list"])).expect(0).stdout;
    assert!(list.contains("  running  "), "{list}");
    let shown = run(home.openoxide(&["threads", "show", &thread]))
        .expect(0)
        .stdout;
    let follows = format!("`openoxide --resume {thread}` follows");
    assert!(shown.contains(&follows), "{shown}");
    for name in [&["--resume", &thread][..], &["--continue"]] {
        let task = [&["-m", "Another."], name].concat();
        let refused = run(home.openoxide_with(&model, &task)).expect(2);
        let way_out = format!("`openoxide --resume {thread}` without a task follows its turn");
        refused.assert_says(&way_out);
    }
    let following = Terminal::follows(home.openoxide_with(&model, &["--continue"]));
    let leaving = Terminal::follows(home.openoxide_with(&model, &["--resume", &thread]));
    // Ctrl-C leaves a turn that is not its own.
    assert_eq!(leaving.left().0, Some(130));
    let home = home.file("enough", "");
    assert_eq!(outcome(&first.result(call))["status"], "completed");
    assert_eq!(following.ended(), (Some(0), "It is done.\n".to_owned()));
    assert_well_asked(&model, 2);
    first.close();
    drop(home);
}

#[test]
fn a_question_about_a_thread_that_another_process_works_on_is_answered_from_what_is_kept() {
    let home = Home::new();
    let model = ModelServer::start(vec![waits(), Reply::text("It is done.")]);
    let (mut first, call, thread) = at_work(&home, &model);
    let mut second = serve(&home, &model, &["mcp-server"]);
    let about = json!({"thread_id": thread, "query": "What is it doing?"});
    let answer = second.call("openoxide-query", about);
    assert_eq!(outcome(&answer)["content"], "It is done.", "{answer}");
    assert_ne!(word(&answer, "thread_id"), thread);
    let home = home.file("enough", "");
    assert_eq!(outcome(&first.result(call))["status"], "completed");
    first.close();
    second.close();
    drop(home);
}

#[test]
fn an_outcome_names_the_thread_that_another_process_works_on_in_the_same_directory() {
    let home = Home::new();
    let model = ModelServer::start(vec![waits(), Reply::text("It is done.")]);
    let (mut first, call, thread) = at_work(&home, &model);
    let slow = ModelServer::start(vec![
        Reply::text("two").delayed(Duration::from_millis(300)),
        Reply::text("three").delayed(Duration::from_millis(300)),
    ]);
    let mut second = serve(&home, &slow, &["mcp-server"]);
    let beside = second.call("openoxide", json!({"prompt": "And you?"}));
    assert_eq!(outcome(&beside)["beside"], json!([thread]), "{beside}");
    assert!(text(&beside).contains(&thread), "{beside}");
    let home = home.file("enough", "");
    let told = first.result(call);
    assert!(outcome(&told).get("beside").is_none(), "{told}");
    // Who is done is beside nobody.
    let alone = second.call(
        "openoxide-reply",
        json!({"thread_id": "last", "prompt": "Now?"}),
    );
    assert!(outcome(&alone).get("beside").is_none(), "{alone}");
    first.close();
    second.close();
    drop(home);
}

/// LangChain's adapter starts a server for each call.
#[test]
fn a_server_for_each_call_comes_to_what_one_server_would() {
    let call = |home: &Home, model: &ModelServer, tool: &str, arguments: Value| {
        let mut client = serve(home, model, &RETURNING);
        let result = client.call(tool, arguments);
        client.close();
        result
    };
    let mut script = asks();
    script.extend([Reply::text("two"), Reply::text("three")]);
    let (home, model) = (Home::new(), ModelServer::start(script));
    let waits = call(&home, &model, "openoxide", json!({"prompt": "x"}));
    assert_eq!(outcome(&waits)["status"], "approval_required", "{waits}");
    let thread = word(&waits, "thread_id");
    for name in [&*thread, "last"] {
        let again = call(&home, &model, "openoxide-reply", json!({"thread_id": name}));
        assert_eq!(outcome(&again)["approvals"], outcome(&waits)["approvals"]);
        assert_eq!(outcome(&again)["usage"], outcome(&waits)["usage"]);
    }
    let decision = json!({"thread_id": "last", "decision": {"decision": "approve"}});
    let done = call(&home, &model, "openoxide-reply", decision.clone());
    assert_eq!(outcome(&done)["content"], "That is that.", "{done}");
    assert_eq!(outcome(&done)["turn_id"], outcome(&waits)["turn_id"]);
    assert_eq!(runs(&home), 1);
    let told = call(
        &home,
        &model,
        "openoxide-reply",
        json!({"thread_id": "last"}),
    );
    assert_eq!(outcome(&told)["content"], "That is that.", "{told}");
    for (name, word) in [(&*thread, "two"), ("last", "three")] {
        let more = json!({"thread_id": name, "prompt": "More."});
        let more = call(&home, &model, "openoxide-reply", more);
        assert_eq!(outcome(&more)["content"], word, "{more}");
    }
    assert_eq!(home.threads(), [thread]);
    assert_well_asked(&model, 4);
}
