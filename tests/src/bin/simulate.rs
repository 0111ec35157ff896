//! An hour of a cluster in which everything goes wrong, in virtual time, with as many calls as asked.
//!
//! `cargo run --release -p switchboard-tests --bin simulate -- --calls 10400000 --seed 1`
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::time::Instant;

use anyhow::{Context, bail};
use switchboard_tests::simulation::{Setup, run};

fn main() -> anyhow::Result<()> {
    let (mut calls, mut seed) = (1_000_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} takes a number"))?;
        let value = value.parse().with_context(|| format!("{name} {value}: not a number"))?;
        match name.as_str() {
            "--calls" => calls = value,
            "--seed" => seed = value,
            _ => bail!("{name}: known are --calls and --seed"),
        }
    }
    let start = Instant::now();
    let result = run(Setup::hour(seed, calls));
    let wall = start.elapsed();
    let tally = match result {
        Ok(tally) => tally,
        Err(violation) => bail!("seed {seed}, {calls} calls: {violation}"),
    };
    let failed = tally.unknown + tally.not_run + tally.outside;
    println!("calls                {:>12}", tally.calls);
    println!("  answered           {:>12}", tally.answered);
    println!("  failed             {:>12}  none of them with a healthy path in its time", failed);
    println!("    may have run     {:>12}", tally.unknown + tally.outside);
    println!("    not run          {:>12}", tally.not_run);
    println!("  caller died        {:>12}", tally.abandoned);
    println!("repeated copies      {:>12}", tally.repeats);
    println!("  found it running   {:>12}", tally.running);
    println!("  found it answered  {:>12}", tally.again);
    println!("runs                 {:>12}", tally.runs);
    println!("  twice at a process {:>12}", 0);
    println!("  at another as well {:>12}", tally.runs_elsewhere);
    println!("one-way frames       {:>12}  all in order", tally.forwards);
    println!("  arrived            {:>12}", tally.forwards_arrived);
    println!("faults, both ways    {:>12}", tally.faults);
    println!(
        "takeovers            {:>12}  in {} elections, {} claims",
        tally.promotions, tally.elections, tally.claims
    );
    println!("picked anew          {:>12}", tally.picked_anew);
    println!(
        "most at a time: {} calls of a caller, {} in a window, {} frames in a mailbox, {} parked",
        tally.peak_pending, tally.peak_window, tally.peak_mailbox, tally.peak_parked
    );
    // The run would have failed otherwise.
    println!("left at the end: 0 calls, 0 in windows, 0 frames in mailboxes, 0 parked");
    println!("an hour in {:.1} s", wall.as_secs_f64());
    Ok(())
}
