//! Long threads: what becomes of them near the model's window, after many steps, and under a model that knows no end.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use openoxide::{
    conversation::{
        CallId, Event, Item, OutputStatus, Status, ToolCall, ToolOutput, TurnErrorKind, Usage,
    },
    model::{CALLS_LIMIT, Model, ModelErrorKind, ModelEvent, Retry},
    thread::{DirectoryStore, NoStore, Record, ThreadStore},
    tools::Output,
};
use serde_json::{Value, json};

use crate::support::harness::{
    Beat, Harness, Lab, Sampling, calls, done, look, model_error, says, scripted, unpaired,
};

fn looking(tag: &str) -> Value {
    json!({"name": "look", "arguments": {"tag": tag}})
}

/// A harness with a tool that says much.
fn with_a_look() -> Harness {
    Harness::new().tool(look(async |tag, _| {
        Ok(Output::from(format!("{} {}", tag.tag, "seen ".repeat(40))))
    }))
}

fn compactions(items: &[Item]) -> Vec<&str> {
    let texts = items.iter().filter_map(|item| match item {
        Item::Compaction { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

async fn goes_on(lab: &Lab) {
    let (outcome, log) = lab.run("and now?").await;
    assert_eq!(outcome.status, Status::Completed, "{log}");
}

#[tokio::test]
async fn near_the_window_a_thread_begins_anew_and_keeps_what_matters() {
    let plan = json!({"name": "update_plan", "arguments": {"steps": [{"step": "look around", "status": "in_progress"}]}});
    let edit = json!({"name": "write_file", "arguments": {"path": "a.txt", "content": "two\n"}});
    let ran = with_a_look()
        .window(10_000)
        .model(json!([
            {"calls": [plan, edit], "usage": {"input_tokens": 3000, "output_tokens": 10}},
            {"calls": [looking("b")], "usage": {"input_tokens": 7990, "output_tokens": 20}},
            {"text": "notes of the model", "usage": {"input_tokens": 8200, "cached_input_tokens": 7900, "output_tokens": 30}},
            {"text": "finished", "usage": {"input_tokens": 2000, "output_tokens": 5}},
            {"text": "still here"},
        ]))
        .run("make it two")
        .await;
    assert_eq!(ran.outcome.status, Status::Completed, "{}", ran.log);
    assert_eq!(ran.outcome.content, "finished");
    assert!(ran.log.contains("it is summed up"), "{}", ran.log);
    assert_eq!(
        (ran.outcome.usage.requests, ran.outcome.usage.input_tokens),
        (4, 3000 + 7990 + 8200 + 2000)
    );
    let items = ran.lab.items().await;
    let [kept] = compactions(&items)[..] else {
        panic!("{items:?}");
    };
    for part in [
        "> make it two",
        "- [in_progress] look around",
        "- a.txt",
        "notes of the model",
    ] {
        assert!(kept.contains(part), "{part} is not in {kept}");
    }
    // The rollout keeps everything, and a reload sends what was sent.
    assert!(matches!(&items[0], Item::UserMessage { text } if text == "make it two"));
    goes_on(&ran.lab.elsewhere()).await;
}

#[tokio::test]
async fn a_long_thread_that_is_taken_up_again_is_summed_up_before_its_first_request() {
    // By its bytes alone it would be far from the window: only the provider's count says so, and it is kept.
    let ran = with_a_look()
        .window(10_000)
        .model(json!([
            {"calls": [looking("a")], "usage": {"input_tokens": 3000, "output_tokens": 10}},
            {"text": "one", "usage": {"input_tokens": 8500, "output_tokens": 20}},
            {"text": "notes of the model", "usage": {"input_tokens": 8600, "output_tokens": 30}},
            {"text": "two", "usage": {"input_tokens": 2000, "output_tokens": 5}},
            {"text": "still here"},
        ]))
        .run("go")
        .await;
    let elsewhere = ran.lab.elsewhere();
    let (outcome, log) = elsewhere.run("go on").await;
    assert_eq!(
        (outcome.status, outcome.content.as_str()),
        (Status::Completed, "two"),
        "{log}"
    );
    assert_eq!(compactions(&elsewhere.items().await).len(), 1, "{log}");
    goes_on(&elsewhere).await;
}

#[tokio::test]
async fn a_conversation_that_the_provider_finds_too_long_is_summed_up_from_its_end() {
    let too_long = || {
        let error = model_error(ModelErrorKind::ContextLength, "too long");
        vec![Beat::Error(error)]
    };
    let looks = |n: usize| vec![calls(&format!("c{n}"), "look", json!({"tag": "x"})), done()];
    let ran = with_a_look()
        .sampled_by(scripted([
            looks(1),
            looks(2),
            looks(3),
            looks(4),
            too_long(),
            too_long(),
            vec![says("short notes"), done()],
            vec![says("finished"), done()],
            vec![says("still here"), done()],
        ]))
        .run("go")
        .await;
    assert_eq!(ran.outcome.status, Status::Completed, "{}", ran.log);
    assert_eq!(ran.outcome.content, "finished");
    let requests = ran.lab.requests();
    let lengths: Vec<usize> = requests.iter().map(Vec::len).collect();
    // Preamble and message, then two more with each step; the half, a quarter, and what stands for all of it.
    assert_eq!(lengths, [2, 4, 6, 8, 10, 6, 4, 2]);
    assert!(compactions(&ran.lab.items().await)[0].contains("short notes"));
    goes_on(&ran.lab).await;
}

#[tokio::test]
async fn without_a_word_of_the_model_what_is_known_of_a_thread_is_kept() {
    let too_long = || {
        let error = model_error(ModelErrorKind::ContextLength, "too long");
        vec![Beat::Error(error)]
    };
    let looks = |n: usize| vec![calls(&format!("c{n}"), "look", json!({"tag": "x"})), done()];
    let mut script = (0..12).map(looks).collect::<Vec<_>>();
    // The request itself, its half, quarter and eighth.
    script.extend((0..4).map(|_| too_long()));
    script.push(vec![says("finished"), done()]);
    let ran = with_a_look()
        .sampled_by(scripted(script))
        .run("what was asked")
        .await;
    assert_eq!(ran.outcome.content, "finished", "{}", ran.log);
    assert!(compactions(&ran.lab.items().await)[0].contains("> what was asked"));
}

#[tokio::test]
async fn a_thread_that_cannot_be_made_shorter_fails_and_can_go_on() {
    let too_long = || {
        let error = model_error(ModelErrorKind::ContextLength, "too long");
        vec![Beat::Error(error)]
    };
    let ran = with_a_look()
        .sampled_by(scripted([
            too_long(),
            vec![calls("c", "look", json!({"tag": "x"})), done()],
            too_long(),
            vec![says("notes"), done()],
            too_long(),
            vec![says("still here"), done()],
        ]))
        .run("go")
        .await;
    for outcome in [ran.outcome.clone(), ran.lab.run("again").await.0] {
        assert_eq!(outcome.status, Status::Failed);
        assert_eq!(
            outcome.error.as_ref().unwrap().kind,
            TurnErrorKind::ContextLength
        );
    }
    goes_on(&ran.lab).await;
}

#[tokio::test]
async fn a_compaction_that_cannot_be_had_fails_the_turn_and_is_tried_again() {
    let used = |tokens| Usage {
        input_tokens: tokens,
        requests: 1,
        ..Usage::default()
    };
    let ran = with_a_look()
        .window(1000)
        .sampled_by(scripted([
            vec![
                calls("c", "look", json!({"tag": "x"})),
                Beat::Event(ModelEvent::Done(used(900))),
            ],
            vec![Beat::Error(model_error(ModelErrorKind::Quota, "pay"))],
            vec![says("notes"), done()],
            vec![says("still here"), done()],
        ]))
        .run("go")
        .await;
    assert_eq!(
        ran.outcome.error.as_ref().unwrap().kind,
        TurnErrorKind::ModelQuota
    );
    goes_on(&ran.lab).await;
    assert_eq!(compactions(&ran.lab.items().await).len(), 1);
}

#[tokio::test]
async fn names_of_calls_that_come_again_are_made_unique() {
    let look = |id: &str| calls(id, "look", json!({"tag": "x"}));
    let ran = with_a_look()
        .sampled_by(scripted([
            vec![look("call_0"), look("call_0"), done()],
            vec![look("call_0"), done()],
            vec![says("finished"), done()],
        ]))
        .run("go")
        .await;
    let items = ran.lab.items().await;
    let mut ids: Vec<String> = items
        .iter()
        .filter_map(|item| match item {
            Item::ToolOutput(output) => Some(output.call_id.to_string()),
            _ => None,
        })
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{items:?}");
    for request in ran.lab.requests() {
        assert_eq!(unpaired(&request), [""; 0]);
    }
}

fn look_again(call: usize, tag: &str) -> ModelEvent {
    ModelEvent::Item(Item::ToolCall(ToolCall {
        call_id: CallId(format!("c{call}")),
        name: "look".into(),
        arguments: json!({"tag": tag}).to_string(),
        wire: None,
    }))
}

fn says_at_once(text: &str) -> ModelEvent {
    ModelEvent::Item(Item::AgentMessage {
        text: text.into(),
        wire: None,
    })
}

/// Streams calls of `look` without end, then, when it is asked again, an answer.
fn endless() -> impl Model + 'static {
    let asked = AtomicUsize::new(0);
    Sampling::by(move |_| {
        if asked.fetch_add(1, Ordering::Relaxed) > 0 {
            let done = ModelEvent::Done(Usage::default());
            return stream::iter([Ok(says_at_once("enough")), Ok(done)]).boxed();
        }
        let call = |number: usize| Ok(look_again(number, &number.to_string()));
        stream::iter(0..).map(call).boxed()
    })
}

#[tokio::test]
async fn a_model_that_calls_without_end_is_stopped_and_its_reads_run_a_few_at_a_time() {
    let running = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let count = running.clone();
    let tool = look(move |_, _| {
        let count = count.clone();
        async move {
            let now = count.0.fetch_add(1, Ordering::SeqCst) + 1;
            count.1.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            count.0.fetch_sub(1, Ordering::SeqCst);
            Ok(Output::from("x".repeat(2000)))
        }
    });
    let ran = Harness::new()
        .tool(tool)
        .kept_in(Arc::new(NoStore))
        .sampled_by(endless())
        .run("go")
        .await;
    assert_eq!(ran.outcome.content, "enough");
    let items = ran.lab.items().await;
    let outputs: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Item::ToolOutput(output) => Some(output),
            _ => None,
        })
        .collect();
    assert_eq!(outputs.len(), CALLS_LIMIT);
    assert!(
        outputs
            .iter()
            .all(|output| output.status == OutputStatus::Done)
    );
    let most = running.1.load(Ordering::SeqCst);
    assert!((2..=16).contains(&most), "{most} at once");
    let bytes: usize = outputs.iter().map(|output| output.content.len()).sum();
    assert!(bytes < 1_000_000, "{bytes} bytes of output");
    assert!(outputs[999].content.contains("[cut: "));
}

/// Time that this thread has run. A test runs on one, and what others do meanwhile does not count.
fn time_of_this_thread() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = told.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// How much of the processor this thread had had, each time that the model was asked.
type Asked = Arc<Mutex<Vec<Duration>>>;

/// Calls `look` until it was asked `steps` times.
fn patient(steps: usize) -> (impl Model + 'static, Asked) {
    let asked = Asked::default();
    let times = asked.clone();
    let model = Sampling::by(move |request| {
        let mut times = times.lock().unwrap();
        times.push(time_of_this_thread());
        let number = times.len();
        let last = request.input.last().unwrap().get();
        let item = match number > steps || last.contains("near the end of what fits") {
            true => says_at_once("all is well"),
            false => look_again(number, "x"),
        };
        let done = ModelEvent::Done(Usage::default());
        stream::iter([Ok(item), Ok(done)]).boxed()
    });
    (model, asked)
}

/// The book of the harness checks every one of these requests.
#[tokio::test]
async fn a_prefix_holds_over_five_hundred_steps_and_compactions() {
    let ran = with_a_look()
        .kept_in(Arc::new(NoStore))
        .window(20_000)
        .limits(|limits| (limits.max_steps, limits.max_tokens) = (1000, u64::MAX))
        .sampled_by(patient(500).0)
        .run("go")
        .await;
    assert_eq!(
        ran.outcome.status,
        Status::Completed,
        "{:?}",
        ran.outcome.error
    );
    let items = ran.lab.items().await;
    let anew = compactions(&items).len();
    assert!((1..20).contains(&anew), "{anew} compactions");
    let longest = ran
        .lab
        .requests()
        .iter()
        .map(|input| input.iter().map(String::len).sum::<usize>())
        .max();
    assert!(longest.unwrap() < 20_000 * 4, "{longest:?} bytes");
}

/// Alone our own time counts here: a model that answers at once, a tool that does nothing, no disk.
#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "the time of a thread is told by Linux"
)]
async fn a_step_costs_as_much_at_the_five_hundredth_as_at_the_fifth() {
    let (model, asked) = patient(500);
    let ran = with_a_look()
        .kept_in(Arc::new(NoStore))
        .unchecked()
        .limits(|limits| (limits.max_steps, limits.max_tokens) = (1000, u64::MAX))
        .sampled_by(model)
        .run("go")
        .await;
    assert_eq!(ran.outcome.status, Status::Completed);
    let asked = asked.lock().unwrap();
    // The system counts in ticks of some milliseconds, so many steps are taken together.
    let (early, late) = (asked[154] - asked[4], asked[499] - asked[349]);
    // Of what grows with the history there is five times as much at the end.
    assert!(late < early * 6 / 5, "{early:?}, then {late:?}");
}

/// How long it takes to open a thread of so many items, and the median step of a turn in it.
async fn reopened(items: usize) -> (Duration, Duration) {
    let (model, asked) = patient(60);
    let harness = with_a_look()
        .unchecked()
        .limits(|limits| limits.max_tokens = u64::MAX)
        .sampled_by(model);
    let header = harness.header();
    let id = header.thread_id;
    let mut journal = DirectoryStore::new(harness.state())
        .create(&header)
        .unwrap();
    let mut append = |item| journal.append(&Record::Item(item)).unwrap();
    for number in 0..items / 2 {
        let call_id = CallId(format!("old{number}"));
        append(Item::ToolCall(ToolCall {
            call_id: call_id.clone(),
            name: "look".into(),
            arguments: json!({"tag": "x"}).to_string(),
            wire: None,
        }));
        append(Item::ToolOutput(ToolOutput {
            call_id,
            status: OutputStatus::Done,
            content: "what was seen there\n".repeat(40),
            command: None,
        }));
    }
    journal.release();
    let threads = harness.threads();
    let began = Instant::now();
    let thread = threads.find(id).unwrap();
    let opened = began.elapsed();
    let outcome = thread.start("go".to_owned()).await.unwrap().outcome;
    assert_eq!(outcome.await.unwrap().status, Status::Completed);
    let asked = asked.lock().unwrap();
    let mut took: Vec<Duration> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    took.sort();
    (opened, took[took.len() / 2])
}

/// The figures of a release build are those of `cargo bench --bench threads`.
#[tokio::test]
async fn a_thread_of_five_thousand_items_opens_soon_and_steps_as_a_short_one() {
    let (_, short) = reopened(50).await;
    let (opened, long) = reopened(5000).await;
    // Without optimization, on a busy machine; each item against each other would be minutes.
    assert!(opened < Duration::from_secs(4), "{opened:?}");
    assert!(long < short * 3, "{short:?} and {long:?}");
}

#[tokio::test]
async fn a_wait_for_another_try_is_told_and_can_be_interrupted() {
    let busy = vec![Beat::Error(model_error(ModelErrorKind::Busy, "overloaded"))];
    let model = Retry::new(scripted([busy])).with_first_wait(Duration::from_secs(600));
    let lab = Harness::new().sampled_by(model).thread();
    let mut going = lab.start("go").await;
    let told = going.until(|event| match event {
        Event::Warning { message } => Some(message.clone()),
        _ => None,
    });
    let told = told.await;
    assert!(told.starts_with("overloaded; trying again in "), "{told}");
    lab.handle.interrupt(None).await.unwrap();
    let (outcome, log) = going.end().await;
    assert_eq!(outcome.status, Status::Interrupted, "{log}");
}
