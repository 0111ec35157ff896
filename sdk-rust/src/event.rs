//! What happens to a node without anybody having asked: links come and go, masters change, messages
//! are dropped. Events are for people's logs and for programs that care; nothing waits for them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use switchboard_protocol::control::GoAwayReason;
use switchboard_protocol::{Class, Mode, Reason, RefusalCode, ServiceId};
use tokio::sync::broadcast;

use crate::error::CloseReason;

/// Something that happened to a node.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::{Event, Node};
///
/// let mut events = node.events();
/// tokio::spawn(async move {
///     while let Some(event) = events.next().await {
///         match event {
///             Event::Lost { why, .. } => eprintln!("link lost: {why}"),
///             Event::Promoted { class, epoch } => eprintln!("master of {class} since {epoch}"),
///             Event::Missed(count) => eprintln!("{count} events went by unread"),
///             _ => {}
///         }
///     }
/// });
/// # node.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A link is up, and the node is reachable over it under its ids.
    Connected {
        /// Where the router listens.
        router: String,
        /// The router's name.
        name: String,
        /// The ids, in the order in which the services were given.
        ids: Vec<ServiceId>,
    },
    /// A link is gone. Calls under way over it have failed with
    /// [`OutcomeUnknown`](crate::CallError::OutcomeUnknown), or are sent again if they are
    /// idempotent. What was not begun to be written has moved to another router, if there is one.
    Lost {
        /// Where the router listens.
        router: String,
        /// Why, for people.
        why: String,
        /// Bytes in the outbox that were not written whole to the socket, and did not move.
        unsent: usize,
    },
    /// The node will try to connect.
    Reconnecting {
        /// Where the router listens.
        router: String,
        /// After this long.
        after: Duration,
        /// For the how manieth time in this outage, from 1.
        attempt: u32,
        /// What came of the attempt before; absent for the first.
        why: Option<String>,
    },
    /// This node is now the master of a class.
    Promoted {
        /// The class.
        class: Class,
        /// Grows with every change of master; write it beside what you change as master.
        epoch: u64,
    },
    /// This node is no longer the master of a class, or can't know any more since the link is gone.
    Demoted {
        /// The class.
        class: Class,
    },
    /// A newer incarnation took ids from this node.
    Replaced {
        /// The ids.
        ids: Vec<ServiceId>,
    },
    /// The router could not deliver a one-way message that asked for a report.
    Undelivered {
        /// Why.
        reason: Reason,
        /// How its target was to be picked.
        mode: Mode,
        /// The class that it was for.
        class: Class,
        /// The instance that it was for, where the mode is Direct.
        id: Option<ServiceId>,
        /// Its key, where the mode is Hash.
        key: Option<u64>,
    },
    /// Handlers don't keep up, or the link doesn't: something was dropped. Many drops are told
    /// together.
    Overloaded {
        /// One-way messages that found the handlers' queue full. (A call is answered `busy`.)
        messages: u64,
        /// Replies that found the outbox full.
        replies: u64,
        /// Messages, calls among them, that had waited for their handlers for longer than their
        /// senders gave them. Nobody waits for them any more.
        expired: u64,
    },
    /// A one-way message came, and its handler could not do what it asked. (A call would have been
    /// answered with the error.)
    Failed {
        /// Who sent it.
        from: ServiceId,
        /// The method; empty where the message has none.
        method: String,
        /// The error's code; see [`HandlerError`](crate::HandlerError).
        code: String,
        /// The error's text.
        text: String,
    },
    /// The router refuses something that this node did, or, while it is reconnecting, the node.
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        text: String,
    },
    /// A router will end its link soon. With `reconnect_after`, the node uses its other routers until
    /// this one is back; without, it does not come back to this one.
    GoAway {
        /// Where it listens.
        router: String,
        /// Why.
        reason: GoAwayReason,
        /// When the node is asked to come back; absent if it is asked not to.
        reconnect_after: Option<Duration>,
    },
    /// The node is closed for good. This is the last event.
    Closed(CloseReason),
    /// This reader was too slow: so many events are missing here.
    Missed(u64),
}

/// The events of a node, from [`Node::events`](crate::Node::events).
///
/// Each reader has the last 1024 events at most; when it is slower than that, it is told how many
/// it [missed](Event::Missed).
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    last: Last,
}

/// Whether the last event has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Ahead,
    Read,
}

/// The sending side.
#[derive(Debug)]
pub(crate) struct Announcer {
    sender: broadcast::Sender<Event>,
    /// What happened before anybody asked goes to the first who does.
    first: Mutex<Option<broadcast::Receiver<Event>>>,
}

impl Events {
    /// The next event; `None` after [`Event::Closed`].
    pub async fn next(&mut self) -> Option<Event> {
        if self.last == Last::Read {
            return None;
        }
        match self.receiver.recv().await {
            Ok(event) => {
                if matches!(event, Event::Closed(_)) {
                    self.last = Last::Read;
                }
                Some(event)
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Announcer {
    pub(crate) fn new() -> Self {
        let (sender, first) = broadcast::channel(KEPT_EVENTS);
        Self { sender, first: Mutex::new(Some(first)) }
    }

    pub(crate) fn announce(&self, event: Event) {
        // Without readers there is nobody to tell.
        let _ = self.sender.send(event);
    }

    pub(crate) fn events(&self) -> Events {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let receiver = first.unwrap_or_else(|| self.sender.subscribe());
        Events { receiver, last: Last::Ahead }
    }
}

/// How many events a reader may be behind.
const KEPT_EVENTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The next event, or a test that fails instead of waiting for ever.
    async fn next(events: &mut Events) -> Option<Event> {
        let deadline = Duration::from_secs(10);
        tokio::time::timeout(deadline, events.next()).await.expect("there is a next event")
    }

    #[tokio::test]
    async fn the_first_reader_hears_what_happened_before_it_asked() {
        let announcer = Announcer::new();
        let event = Event::Demoted { class: Class::of(5) };
        announcer.announce(event.clone());
        assert_eq!(next(&mut announcer.events()).await, Some(event));
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_many_it_missed() {
        let announcer = Announcer::new();
        let mut events = announcer.events();
        for epoch in 0..KEPT_EVENTS as u64 + 3 {
            announcer.announce(Event::Promoted { class: Class::of(5), epoch });
        }
        assert_eq!(next(&mut events).await, Some(Event::Missed(3)));
        assert_eq!(
            next(&mut events).await,
            Some(Event::Promoted { class: Class::of(5), epoch: 3 })
        );
    }

    #[tokio::test]
    async fn nothing_follows_closed() {
        let announcer = Announcer::new();
        let mut events = announcer.events();
        announcer.announce(Event::Closed(CloseReason::Local));
        assert_eq!(next(&mut events).await, Some(Event::Closed(CloseReason::Local)));
        assert_eq!(next(&mut events).await, None);
    }
}
