//! Isolation: a flood goes on while one of its receivers stops reading, under each policy for mailboxes that
//! are full. What the others get is compared with before, and so is the router's memory.
//!
//! All senders talk to all receivers, and what the others get is compared. Under `pause` those senders are
//! held up, as they have to be; so half of them never talk to the one that stops, and only these are compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum, value_parser};

use super::{LONGEST, Setting, Workload};
use crate::bench::Pace;
use crate::bench::blocks::Block;
use crate::bench::check::Check;
use crate::bench::connection::{Connection, Scratch};
use crate::bench::dialect::{To, Who};
use crate::bench::figures::{self, Figures};
use crate::bench::flow::Flow;
use crate::bench::plan::Plan;
use crate::bench::poller::Poller;
use crate::bench::sending::Sender;
use crate::bench::traffic::{Traffic, UNTIL_STOPPED};

// A doc comment would be its help.
#[derive(Debug, Clone, Args)]
pub struct Isolation {
    /// What the router does with a mailbox that is full; the configuration is written accordingly
    #[arg(long, value_enum, default_value_t = Policy::Pause)]
    policy: Policy,
    /// How many senders; with pause half of them never talk to the receiver that stops, and are compared
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(2..))]
    senders: u16,
    /// How many receivers; the last of them stops
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u16).range(2..))]
    receivers: u16,
    /// How many seconds the flood goes before one stops, and then again after
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// How long a payload is, in bytes
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(8..=LONGEST))]
    payload: u32,
    /// How many bytes of a sender's messages to the others may be on their way: little enough that all senders
    /// together never fill the mailbox of one that reads
    #[arg(long, value_name = "BYTES", default_value_t = 128 << 10, value_parser = value_parser!(u64).range(1..))]
    window: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    Pause,
    DropNew,
    Disconnect,
}

impl Workload for Isolation {
    fn name(&self) -> &'static str {
        "isolation"
    }

    fn describe(&self) -> String {
        let Self { senders, receivers, payload, seconds, .. } = self;
        format!(
            "{senders} senders, {receivers} receivers of which one stops after {seconds} s, messages of {payload} \
             bytes, overflow: {}",
            self.policy.word()
        )
    }

    fn router_config(&self) -> Option<String> {
        let overflow = self.policy.word();
        // Nobody's patience shall end meanwhile.
        Some(format!("default_class: {{overflow: {overflow}, stall_timeout_ms: 3600000}}\n"))
    }

    fn round(&self, setting: &Setting<'_>) -> Result<Figures> {
        let (senders, receivers) = (usize::from(self.senders), usize::from(self.receivers));
        let (server, stopped) = (setting.server, AtomicBool::new(false));
        let plan = Arc::new(Plan::of(senders, self.payload as usize));
        let flow = Flow::new(senders)?;
        let to = (0..receivers - 1).map(|number| server.join(Who::Receiver(number)));
        let to = to.collect::<Result<_>>()?;
        let slow = server.join(Who::Receiver(receivers - 1))?;
        let from = (0..senders).map(|number| self.sender(setting, number, &plan));
        let check = self.check_of(&plan);
        let traffic = Traffic::of(setting, from.collect::<Result<_>>()?, to, check, 1);
        thread::scope(|scope| {
            let slow = scope.spawn(|| {
                let read = read_until(slow, self.check_of(&plan), receivers - 1, &stopped, &flow);
                if read.is_err() {
                    flow.end();
                }
                read
            });
            let flood = scope.spawn(|| traffic.run(&flow));
            let memory = server.memory();
            let before = self.rate(&flow);
            stopped.store(true, Ordering::SeqCst);
            // Buffers on the way fill up.
            pass(SETTLE, &flow);
            let after = self.rate(&flow);
            let grown = server.memory();
            // The one that does not read goes, so that whoever waits for it can go on.
            flow.stop();
            let read = slow.join().map_err(|_| anyhow!("the slow receiver's thread panicked"))?;
            let delivered = flood.join().map_err(|_| anyhow!("the flood's thread panicked"))?;
            let delivered = read.and(delivered)?;
            let mut figures = Figures::default();
            figures.add(figures::KEPT, after / before * 100.0);
            figures.add(figures::CALM_RATE, before);
            figures.add(figures::RATE, after);
            if let Some((then, now)) = memory?.zip(grown?) {
                figures.add(figures::GROWN, now.saturating_sub(then) as f64 / MIB);
            }
            figures.add(figures::MESSAGES, delivered.messages as f64);
            Ok(figures)
        })
    }
}

impl Isolation {
    /// How many senders talk to all receivers.
    fn talkers(&self) -> usize {
        let senders = usize::from(self.senders);
        if self.policy == Policy::Pause { senders / 2 } else { senders }
    }

    /// Among how many receivers a sender's messages take turns.
    fn turns(&self, sender: usize) -> u64 {
        u64::from(self.receivers) - u64::from(sender >= self.talkers())
    }

    fn sender(&self, setting: &Setting<'_>, number: usize, plan: &Plan) -> Result<Sender> {
        let turns = self.turns(number);
        let pace = Pace { window: self.window, block: BLOCK };
        let who = Who::Sender(number);
        let dialect = setting.server.dialect();
        let to = |i| To::One((i % turns) as usize);
        let block = Block::new(dialect, (who, number), plan, pace.block(), turns as usize, to)?;
        let window = pace.window(block.message_bytes());
        let connection = setting.server.join(who)?;
        let mut sender = Sender::new(connection, block, UNTIL_STOPPED, window, 1);
        // What the slow one has or has not got is no reason to wait.
        sender.aside = (number < self.talkers()).then_some(turns);
        Ok(sender)
    }

    fn check_of(&self, plan: &Arc<Plan>) -> Check {
        let steps = (0..plan.senders()).map(|sender| self.turns(sender)).collect();
        Check::uneven_turns(plan.clone(), self.receivers.into(), steps)
    }

    /// How many messages a second arrive of those senders that are compared.
    fn rate(&self, flow: &Flow) -> f64 {
        let start = Instant::now();
        let before = self.arrived(flow);
        pass(Duration::from_secs(self.seconds.into()), flow);
        (self.arrived(flow) - before) as f64 / start.elapsed().as_secs_f64()
    }

    fn arrived(&self, flow: &Flow) -> u64 {
        let first = if self.policy == Policy::Pause { self.talkers() } else { 0 };
        (first..self.senders.into()).map(|sender| flow.arrived_of(sender)).sum()
    }
}

impl Policy {
    fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::DropNew => "drop-new",
            Self::Disconnect => "disconnect",
        }
    }
}

/// Reads and checks until told to stop reading; hangs up when the flood is over.
fn read_until(
    mut slow: Connection,
    mut check: Check,
    number: usize,
    stopped: &AtomicBool,
    flow: &Flow,
) -> Result<()> {
    let mut poller = Poller::new()?;
    poller.add(&slow, 0)?;
    let mut scratch = Scratch::new();
    while !stopped.load(Ordering::SeqCst) && !flow.is_over() {
        if poller.wait(TICK)?.count() > 0 {
            slow.read(&mut scratch, |message, _| {
                flow.arrived_aside(check.arrival(number, message.payload)?);
                Ok(())
            })?;
        }
    }
    // ORDER: as long as it reads, senders wait for it, so that nothing of what it reads is dropped.
    flow.lose_aside();
    while !flow.is_stopped() && !flow.is_over() {
        thread::sleep(TICK);
    }
    Ok(())
}

/// Waits, unless the flood ends.
fn pass(period: Duration, flow: &Flow) {
    let start = Instant::now();
    while start.elapsed() < period && !flow.is_over() {
        thread::sleep(TICK);
    }
}

const BLOCK: u32 = 64 << 10;
const TICK: Duration = Duration::from_millis(5);
const SETTLE: Duration = Duration::from_millis(300);
const MIB: f64 = (1 << 20) as f64;
