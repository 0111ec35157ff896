//! Connections between nodes and routers: in order, as TCP, with delays, silence and cuts.
//!
//! While a node and a router are parted, nothing arrives; what was sent before or meanwhile arrives
//! once they are together again; later than what is new, where its sender has closed the connection by then.

use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;

use super::message::{End, Message};
use super::stage::{Event, MS, SECOND, Stage};

/// All connections, and how it stands between each node and each router.
#[derive(Debug)]
pub struct Network {
    conns: BTreeMap<u64, Conn>,
    opened: u64,
    /// By node and router: how many faults part them.
    parted: Vec<Vec<u8>>,
    /// By node and router: how long a message takes.
    delay: Vec<Vec<u64>>,
}

#[derive(Debug)]
struct Conn {
    node: usize,
    router: usize,
    /// By end: whether its process holds it.
    open: [bool; 2],
    /// By the end that they lead to.
    lanes: [Lane; 2],
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<(u64, Message)>,
    /// When the last message arrives: none overtakes it.
    last: u64,
    /// Its next message was due and could not arrive.
    stuck: bool,
}

/// What came out of a lane.
pub struct Arrival {
    pub node: usize,
    pub router: usize,
    pub message: Message,
}

impl Network {
    pub fn new(nodes: usize, routers: usize) -> Self {
        Self {
            conns: BTreeMap::new(),
            opened: 0,
            parted: vec![vec![0; routers]; nodes],
            delay: vec![vec![DELAY; routers]; nodes],
        }
    }

    pub fn len(&self) -> usize {
        self.conns.len()
    }

    pub fn open(&mut self, node: usize, router: usize) -> u64 {
        self.opened += 1;
        let conn = Conn { node, router, open: [true, false], lanes: Default::default() };
        self.conns.insert(self.opened, conn);
        self.opened
    }

    /// Whose connection it is.
    pub fn ends(&self, conn: u64) -> Option<(usize, usize)> {
        self.conns.get(&conn).map(|conn| (conn.node, conn.router))
    }

    pub fn is_parted(&self, node: usize, router: usize) -> bool {
        self.parted[node][router] > 0
    }

    pub fn is_slow(&self, node: usize, router: usize) -> bool {
        self.delay[node][router] > SLOW
    }

    pub fn part(&mut self, node: usize, router: usize) {
        self.parted[node][router] += 1;
    }

    /// Takes one fault back.
    pub fn join(&mut self, node: usize, router: usize) {
        let parted = &mut self.parted[node][router];
        *parted = parted.saturating_sub(1);
    }

    pub fn set_delay(&mut self, node: usize, router: usize, delay: u64) {
        self.delay[node][router] = delay;
    }

    /// All connections between a node and a router that neither end has closed.
    pub fn between(&self, node: usize, router: usize) -> Vec<u64> {
        let between = self.conns.iter().filter(|(_, conn)| {
            (conn.node, conn.router) == (node, router) && conn.open == [true, true]
        });
        between.map(|(number, _)| *number).collect()
    }

    /// All connections that one end holds.
    pub fn held(&self, end: End, process: usize) -> Vec<u64> {
        let held = self.conns.iter().filter(|(_, conn)| {
            let owner = if end == End::Node { conn.node } else { conn.router };
            owner == process && conn.open[end as usize]
        });
        held.map(|(number, _)| *number).collect()
    }
}

impl Stage {
    pub fn send(&mut self, conn: u64, to: End, message: Message) {
        let Some(open) = self.network.conns.get_mut(&conn) else { return };
        let delay = self.network.delay[open.node][open.router];
        let at = self.now + delay + self.rng.random_range(0..=delay / 2);
        let lane = &mut open.lanes[to as usize];
        lane.last = lane.last.max(at);
        let at = lane.last;
        lane.queue.push_back((at, message));
        if lane.queue.len() == 1 && !lane.stuck {
            self.at(at, Event::Arrive { conn, to });
        }
    }

    /// Takes the next message out of a lane, if it can arrive and somebody holds the end. `frozen`:
    /// nobody reads there at the moment.
    pub fn arrive(&mut self, conn: u64, to: End, frozen: bool) -> Option<Arrival> {
        let open = self.network.conns.get_mut(&conn)?;
        let (node, router) = (open.node, open.router);
        let lane = &mut open.lanes[to as usize];
        if frozen || self.network.parted[node][router] > 0 {
            lane.stuck = true;
            return None;
        }
        let (_, message) = lane.queue.pop_front()?;
        let next = lane.queue.front().map(|(at, _)| *at);
        // From here on the router holds its end.
        open.open[to as usize] |= matches!(message, Message::Syn);
        let held = open.open[to as usize];
        if let Some(at) = next {
            self.at(at, Event::Arrive { conn, to });
        }
        held.then_some(Arrival { node, router, message })
    }

    /// One end lets go. `silent`: the other does not hear of it, as when a machine loses power.
    pub fn close(&mut self, conn: u64, by: End, silent: bool) {
        let Some(open) = self.network.conns.get_mut(&conn) else { return };
        if !std::mem::replace(&mut open.open[by as usize], false) {
            return;
        }
        if open.open == [false, false] {
            self.network.conns.remove(&conn);
            return;
        }
        if !silent {
            self.send(conn, by.other(), Message::Closed);
        }
    }

    /// Both ends find the connection cut.
    pub fn reset(&mut self, conn: u64) {
        self.send(conn, End::Node, Message::Closed);
        self.send(conn, End::Router, Message::Closed);
    }

    /// Sets going what could not arrive, for a node that is there again or a router that is.
    pub fn unstick(&mut self, concerned: impl Fn(usize, usize) -> bool) {
        let mut due = Vec::new();
        for (number, conn) in &mut self.network.conns {
            let parted = self.network.parted[conn.node][conn.router] > 0;
            if parted || !concerned(conn.node, conn.router) {
                continue;
            }
            for to in [End::Node, End::Router] {
                let lane = &mut conn.lanes[to as usize];
                if std::mem::take(&mut lane.stuck) && !lane.queue.is_empty() {
                    due.push((*number, to, conn.open[to.other() as usize]));
                }
            }
        }
        for (conn, to, is_held) in due {
            // What is sent again and again is sent ever more rarely.
            let latest = if is_held { 2 * DELAY } else { LATE };
            let delay = self.rng.random_range(DELAY..=latest);
            self.after(delay, Event::Arrive { conn, to });
        }
    }
}

/// How long a message takes where all is well.
pub const DELAY: u64 = MS / 5;

/// How late what an abandoned connection holds may arrive.
const LATE: u64 = SECOND;

/// Above this a path is not called healthy.
const SLOW: u64 = 5 * MS;
