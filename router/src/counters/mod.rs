//! What each thread counts, and the words for it.
//!
//! A thread adds to its own counters only, so an addition is a load and a store without a lock; a
//! scrape sums over the threads. Counting happens per run of frames, not per frame.
//!
//! - [`bucket`]: what frames count as, a class and a mode; [`outcome`]: where they may end;
//! - [`flows`]: what came in, by who sent it; [`meter`]: frames and bytes side by side;
//! - [`endings`]: how sessions end, and why handshakes fail; [`latency`]: how long something took.

mod bucket;
mod endings;
mod flows;
mod latency;
mod meter;
mod outcome;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use switchboard_protocol::Class;

use self::bucket::BUCKETS;
pub use self::bucket::{Bucket, Tally, Volume};
pub use self::endings::{HandshakeFailure, SessionEnd};
pub use self::flows::{Flow, Flows};
pub use self::latency::{Durations, Latency};
pub use self::meter::Meter;
pub use self::outcome::Outcome;

/// One thread's counters.
#[derive(Debug)]
pub struct Counters {
    /// What came in, by who sent it.
    pub flows: Flows,
    ended: Box<[Meter]>,
    parked: Box<[AtomicU64]>,
    released: Box<[AtomicU64]>,
    /// Reads that brought bytes.
    pub reads: Counter,
    /// Writes that took bytes.
    pub writes: Counter,
    /// From the read of a batch to the write of its last byte, of those batches that are sampled.
    pub read_to_write: Latency,
    /// Times that a sender was stopped by a full mailbox, and that one was let go again.
    pub pauses: Counter,
    /// See [`Self::pauses`].
    pub resumes: Counter,
    /// Connections that were accepted.
    pub connections: Counter,
    /// Times that the system gave no connection though one was there.
    pub accept_failures: Counter,
    /// Heartbeats that did not come in time.
    pub heartbeats_missed: Counter,
    session_ends: [Counter; SessionEnd::ALL.len()],
    handshake_failures: [Counter; HandshakeFailure::COUNT],
}

/// A number that only its own thread adds to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counters {
    /// All zero.
    pub fn new() -> Self {
        let zeros = |len: usize| (0..len).map(|_| AtomicU64::new(0)).collect();
        Self {
            flows: Flows::default(),
            ended: (0..BUCKETS * Outcome::ALL.len()).map(|_| Meter::default()).collect(),
            parked: zeros(CLASSES),
            released: zeros(CLASSES),
            reads: Counter::default(),
            writes: Counter::default(),
            read_to_write: Latency::default(),
            pauses: Counter::default(),
            resumes: Counter::default(),
            connections: Counter::default(),
            accept_failures: Counter::default(),
            heartbeats_missed: Counter::default(),
            session_ends: Default::default(),
            handshake_failures: Default::default(),
        }
    }

    /// Notes where frames ended.
    #[inline]
    pub fn ended(&self, bucket: Bucket, outcome: Outcome, volume: Volume) {
        self.ended[outcome as usize * BUCKETS + bucket.index()].add(volume);
    }

    /// Notes frames that began to wait for an instance.
    pub fn parked(&self, class: Class, frames: usize) {
        add(&self.parked[usize::from(class.raw())], frames as u64);
    }

    /// Notes frames that an instance took after they had waited.
    pub fn released(&self, class: Class, frames: usize) {
        add(&self.released[usize::from(class.raw())], frames as u64);
    }

    /// Notes how a session ended.
    pub fn session_ended(&self, end: SessionEnd) {
        self.session_ends[end as usize].increment();
    }

    /// Notes why a connection was not admitted.
    pub fn handshake_failed(&self, failure: HandshakeFailure) {
        self.handshake_failures[failure.index()].increment();
    }

    /// How many sessions ended so.
    pub fn read_session_ends(&self, end: SessionEnd) -> u64 {
        self.session_ends[end as usize].read()
    }

    /// How many handshakes failed for this.
    pub fn read_handshake_failures(&self, failure: HandshakeFailure) -> u64 {
        self.handshake_failures[failure.index()].read()
    }

    /// Frames that waited, and those of them that were taken.
    pub fn read_parked(&self, class: Class) -> (u64, u64) {
        let at = usize::from(class.raw());
        (self.parked[at].load(Relaxed), self.released[at].load(Relaxed))
    }

    /// Frames and bytes that ended in an outcome.
    pub fn read_ended(&self, bucket: Bucket, outcome: Outcome) -> (u64, u64) {
        self.ended[outcome as usize * BUCKETS + bucket.index()].read()
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

    /// Adds several.
    pub fn add(&self, n: u64) {
        add(&self.0, n);
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
