//! What operators see of a session: who is at the other end, since when, and how much went in and out.
//! Its task counts what it reads, per read; whoever writes counts what was written, per write.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::counters::Meter;
use crate::stream::Peer;

/// One session's.
#[derive(Debug)]
pub struct Badge {
    peer: Peer,
    /// When it was accepted, in milliseconds of the router's clock.
    since: u64,
    name: OnceLock<Box<str>>,
    /// How often it pings, in milliseconds; 0 until it is registered.
    heartbeat: AtomicU32,
    /// Data frames, and all bytes of the connection, those of the node's own messages among them.
    taken: Meter,
    /// The same that was sent to it.
    given: Meter,
}

impl Badge {
    /// That of a session which was accepted at this millisecond.
    pub fn new(peer: Peer, since: u64) -> Self {
        Self {
            peer,
            since,
            name: OnceLock::new(),
            heartbeat: AtomicU32::new(0),
            taken: Meter::default(),
            given: Meter::default(),
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// When it was accepted, in milliseconds of the router's clock.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// What its node calls itself; empty where it does not say.
    pub fn name(&self) -> &str {
        self.name.get().map_or("", |name| name)
    }

    /// Its node has said who it is.
    pub fn introduce(&self, name: &str, heartbeat_ms: u32) {
        // A session says Hello once.
        let _ = self.name.set(name.into());
        self.heartbeat.store(heartbeat_ms, Relaxed);
    }

    /// How often it pings, in milliseconds; 0 until it is registered.
    pub fn heartbeat_ms(&self) -> u32 {
        self.heartbeat.load(Relaxed)
    }

    /// Notes what a read brought. Only the session's task does.
    #[inline]
    pub fn read(&self, bytes: usize) {
        self.taken.add_bytes(bytes);
    }

    /// Notes data frames that came in. Only the session's task does.
    #[inline]
    pub fn took_in(&self, frames: u64) {
        self.taken.add_frames(frames);
    }

    /// Notes what a write took. Only who holds the mailbox's lock does.
    #[inline]
    pub fn wrote(&self, frames: u64, bytes: usize) {
        self.given.add_frames(frames);
        self.given.add_bytes(bytes);
    }

    /// How many data frames the node has sent, and how many bytes in all.
    pub fn taken(&self) -> (u64, u64) {
        self.taken.read()
    }

    /// How many it was sent.
    pub fn given(&self) -> (u64, u64) {
        self.given.read()
    }
}
