//! What is counted of one method in one direction. Counting is an addition, from any thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use switchboard_protocol::Class;
use tokio::time::Instant;

use crate::error::CallError;
use crate::latency::{Histogram, Latency};
use crate::outcome::{Outcome, Outcomes};
use crate::sharded::Sharded;

/// What is counted of one method.
#[derive(Debug)]
pub(crate) struct Meter {
    key: Key,
    pub(crate) class: Class,
    pub(crate) method: Arc<str>,
    /// Messages that ended well: most of what is counted.
    delivered: Sharded,
    messages: Counts,
    calls: Counts,
    begun: AtomicU64,
    in_flight: AtomicU64,
    retries: AtomicU64,
    /// Only where something is timed: most of a meter's size.
    latency: OnceLock<Box<Histogram>>,
}

/// Class and method in three numbers, which are compared in place of a text: they say all of a name
/// of up to 16 bytes, and tell longer ones apart unless by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    class_and_length: u64,
    head: u64,
    tail: u64,
}

#[derive(Debug, Default)]
struct Counts([AtomicU64; Outcome::ALL.len()]);

/// Whether an answer is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Call,
    Message,
}

/// A call, or a message with its handler, that has begun. It is counted as cancelled if it is
/// dropped.
#[derive(Debug)]
#[must_use = "what is dropped counts as cancelled"]
pub(crate) struct Begun {
    meter: Arc<Meter>,
    what: What,
    since: Instant,
    outcome: Outcome,
}

impl Meter {
    pub(crate) fn new(class: Class, method: &str) -> Self {
        Self {
            key: Key::of(class, method),
            class,
            method: method.into(),
            delivered: Sharded::default(),
            messages: Counts::default(),
            calls: Counts::default(),
            begun: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            latency: OnceLock::new(),
        }
    }

    /// Whether it is the meter of a method.
    pub(crate) fn is(&self, key: Key, method: &str) -> bool {
        self.key == key && (method.len() <= 16 || *self.method == *method)
    }

    /// Counts what is under way since then, and on until it ends.
    pub(crate) fn begin(self: &Arc<Self>, what: What, since: Instant) -> Begun {
        self.in_flight.fetch_add(1, Relaxed);
        if what == What::Call {
            self.begun.fetch_add(1, Relaxed);
        }
        Begun { meter: Arc::clone(self), what, since, outcome: Outcome::Cancelled }
    }

    /// Counts what ended where it began.
    pub(crate) fn ended(&self, what: What, outcome: Outcome) {
        if what == What::Call {
            self.begun.fetch_add(1, Relaxed);
        }
        self.add(what, outcome);
    }

    /// Notes how long something took.
    pub(crate) fn took(&self, time: Duration) {
        self.latency.get_or_init(|| Box::new(Histogram::new())).record(time);
    }

    fn add(&self, what: What, outcome: Outcome) {
        match (what, outcome) {
            (What::Call, _) => self.calls.add(outcome),
            (What::Message, Outcome::Ok) => self.delivered.add_one(),
            (What::Message, _) => self.messages.add(outcome),
        }
    }

    /// Another copy of a call was sent.
    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn calls(&self) -> (u64, Outcomes) {
        (self.begun.load(Relaxed), self.calls.read())
    }

    pub(crate) fn messages(&self) -> Outcomes {
        let mut messages = self.messages.read();
        messages.counts[Outcome::Ok as usize] = self.delivered.sum();
        messages
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    pub(crate) fn latency(&self) -> Latency {
        self.latency.get().map(|histogram| histogram.read()).unwrap_or_default()
    }
}

impl Key {
    pub(crate) fn of(class: Class, method: &str) -> Self {
        let name = method.as_bytes();
        let class_and_length = (name.len() as u64) << 8 | u64::from(class.raw());
        let (head, tail) = if let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk())
        {
            // Up to 16 bytes they overlap.
            let (head, tail) = (u64::from_le_bytes(*head), u64::from_le_bytes(*tail));
            match name.len() {
                ..=16 => (head, tail),
                _ => (name[8..].chunks_exact(8).fold(head, mix_in), tail),
            }
        } else if let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk()) {
            (u32::from_le_bytes(*head).into(), u32::from_le_bytes(*tail).into())
        } else {
            (name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0)
        };
        Self { class_and_length, head, tail }
    }

    /// Where to look for it first.
    pub(crate) fn hash(self, seed: u64) -> u64 {
        mix(mix(seed ^ self.class_and_length, self.head), self.tail)
    }
}

impl Counts {
    fn add(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Relaxed);
    }

    fn read(&self) -> Outcomes {
        Outcomes { counts: std::array::from_fn(|place| self.0[place].load(Relaxed)) }
    }
}

impl Begun {
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let Self { meter, what, since, outcome } = self;
        if outcome.is_timed() {
            meter.took(since.elapsed());
        }
        meter.add(*what, *outcome);
        meter.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A call that is counted from when it is awaited. One for a name that is no class has no meter.
pub(crate) async fn counted<T>(
    meter: Option<Arc<Meter>>,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let begun = meter.map(|meter| meter.begin(What::Call, Instant::now()));
    let result = call.await;
    if let Some(begun) = begun {
        begun.end(Outcome::of_call(&result));
    }
    result
}

/// Adds eight bytes of a name.
fn mix_in(state: u64, bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(state, |word| mix(state, u64::from_le_bytes(*word)))
}

/// Spreads what two numbers say over all bits of one.
fn mix(one: u64, other: u64) -> u64 {
    let product = u128::from(one ^ other) * u128::from(MULTIPLIER);
    product as u64 ^ (product >> 64) as u64
}

/// Odd, with its bits well spread.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_counts_as_cancelled_and_is_not_timed() {
        let meter = Arc::new(Meter::new(Class::of(5), "a"));
        let begun = meter.begin(What::Call, Instant::now());
        assert_eq!((meter.in_flight(), meter.calls().0, meter.calls().1.total()), (1, 1, 0));
        drop(begun);
        assert_eq!((meter.in_flight(), meter.calls().1.count(Outcome::Cancelled)), (0, 1));
        assert_eq!(meter.latency().count(), 0);
        meter.begin(What::Message, Instant::now()).end(Outcome::Remote);
        assert_eq!((meter.messages().count(Outcome::Remote), meter.latency().count()), (1, 1));
    }
}
