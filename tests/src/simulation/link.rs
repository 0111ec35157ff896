//! A simulated node's links: connecting, the heartbeat, leaving a router that asks for it.

use std::collections::VecDeque;
use std::time::Duration;

use rand::RngExt;
use switchboard::logic::{Backoff, Input, Standing};
use switchboard_protocol::control::{Hello, Ping, Service, Unregister, Welcome};
use switchboard_protocol::{Control, ServiceId};

use super::message::{End, Message, Parcel};
use super::node::Node;
use super::stage::{HEARTBEAT, LEASE, MS, NodeTimer, SECOND, Stage};
use super::world::{CALLERS, HASHED, MASTERED};

/// A node's side of its connection with one router.
#[derive(Debug)]
pub struct Link {
    pub state: LinkState,
    pub conn: u64,
    /// How often it has connected, or tried to.
    attempt: u64,
    pub heard: bool,
    silent: u32,
    /// When Hello was sent.
    hello: u64,
    /// The pings without an answer, and when they were sent.
    pings: VecDeque<(u64, u64)>,
    backoff: Backoff,
    /// When a router that asked this node to go wants it back.
    pub come_back: Option<u64>,
    pub last_data: u64,
    /// The router has answered that it picks this node no more.
    pub drained: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    Down,
    Opening,
    Greeting,
    Up,
}

impl Node {
    /// Its connection with a router over which it may send.
    pub fn conn(&self, slot: usize) -> Option<u64> {
        let link = &self.links[slot];
        (link.state == LinkState::Up).then_some(link.conn)
    }

    pub fn data(&self, stage: &mut Stage, slot: usize, parcel: Parcel) -> bool {
        let conn = self.conn(slot);
        if let Some(conn) = conn {
            stage.send(conn, End::Router, Message::Data(parcel));
        }
        conn.is_some()
    }

    pub fn control(&self, stage: &mut Stage, slot: usize, message: Control) {
        if let Some(conn) = self.conn(slot) {
            stage.send(conn, End::Router, Message::Control(Box::new(message)));
        }
    }

    pub fn connect(&mut self, stage: &mut Stage, slot: usize) {
        if self.links[slot].state != LinkState::Down {
            return;
        }
        let conn = stage.network.open(self.index, slot);
        let link = &mut self.links[slot];
        (link.conn, link.state) = (conn, LinkState::Opening);
        link.attempt += 1;
        stage.send(conn, End::Router, Message::Syn);
        stage.after(SECOND, self.event(NodeTimer::ConnectTimeout { slot, conn }));
    }

    pub fn greet(&mut self, stage: &mut Stage, slot: usize) {
        if self.draining {
            return;
        }
        let claims = self.offices.claims(stage.instant());
        let claim = claims.iter().find(|(class, _)| *class == self.id.class());
        let service =
            Service { master_since: claim.map_or(0, |(_, epoch)| *epoch), ..Service::of(self.id) };
        let watch = match CALLERS.contains(&self.id.class()) {
            true => vec![MASTERED, HASHED],
            false => Vec::new(),
        };
        let hello = Hello {
            services: vec![service],
            incarnation: self.incarnation,
            watch,
            attempt: self.links[slot].attempt,
            ..Hello::default()
        };
        let link = &mut self.links[slot];
        (link.state, link.hello) = (LinkState::Greeting, stage.now);
        let message = Message::Control(Box::new(Control::Hello(hello)));
        stage.send(link.conn, End::Router, message);
    }

    pub fn welcome(&mut self, stage: &mut Stage, slot: usize, welcome: &Welcome) {
        let link = &mut self.links[slot];
        link.state = LinkState::Up;
        link.backoff.reset();
        let (conn, hello) = (link.conn, link.hello);
        let standing = match welcome.uptime_ms {
            0..3_000 => Standing::Young,
            _ => Standing::Settled,
        };
        self.choice.up(slot, &welcome.router, standing);
        let mine = |id: Option<ServiceId>| id.filter(|id| *id == self.id);
        let masters = welcome.masters.iter();
        let masters = masters.map(|(class, master)| (*class, mine(master.id), master.epoch));
        let (masters, until) = (masters.collect(), stage.moment(hello + LEASE));
        self.office(stage, Input::Up { slot, masters, until });
        stage.topology_changed();
        self.beat(stage, slot, conn);
    }

    pub fn beat(&mut self, stage: &mut Stage, slot: usize, conn: u64) {
        let link = &mut self.links[slot];
        if link.conn != conn || link.state != LinkState::Up {
            return;
        }
        link.silent = if std::mem::take(&mut link.heard) { 0 } else { link.silent + 1 };
        if link.silent >= 3 {
            self.lost(stage, slot);
            return;
        }
        let nonce = stage.now;
        link.pings.push_back((nonce, stage.now));
        self.control(stage, slot, Control::Ping(Ping { nonce }));
        stage.after(HEARTBEAT, self.event(NodeTimer::Beat { slot, conn }));
    }

    pub fn asked_to_go(&mut self, stage: &mut Stage, slot: usize, after: u64) {
        let link = &mut self.links[slot];
        if link.state != LinkState::Up {
            return;
        }
        link.come_back = Some(stage.now + after);
        let conn = link.conn;
        self.choice.leaving(slot);
        self.office(stage, Input::Leaving { slot });
        stage.topology_changed();
        stage.after(LOOK_AGAIN, self.event(NodeTimer::Leave { slot, conn }));
    }

    pub fn leave(&mut self, stage: &mut Stage, slot: usize, conn: u64) {
        let link = &self.links[slot];
        if link.conn != conn || link.state != LinkState::Up {
            return;
        }
        let (come_back, now) = (link.come_back.unwrap_or(0), stage.now);
        let may_go = self.choice.others(slot) || now >= come_back;
        let quiet = now >= link.last_data + 500 * MS && self.callee.running == 0;
        if !may_go || !quiet || self.caller.waits_for(slot) {
            stage.after(LOOK_AGAIN, self.event(NodeTimer::Leave { slot, conn }));
            return;
        }
        let unregister = Unregister { request: 2, ids: vec![self.id], draining: false };
        self.control(stage, slot, Control::Unregister(unregister));
        self.links[slot].backoff.ask(Duration::from_micros(come_back.saturating_sub(now)));
        self.lost(stage, slot);
    }

    /// The link is gone.
    pub fn lost(&mut self, stage: &mut Stage, slot: usize) {
        let link = &mut self.links[slot];
        let (conn, attempt, backoff) = (link.conn, link.attempt, link.backoff.clone());
        let was = link.state;
        *link = Link { attempt, backoff, ..Link::new() };
        stage.close(conn, End::Node, false);
        let random = stage.rng.random();
        let delay = self.links[slot].backoff.next(random).as_micros() as u64;
        stage.after(delay, self.event(NodeTimer::Connect { slot }));
        if was == LinkState::Up {
            self.choice.down(slot);
            self.office(stage, Input::Down { slot });
            self.link_lost(stage, slot);
            stage.topology_changed();
        }
    }

    /// A ping was answered, and with it those before.
    pub fn pong(&mut self, stage: &mut Stage, slot: usize, answered: u64) {
        let pings = &mut self.links[slot].pings;
        let known = pings.partition_point(|(nonce, _)| *nonce <= answered);
        let sent = pings.drain(..known).next_back().map(|(_, sent)| sent);
        if let Some(sent) = sent {
            let until = stage.moment(sent + LEASE);
            self.office(stage, Input::Lease { slot, until });
        }
    }
}

impl Link {
    pub fn new() -> Self {
        Self {
            state: LinkState::Down,
            conn: 0,
            attempt: 0,
            heard: false,
            silent: 0,
            hello: 0,
            pings: VecDeque::new(),
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(1)),
            come_back: None,
            last_data: 0,
            drained: false,
        }
    }
}

/// How often a node that is leaving looks whether it may go.
const LOOK_AGAIN: u64 = 50 * MS;
