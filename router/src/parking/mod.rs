//! Frames that wait for an instance: one lot per class, in the order in which they came.
//!
//! A pure state machine: no socket, no lock, no clock of its own. `lots` is what the router's threads
//! share of it; `forward::again` picks the frames anew.
//!
//! A frame waits for one of two reasons. *Nobody* was there for it: it stays until its time is up or a
//! change of the class brings somebody. Or it is *unpicked*: it came back from an instance that left, or
//! it came behind such a frame. While a lot holds unpicked frames, or is being released, its gate is
//! closed: every frame of the class goes in behind, so that none overtakes.
//!
//! INVARIANT: while the gate is open, nobody in the table of [`Parking::version`] takes a parked frame.

mod lot;
pub(crate) mod lots;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard_protocol::{Class, FixedHeader, Reason, ServiceId};

use self::lot::{Gate, Lot};
use crate::policy::Policies;

/// The lots of all classes.
#[derive(Debug, Default)]
pub struct Parking {
    policies: Arc<Policies>,
    version: u64,
    lots: BTreeMap<Class, Lot>,
}

/// A frame that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    bytes: Box<[u8]>,
    since: Instant,
    /// Nobody was there for it; it may wait until then.
    until: Option<Instant>,
    /// It was in the mailbox of an instance that left.
    lost: bool,
}

/// Why a frame may not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The table it was picked from is not the latest, or its gate is not as it was: pick again.
    Stale,
    /// Its class lets none wait, or it is for an id that nobody had lately.
    Never,
    /// The lot is full.
    Full,
}

/// What became of a frame that was picked anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Somebody took it.
    Gone,
    /// Nobody is there for it, and why.
    Nobody(Reason),
    /// Its target is about to leave the table, and takes none any more.
    Stuck,
}

/// How a release ended.
#[derive(Debug, Default)]
pub struct Released {
    /// The frames that may not stay, and what their senders are told.
    pub bounced: Vec<(Parked, Reason)>,
    /// More came meanwhile: it goes on.
    pub again: bool,
}

impl Parking {
    /// Empty lots under these policies.
    #[must_use]
    pub fn new(policies: Arc<Policies>) -> Self {
        Self { policies, ..Self::default() }
    }

    /// The version of the table that was published last.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many frames of a class wait.
    #[must_use]
    pub fn len(&self, class: Class) -> usize {
        self.lots.get(&class).map_or(0, |lot| lot.count)
    }

    /// Whether none waits, of any class.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lots.values().all(|lot| lot.count == 0)
    }

    /// How many bytes they are.
    #[must_use]
    pub fn bytes(&self, class: Class) -> usize {
        self.lots.get(&class).map_or(0, |lot| lot.bytes)
    }

    /// The classes that have, or had, a lot.
    pub fn classes(&self) -> impl Iterator<Item = Class> {
        self.lots.keys().copied()
    }

    /// Whether frames of a class go in behind those that wait, whoever is there for them.
    #[must_use]
    pub fn is_gated(&self, class: Class) -> bool {
        self.lots.get(&class).is_some_and(|lot| lot.gate != Gate::Open)
    }

    /// Whether a class lets frames wait.
    #[must_use]
    pub fn parks(&self, class: Class) -> bool {
        self.policies.of(class).park_ms > 0
    }

    /// Takes a frame for which nobody was in the table of this version.
    pub fn park(&mut self, frame: &[u8], version: u64, now: Instant) -> Result<(), Refused> {
        let (header, class) = data(frame).ok_or(Refused::Never)?;
        let policy = self.policies.of(class);
        let lot = self.lots.entry(class).or_default();
        if version != self.version || lot.gate != Gate::Open {
            return Err(Refused::Stale);
        }
        let patience = Duration::from_millis(policy.park_ms);
        if patience.is_zero() || !lot.knows(&header, now, patience) {
            return Err(Refused::Never);
        }
        if lot.bytes + frame.len() > policy.park_bytes {
            return Err(Refused::Full);
        }
        let until = now + header.ttl().map_or(patience, |ttl| ttl.min(patience));
        lot.add(Parked { bytes: frame.into(), since: now, until: Some(until), lost: false });
        Ok(())
    }

    /// Takes a frame behind a gate that was seen closed.
    pub fn park_behind(&mut self, frame: &[u8], now: Instant) -> Result<(), Refused> {
        let (_, class) = data(frame).ok_or(Refused::Never)?;
        let bound = self.policies.of(class).park_bytes.max(LEAST_BOUND);
        let lot = self.lots.entry(class).or_default();
        if lot.gate == Gate::Open {
            return Err(Refused::Stale);
        }
        lot.add_unpicked(frame, false, bound, now)
    }

    /// Takes a frame that an instance in the table of this version did not take, because it is about to
    /// leave. It closes the gate.
    pub fn park_lost(&mut self, frame: &[u8], version: u64, now: Instant) -> Result<(), Refused> {
        let (_, class) = data(frame).ok_or(Refused::Never)?;
        let bound = self.policies.of(class).park_bytes.max(LEAST_BOUND);
        let lot = self.lots.entry(class).or_default();
        if version != self.version && lot.gate == Gate::Open {
            return Err(Refused::Stale);
        }
        lot.add_unpicked(frame, true, bound, now)
    }

    /// Takes the frames of a mailbox whose session ends, in front of what waits: they are older. They
    /// were in the router already, so no bound holds.
    pub fn park_in_front(&mut self, class: Class, frames: Vec<Box<[u8]>>, now: Instant) {
        let lot = self.lots.entry(class).or_default();
        for bytes in frames.into_iter().rev() {
            lot.count += 1;
            lot.bytes += bytes.len();
            lot.frames.push_front(Parked { bytes, since: now, until: None, lost: true });
        }
        lot.due = true;
        lot.close();
    }

    /// A table is published. ORDER: with nothing in between, so that who is refused as stale finds it.
    pub fn publish(
        &mut self,
        version: u64,
        changed: impl IntoIterator<Item = Class>,
        left: impl IntoIterator<Item = ServiceId>,
        now: Instant,
    ) {
        self.version = version;
        for class in changed {
            if let Some(lot) = self.lots.get_mut(&class)
                && !lot.frames.is_empty()
            {
                lot.due = true;
                lot.close();
            }
        }
        for id in left {
            if self.parks(id.class()) {
                self.lots.entry(id.class()).or_default().left.add(id.instance().raw(), now);
            }
        }
    }

    /// Takes policies from a reload, which may let frames through, or stay no longer.
    pub fn set_policies(&mut self, policies: Arc<Policies>) {
        self.policies = policies;
    }

    /// A class whose frames shall be released.
    #[must_use]
    pub fn next_due(&self) -> Option<Class> {
        self.lots.iter().find(|(_, lot)| lot.due).map(|(class, _)| *class)
    }

    /// Begins to release a class: its frames, in order, to be picked anew. Until [`Self::finish`] its
    /// gate is closed; with `lock`, nothing goes in meanwhile.
    pub fn begin(&mut self, class: Class, lock: bool) -> VecDeque<Parked> {
        let lot = self.lots.entry(class).or_default();
        lot.due = false;
        lot.gate = if lock { Gate::Locked } else { Gate::Releasing };
        std::mem::take(&mut lot.frames)
    }

    /// Ends what [`Self::begin`] began. `left` are the frames that nobody took, in order.
    pub fn finish(&mut self, class: Class, left: Vec<(Parked, Fate)>, now: Instant) -> Released {
        let policy = self.policies.of(class);
        let patience = Duration::from_millis(policy.park_ms);
        let lot = self.lots.entry(class).or_default();
        let mut released = Released::default();
        let mut frames = VecDeque::with_capacity(left.len());
        let (mut bytes, mut stuck) = (lot.frames.iter().map(Parked::len).sum::<usize>(), false);
        for (mut parked, fate) in left {
            let reason = match fate {
                Fate::Gone => continue,
                Fate::Stuck => {
                    stuck = true;
                    parked.until = None;
                    bytes += parked.len();
                    frames.push_back(parked);
                    continue;
                }
                Fate::Nobody(_) if parked.lost => Reason::TargetLost,
                Fate::Nobody(reason) => reason,
            };
            let stays = !patience.is_zero()
                && (parked.until.is_some()
                    || lot.takes(&parked, bytes, policy.park_bytes, now, patience));
            if stays {
                let until = parked.until.unwrap_or_else(|| parked.deadline(patience));
                parked.until = Some(until);
                lot.earliest = Some(lot.earliest.map_or(until, |earliest| earliest.min(until)));
                bytes += parked.len();
                frames.push_back(parked);
            } else {
                released.bounced.push((parked, reason));
            }
        }
        let came = lot.frames.len();
        frames.append(&mut lot.frames);
        (lot.count, lot.bytes) = (frames.len(), bytes);
        lot.frames = frames;
        // Who is stuck waits for the table to change, and so do all behind.
        released.again = came > 0 && !stuck;
        lot.gate = if came > 0 || stuck { Gate::Closed } else { Gate::Open };
        released
    }

    /// Releases a class in one go.
    pub fn release(
        &mut self,
        class: Class,
        now: Instant,
        mut pick: impl FnMut(&Parked) -> Fate,
    ) -> Released {
        let frames = self.begin(class, true);
        let picked = frames.into_iter().map(|parked| {
            let fate = pick(&parked);
            (parked, fate)
        });
        let left = picked.collect();
        self.finish(class, left, now)
    }

    /// Takes out what has waited for as long as it may. Closed gates are tried again, lest one stays
    /// closed for good because a change that was expected never came.
    pub fn expire(&mut self, now: Instant) -> Vec<Parked> {
        let mut expired = Vec::new();
        for (class, lot) in &mut self.lots {
            lot.due |= lot.gate != Gate::Open;
            lot.left.forget(now, Duration::from_millis(self.policies.of(*class).park_ms));
            if lot.earliest.is_some_and(|earliest| earliest <= now) {
                lot.expire(now, &mut expired);
            }
        }
        expired
    }
}

impl Parked {
    /// The whole frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> Option<FixedHeader> {
        FixedHeader::parse(&self.bytes, u32::MAX).ok().flatten()
    }

    /// The frame again, after an instance that is about to leave did not take it.
    pub(crate) fn returned(frame: &[u8], now: Instant) -> Self {
        Self { bytes: frame.into(), since: now, until: None, lost: true }
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn deadline(&self, patience: Duration) -> Instant {
        let ttl = self.header().and_then(|header| header.ttl());
        self.since + ttl.map_or(patience, |ttl| ttl.min(patience))
    }
}

fn data(frame: &[u8]) -> Option<(FixedHeader, Class)> {
    let header = FixedHeader::parse(frame, u32::MAX).ok()??;
    Some((header, header.target_class()?))
}

/// A closed gate lets this much in, even where the class lets none wait for long.
const LEAST_BOUND: usize = 1 << 20;
#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use switchboard_protocol::{Frame, Header, Mode};

    use super::*;
    use crate::policy::ClassPolicy;

    const CLASS: Class = Class::of(5);
    /// Each frame of these tests is this long.
    const LENGTH: usize = 24;

    fn parking(park_ms: u64, frames: usize) -> Parking {
        let default =
            ClassPolicy { park_ms, park_bytes: frames * LENGTH, ..ClassPolicy::default() };
        Parking::new(Arc::new(Policies { default, ..Policies::default() }))
    }

    fn frame_with(n: u64, ttl: u16) -> Vec<u8> {
        let mut header = Header::to_class("6.1".parse().unwrap(), Mode::Master, CLASS);
        header.ttl = ttl;
        Frame::new(header, n.to_le_bytes().to_vec()).to_bytes().to_vec()
    }

    fn frame(n: u64) -> Vec<u8> {
        frame_with(n, 0)
    }

    fn to_instance(n: u64, target: &str) -> Vec<u8> {
        let header = Header::direct("6.1".parse().unwrap(), target.parse().unwrap());
        Frame::new(header, n.to_le_bytes().to_vec()).to_bytes().to_vec()
    }

    fn number(parked: &Parked) -> u64 {
        u64::from_le_bytes(*parked.bytes()[16..].first_chunk().unwrap())
    }

    fn numbers<'a>(parked: impl IntoIterator<Item = &'a Parked>) -> Vec<u64> {
        parked.into_iter().map(number).collect()
    }

    /// Releases, and lets those go that `gone` says. Answers the numbers in the order of the picks.
    fn release(parking: &mut Parking, now: Instant, gone: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut picked = Vec::new();
        let released = parking.release(CLASS, now, |parked| {
            picked.push(number(parked));
            if gone(number(parked)) { Fate::Gone } else { Fate::Nobody(Reason::NoInstance) }
        });
        assert!(released.bounced.is_empty() && !released.again);
        picked
    }

    #[test]
    fn what_nobody_takes_stays_in_order_and_the_gate_opens() {
        let (mut parking, now) = (parking(1_000, 10), Instant::now());
        for n in 0..6 {
            assert_eq!(parking.park(&frame(n), 0, now), Ok(()));
        }
        assert!(!parking.is_gated(CLASS), "others pass by while nothing changes");
        parking.publish(1, [CLASS], [], now);
        assert!(parking.is_gated(CLASS));
        assert_eq!(parking.next_due(), Some(CLASS));
        assert_eq!(release(&mut parking, now, |n| n % 2 == 0), [0, 1, 2, 3, 4, 5]);
        assert!(!parking.is_gated(CLASS));
        assert_eq!((parking.len(CLASS), parking.bytes(CLASS)), (3, 3 * LENGTH));
        parking.publish(2, [CLASS], [], now);
        assert_eq!(release(&mut parking, now, |_| true), [1, 3, 5]);
        assert!(parking.is_empty());
    }

    // Without it a frame that was picked before somebody joined would wait for the next one.
    #[test]
    fn a_frame_picked_from_an_older_table_is_picked_again() {
        let (mut parking, now) = (parking(1_000, 10), Instant::now());
        parking.publish(1, [CLASS], [], now);
        assert_eq!(parking.park(&frame(0), 0, now), Err(Refused::Stale));
        assert_eq!(parking.park_lost(&frame(0), 0, now), Err(Refused::Stale));
        assert_eq!(parking.park(&frame(0), 1, now), Ok(()));
    }

    #[test]
    fn a_gate_that_was_seen_closed_may_be_open_again() {
        let (mut parking, now) = (parking(1_000, 10), Instant::now());
        assert_eq!(parking.park_behind(&frame(0), now), Err(Refused::Stale));
        assert_eq!(parking.park_lost(&frame(0), 0, now), Ok(()));
        assert_eq!(parking.park_behind(&frame(1), now), Ok(()));
        assert_eq!(parking.park(&frame(2), 0, now), Err(Refused::Stale), "it goes in behind");
        parking.publish(1, [CLASS], [], now);
        assert_eq!(release(&mut parking, now, |_| true), [0, 1]);
        assert_eq!(parking.park_behind(&frame(2), now), Err(Refused::Stale));
    }

    #[test]
    fn what_came_back_goes_in_front_and_what_comes_during_a_release_behind() {
        let (mut parking, now) = (parking(1_000, 10), Instant::now());
        parking.park(&frame(9), 0, now).unwrap();
        parking.park_in_front(CLASS, vec![frame(3).into(), frame(4).into()], now);
        parking.park_behind(&frame(10), now).unwrap();
        let taken: Vec<Parked> = parking.begin(CLASS, false).into();
        assert_eq!(numbers(&taken), [3, 4, 9, 10]);
        assert_eq!(parking.len(CLASS), 4, "they are the router's still");
        parking.park_behind(&frame(11), now).unwrap();
        let left = taken.into_iter().map(|parked| {
            let fate =
                if number(&parked) == 9 { Fate::Nobody(Reason::EmptySlot) } else { Fate::Gone };
            (parked, fate)
        });
        let left = left.collect();
        assert!(parking.finish(CLASS, left, now).again);
        assert!(parking.is_gated(CLASS));
        assert_eq!(release(&mut parking, now, |_| true), [9, 11]);
        assert!(!parking.is_gated(CLASS));
    }

    #[test]
    fn a_locked_gate_lets_nothing_in_until_the_release_is_over() {
        let (mut parking, now) = (parking(1_000, 10), Instant::now());
        parking.park_lost(&frame(0), 0, now).unwrap();
        parking.begin(CLASS, true);
        assert_eq!(parking.park_behind(&frame(1), now), Err(Refused::Full));
        assert_eq!(parking.park_lost(&frame(1), 0, now), Err(Refused::Full));
        assert!(!parking.finish(CLASS, Vec::new(), now).again);
        assert_eq!(parking.park_behind(&frame(1), now), Err(Refused::Stale));
    }

    #[test]
    fn what_is_stuck_keeps_the_gate_closed_until_the_table_changes() {
        let (mut parking, now) = (parking(0, 10), Instant::now());
        parking.park_lost(&frame(0), 0, now).unwrap();
        parking.publish(1, [CLASS], [], now);
        let released = parking.release(CLASS, now, |_| Fate::Stuck);
        assert!(!released.again && parking.is_gated(CLASS));
        assert_eq!(parking.next_due(), None);
        parking.park_behind(&frame(1), now).unwrap();
        parking.publish(2, [CLASS], [], now);
        assert_eq!(release(&mut parking, now, |_| true), [0, 1]);
    }

    #[test]
    fn the_bound_holds_for_those_who_wait_but_not_for_what_came_back() {
        let (mut parking, now) = (parking(1_000, 2), Instant::now());
        parking.park(&frame(0), 0, now).unwrap();
        parking.park(&frame(1), 0, now).unwrap();
        assert_eq!(parking.park(&frame(2), 0, now), Err(Refused::Full));
        parking.park_in_front(CLASS, (3..6).map(|n| frame(n).into()).collect(), now);
        assert_eq!(parking.len(CLASS), 5);
        assert_eq!(release(&mut parking, now, |_| false), [3, 4, 5, 0, 1]);
        assert_eq!(parking.len(CLASS), 5);
    }

    #[test]
    fn each_expires_in_its_time_and_unpicked_ones_never() {
        let (mut parking, start) = (parking(1_000, 10), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        parking.park(&frame(0), 0, at(0)).unwrap();
        parking.park(&frame_with(1, 30), 0, at(0)).unwrap();
        parking.park(&frame_with(2, 60_000), 0, at(500)).unwrap();
        parking.park_lost(&frame(3), 0, at(0)).unwrap();
        assert!(numbers(&parking.expire(at(299))).is_empty());
        assert_eq!(numbers(&parking.expire(at(300))), [1]);
        assert_eq!(numbers(&parking.expire(at(1_000))), [0]);
        assert_eq!(numbers(&parking.expire(at(1_500))), [2]);
        assert!(numbers(&parking.expire(at(9_000))).is_empty());
        // Its time began when it came.
        assert_eq!(release(&mut parking, at(9_000), |_| false), [3]);
        assert_eq!(numbers(&parking.expire(at(9_000))), [3]);
        assert!(parking.is_empty());
    }

    #[test]
    fn a_direct_frame_waits_for_an_instance_that_left_lately() {
        let (mut parking, start) = (parking(1_000, 10), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(parking.park(&to_instance(0, "5.1"), 0, at(0)), Err(Refused::Never));
        parking.publish(1, [CLASS], ["5.1".parse().unwrap()], at(0));
        assert_eq!(parking.park(&to_instance(0, "5.1"), 1, at(900)), Ok(()));
        assert_eq!(parking.park(&to_instance(1, "5.2"), 1, at(900)), Err(Refused::Never));
        assert_eq!(parking.park(&to_instance(2, "5.1"), 1, at(1_001)), Err(Refused::Never));
        assert_eq!(numbers(&parking.expire(at(1_900))), [0]);
    }

    #[test]
    fn where_nothing_may_wait_what_finds_nobody_bounces_with_its_reason() {
        let (mut parking, now) = (parking(0, 10), Instant::now());
        assert_eq!(parking.park(&frame(0), 0, now), Err(Refused::Never));
        parking.park_in_front(CLASS, vec![frame(1).into()], now);
        parking.park_behind(&frame(2), now).unwrap();
        let nobody = |_: &Parked| Fate::Nobody(Reason::NoInstance);
        let bounced = parking.release(CLASS, now, nobody).bounced;
        let told: Vec<_> = bounced.iter().map(|(parked, why)| (number(parked), *why)).collect();
        assert_eq!(told, [(1, Reason::TargetLost), (2, Reason::NoInstance)]);
        assert!(parking.is_empty() && !parking.is_gated(CLASS));
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// A frame comes for which nobody is there, or that goes in behind a gate.
        Come,
        /// So many come back from an instance that left.
        Back(u64),
        /// The class changes, and somebody takes every frame whose number divides by this.
        Change(u64),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Come),
            1 => (1..4_u64).prop_map(Step::Back),
            2 => (1..5_u64).prop_map(Step::Change),
            2 => (1..400_u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn every_frame_ends_once_and_what_is_released_together_is_in_order(
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let (mut parking, mut now) = (parking(1_000, 8), Instant::now());
            // The number, and when it came; those that came back are older than all others.
            let mut model: Vec<u64> = Vec::new();
            let (mut next, mut ends) = (0, BTreeMap::<u64, u32>::new());
            for step in steps {
                match step {
                    Step::Come => {
                        let version = parking.version();
                        let result = if parking.is_gated(CLASS) {
                            parking.park_behind(&frame(next), now)
                        } else {
                            parking.park(&frame(next), version, now)
                        };
                        match result {
                            Ok(()) => model.push(next),
                            Err(why) => {
                                prop_assert_eq!(why, Refused::Full);
                                prop_assert!(parking.len(CLASS) >= 8);
                                *ends.entry(next).or_default() += 1;
                            }
                        }
                        next += 1;
                    }
                    Step::Back(frames) => {
                        let back: Vec<u64> = (next..next + frames).collect();
                        next += frames;
                        let bytes = back.iter().map(|n| frame(*n).into()).collect();
                        parking.park_in_front(CLASS, bytes, now);
                        model.splice(0..0, back);
                    }
                    Step::Change(by) => {
                        parking.publish(parking.version() + 1, [CLASS], [], now);
                        let mut picked = Vec::new();
                        let released = parking.release(CLASS, now, |parked| {
                            picked.push(number(parked));
                            match number(parked) % by {
                                0 => Fate::Gone,
                                _ => Fate::Nobody(Reason::NoInstance),
                            }
                        });
                        prop_assert_eq!(&picked, &model);
                        let bounced = numbers(released.bounced.iter().map(|(parked, _)| parked));
                        let ended = |n: &u64| n.is_multiple_of(by) || bounced.contains(n);
                        for n in model.iter().filter(|n| ended(n)) {
                            *ends.entry(*n).or_default() += 1;
                        }
                        model.retain(|n| !ended(n));
                        prop_assert!(!parking.is_gated(CLASS));
                    }
                    Step::Wait(ms) => {
                        now += Duration::from_millis(ms);
                        let expired = numbers(&parking.expire(now));
                        for n in &expired {
                            *ends.entry(*n).or_default() += 1;
                        }
                        model.retain(|n| !expired.contains(n));
                    }
                }
                prop_assert_eq!(parking.len(CLASS), model.len());
                prop_assert_eq!(parking.bytes(CLASS), model.len() * LENGTH);
            }
            for n in 0..next {
                let waits = model.contains(&n);
                prop_assert_eq!(ends.get(&n).copied().unwrap_or(0), u32::from(!waits), "{}", n);
            }
        }
    }
}
