//! One sender's stream: which of its messages were handled, told of, in flight, or lost.

use std::collections::BTreeMap;

use super::{Book, Outage, Row};
use crate::news::{Sent, Why};
use crate::numbers::Numbers;
use crate::stream::{MATCHSVR, Stream};

/// One sender's stream.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) source: u32,
    pub(super) stream: Stream,
    pub(super) sent: &'a Sent,
    pub(super) handled: &'a [Numbers],
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

impl Book {
    pub(super) fn one_way(&self, context: &Context<'_>, problems: &mut Vec<String>) -> Row {
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

    pub(super) fn calls(&self, context: &Context<'_>, problems: &mut Vec<String>) -> Row {
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
                        row.answers_in_flight += u64::from(was_handled);
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
