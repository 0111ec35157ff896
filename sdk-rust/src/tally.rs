//! What is counted while the node works: for each direction a table of meters, by class and method.
//!
//! A table only grows and has a fixed number of places, so finding a meter takes no lock and
//! allocates nothing. [`crate::stats`] makes of it what programs read.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use ahash::RandomState;
use switchboard_protocol::Class;

use crate::meter::{Key, Meter};

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

/// A power of two that leaves room for the entries which [`MAX_METHODS`] does not count.
const PLACES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::What;
    use crate::outcome::Outcome;

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
}
