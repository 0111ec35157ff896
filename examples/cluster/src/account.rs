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

use crate::news::{Sent, Why};
use crate::numbers::Numbers;
use crate::stream::{MATCHSVR, Manner, Stream};

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

    fn one_way(&self, context: &Context<'_>, problems: &mut Vec<String>) -> Row {
        let Context { stream, sent, .. } = *context;
        let told: u64 = sent.told.values().sum();
        let mut row = Row { sent: sent.count * stream.copies(), ..Row::default() };
        row.told.clone_from(&sent.told);
        let missing = context.missing(problems);
        row.delivered = row.sent - missing.iter().map(|(_, copies)| copies).sum::<u64>();
        let (mut inside, mut outside) = (0, Vec::new());
        for (number, copies) in &missing {
            match self.outage {
                Some(outage) if stream.class() == MATCHSVR && context.within(*number, outage) => {
                    inside += copies;
                }
                _ => outside.push(*number),
            }
        }
        if inside > 0 {
            let first = missing.first().map_or(0, |(number, _)| *number);
            let last = missing.last().map_or(0, |(number, _)| *number);
            if last - first + 1 != missing.len() as u64 {
                problems.push(format!(
                    "{context}: of {first} to {last}, {} are missing; around a kill all should be",
                    missing.len()
                ));
            }
        }
        // Without a kill, what is missing is what was told, one for one.
        let told_outside = told.min(outside.len() as u64);
        let told_inside = told - told_outside;
        row.lost = outside.len() as u64 - told_outside;
        if row.lost > 0 {
            problems.push(format!(
                "{context}: lost {} without a word, among {}",
                row.lost,
                list(&outside)
            ));
        }
        if told_inside > inside {
            problems.push(format!(
                "{context}: {} were told undeliverable, and yet handled",
                told_inside - inside
            ));
        }
        row.in_flight = inside.saturating_sub(told_inside);
        row
    }

    fn calls(&self, context: &Context<'_>, problems: &mut Vec<String>) -> Row {
        let Context { stream, sent, handled, .. } = *context;
        let mut row = Row { sent: sent.count, ..Row::default() };
        let missing: Vec<u64> = context.missing(problems).into_iter().map(|(n, _)| n).collect();
        let mut unanswered = BTreeMap::new();
        for failure in &sent.failures {
            if unanswered.insert(failure.number, failure).is_some() {
                problems.push(format!("{context}: call {} failed twice", failure.number));
            }
            let was_handled = handled.iter().any(|numbers| numbers.contains(failure.number));
            match &failure.why {
                Why::Timeout => {
                    let inside = self
                        .outage
                        .is_some_and(|outage| (outage.from..=outage.to).contains(&failure.sent));
                    if stream.class() == MATCHSVR && inside {
                        row.in_flight += 1;
                        continue;
                    }
                    row.lost += 1;
                    problems.push(format!("{context}: no answer to call {}", failure.number));
                }
                why => {
                    *row.told.entry(why.word().to_owned()).or_default() += 1;
                    if was_handled && !matches!(why, Why::Remote(_)) {
                        problems.push(format!(
                            "{context}: call {} was handled, and yet told: {}",
                            failure.number,
                            why.word()
                        ));
                    }
                    if let Why::Other(text) = why {
                        problems.push(format!("{context}: call {}: {text}", failure.number));
                    }
                }
            }
        }
        let unheard: Vec<u64> =
            missing.into_iter().filter(|number| !unanswered.contains_key(number)).collect();
        if !unheard.is_empty() {
            problems.push(format!("{context}: answered but not handled: {}", list(&unheard)));
        }
        row.delivered = sent.count.saturating_sub(unanswered.len() as u64);
        row
    }

    /// Compares with what the router counted.
    fn ask_router(&self, account: &mut Account) {
        if self.router.is_empty() {
            return;
        }
        let replies: u64 = account.calls_answered() + self.fences.values().sum::<u64>();
        let mut expected: BTreeMap<(&str, &str), Expected> = BTreeMap::new();
        for (class, fences) in &self.fences {
            expected.entry((class, "direct")).or_default().handled += fences;
        }
        expected.entry(("gamesvr", "direct")).or_default().handled += replies;
        for ((_, stream), numbers) in &self.handled {
            let handled: u64 = numbers.iter().map(Numbers::len).sum();
            expected.entry((stream.class(), stream.mode())).or_default().handled += handled;
        }
        for ((source, stream), sent) in &self.sent {
            let expected = expected.entry((stream.class(), stream.mode())).or_default();
            expected.told += sent.told.values().sum::<u64>();
            for failure in &sent.failures {
                let handled = self.handled.get(&(*source, *stream)).into_iter().flatten();
                let mut handled = handled.filter(|numbers| numbers.contains(failure.number));
                match failure.why {
                    Why::NoRoute | Why::TargetLost => expected.told += 1,
                    Why::Timeout if handled.next().is_none() => expected.calls_in_flight += 1,
                    _ => {}
                }
            }
        }
        for ((class, mode), expected) in &expected {
            let (delivered, told) = self.counted(class, mode);
            let beyond = delivered.saturating_sub(expected.handled);
            let killed = (*class, *mode) == (MATCHSVR, "master");
            let in_flight = match killed {
                true => account.one_way_in_flight() + expected.calls_in_flight,
                false => 0,
            };
            if killed {
                account.in_flight_by_router = beyond;
            }
            let least = expected.handled + in_flight;
            // The answer to a call that timed out may have come, too late.
            let late = match (*class, *mode) {
                ("gamesvr", "direct") => account.calls_in_flight(),
                _ => 0,
            };
            if !(least..=least + late).contains(&delivered) {
                account.problems.push(format!(
                    "{class} by {mode}: the router wrote {delivered}, {} were handled and \
                     {in_flight} in flight",
                    expected.handled
                ));
            }
            if told != expected.told {
                account.problems.push(format!(
                    "{class} by {mode}: the router could not deliver {told}, and told of {}",
                    expected.told
                ));
            }
        }
    }

    /// What the router wrote, and what it could not.
    fn counted(&self, class: &str, mode: &str) -> (u64, u64) {
        let (mut delivered, mut told) = (0, 0);
        for ((of_class, by_mode, outcome), frames) in &self.router {
            if of_class == class && by_mode == mode {
                match outcome == "delivered" {
                    true => delivered += frames,
                    false => told += frames,
                }
            }
        }
        (delivered, told)
    }
}

/// What handlers and senders say of a class and mode.
#[derive(Debug, Default)]
struct Expected {
    handled: u64,
    told: u64,
    calls_in_flight: u64,
}

/// One sender's stream.
#[derive(Clone, Copy)]
struct Context<'a> {
    source: u32,
    stream: Stream,
    sent: &'a Sent,
    handled: &'a [Numbers],
}

impl Context<'_> {
    /// The numbers that were handled by too few, and by how many. Too many is a problem at once.
    fn missing(&self, problems: &mut Vec<String>) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        let mut doubled = Vec::new();
        for number in 1..=self.sent.count {
            let copies = self.handled.iter().filter(|numbers| numbers.contains(number)).count();
            let (copies, due) = (copies as u64, self.stream.copies());
            if copies < due {
                missing.push((number, due - copies));
            } else if copies > due {
                doubled.push(number);
            }
        }
        let doubles: u64 = self.handled.iter().map(Numbers::doubles).sum();
        if !doubled.is_empty() || doubles > 0 {
            problems.push(format!(
                "{self}: {} were handled twice by one process, and by two: {}",
                doubles,
                list(&doubled)
            ));
        }
        let max = self.handled.iter().map(Numbers::max).max().unwrap_or_default();
        if max > self.sent.count {
            problems.push(format!("{self}: {max} was handled, of {} sent", self.sent.count));
        }
        missing
    }

    /// Whether a message was, or may have been, sent in the time of the outage.
    fn within(&self, number: u64, outage: Outage) -> bool {
        let schedule = &self.sent.schedule;
        let behind = schedule.partition_point(|(first, _)| *first <= number);
        let at = |index: usize| schedule.get(index).map(|(_, at)| *at);
        let earliest = behind.checked_sub(1).and_then(at).unwrap_or_default();
        let latest = at(behind).unwrap_or(u64::MAX);
        latest >= outage.from && earliest <= outage.to
    }
}

impl std::fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from gamesvr.{}", self.stream.method(), self.source & 0x00ff_ffff)
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

    fn calls_in_flight(&self) -> u64 {
        let calls = self.rows.iter().filter(|(stream, _)| stream.manner() == Manner::Call);
        calls.map(|(_, row)| row.in_flight).sum()
    }

    fn one_way_in_flight(&self) -> u64 {
        let one_way = self.rows.iter().filter(|(stream, _)| stream.manner() == Manner::OneWay);
        one_way.map(|(_, row)| row.in_flight).sum()
    }
}

/// The first few of many numbers.
fn list(numbers: &[u64]) -> String {
    let mut words: Vec<String> = numbers.iter().take(8).map(u64::to_string).collect();
    if numbers.len() > words.len() {
        words.push(format!("... {} in all", numbers.len()));
    }
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

#[cfg(test)]
mod tests;
