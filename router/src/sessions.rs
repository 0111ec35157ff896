//! All sessions of a router: a small number for each, and a way to reach them all.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
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
    /// How many sessions have not left, by state.
    alive: [usize; State::ALL.len()],
    last_session: u64,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It has not been admitted.
    Greeting,
    /// It is there for whatever comes.
    Active,
    /// It finishes what it has: it drains all of its ids, has given them up, or is being closed.
    Draining,
}

/// A session's place. Its number is free again when the mailbox is dropped, so two mailboxes that a
/// thread holds at the same time never share one. A thread without traffic may hold a mailbox in its
/// snapshot of the table for as long as it likes, so a session is counted only until it has left.
#[derive(Debug)]
pub struct Slot {
    index: usize,
    /// A [`State`], or [`LEFT`].
    state: AtomicU8,
    sessions: Arc<Sessions>,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Greeting, Self::Active, Self::Draining];

    /// The word for it in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Active => "active",
            Self::Draining => "draining",
        }
    }
}

impl Sessions {
    /// Takes a seat and a number for a new session, unless `limit` are taken.
    pub fn open(self: &Arc<Self>, limit: usize) -> Option<(Slot, u64)> {
        let mut seats = self.lock();
        if seats.count() >= limit {
            return None;
        }
        let index = seats.free.pop().unwrap_or(seats.taken.len());
        if index == seats.taken.len() {
            seats.taken.push(None);
        }
        let state = State::Greeting as u8;
        seats.alive[usize::from(state)] += 1;
        seats.last_session += 1;
        let slot = Slot { index, state: AtomicU8::new(state), sessions: self.clone() };
        Some((slot, seats.last_session))
    }

    /// Makes a session known by its mailbox.
    pub fn seat(&self, mailbox: &Arc<Mailbox>) {
        self.lock().taken[mailbox.index()] = Some(Arc::downgrade(mailbox));
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().count()
    }

    /// How many there are in each state.
    pub fn by_state(&self) -> [usize; State::ALL.len()] {
        self.lock().alive
    }

    /// Every session that is alive now.
    pub fn all(&self) -> Vec<Arc<Mailbox>> {
        self.lock().taken.iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// Every session that is alive, some at a time, so that those who come and go meanwhile don't wait for
    /// whoever looks at a hundred thousand of them.
    pub fn each(&self, mut look: impl FnMut(Arc<Mailbox>)) {
        let mut from = 0;
        loop {
            let seats = self.lock();
            let Some(rest) = seats.taken.get(from..).filter(|rest| !rest.is_empty()) else {
                return;
            };
            let some = rest.iter().take(AT_A_TIME);
            let some: Vec<_> = some.flatten().filter_map(Weak::upgrade).collect();
            drop(seats);
            from += AT_A_TIME;
            some.into_iter().for_each(&mut look);
        }
    }

    /// The session of this number.
    pub fn find(&self, session: u64) -> Option<Arc<Mailbox>> {
        let mut found = None;
        self.each(|mailbox| {
            if mailbox.session() == session {
                found = Some(mailbox);
            }
        });
        found
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn count(&self) -> usize {
        self.alive.iter().sum()
    }
}

impl Slot {
    /// Its number: less than the most sessions that were ever alive at once.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The session is over: it is not counted any more.
    pub fn leave(&self) {
        let mut seats = self.sessions.lock();
        let state = self.state.swap(LEFT, Relaxed);
        if state != LEFT {
            seats.taken[self.index] = None;
            seats.alive[usize::from(state)] -= 1;
        }
    }

    /// The session has come this far.
    pub fn enter(&self, state: State) {
        let mut seats = self.sessions.lock();
        let before = self.state.load(Relaxed);
        if before != LEFT {
            self.state.store(state as u8, Relaxed);
            seats.alive[usize::from(before)] -= 1;
            seats.alive[usize::from(state as u8)] += 1;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.leave();
        self.sessions.lock().free.push(self.index);
    }
}

/// In place of a state: the session is over.
const LEFT: u8 = u8::MAX;
/// How many sessions are looked at under the lock.
const AT_A_TIME: usize = 1_024;
