//! The account: what became of every message. Pure; the tests below cook the books.
//!
//! Three parties tell what they know. Senders know which numbers they sent, and what they were told
//! could not be delivered. Handlers know which numbers they handled. The router counts what it wrote
//! to its nodes. A message that nobody handled and nobody reported can only have been in the hands
//! of the process that was killed, so such messages must
//!
//! - be for the class whose master was killed, and sent around the time of the kill;
//! - form one stretch in each sender's numbers, since order is kept: the old master handled
//!   everything before it, and the new master everything behind it;
//! - be as many as the router wrote to that class beyond what was handled, a number which no sender
//!   and no handler has a part in.

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
    /// The router's counts by class, mode and outcome.
    pub router: BTreeMap<(String, String, String), u64>,
    /// The kill, if there was one.
    pub outage: Option<Outage>,
    /// Calls beside the streams, by class: all answered, all to one instance by its id.
    pub fences: BTreeMap<String, u64>,
}

/// When messages to the killed master may have been lost, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// What was sent before had arrived.
    pub from: u64,
    /// What was sent after went to the new master.
    pub to: u64,
}

/// What became of the messages of a stream, of all senders. A broadcast counts once for each target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    pub sent: u64,
    /// Handled; for a call: answered.
    pub delivered: u64,
    /// Reported by the router, or a call that ended with an error. By reason.
    pub told: BTreeMap<String, u64>,
    /// In the hands of the killed process.
    pub in_flight: u64,
    /// Of these, answers on their way back: the call had been handled.
    pub answers_in_flight: u64,
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
    /// What the router wrote to the killed class beyond what was handled.
    pub in_flight_by_router: u64,
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

impl Row {
    /// How many were told undeliverable, or failed with an error.
    pub fn told(&self) -> u64 {
        self.told.values().sum()
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.in_flight += other.in_flight;
        self.answers_in_flight += other.answers_in_flight;
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
            && self.total.sent == self.total.delivered + self.total.told() + self.total.in_flight
    }

    fn calls_answered(&self) -> u64 {
        let calls = self.rows.iter().filter(|(stream, _)| stream.manner() == Manner::Call);
        calls
            .map(|(_, row)| row.delivered + row.told.get("remote").copied().unwrap_or_default())
            .sum()
    }
}

#[cfg(test)]
mod tests;
