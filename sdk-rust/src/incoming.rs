//! What came in and waits for its handler, and how it ends: admitted or turned away, answered, counted.
//! Whoever runs handlers, [`crate::runner`] or a program with [`crate::deliveries`], ends messages here.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use switchboard_protocol::{Class, Flags, Frame, Header, Kind, Mode, ServiceId};

use crate::args::{self, Request};
use crate::caller;
use crate::error::ForwardError;
use crate::event::Event;
use crate::handlers::{Answer, HandlerError};
use crate::links::InHand;
use crate::meter::{Meter, What};
use crate::outcome::Outcome;
use crate::shared::Shared;
use crate::tally::RAW;
use crate::window::{Admission, Key, Reply};

/// A message that waits for its handler.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) from: ServiceId,
    pub(crate) header: Header,
    pub(crate) payload: Bytes,
    /// When it is of no use any more; absent if its sender didn't say.
    deadline: Option<Instant>,
    way_back: InHand,
}

/// Whether a method's name is known to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// It has a handler.
    Handled,
    /// It may be its sender's invention.
    Claimed,
}

impl Incoming {
    pub(crate) fn new(from: ServiceId, frame: Frame, way_back: InHand) -> Self {
        let Frame { header, payload } = frame;
        let deadline = caller::ttl(&header).map(|ttl| Instant::now() + ttl);
        Self { from, header, payload, deadline, way_back }
    }

    pub(crate) fn is(&self, flag: Flags) -> bool {
        self.header.flags.contains(flag)
    }

    pub(crate) fn what(&self) -> What {
        if self.is(Flags::CALL) { What::Call } else { What::Message }
    }

    /// Nobody waits for it any more.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline < Instant::now())
    }

    /// What an idempotent call is remembered by.
    fn key(&self) -> Option<Key> {
        self.is(Flags::IDEMPOTENT).then(|| Key::of(self.from, self.header.call_id))
    }
}

/// Decides whether a message is to be run. Of an idempotent call only the first copy is; the others
/// are answered with what the first one came to, as soon as that is known.
pub(crate) fn admit(shared: &Shared, message: &Incoming) -> bool {
    let Some(key) = message.key() else { return true };
    let slot = message.way_back.port().slot;
    let admission = shared.window().admit(key, slot, Instant::now());
    if admission != Admission::Run {
        turned_away(shared, message, Outcome::Duplicate);
    }
    match admission {
        Admission::Run => return true,
        Admission::Running => {}
        Admission::Answered(reply) => send(shared, message, slot, &reply),
        Admission::Outside => {
            let text = "the call may have been run before, and its answer is forgotten";
            let error = HandlerError::new(HandlerError::OUTSIDE_WINDOW, text);
            send(shared, message, slot, &Reply::from(Err(error)));
        }
    }
    false
}

/// Answers a message for which there is no room. It has not been begun, and may come again.
pub(crate) fn busy(shared: &Shared, message: &Incoming) {
    turned_away(shared, message, Outcome::Busy);
    if !message.is(Flags::CALL) {
        return shared.drops.message();
    }
    if let Some(key) = message.key() {
        shared.window().forget(key);
    }
    let text = "too many messages wait for their handlers";
    let error = HandlerError::new(HandlerError::BUSY, text);
    send(shared, message, message.way_back.port().slot, &Reply::from(Err(error)));
}

/// Nobody waits for this message any more.
pub(crate) fn discard(shared: &Shared, message: &Incoming) {
    turned_away(shared, message, Outcome::Expired);
    if let Some(key) = message.key() {
        shared.window().forget(key);
    }
    shared.drops.expired();
}

/// Counts a message that is not begun.
fn turned_away(shared: &Shared, message: &Incoming, outcome: Outcome) {
    let method = Request::read(&message.payload).map_or(RAW, |request| request.method);
    meter(shared, message, method, Name::Claimed).ended(message.what(), outcome);
}

/// Where a message is counted.
pub(crate) fn meter<'a>(
    shared: &'a Shared,
    message: &Incoming,
    method: &str,
    name: Name,
) -> &'a Arc<Meter> {
    let known = || name == Name::Handled || shared.handlers.has(method);
    shared.tally.served.meter(message.from.class(), method, known)
}

/// The handler's answer. Codes by which callers know that it did not run are not its to use.
pub(crate) fn own(answer: Answer) -> Answer {
    answer.map_err(|error| match error.code() {
        HandlerError::BUSY
        | HandlerError::NO_METHOD
        | HandlerError::BAD_ARGS
        | HandlerError::OUTSIDE_WINDOW => HandlerError::new(HandlerError::ERROR, error.to_string()),
        _ => error,
    })
}

/// ORDER: what is finished has been counted, so that who has the answer finds it counted.
pub(crate) fn finish(shared: &Shared, message: &Incoming, answer: Answer) {
    if message.is(Flags::CALL) {
        let mut slot = message.way_back.port().slot;
        let reply = Reply::from(answer);
        if let Some(key) = message.key()
            && let Some(newest) = shared.window().finish(key, reply.clone(), Instant::now())
        {
            slot = newest;
        }
        send(shared, message, slot, &reply);
    } else if let Err(error) = answer {
        let method = Request::read(&message.payload).map_or("", |request| request.method);
        shared.events.announce(Event::Failed {
            from: message.from,
            method: method.to_owned(),
            code: error.code().to_owned(),
            text: error.text().to_owned(),
        });
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        match answer {
            Ok(payload) => Self { payload, is_error: false },
            Err(error) => Self { payload: args::write_error(&error).into(), is_error: true },
        }
    }
}

/// Sends the answer to a call. Where it does not fit, the caller is told that instead.
fn send(shared: &Shared, call: &Incoming, slot: usize, reply: &Reply) {
    match try_send(shared, call, slot, reply) {
        Err(ForwardError::TooLarge { length, max }) => {
            let text = format!("the reply of {length} bytes is over the limit of {max}");
            let error = HandlerError::new(HandlerError::TOO_LARGE, text);
            if try_send(shared, call, slot, &Reply::from(Err(error))).is_err() {
                shared.drops.reply();
            }
        }
        Err(ForwardError::Full { .. }) => shared.drops.reply(),
        // Without a link the caller has learned from its router that this node is gone.
        Ok(()) | Err(_) => {}
    }
}

fn try_send(
    shared: &Shared,
    call: &Incoming,
    slot: usize,
    reply: &Reply,
) -> Result<(), ForwardError> {
    let source = addressed(shared, &call.header).map_or(0, ServiceId::raw);
    let flags = if reply.is_error { Flags::REPLY | Flags::ERROR } else { Flags::REPLY };
    let header = Header {
        flags,
        call_id: call.header.call_id,
        ..Header::new(Kind::Data(Mode::Direct), source, call.from.raw())
    };
    shared.push_reply(slot, header, &reply.payload)
}

/// Which of this node's ids a frame was for; none if the node does not hold it any more.
fn addressed(shared: &Shared, header: &Header) -> Option<ServiceId> {
    let identity = shared.identity();
    match header.kind {
        Kind::Data(Mode::Direct) => {
            ServiceId::from_raw(header.target).ok().filter(|id| identity.holds(*id))
        }
        _ => header_class(header).and_then(|class| identity.of_class(class)),
    }
}

fn header_class(header: &Header) -> Option<Class> {
    Class::of_target(header.target)
}
