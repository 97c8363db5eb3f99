//! The edit engine under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openoxide_fuzz::edit(data));
