//! Many clients at once, slow readers among them: no error, nobody starved. And clients of every bad kind beside one that
//! must not notice. Small here; `.ci/full` sets `OPENOXIDE_LOAD` to 200 clients with 1,000 turns.

use std::{
    io::Write,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{a_file, of_two};
use crate::support::{
    client::{Dialect, NEWEST_SESSION, outcome},
    home::Home,
    model_server::ModelServer,
    web::{ANA, BOB, Service, Wire},
};

/// How often the same is done, so that growth can be told from what is filled once.
const ROUNDS: usize = 3;

/// Clients, and turns of each.
fn size() -> (usize, usize) {
    let set = std::env::var("OPENOXIDE_LOAD").ok();
    let set = set.and_then(|text| {
        let (clients, turns) = text.split_once('x')?;
        Some((clients.parse().ok()?, turns.parse().ok()?))
    });
    set.unwrap_or((24, 2))
}

fn start(home: &Home, model: &ModelServer) -> Service {
    // Threads leave memory when their turn has ended.
    let flags = ["--wait", "none", "-c", "threads.idle_minutes=0.01"];
    of_two(home, model, &flags)
}

/// Kilobytes that a process has in memory; none where that cannot be known.
fn memory(service: &Service) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", service.process_id())).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// What a process and those that it waited for worked so far, in ticks of which a second has 100; none where that
/// cannot be known. Unlike time, it hardly depends on what else the machine does.
fn work(service: &Service) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", service.process_id())).ok()?;
    // After the name, which may hold anything: state is field 3, the times are 14 to 17 (proc_pid_stat(5)).
    let (_, fields) = text.rsplit_once(") ")?;
    let times = fields.split(' ').skip(11).take(4);
    times.map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// One client's turns, and how long the slowest took.
fn turns(service: &Service, number: usize, count: usize) -> Duration {
    let token = [ANA, BOB][number % 2];
    let dialect = [NEWEST_SESSION, Dialect::Inline][number / 2 % 2];
    let is_slow = number % 10 == 9;
    let client = service.visitor(token, dialect, json!({}));
    let turn = |at: usize| {
        let began = Instant::now();
        let arguments = json!({"prompt": format!("Task {at} of client {number}.")});
        let mut call = client.call_told("openoxide", arguments);
        call.patience(Duration::from_secs(600));
        let done = loop {
            let message = call.event().expect("an answer");
            if message.get("method").is_none() {
                break message;
            }
            if is_slow {
                thread::sleep(Duration::from_millis(200));
            }
        };
        assert_eq!(outcome(&done["result"])["status"], "completed", "{done}");
        began.elapsed()
    };
    (0..count).map(turn).max().unwrap_or_default()
}

#[test]
fn many_clients_are_served_at_once_and_nobody_is_starved() {
    let (clients, each) = size();
    let (home, model) = (Home::new(), ModelServer::start_by_outputs(a_file()));
    let service = start(&home, &model);
    let service = &service;
    let (mut at_rest, mut worked) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let (began, before) = (Instant::now(), work(service));
        let (median, worst) = run(service, clients, each);
        let took = began.elapsed();
        worked.extend(work(service).zip(before).map(|(now, before)| now - before));
        thread::sleep(Duration::from_secs(2));
        at_rest.extend(memory(service));
        let _ = writeln!(
            std::io::stderr(),
            "load: {clients} clients, {} turns in {took:?}; slowest turn of a client: median {median:?}, worst {worst:?}; {:?} ticks of work; then {:?} kB",
            clients * each,
            worked.last(),
            at_rest.last(),
        );
        // A floor, since short times differ by chance.
        assert!(
            worst < (median * 3).max(Duration::from_secs(5)),
            "round {round}: {worst:?}, and half of them {median:?}"
        );
    }
    // The first round fills what is kept for later.
    if let [_, second, .., last] = at_rest[..] {
        assert!(last < second + second / 5, "it grows: {at_rest:?} kB");
    }
    // Of threads that are kept, there are three times as many in the end.
    if let [first, .., last] = worked[..] {
        let floor = 500;
        assert!(
            last < first.max(floor) * 3 / 2,
            "turns cost ever more: {worked:?} ticks"
        );
    }
    assert_eq!(home.threads().len(), clients * each * ROUNDS);
}

/// How long the slowest turn of a client takes, for the median client and the worst.
fn run(service: &Service, clients: usize, each: usize) -> (Duration, Duration) {
    let mut slowest: Vec<Duration> = thread::scope(|scope| {
        let all: Vec<_> = (0..clients)
            .map(|number| scope.spawn(move || turns(service, number, each)))
            .collect();
        all.into_iter()
            .map(|client| client.join().expect("every turn completes"))
            .collect()
    });
    slowest.sort();
    (slowest[clients / 2], slowest[clients - 1])
}

/// One deed of a client of the bad kind `kind`.
fn misbehave(service: &Service, kind: usize, at: usize) {
    match kind {
        // Cut in mid-answer.
        0 => {
            let task = json!({"prompt": format!("Cut {at}.")});
            let call = service.caller(BOB).call_told("openoxide", task);
            thread::sleep(Duration::from_millis((at as u64 * 37) % 300));
            call.hang_up();
        }
        // Cut in mid-request, or left half open.
        1 => {
            let mut stream = service.connect();
            let head = format!(
                "POST /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {BOB}\r\nContent-Length: 500\r\n\r\n{{\"json",
                service.address
            );
            let _ = stream.write_all(&head.as_bytes()[..head.len().min(20 + at * 13)]);
            thread::sleep(Duration::from_millis(100));
        }
        // Malformed.
        2 => drop(service.post(
            BOB,
            &[],
            &b"{\"jsonrpc\":\"2.0\",\"id\":[[[[".repeat(at + 1),
        )),
        // Oversized.
        3 => drop(service.post(BOB, &[], &vec![b'x'; 5 << 20])),
        // Rubbish that is not even HTTP.
        4 => {
            let byte = u8::try_from(at * 7 % 256).expect("a byte");
            let _ = service.connect().write_all(&[byte; 3000]);
        }
        // A socket that says nonsense and leaves.
        _ => {
            let mut wire = Wire::open(service);
            wire.frame([1, 2, 9, 3][at % 4], b"nonsense");
            wire.hang_up();
        }
    }
}

#[test]
fn clients_of_every_bad_kind_do_not_disturb_one_that_works() {
    let (home, model) = (Home::new(), ModelServer::start_by_outputs(a_file()));
    let service = start(&home, &model);
    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (service, over, rounds) = (&service, &over, &rounds);
    thread::scope(|scope| {
        for kind in 0..6 {
            scope.spawn(move || {
                for at in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    misbehave(service, kind, at);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let good = scope.spawn(|| {
            for number in [0, 2] {
                turns(service, number, 2);
            }
        });
        let done = good.join();
        over.store(true, Ordering::Relaxed);
        done.expect("the good client is served");
    });
    assert!(rounds.load(Ordering::Relaxed) > 12);
    assert_eq!(service.get("/healthz", &[]).status, 200);
}
