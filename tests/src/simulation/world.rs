//! A cluster, what happens to it, and what is left of it: two routers, three instances of a class with
//! a master, three of a class whose calls go by key, and three callers.

use std::ops::RangeInclusive;

use rand::RngExt;
use switchboard_protocol::{Class, Instance, ServiceId};

use super::callee::WINDOW_AGE;
use super::checks::Tally;
use super::faults::{Fault, Weather};
use super::message::{End, Message};
use super::node::Node;
use super::router::Router;
use super::stage::{Event, MS, SECOND, Stage};

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Where all chance comes from.
    pub seed: u64,
    /// What goes wrong.
    pub weather: Weather,
    /// How long there are faults and work.
    pub length: u64,
    /// The mean time between faults.
    pub pace: u64,
    /// The mean time between two calls of a caller.
    pub gap: u64,
    /// How many calls a callee runs at a time; above that it is busy.
    pub running: usize,
    /// How many calls a window keeps.
    pub entries: usize,
    /// One in so many calls reaches its callee a second time; 0 for none.
    pub twice: u32,
}

/// A cluster.
pub struct World {
    setup: Setup,
    pub stage: Stage,
    pub routers: Vec<Router>,
    pub nodes: Vec<Node>,
    /// Since when nothing changed that decides whether a path is healthy, and what is.
    seen: u64,
}

/// Runs a cluster. The answer says what happened, or the first thing that must not.
pub fn run(setup: Setup) -> Result<Tally, String> {
    let mut world = World::new(setup);
    world.go(setup.length);
    world.event(Event::Fault(Fault::HealAll));
    world.go(setup.length + AGREED);
    world.look_at_offices();
    world.go(setup.length + SETTLE);
    world.look_at_offices();
    world.look_back();
    match world.stage.checks.violation.take() {
        Some(violation) => Err(violation),
        None => Ok(world.stage.checks.tally.clone()),
    }
}

impl Setup {
    /// A short run whose nature follows from its seed.
    pub fn short(seed: u64) -> Self {
        let weather = Weather::ALL[(seed % 4) as usize];
        // A quarter of the runs has windows that forget.
        let entries = if (seed / 4).is_multiple_of(4) { 16 } else { 4096 };
        Self {
            seed,
            weather,
            length: 12 * SECOND,
            pace: SECOND,
            gap: 100 * MS,
            running: 8,
            entries,
            twice: 8,
        }
    }

    /// An hour of everything, with about so many calls.
    pub fn hour(seed: u64, calls: u64) -> Self {
        let length = 3_600 * SECOND;
        // Three callers, and three of four things that they do are calls.
        let gap = (length * CALLER_NODES as u64 * 3 / 4 / calls.max(1)).max(1);
        Self {
            seed,
            weather: Weather::Storm,
            length,
            pace: 3 * SECOND,
            gap,
            running: 1024,
            entries: 1 << 17,
            twice: 100,
        }
    }

    fn forgetful(&self) -> bool {
        self.entries < 1000
    }
}

impl World {
    fn new(setup: Setup) -> Self {
        let mut stage = Stage::new(setup.seed, NODES, ROUTERS);
        stage.load.until = setup.length;
        stage.load.gap = setup.gap;
        stage.load.running = setup.running;
        stage.load.twice = setup.twice;
        stage.load.forgetful = setup.forgetful();
        stage.load.gentle = setup.weather == Weather::Rolling;
        for (at, fault) in setup.weather.faults(&mut stage.rng, setup.length, setup.pace) {
            if at < setup.length {
                stage.at(at, Event::Fault(fault));
            }
        }
        let routers = (0..ROUTERS).map(Router::new).collect();
        let nodes = (0..NODES).map(|node| Node::new(node, id_of(node), setup.entries)).collect();
        let mut world = Self { setup, stage, routers, nodes, seen: u64::MAX };
        for router in 0..ROUTERS {
            world.fault(Fault::StartRouter { router });
        }
        for node in 0..NODES {
            world.fault(Fault::StartNode { node });
        }
        world
    }

    fn go(&mut self, until: u64) {
        while self.stage.checks.violation.is_none() {
            let Some(event) = self.stage.next(until) else { break };
            self.event(event);
            self.check();
        }
    }

    fn event(&mut self, event: Event) {
        let stage = &mut self.stage;
        match event {
            Event::Arrive { conn, to } => self.arrive(conn, to),
            Event::Node { node, life, timer } => {
                let owner = &mut self.nodes[node];
                if !owner.alive || owner.life != life {
                    return;
                }
                if owner.is_paused(stage.now) {
                    let until = owner.paused_until;
                    stage.at(until, Event::Node { node, life, timer });
                    return;
                }
                owner.timer(stage, timer);
            }
            Event::Router { router, life, timer } => {
                if self.routers[router].up && self.routers[router].life == life {
                    self.routers[router].timer(&mut self.stage, timer);
                }
            }
            Event::Fault(fault) => {
                self.stage.checks.tally.faults += 1;
                self.fault(fault);
            }
        }
    }

    fn arrive(&mut self, conn: u64, to: End) {
        let Some((node, _)) = self.stage.network.ends(conn) else { return };
        let frozen = to == End::Node && self.nodes[node].is_paused(self.stage.now);
        let Some(arrival) = self.stage.arrive(conn, to, frozen) else { return };
        match to {
            End::Router => {
                self.routers[arrival.router].receive(&mut self.stage, conn, arrival.message);
            }
            End::Node => {
                if matches!(arrival.message, Message::Data(_)) {
                    self.routers[arrival.router].taken(&mut self.stage, conn);
                }
                let (slot, message) = (arrival.router, arrival.message);
                self.nodes[arrival.node].receive(&mut self.stage, slot, conn, message);
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        let stage = &mut self.stage;
        stage.topology_changed();
        match fault {
            Fault::KillNode { node, silent } => self.nodes[node].kill(stage, silent),
            Fault::StartNode { node } => {
                let started = &mut self.nodes[node];
                if started.draining {
                    started.kill(stage, false);
                }
                started.start(stage, self.setup.entries);
            }
            Fault::Pause { node, until } => self.nodes[node].paused_until = until,
            Fault::Resume { node } => stage.unstick(|at, _| at == node),
            Fault::DrainNode { node } => self.nodes[node].drain(stage),
            Fault::Part { node, router } => stage.network.part(node, router),
            Fault::Join { node, router } => {
                stage.network.join(node, router);
                stage.unstick(|at, with| (at, with) == (node, router));
            }
            Fault::Reset { node, router } => {
                for conn in stage.network.between(node, router) {
                    stage.reset(conn);
                }
            }
            Fault::Delay { node, router, delay } => stage.network.set_delay(node, router, delay),
            Fault::KillRouter { router, silent } => self.routers[router].kill(stage, silent),
            Fault::StartRouter { router } => {
                self.routers[router].start(stage);
                stage.lives[router] = self.routers[router].life;
            }
            Fault::DrainRouter { router } => {
                let after = stage.rng.random_range(1_000..4_000);
                self.routers[router].drain(stage, after);
            }
            Fault::HealAll => self.heal(),
        }
    }

    fn heal(&mut self) {
        for node in 0..NODES {
            for router in 0..ROUTERS {
                while self.stage.network.is_parted(node, router) {
                    self.stage.network.join(node, router);
                }
                self.stage.network.set_delay(node, router, super::network::DELAY);
            }
            self.fault(Fault::StartNode { node });
        }
        for router in 0..ROUTERS {
            if self.routers[router].is_leaving() {
                self.fault(Fault::KillRouter { router, silent: false });
            }
            self.fault(Fault::StartRouter { router });
        }
        self.stage.unstick(|_, _| true);
    }

    /// After each event.
    fn check(&mut self) {
        for class in [MASTERED, HASHED] {
            let holders = self.nodes.iter().filter(|node| node.class() == class);
            let holders: Vec<usize> = holders
                .filter(|node| node.holds_office(&self.stage))
                .map(|node| node.index)
                .collect();
            let most = self.setup.weather.longest_overlap(class == MASTERED);
            let together = self.share_a_router(&holders);
            self.stage.checks.holders(self.stage.now, class, &holders, together, most);
        }
        if self.stage.topology() != self.seen {
            self.seen = self.stage.topology();
            self.look_for_paths();
        }
    }

    /// Whether two of these nodes have a router in common, so far as they know. Where they have not,
    /// nobody can tell them of each other.
    fn share_a_router(&self, nodes: &[usize]) -> bool {
        let linked = |router, nodes: &[usize]| {
            nodes.iter().filter(|node| self.nodes[**node].conn(router).is_some()).count() > 1
        };
        (0..ROUTERS).any(|router| linked(router, nodes))
    }

    /// When all has been well for a while: every class has a master, and all routers name the same.
    fn look_at_offices(&mut self) {
        let now = self.stage.now;
        for class in [MASTERED, HASHED] {
            let of_class = self.nodes.iter().filter(|node| node.class() == class);
            let holders: Vec<ServiceId> = of_class
                .filter(|node| node.holds_office(&self.stage))
                .map(|node| node.id)
                .collect();
            let masters: Vec<_> =
                self.routers.iter().map(|router| router.registry.master(class)).collect();
            self.stage.checks.require(now, holders.len() == 1, || {
                format!(
                    "{holders:?} hold the office of class {class}, and routers name {masters:?}"
                )
            });
        }
    }

    /// At the end, when all has been well for long: nothing may be left over.
    fn look_back(&mut self) {
        let now = self.stage.now;
        let checks = &mut self.stage.checks;
        checks.close(now);
        let Tally { forwards, forwards_arrived, forwards_bounced, .. } = checks.tally;
        let lost = forwards - forwards_arrived - forwards_bounced;
        let gentle = self.stage.load.gentle;
        checks.require(now, lost == 0 || !gentle, || {
            format!("{lost} one-way frames are lost although everyone left as planned")
        });
        for node in &mut self.nodes {
            let (index, pending) = (node.index, node.caller.pending.len());
            checks.require(now, pending == 0, || format!("node {index}: {pending} calls pending"));
            let running = node.callee.running;
            checks.require(now, running == 0, || format!("node {index}: {running} calls running"));
            for slot in 0..ROUTERS {
                let up = node.conn(slot).is_some();
                checks.require(now, up, || format!("node {index} has no link with router {slot}"));
                let member = self.routers[slot].registry.table().find(node.id);
                let known = member.map(|member| member.handle.0) == node.conn(slot);
                checks.require(now, known, || format!("router {slot} does not know node {index}"));
            }
        }
        for router in &self.routers {
            let (sessions, waiting) = (router.sessions.len(), router.waiting());
            let checks = &mut self.stage.checks;
            checks.require(now, waiting == 0, || format!("{waiting} frames wait at a router"));
            let empty = router.lots.is_empty();
            checks.require(now, empty, || "a router keeps frames parked".to_owned());
            checks.require(now, sessions == NODES, || format!("{sessions} sessions at a router"));
        }
        let conns = self.stage.network.len();
        self.stage.checks.require(now, conns == NODES * ROUTERS, || format!("{conns} connections"));
        // Long after the last call the windows have forgotten all of them, and their floors.
        let aged = self.stage.moment(now) + WINDOW_AGE;
        for node in &mut self.nodes {
            let window = &mut node.callee.window;
            window.expire(aged);
            let (calls, bytes) = (window.len(), window.bytes());
            window.expire(aged + 11 * WINDOW_AGE);
            let floors = window.floors();
            self.stage.checks.require(now, (calls, bytes, floors) == (0, 0, 0), || {
                format!("a window keeps {calls} calls, {bytes} bytes, {floors} floors for ever")
            });
        }
    }
}

/// The id of a node.
pub fn id_of(node: usize) -> ServiceId {
    let class = [MASTERED, HASHED, *CALLERS.start()][node / 3];
    let instance = Instance::new(node as u32 % 3 + 1).unwrap_or(Instance::MIN);
    ServiceId::new(class, instance)
}

/// The class whose calls go to its master.
pub const MASTERED: Class = Class::of(1);

/// The class whose calls go by key.
pub const HASHED: Class = Class::of(2);

/// The classes that only call others.
pub const CALLERS: RangeInclusive<Class> = Class::of(3)..=Class::of(3);

/// How many instances keys are dealt to.
pub const HASH_SLOTS: u32 = 3;

pub const ROUTERS: usize = 2;

/// Instances that are called.
pub const CALLEES: usize = 6;

pub const CALLER_NODES: usize = 3;

pub const NODES: usize = CALLEES + CALLER_NODES;

/// The clock at the start: incarnations and epochs are clock readings.
pub const EPOCH: u64 = 1_700_000_000 * SECOND;

/// How long routers have until they agree.
const AGREED: u64 = 6 * SECOND;

/// How long a cluster has until all is well again.
const SETTLE: u64 = 12 * SECOND;
