//! `cargo +nightly fuzz run decode`: libFuzzer over the checks in `checks.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks.rs"]
mod checks;

fuzz_target!(|data: &[u8]| checks::decode(data));
