//! Flood: every sender writes as fast as its window lets it, message i for receiver i modulo their number,
//! so that nothing can be batched by destination.

use anyhow::Result;
use clap::{Args, value_parser};

use super::{LONGEST, Setting, Workload, one_way};
use crate::bench::Pace;
use crate::bench::figures::Figures;
use crate::bench::sdk::{self, Ends};
use crate::bench::traffic::{Contents, Route, Shape};

// A doc comment would be its help.
#[derive(Debug, Clone, Args)]
pub struct Flood {
    /// How many senders
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    senders: u16,
    /// How many receivers
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    receivers: u16,
    /// How many messages, all senders together
    #[arg(long, default_value_t = 10_000_000, value_parser = value_parser!(u64).range(1..))]
    messages: u64,
    /// How long a payload is, in bytes
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(8..=LONGEST))]
    payload: u32,
    /// Through nodes of the Rust SDK, at both ends or as senders only; each round is then run without it as
    /// well, to compare the generator's own CPU time
    #[arg(long, value_enum, value_name = "ENDS", num_args = 0..=1, default_missing_value = "both")]
    sdk: Option<Ends>,
    #[command(flatten)]
    pace: Pace,
}

impl Workload for Flood {
    fn name(&self) -> &'static str {
        "flood"
    }

    fn describe(&self) -> String {
        let Self { senders, receivers, payload, .. } = self;
        let messages = self.shape().each * u64::from(self.senders);
        format!("{senders} senders, {receivers} receivers, {messages} messages of {payload} bytes")
    }

    fn round(&self, setting: &Setting<'_>) -> Result<Figures> {
        let shape = self.shape();
        let Some(ends) = self.sdk else { return one_way(setting, &shape) };
        let delivered = sdk::flood(setting, &shape, ends)?;
        let mut figures = Figures::of_messages(delivered.messages, delivered.spent);
        figures.add_sdk_ratio(&one_way(setting, &shape)?);
        Ok(figures)
    }
}

impl Flood {
    fn shape(&self) -> Shape<'_> {
        let (senders, receivers) = (u64::from(self.senders), u64::from(self.receivers));
        Shape {
            senders: self.senders.into(),
            receivers: self.receivers.into(),
            route: Route::Turns,
            contents: Contents::Uniform(self.payload as usize),
            // As many to each receiver.
            each: (self.messages / senders / receivers).max(1) * receivers,
            pace: &self.pace,
        }
    }
}
