//! A simulated node: the SDK's decisions, and around them links to all routers. How links come and go
//! is in `link`, what it does as a caller in `caller`, as a callee in `callee`.

use std::time::Duration;

use rand::RngExt;
use switchboard::logic::{Change, Choice, Input, Offices};
use switchboard_protocol::control::{Event as Happened, GoAway, LeftReason, Unregister};
use switchboard_protocol::{Class, Control, ServiceId};

use super::callee::Callee;
use super::caller::Caller;
use super::link::{Link, LinkState};
use super::message::{End, Message};
use super::stage::{Event, MS, NodeTimer, SECOND, Stage};
use super::world::{CALLERS, EPOCH, ROUTERS};

/// A node, dead or alive.
pub struct Node {
    pub index: usize,
    pub id: ServiceId,
    /// How often it was started.
    pub life: u64,
    pub alive: bool,
    /// Until when it stands still.
    pub paused_until: u64,
    /// It gave its ids up and finishes what it has.
    pub draining: bool,
    pub incarnation: u64,
    pub links: Vec<Link>,
    pub choice: Choice,
    pub offices: Offices,
    pub caller: Caller,
    pub callee: Callee,
    /// When it looks at its leases next.
    lapse: Option<u64>,
}

impl Node {
    pub fn new(index: usize, id: ServiceId, entries: usize) -> Self {
        Self {
            index,
            id,
            life: 0,
            alive: false,
            paused_until: 0,
            draining: false,
            incarnation: 0,
            links: (0..ROUTERS).map(|_| Link::new()).collect(),
            choice: Choice::new(),
            offices: Offices::new(),
            caller: Caller::new(0),
            callee: Callee::new(entries),
            lapse: None,
        }
    }

    /// Starts with nothing but its id and the clock.
    pub fn start(&mut self, stage: &mut Stage, entries: usize) {
        if self.alive {
            return;
        }
        let incarnation = EPOCH + stage.now;
        *self = Self {
            life: self.life + 1,
            alive: true,
            incarnation,
            caller: Caller::new(incarnation),
            ..Self::new(self.index, self.id, entries)
        };
        for slot in 0..ROUTERS {
            let timer = NodeTimer::Connect { slot };
            let delay = stage.rng.random_range(0..MS);
            stage.after(delay, self.event(timer));
        }
        if CALLERS.contains(&self.id.class()) {
            stage.after(0, self.event(NodeTimer::Work));
        }
    }

    pub fn kill(&mut self, stage: &mut Stage, silent: bool) {
        if !self.alive {
            return;
        }
        stage.checks.died((self.index, self.life));
        self.caller.died(stage);
        *self = Self { life: self.life, ..Self::new(self.index, self.id, 0) };
        for conn in stage.network.held(End::Node, self.index) {
            stage.close(conn, End::Node, silent);
        }
    }

    /// Gives up its ids, and goes once it has nothing left to do.
    pub fn drain(&mut self, stage: &mut Stage) {
        if !self.alive || self.draining {
            return;
        }
        self.draining = true;
        // The office goes first: the routers elect another as soon as they hear.
        self.office(stage, Input::Gone { ids: vec![self.id] });
        for slot in 0..ROUTERS {
            let unregister = Unregister { request: 1, ids: vec![self.id], draining: true };
            self.control(stage, slot, Control::Unregister(unregister));
        }
        stage.after(20 * MS, self.event(NodeTimer::Retire));
    }

    pub fn is_paused(&self, now: u64) -> bool {
        self.paused_until > now
    }

    pub fn event(&self, timer: NodeTimer) -> Event {
        Event::Node { node: self.index, life: self.life, timer }
    }

    pub fn receive(&mut self, stage: &mut Stage, slot: usize, conn: u64, message: Message) {
        let link = &mut self.links[slot];
        if !self.alive || link.conn != conn {
            stage.close(conn, End::Node, false);
            return;
        }
        link.heard = true;
        match message {
            Message::SynAck => self.greet(stage, slot),
            Message::Closed => self.lost(stage, slot),
            Message::Control(control) => self.control_came(stage, slot, *control),
            Message::Data(parcel) => {
                link.last_data = stage.now;
                self.take_in(stage, slot, parcel);
            }
            Message::Report(reason, parcel) => self.returned(stage, parcel.call_id, reason),
            Message::Syn => {}
        }
    }

    pub fn timer(&mut self, stage: &mut Stage, timer: NodeTimer) {
        match timer {
            NodeTimer::Connect { slot } => self.connect(stage, slot),
            NodeTimer::ConnectTimeout { slot, conn } => {
                let link = &self.links[slot];
                if link.conn == conn && link.state != LinkState::Up {
                    self.lost(stage, slot);
                }
            }
            NodeTimer::Beat { slot, conn } => self.beat(stage, slot, conn),
            NodeTimer::Leave { slot, conn } => self.leave(stage, slot, conn),
            NodeTimer::Lapse => {
                self.lapse = None;
                let changes = self.offices.expire(stage.instant());
                self.changed(stage, &changes);
            }
            NodeTimer::Work => self.work(stage),
            NodeTimer::Attempt { call, attempt } => self.quiet(stage, call, attempt),
            NodeTimer::Resend { call, attempt } => self.resend(stage, call, attempt),
            NodeTimer::Deadline { call } => self.deadline(stage, call),
            NodeTimer::Finish { parcel } => self.finish(stage, parcel),
            NodeTimer::Twice { slot, parcel } => self.take_in(stage, slot, parcel),
            NodeTimer::Retire => {
                // Without a link nobody answers, and nothing comes.
                let answered =
                    (0..ROUTERS).all(|slot| self.links[slot].drained || self.conn(slot).is_none());
                if self.callee.running == 0 && answered {
                    self.kill(stage, false);
                } else {
                    stage.after(20 * MS, self.event(NodeTimer::Retire));
                }
            }
        }
    }

    fn control_came(&mut self, stage: &mut Stage, slot: usize, message: Control) {
        match message {
            Control::Welcome(welcome) => self.welcome(stage, slot, &welcome),
            Control::Refused(_) => self.lost(stage, slot),
            Control::Pong(pong) => self.pong(stage, slot, pong.nonce),
            Control::Unregistered(_) => self.links[slot].drained = true,
            Control::Event(event) => self.happened(stage, slot, &event),
            Control::GoAway(GoAway { reconnect_after_ms: Some(after), .. }) => {
                self.asked_to_go(stage, slot, u64::from(after) * MS);
            }
            Control::Replaced(_) | Control::GoAway(_) => {
                let id = self.id;
                stage.checks.fail(stage.now, || {
                    format!("{id} is told that it was replaced, and no newer one was started")
                });
            }
            _ => {}
        }
    }

    fn happened(&mut self, stage: &mut Stage, slot: usize, event: &Happened) {
        if let Some(master) = event.master
            && event.class == self.id.class()
        {
            let mine = master.id.filter(|id| *id == self.id);
            let (class, epoch) = (event.class, master.epoch);
            self.office(stage, Input::Master { slot, class, mine, epoch });
        }
        if event.left.iter().any(|left| left.reason != LeftReason::Unregistered) {
            self.shaken(stage, slot, event.class);
        }
    }

    pub fn office(&mut self, stage: &mut Stage, input: Input) {
        let changes = self.offices.apply(input, stage.instant());
        self.changed(stage, &changes);
    }

    fn changed(&mut self, stage: &mut Stage, changes: &[Change]) {
        for change in changes {
            if let Change::Promoted { class, epoch } = change {
                stage.checks.tally.promotions += 1;
                let held = self.offices.epoch(*class, stage.instant());
                stage.checks.require(stage.now, held.is_none_or(|held| held == *epoch), || {
                    format!("promoted in epoch {epoch}, but holds the office in {held:?}")
                });
            }
        }
        let jitter = Duration::from_micros(stage.rng.random_range(0..SECOND));
        for (slot, claim) in self.offices.disputes(stage.instant(), jitter) {
            stage.checks.tally.claims += 1;
            self.control(stage, slot, Control::Claim(claim));
        }
        let next = self.offices.next_expiry().map(|at| stage.micros(at));
        if next.is_some() && (self.lapse.is_none() || next < self.lapse) {
            self.lapse = next;
            stage.at(next.unwrap_or(0), self.event(NodeTimer::Lapse));
        }
    }

    /// Whether it holds the office of its class at this moment.
    pub fn holds_office(&self, stage: &Stage) -> bool {
        self.alive && self.offices.epoch(self.id.class(), stage.instant()).is_some()
    }

    /// The class that it serves.
    pub fn class(&self) -> Class {
        self.id.class()
    }
}
