//! The parking lots as a router's threads share them: one lock, and a flag per class that tells whoever
//! forwards whether to look behind it at all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use switchboard_protocol::{Class, Reason, ServiceId};
use tokio::sync::Notify;

use super::{Fate, Parked, Parking, Refused};
use crate::forward::local::Published;
use crate::mailbox::Mailbox;
use crate::policy::Policies;
use crate::table::Table;

/// Shared by all threads. Only the control thread releases.
#[derive(Debug)]
pub struct Lots {
    flags: Box<[AtomicU8]>,
    state: Mutex<State>,
    nudge: Notify,
}

#[derive(Debug)]
struct State {
    parking: Parking,
    /// Sessions whose next frame found a lot full behind its gate.
    waiting: BTreeMap<Class, Vec<Waker>>,
}

/// How many frames and bytes of a class wait.
#[derive(Debug, Clone, Copy)]
pub struct Occupancy {
    /// The class.
    pub class: Class,
    /// Its frames.
    pub frames: usize,
    /// Their bytes.
    pub bytes: usize,
}

mod flag {
    pub(super) const GATED: u8 = 1;
    pub(super) const PARKS: u8 = 2;
}

impl Lots {
    /// Empty lots.
    pub fn new(policies: Arc<Policies>) -> Self {
        let lots = Self {
            flags: (0..=u8::MAX).map(|_| AtomicU8::new(0)).collect(),
            state: Mutex::new(State { parking: Parking::new(policies), waiting: BTreeMap::new() }),
            nudge: Notify::new(),
        };
        let state = lots.lock();
        all_classes().for_each(|class| lots.show(class, &state));
        drop(state);
        lots
    }

    /// Whether frames of a class go in behind those that wait.
    #[inline]
    pub fn is_gated(&self, class: Class) -> bool {
        self.flag(class) & flag::GATED != 0
    }

    /// Whether frames of a class may wait for somebody to come.
    #[inline]
    pub fn parks(&self, class: Class) -> bool {
        self.flag(class) & flag::PARKS != 0
    }

    fn flag(&self, class: Class) -> u8 {
        self.flags[usize::from(class.raw())].load(Acquire)
    }

    /// Parks a frame for which nobody was in the table of this version.
    pub fn park(&self, frame: &[u8], version: u64) -> Result<(), Refused> {
        self.lock().parking.park(frame, version, Instant::now())
    }

    /// Parks a frame behind a gate that was seen closed. Where the lot is full, `waker` is woken when it
    /// is worth another try.
    pub fn park_behind(&self, class: Class, frame: &[u8], waker: &Waker) -> Result<(), Refused> {
        let mut state = self.lock();
        let result = state.parking.park_behind(frame, Instant::now());
        state.wait_if_full(class, result, waker);
        result
    }

    /// Parks a frame that an instance in the table of this version did not take.
    pub fn park_lost(
        &self,
        class: Class,
        frame: &[u8],
        version: u64,
        waker: &Waker,
    ) -> Result<(), Refused> {
        let mut state = self.lock();
        let result = state.parking.park_lost(frame, version, Instant::now());
        state.wait_if_full(class, result, waker);
        self.show(class, &state);
        result
    }

    /// Parks the frames of a mailbox whose session ends.
    pub fn park_in_front(&self, class: Class, frames: Vec<Box<[u8]>>) {
        let mut state = self.lock();
        state.parking.park_in_front(class, frames, Instant::now());
        self.show(class, &state);
    }

    /// Has the control thread release what is due, though no table is published.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Waits for a nudge.
    pub async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// Publishes a table. ORDER: under the lock, so that a frame which is refused as picked from an older
    /// one finds the new one, and flags before table, so that who sees the table sees the gates.
    pub fn publish(&self, published: &Published, table: Table<Arc<Mailbox>>, changed: Changed) {
        let Changed { classes, left, policies } = changed;
        let left = left.into_iter().filter(|id| table.find(*id).is_none());
        let mut state = self.lock();
        let reload = policies.is_some();
        if let Some(policies) = policies {
            state.parking.set_policies(policies);
        }
        let classes: Vec<Class> = if reload { all_classes().collect() } else { classes };
        let touched = classes.iter().copied();
        state.parking.publish(table.version(), touched, left, Instant::now());
        classes.into_iter().for_each(|class| self.show(class, &state));
        let old = published.swap(Arc::new(table));
        drop(state);
        drop(old);
    }

    /// A class that is due to be released.
    pub fn next_due(&self) -> Option<Class> {
        self.lock().parking.next_due()
    }

    /// Begins to release a class.
    pub fn begin(&self, class: Class, lock: bool) -> VecDeque<Parked> {
        self.lock().parking.begin(class, lock)
    }

    /// Ends it. Answers which frames bounce, and whether it goes on.
    pub fn finish(&self, class: Class, left: Vec<(Parked, Fate)>) -> (Vec<(Parked, Reason)>, bool) {
        let mut state = self.lock();
        let released = state.parking.finish(class, left, Instant::now());
        self.show(class, &state);
        let waiting = state.waiting.remove(&class).unwrap_or_default();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        (released.bounced, released.again)
    }

    /// Takes out what has waited for as long as it may.
    pub fn expire(&self) -> Vec<Parked> {
        self.lock().parking.expire(Instant::now())
    }

    /// What waits, by class.
    pub fn occupancy(&self) -> Vec<Occupancy> {
        let parking = &self.lock().parking;
        let of =
            |class| Occupancy { class, frames: parking.len(class), bytes: parking.bytes(class) };
        parking.classes().map(of).collect()
    }

    fn show(&self, class: Class, state: &State) {
        let gated = if state.parking.is_gated(class) { flag::GATED } else { 0 };
        let parks = if state.parking.parks(class) { flag::PARKS } else { 0 };
        self.flags[usize::from(class.raw())].store(gated | parks, Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves frames that are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait_if_full(&mut self, class: Class, result: Result<(), Refused>, waker: &Waker) {
        if result == Err(Refused::Full) {
            let waiting = self.waiting.entry(class).or_default();
            if !waiting.iter().any(|known| known.will_wake(waker)) {
                waiting.push(waker.clone());
            }
        }
    }
}

/// What differs in a table that is published.
#[derive(Debug, Default)]
pub struct Changed {
    /// The classes whose members did.
    pub classes: Vec<Class>,
    /// The ids that were given up.
    pub left: Vec<ServiceId>,
    /// New policies, which are about all classes.
    pub policies: Option<Arc<Policies>>,
}

fn all_classes() -> impl Iterator<Item = Class> {
    (1..=u8::MAX).map(Class::of)
}
