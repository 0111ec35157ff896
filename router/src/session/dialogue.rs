//! What the node and the router say to each other: one function for each message.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use switchboard_protocol::control::{
    Control, ControlError, Hello, LeftReason, Ping, Register, Unregister, Unregistered, Welcome,
};
use switchboard_protocol::limits::{MISSED_HEARTBEATS, VERSION};
use switchboard_protocol::{Class, RefusalCode, ServiceId};
use tracing::{debug, info};

use super::{Admitted, End, Session};
use crate::forward::local::Local;
use crate::mailbox::Mailbox;
use crate::registry::{Change, Program, Refusal};
use crate::sessions::State;
use crate::shared::Shared;
use crate::stream::Peer;
use crate::tokens::Pass;

impl Session {
    /// Answers a control message. An answer of `Some` ends the session.
    pub(super) async fn control(&mut self, body: Bytes) -> Option<End> {
        let message = match Control::decode(&body) {
            Ok(message) => message,
            Err(error) if self.admitted.is_some() => {
                self.refuse(&undecodable(&error), None);
                return None;
            }
            Err(ControlError::Unknown(_)) => return Some(Self::hello_expected()),
            Err(error) => return Some(End::NotAdmitted(undecodable(&error), Some(0))),
        };
        match message {
            Control::Hello(hello) if self.admitted.is_none() => return self.hello(hello).await,
            _ if self.admitted.is_none() => return Some(Self::hello_expected()),
            Control::Register(register) => self.register(register).await,
            Control::Unregister(unregister) => self.unregister(unregister).await,
            Control::Load(load) => {
                let handle = self.source.mailbox.clone();
                self.ask(Change::Load { handle, load }).await;
            }
            Control::Claim(claim) => {
                let handle = self.source.mailbox.clone();
                self.ask(Change::Claim { handle, claim }).await;
            }
            Control::Watch(watch) => {
                self.watch(watch.class, watch.changes_only).await;
            }
            Control::Unwatch(watch) => {
                let (handle, class) = (self.source.mailbox.clone(), Some(watch.class));
                self.shared.registrar.tell(Change::Unwatch { handle, class }).await;
            }
            Control::Ping(ping) => self.push(&Control::Pong(Ping { nonce: ping.nonce })),
            Control::Pong(_) => {}
            other => {
                let text = format!("control message `{}` is not for a node to send", other.name());
                let text = match other {
                    Control::Hello(_) => "a session says Hello once".to_owned(),
                    _ => text,
                };
                self.refuse(&Refusal::new(RefusalCode::InvalidMessage, text), None);
            }
        }
        None
    }

    pub(super) fn hello_expected() -> End {
        let text = "the first frame of a session is Hello, a control frame";
        // It is about the first frame, which is at the start of the stream.
        End::NotAdmitted(Refusal::new(RefusalCode::HandshakeExpected, text), Some(0))
    }

    async fn hello(&mut self, hello: Hello) -> Option<End> {
        // A node names the highest version that it speaks, and a later one speaks this one too.
        if hello.version < VERSION {
            let text = format!(
                "protocol version {} is not spoken here: this router speaks {VERSION}",
                hello.version
            );
            return Some(End::NotAdmitted(Refusal::new(RefusalCode::Version, text), Some(0)));
        }
        if self.shared.is_draining() {
            let text = "this router is about to leave";
            return Some(End::NotAdmitted(Refusal::new(RefusalCode::Draining, text), None));
        }
        let settings = self.shared.settings.load_full();
        // It stays with the session, whatever a reload says of its token.
        let admitted = match self.source.mailbox.badge().peer() {
            // It calls for those whom the admin server let in.
            Peer::Own => Ok(Pass::default()),
            _ => settings.tokens.admit(&hello.token),
        };
        let pass = match admitted {
            Ok(pass) => pass,
            Err(refusal) => return Some(End::NotAdmitted(refusal, None)),
        };
        let heartbeat_ms = settings.heartbeat.grant(hello.heartbeat_ms);
        let welcome = Welcome {
            version: VERSION,
            router: self.shared.name.clone(),
            session: self.source.mailbox.session(),
            // With the masters, for the registrar to fill in.
            ids: Vec::new(),
            classes: settings.policies.names.clone(),
            heartbeat_ms,
            max_frame: settings.limits.max_frame_bytes,
            max_services: settings.limits.max_services_per_session as u32,
            routers: settings.routers.clone(),
            uptime_ms: self.shared.clock.uptime_ms(),
            ..Welcome::default()
        };
        let program = Program::from(&hello);
        let change = Change::Register {
            handle: self.source.mailbox.clone(),
            program,
            pass: pass.clone(),
            services: hello.services,
            held: 0,
        };
        self.source.mailbox.badge().introduce(&hello.name, heartbeat_ms);
        self.source.mailbox.set_greeted();
        // The registrar sends Welcome itself: after it, and before anything that the table brings.
        match self.shared.registrar.admit(change, welcome).await {
            Ok(ids) => self.source.ids = ids,
            Err(refusal) => return Some(End::NotAdmitted(refusal, None)),
        }
        self.source.mailbox.enter(State::Active);
        let session = self.source.mailbox.session();
        for id in &self.source.ids {
            let (name, token) = (&hello.name, pass.token());
            debug!(session, id = settings.policies.id_name(*id), name, token, "registered");
        }
        self.admitted = Some(Box::new(Admitted { program, pass }));
        // A little less than three, so that when the third is over another instance has taken over.
        let silence = heartbeat_ms.saturating_mul(MISSED_HEARTBEATS) - heartbeat_ms / HASTE;
        self.source.mailbox.set_registered(silence);
        self.shared.watchdog.expect_heartbeats(&self.source.mailbox);
        for class in hello.watch.into_iter().collect::<BTreeSet<_>>() {
            self.watch(class, false).await;
        }
        None
    }

    /// Asks for a change that nobody answers, unless it is refused.
    async fn ask(&self, change: Change<Arc<Mailbox>>) {
        if let Err(refusal) = self.shared.registrar.ask(change).await {
            self.refuse(&refusal, None);
        }
    }

    /// Waits for the picture to be sent: a node has one made at a time.
    async fn watch(&mut self, class: Class, changes_only: bool) {
        self.watches = true;
        let handle = self.source.mailbox.clone();
        // Nothing to refuse.
        let _ = self.shared.registrar.ask(Change::Watch { handle, class, changes_only }).await;
    }

    async fn register(&mut self, register: Register) {
        let Register { request, services } = register;
        // Hello comes first.
        let Some(Admitted { program, pass }) = self.admitted.as_deref() else { return };
        let change = Change::Register {
            handle: self.source.mailbox.clone(),
            program: *program,
            pass: pass.clone(),
            services,
            held: self.source.ids.len(),
        };
        match self.shared.registrar.register(change, request).await {
            Ok(ids) => {
                self.source.mailbox.enter(State::Active);
                let new = ids.iter().filter(|id| !self.source.ids.contains(id));
                let new: Vec<ServiceId> = new.copied().collect();
                self.source.ids.extend(new);
            }
            Err(refusal) => {
                self.note_refused(&refusal);
                self.refuse(&refusal, Some(request));
            }
        }
    }

    async fn unregister(&mut self, unregister: Unregister) {
        let Unregister { request, ids, draining } = unregister;
        if let Some(id) = ids.iter().find(|id| !self.source.ids.contains(id)) {
            let text = format!("{id} is not registered by this session");
            let refusal = Refusal::new(RefusalCode::NotRegistered, text);
            return self.refuse(&refusal, Some(request));
        }
        let handle = self.source.mailbox.clone();
        let session = handle.session();
        let change = if draining {
            info!(session, ?ids, "draining");
            Change::Drain { handle, ids }
        } else {
            info!(session, ?ids, "unregistered");
            self.source.ids.retain(|id| !ids.contains(id));
            Change::Unregister { handle, ids, reason: LeftReason::Unregistered }
        };
        // Nothing can be refused here; the answer says that the table is published.
        let _ = self.shared.registrar.ask(change).await;
        let unregistered = Control::Unregistered(Unregistered { request });
        let mailbox = &self.source.mailbox;
        if !self.has_live_id() {
            mailbox.enter(State::Draining);
        }
        if self.source.ids.is_empty() {
            // ORDER: after the table is published, so that what it refuses from now on finds others.
            // Nothing can come behind the answer then.
            mailbox.retire();
            return self.push(&unregistered);
        }
        // ORDER: the answer comes behind every frame that was picked by an older table. When the fence
        // is passed, these lie in the mailbox, unless their senders wait for room in it.
        let calm = mailbox.calm();
        self.shared.fence.pass().await;
        if calm.is_some() && mailbox.calm() == calm {
            self.push(&unregistered);
        } else {
            // Room comes when this session writes, so another task waits for it.
            let (mailbox, shared) = (mailbox.clone(), self.shared.clone());
            tokio::spawn(answer_behind_waiters(mailbox, shared, unregistered));
        }
    }

    /// Whether a mode may pick any of its ids: those that drain are reached by Direct frames alone.
    fn has_live_id(&self) -> bool {
        let table = self.shared.published.load();
        self.source.ids.iter().any(|id| {
            let class = table.class(id.class());
            class.is_some_and(|class| class.member(id.instance().raw()).is_some())
        })
    }
}

/// Sends a message behind the frames of all senders that wait for room in a mailbox now.
async fn answer_behind_waiters(mailbox: Arc<Mailbox>, shared: Arc<Shared>, message: Control) {
    loop {
        let mut noted = 0;
        let round = poll_fn(|cx| mailbox.poll_calm(cx, &mut noted)).await;
        // All who waited have been woken, but some may not have offered again yet; and of those who did,
        // some may wait once more.
        shared.fence.pass().await;
        if mailbox.is_closed() || mailbox.calm() == Some(round) {
            break;
        }
    }
    Local::with(|local| mailbox.push(&message.to_frame().to_bytes(), &mut local.out));
}

fn undecodable(error: &ControlError) -> Refusal {
    let code = match error {
        ControlError::Unknown(_) => RefusalCode::UnknownMessage,
        _ => RefusalCode::InvalidMessage,
    };
    Refusal::new(code, error.to_string())
}

/// Which part of a heartbeat the router is ahead of the third missed one. Nodes lay offices down half a
/// heartbeat before it.
const HASTE: u32 = 50;
