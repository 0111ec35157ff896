//! What becomes of each frame that a router sends: one `match` on its kind, and one on the message
//! where it is a control frame. Nothing here waits.

use std::time::Duration;

use switchboard_protocol::control::{self, GoAway, GoAwayReason};
use switchboard_protocol::{
    Class, Control, Flags, Frame, Header, Kind, Mode, Reason, RefusalCode, Report, ServiceId,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use crate::args;
use crate::error::{CallError, CloseReason, RegisterError};
use crate::event::Event;
use crate::handlers::HandlerError;
use crate::runner::{self, Incoming};
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
        let outcome = if frame.header.flags.contains(Flags::ERROR) {
            let (code, text) = args::read_error(&frame.payload);
            Err(CallError::Remote { code, text })
        } else {
            Ok(frame.payload)
        };
        // Nobody waits for a reply that comes after the deadline: its caller has been told.
        self.shared.calls.answer(frame.header.call_id, outcome);
    }

    fn message(&self, frame: Frame) {
        let Ok(from) = ServiceId::from_raw(frame.header.source) else { return };
        let message = Incoming { from, header: frame.header, payload: frame.payload };
        match self.incoming.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(message)) => self.busy(&message),
            // Handlers end after the driver, or when the node was dropped.
            Err(TrySendError::Closed(_)) => {}
        }
    }

    fn busy(&self, message: &Incoming) {
        if message.header.flags.contains(Flags::CALL) {
            let text = "too many messages wait for their handlers";
            let error = HandlerError::new(HandlerError::BUSY, text);
            runner::reply(self.shared, message, &Err(error));
        } else {
            self.shared.drops.message();
        }
    }

    fn report(&self, frame: &Frame) {
        let Some(report) = Report::decode(&frame.payload) else { return };
        let header = &report.header;
        if header.flags.contains(Flags::CALL) {
            let outcome = match report.reason {
                Reason::Delivered => return,
                // Whatever the reason, the callee never had the whole frame.
                reason => CallError::NoRoute(reason),
            };
            self.shared.calls.answer(header.call_id, Err(outcome));
        } else if let Some(event) = undelivered(report.reason, header) {
            self.shared.events.announce(event);
        }
    }

    fn control(&self, frame: &Frame) -> Option<End> {
        let shared = self.shared;
        match Control::decode(&frame.payload) {
            Ok(Control::Event(event)) => {
                if let Some(master) = event.master {
                    shared.master_is(event.class, master);
                }
                shared.watches.apply(event);
            }
            Ok(Control::Registered(registered)) => {
                shared.change_identity(|identity| {
                    identity.grant(registered.request, &registered.ids);
                });
                shared.requests.answer(registered.request, Ok(registered.ids));
            }
            Ok(Control::Unregistered(unregistered)) => {
                shared.requests.answer(unregistered.request, Ok(Vec::new()));
            }
            Ok(Control::Ping(ping)) => {
                // A link that takes no pong any more is being closed.
                let _ = shared.outbox.push_control(&Control::Pong(ping));
            }
            Ok(Control::Replaced(replaced)) => return self.replaced(replaced.ids),
            Ok(Control::GoAway(go_away)) => return self.go_away(go_away),
            Ok(Control::Refused(refused)) => self.refused(refused),
            // A pong has done its work by coming; the rest is not for nodes, or of a later version.
            Ok(_) | Err(_) => {}
        }
        None
    }

    fn replaced(&self, ids: Vec<ServiceId>) -> Option<End> {
        let left = self.shared.change_identity(|identity| {
            identity.remove(&ids);
            identity.primary()
        });
        self.shared.demote(|id| ids.contains(&id));
        self.shared.events.announce(Event::Replaced { ids });
        left.is_none().then_some(End::Final(CloseReason::Replaced))
    }

    fn go_away(&self, go_away: GoAway) -> Option<End> {
        let GoAway { reason, reconnect_after_ms } = go_away;
        let reconnect_after = reconnect_after_ms.map(|ms| Duration::from_millis(ms.into()));
        self.shared.events.announce(Event::GoAway { reason, reconnect_after });
        match reconnect_after {
            _ if reason == GoAwayReason::Replaced => Some(End::Final(CloseReason::Replaced)),
            None => Some(End::Final(CloseReason::SentAway(format!("{reason:?}")))),
            Some(delay) => {
                self.come_back.send_replace(Some(Instant::now() + delay));
                None
            }
        }
    }

    fn refused(&self, refused: control::Refused) {
        let code = RefusalCode::from_raw(refused.code);
        if let Some(request) = refused.request {
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
