//! Latencies in microseconds, as they are collected in one process and merged in another.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// How long something took, many times over.
#[derive(Debug, Clone)]
pub struct Latency {
    histogram: Option<Histogram<u64>>,
}

/// The same as it travels: value and count of each step that is not empty.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sketch(Vec<(u64, u64)>);

impl Latency {
    /// Nothing yet.
    pub fn new() -> Self {
        // The bounds are constants that the histogram takes.
        Self { histogram: Histogram::new_with_bounds(1, LONGEST, DIGITS).ok() }
    }

    /// Notes one.
    pub fn record(&mut self, micros: u64) {
        self.record_n(micros, 1);
    }

    /// Takes another's in.
    pub fn merge(&mut self, sketch: &Sketch) {
        for (value, count) in &sketch.0 {
            self.record_n(*value, *count);
        }
    }

    /// What was noted since the last time.
    pub fn take(&mut self) -> Sketch {
        let Some(histogram) = &mut self.histogram else { return Sketch::default() };
        let steps = histogram.iter_recorded();
        let sketch = steps.map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
        histogram.reset();
        Sketch(sketch)
    }

    /// The time within which so much of it was done, in microseconds; none if nothing was noted.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let histogram = self.histogram.as_ref().filter(|histogram| !histogram.is_empty())?;
        Some(histogram.value_at_quantile(quantile))
    }

    fn record_n(&mut self, micros: u64, count: u64) {
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record_n(micros.max(1), count);
        }
    }
}

/// One minute; longer ones count as that.
const LONGEST: u64 = 60_000_000;
/// How many digits of a value are kept.
const DIGITS: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_in_parts_is_the_same_in_sum() {
        let (mut sender, mut receiver) = (Latency::new(), Latency::new());
        assert_eq!(receiver.quantile(0.5), None);
        for micros in 1..=100 {
            sender.record(micros);
            if micros % 30 == 0 {
                receiver.merge(&sender.take());
            }
        }
        receiver.merge(&sender.take());
        assert_eq!(receiver.quantile(0.5), Some(50));
        assert_eq!(receiver.quantile(0.99), Some(99));
    }
}
