//! External MCP servers, as the agent that asks them meets them: good ones, and hostile ones that hurt nobody.

mod asks;
mod limits;
mod sign_in;
mod socket;
mod suggestions;

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    client::{Client, Dialect, outcome, text},
    home::{Home, KEY, Ran, eventually, run, start},
    model_server::{ModelServer, Reply},
    outside,
};

/// Not a test: the external server of the tests below (see `support::outside`).
#[test]
#[ignore = "a program that the other tests run"]
fn plays_a_server() {
    outside::play();
}

/// The user's configuration with the server `out`, which behaves as `manner`, and more lines of its table.
fn with(home: Home, manner: &str, more: &str) -> Home {
    let table = table(&home, "out", manner, more);
    home.config(&table)
}

fn table(home: &Home, name: &str, manner: &str, more: &str) -> String {
    let words = outside::command();
    let log = home.state().join("log");
    let flag = home.state().join("flag");
    format!(
        "[mcp_servers.{name}]\ncommand = {:?}\nargs = {:?}\nenv = {{ MANNER = {manner:?}, LOG = {log:?}, FLAG = {flag:?} }}\n{more}\n",
        words[0],
        &words[1..],
    )
}

/// A model that calls these and is done.
fn calling(calls: &[(&str, Value)]) -> ModelServer {
    let mut script: Vec<Reply> = calls
        .iter()
        .enumerate()
        .map(|(n, (name, arguments))| Reply::call(&format!("c{n}"), name, arguments.clone()))
        .collect();
    script.push(Reply::text("done"));
    ModelServer::start(script)
}

fn task(home: &Home, model: &ModelServer, more: &[&str]) -> Command {
    let options = ["-m", "x", "--output", "json"];
    home.openoxide_with(model, &[&options, more].concat())
}

/// What came back for each call, in order.
fn outputs(model: &ModelServer) -> Vec<String> {
    let requests = model.requests();
    let input = requests.last().expect("requests").body["input"].clone();
    assert_eq!(model.violations(), [""; 0]);
    let items = input.as_array().expect("a list").iter();
    items
        .filter(|item| item["type"] == "function_call_output")
        .map(|item| item["output"].as_str().expect("text").to_owned())
        .collect()
}

/// The names of the tools in a request.
fn offered(model: &ModelServer, request: usize) -> Vec<String> {
    let tools = model.requests()[request].body["tools"].clone();
    let tools = tools.as_array().expect("a list").iter();
    tools
        .map(|tool| tool["name"].as_str().expect("a name").to_owned())
        .collect()
}

fn log(home: &Home) -> String {
    std::fs::read_to_string(home.state().join("log")).unwrap_or_default()
}

fn denied(ran: &Ran) -> String {
    ran.json()["denied"].to_string()
}

#[test]
fn a_tool_in_auto_runs_and_its_answer_is_marked_as_data() {
    let home = with(Home::new(), "", "auto = ['echo']");
    let model = calling(&[("out__echo", json!({"text": "hello"}))]);
    let ran = run(task(&home, &model, &[])).expect(0);
    assert_eq!(ran.json()["content"], "done");
    let output = &outputs(&model)[0];
    assert!(
        output.starts_with("[data ") && output.contains("external server `out`"),
        "{output}"
    );
    assert!(output.contains("\n{\"text\":\"hello\"}\n"), "{output}");
    home.assert_deserted(&[]);
}

#[test]
fn tools_have_names_and_schemas_that_model_apis_take_in_a_stable_order() {
    let home = with(Home::new(), "many", "deny_tools = ['d*']\ntools = ['*']");
    let model = calling(&[]);
    run(task(&home, &model, &[])).expect(0);
    let names = offered(&model, 0);
    let outside: Vec<&String> = names.iter().filter(|name| name.contains("__")).collect();
    assert!(outside.len() > 50 && names.len() <= 128, "{names:?}");
    assert!(outside.is_sorted(), "{outside:?}");
    assert!(
        !names
            .iter()
            .any(|name| name == "out__die" || name == "out__deep")
    );
    let body = &model.requests()[0].body["tools"];
    let text = body.to_string();
    assert!(
        text.len() < 200_000 && !text.contains("$schema"),
        "{}",
        text.len()
    );
    for tool in body.as_array().expect("a list") {
        assert_eq!(tool["parameters"]["type"], "object", "{tool}");
    }
}

#[test]
fn what_is_not_in_auto_is_asked_and_denied_where_nobody_is_there() {
    let home = with(Home::new(), "", "auto = ['zeta']");
    for (policy, why) in [
        ("on-request", "nobody could be asked"),
        ("never", "never ask"),
    ] {
        let model = calling(&[("out__echo", json!({})), ("out__zeta", json!({}))]);
        let ran = run(task(&home, &model, &["--approval-policy", policy])).expect(0);
        let [echo, zeta] = &outputs(&model)[..] else {
            panic!("two outputs")
        };
        assert!(echo.starts_with("denied: ") && echo.contains(why), "{echo}");
        assert!(zeta.contains("\nzeta\n"), "{zeta}");
        assert!(
            denied(&ran).contains("ask `echo` of the external server `out`"),
            "{}",
            denied(&ran)
        );
    }
    assert!(!log(&home).contains("tools/call echo"), "{}", log(&home));
}

/// An approval as a person behind an MCP client gives it: the questions that came, and the result.
fn asked_over_mcp(home: &Home, model: &ModelServer, decision: &str) -> (Vec<Value>, Value) {
    let able = json!({"elicitation": {}});
    let command = home.openoxide_with(model, &["mcp-server"]);
    let mut client = Client::able(command, Dialect::Session("2025-06-18"), able);
    let id = client.begin("openoxide", json!({"prompt": "x", "detail": "full"}));
    let mut questions = Vec::new();
    let result = loop {
        let message = client.until("a question or the result", |message| {
            message["method"] == "elicitation/create" || message["id"] == id
        });
        if message["method"] != "elicitation/create" {
            break message["result"].clone();
        }
        let answer = json!({"action": "accept", "content": {"decision": decision}});
        client.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": answer}));
        questions.push(message["params"].clone());
    };
    client.close();
    (questions, result)
}

#[test]
fn a_question_shows_server_tool_and_arguments_and_what_the_server_says() {
    let home = with(Home::new(), "", "");
    let model = calling(&[("out__echo", json!({"text": "to be seen"}))]);
    let (questions, result) = asked_over_mcp(&home, &model, "approve");
    assert_eq!(questions.len(), 1);
    let shown = questions[0]["message"].as_str().expect("a message");
    for part in [
        "echo",
        "`out`",
        "to be seen",
        "Echoes.",
        "read-only",
        "nobody has checked",
    ] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert_eq!(outcome(&result)["status"], "completed", "{}", text(&result));
    assert!(outputs(&model)[0].contains("to be seen"));
}

#[test]
fn an_approval_for_the_session_ends_when_the_tool_describes_itself_differently() {
    // `zeta` is answered after the server was asked anew what it offers.
    let home = with(Home::new(), "", "auto = ['change', 'zeta']");
    let echo = || ("out__echo", json!({}));
    let model = calling(&[
        echo(),
        echo(),
        ("out__change", json!({})),
        ("out__zeta", json!({})),
        echo(),
        echo(),
    ]);
    let (questions, _) = asked_over_mcp(&home, &model, "approve_for_session");
    // Once as it was, once as it is now.
    assert_eq!(questions.len(), 2, "{questions:?}");
    let again = questions[1]["message"].as_str().expect("a message");
    assert!(again.contains("describes this tool differently"), "{again}");
    assert!(again.contains("sends it to a friend"), "{again}");
}

#[test]
fn a_tool_in_auto_that_changes_under_a_thread_is_asked_about() {
    let home = with(Home::new(), "", "auto = ['*']");
    let echo = || ("out__echo", json!({}));
    let model = calling(&[("out__change", json!({})), echo(), echo()]);
    let ran = run(task(&home, &model, &[])).expect(0);
    // The first may find out only when it is about to run; by the second the change is known.
    let outputs_then = outputs(&model);
    assert!(
        outputs_then[2].starts_with("denied: the server describes"),
        "{outputs_then:?}"
    );
    assert!(!log(&home).contains("tools/call echo"), "{}", log(&home));
    assert!(denied(&ran).contains("`echo`"), "{}", denied(&ran));
    // The owner has named it, so the next thread has it as it is now.
    let model = calling(&[("out__echo", json!({"text": "new"}))]);
    run(task(&home, &model, &[])).expect(0);
    assert!(
        outputs(&model)[0].contains("\"new\""),
        "{:?}",
        outputs(&model)
    );
}

#[test]
fn a_server_that_fails_is_a_warning_and_the_session_goes_on() {
    for (manner, why) in [("dies", "the licence has expired"), ("mute", "0.5 s")] {
        let home = with(Home::new(), manner, "startup_seconds = 0.5");
        let model = calling(&[]);
        let begun = Instant::now();
        let ran = run(task(&home, &model, &[])).expect(0);
        assert!(begun.elapsed() < Duration::from_secs(15));
        assert!(
            ran.stderr.contains("external server `out`") && ran.stderr.contains(why),
            "{}",
            ran.stderr
        );
        assert!(offered(&model, 0).iter().all(|name| !name.contains("__")));
        home.assert_deserted(&[]);
    }
    let home = Home::new().config("[mcp_servers.out]\ncommand = 'no-such-program'\n");
    let model = calling(&[]);
    let ran = run(task(&home, &model, &[])).expect(0);
    assert!(
        ran.stderr
            .contains("`no-such-program` could not be started"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_signal_while_a_server_is_waited_for_leaves_nothing_behind() {
    let home = with(Home::new(), "mute", "startup_seconds = 60");
    let model = calling(&[]);
    let running = start(task(&home, &model, &[]));
    eventually("the server is asked", || log(&home).contains("initialize"));
    running.signal(Signal::INT);
    let ran = running.ended();
    assert_eq!(ran.code, Some(130), "{ran:?}");
    home.assert_deserted(&[]);
}

#[test]
fn servers_that_were_seen_before_do_not_hold_up_the_first_request() {
    let home = Home::new();
    let all = |manner: &str| -> String {
        (0..20)
            .map(|n| table(&home, &format!("s{n:02}"), manner, "startup_seconds = 40"))
            .collect()
    };
    std::fs::write(home.config_file(), all("slow later:30000")).expect("a file");
    run(task(&home, &calling(&[]), &[])).expect(0);
    // The same servers, which now take long to start.
    std::fs::write(home.state().join("flag"), "").expect("a file");
    let model = calling(&[]);
    let begun = Instant::now();
    run(task(&home, &model, &[])).expect(0);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert!(offered(&model, 0).len() > 100);
    home.assert_deserted(&[]);
}

#[test]
fn a_thread_that_goes_on_has_the_tools_it_had() {
    let home = with(Home::new(), "", "auto = ['*']");
    let model = calling(&[]);
    run(task(&home, &model, &[])).expect(0);
    let config = table(&home, "out", "many", "auto = ['*']");
    std::fs::write(home.config_file(), config).expect("a file");
    let again = ModelServer::start(vec![
        Reply::call("c", "out__echo", json!({"text": "still"})),
        Reply::text("done"),
    ]);
    let args = ["--continue", "-m", "y", "--output", "json"];
    run(home.openoxide_with(&again, &args)).expect(0);
    assert_eq!(offered(&model, 0), offered(&again, 0));
    assert!(
        outputs(&again)[0].contains("still"),
        "{:?}",
        outputs(&again)
    );
}

#[test]
fn a_server_that_floods_stalls_or_dies_costs_its_call_and_nothing_else() {
    let home = with(Home::new(), "", "auto = ['*']\ncall_seconds = 3");
    let calls = ["flood", "never", "die", "echo", "fails", "elicit", "blob"];
    let calls: Vec<(String, Value)> = calls
        .iter()
        .map(|name| (format!("out__{name}"), json!({})))
        .collect();
    let calls: Vec<(&str, Value)> = calls
        .iter()
        .map(|(name, input)| (name.as_str(), input.clone()))
        .collect();
    let model = calling(&calls);
    let ran = run(task(&home, &model, &[])).expect(0);
    assert_eq!(ran.json()["status"], "completed");
    let outputs = outputs(&model);
    for (output, expect) in outputs.iter().zip([
        "bytes omitted",
        "did not answer within 3 s",
        "ended in the middle",
        "\n{}\n",
        "it does not work",
        "\"action\":\"cancel\"",
        "[image, image/png, about 3000 bytes, not shown]",
    ]) {
        assert!(output.contains(expect), "no {expect:?} in {output:.300}");
        assert!(output.len() <= 41_000);
    }
    // A person was asked for nothing, a model for nothing, and the server heard that it should stop.
    assert!(outputs[5].contains("-32601"), "{}", outputs[5]);
    assert!(
        log(&home).contains("notifications/cancelled"),
        "{}",
        log(&home)
    );
    home.assert_deserted(&[]);
}

#[test]
fn a_server_that_asks_and_never_reads_hurts_nobody() {
    let home = with(Home::new(), "", "auto = ['*']");
    let model = calling(&[("out__storm", json!({})), ("out__echo", json!({}))]);
    run(task(&home, &model, &[])).expect(0);
    let outputs = outputs(&model);
    assert!(outputs[0].contains("calm"), "{}", outputs[0]);
    assert!(outputs[1].contains("\n{}\n"), "{}", outputs[1]);
    // However often it says that its tools changed, it is asked for them now and then.
    let lists = log(&home).matches("tools/list").count();
    assert!(lists < 100, "{lists}");
}

#[test]
fn a_message_without_an_end_is_the_end_of_the_server() {
    let home = with(Home::new(), "", "auto = ['*']");
    let model = calling(&[("out__endless_line", json!({})), ("out__echo", json!({}))]);
    run(task(&home, &model, &[])).expect(0);
    let outputs = outputs(&model);
    assert!(outputs[0].contains("ended in the middle"), "{}", outputs[0]);
    assert!(outputs[1].contains("\n{}\n"), "{}", outputs[1]);
}

#[test]
fn a_list_without_an_end_ends() {
    let home = with(Home::new(), "endless", "");
    let model = calling(&[]);
    run(task(&home, &model, &[])).expect(0);
    assert!(offered(&model, 0).contains(&"out__echo".to_owned()));
}

#[test]
fn progress_passes_through_in_order() {
    let home = with(Home::new(), "", "auto = ['*']");
    let model = calling(&[("out__progress", json!({}))]);
    let args = ["-m", "x", "--output", "stream-json"];
    let ran = run(home.openoxide_with(&model, &args)).expect(0);
    let at = |step: &str| ran.stdout.find(step);
    assert!(at("progressed").is_some(), "{}", ran.stdout);
    let mut client = Client::start(
        home.openoxide_with(&model, &["mcp-server"]),
        Dialect::Session("2025-06-18"),
    );
    let id = client.begin_told("openoxide", json!({"prompt": "x"}), "token");
    client.until("word of a step", |message| {
        message["method"] == "notifications/progress"
            && message["params"]["message"]
                .as_str()
                .is_some_and(|said| said.contains("step "))
    });
    client.result(id);
    client.close();
}

#[test]
fn an_interrupt_reaches_the_server_and_ends_what_it_started() {
    let home = with(Home::new(), "", "auto = ['*']");
    let model = calling(&[("out__start", json!({})), ("out__never", json!({}))]);
    let mut client = Client::start(
        home.openoxide_with(&model, &["mcp-server"]),
        Dialect::Session("2025-06-18"),
    );
    let id = client.begin("openoxide", json!({"prompt": "x"}));
    eventually("the server is asked", || {
        log(&home).contains("tools/call never")
    });
    assert!(home.until_running("sleep 4711"));
    client.cancel(id, None);
    eventually("the server hears of it", || {
        log(&home).contains("notifications/cancelled")
    });
    client.close();
    home.assert_deserted(&[]);
}

/// Linux: the helper in front of a server watches us.
#[test]
#[cfg(target_os = "linux")]
fn a_killed_openoxide_leaves_no_server_behind() {
    let home = with(Home::new(), "", "auto = ['*']");
    let model = calling(&[("out__start", json!({})), ("out__never", json!({}))]);
    let running = start(task(&home, &model, &[]));
    eventually("the server is asked", || {
        log(&home).contains("tools/call never")
    });
    assert!(home.until_running("sleep 4711"));
    running.signal(Signal::KILL);
    running.ended();
    home.assert_deserted(&[]);
}

#[test]
fn doctor_says_whether_servers_work() {
    let home = Home::new();
    let good = table(&home, "good", "", "");
    let bad = table(&home, "bad", "dies", "startup_seconds = 0.5");
    let home = home.config(&format!("{good}{bad}"));
    let model = ModelServer::start(vec![Reply::text("ok")]);
    let ran = run(home.openoxide_with(&model, &["doctor", "--json"]));
    let findings: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let findings = findings.as_array().expect("a list").iter();
    let about = findings.filter(|finding| finding["what"] == "external server");
    let about: Vec<String> = about.map(Value::to_string).collect();
    assert_eq!(about.len(), 2, "{about:?}");
    assert!(about[0].contains("bad, failed") && about[0].contains("the licence has expired"));
    assert!(about[1].contains("good, ready: ") && about[1].contains("\"fine\":true"));
}

#[test]
fn a_server_behind_http_says_unasked_that_its_tools_changed() {
    let server = outside::Http::start();
    let home = Home::new().config(&format!(
        "[mcp_servers.net]\nurl = '{}?announces'\nauto = ['*']\n",
        server.url
    ));
    let model = calling(&[("net__echo", json!({}))]);
    run(task(&home, &model, &[])).expect(0);
    eventually("it listens", || {
        server.heads().iter().any(|head| head.starts_with("get "))
    });
    let model = calling(&[]);
    run(task(&home, &model, &[])).expect(0);
    assert!(offered(&model, 0).contains(&"net__fresh".to_owned()));
}

#[test]
fn a_server_gets_no_key_of_ours_and_knows_how_deep_it_is() {
    let home = with(Home::new(), "", "auto = ['*']");
    let model = calling(&[("out__env", json!({}))]);
    run(task(&home, &model, &[])).expect(0);
    let seen = &outputs(&model)[0];
    assert!(
        seen.contains("OPENOXIDE_DEPTH=1") && seen.contains("PATH="),
        "{seen}"
    );
    assert!(
        !seen.contains(KEY) && !seen.contains("OPENAI_API_KEY"),
        "{seen}"
    );
}

#[test]
fn threads_share_a_server_and_each_has_the_tools_that_its_caller_leaves_it() {
    let home = with(Home::new(), "", "auto = ['*']");
    let model = calling(&[("out__echo", json!({}))]);
    let command = home.openoxide_with(&model, &["mcp-server"]);
    let mut client = Client::start(command, Dialect::Session("2025-06-18"));
    client.call("openoxide", json!({"prompt": "x"}));
    let config = json!({"mcp_servers": {"out": {"deny_tools": ["z*"]}}});
    client.call("openoxide", json!({"prompt": "y", "config": config}));
    let first = offered(&model, 0);
    let last = offered(&model, model.requests().len() - 1);
    let zeta = "out__zeta".to_owned();
    assert!(first.contains(&zeta) && !last.contains(&zeta), "{last:?}");
    assert_eq!(
        log(&home).matches("initialize ").count(),
        1,
        "{}",
        log(&home)
    );
    let widen = json!({"mcp_servers": {"out": {"auto": ["*"]}}});
    let refusal = client.refusal("openoxide", json!({"prompt": "z", "config": widen}));
    assert!(refusal.contains("auto"), "{refusal}");
    client.close();
    home.assert_deserted(&[]);
}

#[test]
fn resources_are_listed_and_read() {
    let home = with(Home::new(), "readable", "context = true");
    let model = calling(&[
        ("list_resources", json!({})),
        ("read_resource", json!({"server": "out", "uri": "mem://a"})),
        (
            "read_resource",
            json!({"server": "out", "uri": "mem://exfiltrate?data=x"}),
        ),
    ]);
    run(task(&home, &model, &[])).expect(0);
    let outputs = outputs(&model);
    assert!(
        outputs[0].contains("mem://a a: The first.") && outputs[0].contains("mem://{x} (template)"),
        "{}",
        outputs[0]
    );
    assert!(
        outputs[1].contains("the content of \"mem://a\""),
        "{}",
        outputs[1]
    );
    // Not on the list, so it is asked about.
    assert!(outputs[2].starts_with("denied: "), "{}", outputs[2]);
    let home = with(Home::new(), "", "");
    let model = calling(&[]);
    run(task(&home, &model, &[])).expect(0);
    assert!(!offered(&model, 0).contains(&"list_resources".to_owned()));
}

#[test]
fn a_query_has_only_what_runs_unasked() {
    let home = with(Home::new(), "", "auto = ['zeta']");
    let model = calling(&[]);
    let mut client = Client::start(
        home.openoxide_with(&model, &["mcp-server"]),
        Dialect::Session("2025-06-18"),
    );
    client.call("openoxide-query", json!({"query": "x"}));
    let names = offered(&model, 0);
    let outside: Vec<&String> = names.iter().filter(|name| name.contains("__")).collect();
    assert_eq!(outside, ["out__zeta"]);
    client.close();
}

#[test]
fn servers_come_from_files_of_other_clients_and_from_flags() {
    let words = outside::command();
    let file = json!({"mcpServers": {"other": {"command": words[0], "args": words[1..]}}});
    let home = Home::new().file("servers.json", &file.to_string());
    let model = calling(&[]);
    let flag = format!(
        "third:stdio:{}",
        words
            .iter()
            .map(|word| format!("'{word}'"))
            .collect::<Vec<_>>()
            .join(" ")
    );
    let more = ["--mcp-config", "servers.json", "--mcp-server", &flag];
    run(task(&home, &model, &more)).expect(0);
    let names = offered(&model, 0);
    assert!(
        names.contains(&"other__echo".to_owned()) && names.contains(&"third__echo".to_owned()),
        "{names:?}"
    );
    let wrong = run(task(&home, &model, &["--mcp-server", "x:carrier-pigeon:y"])).expect(2);
    wrong.assert_says("`carrier-pigeon` is not spoken");
}

#[test]
fn a_server_behind_http_is_asked_with_its_token_and_headers() {
    let server = outside::Http::start();
    let home = Home::new().config(&format!(
        "[mcp_servers.net]\nurl = \"{}\"\nheaders = {{ x-team = 'blue-team-secret' }}\nbearer_token_env = 'NET_TOKEN'\nauto = ['*']\n",
        server.url
    ));
    let model = calling(&[("net__echo", json!({"text": "over the net"}))]);
    let mut command = task(&home, &model, &[]);
    command.env("NET_TOKEN", "token-9f1c2d");
    let ran = run(command).expect(0);
    assert!(
        outputs(&model)[0].contains("over the net"),
        "{:?}",
        outputs(&model)
    );
    let heads = server.heads();
    assert!(heads.len() >= 3, "{heads:?}");
    for head in &heads {
        assert!(
            head.contains("authorization: bearer token-9f1c2d"),
            "{head}"
        );
        assert!(head.contains("x-team: blue-team-secret"), "{head}");
    }
    // The server says what it was sent; it must not come back to the model, nor into our files.
    let files = format!("{:?}{}{}", outputs(&model), ran.stdout, ran.stderr);
    assert!(
        !files.contains("token-9f1c2d") && !files.contains("blue-team-secret"),
        "{files}"
    );
    let without = run(task(&home, &model, &[])).expect(0);
    without.assert_says("`NET_TOKEN`");
}

#[test]
fn both_generations_of_the_protocol_are_spoken() {
    let program = env!("CARGO_BIN_EXE_openoxide");
    for (protocol, version) in [
        ("legacy", "2025-11-25"),
        ("auto", "2026-07-28"),
        ("modern", "2026-07-28"),
    ] {
        let home = Home::new().config(&format!(
            "[mcp_servers.us]\ncommand = {program:?}\nargs = ['mcp-server']\nprotocol = '{protocol}'\n"
        ));
        let tested = run(home.openoxide(&["mcp", "test", "--json"]))
            .expect(0)
            .json();
        assert_eq!(tested[0]["about"]["protocol"], version, "{tested}");
        assert_eq!(tested[0]["tools"][0]["name"], "us__openoxide", "{tested}");
    }
    // One that is older than the question falls back.
    let home = with(Home::new(), "", "protocol = 'auto'\nstartup_seconds = 20");
    let tested = run(home.openoxide(&["mcp", "test", "--json"]))
        .expect(0)
        .json();
    assert_eq!(tested[0]["about"]["protocol"], "2025-11-25", "{tested}");
}

#[test]
fn a_project_takes_servers_away_and_starts_none() {
    let home = with(Home::new(), "", "").file(
        ".openoxide/config.toml",
        "[mcp_servers.out]\nenabled = false\n",
    );
    let model = calling(&[]);
    run(task(&home, &model, &[])).expect(0);
    assert!(offered(&model, 0).iter().all(|name| !name.contains("__")));
    assert_eq!(log(&home), "");
    for (line, expect) in [
        ("enabled = true", "only be disabled"),
        ("command = 'sh'", "only the owner sets it"),
    ] {
        let home = home_with_project(&format!("[mcp_servers.out]\n{line}\n"));
        let ran = run(task(&home, &model, &[])).expect(2);
        ran.assert_says(expect);
    }
    // One that cannot be read costs nobody anything but itself.
    let home = with(Home::new(), "", "").file(".mcp.json", "{");
    let ran = run(task(&home, &model, &[])).expect(0);
    ran.assert_says(".mcp.json");
    // What it names itself waits for a person at a terminal.
    let words = outside::command();
    let file = json!({"mcpServers": {"theirs": {"command": words[0], "args": words[1..]}}});
    let home = Home::new().file(".mcp.json", &file.to_string());
    let ran = run(task(&home, &model, &[])).expect(0);
    ran.assert_says("openoxide mcp trust theirs");
    let ran = run(home.openoxide(&["mcp", "trust", "theirs"])).expect(2);
    ran.assert_says("only a person at a terminal");
    let listed = run(home.openoxide(&["mcp", "list", "--json"]))
        .expect(0)
        .json();
    assert_eq!(listed[0]["state"], "not trusted");
}

fn home_with_project(config: &str) -> Home {
    Home::new().file(".openoxide/config.toml", config)
}

#[test]
fn mcp_list_and_test_say_how_it_is_and_what_to_do() {
    let home = Home::new();
    let config = table(&home, "good", "", "auto = ['echo']")
        + &table(&home, "bad", "dies", "startup_seconds = 0.5");
    let home = home.config(&config);
    let listed = run(home.openoxide(&["mcp", "list"])).expect(0);
    assert!(
        listed.stdout.contains("good  enabled  stdio"),
        "{}",
        listed.stdout
    );
    assert_eq!(log(&home), "", "a list starts nothing");
    let tested = run(home.openoxide(&["mcp", "test", "--json"]))
        .expect(1)
        .json();
    let of = |name: &str| {
        tested
            .as_array()
            .expect("a list")
            .iter()
            .find(|one| one["name"] == name)
            .cloned()
            .expect(name)
    };
    let (good, bad) = (of("good"), of("bad"));
    assert_eq!(
        (&good["state"], &bad["state"]),
        (&json!("ready"), &json!("failed"))
    );
    assert!(
        good["ping_ms"].is_number() && good["about"]["name"] == "outside 7",
        "{good}"
    );
    let echo = good["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .find(|tool| tool["name"] == "good__echo");
    assert_eq!(echo.expect("echo")["auto"], true);
    assert!(
        bad["stderr"]
            .to_string()
            .contains("the licence has expired"),
        "{bad}"
    );
    assert!(bad["to_do"].is_string(), "{bad}");
    let one = run(home.openoxide(&["mcp", "test", "good"])).expect(0);
    assert!(
        one.stdout.contains("good__echo (unasked)"),
        "{}",
        one.stdout
    );
    let none = run(home.openoxide(&["mcp", "test", "ugly"])).expect(2);
    assert!(
        none.stderr
            .contains("there is no external server `ugly`; there are: bad, good"),
        "{}",
        none.stderr
    );
    home.assert_deserted(&[]);
}

#[test]
fn every_call_is_in_the_log_and_what_was_sent_is_not() {
    let home = with(Home::new(), "", "auto = ['echo']");
    let model = calling(&[("out__echo", json!({"text": "private matters"}))]);
    run(task(&home, &model, &[])).expect(0);
    let path: PathBuf = home.state().join("mcp/calls.jsonl");
    let log = std::fs::read_to_string(path).expect("a log");
    let lines = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let lines: Vec<Value> = lines.collect();
    assert_eq!(lines.len(), 2, "one before and one after: {log}");
    for (line, outcome) in lines.iter().zip(["sent", "done"]) {
        assert_eq!(
            (&line["server"], &line["what"], &line["outcome"]),
            (&json!("out"), &json!("echo"), &json!(outcome))
        );
        assert_eq!(line["thread_id"], home.threads()[0]);
        // Of `{"text":"private matters"}`, as `sha256sum` has it.
        assert_eq!(
            line["arguments_sha256"],
            "df3356e3dc4fad9007134f31292ab4b7dcc9879334701389a8ab6a4322f9e18c"
        );
    }
    assert!(!log.contains("private matters"), "{log}");
}
