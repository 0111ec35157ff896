//! All sessions of a router: a small number for each, and a way to reach them all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::mailbox::Mailbox;

/// The sessions that are alive.
#[derive(Debug, Default)]
pub struct Sessions {
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    taken: Vec<Option<Weak<Mailbox>>>,
    free: Vec<usize>,
    last_session: u64,
}

/// A session's place. It is free again when the mailbox is dropped, so two mailboxes that a thread
/// holds at the same time never share one.
#[derive(Debug)]
pub struct Slot {
    index: usize,
    sessions: Arc<Sessions>,
}

impl Sessions {
    /// Takes a seat and a number for a new session, unless `limit` are taken.
    pub fn open(self: &Arc<Self>, limit: usize) -> Option<(Slot, u64)> {
        let mut seats = self.lock();
        if seats.taken.len() - seats.free.len() >= limit {
            return None;
        }
        let index = seats.free.pop().unwrap_or(seats.taken.len());
        if index == seats.taken.len() {
            seats.taken.push(None);
        }
        seats.last_session += 1;
        Some((Slot { index, sessions: self.clone() }, seats.last_session))
    }

    /// Makes a session known by its mailbox.
    pub fn seat(&self, mailbox: &Arc<Mailbox>) {
        self.lock().taken[mailbox.index()] = Some(Arc::downgrade(mailbox));
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let seats = self.lock();
        seats.taken.len() - seats.free.len()
    }

    /// Every session that is alive now.
    pub fn all(&self) -> Vec<Arc<Mailbox>> {
        self.lock().taken.iter().flatten().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Its number: less than the most sessions that were ever alive at once.
    pub fn index(&self) -> usize {
        self.index
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut seats = self.sessions.lock();
        seats.taken[self.index] = None;
        seats.free.push(self.index);
    }
}
