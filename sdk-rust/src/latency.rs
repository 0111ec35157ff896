//! How long things took: buckets that threads count in, and the copy of them that programs read.
//!
//! The buckets are log-linear, as in HDR histograms: 16 to each power of two of microseconds, so a
//! value is known to a sixteenth of itself, from 1 us to 71 minutes, in 464 numbers.
//!
//! ```text
//! bucket    0   1  ..  15   16   17  ..   31    32 ..    47    ..   463
//! from us   0   1      15   16   17       31    32       62         31 << 27
//! width     1   1       1    1    1        1     2        2         1 << 27
//! ```

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The live buckets. Counting is three relaxed additions.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
    longest: AtomicU64,
}

/// How long calls took, or handlers; from [`MethodStats`](crate::MethodStats).
///
/// Quantiles are right to a sixteenth, and never too small. See [`Node::stats`](crate::Node::stats)
/// for an example.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latency {
    /// Up to the last bucket that is not empty.
    buckets: Vec<u64>,
    nanos: u64,
    longest: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            nanos: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        }
    }

    pub(crate) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos / 1000)].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
        if nanos > self.longest.load(Relaxed) {
            self.longest.fetch_max(nanos, Relaxed);
        }
    }

    /// A copy. What is counted meanwhile may be in one of its numbers and not yet in another.
    pub(crate) fn read(&self) -> Latency {
        let mut buckets: Vec<u64> = self.buckets.iter().map(|count| count.load(Relaxed)).collect();
        let used = buckets.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        buckets.truncate(used);
        buckets.shrink_to_fit();
        let (nanos, longest) = (self.nanos.load(Relaxed), self.longest.load(Relaxed));
        Latency { buckets, nanos, longest }
    }
}

impl Latency {
    /// How many were timed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all times.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// The mean; 0 if nothing was timed.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.nanos.checked_div(self.count()).unwrap_or(0))
    }

    /// The longest, exactly.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// Half took no longer than this.
    #[must_use]
    pub fn p50(&self) -> Duration {
        self.quantile(0.5)
    }

    /// Nine in ten took no longer than this.
    #[must_use]
    pub fn p90(&self) -> Duration {
        self.quantile(0.9)
    }

    /// All but one in a hundred took no longer than this.
    #[must_use]
    pub fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    /// The time that this part of all, from 0 to 1, was not longer than; 0 if nothing was timed.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let rank = (self.count() as f64 * part.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        // The last bucket has no end of its own.
        let ends = |found: usize| match found {
            LAST => self.max(),
            _ => Duration::from_micros(start(found + 1)).min(self.max()),
        };
        found.map_or(Duration::ZERO, ends)
    }

    /// Adds what another one counted, such as that of the same method in another class.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, count)| *sum += count);
        self.nanos = self.nanos.saturating_add(other.nanos);
        self.longest = self.longest.max(other.longest);
    }

    /// How many took less than 2^`power` us, for powers below 32. Powers of two are edges of buckets, so it is exact.
    #[cfg(any(test, feature = "prometheus"))]
    pub(crate) fn below(&self, power: u32) -> u64 {
        self.buckets.iter().take(bucket(1 << power)).sum()
    }
}

/// Where a number of microseconds is counted.
fn bucket(micros: u64) -> usize {
    if micros < PARTS {
        return micros as usize;
    }
    let shift = micros.ilog2() - PARTS.ilog2();
    let group = u64::from(shift) * PARTS;
    usize::try_from(group + (micros >> shift)).map_or(LAST, |bucket| bucket.min(LAST))
}

/// The fewest microseconds that are counted in a bucket.
fn start(bucket: usize) -> u64 {
    let (group, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    match group {
        0 => part,
        _ => (PARTS + part) << (group - 1),
    }
}

/// Buckets to a power of two.
const PARTS: u64 = 16;

/// Up to 2^32 us.
const BUCKETS: usize = 29 * PARTS as usize;

const LAST: usize = BUCKETS - 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of all sizes, the same each time.
    fn times() -> impl Iterator<Item = u64> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Up to 2^41 ns, 36 minutes.
            (state >> 23) >> (state % 41)
        })
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list_to_a_sixteenth_and_never_less() {
        for size in [1, 2, 3, 10, 99, 1000, 10_000] {
            let histogram = Histogram::new();
            let mut model: Vec<u64> = times().take(size).collect();
            model.iter().for_each(|nanos| histogram.record(Duration::from_nanos(*nanos)));
            model.sort_unstable();
            let latency = histogram.read();
            for percent in [0, 1, 25, 50, 90, 99, 100] {
                let rank = (size * percent).div_ceil(100).max(1);
                let exact = model[rank - 1];
                let told = latency.quantile(percent as f64 / 100.0).as_nanos() as u64;
                let most = exact + exact / 16 + 1000;
                assert!((exact..=most).contains(&told), "{size}, {percent}%: {exact} {told}");
            }
            assert_eq!(latency.count(), size as u64);
            assert_eq!(latency.total().as_nanos() as u64, model.iter().sum::<u64>());
            assert_eq!(latency.max().as_nanos() as u64, model[size - 1]);
        }
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for index in 0..BUCKETS {
            let (from, next) = (start(index), start(index + 1));
            assert!(from < next);
            assert_eq!((bucket(from), bucket(next - 1)), (index, index), "{from}..{next}");
        }
        assert_eq!((start(BUCKETS), bucket(u64::MAX)), (1 << 32, LAST));
    }

    #[test]
    fn counts_below_a_power_of_two_are_exact() {
        let histogram = Histogram::new();
        let model: Vec<u64> = times().take(5000).collect();
        model.iter().for_each(|nanos| histogram.record(Duration::from_nanos(*nanos)));
        let latency = histogram.read();
        for power in 0..32 {
            let exact = model.iter().filter(|nanos| *nanos / 1000 < 1 << power).count();
            assert_eq!(latency.below(power), exact as u64, "2^{power} us");
        }
    }

    #[test]
    fn what_is_off_the_scale_is_counted_and_its_maximum_kept() {
        let histogram = Histogram::new();
        let day = Duration::from_secs(86_400);
        histogram.record(day);
        let latency = histogram.read();
        assert_eq!((latency.count(), latency.p50(), latency.max()), (1, day, day));
        assert_eq!(Latency::default().p99(), Duration::ZERO);
    }

    #[test]
    fn merged_is_as_if_counted_in_one() {
        let (one, two, both) = (Histogram::new(), Histogram::new(), Histogram::new());
        for (index, nanos) in times().take(1000).enumerate() {
            let part = if index % 3 == 0 { &one } else { &two };
            part.record(Duration::from_nanos(nanos));
            both.record(Duration::from_nanos(nanos));
        }
        let mut sum = one.read();
        sum.merge(&two.read());
        assert_eq!(sum, both.read());
    }
}
