//! What becomes of each frame that a router sends: one `match` on its kind, and one on the message
//! where it is a control frame. Nothing here waits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use switchboard_protocol::control::{self, GoAway, GoAwayReason, LeftReason};
use switchboard_protocol::{
    Class, Control, Flags, Frame, Header, Kind, Mode, Reason, RefusalCode, Report, ServiceId,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use crate::args;
use crate::calls::News;
use crate::error::{CloseReason, RegisterError};
use crate::event::Event;
use crate::incoming::{self, Incoming};
use crate::links::Age;
use crate::office::Input;
use crate::requests::UNASKED;
use crate::session::{End, Session};

impl Session<'_> {
    /// Takes in one frame.
    pub(crate) fn take_in(&self, frame: Frame) -> Option<End> {
        match frame.header.kind {
            Kind::Data(_) if frame.header.flags.contains(Flags::REPLY) => self.reply(frame),
            Kind::Data(_) => self.message(frame),
            Kind::Report => self.report(&frame),
            Kind::Control => return self.control(&frame),
            // For routers among themselves.
            Kind::Relay => {}
        }
        None
    }

    fn reply(&self, frame: Frame) {
        let Ok(from) = ServiceId::from_raw(frame.header.source) else { return };
        let result = if frame.header.flags.contains(Flags::ERROR) {
            Err(args::read_error(&frame.payload))
        } else {
            Ok(frame.payload)
        };
        // Nobody waits for a reply that comes after the deadline: its caller has been told.
        self.shared.calls.tell(frame.header.call_id, News::Answer { from, result });
    }

    fn message(&self, frame: Frame) {
        let Ok(from) = ServiceId::from_raw(frame.header.source) else { return };
        self.messages.fetch_add(1, Ordering::Relaxed);
        let message = Incoming::new(from, frame, self.port.take_in_hand());
        if !incoming::admit(self.shared, &message) {
            return;
        }
        match self.incoming.try_send(message) {
            Ok(()) => {}
            // Handlers end after the drivers, or when the node was dropped.
            Err(TrySendError::Full(message) | TrySendError::Closed(message)) => {
                incoming::busy(self.shared, &message);
            }
        }
    }

    fn report(&self, frame: &Frame) {
        let Some(report) = Report::decode(&frame.payload) else { return };
        let header = &report.header;
        if header.flags.contains(Flags::CALL) {
            let news = match report.reason {
                Reason::Delivered => News::Spread(report.targets),
                // Whatever the reason, the callee never had the whole frame.
                reason => News::Bounced { slot: self.port.slot, reason },
            };
            self.shared.calls.tell(header.call_id, news);
        } else if let Some(event) = undelivered(report.reason, header) {
            self.shared.events.announce(event);
        }
    }

    fn control(&self, frame: &Frame) -> Option<End> {
        let shared = self.shared;
        match Control::decode(&frame.payload) {
            Ok(Control::Event(event)) => {
                if let Some(master) = event.master {
                    shared.master_is(self.port.slot, event.class, master);
                }
                self.shake(&event);
                shared.watches.apply(self.port.slot, event, &shared.links);
            }
            Ok(Control::Registered(registered)) => self.registered(registered),
            Ok(Control::Unregistered(unregistered)) => {
                shared.requests.answer(unregistered.request, Ok(Vec::new()));
            }
            Ok(Control::Ping(ping)) => {
                // A link that takes no pong any more is being closed.
                let _ = self.port.outbox.push_control(&Control::Pong(ping));
            }
            Ok(Control::Pong(pong)) => self.answered(pong),
            Ok(Control::Replaced(replaced)) => return self.replaced(replaced.ids),
            Ok(Control::GoAway(go_away)) => return self.go_away(go_away),
            Ok(Control::Refused(refused)) => self.refused(refused),
            // Not for nodes, or of a later version.
            Ok(_) | Err(_) => {}
        }
        None
    }

    /// The router has granted ids. What this node asked one router for, the others get to know.
    fn registered(&self, registered: control::Registered) {
        let shared = self.shared;
        let control::Registered { request, ids } = registered;
        self.port.grant(&ids, Age::Old);
        let asked = shared.change_identity(|identity| identity.grant(request, &ids));
        if asked {
            let others = shared.links.up().into_iter().filter(|port| port.slot != self.port.slot);
            others.for_each(|port| shared.settle_ids(&port));
        }
        // Given up before it was granted, or nobody waited for it any longer.
        shared.settle_ids(self.port);
        shared.load.repeat();
        shared.requests.answer(request, Ok(ids));
    }

    /// Instances that died may have had calls in their hands.
    fn shake(&self, event: &control::Event) {
        let died = |left: &&control::Left| left.reason != LeftReason::Unregistered;
        let left: Vec<ServiceId> = event.left.iter().filter(died).map(|left| left.id).collect();
        if !left.is_empty() {
            self.shared.calls.shake(self.port.slot, event.class, &left, event.master.is_some());
        }
    }

    fn replaced(&self, ids: Vec<ServiceId>) -> Option<End> {
        let left = self.shared.change_identity(|identity| {
            identity.remove(&ids);
            identity.primary()
        });
        self.port.revoke(&ids);
        self.shared.office(Input::Gone { ids: ids.clone() });
        self.shared.events.announce(Event::Replaced { ids });
        left.is_none().then_some(End::Final(CloseReason::Replaced))
    }

    fn go_away(&self, go_away: GoAway) -> Option<End> {
        let GoAway { reason, reconnect_after_ms } = go_away;
        let reconnect_after = reconnect_after_ms.map(|ms| Duration::from_millis(ms.into()));
        let router = self.port.address.to_string();
        self.shared.events.announce(Event::GoAway { router, reason, reconnect_after });
        match reconnect_after {
            _ if reason == GoAwayReason::Replaced => Some(End::Final(CloseReason::Replaced)),
            None => Some(End::Final(CloseReason::SentAway(format!("{reason:?}")))),
            Some(delay) => {
                // Nothing new goes there from now on, if there is another.
                self.shared.links.leaving(self.port.slot);
                self.shared.office(Input::Leaving { slot: self.port.slot });
                self.come_back.send_replace(Some(Instant::now() + delay));
                None
            }
        }
    }

    fn refused(&self, refused: control::Refused) {
        let code = RefusalCode::from_raw(refused.code);
        if refused.request == Some(UNASKED) {
            self.port.refused();
        }
        if let Some(request) = refused.request.filter(|request| *request != UNASKED) {
            self.shared.change_identity(|identity| identity.deny(request));
            let error = RegisterError::Refused { code, text: refused.text };
            self.shared.requests.answer(request, Err(error));
        } else {
            self.shared.events.announce(Event::Refused { code, text: refused.text });
        }
    }
}

fn undelivered(reason: Reason, header: &Header) -> Option<Event> {
    let Kind::Data(mode) = header.kind else { return None };
    Some(Event::Undelivered {
        reason,
        mode,
        class: Class::of_target(header.target)?,
        id: ServiceId::from_raw(header.target).ok(),
        key: (mode == Mode::Hash).then_some(header.key),
    })
}
