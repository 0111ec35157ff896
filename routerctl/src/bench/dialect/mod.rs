//! How servers are spoken to: one file for each wire.
//!
//! A workload knows senders, receivers and payloads; a dialect knows bytes. A further server is one more
//! file here and one more line in `server`, and no workload changes. Nothing here owns a socket.

mod nats;
mod redis;
mod relay;
mod switchboard;

use std::fmt;

use anyhow::Result;

use crate::bench::traffic::Route;
use crate::failure::Failure;

pub use nats::Nats;
pub use redis::Redis;
pub use relay::{Relay, hello as relay_hello};
pub use switchboard::Switchboard;

/// One end of a connection to the server under test. Numbers begin with 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Sends messages, or asks.
    Sender(usize),
    /// Gets them, or answers.
    Receiver(usize),
    /// Is only there.
    Member(usize),
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// The receiver of this number.
    One(usize),
    /// The receiver of this number, which answers.
    Ask(usize),
    /// Every receiver.
    All,
    /// The receiver that this key leads to.
    Key(u64),
    /// The master of the receivers.
    Master,
}

/// Where the parts of an encoded message lie, from the start of the buffer.
#[derive(Debug, Clone, Copy)]
pub struct Encoded {
    /// Where the payload begins. Its first eight bytes are sender and number.
    pub payload: usize,
    /// Where else in the message those eight bytes stand, so that a call has an id of its own.
    pub call_id: Option<usize>,
    /// Where the message ends.
    pub end: usize,
}

/// Where a received message lies, from the start of the bytes that were scanned.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Where the message begins, with whatever stands before its payload.
    pub start: usize,
    /// Where the payload begins.
    pub payload: usize,
    /// Where the payload ends.
    pub end: usize,
}

impl Span {
    /// The message in the bytes that were scanned.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> Message<'_> {
        Message { whole: &bytes[self.start..self.end], payload: &bytes[self.payload..self.end] }
    }
}

/// A message that has come.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// All of it but what may follow the payload.
    pub whole: &'a [u8],
    pub payload: &'a [u8],
}

/// What a scan has found.
#[derive(Debug, Default)]
pub struct Found {
    /// The messages, in order; [`SPANS`] of them at most.
    pub messages: Vec<Span>,
    /// How often the server answered a hello or a ping.
    pub answers: usize,
    /// What to say because of what was found.
    pub say: Vec<u8>,
}

/// A wire.
pub trait Dialect: Send + Sync {
    /// How the server routes what is to be routed like this, if it can't do so: what it does is checked and
    /// compared instead.
    fn route(&self, route: Route) -> Route {
        route
    }

    /// Whether the server can carry messages from so many to so many, each to one of them or `to_all`.
    ///
    /// # Errors
    /// If it can't.
    fn check_pairs(
        &self,
        _senders: usize,
        _receivers: usize,
        _to_all: bool,
    ) -> Result<(), Failure> {
        Ok(())
    }

    /// Appends what `who` says first. The server answers it once `who` can send and be reached.
    fn hello(&self, who: Who, out: &mut Vec<u8>);

    /// Appends a message with a payload of `length` zeros.
    ///
    /// # Errors
    /// If the server has no such way to address a message.
    fn encode(&self, from: Who, to: To, length: usize, out: &mut Vec<u8>) -> Result<Encoded>;

    /// Appends what `from` answers to a message that it was asked by, whole and its payload: the payload.
    ///
    /// # Errors
    /// If nobody waits for an answer to it.
    fn answer(&self, from: Who, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Failure>;

    /// Appends a question that the server answers at once, behind what it has for this connection already.
    fn ping(&self, out: &mut Vec<u8>);

    /// Finds what lies in `bytes`, up to the first message that is not whole or for which `found` has no
    /// room, and says how many bytes that were.
    ///
    /// # Errors
    /// If the server says that something is wrong, or something that can't be read.
    fn scan(&self, bytes: &[u8], found: &mut Found) -> Result<usize>;
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sender(number) => write!(f, "sender {number}"),
            Self::Receiver(number) => write!(f, "receiver {number}"),
            Self::Member(number) => write!(f, "member {number}"),
        }
    }
}

/// How many messages one scan finds at most. Few enough to stay in the fastest cache.
pub const SPANS: usize = 512;
