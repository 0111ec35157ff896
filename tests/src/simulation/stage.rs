//! What all simulated processes stand on: virtual time, the agenda of what happens when, the
//! network, chance, and the checks. Time is in microseconds since the start.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::checks::Checks;
use super::faults::Fault;
use super::message::{End, Parcel};
use super::network::Network;
use super::paths::ENOUGH;

/// Everything that a process may touch besides itself.
pub struct Stage {
    /// Virtual time.
    pub now: u64,
    /// What connects processes.
    pub network: Network,
    /// What must hold.
    pub checks: Checks,
    /// The only source of chance.
    pub rng: SmallRng,
    pub load: Load,
    /// How often each router was started; only the checks look at it.
    pub lives: Vec<u64>,
    /// How often something changed that decides whether a path is healthy.
    topology: u64,
    /// Since when nothing of that kind changed, and the callers and kinds of call that are well off.
    healthy: (u64, Vec<(usize, usize)>),
    start: Instant,
    agenda: BinaryHeap<Reverse<Entry>>,
    entered: u64,
}

/// What nodes do, and what is asked of them.
#[derive(Debug, Default)]
pub struct Load {
    /// When callers stop.
    pub until: u64,
    /// The mean time between two calls of a caller.
    pub gap: u64,
    /// One in so many calls reaches its callee a second time; 0 for none.
    pub twice: u32,
    /// How many calls a callee runs at a time.
    pub running: usize,
    /// Windows are so small that they forget calls which are repeated.
    pub forgetful: bool,
    /// Everyone leaves as planned.
    pub gentle: bool,
}

/// Something that will happen.
#[derive(Debug)]
pub enum Event {
    /// The next message of a lane is there.
    Arrive { conn: u64, to: End },
    /// A timer of a node, void if the node has died since.
    Node { node: usize, life: u64, timer: NodeTimer },
    /// The same for a router.
    Router { router: usize, life: u64, timer: RouterTimer },
    /// Something goes wrong, or is put right.
    Fault(Fault),
}

/// What a node waits for.
#[derive(Debug, Clone, Copy)]
pub enum NodeTimer {
    Connect { slot: usize },
    ConnectTimeout { slot: usize, conn: u64 },
    Beat { slot: usize, conn: u64 },
    Leave { slot: usize, conn: u64 },
    Lapse,
    Work,
    Attempt { call: u64, attempt: u32 },
    Resend { call: u64, attempt: u32 },
    Deadline { call: u64 },
    Finish { parcel: Parcel },
    Twice { slot: usize, parcel: Parcel },
    Retire,
}

/// What a router waits for.
#[derive(Debug, Clone, Copy)]
pub enum RouterTimer {
    Watch { conn: u64 },
    Lots,
}

#[derive(Debug)]
struct Entry {
    at: u64,
    /// What was entered first happens first.
    place: u64,
    event: Event,
}

impl Stage {
    pub fn new(seed: u64, nodes: usize, routers: usize) -> Self {
        Self {
            now: 0,
            network: Network::new(nodes, routers),
            checks: Checks::new(routers),
            rng: SmallRng::seed_from_u64(seed),
            load: Load::default(),
            lives: vec![0; routers],
            topology: 0,
            healthy: (0, Vec::new()),
            start: Instant::now(),
            agenda: BinaryHeap::new(),
            entered: 0,
        }
    }

    /// Virtual time, for logic that takes an `Instant`.
    pub fn instant(&self) -> Instant {
        self.moment(self.now)
    }

    pub fn moment(&self, at: u64) -> Instant {
        self.start + Duration::from_micros(at)
    }

    /// The virtual time of an `Instant`.
    pub fn micros(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.start).as_micros() as u64
    }

    pub fn at(&mut self, at: u64, event: Event) {
        let place = self.entered;
        self.entered += 1;
        self.agenda.push(Reverse(Entry { at: at.max(self.now), place, event }));
    }

    pub fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// What happens next, unless that is later than `until`.
    pub fn next(&mut self, until: u64) -> Option<Event> {
        if self.agenda.peek().is_none_or(|Reverse(entry)| entry.at > until) {
            self.now = until;
            return None;
        }
        let Reverse(entry) = self.agenda.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }

    /// Something changed that decides whether a path is healthy.
    pub fn topology_changed(&mut self) {
        self.topology += 1;
    }

    pub fn topology(&self) -> u64 {
        self.topology
    }

    /// Takes in which callers have a healthy path for which kinds of call from now on.
    pub fn paths_changed(&mut self, healthy: Vec<(usize, usize)>) {
        let (since, before) = std::mem::replace(&mut self.healthy, (self.now, healthy));
        if self.now - since >= ENOUGH {
            for (caller, kind) in before {
                self.checks.healthy(caller, kind, since, self.now);
            }
        }
    }

    /// Whether a call had a healthy path for long enough, until now.
    pub fn had_a_chance(&self, caller: usize, kind: usize, life: (u64, u64)) -> bool {
        let (since, healthy) = &self.healthy;
        let now = life.1.min(self.now).saturating_sub((*since).max(life.0)) >= ENOUGH
            && healthy.contains(&(caller, kind));
        now || self.checks.had_a_chance(caller, kind, life, ENOUGH)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.place) == (other.at, other.place)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.place).cmp(&(other.at, other.place))
    }
}

/// A millisecond of virtual time.
pub const MS: u64 = 1_000;

/// A second of it.
pub const SECOND: u64 = 1_000 * MS;

/// How often nodes ping. Real ones take four times as long; nothing depends on it.
pub const HEARTBEAT: u64 = 500 * MS;

/// How long either end puts up with silence.
pub const SILENCE: u64 = 3 * HEARTBEAT;

/// How long an answered ping lets a master go on, counted from when it was sent.
pub const LEASE: u64 = HEARTBEAT * 5 / 2;
