//! Messages one way: senders and receivers that are connected, and their two threads.

use std::sync::{Arc, Barrier};
use std::thread;

use anyhow::{Result, anyhow};

use crate::bench::Pace;
use crate::bench::blocks::Block;
use crate::bench::check::Check;
use crate::bench::connection::Connection;
use crate::bench::dialect::{To, Who};
use crate::bench::flow::Flow;
use crate::bench::plan::Plan;
use crate::bench::receiving::Receiving;
use crate::bench::sending::{self, Sender};
use crate::bench::server::{Meter, Spent};
use crate::bench::workload::Setting;

/// Who sends how much to whom.
#[derive(Debug, Clone)]
pub struct Shape<'a> {
    pub senders: usize,
    pub receivers: usize,
    pub route: Route,
    pub contents: Contents,
    /// How many messages each sender sends, or [`UNTIL_STOPPED`].
    pub each: u64,
    pub pace: &'a Pace,
}

/// Whom a sender's message i is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The receiver i modulo their number.
    Turns,
    /// The receiver of the sender's own number, modulo their number.
    Partner,
    /// All receivers.
    All,
    /// Whoever the key i modulo this leads to, always the same.
    Keys(usize),
    /// The master of the receivers.
    Master,
}

/// How long payloads are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// All of this length.
    Uniform(usize),
    /// Of lengths between these, as many short ones as long ones by orders of magnitude.
    Mixed(usize, usize),
}

/// What was delivered.
#[derive(Debug, Clone, Copy)]
pub struct Delivered {
    /// Every copy of a message counts.
    pub messages: u64,
    pub spent: Spent,
}

/// Both ends, connected.
pub struct Traffic<'a> {
    setting: &'a Setting<'a>,
    senders: Vec<Sender>,
    receivers: Vec<Connection>,
    check: Check,
    copies: u64,
}

impl<'a> Traffic<'a> {
    pub fn connect(setting: &'a Setting<'a>, shape: &Shape<'_>) -> Result<Self> {
        let Shape { senders, receivers, pace, each, .. } = *shape;
        let server = setting.server;
        let route = server.dialect().route(shape.route);
        server.dialect().check_pairs(senders, receivers, route == Route::All)?;
        let plan = Arc::new(match shape.contents {
            Contents::Uniform(length) => Plan::of(senders, length),
            Contents::Mixed(shortest, longest) => Plan::mixed(senders, shortest, longest),
        });
        let copies = if route == Route::All { receivers as u64 } else { 1 };
        let to = (0..receivers).map(|number| server.join(Who::Receiver(number)));
        let to = to.collect::<Result<_>>()?;
        let from = (0..senders).map(|number| {
            let who = (Who::Sender(number), number);
            let (period, to) = route.targets(number, receivers);
            let block = Block::new(server.dialect(), who, &plan, pace.block(), period, to)?;
            let window = pace.window(block.message_bytes());
            let mut sender = Sender::new(server.join(who.0)?, block, each, window, copies);
            // Half of the window, so that one is written while the last one arrives: a block may hold more.
            sender.at_a_time = (window / 2).max(1);
            Ok(sender)
        });
        let from = from.collect::<Result<_>>()?;
        let check = route.check(plan, receivers);
        Ok(Self { setting, senders: from, receivers: to, check, copies })
    }

    /// Both ends, as somebody else has connected them. `copies` is how often each message arrives.
    pub fn of(
        setting: &'a Setting<'a>,
        senders: Vec<Sender>,
        receivers: Vec<Connection>,
        check: Check,
        copies: u64,
    ) -> Self {
        Self { setting, senders, receivers, check, copies }
    }

    /// Sends and receives until all has come, and nothing more.
    pub fn run(mut self, flow: &Flow) -> Result<Delivered> {
        let Setting { server, patience, progress } = *self.setting;
        let mut receiving = Receiving::new(self.receivers, self.check, flow, progress, patience)?;
        let ready = Barrier::new(2);
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                ready.wait();
                let sent = sending::run(&mut self.senders, flow);
                flow.end();
                sent
            });
            let received = (|| {
                let meter = Meter::start(server);
                ready.wait();
                let messages = receiving.run(self.copies)?;
                let spent = meter?.stop()?;
                if !flow.is_over() {
                    receiving.expect_nothing()?;
                }
                Ok(Delivered { messages, spent })
            })();
            flow.end();
            // If one of them fails, the other only stops: its own account would blame the wrong end.
            let sent = sending.join().map_err(|_| anyhow!("the sending thread panicked"))?;
            received.and_then(|delivered| sent.map(|()| delivered))
        })
    }
}

/// Senders go on until the flow is stopped.
pub const UNTIL_STOPPED: u64 = u64::MAX;

impl Route {
    /// Whom message i is for, and after how many messages that begins anew.
    fn targets(self, sender: usize, receivers: usize) -> (usize, impl Fn(u64) -> To) {
        let period = match self {
            Self::Turns => receivers,
            Self::Keys(keys) => keys,
            Self::Partner | Self::All | Self::Master => 1,
        };
        let to = move |i: u64| match self {
            Self::Turns => To::One((i % receivers as u64) as usize),
            Self::Partner => To::One(sender % receivers),
            Self::All => To::All,
            Self::Keys(keys) => To::Key(i % keys as u64),
            Self::Master => To::Master,
        };
        (period, to)
    }

    fn check(self, plan: Arc<Plan>, receivers: usize) -> Check {
        match self {
            Self::Turns => Check::turns(plan, receivers),
            Self::Partner => Check::pairs(plan, receivers),
            Self::All => Check::copies(plan, receivers),
            Self::Keys(keys) => Check::keys(plan, receivers, keys),
            // It is not known beforehand who is, but it may be only one.
            Self::Master => Check::keys(plan, receivers, 1),
        }
    }
}
