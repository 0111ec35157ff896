//! Registrations that wait for a router's answer, by request number. Each is answered once: by its
//! answer, by its deadline, or by the loss of the link.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use switchboard_protocol::ServiceId;
use tokio::sync::oneshot;

use crate::error::RegisterError;

/// What a registration came to: the ids, none for an Unregister.
pub(crate) type Outcome = Result<Vec<ServiceId>, RegisterError>;

/// The registrations under way.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u32,
    /// The router that was asked, and who waits.
    by_number: AHashMap<u32, (usize, oneshot::Sender<Outcome>)>,
}

/// One waiter. Dropping it forgets the entry, so that what is given up leaves nothing.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    pub(crate) number: u32,
    pub(crate) answer: oneshot::Receiver<Outcome>,
    requests: &'a Requests,
}

impl Requests {
    /// A new entry with a number of its own, for the router at `slot`.
    pub(crate) fn open(&self, slot: usize) -> Ticket<'_> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.last = waiting.last.wrapping_add(1).max(UNASKED + 1);
        let number = waiting.last;
        waiting.by_number.insert(number, (slot, sender));
        drop(waiting);
        Ticket { number, answer, requests: self }
    }

    /// Answers an entry. One that is not there any more has been answered before, or nobody waits.
    pub(crate) fn answer(&self, number: u32, outcome: Outcome) {
        if let Some((_, sender)) = self.lock().by_number.remove(&number) {
            // Whoever stopped waiting needs no answer.
            let _ = sender.send(outcome);
        }
    }

    /// The link to a router is gone.
    pub(crate) fn lost(&self, slot: usize) {
        let lost = self.lock().by_number.extract_if(|_, entry| entry.0 == slot).collect::<Vec<_>>();
        for (_, (_, sender)) in lost {
            let _ = sender.send(Err(RegisterError::LinkLost));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.requests.lock().by_number.remove(&self.number);
    }
}

/// The number of a request whose answer nobody waits for.
pub(crate) const UNASKED: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_answered_once() {
        let requests = Requests::default();
        let mut ticket = requests.open(0);
        requests.answer(ticket.number, Ok(Vec::new()));
        requests.answer(ticket.number, Err(RegisterError::Timeout));
        assert_eq!(ticket.answer.try_recv(), Ok(Ok(Vec::new())));
    }

    #[test]
    fn giving_up_forgets_the_entry() {
        let requests = Requests::default();
        drop(requests.open(0));
        assert!(requests.lock().by_number.is_empty());
    }

    #[test]
    fn a_lost_link_answers_what_was_asked_over_it_and_nothing_else() {
        let requests = Requests::default();
        let (mut lost, mut other) = (requests.open(0), requests.open(1));
        requests.lost(0);
        assert_eq!(lost.answer.try_recv(), Ok(Err(RegisterError::LinkLost)));
        assert!(other.answer.try_recv().is_err());
        requests.answer(other.number, Ok(Vec::new()));
        assert_eq!(other.answer.try_recv(), Ok(Ok(Vec::new())));
    }
}
