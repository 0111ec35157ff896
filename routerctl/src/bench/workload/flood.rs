//! Flood: every sender writes as fast as its window lets it, message i for receiver i modulo their number,
//! so that nothing can be batched by destination.

use std::sync::{Arc, Barrier};
use std::thread;

use anyhow::{Result, anyhow};
use clap::{Args, value_parser};

use super::{LONGEST, Setting, Workload};
use crate::bench::Pace;
use crate::bench::blocks::Block;
use crate::bench::check::Check;
use crate::bench::dialect::{To, Who};
use crate::bench::figures::Figures;
use crate::bench::flow::Flow;
use crate::bench::plan::Plan;
use crate::bench::receiving::Receiving;
use crate::bench::sending::{self, Sender};
use crate::bench::server::Meter;

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
    #[command(flatten)]
    pace: Pace,
}

impl Workload for Flood {
    fn name(&self) -> &'static str {
        "flood"
    }

    fn describe(&self) -> String {
        let Self { senders, receivers, payload, .. } = self;
        let messages = self.each() * u64::from(self.senders);
        format!("{senders} senders, {receivers} receivers, {messages} messages of {payload} bytes")
    }

    fn round(&self, setting: &Setting<'_>) -> Result<Figures> {
        let (senders, receivers) = (usize::from(self.senders), usize::from(self.receivers));
        let plan = Arc::new(Plan::of(senders, self.payload as usize));
        let server = setting.server;
        let flow = Flow::new(senders)?;
        let to: Result<Vec<_>> =
            (0..receivers).map(|number| server.join(Who::Receiver(number))).collect();
        let mut receiving = Receiving::new(
            to?,
            Check::turns(plan.clone(), receivers),
            &flow,
            setting.progress,
            setting.patience,
        )?;
        let from: Result<Vec<Sender>> = (0..senders)
            .map(|number| {
                let to = |i| To::One((i % receivers as u64) as usize);
                let size = self.pace.block();
                let block = Block::new(
                    server.dialect(),
                    (Who::Sender(number), number),
                    &plan,
                    size,
                    receivers,
                    to,
                )?;
                let window = self.pace.window(block.message_bytes());
                let connection = server.join(Who::Sender(number))?;
                Ok(Sender::new(connection, block, self.each(), window, 1))
            })
            .collect();
        let mut from = from?;
        let ready = Barrier::new(2);
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                ready.wait();
                let sent = sending::run(&mut from, &flow);
                flow.end();
                sent
            });
            let received = (|| {
                let meter = Meter::start(server)?;
                ready.wait();
                let messages = receiving.run(1)?;
                let spent = meter.stop()?;
                if !flow.is_over() {
                    receiving.expect_nothing()?;
                }
                Ok(Figures::of_messages(messages, spent))
            })();
            flow.end();
            // If one of them fails, the other only stops: its own account would blame the wrong end.
            let sent = sending.join().map_err(|_| anyhow!("the sending thread panicked"))?;
            received.and_then(|figures| sent.map(|()| figures))
        })
    }
}

impl Flood {
    /// How many messages each sender sends: as many to each receiver.
    fn each(&self) -> u64 {
        let (senders, receivers) = (u64::from(self.senders), u64::from(self.receivers));
        (self.messages / senders / receivers).max(1) * receivers
    }
}
