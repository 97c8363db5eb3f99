//! The edit engine under random bytes on stable Rust: `edit_loop [seconds] [seed] [seed files...]`.
//!
//! Every case is told by one number; a finding prints it, and `edit_loop 0 NUMBER [same files]` runs that case alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest a single case may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// xorshift64*: the same bytes for the same number, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.next() % 600;
        (0..len).map(|_| (self.next() >> 33) as u8).collect()
    }
}

fn run(case: u64, files: &[String]) -> bool {
    let started = Instant::now();
    let mut random = Random(case.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for _ in 0..8 {
        random.next();
    }
    let bytes = random.bytes();
    let file = (!files.is_empty() && random.next() % 2 == 0)
        .then(|| &files[(random.next() % files.len() as u64) as usize]);
    let done = catch_unwind(AssertUnwindSafe(|| match file {
        Some(file) => openoxide_fuzz::edit_of(file, &bytes),
        None => openoxide_fuzz::edit(&bytes),
    }));
    let slow = started.elapsed() > PATIENCE;
    if done.is_err() || slow {
        println!("FINDING case {case}{}", if slow { " (slow)" } else { "" });
    }
    done.is_ok() && !slow
}

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds: u64 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(60);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |now| now.as_nanos() as u64);
    let seed: u64 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(now);
    let files: Vec<String> = args
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect();
    println!("seed {seed}, {} files, {seconds} s", files.len());
    let started = Instant::now();
    let (mut cases, mut findings, mut told) = (0u64, 0u64, 0);
    loop {
        findings += u64::from(!run(seed.wrapping_add(cases), &files));
        cases += 1;
        let elapsed = started.elapsed().as_secs();
        if elapsed / 60 > told || elapsed >= seconds {
            told = elapsed / 60;
            println!("{elapsed} s: {cases} cases, {findings} findings");
        }
        if elapsed >= seconds || findings > 20 {
            break;
        }
    }
    std::process::exit(i32::from(findings > 0));
}
