//! What the sending and the receiving thread of a round know of each other: how far the receivers are, how
//! much was sent in the end, and whether one of them has given up.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// The state between the two threads.
#[derive(Debug)]
pub struct Flow {
    /// What has arrived of each sender's messages.
    arrived: Vec<AtomicU64>,
    /// The same of what one receiver gets that may stop, until nobody waits for it any more.
    aside: Vec<AtomicU64>,
    aside_is_lost: AtomicBool,
    /// How much each sender has sent, once it is done; until then [`OPEN`].
    sent: Vec<AtomicU64>,
    /// The sending thread waits for arrivals, or for the end.
    hungry: AtomicBool,
    stopped: AtomicBool,
    over: AtomicBool,
    wake: File,
}

impl Flow {
    pub fn new(senders: usize) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            arrived: (0..senders).map(|_| AtomicU64::new(0)).collect(),
            aside: (0..senders).map(|_| AtomicU64::new(0)).collect(),
            aside_is_lost: AtomicBool::new(false),
            sent: (0..senders).map(|_| AtomicU64::new(OPEN)).collect(),
            hungry: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            over: AtomicBool::new(false),
            wake: wake.into(),
        })
    }

    /// The receiving thread tells what has arrived since it last did, and forgets it.
    pub fn arrived(&self, since: &mut [u64]) {
        for (arrived, since) in self.arrived.iter().zip(since) {
            if *since > 0 {
                // Only the receiving thread writes it.
                let sum = arrived.load(Ordering::Relaxed) + std::mem::take(since);
                arrived.store(sum, Ordering::SeqCst);
            }
        }
        if self.hungry.swap(false, Ordering::SeqCst) {
            self.rouse();
        }
    }

    /// One of a sender's messages has arrived at the receiver that may stop.
    pub fn arrived_aside(&self, sender: usize) {
        self.aside[sender].fetch_add(1, Ordering::SeqCst);
        if self.hungry.swap(false, Ordering::SeqCst) {
            self.rouse();
        }
    }

    /// How many of these messages are on their way if so many were sent; none once nobody waits for them.
    pub fn aside_on_their_way(&self, sender: usize, sent: u64) -> u64 {
        match self.aside_is_lost.load(Ordering::SeqCst) {
            true => 0,
            false => sent - self.aside[sender].load(Ordering::SeqCst),
        }
    }

    /// That receiver stops: nobody waits for what it gets.
    pub fn lose_aside(&self) {
        self.aside_is_lost.store(true, Ordering::SeqCst);
        self.rouse();
    }

    /// One of a sender's messages has arrived; nobody is woken.
    pub fn arrived_one(&self, sender: usize) {
        self.arrived[sender].fetch_add(1, Ordering::SeqCst);
    }

    /// How much of a sender's messages has arrived.
    pub fn arrived_of(&self, sender: usize) -> u64 {
        self.arrived[sender].load(Ordering::SeqCst)
    }

    /// How much has arrived of everybody's.
    pub fn arrived_in_all(&self) -> u64 {
        self.arrived.iter().map(|arrived| arrived.load(Ordering::SeqCst)).sum()
    }

    /// The sending thread wants to be woken by the next arrival. It has to look once more before it waits.
    pub fn wait_for_arrivals(&self) {
        self.hungry.store(true, Ordering::SeqCst);
    }

    /// A sender is done.
    pub fn done(&self, sender: usize, sent: u64) {
        self.sent[sender].store(sent, Ordering::SeqCst);
    }

    /// How much each sender has sent, once all are done.
    pub fn sent(&self) -> Option<Vec<u64>> {
        let sent = self.sent.iter().map(|sent| sent.load(Ordering::SeqCst));
        sent.map(|sent| (sent != OPEN).then_some(sent)).collect()
    }

    /// Nothing more is to be sent; what was sent shall arrive.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.rouse();
    }

    /// Whether nothing more is to be sent.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// All has arrived, or never will.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.rouse();
    }

    /// Whether the other thread has ended the round.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Takes the wake-up that made [`Flow`] readable.
    pub fn woken(&self) {
        // There is none left if this one was taken before.
        let _ = (&self.wake).read(&mut [0; 8]);
    }

    fn rouse(&self) {
        // It can only fail if it was not read 2^64 times.
        let _ = (&self.wake).write(&1_u64.to_ne_bytes());
    }
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

const OPEN: u64 = u64::MAX;
