//! A mail server: letters of the users whose names lead to it, and push notes for anybody.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use switchboard::Caller;
use tokio::sync::mpsc;

use super::{Part, builder, connect, work};
use crate::ledger::Ledger;
use crate::news::Order;
use crate::stream::{Stamp, Stream};

/// Takes mail in until told to leave.
pub async fn run(part: &Part, orders: mpsc::UnboundedReceiver<Order>) -> anyhow::Result<()> {
    let ledger = Ledger::default();
    let boxes: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
    let work_done = Arc::new(AtomicU32::new(0));
    let builder = builder("mailsvr", part);

    let (notes, busy) = (ledger.clone(), work_done.clone());
    let builder = builder.on("mail", move |from: Caller, (stamp, user): (Stamp, String)| {
        *boxes.lock().unwrap_or_else(PoisonError::into_inner).entry(user).or_default() += 1;
        busy.fetch_add(1, Ordering::Relaxed);
        notes.handled(from.id(), Stream::Mail, stamp);
        async { Ok(()) }
    });

    let (notes, busy) = (ledger.clone(), work_done.clone());
    let builder = builder.on("notify", move |from: Caller, (stamp, _): (Stamp, u64)| {
        busy.fetch_add(1, Ordering::Relaxed);
        notes.handled(from.id(), Stream::Notify, stamp);
        async { Ok(()) }
    });

    let node = connect(builder, part).await?;
    let reporter = node.clone();
    let reporting = tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOAD_EVERY).await;
            reporter.set_load(work_done.swap(0, Ordering::Relaxed));
        }
    });
    let result = work(node, &ledger, orders, None).await;
    reporting.abort();
    result
}

/// How often it tells how busy it is: with the messages of the time since.
const LOAD_EVERY: Duration = Duration::from_millis(100);
