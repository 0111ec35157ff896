//! How calls and messages end, as they are counted: one list for both directions.

use std::fmt;

use crate::error::CallError;
use crate::handlers::{Answer, HandlerError};

/// How a call or a message ended, as [`Node::stats`](crate::Node::stats) counts it.
///
/// | | called from here | served here |
/// |---|---|---|
/// | `Ok` | the result came; a message is in the outbox | the handler returned `Ok` |
/// | `NotSent`, `NoRoute`, `Timeout`, `OutcomeUnknown`, `Decode` | as in [`CallError`] | |
/// | `Refused` | as in [`CallError`], `busy` among it | no such method, or other arguments |
/// | `Remote` | the handler's error, or its panic | the handler's error |
/// | `Panic` | | the handler panicked |
/// | `Busy` | | no room in the queue of handlers |
/// | `Expired` | | had waited for its handler for too long |
/// | `Duplicate` | | a copy of a call that has been begun before |
/// | `Cancelled` | nobody waits for it any more | the node ended before its handler |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the table above says it once for all")]
pub enum Outcome {
    Ok,
    NotSent,
    NoRoute,
    Refused,
    Remote,
    Timeout,
    OutcomeUnknown,
    Decode,
    Panic,
    Busy,
    Expired,
    Duplicate,
    Cancelled,
}

/// A number for each [`Outcome`].
///
/// ```
/// use switchboard::{Outcome, Outcomes};
///
/// let none = Outcomes::default();
/// assert_eq!((none.count(Outcome::Timeout), none.total(), none.failed()), (0, 0, 0));
/// assert_eq!(none.iter().next(), None);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub(crate) counts: [u64; Outcome::ALL.len()],
}

impl Outcome {
    /// All there are.
    pub const ALL: [Self; 13] = [
        Self::Ok,
        Self::NotSent,
        Self::NoRoute,
        Self::Refused,
        Self::Remote,
        Self::Timeout,
        Self::OutcomeUnknown,
        Self::Decode,
        Self::Panic,
        Self::Busy,
        Self::Expired,
        Self::Duplicate,
        Self::Cancelled,
    ];

    /// Its word in metrics: `ok`, `not_sent`, `no_route` and so on.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotSent => "not_sent",
            Self::NoRoute => "no_route",
            Self::Refused => "refused",
            Self::Remote => "remote",
            Self::Timeout => "timeout",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Decode => "decode",
            Self::Panic => "panic",
            Self::Busy => "busy",
            Self::Expired => "expired",
            Self::Duplicate => "duplicate",
            Self::Cancelled => "cancelled",
        }
    }

    /// How a call ended for its caller.
    pub(crate) fn of_call<T>(result: &Result<T, CallError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(CallError::NotSent(_)) => Self::NotSent,
            Err(CallError::NoRoute(_)) => Self::NoRoute,
            Err(CallError::Refused { .. }) => Self::Refused,
            Err(CallError::Remote { .. }) => Self::Remote,
            Err(CallError::Timeout) => Self::Timeout,
            Err(CallError::OutcomeUnknown(_)) => Self::OutcomeUnknown,
            Err(CallError::Decode(_)) => Self::Decode,
        }
    }

    /// How a handler ended.
    pub(crate) fn of_answer(answer: &Answer) -> Self {
        match answer.as_ref().map_err(HandlerError::code) {
            Ok(_) => Self::Ok,
            Err(HandlerError::NO_METHOD | HandlerError::BAD_ARGS) => Self::Refused,
            Err(HandlerError::PANIC) => Self::Panic,
            Err(HandlerError::BUSY) => Self::Busy,
            Err(_) => Self::Remote,
        }
    }

    /// Whether how long it took says anything: not if it never began, or nobody saw it end.
    pub(crate) fn is_timed(self) -> bool {
        !matches!(self, Self::NotSent | Self::Cancelled)
    }
}

impl Outcomes {
    /// How many ended like this.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize]
    }

    /// How many ended.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many ended, and not with `Ok`.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.total() - self.count(Outcome::Ok)
    }

    /// Those that have happened.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        Outcome::ALL.into_iter().zip(self.counts).filter(|(_, count)| *count > 0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_own_place_and_name() {
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place);
        }
        let names = Outcome::ALL.map(Outcome::name);
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    }
}
