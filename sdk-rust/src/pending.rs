//! What waits for an answer from the other end of the link: calls by call id, registrations by
//! request number. Each entry is answered once: by its answer, by its deadline, or by the loss of
//! the link.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use bytes::Bytes;
use switchboard_protocol::ServiceId;
use tokio::sync::oneshot;

use crate::error::{CallError, RegisterError};

/// What a call came to: the payload of the reply, or why there is none.
pub(crate) type CallOutcome = Result<Bytes, CallError>;

/// What a registration came to: the ids, none for an Unregister.
pub(crate) type RegisterOutcome = Result<Vec<ServiceId>, RegisterError>;

/// Calls under way.
pub(crate) type Calls = Pending<u64, CallOutcome>;

/// Registrations under way.
pub(crate) type Requests = Pending<u32, RegisterOutcome>;

/// Waiters by number.
#[derive(Debug)]
pub(crate) struct Pending<N, T> {
    waiting: Mutex<Waiting<N, T>>,
}

#[derive(Debug)]
struct Waiting<N, T> {
    next: u64,
    by_number: AHashMap<N, oneshot::Sender<T>>,
}

/// One waiter. Dropping it forgets the entry, so that a call that is given up leaves nothing.
#[derive(Debug)]
pub(crate) struct Ticket<'a, N: Number, T> {
    pub(crate) number: N,
    pub(crate) answer: oneshot::Receiver<T>,
    pending: &'a Pending<N, T>,
}

/// A number that entries go by.
pub(crate) trait Number: Copy + Eq + std::hash::Hash {
    fn from_counter(counter: u64) -> Self;
}

impl Number for u64 {
    fn from_counter(counter: u64) -> Self {
        counter
    }
}

impl Number for u32 {
    fn from_counter(counter: u64) -> Self {
        counter as Self
    }
}

impl<N: Number, T> Pending<N, T> {
    /// Starts at a random number: an answer to an earlier program under the same id must not meet
    /// a call of this one.
    pub(crate) fn new() -> Self {
        let next = RandomState::new().hash_one(0) >> 1;
        Self { waiting: Mutex::new(Waiting { next, by_number: AHashMap::new() }) }
    }

    /// A new entry.
    pub(crate) fn open(&self) -> Ticket<'_, N, T> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.next = waiting.next.wrapping_add(1);
        let number = N::from_counter(waiting.next);
        waiting.by_number.insert(number, sender);
        drop(waiting);
        Ticket { number, answer, pending: self }
    }

    /// Answers an entry; false if nobody waits for it any more.
    pub(crate) fn answer(&self, number: N, outcome: T) -> bool {
        let sender = self.lock().by_number.remove(&number);
        sender.is_some_and(|sender| sender.send(outcome).is_ok())
    }

    /// Answers every entry.
    pub(crate) fn answer_all(&self, outcome: impl Fn() -> T) {
        let all = std::mem::take(&mut self.lock().by_number);
        for sender in all.into_values() {
            // Whoever stopped waiting needs no answer.
            let _ = sender.send(outcome());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().by_number.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<N, T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: Number, T> Drop for Ticket<'_, N, T> {
    fn drop(&mut self) {
        self.pending.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_answered_once() {
        let calls = Pending::<u64, u8>::new();
        let mut ticket = calls.open();
        assert!(calls.answer(ticket.number, 7));
        assert!(!calls.answer(ticket.number, 8));
        assert_eq!(ticket.answer.try_recv(), Ok(7));
    }

    #[test]
    fn giving_up_forgets_the_entry() {
        let calls = Pending::<u64, u8>::new();
        let ticket = calls.open();
        let number = ticket.number;
        drop(ticket);
        assert!(calls.is_empty());
        assert!(!calls.answer(number, 7));
    }

    #[test]
    fn a_lost_link_answers_every_entry_and_later_ones_start_afresh() {
        let calls = Pending::<u32, u8>::new();
        let (mut first, mut second) = (calls.open(), calls.open());
        calls.answer_all(|| 9);
        assert_eq!((first.answer.try_recv(), second.answer.try_recv()), (Ok(9), Ok(9)));
        let mut third = calls.open();
        assert!(calls.answer(third.number, 1));
        assert_eq!(third.answer.try_recv(), Ok(1));
    }

    #[test]
    fn two_programs_do_not_start_at_the_same_number() {
        let numbers = || Pending::<u64, u8>::new().open().number;
        assert_ne!(numbers(), numbers());
    }
}
