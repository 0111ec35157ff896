//! The account: what became of every message. Pure; the tests below cook the books.
//!
//! Three parties tell what they know. Senders know which numbers they sent, and what they were told
//! could not be delivered. Handlers know which numbers they handled. The routers count what they
//! wrote to their nodes. A message that nobody handled and nobody reported can only have been in the
//! hands of a process that was killed, so such messages must
//!
//! - be for a class that this process served, and sent around the time of its kill;
//! - with a master, form one stretch in each sender's numbers, since order is kept: the old master
//!   handled everything before it, and the new master everything behind it;
//! - with a master, be no more than the router wrote to that class beyond what was handled, a number
//!   which no sender and no handler has a part in.
//!
//! A killed router takes its count along, so of the classes that it served only a part is known.
//! Idempotent calls must all be answered. They may be written more often than they are handled, and
//! handled by a second instance when the first was killed, but never twice by one.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::news::Sent;
use crate::numbers::Numbers;
use crate::stream::{Manner, Stream};

mod counters;
mod streams;

use streams::Context;

/// What the parties say.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// By sender and stream.
    pub sent: BTreeMap<(u32, Stream), Sent>,
    /// By sender and stream: what each process handled.
    pub handled: BTreeMap<(u32, Stream), Vec<Numbers>>,
    /// The living routers' counts by class, mode and outcome, added up.
    pub router: BTreeMap<(String, String, String), u64>,
    /// What the killed router had counted shortly before.
    pub dead_router: BTreeMap<(String, String, String), u64>,
    /// The kills, the earlier one first. Their times do not overlap.
    pub outages: Vec<Outage>,
    /// Calls beside the streams, by class: all answered, all to one instance by its id.
    pub fences: BTreeMap<String, u64>,
}

/// When a killed process may have taken messages along, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    pub of: Killed,
    /// The classes that it served.
    pub classes: Vec<String>,
    /// What was sent before had arrived. Microseconds since 1970, as all times here.
    pub from: u64,
    /// What was sent after went elsewhere.
    pub to: u64,
}

/// Who was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    Master,
    Router,
}

/// What became of the messages of a stream, of all senders. A broadcast counts once for each target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    pub sent: u64,
    /// Handled; for a call: answered.
    pub delivered: u64,
    /// Reported by the router, or a call that ended with an error. By reason.
    pub told: BTreeMap<String, u64>,
    /// In the hands of the killed master.
    pub with_master: u64,
    /// In the hands of the killed router; for a call that is not idempotent also its answer.
    pub with_router: u64,
    /// Idempotent calls that a second instance handled as well.
    pub again: u64,
    /// Nobody knows.
    pub lost: u64,
    /// Taken back by the sender's own node, before it counted as sent.
    pub refused: u64,
}

/// The result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    pub rows: BTreeMap<Stream, Row>,
    pub total: Row,
    /// What the routers wrote to masters of the killed class beyond what was handled.
    pub unhandled_by_router: u64,
    /// Messages that later ones overtook while they moved to the other router.
    pub overtaken: u64,
    /// What does not add up; empty if the account closes.
    pub problems: Vec<String>,
}

impl Book {
    /// Adds it all up.
    pub fn close(&self) -> Account {
        let mut account = Account::default();
        for ((source, stream), sent) in &self.sent {
            let none = Vec::new();
            let handled = self.handled.get(&(*source, *stream)).unwrap_or(&none);
            let context = Context { source: *source, stream: *stream, sent, handled };
            let mut row = match stream.manner() {
                Manner::OneWay => self.one_way(&context, &mut account.problems),
                Manner::Call => self.calls(&context, &mut account.problems),
            };
            row.refused = sent.refused;
            account.rows.entry(*stream).or_default().add(&row);
        }
        for key in self.handled.keys().filter(|key| !self.sent.contains_key(key)) {
            let (source, stream) = key;
            account.problems.push(format!("{stream:?} from {source:#x}: handled but never sent"));
        }
        for row in account.rows.values() {
            account.total.add(row);
        }
        self.ask_router(&mut account);
        account
    }
}

impl Outage {
    /// Whether a message of this class, sent and given up in this time, may have been lost here.
    pub fn covers(&self, class: &str, sent: u64, given_up: u64) -> bool {
        self.serves(class) && sent <= self.to && given_up >= self.from
    }

    fn serves(&self, class: &str) -> bool {
        self.classes.iter().any(|served| served == class)
    }
}

impl Row {
    /// How many were told undeliverable, or failed with an error.
    pub fn told(&self) -> u64 {
        self.told.values().sum()
    }

    /// How many were in the hands of processes that were killed.
    pub fn with_killed(&self) -> u64 {
        self.with_master + self.with_router
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.with_master += other.with_master;
        self.with_router += other.with_router;
        self.again += other.again;
        self.lost += other.lost;
        self.refused += other.refused;
        for (reason, count) in &other.told {
            *self.told.entry(reason.clone()).or_default() += count;
        }
    }
}

impl Account {
    /// Whether every message is accounted for.
    pub fn closes(&self) -> bool {
        self.problems.is_empty()
            && self.total.lost == 0
            && self.total.sent
                == self.total.delivered + self.total.told() + self.total.with_killed()
    }
}

#[cfg(test)]
mod tests;
