//! One sender's stream: which of its messages were handled, told of, in flight, or lost.

use std::collections::BTreeMap;

use super::{Book, Killed, Outage, Row};
use crate::news::{Sent, Why};
use crate::numbers::Numbers;
use crate::stream::Stream;

/// One sender's stream.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) source: u32,
    pub(super) stream: Stream,
    pub(super) sent: &'a Sent,
    pub(super) handled: &'a [Numbers],
}

impl Context<'_> {
    /// The numbers that were handled by too few, and by how many. Too many is a problem at once,
    /// but for idempotent calls at several instances; those are counted.
    fn missing(&self, problems: &mut Vec<String>) -> (Vec<(u64, u64)>, u64) {
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
        let again = match self.stream.idempotent() {
            true => std::mem::take(&mut doubled).len() as u64,
            false => 0,
        };
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
        (missing, again)
    }

    /// Whether a message was, or may have been, sent in the time of the outage, and could be part
    /// of it.
    fn within(&self, number: u64, outage: &Outage) -> bool {
        let schedule = &self.sent.schedule;
        let behind = schedule.partition_point(|(first, _)| *first <= number);
        let at = |index: usize| schedule.get(index).map(|(_, at)| *at);
        let earliest = behind.checked_sub(1).and_then(at).unwrap_or_default();
        let latest = at(behind).unwrap_or(u64::MAX);
        outage.covers(self.stream.class(), earliest, latest)
    }
}

impl std::fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from gamesvr.{}", self.stream.method(), self.source & 0x00ff_ffff)
    }
}

impl Book {
    pub(super) fn one_way(&self, context: &Context<'_>, problems: &mut Vec<String>) -> Row {
        let Context { stream, sent, .. } = *context;
        let told: u64 = sent.told.values().sum();
        let mut row = Row { sent: sent.count * stream.copies(), ..Row::default() };
        row.told.clone_from(&sent.told);
        let (missing, _) = context.missing(problems);
        row.delivered = row.sent - missing.iter().map(|(_, copies)| copies).sum::<u64>();
        let mut outside = Vec::new();
        let mut at_master = Vec::new();
        for (number, copies) in &missing {
            let outage = self.outages.iter().find(|outage| context.within(*number, outage));
            match outage.map(|outage| outage.of) {
                Some(Killed::Master) => {
                    row.with_master += copies;
                    at_master.push(*number);
                }
                Some(Killed::Router) => row.with_router += copies,
                None => outside.push(*number),
            }
        }
        if let (Some(first), Some(last)) = (at_master.first(), at_master.last())
            && last - first + 1 != at_master.len() as u64
        {
            problems.push(format!(
                "{context}: of {first} to {last}, {} are missing; around a kill all should be",
                at_master.len()
            ));
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
        if told_inside > row.with_killed() {
            problems.push(format!(
                "{context}: {} were told undeliverable, and yet handled",
                told_inside - row.with_killed()
            ));
        }
        // It is the dead master's mailbox that routers tell of.
        let told_at_master = told_inside.min(row.with_master);
        row.with_master -= told_at_master;
        row.with_router = row.with_router.saturating_sub(told_inside - told_at_master);
        row
    }

    pub(super) fn calls(&self, context: &Context<'_>, problems: &mut Vec<String>) -> Row {
        let Context { stream, sent, .. } = *context;
        let mut row = Row { sent: sent.count, ..Row::default() };
        let (missing, again) = context.missing(problems);
        row.again = again;
        let mut unanswered = BTreeMap::new();
        for failure in &sent.failures {
            if unanswered.insert(failure.number, failure).is_some() {
                problems.push(format!("{context}: call {} failed twice", failure.number));
            }
            // Its router was killed, and the caller was told that nobody knows what it did before.
            let excused = failure.why == Why::Unknown
                && !stream.idempotent()
                && self.outages.iter().any(|outage| {
                    outage.of == Killed::Router
                        && outage.covers(stream.class(), failure.sent, failure.at)
                });
            if excused {
                row.with_router += 1;
            } else {
                let why = failure.why.word();
                *row.told.entry(why.to_owned()).or_default() += 1;
                problems.push(format!("{context}: call {} failed: {why}", failure.number));
            }
        }
        let missing = missing.into_iter().map(|(number, _)| number);
        let unheard: Vec<u64> = missing.filter(|number| !unanswered.contains_key(number)).collect();
        if !unheard.is_empty() {
            problems.push(format!("{context}: answered but not handled: {}", list(&unheard)));
        }
        row.delivered = sent.count.saturating_sub(unanswered.len() as u64);
        row
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
