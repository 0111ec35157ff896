//! Runs handlers. Messages wait in one bounded queue and are started in the order in which they
//! came. A handler is polled once where it is started: one that doesn't wait is finished before
//! the next begins, so the order of a sender's messages holds; one that waits goes on as a task of
//! its own, up to a bound, while later messages are started.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use switchboard_protocol::limits::TTL_UNIT;
use switchboard_protocol::{Flags, Frame, Header, Kind, Mode, ServiceId};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::coop;

use crate::args::{self, Request};
use crate::caller::Caller;
use crate::error::ForwardError;
use crate::event::Event;
use crate::handlers::{Answer, HandlerError, Work};
use crate::links::InHand;
use crate::meter::{Begun, Meter, What};
use crate::node::{Handle, Node};
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

impl Incoming {
    pub(crate) fn new(from: ServiceId, frame: Frame, way_back: InHand) -> Self {
        let Frame { header, payload } = frame;
        let ttl = (header.ttl != 0).then(|| TTL_UNIT * u32::from(header.ttl));
        let deadline = ttl.map(|ttl| Instant::now() + ttl);
        Self { from, header, payload, deadline, way_back }
    }

    fn is(&self, flag: Flags) -> bool {
        self.header.flags.contains(flag)
    }

    fn what(&self) -> What {
        if self.is(Flags::CALL) { What::Call } else { What::Message }
    }

    /// What an idempotent call is remembered by.
    fn key(&self) -> Option<Key> {
        self.is(Flags::IDEMPOTENT).then(|| Key::of(self.from, self.header.call_id))
    }
}

/// What the runner needs to know of its node. It must not keep the node alive.
pub(crate) struct Runner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: Weak<Handle>,
    pub(crate) queue: mpsc::Receiver<Incoming>,
    /// How many handlers may wait at a time.
    pub(crate) waiting: Arc<Semaphore>,
}

impl Runner {
    /// Runs until the driver is gone and the queue is empty, or the node was dropped.
    pub(crate) async fn run(mut self) {
        loop {
            // ORDER: first the permit, then the message, so that a message which can't be begun
            // stays in the queue, where it counts.
            let Ok(permit) = Arc::clone(&self.waiting).acquire_owned().await else { return };
            loop {
                let Some(message) = self.queue.recv().await else { return };
                let Some(node) = Node::upgrade(&self.node) else { return };
                if message.deadline.is_some_and(|deadline| deadline < Instant::now()) {
                    discard(&self.shared, &message);
                    continue;
                }
                if let Some((work, begun)) = start(&self.shared, node, &message).await {
                    let shared = Arc::clone(&self.shared);
                    tokio::spawn(async move {
                        let answer = own(work.await);
                        begun.end(Outcome::of_answer(&answer));
                        finish(&shared, &message, answer);
                        drop(permit);
                    });
                    break;
                }
            }
        }
    }
}

/// Begins with a message, and finishes with it unless its handler waits.
async fn start(shared: &Shared, node: Node, message: &Incoming) -> Option<(Caught, Begun)> {
    let request = Request::read(&message.payload);
    let meter = meter(shared, message, request.as_ref());
    let since = tokio::time::Instant::now();
    let done = |answer| {
        meter.took(since.elapsed());
        meter.ended(message.what(), Outcome::of_answer(&answer));
        finish(shared, message, answer);
    };
    let begin = || {
        let handler = shared.handlers.find(request.as_ref())?;
        let caller = Caller::new(node, message.from, message.header);
        handler(caller, &message.payload, request.as_ref())
    };
    let begun = catch_unwind(AssertUnwindSafe(begin)).unwrap_or_else(|panic| Err(panicked(panic)));
    let mut work = match begun {
        Ok(work) => Caught(work),
        Err(error) => {
            done(Err(error));
            return None;
        }
    };
    // Unconstrained: the budget that tokio gives a task must not make a handler wait that has
    // nothing to wait for. The queue's own budget lets other tasks run between messages.
    let first = std::future::poll_fn(|context| {
        Poll::Ready(Pin::new(&mut coop::unconstrained(&mut work)).poll(context))
    });
    match first.await {
        Poll::Ready(answer) => {
            done(own(answer));
            None
        }
        Poll::Pending => Some((work, meter.begin(message.what(), since))),
    }
}

/// The handler's answer. Codes by which callers know that it did not run are not its to use.
fn own(answer: Answer) -> Answer {
    answer.map_err(|error| match error.code() {
        HandlerError::BUSY
        | HandlerError::NO_METHOD
        | HandlerError::BAD_ARGS
        | HandlerError::OUTSIDE_WINDOW => HandlerError::new(HandlerError::ERROR, error.to_string()),
        _ => error,
    })
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
fn discard(shared: &Shared, message: &Incoming) {
    turned_away(shared, message, Outcome::Expired);
    if let Some(key) = message.key() {
        shared.window().forget(key);
    }
    shared.drops.expired();
}

/// Counts a message that is not begun.
fn turned_away(shared: &Shared, message: &Incoming, outcome: Outcome) {
    let request = Request::read(&message.payload);
    meter(shared, message, request.as_ref()).ended(message.what(), outcome);
}

/// Where a message is counted. Names that have no handler are their senders' inventions.
fn meter<'a>(
    shared: &'a Shared,
    message: &Incoming,
    request: Option<&Request<'_>>,
) -> &'a Arc<Meter> {
    let method = request.map_or(RAW, |request| request.method);
    shared.tally.served.meter(message.from.class(), method, || shared.handlers.has(method))
}

/// ORDER: what is finished has been counted, so that who has the answer finds it counted.
fn finish(shared: &Shared, message: &Incoming, answer: Answer) {
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

fn header_class(header: &Header) -> Option<switchboard_protocol::Class> {
    switchboard_protocol::Class::of_target(header.target)
}

/// A handler whose panic is an error like any other.
struct Caught(Work);

impl Future for Caught {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        // A handler that panicked is not polled again, so nobody sees what it left half done.
        catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(panic))))
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> HandlerError {
    let text = match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("no message").to_owned(),
    };
    HandlerError::new(HandlerError::PANIC, format!("the handler panicked: {text}"))
}
