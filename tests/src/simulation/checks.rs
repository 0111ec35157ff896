//! What must hold, whatever happens. The first thing that does not is kept with its time, and ends the
//! run.

use std::collections::{BTreeMap, VecDeque};

use ahash::{AHashMap, AHashSet};
use switchboard_protocol::control::Master;
use switchboard_protocol::{Class, Reason, ServiceId};

use super::message::Parcel;
use super::stage::{MS, SECOND};

/// The books of a run.
#[derive(Debug)]
pub struct Checks {
    /// The first thing that did not hold.
    pub violation: Option<String>,
    pub tally: Tally,
    /// By router: the masters that it named, by epoch, over all its lives.
    masters: Vec<BTreeMap<u64, (Class, Option<ServiceId>)>>,
    /// Frames that routers have and that have not ended yet.
    open: AHashSet<u64>,
    frames: u64,
    /// The calls that ran at each process, and anywhere.
    ran_at: AHashMap<Process, Calls>,
    ran: Calls,
    /// The calls whose callers were told that they were not run.
    denied: Calls,
    /// The last number that arrived, by path.
    arrived: AHashMap<Path, u64>,
    /// By class: since when two nodes hold its office.
    overlaps: AHashMap<Class, u64>,
    /// By caller: for each kind of call the stretches of time in which a path was healthy.
    healthy: Vec<Vec<VecDeque<(u64, u64)>>>,
}

/// One life of a node.
pub type Process = (usize, u64);

/// A set of calls, by source and call id: blocks with a bit for each.
#[derive(Debug, Default)]
struct Calls(AHashMap<(ServiceId, u64), [u64; 16]>);

/// Where order holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    pub to: Process,
    pub from: (ServiceId, u64),
    pub router: (usize, u64),
    pub moved: bool,
}

/// How a frame ended at a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was written to its target's connection.
    Delivered,
    /// It was returned, or would have been if its sender had asked.
    Bounced(Reason),
    /// Its source is not its sender's.
    Refused,
    /// The router died with it.
    Died,
}

/// What happened in a run.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Idempotent calls.
    pub calls: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that failed at their deadline, with a copy that may have been run.
    pub unknown: u64,
    /// Those that failed at their deadline and were not run.
    pub not_run: u64,
    /// Those that a window may have forgotten.
    pub outside: u64,
    /// Those whose caller died.
    pub abandoned: u64,
    /// Copies beyond the first of each call.
    pub repeats: u64,
    /// Copies that were answered `busy`.
    pub busy: u64,
    /// Copies that found their call in progress.
    pub running: u64,
    /// Copies that found their call answered.
    pub again: u64,
    /// How often a call began to run.
    pub runs: u64,
    /// Those runs of a call that had run at another process before.
    pub runs_elsewhere: u64,
    /// One-way frames that were sent.
    pub forwards: u64,
    /// Those that arrived.
    pub forwards_arrived: u64,
    /// Those that a router could not deliver.
    pub forwards_bounced: u64,
    /// Frames that a router wrote to their target's connection.
    pub delivered: u64,
    /// Frames that a router returned.
    pub bounced: u64,
    /// Frames from an id that is not their sender's.
    pub refused: u64,
    /// Frames that a router died with.
    pub died: u64,
    /// Frames that waited, or were left in a mailbox, and were picked anew.
    pub picked_anew: u64,
    /// Changes of a master at a router.
    pub elections: u64,
    /// Offices taken by a node.
    pub promotions: u64,
    /// Offices that were claimed because routers differed.
    pub claims: u64,
    /// The longest time in microseconds that two nodes held one office and shared a router.
    pub overlap: u64,
    /// Things that went wrong, or were put right.
    pub faults: u64,
    /// The most calls that a caller had under way.
    pub peak_pending: usize,
    /// The most calls that a window knew.
    pub peak_window: usize,
    /// The most frames that waited at a router for someone to come.
    pub peak_parked: usize,
    /// The most frames in a mailbox.
    pub peak_mailbox: usize,
}

impl Checks {
    pub fn new(routers: usize) -> Self {
        Self {
            violation: None,
            tally: Tally::default(),
            masters: vec![BTreeMap::new(); routers],
            open: AHashSet::new(),
            frames: 0,
            ran_at: AHashMap::new(),
            ran: Calls::default(),
            denied: Calls::default(),
            arrived: AHashMap::new(),
            overlaps: AHashMap::new(),
            healthy: Vec::new(),
        }
    }

    /// Notes that something does not hold.
    pub fn fail(&mut self, now: u64, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(format!("at {}.{:06} s: {}", now / SECOND, now % SECOND, what()));
        }
    }

    pub fn require(&mut self, now: u64, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(now, what);
        }
    }

    /// A router named a master.
    pub fn elected(&mut self, now: u64, router: usize, class: Class, master: Master) {
        let known = &mut self.masters[router];
        match known.get(&master.epoch) {
            Some(same) if *same == (class, master.id) => {}
            Some((before, id)) => {
                let text = format!(
                    "router {router} names two masters in epoch {}: {id:?} of class {before}, {:?} of class {class}",
                    master.epoch, master.id
                );
                self.fail(now, || text);
            }
            None => {
                let last = known.last_key_value().map_or(0, |(epoch, _)| *epoch);
                known.insert(master.epoch, (class, master.id));
                // What came before the last few hundred can't come back.
                if known.len() > 512 {
                    known.pop_first();
                }
                self.tally.elections += 1;
                self.require(now, master.epoch > last, || {
                    format!("router {router} goes back from epoch {last} to {}", master.epoch)
                });
            }
        }
    }

    /// A frame came to a router.
    pub fn frame(&mut self) -> u64 {
        self.frames += 1;
        self.open.insert(self.frames);
        self.frames
    }

    /// It ended.
    pub fn ended(&mut self, now: u64, frame: u64, ending: Ending) {
        let was_open = self.open.remove(&frame);
        self.require(now, was_open, || format!("frame {frame} ends twice, now as {ending:?}"));
        match ending {
            Ending::Delivered => self.tally.delivered += 1,
            Ending::Bounced(_) => self.tally.bounced += 1,
            Ending::Refused => self.tally.refused += 1,
            Ending::Died => self.tally.died += 1,
        }
    }

    /// An idempotent call began to run.
    pub fn ran(&mut self, now: u64, at: Process, call: &Parcel) {
        self.tally.runs += 1;
        let (source, call) = (call.source, call.call_id);
        let again = !self.ran_at.entry(at).or_default().insert(source, call);
        let elsewhere = !self.ran.insert(source, call) && !again;
        self.tally.runs_elsewhere += u64::from(elsewhere);
        self.require(now, !again, || {
            format!("node {} runs call {call:x} of {source} a second time", at.0)
        });
        let denied = self.denied.contains(source, call);
        self.require(now, !denied, || {
            format!("call {call:x} of {source} runs after its caller was told that it did not")
        });
    }

    /// A caller is told that its call was not run.
    pub fn denied(&mut self, now: u64, call: &Parcel) {
        let (source, call) = (call.source, call.call_id);
        self.denied.insert(source, call);
        let ran = self.ran.contains(source, call);
        self.require(now, !ran, || {
            format!("call {call:x} of {source} ran, and its caller is told that it did not")
        });
    }

    /// A one-way frame arrived.
    pub fn arrived(&mut self, now: u64, path: Path, number: u64) {
        self.tally.forwards_arrived += 1;
        let last = self.arrived.insert(path, number);
        self.require(now, last.is_none_or(|last| last < number), || {
            format!("frame {number} arrives behind {last:?} on {path:?}")
        });
    }

    /// A process is gone, and what it did can't happen again.
    pub fn died(&mut self, process: Process) {
        self.ran_at.remove(&process);
        self.arrived.retain(|path, _| path.to != process);
    }

    /// Who holds the office of a class at this moment. `most` is how long two may that share a router:
    /// while the news of a change is on its way.
    pub fn holders(
        &mut self,
        now: u64,
        class: Class,
        holders: &[usize],
        together: bool,
        most: Option<u64>,
    ) {
        if holders.len() < 2 || !together {
            if let Some(since) = self.overlaps.remove(&class) {
                self.tally.overlap = self.tally.overlap.max(now - since);
            }
            return;
        }
        let since = *self.overlaps.entry(class).or_insert(now);
        if let Some(most) = most {
            self.require(now, now - since <= most, || {
                format!(
                    "nodes {holders:?} have held the office of class {class} together for {} ms",
                    (now - since) / MS
                )
            });
        }
    }

    /// For these callers and kinds of call a path was healthy from `since` until now.
    pub fn healthy(&mut self, caller: usize, kind: usize, since: u64, now: u64) {
        if self.healthy.len() <= caller {
            self.healthy.resize(caller + 1, Vec::new());
        }
        let kinds = &mut self.healthy[caller];
        if kinds.len() <= kind {
            kinds.resize(kind + 1, VecDeque::new());
        }
        let stretches = &mut kinds[kind];
        stretches.push_back((since, now));
        while stretches.front().is_some_and(|(_, end)| now - end > LONGEST_CALL) {
            stretches.pop_front();
        }
    }

    /// Whether a call had a healthy path for `enough` during its life.
    pub fn had_a_chance(&self, caller: usize, kind: usize, life: (u64, u64), enough: u64) -> bool {
        let kinds = self.healthy.get(caller).and_then(|kinds| kinds.get(kind));
        kinds.into_iter().flatten().any(|(since, until)| {
            (*until).min(life.1).saturating_sub((*since).max(life.0)) >= enough
        })
    }

    /// Nothing may be left at the end.
    pub fn close(&mut self, now: u64) {
        let left = self.open.len();
        self.require(now, left == 0, || format!("{left} frames have come to no end at a router"));
        let Tally { calls, answered, unknown, not_run, outside, abandoned, .. } = self.tally;
        let ended = answered + unknown + not_run + outside + abandoned;
        self.require(now, calls == ended, || format!("{calls} calls, and {ended} ends of calls"));
    }
}

impl Calls {
    /// Adds a call; false if it is there already.
    fn insert(&mut self, source: ServiceId, call: u64) -> bool {
        let (word, bit) = place(call);
        let block = self.0.entry((source, call / CALLS_PER_BLOCK)).or_default();
        let before = block[word] & bit;
        block[word] |= bit;
        before == 0
    }

    fn contains(&self, source: ServiceId, call: u64) -> bool {
        let (word, bit) = place(call);
        let block = self.0.get(&(source, call / CALLS_PER_BLOCK));
        block.is_some_and(|block| block[word] & bit != 0)
    }
}

/// Where in its block a call stands.
fn place(call: u64) -> (usize, u64) {
    ((call % CALLS_PER_BLOCK / 64) as usize, 1 << (call % 64))
}

/// How many calls of a source are kept together.
const CALLS_PER_BLOCK: u64 = 64 * 16;

/// No call of the simulation lives for longer.
pub const LONGEST_CALL: u64 = 10 * SECOND;
