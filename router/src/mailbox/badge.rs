//! What operators see of a session: who is at the other end, since when, and how much went in and out.
//! Its task counts what it reads, per read; whoever writes counts what was written, per write.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

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
    frames_in: AtomicU64,
    bytes_in: AtomicU64,
    frames_out: AtomicU64,
    bytes_out: AtomicU64,
}

/// How much went in or out: data frames, and all bytes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Volume {
    /// Data frames.
    pub frames: u64,
    /// Bytes, those of the router's and the node's own messages among them.
    pub bytes: u64,
}

impl Badge {
    /// That of a session which was accepted at this millisecond.
    pub fn new(peer: Peer, since: u64) -> Self {
        Self {
            peer,
            since,
            name: OnceLock::new(),
            heartbeat: AtomicU32::new(0),
            frames_in: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            frames_out: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
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
        add(&self.bytes_in, bytes as u64);
    }

    /// Notes how many frames were dealt with. Only the session's task does.
    #[inline]
    pub fn took_in(&self, frames: u64) {
        add(&self.frames_in, frames);
    }

    /// Notes what a write took. Only who holds the mailbox's lock does.
    #[inline]
    pub fn wrote(&self, frames: u64, bytes: usize) {
        add(&self.frames_out, frames);
        add(&self.bytes_out, bytes as u64);
    }

    /// What the node has sent.
    pub fn volume_in(&self) -> Volume {
        Volume { frames: self.frames_in.load(Relaxed), bytes: self.bytes_in.load(Relaxed) }
    }

    /// What the node was sent.
    pub fn volume_out(&self) -> Volume {
        Volume { frames: self.frames_out.load(Relaxed), bytes: self.bytes_out.load(Relaxed) }
    }
}

/// One writer at a time, so no read-modify-write is needed.
#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed) + n, Relaxed);
}
