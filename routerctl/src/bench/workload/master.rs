//! Master: every message is for the master of the receivers; the others get none.

use anyhow::Result;
use clap::{Args, value_parser};

use super::{LONGEST, Setting, Workload, one_way};
use crate::bench::Pace;
use crate::bench::figures::Figures;
use crate::bench::traffic::{Contents, Route, Shape};

// A doc comment would be its help.
#[derive(Debug, Clone, Args)]
pub struct Master {
    /// How many senders
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    senders: u16,
    /// How many receivers
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(1..))]
    receivers: u16,
    /// How many messages, all senders together
    #[arg(long, default_value_t = 5_000_000, value_parser = value_parser!(u64).range(1..))]
    messages: u64,
    /// How long a payload is, in bytes
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(8..=LONGEST))]
    payload: u32,
    #[command(flatten)]
    pace: Pace,
}

impl Workload for Master {
    fn name(&self) -> &'static str {
        "master"
    }

    fn describe(&self) -> String {
        let Self { senders, receivers, payload, .. } = self;
        let messages = self.shape().each * u64::from(self.senders);
        format!(
            "{senders} senders, the master of {receivers} receivers, {messages} messages of {payload} bytes"
        )
    }

    fn round(&self, setting: &Setting<'_>) -> Result<Figures> {
        one_way(setting, &self.shape())
    }
}

impl Master {
    fn shape(&self) -> Shape<'_> {
        Shape {
            senders: self.senders.into(),
            receivers: self.receivers.into(),
            route: Route::Master,
            contents: Contents::Uniform(self.payload as usize),
            each: (self.messages / u64::from(self.senders)).max(1),
            pace: &self.pace,
        }
    }
}
