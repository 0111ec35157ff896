//! Fairness: how long a call takes while nothing else happens, and how long beside a flood that it has
//! nothing to do with.

use anyhow::Result;
use clap::{Args, value_parser};

use super::{LONGEST, Setting, Workload, beside, unending};
use crate::bench::Pace;
use crate::bench::calls::{self, Calls};
use crate::bench::figures::{self, Figures};
use crate::bench::flow::Flow;

// A doc comment would be its help.
#[derive(Debug, Clone, Args)]
pub struct Fairness {
    /// How many calls are made, one at a time, alone and then beside the flood
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u64).range(1..))]
    messages: u64,
    /// How many senders the flood has
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    senders: u16,
    /// How many receivers the flood has
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    receivers: u16,
    /// How long a payload is, in bytes, of calls and flood
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(8..=LONGEST))]
    payload: u32,
    #[command(flatten)]
    pace: Pace,
}

impl Workload for Fairness {
    fn name(&self) -> &'static str {
        "fairness"
    }

    fn describe(&self) -> String {
        let Self { messages, senders, receivers, payload, .. } = self;
        format!(
            "{messages} calls of {payload} bytes, one at a time, alone and beside a flood from {senders} senders to \
             {receivers} receivers"
        )
    }

    fn round(&self, setting: &Setting<'_>) -> Result<Figures> {
        let calls = calls::Shape {
            first: self.senders.max(self.receivers).into(),
            askers: 1,
            answerers: 1,
            payload: self.payload as usize,
            outstanding: 1,
            each: self.messages,
        };
        let flood = unending(self.senders, self.receivers, self.payload, &self.pace);
        let ask = || Calls::connect(setting, &calls)?.run(&Flow::new(1)?);
        let alone = ask()?;
        let (delivered, crowded) = beside(setting, &flood, |_| ask())?;
        let mut figures = Figures::default();
        figures.add_latency(figures::ALONE, &alone.took);
        figures.add_latency(figures::BESIDE, &crowded.took);
        let seconds = delivered.spent.took.as_secs_f64();
        figures.add(figures::RATE, delivered.messages as f64 / seconds);
        figures.add(figures::MESSAGES, delivered.messages as f64);
        figures.add(figures::CALLS, crowded.took.len() as f64);
        Ok(figures)
    }
}
