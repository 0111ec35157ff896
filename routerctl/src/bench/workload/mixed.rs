//! Mixed sizes: a flood whose payloads are short and long, evenly by orders of magnitude.

use anyhow::Result;
use clap::{Args, value_parser};

use super::{LONGEST, Setting, Workload, one_way};
use crate::bench::Pace;
use crate::bench::figures::Figures;
use crate::bench::traffic::{Contents, Route, Shape};

// A doc comment would be its help.
#[derive(Debug, Clone, Args)]
pub struct Mixed {
    /// How many senders
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    senders: u16,
    /// How many receivers
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    receivers: u16,
    /// How many messages, all senders together
    #[arg(long, default_value_t = 500_000, value_parser = value_parser!(u64).range(1..))]
    messages: u64,
    /// How long the shortest payloads are, in bytes
    #[arg(long, default_value_t = 16, value_parser = value_parser!(u32).range(8..=LONGEST))]
    shortest: u32,
    /// How long the longest payloads are, in bytes
    #[arg(long, default_value_t = 65_536, value_parser = value_parser!(u32).range(8..=LONGEST))]
    longest: u32,
    #[command(flatten)]
    pace: Pace,
}

impl Workload for Mixed {
    fn name(&self) -> &'static str {
        "mixed"
    }

    fn describe(&self) -> String {
        let Self { senders, receivers, shortest, longest, .. } = self;
        let messages = self.shape().each * u64::from(self.senders);
        format!(
            "{senders} senders, {receivers} receivers, {messages} messages of {shortest} to {longest} bytes"
        )
    }

    fn round(&self, setting: &Setting<'_>) -> Result<Figures> {
        one_way(setting, &self.shape())
    }
}

impl Mixed {
    fn shape(&self) -> Shape<'_> {
        Shape {
            senders: self.senders.into(),
            receivers: self.receivers.into(),
            route: Route::Turns,
            contents: Contents::Mixed(
                self.shortest as usize,
                self.longest.max(self.shortest) as usize,
            ),
            each: (self.messages / u64::from(self.senders)).max(1),
            pace: &self.pace,
        }
    }
}
