//! One call that may be repeated: what to do when a copy of it came to nothing, until its deadline.
//!
//! It counts the copies that may have been run. One that a router returned, or that its callee had
//! no room for, was not; one that found silence may have been. So the failure at the deadline can
//! tell whether the work may have been done.

use std::time::{Duration, Instant};

use switchboard_protocol::Reason;

use crate::backoff::{Backoff, jitter};
use crate::error::{CallError, ForwardError};
use crate::handlers::HandlerError;

/// What became of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It never left.
    NotSent(ForwardError),
    /// The router could not deliver it.
    Bounced(Reason),
    /// The link was lost while it was under way. It may have been run.
    Lost,
    /// No answer came in the attempt's time. It may have been run.
    Quiet,
    /// The callee had no room for it, and has not begun it.
    Busy,
    /// An instance of the class died, and may have had it.
    Shaken,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send another copy.
    Again {
        /// When.
        after: Duration,
        /// By a router that was not tried in this round. If not, a new round begins, and the router
        /// is the one that the class's frames take.
        elsewhere: bool,
    },
    /// Go on with what is under way: the answer that is waited for, or the delay.
    Wait,
    /// Tell the caller.
    GiveUp(Failure),
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A copy may have been run.
    Unknown,
    /// None was; the last one never left.
    NotSent(ForwardError),
    /// None was; the last one was returned by a router.
    Bounced(Reason),
    /// None was; the callee had no room for the last one.
    Busy,
}

/// The copies of one call.
#[derive(Debug, Clone)]
pub struct Retry {
    deadline: Instant,
    attempt_timeout: Duration,
    backoff: Backoff,
    /// Whether the newest copy is waited for.
    waiting: bool,
    /// How many copies may have been run, those under way among them.
    open: u32,
    /// What became of the last copy that was not run.
    last: Option<Failure>,
}

impl Retry {
    /// A call that nothing has been done for. `attempt_timeout` is how long a copy may take until
    /// another is sent.
    #[must_use]
    pub fn new(deadline: Instant, attempt_timeout: Duration) -> Self {
        Self {
            deadline,
            attempt_timeout: attempt_timeout.max(SHORTEST_ATTEMPT),
            backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY),
            waiting: false,
            open: 0,
            last: None,
        }
    }

    /// A copy was sent; tells when it has been [`Quiet`](Outcome::Quiet) for too long.
    pub fn attempt_ends(&mut self, now: Instant) -> Instant {
        self.waiting = true;
        self.open += 1;
        self.deadline.min(now + self.attempt_timeout)
    }

    /// A copy that was counted was not run: it never left, or an older one came back late.
    pub fn unsent(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// What to do after an outcome. `others_untried`: whether there is a router that was not tried in
    /// this round. `random` is any number; each is as likely as the others.
    pub fn step(
        &mut self,
        outcome: Outcome,
        others_untried: bool,
        now: Instant,
        random: u64,
    ) -> Step {
        let for_good = self.note(&outcome);
        if for_good || now >= self.deadline {
            return Step::GiveUp(self.expired());
        }
        // The news of an older copy during a delay: another one is about to go anyway.
        let waiting = std::mem::replace(&mut self.waiting, false);
        if !waiting && !matches!(outcome, Outcome::NotSent(_)) {
            return Step::Wait;
        }
        let (after, elsewhere) = match outcome {
            Outcome::Bounced(_) | Outcome::Quiet if others_untried => (Duration::ZERO, true),
            Outcome::Quiet | Outcome::Lost => (Duration::ZERO, false),
            Outcome::Shaken => (jitter(SHAKEN_DELAY, random), false),
            Outcome::Bounced(_) | Outcome::Busy | Outcome::NotSent(_) => {
                (self.backoff.next(random), false)
            }
        };
        Step::Again { after: after.min(self.deadline - now), elsewhere }
    }

    /// Why there is no result at the deadline.
    #[must_use]
    pub fn expired(&self) -> Failure {
        match &self.last {
            Some(last) if self.open == 0 => last.clone(),
            _ => Failure::Unknown,
        }
    }

    /// Counts a copy, and tells whether there is no use in another.
    fn note(&mut self, outcome: &Outcome) -> bool {
        let last = match outcome {
            Outcome::Lost | Outcome::Quiet | Outcome::Shaken => return false,
            Outcome::NotSent(error) => {
                self.last = Some(Failure::NotSent(error.clone()));
                return !matches!(error, ForwardError::NotConnected | ForwardError::Full { .. });
            }
            Outcome::Bounced(reason) => Failure::Bounced(*reason),
            Outcome::Busy => Failure::Busy,
        };
        self.open = self.open.saturating_sub(1);
        self.last = Some(last);
        false
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unknown => Self::Timeout,
            Failure::NotSent(error) => error.into(),
            Failure::Bounced(reason) => Self::NoRoute(reason),
            Failure::Busy => Self::Refused {
                code: HandlerError::BUSY.to_owned(),
                text: "the instance runs as many calls as it may".to_owned(),
            },
        }
    }
}

/// The ceiling of the first delay.
const FIRST_DELAY: Duration = Duration::from_millis(2);

/// The ceiling of all delays: a class that comes back is found within this.
const LONGEST_DELAY: Duration = Duration::from_millis(100);

/// Callers of an instance that died are not to come back in the same instant.
const SHAKEN_DELAY: Duration = Duration::from_millis(2);

/// A shorter time would make a loop without a pause.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const BOUNCE: Outcome = Outcome::Bounced(Reason::NoInstance);

    /// A call with a second to go, half of it for an attempt, of which a copy was sent.
    fn sent() -> (Retry, Instant) {
        let now = Instant::now();
        let mut retry = Retry::new(now + 1000 * MS, 500 * MS);
        assert_eq!(retry.attempt_ends(now), now + 500 * MS);
        (retry, now)
    }

    fn again(after: Duration, elsewhere: bool) -> Step {
        Step::Again { after, elsewhere }
    }

    #[test]
    fn a_bounce_is_tried_elsewhere_at_once_and_then_after_growing_delays() {
        let (mut retry, now) = sent();
        assert_eq!(retry.step(BOUNCE, true, now, u64::MAX), again(Duration::ZERO, true));
        let delays: Vec<Step> = (0..8)
            .map(|_| {
                retry.attempt_ends(now);
                retry.step(BOUNCE, false, now, u64::MAX)
            })
            .collect();
        assert_eq!(delays, [2, 4, 8, 16, 32, 64, 100, 100].map(|ms| again(ms * MS, false)));
        assert_eq!(retry.expired(), Failure::Bounced(Reason::NoInstance));
    }

    #[test]
    fn a_delay_is_anything_up_to_its_ceiling_and_ends_by_the_deadline() {
        let (mut retry, now) = sent();
        assert_eq!(retry.step(BOUNCE, false, now, 0), again(Duration::ZERO, false));
        let late = now + 999 * MS;
        retry.attempt_ends(late);
        assert_eq!(retry.step(BOUNCE, false, late, u64::MAX), again(MS, false));
    }

    #[test]
    fn a_lost_link_is_no_reason_to_wait() {
        let (mut retry, now) = sent();
        assert_eq!(retry.step(Outcome::Lost, true, now, u64::MAX), again(Duration::ZERO, false));
        assert_eq!(retry.expired(), Failure::Unknown);
    }

    #[test]
    fn silence_leads_to_another_router_if_there_is_one() {
        let (mut retry, now) = sent();
        let quiet = now + 500 * MS;
        assert_eq!(retry.step(Outcome::Quiet, true, quiet, 9), again(Duration::ZERO, true));
        assert_eq!(retry.attempt_ends(quiet), now + 1000 * MS);
        let quiet = quiet + MS;
        assert_eq!(retry.step(Outcome::Quiet, false, quiet, 9), again(Duration::ZERO, false));
    }

    #[test]
    fn callers_of_one_instance_that_died_do_not_come_back_at_once() {
        let (mut retry, now) = sent();
        assert_eq!(retry.step(Outcome::Shaken, true, now, u64::MAX), again(2 * MS, false));
        assert_eq!(retry.expired(), Failure::Unknown);
    }

    #[test]
    fn a_busy_callee_gets_growing_pauses() {
        let (mut retry, now) = sent();
        assert_eq!(retry.step(Outcome::Busy, true, now, u64::MAX), again(2 * MS, false));
        retry.attempt_ends(now);
        assert_eq!(retry.step(Outcome::Busy, true, now, u64::MAX), again(4 * MS, false));
        assert_eq!(retry.expired(), Failure::Busy);
    }

    #[test]
    fn what_may_be_sent_later_is_tried_until_the_deadline() {
        let now = Instant::now();
        let mut retry = Retry::new(now + 1000 * MS, 500 * MS);
        let down = Outcome::NotSent(ForwardError::NotConnected);
        for at in 0..1000 {
            let step = retry.step(down.clone(), true, now + at * MS, 0);
            assert_eq!(step, again(Duration::ZERO, false));
        }
        let failure = Failure::NotSent(ForwardError::NotConnected);
        assert_eq!(retry.step(down, true, now + 1000 * MS, 0), Step::GiveUp(failure));
    }

    #[test]
    fn what_can_never_be_sent_is_given_up() {
        let now = Instant::now();
        let mut retry = Retry::new(now + 1000 * MS, 500 * MS);
        let error = ForwardError::TooLarge { length: 9, max: 8 };
        let step = retry.step(Outcome::NotSent(error.clone()), true, now, 0);
        assert_eq!(step, Step::GiveUp(Failure::NotSent(error)));
    }

    #[test]
    fn a_copy_without_news_may_have_been_run_whatever_became_of_later_ones() {
        let (mut retry, now) = sent();
        retry.step(Outcome::Quiet, false, now, 0);
        retry.attempt_ends(now);
        retry.step(BOUNCE, false, now, 0);
        assert_eq!(retry.expired(), Failure::Unknown);
        // The first comes back as well, late.
        assert_eq!(retry.step(Outcome::Bounced(Reason::Expired), false, now, 0), Step::Wait);
        assert_eq!(retry.expired(), Failure::Bounced(Reason::Expired));
    }

    #[test]
    fn a_copy_under_way_may_be_run_until_it_is_known() {
        let (retry, _) = sent();
        assert_eq!(retry.expired(), Failure::Unknown);
    }

    #[test]
    fn news_during_a_delay_do_not_send_another_copy() {
        let (mut retry, now) = sent();
        retry.step(Outcome::Quiet, true, now, 0);
        assert_eq!(retry.step(Outcome::Shaken, true, now, 0), Step::Wait);
        assert_eq!(retry.step(BOUNCE, true, now, 0), Step::Wait);
        retry.attempt_ends(now);
        assert_eq!(retry.step(Outcome::Shaken, true, now, 0), again(Duration::ZERO, false));
    }

    #[test]
    fn a_failure_is_told_as_what_it_is() {
        assert!(CallError::from(Failure::Unknown).outcome_unknown());
        for failure in [
            Failure::Busy,
            Failure::Bounced(Reason::Full),
            Failure::NotSent(ForwardError::NotConnected),
        ] {
            assert!(!CallError::from(failure).outcome_unknown());
        }
    }
}
