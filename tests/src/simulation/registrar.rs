//! What a simulated router's registry is asked, and what follows from the answers.

use std::sync::Arc;

use switchboard_protocol::control::{
    Control, GoAway, GoAwayReason, Hello, LeftReason, Ping, Refused, Unregistered, Welcome,
};
use switchboard_protocol::{RefusalCode, ServiceId};
use switchboard_router::policy::{ClassPolicy, MasterPolicy, Policies};
use switchboard_router::registry::{Change, Effect, Effects, Program};
use switchboard_router::tokens::Pass;

use super::router::{Router, Seat};
use super::stage::{MS, SECOND, Stage};
use super::world::{EPOCH, HASH_SLOTS, HASHED, MASTERED};

impl Router {
    pub fn answer(&mut self, stage: &mut Stage, conn: u64, message: Control) {
        if !self.sessions.contains_key(&conn) {
            return;
        }
        match message {
            Control::Hello(hello) => self.greet(stage, conn, hello),
            Control::Ping(ping) => {
                self.tell(stage, conn, Control::Pong(Ping { nonce: ping.nonce }));
            }
            Control::Claim(claim) => {
                self.change(stage, Change::Claim { handle: Seat(conn), claim });
            }
            Control::Unregister(unregister) => {
                let (handle, ids) = (Seat(conn), unregister.ids);
                if unregister.draining {
                    self.change(stage, Change::Drain { handle, ids });
                } else {
                    if let Some(session) = self.sessions.get_mut(&conn) {
                        session.ids.retain(|id| !ids.contains(id));
                    }
                    let reason = LeftReason::Unregistered;
                    self.change(stage, Change::Unregister { handle, ids, reason });
                }
                let request = unregister.request;
                self.tell(stage, conn, Control::Unregistered(Unregistered { request }));
            }
            _ => {}
        }
    }

    fn greet(&mut self, stage: &mut Stage, conn: u64, hello: Hello) {
        if self.leaving {
            self.refuse(stage, conn, RefusalCode::Draining);
            return;
        }
        let change = Change::Register {
            handle: Seat(conn),
            program: Program::from(&hello),
            pass: Pass::default(),
            services: hello.services,
            held: 0,
        };
        let mut effects = Effects::default();
        match self.registry.apply(change, EPOCH + stage.now, &mut effects) {
            Err(refusal) => self.refuse(stage, conn, refusal.code),
            Ok(ids) => {
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.ids.clone_from(&ids);
                }
                let granted = ids.clone();
                let classes = ids.iter().map(|id| id.class());
                let masters =
                    classes.filter_map(|class| Some((class, self.registry.master(class)?)));
                let welcome = Welcome {
                    router: Self::name(self.index).to_owned(),
                    masters: masters.collect(),
                    uptime_ms: (stage.now - self.started) / MS,
                    ids,
                    ..Welcome::default()
                };
                self.tell(stage, conn, Control::Welcome(welcome));
                self.publish(stage, effects, &granted, &[]);
                for class in hello.watch {
                    self.change(
                        stage,
                        Change::Watch { handle: Seat(conn), class, changes_only: false },
                    );
                }
            }
        }
    }

    fn refuse(&mut self, stage: &mut Stage, conn: u64, code: RefusalCode) {
        let refused =
            Refused { code: code.raw(), text: String::new(), offset: None, request: None };
        self.tell(stage, conn, Control::Refused(refused));
        self.end(stage, conn, LeftReason::Closed);
    }

    pub fn change(&mut self, stage: &mut Stage, change: Change<Seat>) {
        let left = match &change {
            Change::Unregister { ids, .. } | Change::Drain { ids, .. } => ids.clone(),
            _ => Vec::new(),
        };
        let mut effects = Effects::default();
        // Only a Register is refused, and a claim of an id that is another session's by now.
        let _ = self.registry.apply(change, EPOCH + stage.now, &mut effects);
        self.publish(stage, effects, &[], &left);
    }

    /// What follows from a change, before and after the table is published.
    fn publish(
        &mut self,
        stage: &mut Stage,
        effects: Effects<Seat>,
        came: &[ServiceId],
        left: &[ServiceId],
    ) {
        if !effects.before.is_empty() || !effects.after.is_empty() {
            stage.topology_changed();
        }
        self.carry_out(stage, effects.before);
        self.lots.publish(came, left, stage.instant());
        self.carry_out(stage, effects.after);
        self.release(stage);
    }

    fn carry_out(&mut self, stage: &mut Stage, effects: Vec<Effect<Seat>>) {
        for effect in effects {
            match effect {
                Effect::Tell { to, message } => {
                    if let Control::Event(event) = &message
                        && let Some(master) = event.master
                    {
                        stage.checks.elected(stage.now, self.index, event.class, master);
                    }
                    for seat in to.iter() {
                        self.tell(stage, seat.0, message.clone());
                    }
                }
                Effect::Remove { holder, id } => {
                    let Some(session) = self.sessions.get_mut(&holder.0) else { continue };
                    session.ids.retain(|held| *held != id);
                    if session.ids.is_empty() {
                        let reason = GoAwayReason::Replaced;
                        let go = GoAway { reason, reconnect_after_ms: None };
                        self.tell(stage, holder.0, Control::GoAway(go));
                        self.end(stage, holder.0, LeftReason::Replaced);
                    }
                }
            }
        }
    }
}

/// The policies of all routers.
pub fn policies() -> Arc<Policies> {
    let mut policies = Policies::default();
    let hashed =
        ClassPolicy { slots: HASH_SLOTS, park_ms: PATIENCE / MS, ..ClassPolicy::default() };
    policies.classes.insert(HASHED, hashed);
    let mastered = ClassPolicy { master: MasterPolicy::Sticky, ..ClassPolicy::default() };
    policies.classes.insert(MASTERED, mastered);
    Arc::new(policies)
}

/// How long a frame may wait for someone to come.
pub const PATIENCE: u64 = SECOND;

pub const MAX_SERVICES: usize = 8;
