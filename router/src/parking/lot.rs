//! One class's parking lot: its frames, its gate, and the instances that left lately.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use switchboard_protocol::{FixedHeader, Instance, Kind, Mode};

use super::{Parked, Refused};

/// The frames of one class that wait.
#[derive(Debug, Default)]
pub(super) struct Lot {
    pub(super) frames: VecDeque<Parked>,
    /// Of the frames, those that are taken out by a release among them.
    pub(super) count: usize,
    pub(super) bytes: usize,
    pub(super) gate: Gate,
    /// It shall be released.
    pub(super) due: bool,
    /// Nothing expires before this.
    pub(super) earliest: Option<Instant>,
    pub(super) left: Left,
}

/// What becomes of frames of the class that come now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Gate {
    /// Frames pass by those that wait.
    #[default]
    Open,
    /// They go in behind them.
    Closed,
    /// They go in behind them, whom a release has taken out.
    Releasing,
    /// The same, but none goes in until it is over.
    Locked,
}

/// The instances that left lately, and when.
#[derive(Debug, Default)]
pub(super) struct Left {
    when: HashMap<u32, Instant, ahash::RandomState>,
    order: VecDeque<(Instant, u32)>,
}

impl Lot {
    pub(super) fn add(&mut self, parked: Parked) {
        if let Some(until) = parked.until {
            self.earliest = Some(self.earliest.map_or(until, |earliest| earliest.min(until)));
        }
        self.count += 1;
        self.bytes += parked.len();
        self.frames.push_back(parked);
    }

    pub(super) fn add_unpicked(
        &mut self,
        frame: &[u8],
        lost: bool,
        bound: usize,
        now: Instant,
    ) -> Result<(), Refused> {
        // One frame may always wait, however long it is: it was read already.
        let room = self.bytes == 0 || self.bytes + frame.len() <= bound;
        if self.gate == Gate::Locked || !room {
            return Err(Refused::Full);
        }
        self.close();
        self.add(Parked { bytes: frame.into(), since: now, until: None, lost });
        Ok(())
    }

    pub(super) fn close(&mut self) {
        if self.gate == Gate::Open {
            self.gate = Gate::Closed;
        }
    }

    /// Whether a frame may wait here for its target at all.
    pub(super) fn knows(&self, header: &FixedHeader, now: Instant, patience: Duration) -> bool {
        let instance = header.target & Instance::MAX.raw();
        header.kind != Kind::Data(Mode::Direct) || self.left.since(instance, now, patience)
    }

    /// Whether an unpicked frame that finds nobody may wait on.
    pub(super) fn takes(
        &self,
        parked: &Parked,
        bytes: usize,
        bound: usize,
        now: Instant,
        patience: Duration,
    ) -> bool {
        // What an instance that left held had its place in the router already.
        let room = parked.lost || bytes + parked.len() <= bound;
        room && parked.header().is_some_and(|header| self.knows(&header, now, patience))
    }

    pub(super) fn expire(&mut self, now: Instant, expired: &mut Vec<Parked>) {
        let before = expired.len();
        let is_over = |parked: &Parked| parked.until.is_some_and(|until| until <= now);
        for parked in std::mem::take(&mut self.frames) {
            if is_over(&parked) {
                expired.push(parked);
            } else {
                self.frames.push_back(parked);
            }
        }
        let gone = &expired[before..];
        self.count -= gone.len();
        self.bytes -= gone.iter().map(Parked::len).sum::<usize>();
        self.earliest = self.frames.iter().filter_map(|parked| parked.until).min();
    }
}

impl Left {
    pub(super) fn add(&mut self, instance: u32, now: Instant) {
        if self.order.len() >= MOST_LEFT
            && let Some((when, oldest)) = self.order.pop_front()
        {
            self.drop_entry(oldest, when);
        }
        self.when.insert(instance, now);
        self.order.push_back((now, instance));
    }

    fn since(&self, instance: u32, now: Instant, patience: Duration) -> bool {
        self.when
            .get(&instance)
            .is_some_and(|when| now.saturating_duration_since(*when) <= patience)
    }

    pub(super) fn forget(&mut self, now: Instant, patience: Duration) {
        while let Some((when, instance)) = self.order.front().copied()
            && now.saturating_duration_since(when) > patience
        {
            self.order.pop_front();
            self.drop_entry(instance, when);
        }
    }

    /// It may have left again since.
    fn drop_entry(&mut self, instance: u32, when: Instant) {
        if self.when.get(&instance) == Some(&when) {
            self.when.remove(&instance);
        }
    }
}

/// How many instances that left a class remembers.
const MOST_LEFT: usize = 1 << 16;
