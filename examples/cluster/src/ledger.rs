//! What one process has sent and handled, as its handlers and its players note it down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use switchboard::ServiceId;

use crate::latency::Latency;
use crate::news::{Failure, Pulse, Report, Sent};
use crate::numbers::Numbers;
use crate::stream::{Manner, Stamp, Stream, now};

/// A cheap clone; all clones are one ledger.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pages: Arc<Mutex<Pages>>,
}

#[derive(Debug, Default)]
struct Pages {
    handled: BTreeMap<(u32, Stream), Numbers>,
    sent: BTreeMap<Stream, Sent>,
    /// The last one-way message of each sender, by its place in what that sender sent.
    last: BTreeMap<u32, u64>,
    overtaken: Vec<(Stream, u64)>,
    since: BTreeMap<Stream, Beat>,
}

/// What happened to a stream since the last tick.
#[derive(Debug)]
struct Beat {
    sent: u64,
    handled: u64,
    failed: u64,
    latency: Latency,
}

impl Ledger {
    /// A message was handled.
    pub fn handled(&self, from: ServiceId, stream: Stream, stamp: Stamp) {
        let mut pages = self.pages();
        pages.handled.entry((from.raw(), stream)).or_default().insert(stamp.number);
        if stream.manner() == Manner::OneWay {
            let last = pages.last.entry(from.raw()).or_default();
            let before = std::mem::replace(last, stamp.order.max(*last));
            if stamp.order <= before {
                pages.overtaken.push((stream, stamp.sent));
            }
        }
        let beat = pages.since.entry(stream).or_default();
        beat.handled += 1;
        if stream.manner() == Manner::OneWay {
            beat.latency.record(now().saturating_sub(stamp.sent));
        }
    }

    /// A message was sent, the one with this number.
    pub fn sent(&self, stream: Stream, stamp: Stamp) {
        let mut pages = self.pages();
        pages.since.entry(stream).or_default().sent += 1;
        let sent = pages.sent.entry(stream).or_default();
        sent.count = stamp.number;
        let noted = sent.schedule.last().map_or(0, |(_, at)| *at);
        if stamp.sent > noted + SCHEDULE_MICROS {
            sent.schedule.push((stamp.number, stamp.sent));
        }
    }

    /// A message was not even taken by this process's own node.
    pub fn refused(&self, stream: Stream) {
        self.pages().sent.entry(stream).or_default().refused += 1;
    }

    /// The router says that it could not deliver a one-way message.
    pub fn told(&self, stream: Stream, reason: String) {
        let mut pages = self.pages();
        *pages.sent.entry(stream).or_default().told.entry(reason).or_default() += 1;
        pages.since.entry(stream).or_default().failed += 1;
    }

    /// A call was answered.
    pub fn answered(&self, stream: Stream, stamp: Stamp) {
        let (mut pages, at) = (self.pages(), now());
        pages.since.entry(stream).or_default().latency.record(at.saturating_sub(stamp.sent));
        if stream.idempotent() {
            pages.sent.entry(stream).or_default().waits.push((stamp.sent, at));
        }
    }

    /// A call has no result.
    pub fn failed(&self, stream: Stream, failure: Failure) {
        let mut pages = self.pages();
        pages.since.entry(stream).or_default().failed += 1;
        pages.sent.entry(stream).or_default().failures.push(failure);
    }

    /// What happened since the last tick.
    pub fn tick(&self) -> BTreeMap<Stream, Pulse> {
        let mut pages = self.pages();
        let beats = pages.since.iter_mut().map(|(stream, beat)| (*stream, beat.take()));
        beats.collect()
    }

    /// Everything so far.
    pub fn report(&self) -> Report {
        let pages = self.pages();
        let handled = pages.handled.iter();
        Report {
            sent: pages.sent.clone(),
            handled: handled
                .map(|((source, stream), numbers)| (*source, *stream, numbers.clone()))
                .collect(),
            overtaken: pages.overtaken.clone(),
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Beat {
    fn default() -> Self {
        Self { sent: 0, handled: 0, failed: 0, latency: Latency::new() }
    }
}

impl Beat {
    fn take(&mut self) -> Pulse {
        Pulse {
            sent: std::mem::take(&mut self.sent),
            handled: std::mem::take(&mut self.handled),
            failed: std::mem::take(&mut self.failed),
            latency: self.latency.take(),
        }
    }
}

/// How finely the times of sending are kept.
const SCHEDULE_MICROS: u64 = 10_000;
