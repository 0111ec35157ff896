//! Runs handlers. Messages wait in one bounded queue and are started in the order in which they
//! came. A handler is polled once where it is started: one that doesn't wait is finished before
//! the next begins, so the order of a sender's messages holds; one that waits goes on as a task of
//! its own, up to a bound, while later messages are started.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::coop;

use crate::args::Request;
use crate::caller::Caller;
use crate::handlers::{Answer, HandlerError, Work};
use crate::incoming::{Incoming, Name, discard, finish, meter, own};
use crate::meter::Begun;
use crate::node::{Handle, Node};
use crate::outcome::Outcome;
use crate::shared::Shared;
use crate::tally::RAW;

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
                if message.is_late() {
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
    let method = request.map_or(RAW, |request| request.method);
    let meter = meter(shared, message, method, Name::Claimed);
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
