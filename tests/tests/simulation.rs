//! A cluster in virtual time, whatever goes wrong: thousands of short runs, each from a seed.
//!
//! A run that fails names its seed; `SWITCHBOARD_SEED=<seed>` runs that one alone. `SWITCHBOARD_SEEDS`
//! sets how many are run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use switchboard_tests::simulation::{Setup, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn whatever_goes_wrong_the_promises_hold() {
    let (first, last) = match number("SWITCHBOARD_SEED") {
        Some(seed) => (seed, seed),
        None => (1, number("SWITCHBOARD_SEEDS").unwrap_or(SEEDS)),
    };
    let next = AtomicU64::new(first);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        return;
                    }
                    let setup = Setup::short(seed);
                    if let Err(violation) = run(setup) {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                        panic!(
                            "seed {seed}, {:?}: {violation}\n  SWITCHBOARD_SEED={seed} cargo test -p \
                             switchboard-tests --test simulation",
                            setup.weather
                        );
                    }
                }
            });
        }
    });
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1..=4 {
        let tally = || format!("{:?}", run(Setup::short(seed)));
        assert_eq!(tally(), tally());
    }
}

const SEEDS: u64 = 3_000;

const THREADS: usize = 2;
