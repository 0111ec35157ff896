//! What each thread counts, and the words for it.
//!
//! A thread adds to its own counters only, so an addition is a load and a store without a lock; a
//! scrape sums over the threads. Counting happens per run of frames, not per frame.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use switchboard_protocol::{Class, Kind, Mode, Reason};

use crate::flows::Flows;

/// Where a frame, or one copy of a broadcast, ended. Each ends in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// Written to the target's socket.
    Delivered,
    /// The class has no live instance.
    NoInstance,
    /// No session holds the id.
    NotFound,
    /// The fixed slot is empty.
    EmptySlot,
    /// The mailbox was full.
    Full,
    /// It made room for a newer one.
    Evicted,
    /// The target's session ended before it was written.
    TargetLost,
    /// The sender's session ended while the frame waited for a full mailbox.
    SourceLost,
    /// Longer than the limit.
    TooLarge,
    /// Its source is not an id of the session that sent it.
    Refused,
    /// It waited for an instance for as long as it may.
    Expired,
}

/// A class and a mode, as an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(u16);

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
    /// Who talks to whom.
    pub flows: Flows,
}

/// A number that only its own thread adds to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Frames by bucket. Most mailboxes only ever see one bucket, which needs no memory of its own.
#[derive(Debug, Default)]
pub struct Tally {
    first: Option<(Bucket, u32)>,
    rest: Vec<(Bucket, u32)>,
}

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Delivered,
        Self::NoInstance,
        Self::NotFound,
        Self::EmptySlot,
        Self::Full,
        Self::Evicted,
        Self::TargetLost,
        Self::SourceLost,
        Self::TooLarge,
        Self::Refused,
        Self::Expired,
    ];

    /// The word for it in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::NoInstance => "no_instance",
            Self::NotFound => "not_found",
            Self::EmptySlot => "empty_slot",
            Self::Full => "full",
            Self::Evicted => "evicted",
            Self::TargetLost => "target_lost",
            Self::SourceLost => "source_lost",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

impl From<Reason> for Outcome {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Delivered => Self::Delivered,
            Reason::NoInstance => Self::NoInstance,
            Reason::EmptySlot => Self::EmptySlot,
            Reason::Full => Self::Full,
            Reason::Evicted => Self::Evicted,
            Reason::TargetLost => Self::TargetLost,
            Reason::TooLarge => Self::TooLarge,
            Reason::Expired => Self::Expired,
            _ => Self::NotFound,
        }
    }
}

impl Bucket {
    /// The bucket of a data frame's mode and target.
    #[inline]
    pub const fn new(mode: Mode, target: u32) -> Self {
        Self(((target >> 24) << 3) as u16 | mode as u16)
    }

    /// The bucket of a frame's header, if it is a data frame.
    pub fn of(kind: Kind, target: u32) -> Option<Self> {
        match kind {
            Kind::Data(mode) => Some(Self::new(mode, target)),
            _ => None,
        }
    }

    /// The class that its frames are for.
    #[inline]
    pub fn class(self) -> Option<Class> {
        Class::of_target(u32::from(self.0) << 21)
    }

    /// Whether it is that of broadcasts.
    #[inline]
    pub const fn is_broadcast(self) -> bool {
        self.0 & 7 == Mode::Broadcast as u16
    }

    /// All buckets that a frame can have.
    pub fn all() -> impl Iterator<Item = (Class, Mode, Self)> {
        (1..=u8::MAX).flat_map(|class| {
            let class = Class::of(class);
            Mode::ALL.into_iter().map(move |mode| (class, mode, Self::new(mode, class.as_target())))
        })
    }
}

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
            flows: Flows::default(),
        }
    }

    /// Notes frames that came in.
    #[inline]
    pub fn received(&self, bucket: Bucket, frames: u32, bytes: usize) {
        add(&self.received[usize::from(bucket.0)], frames.into());
        add(&self.received_bytes[usize::from(bucket.0)], bytes as u64);
    }

    /// Notes where frames ended.
    #[inline]
    pub fn ended(&self, bucket: Bucket, outcome: Outcome, frames: u32) {
        add(&self.outcomes[outcome as usize * BUCKETS + usize::from(bucket.0)], frames.into());
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
        let at = usize::from(bucket.0);
        (self.received[at].load(Relaxed), self.received_bytes[at].load(Relaxed))
    }

    /// Frames that ended in an outcome.
    pub fn read_ended(&self, bucket: Bucket, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize * BUCKETS + usize::from(bucket.0)].load(Relaxed)
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

impl Tally {
    /// Adds frames of a bucket.
    #[inline]
    pub fn add(&mut self, bucket: Bucket, frames: u32) {
        match &mut self.first {
            Some((known, count)) if *known == bucket => *count += frames,
            None => self.first = Some((bucket, frames)),
            Some(_) => match self.rest.iter_mut().find(|(known, _)| *known == bucket) {
                Some((_, count)) => *count += frames,
                None => self.rest.push((bucket, frames)),
            },
        }
    }

    /// Takes frames of a bucket off.
    pub fn subtract(&mut self, bucket: Bucket, frames: u32) {
        let mut all = self.first.iter_mut().chain(&mut self.rest);
        if let Some((_, count)) = all.find(|(known, _)| *known == bucket) {
            *count = count.saturating_sub(frames);
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: Self) {
        for (bucket, frames) in other.into_iter() {
            self.add(bucket, frames);
        }
    }

    /// Everything in it.
    pub fn into_iter(self) -> impl Iterator<Item = (Bucket, u32)> {
        self.first.into_iter().chain(self.rest)
    }
}

#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed) + n, Relaxed);
}

/// 256 classes, and 8 modes of which 6 are used.
const BUCKETS: usize = 1 << 11;
const CLASSES: usize = 1 << 8;
