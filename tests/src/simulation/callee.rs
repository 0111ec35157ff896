//! What a simulated node does as a callee: it runs calls that it has not run, and takes in one-way
//! frames.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use switchboard::logic::{Admission, Key, Limits, Reply, Window};
use switchboard_protocol::Mode;

use super::checks::Path;
use super::message::{Parcel, What};
use super::node::Node;
use super::stage::{MS, NodeTimer, SECOND, Stage};
use super::world::ROUTERS;

/// The calls that it knows.
pub struct Callee {
    pub window: Window<usize>,
    pub running: usize,
}

impl Callee {
    pub fn new(entries: usize) -> Self {
        let limits = Limits { entries, bytes: entries * 8, age: WINDOW_AGE };
        Self { window: Window::new(limits), running: 0 }
    }
}

impl Node {
    /// A data frame came over a router.
    pub fn take_in(&mut self, stage: &mut Stage, slot: usize, parcel: Parcel) {
        match parcel.what {
            What::Forward => {
                let path = Path {
                    to: (self.index, self.life),
                    from: (parcel.source, parcel.life),
                    router: (slot, stage.lives[slot]),
                    moved: parcel.moved,
                };
                stage.checks.arrived(stage.now, path, parcel.body);
            }
            What::Call => {
                // Copies by design, over two routers, come besides these.
                let twice = stage.load.twice > 0 && stage.one_in(stage.load.twice);
                let delay = stage.rng.random_range(0..2 * SECOND);
                // Of a call that it was too busy for, the caller knows each copy: none comes besides.
                if self.admit(stage, slot, parcel) && twice {
                    stage.after(delay, self.event(NodeTimer::Twice { slot, parcel }));
                }
            }
            What::Reply | What::Busy | What::Outside => self.answered(stage, parcel),
        }
    }

    /// Takes in a call; says whether it is, or was, one of its own.
    fn admit(&mut self, stage: &mut Stage, slot: usize, parcel: Parcel) -> bool {
        let key = Key::of(parcel.source, parcel.call_id);
        match self.callee.window.admit(key, slot, stage.instant()) {
            Admission::Run if self.callee.running >= stage.load.running => {
                self.callee.window.forget(key);
                self.reply(stage, slot, parcel, What::Busy, 0);
                return false;
            }
            Admission::Run => {
                self.callee.running += 1;
                stage.checks.ran(stage.now, (self.index, self.life), &parcel);
                let takes = match stage.rng.random_range(0..50) {
                    0 => stage.rng.random_range(0..LONGEST_RUN),
                    _ => stage.rng.random_range(0..2 * MS),
                };
                stage.after(takes, self.event(NodeTimer::Finish { parcel }));
            }
            Admission::Running => stage.checks.tally.running += 1,
            Admission::Answered(reply) => {
                stage.checks.tally.again += 1;
                let body = reply.payload.as_ref().try_into().map_or(0, u64::from_le_bytes);
                self.reply(stage, slot, parcel, What::Reply, body);
            }
            Admission::Outside => self.reply(stage, slot, parcel, What::Outside, 0),
        }
        let peak = &mut stage.checks.tally.peak_window;
        *peak = (*peak).max(self.callee.window.len());
        true
    }

    /// A handler is done.
    pub fn finish(&mut self, stage: &mut Stage, parcel: Parcel) {
        self.callee.running -= 1;
        let key = Key::of(parcel.source, parcel.call_id);
        let body = answer_to(parcel.body);
        let payload = Bytes::copy_from_slice(&body.to_le_bytes());
        let reply = Reply { payload, is_error: false };
        match self.callee.window.finish(key, reply, stage.instant()) {
            Some(slot) => self.reply(stage, slot, parcel, What::Reply, body),
            None => stage.checks.fail(stage.now, || format!("{key:?} finishes and never began")),
        }
    }

    /// Answers the way the call came, or another way if that is gone.
    fn reply(&mut self, stage: &mut Stage, slot: usize, call: Parcel, what: What, body: u64) {
        let reply = Parcel {
            what,
            mode: Mode::Direct,
            source: self.id,
            life: self.life,
            target: call.source.raw(),
            key: 0,
            ttl: 0,
            call_id: call.call_id,
            body,
            moved: false,
        };
        let ways = std::iter::once(slot).chain((0..ROUTERS).filter(|other| *other != slot));
        let way = ways.into_iter().find(|slot| self.conn(*slot).is_some());
        if let Some(way) = way {
            self.data(stage, way, reply);
        }
    }
}

/// What a callee answers.
pub fn answer_to(body: u64) -> u64 {
    body.rotate_left(17) ^ 0x5eed
}

/// How long answers are kept.
pub const WINDOW_AGE: Duration = Duration::from_secs(60);

/// The longest time that a call runs: longer than a copy is waited for.
pub const LONGEST_RUN: u64 = 400 * MS;
