//! A database agent: one of four shards, each with the players whose id leads to its slot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use switchboard::{Caller, Mode};
use tokio::sync::mpsc;

use super::{Part, builder, connect, stray, work};
use crate::ledger::Ledger;
use crate::news::Order;
use crate::stream::{Stamp, Stream};

/// How many shards there are; the router's configuration says the same.
pub const SHARDS: u64 = 4;

/// A player's row: its level, and how often it was saved.
#[derive(Debug, Default, Clone, Copy)]
struct Row {
    level: u32,
    saves: u64,
}

type Rows = Arc<Mutex<HashMap<u64, Row>>>;

/// Saves and loads until told to leave.
pub async fn run(part: &Part, orders: mpsc::UnboundedReceiver<Order>) -> anyhow::Result<()> {
    let ledger = Ledger::default();
    let rows = Rows::default();
    let shard = u64::from(part.instance - 1);
    let builder = builder("dbagent", part);

    let (notes, table) = (ledger.clone(), rows.clone());
    let builder = builder.on("save", move |from: Caller, args: (Stamp, u64, u32)| {
        let (stamp, player, level) = args;
        if player % SHARDS != shard {
            stray(player, from.node().id());
        }
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        let row = table.entry(player).or_default();
        *row = Row { level, saves: row.saves + 1 };
        notes.handled(from.id(), Stream::Save, stamp);
        async { Ok(()) }
    });

    let (notes, table) = (ledger.clone(), rows.clone());
    let builder = builder.on("load", move |from: Caller, (stamp, player): (Stamp, u64)| {
        if from.mode() == Mode::Hash && player % SHARDS != shard {
            stray(player, from.node().id());
        }
        let table = table.lock().unwrap_or_else(PoisonError::into_inner);
        let row = table.get(&player).copied().unwrap_or_default();
        notes.handled(from.id(), Stream::Load, stamp);
        async move { Ok((row.level, row.saves)) }
    });

    let notes = ledger.clone();
    let builder = builder.on("query", move |from: Caller, (stamp,): (Stamp,)| {
        let rows = rows.lock().unwrap_or_else(PoisonError::into_inner).len();
        notes.handled(from.id(), Stream::Query, stamp);
        async move { Ok(rows) }
    });

    let node = connect(builder, part).await?;
    work(node, &ledger, orders, None).await
}
