//! What had to be dropped. The first drop is announced at once, and those that follow it together,
//! once a second: a flood of events would help nobody out of a flood of messages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::event::Event;
use crate::session::End;
use crate::shared::Shared;

/// Drops that have not been announced yet.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    messages: AtomicU64,
    replies: AtomicU64,
    expired: AtomicU64,
    more: Notify,
}

impl Drops {
    /// A one-way message found the handlers' queue full.
    pub(crate) fn message(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.more.notify_one();
    }

    /// A reply found the outbox full.
    pub(crate) fn reply(&self) {
        self.replies.fetch_add(1, Ordering::Relaxed);
        self.more.notify_one();
    }

    /// A message had waited for its handler for longer than its sender gave it.
    pub(crate) fn expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
        self.more.notify_one();
    }

    /// What was dropped since the last time, if anything was.
    pub(crate) fn take(&self) -> Option<Event> {
        let messages = self.messages.swap(0, Ordering::Relaxed);
        let replies = self.replies.swap(0, Ordering::Relaxed);
        let expired = self.expired.swap(0, Ordering::Relaxed);
        let any = messages != 0 || replies != 0 || expired != 0;
        any.then_some(Event::Overloaded { messages, replies, expired })
    }
}

/// Announces drops as long as a link lasts.
pub(crate) async fn report(shared: &Shared) -> End {
    loop {
        shared.drops.more.notified().await;
        if let Some(event) = shared.drops.take() {
            shared.events.announce(event);
            tokio::time::sleep(ANNOUNCE_INTERVAL).await;
        }
    }
}

const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
