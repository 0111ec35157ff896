//! A flood with targets of one's own choice, from senders that connect for it to receivers that are there.

use std::sync::Arc;

use anyhow::Result;

use crate::bench::blocks::Block;
use crate::bench::check::Check;
use crate::bench::connection::Connection;
use crate::bench::dialect::{Dialect, To, Who};
use crate::bench::figures::Figures;
use crate::bench::flow::Flow;
use crate::bench::plan::Plan;
use crate::bench::sending::Sender;
use crate::bench::traffic::Traffic;
use crate::bench::workload::Setting;

/// What senders send.
pub struct Load<'a> {
    pub dialect: &'a dyn Dialect,
    pub plan: &'a Arc<Plan>,
    /// After how many messages their targets begin anew.
    pub period: usize,
    /// How many messages, all senders together.
    pub messages: u64,
}

impl Load<'_> {
    /// Sends it once. `to` tells whom a sender's message i is for.
    pub fn run(
        &self,
        setting: &Setting<'_>,
        receivers: Vec<Connection>,
        check: Check,
        to: impl Fn(usize, u64) -> To,
    ) -> Result<Figures> {
        let senders = self.plan.senders();
        let window = (IN_ALL / senders as u64).clamp(1, MOST);
        let at_a_time = (window / 2).clamp(1, AT_A_TIME);
        let each = (self.messages / senders as u64).max(1);
        let from = (0..senders).map(|number| {
            let who = (Who::Sender(number), number);
            let size = at_a_time as usize * MESSAGE;
            let to = |i| to(number, i);
            let block = Block::new(self.dialect, who, self.plan, size, self.period, to)?;
            let connection = setting.server.join(who.0)?;
            let mut sender = Sender::new(connection, block, each, window, 1);
            sender.at_a_time = at_a_time;
            Ok(sender)
        });
        let from = from.collect::<Result<_>>()?;
        let flow = Flow::new(senders)?;
        let delivered = Traffic::of(setting, from, receivers, check, 1).run(&flow)?;
        Ok(Figures::of_messages(delivered.messages, delivered.spent))
    }
}

/// How long payloads are,
pub const PAYLOAD: usize = 64;
/// and what one takes on the wire.
const MESSAGE: usize = 80;
/// How many messages may be on their way in all: 16 MiB,
const IN_ALL: u64 = (16 << 20) / MESSAGE as u64;
/// of one sender: 4 MiB,
const MOST: u64 = (4 << 20) / MESSAGE as u64;
/// and how many a sender writes at a time: 64 KiB.
const AT_A_TIME: u64 = (64 << 10) / MESSAGE as u64;
