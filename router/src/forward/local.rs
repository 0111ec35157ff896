//! What a shard's thread has to itself: no lock guards any of it.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Cache};
use rand::RngExt;
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
    /// When the bytes at hand were read, if they were read just now.
    pub read_at: Option<Instant>,
    /// How many batches it is to the next one that is timed.
    until_timed: u32,
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
            read_at: None,
            until_timed: 1,
            table: Cache::new(published),
        }
    }

    /// The buffer to read into, until it is put back. After a panic in a session it is a new one.
    pub fn take_scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(SCRATCH, 0);
        scratch
    }

    /// When the batch at hand was read, if it is one that is timed: the first of a thread, and then one
    /// in [`ONE_IN`], at random lest it falls in step with the traffic.
    #[inline]
    pub fn time_batch(&mut self) -> Option<Instant> {
        let read_at = self.read_at.filter(|_| !self.batch.is_empty())?;
        self.until_timed -= 1;
        if self.until_timed > 0 {
            return None;
        }
        self.until_timed = self.rng.random_range(1..2 * ONE_IN);
        Some(read_at)
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

/// Of how many batches one is timed.
const ONE_IN: u32 = 128;
/// How much one read may bring: bytes per write decide how often the other side is woken, and a write
/// takes along what one read brought.
const SCRATCH: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::policy::{ClassPolicy, Policies};

    #[tokio::test]
    async fn the_first_batch_is_timed_and_then_one_of_many() {
        let lots = Arc::new(Lots::new(Arc::<Policies>::default()));
        let rng = SmallRng::seed_from_u64(1);
        let mut local = Local::new(Arc::<Published>::default(), lots, Arc::default(), rng);
        local.read_at = Some(Instant::now());
        assert_eq!(local.time_batch(), None, "a read without data frames is not counted");
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let (_reader, writer, peer) = crate::stream::Accepted::Unix(here).into_halves().unwrap();
        let (slot, number) = Arc::new(crate::sessions::Sessions::default()).open(1).unwrap();
        let badge = crate::mailbox::badge::Badge::new(peer, 0);
        let mailbox = Arc::new(Mailbox::new(slot, number, writer, badge));
        local.batch.target(&mailbox, &ClassPolicy::default());
        let read_at = local.read_at.take();
        assert_eq!(local.time_batch(), None, "what was not read just now is not counted");
        local.read_at = read_at;
        assert_eq!(local.time_batch(), read_at);
        let batches = 1_000 * ONE_IN;
        let timed = (0..batches).filter(|_| local.time_batch().is_some()).count();
        assert!((900..1_100).contains(&timed), "{timed} of {batches}");
    }
}
