//! The router's word: what it wrote and what it could not, against what handlers and senders say.

use std::collections::BTreeMap;

use super::{Account, Book};
use crate::news::Why;
use crate::numbers::Numbers;
use crate::stream::MATCHSVR;

/// What handlers and senders say of a class and mode.
#[derive(Debug, Default)]
struct Expected {
    handled: u64,
    told: u64,
    calls_in_flight: u64,
}

impl Book {
    /// Compares with what the router counted.
    pub(super) fn ask_router(&self, account: &mut Account) {
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
