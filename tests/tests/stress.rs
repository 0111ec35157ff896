//! A router in this process, and nodes that read slowly, in small bites and through small buffers, close in
//! every way and come back: each message is accounted for.
//!
//! A run that fails names its seed; `SWITCHBOARD_SEED=<seed>` runs that one alone, with the same plan but on
//! the threads of the day, so it may take some repetitions. `SWITCHBOARD_SEEDS` sets how many are run;
//! thousands take `cargo run --release -p switchboard-tests --bin stress -- --seeds 10000`.

use switchboard_tests::stress::seeds;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_message_is_accounted_for_however_connections_read_and_end() {
    let (first, last) = match number("SWITCHBOARD_SEED") {
        Some(seed) => (seed, seed),
        None => (1, number("SWITCHBOARD_SEEDS").unwrap_or(SEEDS)),
    };
    let tally = seeds(first, last, THREADS).unwrap_or_else(|error| {
        panic!("{error:#}\n  SWITCHBOARD_SEED=<seed> cargo test -p switchboard-tests --test stress")
    });
    // Or there was no stress.
    assert!(first == last || tally.calm > 0 && tally.pauses > 0 && tally.parked > 0, "{tally:?}");
}

const SEEDS: u64 = 150;

/// Runs mostly wait: for rests, for lingering connections, for windows that open.
const THREADS: usize = 6;
