//! How long to wait before trying a router again: exponential, with full jitter, so that a
//! thousand nodes that lost the same router don't come back in the same millisecond.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The delays of one outage.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
    /// What the router asked for; taken for the next delay alone.
    asked: Option<Duration>,
}

impl Backoff {
    /// Delays whose ceilings grow from `min` to `max`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, attempt: 0, asked: None }
    }

    /// Starts over after a connection was made.
    pub fn reset(&mut self) {
        self.attempt = 0;
        self.asked = None;
    }

    /// The next delay is the one that a router asked for, which spreads its nodes itself.
    pub fn ask(&mut self, delay: Duration) {
        self.asked = Some(delay);
    }

    /// How many delays there have been in this outage.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The next delay: anything from nothing up to a ceiling that doubles each time. `random` is
    /// any number; each is as likely as the others.
    pub fn next(&mut self, random: u64) -> Duration {
        let ceiling = self.min.saturating_mul(1 << self.attempt.min(20)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        match self.asked.take() {
            Some(delay) => delay,
            None => jitter(ceiling, random),
        }
    }
}

/// Anything from nothing up to `most`, by any number of which each is as likely as the others.
pub(crate) fn jitter(most: Duration, random: u64) -> Duration {
    most.mul_f64(random as f64 / u64::MAX as f64)
}

/// A number that is as likely as any other.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let mut backoff = Backoff::new(MIN, MAX);
        let ceilings: Vec<u128> = (0..8).map(|_| backoff.next(u64::MAX).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn the_delay_is_spread_over_the_whole_range() {
        assert_eq!(Backoff::new(MIN, MAX).next(0), Duration::ZERO);
        let half = Backoff::new(MIN, MAX).next(u64::MAX / 2);
        assert!(half.abs_diff(MIN / 2) < Duration::from_millis(1), "{half:?}");
    }

    #[test]
    fn an_endless_outage_does_not_overflow() {
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..100 {
            assert!(backoff.next(u64::MAX) <= MAX);
        }
    }

    #[test]
    fn what_the_router_asks_for_is_taken_once() {
        let mut backoff = Backoff::new(MIN, MAX);
        backoff.ask(Duration::from_secs(30));
        assert_eq!(backoff.next(u64::MAX), Duration::from_secs(30));
        assert_eq!(backoff.next(u64::MAX), Duration::from_millis(200));
    }

    #[test]
    fn a_connection_starts_over() {
        let mut backoff = Backoff::new(MIN, MAX);
        backoff.next(0);
        backoff.next(0);
        backoff.reset();
        assert_eq!((backoff.attempt(), backoff.next(u64::MAX)), (0, MIN));
    }
}
