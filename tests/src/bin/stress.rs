//! Thousands of seeds of the stress test: connections that read slowly, in bites, and close in every way,
//! with each message accounted for.
//!
//! `cargo run --release -p switchboard-tests --bin stress -- --seeds 5000 --first 1`
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::time::Instant;

use anyhow::{Context, bail};
use switchboard_tests::stress::seeds;

fn main() -> anyhow::Result<()> {
    let (mut count, mut first, mut threads) = (1_000, 1, 2);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} takes a number"))?;
        let value: u64 = value.parse().with_context(|| format!("{name} {value}: not a number"))?;
        match name.as_str() {
            "--seeds" => count = value,
            "--first" => first = value,
            "--threads" => threads = value,
            _ => bail!("{name}: known are --seeds, --first and --threads"),
        }
    }
    let start = Instant::now();
    let tally = seeds(first, first + count - 1, threads as usize)?;
    println!("runs                 {:>12}  {} of them calm", tally.runs, tally.calm);
    println!("connections          {:>12}", tally.lives);
    println!("messages             {:>12}", tally.sent);
    println!("  came               {:>12}  copies of broadcasts among them", tally.came);
    println!("  lost               {:>12}  {} of them reported", tally.lost, tally.reported);
    println!("  unread             {:>12}  in connections that were closed", tally.unread);
    println!("pauses of senders    {:>12}", tally.pauses);
    println!("parked               {:>12}", tally.parked);
    println!("in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
