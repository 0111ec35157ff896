//! A simulated router: the real registry and the real choice of targets, around them sessions with
//! mailboxes, and connections of which a few frames at a time are on their way.

use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;
use switchboard_protocol::control::{Control, GoAway, GoAwayReason, LeftReason};
use switchboard_protocol::{Class, Mode, Reason};
use switchboard_router::registry::{Change, Handle, Registry};
use switchboard_router::table::Pick;

use super::checks::Ending;
use super::lots::Lots;
use super::message::{End, Message, Parcel, What};
use super::registrar::{MAX_SERVICES, PATIENCE, policies};
use super::session::{Outgoing, Session, Waiting};
use super::stage::{Event, MS, RouterTimer, SILENCE, Stage};

/// A router, dead or alive.
pub struct Router {
    pub index: usize,
    /// How often it was started.
    pub life: u64,
    pub up: bool,
    pub leaving: bool,
    pub started: u64,
    pub registry: Registry<Seat>,
    pub sessions: BTreeMap<u64, Session>,
    pub lots: Lots,
}

/// How the registry knows a session: by its connection.
#[derive(Debug, Clone, Copy)]
pub struct Seat(pub u64);

impl Handle for Seat {
    fn session(&self) -> u64 {
        self.0
    }
}

impl Router {
    pub fn new(index: usize) -> Self {
        Self {
            index,
            life: 0,
            up: false,
            leaving: false,
            started: 0,
            registry: Registry::new(policies(), MAX_SERVICES, 0),
            sessions: BTreeMap::new(),
            lots: Lots::new(policies()),
        }
    }

    pub fn name(index: usize) -> &'static str {
        ["north", "south"][index]
    }

    /// Starts with nothing: routers keep nothing over a restart.
    pub fn start(&mut self, stage: &mut Stage) {
        if self.up {
            return;
        }
        let index = self.index;
        let life = self.life + 1;
        let registry = Registry::new(policies(), MAX_SERVICES, stage.rng.random());
        *self = Self { life, up: true, started: stage.now, registry, ..Self::new(index) };
        stage.after(LOOK_AT_LOTS, self.event(RouterTimer::Lots));
    }

    pub fn kill(&mut self, stage: &mut Stage, silent: bool) {
        if !self.up {
            return;
        }
        for session in self.sessions.values() {
            for outgoing in &session.mailbox {
                if let Outgoing::Data(waiting) = outgoing {
                    stage.checks.ended(stage.now, waiting.frame, Ending::Died);
                }
            }
        }
        for waiting in self.lots.all() {
            stage.checks.ended(stage.now, waiting.frame, Ending::Died);
        }
        let life = self.life;
        *self = Self { life, ..Self::new(self.index) };
        for conn in stage.network.held(End::Router, self.index) {
            stage.close(conn, End::Router, silent);
        }
    }

    /// Asks every node to go.
    pub fn drain(&mut self, stage: &mut Stage, reconnect_after_ms: u32) {
        if !self.up {
            return;
        }
        self.leaving = true;
        for (conn, session) in &mut self.sessions {
            let reason = GoAwayReason::Shutdown;
            let go = GoAway { reason, reconnect_after_ms: Some(reconnect_after_ms) };
            session.push(stage, *conn, Outgoing::Control(Box::new(Control::GoAway(go))));
        }
    }

    pub fn receive(&mut self, stage: &mut Stage, conn: u64, message: Message) {
        if !self.up {
            stage.close(conn, End::Router, false);
            return;
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.heard = stage.now;
        }
        match message {
            Message::Syn => self.accept(stage, conn),
            Message::Closed => {
                self.end(stage, conn, LeftReason::Disconnected);
                stage.close(conn, End::Router, false);
            }
            Message::Control(control) => self.answer(stage, conn, *control),
            Message::Data(parcel) => self.forward(stage, conn, parcel),
            Message::SynAck | Message::Report(..) => {}
        }
    }

    pub fn timer(&mut self, stage: &mut Stage, timer: RouterTimer) {
        match timer {
            RouterTimer::Watch { conn } => {
                let Some(session) = self.sessions.get(&conn) else { return };
                if stage.now >= session.heard + SILENCE {
                    self.end(stage, conn, LeftReason::HeartbeatLost);
                } else {
                    let at = session.heard + SILENCE;
                    stage.at(at, self.event(RouterTimer::Watch { conn }));
                }
            }
            RouterTimer::Lots => {
                for waiting in self.lots.expire(stage.instant()) {
                    self.bounce(stage, waiting, Reason::Expired);
                }
                self.release(stage);
                stage.after(LOOK_AT_LOTS, self.event(RouterTimer::Lots));
            }
        }
    }

    /// Whom a frame reaches.
    pub fn target(&self, stage: &mut Stage, parcel: &Parcel) -> Result<u64, Reason> {
        let class = Class::of_target(parcel.target);
        let class = class.and_then(|class| self.registry.table().class(class));
        let class = class.ok_or(Reason::NoInstance)?;
        match class.pick(parcel.mode, parcel.target, parcel.key, &mut stage.rng) {
            Pick::One(member) => Ok(member.handle.0),
            Pick::Everyone => Err(Reason::NoInstance),
            Pick::Nobody(reason) => Err(reason),
        }
    }

    /// A frame has arrived at a node, so there is room for the next.
    pub fn taken(&mut self, stage: &mut Stage, conn: u64) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.on_the_way = session.on_the_way.saturating_sub(1);
            session.write(stage, conn);
        }
    }

    pub fn waiting(&self) -> usize {
        self.sessions.values().map(|session| session.mailbox.len()).sum()
    }

    fn event(&self, timer: RouterTimer) -> Event {
        Event::Router { router: self.index, life: self.life, timer }
    }

    fn accept(&mut self, stage: &mut Stage, conn: u64) {
        let session =
            Session { ids: Vec::new(), heard: stage.now, mailbox: VecDeque::new(), on_the_way: 0 };
        self.sessions.insert(conn, session);
        stage.send(conn, End::Node, Message::SynAck);
        stage.after(SILENCE, self.event(RouterTimer::Watch { conn }));
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// A session is over: its ids go, and what waits for it is returned.
    pub fn end(&mut self, stage: &mut Stage, conn: u64, reason: LeftReason) {
        let Some(session) = self.sessions.remove(&conn) else { return };
        stage.topology_changed();
        stage.close(conn, End::Router, false);
        let handle = Seat(conn);
        let frames = session.mailbox.into_iter().filter_map(|outgoing| match outgoing {
            Outgoing::Data(waiting) => Some(waiting),
            Outgoing::Control(_) => None,
        });
        // What was for this session alone is returned; the rest goes in front of what waits already.
        let (lost, others): (Vec<Waiting>, Vec<Waiting>) = frames
            .partition(|waiting| waiting.parcel.mode == Mode::Direct && !self.lots.parks(waiting));
        self.lots.park_in_front(others, stage.instant());
        self.change(stage, Change::Unregister { handle, ids: session.ids, reason });
        self.change(stage, Change::Unwatch { handle, class: None });
        for waiting in lost {
            self.bounce(stage, waiting, Reason::TargetLost);
        }
    }

    fn forward(&mut self, stage: &mut Stage, from: u64, parcel: Parcel) {
        let frame = stage.checks.frame();
        let waiting = Waiting { frame, from, parcel, parked: None };
        let sender = self.sessions.get(&from);
        if !sender.is_some_and(|session| session.ids.contains(&parcel.source)) {
            stage.checks.ended(stage.now, frame, Ending::Refused);
            return;
        }
        let now = stage.instant();
        if self.lots.park_behind(&waiting, now) {
            return;
        }
        match self.target(stage, &parcel) {
            Ok(conn) => self.offer(stage, conn, waiting),
            Err(_) if self.lots.park(&waiting, now) => {
                let peak = &mut stage.checks.tally.peak_parked;
                *peak = (*peak).max(self.lots.len());
            }
            Err(reason) => self.bounce(stage, waiting, reason),
        }
    }

    /// Picks the frames that wait anew, of all classes that have changed.
    pub fn release(&mut self, stage: &mut Stage) {
        while let Some(class) = self.lots.next_due() {
            let mut lots = std::mem::replace(&mut self.lots, Lots::new(policies()));
            let bounced = lots.release(class, stage.instant(), |waiting| {
                let picked = self.target(stage, &waiting.parcel);
                if let Ok(conn) = picked {
                    stage.checks.tally.picked_anew += 1;
                    let since = waiting.parked.map_or(0, |parked| stage.now - stage.micros(parked));
                    stage.checks.require(stage.now, since <= PATIENCE + 2 * LOOK_AT_LOTS, || {
                        format!("a frame leaves its lot after {} ms", since / MS)
                    });
                    self.offer(stage, conn, waiting);
                }
                picked.map(|_| ())
            });
            self.lots = lots;
            for (waiting, reason) in bounced {
                self.bounce(stage, waiting, reason);
            }
        }
    }

    fn offer(&mut self, stage: &mut Stage, conn: u64, waiting: Waiting) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            let text = "the table names a session that is over";
            stage.checks.fail(stage.now, || text.to_owned());
            return;
        };
        session.push(stage, conn, Outgoing::Data(waiting));
    }

    pub fn tell(&mut self, stage: &mut Stage, conn: u64, message: Control) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.push(stage, conn, Outgoing::Control(Box::new(message)));
        }
    }

    fn bounce(&mut self, stage: &mut Stage, waiting: Waiting, reason: Reason) {
        stage.checks.ended(stage.now, waiting.frame, Ending::Bounced(reason));
        let forward = waiting.parcel.what == What::Forward;
        stage.checks.tally.forwards_bounced += u64::from(forward);
        if waiting.parcel.what == What::Call && self.sessions.contains_key(&waiting.from) {
            stage.send(waiting.from, End::Node, Message::Report(reason, waiting.parcel));
        }
    }
}

/// How often a router looks for frames that have waited for too long.
const LOOK_AT_LOTS: u64 = 100 * MS;
