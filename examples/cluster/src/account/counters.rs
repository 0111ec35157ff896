//! The routers' word: what they wrote and what they could not, against what handlers and senders say.
//!
//! Where nothing blurs it, the numbers must be the same. Two things blur: the killed router's count
//! is known only up to shortly before its end, so of what it carried there may have been more; and
//! idempotent calls, with their answers, may be written more often than they are handled.

use std::collections::BTreeMap;

use super::{Account, Book};
use crate::news::Why;
use crate::numbers::Numbers;
use crate::stream::{MATCHSVR, Manner};

/// The class and mode of answers, which go to game servers by their ids.
const ANSWERS: (&str, &str) = ("gamesvr", "direct");

/// What handlers and senders say of a class and mode.
#[derive(Debug, Default)]
struct Expected {
    handled: u64,
    told: u64,
    with_master: u64,
    with_router: u64,
    /// Some of it may have been written more than once.
    repeated: bool,
}

/// What routers say of it.
#[derive(Debug, Default)]
struct Counted {
    written: u64,
    undelivered: u64,
}

impl Book {
    /// Compares with what the routers counted.
    pub(super) fn ask_router(&self, account: &mut Account) {
        if self.router.is_empty() {
            return;
        }
        for ((class, mode), expected) in &self.expected(account) {
            let Expected { handled, told, with_master, with_router, repeated } = expected;
            let living = Counted::of(&self.router, class, mode);
            let dead = Counted::of(&self.dead_router, class, mode);
            let carried = dead.written + dead.undelivered > 0;
            if (*class, *mode) == (MATCHSVR, "master") && !carried {
                account.unhandled_by_router = living.written.saturating_sub(*handled);
            }
            let written = living.written + dead.written;
            let too_few = !carried && written < handled + with_master;
            let too_many = !repeated && written > handled + with_master + with_router;
            if too_few || too_many {
                account.problems.push(format!(
                    "{class} by {mode}: the routers wrote {written}, {handled} were handled and \
                     {} with who was killed",
                    with_master + with_router
                ));
            }
            let undelivered = living.undelivered + dead.undelivered;
            let kept_quiet = !repeated && undelivered > *told;
            let made_up = !carried && undelivered < *told;
            if kept_quiet || made_up {
                account.problems.push(format!(
                    "{class} by {mode}: the routers could not deliver {undelivered}, and told of \
                     {told}"
                ));
            }
        }
    }

    /// What handlers and senders say, by class and mode.
    fn expected(&self, account: &Account) -> BTreeMap<(&str, &str), Expected> {
        let mut expected: BTreeMap<(&str, &str), Expected> = BTreeMap::new();
        for (class, fences) in &self.fences {
            expected.entry((class, "direct")).or_default().handled += fences;
        }
        for (stream, row) in &account.rows {
            let entry = expected.entry((stream.class(), stream.mode())).or_default();
            entry.with_master += row.with_master;
            entry.with_router += row.with_router;
            entry.repeated |= stream.idempotent();
            let answers = expected.entry(ANSWERS).or_default();
            if stream.manner() == Manner::Call {
                answers.handled += row.delivered;
                answers.repeated |= stream.idempotent();
            }
        }
        expected.entry(ANSWERS).or_default().handled += self.fences.values().sum::<u64>();
        for ((_, stream), numbers) in &self.handled {
            let handled: u64 = numbers.iter().map(Numbers::len).sum();
            expected.entry((stream.class(), stream.mode())).or_default().handled += handled;
        }
        for ((_, stream), sent) in &self.sent {
            let expected = expected.entry((stream.class(), stream.mode())).or_default();
            expected.told += sent.told.values().sum::<u64>();
            let told = |why: &Why| matches!(why, Why::NoRoute | Why::TargetLost);
            expected.told +=
                sent.failures.iter().filter(|failure| told(&failure.why)).count() as u64;
        }
        expected
    }
}

impl Counted {
    fn of(counts: &BTreeMap<(String, String, String), u64>, class: &str, mode: &str) -> Self {
        let mut counted = Self::default();
        for ((of_class, by_mode, outcome), frames) in counts {
            if of_class == class && by_mode == mode {
                match outcome.as_str() {
                    "delivered" => counted.written += frames,
                    // Answers of a killed process. Nobody is left to be told.
                    "source_lost" => {}
                    _ => counted.undelivered += frames,
                }
            }
        }
        counted
    }
}
