//! The router's word: what it wrote and what it could not, against what handlers and senders say.

use std::collections::BTreeMap;

use super::{Account, Book};
use crate::news::Why;
use crate::numbers::Numbers;
use crate::stream::MATCHSVR;

/// The class and mode of answers, which go to game servers by their ids.
const ANSWERS: (&str, &str) = ("gamesvr", "direct");

/// What handlers and senders say of a class and mode.
#[derive(Debug, Default)]
struct Expected {
    /// Handled, or turned away by a handler's node.
    reached: u64,
    told: u64,
    in_flight: u64,
}

impl Book {
    /// Compares with what the router counted.
    pub(super) fn ask_router(&self, account: &mut Account) {
        if self.router.is_empty() {
            return;
        }
        let mut expected = self.expected();
        for (stream, row) in &account.rows {
            let requests = row.in_flight - row.answers_in_flight;
            expected.entry((stream.class(), stream.mode())).or_default().in_flight += requests;
        }
        let answers = account.calls_answered() + self.fences.values().sum::<u64>();
        expected.entry(ANSWERS).or_default().reached += answers;
        for (key, expected) in &expected {
            let (class, mode) = key;
            let Expected { reached, told, in_flight } = expected;
            let (delivered, undelivered) = self.counted(class, mode);
            if *key == (MATCHSVR, "master") {
                account.in_flight_by_router = delivered.saturating_sub(*reached);
            }
            let least = reached + in_flight;
            // The answer to a call that timed out may have come, too late.
            let late = if *key == ANSWERS { account.total.answers_in_flight } else { 0 };
            if !(least..=least + late).contains(&delivered) {
                account.problems.push(format!(
                    "{class} by {mode}: the router wrote {delivered}, {reached} were handled and \
                     {in_flight} in flight"
                ));
            }
            if undelivered != *told {
                account.problems.push(format!(
                    "{class} by {mode}: the router could not deliver {undelivered}, and told of \
                     {told}"
                ));
            }
        }
    }

    /// What handlers and senders say, by class and mode.
    fn expected(&self) -> BTreeMap<(&str, &str), Expected> {
        let mut expected: BTreeMap<(&str, &str), Expected> = BTreeMap::new();
        for (class, fences) in &self.fences {
            expected.entry((class, "direct")).or_default().reached += fences;
        }
        for ((_, stream), numbers) in &self.handled {
            let handled: u64 = numbers.iter().map(Numbers::len).sum();
            expected.entry((stream.class(), stream.mode())).or_default().reached += handled;
        }
        for ((source, stream), sent) in &self.sent {
            let expected = expected.entry((stream.class(), stream.mode())).or_default();
            expected.told += sent.told.values().sum::<u64>();
            for failure in &sent.failures {
                let handled = self.handled.get(&(*source, *stream)).into_iter().flatten();
                let mut handled = handled.filter(|numbers| numbers.contains(failure.number));
                match failure.why {
                    Why::NoRoute | Why::TargetLost => expected.told += 1,
                    Why::Remote(_) if handled.next().is_none() => expected.reached += 1,
                    _ => {}
                }
            }
        }
        expected
    }

    /// What the router wrote, and what it could not.
    fn counted(&self, class: &str, mode: &str) -> (u64, u64) {
        let (mut delivered, mut told) = (0, 0);
        for ((of_class, by_mode, outcome), frames) in &self.router {
            if of_class == class && by_mode == mode {
                match outcome.as_str() {
                    "delivered" => delivered += frames,
                    // Answers of the killed process. Nobody is left to be told.
                    "source_lost" => {}
                    _ => told += frames,
                }
            }
        }
        (delivered, told)
    }
}
