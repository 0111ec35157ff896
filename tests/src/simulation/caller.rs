//! What a simulated node does as a caller: idempotent calls that are repeated until their deadline,
//! and one-way frames.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use switchboard::ForwardError;
use switchboard::logic::{Failure, Outcome, Retry, Step};
use switchboard_protocol::{Class, Mode, Reason};

use super::callee::answer_to;
use super::message::{Parcel, What};
use super::node::Node;
use super::stage::{MS, NodeTimer, SECOND, Stage};
use super::world::{HASH_SLOTS, HASHED, MASTERED};

/// The calls under way, and what numbers come next.
pub struct Caller {
    pub pending: BTreeMap<u64, Pending>,
    tag: u64,
    calls: u64,
    forwards: u64,
    /// The router that each class's frames took last, over which connection.
    ways: BTreeMap<Class, (Option<usize>, Option<u64>)>,
}

/// A call under way.
pub struct Pending {
    parcel: Parcel,
    retry: Retry,
    born: u64,
    deadline: u64,
    /// The routers tried in this round.
    tried: Vec<usize>,
    /// Over which the newest copy went, unless it is a delay that is waited for.
    slot: Option<usize>,
    elsewhere: bool,
    attempt: u32,
}

impl Caller {
    pub fn new(incarnation: u64) -> Self {
        let tag = (incarnation >> 10 & 0xff_ffff) << 40;
        Self { pending: BTreeMap::new(), tag, calls: 0, forwards: 0, ways: BTreeMap::new() }
    }

    pub fn waits_for(&self, slot: usize) -> bool {
        self.pending.values().any(|pending| pending.slot == Some(slot))
    }

    /// Its calls have no caller any more.
    pub fn died(&self, stage: &mut Stage) {
        stage.checks.tally.abandoned += self.pending.len() as u64;
    }
}

impl Node {
    /// Does something, and comes back for more.
    pub fn work(&mut self, stage: &mut Stage) {
        if stage.now >= stage.load.until {
            return;
        }
        let mean = stage.load.gap;
        let gap = stage.rng.random_range(0..2 * mean);
        stage.after(gap, self.event(NodeTimer::Work));
        let (class, mode) = match stage.one_in(2) {
            true => (MASTERED, Mode::Master),
            false => (HASHED, Mode::Hash),
        };
        let parcel = Parcel {
            what: What::Forward,
            mode,
            source: self.id,
            life: self.life,
            target: class.as_target(),
            key: stage.rng.random_range(0..1000),
            ttl: 0,
            call_id: 0,
            body: 0,
            moved: false,
        };
        match stage.one_in(4) {
            true => self.forward(stage, class, parcel),
            false => self.call(stage, parcel),
        }
    }

    fn forward(&mut self, stage: &mut Stage, class: Class, parcel: Parcel) {
        self.caller.forwards += 1;
        let parcel = Parcel { body: self.caller.forwards, ..parcel };
        let sent = self.way(stage, class).is_some_and(|slot| self.data(stage, slot, parcel));
        stage.checks.tally.forwards += u64::from(sent);
    }

    fn call(&mut self, stage: &mut Stage, parcel: Parcel) {
        self.caller.calls += 1;
        let call_id = self.caller.tag | self.caller.calls;
        let body = stage.rng.random();
        let patience = stage.rng.random_range(SECOND / 4..LONGEST_PATIENCE);
        let ttl = (patience / (10 * MS)) as u16;
        let parcel = Parcel { what: What::Call, ttl, call_id, body, ..parcel };
        let deadline = stage.now + patience;
        let pending = Pending {
            parcel,
            retry: Retry::new(stage.moment(deadline), ATTEMPT),
            born: stage.now,
            deadline,
            tried: Vec::new(),
            slot: None,
            elsewhere: false,
            attempt: 0,
        };
        self.caller.pending.insert(call_id, pending);
        stage.checks.tally.calls += 1;
        let peak = &mut stage.checks.tally.peak_pending;
        *peak = (*peak).max(self.caller.pending.len());
        stage.at(deadline, self.event(NodeTimer::Deadline { call: call_id }));
        self.attempt(stage, call_id);
    }

    /// The router that the frames of a class take. As long as it is there and stays, they take no
    /// other, or they could overtake each other.
    fn way(&mut self, stage: &mut Stage, class: Class) -> Option<usize> {
        let way = self.choice.pick(class);
        let conn = way.and_then(|slot| self.conn(slot));
        if let Some(before) = self.caller.ways.insert(class, (way, conn))
            && let (Some(slot), Some(conn)) = before
        {
            let stays = self.conn(slot) == Some(conn) && self.links[slot].come_back.is_none();
            stage.checks.require(stage.now, way == Some(slot) || !stays, || {
                format!("the frames for class {class} leave router {slot}, which is there")
            });
        }
        way
    }

    fn attempt(&mut self, stage: &mut Stage, call: u64) {
        let Some(pending) = self.caller.pending.get_mut(&call) else { return };
        let parcel = pending.parcel;
        let Some(class) = Class::of_target(parcel.target) else { return };
        pending.attempt += 1;
        if pending.attempt > 1 {
            stage.checks.tally.repeats += 1;
        }
        let slot = match pending.elsewhere {
            true => self.choice.next(class, &pending.tried),
            false => {
                pending.tried.clear();
                self.way(stage, class)
            }
        };
        if let Some(slot) = slot
            && self.data(stage, slot, parcel)
            && let Some(pending) = self.caller.pending.get_mut(&call)
        {
            pending.tried.push(slot);
            pending.slot = Some(slot);
            let ends = stage.micros(pending.retry.attempt_ends(stage.instant()));
            let attempt = pending.attempt;
            stage.at(ends, self.event(NodeTimer::Attempt { call, attempt }));
        } else {
            self.step(stage, call, Outcome::NotSent(ForwardError::NotConnected));
        }
    }

    fn step(&mut self, stage: &mut Stage, call: u64, outcome: Outcome) {
        let Some(pending) = self.caller.pending.get_mut(&call) else { return };
        let Some(class) = Class::of_target(pending.parcel.target) else { return };
        let untried = self.choice.next(class, &pending.tried).is_some();
        let random = stage.rng.random();
        match pending.retry.step(outcome, untried, stage.instant(), random) {
            Step::Again { after, elsewhere } => {
                (pending.slot, pending.elsewhere) = (None, elsewhere);
                let attempt = pending.attempt;
                let after = after.as_micros() as u64;
                stage.after(after, self.event(NodeTimer::Resend { call, attempt }));
            }
            Step::Wait => {}
            Step::GiveUp(failure) => self.give_up(stage, call, &failure),
        }
    }

    /// The delay before another copy is over.
    pub fn resend(&mut self, stage: &mut Stage, call: u64, attempt: u32) {
        let pending = self.caller.pending.get(&call);
        if pending.is_some_and(|pending| pending.attempt == attempt && pending.slot.is_none()) {
            self.attempt(stage, call);
        }
    }

    /// No answer came in an attempt's time.
    pub fn quiet(&mut self, stage: &mut Stage, call: u64, attempt: u32) {
        let pending = self.caller.pending.get(&call);
        if pending.is_some_and(|pending| pending.attempt == attempt && pending.slot.is_some()) {
            self.step(stage, call, Outcome::Quiet);
        }
    }

    pub fn deadline(&mut self, stage: &mut Stage, call: u64) {
        if let Some(pending) = self.caller.pending.get(&call) {
            let failure = pending.retry.expired();
            self.give_up(stage, call, &failure);
        }
    }

    /// A router could not deliver a copy.
    pub fn returned(&mut self, stage: &mut Stage, call: u64, reason: Reason) {
        self.step(stage, call, Outcome::Bounced(reason));
    }

    /// An instance that may have had a call is gone.
    pub fn shaken(&mut self, stage: &mut Stage, slot: usize, class: Class) {
        let concerned = |pending: &Pending| {
            pending.slot == Some(slot) && pending.parcel.target == class.as_target()
        };
        self.for_each(concerned, |node, call| node.step(stage, call, Outcome::Shaken));
    }

    pub fn link_lost(&mut self, stage: &mut Stage, slot: usize) {
        let concerned = |pending: &Pending| pending.slot == Some(slot);
        self.for_each(concerned, |node, call| node.step(stage, call, Outcome::Lost));
    }

    fn for_each(
        &mut self,
        concerned: impl Fn(&Pending) -> bool,
        mut what: impl FnMut(&mut Self, u64),
    ) {
        let calls = self.caller.pending.iter();
        let calls: Vec<u64> =
            calls.filter(|(_, pending)| concerned(pending)).map(|(call, _)| *call).collect();
        for call in calls {
            what(self, call);
        }
    }

    /// A reply came.
    pub fn answered(&mut self, stage: &mut Stage, reply: Parcel) {
        let call = reply.call_id;
        if reply.what == What::Busy {
            stage.checks.tally.busy += 1;
            self.step(stage, call, Outcome::Busy);
            return;
        }
        // Answers to copies come after the call is done.
        let Some(pending) = self.caller.pending.remove(&call) else { return };
        let tally = &mut stage.checks.tally;
        match reply.what {
            What::Outside => {
                tally.outside += 1;
                let may = stage.load.forgetful;
                stage.checks.require(stage.now, may, || {
                    format!("call {call:x} is outside of a window that has room for all")
                });
            }
            _ => {
                tally.answered += 1;
                let right = reply.body == answer_to(pending.parcel.body);
                stage.checks.require(stage.now, right, || {
                    format!("call {call:x} gets the answer to another")
                });
            }
        }
    }

    fn give_up(&mut self, stage: &mut Stage, call: u64, failure: &Failure) {
        let Some(pending) = self.caller.pending.remove(&call) else { return };
        let tally = &mut stage.checks.tally;
        match failure {
            Failure::Unknown => tally.unknown += 1,
            _ => {
                tally.not_run += 1;
                stage.checks.denied(stage.now, &pending.parcel);
            }
        }
        let (now, caller) = (stage.now, self.index);
        let text = |what: &str| {
            let (mode, key) = (pending.parcel.mode, pending.parcel.key);
            let (born, deadline) = (pending.born / MS, pending.deadline / MS);
            format!(
                "{mode:?} call {call:x} of node {caller} (key {key}, {born} to {deadline} ms) {what}: {failure:?}"
            )
        };
        stage.checks.require(now, now >= pending.deadline, || text("fails before its deadline"));
        let kind = kind_of(&pending.parcel);
        let life = (pending.born, pending.deadline);
        let had_a_chance = stage.had_a_chance(caller, kind, life);
        stage.checks.require(now, !had_a_chance, || text("fails although a path was healthy"));
        let long = pending.deadline - pending.born >= 3 * SECOND;
        let costs = stage.load.gentle && long;
        stage.checks.require(now, !costs, || text("fails although everyone left as planned"));
    }
}

/// The kinds of call that differ in what they need: the master, or the instance of a slot.
pub fn kind_of(parcel: &Parcel) -> usize {
    match parcel.mode {
        Mode::Hash => 1 + (parcel.key % u64::from(HASH_SLOTS)) as usize,
        _ => 0,
    }
}

/// How long a copy is waited for.
pub const ATTEMPT: Duration = Duration::from_millis(250);

/// The longest time from a call to its deadline.
pub const LONGEST_PATIENCE: u64 = 6 * SECOND;
