//! What each thread counts, and the words for it.
//!
//! A thread adds to its own counters only, so an addition is a load and a store without a lock; a
//! scrape sums over the threads. Counting happens per run of frames, not per frame.
//!
//! - [`bucket`]: what frames count as, a class and a mode; [`outcome`]: where they may end.

mod bucket;
mod outcome;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use switchboard_protocol::Class;

use self::bucket::BUCKETS;
pub use self::bucket::{Bucket, Tally};
pub use self::outcome::Outcome;

/// One thread's counters.
#[derive(Debug)]
pub struct Counters {
    received: Box<[AtomicU64]>,
    received_bytes: Box<[AtomicU64]>,
    outcomes: Box<[AtomicU64]>,
    parked: Box<[AtomicU64]>,
    released: Box<[AtomicU64]>,
    /// Reads that brought bytes.
    pub reads: Counter,
    /// Writes that took bytes.
    pub writes: Counter,
    /// Times that a sender was stopped by a full mailbox.
    pub pauses: Counter,
    /// Sessions that ended because of what they sent.
    pub malformed: Counter,
    /// Hellos that were refused, or never came.
    pub handshakes_failed: Counter,
}

/// A number that only its own thread adds to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counters {
    /// All zero.
    pub fn new() -> Self {
        let zeros = |len: usize| (0..len).map(|_| AtomicU64::new(0)).collect();
        Self {
            received: zeros(BUCKETS),
            received_bytes: zeros(BUCKETS),
            outcomes: zeros(BUCKETS * Outcome::ALL.len()),
            parked: zeros(CLASSES),
            released: zeros(CLASSES),
            reads: Counter::default(),
            writes: Counter::default(),
            pauses: Counter::default(),
            malformed: Counter::default(),
            handshakes_failed: Counter::default(),
        }
    }

    /// Notes frames that came in.
    #[inline]
    pub fn received(&self, bucket: Bucket, frames: u32, bytes: usize) {
        add(&self.received[bucket.index()], frames.into());
        add(&self.received_bytes[bucket.index()], bytes as u64);
    }

    /// Notes where frames ended.
    #[inline]
    pub fn ended(&self, bucket: Bucket, outcome: Outcome, frames: u32) {
        add(&self.outcomes[outcome as usize * BUCKETS + bucket.index()], frames.into());
    }

    /// Notes frames that began to wait for an instance.
    pub fn parked(&self, class: Class, frames: usize) {
        add(&self.parked[usize::from(class.raw())], frames as u64);
    }

    /// Notes frames that an instance took after they had waited.
    pub fn released(&self, class: Class, frames: usize) {
        add(&self.released[usize::from(class.raw())], frames as u64);
    }

    /// Frames that waited, and those of them that were taken.
    pub fn read_parked(&self, class: Class) -> (u64, u64) {
        let at = usize::from(class.raw());
        (self.parked[at].load(Relaxed), self.released[at].load(Relaxed))
    }

    /// Frames and bytes that came in.
    pub fn read_received(&self, bucket: Bucket) -> (u64, u64) {
        let at = bucket.index();
        (self.received[at].load(Relaxed), self.received_bytes[at].load(Relaxed))
    }

    /// Frames that ended in an outcome.
    pub fn read_ended(&self, bucket: Bucket, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize * BUCKETS + bucket.index()].load(Relaxed)
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counter {
    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        add(&self.0, 1);
    }

    /// What it stands at.
    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed) + n, Relaxed);
}

const CLASSES: usize = 1 << 8;
