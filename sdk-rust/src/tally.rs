//! What is counted while the node works: for each direction a table of meters, by class and method.
//!
//! A table only grows and has a fixed number of places, so finding a meter takes no lock and
//! allocates nothing, and counting is an addition. [`crate::stats`] makes of it what programs read.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ahash::RandomState;
use switchboard_protocol::Class;
use tokio::time::Instant;

use crate::error::CallError;
use crate::latency::{Histogram, Latency};
use crate::outcome::{Outcome, Outcomes};
use crate::sharded::Sharded;

/// The meters of a node.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// What goes out, by the class that it is for.
    pub(crate) called: Table,
    /// What comes in, by the class that it is from.
    pub(crate) served: Table,
}

/// The meters of one direction.
pub(crate) struct Table {
    /// Open addressing: a meter lies at its hash, or in the first place behind that was free.
    places: Box<[OnceLock<Arc<Meter>>]>,
    /// How many have a name that is not [`RAW`] and not [`OTHER`].
    named: AtomicUsize,
    /// So that nobody can choose names which all lie in one place.
    seed: u64,
}

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
struct Key {
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

impl Table {
    /// The meter of a method. Names that `may_be_named` says no to, and those for which there is no
    /// room, share one of each class.
    pub(crate) fn meter(
        &self,
        class: Class,
        method: &str,
        may_be_named: impl FnOnce() -> bool,
    ) -> &Arc<Meter> {
        match self.find(class, method) {
            Some(meter) => meter,
            None if matches!(method, RAW | OTHER) => self.enter(class, method, false),
            None if self.named.load(Relaxed) < MAX_METHODS && may_be_named() => {
                self.enter(class, method, true)
            }
            None => self.enter(class, OTHER, false),
        }
    }

    /// All meters, in no order.
    pub(crate) fn meters(&self) -> impl Iterator<Item = &Meter> {
        self.places.iter().filter_map(|place| place.get().map(Arc::as_ref))
    }

    fn find(&self, class: Class, method: &str) -> Option<&Arc<Meter>> {
        let key = Key::of(class, method);
        for place in self.chain(key) {
            let meter = place.get()?;
            if meter.is(key, method) {
                return Some(meter);
            }
        }
        None
    }

    fn enter(&self, class: Class, method: &str, is_named: bool) -> &Arc<Meter> {
        let key = Key::of(class, method);
        let new = || {
            self.named.fetch_add(usize::from(is_named), Relaxed);
            Arc::new(Meter::new(class, method))
        };
        self.chain(key)
            .map(|place| place.get_or_init(new))
            .find(|meter| meter.is(key, method))
            // INVARIANT: two entries of each class, `MAX_METHODS`, and one more for each thread that
            // saw the last room at the same time, are fewer than `PLACES`.
            .expect("there are more places than entries")
    }

    /// The places where a meter may be, in order.
    fn chain(&self, key: Key) -> impl Iterator<Item = &OnceLock<Arc<Meter>>> {
        let first = key.hash(self.seed) as usize;
        (0..PLACES).map(move |step| &self.places[first.wrapping_add(step) % PLACES])
    }
}

impl Meter {
    fn new(class: Class, method: &str) -> Self {
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

    fn is(&self, key: Key, method: &str) -> bool {
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
    fn of(class: Class, method: &str) -> Self {
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

    fn hash(self, seed: u64) -> u64 {
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

/// Adds eight bytes of a name.
fn mix_in(state: u64, bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(state, |word| mix(state, u64::from_le_bytes(*word)))
}

/// Spreads what two numbers say over all bits of one.
fn mix(one: u64, other: u64) -> u64 {
    let product = u128::from(one ^ other) * u128::from(MULTIPLIER);
    product as u64 ^ (product >> 64) as u64
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

impl Default for Table {
    fn default() -> Self {
        let places = (0..PLACES).map(|_| OnceLock::new()).collect();
        Self { places, named: AtomicUsize::new(0), seed: RandomState::new().hash_one(PLACES) }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("named", &self.named).finish_non_exhaustive()
    }
}

/// The method of payloads that have none.
pub(crate) const RAW: &str = "";

/// Stands for the methods that have no entry of their own.
pub(crate) const OTHER: &str = "other";

/// How many methods have entries of their own, in each direction; those of different classes are
/// different methods.
pub(crate) const MAX_METHODS: usize = 1024;

/// Odd, with its bits well spread.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A power of two that leaves room for the entries which [`MAX_METHODS`] does not count.
const PLACES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: Class = Class::of(5);

    #[test]
    fn each_class_and_method_has_its_meter_and_keeps_it() {
        let table = Table::default();
        let long = "x".repeat(40);
        let other = long.replacen("xxxxxxxx", "xxxxxxxy", 1);
        let middle = format!("{}y{}", &long[..20], &long[21..]);
        let names = [(5, "a"), (5, "b"), (6, "a"), (5, "ab"), (5, "ba"), (5, "four"), (5, "fours")];
        let more = [(5, "sixteen_bytes_ab"), (5, "sixteen_bytes_ba"), (5, &long), (5, &other)];
        let names: Vec<(u8, &str)> = [&names[..], &more, &[(5, &middle), (5, RAW)]].concat();
        for round in 1..=2 {
            for (class, method) in &names {
                let meter = table.meter(Class::of(*class), method, || true);
                assert_eq!((meter.class.raw(), &*meter.method), (*class, *method));
                meter.retried();
                assert_eq!(meter.retries(), round);
            }
        }
        assert_eq!(table.meters().count(), names.len());
    }

    #[test]
    fn names_are_bounded_and_every_class_has_its_other_and_its_raw_besides() {
        let table = Table::default();
        for number in 0..3 * MAX_METHODS {
            table.meter(CLASS, &number.to_string(), || true).ended(What::Message, Outcome::Ok);
        }
        for raw in 1..=255 {
            table.meter(Class::of(raw), "late", || true).retried();
            table.meter(Class::of(raw), RAW, || true).retried();
        }
        let others = table.meters().filter(|meter| *meter.method == *OTHER);
        let others: u64 = others.map(|meter| meter.messages().total()).sum();
        assert_eq!(others, 2 * MAX_METHODS as u64);
        assert_eq!(table.meters().count(), MAX_METHODS + 2 * 255);
    }

    #[test]
    fn threads_that_meet_at_a_new_name_count_in_one_meter() {
        let table = Table::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..500 {
                        let meter = table.meter(CLASS, &number.to_string(), || true);
                        meter.ended(What::Call, Outcome::Ok);
                    }
                });
            }
        });
        assert_eq!(table.meters().count(), 500);
        assert!(table.meters().all(|meter| meter.calls().0 == 4));
    }

    #[test]
    fn what_is_dropped_counts_as_cancelled_and_is_not_timed() {
        let table = Table::default();
        let meter = table.meter(CLASS, "a", || true);
        let begun = meter.begin(What::Call, Instant::now());
        assert_eq!((meter.in_flight(), meter.calls().0, meter.calls().1.total()), (1, 1, 0));
        drop(begun);
        assert_eq!((meter.in_flight(), meter.calls().1.count(Outcome::Cancelled)), (0, 1));
        assert_eq!(meter.latency().count(), 0);
        meter.begin(What::Message, Instant::now()).end(Outcome::Remote);
        assert_eq!((meter.messages().count(Outcome::Remote), meter.latency().count()), (1, 1));
    }
}
