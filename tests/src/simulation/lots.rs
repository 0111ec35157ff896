//! The real parking of a simulated router. It keeps bytes, so each frame is written with its number as
//! payload, and found again by that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use switchboard_protocol::{Class, Flags, Frame, Header, Kind, Reason, ServiceId};
use switchboard_router::parking::{Fate, Parked, Parking};
use switchboard_router::policy::Policies;

use super::message::{Parcel, What};
use super::session::Waiting;

/// The frames that wait at a router.
pub struct Lots {
    parking: Parking,
    waiting: BTreeMap<u64, Waiting>,
    version: u64,
}

impl Lots {
    pub fn new(policies: Arc<Policies>) -> Self {
        Self { parking: Parking::new(policies), waiting: BTreeMap::new(), version: 0 }
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn all(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values()
    }

    /// Whether nothing waits, in the books of both.
    pub fn is_empty(&self) -> bool {
        self.parking.is_empty() && self.waiting.is_empty()
    }

    /// Whether the class of a frame lets frames wait for someone to come.
    pub fn parks(&self, waiting: &Waiting) -> bool {
        class_of(&waiting.parcel).is_some_and(|class| self.parking.parks(class))
    }

    /// Takes a frame behind those that wait, if its class's gate is closed.
    pub fn park_behind(&mut self, waiting: &Waiting, now: Instant) -> bool {
        let gated = class_of(&waiting.parcel).is_some_and(|class| self.parking.is_gated(class));
        let taken = gated && self.parking.park_behind(&bytes_of(waiting), now).is_ok();
        self.keep(taken, *waiting, now)
    }

    /// Takes a frame for which nobody is there, if its class lets it wait.
    pub fn park(&mut self, waiting: &Waiting, now: Instant) -> bool {
        let taken = self.parking.park(&bytes_of(waiting), self.version, now).is_ok();
        self.keep(taken, *waiting, now)
    }

    /// Takes what a mailbox left behind.
    pub fn park_in_front(&mut self, frames: Vec<Waiting>, now: Instant) {
        let mut by_class: BTreeMap<Class, Vec<Box<[u8]>>> = BTreeMap::new();
        for waiting in frames {
            let Some(class) = class_of(&waiting.parcel) else { continue };
            by_class.entry(class).or_default().push(bytes_of(&waiting));
            self.keep(true, waiting, now);
        }
        for (class, frames) in by_class {
            self.parking.park_in_front(class, frames, now);
        }
    }

    /// The table has changed.
    pub fn publish(&mut self, came: &[ServiceId], left: &[ServiceId], now: Instant) {
        self.version += 1;
        let changed = came.iter().chain(left).map(|id| id.class());
        self.parking.publish(self.version, changed, left.iter().copied(), now);
    }

    pub fn next_due(&self) -> Option<Class> {
        self.parking.next_due()
    }

    /// Picks the frames of a class anew. Answers those that may wait no more.
    pub fn release(
        &mut self,
        class: Class,
        now: Instant,
        mut pick: impl FnMut(Waiting) -> Result<(), Reason>,
    ) -> Vec<(Waiting, Reason)> {
        let waiting = &mut self.waiting;
        let released = self.parking.release(class, now, |parked| {
            let Some(frame) = waiting.get(&number_of(parked)).copied() else { return Fate::Gone };
            match pick(frame) {
                Ok(()) => {
                    waiting.remove(&frame.frame);
                    Fate::Gone
                }
                Err(reason) => Fate::Nobody(reason),
            }
        });
        let bounced = released.bounced.into_iter();
        bounced.filter_map(|(parked, reason)| Some((self.found(&parked)?, reason))).collect()
    }

    /// Takes out what has waited for as long as it may.
    pub fn expire(&mut self, now: Instant) -> Vec<Waiting> {
        let expired = self.parking.expire(now);
        expired.iter().filter_map(|parked| self.found(parked)).collect()
    }

    fn keep(&mut self, taken: bool, waiting: Waiting, now: Instant) -> bool {
        if taken {
            let parcel = Parcel { moved: true, ..waiting.parcel };
            self.waiting.insert(waiting.frame, Waiting { parcel, parked: Some(now), ..waiting });
        }
        taken
    }

    fn found(&mut self, parked: &Parked) -> Option<Waiting> {
        self.waiting.remove(&number_of(parked))
    }
}

fn class_of(parcel: &Parcel) -> Option<Class> {
    Class::of_target(parcel.target)
}

fn bytes_of(waiting: &Waiting) -> Box<[u8]> {
    let parcel = &waiting.parcel;
    let flags = match parcel.what {
        What::Call => Flags::CALL | Flags::IDEMPOTENT,
        What::Reply | What::Busy | What::Outside => Flags::REPLY,
        What::Forward => Flags::NONE,
    };
    let header = Header {
        flags,
        ttl: parcel.ttl,
        key: parcel.key,
        call_id: parcel.call_id,
        ..Header::new(Kind::Data(parcel.mode), parcel.source.raw(), parcel.target)
    };
    let payload = Bytes::copy_from_slice(&waiting.frame.to_le_bytes());
    Frame::new(header, payload).to_bytes().as_ref().into()
}

/// The number that [`bytes_of`] wrote.
fn number_of(parked: &Parked) -> u64 {
    parked.bytes().last_chunk().map_or(0, |number| u64::from_le_bytes(*number))
}
