//! What a shard's thread has to itself: no lock guards any of it.

use std::cell::RefCell;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use rand::rngs::SmallRng;

use super::batch::Batch;
use crate::counters::Counters;
use crate::mailbox::Mailbox;
use crate::mailbox::outgoing::Outgoing;
use crate::parking::lots::Lots;
use crate::table::Table;

/// The table as the registry publishes it.
pub type Published = ArcSwap<Table<Arc<Mailbox>>>;

/// One thread's tools.
#[derive(Debug)]
pub struct Local {
    /// Where connections read to, between two polls of any of them.
    pub scratch: Vec<u8>,
    /// The frames of the read at hand.
    pub batch: Batch,
    /// The sending side.
    pub out: Outgoing,
    /// For Random and LeastLoaded.
    pub rng: SmallRng,
    /// Where frames wait that nobody takes.
    pub lots: Arc<Lots>,
    table: Cache<Arc<Published>, Arc<Table<Arc<Mailbox>>>>,
}

impl Local {
    /// The tools of a thread.
    pub fn new(
        published: Arc<Published>,
        lots: Arc<Lots>,
        counters: Arc<Counters>,
        rng: SmallRng,
    ) -> Self {
        Self {
            scratch: Vec::new(),
            batch: Batch::new(),
            out: Outgoing::new(counters),
            rng,
            lots,
            table: Cache::new(published),
        }
    }

    /// The buffer to read into, until it is put back. After a panic in a session it is a new one.
    pub fn take_scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(SCRATCH, 0);
        scratch
    }

    /// The latest snapshot.
    pub fn load_table(&mut self) -> Arc<Table<Arc<Mailbox>>> {
        self.table.load().clone()
    }

    /// Makes these the tools of the current thread.
    pub fn install(self) {
        LOCAL.with(|local| *local.borrow_mut() = Some(self));
    }

    /// Works with the current thread's tools. They are installed before a shard runs its first task,
    /// and no task holds them while another is polled.
    pub fn with<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        LOCAL.with(|local| {
            let mut local = local.borrow_mut();
            work(local.as_mut().expect("a shard installs its tools before its first task"))
        })
    }
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// How much one read may bring: bytes per write decide how often the other side is woken, and a write
/// takes along what one read brought.
const SCRATCH: usize = 256 << 10;
