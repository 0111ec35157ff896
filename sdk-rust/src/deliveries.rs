//! Messages for programs that handle them on a thread of their own, such as one that belongs to another
//! language: the program takes them one by one, and answers when it likes. The alternative to
//! [`crate::runner`], out of the same queue and with the same ends.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use switchboard_protocol::{Flags, Mode, ServiceId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::args::Request;
use crate::caller;
use crate::encoded::Encoded;
use crate::handlers::HandlerError;
use crate::incoming::{self, Incoming, Name};
use crate::meter::Begun;
use crate::node::{Handle, Node};
use crate::outcome::Outcome;
use crate::shared::Shared;
use crate::tally::RAW;

/// The messages that come to a node, from
/// [`Builder::connect_with_deliveries`](crate::Builder::connect_with_deliveries).
///
/// What is not taken waits, up to [`Builder::handler_queue`](crate::Builder::handler_queue); beyond
/// that calls are answered `busy`. What waited for longer than its sender gave it never comes out.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// use switchboard::{Encoded, Node, Random};
///
/// let builder = Node::builder("matchsvr.1").router(&address);
/// let (node, mut deliveries) = builder.connect_with_deliveries().await?;
/// let call = tokio::spawn(node.call::<u8>(Random, "matchsvr", "double", (4,)).into_future());
///
/// let delivery = deliveries.next().await.expect("the node is open");
/// assert_eq!(delivery.method(), Some("double"));
/// let Some(Encoded { count: 1, bytes: [4] }) = delivery.args() else { panic!() };
/// delivery.answer(Ok(Encoded { count: 1, bytes: vec![8] }));
/// assert_eq!(call.await??, 8);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Deliveries {
    shared: Arc<Shared>,
    node: Weak<Handle>,
    queue: mpsc::Receiver<Incoming>,
}

/// A message in the hands of the program. A call that is dropped without an answer is answered with an
/// error, so that its caller does not wait in vain.
#[derive(Debug)]
#[must_use = "a delivery ends with `answer`"]
pub struct Delivery {
    /// None once it is answered.
    open: Option<Open>,
    since: Instant,
}

#[derive(Debug)]
struct Open {
    shared: Arc<Shared>,
    message: Incoming,
    begun: Option<Begun>,
}

impl Deliveries {
    pub(crate) fn new(
        shared: Arc<Shared>,
        node: Weak<Handle>,
        queue: mpsc::Receiver<Incoming>,
    ) -> Self {
        Self { shared, node, queue }
    }

    /// The next message; `None` when the node is closed, or dropped.
    pub async fn next(&mut self) -> Option<Delivery> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// The next message, or a promise to wake the task when there is one.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            let message = match self.queue.poll_recv(context) {
                Poll::Ready(Some(message)) => message,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            if Node::upgrade(&self.node).is_none() {
                return Poll::Ready(None);
            }
            if message.is_late() {
                incoming::discard(&self.shared, &message);
                continue;
            }
            let open = Open { shared: Arc::clone(&self.shared), message, begun: None };
            return Poll::Ready(Some(Delivery { open: Some(open), since: Instant::now() }));
        }
    }
}

impl Delivery {
    /// Who sent it.
    #[must_use]
    pub fn from(&self) -> ServiceId {
        self.message().from
    }

    /// How this node was picked.
    #[must_use]
    pub fn mode(&self) -> Mode {
        caller::mode(&self.message().header)
    }

    /// The key, where the mode is Hash.
    #[must_use]
    pub fn key(&self) -> Option<u64> {
        (self.mode() == Mode::Hash).then_some(self.message().header.key)
    }

    /// Whether the sender waits for an answer.
    #[must_use]
    pub fn wants_reply(&self) -> bool {
        self.message().is(Flags::CALL)
    }

    /// How long the sender gave the message, counted from when it was sent; absent if it didn't say.
    #[must_use]
    pub fn ttl(&self) -> Option<std::time::Duration> {
        caller::ttl(&self.message().header)
    }

    /// The method; absent where the payload is not `[method, ...]`.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        Request::read(&self.message().payload).map(|request| request.method)
    }

    /// The arguments; absent where the payload is not `[method, ...]`.
    #[must_use]
    pub fn args(&self) -> Option<Encoded<&[u8]>> {
        Request::read(&self.message().payload).map(|request| request.encoded())
    }

    /// The payload as it came.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.message().payload
    }

    /// Says that the answer takes a while: from here on the message counts as being in flight.
    pub fn begin(&mut self) {
        let since = self.since;
        if let Some(open) = &mut self.open {
            let method = method(&open.message);
            let meter = incoming::meter(&open.shared, &open.message, method, Name::Handled);
            open.begun = Some(meter.begin(open.message.what(), since));
        }
    }

    /// Ends the message: with the results of its handler, any number of them, or with its error. The
    /// sender hears of it if it waits for an answer. Of a one-way message an error is told in
    /// [`Event::Failed`](crate::Event::Failed).
    pub fn answer(mut self, result: Result<Encoded<Vec<u8>>, HandlerError>) {
        let Some(Open { shared, message, begun }) = self.open.take() else { return };
        let answer = incoming::own(result.and_then(Encoded::into_reply));
        let outcome = Outcome::of_answer(&answer);
        match begun {
            Some(begun) => begun.end(outcome),
            None => {
                let meter = incoming::meter(&shared, &message, method(&message), Name::Handled);
                meter.took(self.since.elapsed());
                meter.ended(message.what(), outcome);
            }
        }
        incoming::finish(&shared, &message, answer);
    }

    /// Ends the message: no handler has its method. The sender knows that nothing was done.
    pub fn no_method(self) {
        let text = match self.method() {
            Some(method) => format!("no handler for `{method}`"),
            None => "the payload is not [method, ...]".to_owned(),
        };
        self.refuse(HandlerError::new(HandlerError::NO_METHOD, text));
    }

    /// Ends the message: its arguments are not what the handler takes. The sender knows that nothing
    /// was done.
    pub fn bad_args(self, why: &str) {
        let text = format!("`{}`: {why}", self.method().unwrap_or_default());
        self.refuse(HandlerError::new(HandlerError::BAD_ARGS, text));
    }

    fn refuse(mut self, error: HandlerError) {
        let Some(Open { shared, message, begun: _ }) = self.open.take() else { return };
        let answer = Err(error);
        let meter = incoming::meter(&shared, &message, method(&message), Name::Claimed);
        meter.ended(message.what(), Outcome::of_answer(&answer));
        incoming::finish(&shared, &message, answer);
    }

    fn message(&self) -> &Incoming {
        // INVARIANT: only what takes `self` empties it.
        &self.open.as_ref().expect("an unanswered delivery is open").message
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(Open { shared, message, begun }) = self.open.take() else { return };
        match begun {
            Some(begun) => drop(begun),
            None => {
                let meter = incoming::meter(&shared, &message, method(&message), Name::Claimed);
                meter.ended(message.what(), Outcome::Cancelled);
            }
        }
        let error = HandlerError::new(HandlerError::ERROR, "the handler ended without an answer");
        incoming::finish(&shared, &message, Err(error));
    }
}

fn method(message: &Incoming) -> &str {
    Request::read(&message.payload).map_or(RAW, |request| request.method)
}
