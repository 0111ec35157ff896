//! What a thread needs to send: its counters, spare buffers, the mailboxes that it has to flush, and
//! the reports that it owes to senders.

use std::cell::Cell;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use switchboard_protocol::{Flags, Reason, Report};

use super::runs::{Frame, Runs};
use super::{Mailbox, Stall};
use crate::counters::{Bucket, Counters, Outcome, Volume};

/// The sending side of one thread.
#[derive(Debug)]
pub struct Outgoing {
    /// What this thread counts.
    pub counters: Arc<Counters>,
    /// When the frames were read that are being offered, if they are to be timed.
    pub read_at: Option<Instant>,
    spare: Vec<Vec<u8>>,
    /// No buffer was wanted, nor too large to be kept, since [`Self::rest`] was last called.
    rested: bool,
    /// How many bytes the buffers had since then that were not kept.
    freed: usize,
    dirty: Vec<Arc<Mailbox>>,
    flusher: Option<Waker>,
    reports: Vec<(u32, Bytes)>,
    stalls: Vec<Stall>,
    /// Data frames that were written since the mailbox at hand last asked.
    delivered: Cell<u64>,
}

impl Outgoing {
    /// The sending side of a thread that counts in `counters`.
    pub fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            read_at: None,
            spare: Vec::new(),
            rested: true,
            freed: 0,
            dirty: Vec::new(),
            flusher: None,
            reports: Vec::new(),
            stalls: Vec::new(),
            delivered: Cell::new(0),
        }
    }

    /// The task to wake when there is something to flush.
    pub fn set_flusher(&mut self, waker: &Waker) {
        if !self.flusher.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.flusher = Some(waker.clone());
        }
    }

    /// Has a mailbox flushed when the tasks that are ready now have run.
    pub fn mark_dirty(&mut self, mailbox: Arc<Mailbox>) {
        if self.dirty.is_empty()
            && let Some(flusher) = &self.flusher
        {
            flusher.wake_by_ref();
        }
        self.dirty.push(mailbox);
    }

    /// Flushes every dirty mailbox.
    pub fn flush(&mut self) {
        self.flush_some(usize::MAX);
    }

    /// Flushes the dirty mailboxes, so many of them at most; then the tasks have their turn, and the flusher again.
    pub fn flush_some(&mut self, most: usize) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let now = dirty.len().min(most);
        for mailbox in dirty.drain(..now) {
            mailbox.flush(self);
        }
        if let Some(flusher) = self.flusher.as_ref().filter(|_| !dirty.is_empty()) {
            flusher.wake_by_ref();
        }
        // A mailbox that others kept filling is dirty again; its turn comes after the tasks'.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// A buffer with room for a batch.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        self.rested = false;
        self.spare.pop().unwrap_or_default()
    }

    /// Called now and then: a thread that had nothing to send since the last time drops its spare buffers. Answers
    /// how many bytes these had, and those that it could not keep since it last did.
    pub fn rest(&mut self) -> usize {
        if !std::mem::replace(&mut self.rested, true) {
            return 0;
        }
        let dropped = std::mem::take(&mut self.spare).iter().map(Vec::capacity).sum::<usize>();
        dropped + std::mem::take(&mut self.freed)
    }

    /// Takes a buffer back, unless it grew too large or there are enough.
    pub fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 {
            return;
        }
        if capacity <= MAX_SPARE_BYTES && self.spare.len() < MAX_SPARES {
            buffer.clear();
            self.spare.push(buffer);
        } else {
            self.freed += capacity;
            self.rested = false;
        }
    }

    /// A mailbox began to hold senders up.
    pub fn stalled(&mut self, stall: Stall) {
        self.stalls.push(stall);
    }

    /// The mailboxes that began to since the last call.
    pub fn take_stalls(&mut self) -> Vec<Stall> {
        std::mem::take(&mut self.stalls)
    }

    /// Data frames were written.
    pub fn delivered(&self, bucket: Bucket, volume: Volume) {
        self.counters.ended(bucket, Outcome::Delivered, volume);
        self.delivered.set(self.delivered.get() + u64::from(volume.frames));
    }

    /// How many were since the last call, which was about another mailbox.
    pub fn take_delivered(&self) -> u64 {
        self.delivered.take()
    }

    /// A data frame does not reach its target: counts it, and owes its sender a report if it asked.
    pub fn lose(&mut self, frame: Frame<'_>, reason: Reason) {
        if let Some(bucket) = Bucket::of(frame.header.kind, frame.header.target) {
            // Of a frame that is too long, not all is there.
            let volume = Volume::one(frame.header.length as usize);
            self.counters.ended(bucket, Outcome::from(reason), volume);
        }
        if frame.header.flags.intersects(Flags::CALL.or(Flags::REPORT)) {
            self.report(&frame, reason, 0);
        }
    }

    /// All frames of some runs don't reach their target.
    pub fn lose_runs(&mut self, bytes: &[u8], runs: &Runs, reason: Reason) {
        for frame in runs.frames(bytes) {
            self.lose(frame, reason);
        }
    }

    /// Owes the sender of a frame a report.
    pub fn report(&mut self, frame: &Frame<'_>, reason: Reason, targets: u32) {
        if let Some(report) = Report::about(reason, targets, &frame.header, frame.bytes) {
            self.reports.push((frame.header.source, report.to_frame().to_bytes()));
        }
    }

    /// The reports that are owed, by the senders' ids.
    pub fn take_reports(&mut self) -> Vec<(u32, Bytes)> {
        std::mem::take(&mut self.reports)
    }

    /// Whether any report is owed.
    #[inline]
    pub fn owes_reports(&self) -> bool {
        !self.reports.is_empty()
    }
}

/// Buffers up to this size are kept for the next batch.
const MAX_SPARE_BYTES: usize = 512 << 10;
/// How many a thread keeps.
const MAX_SPARES: usize = 64;
