//! When which timer is due. Pure: the time comes from outside, and what a timer does is its owner's.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// The timers that are set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// By time, and of one time in the order in which they were set.
    due: BTreeSet<(Instant, u64)>,
    set: HashMap<u64, Timer>,
}

#[derive(Debug, Clone, Copy)]
struct Timer {
    at: Instant,
    /// None for those that go off once.
    period: Option<Duration>,
}

/// A timer that goes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) id: u64,
    pub(crate) is_last: bool,
}

impl Timers {
    /// Sets a timer. Ids are the caller's, and differ.
    pub(crate) fn set(&mut self, id: u64, at: Instant, period: Option<Duration>) {
        self.due.insert((at, id));
        self.set.insert(id, Timer { at, period });
    }

    /// Whether there was such a timer.
    pub(crate) fn cancel(&mut self, id: u64) -> bool {
        match self.set.remove(&id) {
            Some(timer) => self.due.remove(&(timer.at, id)),
            None => false,
        }
    }

    #[cfg(feature = "runner")]
    pub(crate) fn is_set(&self, id: u64) -> bool {
        self.set.contains_key(&id)
    }

    /// The next timer that goes off by now. One that repeats is set again, a period after it was due, or
    /// where that is over as well, after now: it does not catch up on what it missed.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Due> {
        let (at, id) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, id));
        let period = self.set.get(&id).and_then(|timer| timer.period);
        match period {
            Some(period) => {
                let next = at + period;
                self.set(id, if next > now { next } else { now + period }, Some(period));
            }
            None => drop(self.set.remove(&id)),
        }
        Some(Due { id, is_last: period.is_none() })
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn popped(timers: &mut Timers, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| timers.pop(now)).map(|due| due.id).collect()
    }

    #[test]
    fn timers_go_off_by_time_and_of_one_time_in_the_order_set() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.set(1, now + 20 * MS, None);
        timers.set(2, now + 10 * MS, None);
        timers.set(3, now + 10 * MS, None);
        assert_eq!(timers.next(), Some(now + 10 * MS));
        assert!(popped(&mut timers, now + 9 * MS).is_empty());
        assert_eq!(popped(&mut timers, now + 10 * MS), [2, 3]);
        assert_eq!(popped(&mut timers, now + 30 * MS), [1]);
        assert_eq!((timers.next(), timers.len()), (None, 0));
    }

    #[test]
    fn a_cancelled_timer_does_not_go_off() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.set(1, now, Some(MS));
        assert!(timers.cancel(1));
        assert!(!timers.cancel(1));
        assert!(popped(&mut timers, now + MS).is_empty());
    }

    #[test]
    fn a_repeating_timer_keeps_its_beat_and_does_not_catch_up() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.set(1, now + 10 * MS, Some(10 * MS));
        assert_eq!(popped(&mut timers, now + 13 * MS), [1]);
        assert_eq!(timers.next(), Some(now + 20 * MS), "the beat, not 13 + 10");
        assert_eq!(popped(&mut timers, now + 55 * MS), [1], "once, not four times");
        assert_eq!(timers.next(), Some(now + 65 * MS));
    }
}
