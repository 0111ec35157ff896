//! A match server: the master makes matches, the other one waits for its turn.
//!
//! It writes each message that it handles to a journal, with the epoch under which it is master: the
//! number by which a store can tell what an old master wrote too late.

use std::sync::{Arc, Mutex, PoisonError};

use switchboard::{Caller, HandlerError};
use tokio::sync::mpsc;

use super::{Part, builder, connect, work};
use crate::journal::{self, Journal, Record};
use crate::ledger::Ledger;
use crate::news::{News, Order, tell};
use crate::stream::{Stamp, Stream, now};

/// What the handlers share.
#[derive(Debug)]
struct Desk {
    journal: Journal,
    ledger: Ledger,
    /// The epoch of the last message.
    epoch: u64,
    /// Players who wait for a match.
    waiting: u64,
}

/// How many players make a match.
const MATCH: u64 = 10;

/// Makes matches until told to leave.
pub async fn run(part: &Part, orders: mpsc::UnboundedReceiver<Order>) -> anyhow::Result<()> {
    let ledger = Ledger::default();
    let journal = Journal::create(&journal::path(&part.dir, part.instance, part.life))?;
    let desk = Desk { journal, ledger: ledger.clone(), epoch: 0, waiting: 0 };
    let desk = Arc::new(Mutex::new(desk));

    let joining = desk.clone();
    let builder = builder("matchsvr", part);
    let builder = builder.on("join_match", move |from: Caller, args: (Stamp, u64, String)| {
        let (stamp, _player, _mode) = args;
        let mut desk = joining.lock().unwrap_or_else(PoisonError::into_inner);
        desk.waiting = (desk.waiting + 1) % MATCH;
        let handled = desk.handle(&from, Stream::JoinMatch, stamp);
        async { handled }
    });
    let builder = builder.on("find_match", move |from: Caller, (stamp, _): (Stamp, u64)| {
        let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = MATCH - desk.waiting;
        let handled = desk.handle(&from, Stream::FindMatch, stamp);
        async move { handled.map(|()| missing) }
    });

    let node = connect(builder, part).await?;
    work(node, &ledger, orders, None).await
}

impl Desk {
    fn handle(&mut self, from: &Caller, stream: Stream, stamp: Stamp) -> Result<(), HandlerError> {
        let node = from.node();
        let epoch = node.epoch(node.id().class()).unwrap_or_default();
        let (source, number, at) = (from.id().raw(), stamp.number, now());
        self.journal.write(Record { source, stream, number, epoch, at })?;
        self.ledger.handled(from.id(), stream, stamp);
        if epoch > self.epoch {
            self.epoch = epoch;
            tell(&News::FirstAsMaster { epoch, at });
        }
        Ok(())
    }
}
