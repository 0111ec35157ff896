//! How long something took, by fixed bounds from 10 us to 10 s. One thread adds, a scrape sums.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::add;

/// One thread's durations.
#[derive(Debug, Default)]
pub struct Latency {
    /// By the first bound that is not exceeded, and the last for what exceeds all.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    total_ns: AtomicU64,
}

/// The durations of all threads.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Durations {
    /// Each bound in seconds, and how many were not longer.
    pub below: Vec<(f64, u64)>,
    /// How many there were.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
}

impl Latency {
    /// Adds one.
    pub fn record(&self, took: Duration) {
        let us = took.as_micros();
        let place = BOUNDS_US.partition_point(|bound| u128::from(*bound) < us);
        add(&self.counts[place], 1);
        add(&self.total_ns, took.as_nanos() as u64);
    }

    /// Those of several threads together.
    pub fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Durations {
        let mut counts = [0; BOUNDS_US.len() + 1];
        let mut total_ns = 0;
        for one in all {
            for (sum, count) in counts.iter_mut().zip(&one.counts) {
                *sum += count.load(Relaxed);
            }
            total_ns += one.total_ns.load(Relaxed);
        }
        let mut count = 0;
        let below = BOUNDS_US.iter().zip(&counts).map(|(bound, more)| {
            count += more;
            (*bound as f64 / 1e6, count)
        });
        let below = below.collect();
        Durations { below, count: counts.iter().sum(), sum: total_ns as f64 / 1e9 }
    }
}

const BOUNDS_US: [u64; 19] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_a_bound_is_not_above_it_and_what_exceeds_all_is_counted() {
        let (one, other) = (Latency::default(), Latency::default());
        one.record(Duration::from_micros(10));
        one.record(Duration::from_micros(11));
        other.record(Duration::from_secs(10));
        other.record(Duration::from_secs(11));
        let durations = Latency::sum([&one, &other].into_iter());
        assert_eq!(durations.below.first(), Some(&(0.000_01, 1)));
        assert_eq!(durations.below.get(1), Some(&(0.000_025, 2)));
        assert_eq!(durations.below.last(), Some(&(10.0, 3)));
        assert_eq!(durations.count, 4);
        assert!((durations.sum - 21.000_021).abs() < 1e-9, "{}", durations.sum);
    }
}
