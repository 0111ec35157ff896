//! What happened lately: who joined, who left and why, which class has another master, what a reload did,
//! who was refused. The registrar, the sessions and the reloads write it down; operators read it.
//!
//! The last few hundred are kept. Each has a number, so that a reader knows what it has seen.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use switchboard_protocol::RefusalCode;

use crate::registry::News;
use crate::stream::Peer;

/// The latest events.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    recent: VecDeque<Event>,
    /// How many there ever were.
    count: u64,
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// From 1, one more each time.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// To the instances of a class.
    News(News),
    /// A session was not admitted, or was refused ids that it asked for.
    Refused { session: u64, peer: Peer, code: RefusalCode, text: String },
    /// An operator closed a session.
    Disconnected { session: u64 },
    /// The configuration was read again.
    Reloaded { applied: Vec<String>, needs_restart: Vec<String> },
    /// It was, and has a mistake.
    NotReloaded { mistake: String },
    /// The router began to leave.
    Draining { sessions: usize },
}

impl Events {
    /// Notes something.
    pub(crate) fn note(&self, what: What) {
        self.note_all([what]);
    }

    /// Notes several things at once.
    pub(crate) fn note_all(&self, all: impl IntoIterator<Item = What>) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let at_ms = since.map_or(0, |since| since.as_millis() as u64);
        let mut ring = self.lock();
        for what in all {
            ring.count += 1;
            let number = ring.count;
            if ring.recent.len() == KEPT {
                ring.recent.pop_front();
            }
            ring.recent.push_back(Event { number, at_ms, what });
        }
    }

    /// How many there ever were: the number of the last.
    pub(crate) fn count(&self) -> u64 {
        self.lock().count
    }

    /// Those behind this number that are still known, oldest first.
    pub(crate) fn since(&self, number: u64) -> Vec<Event> {
        let ring = self.lock();
        let first = ring.recent.partition_point(|event| event.number <= number);
        ring.recent.range(first..).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many events are known.
const KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_and_numbered_without_a_gap() {
        let events = Events::default();
        assert!(events.since(0).is_empty());
        events.note_all((0..300).map(|session| What::Disconnected { session }));
        let numbers =
            |since| events.since(since).iter().map(|event| event.number).collect::<Vec<_>>();
        assert_eq!(numbers(0), (45..=300).collect::<Vec<_>>());
        assert_eq!(numbers(298), [299, 300]);
        assert!(numbers(300).is_empty());
    }
}
