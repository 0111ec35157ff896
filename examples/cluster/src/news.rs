//! What the parent and its children say to each other: one JSON value a line, orders down the
//! child's standard input and news up its standard output.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::latency::Sketch;
use crate::numbers::Numbers;
use crate::stream::Stream;

/// What the parent wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Game servers: let the players play.
    Start,
    /// Game servers: let them rest; then make sure that all is handled, by a call to each of these.
    Stop { others: Vec<String> },
    /// Tell what happened since the last time.
    Tick,
    /// Tell what you have sent and handled.
    Report,
    /// Leave in good order.
    Close,
}

/// What a child has to say. Times are microseconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// Connected, and reachable under this id; what it counts is told at that address, if anywhere.
    Ready { id: u32, metrics: Option<SocketAddr> },
    /// Connected to one more router.
    Connected { router: String },
    /// The link to a router is gone; it listened there.
    LinkLost { router: String, why: String, at: u64 },
    /// What happened since the last tick.
    Tick(BTreeMap<Stream, Pulse>),
    /// It is the master now.
    Promoted { epoch: u64, at: u64 },
    /// It is no longer.
    Demoted { at: u64 },
    /// It handled a first message as the master of this epoch.
    FirstAsMaster { epoch: u64, at: u64 },
    /// It was told that an instance left.
    SawLeft { id: String, reason: String, at: u64 },
    /// It was told that the class has another master.
    SawMaster { id: Option<String>, epoch: u64, at: u64 },
    /// The players rest, and everything sent is handled. How many calls that took, by class.
    Stopped { fences: BTreeMap<String, u64> },
    /// What it sent and handled.
    Report(Report),
    /// Something that must not happen.
    Trouble { what: String },
}

/// What happened to a stream in one process since the last tick.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pulse {
    pub sent: u64,
    pub handled: u64,
    /// Told undeliverable, or a call that failed.
    pub failed: u64,
    /// One-way from sender to handler, or a call's round trip.
    pub latency: Sketch,
}

/// What one process did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// By stream.
    pub sent: BTreeMap<Stream, Sent>,
    /// By sender and stream.
    pub handled: Vec<(u32, Stream, Numbers)>,
    /// One-way messages that came behind a later one of the same sender, and when they were sent.
    pub overtaken: Vec<(Stream, u64)>,
}

/// What a sender knows of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The last number.
    pub count: u64,
    /// Messages that its own node refused to take; they have no number.
    pub refused: u64,
    /// One-way: how many the router told it that it can't deliver, by reason.
    pub told: BTreeMap<String, u64>,
    /// Calls that failed.
    pub failures: Vec<Failure>,
    /// Idempotent calls that were answered: when they were sent, and when the answer came.
    pub waits: Vec<(u64, u64)>,
    /// From which number on messages were sent at which time, every few milliseconds.
    pub schedule: Vec<(u64, u64)>,
}

/// A call without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub number: u64,
    pub why: Why,
    pub sent: u64,
    /// When the caller was told.
    pub at: u64,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its own node did not take it.
    NotSent,
    /// The router could not deliver it, and said so.
    NoRoute,
    /// The router had it in its hands for an instance that left, and said so.
    TargetLost,
    /// The handler, or the node that it runs in, said no.
    Remote(String),
    /// The router was lost that had it, or its answer. It may have been handled.
    Unknown,
    /// Nothing was heard of it.
    Timeout,
    /// Anything else.
    Other(String),
}

impl Why {
    /// As a column of the summary.
    pub fn word(&self) -> &str {
        match self {
            Self::NotSent => "not_sent",
            Self::NoRoute => "no_route",
            Self::TargetLost => "target_lost",
            Self::Remote(_) => "remote",
            Self::Unknown => "unknown",
            Self::Timeout => "timeout",
            Self::Other(_) => "other",
        }
    }
}

/// Tells the parent. A child whose parent does not listen any more has nothing left to do.
pub fn tell(news: &News) {
    let Ok(mut line) = serde_json::to_vec(news) else { return };
    line.push(b'\n');
    let mut out = io::stdout().lock();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        std::process::exit(ORPHAN);
    }
}

/// The parent's orders. When the parent is gone, however it went, this process ends at once: it
/// reads the end of the pipe that only the parent held the other end of.
pub fn orders() -> mpsc::UnboundedReceiver<Order> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str(&line) {
                // Who has left already hears no more orders.
                Ok(order) => drop(sender.send(order)),
                Err(error) => tell(&News::Trouble { what: format!("order `{line}`: {error}") }),
            }
        }
        std::process::exit(ORPHAN);
    });
    receiver
}

/// The exit code of a child whose parent is gone.
const ORPHAN: i32 = 3;
